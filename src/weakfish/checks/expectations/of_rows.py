"""What must hold between the columns of a row: a metric's arguments in, a mask of the good rows out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.expectations.kinds import is_number, need, numbers
from weakfish.checks.expectations.source import Batch, Mask, as_mask

_MOST_SUMMED = 7
"""Columns that are added in the order in which they stand; of more, NumPy adds in another."""


Holds = Callable[[Batch], Mask]
"""In which rows of a batch it holds."""


def _comparison(test: Any, names: Sequence[str], kinds: Sequence[str], schema: pa.Schema) -> Holds:
    """A comparison of two columns; null on either side is False."""
    types = [schema.field(name).type for name in names]
    numeric = set(kinds) <= {"int", "float"}
    need(numeric or (types[0] == types[1] and kinds[0] in ("text", "time", "bool")), f"{types[0]} with {types[1]}")
    whole = set(kinds) == {"int"} and pa.uint64() not in types

    def holds(batch: Batch) -> Mask:
        left, right = (batch.column(name) for name in names)
        if numeric:
            left, right = numbers(left, whole), numbers(right, whole)
        return as_mask(test(left, right))

    return holds


def _greater(names: Sequence[str], kinds: Sequence[str], schema: pa.Schema, arguments: Mapping[str, Any]) -> Holds:
    need("bool" not in kinds, "an order of truth values")
    return _comparison(pc.greater_equal if arguments.get("or_equal") else pc.greater, names, kinds, schema)


def _equal(names: Sequence[str], kinds: Sequence[str], schema: pa.Schema, _: Mapping[str, Any]) -> Holds:
    return _comparison(pc.equal, names, kinds, schema)


def _pair_in_set(names: Sequence[str], kinds: Sequence[str], _: pa.Schema, arguments: Mapping[str, Any]) -> Holds:
    need(set(kinds) <= {"int", "float", "text", "bool"} and arguments.get("value_pairs_set") is not None, "pairs")
    pairs = {(left, right) for left, right in arguments["value_pairs_set"]}

    def holds(batch: Batch) -> Mask:
        codes = [batch.column(name).dictionary_encode(null_encoding="encode") for name in names]
        left, right = (column.indices.to_numpy().astype(np.int64) for column in codes)
        distinct, place = np.unique(left * (len(codes[1].dictionary) + 1) + right, return_inverse=True)
        values = [column.dictionary.to_pylist() for column in codes]
        size = len(values[1]) + 1
        found = [(values[0][code // size], values[1][code % size]) in pairs for code in distinct.tolist()]
        return np.array(found, np.bool_)[place]

    return holds


def _unlike_each_other(names: Sequence[str], kinds: Sequence[str], schema: pa.Schema, _: Mapping[str, Any]) -> Holds:
    need(set(kinds) <= {"int", "float"} or set(kinds) == {"text"}, "columns of several types")
    equal = [_comparison(pc.equal, pair, kinds, schema) for pair in combinations(names, 2)]

    def holds(batch: Batch) -> Mask:
        nulls = np.sum([~batch.present(name) for name in names], axis=0)
        same = [test(batch) for test in equal]
        return np.asarray((nulls < 2) & ~np.any([np.zeros(batch.rows, np.bool_), *same], axis=0))

    return holds


def _sum_is(names: Sequence[str], kinds: Sequence[str], schema: pa.Schema, arguments: Mapping[str, Any]) -> Holds:
    total = arguments.get("sum_total")
    doubles = all(schema.field(name).type in (pa.float64(), pa.int64(), pa.int32()) for name in names)
    need(doubles and is_number(total) and len(names) <= _MOST_SUMMED, "a sum of other columns")
    whole = set(kinds) == {"int"}

    def holds(batch: Batch) -> Mask:
        found = numbers(batch.column(names[0]), whole)
        for name in names[1:]:
            found = pc.add(found, numbers(batch.column(name), whole))
        return as_mask(pc.equal(found, pa.scalar(total)))

    return holds


OF_ROWS = {
    "column_pair_values.a_greater_than_b": _greater,
    "column_pair_values.equal": _equal,
    "column_pair_values.in_set": _pair_in_set,
    "select_column_values.unique.within_record": _unlike_each_other,
    "multicolumn_sum.equal": _sum_is,
}
