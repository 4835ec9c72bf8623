"""Runs the queries of `asof` in a session: features beside a spine, and the last row of each entity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from weakfish.errors import StoreError, UserError
from weakfish.feast.asof import AsOfJoin, Newest, View, columns_of
from weakfish.feast.parquet import Limits, Parquet, Session, explained, microseconds, open_source, quoted, session
from weakfish.feast.spine import TIMESTAMP, FileSpine, Spine, query_spine

ROWS = 65_536
"""Rows of a batch of last rows."""

EVENT_TIME = "event_timestamp"
CREATED = "created"
JOINING = "The as-of join"

Open = Callable[[Session], Spine]


@dataclass(frozen=True)
class Retrieval:
    """What is to be retrieved; nothing is read before `reader`.

    Attributes
    ----------
    limits : Limits
    spine : callable
        Opens the spine in a session.
    views : sequence of tuple
        Each view with the Feast source behind it.
    """

    limits: Limits
    spine: Open
    views: Sequence[tuple[View, Any]]

    def reader(self, rows: int) -> pa.RecordBatchReader:
        """The spine's rows, each once and in order, and beside them the features; in batches of at most ``rows`` rows.

        Raises
        ------
        TableError, UserError
            When Parquet is missing or unreadable, lacks a column, or does not go with the spine.
        StoreError
            When DuckDB fails.
        """
        with ExitStack() as stack:
            opened = stack.enter_context(session(self.limits))
            spine = self.spine(opened)
            numbered = spine.number(opened, columns_of([view for view, _ in self.views]))
            sources = [open_source(opened, source, mapped=True) for _, source in self.views]
            found = []
            for number, (view, _) in enumerate(self.views):
                join = AsOfJoin(view, sources[number], numbered, number)
                match(opened, join)
                found.append(InOrder(opened.stream(join.features_sql(), rows, join.what), view.name))
            schema, asked = spine.batches(opened, rows)
            held = stack.pop_all()
        for features in found:
            for field in features.schema:
                schema = schema.append(field)
        return held_reader(schema, _beside(schema, asked, found), held, JOINING)


def match(opened: Session, join: AsOfJoin) -> None:
    """Find, for each row of the spine that has an answer, where the answer stands: the join's table of places."""

    def run(sql: str) -> list[tuple[Any, ...]]:
        return opened.run(sql, join.what)

    run(join.entities_sql())
    run(join.times_sql())
    late_rows = join.late_rows_sql()
    late = late_rows is not None and opened.holds(late_rows, join.what)
    run(join.matched_sql(late))
    run(join.places_sql(late))
    places, answers = run(join.ties_sql())[0]
    if places != answers:  # several rows have the entity and times of one answer
        run(join.tied_sql(late))
        if opened.holds(join.alike_rows_sql(late), join.what):
            run(join.best_sql(late))
        run(join.chosen_sql(late))
    run(join.tidy_sql())


class InOrder:
    """The rows of a stream that is sorted by its first column, the row's number, as they stand beside a spine's."""

    def __init__(self, reader: pa.RecordBatchReader, view: str) -> None:
        self.schema = reader.schema.remove(0)
        self._reader, self._view = reader, view
        self._rest = reader.schema.empty_table()

    def rows(self, start: int, count: int) -> pa.Table:
        """The features of ``count`` rows from ``start`` on, null where there are none; raises `StoreError`."""
        parts = [self._rest]
        while not parts[-1].num_rows or parts[-1][0][-1].as_py() < start + count:
            try:
                parts.append(pa.Table.from_batches([self._reader.read_next_batch()]))
            except StopIteration:
                break
        table = pa.concat_tables(parts)
        numbers = table[0].to_numpy()
        cut = int(np.searchsorted(numbers, start + count))
        self._rest, mine = table.slice(cut), numbers[:cut]
        if len(mine) and (mine[0] < start or (np.diff(mine) <= 0).any()):
            raise StoreError(f"The as-of join of view {self._view!r} gave a row twice; its Parquet changed meanwhile.")
        found = table.slice(0, cut).remove_column(0)
        if cut == count:
            return found
        places = np.full(count, -1)
        places[mine - start] = np.arange(cut)
        return found.combine_chunks().take(pa.array(places, mask=places < 0))


def _beside(schema: pa.Schema, asked: Iterator[pa.Table], found: Sequence[InOrder]) -> Iterator[pa.RecordBatch]:
    start = 0
    for spine in asked:
        columns = list(spine.columns)
        for features in found:
            columns += features.rows(start, spine.num_rows).columns
        start += spine.num_rows
        yield from pa.table(columns, schema=schema).combine_chunks().to_batches()


def everyone(opened: Session, views: Sequence[tuple[View, Any]], start: datetime, end: datetime) -> FileSpine:
    """The spine without entity rows: every entity of a view that has a row in a range of time, as of the end of it.

    Rows are ordered by their keys; an entity of one view has null for the keys of the others, as other stores of Feast
    have it.

    Raises
    ------
    UserError
        When no view has an entity.
    """
    columns = columns_of([view for view, _ in views])
    if not columns:
        raise UserError("Features without entities need entity rows to say as of when; give a frame of times.")
    found = [(view, open_source(opened, source, mapped=True)) for view, source in views if view.keys]
    kinds = {column: source.type(key) for view, source in found for key, column in view.keys.items()}
    parts = []
    for view, source in found:
        nulls = {column: f"CAST(NULL AS {kind})" for column, kind in kinds.items()}
        of = {**nulls, **{column: source.column(key) for key, column in view.keys.items()}}
        parts.append(Newest(source, list(view.keys), of, view.time, view.created, start, end, view.known).all_sql())
    keys = ", ".join(quoted(column) for column in columns)
    time = f"CAST(make_timestamp({microseconds(end)}) AS TIMESTAMPTZ) AS {quoted(TIMESTAMP)}"
    return query_spine(opened, f"SELECT {time}, {keys} FROM ({' UNION '.join(parts)}) ORDER BY {keys}")  # noqa: S608


