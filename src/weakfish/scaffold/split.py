"""Where gold is split into dev and test: the day before which about 70 % of the labelled rows lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise

Labels = Mapping[tuple[str, str, str | None, bool], int]
"""Rows with a label, by task, class, day (None where it is not known), and whether a split by keys makes them test."""

SHARE = 0.7
LEAST, MOST = 0.3, 0.95
"""The bounds of the share before the split; where no day lies within, time does not split."""


def split_day(labels: Labels) -> str | None:
    """The first day (ISO) of the test part; None where no day leaves labels of each task on both sides.

    Days that leave all classes of all tasks on both sides come first, then those next to the share.
    """
    dated = Counter[tuple[str, str, str]]()
    for (task, name, day, _), rows in labels.items():
        if day is not None:
            dated[task, name, day] += rows
    total = sum(dated.values())
    days = sorted({day for _, _, day in dated})
    before = 0
    found: list[tuple[int, float, str]] = []
    rows_of = Counter[str]()
    for (_, _, day), rows in dated.items():
        rows_of[day] += rows
    firsts, lasts = _reach(dated, classes=True)
    tasks_from, tasks_to = _reach(dated, classes=False)
    for last, day in pairwise(days):
        before += rows_of[last]
        share = before / total
        if LEAST <= share <= MOST and _missing(tasks_from, tasks_to, day) == 0:
            found.append((_missing(firsts, lasts, day), abs(share - SHARE), day))
    return min(found)[-1] if found else None


def _reach(
    dated: Iterable[tuple[str, str, str]], *, classes: bool
) -> tuple[dict[tuple[str, ...], str], dict[tuple[str, ...], str]]:
    """The first and the last day of each class, or of each task."""
    firsts: dict[tuple[str, ...], str] = {}
    lasts: dict[tuple[str, ...], str] = {}
    for task, name, day in dated:
        group = (task, name) if classes else (task,)
        firsts[group] = min(firsts.get(group, day), day)
        lasts[group] = max(lasts.get(group, day), day)
    return firsts, lasts


def _missing(firsts: Mapping[tuple[str, ...], str], lasts: Mapping[tuple[str, ...], str], day: str) -> int:
    """How many groups have no label on one of the sides."""
    return sum(first >= day for first in firsts.values()) + sum(last < day for last in lasts.values())


def balance(rows: Mapping[str, int], classes: Iterable[str], least: int) -> tuple[float, ...] | None:
    """The share of each class, none below half a percent, adding up to 1; None below ``least`` labels."""
    names = list(classes)
    counts = [rows.get(name, 0) for name in names]
    total = sum(counts)
    if total < least:
        return None
    floor = min(5, 1000 // (2 * len(names)))
    shares = [max(floor, round(1000 * count / total)) for count in counts]
    largest = shares.index(max(shares))
    shares[largest] += 1000 - sum(shares)
    return tuple(share / 1000 for share in shares)


def dev_rows(labels: Labels, day: str | None) -> dict[str, Counter[str]]:
    """Labels of the dev part by task and class; without a day, keys split."""
    found: dict[str, Counter[str]] = {}
    for (task, name, known, late), rows in labels.items():
        if (known is not None and known < day) if day else not late:
            found.setdefault(task, Counter())[name] += rows
    return found
