"""Three example labeling functions per task, chosen from a sample without gold; each fires on some rows and not on all.

Which class a function should vote for cannot be known without gold. Where a class's own name stands in the data it is
taken; else classes take turns, and the code says that it is a guess.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from weakfish.scaffold.candidates import candidates, last_resort
from weakfish.scaffold.literals import unused
from weakfish.scaffold.rules import Form, Rule, fired

__all__ = ["EACH", "FEWEST", "MOST", "Rule", "examples"]

EACH = 3
"""Functions of a task."""

FEWEST, MOST = 0.01, 0.6
"""The share of the sample's rows on which a function has to fire."""

GOOD = (0.05, 0.35)
"""The share that lets hope that the same holds of rows to come."""

BEST = 0.15

_RANKS: dict[Form, int] = {
    "weekend": 1,
    "from_hour": 1,
    "until_hour": 1,
    "longer": 2,
    "shorter": 2,
    "missing": 3,
    "present": 3,
    "sorts_last": 5,
}
"""What is likely to say something comes before what merely works; forms that are not here come first."""


def examples(
    sample: pa.Table,
    tasks: Mapping[str, Sequence[str]],
    *,
    key: str,
    time: str | None = None,
    entities: Sequence[str] = (),
) -> dict[str, tuple[Rule, ...]]:
    """Choose the functions of each task; names differ over all tasks.

    Parameters
    ----------
    sample
        Rows as the source yields them, the made key among them, without gold.
    tasks
        The classes of each task.
    key, time, entities
        Columns of the events; the key serves only where nothing else does.
    """
    taken: set[str] = set()
    used: Counter[tuple[str, str]] = Counter()
    chosen: dict[str, tuple[Rule, ...]] = {}
    for task, classes in tasks.items():
        rules = _chosen(_usable(sample, classes, key, entities), len(classes), used, time)
        used.update((rule.column, rule.form) for rule in rules)
        chosen[task] = tuple(rule.model_copy(update={"name": unused(rule.name, taken)}) for rule in rules)
    return chosen


def _usable(sample: pa.Table, classes: Sequence[str], key: str, entities: Sequence[str]) -> list[Rule]:
    """Rules that fire on some rows and not on all; where those on ordinary columns are too few, on any column."""
    found = _measured(sample, candidates(sample, classes, key, entities))
    if len(found) < EACH:
        found += _measured(sample, last_resort(sample, key))
    return found


def _measured(sample: pa.Table, rules: Sequence[Rule]) -> list[Rule]:
    """The rules whose share will do, each once and as it came first: several shares may have led to one bound."""
    found: dict[tuple[object, ...], Rule] = {}
    for rule, share in zip(rules, fired(sample, rules), strict=True):
        if FEWEST <= share <= MOST:
            found.setdefault(_what(rule), rule.model_copy(update={"share": share}))
    return list(found.values())


def _chosen(rules: Sequence[Rule], classes: int, used: Counter[tuple[str, str]], time: str | None) -> list[Rule]:
    """Named ones first, then the best of each column in turn; classes without a function go first."""
    chosen: list[Rule] = []
    while len(chosen) < EACH:
        left = [rule for rule in rules if _what(rule) not in map(_what, chosen)]
        if not left:
            break
        columns = Counter(rule.column for rule in chosen)
        held = Counter(rule.label for rule in chosen)

        def order(rule: Rule, held: Counter[int] = held, columns: Counter[str] = columns) -> tuple[object, ...]:
            again = used[rule.column, rule.form] + (columns[rule.column] if not rule.named else 0)
            fit = GOOD[0] <= rule.share <= GOOD[1]
            new = rule.named and not held[rule.label]
            rank = _RANKS.get(rule.form, 0) + (rule.column == time and rule.form in ("missing", "present"))
            return not new, again + rank, not fit, abs(math.log(rule.share / BEST)), rule.column, rule.name

        best = min(left, key=order)
        label = best.label if best.label >= 0 else min(range(classes), key=lambda one: (held[one], one))
        chosen.append(best.model_copy(update={"label": label}))
    return chosen


def _what(rule: Rule) -> tuple[object, ...]:
    """What a rule says, whatever its name and class."""
    return rule.column, rule.form, rule.words, rule.value
