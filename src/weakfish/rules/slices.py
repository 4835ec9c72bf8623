"""Slices: subsets of the events that matter, on which labels and what learns from them are measured by themselves."""

from __future__ import annotations

from copy import copy

from weakfish.errors import LabelingFunctionError
from weakfish.rules.columnar import ColumnarLabelingFunction, Condition
from weakfish.rules.snorkel_functions import LabelingFunction

SLICES = "@slices"
"""Where slices stand beside the tasks in ``data/votes``: no task can have the name."""

_MARK = "is_slice"


def slice(rows: Condition | LabelingFunction) -> LabelingFunction:
    """Make a slice of a condition on columns, or of any labeling function: of the rows on which it votes.

    >>> @slice
    ... def first_orders(order):
    ...     '''Customers whom nobody knows yet.'''
    ...     return order.orders_before == 0

    >>> sells_cards = slice(keywords("sells_cards", 0, "note", ["gift card"], why="Cards cannot be taken back."))

    Like labeling functions, slices are defined in ``labeling_functions/``; they vote in no task. A row is in every
    slice whose condition holds. Limits are set by `validation.slices` in ``params.yaml``. Raises
    `LabelingFunctionError` for anything else.
    """
    if not callable(rows):
        raise LabelingFunctionError(f"slice takes a condition or a labeling function, not {type(rows).__name__}.")
    votes = isinstance(rows, LabelingFunction)
    function = copy(rows) if votes else ColumnarLabelingFunction(rows.__name__, rows, 0)
    setattr(function, _MARK, True)
    return function


def is_slice(function: LabelingFunction) -> bool:
    """Whether `slice` made it."""
    return bool(getattr(function, _MARK, False))
