"""Which rows to ask about so that answers teach most, or show what one function decides: dev rows, picked on purpose.

Picked rows are harder than others, so the share of right labels among them says nothing of all. They are of another
type than the questions of a frame (`weakfish.reviews.frames`), and only from those can anything be estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from weakfish.contracts.gold import UNKNOWN
from weakfish.contracts.votes_file import ABSTAIN, Votes

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DOUBT = 2.0
"""The power of the doubt about a row's label, by which the row is more likely to be picked."""

RARE, MOST = 0.5, 4.0
"""The power of how rare a class is, by which its rows are more likely to be picked, and the most that this may make."""

NEW = 2.0
"""How much more likely a row is to be picked whose partition has no answer, where another one has."""

PRIOR = 2.0
"""Answers to rows with the same votes that are worth as much as the posterior."""

SAME = 0.01
"""The share of all rows from which on a pattern of votes is called frequent."""

FLOOR = 1e-9


@dataclass(frozen=True)
class Picked:
    """A row of the dev side that is worth an answer, by its place, and why, in a few words."""

    row: int
    purpose: Literal["learn", "audit"]
    reason: str


@dataclass(frozen=True, eq=False)
class PickableRows:
    """The rows of a task as the labels have them.

    Attributes
    ----------
    classes, functions : sequence of str
    votes : numpy.ndarray, int8, (rows, functions)
    posterior : numpy.ndarray, (rows, classes)
        As published.
    dev : numpy.ndarray, bool, (rows,)
        See `weakfish.reviews.sides.is_dev`; others are never picked.
    periods : sequence of str
        Names of partitions.
    partition : numpy.ndarray, int64, (rows,)
        The one of each row, by its place in ``periods``.
    """

    classes: Sequence[str]
    functions: Sequence[str]
    votes: Votes
    posterior: Floats
    dev: Bools
    periods: Sequence[str]
    partition: Ints

    @cached_property
    def patterns(self) -> tuple[Ints, Ints]:
        """The pattern of votes of each row, (rows,), and how many rows have each, (patterns,)."""
        size = self.votes.shape[1:]
        factors: list[int] = np.random.default_rng(0).integers(1, 1 << 62, size=size).tolist()
        hashes = np.zeros(len(self.votes), np.int64)
        for column, factor in enumerate(factors):
            hashes += (self.votes[:, column].astype(np.int64) + 2) * factor  # wraps, which is as good
        _, places, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        return places.astype(np.int64), counts.astype(np.int64)

    @cached_property
    def doubt(self) -> Floats:
        """How likely the most probable class of each row is not its class, (rows,)."""
        found: Floats = 1 - self.posterior.max(axis=1)
        return found

    @cached_property
    def worth(self) -> Floats:
        """How much more the rows of each class count because it is rare, (classes,)."""
        shares = np.maximum(self.posterior.mean(axis=0), FLOOR)
        found: Floats = np.clip((1 / (len(self.classes) * shares)) ** RARE, 1.0, MOST)
        return found


@dataclass(frozen=True, eq=False)
class AnsweredSoFar:
    """What is answered of the rows: the class of each, `UNKNOWN` where none is, and which were shown, both (rows,).

    Rows that were skipped were shown, so they are not asked about again.
    """

    classes: Ints
    shown: Bools

    @staticmethod
    def nothing(rows: int) -> AnsweredSoFar:
        """Of so many rows."""
        return AnsweredSoFar(np.full(rows, UNKNOWN), np.zeros(rows, bool))


def learn(rows: PickableRows, so_far: AnsweredSoFar, questions: int, seed: int) -> list[Picked]:
    """The next rows to ask about so that labels become better, in the order of the draw.

    They are drawn at random, each with a chance that grows with the doubt about its label, given the answers so far to
    rows with the same votes; so patterns that many rows have come more often. Chances are higher for a rare class and
    for a partition without answers. To ask about the rows that are doubted most would do worse than a draw: they are no
    picture of the rest, and functions would be judged by where they fail; docs/reviews.md has the figures. The same
    arguments pick the same rows.
    """
    free = np.flatnonzero(rows.dev & ~so_far.shown & (so_far.classes == UNKNOWN))
    random = np.random.default_rng([seed, int(so_far.shown.sum())])
    shares = _shares(rows, so_far)
    weights = shares.doubt[free] ** DOUBT * shares.more[free] + FLOOR
    places = _drawn(weights, questions, random)
    return [Picked(int(row), "learn", shares.reason(int(row))) for row in free[places]]


def _drawn(weights: Floats, number: int, random: np.random.Generator) -> Ints:
    """So many places without repetition, with chances in the proportion of weights (Efraimidis and Spirakis 2006)."""
    late = random.exponential(size=len(weights)) / weights
    number = min(number, len(late))
    first = np.argpartition(late, number - 1)[:number] if number else np.zeros(0, np.int64)
    found: Ints = first[np.argsort(late[first], kind="stable")]
    return found


