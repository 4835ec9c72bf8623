"""Rows of the project's source into partitions, in two steps that workers share: files by period, periods in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.tables import GOLD_LABEL, KNOWN_AT, Contract, Part, in_test, partition_writer, write_partition
from weakfish.engine import fleet
from weakfish.files import read_json, write_json
from weakfish.project.paths import Project
from weakfish.project.runs import Progress
from weakfish.sources import Source
from weakfish.sources.declared import events_contract, source
from weakfish.sources.parts import Period, Size, Spill, Streams, name_of_key

READ_BYTES = 60e6
"""Bytes of files that a process reads in a second, about."""

WRITTEN_BYTES = 150e6
"""Bytes of values that a process puts in order and writes in a second, about."""

TOGETHER = 1 << 26
"""Bytes of periods that are written as one piece of work, unless one has more."""

FOUND = "found.json"
"""What reading a split found beside its rows."""


@dataclass(frozen=True)
class Spilled:
    """All rows by period, on disk.

    Attributes
    ----------
    rows
        How many there are.
    periods
        In their order; files and sizes of each, by period.
    numbered
        Whether the numbers of made keys count in all of them.
    """

    rows: int
    periods: Mapping[str, tuple[Sequence[Path], Size]]
    numbered: bool


@dataclass(frozen=True)
class Staged:
    """How many rows were written, how many exact copies were not, and the key of the first of these."""

    rows: int
    copies: int
    first: str | None


def read_all(project: Project, reader: Source, scratch: Path) -> Spilled:
    """Read all rows into an empty folder; raises what `Source.read` does, and `TableError` for other columns."""
    raw, progress = project.data / "raw", Progress("ingest: rows")
    splits = reader.splits(raw)
    if not splits:
        spilled = _spilled(reader, events_contract(project), reader.read(raw), scratch / "0", progress)
        return _together([(scratch / "0", spilled)], numbered=True)
    names = [[fleet.relative(project, raw / name) for name in split] for split in splits]
    folders = [scratch / str(number) for number in range(len(splits))]
    items = [
        {"split": split, "files": files, "to": fleet.relative(project, to)}
        for split, files, to in zip(splits, names, folders, strict=True)
    ]

    def seconds(here: Project) -> float:
        return sum((here.root / file).stat().st_size for files in names for file in files) / READ_BYTES

    sizes: list[Mapping[str, Size]] = [{} for _ in items]
    for place, receipt in fleet.run(project, f"{__name__}:read_split", items, "ingest: files", seconds):
        sizes[place] = {period: Size(*size) for period, size in receipt["sizes"].items()}
        progress.add(sum(size.rows for size in sizes[place].values()))
    for folder in folders:
        reader.take(read_json(folder / FOUND))
    return _together(zip(folders, sizes, strict=True), numbered=len(splits) == 1)


def read_split(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Put the rows of some files on disk by period; the receipt has the size of each."""
    reader, to = source(project), project.root / item["to"]
    to.parent.mkdir(parents=True, exist_ok=True)  # an executor may have a folder of its own
    with TemporaryDirectory(dir=to.parent) as scratch:
        part = Path(scratch) / "rows"
        rows = reader.read_split(project.data / "raw", item["split"])
        sizes = _spilled(reader, events_contract(project), rows, part)
        write_json(part / FOUND, reader.found())
        with suppress(OSError):  # another try was first, with the same
            part.rename(to)
    return {"sizes": sizes}


def _spilled(
    reader: Source,
    contract: Contract,
    batches: Iterable[pa.RecordBatch],
    folder: Path,
    progress: Progress | None = None,
) -> Mapping[str, Size]:
    """Put rows into a new folder by period."""
    whole = replace(contract, schema=reader.schema)
    folder.mkdir()
    spill = Spill(folder, contract, makes_keys=reader.makes_keys)
    for batch in batches:
        rows = pa.Table.from_batches([batch])
        whole.check(rows, f"A batch of {type(reader).__name__}")
        spill.add(rows)
        if progress:
            progress.add(rows.num_rows)
    return spill.sizes


def _together(spills: Iterable[tuple[Path, Mapping[str, Size]]], *, numbered: bool) -> Spilled:
    periods: dict[str, tuple[list[Path], Size]] = {}
    for folder, sizes in spills:
        for period, size in sizes.items():
            files, before = periods.get(period, ([], Size()))
            periods[period] = ([*files, Streams(folder).file(period)], before.and_of(size))
    rows = sum(size.rows for _, size in periods.values())
    return Spilled(rows, dict(sorted(periods.items())), numbered)


