"""The label stage: tally the votes, fit the label models when ``label_model.refit`` says so, write the labels."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from weakfish.contracts.gate import EVENTS, partition_hashes, require_open
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.manifests import LabelsManifest, VotesManifest, read_manifest, write_manifest
from weakfish.contracts.pointers import listed, whole_tables
from weakfish.contracts.reports import LabelsReport, write_report
from weakfish.contracts.tables import UNDATED, by_period, folder, open_partition, partitions, period_of, reviewed
from weakfish.engine import fleet
from weakfish.engine.local import Seconds
from weakfish.errors import LabelingFunctionError, ParamsError
from weakfish.files import read_json, write_json
from weakfish.labeling import label_work
from weakfish.labeling.choice import Chosen, Maker, choose
from weakfish.labeling.dev_gold import compare, gold_place, snapshot
from weakfish.labeling.histories import TOGETHER, WORTH_PROCESSES, VoteHistory, delete
from weakfish.labeling.known_rows import KnownRows, TaskEvidence
from weakfish.labeling.label_summary import VoteCounts, WrittenPart, summary
from weakfish.labeling.lessons import PlacedLesson, Read, Taught, Teachers
from weakfish.labeling.reading import AT_ONCE, TaskReader, fits_of
from weakfish.labeling.row_reader import RowReader
from weakfish.labeling.slice_counts import Slices
from weakfish.labeling.tally import VoteTally
from weakfish.project.params import LabelModelParams
from weakfish.project.paths import Project
from weakfish.project.runs import temporary_folder
from weakfish.rules.loading import load_functions
from weakfish.rules.slices import SLICES
from weakfish.rules.snorkel_functions import LabelingFunction

T = TypeVar("T")

MIN_HISTORY = 100
"""Covered rows that a model which is to stand for good must have seen."""

PACKAGES = ("duckdb", "ibis-framework", "numpy", "snorkel", "torch")
"""Packages on whose version the labels depend."""

BYTES_A_SECOND, VOTES_A_SECOND, TEXTS_A_SECOND, READ_A_SECOND = 60e6, 20e6, 100.0, 2e6
"""Of columns that are hashed, votes that are counted or weighed, texts that are embedded, and columns that a reader
reads; roughly, only the estimate of what is worth other processes depends on them."""

READERS_SECONDS = 3.0
"""About how long one is fitted."""


def label(project: Project, worth: float = WORTH_PROCESSES) -> list[str]:
    """Fit the label models of each task and write its labels.

    ``data/labels/<task>``: the events' key and time, per class ``p_<class>`` (the chosen method) and
    ``majority_<class>`` (majority vote), ``covered`` (any function voted), ``n_votes``, and ``label``: the most
    probable class, by `decide` where several are. A row without votes has the class balance as its probabilities,
    ``covered`` false and no ``label``. With a reader, probabilities and labels are those of votes and row together,
    and ``rests_on`` says of which: ``votes``, ``row`` or ``both``, null where there is no label. With known labels,
    ``known`` is the known class, null elsewhere, which is also the ``label`` and what it ``rests_on``; the
    probabilities of the row are then those of models and readers that have seen no known row of its part, so that
    figures on known rows are out of fold. What was fitted lies beside the labels, in ``<task>.fits``, and embeddings in
    ``<task>.embeddings``. Label models are fitted here, one after the other, unless there are several and the first
    shows that the others will take ``worth`` seconds: then workers fit them. Raises `CheckFailed` when the gate of the
    events is shut.

    Returns sentences: what the labels are worth on dev gold, and what changed since the last run.
    """
    require_open(project, [EVENTS])
    summaries: dict[str, dict[str, Any]] = {}
    remembered: dict[str, dict[str, Any]] = {}
    slices = Slices(project)
    with (
        whole_tables(project.data / "labels") as labels,
        temporary_folder(project.temporary, "label") as scratch,
        ThreadPoolExecutor(1) as pool,
    ):
        hashes = pool.submit(partition_hashes, project, EVENTS)  # while others work
        for task in project.params.tasks:
            work = _Task(project, task, scratch / task, slices, worth)
            summaries[task] = work.write(labels / task)
            work.write_fits(labels)
            manifest = work.manifest(hashes.result())
            write_manifest(labels, task, manifest)
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


class _Task:
    """The labels of one task: what workers do for them, and what is put together here."""

    def __init__(self, project: Project, task: str, scratch: Path, slices: Slices, worth: float) -> None:
        self.project, self.task, self.scratch, self.slices, self.worth = project, task, scratch, slices, worth
        self.settings = project.task(task)
        self.model, self.classes = self.settings.label_model, self.settings.classes
        self.fitted = fits_of(project, task)
        self.functions: list[LabelingFunction] = load_functions(project, task)
        self.names = [function.name for function in self.functions]
        self.reading = None if self.model.reader == "off" else TaskReader(project, task)
        self.known = None if self.model.known == "none" else TaskEvidence(project, task)
        self.teachers, self.embeddings = Teachers(len(self.classes)), dict[str, list[str]]()
        self.labelled: Counter[str] = Counter()
        self.tally, self.faults = VoteTally.none(len(self.names), len(self.classes)), [0] * len(self.names)
        self.counted: dict[str, VoteCounts] = {}
        self.files = partitions(project.table("events"))
        self.periods = by_period({name: name for name in self.files})
        scratch.mkdir(parents=True)
        write_json(scratch / "names.json", {"functions": self.names, "slices": slices.names})
        fitted = dict(self._fitted())
        self.fits, self.chosen = schedule(self.periods, list(fitted)), list(fitted.values())
        if self.reading:
            self._embed(self.reading)
        self.read = self._readers() if self.reading else [None] * len(self.fits)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the labels of all partitions into ``folder``; returns the summary of the task."""
        folder.mkdir()
        parts: dict[str, WrittenPart] = {}
        items, seconds = self._label_items(folder), partial(self._seconds, READ_A_SECOND)
        for item, _ in zip(items, self._run("labelled", items, "labels", seconds), strict=True):
            parts[item["partition"]] = WrittenPart.from_json(self._taken(item["written"], read_json))
            self.labelled.update(parts[item["partition"]].labels)
        self.fitted.drop_unused()
        if self.reading:
            self.reading.pieces.drop_unused()
        chosen = replace(self.chosen[-1], why=self._why())
        found = summary(self.settings, self.functions, self.tally, self.counted, self.faults, parts, chosen)
        if self.slices.names:
            sliced = {name: part.slices for name, part in parts.items()}
            found["slices"] = self.slices.summary(sliced, self.names, self.classes)
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
        read = [{"reader": read.to_json(self.model, f"{self.task}.fits")} if read else {} for read in self.read]
        return LabelsManifest(
            task=self.task,
            functions=read_manifest(self.project, VotesManifest, f"votes/{self.task}").functions,
            events=events,
            settings=self.settings.model_dump(mode="json"),
            versions={
                package: version(package) for package in [*PACKAGES, *(self.reading.packages if self.reading else ())]
            },
            method=self.chosen[-1].method,
            why=self._why(),
            models=[maker.to_json() | own for maker, own in zip(self._makers, read, strict=True)],
            known=self.known.counts() if self.known else {},
        )

    @property
    def _makers(self) -> list[Maker]:
        periods = [list(by_period(dict.fromkeys(fit.labels))) for fit in self.fits]
        return [
            Maker.of(chosen, self.names, own, self.model.seed) for chosen, own in zip(self.chosen, periods, strict=True)
        ]

    # --- What workers do ----------------------------------------------------------------------------------------------

    def _run(
        self, work: str, items: Sequence[fleet.Item], what: str, seconds: Seconds | None = None
    ) -> Generator[fleet.Receipt, None, None]:
        """Receipts in the order of items."""
        return fleet.in_order(self.project, f"{label_work.__name__}:{work}", items, f"label: {what}", seconds)

    def _seconds(self, speed: float, _: Project) -> float:
        """About how long one process takes for all votes, and what a reader reads at this speed in bytes a second."""
        sizes = [_sizes(file, self.reading.columns if self.reading else ()) for file in self.files.values()]
        return sum(rows * len(self.names) / VOTES_A_SECOND + size / speed for rows, size in sizes)

    def _named(self, file: Path) -> str:
        return fleet.relative(self.project, file)

    def _item(self, partition: str) -> dict[str, Any]:
        """What all work on a partition needs: where everything lies that it reads."""
        gold, votes = gold_place(self.project, partition), self.project.table("votes")
        return {
            "task": self.task,
            "partition": partition,
            "names": self._named(self.scratch / "names.json"),
            "events": self._named(self.files[partition]),
            "votes": [self._named(votes / of / f"{partition}.parquet") for of in (self.task, SLICES)],
            "gold": gold,
            "dev": [self._named(file) for file in listed(folder(self.project, self.task, "dev"), gold or "*")],
            "reviews": [self._named(file) for file in listed(reviewed(self.project, self.task, "dev"), gold or "*")],
        }

    def _taken(self, file: str, read: Callable[[Path], T]) -> T:
        """What a worker wrote for this process, which deletes it."""
        found = read(self.project.root / file)
        (self.project.root / file).unlink()
        return found

    def _counted(self) -> Generator[str, None, None]:
        """Each period when its partitions have been added up, in the order of their names, as workers count them."""
        items = [self._item(name) | {"to": self._named(self.scratch / name)} for name in self.files]
        with closing(self._run("counted", items, "votes of partitions", partial(self._seconds, BYTES_A_SECOND))) as run:
            done = zip(items, run, strict=True)
            for period, parts in self.periods.items():
                for item, receipt in islice(done, len(parts)):
                    self._add(item, receipt)
                yield period
            list(done)  # nothing is left, but the job has an end of its own

    def _fitted(self) -> Iterator[tuple[str, Chosen]]:
        """What each fit comes to, by the last period that it sees: all so far."""
        wanted = candidates(self.model, list(self.periods), self.task)
        enough = MIN_HISTORY if self.model.refit == "monthly" else 0
        ahead: list[fleet.Item] | None = None
        size, left = 0, len(wanted)
        with closing(self._counted()) as periods:
            for period in periods:
                if period not in wanted or (self.tally.sums.covered < enough and period != wanted[-1]):
                    continue
                history, left = self._history(period), left - 1
                if ahead is None:
                    begun = time.monotonic()
                    yield period, self._choose(history)
                    ahead = [] if left and (time.monotonic() - begun) * left >= self.worth else None
                    continue
                ahead.append({"task": self.task, **history.write(self.project, self.scratch / f"{period}.history")})
                size += history.tally.nbytes
                if size >= TOGETHER or period == wanted[-1]:
                    yield from self._chosen_ahead(ahead)
                    ahead, size = [], 0

    def _history(self, through: str) -> VoteHistory:
        """All that was counted, and what is known of it."""
        sees = [name for name in self.files if period_of(name) <= through]
        return VoteHistory(through, self.tally, self.known.of_fit(sees) if self.known else None)

    def _chosen_ahead(self, items: Sequence[fleet.Item]) -> Iterator[tuple[str, Chosen]]:
        """What fits on histories come to that workers make."""
        for _ in self._run("fitted", items, "label models"):
            pass
        for item in items:
            yield item["through"], self._choose(VoteHistory.read(self.project, item))
        delete(self.project, items)

    def _choose(self, history: VoteHistory) -> Chosen:
        """What a fit comes to, from the cache if it was made before."""
        sums, patterns, through = history.tally.sums, history.tally.patterns, history.through
        try:
            return choose(sums, patterns, self.settings, None, through, self.fitted, self.names, history.known)
        except LabelingFunctionError as error:
            raise LabelingFunctionError(f"Task {self.task}: {error}") from error

    def _add(self, item: fleet.Item, receipt: fleet.Receipt) -> None:
        """Take in what a worker counted of a partition."""
        partition, to = item["partition"], item["to"]
        tally = self._taken(f"{to}/tally.npz", VoteTally.read)
        period, counted = period_of(partition), VoteCounts.of(tally)
        self.tally += tally
        self.counted[period] = self.counted[period] + counted if period in self.counted else counted
        self.faults = [one + more for one, more in zip(self.faults, receipt["faults"], strict=True)]
        if self.known:
            self.known.add(partition, KnownRows.read(self.project.root / to / "known.npz"))
        if self.reading:
            taught = self._taken(f"{to}/taught.npz", Taught.read)
            self.teachers.add(partition, taught, self.known.of[partition].rows if self.known else None)
            self.embeddings[partition] = receipt["embeddings"]

    def _embed(self, reading: TaskReader) -> None:
        """Have the embeddings computed that are not there."""
        there = {key for keys in self.embeddings.values() for key in keys if reading.pieces.brought(key)}
        lacking = {name: len(set(keys) - there) for name, keys in self.embeddings.items() if set(keys) - there}
        items = [self._item(name) | {"embeddings": self._pieces(reading, [name])} for name in lacking]

        def seconds(_: Project) -> float:
            return sum(lacking.values()) * AT_ONCE / TEXTS_A_SECOND

        for _ in self._run("embedded", items, "embeddings of partitions", seconds):
            pass

    def _pieces(self, reading: TaskReader | None, names: Sequence[str]) -> list[str]:
        """The files of the embeddings of partitions, which lie in the cache."""
        keys = dict.fromkeys(key for name in names for key in self.embeddings.get(name, ()))
        return [self._named(reading.pieces.file(key)) for key in keys] if reading else []

    def _readers(self) -> list[Read]:
        """What each fit makes of reading; workers fit the readers that were not fitted before."""
        rows = {name: each.contents.rows for name, each in self.teachers.of.items()}
        keys, items = [], {}
        for number, (fit, chosen) in enumerate(zip(self.fits, self.chosen, strict=True)):
            known = self.known.of_reader(fit.sees, rows) if self.known else None
            posterior = chosen.by_part if self.known else chosen.probabilities
            placed = PlacedLesson.of(self.teachers.of, posterior, fit.sees, len(self.classes), known)
            keys.append(placed.lesson.key(self.model))
            if self.fitted.get(keys[-1]) is None:
                items[keys[-1]] = self._lesson_item(placed, self.scratch / f"lesson.{number}")
        why = {}

        def seconds(_: Project) -> float:
            return READERS_SECONDS * len(items)

        for (key, item), receipt in zip(
            items.items(), self._run("learned", list(items.values()), "readers", seconds), strict=True
        ):
            why[key] = receipt["nothing"]
            if why[key] is None:
                self.fitted.put(key, self._taken(item["to"], Path.read_bytes))
        return [self._read_by(key, why.get(key)) for key in keys]

    def _lesson_item(self, placed: PlacedLesson, to: Path) -> fleet.Item:
        """An item for whoever fits a reader."""
        placed.write(to.with_suffix(f"{to.suffix}.npz"))
        return {
            "task": self.task,
            "lesson": self._named(to.with_suffix(f"{to.suffix}.npz")),
            "partitions": placed.names,
            "events": [self._named(self.files[name]) for name in placed.names],
            "embeddings": self._pieces(self.reading, placed.names),
            "to": self._named(to),
        }

    def _read_by(self, key: str, nothing: str | None) -> Read:
        content = self.fitted.get(key)
        if nothing is not None or content is None:
            return Read.of(self.model, nothing or "")
        found = content.to_pybytes()
        return Read.of(self.model, RowReader.from_bytes(found), found, key)

    def _label_items(self, folder: Path) -> list[dict[str, Any]]:
        """An item for the labels of each partition, in their order."""
        made: dict[str, dict[str, Any]] = {}
        for number, (fit, maker, read) in enumerate(zip(self.fits, self._makers, self.read, strict=True)):
            by, reader = self.scratch / f"{number}.maker", None
            write_json(by, {"maker": maker.to_json(), "seed": maker.seed})
            if read and read.used:
                reader = self.scratch / f"{number}.reader"
                reader.write_bytes(read.content)
            own = {"maker": self._named(by), "reader": self._named(reader) if reader else None}
            made |= dict.fromkeys(fit.labels, own)
        last = self._named(self.scratch / f"{len(self.fits) - 1}.maker")
        return [
            self._item(name)
            | made[name]
            | {
                "last": last,
                "known": self._named(self.scratch / name / "known.npz") if self.known else None,
                "embeddings": self._pieces(self.reading, [name]) if made[name]["reader"] else [],
                "to": self._named(folder / f"{name}.parquet"),
                "written": self._named(self.scratch / name / "written.json"),
            }
            for name in self.files
        ]


def _sizes(file: Path, columns: Sequence[str]) -> tuple[int, int]:
    """The rows of a partition, and the bytes of some of its columns."""
    metadata = open_partition(file).metadata
    groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
    chunks = (group.column(place) for group in groups for place in range(group.num_columns))
    return metadata.num_rows, sum(
        chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.partition(".")[0] in columns
    )
