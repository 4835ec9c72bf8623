"""A column before and now: the accepted baseline against the current rows, in a few bars that have names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from weakfish.contracts.verdicts import Check
from weakfish.engine.profile import ColumnProfile
from weakfish.engine.sketch import Sketch
from weakfish.project.paths import Project
from weakfish.report.inputs import RunRecords
from weakfish.report.wording import figure, percent

BARS = 6
"""Bars of a histogram, at most."""

Bar = tuple[str, float, float]
"""A name, and a share of rows before and now."""

UNITS = {"distance": "hours after the row's own time", "text": "length", "list": "length"}


@dataclass(frozen=True)
class Histogram:
    """Shares before and now; ``of`` says what of."""

    of: str
    bars: Sequence[Bar]

    @property
    def most(self) -> float:
        """The largest share, up to which bars are drawn."""
        return max([share for _, *shares in self.bars for share in shares], default=0.0) or 1.0

    @property
    def sentence(self) -> str:
        """What it shows, for those who do not see it."""
        return f"{self.of}: " + ", ".join(
            f"{name} {percent(before)} before, {percent(now)} now" for name, before, now in self.bars
        )


def of_shares(of: str, bars: Iterable[Bar]) -> Histogram | None:
    """Shares that were measured already, the first few; None where there are none."""
    shown = list(dict.fromkeys(bars))[:BARS]
    return Histogram(of, shown) if shown else None


def of_column(records: RunRecords, table: str, check: Check) -> Histogram | None:
    """The column that a comparison is about, in the partitions that it compared; None where it was not measured."""
    column, verdict = check.arguments.get("column"), records.verdicts.get(table)
    entry = records.accepted.get(table)
    if entry is None or verdict is None or not isinstance(column, str) or column not in entry.columns:
        return None
    before = entry.columns[column]
    try:
        content = json.loads(Project(records.root).profile(table).read_text(encoding="utf-8"))
        if content["data_version"] != verdict.data_version:
            return None
        new = [name for name in content["profile"] if entry.is_new(name)]
        names = new if _compares_new(check) and new else [name for name in content["profile"] if name not in new]
        parts = [content["profile"][name]["columns"].get(column) for name in names]
        columns = [ColumnProfile.parse(part) for part in parts if part and part["type"] == before["type"]]
        return _histogram(column, ColumnProfile.parse(before), ColumnProfile.merged(columns)) if columns else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a picture is missing, and nothing else
        return None


def _compares_new(check: Check) -> bool:
    compared = check.arguments.get("compared")
    if isinstance(compared, dict):
        windows = compared
        compared = max(windows, key=lambda window: windows[window]["psi"], default="")
    return not isinstance(compared, str) or "new" in compared


def _histogram(column: str, before: ColumnProfile, now: ColumnProfile) -> Histogram | None:
    of = UNITS.get(before.kind, "value")
    if before.categories is not None and now.categories is not None:
        found, of = _by_name(before, now), "value"
    elif before.sketch is not None and now.sketch is not None:
        found = _by_size(before.sketch, now.sketch, "int" in before.type or of == "length")
    else:
        return None
    sums = [sum(counts) for counts in zip((0, 0), *[counts for _, *counts in found], strict=True)]
    found.append(("other", max(before.valued - sums[0], 0), max(now.valued - sums[1], 0)))
    found.append(("none", before.nulls, now.nulls))
    shares = [(name, a / max(before.rows, 1), b / max(now.rows, 1)) for name, a, b in found if a or b]
    return Histogram(f"{column}, {of}", shares)


def _by_name(before: ColumnProfile, now: ColumnProfile) -> list[tuple[str, int, int]]:
    """The values that most rows have, on either side."""
    sides = [(column.categories or {}, max(column.rows, 1)) for column in (before, now)]
    names = {name: max(of.get(name, 0) / rows for of, rows in sides) for of, _ in sides for name in of}
    most = sorted(names, key=lambda name: (-names[name], name))[: BARS - 2]
    return [(name, sides[0][0].get(name, 0), sides[1][0].get(name, 0)) for name in most]


def _by_size(before: Sketch, now: Sketch, whole: bool) -> list[tuple[str, int, int]]:
    """Ranges between round numbers; even steps, or steps that grow where a few numbers are far larger than most."""
    bits = min(before.bits, now.bits)
    sides = [(sketch.edges(sketch.codes), sketch.counts) for sketch in (before.at(bits), now.at(bits))]
    numbers, counts = (np.concatenate(part) for part in zip(*sides, strict=True))
    if not len(numbers):
        return []
    edges = _edges(numbers, counts)
    binned = [np.bincount(np.searchsorted(edges, of, side="right"), rows, len(edges) + 1) for of, rows in sides]
    names = [_range(*ends, whole) for ends in zip([None, *edges], [*edges, None], strict=True)]
    found = [(name, int(a), int(b)) for name, a, b in zip(names, *binned, strict=True)]
    return [bar for bar in found if bar[1] or bar[2]]


def _edges(numbers: Any, counts: Any) -> list[float]:
    """Where a bar ends and the next begins: bars of about equal parts of all rows, or one for each of a few numbers."""
    distinct, order = np.unique(numbers), np.argsort(numbers)
    if len(distinct) < BARS:
        return [float(number) for number in distinct[1:]]
    place = np.cumsum(counts[order]) / counts.sum()
    cuts = [numbers[order][np.searchsorted(place, part / (BARS - 1))] for part in range(1, BARS - 1)]
    return sorted({float(cut) for cut in cuts if cut > distinct[0]})


def _range(low: float | None, high: float | None, whole: bool) -> str:
    """The name of a bar from ``low`` to below ``high``."""
    if low is None:
        return f"below {figure(high)}"
    if high is None:
        return f"{figure(low)} and more"
    if whole:
        return figure(low) if high - low <= 1 else f"{figure(low)} to {figure(high - 1)}"
    return f"{figure(low)} to {figure(high)}"
