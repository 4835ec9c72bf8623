"""Why events have their labels: what each vote adds to one, and which edit moved those that differ from a revision's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.tables import open_partition, partitions, read_partition
from weakfish.contracts.votes_file import ABSTAIN, FINGERPRINT, Votes, fingerprint, read_votes
from weakfish.errors import TableError, UserError
from weakfish.labeling.choice import MAJORITY, Maker, Manifest, read_manifest
from weakfish.labeling.label_model import FittedModel
from weakfish.project.dvc import Revision
from weakfish.project.paths import Project

TOLERANCE = 1e-12
"""How far what the parts add up to may be from the stored probability."""

LogOdds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """An event's row among the labels of a task: its partition, position and values, and the partition's keys."""

    partition: str
    position: int
    row: dict[str, Any]
    keys: pa.ChunkedArray


def explain(project: Project, task: str, key: str) -> dict[str, Any]:
    """Why the event ``key`` has its label, as `weakfish explain --json` prints it; docs/why.md has the fields.

    Raises
    ------
    UserError
        When no event has this key.
    TableError
        When labels or votes are missing, or the labels are not those that the votes and the model make.
    """
    manifest = read_manifest(project, task)
    if not manifest.makers:
        raise TableError(
            f"The labels of {task} have an older form, without the model that made them; run `dvc repro label`."
        )
    found = find(project, task, key)
    maker = manifest.maker(found.partition)
    votes, failed = _votes(project, task, maker, found)
    stored = np.array([found.row[f"p_{name}"] for name in manifest.classes])
    computed = maker.probabilities(votes[None])[0]
    odds = None if maker.method == MAJORITY else log_odds(maker.model, votes)
    made = computed if odds is None else from_log_odds(odds)
    if np.abs(made - stored).max() > TOLERANCE:
        raise TableError(
            f"The probabilities of {key!r} in data/labels/{task} are not those that data/votes and the manifest make; "
            "run `dvc repro label`."
        )
    return _account(project, task, manifest, maker, found) | _evidence(manifest, maker, votes, failed, odds, stored)


def find(project: Project, task: str, key: str) -> Found:
    """The row of ``key`` among the labels of a task, reading only keys until it is found; raises `UserError`."""
    column, example = project.params.events.key, ""
    for partition, file in partitions(project.table(f"labels/{task}")).items():
        keys = read_partition(file, [column])[column]
        position = _position(keys, key)
        if position >= 0:
            row = read_partition(file).slice(position, 1).to_pylist()[0]
            return Found(partition, position, row, keys)
        example = example or str(keys[0] if len(keys) else "")
    raise UserError(
        f"There is no event {key!r} in data/labels/{task}; its column {column} has for example {example!r}."
    )


def log_odds(model: FittedModel, votes: Votes) -> LogOdds:
    """What the class balance and each vote (functions,) add to the log odds, (1 + functions, classes).

    Of each class against the first, so column 0 is zero; the class balance is row 0; an abstain adds nothing, as in
    Snorkel's ``predict_proba``. Logarithms are of Snorkel's float32 estimates, which it holds within [eps, 1 - eps].
    """
    nothing = np.zeros(len(model.class_balance))
    added = [log[vote] if vote >= 0 else nothing for log, vote in zip(model.logs, votes, strict=True)]
    parts = np.stack([np.log(model.class_balance), *added])
    against_first: LogOdds = parts - parts[:, :1]
    return against_first


def from_log_odds(parts: LogOdds) -> LogOdds:
    """The probability of each class that parts (parts, classes) add up to."""
    total = parts.sum(axis=0)
    weights = np.exp(total - total.max())
    shares: LogOdds = weights / weights.sum()
    return shares


def _position(keys: pa.ChunkedArray, key: str) -> int:
    try:
        return int(pc.index(keys, pa.scalar(key).cast(keys.type)).as_py())
    except pa.ArrowInvalid:  # the key is no value of this type
        return -1


def _votes(project: Project, task: str, maker: Maker, found: Found) -> tuple[Votes, list[bool]]:
    expected = fingerprint(found.keys)
    folder = project.table(f"votes/{task}")
    read = [
        read_votes(folder / name / f"{found.partition}.parquet", expected)[found.position].as_py()
        for name in maker.names
    ]
    votes: Votes = np.array([ABSTAIN if vote is None else vote for vote in read], np.int8)
    return votes, [vote is None for vote in read]


def _account(project: Project, task: str, manifest: Manifest, maker: Maker, found: Found) -> dict[str, Any]:
    """Which event it is, what its label is, and which data, settings and model made it."""
    time, row = found.row[project.params.events.time], found.row
    return {
        "task": task,
        "key": row[project.params.events.key],
        "time": time.isoformat() if time is not None else None,
        "label": row["label"],
        "covered": row["covered"],
        "method": maker.method,
        "why": manifest.why,
        "events": {"partition": found.partition, "sha256": manifest.events[found.partition]},
        "model": {"fitted_through": maker.model.fitted_through, "rows": maker.model.rows},
        "settings": manifest.settings,
        "versions": manifest.versions,
    }


def _evidence(
    manifest: Manifest, maker: Maker, votes: Votes, failed: list[bool], odds: LogOdds | None, stored: LogOdds
) -> dict[str, Any]:
    """The votes and what each of them adds."""
    classes, bound = manifest.classes, maker.model.at_bound()
    counts = Counter(classes[vote] for vote in votes if vote != ABSTAIN)

    def added(part: int) -> dict[str, float] | None:
        return None if odds is None else dict(zip(classes[1:], map(float, odds[part, 1:]), strict=True))

    functions = [
        {
            "name": name,
            "vote": None if vote == ABSTAIN else classes[vote],
            "failed": failed[place],
            "log_odds": added(place + 1),
            "at_bound": bool(odds is not None and vote != ABSTAIN and bound[place, vote]),
            **manifest.functions[name],
        }
        for place, (name, vote) in enumerate(zip(maker.names, votes, strict=True))
    ]
    return {
        "classes": classes,
        "probabilities": dict(zip(classes, map(float, stored), strict=True)),
        "votes": {name: counts[name] for name in classes},
        "class_balance": dict(zip(classes, map(float, maker.model.class_balance), strict=True)),
        "prior": added(0),
        "functions": functions,
    }


Labels = npt.NDArray[np.int64]
Kind = Literal["function", "any", "events", "several", "refit"]


@dataclass(frozen=True, order=True)
class Cause:
    """Why labels moved: the kind, and the functions of which one (``function``) or each (``any``) explains it alone."""

    kind: Kind
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edits:
    """How the functions of two manifests differ, each list in alphabetical order."""

    changed: list[str]
    added: list[str]
    removed: list[str]

    @staticmethod
    def between(old: dict[str, dict[str, str]], new: dict[str, dict[str, str]]) -> Edits:
        """The edits from one manifest's functions to another's: same name and other identity means changed."""
        changed = [name for name in sorted(old) if name in new and old[name]["identity"] != new[name]["identity"]]
        return Edits(changed, sorted(set(new) - set(old)), sorted(set(old) - set(new)))


def causes(
    old: Maker, new: Maker, votes: tuple[Votes, Votes], keys: pa.ChunkedArray, labels: Labels, edits: Edits
) -> list[Cause]:
    """The cause of each row's new label.

    Parameters
    ----------
    old, new
        What made the labels before and after.
    votes
        Old and new votes on the rows, (rows, functions of ``old``) and (rows, functions of ``new``).
    keys
        The rows' keys, which decide ties.
    labels
        The new labels, positions or `ABSTAIN`.
    """
    maker, before, after = _side_by_side(old, new, votes, edits.added)

    def gives(names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Where the new votes of ``names`` among the old votes of the others give the new label."""
        mixed = before.copy()
        columns = [maker.names.index(name) for name in names]
        mixed[:, columns] = after[:, columns]
        found: npt.NDArray[np.bool_] = maker.labels(mixed, keys) == labels
        return found

    edited = [*edits.changed, *edits.added, *edits.removed]
    others = [name for name in maker.names if name not in edited]
    alone = {name: gives([name]) for name in sorted(edited)}
    return _judge(alone, gives(others), gives(edited) | gives(maker.names), len(labels))


