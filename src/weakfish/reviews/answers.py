"""Answers of reviewers: one line of JSON each in ``reviews/<task>/<reviewer>-<session>.jsonl``, appended and synced.

A line is never changed. A changed mind, an undone answer and a resolution of what reviewers disagree on are later
lines. A file belongs to one reviewer and one session, so that no two people or machines write the same one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from weakfish.errors import TableError, UserError
from weakfish.project.paths import Project
from weakfish.reviews.sides import is_dev

Purpose = Literal["estimate", "learn", "audit"]
"""Why a row was asked: to measure labels, to teach the label model, or to look at what one function decides alone."""

Kind = Literal["estimate", "learn", "audit", "resolve"]
"""What a session is for: one purpose, or to resolve what reviewers disagree on."""

Said = Literal["class", "unsure", "skip", "undone"]
"""What an answer is: a class, that the reviewer cannot say, that the row was passed over, or that nothing is said."""

NAME = re.compile(r"[a-z0-9][a-z0-9_.]*")
"""Names of reviewers: without a hyphen, which ends them in the names of files."""

SESSION = re.compile(r"(estimate|learn|audit|resolve)-\d{8}T\d{6}-[0-9a-f]{4}")
"""Names of sessions: what they are for, when they began (UTC), and four digits that no other machine draws."""


@dataclass(frozen=True)
class Answer:
    """What a reviewer said of a row.

    Attributes
    ----------
    key
        The event's key, as text.
    said, label
        What kind of answer it is; ``label`` is the class of one that names a class, None of others.
    time
        When it was given, UTC.
    probability, stratum
        Of *estimate*: with which probability, and from which stratum of its session's frame, the row was drawn.
    function
        Of *audit*: the labeling function that decides the row alone.
    shown
        The versions of what was shown: ``labels`` and ``events``, the first digits of SHA-256.
    resolves
        Whether it settles what reviewers disagree on: it counts instead of theirs.
    """

    key: str
    said: Said
    purpose: Purpose
    time: datetime
    label: str | None = None
    probability: float | None = None
    stratum: str | None = None
    function: str | None = None
    shown: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None
    resolves: bool = False

    def __post_init__(self) -> None:
        if (self.said == "class") != (self.label is not None):
            raise ValueError("an answer names a class where it says one, and only there")
        if self.purpose == "estimate" and not self.resolves and not 0 < (self.probability or 0) <= 1:
            raise ValueError("an answer for an estimate says with which probability (0 to 1) its row was drawn")
        if self.time.tzinfo is None:
            raise ValueError("time has no time zone")

    def line(self) -> bytes:
        """The line of the file, with its end; what is empty is left out."""
        content = {name: value for name, value in asdict(self).items() if value not in (None, {}, False)}
        content["time"] = self.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True)
class Placed:
    """An answer, and where it stands: the reviewer and session of its file, and its line, from 1."""

    answer: Answer
    reviewer: str
    session: str
    file: str
    line: int

    @property
    def where(self) -> str:
        """The file and the line, as errors name them."""
        return f"{self.file}:{self.line}"


_ANSWER = TypeAdapter(Answer)


def folder_of(project: Project, task: str) -> Path:
    """Where the answers about a task lie, in git; it need not exist."""
    return project.root / "reviews" / task


def file_of(project: Project, task: str, reviewer: str, session: str) -> Path:
    """The file of a reviewer's answers of one session; raises `UserError` for a name that cannot stand in one."""
    if not NAME.fullmatch(reviewer):
        raise UserError(
            f"{reviewer!r} cannot be a reviewer's name; give one of small letters, digits, underscores and dots."
        )
    return folder_of(project, task) / f"{reviewer}-{session}.jsonl"


def frame_file(project: Project, task: str, session: str) -> Path:
    """The file that says how the rows of a session of *estimate* were drawn; raises `TableError` when it is missing."""
    file = folder_of(project, task) / f"{session}.frame.json"
    if not file.exists():
        raise TableError(
            f"{_named(project, file)} is missing, which says how the rows of the session were drawn; get it back from "
            "git, or from who began the session."
        )
    return file


def new_session(kind: Kind, now: datetime) -> str:
    """A name for a session that begins now: no other machine has the same."""
    return f"{kind}-{now.astimezone(UTC):%Y%m%dT%H%M%S}-{os.urandom(2).hex()}"


