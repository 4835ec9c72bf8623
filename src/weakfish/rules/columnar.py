"""Labeling functions that are conditions on columns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, cast

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from weakfish.contracts.votes_file import ABSTAIN
from weakfish.engine import duckdb as compute
from weakfish.errors import LabelingFunctionError, WeakfishError, reason
from weakfish.rules.snorkel_functions import LabelingFunction

Condition = Callable[[ir.Table], ir.BooleanValue | Mapping[int, ir.BooleanValue]]


class ColumnarLabelingFunction(LabelingFunction):
    """A labeling function that votes where conditions on the columns hold, and abstains elsewhere.

    Parameters
    ----------
    name
        The name under which votes are stored.
    condition
        Takes the events as an Ibis table. Returns a boolean column, or where ``label`` is None one for each class that
        the function votes for; the first that holds wins. Null counts as "does not hold".
    label
        The class voted for; None where ``condition`` names the classes itself.

    Attributes
    ----------
    schema : pyarrow.Schema or None
        Types of the events' columns, used when the function is called on one data point. Without it the types are
        inferred from the values, and a missing value counts as a missing string.
    """

    def __init__(self, name: str, condition: Condition, label: int | None = None) -> None:
        super().__init__(name=name, f=condition)
        self.label = label
        self.schema: pa.Schema | None = None
        self._queries: dict[pa.Schema, Callable[[pa.Table], pa.Table]] = {}
        self.__doc__ = condition.__doc__
        self.__module__ = condition.__module__

    def conditions(self, events: ir.Table) -> dict[int, ir.BooleanValue]:
        """What must hold for each class that the function votes for, the first that holds wins.

        Raises
        ------
        LabelingFunctionError
            When the condition raises, or does not return boolean columns of ``events``.
        """
        try:
            found = self._f(events)
        except WeakfishError:
            raise
        except Exception as error:
            raise LabelingFunctionError(
                f"Labeling function {self.name!r} ({self.__module__}) raised {reason(error)}; "
                "it gets the events as an Ibis table and returns a boolean column."
            ) from error
        named = {self.label: found} if self.label is not None else found
        if not isinstance(named, Mapping):
            raise self._no_vote(named, "with @votes() it returns {class: boolean column}.")
        for condition in named.values():
            if not isinstance(condition, ir.BooleanValue):
                raise self._no_vote(condition, "@votes functions return a boolean column.")
        return dict(named)

    def votes(self, events: ir.Table) -> ir.IntegerValue:
        """One vote per row of ``events``, int8; raises like `conditions`."""
        branches = [(condition.fill_null(False), label) for label, condition in self.conditions(events).items()]
        if not branches:
            raise self._no_vote({}, "it votes for at least one class.")
        return cast(ir.IntegerValue, ibis.cases(*branches, else_=ABSTAIN).cast("int8"))

    def _no_vote(self, found: object, advice: str) -> LabelingFunctionError:
        kind = (
            found.type() if isinstance(found, ir.Value) else found if isinstance(found, str) else type(found).__name__
        )
        return LabelingFunctionError(
            f"Labeling function {self.name!r} ({self.__module__}) returned {kind}, which is not a vote; {advice}"
        )

    def __call__(self, x: Any) -> int:
        """The vote on one data point: a pandas Series, a mapping, a named tuple, or an object with attributes."""
        row = _one_row(x, self.schema)
        if row.schema not in self._queries:
            self._queries[row.schema] = _row_engine().prepare(
                row.schema, lambda rows: rows.select(vote=self.votes(rows))
            )
        return int(self._queries[row.schema](row)["vote"][0].as_py())


def votes(label: int | None = None) -> Callable[[Condition], ColumnarLabelingFunction]:
    """Make a columnar labeling function of a condition: it votes ``label`` where the condition holds.

    >>> @votes(FRAUD)
    ... def is_large_and_new(order):
    ...     '''A first order that is large: thieves spend a card while they can.'''
    ...     return (order.amount > 200) & (order.orders_before == 0)

    Without ``label`` the condition names the classes that it votes for, and the first that holds wins.

    >>> @votes()
    ... def tells_by_age(account):
    ...     '''Old accounts are seldom stolen, accounts of an hour seldom honest.'''
    ...     return {HONEST: account.days > 1000, FRAUD: account.hours < 1}
    """

    def wrap(condition: Condition) -> ColumnarLabelingFunction:
        return ColumnarLabelingFunction(condition.__name__, condition, label)

    return wrap


_row_engine = cache(compute.connect)


def _one_row(x: Any, schema: pa.Schema | None) -> pa.Table:
    given = x.to_dict() if isinstance(x, pd.Series) else x
    fields = given if isinstance(given, Mapping) else given._asdict() if hasattr(given, "_asdict") else vars(given)
    values = {
        str(name): None if pd.api.types.is_scalar(value) and pd.isna(value) else value for name, value in fields.items()
    }
    if schema is not None:
        known = [field for field in schema if field.name in values]
        return pa.table({field.name: pa.array([values[field.name]]).cast(field.type) for field in known})
    columns = {name: pa.array([value]) for name, value in values.items()}
    return pa.table({name: c.cast(pa.string()) if pa.types.is_null(c.type) else c for name, c in columns.items()})


def content_digest(table: pa.Table) -> str:
    """The SHA-256 of a table's columns, types and rows."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()
