"""A session of reviewing: which row is asked next and why, the answers that are given, and what they have bought."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from weakfish.contracts.gold import UNKNOWN, Ints
from weakfish.contracts.manifests import LabelsManifest, read_manifest
from weakfish.errors import UnknownName, UserError
from weakfish.files import read_json, write_json
from weakfish.labeling.choice import makers_of, probabilities_by
from weakfish.project.paths import Project
from weakfish.reviews.answers import (
    Answer,
    AnswersFile,
    Kind,
    Placed,
    Purpose,
    Said,
    file_of,
    frame_file,
    last_words,
    new_session,
    read_answers,
    settle,
)
from weakfish.reviews.frames import Frame, draw
from weakfish.reviews.labelled import read_labelled, versions
from weakfish.reviews.measuring import frame_of
from weakfish.reviews.picking import AnsweredSoFar, PickableRows, Picked, audit, learn

AT_ONCE = 10
"""Rows to learn from that are picked before answers to them change what is picked next."""

WHY = {
    "estimate": "drawn at random",
    "learn": "another reviewer was asked",
    "audit": "another reviewer was asked",
    "resolve": "reviewers disagree",
}
"""Why a row is asked about, where no picking says it better."""


@dataclass(frozen=True)
class AskedRow:
    """A row that is asked about.

    Attributes
    ----------
    why
        In a few words, for the reviewer.
    probability, stratum, function
        As of `weakfish.reviews.answers.Answer`.
    said
        What each reviewer said, of a row that they disagree on; then the answer resolves it.
    """

    key: str
    purpose: Purpose
    why: str
    probability: float | None = None
    stratum: str | None = None
    function: str | None = None
    said: Mapping[str, str] = field(default_factory=dict)


class ReviewSession:
    """The rows that one reviewer is asked about for one purpose. Threads may share it.

    Parameters
    ----------
    kind
        What is asked: ``estimate`` draws a frame of ``questions`` rows of the test side, ``learn`` picks dev rows whose
        answers change most, ``audit`` dev rows that ``function`` decides alone, ``resolve`` what reviewers disagree on.
    name
        Of a session that began before, here or on another machine, to go on with it or to answer the same rows; a new
        one by default.

    Raises
    ------
    UserError
        When there is nothing to ask, or the session does not exist.
    TableError
        When labels are missing, or answers or frames cannot be read.
    """

    def __init__(
        self,
        project: Project,
        task: str,
        kind: Kind,
        reviewer: str,
        name: str | None = None,
        questions: int = 200,
        function: str | None = None,
    ) -> None:
        self.project, self.task, self.kind, self.reviewer = project, task, kind, reviewer
        self.classes, self.function = project.task(task).classes, function
        self.labelled = read_labelled(project, task)
        self._others = read_answers(project, task).answers
        self.name = name or new_session(kind, datetime.now(UTC))
        self.file = file_of(project, task, reviewer, self.name)
        self._before = {
            key
            for (key, who), placed in last_words(self._others).items()
            if who == reviewer and placed.session == self.name
        }
        self._carried: list[tuple[AskedRow, str | None]] = []
        self._given: list[Placed] = []
        self._done: list[AskedRow] = []
        self._waiting: list[AskedRow] = []
        self._lock = threading.RLock()
        self.versions = versions(project, task)
        self.questions: int | None = None
        self._source = self._begun(name, questions)
        self._current = self._next()
        if self._current is None:
            raise UserError(self._nothing())
        for asked, label in self._carried:
            self._append(asked, "class", label, None)

    @cached_property
    def _open(self) -> AnswersFile:
        return AnswersFile(self.file)

    def close(self) -> None:
        """Close the file of answers, if there is any."""
        if "_open" in vars(self):
            self._open.close()

    # --- What is asked ------------------------------------------------------------------------------------------------

    def _begun(self, name: str | None, questions: int) -> Iterator[AskedRow]:
        if self.kind == "estimate":
            frame = self._frame(name, questions)
            self.questions = len(frame.keys)
            return self._new(frame)
        if self.kind == "resolve":
            disputed = {key: found for key, found in settle(self._others).items() if found.is_disputed}
            self.questions = len(disputed)
            return (
                AskedRow(key, of.purpose, WHY["resolve"], said=of.by_reviewer) for key, of in sorted(disputed.items())
            )
        if name is not None and (same := self._of_others(name)):
            self.questions = len(same)
            return iter(same)
        return self._picked()

    def _frame(self, name: str | None, questions: int) -> Frame:
        """The frame of a session that began before, or a new one, which is written before anything is asked."""
        if name is not None:
            file = frame_file(self.project, self.task, name)
            return frame_of(read_json(file), f"reviews/{self.task}/{file.name}")
        rows = np.flatnonzero(~self.labelled.is_known & ~self.labelled.is_dev)
        frame = draw(
            self.labelled.keys.take(rows),
            self.labelled.labels[rows],
            self.labelled.certainty[rows],
            self.classes,
            questions,
            task=self.task,
            version=self.versions["labels"],
            seed=self._seed,
        )
        if frame.keys:
            write_json(self.file.with_name(f"{self.name}.frame.json"), frame.to_json())
        return frame

    @property
    def _seed(self) -> int:
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4], "big")

    def _of_others(self, name: str) -> list[AskedRow]:
        """What anybody was asked in a session that is no estimate, in that order."""
        found: dict[str, AskedRow] = {}
        for placed in self._others:
            of = placed.answer
            if placed.session == name and not of.resolves:
                found.setdefault(of.key, AskedRow(of.key, of.purpose, WHY[of.purpose], function=of.function))
        return list(found.values())

    def rows(self, most: int) -> list[AskedRow]:
        """Rows to ask about, at most so many, where no answer comes back before all are asked."""
        if self.questions is None:
            return self._batch(most)
        first = [self._current] if self._current else []
        rest = (asked for asked in self._source if asked.key not in self._before and len(self._place(asked.key)))
        return [*first, *islice(rest, most - 1)]

    def _picked(self) -> Iterator[AskedRow]:
        """Rows to learn from, or those that a function decides, some at a time."""
        while batch := self._batch(AT_ONCE):
            yield from batch

    def _batch(self, most: int) -> list[AskedRow]:
        picked = self._pick(most)
        keys = self.labelled.keys.take(pa.array([each.row for each in picked], pa.int64())).to_pylist()
        return [
            AskedRow(key, each.purpose, each.reason, function=self.function)
            for key, each in zip(keys, picked, strict=True)
        ]

    def _pick(self, most: int) -> list[Picked]:
        so_far = self._so_far()
        if self.kind == "learn":
            return learn(self._pickable, so_far, most, self._seed)
        names = list(self._pickable.functions)
        if self.function not in names:
            raise UnknownName("labeling function", str(self.function), names, f"task {self.task}")
        return audit(self._pickable, names.index(self.function), self._by_votes, so_far, most, self._seed)

    @cached_property
    def _pickable(self) -> PickableRows:
        of = self.labelled
        may_teach = of.is_dev & ~of.is_tested & ~of.is_known
        return PickableRows(self.classes, of.functions, of.votes, of.shares, may_teach, of.partitions, of.codes)

    @cached_property
    def _by_votes(self) -> Callable[[Any], Any]:
        """What the last label model makes of votes."""
        maker = makers_of(read_manifest(self.project, LabelsManifest, f"labels/{self.task}"))[-1]
        return lambda votes: probabilities_by(maker.method, maker.model, votes, maker.balance)

    def _so_far(self) -> AnsweredSoFar:
        """What anybody answered of the rows, and which were asked here."""
        classes, shown = np.full(len(self.labelled.labels), UNKNOWN), np.zeros(len(self.labelled.labels), bool)
        for key, found in settle(self.answers).items():
            if found.label is not None and found.purpose != "estimate":
                classes[self._place(key)] = self.classes.index(found.label)
        places = self.labelled.places(list({key for key, _ in last_words(self.answers)}))
        shown[places[places != UNKNOWN]] = True
        return AnsweredSoFar(classes, shown)

    def _place(self, key: str) -> Ints:
        found = self.labelled.places([key])
        there: Ints = found[found != UNKNOWN]
        return there

    def _next(self) -> AskedRow | None:
        done = self._before | {asked.key for asked in self._done}
        return next((asked for asked in self._source if asked.key not in done and len(self._place(asked.key))), None)

    def _new(self, frame: Frame) -> Iterator[AskedRow]:
        """The questions of a frame; what this reviewer answered in an earlier session of *estimate* counts here too."""
        earlier = {
            key: placed.answer.label
            for (key, who), placed in last_words(self._others).items()
            if who == self.reviewer and placed.session != self.name and placed.answer.label is not None
        }
        names = frame.strata.names()
        every = [
            AskedRow(each.key, "estimate", WHY["estimate"], each.probability, names[each.stratum])
            for each in frame.questions()
        ]
        self._carried = [
            (asked, earlier[asked.key]) for asked in every if asked.key in earlier and asked.key not in self._before
        ]
        self._before |= {asked.key for asked, _ in self._carried}
        return iter(every)

    def _nothing(self) -> str:
        reasons = {
            "estimate": "no row of the test side has a label that nobody knew before",
            "learn": "every row of the dev side is known, tested or answered",
            "audit": f"{self.function} decides no row of the dev side alone that is not answered",
            "resolve": "reviewers disagree on no row",
        }
        done = f"{self.reviewer} has answered every row of it"
        return f"There is nothing to ask about {self.task}: {done if self._before else reasons[self.kind]}."

    # --- What is answered ---------------------------------------------------------------------------------------------

    @property
    def answers(self) -> list[Placed]:
        """All answers about the task: those that were there, and those given since."""
        return [*self._others, *self._given]

    @property
    def current(self) -> AskedRow | None:
        """The row that is asked now; None when none is left."""
        return self._current

    @property
    def given(self) -> int:
        """Rows of the session that this reviewer has answered, or passed over."""
        return len(self._before) + len(self._done)

    def answer(self, key: str, said: Said, label: str | None = None, note: str | None = None) -> None:
        """Keep an answer to the row that is asked; it is on the disk when this returns.

        Raises
        ------
        UserError
            For a class that the task has not, or a row that is not the one that is asked.
        """
        with self._lock:
            asked = self._current
            if asked is None or asked.key != key:
                raise UserError(f"Row {key} is not asked now; load the page again, it shows the one that is.")
            if said == "class" and label not in self.classes:
                raise UnknownName("class", str(label), self.classes, f"task {self.task}")
            self._append(asked, said, label if said == "class" else None, note)
            self._done.append(asked)
            self._current = self._waiting.pop() if self._waiting else self._next()

    def undo(self) -> None:
        """Take the last answer back, and ask its row again; raises `UserError` where none was given since the start."""
        with self._lock:
            if not self._done:
                raise UserError("There is no answer to undo: none was given since the page was opened.")
            asked = self._done.pop()
            self._append(asked, "undone", None, None)
            if self._current is not None:
                self._waiting.append(self._current)
            self._current = asked

    def _append(self, asked: AskedRow, said: Said, label: str | None, note: str | None) -> None:
        answer = Answer(
            asked.key,
            said,
            asked.purpose,
            datetime.now(UTC),
            label,
            asked.probability,
            asked.stratum,
            asked.function,
            self.versions,
            note or None,
            self.kind == "resolve",
        )
        self._open.append(answer)
        self._given.append(Placed(answer, self.reviewer, self.name, self.file.name, len(self._given) + 1))
