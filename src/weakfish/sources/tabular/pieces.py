"""What readers of all formats hand over: some rows of a file as columns, and where each row stands in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.ledgers import RejectedLines
from weakfish.contracts.tables import TIME, write_partition
from weakfish.errors import SourceError
from weakfish.sources.tabular.raw_files import RawFile
from weakfish.sources.tabular.settings import TabularSettings

BLOCK = 1 << 22
"""How many bytes of a file are read at once where nothing is wrong."""

LONGEST = 1 << 24
"""The longest record, and the longest cell; what is longer is a reject."""


@dataclass(frozen=True)
class Bad:
    """A value that a reader itself could not take: the row in its piece, column, reason and what stood there."""

    row: int
    column: str
    reason: str
    raw: bytes | str


@dataclass(frozen=True)
class Piece:
    """Rows of a file, in order; ``columns`` are text, or what the format itself says, by column name."""

    columns: dict[str, pa.Array | pa.ChunkedArray]
    rows: int
    lines: Sequence[int] | npt.NDArray[np.int64]
    bad: tuple[Bad, ...] = ()

    def column(self, name: str, file: RawFile) -> pa.Array | None:
        """A column of the piece, or what the file's folders state of it; None where neither has it."""
        given = self.columns.get(name)
        if given is None:
            hive = file.hive
            return pa.repeat(pa.scalar(hive[name], pa.string()), self.rows) if name in hive else None
        return given.combine_chunks() if isinstance(given, pa.ChunkedArray) else given


class Reader(Protocol):
    """Reads one file: yields its rows, adds what it cannot read to ``rejects`` and counts in ``tally``."""

    def __call__(self, file: RawFile, settings: TabularSettings, rejects: Rejects, tally: Tally) -> Iterator[Piece]: ...


def places_of(
    header: Sequence[str], file: RawFile, settings: TabularSettings, rejects: Rejects, where: str
) -> dict[str, int]:
    """The place of each column of the settings that a header has; reports columns that only one of them has.

    Raises
    ------
    SourceError
        When the header has none of the columns, or has one of them twice.
    """
    places: dict[str, int] = {}
    named = set(header)
    for place, name in enumerate(header):
        column = settings.column_of(name) if name else None
        if column is None or (name != column and column in named):
            continue
        if column in places:
            raise SourceError(
                f"{where}: column {column!r} appears twice, as fields {places[column] + 1} and {place + 1}; "
                "rename one of them."
            )
        places[column] = place
    if not places:
        found = ", ".join(repr(name[:40]) for name in header[:20])
        raise SourceError(
            f"{where}: the header has none of source.columns, it has {found}; add a header line, or correct "
            "source.columns, source.delimiter or source.header in params.yaml."
        )
    for name in settings.columns:
        if name not in places and name not in file.hive:
            rejects.lacks(file.name, name)
    others = [name for name in dict.fromkeys(header) if name and settings.column_of(name) is None]
    for name in others[:TOLD]:
        rejects.left_out(file.name, name)
    if len(others) > TOLD:
        reason = f"has {len(others) - TOLD:,} more columns that are not in source.columns; they are left out"
        rejects.note(file.name, reason)
    return places


TOLD = 1_000
"""How many columns or keys of a file that are not in the settings are named."""

CHARACTERS = 200
"""How much is kept of what stood there, escaped."""

KEPT_LINES = 10_000
KEPT_VALUES = 1_000
"""How many rejects are kept of a file's lines, and of each of its columns; the others are counted."""

REASONS = 50
"""How many reasons, by file, the ledger has."""

KEPT = 100_000
"""How many rejects are kept of all files."""

