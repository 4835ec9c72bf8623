"""Retrieval of features for Feast: what was known at the times of entity rows, and the last rows of a view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
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
from weakfish.feast.asof import AsOfJoin, RowsInTime, ViewColumns
from weakfish.feast.definitions import refuse_keyless, refuse_mixture
from weakfish.feast.source_files import (
    Session,
    StoredRows,
    explained,
    in_unit,
    open_source,
    quoted,
    session,
)
from weakfish.feast.spine import FileSpine, Open, query_spine, spine_of

ROWS = 65_536
"""Rows of a batch of last rows."""


class SpineMetadata(RetrievalMetadata):
    """What Feast wants to know of a retrieval; the range of its times, in UTC, is looked up when it is asked for."""

    def __init__(self, features: Sequence[str], keys: Sequence[str], open_spine: Open, config: Any) -> None:
        self.features, self.keys, self._open, self._config = list(features), list(keys), open_spine, config

    @property
    def min_event_timestamp(self) -> datetime | None:
        """The first time of the entity rows."""
        return self._range[0]

    @property
    def max_event_timestamp(self) -> datetime | None:
        """The last time of the entity rows."""
        return self._range[1]

    @cached_property
    def _range(self) -> list[datetime | None]:
        with session(self._config) as opened:
            found = self._open(opened).number(opened, [])
        ends = (found.first, found.last)
        return [None if end is None else moment(in_unit(end, found.unit, "us")) for end in ends]


class Retrieval:
    """How features are retrieved for entity rows; no row is read before `reader`.

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

    def __init__(
        self,
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
    ) -> None:
        refuse_mixture(views)
        self.config = config
        self.views = [(_columns(view, references, full_names, known), view.batch_source) for view in views]
        self.keys = list(dict.fromkeys(column for view, _ in self.views for column in view.keys.values()))
        if rows is None:
            begin, until = compute_non_entity_date_range(list(views), start_date=start, end_date=end)
            names: Sequence[str] = [EVENT_TIMESTAMP, *self.keys]
            self.open: Open = lambda opened: self._everyone(opened, begin, until)
            self.metadata = RetrievalMetadata(list(references), self.keys, begin, until)
        else:
            names, time, self.open = spine_of(rows, config)
            keys = [name for name in names if name != time]
            self.metadata = SpineMetadata(references, keys, self.open, config)
        needs = [(name, f"view {view.name!r}") for view, _ in self.views for name in view.keys.values()]
        needs += [(name, f"view {view.name!r}") for view in on_demand for name in view.get_request_data_schema()]
        for name, who in needs:
            if name not in names:
                raise UserError(f"The entity rows have no column {name!r}, which {who} needs; add it to them.")
        features = [name for view, _ in self.views for name in view.features]
        for view in on_demand:
            of, prefix = view.projection.name_to_use(), f"{view.projection.name_to_use()}__" if full_names else ""
            wanted = [field.name for field in view.projection.features if f"{of}:{field.name}" in references]
            features += [f"{prefix}{name}" for name in wanted]
        _refuse_twins(names, features)

    def reader(self, rows: int) -> pa.RecordBatchReader:
        """The entity rows, each once and in order, and beside them the features; in batches of at most ``rows`` rows.

        Raises
        ------
        TableError, UserError
            When Parquet is missing or unreadable, lacks a column, or does not go with the entity rows.
        StoreError
            When DuckDB fails.
        """
        with ExitStack() as stack:
            opened = stack.enter_context(session(self.config))
            spine = self.open(opened)
            numbered = spine.number(opened, self.keys)
            sources = [open_source(opened, source, mapped=True) for _, source in self.views]
            joins = [
                AsOfJoin(opened, view, source, numbered, number)
                for number, ((view, _), source) in enumerate(zip(self.views, sources, strict=True))
            ]
            found = [InOrder(join.features(rows), join.view.name) for join in joins]
            schema, asked = spine.batches(opened, rows)
            held = stack.pop_all()
        for features in found:
            for field in features.schema:
                schema = schema.append(field)

        def beside() -> Iterator[pa.RecordBatch]:
            start = 0
            for piece in asked:
                columns = [*piece.columns]
                for features in found:
                    columns += features.rows(start, piece.num_rows).columns
                start += piece.num_rows
                yield from pa.table(columns, schema=schema).combine_chunks().to_batches()

        return held_reader(schema, beside(), held, "The as-of join")

    def _everyone(self, opened: Session, start: datetime, end: datetime) -> FileSpine:
        """Every entity of a view that has a row in a range of time, as of the end of it.

        Rows are ordered by their keys, each once; an entity of one view has null for the keys of the others, as other
        stores of Feast have it. Views without entities have one row, at the end of the range.
        """
        time = f"CAST(make_timestamp({microseconds(end)}) AS TIMESTAMPTZ) AS {quoted(EVENT_TIMESTAMP)}"
        if not self.keys:
            return query_spine(opened, f"SELECT {time}")
        found = [(view, open_source(opened, source, mapped=True)) for view, source in self.views if view.keys]
        kinds = {column: source.type(key) for view, source in found for key, column in view.keys.items()}
        parts = []
        for view, source in found:
            columns = {column: f"CAST(NULL AS {kind})" for column, kind in kinds.items()}
            columns |= {column: source.column(key) for key, column in view.keys.items()}
            parts.append(
                RowsInTime(
                    source, list(view.keys), columns, view.time, view.created, start, end, known=view.known
                ).sql()
            )
        keys = ", ".join(quoted(column) for column in self.keys)
        every = " UNION ALL ".join(parts)
        return query_spine(opened, f"SELECT DISTINCT {time}, {keys} FROM ({every}) ORDER BY {keys}")  # noqa: S608


