"""Raw events into ``data/staged`` by month of event time, and gold labels, apart from them, into ``data/gold``.

Every row that the source yields comes out once; what is in memory at once is bounded, see `weakfish.sources.parts`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.pointers import whole_tables
from weakfish.contracts.tables import (
    GOLD_LABEL,
    KNOWN_AT,
    TIME,
    Contract,
    Part,
    in_test,
    partition_writer,
    write_partition,
)
from weakfish.errors import CheckFailed, ParamsError, UnknownName
from weakfish.files import whole_folder, write_json
from weakfish.project.paths import Project
from weakfish.project.runs import Progress
from weakfish.sources import Source
from weakfish.sources.parts import Spill, name_of_key


def source(project: Project) -> Source:
    """The project's source, made with its settings."""
    return _reader(project)(project.params.source.settings)


def events_contract(project: Project) -> Contract:
    """The contract of the events table: the source's columns without gold."""
    reader = _reader(project)
    about_gold = {*reader.gold.values(), *reader.gold_known_at.values()}
    columns = pa.schema([field for field in reader.schema if field.name not in about_gold])
    events = project.params.events
    return Contract("events", columns, events.key, events.time, events.partition)


def _reader(project: Project) -> type[Source]:
    name = project.params.source.reader
    reader = project.import_object(name, "source.reader")
    if not (isinstance(reader, type) and issubclass(reader, Source)):
        raise ParamsError(
            f"params.yaml: source.reader names {name!r}, which is not a source; derive it from weakfish.sources.Source."
        )
    return reader


def fetch(project: Project) -> None:
    """Fill ``data/raw``; a failed fetch leaves nothing behind."""
    reader = source(project)
    with whole_folder(project.data / "raw") as raw:
        reader.fetch(raw)
    write_ledger(project, "fetch", rows_in=None, rows_out=None, fetched=reader.fetched() or None)


def look(project: Project) -> None:
    """Write ``data/files.json``: which files the source would read now, and how large and old they are.

    Of a source that reads a table with versions it says which, and of any other when it was asked, so that fetch runs
    each time.
    """
    reader = source(project)
    found: dict[str, Any] = dict(reader.newest())
    for file in reader.files():
        state = file.stat()
        found[str(file)] = {"size": state.st_size, "modified_ns": state.st_mtime_ns}
    write_json(project.data / "files.json", found or {"asked_at": datetime.now(UTC).isoformat()})


def ingest(project: Project) -> None:
    """Read ``data/raw`` through the project's source into ``data/staged`` and ``data/gold``.

    What a source that sets rows aside could not read goes into ``data/quarantine/raw``, and counts as rejected.
    """
    reader = source(project)
    contract = events_contract(project)
    whole = replace(contract, schema=reader.schema)
    _check_gold(project, reader)
    progress = Progress("ingest: rows")
    staged_rows = 0
    copies: list[Any] = []
    once = project.params.events.on_duplicate != "quarantine"
    with (
        whole_tables(project.data / "gold") as gold,
        whole_tables(project.staged("events")) as staged,
        Spill(staged / "spill", contract, makes_keys=reader.makes_keys) as spill,
    ):
        for part in get_args(Part):
            (gold / part).mkdir()
        for batch in reader.read(project.data / "raw"):
            rows = pa.Table.from_batches([batch])
            whole.check(rows, f"A batch of {type(reader).__name__}")
            spill.add(rows)
            progress.add(rows.num_rows)
        with whole_tables(project.data / "quarantine" / "raw") as folder:  # empty where the source sets no rows aside
            rejected = reader.set_aside(folder) if reader.sets_aside else None
        for sentence in reader.remarks():
            print(f"ingest: {sentence}", file=sys.stderr)
        seen: set[bytes] = set()
        columns = (contract.key, contract.time, *reader.gold.values(), *reader.gold_known_at.values())
        of_gold = list(dict.fromkeys(columns))
        for name, pieces in groupby(spill.pieces(), attrgetter("partition")):
            about_gold = []
            with partition_writer(staged, name, contract.schema) as write:
                for _, rows, goes_on in pieces:
                    if once:
                        seen = seen if goes_on else set()
                        rows, keys = without_copies(rows, contract.key, made=reader.makes_keys, seen=seen)
                        copies += keys
                    write(rows.select(contract.schema.names))
                    staged_rows += rows.num_rows
                    about_gold.append(rows.select(of_gold))
            for task, column in reader.gold.items():
                known_at = reader.gold_known_at.get(task)
                _write_gold(project, gold, task, name, pa.concat_tables(about_gold), column, known_at)
        if copies and project.params.events.on_duplicate == "refuse":
            raise CheckFailed(
                f"{len(copies):,} rows are exact copies of others, the first of {copies[0]!r}; bring the data without "
                "them, or let events.on_duplicate in params.yaml be keep_first or quarantine."
            )
    if copies:
        are = "row, an exact copy of another, was" if len(copies) == 1 else "rows, exact copies of others, were"
        both = f"; with the lines above {len(copies) + rejected:,} are rejected" if rejected else ""
        print(f"ingest: {len(copies):,} {are} left out{both}.", file=sys.stderr)
    write_ledger(
        project,
        "ingest",
        rows_in=progress.done + (rejected or 0),
        rows_out=staged_rows,
        rejected=len(copies) + (rejected or 0) if copies or rejected is not None else None,
        copies=len(copies) if once else None,
        reading=reader.reading() if reader.sets_aside else None,
    )


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


def _check_gold(project: Project, reader: Source) -> None:
    for task, column in reader.gold.items():
        if task not in project.params.tasks:
            raise UnknownName("task", task, project.params.tasks, f"params.yaml ({type(reader).__name__} has its gold)")
        if column not in reader.schema.names or reader.schema.field(column).type != pa.string():
            raise ParamsError(
                f"{type(reader).__name__} has gold labels of task {task} in {column!r}, which is not a column of text "
                f"among {', '.join(reader.schema.names)}; correct gold in the source."
            )
    for task, column in reader.gold_known_at.items():
        if column not in reader.schema.names or reader.schema.field(column).type != TIME:
            raise ParamsError(
                f"{type(reader).__name__} says in {column!r} since when gold of task {task} is known, which is not a "
                f"column of times ({TIME}) among {', '.join(reader.schema.names)}; correct gold_known_at in the source."
            )


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
