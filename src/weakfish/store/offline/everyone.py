"""The spine for retrieval without entity rows: every entity that has a row in a range of time, as of the end of it.

An entity of one view has null for the keys of the others, as other stores of Feast have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from weakfish.errors import UserError
from weakfish.store.offline.asof import View, columns_of
from weakfish.store.offline.latest import Wanted, conditions
from weakfish.store.offline.session import quoted
from weakfish.store.offline.source import Source, microseconds, open_source
from weakfish.store.offline.spine import TIMESTAMP, FileSpine, query_spine


def everyone(
    connection: duckdb.DuckDBPyConnection,
    views: Sequence[tuple[View, Any]],
    start: datetime,
    end: datetime,
    repo: Path | None,
) -> FileSpine:
    """The entities of views, ordered by their keys, with ``event_timestamp`` = ``end``.

    Raises
    ------
    UserError
        When no view has an entity.
    """
    columns = columns_of([view for view, _ in views])
    if not columns:
        raise UserError("Features without entities need entity rows to say as of when; give a frame of times.")
    opened = [(view, open_source(connection, source, repo, mapped=True)) for view, source in views if view.keys]
    kinds = {column: source.type(key) for view, source in opened for key, column in view.keys.items()}
    parts = [_entities(view, source, kinds, start, end) for view, source in opened]
    keys = ", ".join(quoted(column) for column in columns)
    time = f"CAST(make_timestamp({microseconds(end)}) AS TIMESTAMPTZ) AS {quoted(TIMESTAMP)}"
    return query_spine(
        connection,
        f"SELECT {time}, {keys} FROM ({' UNION '.join(parts)}) ORDER BY {keys}",  # noqa: S608
    )


def _entities(view: View, source: Source, kinds: dict[str, str], start: datetime, end: datetime) -> str:
    of = {column: source.column(key) for key, column in view.keys.items()}
    selected = [f"{of.get(column, f'CAST(NULL AS {kind})')} AS {quoted(column)}" for column, kind in kinds.items()]
    where = conditions(source, Wanted(list(view.keys), {}, view.time, view.created, end, start, known=view.known))
    return f"SELECT {', '.join(selected)} FROM {source.scan} f WHERE {' AND '.join(where)}"  # noqa: S608
