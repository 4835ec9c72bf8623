"""The `publish` and `audit` verbs: the registry follows the definitions, the online store the feature tables.

A probe comes first and is all that runs while nothing changed. Only rows that differ are written, and then all that is
online is compared with the tables.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis

from weakfish.contracts.gate import require_open
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.manifests import feature_tables
from weakfish.contracts.publications import Marker, write_publication
from weakfish.errors import CheckFailed, StoreError
from weakfish.feast import probe as receipt
from weakfish.feast import server
from weakfish.feast.clients import explained
from weakfish.feast.probe import expected_version, is_current, read_marker, settings
from weakfish.project.paths import Project
from weakfish.project.runs import locked

if TYPE_CHECKING:
    from weakfish.feast.commit import Counts
    from weakfish.feast.publication import Contents


@dataclass(frozen=True)
class Outcome:
    """What a publication did: what the store now holds, and what became of each view's rows."""

    marker: Marker
    counts: dict[str, Counts] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """``version``, ``as_of``, ``revision``, and the rows of each view: written, unchanged, removed, left."""
        rows = {view: vars(counts) for view, counts in self.counts.items()}
        marker = self.marker
        return {"version": marker.version, "as_of": marker.as_of, "revision": marker.revision, "rows": rows}


def publish(project: Project, rollback: str | None = None) -> Outcome | None:
    """Bring registry and online store up to date; None when they were.

    Writes ``reports/publish.json`` (docs/store.md has its fields) and the ledger, the same bytes each time while
    nothing changes.

    Parameters
    ----------
    rollback
        A git revision, to whose definitions and feature tables registry and store go back.

    Raises
    ------
    CheckFailed
        When the gate of features or labels is shut, but for a rollback, which returns to what was judged then; or when
        the audit finds online what the tables do not say.
    StoreError
        When the store cannot be reached or used, or another publisher is at work; publishing again goes on from there.
    TableError
        When a feature table is missing or cannot be read.
    UserError
        When the definitions cannot be used, or the revision is not known or not kept any more.
    """
    if rollback is None:
        labels = [f"labels/{task}" for task in project.params.tasks]
        require_open(project, [*feature_tables(project), *labels])
    with locked(project, "online publish"):
        name: str = settings(project)["project"]
        if project.params.views == [] and rollback is None:  # nothing to serve, so no store is asked for
            write_publication(project, name, Marker("", ""), {"passed": True, "views": {}})
            write_ledger(project, "publish", rows_in=0, rows_out=0)
            return None
        address = server.resolve(project)
        with explained(address), closing(address.client()) as client:
            marker = None if rollback else read_marker(client, name)
            if marker is not None and is_current(project, client, name, marker):
                known = receipt.read(project, name, marker.digest())
                if known is None:
                    known = _audit(_contents(project, marker), client, name, marker)
                _write(project, name, marker, known)
                check(known)
                return None
            outcome = _publish(project, client, name, rollback)
            _tidy(project, outcome.marker)
            known = _audit(_contents(project, outcome.marker), client, name, outcome.marker)
            _write(project, name, outcome.marker, known)
            check(known)
            return outcome


def audit(project: Project) -> receipt.Receipt:
    """Compare all that is online with the feature tables as of the publication; `check` fails if anything differs.

    Writes the result into ``reports/publish.json``; the next publication repairs what differs.

    Raises
    ------
    StoreError
        When the store cannot be reached or read, or what it holds is another version than the tables.
    """
    with locked(project, "online publish"):
        name: str = settings(project)["project"]
        address = server.resolve(project)
        with explained(address), closing(address.client()) as client:
            marker = read_marker(client, name)
            if marker is None or not marker.version or marker.under_way:
                what = "is half-way from one version to the next" if marker else "holds nothing that was published"
                raise StoreError(
                    f"The online store at {address} {what}; run `weakfish publish`, which ends with an audit."
                )
            contents = _contents(project, marker)
            if contents.version != marker.version:
                raise StoreError(
                    "Feature tables, definitions or settings have changed since they were published; run `weakfish "
                    "publish`, which ends with an audit."
                )
            known = _audit(contents, client, name, marker)
            _write(project, name, marker, known)
            return known


def check(known: receipt.Receipt) -> None:
    """Raise `CheckFailed` when an audit found online what the tables do not say."""
    if not known.passed:
        from weakfish.feast.audit import failure

        raise CheckFailed(str(failure(known)))


def _publish(project: Project, client: redis.Redis, name: str, rollback: str | None) -> Outcome:
    from weakfish.feast.commit import publishing_lock
    from weakfish.feast.publication import Contents, publication

    with publishing_lock(client, name) as lock:
        if rollback is None:
            contents = Contents.of_work_tree(project)
        else:
            from weakfish.feast.publication import at_revision

            contents = at_revision(project, rollback)
        published = publication(contents, client, name, lock)
    return Outcome(published.marker, published.counts)


def _tidy(project: Project, marker: Marker) -> None:
    from weakfish.feast.publication import tidy

    tidy(project, marker.revision["commit"] if marker.revision else None)


def _contents(project: Project, marker: Marker) -> Contents:
    """What is published, so that it can be compared."""
    from datetime import datetime

    from weakfish.feast.publication import Contents

    if marker.revision:
        from weakfish.feast.publication import at_revision

        found = at_revision(project, marker.revision["commit"], marker.revision["name"])
        return Contents(project, found.source, found.version, datetime.fromisoformat(marker.as_of), marker.revision)
    return Contents(project, project, expected_version(project), datetime.fromisoformat(marker.as_of))


def _audit(contents: Contents, client: redis.Redis, name: str, marker: Marker) -> receipt.Receipt:
    from weakfish.feast.audit import audit
    from weakfish.feast.registry import open_store

    found = audit(contents, client, open_store(contents.project), marker, name)
    receipt.write(contents.project, name, found)
    return found


def _write(project: Project, name: str, marker: Marker, known: receipt.Receipt) -> None:
    """Write the report and the ledger."""
    write_publication(project, name, marker, known.audit)
    views = marker.views
    write_ledger(
        project,
        "publish",
        rows_in=sum(view["rows"] for view in views.values()),
        rows_out=sum(view["entities"] for view in views.values()),
    )
