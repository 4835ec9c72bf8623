"""What workers of the label stage do, each on an item: count a partition's votes, fit what labels, write its labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.contracts.gold import UNKNOWN
from weakfish.contracts.tables import TIME, read_partition
from weakfish.contracts.votes_file import fingerprint
from weakfish.engine import fleet
from weakfish.files import read_json, whole_file
from weakfish.labeling.choice import Maker, alone, choose
from weakfish.labeling.dev_gold import DevCounts, decided, dev_labels
from weakfish.labeling.histories import VoteHistory
from weakfish.labeling.known_rows import KnownRows
from weakfish.labeling.label_model import Patterns, Probabilities, batches, covered, decide, majority
from weakfish.labeling.label_summary import WrittenPart
from weakfish.labeling.learning import Floats, NothingToLearn
from weakfish.labeling.lessons import PlacedLesson, Taught
from weakfish.labeling.matrix import LabelMatrix, votes_of
from weakfish.labeling.reading import TaskReader, fits_of, rests_on
from weakfish.labeling.row_reader import Bools, Ints, RowReader, joined
from weakfish.labeling.slice_counts import SliceCounts, members_of
from weakfish.labeling.tally import VoteTally
from weakfish.project.paths import Project

T = TypeVar("T")


class _Kept:
    """What a worker has read for several partitions: of each kind the last."""

    def __init__(self, project: Project) -> None:
        self._root, self._read = project.root, dict[str, tuple[str, Any]]()

    def of(self, kind: str, file: str, read: Callable[[Path], T]) -> T:
        """What ``read`` makes of a file, which never changes."""
        if self._read.get(kind, ("",))[0] != file:
            self._read[kind] = file, read(self._root / file)
        found: T = self._read[kind][1]
        return found


def _maker(file: Path) -> Maker:
    found = read_json(file)
    return Maker.from_json(found["maker"], "", found["seed"])


def _reader(file: Path) -> RowReader:
    return RowReader.from_bytes(file.read_bytes())


def _matrix(project: Project, item: fleet.Item) -> tuple[LabelMatrix, list[int]]:
    """The label matrix of a partition, and the rows on which each function failed."""
    names = fleet.prepared(_Kept, project).of("names", item["names"], read_json)["functions"]
    events, read = project.params.events, votes_of(project, item["task"], names, item["partition"])
    rows = read_partition(project.root / item["events"], [events.key, events.time])
    read.check(fingerprint(rows[events.key]))
    return LabelMatrix(rows[events.key], rows[events.time], names, read.votes), read.faults


def counted(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Write the tally of a partition, its known rows and those that may teach a reader, below ``item["to"]``.

    The receipt has ``faults`` by function, and the keys of the partition's ``embeddings``.
    """
    task, partition, to = item["task"], item["partition"], project.root / item["to"]
    settings, (matrix, faults) = project.task(task), _matrix(project, item)
    taught, is_known, keys = covered(matrix.votes), np.zeros(len(matrix.votes), bool), list[str]()
    if settings.label_model.known != "none":
        known = KnownRows.of(project, task, partition, matrix, item["gold"])
        known.write(to / "known.npz")
        is_known[known.rows] = True
    if settings.label_model.reader != "off":
        contents, keys = TaskReader(project, task).contents(partition, taught | is_known)
        found = Taught(contents, matrix.votes[contents.rows])
        found.at(contents.may_teach(len(settings.classes), is_known[contents.rows])).write(to / "taught.npz")
    VoteTally.of(matrix.votes, len(settings.classes)).write(to / "tally.npz")
    return {"faults": faults, "embeddings": keys}


