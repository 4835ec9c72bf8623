"""What the page says of published features: what of each view is online, and whether an audit found it as offline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from weakfish.contracts.manifests import FeaturesManifest, TrainingManifest
from weakfish.contracts.publications import AuditCounts, AuditedView, Publication, PublishedView
from weakfish.report.inputs import Inputs, Stop, Version, outdated, versions
from weakfish.report.wording import count

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
            found.append(("read otherwise by plain Feast", list(self.audited.sample.first)))
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


@dataclass(frozen=True)
class View:
    """One table of features.

    Attributes
    ----------
    name
        Of the view, which is that of its table.
    published
        What the online store got of it; None while nothing is published.
    behind
        Whether what is published is another version than the table.
    age
        Of the newest published row, at the time that the online store answers for.
    unknown
        The share of rows in training sets of which the view knows nothing; None without a training set.
    stale
        Whether the table is from an earlier run.
    """

    name: str
    table: FeaturesManifest
    published: PublishedView | None
    behind: bool
    age: timedelta | None
    unknown: float | None
    stale: bool

    @property
    def extent(self) -> str | None:
        """The first and the last partition."""
        names = sorted(self.table.partitions)
        return None if not names else names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


@dataclass(frozen=True)
class Column:
    """A feature of a training set, and the share of rows in which it is null."""

    name: str
    kind: str
    unknown: float | None


@dataclass(frozen=True)
class Training:
    """A training set.

    Attributes
    ----------
    behind
        Tables of which it holds another version than the one that lies there.
    out
        The version of all training sets in ``dvc.lock``; None without one.
    """

    name: str
    made: TrainingManifest
    behind: list[str]
    out: Version | None
    stale: bool

    @property
    def settings(self) -> str:
        """The settings of the label model, in words."""
        flat = {name: value for name, value in self.made.label_model.items() if isinstance(value, str | int | float)}
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sorted(flat.items()))

    @property
    def columns(self) -> list[Column]:
        """Its features, by name."""
        return [Column(name, kind, _share(self.made, name)) for name, kind in self.made.columns.items()]


def views(inputs: Inputs, stop: Stop | None) -> list[View]:
    """The tables of features, by name."""
    stale = outdated(inputs, stop, "features")
    return [_view(inputs, name, table, stale) for name, table in sorted(inputs.features.items())]


def published(inputs: Inputs, stop: Stop | None) -> tuple[Publication, bool] | None:
    """What is published, and whether that is from an earlier run; None while nothing is."""
    found = inputs.published
    return (found, outdated(inputs, stop, "publish")) if found and found.views else None


def trainings(inputs: Inputs, stop: Stop | None) -> list[Training]:
    """The training sets, by task."""
    stale = outdated(inputs, stop, "training_set")
    out = next((out for out in versions(inputs) if out.path == "data/training"), None)
    return [Training(name, made, _behind(inputs, made), out, stale) for name, made in sorted(inputs.training.items())]


def duration(age: timedelta | None) -> str:
    """A duration to the hour, or to the day where it is longer than two."""
    if age is None:
        return "–"
    hours = age / timedelta(hours=1)
    return f"{hours / 24:,.0f} days" if hours >= 48 else f"{hours:.0f} hours"


def _view(inputs: Inputs, name: str, table: FeaturesManifest, stale: bool) -> View:
    found = inputs.published.views.get(name) if inputs.published else None
    as_of = inputs.published.as_of if inputs.published else None
    age = as_of - found.last_row_at if found and found.last_row_at and as_of else None
    behind = bool(found and found.data_version and found.data_version != table.data_version)
    return View(name, table, found, behind, age, _unknown(inputs, name), stale)


def _unknown(inputs: Inputs, view: str) -> float | None:
    """Of the features of a view the one that is known most often says where nothing is known."""
    shares = [
        _share(made, column)
        for made in inputs.training.values()
        for column in made.columns
        if column.startswith(f"{view}__")
    ]
    return min((share for share in shares if share is not None), default=None)


def _share(made: TrainingManifest, column: str) -> float | None:
    return made.nulls.get(column, 0) / made.rows if made.rows else None


def _behind(inputs: Inputs, made: TrainingManifest) -> list[str]:
    now: dict[str, str | None] = {f"features/{name}": table.data_version for name, table in inputs.features.items()}
    now |= {name: verdict.data_version for name, verdict in inputs.verdicts.items() if name.startswith("labels/")}
    return [name for name, version in sorted(made.data.items()) if now.get(name) and now[name] != version]