RejectKind = Literal["line", "value", "file"]
Place = tuple[str, str, str]
Change = tuple[str, str, str]
"""A file, a column and what became of some of its values."""

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

    ``line`` counts from 1 (rows, in Parquet), ``lines`` says how many it spans; ``records`` of them would have been
    rows.
    """

    file: str
    line: int | None
    lines: int
    kind: RejectKind
    column: str | None
    reason: str
    text: str
    records: int = 1


@dataclass
class Tally:
    """What became of a file: records read are ``rows`` and ``rejected``; lines are those of records, header, blanks."""

    rows: int = 0
    rejected: int = 0
    lines: int = 0
    header: int = 0
    blank: int = 0

    @property
    def records(self) -> int:
        """How many records were read."""
        return self.rows + self.rejected


class Rejects:
    """Rejects of all files of a source, the first of each kind and place kept, all counted."""

    def __init__(self) -> None:
        self.kept: list[Reject] = []
        self.counts: Counter[Place] = Counter()
        """How many there are by file, kind and column (empty for lines and files)."""
        self.reasons: Counter[tuple[str, str]] = Counter()
        """How many values became null, by column and reason."""
        self.unknown: dict[str, str] = {}
        """Headers that are of no column of the settings, and the first file that has each."""
        self.lacking: dict[str, list[str]] = {}
        """Columns that each file lacks."""
        self.others: dict[str, list[str]] = {}
        """Headers of each file that are no columns of the settings."""
        self.changed: dict[Change, tuple[int, str]] = {}
        """How many values of a file's column were changed in a way that a sentence says, and the first of them."""

    def line(self, file: str, line: int, reason: str, raw: bytes | str, lines: int = 1, records: int = 1) -> None:
        """Tell of lines that became no row, or no ``records``."""
        self._add(Reject(file, line, lines, "line", None, reason, shown(raw), records), KEPT_LINES)

    def value(self, file: str, line: int, column: str, reason: str, raw: bytes | str) -> None:
        """Tell of a value that became null in a row that was read."""
        self.reasons[column, reason] += 1
        self._add(Reject(file, line, 1, "value", column, reason, shown(raw)), KEPT_VALUES)

    def change(self, file: str, column: str, how: str, count: int, first: str) -> None:
        """Tell of so many values that were kept, but not as they were written, and of the first of them."""
        before, known = self.changed.get((file, column, how), (0, shown(first)))
        self.changed[file, column, how] = (before + count, known)

    def note(self, file: str, reason: str, column: str | None = None) -> None:
        """Tell of a file as a whole."""
        self._add(Reject(file, None, 0, "file", column, reason, ""), KEPT_LINES)

    def lacks(self, file: str, column: str) -> None:
        """Tell of a column that a whole file lacks."""
        self.lacking.setdefault(file, []).append(column)
        self.note(file, f"has no column {column!r}; it is null in all its rows", column)

    def left_out(self, file: str, header: str) -> None:
        """Tell of a column of a file that is not in the settings."""
        self.unknown.setdefault(header, file)
        self.others.setdefault(file, []).append(header)
        self.note(file, f"has a column {header[:100]!r} that is not in source.columns; it is left out")

    def to_json(self) -> dict[str, Any]:
        """All that is known, of what JSON has."""
        return {
            "kept": [list(reject) for reject in self.kept],
            "counts": [[*place, count] for place, count in self.counts.items()],
            "reasons": [[*reason, count] for reason, count in self.reasons.items()],
            "changed": [[*change, count, first] for change, (count, first) in self.changed.items()],
            "unknown": self.unknown,
            "lacking": self.lacking,
            "others": self.others,
        }

    def add(self, found: Mapping[str, Any]) -> None:
        """Take what `to_json` has of files that stand behind those so far."""
        self.kept += [Reject(*reject) for reject in found["kept"][: KEPT - len(self.kept)]]
        for file, kind, column, count in found["counts"]:
            self.counts[file, kind, column] += count
        for column, reason, count in found["reasons"]:
            self.reasons[column, reason] += count
        self.changed |= {(file, column, how): (count, first) for file, column, how, count, first in found["changed"]}
        self.unknown = {**found["unknown"], **self.unknown}
        self.lacking |= found["lacking"]
        self.others |= found["others"]

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
        changed = [
            Reject(file, None, 0, "file", column, f"{how}: {count:,}, the first of them {first!r}", "")
            for (file, column, how), (count, first) in self.changed.items()
        ]
        rows = [reject._asdict() for reject in (*self.kept, *more, *changed)]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def by_reason(self) -> tuple[RejectedLines, ...]:
        """Lines that became no row, by file and reason; of those that are counted and not kept no reason is known."""
        found: dict[tuple[str, str], RejectedLines] = {}
        for one in self.kept:
            if one.kind == "line":
                known = found.setdefault((one.file, one.reason), RejectedLines(one.file, one.reason, 0, one.line))
                found[one.file, one.reason] = replace(known, rows=known.rows + one.records)
        kept = Counter(one.file for one in self.kept if one.kind == "line")
        more = [
            RejectedLines(file, "not kept, for there are too many", count - kept[file])
            for (file, kind, _), count in self.counts.items()
            if kind == "line" and count > kept[file]
        ]
        every = sorted([*found.values(), *more], key=lambda of: (-of.rows, of.file, of.line or 0))
        left = sum(of.rows for of in every[REASONS:])
        rest = [RejectedLines("", f"{len(every) - REASONS:,} more reasons and files", left)] if left else []
        return (*every[:REASONS], *rest)

    def changes(self) -> list[str]:
        """A sentence on each column of which some values were changed, in whichever files."""
        found: dict[tuple[str, str], tuple[int, str]] = {}
        for (_, column, how), (count, text) in self.changed.items():
            known, first = found.get((column, how), (0, text))
            found[column, how] = (known + count, first)
        return [
            f"Column {column}: {how}, in {count:,} row{'s' * (count != 1)} (first {first!r})."
            for (column, how), (count, first) in found.items()
        ]

    def values(self) -> dict[str, int]:
        """Values that became null, by column."""
        found = Counter[str]()
        for (column, _), count in self.reasons.items():
            found[column] += count
        return dict(sorted(found.items()))

    def write(self, folder: Path) -> None:
        """Write `table` to ``rejects.parquet`` in a folder."""
        write_partition(folder, "rejects", self.table())


