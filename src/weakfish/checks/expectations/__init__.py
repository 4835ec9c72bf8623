"""Runs a suite over a table, given by its partitions; each result of the library becomes a check of the common form."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from weakfish.checks import gx
from weakfish.checks.expectations.plans import Judged, Plan, Planner
from weakfish.checks.expectations.table import CheckedTable, Unsure
from weakfish.contracts.tables import totals
from weakfish.contracts.verdicts import NOT_HELD, Check, Severity, Status
from weakfish.project.cache import Cache

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

DIGITS = 12
"""Significant digits of observed numbers: those that do not depend on the order in which doubles are added."""


class SuiteOutcome(NamedTuple):
    """A suite run over a table.

    Attributes
    ----------
    checks
        One per expectation, by name.
    results
        The library's own result of each, with at most 20 values of bad rows; no clock, no id.
    by_pandas
        The checks, by name, that the engine does not know: the library computed them over pandas.
    """

    checks: list[Check]
    results: list[Any]
    by_pandas: list[str]


Ahead = Callable[[CheckedTable, Sequence[str]], None]
"""What is called with a table and those of its partitions of which the cache lacks facts, before they are asked for."""


def run(
    name: str, expectations: Sequence[Any], files: Mapping[str, Path], cache: Cache, ahead: Ahead | None = None
) -> SuiteOutcome:
    """Run the suite ``name`` over the rows of ``files``, by partition; ``cache`` remembers partitions as they are.

    ``ahead`` may put facts into the cache.

    Raises
    ------
    UserError
        When an entry is not an expectation.
    TableError
        When a partition is missing or cut off.
    """
    with gx.quiet():
        gx.require_suite(name, expectations)
        with CheckedTable(files, cache).opened() as table:
            judged = [(item, _check(item, table.sizes)) for item in _judged(expectations, table, ahead)]
    judged.sort(key=lambda pair: (pair[1].check, str(pair[1].arguments)))
    total, seen, checks = Counter(check.check for _, check in judged), Counter[str](), []
    for _, check in judged:  # those of one name are told apart by a number
        seen[check.check] += 1
        suffix = f" #{seen[check.check]}" if total[check.check] > 1 else ""
        checks.append(replace(check, check=check.check + suffix))
    by_pandas = [check.check for (item, _), check in zip(judged, checks, strict=True) if item.by_pandas]
    return SuiteOutcome(checks, [item.result for item, _ in judged], by_pandas)


def find_facts(expectations: Sequence[Any], files: Mapping[str, Path], cache: Cache, schema: pa.Schema) -> None:
    """Put the facts of some partitions of a table with a ``schema`` into the cache."""
    with gx.quiet():
        table = CheckedTable(files, cache, schema)
        with table.session():
            table.facts([fact for _, plan in _planned(expectations, table) if plan for fact in plan.facts])


def _planned(expectations: Sequence[Any], table: CheckedTable) -> list[tuple[Any, Plan | None]]:
    planner = Planner(table)
    return [(of, _unless_unsure(of, planner.plan, of)) for of in expectations]


def _unless_unsure(expectation: Any, work: Callable[[Any], T], given: Any) -> T | None:
    try:
        return work(given)
    except Unsure as why:
        _LOG.debug("%s is left to pandas: %s", type(expectation).__name__, why)
        return None


def _judged(expectations: Sequence[Any], table: CheckedTable, ahead: Ahead | None) -> list[Judged]:
    """What the library says of each expectation: from facts, or over pandas where the engine is unsure."""
    plans = _planned(expectations, table)
    wanted = [fact for _, plan in plans if plan for fact in plan.facts]
    if ahead and (lacking := table.lacking(wanted)):
        ahead(table, lacking)
    found = table.facts(wanted)
    judged = [(of, _unless_unsure(of, plan.judge, found) if plan else None) for of, plan in plans]
    return [one or _by_pandas(of, table) for of, one in judged]


def _by_pandas(expectation: Any, table: CheckedTable) -> Judged:
    """The library over pandas, with the columns that the expectation may look at."""
    result, bad = gx.judge_by_pandas(expectation, table.read(gx.columns_read(expectation, table.schema.names)))
    places = np.array(bad, np.int64)
    cuts = np.searchsorted(places, list(table.starts.values())[1:])
    rows = {
        part: of - table.starts[part] for part, of in zip(table.files, np.split(places, cuts), strict=True) if len(of)
    }
    return Judged(result, gx.is_by_rows(expectation), rows, by_pandas=True)


def _check(judged: Judged, sizes: Mapping[str, int]) -> Check:
    configuration, found = judged.result.expectation_config, judged.result.result
    severity: Severity = getattr(configuration.severity, "value", configuration.severity)
    arguments = {name: plain(value) for name, value in configuration.kwargs.items() if name != "batch_id"}
    error = _error(judged.result.exception_info)
    status = Status.PASSED
    if error:
        status = Status.FAILED  # a check that could not be run proves nothing
    elif not judged.result.success:
        aside = judged.by_rows and any(map(len, judged.rows.values()))  # a wrong type has no row of its own
        status = Status.QUARANTINED if aside and severity == "critical" else NOT_HELD[severity]
    unexpected = found.get("unexpected_count")
    share = unexpected / found["element_count"] if unexpected is not None and found.get("element_count") else None
    bad = totals({part: len(judged.rows.get(part, ())) for part in sizes})
    by_partition = {period: bad[period] / size for period, size in totals(sizes).items() if size}
    return Check(
        check=_name(configuration.type, arguments),
        expectation=configuration.type,
        arguments=arguments,
        severity=severity,
        why=str((configuration.meta or {}).get("why", "")),
        status=status,
        observed=_rounded(plain(found.get("observed_value"))),
        unexpected=unexpected,
        unexpected_share=share,
        by_partition=by_partition if share is not None and judged.by_rows else {},
        error=error,
        rows=judged.rows if status is not Status.PASSED else {},
    )


def _name(expectation: str, arguments: dict[str, Any]) -> str:
    columns = (
        arguments.get("column")
        or arguments.get("column_list")
        or [arguments.get("column_A"), arguments.get("column_B")]
    )
    named = [columns] if isinstance(columns, str) else [str(column) for column in columns if column]
    return f"{expectation.removeprefix('expect_')}({', '.join(named)})"


def _error(information: dict[str, Any]) -> str | None:
    entries = [information] if "raised_exception" in information else list(information.values())
    messages = {entry["exception_message"] for entry in entries if entry["raised_exception"]}
    return "; ".join(sorted(str(message).splitlines()[0] for message in messages)) or None


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: no NumPy, no NaN, times in ISO form, sets in order."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _rounded(value: Any) -> Any:
    """``value``, JSON, with floats cut to the digits that repeat."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
