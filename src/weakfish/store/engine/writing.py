"""Batches of a view's rows, encoded, into the online store; stderr is told how far that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
from feast import FeatureView, RepoConfig

from weakfish.runs import Progress
from weakfish.store.online.encode import Encoded, encode
from weakfish.store.online.write import Written
from weakfish.store.online.writes import ColumnarWrites
from weakfish.store.views import CREATED, EVENT_TIME

ROWS = 10_000
"""Rows that are encoded at once."""


def write_ahead(
    online: ColumnarWrites,
    config: RepoConfig,
    view: FeatureView,
    rows: Iterable[pa.RecordBatch],
    event_time: str = EVENT_TIME,
    created: str | None = CREATED,
) -> Written:
    """Write rows of a view where they are newer than what the store has, and say on stderr how far that is.

    ``rows`` have the view's join keys and features by their names, and the two times. Raises what
    `ColumnarWrites.write_columns` and `encode` raise; rows of batches before the one that failed are in then.
    """
    progress = Progress(f"materialize {view.name}, rows")
    return online.write_columns(config, view, _encoded(config, view, rows, event_time, created), progress.add)


def _encoded(
    config: RepoConfig, view: FeatureView, rows: Iterable[pa.RecordBatch], event_time: str, created: str | None
) -> Iterator[Encoded]:
    for batch in rows:
        for start in range(0, batch.num_rows, ROWS):
            yield encode(view, config, batch.slice(start, ROWS), event_time=event_time, created=created)
