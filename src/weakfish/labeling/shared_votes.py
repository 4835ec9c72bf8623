"""Votes that another machine computed: taken from the votes files in storage, so that they are not computed again.

Beside the objects the storage has, for the votes of a task on a partition, a note of which object holds them and by
which keys of the cache its columns go. A note is no more than an advice: whoever writes last wins, and one that is
gone costs the time to compute votes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weakfish.contracts.pointers import Pointer, fetched, pointer_of
from weakfish.contracts.record import parse
from weakfish.contracts.storage import AT_ONCE, NOTES, Storage, storage_of
from weakfish.contracts.votes_file import Faults, read_votes, votes_file, write_piece
from weakfish.errors import StorageError, TableError
from weakfish.files import whole_file
from weakfish.project.cache import key_of
from weakfish.project.paths import Project

_writing = threading.Lock()
"""Of several tasks a function has one piece."""


@dataclass(frozen=True)
class PartitionVotes:
    """The votes of a task on a partition: whose events have this fingerprint of keys, and the piece of each function.

    ``pieces`` are files of the cache, named by what their votes depend on; ``version`` is that of the engine.
    """

    task: str
    partition: str
    keys: str
    version: str
    pieces: Mapping[str, Path]

    @property
    def note(self) -> str:
        """The path of the note about them."""
        return f"{NOTES}/{key_of(self.task, self.keys, self.version)}"


@dataclass(frozen=True)
class Note:
    """Which object holds votes, and the key of each column's piece."""

    votes: Pointer
    columns: Mapping[str, str]


def bring(project: Project, wanted: Sequence[PartitionVotes]) -> None:
    """Put into the cache what it lacks and the storage has."""
    lacking = [each for each in wanted if not all(piece.exists() for piece in each.pieces.values())]
    if lacking and (storage := storage_of(project.root)):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda each: _bring(project, storage, each), lacking))


def _bring(project: Project, storage: Storage, wanted: PartitionVotes) -> None:
    content = storage.get(wanted.note)
    if content is None:
        return
    try:
        note = parse(Note, json.loads(content), f"{storage.uri}/{wanted.note}")
        missing = {name: piece for name, piece in wanted.pieces.items() if not piece.exists()}
        names = [name for name, piece in missing.items() if note.columns.get(name) == piece.name]
        if not names:
            return
        votes = read_votes(fetched(project.root, note.votes, f"{wanted.partition}.parquet"), names, wanted.keys)
    except (StorageError, TableError, ValueError):  # a note that is damaged, or about what is gone
        return
    for name in names:
        if not votes[name].null_count:  # what a function failed with is not in the file
            with _writing, whole_file(missing[name]) as part:
                write_piece(part, votes[name].to_numpy(), wanted.keys, Faults())


def tell(project: Project, made: Sequence[PartitionVotes]) -> None:
    """Leave notes about the votes that lie in the storage now."""
    if storage := storage_of(project.root):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda each: _tell(project, storage, each), made))


def _tell(project: Project, storage: Storage, made: PartitionVotes) -> None:
    pointer = pointer_of(votes_file(project, made.task, made.partition))
    if pointer is None:
        return
    columns = {name: piece.name for name, piece in made.pieces.items()}
    said: Any = asdict(Note(pointer, columns))
    content = json.dumps(said, sort_keys=True).encode()
    if storage.get(made.note) != content:
        storage.put(made.note, content)
