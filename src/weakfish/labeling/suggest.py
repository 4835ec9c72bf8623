"""Suggest rules for rows that the functions leave open, chosen greedily among candidates.

Each next candidate covers most target rows that none before it covers. Words of one column for one class become one
function, and so do values.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import csc_matrix, hstack, vstack  # type: ignore[import-untyped]

from weakfish.contracts.tables import open_partition, partitions
from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.engine import duckdb as compute
from weakfish.errors import TableError, UnknownName
from weakfish.labeling.candidates import FEW, Candidate, Examined, Labelled, labels_of, read_labelled
from weakfish.labeling.estimates import Evidence, Floats, precision, untangled
from weakfish.labeling.label_model import majority
from weakfish.labeling.matrix import EVENTS_BATCH
from weakfish.labeling.plan import VotePlan
from weakfish.labeling.trial import UNKNOWN, Bools, DevGold, Ints
from weakfish.project.paths import Project
from weakfish.project.runs import Progress
from weakfish.rules.loading import FOLDER, events_schema, load_functions
from weakfish.rules.rule import Form, Rule

Kind = Literal["uncovered", "undecided"]
"""Rows without a vote; rows with a single one, or whose most probable class is not probable enough."""

KINDS: tuple[Kind, ...] = ("uncovered", "undecided")

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

FORMS: dict[str, Form] = {"word": "keywords", "value": "lookup"}
"""The form of a rule for a kind of candidate of which one function holds several; others are named as the kind is."""

WHY = "Suggested from the labels, not by anyone who knows why it should work: say so here, or leave it out."

COUNTED = ("votes", "adds", "gold", "correct", "gold_added", "correct_added")
"""What is counted of a function in rows: it votes; these are of the kind that it is for and no suggestion before it
votes; those on which it votes have dev gold, and it is right; the same of the rows that it adds."""


@dataclass(frozen=True)
class Pick:
    """Candidates for one function, the most precise first, with what is expected of it.

    Attributes
    ----------
    kind : str
        The rows that it was chosen for.
    estimate, low : float
        Of its precision on those rows, and the lower bound (`estimates.LEVEL`).
    expected : float
        The share of those rows that it was estimated to cover beyond the suggestions before it.
    """

    kind: Kind
    label: int
    candidates: tuple[Candidate, ...]
    estimate: float
    low: float
    expected: float


@dataclass(frozen=True)
class Suggestion:
    """A rule, what it was made of, and what it does on all events: rows by what `COUNTED` names."""

    rule: Rule
    pick: Pick
    counts: Counter[str]


@dataclass(frozen=True)
class Suggestions:
    """All suggestions for a task, best first within their kind.

    Attributes
    ----------
    task : str
    classes : list of str
    rows : dict of str to int
        How many rows there are: ``all``, ``uncovered``, ``undecided``; and how many were looked at of uncovered and
        covered ones: ``looked_at_uncovered``, ``looked_at_covered``.
    balance : dict
        By kind of row, the share of each class among covered rows like those, and as estimated among themselves.
    best : dict of str to list of float
        By kind of row, the best lower bound of any candidate for each class.
    suggestions : list of Suggestion
    wanted : float
        The precision asked for.
    together : dict of str to Counter
        By kind, what the majority of all its suggestions does, as of one.
    refuted : int
        Conditions that are precise enough as estimated, and not by dev gold.
    """

    task: str
    classes: list[str]
    rows: dict[str, int]
    balance: dict[str, dict[str, list[float]]]
    best: dict[str, list[float]]
    suggestions: list[Suggestion]
    wanted: float
    together: dict[str, Counter[str]]
    refuted: int


def suggest(
    project: Project, task: str, wanted: float = 0.9, most: int = 10, columns: Sequence[str] | None = None
) -> Suggestions:
    """Rules for rows without a vote, and for those with a single one or an undecided probability.

    Parameters
    ----------
    wanted
        The precision that each rule must be estimated to have, and each function's lower bound too.
    most
        How many functions to suggest at most.
    columns
        Where to look; None for all columns but the key, times and entities.

    Raises
    ------
    UnknownName
        When there is no such task or column.
    TableError
        When there are no labels, or they are of other events.
    """
    schema = events_schema(project)
    if schema is None:
        raise TableError("There are no events in data/events; run `dvc repro accept`, which makes them.")
    for name in columns or ():
        if name not in schema.names:
            raise UnknownName("column", name, schema.names, "data/events")
    settings = project.task(task)
    labelled = read_labelled(project, task, columns)
    class_balance, picks, found = np.array(settings.label_model.class_balance), list[Pick](), {}
    for kind in KINDS:
        found[kind] = choose(labelled, kind, wanted, class_balance, most - len(picks), picks)
        picks += found[kind].chosen
    taken = _names(project, task)
    rules = [
        _rule(pick, f"suggested_{settings.classes[pick.label]}_by_{pick.candidates[0].column}", taken) for pick in picks
    ]
    counts, together = _counted(project, task, rules, picks)
    looked_at = {"looked_at_uncovered": labelled.uncovered.holds.shape[0], "looked_at_covered": len(labelled.votes)}
    return Suggestions(
        task=task,
        classes=list(settings.classes),
        rows={**labelled.totals, **looked_at},
        balance={kind: {"like": each.like, "themselves": each.themselves} for kind, each in found.items()},
        best={kind: each.best for kind, each in found.items()},
        suggestions=[Suggestion(*each) for each in zip(rules, picks, counts, strict=True)],
        wanted=wanted,
        together=together,
        refuted=sum(each.refuted for each in found.values()),
    )


def _names(project: Project, task: str) -> set[str]:
    """Names that are taken: of the task's functions, and whatever else was suggested and pasted, in use or not."""
    files = sorted((project.root / FOLDER).glob("*.py"))
    pasted = [name for file in files for name in re.findall(r"\bsuggested_\w+", file.read_text(encoding="utf-8"))]
    return {*(function.name for function in load_functions(project, task)), *pasted}


