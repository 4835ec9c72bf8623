"""Where the rows stand that patches name: names go in, partitions and positions come out, from the key column alone."""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.bad_rows import NAMELESS, hashed, keep_names
from weakfish.checks.patches import Patch, read_patches
from weakfish.contracts.gate import version_of
from weakfish.contracts.tables import Contract, open_partition, partitions, read_partition, schema_of, write_partition
from weakfish.contracts.verdicts import Rows
from weakfish.errors import UserError, WeakfishError
from weakfish.project.paths import Project

Place = tuple[str, int]
"""A row: its partition and its position in it."""

_COMPARED = 20_000


def places(files: Mapping[str, Path], key: str, names: Iterable[str]) -> dict[str, list[Place]]:
    """The rows that bear each name, in the order of the table; names that no row bears are left out.

    A name is the row's key, or `NAMELESS` and a hash of the whole row. The latter names a row without a key, or one of
    several that share a key; such rows are read whole, only where a name of that kind is asked for.
    """
    wanted = pa.array(sorted(set(names)), pa.string())
    by_hash = {name for name in wanted.to_pylist() if name.startswith(NAMELESS)}
    shared = _shared_keys(files, key) if by_hash else None
    found: dict[str, list[Place]] = {}
    for partition, file in files.items():
        keys = read_partition(file, [key])[key].cast(pa.string()).combine_chunks()
        which = pc.index_in(keys, wanted, skip_nulls=True)
        rows = np.flatnonzero(pc.is_valid(which).to_numpy(zero_copy_only=False))
        for row, name in zip(rows.tolist(), keys.take(pa.array(rows)).to_pylist(), strict=True):
            found.setdefault(name, []).append((partition, row))
        if shared is not None:
            for row, name in _hashes(file, _doubtful(keys, shared)):
                if name in by_hash:
                    found.setdefault(name, []).append((partition, row))
    return found


