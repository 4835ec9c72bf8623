"""Tables that labeling functions look values up in: block lists and gazetteers, as CSV, Parquet or Arrow.

A table comes in as a file beside the labeling functions and leaves as one Ibis table of keys for each class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ibis.expr.operations as ops
import ibis.expr.schema as sch
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
from ibis.formats.pyarrow import PyArrowTableProxy

from weakfish.errors import LabelingFunctionError
from weakfish.labeling.votes_file import ABSTAIN
from weakfish.tables import read_partition

KEY = "key"
"""The column of the tables that leave here."""

LABEL = "label"

_TABLES: dict[str, ir.Table] = {}


class LookupTable:
    """Keys and the class that each stands for.

    Parameters
    ----------
    table
        Columns ``key`` (any type that Arrow can cast to the events' column) and, in a gazetteer, ``classes``.
    key, classes
        Names of these columns.
    labels
        The class of all keys; or the class of each value of ``classes``, `ABSTAIN` for values that say nothing.
    where
        Names the table in errors.

    Raises
    ------
    LabelingFunctionError
        When a column is missing, a value has no label, or a key stands in the table with two labels.
    """

    def __init__(self, table: pa.Table, key: str, classes: str, labels: int | Mapping[Any, int], where: str) -> None:
        self.where = where
        wanted = [key] if isinstance(labels, int) else [key, classes]
        missing = [name for name in wanted if name not in table.column_names]
        if missing:
            raise LabelingFunctionError(
                f"{where} has no column {', '.join(missing)}; it has {', '.join(table.column_names)}. "
                "Name them in its first line, or say which they are with key= and classes=."
            )
        numbers = pa.repeat(labels, len(table)) if isinstance(labels, int) else self._numbers(table[classes], labels)
        known = pa.table({KEY: table[key], LABEL: pa.chunked_array([numbers.cast(pa.int64())])})
        self._rows = known.filter(pc.and_(pc.is_valid(known[KEY]), pc.not_equal(known[LABEL], ABSTAIN)))
        self._labels = [labels] if isinstance(labels, int) else sorted(set(labels.values()) - {ABSTAIN})
        self._by_type: dict[pa.DataType, dict[int, ir.Table]] = {}
        self._refuse_two_labels(self._rows)

    def keys(self, kind: pa.DataType) -> dict[int, ir.Table]:
        """For each label the table of its keys, one column ``key`` of type ``kind``; raises `LabelingFunctionError`."""
        if kind not in self._by_type:
            rows = self._cast(kind)
            self._refuse_two_labels(rows)
            self._by_type[kind] = {
                label: _in_memory(pc.unique(rows.filter(pc.equal(rows[LABEL], label))[KEY]).sort())
                for label in self._labels
            }
        return self._by_type[kind]

    def _cast(self, kind: pa.DataType) -> pa.Table:
        try:
            return pa.table({KEY: self._rows[KEY].cast(kind), LABEL: self._rows[LABEL]})
        except pa.ArrowInvalid as error:
            raise LabelingFunctionError(
                f"{self.where} has keys that are not {kind}, the type of the column that is looked up ({error}); "
                "correct them there."
            ) from error

    def _numbers(self, values: pa.ChunkedArray, labels: Mapping[Any, int]) -> pa.Array:
        unnamed = [value for value in values.unique().to_pylist() if value not in labels]
        if unnamed:
            raise LabelingFunctionError(
                f"{self.where} has the class {unnamed[0]!r}, for which no label is given; "
                f"the labels name {', '.join(map(repr, labels))}. Map it to a class, or to ABSTAIN (-1)."
            )
        encoded = values.combine_chunks().dictionary_encode()
        return pa.array([labels[value] for value in encoded.dictionary.to_pylist()]).take(encoded.indices)

    def _refuse_two_labels(self, rows: pa.Table) -> None:
        found = rows.group_by(KEY).aggregate([(LABEL, "min"), (LABEL, "max")])
        twice = found.filter(pc.not_equal(found[f"{LABEL}_min"], found[f"{LABEL}_max"])).sort_by(KEY)
        if twice.num_rows:
            raise LabelingFunctionError(
                f"{self.where} has {twice[KEY][0].as_py()!r} with two classes"
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
    if file.suffix == ".csv":
        return _read_csv(file), str(table)
    raise LabelingFunctionError(f"{table} is neither .csv nor .parquet; save it as one of them.")


def _read_csv(file: Path) -> pa.Table:
    try:
        with csv.open_csv(file) as reader:
            names = reader.schema.names
        return csv.read_csv(file, convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())))
    except pa.ArrowInvalid as error:
        raise LabelingFunctionError(f"{file} is not readable CSV ({error}); correct it there.") from error


def _in_memory(keys: pa.Array) -> ir.Table:
    """The keys as an Ibis table named by their content: the same keys make the same expression in every process."""
    table = pa.table({KEY: keys})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return _shared(f"lookup_{hashlib.sha256(sink.getvalue()).hexdigest()}", table)


def _shared(name: str, table: pa.Table) -> ir.Table:
    """One object for each content: Ibis refuses two tables in memory that share a name."""
    if name not in _TABLES:
        _TABLES[name] = ops.InMemoryTable(name=name, schema=sch.infer(table), data=PyArrowTableProxy(table)).to_expr()
    return _TABLES[name]
