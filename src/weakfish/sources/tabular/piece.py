"""What readers of all formats hand over: some rows of a file as columns, and where each row stands in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from weakfish.sources.tabular.files import RawFile
from weakfish.sources.tabular.rejects import Rejects, Tally
from weakfish.sources.tabular.settings import TabularSettings

BLOCK = 1 << 22
"""How many bytes of a file are read at once where nothing is wrong."""

SMALL = 1 << 13
"""Blocks of up to this size are read record by record, if the fast reader refuses them."""

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
    lines: Callable[[], Sequence[int]]
    bad: tuple[Bad, ...] = ()


class Reader(Protocol):
    """Reads one file: yields its rows, adds what it cannot read to ``rejects`` and counts in ``tally``."""

    def __call__(self, file: RawFile, settings: TabularSettings, rejects: Rejects, tally: Tally) -> Iterator[Piece]: ...


def tell_columns(found: Sequence[str], file: RawFile, settings: TabularSettings, rejects: Rejects) -> None:
    """Tell of columns that a file has not, and of those that it has and nothing reads."""
    mapped = {settings.column_of(name) for name in found} | set(file.hive)
    for name in settings.columns:
        if name not in mapped:
            rejects.note(file.name, f"has no column {name!r}; it is null in all its rows", name)
    for name in dict.fromkeys(found):
        if settings.column_of(name) is None:
            rejects.note(file.name, f"has a column {name!r} that is not in source.columns; it is left out")
