"""Short forms of columnar labeling functions: `keywords`, `patterns`, `threshold` and `lookup`.

Each returns a `ColumnarLabelingFunction` that belongs to the module in which it is called, as one written with
`votes` would. They hold one search, one comparison or one join, so that the engine reads a column once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa

from weakfish.errors import LabelingFunctionError
from weakfish.labeling.functions import ColumnarLabelingFunction, Condition
from weakfish.labeling.load import FOLDER
from weakfish.labeling.lookup_table import KEY, LookupTable, read_lookup
from weakfish.labeling.words import literal, whole
from weakfish.project import Project

Bound = float | date | datetime


def keywords(
    name: str,
    label: int,
    column: str,
    words: Iterable[str],
    *,
    why: str,
    ignore_case: bool = True,
    whole_words: bool = True,
) -> ColumnarLabelingFunction:
    r"""Votes ``label`` where the text in ``column`` has any of ``words``.

    >>> keywords("sells_cards", FRAUD, "note", ["gift card", "voucher"], why="Cards cannot be taken back.")

    Parameters
    ----------
    name, label, column
        The name under which votes are stored, the class voted for, the column of text; null text is an abstain.
    words
        Words or phrases, taken literally. A space in a phrase stands for any run of spaces, tabs and line breaks.
    why
        A sentence on why the function should work; the report shows it.
    ignore_case
        Whether capitals and small letters are the same, by the engine's simple case folding (ſ is s, K is k).
    whole_words
        Whether a word must stand alone: "free" is not in "freedom". A word consists of ASCII letters, digits and
        underscores, as for ``\b``; beside a keyword's end that is not ASCII no letter or digit of any script may stand.

    Raises
    ------
    LabelingFunctionError
        When there are no words, one is empty, or ``why`` is.
    """
    listed = _texts(name, "words", words)
    searches = [whole(word) if whole_words else literal(word) for word in listed]
    return _searching(name, label, column, searches, why, "(?i)" if ignore_case else "")


def patterns(
    name: str, label: int, column: str, regexes: Iterable[str], *, why: str, ignore_case: bool = False
) -> ColumnarLabelingFunction:
    """Votes ``label`` where any of ``regexes`` is found in the text in ``column``.

    They are regular expressions of the engine (RE2: no lookaround, no back-references); flags such as ``(?m)`` hold in
    the one that they stand in. The other parameters and errors are those of `keywords`.

    >>> patterns("asks_for_transfer", FRAUD, "note", [r"IBAN \\w+", r"(?i)western union"], why="Money gone is gone.")
    """
    listed = _texts(name, "regexes", regexes)
    return _searching(name, label, column, listed, why, "(?i)" if ignore_case else "")


def threshold(
    name: str,
    label: int,
    column: str,
    *,
    why: str,
    at_least: Bound | None = None,
    above: Bound | None = None,
    at_most: Bound | None = None,
    below: Bound | None = None,
) -> ColumnarLabelingFunction:
    """Votes ``label`` where the value of ``column`` lies within the bounds; null and NaN are outside of all bounds.

    >>> threshold("is_large", FRAUD, "amount", above=200, why="Large orders are worth the trouble.")

    Parameters
    ----------
    name, label, column, why
        As in `keywords`; ``column`` holds numbers, dates or times (UTC).
    at_least, above, at_most, below
        Bounds; at most one from below and one from above.

    Raises
    ------
    LabelingFunctionError
        When there is no bound, two from one side, or no value between them.
    """
    _refuse_bad_bounds(name, at_least, above, at_most, below)

    def condition(events: ir.Table) -> ir.BooleanValue:
        value = events[column]
        held = [] if not value.type().is_floating() else [~value.isnan()]
        held += [value >= at_least] if at_least is not None else []
        held += [value > above] if above is not None else []
        held += [value <= at_most] if at_most is not None else []
        held += [value < below] if below is not None else []
        return _all(held)

    return _function(name, condition, label, why)


def lookup(
    name: str,
    labels: int | Mapping[Any, int],
    column: str,
    table: str | Path | pa.Table,
    *,
    why: str,
    key: str | None = None,
    classes: str = "class",
) -> ColumnarLabelingFunction:
    """Votes where the value of ``column`` stands in a table: a block list, or a gazetteer with a class for each key.

    >>> lookup("is_known_thief", FRAUD, "customer", "thieves.csv", why="Who stole once steals again.")
    >>> lookup("is_known", {"thief": FRAUD, "friend": FINE}, "customer", "customers.csv", why="We asked around.")

    The engine joins events to keys; the table is read once, when the function is made.

    Parameters
    ----------
    name, column, why
        As in `keywords`; ``column`` is of any type.
    labels
        The class to vote for; or one for each value of the table's column ``classes``, -1 for values to abstain on.
    table
        A CSV file with a first line of names, or a Parquet file, by its path within ``labeling_functions/``; or a
        pyarrow table. Rows without a key are passed over.
    key
        The table's column to look up; by default named as ``column``.
    classes
        The table's column of classes; only read where ``labels`` is a mapping.

    Raises
    ------
    LabelingFunctionError
        When the file is outside of the folder or cannot be read, a column is missing, a class has no label, or a key
        has two; also on events whose column has a type that the keys are not of.
    """
    rows, where = read_lookup(_folder(), table, name)
    known = LookupTable(rows, key or column, classes, labels, f"Labeling function {name!r}: {where}")

    def condition(events: ir.Table) -> dict[int, ir.BooleanValue]:
        value = events[column]
        tables = known.keys(value.type().to_pyarrow())
        return {label: value.isin(keys[KEY]) for label, keys in tables.items()}

    return _function(name, condition, None, why)


def _searching(
    name: str, label: int, column: str, searches: Sequence[str], why: str, flags: str
) -> ColumnarLabelingFunction:
    pattern = flags + "|".join(searches if len(searches) == 1 else [f"(?:{search})" for search in searches])

    def condition(events: ir.Table) -> ir.BooleanValue:
        return events[column].re_search(pattern)

    return _function(name, condition, label, why)


def _function(name: str, condition: Condition, label: int | None, why: str) -> ColumnarLabelingFunction:
    """The function, as if it were defined in the module that calls a builder: only those of a module are loaded."""
    if not why.strip():
        raise LabelingFunctionError(f"Labeling function {name!r} does not say why it should work; write it into why=.")
    condition.__name__ = condition.__qualname__ = name
    condition.__doc__ = why
    condition.__module__ = _caller()["__name__"]
    return ColumnarLabelingFunction(name, condition, label)


def _caller() -> dict[str, Any]:
    """The globals of the module that calls into this one."""
    frame = sys._getframe()
    while frame.f_globals is globals() and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_globals


def _folder() -> Path:
    """The folder of the module that calls a builder; the project's, where that is no file, as in a notebook."""
    file = _caller().get("__file__")
    return Path(file).parent if file else Project.find().root / FOLDER


