"""Labeling functions over batches of events, in one process or several.

Columnar functions are one plan. Row functions have the votes of Snorkel's ``PandasLFApplier``, sooner: each sees a
`RowView`, which answers like the pandas Series of a data point but is made only of the columns asked for. Functions
with preprocessors, and those that a `RowView` cannot serve, get the Series itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.contracts.tables import open_partition
from weakfish.contracts.votes_file import ABSTAIN, FAILED, Faults, Votes
from weakfish.engine import duckdb as compute
from weakfish.engine import fleet
from weakfish.engine.duckdb import Engine
from weakfish.errors import reason
from weakfish.files import whole_file
from weakfish.labeling.plan import VotePlan
from weakfish.project.paths import Project
from weakfish.project.runs import temporary_folder
from weakfish.rules.columnar import ColumnarLabelingFunction
from weakfish.rules.identity import columns_read
from weakfish.rules.loading import Classes, check_vote, load_slices, load_voters
from weakfish.rules.snorkel_functions import LabelingFunction, has_preprocessors, resources_of, wrapped

SERIES = frozenset(dir(pd.Series))
"""What a Series answers itself: a column of such a name is reached by ``row["name"]`` alone."""


FEW = 12
"""Columns up to which all are put into each row."""


Outcome = dict[str, tuple[Votes, Faults]]
"""Votes and faults by function."""


class Batch:
    """Rows as Python values, each column converted when it is first asked for.

    Values are those of ``table.to_pandas(integer_object_nulls=True)``: a null is None in texts, whole numbers and
    booleans, NaN in other numbers and NaT in times; times are pandas Timestamps.
    """

    def __init__(self, table: pa.Table, first: int = 0) -> None:
        self.names = table.column_names
        self.first = first
        self._table = table
        self._columns: dict[str, list[Any]] = {}

    def column(self, name: str) -> list[Any]:
        """The values of a column."""
        if name not in self._columns:
            series = self._table[name].to_pandas(integer_object_nulls=True)
            self._columns[name] = series.astype(object).tolist()
        return self._columns[name]

    def series(self, number: int) -> pd.Series:
        """A row as pandas has it, named after its place in the partition."""
        return pd.Series(
            [self.column(name)[number] for name in self.names], self.names, dtype=object, name=self.first + number
        )

    @cached_property
    def rows(self) -> list[RowView]:
        """All rows; few columns are put into them at once, of many each is when it is asked for."""
        names = [name for name in self.names if name not in SERIES]
        known = names if len(names) <= FEW else []
        values = zip(*map(self.column, known), strict=True) if known else ((),) * self._table.num_rows
        return [RowView(self, number, dict(zip(known, row, strict=True))) for number, row in enumerate(values)]


class RowView:
    """One row, read as a pandas Series is: ``row.column``, ``row["column"]``, ``row.get("column")`` and the rest.

    Columns lie in its ``__dict__``, so that reading one costs what reading any attribute does.
    """

    def __init__(self, batch: Batch, number: int, known: dict[str, Any]) -> None:
        self.__dict__ = known
        known["_batch"] = batch
        known["_number"] = number

    def __getattr__(self, name: str) -> Any:
        batch = self.__dict__["_batch"]
        if name in SERIES or name not in batch.names:
            return getattr(batch.series(self._number), name)
        value = self.__dict__[name] = batch.column(name)[self._number]
        return value

    def __getitem__(self, name: str) -> Any:
        if name in self._batch.names:
            return self._batch.column(name)[self._number]
        return self._batch.series(self._number)[name]

    def __len__(self) -> int:
        return len(self._batch.names)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batch.series(self._number))

    def __contains__(self, name: object) -> bool:
        return name in self._batch.names


def row_votes(
    functions: Sequence[LabelingFunction], batch: Batch, keys: Sequence[object], classes: Mapping[str, Classes]
) -> Outcome:
    """The votes of each function on a batch, `FAILED` where it raised.

    Parameters
    ----------
    keys
        The key of each row, which names it in messages.
    classes
        By function, what it may vote for.

    Raises
    ------
    LabelingFunctionError
        When a function returns what is not a vote; names the function and the row.
    """
    return {function.name: _votes(function, batch, keys, classes[function.name]) for function in functions}


def _votes(function: LabelingFunction, batch: Batch, keys: Sequence[object], classes: Classes) -> tuple[Votes, Faults]:
    found: list[Any] = []
    failed: list[int] = []
    faults, vote, as_series = Faults(), _plain_call(function), has_preprocessors(function)
    rows = map(batch.series, range(len(keys))) if as_series else iter(batch.rows)
    while len(found) < len(keys):
        try:
            for row in rows:  # one handler for all rows, entered anew after a row that raised
                found.append(vote(row))
        except Exception as error:
            number = len(found)
            again = None
            if not as_series:  # it may be the `RowView` that it cannot use
                with contextlib.suppress(Exception):
                    again = (function(batch.series(number)),)
            if again is None:
                failed.append(number)
                faults.add(Faults(1, reason(error), [str(keys[number])]))
            found.append(ABSTAIN if again is None else again[0])
    if set(map(type, found)) - {int} or (found and not ABSTAIN <= min(found) <= max(found) < len(classes.names)):
        where = (f"{wrapped(function).__module__}, row {key!r}" for key in keys)
        found = [check_vote(vote, function.name, row, classes) for vote, row in zip(found, where, strict=True)]
    votes = np.array(found, np.int8)
    votes[failed] = FAILED
    return votes, faults


def _plain_call(function: LabelingFunction) -> Callable[[Any], Any]:
    """What ``function(row)`` comes to, without the calls between."""
    call: Callable[[Any], Any] = function
    if not has_preprocessors(function) and type(function).__call__ is LabelingFunction.__call__:
        call = wrapped(function)
        call = partial(call, **resources_of(function)) if resources_of(function) else call
    return call


ROWS_AT_ONCE = 32_768
"""Rows that row functions get at a time: they turn each value into an object."""

READ_AHEAD, BYTES_AT_ONCE = 1 << 20, 4 << 20
"""So much is read from a file at a time, and about so much decoded for columnar functions. What is larger falls out of
the processor's caches, and Arrow gives its memory back to the system, which clears it for each batch anew: a quarter of
the time that voting took.
"""

BYTES_A_SECOND = 250e6
VOTES_A_SECOND = 200e3
"""Of stored columns and of row functions, roughly; only the estimate depends on them."""


@dataclass(frozen=True)
class Unit:
    """Functions, of whichever tasks, to be applied to one row group of a partition."""

    file: Path
    group: int
    functions: tuple[str, ...]


class Worker:
    """Applies the functions of a project, with whatever can be prepared once prepared once."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._engine = compute.connect()
        self._voters = load_voters(project) | load_slices(project)
        self._applied: dict[tuple[str, ...], Applied] = {}

    def work(self, unit: Unit) -> Outcome:
        """The votes on a unit's rows, in their order."""
        parquet, applied, rows, size = self._opened(unit)
        most = ROWS_AT_ONCE if applied.by_row else max(1, int(rows * BYTES_AT_ONCE / max(1, size)))

        def read() -> Iterator[pa.Table]:
            for batch in parquet.iter_batches(most, [unit.group], applied.columns):
                yield pa.Table.from_batches([batch])

        first = sum(parquet.metadata.row_group(group).num_rows for group in range(unit.group))
        return applied.to(read, first)

    def seconds(self, unit: Unit) -> float:
        """About how long a unit takes."""
        _, applied, rows, size = self._opened(unit)
        return float(size / BYTES_A_SECOND + len(applied.by_row) * rows / VOTES_A_SECOND)

    def _opened(self, unit: Unit) -> tuple[pq.ParquetFile, Applied, int, int]:
        """The unit's file and functions, its rows, and about what the columns that are read take in memory."""
        parquet = open_partition(unit.file, READ_AHEAD)
        if unit.functions not in self._applied:
            voters = {name: self._voters[name] for name in unit.functions}
            functions = [voter.function for voter in voters.values()]
            classes = {name: voter.classes for name, voter in voters.items()}
            key = self._project.params.events.key
            self._applied[unit.functions] = Applied(self._engine, functions, parquet.schema_arrow, key, classes)
        applied, group = self._applied[unit.functions], parquet.metadata.row_group(unit.group)
        columns = (group.column(place) for place in range(group.num_columns))
        sizes = (column.total_uncompressed_size for column in columns if column.path_in_schema in applied.columns)
        return parquet, applied, group.num_rows, sum(sizes)