def _rule(pick: Pick, name: str, taken: set[str]) -> Rule:
    """The rule that votes where any of the candidates holds, all of one column and kind; its name gets a number where
    that is taken, and is taken from now on."""
    name = next(
        each for each in (name, *(f"{name}_{number}" for number in range(2, len(taken) + 2))) if each not in taken
    )
    taken.add(name)
    first = pick.candidates[0]
    words = tuple(str(each.value) for each in pick.candidates) if first.kind in FORMS else ()
    value = None if words else first.value
    if value is not None and value == int(value):
        value = int(value)
    form = FORMS.get(first.kind, cast(Form, first.kind))
    return Rule(name=name, label=pick.label, column=first.column, form=form, words=words, value=value, why=WHY)


@dataclass(frozen=True)
class Selection:
    """What was chosen for one kind of rows.

    Attributes
    ----------
    like, themselves : list of float
        The share of each class, each estimated on its own: among covered rows, those with few votes counting most; and
        among the target rows themselves.
    best : list of float
        The best lower bound that any candidate has, by class; 0 where there is none.
    refuted : int
        Candidates that are precise enough as estimated, and not by dev gold.
    """

    chosen: list[Pick]
    like: list[float]
    themselves: list[float]
    best: list[float]
    refuted: int = 0


def choose(
    labelled: Labelled, kind: Kind, wanted: float, balance: Floats, most: int, before: Sequence[Pick] = ()
) -> Selection:
    """Groups of candidates for target rows of a kind, at most ``most``; what ``before`` covers counts as covered.

    ``wanted`` is the precision asked for, ``balance`` the class balance that the label model assumes. What dev gold
    refutes is not chosen, nor are candidates for one class that together hold on more than `MOST_HELD` of the rows.
    """
    own = labelled.undecided if kind == "undecided" else None
    targets = labelled.uncovered.holds if own is None else labelled.covered.holds.tocsr()[own].tocsc()
    if not targets.shape[0] or not len(labelled.votes):
        return Selection([], [], [], [])
    places = {candidate: place for place, candidate in enumerate(labelled.candidates)}
    everywhere, classes = vstack([labelled.uncovered.holds, labelled.covered.holds]).tocsc(), range(len(balance))
    earlier = [[places[one] for pick in before if pick.label == label for one in pick.candidates] for label in classes]
    covered = _any(targets[:, list(chain.from_iterable(earlier))])
    counts, held = (np.asarray(group.sum(axis=0)).ravel() for group in (targets, labelled.covered.holds))
    usable = np.flatnonzero((counts >= FEW) & (held > 0) & (held <= MOST_HELD * len(labelled.votes)))
    evidence = Evidence.of(labelled.probabilities, labelled.by_function, balance, own)
    said = [_any(everywhere[:, these]) for these in earlier]
    aimed_at = np.zeros(everywhere.shape[0], np.bool_)
    aimed_at[: labelled.uncovered.holds.shape[0]] = own is None
    if own is not None:
        aimed_at[-len(own) :] = own
    chooser = _Chooser(
        _only(labelled, usable),
        kind,
        wanted,
        evidence,
        targets[:, usable],
        covered,
        everywhere[:, usable],
        said,
        aimed_at,
    )
    asked = np.linspace(wanted, 1, TRIES, endpoint=False)
    tries = [chooser.fitting(chooser.greedy(float(each), most)) for each in asked]
    return Selection(
        max(tries, key=lambda each: sum(one.expected for one in each)),
        [each.share for each in chooser.found],
        [each.target_share for each in chooser.found],
        [float(each.low.max(initial=0)) for each in chooser.found],
        chooser.refuted,
    )


