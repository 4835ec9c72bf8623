"""What dev gold says of the labels of a run, and what changed since the run before: figures for who edits functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.gold import UNKNOWN, Confusion, Ints, gold_labels, gold_times
from weakfish.contracts.ledgers import ledger_file, read_ledger
from weakfish.contracts.record import EPOCH
from weakfish.contracts.tables import TIME, folder, reviewed
from weakfish.contracts.votes_file import Votes
from weakfish.errors import TableError
from weakfish.files import read_json, write_json
from weakfish.labeling.label_model import Probabilities
from weakfish.project.paths import Project

DIGITS = 6
"""Decimals of the figures."""

NAMED = 5
"""Labeling functions that a sentence names; of more it says how many."""

TIE = 1e-12
"""Probabilities nearer to each other than this tie."""


def dev_labels(project: Project, task: str, partition: str | None, keys: pa.ChunkedArray) -> Ints:
    """The dev gold of a partition's events, see `gold_labels`; other partitions have it where a repair moved rows.

    Where a reviewer says otherwise, the review counts. Rows that were only reviewed are not among them: they were
    chosen, so that figures on them would say nothing of others.
    """
    where, classes = folder(project, task, "dev"), project.task(task).classes
    gold = gold_labels(where, project.params.events.key, keys, classes, gold_place(project, partition))
    return corrected(gold, _reviewed(project, task, partition, keys)[0])


def corrected(gold: Ints, reviews: Ints) -> Ints:
    """Gold labels, of which a review counts instead where there is one too; both (rows,), `UNKNOWN` without."""
    found: Ints = np.where((gold != UNKNOWN) & (reviews != UNKNOWN), reviews, gold)
    return found


def _reviewed(
    project: Project, task: str, partition: str | None, keys: pa.ChunkedArray
) -> tuple[Ints, pa.ChunkedArray]:
    """What reviewers answered of dev rows, and when."""
    where, key = reviewed(project, task, "dev"), project.params.events.key
    labels = gold_labels(where, key, keys, project.task(task).classes, partition)
    return labels, gold_times(where, key, keys, partition)


def gold_place(project: Project, partition: str | None) -> str | None:
    """The partition in which the gold of a partition's events lies, None where it may be any.

    On the executors of a cluster it is what they are told: the ledger that says so is not there.
    """
    moved = ledger_file(project, "accept").is_file() and read_ledger(project, "accept").repaired
    return None if moved else partition


FOREVER = np.iinfo(np.int64).max
"""After all times."""

NEVER = FOREVER - 1
"""Since when a label is known of which no time tells: no fit that looks at times sees it."""


def microseconds(time: datetime) -> int:
    """A time as a number, since 1970, UTC."""
    return (time - EPOCH) // timedelta(microseconds=1)


def known_labels(
    project: Project, task: str, partition: str | None, keys: pa.ChunkedArray, times: pa.ChunkedArray
) -> tuple[Ints, Ints]:
    """What is evidence of a partition's events, or those of all: the known class of each, and since when it is known.

    Dev gold and reviews of dev rows, where the task says ``known: dev``: from their own ``known_at`` on, which is never
    before the event, else from the event's time plus the labeling delay. A review counts instead of gold, from when it
    was given; before, nothing is known of its row. Test gold and reviews that estimate never are.

    Returns
    -------
    classes : (rows,)
        Positions in the task's classes, `UNKNOWN` where no label is known.
    since : (rows,)
        Microseconds since 1970, UTC; `NEVER` where no time is known.
    """
    if project.task(task).label_model.known == "none":
        return np.full(len(keys), UNKNOWN), np.full(len(keys), NEVER)
    key, classes, gold = project.params.events.key, project.task(task).classes, folder(project, task, "dev")
    place = gold_place(project, partition)
    labels, (answers, answered) = (
        gold_labels(gold, key, keys, classes, place),
        _reviewed(project, task, partition, keys),
    )
    said = pc.coalesce(answered, gold_times(gold, key, keys, place))
    given, at = (column.cast(pa.int64()) for column in (said, times.cast(TIME)))  # Arrow has no maximum of times
    delay = project.params.features.labeling_delay // timedelta(microseconds=1)
    since = pc.if_else(pc.is_valid(given), pc.max_element_wise(given, at), pc.add(at, delay))
    numbers: Ints = pc.fill_null(since, NEVER).to_numpy()
    return np.where(answers != UNKNOWN, answers, labels), numbers


def decided(posterior: Probabilities, covered: Any) -> Ints:
    """The most probable class of each row, `UNKNOWN` where the row is not covered or two classes tie for it."""
    best = posterior.max(axis=1, keepdims=True)
    tied = (np.abs(posterior - best) <= TIE).sum(axis=1) > 1
    found: Ints = np.where(covered & ~tied, posterior.argmax(axis=1), UNKNOWN)
    return found


@dataclass(frozen=True)
class DevCounts:
    """Labels and votes against dev gold; counts of partitions add up.

    Attributes
    ----------
    votes, correct : numpy.ndarray, int64, (functions, classes)
        By the class that a function votes for: its votes on rows with gold, and those that are right.
    """

    labels: Confusion
    votes: Ints
    correct: Ints

    @classmethod
    def of(cls, gold: Ints, labels: Ints, votes: Votes, classes: Sequence[str]) -> DevCounts:
        """The counts of some rows; ``labels`` are positions of classes, `UNKNOWN` where undecided."""
        known = gold != UNKNOWN
        truth, said = gold[known], votes[known]
        by_class = [(said == place, truth == place) for place in range(len(classes))]
        return cls(
            Confusion.of(gold, labels, classes),
            np.stack([voted.sum(axis=0) for voted, _ in by_class], axis=1).astype(np.int64),
            np.stack([(voted & true[:, None]).sum(axis=0) for voted, true in by_class], axis=1).astype(np.int64),
        )

    def __add__(self, other: DevCounts) -> DevCounts:
        return DevCounts(self.labels + other.labels, self.votes + other.votes, self.correct + other.correct)

    def of_functions(self) -> list[dict[str, Any]]:
        """Of each function: ``votes`` on rows with gold, ``correct`` ones, ``accuracy``, and ``by_chance``.

        The last is how many would be right if each class had its share of dev gold among them.
        """
        shares = np.array([self.labels.of_class(place)[1] for place in range(len(self.labels.classes))])
        expected = self.votes @ (shares / max(1, self.labels.rows))
        return [
            {
                "votes": int(votes),
                "correct": int(correct),
                "accuracy": _rounded(correct / votes) if votes else None,
                "by_chance": _rounded(chance),
            }
            for votes, correct, chance in zip(self.votes.sum(axis=1), self.correct.sum(axis=1), expected, strict=True)
        ]


def figures_of(labels: Confusion) -> dict[str, Any]:
    """Of labels: ``rows`` with gold, ``confusion`` (see `Confusion`), its figures, the class that F1 is of."""
    figures = {name: _rounded(value) for name, value in labels.figures().items()}
    positive = None if labels.rarer is None else labels.classes[labels.rarer]
    return {"rows": labels.rows, "confusion": labels.to_json(), "positive": positive, **figures}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), DIGITS)


def compare(project: Project, now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the labels are worth on dev gold and what changed since the last run, in sentences, by task.

    ``now`` are what `snapshot` gives, by task. They are remembered below ``.weakfish`` for the next run, no out of the
    pipeline: what changed depends on what was run before, which no table may.
    """
    file = project.root / ".weakfish" / "last_labels.json"
    try:
        before = read_json(file)
    except TableError:
        before = {}
    write_json(file, dict(now))
    return [line for task, found in now.items() for line in _sentences(task, found, before.get(task))]