class Applied:
    """Functions made ready for batches of a schema; ``classes`` says by name what each may vote for."""

    def __init__(
        self,
        engine: Engine,
        functions: Sequence[LabelingFunction],
        schema: pa.Schema,
        key: str,
        classes: Mapping[str, Classes],
    ) -> None:
        columnar = [function for function in functions if isinstance(function, ColumnarLabelingFunction)]
        self.by_row = [function for function in functions if not isinstance(function, ColumnarLabelingFunction)]
        self.plan: VotePlan | None = VotePlan(engine, columnar, schema.remove_metadata()) if columnar else None
        self._key, self._classes = key, classes
        read = {name for function in self.by_row for name in columns_read(function, schema.names)}
        read |= {*(self.plan.columns if self.plan else ()), *([key] if self.by_row else [])}
        self.columns = [name for name in schema.names if name in (read or {key})]

    def to(self, read: Callable[[], Iterable[pa.Table]], first: int = 0) -> Outcome:
        """The votes on batches that follow each other, which ``read`` reads; row ``first`` of its partition begins."""
        found: Outcome = {}
        if self.plan:
            found = {name: (votes, Faults()) for name, votes in self.plan.votes_on(read).items()}
        parts = []
        for rows in read() if self.by_row else ():
            keys = rows[self._key].to_pylist()
            parts.append(row_votes(self.by_row, Batch(rows, first), keys, self._classes))
            first += rows.num_rows
        return found | {function.name: joined([part[function.name] for part in parts]) for function in self.by_row}


