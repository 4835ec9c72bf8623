"""What patches do to a table: patches and staged files go in, the repairs of each row come out, nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from weakfish.checks.quarantine.find import Place, no_such, places, some_keys
from weakfish.checks.quarantine.patches import Patch
from weakfish.errors import UserError
from weakfish.project import Project
from weakfish.tables import Contract, read_partition, schema_of

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
                    "have then; a key names one row, give another."
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