def _only(labelled: Labelled, places: npt.NDArray[np.int64]) -> Labelled:
    """The same with those candidates alone."""
    uncovered, covered = (
        Examined(group.holds[:, places], group.entities) for group in (labelled.uncovered, labelled.covered)
    )
    candidates = [labelled.candidates[place] for place in places]
    dev = labelled.dev and replace(labelled.dev, holds=labelled.dev.holds[:, places])
    return replace(labelled, candidates=candidates, uncovered=uncovered, covered=covered, dev=dev)


class _Chooser:
    """Chooses among the candidates of ``labelled``; ``targets`` says where each holds among the target rows.

    Parameters
    ----------
    covered
        Target rows that need no more suggestions.
    everywhere
        Where each candidate holds, among all rows looked at.
    said
        By class, on which of these rows suggestions for it vote already.
    aimed_at
        Which of these rows are the target rows.

    Attributes
    ----------
    found : list of Precision
        Of each candidate, by class.
    refuted : int
        Pairs of candidate and class that are precise enough, and not by dev gold.
    """

    def __init__(
        self,
        labelled: Labelled,
        kind: Kind,
        wanted: float,
        evidence: Evidence,
        targets: csc_matrix,
        covered: Bools,
        everywhere: csc_matrix,
        said: Sequence[Bools],
        aimed_at: Bools,
    ) -> None:
        self.labelled, self.kind, self.wanted, self.evidence = labelled, kind, wanted, evidence
        self.targets, self.covered, self.rows = targets, covered, targets.shape[0]
        self.everywhere, self.said, self.aimed_at = everywhere, said, aimed_at
        counts = np.asarray(targets.sum(axis=0)).ravel().astype(np.float64)
        holds = labelled.covered.holds
        free, classes = untangled(evidence, holds), range(len(evidence.balance))
        self.found, self.refuted = [], 0
        for label in classes:
            found, dev = precision(evidence, holds, label, counts, self.rows, free), labelled.dev
            if dev is not None:
                refuted = dev.refutes(dev.holds, label, kind, wanted)
                self.refuted += int((refuted & found.enough(wanted) & (found.low >= wanted)).sum())
                found = replace(
                    found, estimate=np.where(refuted, 0, found.estimate), low=np.where(refuted, 0, found.low)
                )
            self.found.append(found)

    def greedy(self, asked: float, most: int) -> dict[tuple[object, ...], list[int]]:
        """Places of candidates with that precision by what becomes one function, each list in the order of choice."""
        eligible = [
            (int(place), label)
            for label, found in enumerate(self.found)
            for place in np.flatnonzero(found.enough(asked))
            if self.kind == "uncovered" or not self._repeats(int(place), label)
        ]
        groups: dict[tuple[object, ...], list[int]] = {}
        left = np.ones(len(eligible), np.bool_)
        holds = self.targets[:, [place for place, _ in eligible]]
        covered = self.covered.copy()
        while left.any():
            gains = np.where(left, holds.T @ (~covered).astype(np.float32), 0)
            at = int(gains.argmax())
            if gains[at] < FEW:
                break
            left[at] = False
            place, label = eligible[at]
            candidate = self.labelled.candidates[place]
            grouped = candidate.kind in FORMS
            group = (label, candidate.column, candidate.kind, None if grouped else candidate.value)
            if (
                (group not in groups and len(groups) >= most)
                or (not grouped and gains[at] < LEAST)
                or len(groups.get(group, ())) >= MOST_IN_ONE
                or not self._is_shared(place)
            ):
                continue
            groups.setdefault(group, []).append(place)
            covered |= _any(holds[:, [at]])
        return groups

    def fitting(self, groups: dict[tuple[object, ...], list[int]]) -> list[Pick]:
        """Of each group as many candidates, the most precise first, as keep its lower bound where it must be.

        What dev gold refutes is left out, and what makes the rules for a class hold nearly everywhere, or several rules
        on nearly all target rows: that is to say the class of all, which is no rule.
        """
        chosen: list[Pick] = []
        covered, said, dev = self.covered.copy(), list(self.said), self.labelled.dev
        for (group, *_), places in groups.items():
            label = cast(int, group)
            found = self.found[label]
            places = sorted(places, key=lambda place: (-found.estimate[place], place))
            starts = [places[: number + 1] for number in range(len(places))]
            unions = _unions(self.labelled.covered.holds, starts)
            counts = np.asarray(_unions(self.targets, starts).sum(axis=0)).ravel().astype(np.float64)
            fit = precision(self.evidence, unions, label, counts, self.rows, found.target_share)
            good = (fit.low >= self.wanted) & fit.enough(self.wanted)
            if dev is not None:
                good &= ~dev.refutes(_unions(dev.holds, starts), label, self.kind, self.wanted)
            for best in np.flatnonzero(good)[::-1]:
                held, together = (
                    _any(self.targets[:, starts[best]]),
                    said[label] | _any(self.everywhere[:, starts[best]]),
                )
                adds = int((held & ~covered).sum())
                nearly_all = said[label].any() and together[self.aimed_at].mean() > MOST_HELD
                if nearly_all or together.mean() > MOST_HELD or adds < LEAST:
                    continue
                covered, said[label] = covered | held, together
                candidates = tuple(self.labelled.candidates[place] for place in starts[best])
                estimate, low = float(fit.estimate[best]), float(fit.low[best])
                chosen.append(Pick(self.kind, label, candidates, estimate, low, adds / self.rows))
                break
        return chosen

    def _repeats(self, place: int, label: int) -> bool:
        """Whether some function votes for the class on nearly the same rows: beside it, the candidate says nothing."""
        holds = _any(self.labelled.covered.holds[:, [place]])
        said = self.labelled.by_function == label
        both = said[holds].sum(axis=0)
        return bool((both > REPEATED * (said.sum(axis=0) + holds.sum() - both)).any())

    def _is_shared(self, place: int) -> bool:
        """Whether enough rows, about enough different entities, have it; where most lack one, it is not asked for."""
        groups = (self.labelled.uncovered, self.labelled.covered)
        rows = [np.flatnonzero(_any(group.holds[:, [place]])) for group in groups]
        if sum(map(len, rows)) < SHARED_ROWS:
            return False
        for numbers in zip(*(group.entities for group in groups), strict=True):
            about = np.concatenate([number[at] for number, at in zip(numbers, rows, strict=True)])
            there = about[about >= 0]
            if 2 * len(there) >= len(about) and len(np.unique(there)) < SHARED_ENTITIES:
                return False
        return True


