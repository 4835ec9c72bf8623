"""Words of a column of text, by the share of rows that have them, and those that a class's own name suggests."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.engine import duckdb as compute
from weakfish.rules.rule import Form, Rule
from weakfish.scaffold.literals import slug, unused

LONGEST = 2_000
"""Characters of a text that are looked at."""

_COMMON = """
about after again also because been before being could does each even every from have having here hello into
just like made make many more most much need only other over please regards same should some still such thank
thanks than that their them then there these they this those through very want well were what when where which
while will with would your yours
"""
COMMON = frozenset(_COMMON.split())
"""Words of any text, which tell nothing of what it is about."""

_WORD = re.compile(r"[^\W\d_]{3,30}")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_ENDINGS = ("ations", "ation", "ments", "ment", "ings", "ing", "ions", "ion", "ers", "er", "ed", "es", "s", "e", "y")


def counted(column: pa.ChunkedArray) -> Counter[str]:
    """In how many rows each word of three letters or more stands, in small letters."""
    found: Counter[str] = Counter()
    for text in column.to_pylist():
        found.update({match[0] for match in _WORD.finditer((text or "")[:LONGEST].lower())})
    return found


def stems(classes: Sequence[str]) -> list[tuple[str, ...]]:
    """Of each class the beginnings of words that its name suggests and that no other class's name has."""
    tokens = [{part.lower() for part in _PARTS.findall(name) if len(part) >= 3} - COMMON for name in classes]
    often = Counter(token for each in tokens for token in each)
    return [tuple(sorted(_stem(token) for token in each if often[token] == 1)) for each in tokens]


def begun(words: Mapping[str, int], beginnings: Sequence[str], most: int = 4) -> tuple[str, ...]:
    """Words that begin so, the most frequent first."""
    found = [word for word in words if any(word.startswith(beginning) for beginning in beginnings)]
    return tuple(sorted(found, key=lambda word: (-words[word], word))[:most])


def _stem(token: str) -> str:
    """A word without its ending, four letters at least."""
    return next(
        (token.removesuffix(end) for end in _ENDINGS if token.endswith(end) and len(token) - len(end) >= 4), token
    )


class Example(Rule):
    """A rule for a new project, whose ``label`` is -1 until it is chosen.

    ``share`` is that of the sample's rows on which it fires. ``named`` says that the class's own name was found in the
    data, which is why the rule is for that class. ``told`` is on how many rows of dev gold it fires, and how many of
    these are of its class; None where dev gold had no say.
    """

    share: float = 0.0
    named: bool = False
    told: tuple[int, int] | None = None


def fired(sample: pa.Table, rules: Sequence[Rule]) -> list[float]:
    """The share of the sample's rows on which each rule fires, as the engine computes it."""
    if not rules or not sample.num_rows:
        return [0.0] * len(rules)

    def counts(events: ir.Table) -> ir.Table:
        functions = [rule.model_copy(update={"label": 0}).function() for rule in rules]
        holds = [function.conditions(events)[0].fill_null(False) for function in functions]
        return events.aggregate(**{f"fired_{place}": each.ifelse(1, 0).sum() for place, each in enumerate(holds)})

    found = compute.connect().prepare(sample.schema, counts)(sample).to_pylist()[0]
    return [int(found[f"fired_{place}"] or 0) / sample.num_rows for place in range(len(rules))]


