"""How labeling functions differ between two versions: which came, went or were edited, and whose votes moved."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.hashes import hashes_of
from weakfish.contracts.manifests import VotesManifest, read_manifest
from weakfish.contracts.pointers import listed
from weakfish.contracts.tables import open_partition, read_partition
from weakfish.contracts.votes_file import ABSTAIN, print_of, read_votes
from weakfish.labeling.flips import Edits, positions
from weakfish.project.laid_out import ProjectVersion


def function_changes(old: ProjectVersion, new: ProjectVersion, task: str, classes: list[str]) -> list[dict[str, Any]]:
    """The functions of a task that differ, those first whose votes moved on most rows.

    Each has ``name``, ``module``, ``change`` (``added``, ``removed``, ``edited`` or None), ``votes`` (``old`` and
    ``new``, by class, over the partitions that differ), ``moved`` (rows of both versions on which its vote is another),
    and ``stopped``: it voted before and votes nowhere now.
    """
    before, now = (read_manifest(side.project, VotesManifest, f"votes/{task}").functions for side in (old, new))
    edits = Edits.between(before, now)
    change = {name: kind for kind in ("changed", "added", "removed") for name in getattr(edits, kind)}
    moved, votes, totals = _votes(old, new, task, [*dict.fromkeys([*now, *before])])
    found = []
    for name in sorted({*before, *now}, key=lambda name: (-moved[name], name)):
        counts = {
            side: {of: number for place, of in enumerate(classes) if (number := votes[side][name, place])}
            for side in ("old", "new")
        }
        if name not in change and not moved[name] and counts["old"] == counts["new"]:
            continue
        found.append(
            {
                "name": name,
                "module": (now.get(name) or before[name]).module,
                "change": {"changed": "edited"}.get(change.get(name, ""), change.get(name)),
                "moved": moved[name],
                "votes": counts,
                "stopped": bool(totals["old"][name] and not totals["new"][name] and name in now),
            }
        )
    return found


def _votes(old: ProjectVersion, new: ProjectVersion, task: str, names: list[str]) -> tuple[Counter[str], Any, Any]:
    """Rows on which votes moved, by function; votes by function and class in what differs, and by function in all."""
    sides = [{file.stem: file for file in listed(side.project.data / "votes" / task)} for side in (old, new)]
    before, now = (hashes_of(side) for side in sides)
    moved = Counter[str]()
    votes: Any = {"old": Counter(), "new": Counter()}
    totals: Any = {"old": Counter(), "new": Counter()}
    for part in sorted({*before, *now}):
        tables = [_read(side[part], names) if part in side else None for side in sides]
        same = before.get(part) == now.get(part)
        for side, table in zip(("old", "new"), tables, strict=True):
            for name, column in zip(table.column_names, table.columns, strict=True) if table else ():
                cast = column.drop_null().to_numpy()
                counts = np.bincount(cast[cast >= 0])
                totals[side][name] += int(counts.sum())
                for place, count in enumerate(counts.tolist()):
                    votes[side][name, place] += 0 if same else count
        if tables[0] is not None and tables[1] is not None and not same:
            moved.update(_moved(old, new, part, tables[0], tables[1], names))
    return moved, votes, totals


def _read(file: Path, names: list[str]) -> pa.PartTable:
    return read_votes(file, [name for name in names if name in open_partition(file).schema_arrow.names])


def _moved(
    old: ProjectVersion, new: ProjectVersion, part: str, was: pa.PartTable, now: pa.PartTable, names: list[str]
) -> Counter[str]:
    """Rows of both sides of a partition on which each function votes otherwise; one that is not there abstains."""
    rows = [np.arange(was.num_rows), np.arange(now.num_rows)]
    if print_of(was) != print_of(now):
        key = new.project.params.events.key
        keys = [read_partition(side.project.table("events") / f"{part}.parquet", [key])[key] for side in (old, new)]
        into = positions(keys[0], keys[1])
        rows = [np.flatnonzero(into >= 0), into[into >= 0]]
    found = Counter[str]()
    for name in names:
        votes = [_column(table, name)[of] for table, of in zip((was, now), rows, strict=True)]
        found[name] = int((votes[0] != votes[1]).sum())
    return found


def _column(table: pa.PartTable, name: str) -> Any:
    if name not in table.column_names:
        return np.full(table.num_rows, ABSTAIN, np.int8)
    return pc.fill_null(table[name], ABSTAIN).to_numpy()