def _unions(holds: csc_matrix, starts: Sequence[list[int]]) -> csc_matrix:
    """Where any of each list of candidates holds, (rows, lists)."""
    return hstack([csc_matrix(_any(holds[:, start]).astype(np.float32)[:, None]) for start in starts]).tocsc()


def _any(columns: csc_matrix) -> Bools:
    found: Bools = np.asarray(columns.sum(axis=1)).ravel() > 0
    return found


def _counted(
    project: Project, task: str, rules: Sequence[Rule], picks: Sequence[Pick]
) -> tuple[list[Counter[str]], dict[str, Counter[str]]]:
    """What each rule does on all events; and by kind of row, what the majority of all rules does that are for it."""
    counts = [Counter(dict.fromkeys(COUNTED, 0)) for _ in rules]
    together: dict[str, Counter[str]] = {pick.kind: Counter(dict.fromkeys(COUNTED, 0)) for pick in picks}
    if not rules:
        return counts, together
    plan = VotePlan(compute.connect(), [rule.function() for rule in rules], events_schema(project))
    classes, key = project.task(task).classes, project.params.events.key
    columns, known = list(dict.fromkeys([key, *plan.columns])), DevGold(project, task)
    files = {name: open_partition(file) for name, file in partitions(project.table("events")).items()}
    progress = Progress("lf suggest: rows voted on", sum(file.metadata.num_rows for file in files.values()))
    for name, file in files.items():
        labels, first = labels_of(project, task, name), 0
        for batch in file.iter_batches(EVENTS_BATCH, columns=columns):
            rows = pa.Table.from_batches([batch])
            here = slice(first, first := first + rows.num_rows)
            targets = {"uncovered": ~labels.covered[here], "undecided": labels.undecided[here]}
            gold, _ = known.of(rows[key])
            found = plan.votes(rows.select(plan.columns))
            votes = np.stack([found[rule.name] for rule in rules], axis=1)
            before = np.zeros(len(votes), np.bool_)
            for own, pick, total in zip(votes.T, picks, counts, strict=True):
                total.update(_rows(own, targets[pick.kind] & ~before, gold))
                before |= own != ABSTAIN
            for kind, total in together.items():
                won = majority(votes[:, [pick.kind == kind for pick in picks]], len(classes)) == 1
                decided = np.where(won.any(axis=1), won.argmax(axis=1), ABSTAIN).astype(np.int8)
                total.update(_rows(decided, targets[kind], gold))
            progress.add(rows.num_rows)
    return counts, together


def _rows(votes: Votes, adds: Bools, gold: Ints) -> dict[str, int]:
    """What `COUNTED` names; ``adds`` says which rows are of the function's kind and new."""
    fires = votes != ABSTAIN
    known, right = fires & (gold != UNKNOWN), fires & (gold == votes)
    found = (fires, fires & adds, known, right, known & adds, right & adds)
    return {name: int(rows.sum()) for name, rows in zip(COUNTED, found, strict=True)}
