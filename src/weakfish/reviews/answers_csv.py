"""Rows to ask about as CSV, for spreadsheets and whatever reads tables: a line each, with a column for the answer."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from weakfish.errors import UserError
from weakfish.files import whole_file
from weakfish.reviews.other_tools import Incoming, Outgoing, as_time

MARKS = ("key", "session", "function", "probability", "stratum", "labels", "events")
ANSWER = ("answer", "reviewer", "time", "note")
SUGGESTED = ("suggested", "share")
OF_EVENT = "event."
"""Before the name of a column of the event, so that none is taken for one of ours."""

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet would run; it gets a quote in front of it."""


def write(file: Path, rows: Sequence[Outgoing], classes: Sequence[str]) -> list[Path]:
    """Write rows as CSV: what has to come back, empty columns for the answer, what is suggested, the event."""
    names = list(rows[0].columns) if rows else []
    with whole_file(file) as part, part.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow([*MARKS, *ANSWER, *SUGGESTED, *(f"{OF_EVENT}{name}" for name in names)])
        for row in rows:
            suggested = [row.label or "", "" if row.share is None else repr(row.share)]
            texts = [_harmless(row.columns[name]) for name in names]
            lines.writerow([*(row.marks.get(name, "") for name in MARKS), *[""] * len(ANSWER), *suggested, *texts])
    return [file]


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULAS) else text


def read(file: Path) -> Iterator[Incoming]:
    """The answers of a CSV file with the columns ``key`` and ``answer``, and any of the others.

    Raises
    ------
    UserError
        When the file cannot be read, is not UTF-8, or lacks one of these columns.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); correct the name.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 ({error.reason} at byte {error.start}); save it as CSV UTF-8.") from error
    head = text.partition("\n")[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    lines = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    header: list[str] = [name.strip() for name in next(lines, [])]
    if missing := [name for name in ("key", "answer") if name not in header]:
        raise UserError(f"{file} has no column {' and '.join(missing)}; it has {', '.join(header) or 'none'}.")
    yield from _rows(file, lines, header)


def _rows(file: Path, lines: Iterator[list[str]], header: list[str]) -> Iterator[Incoming]:
    number = 1
    while True:
        number, where = getattr(lines, "line_num", number), ""
        where = f"{file.name} line {number + 1}"
        try:
            row = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield Incoming(where, wrong=f"is half a line or no CSV ({error})")
            continue
        if not row:
            continue
        if len(row) != len(header):
            yield Incoming(where, wrong=f"has {len(row)} of {len(header)} fields, as half a line has")
            continue
        yield _incoming(where, dict(zip(header, (each.strip() for each in row), strict=True)))


def _incoming(where: str, row: Mapping[str, str]) -> Incoming:
    said, time = row.get("time") or None, as_time(row.get("time"))
    wrong = f"has the time {said!r}, which is not one; write it as 2024-05-31T14:00:00Z" if said and not time else None
    marks = {name: row[name] for name in MARKS if row.get(name)}
    return Incoming(where, row["answer"] or None, marks, row.get("reviewer") or None, time, row.get("note"), wrong)
