"""Classifiers at work: trained anew as periods pass, and corrected for the shares of classes that the votes tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from weakfish.contracts.gold import UNKNOWN
from weakfish.evaluation.aligned import Aligned
from weakfish.evaluation.classifiers import BySeed, Classifiers, SoftLabels
from weakfish.evaluation.measures import Bools, Predictions
from weakfish.evaluation.shares import MovedShares, at_level, decided, votes_shift
from weakfish.labeling.label_model import covered
from weakfish.project.params import TaskParams

Shifts = dict[int, MovedShares]


@dataclass(frozen=True)
class _Part:
    """What classifiers say of a stretch of the test rows.

    Attributes
    ----------
    rows, voted : numpy.ndarray, bool, (test rows,)
        Those of the stretch, and those of them with votes.
    says
        By classifier and seed, of the rows of the stretch; or why there is none.
    shifts
        By seed, where shares moved and the votes bear it out.
    """

    rows: Bools
    voted: Bools
    says: Mapping[str, BySeed | str]
    shifts: Shifts

    def at_level(self, says: BySeed, seed: int) -> Predictions:
        """What a classifier says of these rows, with the level that their shares ask for."""
        return at_level(says[seed], self.voted[self.rows], self.shifts[seed]) if seed in self.shifts else says[seed]


def learned_anew(
    inputs: Aligned, task: TaskParams, seeds: Sequence[int], positive: int
) -> tuple[dict[str, tuple[BySeed, BySeed] | str], MovedShares | None]:
    """What every classifier says of the test rows, as learned and at work, and what votes say of the shares of classes.

    Those on weak labels are trained for each stretch of the test rows on all that comes before it. Each stretch is
    corrected for its own shares where its votes bear out that they moved, and so do those of all test rows; these
    are what is returned, by label models of the rows before the split.
    """
    classifiers = Classifiers(inputs, task.label_model.seed)
    test, ceiling = inputs.test != UNKNOWN, classifiers.on_gold_labels(seeds)
    voted, whole, parts = covered(inputs.votes[test]), Shifts(), list[_Part]()
    for stretch in classifiers.stretches:
        labels, rows = classifiers.soft_labels(task, seeds, stretch), stretch.test[test]
        if labels and not parts:
            whole = _shifts(labels, test, task, inputs.functions)
        shifts = _shifts(labels, stretch.test, task, inputs.functions) if labels else {}
        says: dict[str, BySeed | str] = {}
        for what, of in classifiers.on_weak_labels(labels, stretch).items():
            says |= {f"{what}_weak": of, f"{what}_gold": _at(ceiling[what], rows)}
        moved = {seed: of for seed, of in shifts.items() if of.holds and seed in whole and whole[seed].holds}
        parts.append(_Part(rows, voted, says, moved))
    return {name: _together(name, parts, positive) for name in parts[0].says}, whole.get(task.label_model.seed)


def _together(name: str, parts: Sequence[_Part], positive: int) -> tuple[BySeed, BySeed] | str:
    """What a classifier says of all stretches, by seed, as learned and at work; or why there is none."""
    found: list[tuple[_Part, BySeed]] = []
    for part in parts:
        says = part.says[name]
        if isinstance(says, str):
            return says
        found.append((part, says))
    raw, used = BySeed(), BySeed()
    for seed in found[0][1]:
        raw[seed] = Predictions.together([(part.rows, says[seed]) for part, says in found])
        used[seed] = Predictions.together([(part.rows, part.at_level(says, seed)) for part, says in found])
        if any(seed in part.shifts for part in parts):
            used[seed] = decided(used[seed], positive)
    return raw, used


def _at(of: BySeed | str, rows: Bools) -> BySeed | str:
    """Predictions of some rows, or the reason why there are none."""
    return of if isinstance(of, str) else {seed: says.at(rows) for seed, says in of.items()}


def _shifts(labels: SoftLabels, rows: Bools, task: TaskParams, functions: Sequence[str]) -> Shifts:
    """What the votes say of the shares of classes among the new rows of ``rows``, by seed."""
    balance = np.array(task.label_model.class_balance or [1 / len(task.classes)] * len(task.classes))
    (train, new), own = labels.votes, rows[labels.new]
    return {
        seed: votes_shift((train, new[own]), (old, of_new[own]), balance, functions)
        for seed, (old, of_new) in labels.by_seed.items()
    }
