"""How each expectation is computed: the facts that it needs, and how the library judges from them.

An expectation is planned by the metrics that the library says it needs, so that a subclass which needs the same ones
is planned alike. Whatever has no plan here is `Unsure`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from weakfish.checks import gx
from weakfish.checks.expectations import facts, frames, summaries, unique
from weakfish.checks.expectations.conditions import columns_of, condition_of
from weakfish.checks.expectations.counted import counted
from weakfish.checks.expectations.facts import Fact, Spec
from weakfish.checks.expectations.kinds import Unsure, family
from weakfish.checks.expectations.numbers import number
from weakfish.checks.expectations.outcome import Judged
from weakfish.checks.expectations.scan import Found, Scan, total
from weakfish.contracts.verdicts import Rows as Positions

_IGNORE_NULLS = "all_values_are_missing"

_TYPES = ("column_values.of_type", "column_values.in_type_list")
_UNIQUE = ("column_values.unique", "compound_columns.unique")
_OF_SCHEMA = {"table.columns", "table.column_count", "table.column_types"}
_OF_ENDS = {"column.min", "column.max"}
_OF_VALUES = {
    f"column.distinct_values.{name}{count}"
    for name in ("not_in_set", "missing_from_column")
    for count in ("", ".count")
}


@dataclass(frozen=True)
class Plan:
    """What an expectation needs to know, and how it is judged when that is known; judging may raise `Unsure`."""

    specs: Sequence[Spec]
    judge: Callable[[Found], Judged]


@dataclass
class Planner:
    """Plans for the expectations of a suite over one table."""

    scan: Scan

    def __post_init__(self) -> None:
        self.schema = self.scan.source.schema
        self.rows = self.scan.source.rows
        self.engine = gx.engine_of(frames.typical(self.schema, ()))

    def plan(self, expectation: Any) -> Plan:
        """The plan of an expectation; raises `Unsure` when the engine does not know it."""
        if not gx.is_its_own(expectation):
            raise Unsure("code of the project's own")
        if getattr(expectation, "row_condition", None):
            raise Unsure("a row_condition")
        needed = self._needed(expectation, self.engine)
        if not needed:
            raise Unsure("no metrics")
        domain = self._domain(needed.values())
        names = set(needed)
        if names == {"table.row_count"}:
            return Plan([], lambda _: Judged(self._given(expectation, {"table.row_count": self.rows}), False, {}))
        metric = getattr(expectation, "map_metric", None)
        if metric in _TYPES:
            return self._of_type(expectation, metric)
        if names <= _OF_SCHEMA:
            return self._of_schema(expectation)
        if metric is not None:
            arguments = dict(needed[f"{metric}.unexpected_count"].metric_value_kwargs)
            return self._of_rows(expectation, metric, domain, arguments)
        if names <= _OF_ENDS:
            return self._reduced(expectation, summaries.Extremes(domain["column"]), frames.extremes)
        if names <= _OF_VALUES:
            return self._reduced(expectation, summaries.Values(domain["column"]), frames.distinct)
        if names == {"column.most_common_value"}:
            return self._reduced(expectation, summaries.Values(domain["column"]), frames.most_common)
        return self._of_numbers(expectation, domain["column"], needed)

    @staticmethod
    def _needed(expectation: Any, engine: Any) -> dict[str, Any]:
        try:
            return gx.dependencies(expectation, engine)
        except Exception as error:  # whatever a project's own class raises, the library says it better
            raise Unsure(f"{type(error).__name__}: {error}") from error

    def _domain(self, metrics: Any) -> dict[str, Any]:
        """What the metrics are about; raises `Unsure` unless that is whole columns of this table."""
        found: dict[str, Any] = {}
        for metric in metrics:
            found |= {name: value for name, value in metric.metric_domain_kwargs.items() if value is not None}
        found.pop("batch_id", None)
        found.pop("condition_parser", None)
        if set(found) - {"column", "column_A", "column_B", "column_list", "ignore_row_if"}:
            raise Unsure(f"rows chosen by {sorted(found)}")
        return self._known(found)

    def _known(self, domain: dict[str, Any]) -> dict[str, Any]:
        missing = [name for name in columns_of(domain) if self.schema.names.count(name) != 1]
        if missing:
            raise Unsure(f"no column {missing[0]!r}")
        return domain

    def _given(self, expectation: Any, metrics: Mapping[str, Any], engine: Any = None) -> Any:
        engine = engine or self.engine
        try:
            needed = self._needed(expectation, engine)
            values = {metric.id: metrics[name] for name, metric in needed.items()}
            return gx.judge(expectation, engine, values)
        except Unsure:
            raise
        except Exception as error:  # as above
            raise Unsure(f"{type(error).__name__}: {error}") from error

    def _of_schema(self, expectation: Any) -> Plan:
        column = str(getattr(expectation, "column", None))
        specs = [facts.Nulls(column)] if column in self.schema.names else []

        def judge(found: Found) -> Judged:
            with_nulls = [spec.column for spec in specs if _nulls(total(spec, found[spec.identity]))]
            result, _ = gx.judge_by_pandas(expectation, frames.typical(self.schema, with_nulls))
            return Judged(result, gx.is_by_rows(expectation), {})

        return Plan(specs, judge)

    def _reduced(self, expectation: Any, spec: facts.Nulls, reduce: Callable[..., pa.Table]) -> Plan:
        kind = self.schema.field(spec.column).type
        if family(kind) == "other":
            raise Unsure(f"values of {kind}")

        def judge(found: Found) -> Judged:
            table = reduce(spec.column, kind, total(spec, found[spec.identity]))
            result, _ = gx.judge_by_pandas(expectation, table)
            return Judged(result, False, {})

        return Plan([spec], judge)

    def _of_numbers(self, expectation: Any, column: str, needed: Mapping[str, Any]) -> Plan:
        kind = self.schema.field(column).type
        numbers = {name: number(name, column, kind, metric.metric_value_kwargs) for name, metric in needed.items()}

        def judge(found: Found) -> Judged:
            values = {}
            for name, wanted in numbers.items():
                parts = found[wanted.spec.identity]
                if not wanted.on_nothing and self.rows - sum(_nulls(fact.sure()) for fact in parts.values()) == 0:
                    result, _ = gx.judge_by_pandas(expectation, frames.nothing(column, kind, self.rows))
                    return Judged(result, False, {})
                values[name] = wanted.value(parts, self.rows)
            return Judged(self._given(expectation, values), False, {})

        return Plan([wanted.spec for wanted in numbers.values()], judge)

    def _of_type(self, expectation: Any, metric: str) -> Plan:
        """All values of a column have the same type, so one tells."""
        column = expectation.column
        domain = self._known({"column": column})
        kind = self.schema.field(column).type
        if family(kind) == "other":
            raise Unsure(f"the type {kind}")
        present = facts.Rows(
            f"present {column!r}", [column], condition_of("column_values.null", domain, {}, self.schema)
        )
        spec = facts.Nulls(column)

        def judge(found: Found) -> Judged:
            nulls = _nulls(total(spec, found[spec.identity]))
            table = frames.typical(self.schema, [column] if nulls else []).select([column])
            result, bad = gx.judge_by_pandas(expectation, table)
            if "element_count" not in result.result:  # the type alone says it
                return Judged(result, True, {})
            parts = {"": Fact({"nulls": [nulls], "considered": self.rows - nulls})}
            if bad:
                parts = self.scan.facts([present])[present.identity]
            rows = {part: _positions(fact) for part, fact in parts.items() if len(_positions(fact))}
            engine = gx.engine_of(table)
            values = counted(self.scan.source, metric, [column], parts, rows, list(parts.values()))
            values["table.column_types"] = gx.column_types(engine)
            return Judged(self._given(expectation, values, engine), True, rows)

        return Plan([spec], judge)

    def _of_rows(self, expectation: Any, metric: str, domain: Mapping[str, Any], arguments: Mapping[str, Any]) -> Plan:
        columns = columns_of(domain)
        if metric in _UNIQUE:
            return self._unique(expectation, metric, columns, domain.get("ignore_row_if", _IGNORE_NULLS))
        asked = {name: value for name, value in arguments.items() if name != "result_format"}
        identity = f"{metric} {sorted(domain.items())!r} {sorted((k, _stable(v)) for k, v in asked.items())!r}"
        spec = facts.Rows(identity, columns, condition_of(metric, domain, arguments, self.schema))

        def judge(found: Found) -> Judged:
            parts = {part: fact.sure() for part, fact in found[spec.identity].items()}
            rows = {part: _positions(fact) for part, fact in parts.items() if len(_positions(fact))}
            values = counted(self.scan.source, metric, columns, parts, rows, list(parts.values()))
            return Judged(self._given(expectation, values), True, rows)

        return Plan([spec], judge)

    def _unique(self, expectation: Any, metric: str, columns: Sequence[str], ignore: str) -> Plan:
        kinds = [self.schema.field(name).type for name in columns]
        if any(family(kind) == "other" for kind in kinds):
            raise Unsure(f"equal values of {kinds}")
        spec = facts.Hashes(tuple(columns), ignore)

        def judge(found: Found) -> Judged:
            parts = {part: fact.sure() for part, fact in found[spec.identity].items()}
            again = unique.repeats(self.scan, spec, parts)
            values = counted(self.scan.source, metric, columns, parts, again.rows, [Fact({}, table=again.examples)])
            return Judged(self._given(expectation, values), True, again.rows)

        return Plan([spec], judge)


def _nulls(fact: Fact) -> int:
    found = fact.numbers["nulls"]
    return int(found[0]) if isinstance(found, list) else int(found)


def _positions(fact: Fact) -> Positions:
    return np.array([], np.int64) if fact.array is None else fact.array


def _stable(value: Any) -> str:
    """A text that stands for an argument, the same in each process."""
    return repr(sorted(map(repr, value))) if isinstance(value, set | frozenset) else repr(value)
