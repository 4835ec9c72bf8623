"""Rules that could be written about the columns of a sample, without gold: words, bounds, values, hours, gaps.

What comes out has no class yet, unless a class's own name stands in the data, and its share is not yet measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.scaffold.literals import slug
from weakfish.scaffold.rules import Form, Rule
from weakfish.scaffold.words import COMMON, begun, counted, stems

SHARES = (0.2, 0.15, 0.1, 0.3, 0.05, 0.4, 0.5)
"""Of the rows, above which a bound is put; the first that leaves room is taken."""

FREQUENT = 60
"""Words and values of a column that are tried."""

TEXT = 3
"""Words of a text, on average, from which on a column is one of running text."""


def candidates(sample: pa.Table, classes: Sequence[str], key: str | None, entities: Sequence[str]) -> list[Rule]:
    """Rules on all columns but the key, in the columns' order; those that a class's name suggests know their class."""
    found: list[Rule] = []
    for name in sample.column_names:
        if name != key and sample[name].null_count < len(sample[name]):
            found += _of_column(name, sample[name], classes, name in entities)
    return found


def last_resort(sample: pa.Table, key: str) -> list[Rule]:
    """Rules that work on any column of different values, if only the key: what comes last in the order of letters."""
    found: list[Rule] = []
    for name in [*(name for name in sample.column_names if name != key), key]:
        if name in sample.column_names and pa.types.is_string(sample[name].type):
            values = sample[name].drop_null().to_pylist()
            found += [_rule(name, "sorts_last", value, value) for value in _cuts(sorted(values))]
    return found


def _of_column(name: str, column: pa.ChunkedArray, classes: Sequence[str], is_entity: bool) -> Iterator[Rule]:
    kind = column.type
    if pa.types.is_string(kind):
        words = pc.mean(pc.count_substring_regex(column, r"\S+")).as_py() or 0
        yield from _words(name, column, classes) if words >= TEXT else _values(name, column, classes, is_entity)
        lengths = pc.utf8_length(column)
        yield from _bounds(name, lengths, ("longer", "shorter"))
    elif pa.types.is_boolean(kind):
        yield _rule(name, "holds")
        yield _rule(name, "holds_not")
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        yield from _bounds(name, column, ("at_least", "at_most"))
    elif pa.types.is_temporal(kind):
        yield _rule(name, "weekend")
        if pa.types.is_timestamp(kind):
            yield from _bounds(name, pc.hour(column), ("from_hour", "until_hour"))
    yield _rule(name, "missing")
    yield _rule(name, "present")


def _words(name: str, column: pa.ChunkedArray, classes: Sequence[str]) -> Iterator[Rule]:
    found = counted(column)
    for label, beginnings in enumerate(stems(classes)):
        if words := begun(found, beginnings):
            yield Rule(
                name=f"{slug(name)}_says_{slug(words[0])}",
                label=label,
                column=name,
                form="keywords",
                words=words,
                named=True,
            )
    likely = [
        word
        for word, count in found.items()
        if 0.02 <= count / len(column) <= 0.5 and word not in COMMON and len(word) > 3
    ]
    for word in sorted(likely, key=lambda word: (-found[word], word))[:FREQUENT]:
        yield Rule(name=f"{slug(name)}_says_{slug(word)}", label=-1, column=name, form="keywords", words=(word,))


def _values(name: str, column: pa.ChunkedArray, classes: Sequence[str], is_entity: bool) -> Iterator[Rule]:
    """Frequent values; an entity's are names of customers and the like, and no rule."""
    if is_entity:
        return
    counts = pc.value_counts(column.drop_null())
    found = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    often = sorted((value for value in found if value[0].strip()), key=lambda each: (-each[1], each[0]))[:FREQUENT]
    suggested = stems(classes)
    for value, _ in often:
        if len(value) > 60:
            continue
        of = [label for label, beginnings in enumerate(suggested) if any(b in value.lower() for b in beginnings)]
        rule = _rule(name, "equals", value, value)
        yield rule.model_copy(update={"label": of[0], "named": True}) if len(of) == 1 else rule


def _bounds(name: str, column: pa.ChunkedArray, forms: tuple[Form, Form]) -> Iterator[Rule]:
    """Bounds that a fifth of the values, or so, lie beyond; two digits where these are enough."""
    values: np.ndarray = pc.cast(column.drop_null(), pa.float64(), safe=False).to_numpy()
    values = values[np.isfinite(values)]
    if not len(values) or values.min() == values.max():
        return
    whole = not pa.types.is_floating(column.type)
    for form, sign in zip(forms, (1, -1), strict=True):
        for share in SHARES:
            bound = np.quantile(values, 1 - share if sign > 0 else share, method="nearest")
            for digits in (2, 3, 17):
                rounded = float(f"{bound:.{digits}g}")
                held = float(np.mean(values * sign >= rounded * sign))
                if 0.02 <= held <= 0.5:
                    yield _rule(name, form, int(rounded) if whole else rounded)
                    break


def _cuts(values: list[str]) -> Iterator[str]:
    """Values above which a fifth of all, or so, come."""
    for share in SHARES:
        if values:
            yield values[min(int(len(values) * (1 - share)), len(values) - 1)]


_NAMES: dict[Form, str] = {
    "at_least": "{}_is_high",
    "at_most": "{}_is_low",
    "equals": "{}_is",
    "holds": "{}_holds",
    "holds_not": "{}_holds_not",
    "from_hour": "{}_is_late",
    "until_hour": "{}_is_early",
    "weekend": "{}_on_weekend",
    "longer": "{}_is_long",
    "shorter": "{}_is_short",
    "missing": "{}_is_missing",
    "present": "{}_is_there",
    "sorts_last": "{}_sorts_last",
}


def _rule(column: str, form: Form, value: bool | int | float | str | None = None, named: str = "") -> Rule:
    name = _NAMES[form].format(slug(column, "column"))
    if form == "equals":
        name = f"{name}_{slug(named)}"
    return Rule(name=name, label=-1, column=column, form=form, value=value)
