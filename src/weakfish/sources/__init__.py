"""Raw data into the staged table, and what a source of raw events must offer.

The implementations are in `sources/` of a project. A source gets the ``source`` section of ``params.yaml`` and yields
Arrow batches of one schema; what becomes of them (partitions, as ``events.partition`` says, gold labels, quarantine) is
the engine's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from weakfish.contracts.ledgers import Reading
from weakfish.errors import SourceError

__all__ = ["RawPlace", "Source"]


@dataclass(frozen=True)
class RawPlace:
    """Where a row stands in the raw data: a file, and the line (of Parquet the row) in it, from 1, if it has lines."""

    file: str
    line: int | None = None


class Source(ABC):
    """A reader of raw data.

    Parameters
    ----------
    settings
        The ``source`` section of ``params.yaml`` without ``reader``.

    Raises
    ------
    ParamsError
        When a setting is missing or cannot be used.
    """

    schema: ClassVar[pa.Schema]
    """Columns of every batch: the key (string), the event time (UTC, microseconds; null where unknown), the rest."""

    gold: ClassVar[Mapping[str, str]] = {}
    """By task, the column of `schema` that holds its gold labels: strings, null where unknown.

    These columns never reach the events table.
    """

    gold_known_at: ClassVar[Mapping[str, str]] = {}
    """By task, the column of `schema` that says since when its gold labels are known (UTC, microseconds; null where
    that is not recorded), where there is one; it never reaches the events table either."""

    sets_aside: ClassVar[bool] = False
    """Whether there may be raw rows that `read` cannot yield at all; then `set_aside` tells of them."""

    makes_keys: ClassVar[bool] = False
    """Whether keys are made from what rows hold, with a number behind those of equal rows; then equal rows are copies,
    although their keys differ."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def fetch(self, raw: Path) -> None:  # noqa: B027  a default that does nothing
        """Put the raw data into the empty folder ``raw``; sources that read in place keep this default.

        Raises
        ------
        SourceError
            When the data cannot be had, or is not what was asked for.
        """

    @abstractmethod
    def read(self, raw: Path) -> Iterator[pa.RecordBatch]:
        """Yield every raw event once, as batches of `schema`, in an order that repeats.

        A row that can be read only in part is yielded with nulls: checks decide what becomes of it. Nothing is dropped.

        Raises
        ------
        SourceError
            When the raw data is missing or cannot be read; names the file and the place in it.
        """

    def splits(self, raw: Path) -> list[list[str]]:
        """Files below ``raw``, in groups that can be read apart, perhaps on several machines: see `read_split`.

        The rows of all groups in their order are those of `read`; made keys may be numbered in each group alone. None
        for a source whose rows `read` yields in one pass; then what follows is not called.
        """
        return []

    def read_split(self, raw: Path, split: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of one group of `splits`; other files may not be there.

        Raises
        ------
        SourceError
            As `read` does; and in a source that has `splits` and does not say how one is read.
        """
        name = type(self).__name__
        raise SourceError(f"{name} has splits, and does not say how one is read; write read_split, or drop splits.")

    def found(self) -> Mapping[str, Any]:
        """What `read_split` found beside rows, of what JSON has, for `take` where all is put together."""
        return {}

    def take(self, found: Mapping[str, Any]) -> None:  # noqa: B027  a default that does nothing
        """Add what reading a group found, group by group in their order, to what `remarks` and others tell."""

    def places(self, raw: Path, keys: Collection[str]) -> Mapping[str, Sequence[RawPlace]] | None:
        """Where in ``raw`` the rows with these keys stand, without keys that are not there; None where it cannot say.

        Raises
        ------
        SourceError
            As `read` does.
        """
        return None

    def files(self) -> list[Path]:
        """The files that `fetch` would put into ``data/raw`` now; none for a source that reads no files."""
        return []

    def fetched(self) -> Mapping[str, str | int]:
        """What `fetch` brought, for its ledger, where that is a version of a table that others keep: which one."""
        return {}

    def newest(self) -> Mapping[str, str | int]:
        """What `fetch` would bring now, where a version tells it; it runs again when this changes."""
        return {}

    def remarks(self) -> list[str]:
        """Sentences about what `read` found, for the person who runs it; none as a rule."""
        return []

    def set_aside(self, folder: Path) -> int:
        """Write what `read` could not yield, with the place of each, into the empty ``folder``, as Parquet.

        Returns
        -------
        int
            The raw rows that became no row of a batch: raw rows = rows yielded + these.

        Raises
        ------
        SourceError
            In a source that says so and has none.
        """
        name = type(self).__name__
        raise SourceError(f"{name} says that it sets rows aside, and has no set_aside; write one, or drop sets_aside.")

    def reading(self) -> Reading:
        """What there is to say of the files, after `read`: why lines became no row, columns that whole files lack."""
        return Reading()
