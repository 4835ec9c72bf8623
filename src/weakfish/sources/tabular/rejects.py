"""What a tabular source could not read: records of file, line, reason and what stood there, bounded in memory.

Readers add rejects while they read; `Rejects.table` gives them as Arrow. Counts are exact even where not every record
is kept.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa

from weakfish.tables import write_partition

CHARACTERS = 200
"""How much is kept of what stood there, escaped."""

KEPT_LINES = 10_000
KEPT_VALUES = 1_000
"""How many rejects are kept of a file's lines, and of each of its columns; the others are counted."""

KEPT = 100_000
"""How many rejects are kept of all files."""

RejectKind = Literal["line", "value", "file"]
Place = tuple[str, str, str]

SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("line", pa.int64()),
        ("lines", pa.int64()),
        ("kind", pa.string()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("text", pa.string()),
    ]
)


class Reject(NamedTuple):
    """One reject: a whole ``line`` that became no row, a ``value`` that became null, or what is to say of a ``file``.

    ``line`` counts from 1 (rows, in Parquet), ``lines`` says how many it spans.
    """

    file: str
    line: int | None
    lines: int
    kind: RejectKind
    column: str | None
    reason: str
    text: str


@dataclass
class Tally:
    """What became of a file: records read are ``rows`` and ``rejected``; lines are those of records, header, blanks."""

    rows: int = 0
    rejected: int = 0
    records: int = 0
    lines: int = 0
    header: int = 0
    blank: int = 0


class Rejects:
    """Rejects of all files of a source, the first of each kind and place kept, all counted."""

    def __init__(self) -> None:
        self.kept: list[Reject] = []
        self.counts: Counter[Place] = Counter()
        """How many there are by file, kind and column (empty for lines and files)."""

    def line(self, file: str, line: int, reason: str, raw: bytes | str, lines: int = 1) -> None:
        """Tell of lines that became no row."""
        self._add(Reject(file, line, lines, "line", None, reason, shown(raw)), KEPT_LINES)

    def value(self, file: str, line: int, column: str, reason: str, raw: bytes | str) -> None:
        """Tell of a value that became null in a row that was read."""
        self._add(Reject(file, line, 1, "value", column, reason, shown(raw)), KEPT_VALUES)

    def note(self, file: str, reason: str, column: str | None = None) -> None:
        """Tell of a file as a whole."""
        self._add(Reject(file, None, 0, "file", column, reason, ""), KEPT_LINES)

    def _add(self, reject: Reject, most: int) -> None:
        place: Place = (reject.file, reject.kind, reject.column or "")
        self.counts[place] += 1
        if self.counts[place] <= most and len(self.kept) < KEPT:
            self.kept.append(reject)

    def table(self) -> pa.Table:
        """All that is kept, then one record for each file and kind of which more were counted than kept."""
        kept: Counter[Place] = Counter((reject.file, reject.kind, reject.column or "") for reject in self.kept)
        more = [
            Reject(
                file, None, 0, "file", column or None, f"{count - kept[place]} more {kind} rejects are not shown", ""
            )
            for place, count in sorted(self.counts.items())
            for file, kind, column in [place]
            if count > kept[place]
        ]
        rows = [reject._asdict() for reject in (*self.kept, *more)]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def write(self, folder: Path) -> None:
        """Write `table` to ``rejects.parquet`` in a folder."""
        write_partition(folder, "rejects", self.table())


def shown(raw: bytes | str) -> str:
    """A bounded, printable form of what stood in a file: control characters and what is not UTF-8 are escaped."""
    text = raw[: 4 * CHARACTERS].decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw[:CHARACTERS]
    return "".join(_escaped(character) for character in text[:CHARACTERS])[:CHARACTERS]


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
