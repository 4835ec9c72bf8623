"""How each expectation is computed: the facts that it needs, and how Great Expectations judges from them.

An expectation is planned by the metrics that the library says it needs, so that a subclass which needs the same ones
is planned alike. Whatever has no plan here is `Unsure`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks import gx
from weakfish.checks.expectations.conditions import columns_of, condition_of, family
from weakfish.checks.expectations.repeats import distinct, hashes, ordered, repeats
from weakfish.checks.expectations.table import ROW, CheckedTable, Found, PartitionFact, Unsure
from weakfish.contracts.verdicts import Rows

MOST_VALUES = 10_000
"""Distinct values of a column up to which expectations of them are judged here."""

_TYPES = ("column_values.of_type", "column_values.in_type_list")
_UNIQUE = ("column_values.unique", "compound_columns.unique")
_OF_SCHEMA = {"table.columns", "table.column_count", "table.column_types"}
_OF_VALUES = {
    f"column.distinct_values.{name}{count}"
    for name in ("not_in_set", "missing_from_column")
    for count in ("", ".count")
}
_NUMBERS = (pa.float64(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32())


class Judged(NamedTuple):
    """One expectation, judged by the library.

    Attributes
    ----------
    result
        The library's ``ExpectationValidationResult``.
    by_rows
        Whether the expectation is about rows, so that each row is good or bad.
    rows
        The bad rows, by partition.
    by_pandas
        Whether the library itself looked at all rows.
    """

    result: Any
    by_rows: bool
    rows: Mapping[str, Rows]
    by_pandas: bool = False


class Plan(NamedTuple):
    """What an expectation needs to know, and how it is judged when that is known; judging may raise `Unsure`."""

    facts: Sequence[PartitionFact]
    judge: Callable[[Found], Judged]


@contextmanager
def _in_library() -> Iterator[None]:
    """Whatever a project's own class raises, the library says better over pandas."""
    try:
        yield
    except Unsure:
        raise
    except Exception as error:
        raise Unsure(f"{type(error).__name__}: {error}") from error