@dataclass(frozen=True, eq=False)
class _Shares:
    """What makes rows likely to be picked, (rows,) each: the doubt by answers so far, and what it is multiplied by."""

    rows: PickableRows
    doubt: Floats
    more: Floats
    new: Bools

    def reason(self, row: int) -> str:
        """Why a row is asked about."""
        of, posterior = self.rows, self.rows.posterior[row]
        votes = of.votes[row][of.votes[row] != ABSTAIN]
        counts = np.bincount(votes, minlength=len(of.classes))
        said = [f"{counts[place]} {of.classes[place]}" for place in np.argsort(-counts, kind="stable") if counts[place]]
        first, second = np.argsort(-posterior, kind="stable")[:2]
        found = ["no function votes"] if not said else []
        found += [f"functions contradict each other ({', '.join(said[:3])})"] if len(said) > 1 else []
        found += [f"unsure: {of.classes[first]} {posterior[first]:.2f}, {of.classes[second]} {posterior[second]:.2f}"]
        rare = int((posterior * of.worth).argmax())
        if of.worth[rare] > 1.2 and posterior[rare] > 1 / len(of.classes):
            found.append(f"class {of.classes[rare]} is rare")
        if self.new[of.partition[row]]:
            found.append(f"{of.periods[of.partition[row]]} has no answers yet")
        places, sizes = of.patterns
        if said and sizes[places[row]] >= SAME * len(of.votes):
            found.append(f"{sizes[places[row]]:,} rows have these votes")
        return "; ".join(found[:3])


def _shares(rows: PickableRows, so_far: AnsweredSoFar) -> _Shares:
    patterns, sizes = rows.patterns
    told = np.flatnonzero(so_far.classes != UNKNOWN)
    doubt = rows.doubt.copy()
    if len(told):
        known, which = np.unique(patterns[told], return_inverse=True)
        counts = np.zeros((len(known), len(rows.classes)))
        np.add.at(counts, (which, so_far.classes[told]), 1)
        place = np.full(len(sizes), UNKNOWN)
        place[known] = np.arange(len(known))
        same = np.flatnonzero(place[patterns] != UNKNOWN)
        own = counts[place[patterns[same]]]
        shares = (PRIOR * rows.posterior[same] + own) / (PRIOR + own.sum(axis=1, keepdims=True))
        doubt[same] = 1 - shares.max(axis=1)
    answers = np.bincount(rows.partition[told], minlength=len(rows.periods))
    new = (answers == 0) & (answers.sum() > 0)
    more = rows.posterior @ rows.worth * np.where(new[rows.partition], NEW, 1.0)
    return _Shares(rows, doubt, more, new)


def audit(
    rows: PickableRows,
    function: int,
    by_votes: Callable[[Votes], Floats],
    so_far: AnsweredSoFar,
    questions: int,
    seed: int,
    read: Bools | None = None,
) -> list[Picked]:
    """Rows of which a function alone decides the label, at random among them: without its vote the label is another.

    Parameters
    ----------
    function
        Its place among the functions.
    by_votes
        What the label model makes of votes, (rows, classes); it is asked once for each distinct pattern.
    read : (rows,), optional
        Of which rows a reader knows something; others are undecided without votes.
    """
    alone, without = decided_by(rows, function, by_votes, read)
    free = np.flatnonzero(rows.dev[alone] & ~so_far.shown[alone])
    chosen = np.random.default_rng([seed, int(so_far.shown.sum())]).permutation(free)[:questions]
    name = rows.functions[function]

    def reason(place: int) -> str:
        else_ = "undecided" if without[place] == UNKNOWN else rows.classes[without[place]]
        return f"only {name} says {rows.classes[rows.votes[alone[place], function]]}; without it {else_}"

    return [Picked(int(alone[place]), "audit", reason(place)) for place in chosen.tolist()]


def decided_by(
    rows: PickableRows, function: int, by_votes: Callable[[Votes], Floats], read: Bools | None = None
) -> tuple[Ints, Ints]:
    """The rows of which a function alone decides the label, and the label without its vote, `UNKNOWN` if undecided."""
    voted = np.flatnonzero(rows.votes[:, function] != ABSTAIN)
    _, first, which = np.unique(rows.patterns[0][voted], return_index=True, return_inverse=True)
    votes = rows.votes[voted[first]]
    without = votes.copy()
    without[:, function] = ABSTAIN
    if not len(votes):
        return voted, voted
    before, after = (np.log(np.maximum(by_votes(each), FLOOR)) for each in (votes, without))
    logs = np.log(np.maximum(rows.posterior[voted], FLOOR))
    then = logs + (after - before)[which]
    rest = (without != ABSTAIN).any(axis=1)[which] | (np.zeros(len(voted), bool) if read is None else read[voted])
    order = np.sort(then, axis=1)
    undecided = ~rest | (order[:, -1] - order[:, -2] < FLOOR)
    said, said_before = then.argmax(axis=1), logs.argmax(axis=1)
    mine = np.flatnonzero((undecided | (said != said_before)) & (said_before == rows.votes[voted, function]))
    return voted[mine], np.where(undecided, UNKNOWN, said)[mine]
