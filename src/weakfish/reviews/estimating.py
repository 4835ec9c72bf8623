"""How good labels are, by answers to the questions of frames: unbiased shares with 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.contracts.gold import UNKNOWN
from weakfish.errors import UserError
from weakfish.reviews.frames import Floats, Frame, Ints, Strata

Bools = npt.NDArray[np.bool_]

SHRINK = 1.5
"""Rows with the share of all strata that are added to each before its variance is taken, which would be too small where
few are answered."""

UNSEEN = 0.75
"""Observations of either kind that are assumed beside the answers. Jeffreys' half is too little where what is rare is
found in few rows that stand for many: it covered a recall of TREC in 91 to 93 of 100 draws."""

TAIL = 0.025
"""Of the intervals, on either side."""

SURE = 1.959963984540054
"""The quantile of the normal distribution that belongs to it."""

TINY = 1e-300
"""In place of 0 below a fraction whose upper part is 0 as well."""


@dataclass(frozen=True, eq=False)
class FrameAnswers:
    """Answers to the questions of frames.

    Attributes
    ----------
    keys : list of str
    classes : numpy.ndarray, int64, (answers,)
        Positions in the task's classes; `UNKNOWN` where the reviewer skipped the row or was unsure.
    weights : numpy.ndarray, float64, (answers,)
        How many rows each answer stands for by its frame, up to a factor; 0 where there is no class. Frames count by
        their answers. Who does not answer makes the sample of the stratum smaller.
    """

    keys: list[str]
    classes: Ints
    weights: Floats

    @classmethod
    def of(cls, frames: Mapping[str, Frame], answers: Iterable[tuple[str, str, int]]) -> FrameAnswers:
        """Those of (session, key, class), one for each question that was shown; ``frames`` are by session.

        Raises
        ------
        UserError
            When a row was not drawn by the frame of its session, or is answered twice in it.
        """
        drawn = {session: dict(zip(frame.keys, frame.places, strict=True)) for session, frame in frames.items()}
        keys, classes, weights = list[str](), list[int](), list[float]()
        by_session: dict[str, dict[str, int]] = {session: {} for session in frames}
        for session, key, label in answers:
            if key not in drawn.get(session, {}):
                raise UserError(f"Row {key} was not drawn for estimate session {session}, so it can estimate nothing.")
            if key in by_session[session]:
                raise UserError(f"Row {key} is answered twice in estimate session {session}; keep the last answer.")
            by_session[session][key] = label
        for session, found in by_session.items():
            places = np.array([drawn[session][key] for key in found], np.int64)
            labels = np.array(list(found.values()), np.int64)
            keys += found
            classes += labels.tolist()
            weights += _weights(frames[session], places, labels != UNKNOWN).tolist()
        return cls(keys, np.array(classes, np.int64), np.array(weights))


def _weights(frame: Frame, places: Ints, answered: Bools) -> Floats:
    """The rows of a stratum for each answer, over those of the frame, times all answers."""
    counts = np.maximum(np.bincount(places[answered], minlength=len(frame.strata)), 1)
    found: Floats = answered * (np.array(frame.rows) / counts)[places] * answered.sum() / max(sum(frame.rows), 1)
    return found


@dataclass(frozen=True, eq=False)
class LabelsToday:
    """Today's labels, by whatever strata; those of the last frame do.

    Attributes
    ----------
    strata : Strata
    of_answers : numpy.ndarray, int64, (answers,)
        The stratum of each answered row, `UNKNOWN` where the events no longer have it.
    rows : numpy.ndarray, int64, (strata,)
        How many rows of the test side (or of a slice of it) are in each, see `Strata.counts`.
    """

    strata: Strata
    of_answers: Ints
    rows: Ints


@dataclass(frozen=True)
class Estimated:
    """A share between 0 and 1 with its 95 % interval, and the answers that it is about."""

    value: float
    low: float
    high: float
    answers: int

    @property
    def width(self) -> float:
        """Of the interval."""
        return self.high - self.low

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return {name: round(value, 4) for name, value in vars(self).items()}


@dataclass(frozen=True)
class ClassEstimates:
    """Of one class; None where no answer is about it."""

    precision: Estimated | None
    recall: Estimated | None
    share: Estimated | None

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return {name: value and value.to_json() for name, value in vars(self).items()}


@dataclass(frozen=True)
class ReviewEstimates:
    """What answers say of today's labels; accuracy is over the rows that have a label."""

    answers: int
    unanswered: int
    accuracy: Estimated | None
    classes: dict[str, ClassEstimates]

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return {
            "answers": self.answers,
            "unanswered": self.unanswered,
            "accuracy": self.accuracy and self.accuracy.to_json(),
            "classes": {name: found.to_json() for name, found in self.classes.items()},
        }


def estimates(answers: FrameAnswers, today: LabelsToday, within: Bools | None = None) -> ReviewEstimates:
    """Accuracy, and precision, recall and share of each class, of all rows of the test side or of a slice.

    Parameters
    ----------
    within : (answers,), optional
        Which answered rows are in the slice; then ``today.rows`` are those of the slice.

    Notes
    -----
    Rows are post-stratified by today's labels: each answer counts by its weight among those of its stratum, and a
    stratum by its rows. So labels may change after the frame was drawn, and sessions add up. Intervals of shares are
    beta with the mean and variance of a posterior, of which `UNSEEN` observations on either side are spread over the
    strata by their rows, with a finite-population correction and the t quantile (Korn and Graubard 1998). A recall
    is a ratio of two independent totals, whose intervals are joined on the logarithm of the odds (Zou and Donner 2008).
    """
    here = (today.of_answers != UNKNOWN) & (True if within is None else within)
    told = here & (answers.classes != UNKNOWN)
    cells = _Cells.of(answers.classes[told], answers.weights[told], today.of_answers[told], today)
    own = cells.labels
    decided = own != UNKNOWN
    right = np.where(decided, cells.counts[np.arange(len(own)), own], 0.0)
    return ReviewEstimates(
        int(told.sum()),
        int((here & ~told).sum()),
        cells.part(decided).share(right[decided]),
        {name: _of_class(cells, place) for place, name in enumerate(today.strata.classes)},
    )


