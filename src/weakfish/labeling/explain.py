"""Why events have their labels: what each vote adds to one, and which edit moved those that another revision has not.

Reads labels, their manifest and votes; computes nothing that is not in them but embeddings of texts, for which alone it
imports torch.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.hashes import hashes_of
from weakfish.contracts.manifests import LabelsManifest, Made, parse_manifest, read_manifest
from weakfish.contracts.tables import by_period, partitions, read_partition, row_count, schema_of
from weakfish.contracts.votes_file import ABSTAIN, Votes, fingerprint, print_of, read_votes, votes_file
from weakfish.engine.portable import exp, log
from weakfish.errors import TableError, UserError
from weakfish.labeling.choice import HYPER, MAJORITY, SNORKEL, Maker, maker_of, makers_of
from weakfish.labeling.label_model import FittedModel, once
from weakfish.labeling.matrix import votes_of
from weakfish.labeling.reading import TOLD, Told, added, columns_of, parts_of, read_row, read_rows, reader_in, reader_of
from weakfish.labeling.row_reader import RowReader, joined, log_of
from weakfish.labeling.row_texts import Texts
from weakfish.project.dvc import Revision
from weakfish.project.params import LabelModelParams
from weakfish.project.paths import Project

TOLERANCE = 1e-12
"""How far what the parts add up to may be from the stored probability."""

LogOdds = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


def explain(project: Project, task: str, key: str) -> dict[str, Any]:
    """Why the event ``key`` has its label, as `weakfish explain --json` prints it; docs/why.md has the fields.

    Raises
    ------
    UserError
        When no event has this key.
    TableError
        When labels or votes are missing, or the labels are not those that the votes and the model make.
    """
    manifest = read_manifest(project, LabelsManifest, f"labels/{task}")
    if not makers_of(manifest):
        raise TableError(
            f"The labels of {task} are in an older format that does not name the model; run `dvc repro label`."
        )
    partition, position, keys = _find(project, task, key)
    maker, classes = maker_of(manifest, partition), manifest.classes
    row = read_partition(project.table(f"labels/{task}") / f"{partition}.parquet").slice(position, 1).to_pylist()[0]
    if row.get("known") is not None:  # its probabilities have seen no known row of its part
        settings, place = LabelModelParams(**manifest.settings["label_model"]), np.array([position])
        maker = maker.apart(int(parts_of(project, settings, partition, keys, place)[0]))
    votes, failed = _votes(project, task, maker, partition, position, keys)
    stored = np.array([row[f"p_{name}"] for name in classes])
    counted = once(votes[None], maker.model.as_one)[0]
    made, odds, together = maker.probabilities(votes[None])[0], None, None
    balance = maker.model.class_balance if row["covered"] or maker.balance is None else maker.balance
    if maker.method == HYPER or (maker.method == MAJORITY and maker.reader):
        prior, whole = _against_first(np.stack([balance, made]))
        odds, together = np.stack([prior]), whole - prior
    elif isinstance(maker.model, FittedModel) and maker.method != MAJORITY:
        odds = log_odds(maker.model, counted, balance)
        made = made if maker.reader else from_log_odds(odds)
    told = None
    if maker.reader:
        texts = read_row(project, task, maker.reader, partition, position)
        told = Told.of(reader_of(project, maker.reader), maker.reader, texts)
        made = joined(made[None], told.added[None])[0]
    if np.abs(made - stored).max() > TOLERANCE:
        raise TableError(
            f"The probabilities of {key!r} in data/labels/{task} are not those that data/votes and the manifest make; "
            "run `dvc repro label`."
        )
    counts = Counter(classes[vote] for vote in counted if vote != ABSTAIN)
    bound = maker.model.at_bound() if isinstance(maker.model, FittedModel) and maker.method == SNORKEL else None
    time = row[project.params.events.time]

    def named(part: LogOdds | None) -> dict[str, float] | None:
        return None if part is None else dict(zip(classes[1:], map(float, part[1:]), strict=True))

    def added(part: int) -> dict[str, float] | None:
        return named(odds[part]) if odds is not None and part < len(odds) else None

    return {
        "task": task,
        "key": row[project.params.events.key],
        "time": time.isoformat() if time is not None else None,
        "label": row["label"],
        "covered": row["covered"],
        "rests_on": row.get("rests_on", "votes" if row["covered"] else None),
        "known": row.get("known"),
        "method": maker.method,
        "why": list(manifest.why),
        "events": {"partition": partition, "sha256": manifest.events[partition]},
        "model": {"fitted_through": maker.model.fitted_through, "rows": maker.model.rows},
        "settings": manifest.settings,
        "versions": manifest.versions,
        "classes": classes,
        "probabilities": dict(zip(classes, map(float, stored), strict=True)),
        "votes": {name: counts[name] for name in classes},
        "class_balance": dict(zip(classes, map(float, balance), strict=True)),
        "prior": added(0),
        "together": named(together),
        "reader": told
        and {
            **{name: maker.reader[name] for name in ("columns", "gain", "file", "sha256")},
            "embeds": columns_of(maker.reader)[1],
            "power": told.power,
            "log_odds": named(told.added - told.added[0]),
            "words": [
                {"column": column, "word": word, "log_odds": named(added - added[0])}
                for column, word, added in told.words[:TOLD]
            ],
        },
        "functions": [
            {
                "name": name,
                "vote": None if vote == ABSTAIN else classes[vote],
                "failed": failed[place],
                "counted": bool(vote == ABSTAIN or counted[place] != ABSTAIN),
                "log_odds": added(place + 1),
                "at_bound": bool(bound is not None and vote != ABSTAIN and bound[place, vote]),
                **asdict(manifest.functions[name]),
            }
            for place, (name, vote) in enumerate(zip(maker.names, votes, strict=True))
        ],
    }


def _find(project: Project, task: str, key: str) -> tuple[str, int, pa.ChunkedArray]:
    """The partition and position of ``key`` among the labels, and the partition's keys; reads keys alone."""
    column, example = project.params.events.key, ""
    for partition, file in partitions(project.table(f"labels/{task}")).items():
        keys = read_partition(file, [column])[column]
        try:
            position = int(pc.index(keys, pa.scalar(key).cast(keys.type)).as_py())
        except pa.ArrowInvalid:  # the key is no value of this type
            position = -1
        if position >= 0:
            return partition, position, keys
        example = example or str(keys[0] if len(keys) else "")
    raise UserError(
        f"There is no event {key!r} in data/labels/{task}; a key in its column {column} looks like {example!r}."
    )


