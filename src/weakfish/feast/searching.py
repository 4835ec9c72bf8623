"""The search for what is left over among all keys of a project: here, or some ranges of keys wherever a worker is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from weakfish.engine import fleet
from weakfish.feast.diff import KeySearch, KnownKeys, Layout, Leftover, Online, Strangers, leftovers
from weakfish.feast.executors import reached
from weakfish.feast.key_ranges import unpacked
from weakfish.files import whole_file
from weakfish.project.paths import Project

BYTES = 64 << 20
"""Of the keys that a worker looks at together, about."""


def found(
    project: Project, online: Online, known: KnownKeys, search: KeySearch, store: Mapping[str, Any] | None, folder: Path
) -> Iterator[Leftover]:
    """What is left over in the project's keys, found by workers where they are given a ``store`` to reach."""
    if store is None:
        yield from leftovers(online, known, search)
        return
    folder.mkdir(parents=True, exist_ok=True)
    common = {"store": store, "search": _packed(search), "layouts": _layouts(known)}
    items, left = list[dict[str, Any]](), list[Path]()
    for number, (ranges, content) in enumerate(online.keys(search.project).packed(BYTES)):
        _write(folder / f"{number}.npz", content, known.strangers(ranges))
        name = fleet.relative(project, folder / str(number))
        items.append({**common, "keys": f"{name}.npz", "to": f"{name}.left"})
        left.append(folder / f"{number}.left")
    for place, receipt in fleet.run(project, f"{__name__}:searched", items, "store: ranges of keys"):
        if receipt["left"]:
            yield from _read(left[place])


def searched(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Look through some keys; what is left over is written to a file, and the receipt says of how many keys."""
    layouts = {view: Layout(tuple(kind), _bytes(fields)) for view, (kind, fields) in item["layouts"].items()}
    search = KeySearch(**{**item["search"], "others": _bytes(item["search"]["others"])})
    with np.load(project.root / item["keys"]) as arrays:
        keys = unpacked(arrays["keys"].tobytes())
        views = [view for view in layouts if f"own_{view}" in arrays.files]
        own, present = ({view: arrays[f"{kind}_{view}"] for view in views} for kind in ("own", "present"))
    left = 0
    with (
        reached(project, item) as client,
        whole_file(project.root / item["to"]) as part,
        part.open("w", encoding="ascii") as lines,
    ):
        for each in search.leftovers(Online(client), keys, Strangers(layouts, own, present)):
            rows = {view: [field.hex() for field in fields] for view, fields in each.rows.items()}
            line = [each.key.hex(), rows, [field.hex() for field in each.orphans], each.is_no_hash]
            lines.write(json.dumps(line) + "\n")
            left += 1
    return {"left": left}


def _read(file: Path) -> Iterator[Leftover]:
    with file.open(encoding="ascii") as lines:
        for key, rows, orphans, is_no_hash in map(json.loads, lines):
            fields = {view: _bytes(of) for view, of in rows.items()}
            yield Leftover(bytes.fromhex(key), fields, _bytes(orphans), is_no_hash)


def _write(file: Path, keys: bytes, strangers: Strangers) -> None:
    arrays: dict[str, Any] = {"keys": np.frombuffer(keys, np.uint8)}
    arrays |= {f"own_{view}": hashes for view, hashes in strangers.own.items()}
    arrays |= {f"present_{view}": hashes for view, hashes in strangers.present.items()}
    with whole_file(file) as part, part.open("wb") as stream:
        np.savez(stream, **arrays)


def _packed(search: KeySearch) -> dict[str, Any]:
    others = [field.hex() for field in sorted(search.others)]
    return {"project": search.project, "thorough": search.thorough, "others": others}


def _layouts(known: KnownKeys) -> dict[str, Any]:
    return {view: [of.kind, [field.hex() for field in of.fields]] for view, of in known.layouts.items()}


def _bytes(texts: list[str]) -> tuple[bytes, ...]:
    return tuple(map(bytes.fromhex, texts))
