"""The `label` verb: votes into label models, ``data/labels/<task>``, a manifest, and a summary of each function.

Two passes over the votes, partition by partition: one adds up what the models are fitted on, one writes labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

from snorkel.labeling import LabelingFunction

from weakfish.errors import LabelingFunctionError
from weakfish.files import read_json, whole_folder, write_json
from weakfish.labeling.contents import Contents
from weakfish.labeling.load import load_functions
from weakfish.labeling.matrix import VotesOfPartition, label_matrix, votes_of
from weakfish.labeling.modeling.choice import Chosen, choose
from weakfish.labeling.modeling.refit import Fit, schedule
from weakfish.labeling.modeling.summary import summary
from weakfish.labeling.modeling.tally import Tally
from weakfish.labeling.modeling.write import Columns, write_labels
from weakfish.project import Project
from weakfish.runs import write_ledger
from weakfish.tables import partitions

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
    ``covered`` false and no ``label``.
    """
    summaries: dict[str, dict[str, Any]] = {}
    with whole_folder(project.data / "labels") as folder, ThreadPoolExecutor(WORKERS) as pool:
        events = partitions(project.table("events"))
        contents = Contents(project)
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

    def _tally(self, partition: str) -> tuple[Tally, list[int]]:
        part = votes_of(self.project, self.task, self.names, partition)
        if part.votes.nbytes + sum(kept.votes.nbytes for kept in list(self.kept.values())) <= KEPT:
            self.kept[partition] = part
        return Tally.of(part.votes, len(self.settings.classes)), part.faults

    def _seen(self) -> Iterable[Tally]:
        """What each fit sees; fits see ever more partitions, in the order of their names."""
        nothing = Tally.none(len(self.names), len(self.settings.classes))
        before = [0, *(len(fit.sees) for fit in self.fits)]
        more = [fit.sees[start:] for fit, start in zip(self.fits, before, strict=False)]
        steps = [sum((self.tallies[name] for name in names), nothing) for names in more]
        return accumulate(steps)

    def _choose(self, fit: Fit, tally: Tally) -> Chosen:
        try:
            return choose(tally.sums, tally.patterns, self.settings, through=fit.through)
        except LabelingFunctionError as error:
            raise LabelingFunctionError(f"Task {self.task}: {error}") from error

    def _label(self, folder: Path, partition: str, chosen: Chosen) -> dict[str, Any]:
        contract = self.project.params.events
        matrix = label_matrix(self.project, self.task, self.names, partition, self.kept.pop(partition, None))
        names = Columns(contract.key, contract.time, self.settings.classes)
        seed = self.settings.label_model.seed
        return write_labels(folder / f"{partition}.parquet", matrix, chosen, seed, names)
