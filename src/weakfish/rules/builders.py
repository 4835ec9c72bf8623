"""Short forms of labeling functions: words, patterns, bounds, and tables to look values up in.

Tables are block lists and gazetteers, as CSV, Parquet or Arrow, beside the labeling functions.
"""

from __future__ import annotations

import inspect
import operator
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import cache, reduce
from pathlib import Path
from typing import Any

import ibis.expr.operations as ops
import ibis.expr.schema as sch
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
from ibis.formats.pyarrow import PyArrowTableProxy

from weakfish.contracts.tables import read_partition
from weakfish.contracts.votes_file import ABSTAIN
from weakfish.errors import LabelingFunctionError
from weakfish.project.paths import Project
from weakfish.rules.columnar import ColumnarLabelingFunction, Condition, content_digest
from weakfish.rules.loading import FOLDER

KEY = "key"
"""The column of keys in a lookup table as it is used."""

LABEL = "label"

_TABLES: dict[str, ir.Table] = {}


def _known(table: pa.Table, key: str, classes: str, labels: int | Mapping[Any, int], where: str) -> pa.Table:
    """The keys and the label that each stands for; raises `LabelingFunctionError`, which names the table by ``where``.

    ``labels`` is the class of all keys; or the class of each value of the column ``classes``, `ABSTAIN` for values that
    say nothing.
    """
    missing = [
        name for name in ([key] if isinstance(labels, int) else [key, classes]) if name not in table.column_names
    ]
    if missing:
        raise LabelingFunctionError(
            f"{where} has no column {', '.join(missing)}; it has {', '.join(table.column_names)}. "
            "Name them in its first line, or say which they are with key= and classes=."
        )
    if isinstance(labels, int):
        numbers = pa.repeat(labels, len(table))
    else:
        encoded = table[classes].combine_chunks().dictionary_encode("encode")
        values = encoded.dictionary.to_pylist()
        unnamed = [value for value in values if value not in labels]
        if unnamed:
            raise LabelingFunctionError(
                f"{where} has the class {unnamed[0]!r}, for which no label is given; "
                f"the labels name {', '.join(map(repr, labels))}. Map it to a class, or to ABSTAIN (-1)."
            )
        numbers = pa.array([labels[value] for value in values], pa.int64()).take(encoded.indices)
    known = pa.table({KEY: table[key], LABEL: pa.chunked_array([numbers.cast(pa.int64())])})
    known = known.filter(pc.and_(pc.is_valid(known[KEY]), pc.not_equal(known[LABEL], ABSTAIN)))
    _refuse_two_labels(known, where)
    return known


def _keys(known: pa.Table, labels: Iterable[int], kind: pa.DataType, where: str) -> dict[int, ir.Table]:
    """For each label the table of its keys as ``kind``, named by its content.

    So the same keys make the same expression in every process; one object for each, since Ibis refuses two tables in
    memory that share a name.
    """
    try:
        rows = pa.table({KEY: known[KEY].cast(kind), LABEL: known[LABEL]})
    except pa.ArrowInvalid as error:
        raise LabelingFunctionError(
            f"{where} has keys that are not {kind}, the type of the column that is looked up ({error}); correct them "
            "there."
        ) from error
    _refuse_two_labels(rows, where)
    found = {}
    for label in labels:
        table = pa.table({KEY: pc.unique(rows.filter(pc.equal(rows[LABEL], label))[KEY]).sort()})
        name = f"lookup_{content_digest(table)}"
        if name not in _TABLES:
            made = ops.InMemoryTable(name=name, schema=sch.infer(table), data=PyArrowTableProxy(table))
            _TABLES[name] = made.to_expr()
        found[label] = _TABLES[name]
    return found


def _refuse_two_labels(rows: pa.Table, where: str) -> None:
    found = rows.group_by(KEY).aggregate([(LABEL, "min"), (LABEL, "max")])
    twice = found.filter(pc.not_equal(found[f"{LABEL}_min"], found[f"{LABEL}_max"])).sort_by(KEY)
    if twice.num_rows:
        raise LabelingFunctionError(
            f"{where} has {twice[KEY][0].as_py()!r} with two classes"
            f"{f', and {twice.num_rows - 1} more keys' if twice.num_rows > 1 else ''}; leave one row for each key."
        )