@dataclass(frozen=True)
class DevRows:
    """Rows of dev gold with the columns of the sample, and the class of each as a position."""

    rows: pa.Table
    classes: npt.NDArray[np.int64]

    def by_class(self, rules: Sequence[Rule], classes: int) -> npt.NDArray[np.int64]:
        """On how many rows of each class each rule fires, (rules, classes)."""
        if not rules or not self.rows.num_rows:
            return np.zeros((len(rules), classes), np.int64)

        def found(events: ir.Table) -> ir.Table:
            functions = [rule.model_copy(update={"label": 0}).function() for rule in rules]
            holds = [function.conditions(events)[0].fill_null(False) for function in functions]
            return events.select(events[_CLASS], **{f"holds_{place}": each for place, each in enumerate(holds)})

        table = self.rows.append_column(_CLASS, pa.array(self.classes))
        held = compute.connect().prepare(table.schema, found)(table)
        of = np.eye(classes, dtype=np.int64)[held[_CLASS].to_numpy()]
        return np.stack([held[f"holds_{place}"].to_numpy().astype(np.int64) @ of for place in range(len(rules))])


_CLASS = "__class"
"""A column beside those of the sample."""

SURE = 2.0
"""Standard errors by which a class must be more frequent where a rule fires than elsewhere, to be told by dev gold."""

FEW = 5
"""Rows of dev gold on which a rule must fire."""


def supported(rules: Sequence[Example], dev: DevRows, classes: int) -> list[tuple[Example, float]]:
    """The rules, each for the class that dev gold supports, and by how many standard errors it does.

    That is the class which is most of all more frequent where the rule fires than in all of dev gold. A rule of which
    dev gold says too little stays as it is, with 0.
    """
    counts, totals = dev.by_class(rules, classes), np.bincount(dev.classes, minlength=classes)
    share = totals / max(1, totals.sum())
    fires = counts.sum(axis=1, keepdims=True)
    error = np.sqrt(np.maximum(fires * share * (1 - share), 1e-9))
    surplus = np.where(totals > 0, (counts - fires * share) / error, -np.inf)
    found = []
    for rule, own, by_class, rows in zip(rules, surplus, counts, fires[:, 0].tolist(), strict=True):
        label = int(own.argmax())
        if rows < FEW or own[label] < SURE:
            found.append((rule, 0.0))
        else:
            named = rule.named and rule.label == label
            update = {"label": label, "named": named, "told": (rows, int(by_class[label]))}
            found.append((rule.model_copy(update=update), float(own[label])))
    return found


SHARES = (0.2, 0.15, 0.1, 0.3, 0.05, 0.4, 0.5)
"""Of the rows, above which a bound is put; the first that leaves room is taken."""

FREQUENT = 60
"""Words and values of a column that are tried."""

TEXT = 3
"""Words of a text, on average, from which on a column is one of running text."""


def candidates(sample: pa.Table, classes: Sequence[str], key: str | None, entities: Sequence[str]) -> list[Example]:
    """Rules on all columns but the key, in the columns' order; those that a class's name suggests know their class."""
    found: list[Example] = []
    for name in sample.column_names:
        if name != key and sample[name].null_count < len(sample[name]):
            found += _of_column(name, sample[name], classes, name in entities)
    return found


def last_resort(sample: pa.Table, key: str) -> list[Example]:
    """Rules that work on any column of different values, if only the key: what comes last in the order of letters."""
    found: list[Example] = []
    for name in [*(name for name in sample.column_names if name != key), key]:
        if name in sample.column_names and pa.types.is_string(sample[name].type):
            ordered = sorted(sample[name].drop_null().to_pylist())
            cuts = [ordered[min(int(len(ordered) * (1 - share)), len(ordered) - 1)] for share in SHARES if ordered]
            found += [_rule(name, "sorts_last", value) for value in cuts]
    return found


def _of_column(name: str, column: pa.ChunkedArray, classes: Sequence[str], is_entity: bool) -> Iterator[Example]:
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