def shown(raw: bytes | str) -> str:
    """A bounded, printable form of what stood in a file: control characters and what is not UTF-8 are escaped."""
    text = raw[: 4 * CHARACTERS].decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw[:CHARACTERS]
    return "".join(_escaped(character) for character in text[:CHARACTERS])[:CHARACTERS]


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


Hashes = npt.NDArray[np.uint64]


class Keys:
    """Makes the keys of the batches of one reading."""

    def __init__(self) -> None:
        self._runs: list[Hashes] = []  # sorted, each longer than the next: hashes that have been seen
        self._again: Counter[int] = Counter()  # of those seen more than once, how often before

    def of(self, columns: list[pa.Array]) -> pa.Array:
        """The keys of rows: 32 hexadecimal digits, from the second of equal rows on with their number behind them."""
        digests = [hashlib.blake2b(row, digest_size=16).digest() for row in _contents(columns)]
        hashes = np.frombuffer(b"".join(digests), np.uint64)[::2]
        again = self._seen_before(hashes)
        keys = [digest.hex() for digest in digests]
        for place in np.flatnonzero(again):
            self._again[int(hashes[place])] += 1
            keys[place] += f"-{self._again[int(hashes[place])] + 1}"
        return pa.array(keys, pa.string())

    def _seen_before(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        distinct, first = np.unique(hashes, return_index=True)
        again = np.ones(len(hashes), np.bool_)
        again[first] = False
        new = np.ones(len(distinct), np.bool_)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, distinct), len(run) - 1)
            new &= run[places] != distinct
        again[first[~new]] = True
        self._add(distinct[new])
        return again

    def _add(self, run: Hashes) -> None:
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]))
        if len(run):
            self._runs.append(run)


def _contents(columns: list[pa.Array]) -> list[bytes]:
    """Each row as bytes that differ when a value does: texts go with their length, null is a sign of its own."""
    parts = []
    for column in columns:
        texts = pc.cast(pc.cast(column, pa.int64()) if column.type == TIME else column, pa.string())
        if pa.types.is_string(column.type):
            lengths = pc.cast(pc.binary_length(texts), pa.string())
            texts = pc.binary_join_element_wise(lengths, texts, ":")
        parts.append(pc.fill_null(texts, "~"))
    joined = pc.binary_join_element_wise(*parts, "|") if len(parts) > 1 else parts[0]
    found: list[bytes] = pc.cast(joined, pa.binary()).to_pylist()
    return found
