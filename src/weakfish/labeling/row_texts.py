"""What a reader reads of events: words by column, texts as a whole, and which rows say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.errors import ParamsError
from weakfish.labeling.embedding import CHARACTERS as EMBEDDED
from weakfish.labeling.embedding import Vectors, vectors_of
from weakfish.labeling.learning import SEPARATOR, Columns, Floats, word_counts
from weakfish.labeling.row_reader import Bools, Ints, hashes_of
from weakfish.project.cache import Cache

ROWS = 100_000
"""Rows times classes that a reader learns from; of more covered rows, those of the lowest content hashes."""

CHARACTERS = 1 << 25
"""Characters that it learns from: features of a character take some 30 bytes."""

VALUES, ROWS_OF_VALUE, LONGEST = 100, 20, 64
"""A column of text is a category if the rows that a reader learns from have at most so many values of it, so many rows
a value on average, and no value of more characters."""

KINDS = "text, numbers, booleans, dates, times and lists of text"


def refuse_columns(schema: pa.Schema, reads: Sequence[str], embeds: Sequence[str], section: str) -> None:
    """Raise `ParamsError` unless the events have these columns, of types that can be read."""
    for setting, name in [("reads", name) for name in reads] + [("embeds", name) for name in embeds]:
        if name not in schema.names:
            raise ParamsError(
                f"params.yaml: {section}.{setting} names {name!r}, which is not a column of the events "
                f"({', '.join(schema.names)}); correct it."
            )
        kind = _values(schema.field(name).type)
        if setting == "embeds" and not _is_text(kind):
            raise ParamsError(
                f"params.yaml: {section}.embeds names {name!r}, which is {kind}; only text has sentence embeddings, so "
                "move it to reads."
            )
        if not (_is_text(kind) or _is_number(kind) or _is_time(kind) or _is_list(kind) or pa.types.is_boolean(kind)):
            raise ParamsError(
                f"params.yaml: {section}.reads names {name!r}, which is {kind}; a reader reads {KINDS}, so remove it."
            )


@dataclass(frozen=True)
class Texts:
    """What is read of rows.

    Attributes
    ----------
    columns : list of list of str
        A list per column whose words are read, each with a string per row: text as it is; of other values their words,
        with `SEPARATOR` between them.
    apart : list of bool
        Which columns are no text, so that their words are not taken apart.
    hashes : numpy.ndarray, uint64, (rows,)
        Of the values as they are; a word stands for many numbers.
    wholes : list of list of str
        The texts that are embedded, by column.
    vectors : numpy.ndarray, int8, (rows, columns of ``wholes`` times 384), or None
        Their embeddings, where they have been computed.
    words : (list of bool, Columns) or None
        How often each word stands in each row, where that was counted, and which columns were not taken apart for it.
    """

    columns: list[list[str]]
    apart: list[bool]
    hashes: npt.NDArray[np.uint64]
    wholes: list[list[str]]
    vectors: Vectors | None = None
    words: tuple[list[bool], Columns] | None = None

    @classmethod
    def of(cls, rows: pa.Table | pa.RecordBatch, reads: Sequence[str], embeds: Sequence[str] = ()) -> Texts:
        """The texts of these columns; null has no word."""
        read = [_words(rows.column(name)) for name in reads]
        wholes = [_whole(rows.column(name)) for name in embeds]
        apart = [not _is_text(_values(rows.schema.field(name).type)) for name in reads]
        return cls([words for words, _ in read], apart, hashes_of([*(values for _, values in read), *wholes]), wholes)

    def at(self, rows: Ints) -> Texts:
        """Those of some rows."""
        columns, wholes = ([[column[row] for row in rows] for column in part] for part in (self.columns, self.wholes))
        vectors = None if self.vectors is None else self.vectors[rows]
        words = self.words and (self.words[0], [counts[rows] for counts in self.words[1]])
        return replace(self, columns=columns, hashes=self.hashes[rows], wholes=wholes, vectors=vectors, words=words)

    def counted(self) -> Texts:
        """The same with their words counted, for rows that are read again and again."""
        apart = self.categories()
        return replace(self, words=(apart, word_counts(self.columns, apart)))

    def counts(self, apart: Sequence[bool]) -> Columns:
        """How often each word stands in each row; the words of columns that are ``apart`` are not taken apart."""
        if self.words is not None and self.words[0] == list(apart):
            return self.words[1]
        return word_counts(self.columns, apart)

    def loaded(self) -> Texts:
        """These: they are in memory."""
        return self

    def embedded(self, pieces: Cache | None = None) -> Texts:
        """The same with their embeddings, which are computed unless they lie in ``pieces``."""
        if self.vectors is not None:
            return self
        found = [vectors_of(column, pieces) for column in self.wholes]
        return replace(self, vectors=np.concatenate([np.zeros((len(self), 0), np.int8), *found], axis=1))

    @staticmethod
    def together(parts: Sequence[Texts]) -> Texts:
        """Those of all parts, in their order; one at least, all of which have their embeddings."""
        columns, wholes = (
            [[text for column in same for text in column] for same in zip(*found, strict=True)]
            for found in ([part.columns for part in parts], [part.wholes for part in parts])
        )
        vectors = np.concatenate([part.embedded().vectors for part in parts])
        return Texts(columns, parts[0].apart, np.concatenate([part.hashes for part in parts]), wholes, vectors)

    def categories(self) -> list[bool]:
        """Which columns have words that are not taken apart, if these rows are what a reader learns from."""
        found = []
        for column, apart in zip(self.columns, self.apart, strict=True):
            values = [text for text in column if text]
            distinct = set(values)
            few = 0 < len(distinct) <= min(VALUES, len(values) // ROWS_OF_VALUE)
            found.append(apart or (few and max(map(len, distinct)) <= LONGEST))
        return found

    def lengths(self) -> Ints:
        """The characters of each row."""
        found = np.zeros(len(self), np.int64)
        for column in (*self.columns, *self.wholes):
            found += np.fromiter(map(len, column), np.int64, len(self))
        return found

    def __len__(self) -> int:
        return len(self.hashes)


class Readable(Protocol):
    """Texts in memory, or where they lie."""

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """Of the values of each row."""
        ...

    def at(self, rows: Ints) -> Readable:
        """Those of some rows."""
        ...

    def lengths(self) -> Ints:
        """The characters of each row."""
        ...

    def loaded(self) -> Texts:
        """The texts themselves."""
        ...

    def __len__(self) -> int: ...


def _whole(column: pa.Array | pa.ChunkedArray) -> list[str]:
    found: list[str] = pc.fill_null(
        pc.utf8_slice_codeunits(column.cast(_values(column.type)), 0, EMBEDDED), ""
    ).to_pylist()
    return found


def _words(column: pa.Array | pa.ChunkedArray) -> tuple[list[str], list[str]]:
    """The words of each row, and what its value is."""
    kind = _values(column.type)
    if _is_text(kind):
        found = pc.fill_null(column.cast(kind), "").to_pylist()
        return found, found
    if pa.types.is_boolean(kind):
        found = ["" if value is None else "true" if value else "false" for value in column.to_pylist()]
        return found, found
    if _is_list(kind):
        found = [SEPARATOR.join(text for text in value or () if text) for value in column.to_pylist()]
        return found, found
    if _is_time(kind):
        return _time_words(column, kind), list(
            map(str, column.cast(pa.int64() if column.type.bit_width == 64 else pa.int32()).to_pylist())
        )
    values = pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy(zero_copy_only=False)
    return _number_words(values), list(map(str, values.tolist()))


def _time_words(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> list[str]:
    """The weekday and, where there is one, the hour of times, in UTC."""
    days = pc.strftime(column, format="%A")
    if pa.types.is_date(kind):
        found: list[str] = pc.fill_null(days, "").to_pylist()
        return found
    hours = pc.strftime(column, format="%H h")
    words = pc.fill_null(pc.binary_join_element_wise(days, hours, SEPARATOR), "")
    return list(words.to_pylist())


def _number_words(values: Floats) -> list[str]:
    """Numbers of one sign and half step between powers of two are one word; what is no number is none."""
    finite = np.isfinite(values) & (values != 0)
    steps = np.zeros(len(values), np.int64)
    # in letters and digits alone, so that sign and magnitude stay one word
    part, power = np.frexp(np.abs(values[finite]))
    steps[finite] = 2 * power.astype(np.int64) - 2 + (part > np.sqrt(0.5)) + 3000
    signs = np.where(values < 0, "minus", "plus")
    return [
        "" if np.isnan(value) else f"{sign}{step}" if known else "zero" if value == 0 else f"{sign}infinite"
        for value, sign, step, known in zip(values, signs, steps, finite, strict=True)
    ]


def _values(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_text(kind.value_type))


@dataclass(frozen=True)
class RowHashes:
    """Rows by what stands in them: hashes of their content, their characters, and their places in a partition."""

    hashes: npt.NDArray[np.uint64]
    characters: Ints
    rows: Ints

    @classmethod
    def of(cls, texts: Readable, rows: Ints) -> RowHashes:
        """The contents of rows at these places."""
        return cls(texts.hashes, texts.lengths(), rows)

    def at(self, places: Any) -> RowHashes:
        """Some of them."""
        return RowHashes(self.hashes[places], self.characters[places], self.rows[places])

    @staticmethod
    def together(parts: Sequence[RowHashes]) -> RowHashes:
        """Those of all parts, in their order; one at least."""
        fields = ("hashes", "characters", "rows")
        return RowHashes(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))

    def may_teach(self, classes: int, first: Bools) -> Ints:
        """Where those stand, in their order, among which `lowest` chooses if these are some of the rows that there are.

        ``first`` (rows,) are all that may come first.
        """
        others = np.flatnonzero(~first)
        low = others[np.argsort(self.hashes[others], kind="stable")[: ROWS // classes]]
        return np.sort(np.concatenate([np.flatnonzero(first), low]))

    def lowest(self, classes: int, first: Bools | None = None) -> Ints:
        """Where those stand that a reader learns from, in the order of their hashes; ``first`` (rows,) come first."""
        others = np.zeros(len(self.hashes), bool) if first is None else ~first
        order = np.lexsort((self.hashes, others))[: ROWS // classes]
        order = order[np.cumsum(self.characters[order]) <= CHARACTERS]
        return order[np.argsort(self.hashes[order], kind="stable")]
