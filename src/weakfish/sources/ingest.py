"""Raw events into ``data/staged`` by month of event time, and gold labels, apart from them, into ``data/gold``.

Every row that the source yields comes out once; what is in memory at once is bounded, see `weakfish.sources.parts`.
"""

from __future__ import annotations

import sys
from typing import get_args

import pyarrow as pa

from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.pointers import whole_tables
from weakfish.contracts.tables import TIME, Part
from weakfish.errors import CheckFailed, ParamsError, UnknownName
from weakfish.project.paths import Project
from weakfish.project.runs import temporary_folder
from weakfish.sources import Source
from weakfish.sources.declared import source
from weakfish.sources.staging import read_all, write_periods


def ingest(project: Project) -> None:
    """Read ``data/raw`` through the project's source into ``data/staged`` and ``data/gold``.

    What a source that sets rows aside could not read goes into ``data/quarantine/raw``, and counts as rejected.
    """
    reader, once = source(project), project.params.events.on_duplicate
    _check_gold(project, reader)
    with (
        whole_tables(project.data / "gold") as gold,
        whole_tables(project.staged("events")) as staged,
        whole_tables(project.data / "quarantine" / "raw") as aside,  # empty where the source sets no rows aside
        temporary_folder(project.temporary, "ingest") as scratch,
    ):
        for part in get_args(Part):
            (gold / part).mkdir()
        spilled = read_all(project, reader, scratch)
        rejected = reader.set_aside(aside) if reader.sets_aside else None
        for sentence in reader.remarks():
            print(f"ingest: {sentence}", file=sys.stderr)
        written = write_periods(project, spilled, staged, gold)
        copies = written.copies
        if copies and once == "refuse":
            raise CheckFailed(
                f"{copies:,} rows are exact copies of others, the first of {written.first!r}; bring the data without "
                "them, or let events.on_duplicate in params.yaml be keep_first or quarantine."
            )
    if copies:
        are = "row, an exact copy of another, was" if copies == 1 else "rows, exact copies of others, were"
        both = f"; with the lines above {copies + rejected:,} are rejected" if rejected else ""
        print(f"ingest: {copies:,} {are} left out{both}.", file=sys.stderr)
    write_ledger(
        project,
        "ingest",
        rows_in=spilled.rows + (rejected or 0),
        rows_out=written.rows,
        rejected=copies + (rejected or 0) if copies or rejected is not None else None,
        copies=None if once == "quarantine" else copies,
        reading=reader.reading() if reader.sets_aside else None,
    )


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
