"""Runs a suite over a table, given by its partitions: on the engine, over pandas where the engine does not know."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weakfish.checks import gx
from weakfish.checks.expectations.kept import Kept
from weakfish.checks.expectations.kinds import Unsure
from weakfish.checks.expectations.outcome import Judged, Outcome, checks_of
from weakfish.checks.expectations.plans import Plan, Planner
from weakfish.checks.expectations.scan import Scan
from weakfish.checks.expectations.source import Source
from weakfish.contracts.verdicts import Rows

_LOG = logging.getLogger(__name__)


def run(name: str, expectations: Sequence[Any], files: Mapping[str, Path], cache: Path) -> Outcome:
    """Run the suite ``name`` over the rows of ``files``, by partition.

    ``cache`` is a folder of this table that may vanish at any time: what is known of partitions that did not change.

    Raises
    ------
    UserError
        When the suite is empty, or an entry is not an expectation.
    TableError
        When a partition is missing or cut off.
    """
    with gx.quiet():
        gx.require_suite(name, expectations)
        source = Source.open(files)
        with Scan.over(source, Kept(cache)) as scan:
            found = checks_of(_judged(expectations, scan), source.sizes)
    return Outcome(
        checks=[check for _, check in found],
        result=gx.suite_result(name, [item.result for item, _ in found]),
        by_pandas=tuple(check.check for item, check in found if item.by_pandas),
    )


def _judged(expectations: Sequence[Any], scan: Scan) -> list[Judged]:
    planner = Planner(scan)
    plans = [_plan(planner, expectation) for expectation in expectations]
    found = scan.facts([spec for plan in plans if plan for spec in plan.specs])
    judged = []
    for expectation, plan in zip(expectations, plans, strict=True):
        try:
            judged.append(plan.judge(found) if plan else _by_pandas(expectation, scan.source))
        except Unsure as why:
            _log(expectation, why)
            judged.append(_by_pandas(expectation, scan.source))
    return judged


def _plan(planner: Planner, expectation: Any) -> Plan | None:
    try:
        return planner.plan(expectation)
    except Unsure as why:
        _log(expectation, why)
        return None


def _by_pandas(expectation: Any, source: Source) -> Judged:
    """The library over pandas, with the columns that the expectation may look at."""
    columns = gx.columns_read(expectation, source.schema.names)
    result, bad = gx.judge_by_pandas(expectation, source.read(columns))
    return Judged(result, gx.is_by_rows(expectation), by_partition(bad, source.sizes), by_pandas=True)


def by_partition(rows: Sequence[int], sizes: Mapping[str, int]) -> dict[str, Rows]:
    """Positions in the table as positions in its partitions."""
    starts = np.cumsum([0, *sizes.values()])
    places = np.array(rows, np.int64)
    owner = np.searchsorted(starts, places, side="right") - 1
    found = {part: places[owner == number] - starts[number] for number, part in enumerate(sizes)}
    return {part: of for part, of in found.items() if len(of)}


def _log(expectation: Any, why: Unsure) -> None:
    _LOG.debug("%s is left to pandas: %s", type(expectation).__name__, why)
