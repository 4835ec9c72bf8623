"""Pieces of votes: functions and events come in, the pieces of each task leave, and which of them are not in the cache.

A piece is what one function says of one partition. A function that votes in several tasks says the same in each, so
they share its pieces.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from weakfish.labeling.contents import Contents
from weakfish.labeling.identity import Identity, examine
from weakfish.labeling.load import Voter, load_functions
from weakfish.labeling.voting.cache import Pieces, piece_key
from weakfish.project import Project
from weakfish.tables import schema_of

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