def write_periods(project: Project, spilled: Spilled, staged: Path, gold: Path) -> Staged:
    """Write the partitions of all periods and their gold labels, without copies where those are not to be kept."""
    shared = {"numbered": spilled.numbered, "staged": fleet.relative(project, staged)}
    shared["gold"] = fleet.relative(project, gold)
    sizes = {name: size for name, (_, size) in spilled.periods.items()}
    periods = {
        name: {"name": name, "files": [fleet.relative(project, file) for file in files], "size": list(size)}
        for name, (files, size) in spilled.periods.items()
    }
    ends = accumulate(size.bytes for size in sizes.values())
    grouped = groupby(zip((end // TOGETHER for end in ends), periods.values(), strict=True), itemgetter(0))
    items = [{**shared, "periods": [period for _, period in group]} for _, group in grouped]

    def seconds(_: Project) -> float:
        return sum(size.bytes for size in sizes.values()) / WRITTEN_BYTES

    receipts = fleet.receipts(project, f"{__name__}:write_some", items, "ingest: periods", seconds)
    written = [Staged(**receipt) for receipt in receipts]
    first = next((each.first for each in written if each.copies), None)
    return Staged(sum(each.rows for each in written), sum(each.copies for each in written), first)


def write_some(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Write some periods; the receipt has the fields of `Staged`."""
    reader, contract = source(project), events_contract(project)
    rows, copies = 0, list[str]()
    for each in item["periods"]:
        files = [project.root / file for file in each["files"]]
        period = Period(contract, each["name"], files, Size(*each["size"]), reader.makes_keys, item["numbered"])
        with TemporaryDirectory(dir=files[0].parent) as scratch:
            more, again = _write(project, reader, period, Path(scratch), item)
        rows, copies = rows + more, copies + again
    return {"rows": rows, "copies": len(copies), "first": copies[0] if copies else None}


def _write(project: Project, reader: Source, period: Period, scratch: Path, item: fleet.Item) -> tuple[int, list[str]]:
    """Write the partitions of a period and its gold labels; how many rows these have, and the keys of copies."""
    contract, staged, gold = period.contract, project.root / item["staged"], project.root / item["gold"]
    of_gold = dict.fromkeys((contract.key, contract.time, *reader.gold.values(), *reader.gold_known_at.values()))
    once, seen = project.params.events.on_duplicate != "quarantine", set[bytes]()
    written, copies = 0, list[str]()
    for name, pieces in groupby(period.pieces(scratch), attrgetter("partition")):
        about_gold = []
        with partition_writer(staged, name, contract.schema) as write:
            for _, rows, goes_on in pieces:
                if once:
                    seen = seen if goes_on else set()
                    rows, keys = without_copies(rows, contract.key, made=reader.makes_keys, seen=seen)
                    copies += keys
                write(rows.select(contract.schema.names))
                written += rows.num_rows
                about_gold.append(rows.select(list(of_gold)))
        for task, column in reader.gold.items():
            known_at = reader.gold_known_at.get(task)
            _write_gold(project, gold, task, name, pa.concat_tables(about_gold), column, known_at)
    return written, copies


def without_copies(rows: pa.Table, key: str, *, made: bool, seen: set[bytes]) -> tuple[pa.Table, list[Any]]:
    """The rows without those that are equal to an earlier one in every column; and the keys of the others.

    ``made`` keys have a number behind them in the second of equal rows and on, and count as equal. ``seen`` are hashes
    of earlier rows, as this function adds them.
    """
    names = name_of_key(rows[key].combine_chunks(), made=made)
    counts = pc.value_counts(names)
    again = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    places = np.arange(len(rows)) if seen else pc.indices_nonzero(pc.is_in(names, again)).to_numpy()
    if not len(places):
        return rows, []
    others = [name for name in rows.column_names if name != key]
    copies = []
    for place, name, row in zip(places, names.take(places).to_pylist(), _contents(rows, others, places), strict=True):
        said = hashlib.sha256(repr((name, row)).encode(errors="surrogatepass")).digest()
        if said in seen:
            copies.append(place)
        seen.add(said)
    kept = np.ones(len(rows), np.bool_)
    kept[copies] = False
    return rows.filter(pa.array(kept)), names.take(pa.array(copies, pa.int64())).to_pylist()


def _contents(rows: pa.Table, columns: Sequence[str], places: npt.NDArray[np.int64]) -> list[tuple[Any, ...]]:
    """What some rows hold in these columns."""
    chosen = rows.select(columns).take(pa.array(places))
    return list(zip(*(column.to_pylist() for column in chosen.columns), strict=True))


def _write_gold(
    project: Project, gold: Path, task: str, partition: str, rows: pa.Table, column: str, known_at: str | None
) -> None:
    """Split the known gold labels of a partition; rows that the split puts on neither side are kept as undated."""
    events = project.params.events
    known = rows.filter(pc.is_valid(rows[column]))
    labels = pa.table({events.key: known[events.key], GOLD_LABEL: known[column]})
    if known_at is not None:
        labels = labels.append_column(KNOWN_AT, known[known_at])
    late = in_test(project.params.gold, known[events.key], known[events.time])
    parts: dict[Part, pa.Table] = {
        "dev": labels.filter(pc.invert(late)),
        "test": labels.filter(late),
        "undated": labels.filter(pc.is_null(late)),
    }
    for part, table in parts.items():
        if table.num_rows:
            write_partition(gold / part / task, partition, table)
