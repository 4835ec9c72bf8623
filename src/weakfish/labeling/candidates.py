"""What a rule could look for: rows come in as Arrow, candidates leave, and on which rows each of them holds.

Words and phrases of two words in columns of text, values of columns that have few, bounds of numbers, yes or no, and
whether there is a value at all. Only what several target rows share becomes a candidate; texts are not kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csc_matrix, csr_matrix  # type: ignore[import-untyped]

from weakfish.rules.rule import Form, Rule

Kind = Literal["word", "value", "at_least", "at_most", "holds", "holds_not", "missing", "present"]
Role = Literal["text", "values", "number", "flag", "other"]

TOKEN = re.compile(r"[^\W_]+|[^\w\s]+|_+")
"""Words, and what stands between them: a phrase has nothing but white space between its words."""

LONGEST = 30
"""Characters of a word; what is longer is no word."""

MOST_WORDS = 30_000
"""Words and phrases of a column that are looked at, those in most target rows."""

MOST_COUNTED = 2_000_000
"""Words and phrases that are counted at once; above it those seen only once are forgotten."""

FEW_VALUES = 0.1
"""Different texts, as a share of rows that have one, up to which a column is one of values and not of text."""

STEPS = 40
"""Of the quantiles of a number that can become bounds."""


@dataclass(frozen=True, order=True)
class Candidate:
    """A condition on one column; ``value`` is the word, the value or the bound, None where the kind needs none."""

    column: str
    kind: Kind
    value: Any = None


def words_of(text: str) -> set[str]:
    """Words of two letters or more, in small letters, and phrases of two of them with only white space between."""
    found, before, end = set(), None, -1
    for match in TOKEN.finditer(text.lower()):
        token = match[0]
        if not (token[0].isalpha() and 2 <= len(token) <= LONGEST):
            before = None
            continue
        found.add(token)
        if before is not None and match.start() > end:
            found.add(f"{before} {token}")
        before, end = token, match.end()
    return found


def role_of(column: pa.ChunkedArray) -> Role:
    """What can be asked of a column, from some of its rows."""
    if pa.types.is_boolean(column.type):
        return "flag"
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return "number"
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return "other"
    there = column.drop_null()
    spaced = pc.mean(pc.match_substring_regex(there, r"\S\s+\S").cast(pa.int8())).as_py() or 0
    few = pc.count_distinct(there).as_py() <= FEW_VALUES * len(there)
    return "text" if spaced > 0.5 and not few else "values"


class Finder:
    """Finds candidates: shown all target rows (`look`), then asked for what they share (`settle`).

    Parameters
    ----------
    roles
        What each column is good for.
    few
        How many target rows a candidate needs.
    """

    def __init__(self, roles: Mapping[str, Role], few: int) -> None:
        self.roles, self.few = dict(roles), few
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in roles}
        self.numbers: dict[str, list[np.ndarray]] = {name: [] for name in roles}

    def look(self, rows: pa.Table) -> None:
        """Count what target rows have; memory is bounded by what is counted, see `MOST_COUNTED`."""
        for name, role in self.roles.items():
            column = rows[name]
            if role == "text":
                for text in column.drop_null().to_pylist():
                    self.counts[name].update(words_of(text))
                self._forget(name)
            elif role == "values":
                found = pc.value_counts(column.drop_null())
                self.counts[name].update(
                    dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True))
                )
                self._forget(name)
            elif role == "number":
                self.numbers[name].append(_numbers(column))

    def settle(self) -> list[Candidate]:
        """The candidates, in a fixed order."""
        return [candidate for name, role in self.roles.items() for candidate in self._of(name, role)]

    def _of(self, name: str, role: Role) -> Iterator[Candidate]:
        yield Candidate(name, "missing")
        yield Candidate(name, "present")
        if role in ("text", "values"):
            often = [(-count, text) for text, count in self.counts[name].items() if count >= self.few and text.strip()]
            kind: Kind = "word" if role == "text" else "value"
            yield from (Candidate(name, kind, text) for _, text in sorted(often)[:MOST_WORDS])
        elif role == "number":
            for bound in _bounds(self.numbers[name]):
                yield Candidate(name, "at_least", bound)
                yield Candidate(name, "at_most", bound)
        elif role == "flag":
            yield Candidate(name, "holds")
            yield Candidate(name, "holds_not")

    def _forget(self, name: str) -> None:
        if len(self.counts[name]) > MOST_COUNTED:
            self.counts[name] = Counter({text: count for text, count in self.counts[name].items() if count > 1})


class Incidence:
    """On which rows candidates hold, added up batch by batch."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self.candidates = list(candidates)
        self._words: dict[str, dict[str, int]] = {}
        self._others: list[tuple[int, Candidate]] = []
        for place, candidate in enumerate(self.candidates):
            if candidate.kind in ("word", "value"):
                self._words.setdefault(candidate.column, {})[candidate.value] = place
            else:
                self._others.append((place, candidate))
        self._kinds = {candidate.column: candidate.kind for candidate in self.candidates if candidate.value is not None}
        self._places: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self.rows = 0

    def add(self, rows: pa.Table) -> None:
        """Look at more rows."""
        for name, known in self._words.items():
            texts = rows[name].to_pylist()
            for row, text in enumerate(texts):
                if text is None:
                    continue
                held = words_of(text) if self._kinds[name] == "word" else (text,)
                places = [known[word] for word in held if word in known]
                self._keep(np.array(places, np.int32), np.full(len(places), self.rows + row, np.int32))
        for place, candidate in self._others:
            at = np.flatnonzero(_holds(candidate, rows[candidate.column])).astype(np.int32)
            self._keep(np.full(len(at), place, np.int32), at + self.rows)
        self.rows += rows.num_rows

    def matrix(self) -> csc_matrix:
        """1.0 where a candidate holds, (rows, candidates)."""
        rows = np.concatenate([np.empty(0, np.int32), *self._rows])
        places = np.concatenate([np.empty(0, np.int32), *self._places])
        shape = (self.rows, len(self.candidates))
        return csr_matrix((np.ones(len(rows), np.float32), (rows, places)), shape=shape).tocsc()

    def _keep(self, places: np.ndarray, rows: np.ndarray) -> None:
        self._places.append(places)
        self._rows.append(rows)


