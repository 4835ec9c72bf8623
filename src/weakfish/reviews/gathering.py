"""The stage of reviews: what people answered becomes gold of its side, ``data/reviews/dev`` and ``data/reviews/test``.

Dev rows (of *learn* and *audit*) may be evidence of a task that says ``known: dev``. Test rows (of *estimate*) lie in
an out of their own, on which only `evaluate` depends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.gold import UNKNOWN
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.pointers import whole_tables
from weakfish.contracts.reports import ReviewsReport, write_report
from weakfish.contracts.tables import GOLD_LABEL, KNOWN_AT, TIME, partitions, read_partition, write_partition
from weakfish.files import read_json, write_json
from weakfish.project.paths import Project
from weakfish.reviews.agreement import Agreement
from weakfish.reviews.answers import Answers, Settled, draws, frame_file, last_words, read_answers, settle

NAMED = 20
"""Keys that the report names of each kind; of more it has the number."""


def gather(project: Project) -> list[str]:
    """Write what reviewers answered about each task as gold of its side, and the report of the reviews.

    ``data/reviews/<dev or test>/<task>`` has the events' key, ``label`` and ``known_at`` (when it was answered, UTC),
    in the partitions of the events; ``data/reviews/test/<task>.json`` has the frames of *estimate* and what was said of
    each row that was drawn. A row on which reviewers disagree is in neither until it is resolved.

    Returns sentences about what is in neither.

    Raises
    ------
    TableError
        When a file of answers holds what is no answer, an answer is of the other side than its purpose, or the frame of
        a session is missing.
    """
    tasks = {task: _Task(project, task, read_answers(project, task)) for task in project.params.tasks}
    wanted = {key for task in tasks.values() for key in task.settled}
    where = _places(project, wanted) if wanted else {}
    with whole_tables(project.data / "reviews") as folder:
        for part in ("dev", "test"):
            (folder / part).mkdir(parents=True)
        for name, task in tasks.items():
            task.write(folder / "dev" / name, where, test=False)
            task.write(folder / "test" / name, where, test=True)
            if (estimate := task.estimate())["draws"]:
                write_json(folder / "test" / f"{name}.json", estimate)
    reports = {name: task.report(where) for name, task in tasks.items()}
    write_report(project, ReviewsReport, reports)
    asked = sum(task.rows for task in tasks.values())
    kept = sum(report["rows"] for report in reports.values())
    write_ledger(project, "gather_reviews", rows_in=asked, rows_out=kept, rejected=asked - kept)
    return [line for task in tasks.values() for line in task.sentences(where)]


def _places(project: Project, wanted: Iterable[str]) -> dict[str, tuple[str, Any]]:
    """The partition of each event that is wanted, and its key as the events have it, by its key as text."""
    column, found = project.params.events.key, dict[str, tuple[str, Any]]()
    asked = pa.array(sorted(wanted))
    for partition, file in partitions(project.table("events")).items():
        keys = read_partition(file, [column])[column]
        here = pc.is_in(keys.cast(pa.string()), asked)
        for key in keys.filter(here):
            found[str(key.cast(pa.string()).as_py())] = partition, key
    return found


class _Task:
    """The answers about one task."""

    def __init__(self, project: Project, task: str, read: Answers) -> None:
        self.project, self.task, self.read = project, task, read
        self.last = last_words(read.answers)
        self.settled = settle(read.answers)
        self.rows = len({key for key, _ in self.last})

    def write(self, folder: Path, where: Mapping[str, tuple[str, Any]], test: bool) -> None:
        """Write the rows of a side, by partition, in the order of their keys."""
        rows: dict[str, list[tuple[Any, Settled]]] = {}
        for key, found in sorted(self.settled.items()):
            if found.label is not None and key in where and (found.purpose == "estimate") == test:
                partition, scalar = where[key]
                rows.setdefault(partition, []).append((scalar, found))
        for partition, of in sorted(rows.items()):
            folder.mkdir(exist_ok=True)
            write_partition(folder, partition, self._table(of))

    def _table(self, rows: Sequence[tuple[Any, Settled]]) -> pa.Table:
        return pa.table(
            {
                self.project.params.events.key: pa.array([key.as_py() for key, _ in rows], rows[0][0].type),
                GOLD_LABEL: pa.array([found.label for _, found in rows], pa.string()),
                KNOWN_AT: pa.array([found.time for _, found in rows], TIME),
            }
        )

    def estimate(self) -> dict[str, Any]:
        """The frames of the sessions of *estimate*, and what counts of each row drawn, null where nothing does."""
        drawn = draws(self.read.answers)
        return {
            "frames": {
                session: read_json(frame_file(self.project, self.task, session))
                for session in sorted({each[0] for each in drawn})
            },
            "draws": [dict(zip(("session", "key", "label"), each, strict=True)) for each in drawn],
        }

    def report(self, where: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
        """What `weakfish.contracts.reports.TaskReviews` says."""
        kept = [found for key, found in self.settled.items() if found.label is not None and key in where]
        disputed = sorted(key for key, found in self.settled.items() if found.is_disputed)
        unknown = sorted(self.settled.keys() - where.keys())
        said = Counter(placed.answer.said for placed in self.last.values())
        return {
            "answers": len(self.read.answers),
            "rows": len(kept),
            "reviewers": sorted({placed.reviewer for placed in self.last.values()}),
            "by_purpose": dict(sorted(Counter(found.purpose for found in kept).items())),
            "by_class": {
                name: sum(found.label == name for found in kept) for name in self.project.task(self.task).classes
            },
            "skipped": said["skip"],
            "unsure": said["unsure"],
            "resolved": sum(found.resolved for found in kept),
            "disputed": {"rows": len(disputed), "keys": disputed[:NAMED]},
            "unknown": {"rows": len(unknown), "keys": unknown[:NAMED]},
            "answered_again": self._answered_again(),
            "half_lines": list(self.read.halves),
            "agreement": self._agreement(),
        }

    def _answered_again(self) -> int:
        """Rows that a reviewer answered again without taking the answer before back."""
        stands, again = dict[tuple[str, str], bool](), set[str]()
        for placed in self.read.answers:
            place = placed.answer.key, placed.reviewer
            if stands.get(place) and placed.answer.said != "undone" and not placed.answer.resolves:
                again.add(placed.answer.key)
            stands[place] = placed.answer.said != "undone"
        return len(again)

    def _agreement(self) -> dict[str, Any] | None:
        """How far reviewers agree on rows that several of them answered."""
        classes = self.project.task(self.task).classes
        rows, reviewers = ({each[side]: 0 for each in sorted(self.last)} for side in (0, 1))
        for places in (rows, reviewers):
            places |= {name: place for place, name in enumerate(sorted(places))}
        answers = np.full((len(rows), len(reviewers)), UNKNOWN)
        for (key, who), placed in self.last.items():
            if placed.answer.label is not None:
                answers[rows[key], reviewers[who]] = classes.index(placed.answer.label)
        found = Agreement.of(answers, len(classes))
        return found.to_json() if found else None

    def sentences(self, where: Mapping[str, tuple[str, Any]]) -> list[str]:
        """What a person who answered would miss, in a sentence for each kind."""
        report, lines = self.report(where), []
        if halves := report["half_lines"]:
            lines.append(f"{', '.join(halves)}: half a line, of an answer that was never acknowledged; it is not read.")
        if again := report["answered_again"]:
            lines.append(
                f"{self.task}: {again:,} rows were answered again by who had answered them; the last word counts."
            )
        if unknown := report["unknown"]["rows"]:
            first = report["unknown"]["keys"][0]
            lines.append(
                f"{self.task}: {unknown:,} reviewed rows are no accepted events ({first!r}); they do not count."
            )
        if disputed := report["disputed"]["rows"]:
            lines.append(
                f"{self.task}: reviewers disagree on {disputed:,} rows ({report['disputed']['keys'][0]!r}), which do "
                "not count until `weakfish review --disputed` resolves them."
            )
        return lines
