"""Plain Snorkel labeling functions over a batch of rows: the votes of Snorkel's ``PandasLFApplier``, sooner.

A function sees a `Row`, which answers like the pandas Series of a data point but is made only of the columns asked for.
Functions with preprocessors, and those that a `Row` cannot serve, get the Series itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from snorkel.labeling import LabelingFunction

from weakfish.labeling.load import check_vote
from weakfish.labeling.votes_file import FAILED, Faults, Votes

SERIES = frozenset(dir(pd.Series))
"""What a Series answers itself: a column of such a name is reached by ``row["name"]`` alone."""


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
    def rows(self) -> list[Row]:
        """All rows."""
        return [Row(self, number) for number in range(self._table.num_rows)]


class Row:
    """One row, read as a pandas Series is: ``row.column``, ``row["column"]``, ``row.get("column")`` and the rest."""

    def __init__(self, batch: Batch, number: int) -> None:
        self._batch = batch
        self._number = number

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
    functions: Sequence[LabelingFunction], batch: Batch, keys: Sequence[object], classes: Sequence[str]
) -> dict[str, tuple[Votes, Faults]]:
    """The votes of each function on a batch, `FAILED` where it raised.

    Parameters
    ----------
    keys
        The key of each row, which names it in messages.

    Raises
    ------
    LabelingFunctionError
        When a function returns what is not a vote; names the function and the row.
    """
    return {function.name: _votes(function, batch, keys, classes) for function in functions}


def _votes(
    function: LabelingFunction, batch: Batch, keys: Sequence[object], classes: Sequence[str]
) -> tuple[Votes, Faults]:
    votes = np.empty(len(keys), np.int8)
    faults, most = Faults(), len(classes)
    rows: Iterable[Row | pd.Series] = map(batch.series, range(len(keys))) if function._pre else batch.rows
    for number, row in enumerate(rows):
        try:
            vote = function(row)
        except Exception as error:
            vote = _second_try(function, batch, number, row)
            if vote is FAILED:
                votes[number] = FAILED
                faults.add(Faults(1, f"{type(error).__name__}: {error}", [str(keys[number])]))
                continue
        if type(vote) is not int or not -1 <= vote < most:
            where = f"{function._f.__module__}, row {keys[number]!r}"
            vote = check_vote(vote, function.name, where, classes)
        votes[number] = vote
    return votes, faults


def _second_try(function: LabelingFunction, batch: Batch, number: int, row: Row | pd.Series) -> Any:
    """The vote on the Series, where it was the `Row` that the function could not use."""
    if isinstance(row, pd.Series):
        return FAILED
    try:
        return function(batch.series(number))
    except Exception:
        return FAILED
