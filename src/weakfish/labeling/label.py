"""When the label model is fitted anew, and which partitions each fit labels: ``label_model.refit``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.contracts.gate import EVENTS, require_open
from weakfish.contracts.ledgers import write_ledger
from weakfish.contracts.tables import TIME, UNDATED, partitions
from weakfish.contracts.votes_file import table_json
from weakfish.errors import LabelingFunctionError, ParamsError
from weakfish.files import read_json, whole_folder, write_json
from weakfish.labeling.choice import Alone, Chosen, VoteTally, alone, choose
from weakfish.labeling.label_model import Counts, Patterns, batches, covered, decide, majority
from weakfish.labeling.matrix import EventHashes, LabelMatrix, VotesOfPartition, label_matrix, votes_of
from weakfish.project.cache import Cache
from weakfish.project.params import LabelModelParams, TaskParams
from weakfish.project.paths import Project
from weakfish.rules.columnar import ColumnarLabelingFunction
from weakfish.rules.loading import load_functions, module_of
from weakfish.rules.snorkel_functions import LabelingFunction, wrapped

MIN_HISTORY = 100
"""Covered rows that a model which is to stand for good must have seen."""


@dataclass(frozen=True)
class Fit:
    """One fit: the partitions whose votes it sees, the last of them, and the partitions that it labels."""

    sees: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def through(self) -> str:
        """The last partition whose votes it sees."""
        return self.sees[-1]


def schedule(settings: LabelModelParams, covered: Mapping[str, int], task: str) -> list[Fit]:
    """The fits of a task; ``covered`` has the covered rows of each partition, in the order of their names.

    ``always``: one fit on all partitions. ``monthly``: each partition has the fit on all up to and including it, and
    those before `MIN_HISTORY` covered rows share the first fit that has them. ``never``: one fit on the partitions up
    to ``fitted_through``. Undated rows are seen only by ``always``; else the first fit labels them.

    Raises
    ------
    ParamsError
        When ``fitted_through`` names no partition.
    """
    names = tuple(covered)
    dated = tuple(name for name in names if name != UNDATED)
    if settings.refit == "never":
        return [Fit(_until(settings.fitted_through or "", dated, task), names)]
    if settings.refit == "always" or not dated:
        return [Fit(names, names)]
    return _monthly(dated, names, covered)


def _monthly(dated: tuple[str, ...], names: tuple[str, ...], covered: Mapping[str, int]) -> list[Fit]:
    first, seen = 0, covered[dated[0]]
    while seen < MIN_HISTORY and first < len(dated) - 1:
        first += 1
        seen += covered[dated[first]]
    undated = tuple(name for name in names if name == UNDATED)
    fits = [Fit(dated[: first + 1], dated[: first + 1] + undated)]
    return fits + [Fit(dated[: place + 1], (dated[place],)) for place in range(first + 1, len(dated))]


def _until(last: str, dated: tuple[str, ...], task: str) -> tuple[str, ...]:
    if last not in dated:
        raise ParamsError(
            f"params.yaml: label_models.{task}.fitted_through is {last!r}, which is no partition of the events "
            f"({', '.join(dated[:3])}{', ...' if len(dated) > 3 else ''}); name the last one that the model may see."
        )
    return dated[: dated.index(last) + 1]


def summary(
    task: TaskParams,
    functions: Sequence[LabelingFunction],
    tallies: Mapping[str, VoteTally],
    faults: Sequence[int],
    parts: Mapping[str, dict[str, Any]],
    chosen: Chosen,
) -> dict[str, Any]:
    """The figures of a task.

    ``tallies``, and what ``write_labels`` returned in ``parts``, go by partition; ``faults`` counts failed rows of each
    function; ``chosen`` is the model of the last partition. Coverage, overlaps and conflicts are shares of all rows, as
    Snorkel's ``LFAnalysis`` has them; ``agreement`` is the share of the rows on which a function votes and the others
    have one majority, on which it votes as that, None without any; ``settles`` is the share of covered rows of `alone`.
    By partition, the same are counts of rows; ``others`` is that of `VoteTally`, in the form of `table_json`.
    """
    whole = VoteTally.total(tallies.values(), len(functions), len(task.classes))
    names = [function.name for function in functions]
    by_partition = {name: alone(chosen, tally.patterns) for name, tally in tallies.items()}
    return {
        "classes": task.classes,
        "class_balance": dict(zip(task.classes, task.label_model.class_balance, strict=True)),
        "rows": whole.sums.rows,
        "covered": whole.sums.covered,
        "method": chosen.method,
        "why": chosen.why,
        "signals": chosen.signals.to_json(names, chosen.model.losses),
        "functions": _functions(task, functions, whole, list(by_partition.values()), faults, chosen),
        "by_partition": [
            {"partition": name} | parts[name] | _counts(names, tally, by_partition[name])
            for name, tally in tallies.items()
        ],
    }


def _functions(
    task: TaskParams,
    functions: Sequence[LabelingFunction],
    whole: VoteTally,
    settled: Sequence[Alone],
    faults: Sequence[int],
    chosen: Chosen,
) -> list[dict[str, Any]]:
    votes, rows = _votes(whole, len(functions)), max(1, whole.sums.rows)
    weighed = max(1, sum(part.rows for part in settled))
    return [
        {
            "name": function.name,
            "module": module_of(function),
            "kind": "columnar" if isinstance(function, ColumnarLabelingFunction) else "row",
            "doc": " ".join((wrapped(function).__doc__ or "").split()),
            "polarity": [name for name, count in zip(task.classes, votes[number], strict=True) if count],
            "coverage": sum(votes[number]) / rows,
            "overlaps": int(whole.overlaps[number]) / rows,
            "conflicts": int(whole.conflicts[number]) / rows,
            "agreement": _agreement(whole.others[number]),
            "settles": sum(int(part.settled[number]) for part in settled) / weighed,
            "weight": chosen.model.weights[number],
            "faults": faults[number],
        }
        for number, function in enumerate(functions)
    ]


def _counts(names: Sequence[str], tally: VoteTally, settled: Alone) -> dict[str, Any]:
    counts = {
        "votes": _votes(tally, len(names)),
        "conflicts": tally.conflicts.tolist(),
        "others": [table_json(table) for table in tally.others.tolist()],
        "settled": settled.settled.tolist(),
    }
    by_function = {what: dict(zip(names, of, strict=True)) for what, of in counts.items()}
    return by_function | {"weighed": settled.rows, "differing": settled.differing}


def _agreement(others: Counts) -> float | None:
    voted = others[:-1]
    return int(voted.trace()) / int(voted.sum()) if voted.any() else None


def _votes(tally: VoteTally, functions: int) -> list[list[int]]:
    found: list[list[int]] = tally.sums.votes.reshape(functions, -1).tolist()
    return found


@dataclass(frozen=True)
class Columns:
    """How the columns of labels are named: the events' key and time, and the task's classes."""

    key: str
    time: str
    classes: list[str]


def write_labels(file: Path, matrix: LabelMatrix, chosen: Chosen, seed: int, names: Columns) -> dict[str, Any]:
    """Write the labels of a partition batch by batch; the same votes and model give the same bytes.

    Returns
    -------
    dict
        ``rows``, ``covered``, and ``mean``: the mean probability of each class over covered rows, None without any.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    rows, total = 0, np.zeros(len(names.classes))
    writer: pq.ParquetWriter | None = None
    for place, patterns in batches(matrix.votes):
        table, sums = _labels(place, patterns, matrix, chosen, seed, names)
        writer = writer or _writer(file, table.schema, names)
        writer.write_table(table)
        rows, total = rows + int(patterns.counts[covered(patterns.votes)].sum()), total + sums
    if writer is None:
        empty = Patterns(matrix.votes, np.zeros(0, np.int64), np.zeros(0, np.int64))
        table, _ = _labels(slice(0, 0), empty, matrix, chosen, seed, names)
        writer = _writer(file, table.schema, names)
        writer.write_table(table)
    writer.close()
    mean = {name: float(value / rows) if rows else None for name, value in zip(names.classes, total, strict=True)}
    return {"rows": len(matrix.votes), "covered": rows, "mean": mean}


