"""Which labels differ between two versions of a project, and which edit moved them.

Reads labels, their manifests and votes; computes nothing that is not in them but embeddings of texts, for which alone
it imports torch.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.hashes import hashes_of
from weakfish.contracts.manifests import LabelsManifest, Made, read_manifest
from weakfish.contracts.pointers import exists, listed
from weakfish.contracts.tables import (
    GOLD_LABEL,
    by_period,
    partitions,
    read_partition,
    read_table,
    row_count,
    schema_of,
)
from weakfish.contracts.votes_file import (
    ABSTAIN,
    VOTE_COLUMN,
    Votes,
    about_others,
    fingerprint,
    print_of,
    read_votes,
    votes_file,
)
from weakfish.errors import TableError
from weakfish.labeling.choice import Maker, maker_of, makers_of
from weakfish.labeling.reading import added, columns_of, read_rows, reader_of
from weakfish.labeling.row_reader import RowReader
from weakfish.labeling.row_texts import Texts
from weakfish.project.laid_out import ProjectVersion, laid_out, work_tree
from weakfish.project.params import LabelModelParams
from weakfish.project.paths import Project

LogOdds = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, order=True)
class Cause:
    """Why labels moved: the kind, and the functions of which one (``function``) or each (``any``) explains it alone."""

    kind: Literal["function", "any", "events", "reviews", "known", "reader", "several", "refit"]
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edits:
    """How the functions of two manifests differ, each list in alphabetical order."""

    changed: list[str]
    added: list[str]
    removed: list[str]

    @staticmethod
    def between(old: Mapping[str, Made], new: Mapping[str, Made]) -> Edits:
        """The edits from one manifest's functions to another's: same name and other identity means changed."""
        changed = [name for name in sorted(old) if name in new and old[name].identity != new[name].identity]
        return Edits(changed, sorted(set(new) - set(old)), sorted(set(old) - set(new)))


Said = tuple[LogOdds, npt.NDArray[np.bool_]] | None
"""What a reader adds to the logarithms of rows (rows, classes), and of which rows it knows anything; None without."""


def causes(
    old: Maker,
    new: Maker,
    votes: tuple[Votes, Votes],
    keys: pa.ChunkedArray,
    labels: Positions,
    edits: Edits,
    said: tuple[Said, Said] = (None, None),
) -> list[Cause]:
    """The cause of each row's new label: the old votes with one function's column replaced, labelled by the old model.

    A function whose new votes alone give the new label is its cause. An added function brings the estimates that the
    new model has of it, since the old one has none; a removed one abstains. Votes that changed though their function
    did not are the events' doing, as is what the old reader makes of new events. What the new reader gives by the old
    votes is the reader's. What only the edits together give, or edits and events, is "several"; the rest is the
    "refit".

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
    said
        What the old reader says of the rows as they are now, and the new one.
    """
    model = old.model.extended(new.model, [new.names.index(name) for name in edits.added])
    maker = replace(old, model=model, names=[*old.names, *edits.added])
    before = np.full((len(labels), len(maker.names)), ABSTAIN, np.int8)
    before[:, : len(old.names)] = votes[0]
    after = np.full_like(before, ABSTAIN)
    for place, name in enumerate(maker.names):
        if name in new.names:
            after[:, place] = votes[1][:, new.names.index(name)]

    def gives(names: Sequence[str], said: Said = said[0]) -> npt.NDArray[np.bool_]:
        """Where the new votes of ``names`` among the old votes of the others, and a reader, give the new label."""
        mixed = before.copy()
        columns = [maker.names.index(name) for name in names]
        mixed[:, columns] = after[:, columns]
        found: npt.NDArray[np.bool_] = maker.labels(mixed, keys, said) == labels
        return found

    edited = [*edits.changed, *edits.added, *edits.removed]
    alone = {name: gives([name]) for name in sorted(edited)}
    by_events = gives([name for name in maker.names if name not in edited])
    by_reader = gives([], said[1])
    together = gives(edited) | gives(maker.names) | gives(maker.names, said[1])
    found = []
    for row in range(len(labels)):
        names = tuple(name for name, holds in alone.items() if holds[row])
        if names:
            found.append(Cause("function" if len(names) == 1 else "any", names))
        else:
            kinds: dict[Any, Any] = {"events": by_events, "reader": by_reader, "several": together}
            found.append(Cause(next((kind for kind, holds in kinds.items() if holds[row]), "refit")))
    return found


EXAMPLES = 10
"""How many events of a group are named."""

OLDER = "The labels of {side} are in an older format that does not name the model, so the causes are not known."
OTHER_CLASSES = "The task has other classes than at {side}, so votes cannot be compared and the causes are not known."

WANTED = ("data/labels", "data/votes", "data/reviews/dev")
"""The outs of a revision that tell what moved its labels."""

Moved = Literal["flipped", "appeared", "vanished"]
Group = tuple[Moved, str | None, str | None, Cause | None]
"""Events whose labels moved alike for the same reason: from which class, to which, and why."""


def diff(project: Project, task: str, name: str) -> dict[str, Any]:
    """What `weakfish labels diff --json` prints; docs/why.md has the fields.

    Raises
    ------
    UserError
        When git does not know the revision, or DVC's cache does not hold its labels and votes.
    TableError
        When labels or votes in the work tree are missing or do not fit together.
    """
    with laid_out(project, name, WANTED) as version:
        return _Flips(version, work_tree(project), task).run()


def flips(old: ProjectVersion, new: ProjectVersion, task: str) -> dict[str, Any]:
    """The labels of a task in one version of a project against those in an earlier one, as `diff` returns them.

    Beside that ``classes`` of both, and ``rewritten``: partitions whose bytes differ, for a label or a probability.
    """
    found = _Flips(old, new, task)
    return {**found.run(), "classes": found.classes, "rewritten": found.rewritten}


@dataclass(frozen=True)
class _Side:
    """One side's labels in parts of a period: keys, and labels as positions in the classes of both sides, or `ABSTAIN`.

    ``known`` are those of them that are known, and ``sizes`` the rows of each part.
    """

    keys: pa.ChunkedArray
    labels: Positions
    known: Positions
    sizes: Mapping[str, int]

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Where each part begins among the rows of all, and ends."""
        ends = list(accumulate(self.sizes.values(), initial=0))
        return dict(zip(self.sizes, pairwise(ends), strict=True))


