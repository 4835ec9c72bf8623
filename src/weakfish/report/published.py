"""What the page says of published features: what of each view is online, and whether an audit found it as offline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weakfish.report.feature_records import AuditCounts, AuditedView, PublishedView
from weakfish.report.inputs import Inputs
from weakfish.report.stages import Stop, outdated
from weakfish.report.words import count

BAD = ("missing", "stale", "different", "unexpected")
KINDS = ("equal", *BAD, "newer")


@dataclass(frozen=True)
class OnlineView:
    """A published view; ``audited`` is None where no audit is told of."""

    name: str
    published: PublishedView
    audited: AuditedView | None

    @property
    def is_bad(self) -> bool:
        """Whether anything online is not as offline."""
        return self.audited is not None and bool(bad(self.audited.rows) or self.audited.sample.different)

    @property
    def features(self) -> list[tuple[str, AuditCounts]]:
        """The features, those that are not all equal first."""
        found = self.audited.features if self.audited else {}
        return sorted(found.items(), key=lambda item: (not bad(item[1]), item[0]))

    @property
    def first(self) -> list[tuple[str, list[str]]]:
        """The first entities of each kind that is not equal, as texts."""
        if self.audited is None:
            return []
        found = [(kind, self.audited.first[kind]) for kind in (*BAD, "newer") if self.audited.first.get(kind)]
        if self.audited.sample.first:
            found.append(("read otherwise by plain Feast", self.audited.sample.first))
        return [(kind, [entity(each) for each in first]) for kind, first in found]


def online_views(inputs: Inputs) -> list[OnlineView]:
    """The published views, by name."""
    if inputs.published is None:
        return []
    audited = inputs.published.audit.views if inputs.published.audit else {}
    return [OnlineView(name, view, audited.get(name)) for name, view in sorted(inputs.published.views.items())]


def bad(counts: AuditCounts) -> int:
    """How many rows or values are not as they are to be."""
    return sum(getattr(counts, kind) for kind in BAD)


def entity(found: dict[str, Any]) -> str:
    """An entity by its join keys."""
    return ", ".join(f"{key}={value}" for key, value in found.items())


def audit_failure(inputs: Inputs, stop: Stop | None) -> str | None:
    """What the audit found in the last run, in a sentence; None when all is well, or the stage itself says so."""
    if inputs.published is None or inputs.published.audit is None or inputs.published.audit.passed:
        return None
    if outdated(inputs, stop, "publish"):
        return None
    views = [view for view in online_views(inputs) if view.is_bad and view.audited]
    said = [f"{view.name}: {_found(view.audited)}" for view in views if view.audited]
    return f"The online store does not hold what the feature tables say ({'; '.join(said)})."


def _found(audited: AuditedView) -> str:
    kinds = [f"{getattr(audited.rows, kind):,} {kind}" for kind in BAD if getattr(audited.rows, kind)]
    other = audited.sample.different
    return ", ".join([*kinds, *([f"{count(other, 'row')} read otherwise by plain Feast"] if other else [])])
