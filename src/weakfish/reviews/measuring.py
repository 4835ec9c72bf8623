"""What answers to *estimate* say of today's labels: shares with intervals, of all rows and of slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from weakfish.contracts.gold import UNKNOWN
from weakfish.contracts.pointers import listed
from weakfish.contracts.record import Rooted
from weakfish.contracts.tables import GOLD_LABEL, folder, read_partition, reviewed
from weakfish.errors import TableError
from weakfish.files import read_json
from weakfish.project.paths import Project
from weakfish.reviews.estimating import FrameAnswers, LabelsToday, ReviewEstimates, estimates
from weakfish.reviews.frames import Frame, Strata
from weakfish.reviews.labelled import Bools, LabelledRows, read_labelled

NAMED = 20
"""Rows that are named on which gold and reviews differ; of more there is the number."""


def frame_of(content: Any, where: str) -> Frame:
    """A frame from its file; raises `TableError`."""
    try:
        return Frame.from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise TableError(f"{where} is not the frame of an estimate ({error}); get it back from git.") from error


def gathered(project: Rooted, task: str, classes: list[str]) -> FrameAnswers | None:
    """The answers to *estimate* that `gather` found, with their frames; None where nobody answered."""
    file = reviewed(project, task, "test").with_suffix(".json")
    if not file.is_file():
        return None
    content = read_json(file)
    frames = {session: frame_of(found, f"{session}.frame.json") for session, found in content["frames"].items()}
    return answered(frames, [(draw["session"], draw["key"], draw["label"]) for draw in content["draws"]], classes)


def answered(frames: Mapping[str, Frame], draws: list[tuple[str, str, str | None]], classes: list[str]) -> FrameAnswers:
    """Answers of (session, key, class or None) to the questions of frames."""
    places = {name: place for place, name in enumerate(classes)}
    return FrameAnswers.of(frames, [(session, key, places.get(label or "", UNKNOWN)) for session, key, label in draws])


class Gauge:
    """Measures labels by answers to *estimate*; the rows are counted once.

    It is about the rows of which no class is known: labels of the others are no feat. The test side stands for both.

    Parameters
    ----------
    within : (rows,), optional
        The rows of a slice.
    """

    def __init__(self, labelled: LabelledRows, within: Bools | None = None) -> None:
        classes = labelled.project.task(labelled.task).classes
        self._counts = ~labelled.is_known & (True if within is None else within)
        labels, certainty = labelled.labels, labelled.certainty
        self._labelled = labelled
        self._strata = Strata.halves(classes, labels[self._counts], certainty[self._counts])
        self._of_rows = self._strata.of(labels, certainty)
        test = self._counts & ~labelled.is_dev
        self._rows = np.bincount(self._of_rows[test], minlength=len(self._strata))

    def measure(self, answers: FrameAnswers) -> ReviewEstimates:
        """What answers say of the labels."""
        places = self._labelled.places(answers.keys)
        there = (places != UNKNOWN) & self._counts[places]
        of_answers = np.where(there, self._of_rows[places], UNKNOWN)
        return estimates(answers, LabelsToday(self._strata, of_answers, self._rows))


def reviewed_figures(project: Project, task: str, slices: Mapping[str, Bools]) -> dict[str, Any] | None:
    """What ``reports/metrics.json`` says of the answers about a task; None where nobody answered.

    ``estimates`` are those of `Gauge`, ``slices`` the same by slice, None where nobody answered to *estimate*.
    ``gold`` has the rows that have gold and a review: how many, how many of these differ, and the keys of the first.
    """
    classes = project.task(task).classes
    answers, gold = gathered(project, task, classes), _against_gold(project, task)
    if answers is None and not gold["rows"]:
        return None
    found: dict[str, Any] = {"estimates": None, "gold": gold}
    if answers is not None:
        labelled = read_labelled(project, task)
        found["estimates"] = Gauge(labelled).measure(answers).to_json()
        found["slices"] = {name: Gauge(labelled, rows).measure(answers).to_json() for name, rows in slices.items()}
    return found


def _against_gold(project: Project, task: str) -> dict[str, Any]:
    """Reviews beside gold labels: of a row that has both, the review counts."""
    gold = _labels(project, [folder(project, task, part) for part in ("dev", "test", "undated")])
    reviews = _labels(project, [reviewed(project, task, part) for part in ("dev", "test")])
    both = sorted(gold.keys() & reviews.keys())
    differing = [key for key in both if gold[key] != reviews[key]]
    named = [{"key": key, "gold": gold[key], "review": reviews[key]} for key in differing[:NAMED]]
    return {"rows": len(both), "differing": len(differing), "first": named}


def _labels(project: Project, folders: Sequence[Path]) -> dict[str, str]:
    """Gold labels, or reviews as such, by key as text."""
    found: dict[str, str] = {}
    for file in (file for where in folders for file in listed(where)):
        rows = read_partition(file, [project.params.events.key, GOLD_LABEL])
        found |= zip(rows[0].cast(pa.string()).to_pylist(), rows[1].to_pylist(), strict=True)
    return found
