"""What is to be published: tables and definitions of the work tree or of a revision, and until when they know.

Descriptions of views go out, as the marker and the report have them, and their rows, encoded, in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore, FeatureView

from weakfish.contracts.tables import partitions, read_partition
from weakfish.feast import probe
from weakfish.feast.definitions import EVENT_TIME, manifest
from weakfish.feast.encoding import Encoded, encode, view_name
from weakfish.feast.latest import latest
from weakfish.feast.probe import microseconds, moment
from weakfish.project.paths import Project

ROWS = 5_000
"""Rows that are encoded, compared and written at a time: what bounds memory."""


@dataclass(frozen=True)
class Contents:
    """What is to be published, or was.

    Attributes
    ----------
    project
        The project whose registry and online store it is for.
    source
        The project that tables and definitions are read from: the same, or a revision of it somewhere else.
    version
        The hash of all that decides what is published.
    as_of
        The time that the store is to answer for.
    revision
        ``name`` and ``commit`` of what is gone back to; None for the work tree.
    """

    project: Project
    source: Project
    version: str
    as_of: datetime
    revision: dict[str, str] | None = None

    @classmethod
    def of_work_tree(cls, project: Project) -> Contents:
        """What lies in the work tree."""
        return cls(project, project, probe.expected_version(project), probe.as_of(project))


@dataclass(frozen=True)
class Extent:
    """How far a view's table has got at a time: its rows until then, the last of them, and the first to come."""

    rows: int
    last: datetime | None
    due: datetime | None


def extent(contents: Contents, view: FeatureView) -> Extent:
    """Read the event times of a view's table; raises `TableError` when it is missing or cut off."""
    rows, last, due = 0, None, None
    for file in partitions(Path(view.batch_source.path)).values():
        times = read_partition(file, [EVENT_TIME])[EVENT_TIME]
        past = times.filter(pc.less_equal(times, contents.as_of))
        to_come = times.filter(pc.greater(times, contents.as_of))
        rows += len(past)
        last = _pick(max, last, pc.max(past).as_py())
        due = _pick(min, due, pc.min(to_come).as_py())
    return Extent(rows, last, due)


def description(contents: Contents, store: FeatureStore, view: FeatureView, found: Extent) -> dict[str, Any]:
    """What the marker and the report say of a view; its version changes when its rows or its fields do."""
    table = str(view.batch_source.name)
    known = manifest(contents.source, table)
    content: dict[str, Any] = {
        "table": table,
        "join_keys": sorted(view.join_keys),
        "features": [feature.name for feature in view.features],
        "types": {feature.name: str(feature.dtype) for feature in view.features},
        "data_version": known["data_version"],
        "last_row_at": found.last.isoformat() if found.last else None,
        "rows": found.rows,
        "until": moment(_until(contents, known, found)).isoformat(),
    }
    if (name := view_name(view, store.config)) != view.name:
        content["online_name"] = name
    entities = [str(field.dtype) for field in view.entity_columns]
    return {**content, "version": probe.digest([probe.FORMAT, view.name, entities, content])}


def batches(contents: Contents, store: FeatureStore, view: FeatureView) -> Iterator[tuple[pa.RecordBatch, Encoded]]:
    """The last row of each entity as of the publication, as it is offline and as it is to be online, in batches."""
    with latest(view, contents.as_of, store.config) as reader:
        for whole in reader:
            for start in range(0, whole.num_rows, ROWS):
                batch = whole.slice(start, ROWS)
                yield batch, encode(view, store.config, batch)


def _until(contents: Contents, known: dict[str, Any], found: Extent) -> int:
    """Microseconds since 1970 up to which the table says what is right: how far it knows events, or has a row.

    What is online with a later event time was pushed by a service, and is not the publication's to change.
    """
    as_of = microseconds(contents.as_of)
    knows = min(as_of, microseconds(known["as_of"])) if known.get("as_of") else as_of
    return max(knows, microseconds(found.last)) if found.last else knows


def _pick(
    choose: Callable[[list[datetime]], datetime], one: datetime | None, other: datetime | None
) -> datetime | None:
    times = [time.astimezone(UTC) for time in (one, other) if time is not None]
    return choose(times) if times else None
