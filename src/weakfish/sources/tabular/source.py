"""CSV, JSON Lines and Parquet as a source: files that a setting names, linked into ``data/raw``, read as Arrow batches;
and tables that others keep, whose rows come there as Parquet.

A project's ``sources/`` names the source that its ``params.yaml`` describes in one line::

    Events = tabular_source(Path(__file__).parents[1])
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.ledgers import MissingColumn, Reading
from weakfish.contracts.tables import TIME
from weakfish.errors import SourceError
from weakfish.project import params
from weakfish.project.paths import Project
from weakfish.sources import RawPlace, Source
from weakfish.sources.lake import TableAt, open_table, save
from weakfish.sources.tabular.infer import READERS
from weakfish.sources.tabular.pieces import Keys, Piece, Rejects, Tally
from weakfish.sources.tabular.raw_files import NO_TEXT, RawFile, find, format_of, link, listed
from weakfish.sources.tabular.renamed import likely
from weakfish.sources.tabular.settings import ARROW, MADE_KEY, MADE_TIME, Conversion, Kind, read_settings
from weakfish.sources.tabular.times import finer, swapped, twice
from weakfish.sources.tabular.types import (
    NOT_TEXT,
    Converted,
    convert,
    inexact,
    is_bytes,
    is_long,
    leads_with_zero,
    too_long,
    why,
)

TYPED = ("jsonl", "parquet")
"""Formats in which an empty text is not a null."""

REMARKS = 10
"""The most sentences about files that are printed; all are in ``rejects.parquet``."""

SPLIT = 1 << 25
"""Bytes of files that are read together, unless one has more."""

MADE_LENGTH = 32
"""Characters of a made key without a number."""

WORST = 5
"""The most columns that are named of those with values that became null."""


class TabularSource(Source):
    """Reads files of rows.

    Parameters
    ----------
    settings
        As in `settings.TabularSettings`.

    Attributes
    ----------
    rejects
        What could not be read, after `read`.
    tallies
        What became of the lines of each file, after `read`: lines = those of header, blanks, rows and rejects.
    unfit
        After `read`, by column of numbers, a text that its type cannot hold as it is written: it begins with a zero, or
        has too many digits.
    swapped
        After `read`, by column of times, a text in which day and month can only stand in the other order.

    Raises
    ------
    ParamsError
        When a setting is missing, unknown or cannot be used.
    """

    root: ClassVar[Path | None] = None
    """The folder from which ``path`` counts; the project of the working directory where it is None."""

    sets_aside: ClassVar[bool] = True

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.options = read_settings(settings)
        own = {"schema": self.options.schema, "gold": self.options.gold_columns, "makes_keys": self.options.key is None}
        vars(self).update(own, gold_known_at=self.options.gold_known_at)  # before those of the class
        self.rejects = Rejects()
        self.tallies: dict[str, Tally] = {}
        self.unfit: dict[str, str] = {}
        self.swapped: dict[str, str] = {}
        self._files: dict[str, RawFile] = {}
        self._fetched: dict[str, str | int] = {}

    def fetch(self, raw: Path) -> None:
        """Link (or copy) the files that ``path`` means into ``raw``, under names that stay when others come.

        Of a table, its rows at the version are written there as Parquet.
        """
        if self.options.is_table:
            self._fetch_table(raw)
            return
        files = find(self.options.path, self.root or Project.find().root)
        for file in files:
            format_of(file, self.options.file_format)
        link(files, raw)

    def _fetch_table(self, raw: Path) -> None:
        snapshot = open_table(self._table())
        if snapshot.left_out:
            left = ", ".join(snapshot.left_out)
            print(f"fetch: columns that are not in source.columns are left out: {left}.", file=sys.stderr)
        self._fetched = {**snapshot.version, "rows": save(snapshot, raw)}

    def _table(self) -> TableAt:
        return self.options.table_at(self.root or Project.find().root)

    def fetched(self) -> Mapping[str, str | int]:
        """Of a table, how it is named, its version and how many rows it has, after `fetch`."""
        return self._fetched

    def newest(self) -> Mapping[str, str | int]:
        """Of a Delta or Iceberg table, how it is named and the version that is meant now."""
        if self.options.format not in ("delta", "iceberg"):
            return {}
        return open_table(self._table()).version

    def files(self) -> list[Path]:
        """The files that ``path`` means; none of a table."""
        if self.options.is_table:
            return []
        return [file.path for file in find(self.options.path, self.root or Project.find().root)]

    def read(self, raw: Path) -> Iterator[pa.RecordBatch]:
        """Yield the rows of all files in the order of their names, and within each as they stand there."""
        yield from self.read_files(listed(raw))

    def splits(self, raw: Path) -> list[list[str]]:
        """Files that follow each other, as many as have `SPLIT` bytes together; what was found before is forgotten."""
        self._begin()
        self._files = {file.name: file for file in listed(raw)}
        ends = accumulate(file.path.stat().st_size for file in self._files.values())
        numbered = zip((end // SPLIT for end in ends), self._files, strict=True)
        return [[name for _, name in group] for _, group in groupby(numbered, itemgetter(0))]

    def read_split(self, raw: Path, split: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of some files in this order."""
        yield from self.read_files(RawFile(raw / name, name) for name in split)

    def found(self) -> Mapping[str, Any]:
        """What `remarks`, `reading` and `set_aside` tell of the files that were read."""
        tallies = {name: asdict(tally) for name, tally in self.tallies.items()}
        return {"rejects": self.rejects.to_json(), "tallies": tallies, "unfit": self.unfit, "swapped": self.swapped}

    def take(self, found: Mapping[str, Any]) -> None:
        """Add what was found in files that stand behind those so far."""
        self.rejects.add(found["rejects"])
        self.tallies |= {name: Tally(**tally) for name, tally in found["tallies"].items()}
        self.unfit, self.swapped = {**found["unfit"], **self.unfit}, {**found["swapped"], **self.swapped}

    def _begin(self) -> None:
        """Forget what was found before."""
        self.rejects, self.tallies, self.unfit, self._files = Rejects(), {}, {}, {}
        self.swapped, self._noted = {}, set[tuple[str, str]]()

    def read_files(self, files: Iterable[RawFile]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of files, wherever they lie, in this order."""
        self._begin()
        keys = Keys()
        for file in files:
            reader = READERS[format_of(file, self.options.file_format)]
            tally = self.tallies[file.name] = Tally()
            self._files[file.name] = file
            for piece in reader(file, self.options, self.rejects, tally):
                if piece.rows:
                    yield self._batch(piece, file, keys)

    def places(self, raw: Path, keys: Collection[str]) -> dict[str, list[RawPlace]]:
        """The file and line (of Parquet the row) of each row with one of these keys, of which there may be several.

        Of equal rows, to which made keys give numbers, it is the one of that number.
        """
        found: dict[str, list[RawPlace]] = {}
        wanted = pa.array({key.partition("-")[0] for key in keys} if self.makes_keys else set(keys), pa.string())
        for name, line, key in self._keyed(listed(raw), wanted):
            found.setdefault(key, []).append(RawPlace(name, line))
        if not self.makes_keys:
            return found
        numbered = {key: (key.partition("-")[0], int(key.partition("-")[2] or 1)) for key in keys}
        return {key: found[own][number - 1 : number] for key, (own, number) in numbered.items() if own in found}

    def _keyed(self, files: Iterable[RawFile], wanted: pa.Array) -> Iterator[tuple[str, int, str]]:
        """File, line and key of the rows with these keys; made keys without their numbers."""
        self._begin()
        key = self.options.key
        alone = self.options.model_copy(update={"columns": {key: "string"}}) if key else self.options
        for file in files:
            self._files[file.name] = file
            for piece in READERS[format_of(file, self.options.file_format)](file, alone, self.rejects, Tally()):
                if piece.rows:
                    keys = self._column(key, piece, file) if key else self._batch(piece, file, Keys())[MADE_KEY]
                    keys = keys if key else pc.utf8_slice_codeunits(keys, 0, MADE_LENGTH)
                    rows = pc.indices_nonzero(pc.is_in(keys, wanted)).to_pylist()
                    yield from ((file.name, int(piece.lines[row]), keys[row].as_py()) for row in rows)

    def set_aside(self, folder: Path) -> int:
        """Write `rejects` and return how many records became no row."""
        self.rejects.write(folder)
        return sum(tally.rejected for tally in self.tallies.values())

    def remarks(self) -> list[str]:
        """What is to say of files, of `REMARKS` at most, and how many lines and values could not be read."""
        of_files = [f"{reject.file} {reject.reason}." for reject in self.rejects.kept if reject.kind == "file"]
        said = [*of_files[:REMARKS], *self.rejects.changes()]
        if len(of_files) > REMARKS:
            said.append(f"{len(of_files) - REMARKS:,} more such remarks are in data/quarantine/raw.")
        said += [
            f"Column {column}: {count:,} value{'s' * (count != 1)} became null, for each {reason}."
            for (column, reason), count in self.rejects.reasons.items()
            if reason.startswith(NO_TEXT)
        ]
        counts = Counter[str]()
        for (_, kind, _), count in self.rejects.counts.items():
            counts[kind] += count
        lost = [
            f"{counts[kind]:,} {kind}{'s' * (counts[kind] != 1)} {what}"
            for kind, what in (("line", "became no row"), ("value", f"became null ({self._worst()})"))
            if counts[kind]
        ]
        if lost:
            said.append(f"{', '.join(lost)}; data/quarantine/raw says which and why.")
        return said

    def _worst(self) -> str:
        """The columns of which the most values became null, with how many."""
        found = sorted(self.rejects.values().items(), key=lambda each: (-each[1], each[0]))
        worst = [f"{column} {count:,}" for column, count in found[:WORST]]
        more = len(found) - WORST
        return ", ".join(worst) + (f" and {more} more column{'s' * (more > 1)}" if more > 0 else "")

    def reading(self) -> Reading:
        """Rejected lines by file and reason, columns that files with rows lack, and values that became null."""
        return Reading(self.rejects.by_reason(), tuple(self._missing()), self.rejects.values())

    def _missing(self) -> Iterator[MissingColumn]:
        usual = {
            header
            for file, headers in self.rejects.others.items()
            if file not in self.rejects.lacking
            for header in headers
        }
        rare = {column for lacking in self.rejects.lacking.values() for column in lacking}
        for name, columns in self.rejects.lacking.items():
            new = [header for header in self.rejects.others.get(name, ()) if header not in usual]
            new += [column for column in self.options.columns if column in rare and column not in columns]
            for column in columns:
                if column in self.options.optional or not self.tallies[name].rows:
                    continue
                file = self._files[name]
                others = (
                    of
                    for other, of in self._files.items()
                    if self.tallies[other].rows and column not in self.rejects.lacking.get(other, ())
                )
                reader = READERS[format_of(file, self.options.file_format)]
                found = likely(column, new, file, next(others, None), reader, self.options)
                yield MissingColumn(name, column, found)

    def _batch(self, piece: Piece, file: RawFile, keys: Keys) -> pa.RecordBatch:
        columns = {name: self._column(name, piece, file) for name in self.options.columns}
        for bad in piece.bad:
            self.rejects.value(file.name, int(piece.lines[bad.row]), bad.column, bad.reason, bad.raw)
        if not self.options.time:
            columns[MADE_TIME] = pa.nulls(piece.rows, TIME)
        if not self.options.key:  # gold is no part of it: a label that is corrected makes no other event
            gold = {*self.gold.values(), *self.gold_known_at.values()}
            columns[MADE_KEY] = keys.of([columns[name] for name in self.options.columns if name not in gold])
        return pa.RecordBatch.from_arrays([columns[name] for name in self.schema.names], schema=self.schema)

    def _column(self, name: str, piece: Piece, file: RawFile) -> pa.Array:
        kind, how = self.options.columns[name], self.options.conversion(name)
        given = piece.column(name, file)
        if given is None:
            return pa.nulls(piece.rows, ARROW[kind])
        try:
            found = convert(given, kind, how)
        except (pa.ArrowException, ValueError, OverflowError, NotImplementedError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise SourceError(
                f"{file.name}: column {name!r} is of type {given.type}, which cannot be read as {kind} ({reason}); "
                "change its type in source.columns."
            ) from error
        reasons = _reasons(found, kind, how, given.type)
        for row, reason in zip(pc.indices_nonzero(found.bad).to_pylist(), reasons, strict=True):
            self.rejects.value(file.name, int(piece.lines[row]), name, reason, found.text(row))
        if kind == "time":
            self._check_times(name, how, found, file)
        if kind == "string":
            self._check_empty(name, how, given, file)
        if kind in ("integer", "number") and pa.types.is_string(found.texts.type):
            self._check_digits(name, kind, found, file)
        if how.time_format and (other := swapped(how.time_format)) and pc.any(found.bad, min_count=0).as_py():
            self._check_order(name, replace(how, time_format=other), found, file)
        if name not in self.options.gold_columns.values():
            return found.values
        labels = pc.utf8_trim_whitespace(found.values)
        labels = pc.if_else(pc.equal(labels, ""), pa.scalar(None, pa.string()), labels)
        classes = self.options.classes_of(name)
        if classes is None:
            return labels
        places = pc.index_in(labels, pa.array(list(classes), pa.string()))
        for row in pc.indices_nonzero(pc.and_(pc.is_valid(labels), pc.is_null(places))).to_pylist():
            reason = f"is none of the values of {name} in source.gold"
            self.rejects.value(file.name, int(piece.lines[row]), name, reason, found.values[row].as_py())
        return pc.take(pa.array(list(classes.values()), pa.string()), places)

    def _check_digits(self, name: str, kind: Kind, found: Converted, file: RawFile) -> None:
        """Tell of numbers whose zeros or digits are lost, which are keys rather than numbers."""
        lost = inexact(found.texts.filter(found.bad), kind)
        zeros = found.texts.filter(leads_with_zero(found.texts))
        if pc.any(lost).as_py():
            self.unfit.setdefault(name, found.texts.filter(found.bad).filter(lost)[0].as_py())
        if len(zeros) and (file.name, name) not in self._noted:
            self._noted.add((file.name, name))
            self.unfit.setdefault(name, zeros[0].as_py())
            reason = f"has values that begin with a zero, such as {zeros[0].as_py()[:40]!r}, in column {name!r}"
            self.rejects.note(file.name, f"{reason}; as a number it is lost, so make the column a string", name)

    def _check_times(self, name: str, how: Conversion, found: Converted, file: RawFile) -> None:
        """Tell of times that are kept as others: cut, or one of the two that they can mean."""
        changes = {
            "digits beyond microseconds are cut": finer(found.texts, how.time_format),
            f"clocks in {how.time_zone} showed this time twice, and the first is taken": twice(
                found.values, found.texts, how.time_zone, how.time_format
            ),
        }
        for what, changed in changes.items():
            rows = pc.indices_nonzero(pc.and_(pc.is_valid(found.values), changed))
            if len(rows):
                self.rejects.change(file.name, name, what, len(rows), found.text(rows[0].as_py()))

    def _check_empty(self, name: str, how: Conversion, given: pa.Array, file: RawFile) -> None:
        """Tell of empty texts that become null, in formats that tell the two apart."""
        if "" in how.nulls and pa.types.is_string(given.type) and format_of(file, self.options.file_format) in TYPED:
            empty = pc.sum(pc.equal(pc.binary_length(given), 0)).as_py() or 0
            if empty:
                self.rejects.change(file.name, name, "an empty text became null (source.null_values)", empty, "")

    def _check_order(self, name: str, how: Conversion, found: Converted, file: RawFile) -> None:
        """Tell of times that only fit with day and month swapped: then others of the file may be read wrong."""
        bad = found.texts.filter(found.bad)
        fitting = bad.filter(pc.invert(convert(bad, self.options.columns[name], how).bad))
        if len(fitting) and (file.name, name) not in self._noted:
            self._noted.add((file.name, name))
            text = fitting[0].as_py()
            self.swapped.setdefault(name, text)
            reason = f"has times such as {text[:40]!r} in column {name!r}, with day and month the other way round"
            self.rejects.note(file.name, f"{reason}: others of it may be read wrong, so make the files alike", name)


def _reasons(found: Converted, kind: Kind, how: Conversion, given: pa.DataType) -> list[str]:
    """Why each bad value of a column is bad."""
    bad = found.texts.filter(found.bad)
    usual, others, other = why(kind, how), pa.repeat(False, len(bad)), ""
    if pa.types.is_string(bad.type) and kind == "string" and pc.any(is_long(bad, how), min_count=0).as_py():
        others, other = is_long(bad, how), too_long(how.longest)
    elif is_bytes(given):
        others, other = pc.starts_with(bad, NOT_TEXT), "is bytes that are not UTF-8"
    elif kind == "time" and how.time_zone != "UTC" and len(bad):
        others = pc.is_valid(convert(bad, kind, replace(how, time_zone="UTC")).values)
        other = f"is no time in {how.time_zone}: clocks are set forward over it"
    return [other if each else usual for each in others.to_pylist()]


def tabular_source(root: Path) -> type[TabularSource]:
    """The class of the source that ``params.yaml`` in ``root`` describes, with its schema; raises `ParamsError`.

    The engine asks a source's class for its columns before it makes one, so they have to be the class's own.
    """
    options = read_settings(params.load(root).source.settings)
    own = {"schema": options.schema, "gold": options.gold_columns, "gold_known_at": options.gold_known_at}
    return type("Tabular", (TabularSource,), {"root": root, **own})