def no_such(kind: str, name: str, known: Iterable[str], where: str) -> UserError:
    """An error on a name that does not exist, with the nearest of those that do, or some of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names[:_COMPARED], n=1)
    some = ", ".join(repr(other) for other in names[:3])
    hint = f"did you mean {near[0]!r}?" if near else f"there are {len(names):,}, such as {some}."
    return UserError(f"There is no {kind} {name!r} in {where}; {hint if names else 'there are none.'}")


def some_keys(files: Mapping[str, Path], key: str) -> list[str]:
    """Keys to compare a wrong one with: all of a small table, some of a large one."""
    found: list[str] = []
    for file in files.values():
        found += read_partition(file, [key])[key].cast(pa.string()).drop_null().slice(0, _COMPARED).to_pylist()
        if len(found) >= _COMPARED:
            break
    return found


def _hashes(file: Path, rows: Rows) -> Iterable[tuple[int, str]]:
    if not len(rows):
        return ()
    return zip(rows.tolist(), hashed(read_partition(file).take(pa.array(rows))), strict=True)


def _doubtful(keys: pa.Array, shared: pa.Array) -> Rows:
    """Rows without a key, and rows whose key others have too."""
    return np.flatnonzero(pc.or_(pc.is_null(keys), pc.is_in(keys, shared)).to_numpy(zero_copy_only=False))


def _shared_keys(files: Mapping[str, Path], key: str) -> pa.Array:
    """Keys that more than one row has."""
    from weakfish.engine import connect

    engine = connect()
    keys = engine.read(list(files.values())).select(key=key)
    keys = keys.filter(keys["key"].notnull())
    counts = keys.group_by("key").aggregate(rows=keys.count())
    return engine.run(counts.filter(counts["rows"] > 1).select("key"))["key"].cast(pa.string()).combine_chunks()


Changes = dict[str, dict[int, dict[str, pa.Scalar]]]
"""New values by partition, row and column."""


@dataclass(frozen=True)
class Plan:
    """What patches do to a table; ``rows`` says how many rows each repair changes, 0 when they are so already."""

    contract: Contract | None = None
    patches: Sequence[Patch] = ()
    changes: Changes = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def repaired(self) -> int:
        """How many rows get other values."""
        return sum(len(rows) for rows in self.changes.values())


def contract_of(project: Project, table: str) -> Contract:
    """What a staged table promises, as its first partition has it; raises `TableError` when there is none."""
    events = project.params.events
    return Contract(table, schema_of(project.staged(table)), events.key, events.time, events.partition)


def plan_of(project: Project, table: str, files: Mapping[str, Path], patches: Sequence[Patch]) -> Plan:
    """Find the rows that patches name and what becomes of them; the key column is read, and no more.

    Raises
    ------
    UserError
        When a patch names a row or a column that does not exist, sets a value that does not fit, takes a key that
        another row has, or says otherwise than another patch.
    """
    contract = contract_of(project, table)
    repairs = [(patch, patch.scalars(contract.schema)) for patch in patches if patch.values]
    given = {name for patch, values in repairs for name in _new_keys(patch, values, contract)}
    named = {name for patch in patches for name in patch.keys or ()}
    found = places(files, contract.key, named | given)
    alias = _aliases(repairs, contract, found)
    for patch in patches:
        _refuse_strangers(patch, {**alias, **found}, files, contract)
    cells = _cells(repairs, {**alias, **found})
    changes = _changing(cells, files)
    changed = {(partition, row) for partition, rows in changes.items() for row in rows}
    rows = {patch.name: len(changed & set(_rows_of(patch, {**alias, **found}))) for patch, _ in repairs}
    return Plan(contract, patches, changes, rows)


def _new_keys(patch: Patch, values: Mapping[str, pa.Scalar], contract: Contract) -> list[str]:
    """The key that a repair gives, as a name."""
    if contract.key not in values:
        return []
    if not values[contract.key].is_valid:
        raise UserError(f"{patch.name}: set.{contract.key} is null, but a row cannot lose its key; correct it there.")
    return [str(values[contract.key].cast(pa.string()).as_py())]


def _aliases(
    repairs: Sequence[tuple[Patch, Mapping[str, pa.Scalar]]], contract: Contract, found: Mapping[str, list[Place]]
) -> dict[str, list[Place]]:
    """Keys that repairs give, as names of the rows that get them; raises `UserError` where two rows would have one."""
    alias: dict[str, list[Place]] = {}
    for patch, values in repairs:
        for name in _new_keys(patch, values, contract):
            rows = _rows_of(patch, found)
            if len({*rows, *found.get(name, ()), *alias.get(name, ())}) > 1:
                raise UserError(
                    f"{patch.name}: set.{contract.key} is {name!r}, which more than one row of {contract.name} would "
                    "then have; a key names one row, so choose another."
                )
            alias[name] = rows
    return alias


def _refuse_strangers(
    patch: Patch, found: Mapping[str, list[Place]], files: Mapping[str, Path], contract: Contract
) -> None:
    for name in patch.keys or ():
        if name not in found and not name.startswith("~"):  # a hash changes with its row, so a lost one is no mistake
            raise no_such("row", name, some_keys(files, contract.key), f"{contract.name}, where {patch.name} names it")


def _rows_of(patch: Patch, found: Mapping[str, list[Place]]) -> list[Place]:
    return [place for name in patch.keys or () for place in found.get(name, ())]


def _cells(
    repairs: Sequence[tuple[Patch, Mapping[str, pa.Scalar]]], found: Mapping[str, list[Place]]
) -> dict[Place, dict[str, pa.Scalar]]:
    """New values by row and column; raises `UserError` where patches differ."""
    cells: dict[Place, dict[str, pa.Scalar]] = {}
    by: dict[tuple[Place, str], Patch] = {}
    for patch, values in repairs:
        for place in _rows_of(patch, found):
            for column, value in values.items():
                first = by.setdefault((place, column), patch)
                if not cells.setdefault(place, {}).setdefault(column, value).equals(value):
                    raise UserError(
                        f"{first.name} and {patch.name} set {column} of the same row to different values; "
                        "keep one of them."
                    )
    return cells


def _changing(cells: Mapping[Place, dict[str, pa.Scalar]], files: Mapping[str, Path]) -> Changes:
    """The new values of rows in which at least one is not there yet."""
    changes: Changes = {}
    for partition, rows in _by_partition(cells):
        columns = sorted({column for values in rows.values() for column in values})
        now = read_partition(files[partition], columns).take(pa.array(list(rows), pa.int64()))
        for number, (row, values) in enumerate(rows.items()):
            if any(not now[column][number].equals(value) for column, value in values.items()):
                changes.setdefault(partition, {})[row] = values
    return changes


def _by_partition(cells: Mapping[Place, dict[str, pa.Scalar]]) -> Iterator[tuple[str, dict[int, dict[str, pa.Scalar]]]]:
    for partition in sorted(Counter(partition for partition, _ in cells)):
        yield partition, {row: cells[name, row] for name, row in sorted(cells) if name == partition}


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
