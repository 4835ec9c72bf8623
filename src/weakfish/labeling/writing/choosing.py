"""Chooses among candidates, greedily: each next one covers most target rows that none before it covers.

Where candidates hold and what labels say comes in; groups of candidates leave, each fit for one labeling function.
Words of one column for one class become one function, and so do values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, hstack  # type: ignore[import-untyped]

from weakfish.labeling.writing.candidates import Candidate
from weakfish.labeling.writing.code import GROUPED
from weakfish.labeling.writing.estimates import Evidence, Floats, Precision, precision, untangled
from weakfish.labeling.writing.labelled import FEW, Group, Kind, Labelled

LEAST = 5
"""Target rows that a function covers beyond those before it, at least."""

TRIES = 10
"""Precisions asked of single candidates, from the one wanted on, so that what they become has it for sure."""

MOST_HELD = 0.75
"""Of covered rows: what holds on more of them is no rule."""

MOST_IN_ONE = 40
"""Words or values of one function."""

REPEATED = 0.7
"""Of the rows of a candidate and a function together: where both hold on more, one repeats the other."""

SHARED_ROWS, SHARED_ENTITIES = 5, 3
"""Rows, and different values of each entity column, that share a condition, so that it quotes nobody."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Settings:
    """The precision asked for, and the class balance that the label model assumes."""

    wanted: float
    balance: Floats


@dataclass(frozen=True)
class Chosen:
    """Candidates for one function, the most precise first, with what is expected of it."""

    kind: Kind
    label: int
    candidates: tuple[Candidate, ...]
    estimate: float
    low: float
    expected: float


@dataclass(frozen=True)
class Choice:
    """What was chosen for one kind of rows.

    Attributes
    ----------
    like, themselves : list of float
        The share of each class, each estimated on its own: among covered rows, those with few votes counting most; and
        among the target rows themselves.
    best : list of float
        The best lower bound that any candidate has, by class; 0 where there is none.
    """

    chosen: list[Chosen]
    like: list[float]
    themselves: list[float]
    best: list[float]


@dataclass(frozen=True)
class _Targets:
    """Rows to be covered."""

    holds: csc_matrix
    rows: int
    counts: Floats


def choose(
    labelled: Labelled, kind: Kind, settings: Settings, most: int, before: Sequence[Sequence[Candidate]] = ()
) -> Choice:
    """Groups of candidates for target rows of a kind, at most ``most``; what ``before`` covers counts as covered."""
    targets = _targets(labelled, kind)
    classes = range(len(settings.balance))
    if not targets.rows or not len(labelled.votes):
        return Choice([], [], [], [])
    own = labelled.undecided if kind == "undecided" else None
    evidence = Evidence.of(labelled.probabilities, labelled.by_function, settings.balance, own)
    held = np.asarray(labelled.covered.holds.sum(axis=0)).ravel()
    usable = np.flatnonzero((targets.counts >= FEW) & (held > 0) & (held <= MOST_HELD * len(labelled.votes)))
    counts, holds = targets.counts[usable], labelled.covered.holds[:, usable]
    free = untangled(evidence, holds)
    found = [precision(evidence, holds, label, counts, targets.rows, free) for label in classes]
    estimates = [np.zeros(len(labelled.candidates)) for _ in classes]
    for label in classes:
        estimates[label][usable] = found[label].estimate
    tries = []
    for asked in np.linspace(settings.wanted, 1, TRIES, endpoint=False):
        eligible = [(int(usable[at]), label) for label in classes for at in np.flatnonzero(found[label].enough(asked))]
        if kind == "undecided":
            eligible = [(place, label) for place, label in eligible if not _repeats(labelled, place, label)]
        groups = _greedy(labelled, targets, eligible, most, _covered(labelled, targets, before))
        tries.append(_fitting(labelled, targets, kind, evidence, groups, found, estimates, settings.wanted, before))
    best = [float(each.low.max(initial=0)) for each in found]
    chosen = max(tries, key=lambda each: sum(one.expected for one in each))
    return Choice(chosen, [each.share for each in found], [each.target_share for each in found], best)


def _targets(labelled: Labelled, kind: Kind) -> _Targets:
    group = labelled.uncovered.holds if kind == "uncovered" else labelled.covered.holds.tocsr()[labelled.undecided]
    return _Targets(group.tocsc(), group.shape[0], np.asarray(group.sum(axis=0)).ravel().astype(np.float64))