def _words(name: str, column: pa.ChunkedArray, classes: Sequence[str]) -> Iterator[Example]:
    found = counted(column)
    for label, beginnings in enumerate(stems(classes)):
        if words := begun(found, beginnings):
            yield Example(
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
        yield Example(name=f"{slug(name)}_says_{slug(word)}", label=-1, column=name, form="keywords", words=(word,))


def _values(name: str, column: pa.ChunkedArray, classes: Sequence[str], is_entity: bool) -> Iterator[Example]:
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
        rule = _rule(name, "equals", value)
        yield rule.model_copy(update={"label": of[0], "named": True}) if len(of) == 1 else rule


def _bounds(name: str, column: pa.ChunkedArray, forms: tuple[Form, Form]) -> Iterator[Example]:
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


def _rule(column: str, form: Form, value: bool | int | float | str | None = None) -> Example:
    name = _NAMES[form].format(slug(column, "column"))
    if form == "equals":
        name = f"{name}_{slug(str(value))}"
    return Example(name=name, label=-1, column=column, form=form, value=value)


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
    dev: Mapping[str, DevRows] | None = None,
) -> dict[str, tuple[Example, ...]]:
    """Choose the functions of each task; names differ over all tasks.

    Parameters
    ----------
    sample
        Rows as the source yields them, the made key among them, without gold.
    tasks
        The classes of each task.
    key, time, entities
        Columns of the events; the key serves only where nothing else does.
    dev
        Dev gold of tasks that have some, which decides for which class functions vote.
    """
    taken: set[str] = set()
    used: Counter[tuple[str, str]] = Counter()
    chosen: dict[str, tuple[Example, ...]] = {}
    for task, classes in tasks.items():
        usable = _measured(sample, candidates(sample, classes, key, entities))
        if len(usable) < EACH:
            usable += _measured(sample, last_resort(sample, key))
        told = (dev or {}).get(task)
        weighed = supported(usable, told, len(classes)) if told else [(rule, 0.0) for rule in usable]
        rules = _chosen(weighed, len(classes), used, time)
        used.update((rule.column, rule.form) for rule in rules)
        chosen[task] = tuple(rule.model_copy(update={"name": unused(rule.name, taken)}) for rule in rules)
    return chosen


def _measured(sample: pa.Table, rules: Sequence[Example]) -> list[Example]:
    """The rules that fire on some rows and not on all, each once: several shares may lead to one bound."""
    found: dict[tuple[object, ...], Example] = {}
    for rule, share in zip(rules, fired(sample, rules), strict=True):
        if FEWEST <= share <= MOST:
            found.setdefault(_what(rule), rule.model_copy(update={"share": share}))
    return list(found.values())


def _chosen(
    rules: Sequence[tuple[Example, float]], classes: int, used: Counter[tuple[str, str]], time: str | None
) -> list[Example]:
    """What dev gold supports first, classes without a function before others, then named ones, and the best of each
    column in turn; rules come with how clearly dev gold supports each."""
    chosen: list[Example] = []
    surplus = {_what(rule): own for rule, own in rules}
    while len(chosen) < EACH:
        left = [rule for rule, _ in rules if _what(rule) not in map(_what, chosen)]
        if not left:
            break
        columns = Counter(rule.column for rule in chosen)
        held = Counter(rule.label for rule in chosen)

        def order(rule: Example, held: Counter[int] = held, columns: Counter[str] = columns) -> tuple[object, ...]:
            again = used[rule.column, rule.form] + (columns[rule.column] if not rule.named else 0)
            fit = GOOD[0] <= rule.share <= GOOD[1]
            new = rule.named and not held[rule.label]
            rank = _RANKS.get(rule.form, 0) + (rule.column == time and rule.form in ("missing", "present"))
            if rule.told:
                return False, held[rule.label], not rule.named, again, -surplus[_what(rule)], rule.column, rule.name
            return True, not new, again + rank, not fit, abs(math.log(rule.share / BEST)), rule.column, rule.name

        best = min(left, key=order)
        label = best.label if best.label >= 0 else min(range(classes), key=lambda one: (held[one], one))
        chosen.append(best.model_copy(update={"label": label}))
    return chosen


def _what(rule: Example) -> tuple[object, ...]:
    """What a rule says, whatever its name and class."""
    return rule.column, rule.form, rule.words, rule.value
