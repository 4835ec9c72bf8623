"""The `publish` verb: the registry follows the definitions, and the online store the feature tables as of a time.

A probe comes first and is all that runs while nothing changed. Only views that changed are filled again.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import redis

from weakfish.files import write_json
from weakfish.project import Project
from weakfish.runs import locked, write_ledger
from weakfish.store import server
from weakfish.store.address import explained
from weakfish.store.probe import Marker, is_current, read_marker, settings


def report_file(project: Project) -> Path:
    """The file that says what is published."""
    return project.reports / "publish.json"


def publish(project: Project) -> bool:
    """Bring registry and online store up to date; False when they were.

    Writes ``reports/publish.json`` (version, ``as_of``, and per view its entity, entities, rows, features, data version
    and last row) and the ledger, the same bytes each time while nothing changes.

    Raises
    ------
    StoreError
        When the store cannot be reached or used, or another publisher is at work; nothing has changed then.
    TableError
        When a feature table is missing or cannot be read.
    UserError
        When the definitions cannot be used.
    """
    with locked(project, "online publish"):
        name: str = settings(project)["project"]
        address = server.resolve(project)
        with explained(address), closing(address.client()) as client:
            marker = read_marker(client, name)
            if marker is not None and is_current(project, client, name, marker):
                _write(project, name, marker)
                return False
            _write(project, name, _publish(project, client, name))
            return True


def _publish(project: Project, client: redis.Redis, name: str) -> Marker:
    from weakfish.store.claim import claimed
    from weakfish.store.publication import publication

    with claimed(client, name) as claim:
        return publication(project, client, name, claim)


def _write(project: Project, name: str, marker: Marker) -> None:
    views = {
        view: {key: value for key, value in content.items() if key != "version"}
        for view, content in marker.views.items()
    }
    content = {"project": name, "version": marker.version, "as_of": marker.as_of, "views": views}
    write_json(report_file(project), content)
    write_ledger(
        project,
        "publish",
        rows_in=sum(view["rows"] for view in views.values()),
        rows_out=sum(view["entities"] for view in views.values()),
    )
