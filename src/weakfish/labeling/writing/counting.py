"""What suggested functions do on all events: they vote batch by batch and counts leave, with dev gold if there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish import compute
from weakfish.labeling.load import events_schema
from weakfish.labeling.modeling.model import majority
from weakfish.labeling.votes_file import ABSTAIN, Votes
from weakfish.labeling.voting.plan import VotePlan, compile_plan
from weakfish.labeling.writing.beside import DevGold
from weakfish.labeling.writing.code import Rule, function_of
from weakfish.labeling.writing.figures import UNKNOWN, Ints
from weakfish.labeling.writing.labelled import Kind, labels_of
from weakfish.labeling.writing.sample import BATCH
from weakfish.project import Project
from weakfish.runs import Progress
from weakfish.tables import open_partition, partitions

Bools = npt.NDArray[np.bool_]


@dataclass
class Counts:
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
) -> tuple[list[Counts], dict[str, Counts]]:
    """The counts of each rule, in order; and by kind of row, of the majority of all rules that are for it."""
    counts = [Counts() for _ in rules]
    together: dict[str, Counts] = {kind: Counts() for kind in dict.fromkeys(kinds)}
    schema = events_schema(project)
    if not rules or schema is None:
        return counts, together
    plan = compile_plan(compute.connect(), [function_of(rule) for rule in rules], schema)
    classes, key = project.task(task).classes, project.params.events.key
    files, known = partitions(project.table("events")), DevGold(project, task)
    progress = Progress(
        "lf suggest: rows voted on", sum(open_partition(file).metadata.num_rows for file in files.values())
    )
    for name, file in files.items():
        labels, first = labels_of(project, task, name), 0
        for batch in open_partition(file).iter_batches(BATCH, columns=list(dict.fromkeys([key, *plan.columns]))):
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
    counts: Sequence[Counts],
    together: dict[str, Counts],
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
