"""Answers to and from the tools that a team has: rows to ask about go out, with what is known of them; answers come in.

What a row was asked for goes with it and comes back: its session says the purpose, and of *estimate* the frame of the
session says with which probability the row was drawn.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, get_args

from weakfish.contracts.gold import UNKNOWN
from weakfish.errors import UserError, WeakfishError
from weakfish.files import read_json, whole_file
from weakfish.project.paths import Project
from weakfish.project.runs import locked
from weakfish.reviews.answers import (
    NAME,
    SESSION,
    Answer,
    Placed,
    Purpose,
    Said,
    file_of,
    frame_file,
    last_words,
    new_session,
    read_answers,
)
from weakfish.reviews.frames import Frame
from weakfish.reviews.labelled import read_labelled
from weakfish.reviews.measuring import frame_of
from weakfish.reviews.session import AskedRow, ReviewSession
from weakfish.reviews.sides import is_dev

WORDS: dict[str, Said] = {"(unsure)": "unsure", "(skip)": "skip"}
"""What a tool says where a reviewer names no class."""


OURS = "weakfish_"
"""Before the names of marks among those that a tool or a team has."""


@dataclass(frozen=True)
class Outgoing:
    """A row for another tool.

    Attributes
    ----------
    marks
        What has to come back: ``key``, ``session``, and where there are any ``function``, ``probability`` and
        ``stratum``, and the versions of ``labels`` and ``events``.
    columns
        All columns of the event, as text; what is missing is empty.
    label, share
        What the label of the row is now, and its probability; None where it is undecided.
    """

    marks: Mapping[str, str]
    columns: Mapping[str, str]
    label: str | None
    share: float | None

    @property
    def named_marks(self) -> dict[str, str]:
        """The marks by names that are ours, see `marks_among`."""
        return {f"{OURS}{name}": value for name, value in self.marks.items()}


def marks_among(found: Mapping[str, Any]) -> dict[str, str]:
    """The marks among what came back of a row."""
    return {
        name.removeprefix(OURS): str(value)
        for name, value in found.items()
        if name.startswith(OURS) and value is not None
    }


@dataclass(frozen=True)
class Incoming:
    """What another tool says of a row; ``where`` names its place in the file, and ``answer`` is a class or of `WORDS`.

    Attributes
    ----------
    answer
        None where nobody answered.
    marks
        As of `Outgoing`, those that came back; at least the ``key``.
    reviewer
        Who answered, as the tool names them; None where it does not.
    time
        When, UTC; None where the tool does not say.
    wrong
        Why the row cannot be read, if so.
    """

    where: str
    answer: str | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    reviewer: str | None = None
    time: datetime | None = None
    note: str | None = None
    wrong: str | None = None


@dataclass(frozen=True)
class RowsOut:
    """What went out: how many rows, of which session, into which files."""

    rows: int
    session: str
    files: Sequence[Path]


@dataclass(frozen=True)
class Imported:
    """What came in: ``read`` is ``taken`` and rejected rows together.

    Attributes
    ----------
    rejected
        A sentence for each row that was not taken, in their order; rows without an answer are only counted.
    unanswered, known
        Rejected rows that nobody answered, and those whose answer was here already.
    """

    read: int
    taken: int
    rejected: Sequence[str]
    unanswered: int
    known: int
    files: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {**vars(self), "rejected": list(self.rejected), "files": list(self.files)}


Writer = Callable[[Path, Sequence[Outgoing], Sequence[str]], list[Path]]


def export_rows(session: ReviewSession, rows: int, file: Path, write: Writer) -> RowsOut:
    """Write the rows of a session, at most so many, for another tool.

    Raises
    ------
    UserError
        When the file is there already: it may hold answers.
    """
    if file.exists():
        raise UserError(f"{file} is there already, and may hold answers; name another file.")
    asked = session.rows(rows)
    written = write(file, list(_outgoing(session, asked)), session.classes)
    return RowsOut(len(asked), session.name, written)


def _outgoing(session: ReviewSession, asked: Sequence[AskedRow]) -> Iterator[Outgoing]:
    labelled, classes = session.labelled, session.classes
    places = labelled.places([each.key for each in asked])
    events = labelled.events(places)
    for each, place in zip(asked, places.tolist(), strict=True):
        of = {"function": each.function, "probability": each.probability, "stratum": each.stratum}
        marks = {"key": each.key, "session": session.name}
        marks |= {name: str(value) for name, value in (of | session.versions).items() if value is not None}
        label = int(labelled.labels[place])
        decided = label != UNKNOWN
        share = float(labelled.shares[place, label]) if decided else None
        columns = {name: value or "" for name, value in events[place].items()}
        yield Outgoing(marks, columns, classes[label] if decided else None, share)


def import_answers(
    project: Project,
    task: str,
    incoming: Iterable[Incoming],
    reviewer: str | None = None,
    purpose: Purpose | None = None,
    now: datetime | None = None,
) -> Imported:
    """Take the answers of another tool into ``reviews/<task>/``: a file appears whole, or stays as it was.

    Parameters
    ----------
    reviewer
        Who answered, where the tool does not say, or all answers are of one person.
    purpose
        Of rows that do not name a session; *estimate* always names one, whose frame was drawn here.

    Raises
    ------
    UserError
        When the answers are of several people, and one name is given for all.
    TableError
        When labels are missing, or answers that are here cannot be read.
    Busy
        While `weakfish review` has one of the files open.
    """
    rows = list(incoming)
    people = {row.reviewer for row in rows if row.reviewer is not None}
    if reviewer is not None and len(people) > 1:
        raise UserError(
            f"The answers are of {len(people)} people ({', '.join(sorted(people))}); leave out --reviewer, which would "
            "make them one."
        )
    taking = _Taking(project, task, reviewer, purpose, now or datetime.now(UTC))
    for row in rows:
        taking.take(row)
    files = [taking.write(*place) for place in sorted(taking.taken)]
    taken = sum(map(len, taking.taken.values()))
    return Imported(len(rows), taken, taking.rejected, taking.unanswered, taking.known, files)


class _Rejected(Exception):
    """Why a row is not taken, after its place."""


class _Taking:
    """The rows of a file, judged one by one."""

    def __init__(
        self, project: Project, task: str, reviewer: str | None, purpose: Purpose | None, now: datetime
    ) -> None:
        self.project, self.task, self.reviewer, self.now = project, task, reviewer, now
        self.purpose, self.classes = purpose, project.task(task).classes
        self.labelled = read_labelled(project, task)
        self.taken: dict[tuple[str, str], list[Answer]] = {}
        self.rejected: list[str] = []
        self.unanswered = self.known = 0
        self._last = last_words(read_answers(project, task).answers)
        self._frame = cache(self._read_frame)
        self._own = new_session(purpose, now) if purpose and purpose != "estimate" else None

    def take(self, row: Incoming) -> None:
        """Keep an answer, or the sentence on why not."""
        if row.wrong is None and not row.answer:
            self.unanswered += 1
            return
        try:
            if row.wrong is not None:
                raise _Rejected(row.wrong)
            who, session, answer = self._answer(row)
        except _Rejected as error:
            self.rejected.append(f"{row.where} {error}.")
            return
        before = self._last.get((answer.key, who))
        if before and before.session == session and _says(before.answer) == _says(answer):
            self.known += 1
            return
        self._last[answer.key, who] = Placed(answer, who, session, "", 0)
        self.taken.setdefault((who, session), []).append(answer)

    def _answer(self, row: Incoming) -> tuple[str, str, Answer]:
        key, session = row.marks.get("key", ""), row.marks.get("session") or self._own
        place = int(self.labelled.places([key])[0])
        if place == UNKNOWN:
            raise _Rejected(f"is about {key!r}, which is no event in data/labels/{self.task}")
        if row.answer not in (*WORDS, *self.classes):
            raise _Rejected(f"answers {row.answer!r}, which is no class of {self.task} ({', '.join(self.classes)})")
        if session is None:
            raise _Rejected("names no session; say with --purpose learn what such answers are for")
        named = SESSION.fullmatch(session)
        if named is None or named[1] not in get_args(Purpose):
            raise _Rejected(f"names the session {session!r}, which `weakfish review export` does not make")
        purpose: Purpose = named[1]  # type: ignore[assignment]
        if (purpose == "estimate") == bool(is_dev([key])[0]):
            side = "only measures" if purpose != "estimate" else "may teach"
            raise _Rejected(f"answers to {purpose} about {key!r}, a row of the side that {side}")
        if purpose != "estimate" and self.labelled.is_tested[place]:
            raise _Rejected(f"answers to {purpose} about {key!r}, which has gold of the test side")
        function = row.marks.get("function") or None
        if (purpose == "audit") != (function is not None):
            raise _Rejected(
                "is of an audit and names no function" if function is None else f"is no audit of {function}"
            )
        said = WORDS.get(str(row.answer), "class")
        label = row.answer if said == "class" else None
        shown = {name: row.marks[name] for name in ("labels", "events") if row.marks.get(name)}
        how: dict[str, Any] = {"function": function, "shown": shown, "note": row.note or None}
        drawn = self._drawn(session, key, row.marks) if purpose == "estimate" else {}
        return self._who(row), session, Answer(key, said, purpose, row.time or self.now, label, **how, **drawn)

    def _who(self, row: Incoming) -> str:
        given = self.reviewer or row.reviewer
        if given is None:
            raise _Rejected("does not say who answered; give --reviewer")
        name = given if self.reviewer else re.sub(r"[^a-z0-9_.]+", "_", given.lower()).strip("_.")
        if not NAME.fullmatch(name):
            raise _Rejected(f"is of {given!r}, of which no reviewer's name can be made; give --reviewer")
        return name

    def _drawn(self, session: str, key: str, marks: Mapping[str, str]) -> dict[str, Any]:
        """With which probability, and from which stratum, the frame of a session has a row; the frame has the word."""
        found = self._frame(session)
        if isinstance(found, str):
            raise _Rejected(found)
        frame, places = found
        if key not in places:
            raise _Rejected(f"is about {key!r}, which is not in the frame of {session}")
        stratum = frame.places[places[key]]
        probability = float(frame.probabilities[stratum])
        if (given := marks.get("probability")) and not _is_near(given, probability):
            raise _Rejected(f"has the probability {given}, and the frame of {session} has {probability}")
        return {"probability": probability, "stratum": frame.strata.names()[stratum]}

    def _read_frame(self, session: str) -> tuple[Frame, dict[str, int]] | str:
        try:
            file = frame_file(self.project, self.task, session)
            frame = frame_of(read_json(file), f"reviews/{self.task}/{file.name}")
        except WeakfishError as error:
            return f"cannot be taken: {str(error).rstrip('.')}"
        return frame, {key: place for place, key in enumerate(frame.keys)}

    def write(self, who: str, session: str) -> str:
        """Add a reviewer's answers of a session to their file, all of them or none; returns its path in the project."""
        file = file_of(self.project, self.task, who, session)
        with locked(self.project, f"review {file.stem}"):
            before = file.read_bytes() if file.exists() else b""
            cut = b"\n" if before and not before.endswith(b"\n") else b""
            with whole_file(file) as part:
                part.write_bytes(before + cut + b"".join(answer.line() for answer in self.taken[who, session]))
        return file.relative_to(self.project.root).as_posix()


def _is_near(given: str, probability: float) -> bool:
    """Whether a text is that number, as far as a spreadsheet may have rounded it."""
    try:
        return math.isclose(float(given.replace(",", ".")), probability, rel_tol=1e-4)
    except ValueError:
        return False


def _says(answer: Answer) -> tuple[Any, ...]:
    return answer.said, answer.label, answer.note


def as_time(text: str | None) -> datetime | None:
    """A time as a tool writes it, UTC where it names no zone; None where there is none that can be read."""
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def read_list(file: Path, what: str) -> list[Any]:
    """The list in a JSON file; raises `UserError` where the file is not a whole one."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); correct the name.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not whole JSON ({error}), so nothing of it is taken; export it again.") from error
    if not isinstance(found, list):
        raise UserError(f"{file} is not {what}: that is a list, and this is of another kind; export it again.")
    return found