def latest(
    view: Any, end: datetime, config: Any, *, columns: Sequence[str] | None = None, start: datetime | None = None
) -> pa.RecordBatchReader:
    """The last row of each entity of a Feast view, known at ``end``: what an online store should hold then.

    Parameters
    ----------
    view : FeatureView
        A view with Parquet behind it; its field mapping is applied.
    end, start : datetime
        Rows with an event time in between, both included, and a created time (where the source has one) at or before
        ``end``. Without a zone they are UTC.
    config : RepoConfig
        Feast's settings: relative paths start at its repository, `Limits` come from its offline store.
    columns
        The features wanted; all of the view's by default.

    Returns
    -------
    pyarrow.RecordBatchReader
        Join keys, features, ``event_timestamp`` and ``created`` (both ``timestamp[us, tz=UTC]``; ``created`` is null
        where the source has none), ordered by the keys; one row without keys for a view without entities. What it
        holds is free when it has been read to its end, or is forgotten.

    Raises
    ------
    TableError, UserError
        When the Parquet is missing or unreadable, or lacks a column.
    StoreError
        When DuckDB fails.
    """
    import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

    from feast.feature_view import DUMMY_ENTITY_ID

    stored = view.batch_source
    keys = [key for key in view.join_keys if key != DUMMY_ENTITY_ID]
    features = list(columns) if columns is not None else [feature.name for feature in view.features]
    time, created = stored.timestamp_field, stored.created_timestamp_column or None

    def wanted(source: Parquet) -> Newest:
        found = {name: source.column(name) for name in [*keys, *features]}
        for name, column in {EVENT_TIME: time, CREATED: created}.items():
            number = "NULL" if column is None else source.instant(column).to("us")
            found[name] = f"CAST(make_timestamp(CAST({number} AS BIGINT)) AS TIMESTAMPTZ)"
        return Newest(source, keys, found, time, created, start, end)

    return _reader(stored, config, wanted, ROWS, mapped=True, last=True)


@dataclass(frozen=True)
class Pull:
    """What Feast's pull hooks ask of a source.

    Attributes
    ----------
    join_key_columns, feature_name_columns : sequence of str
        The columns wanted, by their stored names; all of the source's where no feature is named, as Feast means it.
    timestamp_field, created_timestamp_column : str
        The time columns; the second may be None or empty.
    start_date, end_date : datetime or None
        Both included; None for no such bound.
    """

    config: Any
    data_source: Any
    join_key_columns: Sequence[str]
    feature_name_columns: Sequence[str]
    timestamp_field: str
    created_timestamp_column: str | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None

    def latest(self, rows: int = ROWS) -> pa.RecordBatchReader:
        """The last row of each entity, in the order of the keys, in batches; one row for a source without keys.

        See `latest`; columns are named and typed as they are stored.
        """
        return _reader(self.data_source, self.config, self._wanted, rows, mapped=False, last=True)

    def all(self, rows: int = ROWS) -> pa.RecordBatchReader:
        """Every row with an event time in the range, file by file, in the order of their names, in batches.

        Columns are named and typed as they are stored; created times do not count, nor does a key that is null.
        """

        def wanted(opened: Parquet) -> Newest:
            return replace(self._wanted(opened), keys=[], created=None)

        return _reader(self.data_source, self.config, wanted, rows, mapped=False, last=False)

    def _wanted(self, opened: Parquet) -> Newest:
        import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

        from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL

        keys, time, created = self.join_key_columns, self.timestamp_field, self.created_timestamp_column or None
        named = [*keys, *self.feature_name_columns, time, *([created] if created else [])]
        named += [] if self.feature_name_columns else opened.rest(named)
        found = {name: opened.column(name) for name in named}
        if not keys:
            found[DUMMY_ENTITY_ID] = f"'{DUMMY_ENTITY_VAL}'"  # the key that Feast has for it
        return Newest(opened, keys, found, time, created, self.start_date, self.end_date)


def _reader(
    data_source: Any, config: Any, wanted: Callable[[Parquet], Newest], rows: int, *, mapped: bool, last: bool
) -> pa.RecordBatchReader:
    what = f"Reading the rows of source {data_source.name!r}"
    with ExitStack() as stack:
        opened = stack.enter_context(session(Limits.of(config)))
        asked = wanted(open_source(opened, data_source, mapped=mapped))
        if last:
            opened.run(asked.times_sql(), what)
            found, entities = opened.run(asked.ties_sql(), what)[0]
            reader = opened.stream(asked.rows_sql(tied=found != entities), rows, what)
        else:
            reader = opened.stream(asked.all_sql(), rows, what)
        held = stack.pop_all()
    return held_reader(reader.schema, reader, held, what)


def held_reader(schema: pa.Schema, found: Iterable[pa.RecordBatch], held: ExitStack, what: str) -> pa.RecordBatchReader:
    """A reader that lets go of what it holds when it has been read to its end, or is forgotten."""

    def batches() -> Iterator[Any]:
        with held, explained(what):
            yield None
            yield from found

    started = batches()
    next(started)  # only a generator that has begun is told of its end
    return pa.RecordBatchReader.from_batches(schema, started)
