"""The vote stage: apply every labeling function to every partition of the events, computing only what is not known.

The votes of one function on one partition are a piece of the cache. Its key holds the function's identity, the stored
bytes of the columns that it reads, and the version of the engine.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pyarrow.compute as pc

from weakfish.contracts.gate import EVENTS, require_open
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.tables import open_partition, partitions, schema_of
from weakfish.contracts.votes_file import ABSTAIN, Faults, read_faults, read_votes, write_votes
from weakfish.errors import LabelingFunctionError, WeakfishError
from weakfish.files import whole_file, whole_folder, write_json
from weakfish.labeling.matrix import EventHashes
from weakfish.labeling.workers import Outcome, Unit, joined, run
from weakfish.project.cache import Cache, key_of
from weakfish.project.paths import Project
from weakfish.project.runs import Progress
from weakfish.rules.identity import examine
from weakfish.rules.loading import Voter, load_functions, load_voters, module_of

READING = 2
"""Files that are hashed or read at once."""

PACKAGES = ("duckdb", "ibis-framework", "numpy", "pandas", "pyarrow", "pyperscan", "snorkel")
"""Packages whose versions the votes may depend on."""


@dataclass(frozen=True)
class VotesPiece:
    """The votes of a function on a partition: which, where its events lie, and where the cache has it or will.

    ``keys`` is the fingerprint of the events' keys.
    """

    function: str
    partition: str
    events: Path
    keys: str
    identity: str
    cached: Path


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
    pieces, voters = Cache(project, "votes"), load_voters(project)
    with whole_folder(project.data / "votes") as folder:
        by_task, missing = _wanted(project, voters, events, pieces)
        _compute(project, voters, missing)
        print("\n".join(_summary(by_task, missing)))
        faults = {task: _faults(wanted) for task, wanted in by_task.items()}
        told = {task: {"faults": {name: asdict(each) for name, each in of.items()}} for task, of in faults.items()}
        write_json(project.reports / "votes.json", {"tasks": told})  # before anything is refused for what it says
        for task, wanted in by_task.items():
            _check(project, task, faults[task], voters)
            made = {piece.function: {"identity": piece.identity} for piece in wanted}
            for name, about in made.items():
                about["module"] = module_of(voters[name].function)
            write_json(folder / f"{task}.manifest.json", {"task": task, "functions": made})
            for piece in wanted:
                file = folder / task / piece.function / piece.events.name
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(piece.cached, file)
    pieces.bound(project.params.votes.max_cache_megabytes)
    rows = sum(open_partition(file).metadata.num_rows for file in events.values())
    write_ledger(project, "vote", rows_in=rows, rows_out=rows)


def _wanted(
    project: Project, voters: Mapping[str, Voter], events: Mapping[str, Path], cached: Cache
) -> tuple[dict[str, list[VotesPiece]], list[VotesPiece]]:
    """The pieces of each task, partition by partition, and those that have to be computed, each once."""
    contents, key = EventHashes(project), project.params.events.key
    schema = schema_of(project.table("events"))
    identities = {name: examine(voter.function, project, schema) for name, voter in voters.items()}
    columns = sorted({name for identity in identities.values() for name in identity.columns} | {key})
    with ThreadPoolExecutor(READING) as pool:  # hashing and reading leave the interpreter to others
        list(pool.map(lambda file: (contents.of(file, columns), contents.keys(file, key)), events.values()))
    contents.save(list(events.values()))
    pieces = {}
    for partition, file in events.items():
        keys = contents.keys(file, key)
        for name, identity in identities.items():
            read = contents.of(file, identity.columns or [key])
            held = cached.file(key_of(identity.digest, read, keys, engine_version()))
            pieces[partition, name] = VotesPiece(name, partition, file, keys, identity.digest, held)

    def is_missing(piece: VotesPiece) -> bool:
        classes = len(voters[piece.function].classes.names)
        return not (identities[piece.function].certain and _is_whole(piece, classes, cached))

    with ThreadPoolExecutor(READING) as pool:
        lacks = list(pool.map(is_missing, pieces.values()))
    by_task = {}
    for task in project.params.tasks:
        names = [function.name for function in load_functions(project, task)]
        by_task[task] = [pieces[partition, name] for partition in events for name in names]
    return by_task, [piece for piece, lacking in zip(pieces.values(), lacks, strict=True) if lacking]


def _is_whole(piece: VotesPiece, classes: int, cached: Cache) -> bool:
    """Whether the cache has the piece; votes that are none in a task with fewer classes now are computed again."""
    if not piece.cached.exists():
        return False
    try:
        votes = read_votes(piece.cached, piece.keys)
    except WeakfishError:
        piece.cached.unlink(missing_ok=True)
        return False
    cached.touch(piece.cached)
    return (pc.max(votes).as_py() or ABSTAIN) < classes


def _compute(project: Project, voters: Mapping[str, Voter], missing: Sequence[VotesPiece]) -> None:
    """Compute pieces and put each into the cache as soon as it is whole."""
    by_file: dict[Path, list[VotesPiece]] = defaultdict(list)
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


def _keep(pieces: Sequence[VotesPiece], groups: dict[int, Outcome]) -> None:
    for piece in pieces:
        votes, faults = joined([groups[group][piece.function] for group in sorted(groups)])
        with whole_file(piece.cached) as part:
            write_votes(part, votes, piece.keys, faults)


def _summary(by_task: Mapping[str, Sequence[VotesPiece]], lacking: Sequence[VotesPiece]) -> list[str]:
    """How much of the work was done: ``1 of 20 labeling functions, 18 of 18 partitions: 18 of 360 pieces computed``."""
    missing, lines, computed = set(lacking), [], 0
    for task, pieces in by_task.items():
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


def _faults(wanted: Sequence[VotesPiece]) -> dict[str, Faults]:
    """What each function failed with, in the order of partitions; functions that did not are left out."""
    found: dict[str, Faults] = defaultdict(Faults)
    for piece in wanted:
        found[piece.function].add(read_faults(piece.cached))
    return {name: faults for name, faults in found.items() if faults.count}


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


@cache
def engine_version() -> str:
    """A hash of the code that computes votes and of `PACKAGES`."""
    hashes = {name: hashlib.sha256(text).hexdigest() for name, text in code_that_votes().items()}
    versions = {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()}
    return key_of(versions, hashes)


def code_that_votes() -> dict[str, bytes]:
    """The modules that compute votes and tell functions apart, and all of this package that they import, by path."""
    root = Path(__file__).parent.parent
    code: dict[Path, bytes] = {}
    waiting = [root / "labeling" / "workers.py", root / "rules" / "identity.py"]
    while waiting:
        file = waiting.pop()
        if file not in code and file.is_file():
            code[file] = file.read_bytes()
            waiting += _imported(root, code[file].decode())
    return {file.relative_to(root).as_posix(): text for file, text in code.items()}


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
