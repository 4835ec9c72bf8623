"""The `validate` verb: a table through its suite into a verdict, a row mask and Data Docs. It judges; gates act."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.checks.verdict import Check, Status, Verdict
from weakfish.errors import UnknownName, UserError
from weakfish.files import sha256, whole_file
from weakfish.project import Project
from weakfish.tables import partitions, read_partition

MASK = pa.schema(
    [
        ("partition", pa.string()),
        ("row", pa.int64()),
        ("key", pa.string()),
        ("check", pa.string()),
        ("why", pa.string()),
    ]
)
"""A row mask: one line per bad row and critical check; ``row`` counts from 0 within the partition."""


def validate(project: Project, table: str) -> Verdict:
    """Check ``table`` and write its verdict, mask and Data Docs; succeeds whatever the checks find.

    Raises
    ------
    UnknownName
        When no module in ``validation/`` is named after the table.
    UserError
        When that module holds no ``EXPECTATIONS``.
    TableError
        When the table is missing or cut off.
    """
    expectations = suite(project, table)
    files = partitions(project.staged(table))
    parts = {name: read_partition(file) for name, file in files.items()}
    rows = pa.concat_tables(parts.values())
    from weakfish.checks import expectations as gx  # imports the library, seconds

    docs = project.reports / "gx" / table
    checks = gx.run(table.replace("/", "_"), expectations, rows.to_pandas(), docs)
    keys = _keys(project, rows)
    verdict = Verdict.of(table, data_version(project.staged(table)), rows.num_rows, checks, _max_share(project, table))
    _write_mask(project.mask(table), verdict.checks, {name: part.num_rows for name, part in parts.items()}, keys)
    verdict.write(project, keys)
    return verdict


def _keys(project: Project, rows: pa.Table) -> list[Any]:
    """What names a row: the events' key, or in tables that have none, as features, the first two columns."""
    key = project.params.events.key
    if key in rows.column_names:
        return list(rows[key].to_pylist())
    columns = [rows[name].cast(pa.string()).to_pylist() for name in rows.column_names[:2]]
    return ["@".join(map(str, parts)) for parts in zip(*columns, strict=True)]


def suite(project: Project, table: str) -> list[Any]:
    """The expectations of a table, from its module in ``validation/``."""
    suites = project.suites()
    if table not in suites:
        raise UnknownName("table with a suite", table, suites, "validation/")
    module = project.import_module(suites[table])
    found = getattr(module, "EXPECTATIONS", None)
    if not isinstance(found, list):
        raise UserError(f"Module {suites[table]} has no list EXPECTATIONS; add one, see docs/validation.md.")
    return found


def data_version(folder: Path) -> str:
    """A hash of a table's partitions, names and bytes."""
    digest = hashlib.sha256()
    for name, file in partitions(folder).items():
        digest.update(f"{name} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _max_share(project: Project, table: str) -> float | None:
    if table != "events":  # only events have an `accept` step, which sets bad rows aside
        return None
    limits = project.params.validation.get(table)
    return limits.max_quarantined_share if limits else 0.0


def _write_mask(file: Path, checks: list[Check] | Any, sizes: dict[str, int], keys: list[Any]) -> None:
    places = [(name, row) for name, size in sizes.items() for row in range(size)]
    lines = [
        (*places[row], str(keys[row]), check.check, check.why)
        for check in checks
        if check.severity == "critical" and check.status in (Status.QUARANTINED, Status.FAILED)
        for row in check.rows
    ]
    columns = zip(*sorted(lines), strict=True) if lines else [[] for _ in MASK]
    with whole_file(file) as part:
        pq.write_table(
            pa.table(dict(zip(MASK.names, map(list, columns), strict=True)), schema=MASK), part, compression="zstd"
        )