class _Flips:
    """The labels of a task in two versions of a project."""

    def __init__(self, before: ProjectVersion, now: ProjectVersion, task: str) -> None:
        self.before, self.now, self.task = before, now, task
        self.old, self.new = (read_manifest(side.project, LabelsManifest, f"labels/{task}") for side in (before, now))
        self.classes = list(dict.fromkeys([*self.old.classes, *self.new.classes]))
        self.unknown: str | None = None
        if not makers_of(self.old) or not makers_of(self.new):
            self.unknown = OLDER.format(side=now.name if makers_of(self.old) else before.name)
        elif self.old.classes != self.new.classes:
            self.unknown = OTHER_CLASSES.format(side=before.name)
        self.edits = None if self.unknown else Edits.between(self.old.functions, self.new.functions)
        self.readers: dict[str, RowReader] = {}
        self.counts, self.examples = Counter[Group](), defaultdict[Group, list[Any]](list)
        self.rows, self.rewritten = {"old": 0, "new": 0}, list[str]()
        self.key = now.project.params.events.key

    def run(self) -> dict[str, Any]:
        """Compare all partitions."""
        was, are = (
            by_period(partitions(side.project.table(f"labels/{self.task}"))) for side in (self.before, self.now)
        )
        for period in sorted({*was, *are}):
            self._compare(was.get(period, []), are.get(period, []))
        usual = LabelModelParams().model_dump(mode="json")  # settings that an earlier version did not have
        old, new = (usual | side.settings["label_model"] for side in (self.old, self.new))
        moved = Counter[str]()
        for (change, *_), count in self.counts.items():
            moved[change] += count
        return {
            "task": self.task,
            "revision": self.before.name,
            "commit": self.before.commit,
            "rows": self.rows,
            **{change: moved[change] for change in ("flipped", "appeared", "vanished")},
            "functions": asdict(self.edits) if self.edits else None,
            "settings": {
                name: [old.get(name), new.get(name)] for name in sorted({*old, *new}) if old.get(name) != new.get(name)
            },
            "known": [dict(self.old.known), dict(self.new.known)],
            "causes_unknown": self.unknown,
            "groups": [
                {
                    "change": group[0],
                    "from": group[1],
                    "to": group[2],
                    "cause": group[3] and {"kind": group[3].kind, "functions": list(group[3].functions)},
                    "count": self.counts[group],
                    "examples": self.examples[group],
                }
                for group in sorted(self.counts, key=self._order)
            ],
        }

    def _order(self, group: Group) -> tuple[Any, ...]:
        change, old, new, cause = group
        return change, -self.counts[group], old or "", new or "", cause or Cause("refit")

    def _compare(self, was: Sequence[Path], now: Sequence[Path]) -> None:
        """Compare the parts of a period, between which rows may have moved; what is the same on both sides counts."""
        before, after = (hashes_of({file.stem: file for file in files}) for files in (was, now))
        same = {part for part, found in after.items() if before.get(part) == found}
        self.rewritten += sorted({*before, *after} - same)
        number = sum(row_count(file) for file in now if file.stem in same)
        self.rows = {side: count + number for side, count in self.rows.items()}
        parts = ({file.stem: read_partition(file) for file in files if file.stem not in same} for files in (was, now))
        old, new = (self._side(of, made) for of, made in zip(parts, (self.old, self.new), strict=True))
        self.rows = {"old": self.rows["old"] + len(old.keys), "new": self.rows["new"] + len(new.keys)}
        into_new = positions(old.keys, new.keys)
        both = np.flatnonzero(into_new >= 0)
        moved = both[old.labels[both] != new.labels[into_new[both]]]
        found = self._causes(old, new, moved, into_new[moved]) if len(moved) else []
        for place, cause in zip(moved.tolist(), found, strict=True):
            is_told = old.known[place] != new.known[into_new[place]]
            kind: Any = "reviews" if old.keys[place].as_py() in self._reviewed else "known"
            why = Cause(kind) if is_told and not self.unknown else cause
            self._add(old.keys[place], old.labels[place], new.labels[into_new[place]], why)
        for place in np.flatnonzero((into_new < 0) & (old.labels >= 0)).tolist():
            self._add(old.keys[place], old.labels[place], ABSTAIN, Cause("events"))
        for place in np.flatnonzero((positions(new.keys, old.keys) < 0) & (new.labels >= 0)).tolist():
            self._add(new.keys[place], ABSTAIN, new.labels[place], Cause("events"))

    def _side(self, parts: Mapping[str, pa.Table], manifest: LabelsManifest) -> _Side:
        if not parts:
            return _Side(pa.chunked_array([], pa.string()), np.zeros(0, np.int64), np.zeros(0, np.int64), {})
        labels = pa.concat_tables(parts.values())
        places = np.array([self.classes.index(name) for name in manifest.classes])
        if "label" in labels.column_names:
            chosen = pc.fill_null(pc.index_in(labels["label"], pa.array(manifest.classes)), ABSTAIN).to_numpy()
        else:  # the older form has none: the most probable class is the label
            shares = np.stack([labels[f"p_{name}"].to_numpy() for name in manifest.classes], axis=1)
            chosen = np.where(labels["covered"].to_numpy(), shares.argmax(axis=1), ABSTAIN)
        known = np.full(len(chosen), ABSTAIN)
        if "known" in labels.column_names:
            known = pc.fill_null(pc.index_in(labels["known"], pa.array(manifest.classes)), ABSTAIN).to_numpy()
        chosen, known = (np.where(of < 0, ABSTAIN, places[of]) for of in (chosen, known))
        sizes = {part: rows.num_rows for part, rows in parts.items()}
        return _Side(labels[self.key], chosen, known, sizes)

    @functools.cached_property
    def _reviewed(self) -> set[Any]:
        """The keys of rows of which people say something else than before."""
        before, now = (_reviews(side.project, self.task, self.key) for side in (self.before, self.now))
        return {key for key in {*before, *now} if before.get(key) != now.get(key)}

    def _causes(self, old: _Side, new: _Side, rows: Positions, new_rows: Positions) -> Sequence[Cause | None]:
        if self.edits is None:
            return [None] * len(rows)
        before, after = maker_of(self.old, min(old.sizes)), maker_of(self.new, min(new.sizes))
        votes = (
            self._votes(old, before, self.before)[rows],
            self._votes(new, after, self.now)[new_rows],
        )
        said = (self._said(before, new, new_rows, old=True), self._said(after, new, new_rows))
        return causes(before, after, votes, old.keys.take(pa.array(rows)), new.labels[new_rows], self.edits, said)

    def _said(self, maker: Maker, side: _Side, rows: Positions, *, old: bool = False) -> Said:
        """What the reader of either side says of rows of the later events; of columns that are gone nothing."""
        made, project = maker.reader, self.now.project
        events = project.table("events")
        if not made or not set(functools.reduce(operator.iadd, columns_of(made), [])) <= set(schema_of(events).names):
            return None
        if made["sha256"] not in self.readers:
            self.readers[made["sha256"]] = reader_of((self.before if old else self.now).project, made)
        order, texts = np.argsort(rows, kind="stable"), []
        for part, (begin, end) in side.spans.items():
            mine = rows[order][(rows[order] >= begin) & (rows[order] < end)]
            texts.append(read_rows(project, part, *columns_of(made), mine - begin))
        return added(self.readers[made["sha256"]], Texts.together(texts).at(np.argsort(order, kind="stable")))

    def _votes(self, side: _Side, maker: Maker, of: ProjectVersion) -> Votes:
        parts = [
            _votes(of, self.task, part, maker.names, side.keys[begin:end]) for part, (begin, end) in side.spans.items()
        ]
        return np.concatenate(parts)

    def _add(self, key: pa.Scalar, old: int, new: int, cause: Cause | None) -> None:
        change: Moved = "appeared" if old == ABSTAIN else "vanished" if new == ABSTAIN else "flipped"
        before, after = (None if label == ABSTAIN else self.classes[label] for label in (old, new))
        group = (change, before, after, cause)
        self.counts[group] += 1
        if self.counts[group] <= EXAMPLES:
            self.examples[group].append(key.as_py())