class AnswersFile:
    """A file of answers that is open for appending: an answer that `append` returned from survives any kill."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        existed = file.exists()
        self._file = file.open("ab", buffering=0)
        if not existed:
            _sync_folder(file.parent)
        elif _is_cut(file):
            self._file.write(b"\n")  # what a kill left half is a line of its own, which is told and not read

    def append(self, answer: Answer) -> None:
        """Add an answer, and return when it is on the disk; raises `OSError`, and then it may stand there half."""
        line = memoryview(answer.line())
        while line:
            line = line[self._file.write(line) :]
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _is_cut(file: Path) -> bool:
    with file.open("rb") as content:
        size = content.seek(0, os.SEEK_END)
        content.seek(max(0, size - 1))
        return size > 0 and content.read(1) != b"\n"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Answers:
    """All answers about a task, in the order of their time, and the lines that a kill left half."""

    answers: Sequence[Placed] = ()
    halves: Sequence[str] = ()


def read_answers(project: Project, task: str) -> Answers:
    """Answers what all reviewers said of a task; nothing where nobody has.

    Raises
    ------
    TableError
        When a line is no answer, or names a class that the task has not; it names the file and the line. A line that
        breaks off was never acknowledged, so it is no error: its place is among the ``halves``.
    """
    answers: list[Placed] = []
    halves: list[str] = []
    for file in sorted(folder_of(project, task).glob("*.jsonl")):
        reviewer, _, session = file.stem.partition("-")
        if not NAME.fullmatch(reviewer) or not SESSION.fullmatch(session):
            raise TableError(
                f"{_named(project, file)} is not named <reviewer>-<session>.jsonl as `weakfish review` names it; give "
                "it its name back."
            )
        for number, line in _lines(file):
            where = f"{_named(project, file)}:{number}"
            if (answer := _parsed(line, where, halves)) is None:
                continue
            if answer.label is not None and answer.label not in project.task(task).classes:
                raise TableError(
                    f"{where} answers {answer.label!r}, which is no class of {task} "
                    f"({', '.join(project.task(task).classes)}); correct the line, or tasks.{task}.classes in "
                    "params.yaml."
                )
            _require_side(answer, where)
            answers.append(Placed(answer, reviewer, session, _named(project, file), number))
    answers.sort(key=lambda placed: (placed.answer.time, placed.file, placed.line))
    return Answers(answers, halves)


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        if line.strip():
            yield number, line


def _parsed(line: bytes, where: str, halves: list[str]) -> Answer | None:
    """The answer of a line; None, and its place among the ``halves``, where the line breaks off."""
    try:
        content: Any = json.loads(line)
    except ValueError as error:
        if line.startswith(b"{") and not line.rstrip().endswith(b"}"):
            halves.append(where)
            return None
        raise TableError(f"{where} is not a line of JSON ({error}); correct it, or delete the line.") from error
    try:
        return _ANSWER.validate_python(content, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        named = ".".join(map(str, first["loc"]))
        reason = f"{named}: {first['msg']}" if named else str(first["msg"])
        raise TableError(f"{where} is no answer ({reason}); correct it, or delete the line.") from error


def _require_side(answer: Answer, where: str) -> None:
    """Raise `TableError` where a row is on the other side than its purpose: what teaches must not measure."""
    if is_dev([answer.key])[0] != (answer.purpose == "estimate"):
        return
    wrong = "dev side, which may teach" if answer.purpose == "estimate" else "test side, which only measures"
    raise TableError(
        f"{where} is an answer to {answer.purpose} about a row of the {wrong}; delete the line, `weakfish review` "
        "asks of each side what it is for."
    )


def _named(project: Project, file: Path) -> str:
    return file.relative_to(project.root).as_posix()


@dataclass(frozen=True)
class Settled:
    """What all reviewers together say of a row.

    Attributes
    ----------
    label
        The class; None where nobody names one, or reviewers name different ones and nobody resolved that.
    time
        When what counts was said, UTC.
    by_reviewer
        The class that each reviewer named last, of those who named one.
    resolved
        Whether a resolution said so.
    """

    label: str | None
    time: datetime
    purpose: Purpose
    by_reviewer: Mapping[str, str]
    resolved: bool = False

    @property
    def is_disputed(self) -> bool:
        """Whether reviewers name different classes, and nobody resolved that."""
        return self.label is None and len(set(self.by_reviewer.values())) > 1


def last_words(answers: Sequence[Placed]) -> dict[tuple[str, str], Placed]:
    """The last answer of each reviewer about each row (key, reviewer) that was not undone; no resolutions."""
    found: dict[tuple[str, str], Placed] = {}
    for placed in answers:
        place = placed.answer.key, placed.reviewer
        if placed.answer.resolves:
            continue
        found.pop(place, None)
        if placed.answer.said != "undone":
            found[place] = placed
    return found


def settle(answers: Sequence[Placed]) -> dict[str, Settled]:
    """What counts of each row that anybody named a class of, by key; ``answers`` are in the order of their time."""
    resolutions: dict[str, Placed] = {}
    for placed in answers:
        if placed.answer.resolves:
            resolutions.pop(placed.answer.key, None)
            if placed.answer.said == "class":
                resolutions[placed.answer.key] = placed
    by_key: dict[str, list[Placed]] = {}
    for placed in last_words(answers).values():
        if placed.answer.label is not None:
            by_key.setdefault(placed.answer.key, []).append(placed)
    found = {}
    for key, placed_ones in by_key.items():
        resolution, last = resolutions.get(key), placed_ones[-1]
        named = {placed.reviewer: str(placed.answer.label) for placed in placed_ones}
        agreed = last.answer.label if len(set(named.values())) == 1 else None
        deciding = resolution or last
        label = deciding.answer.label if resolution else agreed
        found[key] = Settled(label, deciding.answer.time, last.answer.purpose, named, resolution is not None)
    return found


def draws(answers: Sequence[Placed]) -> list[tuple[str, str, str | None]]:
    """Of each row that a session of *estimate* drew and somebody answered there: session, key, and what counts of it.

    A row that several sessions drew is in each; the class is None where none counts.
    """
    by_session: dict[str, list[Placed]] = {}
    for placed in answers:
        if placed.answer.purpose == "estimate":
            by_session.setdefault(placed.session, []).append(placed)
    settled = settle(answers)
    drawn = {(session, key) for session, of in by_session.items() for key, _ in last_words(of)}
    return [(session, key, settled[key].label if key in settled else None) for session, key in sorted(drawn)]
