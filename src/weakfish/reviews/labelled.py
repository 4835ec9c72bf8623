"""Today's labels as reviews need them, row by row: keys, classes, how sure each label is, votes, and what is known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.gold import UNKNOWN, Ints
from weakfish.contracts.hashes import hashes_of
from weakfish.contracts.manifests import manifest_file
from weakfish.contracts.pointers import listed
from weakfish.contracts.tables import folder, open_partition, partitions, read_partition, schema_of
from weakfish.contracts.votes_file import Votes
from weakfish.files import sha256
from weakfish.labeling.matrix import rows_at, votes_of
from weakfish.project.paths import Project
from weakfish.reviews.sides import is_dev
from weakfish.rules.loading import load_functions

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

DIGITS = 12
"""Of a version's SHA-256, which answers name."""


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Rows are events, in the order of ``data/labels``.

    Attributes
    ----------
    keys : pyarrow.ChunkedArray, text
    labels : numpy.ndarray, int64, (rows,)
        Positions in the task's classes, `UNKNOWN` of undecided rows.
    shares : numpy.ndarray, float64, (rows, classes)
        The probabilities of the classes.
    is_known : numpy.ndarray, bool, (rows,)
        Whether the class of a row is evidence.
    partitions : list of str
    sizes : list of int
        The partitions of the rows, in order, and how many rows each has.
    """

    project: Project
    task: str
    keys: pa.ChunkedArray
    labels: Ints
    shares: Floats
    is_known: Bools
    partitions: Sequence[str]
    sizes: Sequence[int]

    @property
    def certainty(self) -> Floats:
        """The probability of each label."""
        found: Floats = self.shares.max(axis=1)
        return found

    @cached_property
    def is_dev(self) -> Bools:
        """Which rows are on the dev side of reviews."""
        return is_dev(self.keys)

    @cached_property
    def codes(self) -> Ints:
        """The partition of each row, by its place among them."""
        return np.repeat(np.arange(len(self.partitions)), self.sizes)

    @cached_property
    def functions(self) -> list[str]:
        """The labeling functions, in the order of votes."""
        return [function.name for function in load_functions(self.project, self.task)]

    @cached_property
    def votes(self) -> Votes:
        """The votes (rows, functions)."""
        parts = [votes_of(self.project, self.task, self.functions, name) for name in self.partitions]
        return np.concatenate([each.votes for each in parts])

    def places(self, keys: Sequence[str]) -> Ints:
        """Where each key stands, `UNKNOWN` of those that no row has; a key is looked for once."""
        if new := sorted(set(keys) - self._found.keys()):
            among = pc.index_in(self.keys, pa.array(new, pa.string()))
            rows = np.flatnonzero(among.is_valid().to_numpy())
            self._found.update(dict.fromkeys(new, UNKNOWN))
            self._found.update(zip((new[each] for each in among.take(rows).to_pylist()), rows.tolist(), strict=True))
        return np.array([self._found[key] for key in keys], np.int64)

    def events(self, places: Ints) -> dict[int, dict[str, str | None]]:
        """All columns of the events at places, as text, by place; no more of a partition is read than holds them."""
        files, found = partitions(self.project.table("events")), dict[int, dict[str, str | None]]()
        starts = [0, *accumulate(self.sizes)]
        for code in np.unique(self.codes[places]):
            file = files[self.partitions[code]]
            here = np.unique(places[self.codes[places] == code])
            names = open_partition(file).schema_arrow.names
            rows = (row for table in rows_at(file, names, here - starts[code]) for row in table.to_pylist())
            for place, row in zip(here.tolist(), rows, strict=True):
                found[place] = {name: None if value is None else str(value) for name, value in row.items()}
        return found

    @cached_property
    def _found(self) -> dict[str, int]:
        return {}

    @cached_property
    def is_tested(self) -> Bools:
        """Which rows have test gold, so that nothing may learn of them."""
        key = self.project.params.events.key
        files = listed(folder(self.project, self.task, "test"))
        chunks = [chunk for file in files for chunk in read_partition(file, [key])[key].cast(pa.string()).chunks]
        found: Bools = pc.is_in(self.keys, pa.concat_arrays([_NONE, *chunks])).to_numpy()
        return found


_NONE = pa.array([], pa.string())


def read_labelled(project: Project, task: str) -> LabelledRows:
    """Read the labels of a task; raises `TableError` when they are missing or cut off."""
    table, key, classes = project.table(f"labels/{task}"), project.params.events.key, project.task(task).classes
    known = ["known"] if "known" in schema_of(table).names else []
    files = partitions(table)
    keys: list[pa.Array] = []
    labels, shares, is_known, sizes = list[Ints](), list[Floats](), list[Bools](), list[int]()
    for file in files.values():
        rows = read_partition(file, [key, "label", *(f"p_{name}" for name in classes), *known])
        keys += rows[key].cast(pa.string()).chunks
        places = pc.fill_null(pc.index_in(rows["label"], pa.array(classes)), UNKNOWN)
        labels.append(places.to_numpy().astype(np.int64))
        shares.append(np.stack([rows[f"p_{name}"].to_numpy() for name in classes], axis=1))
        is_known.append(rows["known"].is_valid().to_numpy() if known else np.zeros(rows.num_rows, bool))
        sizes.append(rows.num_rows)
    return LabelledRows(
        project,
        task,
        pa.chunked_array(keys, pa.string()),
        np.concatenate(labels),
        np.concatenate(shares),
        np.concatenate(is_known),
        list(files),
        sizes,
    )


def versions(project: Project, task: str) -> dict[str, str]:
    """The versions of what is shown: of the labels and of the events, the first digits of SHA-256."""
    labels = sha256(manifest_file(project, f"labels/{task}"))
    events = "".join(hashes_of(partitions(project.table("events"))).values())
    return {"labels": labels[:DIGITS], "events": hashlib.sha256(events.encode()).hexdigest()[:DIGITS]}
