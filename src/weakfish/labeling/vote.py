"""Votes that were computed before: one piece per labeling function and partition, found by what it was computed from.

A key holds the function's identity, the stored bytes of the columns that it reads, and the version of the engine. The
cache lies in ``.weakfish/votes``, outside of DVC's outs; it may be deleted at any time, and forgets what was used last
longest ago.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from weakfish.contracts.gate import EVENTS, require_open
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.tables import open_partition, partitions, schema_of
from weakfish.contracts.votes_file import ABSTAIN, Faults, read_faults, read_votes, write_votes
from weakfish.errors import LabelingFunctionError, WeakfishError
from weakfish.files import whole_file, whole_folder, write_json
from weakfish.labeling.matrix import Contents
from weakfish.labeling.workers import Outcome, Unit, joined, run
from weakfish.project.paths import Project
from weakfish.project.runs import Progress
from weakfish.rules.identity import Identity, examine
from weakfish.rules.loading import Voter, load_functions, load_voters, module_of

PACKAGES = ("duckdb", "ibis-framework", "numpy", "pandas", "pyarrow", "pyperscan", "snorkel")
"""Packages whose versions the votes may depend on."""


class Pieces:
    """The cached pieces of a project."""

    def __init__(self, project: Project) -> None:
        self._folder = project.root / ".weakfish" / "votes"

    def file(self, key: str) -> Path:
        """Where the piece of a key lies, or would."""
        return self._folder / key[:2] / f"{key}.parquet"

    @staticmethod
    def highest(file: Path, keys: str) -> int | None:
        """The highest vote of a piece that is whole and about the events with the fingerprint ``keys``, or None."""
        if not file.exists():
            return None
        try:
            votes = read_votes(file, keys)
        except WeakfishError:
            file.unlink(missing_ok=True)
            return None
        os.utime(file)
        highest = pc.max(votes).as_py()
        return ABSTAIN if highest is None else int(highest)

    def bound(self, megabytes: int) -> None:
        """Delete the pieces that were not used longest, until all are within a size."""
        files = sorted(self._folder.glob("*/*.parquet"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > megabytes << 20:
                file.unlink(missing_ok=True)


def piece_key(identity: str, contents: Sequence[str], keys: str) -> str:
    """The key of a function's votes on a partition, whatever tasks it votes in."""
    parts = [identity, *contents, keys, engine_version()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def engine_version() -> str:
    """A hash of the code that computes votes, whatever of this package it imports included, and of `PACKAGES`."""
    root = Path(__file__).parent.parent
    code: dict[Path, bytes] = {}
    waiting = [root / "labeling" / "workers.py", root / "rules" / "identity.py"]
    while waiting:
        file = waiting.pop()
        if file not in code and file.is_file():
            code[file] = file.read_bytes()
            waiting += _imported(root, code[file].decode())
    hashes = {str(file.relative_to(root)): hashlib.sha256(text).hexdigest() for file, text in code.items()}
    versions = {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()}
    return hashlib.sha256(json.dumps([versions, hashes], sort_keys=True).encode()).hexdigest()


def _imported(root: Path, source: str) -> Iterator[Path]:
    """Where the modules of this package that ``source`` imports would lie; names that are no modules lie nowhere."""
    for node in ast.walk(ast.parse(source)):
        names = (
            [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            package, *path = str(name).split(".")
            if package == root.name:
                yield root.joinpath(*path, "__init__.py")
                yield root.joinpath(*path).with_suffix(".py")


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return "absent"


READING = 2
"""Files that are hashed or read at once."""


@dataclass(frozen=True)
class Piece:
    """The votes of a function on a partition: which, where its events lie, and where the cache has it or will.

    ``keys`` is the fingerprint of the events' keys.
    """

    function: str
    partition: str
    events: Path
    keys: str
    identity: str
    cached: Path


@dataclass(frozen=True)
class Wanted:
    """All pieces of a project.

    Attributes
    ----------
    by_task : dict
        The pieces of each task, partition by partition.
    missing : list
        Those that have to be computed, each once.
    """

    by_task: Mapping[str, list[Piece]]
    missing: list[Piece]


def wanted_pieces(
    project: Project, voters: Mapping[str, Voter], events: Mapping[str, Path], contents: Contents, cache: Pieces
) -> Wanted:
    """The pieces of all tasks, and those that have to be computed.

    Raises
    ------
    LabelingFunctionError
        When a columnar function is no condition on the events' columns, or would not repeat itself.
    """
    schema, key = schema_of(project.table("events")), project.params.events.key
    identities = {name: examine(voter.function, project, schema) for name, voter in voters.items()}
    columns = sorted({name for identity in identities.values() for name in identity.columns} | {key})
    with ThreadPoolExecutor(READING) as pool:  # hashing and reading leave the interpreter to others
        list(pool.map(lambda file: (contents.of(file, columns), contents.keys(file, key)), events.values()))
    pieces = {}
    for partition, file in events.items():
        keys = contents.keys(file, key)
        for name, identity in identities.items():
            held = cache.file(piece_key(identity.digest, _read(contents, file, identity, key), keys))
            pieces[partition, name] = Piece(name, partition, file, keys, identity.digest, held)

    def is_missing(piece: Piece) -> bool:
        """Whether it is not there, or has votes that are none in a task that has fewer classes now."""
        highest = cache.highest(piece.cached, piece.keys) if identities[piece.function].certain else None
        return highest is None or highest >= len(voters[piece.function].classes.names)

    with ThreadPoolExecutor(READING) as pool:
        missing = pool.map(is_missing, pieces.values())
        lacking = [piece for piece, lacks in zip(pieces.values(), missing, strict=True) if lacks]
    by_task = {}
    for task in project.params.tasks:
        names = [function.name for function in load_functions(project, task)]
        by_task[task] = [pieces[partition, name] for partition in events for name in names]
    return Wanted(by_task, lacking)


def _read(contents: Contents, file: Path, identity: Identity, key: str) -> list[str]:
    return contents.of(file, identity.columns or [key])


def vote(project: Project) -> None:
    """Apply the labeling functions of every task to ``data/events``, each function once.

    Says on stdout how much was computed. ``reports/votes.json`` has what functions failed with.

    Raises
    ------
    CheckFailed
        When the gate of the events is shut.
    LabelingFunctionError
        When a function cannot be computed, raises on more rows than ``tasks.<task>.max_faults``, or returns what is not
        a vote; names the function and rows.
    """
    require_open(project, [EVENTS])
    events = partitions(project.table("events"))
    contents, cache, voters = Contents(project), Pieces(project), load_voters(project)
    with whole_folder(project.data / "votes") as folder:
        wanted = wanted_pieces(project, voters, events, contents, cache)
        contents.save(list(events.values()))
        _compute(project, voters, wanted.missing)
        print("\n".join(_summary(wanted)))
        faults = {task: _faults(pieces) for task, pieces in wanted.by_task.items()}
        _report(project, faults)
        for task, pieces in wanted.by_task.items():
            _check(project, task, faults[task], voters)
            write_json(folder / f"{task}.manifest.json", _manifest(project, task, pieces))
            for piece in pieces:
                file = folder / task / piece.function / piece.events.name
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(piece.cached, file)
    cache.bound(project.params.votes.max_cache_megabytes)
    rows = sum(open_partition(file).metadata.num_rows for file in events.values())
    write_ledger(project, "vote", rows_in=rows, rows_out=rows)


def _compute(project: Project, voters: Mapping[str, Voter], missing: Sequence[Piece]) -> None:
    """Compute pieces and put each into the cache as soon as it is whole."""
    by_file: dict[Path, list[Piece]] = defaultdict(list)
    for piece in missing:
        by_file[piece.events].append(piece)
    units, groups = [], {}
    for file, pieces in by_file.items():
        groups[file] = open_partition(file).metadata.num_row_groups
        names = tuple(piece.function for piece in pieces)
        units += [Unit(file, group, names) for group in range(groups[file])]
    tasks = {task: None for piece in missing for task in voters[piece.function].tasks}
    progress = Progress(f"vote: votes of {', '.join(tasks)}", sum(map(_votes, units)))
    done: dict[Path, dict[int, Outcome]] = defaultdict(dict)
    with ThreadPoolExecutor(1) as writer:  # while others compute
        kept = []
        for unit, outcome in run(project, units):
            done[unit.file][unit.group] = outcome
            progress.add(_votes(unit))
            if len(done[unit.file]) == groups[unit.file]:
                kept.append(writer.submit(_keep, by_file[unit.file], done.pop(unit.file)))
        for each in kept:
            each.result()


def _votes(unit: Unit) -> int:
    return len(unit.functions) * int(open_partition(unit.file).metadata.row_group(unit.group).num_rows)


def _keep(pieces: Sequence[Piece], groups: dict[int, Outcome]) -> None:
    for piece in pieces:
        votes, faults = joined([groups[group][piece.function] for group in sorted(groups)])
        with whole_file(piece.cached) as part:
            write_votes(part, votes, piece.keys, faults)


def _summary(wanted: Wanted) -> list[str]:
    """How much of the work was done: ``1 of 20 labeling functions, 18 of 18 partitions: 18 of 360 pieces computed``."""
    missing, lines, computed = set(wanted.missing), [], 0
    for task, pieces in wanted.by_task.items():
        mine = [piece for piece in pieces if piece in missing]
        functions, parts = (
            f"{len({getattr(piece, name) for piece in mine})} of {len({getattr(piece, name) for piece in pieces})}"
            for name in ("function", "partition")
        )
        lines.append(
            f"{task}: {functions} labeling functions, {parts} partitions: {len(mine)} of {len(pieces)} pieces computed."
        )
        computed += len(mine)
    if computed > len(missing):
        lines.append(f"{len(missing)} pieces in all: a function of several tasks votes once for all of them.")
    return lines


def _manifest(project: Project, task: str, wanted: Sequence[Piece]) -> dict[str, Any]:
    """What voted: the module and the identity of each function."""
    identities = {piece.function: piece.identity for piece in wanted}
    functions = load_functions(project, task)
    made = {
        function.name: {"module": module_of(function), "identity": identities[function.name]} for function in functions
    }
    return {"task": task, "functions": made}


def _faults(wanted: Sequence[Piece]) -> dict[str, Faults]:
    """What each function failed with, in the order of partitions; functions that did not are left out."""
    found: dict[str, Faults] = defaultdict(Faults)
    for piece in wanted:
        found[piece.function].add(read_faults(piece.cached))
    return {name: faults for name, faults in found.items() if faults.count}


def _report(project: Project, faults: dict[str, dict[str, Faults]]) -> None:
    """Write ``reports/votes.json``, before anything is refused for what stands in it."""
    tasks = {
        task: {"faults": {name: asdict(found) for name, found in by_function.items()}}
        for task, by_function in faults.items()
    }
    write_json(project.reports / "votes.json", {"tasks": tasks})


def _check(project: Project, task: str, faults: dict[str, Faults], voters: Mapping[str, Voter]) -> None:
    allowed = project.task(task).max_faults
    over = [
        f"{name!r} ({module_of(voters[name].function)}) raised {found.exception.rstrip('.')} on {_rows(found)}"
        for name, found in faults.items()
        if found.count > allowed
    ]
    if over:
        raise LabelingFunctionError(
            f"Labeling function {'; '.join(over)}; make it return -1 where it cannot tell, or allow faults: "
            f"tasks.{task}.max_faults in params.yaml is {allowed}."
        )


def _rows(faults: Faults) -> str:
    examples = ", ".join(map(repr, faults.rows)) + (", ..." if faults.count > len(faults.rows) else "")
    return f"{faults.count:,} {'row' if faults.count == 1 else 'rows'} ({examples})"
