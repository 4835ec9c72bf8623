"""Chooses among candidates, greedily: each next one covers most target rows that none before it covers.

Where candidates hold and what labels say comes in; groups of candidates leave, each fit for one labeling function.
Words of one column for one class become one function, and so do values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import csc_matrix, hstack  # type: ignore[import-untyped]

from weakfish import engine as compute
from weakfish.contracts.tables import open_partition, partitions
from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.errors import TableError, UnknownName
from weakfish.labeling.candidates import GROUPED, Candidate, name_of, rule_of
from weakfish.labeling.estimates import Evidence, Floats, Precision, precision, untangled
from weakfish.labeling.label_model import majority
from weakfish.labeling.matrix import EVENTS_BATCH
from weakfish.labeling.plan import VotePlan, compile_plan
from weakfish.labeling.trial import (
    FEW,
    UNKNOWN,
    DevGold,
    Examined,
    Ints,
    Kind,
    Labelled,
    entity_columns,
    labels_of,
    read_labelled,
)
from weakfish.project.paths import Project
from weakfish.project.runs import Progress
from weakfish.rules.loading import FOLDER, events_schema, load_functions
from weakfish.rules.rule import Rule

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
class Pick:
    """Candidates for one function, the most precise first, with what is expected of it."""

    kind: Kind
    label: int
    candidates: tuple[Candidate, ...]
    estimate: float
    low: float
    expected: float


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
    """

    chosen: list[Pick]
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
) -> Selection:
    """Groups of candidates for target rows of a kind, at most ``most``; what ``before`` covers counts as covered."""
    targets = _targets(labelled, kind)
    classes = range(len(settings.balance))
    if not targets.rows or not len(labelled.votes):
        return Selection([], [], [], [])
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
    return Selection(chosen, [each.share for each in found], [each.target_share for each in found], best)


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
) -> list[Pick]:
    """Of each group as many candidates, the most precise first, as keep the function's lower bound at ``wanted``."""
    chosen: list[Pick] = []
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
        chosen.append(Pick(kind, label, candidates, estimate, low, adds / targets.rows))
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


def _groups(labelled: Labelled) -> tuple[Examined, Examined]:
    return labelled.uncovered, labelled.covered


def _any(columns: csc_matrix) -> Bools:
    found: Bools = np.asarray(columns.sum(axis=1)).ravel() > 0
    return found


def _union(columns: csc_matrix) -> csc_matrix:
    return csc_matrix(_any(columns).astype(np.float32)[:, None])


@dataclass
class RowCounts:
    """What a function does, in rows.

    Attributes
    ----------
    votes : int
        It votes on so many.
    adds : int
        Of these, rows of the kind that it is for on which no suggestion before it votes.
    gold, correct : int
        Rows on which it votes that have dev gold, and on how many of them it is right.
    gold_added, correct_added : int
        The same of the rows that it adds.
    """

    votes: int = 0
    adds: int = 0
    gold: int = 0
    correct: int = 0
    gold_added: int = 0
    correct_added: int = 0

    def count(self, votes: Votes, adds: Bools, gold: Ints) -> None:
        """Count more rows; ``adds`` says which of them are of its kind and new."""
        fires = votes != ABSTAIN
        known, right = fires & (gold != UNKNOWN), fires & (gold == votes)
        self.votes += int(fires.sum())
        self.adds += int((fires & adds).sum())
        self.gold += int(known.sum())
        self.correct += int(right.sum())
        self.gold_added += int((known & adds).sum())
        self.correct_added += int((right & adds).sum())

    def as_json(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)


def count(
    project: Project, task: str, rules: Sequence[Rule], kinds: Sequence[Kind]
) -> tuple[list[RowCounts], dict[str, RowCounts]]:
    """The counts of each rule, in order; and by kind of row, of the majority of all rules that are for it."""
    counts = [RowCounts() for _ in rules]
    together: dict[str, RowCounts] = {kind: RowCounts() for kind in dict.fromkeys(kinds)}
    schema = events_schema(project)
    if not rules or schema is None:
        return counts, together
    plan = compile_plan(compute.connect(), [rule.function() for rule in rules], schema)
    classes, key = project.task(task).classes, project.params.events.key
    files, known = partitions(project.table("events")), DevGold(project, task)
    progress = Progress(
        "lf suggest: rows voted on", sum(open_partition(file).metadata.num_rows for file in files.values())
    )
    for name, file in files.items():
        labels, first = labels_of(project, task, name), 0
        for batch in open_partition(file).iter_batches(EVENTS_BATCH, columns=list(dict.fromkeys([key, *plan.columns]))):
            rows = pa.Table.from_batches([batch])
            here = slice(first, first + rows.num_rows)
            targets = {"uncovered": ~labels.covered[here], "undecided": labels.undecided[here]}
            gold, _ = known.of(rows[key])
            votes = _votes(plan, rules, rows)
            _count(votes, kinds, targets, gold, counts, together, len(classes))
            first = here.stop
            progress.add(rows.num_rows)
    return counts, together