def _texts(name: str, what: str, given: Iterable[str]) -> list[str]:
    listed = [] if isinstance(given, str) else list(given)
    if not listed or not all(isinstance(text, str) and text.strip() for text in listed):
        raise LabelingFunctionError(
            f"Labeling function {name!r}: {what} must be a list of texts that are not empty, got {given!r}."
        )
    return listed


def _refuse_bad_bounds(
    name: str, at_least: Bound | None, above: Bound | None, at_most: Bound | None, below: Bound | None
) -> None:
    lows = [bound for bound in (at_least, above) if bound is not None]
    highs = [bound for bound in (at_most, below) if bound is not None]
    if not lows + highs or len(lows) > 1 or len(highs) > 1:
        raise LabelingFunctionError(
            f"Labeling function {name!r}: a threshold has one of at_least and above, one of at_most and below, or both."
        )
    closed = at_least is not None and at_most is not None
    if lows and highs and not (lows[0] < highs[0] or (closed and lows == highs)):  # type: ignore[operator]
        raise LabelingFunctionError(
            f"Labeling function {name!r}: no value lies between {lows[0]} and {highs[0]}; correct its bounds."
        )


def _all(conditions: Sequence[ir.BooleanValue]) -> ir.BooleanValue:
    first, *others = conditions
    for condition in others:
        first = first & condition
    return first