def _writer(file: Path, schema: pa.Schema, names: Columns) -> pq.ParquetWriter:
    """Few distinct values but for keys and times, for which a dictionary or statistics would be made in vain."""
    return pq.ParquetWriter(
        file,
        schema,
        compression={name: "lz4" if name == names.key else "zstd" for name in schema.names},
        compression_level={name: 1 for name in schema.names if name != names.key},
        use_dictionary=[name for name in schema.names if name not in (names.key, names.time)],
        column_encoding={names.time: "DELTA_BINARY_PACKED"},
        write_statistics=[names.key, names.time],
        write_page_checksum=True,
    )


def _labels(
    place: slice, patterns: Patterns, matrix: LabelMatrix, chosen: Chosen, seed: int, names: Columns
) -> tuple[pa.Table, np.ndarray]:
    """The labels of a batch, and the sums of the probabilities of covered rows."""
    keys, times = (column.slice(place.start, place.stop - place.start) for column in (matrix.keys, matrix.times))
    posterior, most = chosen.probabilities(patterns.votes), majority(patterns.votes, len(names.classes))
    seen = covered(patterns.votes)
    rows = pa.array(patterns.inverse)
    columns = {names.key: keys, names.time: times.cast(TIME)}
    columns |= {f"p_{name}": _spread(posterior[:, number], rows) for number, name in enumerate(names.classes)}
    columns |= {f"majority_{name}": _spread(most[:, number], rows) for number, name in enumerate(names.classes)}
    columns["covered"] = _spread(seen, rows)
    columns["n_votes"] = _spread((patterns.votes >= 0).sum(axis=1).astype(np.int32), rows)
    winners = decide(posterior, keys, seed, patterns.inverse)
    uncovered = ~seen[patterns.inverse]
    indices = pa.array(winners.astype(np.int8), mask=uncovered)
    columns["label"] = pa.array(names.classes).take(indices)
    return pa.table(columns), (posterior * (patterns.counts * seen)[:, None]).sum(axis=0)


