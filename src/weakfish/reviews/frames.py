"""A stratified random sample of the test side, frozen with what it was drawn from: what *estimate* asks about.

Only rows that a frame drew can estimate anything. Rows that were picked because their answers teach say nothing of the
others, and have no place in a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mmh3
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.contracts.gold import UNKNOWN
from weakfish.reviews.sides import Keys, is_dev

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

UNSURE_COUNTS = 1.5
"""How much more often a row of the less sure half of a class is asked about than one of the other half."""

LEAST = 2
"""Questions about each stratum that has as many rows, where there are enough for all."""


@dataclass(frozen=True)
class Strata:
    """Parts of the rows by their label: of each class the less sure and the surer half, and the undecided rows.

    Attributes
    ----------
    classes : tuple of str
    cuts : tuple of float
        Of each class the certainty, the probability of the label, from which on a row is in its surer half.
    """

    classes: tuple[str, ...]
    cuts: tuple[float, ...]

    @classmethod
    def halves(cls, classes: Sequence[str], labels: Ints, certainty: Floats) -> Strata:
        """Those of which the halves are as even as equal certainties allow."""
        mine = (certainty[labels == place] for place in range(len(classes)))
        return cls(tuple(classes), tuple(float(np.median(found)) if len(found) else 1.0 for found in mine))

    def of(self, labels: Ints, certainty: Floats) -> Ints:
        """The stratum of each row, (rows,); ``labels`` are positions in the classes, `UNKNOWN` where undecided."""
        sure = certainty >= np.array(self.cuts)[labels]
        return np.where(labels == UNKNOWN, 2 * len(self.classes), 2 * labels + sure)

    def counts(self, keys: Keys, labels: Ints, certainty: Floats) -> Ints:
        """How many rows of the test side are in each, (strata,)."""
        return np.bincount(self.of(labels, certainty)[~is_dev(keys)], minlength=len(self))

    def labels(self) -> Ints:
        """The class of each, `UNKNOWN` of the undecided."""
        return np.append(np.repeat(np.arange(len(self.classes)), 2), UNKNOWN)

    def names(self) -> list[str]:
        """What each is called."""
        halves = [f"{name}, {half}" for name in self.classes for half in ("less sure", "surer")]
        return [*halves, "undecided"]

    def __len__(self) -> int:
        return 2 * len(self.classes) + 1


@dataclass(frozen=True)
class DrawnRow:
    """A row to ask about, its stratum, and the probability with which it is in the whole sample."""

    key: str
    stratum: int
    probability: float


@dataclass(frozen=True)
class Frame:
    """A sample of the test side, frozen with what it was drawn from.

    Questions are to be asked in their order. However many are, those of a stratum that were answered are a simple
    random sample of it, and the strata have about the shares of questions that they have in the whole sample: so what
    counts for an estimate is how many rows of a stratum were *answered*, and a session may end at any time.

    Attributes
    ----------
    task, version : str
        What was asked about, and which labels strata are made of.
    seed : int
    strata : Strata
    rows : tuple of int
        Of the test side, by stratum.
    keys : tuple of str
        Those to ask about, in their order.
    places : tuple of int
        The stratum of each.
    """

    task: str
    version: str
    seed: int
    strata: Strata
    rows: tuple[int, ...]
    keys: tuple[str, ...]
    places: tuple[int, ...]

    @property
    def asked(self) -> Ints:
        """Questions about each stratum, (strata,)."""
        return np.bincount(np.array(self.places, np.int64), minlength=len(self.strata))

    @property
    def probabilities(self) -> Floats:
        """The probability with which a row of each stratum is in the whole sample, (strata,)."""
        return np.asarray(self.asked / np.maximum(self.rows, 1))

    def questions(self) -> Iterator[DrawnRow]:
        """Those to ask, in their order."""
        probabilities = self.probabilities.tolist()
        for key, place in zip(self.keys, self.places, strict=True):
            yield DrawnRow(key, place, probabilities[place])

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        columns = (self.strata.names(), self.rows, self.asked.tolist(), self.probabilities.tolist())
        names = ("stratum", "rows", "asked", "probability")
        return {
            "task": self.task,
            "version": self.version,
            "seed": self.seed,
            "classes": list(self.strata.classes),
            "cuts": list(self.strata.cuts),
            "strata": [dict(zip(names, each, strict=True)) for each in zip(*columns, strict=True)],
            "questions": [list(each) for each in zip(self.keys, self.places, strict=True)],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Frame:
        """What `to_json` made; raises `KeyError`, `TypeError` or `ValueError` where it is something else."""
        strata = Strata(tuple(found["classes"]), tuple(map(float, found["cuts"])))
        rows = tuple(int(each["rows"]) for each in found["strata"])
        keys, places = (
            (tuple(each) for each in zip(*found["questions"], strict=True)) if found["questions"] else ((), ())
        )
        if len(rows) != len(strata) or any(place not in range(len(strata)) for place in places):
            raise ValueError("its strata are not those of its classes")
        return cls(found["task"], found["version"], found["seed"], strata, rows, keys, places)


def draw(
    keys: Keys,
    labels: Ints,
    certainty: Floats,
    classes: Sequence[str],
    questions: int,
    *,
    task: str,
    version: str,
    seed: int,
) -> Frame:
    """Draw the questions of a session from the rows of the test side.

    A class has questions by the root of its rows, so that rare ones are judged as well; of each stratum those rows are
    asked about whose keys have the lowest hashes with the seed, so that neither the order nor other rows matter.

    Parameters
    ----------
    keys : (rows,)
        Of all rows; those of the dev side are left out.
    labels, certainty : (rows,)
        Positions in ``classes``, `UNKNOWN` where undecided, and the probability of each label.
    questions
        How many there are to be; fewer where the test side has fewer rows.
    """
    test = np.flatnonzero(~is_dev(keys))
    keys, labels, certainty = _taken(keys, test), labels[test], certainty[test]
    strata = Strata.halves(classes, labels, certainty)
    places = strata.of(labels, certainty)
    rows = np.bincount(places, minlength=len(strata))
    hashes = np.fromiter((mmh3.hash64(key, seed)[0] for key in keys), np.int64, len(keys))
    asked = allocated(rows, questions, strata)
    drawn: list[tuple[float, int, str]] = []
    for place, (number, start) in enumerate(zip(asked.tolist(), _starts(seed, len(strata)), strict=True)):
        mine = np.flatnonzero(places == place)
        lowest = mine[np.argsort(hashes[mine], kind="stable")[:number]]
        drawn += [((turn + start) / number, place, keys[row]) for turn, row in enumerate(lowest)]
    drawn.sort()
    ordered = tuple(key for _, _, key in drawn), tuple(place for _, place, _ in drawn)
    return Frame(task, version, seed, strata, tuple(rows.tolist()), *ordered)


def _taken(keys: Keys, rows: Ints) -> list[str]:
    if isinstance(keys, pa.Array | pa.ChunkedArray):
        found: list[str] = keys.take(pa.array(rows)).cast(pa.string()).to_pylist()
        return found
    return [keys[row] for row in rows]


def _starts(seed: int, strata: int) -> list[float]:
    """Where the questions of each stratum begin, as a part of the way from one of them to the next."""
    found: list[float] = np.random.default_rng(seed).random(strata).tolist()
    return found


def allocated(rows: Ints, questions: int, strata: Strata) -> Ints:
    """How many questions each stratum has, (strata,), of ``rows`` (strata,).

    A class by the root of its rows (power allocation, Bankier 1988), its less sure half `UNSURE_COUNTS` times as many a
    row, every stratum `LEAST` at least and none more than it has rows.
    """
    labels = strata.labels()
    of_class = np.bincount(labels + 1, rows)[labels + 1]
    unsure = np.where(np.arange(len(rows)) % 2 == 0, UNSURE_COUNTS, 1.0)
    wanted = rows * unsure / np.sqrt(np.maximum(of_class, 1))
    least = np.minimum(rows, LEAST) if LEAST * (rows > 0).sum() <= questions else np.zeros_like(rows)
    return _whole(wanted, least, rows, min(questions, int(rows.sum())))


def _whole(wanted: Floats, least: Ints, most: Ints, total: int) -> Ints:
    """Whole numbers between bounds that have this total, as near to a multiple of what is wanted as may be."""
    low, high = 0.0, float(total + 1) / max(wanted[wanted > 0].min(initial=1.0), 1e-9)
    for _ in range(100):
        factor = (low + high) / 2
        if np.clip(factor * wanted, least, most).sum() > total:
            high = factor
        else:
            low = factor
    shares = np.clip(low * wanted, least, most)
    found = np.floor(shares + 1e-9).astype(np.int64)
    rest = np.where(found < most, shares - found, -1.0)
    found[np.argsort(-rest, kind="stable")[: total - int(found.sum())]] += 1
    return found
