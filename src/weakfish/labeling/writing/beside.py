"""What a sample is compared with: the votes of the other functions, and gold labels of the dev part alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.errors import TableError
from weakfish.files import read_json
from weakfish.gold import GOLD_LABEL, folder
from weakfish.labeling.contents import Contents
from weakfish.labeling.matrix import votes_of
from weakfish.labeling.votes_file import Votes
from weakfish.labeling.writing.figures import UNKNOWN, Ints
from weakfish.labeling.writing.sample import Places
from weakfish.project import Project
from weakfish.tables import read_table


@dataclass(frozen=True)
class Others:
    """Votes that lie in ``data/votes``, on the rows of a sample.

    Attributes
    ----------
    names : list of str
    votes : numpy.ndarray, int8, (rows, functions)
        -1 abstains, as does a function that failed.
    own : numpy.ndarray, int8, (rows,), or None
        Those of the function of the same name as the one tried, which is not among the others.
    """

    names: list[str]
    votes: Votes
    own: Votes | None


def others_votes(project: Project, task: str, places: Mapping[str, Places], tried: str) -> Others:
    """The votes of all functions that voted last but the one ``tried``.

    Raises
    ------
    TableError
        When there are no votes, or they are about other events.
    """
    manifest = project.table("votes") / f"{task}.manifest.json"
    if not manifest.is_file():
        raise TableError(f"There are no votes in data/votes/{task}; run `dvc repro vote`, which makes them.")
    names, contents, key = list(read_json(manifest)["functions"]), Contents(project), project.params.events.key
    parts = [np.empty((0, len(names)), np.int8)]
    for partition, chosen in places.items():
        found = votes_of(project, task, names, partition)
        file = project.table("events") / f"{partition}.parquet"
        if found.fingerprint != contents.keys(file, key):
            raise TableError(
                f"Votes in data/votes/{task} are on other events than those of data/events/{file.name}; "
                "run `dvc repro vote`."
            )
        parts.append(found.votes[chosen])
    votes = np.concatenate(parts)
    others = [column for column, name in enumerate(names) if name != tried]
    own = votes[:, names.index(tried)] if tried in names else None
    return Others([names[column] for column in others], votes[:, others], own)


class DevGold:
    """The gold labels of a task's dev part, read once; those of the test part are for `evaluate` alone.

    Raises
    ------
    TableError
        When the table is cut off.
    """

    def __init__(self, project: Project, task: str) -> None:
        dev, key = folder(project, task, "dev"), project.params.events.key
        self._keys, self._labels, self._known = pd.Index([]), np.empty(0, np.int64), np.empty(0, np.bool_)
        if not any(dev.glob("*.parquet")):
            return
        gold = read_table(dev, [key, GOLD_LABEL])
        places = pc.index_in(gold[GOLD_LABEL], pa.array(project.task(task).classes))
        keys = pd.Index(gold[key].to_pandas())
        first = ~keys.duplicated()
        self._keys, self._known = keys[first], pc.is_valid(gold[GOLD_LABEL]).to_numpy()[first]
        self._labels = pc.fill_null(places, UNKNOWN).to_numpy().astype(np.int64)[first]

    def of(self, keys: pa.ChunkedArray) -> tuple[Ints, int]:
        """The label of each key as a position in the task's classes, and on how many it is none of these."""
        if not len(self._keys):
            return np.full(len(keys), UNKNOWN), 0
        places = self._keys.get_indexer(pd.Index(keys.to_pandas()))
        found: Ints = np.where(places < 0, UNKNOWN, self._labels[places])
        return found, int(((found == UNKNOWN) & (places >= 0) & self._known[places]).sum())