def _covered(labelled: Labelled, targets: _Targets, before: Sequence[Sequence[Candidate]]) -> Bools:
    """Target rows on which any of the candidates chosen before holds."""
    places = {candidate: place for place, candidate in enumerate(labelled.candidates)}
    columns = [places[candidate] for group in before for candidate in group]
    return _any(targets.holds[:, columns])


def _greedy(
    labelled: Labelled, targets: _Targets, eligible: Sequence[tuple[int, int]], most: int, covered: Bools
) -> dict[tuple[object, ...], list[int]]:
    """Places of candidates by what becomes one function, each list in the order of choice."""
    groups: dict[tuple[object, ...], list[int]] = {}
    left = np.ones(len(eligible), np.bool_)
    holds = targets.holds[:, [place for place, _ in eligible]]
    covered = covered.copy()
    while left.any():
        gains = np.where(left, holds.T @ (~covered).astype(np.float32), 0)
        at = int(gains.argmax())
        if gains[at] < FEW:
            break
        left[at] = False
        place, label = eligible[at]
        candidate = labelled.candidates[place]
        grouped = candidate.kind in GROUPED
        group = (label, candidate.column, candidate.kind, None if grouped else candidate.value)
        if (
            (group not in groups and len(groups) >= most)
            or (not grouped and gains[at] < LEAST)
            or len(groups.get(group, ())) >= MOST_IN_ONE
            or not _shared(labelled, place)
        ):
            continue
        groups.setdefault(group, []).append(place)
        covered |= _any(holds[:, [at]])
    return groups


def _fitting(
    labelled: Labelled,
    targets: _Targets,
    kind: Kind,
    evidence: Evidence,
    groups: dict[tuple[object, ...], list[int]],
    found: Sequence[Precision],
    estimates: Sequence[Floats],
    wanted: float,
    before: Sequence[Sequence[Candidate]],
) -> list[Chosen]:
    """Of each group as many candidates, the most precise first, as keep the function's lower bound at ``wanted``."""
    chosen: list[Chosen] = []
    covered = _covered(labelled, targets, before)
    for (label, *_), places in groups.items():
        assert isinstance(label, int)  # noqa: S101  keys begin with it
        places = sorted(places, key=lambda place: (-estimates[label][place], place))
        starts = [places[: number + 1] for number in range(len(places))]
        unions = hstack([_union(labelled.covered.holds[:, start]) for start in starts]).tocsc()
        counts = np.array([_any(targets.holds[:, start]).sum() for start in starts], np.float64)
        fit = precision(evidence, unions, label, counts, targets.rows, found[label].target_share)
        good = np.flatnonzero((fit.low >= wanted) & fit.enough(wanted))
        if not len(good):
            continue
        held = _any(targets.holds[:, starts[good[-1]]])
        adds = int((held & ~covered).sum())
        if adds < LEAST:
            continue
        covered |= held
        candidates = tuple(labelled.candidates[place] for place in starts[good[-1]])
        estimate, low = float(fit.estimate[good[-1]]), float(fit.low[good[-1]])
        chosen.append(Chosen(kind, label, candidates, estimate, low, adds / targets.rows))
    return chosen


def _repeats(labelled: Labelled, place: int, label: int) -> bool:
    """Whether some function votes for the class on nearly the same rows: beside it, the candidate says nothing."""
    holds = _any(labelled.covered.holds[:, [place]])
    said = labelled.by_function == label
    both = said[holds].sum(axis=0)
    return bool((both > REPEATED * (said.sum(axis=0) + holds.sum() - both)).any())


def _shared(labelled: Labelled, place: int) -> bool:
    """Whether enough rows, about enough different entities, have it; where most lack an entity, it is not asked for."""
    rows = [np.flatnonzero(_any(group.holds[:, [place]])) for group in _groups(labelled)]
    if sum(map(len, rows)) < SHARED_ROWS:
        return False
    for number in range(len(labelled.covered.entities)):
        about = np.concatenate([group.entities[number][at] for group, at in zip(_groups(labelled), rows, strict=True)])
        there = about[about >= 0]
        if 2 * len(there) >= len(about) and len(np.unique(there)) < SHARED_ENTITIES:
            return False
    return True


def _groups(labelled: Labelled) -> tuple[Group, Group]:
    return labelled.uncovered, labelled.covered


def _any(columns: csc_matrix) -> Bools:
    found: Bools = np.asarray(columns.sum(axis=1)).ravel() > 0
    return found


def _union(columns: csc_matrix) -> csc_matrix:
    return csc_matrix(_any(columns).astype(np.float32)[:, None])