def _votes(version: ProjectVersion, task: str, partition: str, names: Sequence[str], keys: pa.ChunkedArray) -> Votes:
    """The votes of functions on a partition (rows, functions); raises `TableError` where they are about others."""
    file = votes_file(version.project, task, partition)
    if exists(file):
        tables = [read_votes(file, names)]
    else:  # the older form has a folder per function
        tables = [read_votes(file.parent / name / file.name, [VOTE_COLUMN]) for name in names]
    if {print_of(table) for table in tables} != {fingerprint(keys)}:
        if version.commit is None:
            raise about_others(file)
        raise TableError(
            f"At {version.name} the votes on {partition} are about other events than the labels: that run was not "
            "complete; name another revision."
        )
    columns = (column for table in tables for column in table.columns)
    return np.stack([pc.fill_null(column, ABSTAIN).to_numpy() for column in columns], axis=1)


def _reviews(project: Project, task: str, key: str) -> dict[Any, Any]:
    """What people said of rows of the dev side, by key; nothing where nobody was asked."""
    folder = project.data / "reviews" / "dev" / task
    if not listed(folder):
        return {}
    found = read_table(folder, [key, GOLD_LABEL])
    return dict(zip(found[key].to_pylist(), found[GOLD_LABEL].to_pylist(), strict=True))


def positions(keys: pa.ChunkedArray, among: pa.ChunkedArray) -> Positions:
    """Where each key stands among others, -1 where it does not."""
    if not len(keys) or not len(among):
        return np.full(len(keys), -1, np.int64)
    if keys.equals(among):
        return np.arange(len(keys))
    found = pc.fill_null(pc.index_in(keys, value_set=among.combine_chunks()), -1)
    return np.asarray(found.to_numpy(), np.int64)
