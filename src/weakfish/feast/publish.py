"""The `publish` and `audit` verbs: the registry follows the definitions, the online store the feature tables.

A probe comes first and is all that runs while nothing changed. Only rows that differ are written, and then all that is
online is compared with the tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import redis

from weakfish.contracts.gate import require_open
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.manifests import feature_tables
from weakfish.contracts.publications import SHARES, Marker, Receipt, read_receipt, write_publication, write_receipt
from weakfish.errors import CheckFailed, StoreError, UserError
from weakfish.feast import server
from weakfish.feast.clients import explained
from weakfish.feast.probe import audited_share, failure, is_current, read_marker, settings
from weakfish.project.paths import Project
from weakfish.project.runs import locked

if TYPE_CHECKING:
    from weakfish.feast.commit import Counts


@dataclass(frozen=True)
class PublishOutcome:
    """What a publication did: what the store now holds, and what became of each view's rows.

    It is false where nothing was published, because nothing had changed. Then ``compared`` says how many of the rows
    were compared, of which ``share``; None where all were.
    """

    marker: Marker
    counts: dict[str, Counts] | None = None
    compared: int = 0
    share: int | None = None

    def __bool__(self) -> bool:
        return self.counts is not None

    @property
    def rows(self) -> int:
        """The rows that were published, each an entity of a view."""
        return sum(view["entities"] for view in self.marker.views.values())

    def as_json(self) -> dict[str, Any]:
        """``version``, ``as_of``, ``revision``, and the rows of each view: written, unchanged, removed, left.

        Where nothing was published, the rows that were ``compared`` and how many there are, ``rows``.
        """
        if self.counts is None:
            return {"changed": False, "compared": self.compared, "rows": self.rows}
        rows = {view: vars(counts) for view, counts in self.counts.items()}
        marker = self.marker
        said = {"version": marker.version, "as_of": marker.as_of, "revision": marker.revision, "rows": rows}
        return {"changed": True, **said}


def publish(project: Project, rollback: str | None = None) -> PublishOutcome | None:
    """Bring registry and online store up to date; None when there is no view to serve.

    While nothing changed, one share of the rows is compared with what the last audit found, the next one each time, or
    all rows with the tables where there was no audit here. Where that finds a difference, all is compared and written.

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
            _report(project, name, Receipt("", "", {"passed": True, "views": {}}), Marker("", ""))
            return None
        with _client(project) as client:
            marker = None if rollback else read_marker(client, name)
            outcome = _unchanged(project, client, name, marker) if marker else None
            if marker is None or outcome is None:
                # What follows imports Feast, which a probe of what did not change does without.
                from weakfish.feast.commit import publishing_lock
                from weakfish.feast.contents import Contents, at_revision, tidy
                from weakfish.feast.publication import publication

                with publishing_lock(client, name) as lock:
                    contents = at_revision(project, rollback) if rollback else Contents.of_work_tree(project)
                    outcome = PublishOutcome(*publication(contents, client, name, lock))
                marker = outcome.marker
                tidy(project, marker)
            known = None if outcome else read_receipt(project, name, marker.digest())
            known = known or _audited(project, client, name, marker)
            _report(project, name, known, marker)
            check(known)
            return outcome


def _unchanged(project: Project, client: redis.Redis, name: str, marker: Marker) -> PublishOutcome | None:
    """What was compared where nothing changed, as far as that can be seen; None where something did.

    A difference is remembered as a failed audit, after which a publication compares all rows.
    """
    if not is_current(project, client, name, marker):
        return None
    known = read_receipt(project, name, marker.digest())
    if known is None:
        known = _audited(project, client, name, marker)
        equal = sum(view["rows"]["equal"] for view in known.audit["views"].values())
        return PublishOutcome(marker, compared=equal) if known.passed else None
    compared = audited_share(client, name, marker, known)
    if compared is None:
        write_receipt(project, name, replace(known, audit={**known.audit, "passed": False}))
        return None
    write_receipt(project, name, replace(known, turn=(known.turn + 1) % SHARES))
    return PublishOutcome(marker, compared=compared, share=known.turn)


def audit(project: Project) -> Receipt:
    """Compare all that is online with the feature tables as of the publication; `check` fails if anything differs.

    Writes the result into ``reports/publish.json``; the next publication repairs what differs.

    Raises
    ------
    StoreError
        When the store cannot be reached or read, or what it holds is another version than the tables.
    UserError
        When the project has no view.
    """
    from weakfish.feast.contents import Contents

    if project.params.views == []:
        raise UserError("`views` in params.yaml is empty: nothing is published, so there is nothing to audit.")

    with locked(project, "online publish"), _client(project) as client:
        name: str = settings(project)["project"]
        marker = read_marker(client, name)
        if marker is None or not marker.version or marker.under_way:
            what = "is half-way from one version to the next" if marker else "holds nothing that was published"
            raise StoreError(
                f"The online store at {server.resolve(project)} {what}; run `weakfish publish`, which ends with an "
                "audit."
            )
        if Contents.of_marker(project, marker).version != marker.version:
            raise StoreError(
                "Feature tables, definitions or settings have changed since they were published; run `weakfish "
                "publish`, which ends with an audit."
            )
        known = _audited(project, client, name, marker)
        _report(project, name, known, marker)
        return known


def check(known: Receipt) -> None:
    """Raise `CheckFailed` when an audit found online what the tables do not say."""
    if not known.passed:
        raise CheckFailed(failure(known))


@contextmanager
def _client(project: Project) -> Iterator[redis.Redis]:
    """A client of the project's online store; its errors are sentences that name the store's address."""
    address = server.resolve(project)
    with explained(address), closing(address.client()) as client:
        yield client


def _audited(project: Project, client: redis.Redis, name: str, marker: Marker) -> Receipt:
    """Compare what is published with its tables, and remember the result."""
    from weakfish.feast.audit import audit
    from weakfish.feast.contents import Contents
    from weakfish.feast.registry import open_store

    found = audit(Contents.of_marker(project, marker), client, open_store(project), marker, name)
    write_receipt(project, name, found)
    return found


def _report(project: Project, name: str, known: Receipt, marker: Marker) -> None:
    """Write what is published and how the audit of it ended, and the ledger."""
    write_publication(project, name, marker, known.audit)
    views = marker.views.values()
    rows, entities = sum(view["rows"] for view in views), sum(view["entities"] for view in views)
    write_ledger(project, "publish", rows_in=rows, rows_out=entities)