def _votes(plan: VotePlan, rules: Sequence[Rule], rows: pa.Table) -> Votes:
    found = plan.votes(rows.select(plan.columns))
    return np.stack([found[rule.name] for rule in rules], axis=1)


def _count(
    votes: Votes,
    kinds: Sequence[Kind],
    targets: dict[str, Bools],
    gold: Ints,
    counts: Sequence[RowCounts],
    together: dict[str, RowCounts],
    classes: int,
) -> None:
    before = np.zeros(len(votes), np.bool_)
    for number, kind in enumerate(kinds):
        counts[number].count(votes[:, number], targets[kind] & ~before, gold)
        before |= votes[:, number] != ABSTAIN
    for name, each in together.items():
        own = votes[:, [number for number, of in enumerate(kinds) if of == name]]
        won = majority(own, classes) == 1
        decided = np.where(won.any(axis=1), won.argmax(axis=1), ABSTAIN).astype(np.int8)
        each.count(decided, targets[name], gold)


WHY = "Suggested from the labels, not by anyone who knows why it should work: say so here, or leave it out."


@dataclass(frozen=True)
class Suggestion:
    """A rule, which rows it is for, and what is expected and known of it.

    Attributes
    ----------
    rule : Rule
    kind : str
        ``uncovered`` or ``undecided``: the rows that it was chosen for.
    estimate, low : float
        Of its precision on those rows, and the lower bound (`estimates.LEVEL`).
    expected : float
        The share of those rows that it was estimated to cover beyond the suggestions before it.
    counts : RowCounts
        What it does on all events.
    """

    rule: Rule
    kind: Kind
    estimate: float
    low: float
    expected: float
    counts: RowCounts


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
    together : dict of str to RowCounts
        By kind, what all its suggestions do at once.
    """

    task: str
    classes: list[str]
    rows: dict[str, int]
    balance: dict[str, dict[str, list[float]]]
    best: dict[str, list[float]]
    suggestions: list[Suggestion]
    wanted: float
    together: dict[str, RowCounts]


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
    classes = project.task(task).classes
    entities = [name for name in entity_columns(project) if name in schema.names]
    labelled = read_labelled(project, task, columns, entities)
    balance: dict[str, dict[str, list[float]]] = {}
    best: dict[str, list[float]] = {}
    chosen: list[Pick] = []
    kinds: tuple[Kind, ...] = ("uncovered", "undecided")
    settings = Settings(wanted, np.array(project.task(task).label_model.class_balance))
    for kind in kinds:
        found = choose(labelled, kind, settings, most - len(chosen), [each.candidates for each in chosen])
        balance[kind] = {"like": found.like, "themselves": found.themselves}
        best[kind] = found.best
        chosen += found.chosen
    taken = _names(project, task)
    rules = []
    for each in chosen:
        name = name_of(classes[each.label], each.candidates[0].column, taken)
        taken.append(name)
        rules.append(rule_of(name, each.label, each.candidates, WHY))
    counts, together = count(project, task, rules, [each.kind for each in chosen])
    looked_at = {"looked_at_uncovered": labelled.uncovered.holds.shape[0], "looked_at_covered": len(labelled.votes)}
    suggestions = [
        Suggestion(rule, each.kind, each.estimate, each.low, each.expected, of)
        for rule, each, of in zip(rules, chosen, counts, strict=True)
    ]
    return Suggestions(
        task, list(classes), {**labelled.totals, **looked_at}, balance, best, suggestions, wanted, together
    )


def _names(project: Project, task: str) -> list[str]:
    """Names that are taken: of the task's functions, and whatever else was suggested and pasted, in use or not."""
    files = sorted((project.root / FOLDER).glob("*.py"))
    pasted = [name for file in files for name in re.findall(r"\bsuggested_\w+", file.read_text(encoding="utf-8"))]
    return [*(function.name for function in load_functions(project, task)), *pasted]
