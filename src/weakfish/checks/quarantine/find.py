"""Where the rows stand that patches name: names go in, partitions and positions come out, from the key column alone."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.check import Rows
from weakfish.checks.rows import NAMELESS, hashed
from weakfish.errors import UserError
from weakfish.tables import read_partition

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
    from weakfish.compute import connect

    engine = connect()
    keys = engine.read(list(files.values())).select(key=key)
    keys = keys.filter(keys["key"].notnull())
    counts = keys.group_by("key").aggregate(rows=keys.count())
    return engine.run(counts.filter(counts["rows"] > 1).select("key"))["key"].cast(pa.string()).combine_chunks()
