"""What patches do: repairs rewrite staged rows before they are checked, waivers let rows past checks after that."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.bad_rows import (
    COMPARED,
    NAMELESS,
    hashed,
    hashes_of,
    keep_names,
    names_of,
    no_such,
    numbered,
    sets_aside,
    together,
    unnumbered,
)
from weakfish.checks.patches import Patch, digest, read_patches
from weakfish.contracts.gate import version_of
from weakfish.contracts.tables import (
    Contract,
    by_period,
    open_partition,
    partitions,
    period_of,
    read_partition,
    row_count,
    schema_of,
    write_partition,
)
from weakfish.contracts.verdicts import Check, Rows, Status
from weakfish.errors import UserError, WeakfishError
from weakfish.project.paths import Project
from weakfish.project.runs import temporary_folder

Place = tuple[str, int]
"""A row: its partition and its position in it."""

Values = Mapping[str, pa.Scalar]
"""New values by column."""


@dataclass(frozen=True)
class RepairPlan:
    """What patches do to a table.

    ``changes`` has new values by partition and row; ``rows`` says how many rows each repair changes, 0 when they are so
    already.
    """

    contract: Contract | None = None
    patches: Sequence[Patch] = ()
    changes: Mapping[str, Mapping[int, Values]] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)


def contract_of(project: Project, table: str) -> Contract:
    """What a staged table promises, as its first partition has it; raises `TableError` when there is none."""
    events = project.params.events
    return Contract(table, schema_of(project.staged(table)), events.key, events.time, events.partition)


def plan_of(project: Project, table: str, files: Mapping[str, Path], patches: Sequence[Patch]) -> RepairPlan:
    """Find the rows that patches name and what becomes of them; the key column is read, and no more.

    Raises
    ------
    UserError
        When a patch names a row or a column that does not exist, sets a value that does not fit, takes a key that
        another row has, or says otherwise than another patch.
    """
    contract = contract_of(project, table)
    repairs = [(patch, patch.scalars(contract.schema)) for patch in patches if patch.values]
    new_keys = {patch.name: _new_key(patch, values, contract) for patch, values in repairs}
    asked = {name for patch in patches for name in patch.keys or ()}
    found = _places(files, contract.key, asked | {name for name in new_keys.values() if name is not None})
    alias: dict[str, list[Place]] = {}
    for patch, _ in repairs:  # a key that a repair gives names the row that gets it
        name = new_keys[patch.name]
        if name is None:
            continue
        rows = _rows_of(patch, found)
        if len({*rows, *found.get(name, ()), *alias.get(name, ())}) > 1:
            raise UserError(
                f"{patch.name}: set.{contract.key} is {name!r}, which more than one row of {contract.name} would "
                "then have; a key names one row, so choose another."
            )
        alias[name] = rows
    known = {**alias, **found}
    for patch in patches:
        for name in patch.keys or ():
            if name not in known and not name.startswith(NAMELESS):  # a hash changes with its row
                keys = _some_keys(files, contract.key)
                raise no_such("row", name, keys, f"{contract.name}, where {patch.name} names it")
    cells: dict[Place, dict[str, pa.Scalar]] = {}
    by: dict[tuple[Place, str], str] = {}
    for patch, values in repairs:
        for place in _rows_of(patch, known):
            for column, value in values.items():
                first = by.setdefault((place, column), patch.name)
                if not cells.setdefault(place, {}).setdefault(column, value).equals(value):
                    raise UserError(
                        f"{first} and {patch.name} set {column} of the same row to different values; keep one of them."
                    )
    changes = _changing(cells, files)
    changed = {(partition, row) for partition, rows in changes.items() for row in rows}
    return RepairPlan(
        contract, patches, changes, {patch.name: len(changed & set(_rows_of(patch, known))) for patch, _ in repairs}
    )


def _places(files: Mapping[str, Path], key: str, names: Iterable[str]) -> dict[str, list[Place]]:
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
        rows = _where(pc.is_in(keys, wanted, skip_nulls=True))
        named = list(zip(rows.tolist(), keys.take(pa.array(rows)).to_pylist(), strict=True))
        if shared is not None and len(rows := _where(pc.or_(pc.is_null(keys), pc.is_in(keys, shared)))):
            hashes = numbered(hashed(read_partition(file).take(pa.array(rows))))
            for row, name in zip(rows.tolist(), hashes, strict=True):
                named += [(row, one) for one in sorted({name, unnumbered(name)}) if one in by_hash]
        for row, name in named:
            found.setdefault(name, []).append((partition, row))
    return found


def _where(found: pa.BooleanArray) -> Rows:
    return np.flatnonzero(found.to_numpy(zero_copy_only=False))


def _shared_keys(files: Mapping[str, Path], key: str) -> pa.Array:
    """Keys that more than one row has."""
    from weakfish.engine.duckdb import connect

    engine = connect()
    keys = engine.read(list(files.values())).select(key=key)
    keys = keys.filter(keys["key"].notnull())
    counts = keys.group_by("key").aggregate(rows=keys.count())
    return engine.run(counts.filter(counts["rows"] > 1).select("key"))["key"].cast(pa.string()).combine_chunks()


def _some_keys(files: Mapping[str, Path], key: str) -> list[str]:
    """Keys to compare a wrong one with: all of a small table, some of a large one."""
    found: list[str] = []
    for file in files.values():
        found += read_partition(file, [key])[key].cast(pa.string()).drop_null().slice(0, COMPARED).to_pylist()
        if len(found) >= COMPARED:
            break
    return found


def _new_key(patch: Patch, values: Values, contract: Contract) -> str | None:
    """The key that a repair gives, as a name."""
    if contract.key not in values:
        return None
    if not values[contract.key].is_valid:
        raise UserError(f"{patch.name}: set.{contract.key} is null, but a row cannot lose its key; correct it there.")
    return str(values[contract.key].cast(pa.string()).as_py())


def _rows_of(patch: Patch, found: Mapping[str, list[Place]]) -> list[Place]:
    return [place for name in patch.keys or () for place in found.get(name, ())]


def _changing(cells: Mapping[Place, Values], files: Mapping[str, Path]) -> dict[str, dict[int, Values]]:
    """The new values of rows in which at least one is not there yet."""
    changes: dict[str, dict[int, Values]] = {}
    for partition, of in groupby(sorted(cells), key=lambda place: place[0]):
        rows = [row for _, row in of]
        columns = sorted({column for row in rows for column in cells[partition, row]})
        now = read_partition(files[partition], columns).take(pa.array(rows, pa.int64()))
        for number, row in enumerate(rows):
            values = cells[partition, row]
            if any(not now[column][number].equals(value) for column, value in values.items()):
                changes.setdefault(partition, {})[row] = values
    return changes


class StagedFiles(dict[str, Path]):
    """Partitions and their files, and the plan by which they were repaired."""

    def __init__(self, files: Mapping[str, Path], plan: RepairPlan) -> None:
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
    plan = plan_of(project, table, files, patches) if patches else RepairPlan()
    if plan.contract is None or not plan.changes:
        yield StagedFiles(files, plan)
        return
    with temporary_folder(project.temporary, "repairs") as folder:
        yield StagedFiles(_rewritten(files, plan.contract, plan.changes, folder), plan)


_PLACE = "\0place"
"""A column that goes through the sort to say where each row came from."""


class _Repaired(NamedTuple):
    """Rows of one partition with their new values: where they were, where they go, their hashes as they were staged."""

    rows: Rows
    values: pa.Table
    to: npt.NDArray[np.object_]
    hashes: npt.NDArray[np.object_]


def _rewritten(
    files: Mapping[str, Path], contract: Contract, changes: Mapping[str, Mapping[int, Values]], folder: Path
) -> dict[str, Path]:
    """The partitions that repaired rows leave, come to or stay in, written anew; the others as they are."""
    homes = _Homes(files, contract)
    repaired = {partition: _repaired(files[partition], homes, rows) for partition, rows in changes.items()}
    touched = sorted({*repaired, *(name for part in repaired.values() for name in part.to)})
    before = sum(row_count(files[name]) for name in touched if name in files)
    for name in touched:
        _rewrite(files.get(name), name, contract, repaired, folder)
    made = {name: file for name in touched if (file := folder / f"{name}.parquet").exists()}
    after = sum(map(row_count, made.values()))
    if after != before:
        raise WeakfishError(f"Repairing {contract.name} turned {before} rows into {after}; report this.")
    return {**{name: file for name, file in files.items() if name not in touched}, **made}


class _Homes:
    """The partitions of a table where rows belong by their time, and in a period of several parts by their key too."""

    def __init__(self, files: Mapping[str, Path], contract: Contract) -> None:
        self._files, self._contract = files, contract
        self._parts = by_period({name: name for name in files})
        self._begins: dict[str, list[Any]] = {}

    def of(self, rows: pa.Table) -> list[str]:
        """The partition of each row: of several parts the last that does not begin after it."""
        times = rows[self._contract.time]
        return [
            self._part(period, place)
            for period, place in zip(self._contract.partition_of(times).to_pylist(), self._places(rows), strict=True)
        ]

    def _part(self, period: str, place: Any) -> str:
        names = self._parts.get(period, [period])
        if len(names) == 1:
            return names[0]
        if period not in self._begins:
            columns = [self._contract.time, self._contract.key]
            first = (next(open_partition(self._files[name]).iter_batches(1, columns=columns)) for name in names)
            self._begins[period] = [self._places(pa.Table.from_batches([rows]))[0] for rows in first]
        return names[max(0, bisect_right(self._begins[period], place) - 1)]

    def _places(self, rows: pa.Table) -> list[Any]:
        """What rows are in the order of; nulls come last."""
        columns = (rows[name].to_pylist() for name in (self._contract.time, self._contract.key))
        return [[(value is None, value) for value in row] for row in zip(*columns, strict=True)]


def _repaired(file: Path, homes: _Homes, changes: Mapping[int, Values]) -> _Repaired:
    rows = np.array(sorted(changes), np.int64)
    old = new = read_partition(file).take(pa.array(rows))
    for column in sorted({name for values in changes.values() for name in values}):
        number = old.schema.get_field_index(column)
        kind = old.schema.field(number)
        values = [changes[row].get(column, old[column][place]) for place, row in enumerate(rows.tolist())]
        new = new.set_column(number, kind, pa.array([value.as_py() for value in values], kind.type))
    return _Repaired(rows, new, np.array(homes.of(new), object), np.array(hashed(old), object))


def _rewrite(file: Path | None, name: str, contract: Contract, repaired: Mapping[str, _Repaired], folder: Path) -> None:
    """Write a partition without the rows that leave it, with those that come, and with those that it keeps repaired."""
    schema = next(iter(repaired.values())).values.schema
    staged = read_partition(file) if file else schema.empty_table()
    gone: Rows | list[int] = repaired[name].rows if name in repaired else []
    places = [np.setdiff1d(np.arange(staged.num_rows), gone)]
    tables, end = [staged.take(pa.array(places[0]))], staged.num_rows
    hashes: dict[int, str] = {}
    for source, part in repaired.items():
        here = np.flatnonzero(part.to == name)
        # A row that stays keeps its position among rows alike in time and key; one that comes stands behind them.
        at = part.rows[here] if source == name else np.arange(end, end + len(here))
        tables.append(part.values.take(pa.array(here)))
        places.append(at)
        hashes |= dict(zip(at.tolist(), part.hashes[here], strict=True))
        end += len(here)
    rows = pa.concat_tables(tables).append_column(_PLACE, pa.array(np.concatenate(places)))
    rows = contract.in_order(rows.sort_by(_PLACE))
    if rows.num_rows:
        write_partition(folder, name, rows.drop_columns([_PLACE]))
        place = rows[_PLACE].to_numpy()
        moved = np.flatnonzero(np.isin(place, list(hashes)))
        keep_names(folder / f"{name}.parquet", {int(row): hashes[place[row]] for row in moved})


Places = Mapping[str, Rows]
"""Rows by partition."""


class Waived(NamedTuple):
    """Checks after waivers; and what goes with the mask, for `accept` to compare with the patches that it sees.

    Of the ``notes``, ``released`` counts rows that no check sets aside any more, and ``patches`` says what each patch
    did, in the form that the ledger has; rows 0 means that it touches none any more.
    """

    checks: list[Check]
    notes: dict[str, Any]


def waive(project: Project, checks: Sequence[Check], files: StagedFiles) -> Waived:
    """Take out of each check the bad rows that a waiver lets past it.

    Raises
    ------
    UserError
        When a waiver names a check that does not exist, or that sets no rows aside.
    """
    patches, rows = files.plan.patches, dict(files.plan.rows)
    by_name = {check.check: check for check in checks}
    free: dict[str, list[Places]] = {}
    for patch in patches:
        found = [_released(project, patch, _row_check(patch, rule, by_name), files) for rule in patch.rules]
        for rule, places in zip(patch.rules, found, strict=True):
            free.setdefault(rule, []).append(places)
        if patch.rules:
            rows[patch.name] = sum(map(len, _union(found).values()))
    left = [_without(check, _union(free.get(check.check, ()))) for check in checks]
    released = _union(places for of in free.values() for places in of)
    aside = _union(check.rows for check in left if sets_aside(check))
    notes = {
        "released": sum(len(np.setdiff1d(of, aside.get(part, []))) for part, of in released.items()),
        "repaired": sum(map(len, files.plan.changes.values())),
        "patches": [{"patch": of.name, "who": of.who, "why": of.why, "rows": rows[of.name]} for of in patches],
        "digest": digest(project) if patches else "",
    }
    return Waived(left, notes)


def _row_check(patch: Patch, rule: str, checks: Mapping[str, Check]) -> Check:
    if rule not in checks:
        raise no_such("check", rule, checks, f"the suite of {patch.table}, past which {patch.name} lets rows")
    check = checks[rule]
    if check.severity != "critical" or (check.unexpected is None and not check.error):
        raise UserError(
            f"{patch.name}: {rule} quarantines no rows, so it needs no waiver (only critical checks of rows do); "
            "remove it there."
        )
    return check


def _released(project: Project, patch: Patch, check: Check, files: StagedFiles) -> Places:
    """The bad rows of a check that a waiver lets past it."""
    if not sets_aside(check):
        return {}
    if patch.keys is None:
        only = patch.partitions
        return {partition: rows for partition, rows in check.rows.items() if not only or period_of(partition) in only}
    names, found = pa.array(patch.keys, pa.string()), {}
    for partition, rows in check.rows.items():
        named = pc.is_in(names_of(project, files[partition], rows), names)
        if any(name.startswith(NAMELESS) for name in patch.keys):
            hashes = hashes_of(files[partition], rows)
            for of in (hashes, [unnumbered(name) for name in hashes]):
                named = pc.or_(named, pc.is_in(pa.array(of, pa.string()), names))
        found[partition] = rows[_where(named)]
    return {partition: rows for partition, rows in found.items() if len(rows)}


def _without(check: Check, released: Places) -> Check:
    if not released:
        return check
    left = {part: np.setdiff1d(of, released[part]) if part in released else of for part, of in check.rows.items()}
    left = {part: rows for part, rows in left.items() if len(rows)}
    count = sum(map(len, released.values()))
    return replace(check, rows=left, released=count, status=check.status if left else Status.PASSED)


def _union(places: Iterable[Places]) -> dict[str, Rows]:
    of = list(places)
    return {part: together(found[part] for found in of if part in found) for part in sorted({p for f in of for p in f})}