def run(project: Project, units: Sequence[Unit]) -> Iterator[tuple[Unit, Outcome]]:
    """Apply functions, each unit once, in any order.

    Raises
    ------
    LabelingFunctionError
        When a function cannot be computed, or returns what is not a vote.
    WeakfishError
        When a worker ends before its work.
    """
    with temporary_folder(project.temporary, "vote") as folder:
        files = [folder / f"{place}.npy" for place in range(len(units))]
        items = [
            {
                "events": fleet.relative(project, unit.file),
                "group": unit.group,
                "functions": unit.functions,
                "votes": fleet.relative(project, file),
            }
            for unit, file in zip(units, files, strict=True)
        ]

        def seconds(here: Project) -> float:
            return sum(map(fleet.prepared(Worker, here).seconds, units))

        for place, receipt in fleet.run(project, f"{__name__}:apply", items, "vote: row groups", seconds):
            unit, votes = units[place], np.load(files[place])
            files[place].unlink()
            faults = {name: Faults(**found) for name, found in receipt["faults"].items()}
            yield (
                unit,
                {name: (own, faults.get(name, Faults())) for name, own in zip(unit.functions, votes, strict=True)},
            )


def apply(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Write the votes of an item, int8, (functions, rows), as a NumPy file; the receipt has the faults by function."""
    unit = Unit(project.root / item["events"], item["group"], tuple(item["functions"]))
    outcome = fleet.prepared(Worker, project).work(unit)
    with whole_file(project.root / item["votes"]) as part, part.open("wb") as file:
        np.save(file, np.stack([outcome[name][0] for name in unit.functions]), allow_pickle=False)
    return {"faults": {name: asdict(outcome[name][1]) for name in unit.functions if outcome[name][1].count}}


def joined(parts: Sequence[tuple[Votes, Faults]]) -> tuple[Votes, Faults]:
    """The votes and faults of rows that follow each other."""
    faults = Faults()
    for _, part in parts:
        faults.add(part)
    votes: Votes = np.concatenate([votes for votes, _ in parts]) if parts else np.zeros(0, np.int8)
    return votes, faults
