"""The staged files of a table with repaired values in them: what `validate` checks and `accept` lets in.

Staged partitions come in and leave as they are; those that a repair touches leave as rewritten copies in a folder that
vanishes with the block. Rows stay as many, and in the table's order; one with another event time changes its partition.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from weakfish.checks.check import Rows
from weakfish.checks.quarantine.patches import read_patches
from weakfish.checks.quarantine.plan import Changes, Plan, plan_of
from weakfish.checks.rows import hashed, keep_names
from weakfish.errors import WeakfishError
from weakfish.files import sha256
from weakfish.project import Project
from weakfish.tables import Contract, open_partition, partitions, read_partition, write_partition

_PLACE = "\0place"
"""A column that goes through the sort to say where each row came from."""


class StagedFiles(dict[str, Path]):
    """Partitions and their files, and the plan by which they were repaired."""

    def __init__(self, files: Mapping[str, Path], plan: Plan) -> None:
        super().__init__(sorted(files.items()))
        self.plan = plan

    @property
    def version(self) -> str:
        """A hash of the partitions, names and bytes."""
        return version_of(self)


@contextmanager
def staged_files(project: Project, table: str) -> Iterator[StagedFiles]:
    """Yield the partitions of a staged table as its patches make them; without repairs, the staged files themselves.

    Raises
    ------
    TableError
        When there is no staged table.
    UserError
        When a patch is malformed or does not fit the table, as `plan_of` says.
    """
    files = partitions(project.staged(table))
    patches = read_patches(project, table)
    plan = plan_of(project, table, files, patches) if patches else Plan()
    if plan.contract is None or not plan.changes:
        yield StagedFiles(files, plan)
        return
    with _scratch(project) as folder:
        yield StagedFiles(_rewritten(files, plan.contract, plan.changes, folder), plan)


def version_of(files: Mapping[str, Path]) -> str:
    """A hash of a table's partitions, names and bytes."""
    digest = hashlib.sha256()
    for name, file in files.items():
        digest.update(f"{name} {sha256(file)}\n".encode())
    return digest.hexdigest()


@contextmanager
def _scratch(project: Project) -> Iterator[Path]:
    """A folder on the disk of the table, out of reach of DVC; those of killed processes are swept out."""
    home = project.root / ".weakfish" / "checks"
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob("repairs-*-*"):
        if not _alive(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"repairs-{os.getpid()}-", dir=home) as folder:
        yield Path(folder)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True)
class _Repaired:
    """Rows of one partition with their new values: where they were, where they go, their hashes as they were staged."""

    rows: Rows
    values: pa.Table
    to: Sequence[str]
    hashes: Sequence[str]


def _rewritten(files: Mapping[str, Path], contract: Contract, changes: Changes, folder: Path) -> dict[str, Path]:
    repaired = {partition: _repair(files[partition], contract, rows) for partition, rows in changes.items()}
    touched = sorted({*repaired, *(name for part in repaired.values() for name in part.to)})
    left = {name: file for name, file in files.items() if name not in touched}
    before = sum(_rows(files[name]) for name in touched if name in files)
    for name in touched:
        _rewrite(files.get(name), name, contract, repaired, folder)
    made = {name: folder / f"{name}.parquet" for name in touched if (folder / f"{name}.parquet").exists()}
    after = sum(_rows(file) for file in made.values())
    if after != before:
        raise WeakfishError(f"Repairing {contract.name} turned {before} rows into {after}; report this.")
    return {**left, **made}


def _repair(file: Path, contract: Contract, changes: Mapping[int, Mapping[str, pa.Scalar]]) -> _Repaired:
    rows = np.array(sorted(changes), np.int64)
    old = read_partition(file).take(pa.array(rows))
    new = old
    for column in sorted({name for values in changes.values() for name in values}):
        number = old.schema.get_field_index(column)
        kept = old[column]
        values = [changes[row].get(column, kept[place]) for place, row in enumerate(rows.tolist())]
        kind = old.schema.field(number)
        new = new.set_column(number, kind, pa.array([value.as_py() for value in values], kind.type))
    return _Repaired(rows, new, contract.partition_of(new[contract.time]).to_pylist(), hashed(old))


def _rewrite(file: Path | None, name: str, contract: Contract, repaired: Mapping[str, _Repaired], folder: Path) -> None:
    """Write a partition without the rows that leave it, with those that come, and with those that it keeps repaired."""
    schema = next(iter(repaired.values())).values.schema
    staged = read_partition(file) if file else schema.empty_table()
    keep = np.arange(staged.num_rows)
    coming: list[pa.Table] = []
    hashes: list[str] = []
    for source, part in repaired.items():
        here = np.array([to == name for to in part.to])
        start = staged.num_rows + len(hashes)
        coming.append(part.values.filter(pa.array(here)))
        hashes += [text for text, stays in zip(part.hashes, here, strict=True) if stays]
        new = np.arange(start, start + int(here.sum()))
        if source == name:
            keep[part.rows[here]] = new
            keep = np.delete(keep, part.rows[~here])
        else:
            keep = np.append(keep, new)
    rows = pa.concat_tables([staged, *coming]).take(pa.array(keep)).append_column(_PLACE, pa.array(keep))
    rows = contract.in_order(rows)
    if rows.num_rows:
        write_partition(folder, name, rows.drop_columns([_PLACE]))
        place = rows[_PLACE].to_numpy()
        moved = np.flatnonzero(place >= staged.num_rows)
        keep_names(folder / f"{name}.parquet", {int(row): hashes[place[row] - staged.num_rows] for row in moved})


def _rows(file: Path) -> int:
    return int(open_partition(file).metadata.num_rows)