def fitted(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Put what a fit on a history finds into the cache."""
    history, settings = VoteHistory.read(project, item), project.task(item["task"])
    tally, cache = history.tally, fits_of(project, item["task"])
    choose(tally.sums, tally.patterns, settings, None, history.through, cache, known=history.known)
    return {}


def embedded(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Put the embeddings of a partition into the cache."""
    TaskReader(project, item["task"]).embed(item["partition"])
    return {}


def learned(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Write the reader that a lesson makes; the receipt says why there is ``nothing`` to learn."""
    placed = PlacedLesson.read(project.root / item["lesson"], item["partitions"])
    reader = TaskReader(project, item["task"])
    try:
        content = placed.lesson.learned(lambda: reader.of_lesson(placed)).to_bytes()
    except NothingToLearn as error:
        return {"nothing": str(error)}
    with whole_file(project.root / item["to"]) as part:
        part.write_bytes(content)
    return {"nothing": None}


def labelled(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Write the labels of a partition, and what is reported of them."""
    written = _Labels(project, item).write().to_json()
    with whole_file(project.root / item["written"]) as part:
        part.write_text(json.dumps(written), encoding="utf-8")
    return {}


@dataclass(frozen=True)
class _Batch:
    """Rows of a partition, their votes by pattern, and what is said of each pattern.

    ``seen`` is whether a function votes, ``read`` whether a reader knows anything. ``given`` are known classes,
    `UNKNOWN` elsewhere; None in a task without.
    """

    place: slice
    patterns: Patterns
    posterior: Probabilities
    seen: Bools
    read: Bools
    given: Ints | None


class _Labels:
    """The labels of one partition, written batch by batch: the same votes, rows and models give the same bytes."""

    def __init__(self, project: Project, item: fleet.Item) -> None:
        self.project, self.item, self.contract = project, item, project.params.events
        self.settings = project.task(item["task"])
        self.classes, kept = self.settings.classes, fleet.prepared(_Kept, project)
        self.maker = kept.of("maker", item["maker"], _maker)
        self.last = self.maker if item["last"] == item["maker"] else kept.of("last", item["last"], _maker)
        self.reader = kept.of("reader", item["reader"], _reader) if item["reader"] else None
        self.slices = kept.of("names", item["names"], read_json)["slices"]
        self.known = KnownRows.read(project.root / item["known"]) if item["known"] else None
        self.matrix, _ = _matrix(project, item)

    def write(self) -> WrittenPart:
        """Write them; returns what is reported of them."""
        classes, none = self.classes, Patterns.none(len(self.matrix.names))
        gold = dev_labels(self.project, self.item["task"], self.item["gold"], self.matrix.keys)
        members = members_of(
            self.project, self.slices, self.item["partition"], fingerprint(self.matrix.keys) if self.slices else None
        )
        dev = DevCounts.of(gold[:0], gold[:0], none.votes, classes)
        sliced = [SliceCounts.none(len(self.matrix.names), classes)] * len(self.slices)
        labels, patterns, rows, total = Counter[str](), none, 0, np.zeros(len(classes))
        writer: pq.ParquetWriter | None = None
        with whole_file(self.project.root / self.item["to"]) as file:
            for batch, whole in self._batches():
                table = self._table(batch)
                writer = writer or self._writer(file, table.schema)
                writer.write_table(table)
                here, has = gold[batch.place], batch.seen | batch.read
                told = np.flatnonzero(here != UNKNOWN)
                at = batch.patterns.inverse[told]
                dev += DevCounts.of(here[told], decided(batch.posterior, has)[at], batch.patterns.votes[at], classes)
                if sliced:
                    own = SliceCounts.each(members[batch.place], batch.patterns, batch.posterior, has, here, classes)
                    sliced = [one + more for one, more in zip(sliced, own, strict=True)]
                labels.update({each["values"]: each["counts"] for each in table["label"].value_counts().to_pylist()})
                counts = batch.patterns.counts
                rows += int(counts[batch.seen].sum())
                total += (batch.posterior * (counts * batch.seen)[:, None]).sum(axis=0)
                patterns += whole
            if writer is not None:
                writer.close()
        mean = {name: float(sum_) / rows if rows else None for name, sum_ in zip(classes, total, strict=True)}
        del labels[None]  # rows of which nothing is known
        of_rows = {"rows": len(self.matrix.votes), "covered": rows, "mean": mean}
        return WrittenPart(of_rows, labels, dev, sliced, alone(self.last, patterns))

    def _batches(self) -> Iterator[tuple[_Batch, Patterns]]:
        """What is said of each batch, and the patterns of its votes; one without rows where there are none."""
        none = Patterns.none(len(self.matrix.names))
        said = None
        if self.reader:
            said = TaskReader(self.project, self.item["task"]).added(self.item["partition"], self.reader)
        for place, whole in batches(self.matrix.votes) if len(self.matrix.votes) else [(slice(0, 0), none)]:
            patterns = whole
            if said or self.known:  # rows of one pattern differ
                rows = np.arange(len(whole.inverse))
                patterns = Patterns(whole.votes[whole.inverse], np.ones_like(rows), rows)
            posterior, seen = self.maker.probabilities(patterns.votes), covered(patterns.votes)
            read, given = np.zeros_like(seen), None
            if self.known:
                stand, of_class, parts = self.known.within(place)
                given = np.full(len(seen), UNKNOWN)
                given[stand] = of_class
                for number in np.unique(parts):
                    mine = stand[parts == number]
                    posterior[mine] = self.maker.apart(number).probabilities(patterns.votes[mine])
            if said:
                more, read = _next(said, place, len(self.classes))
                posterior = joined(posterior, more)
            yield _Batch(place, patterns, posterior, seen, read, given), whole

    def _table(self, batch: _Batch) -> pa.Table:
        """The labels of a batch."""
        place, patterns, classes = batch.place, batch.patterns, self.classes
        keys, times = (
            column.slice(place.start, place.stop - place.start) for column in (self.matrix.keys, self.matrix.times)
        )
        rows = pa.array(patterns.inverse)

        def spread(values: npt.NDArray[Any]) -> pa.Array:
            return pa.array(np.ascontiguousarray(values)).take(rows)

        most = majority(patterns.votes, len(classes))
        columns = {self.contract.key: keys, self.contract.time: times.cast(TIME)}
        columns |= {f"p_{name}": spread(shares) for name, shares in zip(classes, batch.posterior.T, strict=True)}
        columns |= {f"majority_{name}": spread(shares) for name, shares in zip(classes, most.T, strict=True)}
        columns["covered"] = spread(batch.seen)
        columns["n_votes"] = spread((patterns.votes >= 0).sum(axis=1).astype(np.int32))
        won = decide(batch.posterior, keys, self.settings.label_model.seed, patterns.inverse)
        of_row = (batch.seen | batch.read)[patterns.inverse]
        given = batch.given
        is_given = None if given is None else given != UNKNOWN
        if given is not None and is_given is not None:
            won, of_row = np.where(is_given, given, won), of_row | is_given
        indices = pa.array(won.astype(np.int8), mask=~of_row)
        columns["label"] = pa.array(classes).take(indices)
        if self.settings.label_model.origins:
            columns["rests_on"] = rests_on(batch.seen, batch.read, is_given).take(rows)
        if given is not None and is_given is not None:
            columns["known"] = pa.array(classes).take(pa.array(given.astype(np.int8), mask=~is_given))
        return pa.table(columns)

    def _writer(self, file: Path, schema: pa.Schema) -> pq.ParquetWriter:
        """Few distinct values but for keys and times, for which a dictionary or statistics would be made in vain."""
        key, time = self.contract.key, self.contract.time
        return pq.ParquetWriter(
            file,
            schema,
            compression={name: "lz4" if name == key else "zstd" for name in schema.names},
            compression_level={name: 1 for name in schema.names if name != key},
            use_dictionary=[name for name in schema.names if name not in (key, time)],
            column_encoding={time: "DELTA_BINARY_PACKED"},
            write_statistics=[key, time],
            write_page_checksum=True,
        )


def _next(said: Iterator[tuple[int, Floats, Bools]], place: slice, classes: int) -> tuple[Floats, Bools]:
    """What reading adds in the rows of a batch, (rows, classes), and where anything is known; takes them off."""
    found, known = np.zeros((place.stop - place.start, classes)), np.zeros(place.stop - place.start, bool)
    while place.start < place.stop:
        start, more, own = next(said)
        rows = slice(start - place.start, start - place.start + len(own))
        found[rows], known[rows] = more, own
        if start + len(own) >= place.stop:
            break
    return found, known