class Planner:
    """Plans for the expectations of a suite over one table."""

    def __init__(self, table: CheckedTable) -> None:
        self.table, self.schema = table, table.schema
        self.engine = gx.engine_of(_typical(table.schema, ()))

    def plan(self, expectation: Any) -> Plan:
        """The plan of an expectation; raises `Unsure` when the engine does not know it."""
        if not gx.is_its_own(expectation):
            raise Unsure("code of the project's own")
        if getattr(expectation, "row_condition", None):
            raise Unsure("a row_condition")
        with _in_library():
            needed = gx.dependencies(expectation, self.engine)
        if not needed:
            raise Unsure("no metrics")
        domain, names = self._domain(needed.values()), set(needed)
        metric = getattr(expectation, "map_metric", None)
        if names == {"table.row_count"}:
            rows = {"table.row_count": self.table.rows}
            return Plan([], lambda _: Judged(self._given(expectation, rows), False, {}))
        if metric in _TYPES:
            return self._of_type(expectation, metric)
        if names <= _OF_SCHEMA:
            return self._of_schema(expectation)
        if metric in _UNIQUE:
            return self._unique(expectation, metric, columns_of(domain), domain.get("ignore_row_if"))
        if metric is not None:
            arguments = dict(needed[f"{metric}.unexpected_count"].metric_value_kwargs)
            return self._of_rows(expectation, metric, domain, arguments)
        column = domain["column"]
        if names <= {"column.min", "column.max"}:
            return self._reduced(expectation, column, _extremes(column), _ends)
        if names <= _OF_VALUES:
            return self._reduced(
                expectation, column, _counts(column), lambda parts, kind: _counted(parts, kind)["value"]
            )
        if names == {"column.most_common_value"}:
            return self._reduced(expectation, column, _counts(column), _most_common)
        return self._of_numbers(expectation, column, needed)

    def _domain(self, metrics: Any) -> dict[str, Any]:
        """What the metrics are about; raises `Unsure` unless that is whole columns of this table."""
        found: dict[str, Any] = {}
        for metric in metrics:
            found |= {name: value for name, value in metric.metric_domain_kwargs.items() if value is not None}
        found.pop("batch_id", None)
        found.pop("condition_parser", None)
        if set(found) - {"column", "column_A", "column_B", "column_list", "ignore_row_if"}:
            raise Unsure(f"rows chosen by {sorted(found)}")
        for name in columns_of(found):
            self._require(name)
        return found

    def _require(self, column: str) -> None:
        known = [name.casefold() for name in self.schema.names]  # DuckDB does not tell a from A
        if column not in self.schema.names or known.count(column.casefold()) != 1:
            raise Unsure(f"no column {column!r}, or several")

    def _given(self, expectation: Any, metrics: Mapping[str, Any], engine: Any = None) -> Any:
        engine = engine or self.engine
        with _in_library():
            needed = gx.dependencies(expectation, engine)
            return gx.judge(expectation, engine, {metric.id: metrics[name] for name, metric in needed.items()})

    def _of_schema(self, expectation: Any) -> Plan:
        column = str(getattr(expectation, "column", None))
        facts = []
        if column in self.schema.names:
            self._require(column)
            facts = [_nulls(column)]

        def judge(found: Found) -> Judged:
            with_nulls = [column for fact in facts if _total(found, fact)]
            result, _ = gx.judge_by_pandas(expectation, _typical(self.schema, with_nulls))
            return Judged(result, gx.is_by_rows(expectation), {})

        return Plan(facts, judge)

    def _reduced(
        self,
        expectation: Any,
        column: str,
        fact: PartitionFact,
        reduce: Callable[[list[pa.Scalar], pa.DataType], pa.ChunkedArray],
    ) -> Plan:
        """The library over pandas finds in a few values, and a null if there is any, what it would find in all."""
        kind = self.schema.field(column).type
        if family(kind) == "other":
            raise Unsure(f"values of {kind}")

        def judge(found: Found) -> Judged:
            values = reduce([part for part in _sure(found, fact).values() if part.is_valid], kind).chunks
            missing = [pa.nulls(1, kind)] if _total(found, _nulls(column)) else []
            result, _ = gx.judge_by_pandas(expectation, pa.table({column: pa.chunked_array([*values, *missing], kind)}))
            return Judged(result, False, {})

        return Plan([fact, _nulls(column)], judge)

    def _of_numbers(self, expectation: Any, column: str, needed: Iterable[str]) -> Plan:
        kind = self.schema.field(column).type
        nulls = _nulls(column)
        numbers = {name: _number(name, column, kind) for name in needed}

        def judge(found: Found) -> Judged:
            values, missing = {}, _total(found, nulls)
            for name, (fact, value, on_nothing) in numbers.items():
                if missing == self.table.rows and not on_nothing:
                    nothing = pa.table({column: pa.nulls(min(self.table.rows, 2), kind)})
                    return Judged(gx.judge_by_pandas(expectation, nothing)[0], False, {})
                values[name] = value(_sure(found, fact), self.table.rows, missing)
            return Judged(self._given(expectation, values), False, {})

        return Plan([nulls, *(fact for fact, _, _ in numbers.values())], judge)

    def _of_type(self, expectation: Any, metric: str) -> Plan:
        """All values of a column have the same type, so one tells."""
        column = expectation.column
        self._require(column)
        kind = self.schema.field(column).type
        if family(kind) == "other":
            raise Unsure(f"the type {kind}")
        nulls, present = _nulls(column), self._condition("column_values.null", {"column": column}, {})

        def judge(found: Found) -> Judged:
            missing = _total(found, nulls)
            table = _typical(self.schema, [column] if missing else []).select([column])
            result, bad = gx.judge_by_pandas(expectation, table)
            if "element_count" not in result.result:  # the type alone says it
                return Judged(result, True, {})
            engine = gx.engine_of(table)
            of = _Bad({}, self.table.rows - missing, None)
            if bad:
                of = _bad(self.table.facts(present), present)
            return self._judged_rows(expectation, metric, [column], found, of, engine)

        return Plan([nulls], judge)

    def _of_rows(self, expectation: Any, metric: str, domain: Mapping[str, Any], arguments: Mapping[str, Any]) -> Plan:
        facts = self._condition(metric, domain, arguments)
        columns = columns_of(domain)

        def judge(found: Found) -> Judged:
            return self._judged_rows(expectation, metric, columns, found, _bad(found, facts))

        return Plan([*facts, *map(_nulls, columns)], judge)

    def _condition(self, metric: str, domain: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[PartitionFact]:
        """Of a row-level condition: how many rows it is about, which of them are bad, and the first ones' values."""
        columns = columns_of(domain)
        verdict = condition_of(metric, domain, arguments, self.schema)
        asked = {name: _stable(value) for name, value in arguments.items() if name != "result_format"}
        name = f"{metric} {sorted(domain.items())!r} {sorted(asked.items())!r}"

        def first(rows: ir.Table) -> ir.Value:
            values = ibis.struct({f"c{place}": rows[column] for place, column in enumerate(columns)})
            return _first(values, rows[ROW], where=verdict(rows)[1])

        return [
            PartitionFact(f"{name} considered", columns, lambda rows: rows.count(where=verdict(rows)[0])),
            PartitionFact(f"{name} bad", columns, lambda rows: rows[ROW].collect(where=verdict(rows)[1]), ordered),
            PartitionFact(f"{name} first", columns, first),
        ]

    def _unique(self, expectation: Any, metric: str, columns: Sequence[str], rule: str | None) -> Plan:
        kinds = [self.schema.field(name).type for name in columns]
        if any(family(kind) == "other" for kind in kinds):
            raise Unsure(f"equal values of {kinds}")
        ignore = rule or "all_values_are_missing"
        fact = hashes(columns, ignore)

        def judge(found: Found) -> Judged:
            parts = _sure(found, fact)
            again = repeats(self.table, columns, ignore, parts)
            owners, places = again["part"].to_numpy(), again[ROW].to_numpy()
            rows = {part: places[owners == number] for number, part in enumerate(parts)}
            first = again.slice(0, gx.EXAMPLES)
            of = _Bad(rows, sum(map(len, parts.values())), first.drop(["part", ROW]) if first.num_rows else None)
            return self._judged_rows(expectation, metric, columns, found, of)

        return Plan([fact, *map(_nulls, columns)], judge)

    def _judged_rows(
        self, expectation: Any, metric: str, columns: Sequence[str], found: Found, of: _Bad, engine: Any = None
    ) -> Judged:
        """Judge by all metrics that a row-level expectation may need."""
        rows = {part: places for part, places in of.rows.items() if len(places)}
        nulls = [_total(found, _nulls(column)) for column in columns]
        values = self._examples(columns, nulls, of.first)
        if metric.startswith("column_values"):
            shown: list[Any] = [value for (value,) in values]
        elif metric.startswith("column_pair"):
            shown = values
        else:
            shown = [dict(zip(columns, row, strict=True)) for row in values]
        first = [
            row for part, places in rows.items() for row in (places[: gx.EXAMPLES] + self.table.starts[part]).tolist()
        ]
        bad = sum(map(len, rows.values()))
        metrics = {
            "table.row_count": self.table.rows,
            "column_values.nonnull.unexpected_count": nulls[0],
            f"{metric}.filtered_row_count": of.considered,
            f"{metric}.unexpected_count": bad,
            f"{metric}.unexpected_values": shown[:bad],
            f"{metric}.unexpected_index_list": first[: gx.EXAMPLES],
            f"{metric}.unexpected_index_query": None,
        }
        if engine is not None:
            metrics["table.column_types"] = gx.column_types(engine)
        return Judged(self._given(expectation, metrics, engine), True, rows)

    def _examples(self, columns: Sequence[str], nulls: Sequence[int], rows: pa.Table | None) -> list[tuple[Any, ...]]:
        """The values of the first bad rows, as the library has them of pandas."""
        if rows is None:
            return []
        series = []
        for place, (name, missing) in enumerate(zip(columns, nulls, strict=True)):
            kind = self.schema.field(name).type
            chunks = [chunk.cast(kind) for chunk in rows.column(place).chunks]
            chunks += [pa.nulls(1, kind)] if missing else []  # what pandas makes of a column with nulls
            series.append(list(pa.chunked_array(chunks, kind).to_pandas()[: rows.num_rows]))
        return list(zip(*series, strict=True))


class _Bad(NamedTuple):
    """Bad rows by partition, how many rows were looked at, and the values of the first bad ones."""

    rows: Mapping[str, Rows]
    considered: int
    first: pa.Table | None


def _bad(found: Found, facts: Sequence[PartitionFact]) -> _Bad:
    considered, bad, first = (_sure(found, fact) for fact in facts)
    known = [value.values for value in first.values() if value.is_valid]
    table = None
    if known:
        values = pa.chunked_array(known).combine_chunks().slice(0, gx.EXAMPLES)
        table = pa.Table.from_arrays(values.flatten(), [field.name for field in values.type])
    return _Bad(bad, sum(value.as_py() for value in considered.values()), table)


def _sure(found: Found, fact: PartitionFact) -> Mapping[str, Any]:
    for value in found[fact.identity].values():
        if isinstance(value, Unsure):
            raise value
    return found[fact.identity]


def _total(found: Found, fact: PartitionFact) -> int:
    return sum(value.as_py() for value in _sure(found, fact).values())


def _typical(schema: pa.Schema, with_nulls: Iterable[str]) -> pa.Table:
    """Two rows with the types that pandas has for all: those of whole numbers and truth values hang on nulls."""
    missing = set(with_nulls)
    return pa.Table.from_arrays([_some(of.type, of.name in missing) for of in schema], schema=schema)


def _some(kind: pa.DataType, with_null: bool) -> pa.Array:
    values: dict[str, object] = {"int": 0, "float": 0.0, "text": "", "bool": False}
    of = family(kind)
    if of in ("time", "day"):
        return pa.array([0, None if with_null else 0], pa.int64() if of == "time" else pa.int32()).cast(kind)
    return pa.array([values[of], None if with_null else values[of]], kind) if of in values else pa.nulls(2, kind)


def _nulls(column: str) -> PartitionFact:
    return PartitionFact("nulls", [column], lambda rows: rows.count(where=rows[column].isnull()))


def _extremes(column: str) -> PartitionFact:
    return PartitionFact("extremes", [column], lambda rows: ibis.array([rows[column].min(), rows[column].max()]))


def _counts(column: str) -> PartitionFact:
    def histogram(_: Any) -> None: ...

    def of(rows: ir.Table) -> ir.Value:
        kind = rows[column].type()
        return ibis.udf.agg.builtin(histogram, signature=((kind,), f"map<{kind}, int64>"))(rows[column])

    return PartitionFact("counts", [column], of)


def _first(values: ir.Value, place: ir.Value, where: ir.BooleanValue) -> ir.Value:
    """The values of the rows that stand first, in order."""

    def min_by(_value: Any, _place: Any, _number: Any) -> None: ...

    signature = ((values.type(), "int64", "int64"), ibis.dtype("array<int64>").copy(value_type=values.type()))
    return ibis.udf.agg.builtin(min_by, signature=signature)(values, place, gx.EXAMPLES, where=where)


def _ends(parts: list[pa.Scalar], kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([part.values.drop_null().cast(kind) for part in parts], kind)


def _counted(parts: list[pa.Scalar], kind: pa.DataType) -> pa.Table:
    """How often each value stands in all partitions."""
    entries = [part.values.flatten() for part in parts]
    columns = [pa.chunked_array([of[n].cast(to) for of in entries], to) for n, to in enumerate((kind, pa.int64()))]
    counts = pa.table(columns, ["value", "count"]).group_by("value", use_threads=False).aggregate([("count", "sum")])
    if counts.num_rows > MOST_VALUES:
        raise Unsure(f"more than {MOST_VALUES} distinct values")
    return counts


def _distinct(parts: list[pa.Scalar], kind: pa.DataType) -> pa.ChunkedArray:
    return _counted(parts, kind)["value"]


def _most_common(parts: list[pa.Scalar], kind: pa.DataType) -> pa.ChunkedArray:
    counts = _counted(parts, kind)
    return counts["value"].filter(pc.equal(counts["count_sum"], pc.max(counts["count_sum"])))


# Metrics of a column that are numbers: the fact that each follows from; how, given that of all partitions, the rows of
# the table and the nulls of the column; and whether it has a value where the column has none.

_Number = tuple[PartitionFact, Callable[[Mapping[str, Any], int, int], Any], bool]


def _number(metric: str, column: str, kind: pa.DataType) -> _Number:
    of = family(kind)
    if metric == "column.non_null_proportion":
        return _nulls(column), lambda _, rows, nulls: _share(rows - nulls, rows), True
    if metric == "column.distinct_values.count" and of != "other":
        return hashes([column], "any_value_is_missing"), lambda parts, *_: distinct(parts), True
    if metric == "column.unique_proportion" and of != "other":
        share = lambda parts, rows, nulls: _share(distinct(parts), rows - nulls)  # noqa: E731
        return hashes([column], "any_value_is_missing"), share, True
    if metric in ("column.mean", "column.sum") and (kind in _NUMBERS or kind == pa.bool_()):

        def summed(parts: Mapping[str, Any], rows: int, nulls: int) -> Any:
            if nulls and of == "bool":
                raise Unsure(f"{metric} of truth values beside nulls")  # to pandas they are objects
            return _summed(metric, list(parts.values()), of != "float", rows, nulls)

        return PartitionFact("sum", [column], lambda rows: _number_of(rows[column]).collect(), _sum), summed, False
    if metric == "column.standard_deviation" and kind in _NUMBERS:
        squares = PartitionFact("squares", [column], lambda rows: _number_of(rows[column]).collect(), _squares)
        return squares, lambda parts, *_: _deviation(list(parts.values())), False
    raise Unsure(f"the metric {metric} of {kind}")


def _number_of(value: Any) -> ir.Value:
    return value.cast("float64" if value.type().is_floating() else "int64")


def _sum(value: pa.Scalar) -> pa.Scalar:
    """The sum of numbers, as text, whatever their order: Python adds without rounding, DuckDB does not."""
    return pa.scalar(json.dumps(_exact_sum(_listed(value))))


def _squares(value: pa.Scalar) -> pa.Scalar:
    """Count, mean, and squared differences from the mean, as text."""
    values = _listed(value)
    mean = _exact_sum(values) / max(len(values), 1)
    return pa.scalar(json.dumps([len(values), mean, _exact_sum((values - mean) ** 2)]))


def _listed(value: pa.Scalar) -> npt.NDArray[Any]:
    return np.array([]) if value.values is None else value.values.to_numpy(zero_copy_only=False)


def _exact_sum(values: npt.NDArray[Any]) -> int | float:
    if values.dtype.kind == "i":
        largest = max(abs(int(values.min())), abs(int(values.max())))
        return int(values.sum()) if largest * len(values) < 2**62 else sum(values.tolist())
    total = math.fsum(values) if np.isfinite(values).all() else math.inf
    if not math.isfinite(total):
        raise Unsure("numbers without an end")
    return total


def _summed(metric: str, parts: Sequence[pa.Scalar], whole: bool, rows: int, nulls: int) -> float | int:
    sums = [json.loads(part.as_py()) for part in parts]
    total = sum(map(int, sums)) if whole else math.fsum(sums)
    if metric == "column.mean":
        return float(total / (rows - nulls))
    if whole and abs(total) >= 2**63:
        raise Unsure("a sum beyond 64 bits")
    return total if whole and not nulls else float(total)


def _deviation(parts: Sequence[pa.Scalar]) -> float:
    """Chan, Golub and LeVeque (1983) say how the squares of partitions add up."""
    count, mean, squares = 0, 0.0, 0.0
    for more, its_mean, its_squares in (json.loads(part.as_py()) for part in parts):
        if more:
            apart = its_mean - mean
            squares += its_squares + apart**2 * count * more / (count + more)
            mean += apart * more / (count + more)
            count += more
    return math.sqrt(squares / (count - 1)) if count > 1 else math.nan


def _share(part: int, whole: int) -> float | int:
    return part / whole if whole else 0


def _stable(value: Any) -> str:
    """A text that stands for an argument, the same in each process."""
    return repr(sorted(map(repr, value))) if isinstance(value, set | frozenset) else repr(value)