def _columns(view: Any, references: Sequence[str], full_names: bool, known: bool) -> ViewColumns:
    source, projection = view.batch_source, view.projection
    if source is None:
        raise UserError(f"View {view.name!r} has no batch source to retrieve history from; give it one.")
    refuse_keyless(view)
    of, prefix = projection.name_to_use(), f"{projection.name_alias or view.name}__" if full_names else ""
    wanted = [reference.partition(":")[2] for reference in references if reference.partition(":")[0] == of]
    renamed = projection.join_key_map or {}
    return ViewColumns(
        name=of,
        keys={key: renamed.get(key, key) for key in view.join_keys if key != DUMMY_ENTITY_ID},
        features={f"{prefix}{feature}": feature for feature in wanted},
        time=source.timestamp_field,
        created=source.created_timestamp_column or None,
        ttl=getattr(view, "ttl", None) or None,
        known=known,
        day=source.date_partition_column or None,
    )


def _refuse_twins(names: Sequence[str], features: Sequence[str]) -> None:
    """Raise `UserError` when two columns of the result would have one name."""
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"The entity rows have {count} columns {name!r}; rename one of them.")
    for name, count in Counter(features).items():
        if name in names:
            raise UserError(
                f"Column {name!r} of the entity rows has the name of a feature that is asked for; rename or drop it, "
                "or ask with full_feature_names=True."
            )
        if count > 1:
            raise UserError(f"{count} features are called {name!r}; ask with full_feature_names=True.")


class InOrder:
    """The rows of a stream that is sorted by its first column, the row's number, as they stand beside entity rows."""

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


def latest(
    view: Any, end: datetime, config: Any, *, start: datetime | None = None, known: bool = True
) -> pa.RecordBatchReader:
    """The last row of each entity of a Feast view up to ``end``: what an online store should hold then.

    Parameters
    ----------
    view : FeatureView
        A view with Parquet behind it; its field mapping is applied.
    end, start : datetime
        Rows with an event time in between, both included. Without a zone they are UTC.
    known : bool
        Leave out rows whose created time (where the source has one) is after ``end``; Feast materializes them too.
    config : RepoConfig
        Feast's settings: relative paths start at its repository, the limits of `session` are its offline store's.

    Returns
    -------
    pyarrow.RecordBatchReader
        Join keys, features, ``event_timestamp`` and ``created`` (both ``timestamp[us, tz=UTC]``; ``created`` is null
        where the source has none), in any order; one row without keys for a view without entities. What it holds is
        free when it has been read to its end, or is forgotten.

    Raises
    ------
    TableError, UserError
        When the Parquet is missing or unreadable, or lacks a column.
    StoreError
        When DuckDB fails.
    """
    refuse_keyless(view)
    keys = [key for key in view.join_keys if key != DUMMY_ENTITY_ID]
    features = [feature.name for feature in view.features]
    time, created = view.batch_source.timestamp_field, view.batch_source.created_timestamp_column or None

    def wanted(source: StoredRows) -> RowsInTime:
        found = {name: source.column(name) for name in [*keys, *features]}
        for name, column in {EVENT_TIMESTAMP: time, CREATED: created}.items():
            number = "NULL" if column is None else source.instant(column).to("us")
            found[name] = f"CAST(make_timestamp(CAST({number} AS BIGINT)) AS TIMESTAMPTZ)"
        return RowsInTime(source, keys, found, time, created, start, end, known=known, ordered=False)

    return _reader(view.batch_source, config, wanted, ROWS, mapped=True, last=True)


def pulled(
    rows: int,
    last: bool,
    config: Any,
    data_source: Any,
    join_key_columns: Sequence[str],
    feature_name_columns: Sequence[str],
    timestamp_field: str,
    created_timestamp_column: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> pa.RecordBatchReader:
    """What Feast's pull hooks ask of a source, in batches of at most ``rows``; columns are as they are stored.

    With ``last``, the last row of each entity, in the order of the keys (see `latest`); one row for a source without
    keys. Else every row with an event time in the range, file by file, in the order of their names, whatever its keys.
    A created time decides between rows of one event time, and leaves none out.

    Parameters
    ----------
    join_key_columns, feature_name_columns : sequence of str
        The columns wanted, by their stored names; all of the source's where no feature is named, as Feast means it.
    timestamp_field, created_timestamp_column : str
        The time columns; the second may be None or empty.
    start_date, end_date : datetime or None
        Both included; None for no such bound.
    """
    keys, time, created = join_key_columns, timestamp_field, created_timestamp_column or None

    def wanted(source: StoredRows) -> RowsInTime:
        named = [*keys, *feature_name_columns, time, *([created] if created else [])]
        named += [] if feature_name_columns else source.rest(named)
        found = {name: source.column(name) for name in named}
        if not keys:
            found[DUMMY_ENTITY_ID] = f"'{DUMMY_ENTITY_VAL}'"  # the key that Feast has for it
        entity = (keys, found, time, created) if last else ([], found, time, None)
        return RowsInTime(source, *entity, start_date, end_date, known=False)

    return _reader(data_source, config, wanted, rows, mapped=False, last=last)


def _reader(
    data_source: Any, config: Any, wanted: Callable[[StoredRows], RowsInTime], rows: int, *, mapped: bool, last: bool
) -> pa.RecordBatchReader:
    what = f"Reading the rows of source {data_source.name!r}"
    with ExitStack() as stack:
        opened = stack.enter_context(session(config))
        asked = wanted(open_source(opened, data_source, mapped=mapped))
        reader = asked.newest(opened, rows, what) if last else opened.stream(asked.sql(), rows, what)
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