def _of_class(cells: _Cells, place: int) -> ClassEstimates:
    said, counts = cells.labels == place, cells.counts[:, place]
    return ClassEstimates(cells.part(said).share(counts[said]), _recall(cells, place, said), cells.share(counts))


@dataclass(frozen=True, eq=False)
class _Cells:
    """Answers by today's stratum.

    Attributes
    ----------
    labels, rows : numpy.ndarray, int64, (strata,)
        The class of each, and its rows.
    answers : numpy.ndarray, int64, (strata, classes)
        As they were given.
    worth : numpy.ndarray, float64, (strata,)
        Answers of equal weight that say as much as these (Kish 1965).
    counts : numpy.ndarray, float64, (strata, classes)
        Of these, by class.
    """

    labels: Ints
    rows: Ints
    answers: Ints
    worth: Floats
    counts: Floats

    @classmethod
    def of(cls, classes: Ints, weights: Floats, places: Ints, today: LabelsToday) -> _Cells:
        size = len(today.strata)
        weight, squares = (np.bincount(places, of, minlength=size) for of in (weights, weights**2))
        worth = weight**2 / np.maximum(squares, TINY)
        answers = np.zeros((size, len(today.strata.classes)), np.int64)
        by_class = answers.astype(np.float64)
        np.add.at(answers, (places, classes), 1)
        np.add.at(by_class, (places, classes), weights)
        counts = by_class * (worth / np.maximum(weight, TINY))[:, None]
        return cls(today.strata.labels(), today.rows, answers, worth, counts)

    def part(self, which: Bools) -> _Cells:
        """Some of the strata."""
        return _Cells(*(found[which] for found in vars(self).values()))

    def share(self, counts: Floats) -> Estimated | None:
        """The share of rows of which ``counts`` (strata,) were found among the answers; None without answers."""
        told = self.interval(counts)
        if told is None or not self.answers.sum():
            return None
        return Estimated(told.point, told.low, told.high, int(self.answers.sum()))

    def interval(self, counts: Floats) -> _Share | None:
        """The same, None where there are no rows; without answers it may be anything."""
        there = self.rows > 0
        counts, rows, worth = counts[there], self.rows[there], self.worth[there]
        if not rows.sum():
            return None
        q, any_ = rows / rows.sum(), worth > 0
        pooled = (counts.sum() + UNSEEN) / (worth.sum() + 2 * UNSEEN)
        point = np.where(any_, counts / np.maximum(worth, TINY), pooled)
        more = SHRINK * (1 - q)
        shrunk = (counts + UNSEEN * q + more * pooled) / (worth + 2 * UNSEEN * q + more)
        left = 1 - np.minimum(worth / rows, 1)
        expected = np.where(any_, (counts + UNSEEN * q) / (worth + 2 * UNSEEN * q), pooled)
        middle = float(q @ (point + left * (expected - point)))
        variance = float(q**2 @ (left * shrunk * (1 - shrunk) / np.maximum(worth + 2 * q, 1)))
        freedom = worth.sum() - any_.sum() if len(rows) > 1 else np.inf
        return _Share.of(float(q @ point), middle, variance, max(float(freedom), 1.0), int(rows.sum()))


@dataclass(frozen=True)
class _Share:
    """A share of so many rows: unbiased, in the middle of what it may be, and its interval."""

    point: float
    middle: float
    low: float
    high: float
    rows: int

    @classmethod
    def of(cls, point: float, middle: float, variance: float, freedom: float, rows: int) -> _Share:
        from scipy.special import betaincinv, stdtrit  # type: ignore[import-untyped]

        if variance < 1e-15:  # every row has an answer
            return cls(point, point, point, point, rows)
        wider = 1.0 if np.isinf(freedom) else (SURE / float(stdtrit(freedom, 1 - TAIL))) ** 2
        worth = (middle * (1 - middle) / variance - 1) * wider
        if worth <= 0.3:
            return cls(point, middle, 0.0, 1.0, rows)
        low, high = (float(betaincinv(middle * worth, (1 - middle) * worth, at)) for at in (TAIL, 1 - TAIL))
        return cls(point, middle, min(low, point), max(high, point), rows)


def _recall(cells: _Cells, place: int, said: Bools) -> Estimated | None:
    """Of the rows that are of a class, the share of which the label says so; ``said`` (strata,) is where it does."""
    counts, answers = cells.counts[:, place], int(cells.answers[:, place].sum())
    found, missed = (cells.part(which).interval(counts[which]) for which in (said, ~said))
    if not answers:
        return None
    if found is None or missed is None or not found.high or not missed.high:
        value = float(found is not None and found.high > 0)
        return Estimated(value, value, value, answers)
    hit, miss = (each.rows * each.point for each in (found, missed))
    odds = [np.array([each.middle, each.low, each.high]) * each.rows for each in (found, missed)]
    with np.errstate(divide="ignore"):
        (middle, low, high), (other, other_low, other_high) = (np.log(each) for each in odds)
    down, up = np.hypot(middle - low, other_high - other), np.hypot(high - middle, other - other_low)
    value = float(hit / (hit + miss))
    with np.errstate(over="ignore"):
        low, high = (1 / (1 + np.exp(other - middle - by)) for by in (-down, up))
    return Estimated(value, min(float(low), value), max(float(high), value), answers)
