"""The `vote` verb: events through the labeling functions into ``data/votes/<task>/<function>/<partition>.parquet``.

The votes of one function on one partition are a piece. Pieces that were computed before, from equal functions and equal
columns, come from the cache; the others, whichever tasks they are for, are computed together, a row group at a time.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from weakfish.errors import LabelingFunctionError
from weakfish.files import whole_file, whole_folder, write_json
from weakfish.labeling.contents import Contents
from weakfish.labeling.load import Voter, load_functions, load_voters, module_of
from weakfish.labeling.votes_file import Faults, read_faults, write_votes
from weakfish.labeling.voting.cache import Pieces
from weakfish.labeling.voting.pieces import Piece, Wanted, wanted_pieces
from weakfish.labeling.voting.workers import Outcome, Unit, joined, run
from weakfish.project import Project
from weakfish.runs import Progress, write_ledger
from weakfish.tables import open_partition, partitions


def vote(project: Project) -> None:
    """Apply the labeling functions of every task to ``data/events``, each function once.

    Says on stdout how much was computed. ``reports/votes.json`` has what functions failed with.

    Raises
    ------
    LabelingFunctionError
        When a function cannot be computed, raises on more rows than ``tasks.<task>.max_faults``, or returns what is not
        a vote; names the function and rows.
    """
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