def _spread(values: Any, rows: pa.Array) -> pa.Array:
    return pa.array(np.ascontiguousarray(values)).take(rows)


PACKAGES = ("duckdb", "ibis-framework", "numpy", "snorkel", "torch")
"""Packages on whose version the labels depend."""

WORKERS = 2
"""Partitions that are in memory at once."""

KEPT = 1 << 28
"""Bytes of votes that stay in memory from the first pass to the second, so that small projects read them once."""


def label(project: Project) -> None:
    """Fit the label models of each task and write its labels.

    ``data/labels/<task>``: the events' key and time, per class ``p_<class>`` (the chosen method) and
    ``majority_<class>`` (majority vote), ``covered`` (any function voted), ``n_votes``, and ``label``: the most
    probable class, by `ties.decide` where several are. A row without votes has the class balance as its probabilities,
    ``covered`` false and no ``label``. Raises `CheckFailed` when the gate of the events is shut.
    """
    require_open(project, [EVENTS])
    summaries: dict[str, dict[str, Any]] = {}
    with whole_folder(project.data / "labels") as folder, ThreadPoolExecutor(WORKERS) as pool:
        events = partitions(project.table("events"))
        contents = EventHashes(project)
        hashes = {name: pool.submit(contents.file, file) for name, file in events.items()}
        for task in project.params.tasks:
            work = _Task(project, task, list(events), pool)
            found = work.write(folder / task)
            hashed = {name: future.result() for name, future in hashes.items()}
            write_json(folder / f"{task}.manifest.json", work.manifest(hashed))
            summaries[task] = found
        contents.save(list(events.values()))
    write_json(project.reports / "labeling_functions.json", {"tasks": summaries})
    rows = [found["rows"] for found in summaries.values()]
    write_ledger(project, "label", rows_in=rows[0], rows_out=sum(rows))