def _side_by_side(
    old: Maker, new: Maker, votes: tuple[Votes, Votes], added: Sequence[str]
) -> tuple[Maker, Votes, Votes]:
    """The old maker that also knows the added functions, and both sides' votes in the order of its functions."""
    classes = len(old.model.class_balance)
    blocks = new.model.mu.reshape(-1, classes, classes)
    mu = [old.model.mu, *(blocks[new.names.index(name)] for name in added)]
    maker = replace(old, model=replace(old.model, mu=np.concatenate(mu)), names=[*old.names, *added])
    before = np.full((len(votes[0]), len(maker.names)), ABSTAIN, np.int8)
    before[:, : len(old.names)] = votes[0]
    after = np.full_like(before, ABSTAIN)
    for place, name in enumerate(maker.names):
        if name in new.names:
            after[:, place] = votes[1][:, new.names.index(name)]
    return maker, before, after


def _judge(
    alone: dict[str, npt.NDArray[np.bool_]],
    by_events: npt.NDArray[np.bool_],
    together: npt.NDArray[np.bool_],
    rows: int,
) -> list[Cause]:
    found = []
    for row in range(rows):
        names = tuple(name for name, holds in alone.items() if holds[row])
        if names:
            found.append(Cause("function" if len(names) == 1 else "any", names))
        elif by_events[row]:
            found.append(Cause("events"))
        else:
            found.append(Cause("several" if together[row] else "refit"))
    return found


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
class MovedLabels:
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
        self.groups: dict[Name, MovedLabels] = {}
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
        self.groups.setdefault(name, MovedLabels()).add(key.as_py())

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


def _order(item: tuple[Name, MovedLabels]) -> tuple[Any, ...]:
    (change, old, new, cause), group = item
    return change, -group.count, old or "", new or "", cause or Cause("refit")


def _as_json(name: Name, group: MovedLabels) -> dict[str, Any]:
    change, old, new, cause = name
    made = {"kind": cause.kind, "functions": list(cause.functions)} if cause else None
    return {"change": change, "from": old, "to": new, "cause": made, "count": group.count, "examples": group.examples}
