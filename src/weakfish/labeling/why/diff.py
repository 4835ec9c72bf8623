"""Which labels differ from those of a revision, and which function's edit moved each group of them.

Partition by partition, events matched by key; files that are the same to the byte are not looked into.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.errors import TableError
from weakfish.labeling.votes_file import ABSTAIN, FINGERPRINT, Votes, fingerprint, read_votes
from weakfish.labeling.why.causes import Cause, Edits, causes
from weakfish.labeling.why.manifest import Manifest, read_manifest
from weakfish.project import Project
from weakfish.revisions import Revision
from weakfish.tables import open_partition, partitions, read_partition

EXAMPLES = 10
"""How many events of a group are named."""

OLDER = "The labels of {side} have an older form, without the model that made them, so causes cannot be told."
OTHER_CLASSES = "The classes of the task are others than at {side}, so votes cannot be compared and causes not be told."

Change = Literal["flipped", "appeared", "vanished"]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """One side's labels in a partition: keys, and labels as positions in the classes of both sides, or `ABSTAIN`."""

    keys: pa.ChunkedArray
    labels: Positions


@dataclass
class Group:
    """Events whose labels moved alike for the same reason; ``examples`` are the first `EXAMPLES` keys."""

    count: int = 0
    examples: list[Any] = field(default_factory=list)

    def add(self, key: Any) -> None:
        """Count an event."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(key)


Name = tuple[Change, str | None, str | None, Cause | None]


def diff(project: Project, task: str, name: str) -> dict[str, Any]:
    """What `weakfish labels diff --json` prints; docs/why.md has the fields.

    Raises
    ------
    UserError
        When git does not know the revision, or DVC's cache does not hold its labels and votes.
    TableError
        When labels or votes in the work tree are missing or do not fit together.
    """
    return Diff(project, task, Revision(project, name)).run()


class Diff:
    """The labels of a task in the work tree against those of a revision."""

    def __init__(self, project: Project, task: str, revision: Revision) -> None:
        self.project, self.task, self.revision = project, task, revision
        self.old = Manifest.of(revision.json(f"labels/{task}.manifest.json"))
        self.new = read_manifest(project, task)
        self.classes = list(dict.fromkeys([*self.old.classes, *self.new.classes]))
        self.unknown = self._why_unknown()
        self.edits = None if self.unknown else Edits.between(self.old.functions, self.new.functions)
        self.groups: dict[Name, Group] = {}
        self.rows = {"old": 0, "new": 0}

    def run(self) -> dict[str, Any]:
        """Compare all partitions."""
        files = partitions(self.project.table(f"labels/{self.task}"))
        before = self.revision.partitions(f"labels/{self.task}")
        for partition in sorted({*before, *files}):
            self._compare(partition, partition in before, partition in files)
        counts = {
            change: sum(group.count for name, group in self.groups.items() if name[0] == change)
            for change in ("flipped", "appeared", "vanished")
        }
        return {
            "task": self.task,
            "revision": self.revision.name,
            "commit": self.revision.commit,
            "rows": self.rows,
            **counts,
            "functions": asdict(self.edits) if self.edits else None,
            "settings": self._settings(),
            "causes_unknown": self.unknown,
            "groups": [_as_json(name, group) for name, group in sorted(self.groups.items(), key=_order)],
        }

    def _why_unknown(self) -> str | None:
        if not self.old.makers or not self.new.makers:
            return OLDER.format(side="the work tree" if self.old.makers else self.revision.name)
        return None if self.old.classes == self.new.classes else OTHER_CLASSES.format(side=self.revision.name)

    def _settings(self) -> dict[str, list[Any]]:
        """Settings of the label model that differ: old and new value."""
        old, new = self.old.settings["label_model"], self.new.settings["label_model"]
        names = sorted({*old, *new})
        return {name: [old.get(name), new.get(name)] for name in names if old.get(name) != new.get(name)}

    def _compare(self, partition: str, was: bool, is_there: bool) -> None:
        path = f"labels/{self.task}/{partition}.parquet"
        file = self.project.data / path
        held = self.revision.bytes(path) if was else None
        if held and is_there and file.read_bytes() == held:
            number = open_partition(file).metadata.num_rows
            self.rows = {"old": self.rows["old"] + number, "new": self.rows["new"] + number}
            return
        old = self._side(self.revision.parquet(path), self.old) if held else _none()
        new = self._side(read_partition(file), self.new) if is_there else _none()
        self.rows = {"old": self.rows["old"] + len(old.keys), "new": self.rows["new"] + len(new.keys)}
        self._match(partition, old, new)

    def _side(self, labels: pa.Table, manifest: Manifest) -> Side:
        places = np.array([self.classes.index(name) for name in manifest.classes])
        chosen = _chosen(labels, manifest.classes)
        return Side(labels[self.project.params.events.key], np.where(chosen < 0, ABSTAIN, places[chosen]))

    def _match(self, partition: str, old: Side, new: Side) -> None:
        into_new = _positions(old.keys, new.keys)
        both = np.flatnonzero(into_new >= 0)
        moved = both[old.labels[both] != new.labels[into_new[both]]]
        found = self._causes(partition, old, new, moved, into_new[moved]) if len(moved) else []
        for place, cause in zip(moved.tolist(), found, strict=True):
            self._add(old.keys[place], old.labels[place], new.labels[into_new[place]], cause)
        for place in np.flatnonzero((into_new < 0) & (old.labels >= 0)).tolist():
            self._add(old.keys[place], old.labels[place], ABSTAIN, Cause("events"))
        for place in np.flatnonzero((_positions(new.keys, old.keys) < 0) & (new.labels >= 0)).tolist():
            self._add(new.keys[place], ABSTAIN, new.labels[place], Cause("events"))

    def _causes(
        self, partition: str, old: Side, new: Side, rows: Positions, new_rows: Positions
    ) -> Sequence[Cause | None]:
        if self.edits is None:
            return [None] * len(rows)
        before, after = self.old.maker(partition), self.new.maker(partition)
        votes = (
            self._old_votes(partition, before.names, old.keys)[rows],
            self._new_votes(partition, after.names, new.keys)[new_rows],
        )
        return causes(before, after, votes, old.keys.take(pa.array(rows)), new.labels[new_rows], self.edits)

    def _old_votes(self, partition: str, names: Sequence[str], keys: pa.ChunkedArray) -> Votes:
        expected = fingerprint(keys)
        tables = [self.revision.parquet(f"votes/{self.task}/{name}/{partition}.parquet", ["vote"]) for name in names]
        for name, table in zip(names, tables, strict=True):
            if (table.schema.metadata or {}).get(FINGERPRINT, b"").decode() != expected:
                raise TableError(
                    f"At {self.revision.name} the votes of {name} on {partition} are about other events than its "
                    "labels: that run had not come to its end; name another revision."
                )
        return _matrix(table["vote"] for table in tables)

    def _new_votes(self, partition: str, names: Sequence[str], keys: pa.ChunkedArray) -> Votes:
        folder, expected = self.project.table(f"votes/{self.task}"), fingerprint(keys)
        return _matrix(read_votes(folder / name / f"{partition}.parquet", expected) for name in names)

    def _add(self, key: pa.Scalar, old: int, new: int, cause: Cause | None) -> None:
        change: Change = "appeared" if old == ABSTAIN else "vanished" if new == ABSTAIN else "flipped"
        name = (change, self._class(old), self._class(new), cause)
        self.groups.setdefault(name, Group()).add(key.as_py())

    def _class(self, label: int) -> str | None:
        return None if label == ABSTAIN else self.classes[label]


def _chosen(labels: pa.Table, classes: Sequence[str]) -> Positions:
    """The label of each row as a position; the most probable class of a row in the older form, which had none."""
    if "label" in labels.column_names:
        found = pc.fill_null(pc.index_in(labels["label"], value_set=pa.array(classes)), ABSTAIN)
        return np.asarray(found.to_numpy(), np.int64)
    shares = np.stack([labels[f"p_{name}"].to_numpy() for name in classes], axis=1)
    chosen: Positions = np.where(labels["covered"].to_numpy(), shares.argmax(axis=1), ABSTAIN)
    return chosen


def _positions(keys: pa.ChunkedArray, among: pa.ChunkedArray) -> Positions:
    """Where each key stands among others, -1 where it does not."""
    if not len(keys) or not len(among):
        return np.full(len(keys), -1, np.int64)
    found = pc.fill_null(pc.index_in(keys, value_set=among.combine_chunks()), -1)
    return np.asarray(found.to_numpy(), np.int64)


def _matrix(columns: Iterator[pa.Array]) -> Votes:
    return np.stack([pc.fill_null(column, ABSTAIN).to_numpy() for column in columns], axis=1)


def _none() -> Side:
    return Side(pa.chunked_array([], pa.string()), np.zeros(0, np.int64))


def _order(item: tuple[Name, Group]) -> tuple[Any, ...]:
    (change, old, new, cause), group = item
    return change, -group.count, old or "", new or "", cause or Cause("refit")


def _as_json(name: Name, group: Group) -> dict[str, Any]:
    change, old, new, cause = name
    made = {"kind": cause.kind, "functions": list(cause.functions)} if cause else None
    return {"change": change, "from": old, "to": new, "cause": made, "count": group.count, "examples": group.examples}