def _holds(candidate: Candidate, column: pa.ChunkedArray) -> np.ndarray:
    if candidate.kind in ("missing", "present"):
        missing: np.ndarray = column.is_null().to_numpy()
        return missing if candidate.kind == "missing" else ~missing
    if candidate.kind in ("holds", "holds_not"):
        yes = candidate.kind == "holds"
        return np.asarray(pc.fill_null(pc.equal(column, yes), False).to_numpy())
    values = _numbers(column, drop=False)
    return np.asarray(values >= candidate.value if candidate.kind == "at_least" else values <= candidate.value)


def _numbers(column: pa.ChunkedArray, drop: bool = True) -> np.ndarray:
    values: np.ndarray = pc.cast(column, pa.float64()).to_numpy()
    return values[np.isfinite(values)] if drop else values


def _bounds(parts: list[np.ndarray]) -> list[float]:
    """Quantiles, rounded to three digits so that a bound reads as one that a person would write."""
    values = np.concatenate([np.empty(0), *parts])
    if len(np.unique(values)) < 2:
        return []
    found = np.quantile(values, np.arange(1, STEPS) / STEPS)
    found = np.round(found) if (values == np.round(values)).all() else found
    return sorted({float(f"{bound:.3g}") for bound in found})


GROUPED = ("word", "value")
"""Kinds of which one function holds several."""

FORMS: dict[str, Form] = {"word": "keywords", "value": "lookup"}
"""The form of a rule for a kind, where it is not named as the kind is."""


def rule_of(name: str, label: int, candidates: Sequence[Candidate], why: str) -> Rule:
    """The rule that votes for the class ``label`` where any of ``candidates`` holds, all of one column and kind."""
    first = candidates[0]
    form = FORMS.get(first.kind, cast(Form, first.kind))
    words = tuple(str(each.value) for each in candidates) if first.kind in GROUPED else ()
    value = (
        None if words or first.value is None else int(first.value) if first.value == int(first.value) else first.value
    )
    return Rule(name=name, label=label, column=first.column, form=form, words=words, value=value, why=why)


def name_of(class_name: str, column: str, taken: Iterable[str]) -> str:
    """A name that no function has: ``suggested_<class>_by_<column>``, with a number where that is taken."""
    plain, names = f"suggested_{class_name}_by_{column}", set(taken)
    numbered = (plain if number == 1 else f"{plain}_{number}" for number in range(1, len(names) + 2))
    return next(name for name in numbered if name not in names)
