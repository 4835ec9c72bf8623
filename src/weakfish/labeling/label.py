"""The label stage: tally the votes, fit the label models when ``label_model.refit`` says so, write the labels."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.contracts.gate import EVENTS, partition_hashes, require_open
from weakfish.contracts.gold import UNKNOWN
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.manifests import LabelsManifest, VotesManifest, read_manifest, write_manifest
from weakfish.contracts.pointers import whole_tables
from weakfish.contracts.reports import LabelsReport, write_report
from weakfish.contracts.tables import TIME, UNDATED, by_period, partitions, period_of, read_partition
from weakfish.contracts.votes_file import Votes, fingerprint
from weakfish.errors import LabelingFunctionError, ParamsError
from weakfish.labeling.choice import Chosen, Maker, alone, choose
from weakfish.labeling.dev_gold import (
    DevCounts,
    compare,
    decided,
    dev_labels,
    snapshot,
)
from weakfish.labeling.known_rows import TaskEvidence
from weakfish.labeling.label_model import Patterns, Probabilities, batches, covered, decide, majority
from weakfish.labeling.label_summary import VoteCounts, WrittenPart, summary
from weakfish.labeling.learning import Floats
from weakfish.labeling.matrix import VotesOfPartition, votes_of
from weakfish.labeling.reading import Read, TaskReader, fits_of, rests_on
from weakfish.labeling.row_reader import FOLDS, Bools, Ints, RowReader, joined
from weakfish.labeling.row_texts import RowHashes
from weakfish.labeling.slice_counts import SliceCounts, Slices
from weakfish.labeling.tally import VoteTally
from weakfish.project.params import LabelModelParams
from weakfish.project.paths import Project
from weakfish.rules.loading import load_functions
from weakfish.rules.snorkel_functions import LabelingFunction

MIN_HISTORY = 100
"""Covered rows that a model which is to stand for good must have seen."""

PACKAGES = ("duckdb", "ibis-framework", "numpy", "snorkel", "torch")
"""Packages on whose version the labels depend."""

WORKERS = 2
"""Partitions that are in memory at once."""

KEPT, KEY_BYTES = 1 << 28, 48
"""Bytes that stay in memory from the first pass to the second, so that small projects read votes once; and how many of
them the key and time of an event take."""


def label(project: Project) -> list[str]:
    """Fit the label models of each task and write its labels.

    ``data/labels/<task>``: the events' key and time, per class ``p_<class>`` (the chosen method) and
    ``majority_<class>`` (majority vote), ``covered`` (any function voted), ``n_votes``, and ``label``: the most
    probable class, by `decide` where several are. A row without votes has the class balance as its probabilities,
    ``covered`` false and no ``label``. With a reader, probabilities and labels are those of votes and row together,
    and ``rests_on`` says of which: ``votes``, ``row`` or ``both``, null where there is no label. With known labels,
    ``known`` is the known class, null elsewhere, which is also the ``label`` and what it ``rests_on``; the
    probabilities of the row are then those of models and readers that have seen no known row of its part, so that
    figures on known rows are out of fold. What was fitted lies beside the labels, in ``<task>.fits``, and embeddings in
    ``<task>.embeddings``. Raises `CheckFailed` when the gate of the events is shut.

    Returns sentences: what the labels are worth on dev gold, and what changed since the last run.
    """
    require_open(project, [EVENTS])
    summaries: dict[str, dict[str, Any]] = {}
    remembered: dict[str, dict[str, Any]] = {}
    slices = Slices(project)
    with whole_tables(project.data / "labels") as folder, ThreadPoolExecutor(WORKERS) as pool:
        hashes = pool.submit(partition_hashes, project, EVENTS)
        for task in project.params.tasks:
            work = _Task(project, task, pool, slices)
            summaries[task] = work.write(folder / task)
            work.write_fits(folder)
            manifest = work.manifest(hashes.result())
            write_manifest(folder, task, manifest)
            identities = {name: function.identity for name, function in manifest.functions.items()}
            remembered[task] = snapshot(summaries[task], identities, work.labelled)
    write_report(project, LabelsReport, summaries)
    rows = [found["rows"] for found in summaries.values()]
    write_ledger(project, "label", rows_in=rows[0], rows_out=sum(rows))
    return compare(project, remembered)


@dataclass(frozen=True)
class Fit:
    """One fit: the partitions whose votes it sees, and the partitions that it labels; all parts of their periods."""

    sees: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def through(self) -> str:
        """The last period that it sees."""
        return period_of(self.sees[-1])


def candidates(settings: LabelModelParams, periods: Sequence[str], task: str) -> Sequence[str]:
    """The periods, of those of the events in their order, after which a fit may be made.

    ``always``: the last, so that one fit sees all. ``monthly``: each, from the first on by which there are
    `MIN_HISTORY` covered rows. ``never``: ``fitted_through``. Undated rows are seen only by ``always``.

    Raises
    ------
    ParamsError
        When ``fitted_through`` names no period of the events.
    """
    dated = [period for period in periods if period != UNDATED]
    if settings.refit == "never":
        last = settings.fitted_through or ""
        if last not in dated:
            raise ParamsError(
                f"params.yaml: label_models.{task}.fitted_through is {last!r}, which is not a partition of the events "
                f"({', '.join(dated[:3])}{', ...' if len(dated) > 3 else ''}); name the last one that the model may "
                "see."
            )
        return [last]
    return periods[-1:] if settings.refit == "always" or not dated else dated


def schedule(parts: Mapping[str, Sequence[str]], ends: Sequence[str]) -> list[Fit]:
    """The fits that were made after the periods ``ends``; ``parts`` are the partitions of all periods.

    Each labels the period after which it was made; the first also those that no other does.
    """

    def of(periods: Iterable[str]) -> tuple[str, ...]:
        return tuple(chain.from_iterable(parts[period] for period in periods))

    order = list(parts)
    seen = [of(order[: order.index(end) + 1]) for end in ends]
    rest = of(period for period in order if period not in ends[1:])
    return [Fit(sees, of([end]) if place else rest) for place, (sees, end) in enumerate(zip(seen, ends, strict=True))]


@dataclass(frozen=True)
class _Part:
    """The votes on a partition, pattern by pattern; ``checked`` raises `TableError` where they are on other events."""

    checked: Callable[[str], None]
    batches: list[tuple[slice, Patterns]]

    @staticmethod
    def of(read: VotesOfPartition) -> _Part:
        """The patterns of votes, which are let go."""
        return _Part(replace(read, votes=np.empty((0, 0), np.int8)).check, list(batches(read.votes)))

    def at(self, rows: Ints, functions: int) -> Votes:
        """The votes on some rows, (rows, functions)."""
        found = np.empty((len(rows), functions), np.int8)
        for place, patterns in self.batches:
            mine = np.flatnonzero((rows >= place.start) & (rows < place.stop))
            found[mine] = patterns.votes[patterns.inverse[rows[mine] - place.start]]
        return found

    @property
    def nbytes(self) -> int:
        """What it takes in memory, the keys and times of its events included, roughly."""
        return sum(each.votes.nbytes + each.inverse.nbytes + KEY_BYTES * len(each.inverse) for _, each in self.batches)


class _Task:
    """The labels of one task."""

    def __init__(self, project: Project, task: str, pool: ThreadPoolExecutor, slices: Slices) -> None:
        self.project, self.task, self.pool, self.slices = project, task, pool, slices
        self.settings, self.contract = project.task(task), project.params.events
        self.fitted = fits_of(project, task)
        self.functions: list[LabelingFunction] = load_functions(project, task)
        self.names = [function.name for function in self.functions]
        self.kept: dict[str, _Part] = {}
        self.reading = None
        if self.settings.label_model.reader != "off":
            self.reading = TaskReader(project, task, self.fitted)
        self.contents: dict[str, RowHashes] = {}
        self.known = None
        if self.settings.label_model.known != "none":
            self.known = TaskEvidence(project, task)
        self.labelled: Counter[str] = Counter()
        self.tally, self.faults = VoteTally.none(len(self.names), len(self.settings.classes)), [0] * len(self.names)
        self.counted: dict[str, VoteCounts] = {}
        self.events: dict[str, Future[pa.Table]] = {}
        self.partitions = tuple(partitions(project.table("events")))
        fitted = dict(self._fitted())
        self.fits, self.chosen = schedule(self._periods, list(fitted)), list(fitted.values())
        self.read = list(self._readers())

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the labels of all partitions into ``folder``; returns the summary of the task."""
        folder.mkdir()
        by_name = {
            name: (chosen, read.reader if read and read.used else None)
            for fit, chosen, read in zip(self.fits, self.chosen, self.read, strict=True)
            for name in fit.labels
        }
        last = self.chosen[-1]
        judged = self.pool.submit(lambda: last.signals)
        written = self.pool.map(lambda name: self._label(folder, name, *by_name[name]), self.partitions)
        parts = dict(zip(self.partitions, written, strict=True))
        for part in parts.values():
            self.labelled.update(part.labels)
        judged.result()
        self.fitted.drop_unused()
        if self.reading:
            self.reading.drop_unused()
        why = self._why()
        found = summary(
            self.settings, self.functions, self.tally, self.counted, self.faults, parts, replace(last, why=why)
        )
        if self.slices.names:
            sliced = {name: part.slices for name, part in parts.items()}
            found["slices"] = self.slices.summary(sliced, self.names, self.settings.classes)
        return found | {"labelled": self.labelled.total()} | ({"known": self.known.counts()} if self.known else {})

    def write_fits(self, folder: Path) -> None:
        """Write what was fitted, and embeddings, into folders in ``folder``."""
        self.fitted.write(folder / f"{self.task}.fits")
        if self.reading:
            self.reading.pieces.write(folder / f"{self.task}.embeddings")

    def _why(self) -> list[str]:
        """Why labels are those of the last fit's method, and of its reader."""
        last = self.read[-1]
        return [*self.chosen[-1].why, *([last.why] if last else [])]

    def manifest(self, events: dict[str, str]) -> LabelsManifest:
        """What made the labels; the parameters of a model stand in the order of its ``functions``."""
        seed, last = self.settings.label_model.seed, self.chosen[-1]
        makers = [
            Maker.of(chosen, self.names, list(by_period(dict.fromkeys(fit.labels))), seed)
            for fit, chosen in zip(self.fits, self.chosen, strict=True)
        ]
        model = self.settings.label_model
        read = [{"reader": read.to_json(model, f"{self.task}.fits")} if read else {} for read in self.read]
        return LabelsManifest(
            task=self.task,
            functions=read_manifest(self.project, VotesManifest, f"votes/{self.task}").functions,
            events=events,
            settings=self.settings.model_dump(mode="json"),
            versions={
                package: version(package) for package in [*PACKAGES, *(self.reading.packages if self.reading else ())]
            },
            method=last.method,
            why=self._why(),
            models=[maker.to_json() | own for maker, own in zip(makers, read, strict=True)],
            known=self.known.counts() if self.known else {},
        )

    def _tally(self, partition: str) -> tuple[VoteTally, list[int]]:
        read = votes_of(self.project, self.task, self.names, partition)
        part = _Part.of(read)
        if part.nbytes + sum(kept.nbytes for kept in list(self.kept.values())) <= KEPT:
            self.kept[partition] = part
        taught = covered(read.votes)
        if self.known:
            rows = self._events(partition, part.checked)
            taught[self.known.read(partition, rows[self.contract.key], rows[self.contract.time], read.votes)] = True
        if self.reading:
            self.contents[partition] = self.reading.contents(partition, taught)
        return VoteTally.of(read.votes, len(self.settings.classes), part.batches), read.faults

    def _events(self, partition: str, check: Callable[[str], None]) -> pa.Table:
        """The keys and times of a partition, about which its votes must be."""
        file = self.project.table("events") / f"{partition}.parquet"
        rows = read_partition(file, [self.contract.key, self.contract.time])
        check(fingerprint(rows[self.contract.key]))
        return rows

    @property
    def _periods(self) -> dict[str, list[str]]:
        return by_period({name: name for name in self.partitions})

    def _fitted(self) -> Iterator[tuple[str, Chosen]]:
        """What each fit comes to, by the last period that it sees.

        Partitions are added up in the order of their names: a fit sees all so far. What was counted of one is let go.
        """
        settings, tallies = self.settings.label_model, self._tallies()
        wanted = candidates(settings, list(self._periods), self.task)
        enough = MIN_HISTORY if settings.refit == "monthly" else 0
        for period, parts in self._periods.items():
            for name in parts:
                self._add(name, *next(tallies))
            if period in wanted and (self.tally.sums.covered >= enough or period == wanted[-1]):
                yield period, self._choose(period)

    def _add(self, partition: str, tally: VoteTally, faults: Sequence[int]) -> None:
        """Count a partition."""
        period, counted = period_of(partition), VoteCounts.of(tally)
        self.tally += tally
        self.counted[period] = self.counted[period] + counted if period in self.counted else counted
        self.faults = [one + more for one, more in zip(self.faults, faults, strict=True)]
        if partition in self.kept:
            # A fit keeps one processor busy; meanwhile the events are read beside which the votes will stand.
            self.events[partition] = self.pool.submit(self._events, partition, self.kept[partition].checked)

    def _tallies(self) -> Iterator[tuple[VoteTally, list[int]]]:
        """Tally and faults of each partition; no more than `WORKERS` are made before they are asked for."""
        waiting, running = iter(self.partitions), deque[Future[tuple[VoteTally, list[int]]]]()
        while True:
            running += [self.pool.submit(self._tally, name) for name in islice(waiting, WORKERS - len(running))]
            if not running:
                return
            yield running.popleft().result()

    def _choose(self, through: str) -> Chosen:
        """What a fit on the partitions that were counted comes to; ``through`` is the last period."""
        try:
            sums, patterns = self.tally.sums, self.tally.patterns
            sees = [name for name in self.partitions if period_of(name) <= through]
            known = self.known.of_fit(sees) if self.known else None
            return choose(sums, patterns, self.settings, None, through, self.fitted, self.names, known)
        except LabelingFunctionError as error:
            raise LabelingFunctionError(f"Task {self.task}: {error}") from error

    def _readers(self) -> Iterator[Read | None]:
        """What each fit makes of reading; None without a reader."""
        for fit, chosen in zip(self.fits, self.chosen, strict=True):
            if self.reading is None:
                yield None
                continue

            def posterior(partition: str, rows: Ints, chosen: Chosen = chosen) -> Probabilities:
                votes = self._part(partition).at(rows, len(self.names))
                if not self.known:
                    return chosen.probabilities(votes)
                return np.stack([chosen.apart(part).probabilities(votes) for part in range(FOLDS)])

            rows = {name: each.rows for name, each in self.contents.items()}
            known = self.known.of_reader(fit.sees, rows) if self.known else None
            yield self.reading.fit(self.contents, posterior, fit.sees, known)

    def _part(self, partition: str) -> _Part:
        known = self.kept.get(partition)
        return _Part.of(votes_of(self.project, self.task, self.names, partition)) if known is None else known

    def _label(self, folder: Path, partition: str, chosen: Chosen, reader: RowReader | None) -> WrittenPart:
        """Write the labels of a partition batch by batch; the same votes, rows and models give the same bytes."""
        part = self._part(partition)
        self.kept.pop(partition, None)
        events = (
            self.events.pop(partition).result() if partition in self.events else self._events(partition, part.checked)
        )
        nothing = (slice(0, 0), Patterns.none(len(self.names)))
        classes, labels = self.settings.classes, Counter[str]()
        gold = dev_labels(self.project, self.task, partition, events[self.contract.key])
        dev = DevCounts.of(gold[:0], gold[:0], nothing[1].votes, classes)
        members = self.slices.of(partition, fingerprint(events[self.contract.key]) if self.slices.names else None)
        sliced = [SliceCounts.none(len(self.names), classes)] * len(self.slices.names)
        rows, total = 0, np.zeros(len(classes))
        writer: pq.ParquetWriter | None = None
        said = self.reading.added(partition, reader) if self.reading and reader else None
        given = self.known.of[partition] if self.known else None
        for place, patterns in part.batches or [nothing]:
            if said or given:  # rows of one pattern differ
                rows_of = np.arange(len(patterns.inverse))
                patterns = Patterns(patterns.votes[patterns.inverse], np.ones_like(rows_of), rows_of)
            posterior, seen = chosen.probabilities(patterns.votes), covered(patterns.votes)
            known, told_by = np.zeros_like(seen), None
            if given:
                stand, of_class, parts = given.within(place)
                told_by = np.full(len(seen), UNKNOWN)
                told_by[stand] = of_class
                for number in np.unique(parts):
                    mine = stand[parts == number]
                    posterior[mine] = chosen.apart(number).probabilities(patterns.votes[mine])
            if said:
                more, known = _next(said, place, len(classes))
                posterior = joined(posterior, more)
            table = self._table(place, patterns, events, posterior, seen, known, told_by)
            writer = writer or self._writer(folder / f"{partition}.parquet", table.schema)
            writer.write_table(table)
            told = np.flatnonzero(gold[place] != UNKNOWN)
            at = patterns.inverse[told]
            dev += DevCounts.of(gold[place][told], decided(posterior, seen | known)[at], patterns.votes[at], classes)
            if sliced:
                own = SliceCounts.each(members[place], patterns, posterior, seen | known, gold[place], classes)
                sliced = [one + more for one, more in zip(sliced, own, strict=True)]
            labels.update({each["values"]: each["counts"] for each in table["label"].value_counts().to_pylist()})
            rows += int(patterns.counts[seen].sum())
            total += (posterior * (patterns.counts * seen)[:, None]).sum(axis=0)
        if writer is not None:
            writer.close()
        mean = {name: float(sum_) / rows if rows else None for name, sum_ in zip(classes, total, strict=True)}
        del labels[None]  # rows of which nothing is known
        by_one = alone(self.chosen[-1], sum((patterns for _, patterns in part.batches), nothing[1]))
        return WrittenPart({"rows": events.num_rows, "covered": rows, "mean": mean}, labels, dev, sliced, by_one)

    def _table(
        self,
        place: slice,
        patterns: Patterns,
        events: pa.Table,
        posterior: Probabilities,
        seen: Bools,
        known: Bools,
        given: Ints | None,
    ) -> pa.Table:
        """The labels of a batch, of which ``posterior`` goes by pattern, and whether votes or reader know of it.

        ``given`` are known classes, `UNKNOWN` elsewhere; None in a task without.
        """
        here = events.slice(place.start, place.stop - place.start)
        keys, times = here[self.contract.key], here[self.contract.time]
        classes, rows = self.settings.classes, pa.array(patterns.inverse)

        def spread(values: npt.NDArray[Any]) -> pa.Array:
            return pa.array(np.ascontiguousarray(values)).take(rows)

        most = majority(patterns.votes, len(classes))
        columns = {self.contract.key: keys, self.contract.time: times.cast(TIME)}
        columns |= {f"p_{name}": spread(shares) for name, shares in zip(classes, posterior.T, strict=True)}
        columns |= {f"majority_{name}": spread(shares) for name, shares in zip(classes, most.T, strict=True)}
        columns["covered"] = spread(seen)
        columns["n_votes"] = spread((patterns.votes >= 0).sum(axis=1).astype(np.int32))
        won = decide(posterior, keys, self.settings.label_model.seed, patterns.inverse)
        of_row = (seen | known)[patterns.inverse]
        is_given = None if given is None else given != UNKNOWN
        if given is not None and is_given is not None:
            won, of_row = np.where(is_given, given, won), of_row | is_given
        indices = pa.array(won.astype(np.int8), mask=~of_row)
        columns["label"] = pa.array(classes).take(indices)
        if self.settings.label_model.origins:
            columns["rests_on"] = rests_on(seen, known, is_given).take(rows)
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