class _Task:
    """The labels of one task."""

    def __init__(self, project: Project, task: str, names: list[str], pool: ThreadPoolExecutor) -> None:
        self.project, self.task, self.pool = project, task, pool
        self.settings = project.task(task)
        self.fitted = Cache(project, f"fits/{task}")
        self.functions: list[LabelingFunction] = load_functions(project, task)
        self.names = [function.name for function in self.functions]
        self.kept: dict[str, VotesOfPartition] = {}
        found = list(pool.map(self._tally, names))
        self.tallies = dict(zip(names, (tally for tally, _ in found), strict=True))
        self.faults = [sum(column) for column in zip(*(faults for _, faults in found), strict=True)]
        covered = {name: tally.sums.covered for name, tally in self.tallies.items()}
        self.fits = schedule(self.settings.label_model, covered, task)
        self.chosen = [self._choose(fit, tally) for fit, tally in zip(self.fits, self._seen(), strict=True)]

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the labels of all partitions into ``folder``; returns the summary of the task."""
        by_name = {name: chosen for fit, chosen in zip(self.fits, self.chosen, strict=True) for name in fit.labels}
        written = self.pool.map(lambda name: self._label(folder, name, by_name[name]), self.tallies)
        parts = dict(zip(self.tallies, written, strict=True))
        self.fitted.drop_unused()
        return summary(self.settings, self.functions, self.tallies, self.faults, parts, self.chosen[-1])

    def manifest(self, events: dict[str, str]) -> dict[str, Any]:
        """What made the labels; the parameters of a model stand in the order of its ``functions``."""
        return {
            "task": self.task,
            "functions": read_json(self.project.table("votes") / f"{self.task}.manifest.json")["functions"],
            "events": events,
            "settings": self.settings.model_dump(mode="json"),
            "versions": {package: version(package) for package in PACKAGES},
            "method": self.chosen[-1].method,
            "why": self.chosen[-1].why,
            "models": [
                chosen.model.to_json()
                | {"functions": self.names, "method": chosen.method, "partitions": list(fit.labels)}
                for fit, chosen in zip(self.fits, self.chosen, strict=True)
            ],
        }

    def _tally(self, partition: str) -> tuple[VoteTally, list[int]]:
        part = votes_of(self.project, self.task, self.names, partition)
        if part.votes.nbytes + sum(kept.votes.nbytes for kept in list(self.kept.values())) <= KEPT:
            self.kept[partition] = part
        return VoteTally.of(part.votes, len(self.settings.classes)), part.faults

    def _seen(self) -> Iterable[VoteTally]:
        """What each fit sees; fits see ever more partitions, in the order of their names."""
        nothing = VoteTally.none(len(self.names), len(self.settings.classes))
        before = [0, *(len(fit.sees) for fit in self.fits)]
        more = [fit.sees[start:] for fit, start in zip(self.fits, before, strict=False)]
        steps = [sum((self.tallies[name] for name in names), nothing) for names in more]
        return accumulate(steps)

    def _choose(self, fit: Fit, tally: VoteTally) -> Chosen:
        try:
            return choose(tally.sums, tally.patterns, self.settings, through=fit.through, cache=self.fitted)
        except LabelingFunctionError as error:
            raise LabelingFunctionError(f"Task {self.task}: {error}") from error

    def _label(self, folder: Path, partition: str, chosen: Chosen) -> dict[str, Any]:
        contract = self.project.params.events
        matrix = label_matrix(self.project, self.task, self.names, partition, self.kept.pop(partition, None))
        names = Columns(contract.key, contract.time, self.settings.classes)
        seed = self.settings.label_model.seed
        return write_labels(folder / f"{partition}.parquet", matrix, chosen, seed, names)