def _votes(
    project: Project, task: str, maker: Maker, partition: str, position: int, keys: pa.ChunkedArray
) -> tuple[Votes, list[bool]]:
    """The votes on one event, and which functions failed on it."""
    votes = read_votes(votes_file(project, task, partition), maker.names, fingerprint(keys))
    read = [column[position].as_py() for column in votes.columns]
    return np.array([ABSTAIN if vote is None else vote for vote in read], np.int8), [vote is None for vote in read]


def log_odds(model: FittedModel, votes: Votes, balance: LogOdds | None = None) -> LogOdds:
    """What the class balance and each vote (functions,) add to the log odds, (1 + functions, classes).

    Of each class against the first, so column 0 is zero; the class balance, the model's unless given, is row 0; an
    abstain adds nothing, as in Snorkel's ``predict_proba``. Logarithms are of Snorkel's float32 estimates, which it
    holds within [eps, 1 - eps].
    """
    nothing = np.zeros(len(model.class_balance))
    added = [log[vote] if vote >= 0 else nothing for log, vote in zip(model.logs, votes, strict=True)]
    parts = np.stack([log(model.class_balance if balance is None else balance), *added])
    against_first: LogOdds = parts - parts[:, :1]
    return against_first


def _against_first(shares: LogOdds) -> LogOdds:
    """The log odds of each class against the first."""
    logs = log_of(shares)
    against_first: LogOdds = logs - logs[:, :1]
    return against_first