def snapshot(summary: Mapping[str, Any], hashes: Mapping[str, str], labels: Mapping[str, int]) -> dict[str, Any]:
    """What is remembered of a task's run: counts, figures on dev, the functions' hashes, rows by label."""
    dev = summary["dev"] or {}
    figures = {name: dev.get(name) for name in ("accuracy", "f1", "coverage")}
    counts = {name: summary[name] for name in ("rows", "covered")}
    of_dev = {"dev_rows": dev.get("rows", 0), "positive": dev.get("positive"), **figures}
    known = sum(summary.get("known", {}).values())
    return {**counts, **of_dev, "functions": dict(hashes), "labels": dict(labels), "known": known}


def _sentences(task: str, now: Mapping[str, Any], before: Mapping[str, Any] | None) -> Iterator[str]:
    labelled = sum(now["labels"].values())
    share = labelled / max(1, now["rows"])
    yield f"{task}: {labelled:,} of {now['rows']:,} rows have a label ({100 * share:.1f} %)."
    if now["dev_rows"]:
        yield f"{task}: on {now['dev_rows']:,} rows of dev gold, {', '.join(_figures(now, before or {}))}."
    else:
        yield f"{task}: no row has dev gold, so nobody knows how good these labels are."
    if before is not None:
        changed = list(_changes(now, before))
        yield f"{task}: since the last run, {'; '.join(changed) if changed else 'nothing changed'}."


def _figures(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    for name, called in (("accuracy", "accuracy"), ("f1", "F1"), ("coverage", "coverage")):
        if now[name] is None:
            yield f"too few for {called}"
            continue
        same = name != "f1" or before.get("positive", now["positive"]) == now["positive"]
        known = before.get(name) if same else None
        called = f"F1 of {now['positive']}" if name == "f1" and now["positive"] else called
        moved = "" if known is None else " (as before)" if known == now[name] else f" ({now[name] - known:+.3f})"
        yield f"{called} {now[name]:.3f}{moved}"


def _changes(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    ours, theirs = now["functions"], before["functions"]
    for verb, names in (
        ("new", [name for name in ours if name not in theirs]),
        ("gone", [name for name in theirs if name not in ours]),
        ("edited", [name for name in ours if name in theirs and ours[name] != theirs[name]]),
    ):
        if names:
            plural = "s" if len(names) > 1 else ""
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            yield f"{len(names)} function{plural} {verb} ({', '.join(names[:NAMED])}{more})"
    if moved := now["known"] - before.get("known", 0):
        yield f"{abs(moved):,} {'more' if moved > 0 else 'fewer'} known labels, of dev gold and reviews"
    for label in dict.fromkeys([*now["labels"], *before["labels"]]):
        if moved := now["labels"].get(label, 0) - before["labels"].get(label, 0):
            yield f"{abs(moved):,} {'more' if moved > 0 else 'fewer'} rows labeled {label}"
    if moved := now["rows"] - before["rows"]:
        yield f"{abs(moved):,} {'more' if moved > 0 else 'fewer'} rows in all"
