"""Retrieval of features: what Feast asks for in our words, and the queries of `asof` run in a session."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import numpy as np
import pyarrow as pa
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.utils import compute_non_entity_date_range

from weakfish.contracts.record import CREATED, EVENT_TIMESTAMP, microseconds, moment
from weakfish.errors import StoreError, UserError
from weakfish.feast.asof import AsOfJoin, Newest, View, columns_of
from weakfish.feast.definitions import refuse_mixture
from weakfish.feast.parquet import Limits, Parquet, Session, explained, in_unit, open_source, quoted, session
from weakfish.feast.spine import (
    FileSpine,
    Spine,
    columns_of_query,
    file_spine,
    from_repository,
    query_spine,
    table_spine,
    time_column,
)

ROWS = 65_536
"""Rows of a batch of last rows."""

JOINING = "The as-of join"

QUERY = re.compile(r"(\s|--[^\n]*\n|/\*.*?\*/)*(select|with|from|values|table|pivot|unpivot|\()[\s(*]", re.I | re.S)
"""How a query begins; any other text is a path."""

Open = Callable[[Session], Spine]


@dataclass(frozen=True)
class Heading:
    """The columns of a spine, the one of its times, and how it is opened in a session."""

    names: Sequence[str]
    time: str
    open: Open


class Metadata(RetrievalMetadata):
    """What Feast tells of a retrieval; the range of its times is looked up when it is asked for."""

    def __init__(self, features: Sequence[str], heading: Heading, limits: Limits) -> None:
        self.features = list(features)
        self.keys = [name for name in heading.names if name != heading.time]
        self._heading, self._limits = heading, limits

    @property
    def min_event_timestamp(self) -> datetime | None:
        """The first time of the spine, in UTC."""
        return self._range[0]

    @property
    def max_event_timestamp(self) -> datetime | None:
        """The last time of the spine, in UTC."""
        return self._range[1]

    @cached_property
    def _range(self) -> tuple[datetime | None, datetime | None]:
        with session(self._limits) as opened:
            found = self._heading.open(opened).number(opened, [])
        first, last = (
            None if end is None else moment(in_unit(end, found.unit, "us")) for end in (found.first, found.last)
        )
        return first, last


def plan(
    config: Any,
    views: Sequence[Any],
    references: Sequence[str],
    rows: Any,
    on_demand: Sequence[Any],
    *,
    full_names: bool,
    known: bool,
    start: datetime | None = None,
    end: datetime | None = None,
) -> tuple[Retrieval, RetrievalMetadata]:
    """How features are retrieved for entity rows.

    Parameters
    ----------
    views, on_demand
        Feast's views, and those of them that are computed on demand.
    references
        ``<view>:<feature>`` for every feature wanted, on-demand ones included.
    rows
        A pandas frame, an Arrow table, a query or a path of Parquet; None asks for every entity that has a row between
        ``start`` and ``end``, as of ``end``.
    known
        Whether rows count only from their created time on.

    Raises
    ------
    UserError
        When the rows lack a key or what an on-demand view asks for, or a column of theirs has a feature's name.
    TableError
        When their Parquet is missing.
    """
    refuse_mixture(views)
    limits = Limits.of(config)
    asked = [(_view(view, references, full_names=full_names, known=known), view.batch_source) for view in views]
    if rows is None:
        begin, until = compute_non_entity_date_range(list(views), start_date=start, end_date=end)
        names = [EVENT_TIMESTAMP, *columns_of([view for view, _ in asked])]
        heading = Heading(names, EVENT_TIMESTAMP, lambda opened: everyone(opened, asked, begin, until))
        metadata = RetrievalMetadata(list(references), names[1:], begin, until)
    else:
        heading = _heading(rows, limits)
        metadata = Metadata(references, heading, limits)
    _refuse_missing(heading, [view for view, _ in asked], on_demand)
    computed = [
        f"{view.projection.name_to_use()}__{field.name}" if full_names else field.name
        for view in on_demand
        for field in view.projection.features
        if f"{view.projection.name_to_use()}:{field.name}" in references
    ]
    _refuse_twins(heading, [*(name for view, _ in asked for name in view.features), *computed])
    return Retrieval(limits, heading.open, asked), metadata


def _view(view: Any, references: Sequence[str], *, full_names: bool, known: bool) -> View:
    source, projection = view.batch_source, view.projection
    if source is None:
        raise UserError(f"View {view.name!r} has no batch source to retrieve history from; give it one.")
    of, prefix = projection.name_to_use(), f"{projection.name_alias or view.name}__" if full_names else ""
    wanted = [reference.partition(":")[2] for reference in references if reference.partition(":")[0] == of]
    renamed = projection.join_key_map or {}
    return View(
        name=of,
        keys={key: renamed.get(key, key) for key in view.join_keys if key != DUMMY_ENTITY_ID},
        features={f"{prefix}{feature}": feature for feature in wanted},
        time=source.timestamp_field,
        created=source.created_timestamp_column or None,
        ttl=getattr(view, "ttl", None) or None,
        known=known,
        day=source.date_partition_column or None,
    )


def _heading(rows: Any, limits: Limits) -> Heading:
    if not isinstance(rows, str | os.PathLike):
        table = table_spine(rows)
        return Heading(table.names, table.time, lambda opened: table)
    text = str(rows)
    with session(limits) as opened:
        if isinstance(rows, str) and QUERY.match(text):
            query = from_repository(opened, text)
            types = columns_of_query(opened, query)
            time = time_column({name: kind.startswith("TIMESTAMP") for name, kind in types.items()})
            return Heading(list(types), time, lambda opened: query_spine(opened, query))
        spine = file_spine(opened, text)
        return Heading(spine.names, spine.time, lambda opened: file_spine(opened, text))


def _refuse_missing(heading: Heading, views: Sequence[View], on_demand: Sequence[Any]) -> None:
    needs = [(name, f"view {view.name!r}") for view in views for name in view.keys.values()]
    needs += [(name, f"view {view.name!r}") for view in on_demand for name in view.get_request_data_schema()]
    for name, who in needs:
        if name not in heading.names:
            raise UserError(f"The entity rows have no column {name!r}, which {who} needs; add it to them.")


def _refuse_twins(heading: Heading, features: Sequence[str]) -> None:
    """Raise `UserError` when two columns of the result would have one name."""
    for name, count in Counter(heading.names).items():
        if count > 1:
            raise UserError(f"The entity rows have {count} columns {name!r}; rename one of them.")
    counts = Counter(features)
    for name in counts:
        if name in heading.names:
            raise UserError(
                f"Column {name!r} of the entity rows has the name of a feature that is asked for; rename or drop it, "
                "or ask with full_feature_names=True."
            )
        if counts[name] > 1:
            raise UserError(f"{counts[name]} features are called {name!r}; ask with full_feature_names=True.")


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
    time = f"CAST(make_timestamp({microseconds(end)}) AS TIMESTAMPTZ) AS {quoted(EVENT_TIMESTAMP)}"
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

    stored = view.batch_source
    keys = [key for key in view.join_keys if key != DUMMY_ENTITY_ID]
    features = list(columns) if columns is not None else [feature.name for feature in view.features]
    time, created = stored.timestamp_field, stored.created_timestamp_column or None

    def wanted(source: Parquet) -> Newest:
        found = {name: source.column(name) for name in [*keys, *features]}
        for name, column in {EVENT_TIMESTAMP: time, CREATED: created}.items():
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
