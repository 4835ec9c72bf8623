"""The vote stage: apply every labeling function and slice to every partition, computing only what is not known.

The votes of one function on one partition are a piece of the cache. Its key holds the function's identity, the stored
bytes of the columns that it reads, and the version of the engine.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from weakfish.contracts.gate import EVENTS, require_open
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.manifests import Made, VotesManifest, write_manifest
from weakfish.contracts.pointers import whole_tables
from weakfish.contracts.reports import VotesReport, write_report
from weakfish.contracts.tables import open_partition, partitions, row_count, schema_of
from weakfish.contracts.votes_file import ABSTAIN, Faults, put_together, read_faults, read_piece, write_piece
from weakfish.errors import LabelingFunctionError, WeakfishError
from weakfish.files import read_json, sha256, whole_file, write_json
from weakfish.labeling.matrix import EventHashes, group_sizes
from weakfish.labeling.shared_votes import PartitionVotes, bring, tell
from weakfish.labeling.workers import Outcome, Unit, joined, run
from weakfish.project.cache import Cache, key_of
from weakfish.project.paths import Project
from weakfish.project.runs import Progress
from weakfish.rules.identity import Identity, examine
from weakfish.rules.loading import Voter, load_slices, load_voters, module_of
from weakfish.rules.slices import SLICES

READING = 2
"""Files that are hashed or read at once."""

IMPORTED = re.compile(r"^ *from weakfish(?:\.([\w.]+))? import (\([^)]*\)|.*)$", re.MULTILINE)
"""The only form of import within this package that its modules have."""

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
    identity: Identity
    cached: Path


def vote(project: Project) -> None:
    """Apply the labeling functions of every task, and all slices, to ``data/events``, each once.

    ``data/votes/<task>`` holds the votes, a column per function, ``data/votes/@slices`` those of slices: any vote means
    that the row is in it. Says on stdout how much was computed. ``reports/votes.json`` has what functions failed with.

    Raises
    ------
    CheckFailed
        When the gate of the events is shut.
    LabelingFunctionError
        When a function cannot be computed, raises on more rows than ``tasks.<task>.max_faults``, or returns what is not
        a vote; names the function and rows.
    """
    require_open(project, [EVENTS])
    events, slices, cache = partitions(project.table("events")), load_slices(project), Cache(project, "votes")
    voters = load_voters(project) | slices
    pieces = _pieces(project, voters, events, cache)
    by_task = {
        task: [piece for piece in pieces if task in voters[piece.function].tasks]
        for task in (*project.params.tasks, *([SLICES] if slices else []))
    }
    shared = _shared(by_task)
    bring(project, shared)
    known = _Known(project, cache)
    with ThreadPoolExecutor(READING) as pool:
        whole = pool.map(lambda piece: known.whole(piece, len(voters[piece.function].classes.names)), pieces)
        missing = [piece for piece, is_whole in zip(pieces, whole, strict=True) if not is_whole]
    known.save(missing)
    with whole_tables(project.data / "votes") as folder:
        _compute(project, voters, missing)
        print("\n".join(_summary(by_task, missing)))
        faults = {task: known.faults(wanted) for task, wanted in by_task.items()}
        told = {
            task: {"faults": {name: asdict(each) for name, each in faults[task].items()}}
            for task in project.params.tasks
        }
        write_report(project, VotesReport, told)  # before anything is refused for what it says
        for task, wanted in by_task.items():
            _refuse_faults(project, task, faults[task], voters)
            made = {
                each.function: Made(module_of(voters[each.function].function), each.identity.digest) for each in wanted
            }
            write_manifest(folder, task, VotesManifest(task, made))
            _put_together(folder / task, wanted)
    tell(project, shared)
    cache.bound(project.params.votes.max_cache_megabytes)
    rows = sum(row_count(file) for file in events.values())
    write_ledger(project, "vote", rows_in=rows, rows_out=rows)


def _pieces(
    project: Project, voters: Mapping[str, Voter], events: Mapping[str, Path], cache: Cache
) -> list[VotesPiece]:
    """All pieces, partition by partition; what they depend on is hashed."""
    hashes, key, schema = EventHashes(project), project.params.events.key, schema_of(project.table("events"))
    identities = {name: examine(voter.function, project, schema) for name, voter in voters.items()}
    columns = sorted({name for identity in identities.values() for name in identity.columns} | {key})
    with ThreadPoolExecutor(READING) as pool:  # hashing and reading leave the interpreter to others
        list(pool.map(lambda file: (hashes.of(file, columns), hashes.keys(file, key)), events.values()))
    hashes.save()
    pieces = []
    for partition, file in events.items():
        keys = hashes.keys(file, key)
        for name, identity in identities.items():
            read = hashes.of(file, identity.columns or [key])
            cached = cache.file(key_of(identity.digest, read, keys, engine_version()))
            pieces.append(VotesPiece(name, partition, file, keys, identity, cached))
    return pieces


def _shared(by_task: Mapping[str, Sequence[VotesPiece]]) -> list[PartitionVotes]:
    """What other machines may have computed, or may take from here; of functions that cannot be told apart nothing."""
    found: dict[tuple[str, str, str], dict[str, Path]] = defaultdict(dict)
    for task, pieces in by_task.items():
        for piece in pieces:
            if piece.identity.certain:
                found[task, piece.partition, piece.keys][piece.function] = piece.cached
    return [PartitionVotes(*of, engine_version(), pieces) for of, pieces in found.items()]


class _Known:
    """What is known of pieces in the cache: their highest vote and how many rows failed, by the hash of their bytes.

    A hash takes a hundredth of the time that reading the votes does, and notices damage as well.
    """

    def __init__(self, project: Project, cache: Cache) -> None:
        self._file, self._cache = project.root / ".weakfish" / "pieces.json", cache
        self._now: dict[str, tuple[str, int, int]] = {}
        try:
            self._before: dict[str, Any] = read_json(self._file)
        except WeakfishError:
            self._before = {}

    def whole(self, piece: VotesPiece, classes: int) -> bool:
        """Whether the cache has the piece; votes that are none in a task with fewer classes now are computed again."""
        name = piece.cached.name
        if not piece.identity.certain or not piece.cached.exists():
            return False
        digest, highest, failed = sha256(piece.cached), ABSTAIN, 0
        if name in self._before and self._before[name][0] == digest:
            _, highest, failed = self._before[name]
        else:
            try:
                votes = read_piece(piece.cached, piece.keys)
            except WeakfishError:
                piece.cached.unlink(missing_ok=True)
                return False
            highest, failed = pc.max(votes).as_py() or ABSTAIN, votes.null_count
        self._now[name] = (digest, highest, failed)
        self._cache.touch(piece.cached)
        return highest < classes

    def save(self, missing: Sequence[VotesPiece]) -> None:
        """Remember what is known of pieces, but of the ``missing`` ones, which are computed now."""
        for piece in missing:
            self._now.pop(piece.cached.name, None)
        if self._now.keys() != self._before.keys() or any(
            self._before[name][0] != of[0] for name, of in self._now.items()
        ):
            write_json(self._file, self._now)

    def faults(self, wanted: Sequence[VotesPiece]) -> dict[str, Faults]:
        """What each function failed with, in the order of partitions; functions that did not are left out."""
        found: dict[str, Faults] = defaultdict(Faults)
        for piece in wanted:
            if self._now.get(piece.cached.name, (None, None, True))[2]:
                found[piece.function].add(read_faults(piece.cached))
        return {name: faults for name, faults in found.items() if faults.count}


def _compute(project: Project, voters: Mapping[str, Voter], missing: Sequence[VotesPiece]) -> None:
    """Compute pieces and put those of a partition into the cache as soon as all of its row groups are done."""
    by_file: dict[Path, list[VotesPiece]] = defaultdict(list)
    for piece in missing:
        by_file[piece.events].append(piece)
    sizes = {file: group_sizes(open_partition(file)) for file in by_file}
    units = [
        Unit(file, group, tuple(piece.function for piece in pieces))
        for file, pieces in by_file.items()
        for group in range(len(sizes[file]))
    ]
    tasks = {task.removeprefix("@"): None for piece in missing for task in voters[piece.function].tasks}
    total = sum(len(unit.functions) * sizes[unit.file][unit.group] for unit in units)
    progress = Progress(f"vote: votes of {', '.join(tasks)}", total)
    done: dict[Path, dict[int, Outcome]] = defaultdict(dict)
    with ThreadPoolExecutor(1) as writer:  # while others compute
        kept = []
        for unit, outcome in run(project, units):
            done[unit.file][unit.group] = outcome
            progress.add(len(unit.functions) * sizes[unit.file][unit.group])
            if len(done[unit.file]) == len(sizes[unit.file]):
                kept.append(writer.submit(_keep, by_file[unit.file], done.pop(unit.file)))
        for each in kept:
            each.result()


def _keep(pieces: Sequence[VotesPiece], groups: dict[int, Outcome]) -> None:
    for piece in pieces:
        votes, faults = joined([groups[group][piece.function] for group in sorted(groups)])
        with whole_file(piece.cached) as part:
            write_piece(part, votes, piece.keys, faults)


def _put_together(folder: Path, pieces: Sequence[VotesPiece]) -> None:
    """Write the votes files of a task."""
    by_file: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    for piece in pieces:
        by_file[piece.events.name, piece.keys][piece.function] = piece.cached
    with ThreadPoolExecutor(READING) as pool:
        made = [pool.submit(put_together, folder / name, cached, keys) for (name, keys), cached in by_file.items()]
        for each in made:
            each.result()


def _summary(by_task: Mapping[str, Sequence[VotesPiece]], missing: Sequence[VotesPiece]) -> list[str]:
    """How much of the work was done: ``1 of 20 labeling functions, 18 of 18 partitions: 18 of 360 pieces computed``."""
    lines, computed, lacking = [], 0, {(piece.function, piece.partition) for piece in missing}
    for task, pieces in by_task.items():
        mine = [piece for piece in pieces if (piece.function, piece.partition) in lacking]
        functions, parts = (
            f"{len({getattr(piece, name) for piece in mine})} of {len({getattr(piece, name) for piece in pieces})}"
            for name in ("function", "partition")
        )
        lines.append(
            f"{task.removeprefix('@')}: {functions} {'labeling ' * (task != SLICES)}functions, {parts} partitions: "
            f"{len(mine)} of {len(pieces)} pieces computed."
        )
        computed += len(mine)
    if computed > len(missing):
        lines.append(f"{len(missing)} pieces in all: a function of several tasks votes once for all of them.")
    return lines


def _refuse_faults(project: Project, task: str, faults: dict[str, Faults], voters: Mapping[str, Voter]) -> None:
    allowed, over = 0 if task == SLICES else project.task(task).max_faults, []
    for name, found in faults.items():
        if found.count > allowed:
            rows = f"{found.count:,} {'row' if found.count == 1 else 'rows'}"
            examples = ", ".join(map(repr, found.rows)) + (", ..." if found.count > len(found.rows) else "")
            module, exception = module_of(voters[name].function), found.exception.rstrip(".")
            over.append(f"{name!r} ({module}) raised {exception} on {rows} ({examples})")
    if over:
        allow = f", or allow faults: tasks.{task}.max_faults in params.yaml is {allowed}" if task != SLICES else ""
        raise LabelingFunctionError(
            f"{'Slice' if task == SLICES else 'Labeling function'} {'; '.join(over)}; make it return -1 where it "
            f"cannot tell{allow}."
        )


@cache
def engine_version() -> str:
    """A hash of the code that computes votes and of `PACKAGES`."""
    hashes = {name: hashlib.sha256(text).hexdigest() for name, text in code_that_votes().items()}
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except ModuleNotFoundError:
            versions[package] = "absent"
    return key_of(versions, hashes)


def code_that_votes() -> dict[str, bytes]:
    """The modules that compute votes and tell functions apart, and all of this package that they import, by path."""
    root = Path(__file__).parent.parent
    code: dict[Path, bytes] = {}
    waiting = [root / "labeling" / "workers.py", root / "rules" / "identity.py"]
    while waiting:
        file = waiting.pop()
        # Names that are no modules lie nowhere, and what the package itself offers to importers decides no vote.
        if file in code or not file.is_file() or file == root / "__init__.py":
            continue
        code[file] = file.read_bytes()
        for module, names in IMPORTED.findall(code[file].decode()):
            paths = [module.split("."), *([*module.split("."), name] for name in re.findall(r"\w+", names))]
            for path in paths:
                waiting += [root.joinpath(*path, "__init__.py"), root.joinpath(*path).with_suffix(".py")]
    return {file.relative_to(root).as_posix(): text for file, text in code.items()}