def from_log_odds(parts: LogOdds) -> LogOdds:
    """The probability of each class that parts (parts, classes) add up to."""
    total = parts.sum(axis=0)
    weights = exp(total - total.max())
    shares: LogOdds = weights / weights.sum()
    return shares


@dataclass(frozen=True, order=True)
class Cause:
    """Why labels moved: the kind, and the functions of which one (``function``) or each (``any``) explains it alone."""

    kind: Literal["function", "any", "events", "known", "reader", "several", "refit"]
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
    with closing(Revision(project, name)) as revision:
        return _Diff(project, task, revision).run()


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


class _Diff:
    """The labels of a task in the work tree against those of a revision."""

    def __init__(self, project: Project, task: str, revision: Revision) -> None:
        self.project, self.task, self.revision = project, task, revision
        path = f"labels/{task}.manifest.json"
        self.old = parse_manifest(LabelsManifest, revision.json(path), f"data/{path} at {revision.name}")
        self.new = read_manifest(project, LabelsManifest, f"labels/{task}")
        self.classes = list(dict.fromkeys([*self.old.classes, *self.new.classes]))
        self.unknown: str | None = None
        if not makers_of(self.old) or not makers_of(self.new):
            self.unknown = OLDER.format(side="the work tree" if makers_of(self.old) else revision.name)
        elif self.old.classes != self.new.classes:
            self.unknown = OTHER_CLASSES.format(side=revision.name)
        self.edits = None if self.unknown else Edits.between(self.old.functions, self.new.functions)
        self.readers: dict[str, RowReader] = {}
        self.counts, self.examples = Counter[Group](), defaultdict[Group, list[Any]](list)
        self.rows = {"old": 0, "new": 0}

    def run(self) -> dict[str, Any]:
        """Compare all partitions."""
        table = f"labels/{self.task}"
        before, now = self.revision.partitions(table), partitions(self.project.table(table))
        was, are = (by_period({name: name for name in names}) for names in (before, now))
        for period in sorted({*was, *are}):
            self._compare(was.get(period, []), are.get(period, []))
        usual = LabelModelParams().model_dump(mode="json")  # settings that an earlier version did not have
        old, new = (usual | side.settings["label_model"] for side in (self.old, self.new))
        moved = Counter[str]()
        for (change, *_), count in self.counts.items():
            moved[change] += count
        return {
            "task": self.task,
            "revision": self.revision.name,
            "commit": self.revision.commit,
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

    def _compare(self, was: Sequence[str], now: Sequence[str]) -> None:
        """Compare the parts of a period, between which rows may have moved; what is the same on both sides counts."""
        paths = {part: f"labels/{self.task}/{part}.parquet" for part in (*was, *now)}
        files = {part: self.project.data / path for part, path in paths.items()}
        hashes = hashes_of({part: files[part] for part in now})
        same = {part for part in {*was} & {*now} if hashes[part] == self.revision.sha256(paths[part])}
        number = sum(row_count(files[part]) for part in same)
        self.rows = {side: count + number for side, count in self.rows.items()}
        old = self._side({part: self.revision.parquet(paths[part]) for part in was if part not in same}, self.old)
        new = self._side({part: read_partition(files[part]) for part in now if part not in same}, self.new)
        self.rows = {"old": self.rows["old"] + len(old.keys), "new": self.rows["new"] + len(new.keys)}
        into_new = _positions(old.keys, new.keys)
        both = np.flatnonzero(into_new >= 0)
        moved = both[old.labels[both] != new.labels[into_new[both]]]
        found = self._causes(old, new, moved, into_new[moved]) if len(moved) else []
        for place, cause in zip(moved.tolist(), found, strict=True):
            is_told = old.known[place] != new.known[into_new[place]]
            why = Cause("known") if is_told and not self.unknown else cause
            self._add(old.keys[place], old.labels[place], new.labels[into_new[place]], why)
        for place in np.flatnonzero((into_new < 0) & (old.labels >= 0)).tolist():
            self._add(old.keys[place], old.labels[place], ABSTAIN, Cause("events"))
        for place in np.flatnonzero((_positions(new.keys, old.keys) < 0) & (new.labels >= 0)).tolist():
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
        return _Side(labels[self.project.params.events.key], chosen, known, sizes)

    def _causes(self, old: _Side, new: _Side, rows: Positions, new_rows: Positions) -> Sequence[Cause | None]:
        if self.edits is None:
            return [None] * len(rows)
        before, after = maker_of(self.old, min(old.sizes)), maker_of(self.new, min(new.sizes))
        votes = (self._votes(old, before, self._old_votes)[rows], self._votes(new, after, self._new_votes)[new_rows])
        said = (self._said(before, new, new_rows, old=True), self._said(after, new, new_rows))
        return causes(before, after, votes, old.keys.take(pa.array(rows)), new.labels[new_rows], self.edits, said)

    def _said(self, maker: Maker, side: _Side, rows: Positions, *, old: bool = False) -> Said:
        """What the reader of either side says of rows of the work tree's events; of columns that are gone nothing."""
        made = maker.reader
        events = self.project.table("events")
        if not made or not set(functools.reduce(operator.iadd, columns_of(made), [])) <= set(schema_of(events).names):
            return None
        if made["sha256"] not in self.readers:
            path = f"labels/{made['file']}"
            self.readers[made["sha256"]] = (
                reader_in(made, self.revision.bytes(path), f"data/{path} at {self.revision.name}")
                if old
                else reader_of(self.project, made)
            )
        order, texts = np.argsort(rows, kind="stable"), []
        for part, (begin, end) in side.spans.items():
            mine = rows[order][(rows[order] >= begin) & (rows[order] < end)]
            texts.append(read_rows(self.project, part, *columns_of(made), mine - begin))
        return added(self.readers[made["sha256"]], Texts.together(texts).at(np.argsort(order, kind="stable")))

    def _votes(self, side: _Side, maker: Maker, read: Callable[[str, Sequence[str], pa.ChunkedArray], Votes]) -> Votes:
        parts = [read(part, maker.names, side.keys[begin:end]) for part, (begin, end) in side.spans.items()]
        return np.concatenate(parts)

    def _new_votes(self, partition: str, names: Sequence[str], keys: pa.ChunkedArray) -> Votes:
        read = votes_of(self.project, self.task, names, partition)
        read.check(fingerprint(keys))
        return read.votes

    def _old_votes(self, partition: str, names: Sequence[str], keys: pa.ChunkedArray) -> Votes:
        of, file = f"votes/{self.task}", f"{partition}.parquet"
        if partition in self.revision.partitions(of):
            tables = [self.revision.parquet(f"{of}/{file}", list(names)).select(list(names))]
        else:  # the older form has a folder per function
            tables = [self.revision.parquet(f"{of}/{name}/{file}", ["vote"]) for name in names]
        if {print_of(table) for table in tables} != {fingerprint(keys)}:
            raise TableError(
                f"At {self.revision.name} the votes on {partition} are about other events than the labels: that run "
                "was not complete; name another revision."
            )
        columns = (column for table in tables for column in table.columns)
        return np.stack([pc.fill_null(column, ABSTAIN).to_numpy() for column in columns], axis=1)

    def _add(self, key: pa.Scalar, old: int, new: int, cause: Cause | None) -> None:
        change: Moved = "appeared" if old == ABSTAIN else "vanished" if new == ABSTAIN else "flipped"
        before, after = (None if label == ABSTAIN else self.classes[label] for label in (old, new))
        group = (change, before, after, cause)
        self.counts[group] += 1
        if self.counts[group] <= EXAMPLES:
            self.examples[group].append(key.as_py())


def _positions(keys: pa.ChunkedArray, among: pa.ChunkedArray) -> Positions:
    """Where each key stands among others, -1 where it does not."""
    if not len(keys) or not len(among):
        return np.full(len(keys), -1, np.int64)
    found = pc.fill_null(pc.index_in(keys, value_set=among.combine_chunks()), -1)
    return np.asarray(found.to_numpy(), np.int64)