def read_lookup(folder: Path, table: str | Path | pa.Table, key: str) -> tuple[pa.Table, str]:
    """The table, and how to name it in errors; a path is relative to ``folder`` and stays inside.

    Columns of a CSV file are text, whatever they look like: a key becomes what the events' column is.

    Raises
    ------
    LabelingFunctionError
        When the file is outside of ``folder``, missing, unreadable, or neither CSV nor Parquet.
    """
    if isinstance(table, pa.Table):
        return table, f"The table of {key}"
    file = (folder / table).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise LabelingFunctionError(
            f"{table} lies outside of {folder}, where its changes would go unnoticed; move it there."
        )
    if not file.is_file():
        raise LabelingFunctionError(f"There is no {table} in {folder}; add it, or correct the name.")
    if file.suffix == ".parquet":
        return read_partition(file), str(table)
    if file.suffix != ".csv":
        raise LabelingFunctionError(f"{table} is neither .csv nor .parquet; save it as one of them.")
    try:
        with csv.open_csv(file) as reader:
            texts = csv.ConvertOptions(column_types=dict.fromkeys(reader.schema.names, pa.string()))
        return csv.read_csv(file, convert_options=texts), str(table)
    except pa.ArrowInvalid as error:
        raise LabelingFunctionError(f"{file} is not readable CSV ({error}); correct it there.") from error


Bound = float | date | datetime

UNSPACED = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HALFWIDTH", "THAI", "LAO", "KHMER", "MYANMAR")
"""How Unicode's names of characters begin in scripts that put no spaces between words."""


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
        An end in a script without spaces between words, such as Japanese, stands anywhere.

    Raises
    ------
    LabelingFunctionError
        When there are no words, one is empty, or ``why`` is.
    """
    listed = _texts(name, "words", words)
    searches = [_found(word, whole_words) for word in listed]
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

    def condition(events: ir.Table) -> ir.BooleanValue:
        value = events[column]
        given = ((operator.ge, at_least), (operator.gt, above), (operator.le, at_most), (operator.lt, below))
        held = [holds(value, bound) for holds, bound in given if bound is not None]
        return reduce(operator.and_, [~value.isnan(), *held] if value.type().is_floating() else held)

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
    where = f"Labeling function {name!r}: {where}"
    known = _known(rows, key or column, classes, labels, where)
    voted = [labels] if isinstance(labels, int) else sorted(set(labels.values()) - {ABSTAIN})

    @cache
    def keys(kind: pa.DataType) -> dict[int, ir.Table]:
        return _keys(known, voted, kind, where)

    def condition(events: ir.Table) -> dict[int, ir.BooleanValue]:
        value = events[column]
        return {label: value.isin(table[KEY]) for label, table in keys(value.type().to_pyarrow()).items()}

    return _function(name, condition, None, why)


def _searching(
    name: str, label: int, column: str, searches: Sequence[str], why: str, flags: str
) -> ColumnarLabelingFunction:
    pattern = flags + "|".join(searches if len(searches) == 1 else [f"(?:{search})" for search in searches])
    return _function(name, lambda events: events[column].re_search(pattern), label, why)


EDGE = r"[^\pL\pM\pN_]"
"""What may stand beside a word that ends in a letter outside of ASCII, of which the engine's ``\\b`` knows nothing."""


def _found(word: str, whole: bool) -> str:
    """A pattern of the engine (RE2) that finds ``word`` literally, anywhere or where it stands alone.

    Where it has spaces, any run of white space is found: it is split where the engine's ``\\s`` matches, which is in
    fewer places than Python splits at.
    """
    parts = [part for part in re.split(r"[ \t\n\r\f]+", word) if part]
    edges = ["", ""]
    for side, (character, end) in enumerate(((parts[0][0], "^"), (parts[-1][-1], "$"))):
        spaced = not unicodedata.name(character, "").startswith(UNSPACED)
        if whole and spaced and (character.isalnum() or character == "_"):  # nothing is asked beside punctuation
            edges[side] = r"\b" if character.isascii() else f"(?:{end}|{EDGE})"
    return edges[0] + r"\s+".join(map(re.escape, parts)) + edges[1]


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
    frame = inspect.currentframe()
    while frame and frame.f_globals is globals():
        frame = frame.f_back
    return frame.f_globals if frame else {}


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
