"""Plain Snorkel labeling functions over a batch of rows: the votes of Snorkel's ``PandasLFApplier``, sooner.

A function sees a `Row`, which answers like the pandas Series of a data point but is made only of the columns asked for.
Functions with preprocessors, and those that a `Row` cannot serve, get the Series itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from snorkel.labeling import LabelingFunction

from weakfish.labeling.load import Classes, check_vote
from weakfish.labeling.votes_file import ABSTAIN, FAILED, Faults, Votes

SERIES = frozenset(dir(pd.Series))
"""What a Series answers itself: a column of such a name is reached by ``row["name"]`` alone."""


FEW = 12
"""Columns up to which all are put into each row."""


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
        """All rows; few columns are put into them at once, of many each is when it is asked for."""
        rows = range(self._table.num_rows)
        names = [name for name in self.names if name not in SERIES]
        if len(names) > FEW:
            return [Row(self, number, {}) for number in rows]
        values = zip(*map(self.column, names), strict=True) if names else ((),) * len(rows)
        return [Row(self, number, dict(zip(names, row, strict=True))) for number, row in zip(rows, values, strict=True)]


class Row:
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
) -> dict[str, tuple[Votes, Faults]]:
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
    faults, vote = Faults(), _plain_call(function)
    rows: Iterator[Row | pd.Series] = map(batch.series, range(len(keys))) if function._pre else iter(batch.rows)
    while len(found) < len(keys):
        number = len(found)
        try:
            for row in rows:
                number = len(found)
                found.append(vote(row))
        except Exception as error:
            again = _second_try(function, batch, number)
            if again is None:
                failed.append(number)
                faults.add(Faults(1, f"{type(error).__name__}: {error}", [str(keys[number])]))
            found.append(ABSTAIN if again is None else again[0])
    votes = _checked(found, function, keys, classes)
    votes[failed] = FAILED
    return votes, faults


def _plain_call(function: LabelingFunction) -> Callable[[Any], Any]:
    """What ``function(row)`` comes to, without the calls between."""
    plain = not function._pre and type(function).__call__ is LabelingFunction.__call__
    call: Callable[[Any], Any] = function._f if plain else function
    return partial(call, **function._resources) if plain and function._resources else call


def _second_try(function: LabelingFunction, batch: Batch, number: int) -> tuple[Any] | None:
    """The vote on the Series, where it was the `Row` that the function could not use; None where it raises too."""
    if function._pre:
        return None
    try:
        return (function(batch.series(number)),)
    except Exception:
        return None


def _checked(found: list[Any], function: LabelingFunction, keys: Sequence[object], classes: Classes) -> Votes:
    if not found or (set(map(type, found)) == {int} and min(found) >= ABSTAIN and max(found) < len(classes.names)):
        return np.array(found, np.int8)
    rows = (f"{function._f.__module__}, row {key!r}" for key in keys)
    return np.array(
        [check_vote(vote, function.name, where, classes) for vote, where in zip(found, rows, strict=True)], np.int8
    )
