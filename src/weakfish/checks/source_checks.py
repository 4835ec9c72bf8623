"""Checks of what the source delivered: columns that files lack, lines that are no rows, events of wrong clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.bad_rows import names_of
from weakfish.checks.baseline import Entry
from weakfish.checks.gates import REJECTED
from weakfish.contracts.figures import percent
from weakfish.contracts.ledgers import Ledger, MissingColumn
from weakfish.contracts.tables import TIME, is_dated, partition_names, period_of, read_partition, row_count, schema_of
from weakfish.contracts.verdicts import Check, Rows, Severity, Status, measured
from weakfish.project.paths import Project

_source = partial(measured, "source")

NAMED = 3
"""Rows that a sentence names."""

FILES = 20
"""Files that a check lists."""


def source_checks(project: Project, ledger: Ledger, accepted: Entry | None) -> list[Check]:
    """Whether files lack columns, and more lines became no row than when the events were accepted.

    Nothing of a source that does not count.
    """
    found = _missing(project, ledger.reading.missing) if ledger.reading else []
    found += [] if ledger.rejected is None else [_rejected(ledger, accepted)]
    return found if ledger.copies is None else [*found, _copies(ledger.copies)]


def _missing(project: Project, missing: Sequence[MissingColumn]) -> list[Check]:
    """A check of each column that files lack, those of events and those that seem to be renamed first."""
    events = schema_of(project.staged("events")).names if missing else []
    order = sorted(missing, key=lambda of: (of.column not in events, of.likely is None))
    return [
        _of_column(column, [of for of in missing if of.column == column], "critical" if column in events else "warning")
        for column in dict.fromkeys(of.column for of in order)
    ]


def _of_column(column: str, files: Sequence[MissingColumn], severity: Severity) -> Check:
    """Files without a column; without gold labels, which new files may well not have yet, they warn."""
    others = len(files) - 1
    more = f" and {others:,} more file{'s' * (others > 1)} have" if others else " has"
    names = list(dict.fromkeys(of.likely for of in files if of.likely))
    renamed = f", {' or '.join(names)} seems to be it under a new name" if names else ""
    what = "it is null in all their rows" if len(files) > 1 else "it is null in all its rows"
    return _source(
        f"missing_column({column})",
        severity,
        "All that reads the column sees nothing in these rows: functions fall silent, features and labels go wrong.",
        False,
        against_baseline=False,
        found=f"{files[0].file}{more} no column {column}{renamed}; {what}.",
        arguments={"column": column, "files": [of.file for of in files[:FILES]], "likely": names},
        observed=len(files),
        threshold=0,
        detects="A single file.",
    )


def _rejected(ledger: Ledger, accepted: Entry | None) -> Check:
    rejected, read = (ledger.rejected or 0) - (ledger.copies or 0), ledger.rows_in or 0
    earlier = accepted.checks.get(REJECTED) if accepted else None
    before = int(earlier.value or 0) if earlier else 0
    found = f"All {read:,} lines that were read are rows."
    if rejected:
        new = f", {rejected - before:,} more than in the accepted baseline" if before and rejected > before else ""
        first = ledger.reading.rejected[:1] if ledger.reading else ()
        where = "".join(
            f", {of.rows:,} of them in {of.file}{'' if of.line is None else f', first line {of.line:,}'}, "
            f"which {of.reason}"
            for of in first
        )
        share = percent(rejected / read) if read else ""
        found = f"{rejected:,} of {read:,} lines read became no row ({share}){new}{where}."
    return _source(
        REJECTED,
        "warning",
        "A line that is no row is an event that nothing after it sees: a torn file, a quote or a delimiter in a text.",
        rejected <= before,
        found=found,
        observed=rejected,
        threshold=before,
        detects="A single line.",
    )


def _copies(copies: int) -> Check:
    rows = f"{copies:,} row{' is an exact copy' if copies == 1 else 's are exact copies'} of another"
    return _source(
        "copies",
        "info",
        "What is delivered twice happened once.",
        not copies,
        against_baseline=False,
        found=f"{rows}, and left out; the first of each is kept (events.on_duplicate)."
        if copies
        else "No row is an exact copy of another.",
        observed=copies,
        threshold=0,
        detects="A single row.",
    )


def clock_checks(project: Project, files: Mapping[str, Path]) -> list[Check]:
    """Whether events are later than now or far beyond the rest; nothing where none has a time, or where all may be."""
    from weakfish.engine.clock import last_plausible
    from weakfish.engine.duckdb import connect

    events = project.params.events
    dated = {name: file for name, file in files.items() if is_dated(name)}
    if events.wrong_clocks == "allow" or not dated:
        return []
    engine = connect()
    last = last_plausible(engine, engine.read(list(dated.values())), events.time)
    first = "" if last is None else partition_names(pa.array([last], TIME), events.partition)[0].as_py()
    bad = {name: _later(file, events.time, last) for name, file in dated.items() if period_of(name) >= first}
    return [_clock(project, dated, {name: rows for name, rows in bad.items() if len(rows)}, last)]


def _later(file: Path, time: str, last: datetime | None) -> Rows:
    times = read_partition(file, [time])[time]
    later = pc.is_valid(times) if last is None else pc.greater(times, pa.scalar(last, TIME))
    return np.flatnonzero(pc.fill_null(later, False).to_numpy())


def _clock(project: Project, files: Mapping[str, Path], bad: Mapping[str, Rows], last: datetime | None) -> Check:
    time, severity = project.params.events.time, project.params.events.wrong_clocks
    count, until = sum(map(len, bad.values())), "" if last is None else f"{last:%Y-%m-%d %H:%M} UTC"
    found = f"The last {time} is {until}; none is later than now, or far beyond the rest."
    if count:
        said: list[str] = []
        for name, rows in bad.items():
            first = rows[: NAMED - len(said)]
            times = read_partition(files[name], [time])[time].take(first).to_pylist()
            keys = names_of(project, files[name], first).to_pylist() if len(first) else []
            said += [f"{key} ({at:%Y-%m-%d %H:%M} UTC)" for key, at in zip(keys, times, strict=True)]
        more = f" and {count - len(said):,} more" if count > len(said) else ""
        rest = f"; the last plausible {time} is {until}" if until else ""
        rows_are = "1 row is" if count == 1 else f"{count:,} rows are"
        found = f"{rows_are} later than now, or far beyond the rest: {', '.join(said)}{more}{rest}."
    check = _source(
        f"clock({time})",
        "critical" if severity == "quarantine" else "warning",
        "The online store answers for the time of the last event, so that one wrong clock empties every window.",
        not count,
        against_baseline=False,
        found=found,
        arguments={"column": time},
        unexpected=count,
        unexpected_share=count / max(1, sum(map(row_count, files.values()))),
        detects="A single row that is later than now, or comes long after all others.",
        rows=bad,
    )
    return replace(check, status=Status.QUARANTINED) if check.status is Status.FAILED else check
