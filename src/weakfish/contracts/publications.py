"""What is published: the marker in the online store, the audit of it, and ``reports/publish.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import AfterValidator

from weakfish.contracts.record import Rooted, Stored, Time, microseconds, parse
from weakfish.errors import TableError
from weakfish.files import read_json, write_json


@dataclass(frozen=True)
class Marker:
    """What was published last and whole, and what is on its way.

    Attributes
    ----------
    version : str
        Of all that is published; empty while nothing ever was.
    as_of : str
        The time that the store answers for (ISO, UTC); empty while nothing was published.
    due : str or None
        The time of the first row that was left for later (ISO, UTC).
    views : dict
        Per view its ``table``, ``join_keys``, ``features``, ``types``, ``data_version``, ``rows``, ``entities``,
        ``last_row_at``, ``until`` (rows up to this time are those of the feature table, later ones are a service's) and
        ``version``; ``online_name`` where Feast versions views online, ``emptied`` as in `Emptied` where most entities
        lost something.
    revision : dict or None
        The ``name`` and ``commit`` that were rolled back to.
    under_way : dict or None
        The ``version`` that a publisher is writing or was when it was cut off, its ``as_of``, its ``until`` per view,
        and how far it got: ``view`` and ``rows`` written.
    others : dict
        Per further view of the registry, whose rows are not the publication's, its ``fields`` (hexadecimal) and, where
        the publication materializes it, ``files``: size and time of each file and folder of its source, by path.
    """

    version: str
    as_of: str
    due: str | None = None
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    revision: dict[str, str] | None = None
    under_way: dict[str, Any] | None = None
    others: dict[str, dict[str, Any]] = field(default_factory=dict)

    def text(self) -> str:
        """The marker as it stands in the store."""
        return json.dumps(asdict(self), sort_keys=True)

    def digest(self) -> str:
        """What tells the marker from all others, in few bytes."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def until(self, view: str) -> int | None:
        """Microseconds since 1970 up to which a view's rows are the table's, by anything that was ever begun."""
        times = [self.views.get(view, {}).get("until"), (self.under_way or {}).get("until", {}).get(view)]
        return max((microseconds(time) for time in times if time), default=None)


def _iso(time: str) -> str:
    datetime.fromisoformat(time)
    return time


_Iso = Annotated[str, AfterValidator(_iso)]
"""A time as it is read here; pydantic would take numbers, too."""


@dataclass(frozen=True)
class _View:
    """What a marker must say of a view to be read; see `Marker`."""

    table: str
    join_keys: list[str]
    features: list[str]
    entities: int
    until: _Iso
    version: str


@dataclass(frozen=True)
class _Other:
    fields: list[str]


@dataclass(frozen=True)
class _UnderWay:
    until: dict[str, _Iso]


@dataclass(frozen=True)
class _Shape:
    version: str
    as_of: _Iso | Literal[""]
    due: _Iso | None = None
    revision: Rollback | None = None
    views: dict[str, _View] = field(default_factory=dict)
    under_way: _UnderWay | None = None
    others: dict[str, _Other] = field(default_factory=dict)


def parse_marker(found: Any) -> Marker | None:
    """A marker from its text in the store; None when there is none, or one of another shape."""
    try:
        content = json.loads(found) if found else None
        if content is None:
            return None
        parse(_Shape, content, "the marker")
        return Marker(**content)
    except (ValueError, TypeError, RecursionError, TableError):
        return None


@dataclass(frozen=True)
class AuditCounts:
    """Rows or values by what the audit made of them; ``newer`` ones a service pushed, and they are no error.

    ``expiring`` rows are equal, and their keys have a time to live that ``key_ttl_seconds`` does not give them.
    """

    equal: int = 0
    missing: int = 0
    stale: int = 0
    different: int = 0
    unexpected: int = 0
    newer: int = 0
    expiring: int = 0


@dataclass(frozen=True)
class AuditSample:
    """Rows that plain Feast read too, and how many of them otherwise than the table has them."""

    rows: int = 0
    different: int = 0
    first: Sequence[dict[str, Any]] = ()


ENOUGH_ENTITIES = 30
"""Entities that had something, below which nothing is said of how many lost it.

Of a few, most have no event in a quiet month: where each of 5 has none with a chance of 30 %, most of them lose their
counts in one publication of 6; of 30, in one of 150.
"""


@dataclass(frozen=True)
class Emptied:
    """What most entities lost from one publication to the next, as pairs of how many lost it and how many had it.

    It takes `ENOUGH_ENTITIES` that had it.

    Attributes
    ----------
    since
        The time that the publication before answered for.
    features
        By feature, entities whose value became 0, false or null.
    removed
        Entities of which no row is left; None where it is not most of them.
    """

    since: Time
    features: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    removed: tuple[int, int] | None = None

    def sentence(self, view: str) -> str:
        """The loss in words."""
        worst = sorted(self.features.items(), key=lambda item: (-item[1][0] / item[1][1], item[0]))
        said = [f"{name} became 0 or null for {lost:,} of {had:,} entities" for name, (lost, had) in worst[:3]]
        said += [f"{len(worst) - 3} more features likewise"] if len(worst) > 3 else []
        if self.removed:
            said.insert(0, f"{self.removed[0]:,} of {self.removed[1]:,} entities are gone")
        return f"{view}: since the publication as of {self.since:%Y-%m-%d %H:%M} UTC {'; '.join(said)}."


@dataclass(frozen=True)
class AuditedView:
    """What the audit found of one view; ``first`` names entities, by kind.

    ``emptied`` is what most entities lost since the publication before; None where they did not, or there was none.
    """

    rows: AuditCounts = field(default_factory=AuditCounts)
    features: Mapping[str, AuditCounts] = field(default_factory=dict)
    first: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    sample: AuditSample = field(default_factory=AuditSample)
    emptied: Emptied | None = None


@dataclass(frozen=True)
class Audit:
    """The audit of what is published: whether all rows were as the feature tables have them."""

    passed: bool
    views: Mapping[str, AuditedView] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedView:
    """What the online store got of one view."""

    rows: int | None = None
    entities: int | None = None
    last_row_at: Time | None = None
    data_version: str | None = None


@dataclass(frozen=True)
class Rollback:
    """The revision that was gone back to."""

    name: str
    commit: str


@dataclass(frozen=True)
class Publication:
    """``reports/publish.json``; ``as_of`` is the time that the online store answers for."""

    version: str
    as_of: Time | None = None
    revision: Rollback | None = None
    views: Mapping[str, PublishedView] = field(default_factory=dict)
    audit: Audit | None = None


PUBLICATIONS = Stored(Publication, "reports")
"""There is one: ``publish``."""


def write_publication(project: Rooted, name: str, marker: Marker, audit: Mapping[str, Any]) -> None:
    """Write what a Feast project published, and the audit of it as JSON; the same bytes while nothing changes."""
    own = ("version", "emptied")  # the audit has the latter
    views = {view: {k: v for k, v in of.items() if k not in own} for view, of in marker.views.items()}
    content = {"project": name, "version": marker.version, "as_of": marker.as_of or None, "revision": marker.revision}
    write_json(PUBLICATIONS.file(project, "publish"), {**content, "views": views, "audit": dict(audit)})


@dataclass(frozen=True)
class Receipt:
    """``.weakfish/published/<project>.json``: an audit of what was published, so that it need not be made again.

    While nothing changes, each `weakfish publish` compares the rows of one share with it, the next one each time.

    Attributes
    ----------
    marker : str
        The digest of all that the store said of itself.
    shares : dict
        By view, for each share the sum of its equal rows' fingerprints, as `weakfish.feast.probe.fingerprint` makes
        them.
    turn : int
        The share that is compared next.
    audit : dict
        The result, as ``reports/publish.json`` has it; see `Audit`.
    sample : dict
        Keys of some rows by view, for a probe to look for.
    """

    version: str
    marker: str
    audit: dict[str, Any]
    sample: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    shares: Mapping[str, Sequence[int]] = field(default_factory=dict)
    turn: int = 0

    @property
    def passed(self) -> bool:
        """Whether all rows were as the feature tables have them."""
        return bool(self.audit.get("passed"))


SHARES = 10
"""Shares of the rows, by their keys, of which a publication that finds nothing changed compares one: ten compare all.
"""


def receipt_file(project: Rooted, name: str) -> Path:
    """The file that remembers the last audit of a Feast project."""
    return project.root / ".weakfish" / "published" / f"{quote(name, safe='')}.json"


def read_receipt(project: Rooted, name: str, marker: str) -> Receipt | None:
    """The receipt for what a Feast project published; None when there is none, or one for something else."""
    try:
        found = read_json(receipt_file(project, name))
        sample = {view: [bytes.fromhex(key) for key in keys] for view, keys in found["sample"].items()}
        shares = {view: list(map(int, sums)) for view, sums in found["shares"].items()}
        receipt = Receipt(
            found["version"], found["marker"], dict(found["audit"]), sample, shares, int(found["turn"]) % SHARES
        )
    except (TableError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return receipt if receipt.marker == marker else None


def write_receipt(project: Rooted, name: str, receipt: Receipt) -> None:
    """Remember an audit in the place of the last one."""
    sample = {view: [key.hex() for key in keys] for view, keys in receipt.sample.items()}
    write_json(receipt_file(project, name), {**asdict(receipt), "sample": sample})
