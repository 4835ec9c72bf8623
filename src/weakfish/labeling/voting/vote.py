"""The `vote` verb: events through the labeling functions into ``data/votes/<task>/<function>/<partition>.parquet``.

The votes of one function on one partition are a piece. Pieces that were computed before, from equal functions and equal
columns, come from the cache; the others are computed together, a row group at a time.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weakfish.errors import LabelingFunctionError
from weakfish.files import whole_file, whole_folder, write_json
from weakfish.labeling.contents import Contents
from weakfish.labeling.identity import Identity, examine
from weakfish.labeling.load import load_functions, module_of
from weakfish.labeling.votes_file import Faults, read_faults, write_votes
from weakfish.labeling.voting.cache import Pieces, piece_key
from weakfish.labeling.voting.workers import Outcome, Unit, joined, run
from weakfish.project import Project
from weakfish.runs import Progress, write_ledger
from weakfish.tables import open_partition, partitions, schema_of

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


def vote(project: Project) -> None:
    """Apply the labeling functions of every task to ``data/events``.

    Says on stdout how much was computed. ``reports/votes.json`` has what functions failed with.

    Raises
    ------
    LabelingFunctionError
        When a function cannot be computed, raises on more rows than ``tasks.<task>.max_faults``, or returns what is not
        a vote; names the function and rows.
    """
    events = partitions(project.table("events"))
    contents, pieces = Contents(project), Pieces(project)
    faults: dict[str, dict[str, Faults]] = {}
    with whole_folder(project.data / "votes") as folder:
        for task in project.params.tasks:
            wanted, missing = _pieces(project, task, events, contents, pieces)
            contents.save(list(events.values()))
            _compute(project, task, missing)
            print(_summary(task, wanted, missing))
            faults[task] = _faults(wanted)
            _report(project, faults)
            _check(project, task, faults[task])
            write_json(folder / f"{task}.manifest.json", manifest(project, task, wanted))
            for piece in wanted:
                file = folder / task / piece.function / piece.events.name
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(piece.cached, file)
    pieces.bound(project.params.votes.max_cache_megabytes)
    rows = sum(open_partition(file).metadata.num_rows for file in events.values())
    write_ledger(project, "vote", rows_in=rows, rows_out=rows)


def _pieces(
    project: Project, task: str, events: dict[str, Path], contents: Contents, cache: Pieces
) -> tuple[list[Piece], list[Piece]]:
    """All pieces of a task, and those that have to be computed."""
    schema = schema_of(project.table("events"))
    identities = {function.name: examine(function, project, schema) for function in load_functions(project, task)}
    classes, key = len(project.task(task).classes), project.params.events.key
    columns = sorted({name for identity in identities.values() for name in identity.columns} | {key})
    with ThreadPoolExecutor(READING) as pool:  # hashing and reading leave the interpreter to others
        list(pool.map(lambda file: (contents.of(file, columns), contents.keys(file, key)), events.values()))
    wanted = []
    for partition, file in events.items():
        keys = contents.keys(file, key)
        for name, identity in identities.items():
            held = piece_key(identity.digest, _read(contents, file, identity, key), keys, classes)
            wanted.append(Piece(name, partition, file, keys, identity.digest, cache.file(held)))
    with ThreadPoolExecutor(READING) as pool:
        there = pool.map(
            lambda piece: identities[piece.function].certain and cache.holds(piece.cached, piece.keys), wanted
        )
        return wanted, [piece for piece, is_there in zip(wanted, there, strict=True) if not is_there]


def _read(contents: Contents, file: Path, identity: Identity, key: str) -> list[str]:
    return contents.of(file, identity.columns or [key])


def _compute(project: Project, task: str, missing: Sequence[Piece]) -> None:
    """Compute pieces and put each into the cache as soon as it is whole."""
    by_file: dict[Path, list[Piece]] = defaultdict(list)
    for piece in missing:
        by_file[piece.events].append(piece)
    units, groups = [], {}
    for file, pieces in by_file.items():
        groups[file] = open_partition(file).metadata.num_row_groups
        names = tuple(piece.function for piece in pieces)
        units += [Unit(task, file, group, names) for group in range(groups[file])]
    progress = Progress(f"vote: votes of {task}", sum(map(_votes, units)))
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


def _summary(task: str, wanted: Sequence[Piece], missing: Sequence[Piece]) -> str:
    """How much of the work was done: ``1 of 20 labeling functions, 18 of 18 partitions: 18 of 360 pieces computed``."""

    def of(attribute: str) -> str:
        some, every = ({getattr(piece, attribute) for piece in pieces} for pieces in (missing, wanted))
        return f"{len(some)} of {len(every)}"

    functions, parts = of("function"), of("partition")
    return (
        f"{task}: {functions} labeling functions, {parts} partitions: {len(missing)} of {len(wanted)} pieces computed."
    )


def manifest(project: Project, task: str, wanted: Sequence[Piece]) -> dict[str, Any]:
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


def _check(project: Project, task: str, faults: dict[str, Faults]) -> None:
    allowed = project.task(task).max_faults
    modules = {function.name: function._f.__module__ for function in load_functions(project, task)}
    over = [
        f"{name!r} ({modules[name]}) raised {found.exception.rstrip('.')} on {_rows(found)}"
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
