"""Verdicts: what each check of a table found, and how the table fared, as `reports/validation/<table>.json` has it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BeforeValidator

from weakfish.contracts.record import Number, Numbers, Rooted, Stored
from weakfish.contracts.tables import open_partition
from weakfish.files import whole_file, write_json

Severity = Literal["critical", "warning", "info"]
Kind = Literal["source", "expectation", "change", "labels", "features", "serving", "evaluation"]
"""Who judged: what the source delivered, an expectation of a suite, a comparison with the accepted baseline, or what is
measured of labels, features, serving and metrics."""

Rows = npt.NDArray[np.int64]
"""Positions of rows within a partition, from 0, ascending."""


class Status(StrEnum):
    """What became of a check, from good to bad."""

    PASSED = "passed"
    NOTED = "noted"
    """An info check did not hold."""
    QUARANTINED = "quarantined"
    """A critical check of rows did not hold; the rows are set aside and are few enough to go on."""
    WARNED = "warned"
    """A warning check did not hold."""
    FAILED = "failed"
    """A critical check did not hold, or a check could not be run: the gate stays shut."""


NOT_HELD = {"critical": Status.FAILED, "warning": Status.WARNED, "info": Status.NOTED}
"""The status of a check that did not hold, by its severity."""


@dataclass(frozen=True)
class Check:
    """A check and what it found.

    Attributes
    ----------
    check
        Its name, unique within the table: ``column_values_to_not_be_null(amount)``, ``drift(amount)``.
    expectation
        The type of the expectation, or the name of what was measured: ``drift``, ``rule_died``.
    arguments
        What it was asked with; JSON.
    against_baseline
        Whether it compares with the accepted baseline, so that `weakfish accept-baseline` is an answer to it.
    found
        What was found, as a sentence with its numbers; None where `observed` says all. Never text of a row.
    observed
        What was found, of the table as a whole: a number, a time, or a small JSON structure. Never text of a row.
    unexpected, unexpected_share
        Bad rows, for checks of rows; None otherwise.
    threshold
        From where on a measured check does not hold; None for expectations.
    detects
        The smallest change that a measured check detects with the rows that there are, as a sentence.
    by_partition
        The check's `value` in each partition: what its trend over partitions draws.
    released
        Bad rows that a patch lets in all the same.
    rows
        The bad rows, by partition; they go into the mask, not into the verdict.
    keys
        The names of the first bad rows; the mask has all.
    """

    check: str
    expectation: str
    severity: Severity
    why: str
    status: Status
    kind: Kind = "expectation"
    against_baseline: bool = False
    found: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    observed: Any = None
    unexpected: int | None = None
    unexpected_share: Number = None
    threshold: Number = None
    detects: str | None = None
    by_partition: Numbers = field(default_factory=dict)
    released: int = 0
    error: str | None = None
    rows: Mapping[str, Any] = field(default_factory=dict, repr=False)
    keys: Sequence[Any] = ()

    @property
    def value(self) -> float | None:
        """The one number that a trend draws: the share of bad rows, else what was observed if it is a number."""
        if self.unexpected_share is not None:
            return self.unexpected_share
        number = isinstance(self.observed, int | float) and not isinstance(self.observed, bool)
        return float(self.observed) if number else None


def judged(severity: Severity, holds: bool) -> Status:
    """The status of a check of this severity that holds or does not."""
    return Status.PASSED if holds else NOT_HELD[severity]


def measured(
    kind: Kind, name: str, severity: Severity, why: str, holds: bool, *, against_baseline: bool = True, **more: Any
) -> Check:
    """A check that is measured, not an expectation: what it is about stands in parentheses after its type."""
    status, expectation = judged(severity, holds), name.partition("(")[0]
    return Check(name, expectation, severity, why, status, kind, against_baseline=against_baseline, **more)


def _completed(checks: Any) -> Any:
    """Checks of older verdicts lack some fields, or have null in them; what they would be today is filled in."""
    if not isinstance(checks, list) or not all(isinstance(check, dict) for check in checks):
        return checks
    before = {"expectation": "", "severity": "critical", "why": ""}
    return [before | {name: value for name, value in check.items() if value is not None} for check in checks]


Outcome = Literal["passed", "warned", "failed"]


@dataclass(frozen=True)
class Verdict:
    """The checks of one table and what follows from them; no ids and no clock.

    Attributes
    ----------
    data_version
        The hash of the data that were judged, as `weakfish.contracts.gate.version_of` makes it: of the events as
        staged and patched, of other tables as they lie there. None in verdicts of other makers.
    rows, quarantined
        All rows, and those that a critical check of rows sets aside.
    rejected
        Of events: raw lines that became no row. ``copies`` of them are exact copies of rows that were kept, which
        `bad_share` does not count.
    max_quarantined_share
        The largest share of the rows read that may be set aside or rejected; None for a table whose rows cannot be.
    """

    table: str
    verdict: Outcome
    data_version: str | None = None
    rows: int = 0
    quarantined: int = 0
    rejected: int = 0
    copies: int = 0
    max_quarantined_share: Number = None
    checks: Annotated[Sequence[Check], BeforeValidator(_completed)] = ()

    @property
    def rows_read(self) -> int:
        """Kept, quarantined and rejected rows together."""
        return self.rows + self.rejected

    @property
    def kept(self) -> int:
        """The rows that are neither quarantined nor rejected."""
        return self.rows - self.quarantined

    @property
    def quarantined_share(self) -> float:
        """The share of rows that are set aside."""
        return self.quarantined / self.rows if self.rows else 0.0

    @property
    def bad_share(self) -> float:
        """The share of the rows that were read and are set aside or rejected: what ``max_quarantined_share`` limits."""
        return self.bad / self.rows_read if self.rows_read else 0.0

    @property
    def bad(self) -> int:
        """The rows that are set aside or rejected, without copies."""
        return self.quarantined + self.rejected - self.copies

    @property
    def counts(self) -> dict[str, int]:
        """Checks by outcome; those that quarantined rows count as warned."""
        found = Counter(check.status for check in self.checks)
        found[Status.WARNED] += found.pop(Status.QUARANTINED, 0)
        return {str(status): found[status] for status in Status if status is not Status.QUARANTINED}


VERDICTS = Stored(Verdict, "reports/validation")
verdict_file, verdict_files, read_verdict = VERDICTS.file, VERDICTS.files, VERDICTS.read


def write_verdict(project: Rooted, verdict: Verdict) -> None:
    """Write ``reports/validation/<table>.json``."""
    content = {item.name: getattr(verdict, item.name) for item in fields(verdict)}
    derived = ("rows_read", "kept", "quarantined_share", "bad_share", "counts")
    content |= {name: getattr(verdict, name) for name in derived}
    content["checks"] = [
        {item.name: getattr(check, item.name) for item in fields(check) if item.name != "rows"}
        | {"value": check.value, "by_partition": dict(check.by_partition), "keys": list(check.keys)}
        for check in verdict.checks
    ]
    write_json(verdict_file(project, verdict.table), content)


MASK = pa.schema(
    [
        ("partition", pa.string()),
        ("row", pa.int64()),
        ("key", pa.string()),
        ("check", pa.string()),
        ("why", pa.string()),
    ]
)
"""A row mask: one line per bad row and critical check; ``row`` counts from 0 within the partition, ``key`` names it."""

_NOTES = b"weakfish"


@dataclass(frozen=True)
class Mask:
    """A mask as written: its lines, in the order of partition, row and check, and the notes that came with it."""

    lines: pa.Table
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, project: Rooted, table: str) -> Mask:
        """The mask of a table; raises `TableError` when it is missing or cut off."""
        file = mask_file(project, table)
        metadata = open_partition(file).schema_arrow.metadata or {}
        repeated = ["partition", "check", "why"]
        lines = pq.ParquetFile(file, read_dictionary=repeated).read()
        return cls(lines.replace_schema_metadata(None).unify_dictionaries(), json.loads(metadata.get(_NOTES, b"{}")))

    def of(self, partition: str) -> pa.Table:
        """The lines of one partition."""
        return self.lines.filter(pc.equal(self.lines["partition"], partition))


def mask_file(project: Rooted, table: str) -> Path:
    """The file of a table's mask."""
    return project.root / "data" / "masks" / f"{table}.parquet"


@contextmanager
def mask_writer(project: Rooted, table: str, notes: Mapping[str, Any]) -> Iterator[pq.ParquetWriter]:
    """Write a mask: the lines that the caller hands to the writer, and notes (JSON) that go with them."""
    schema = MASK.with_metadata({_NOTES: json.dumps(dict(notes), sort_keys=True).encode()})
    with (
        whole_file(mask_file(project, table)) as part,
        pq.ParquetWriter(part, schema, compression="zstd") as writer,
    ):
        yield writer
