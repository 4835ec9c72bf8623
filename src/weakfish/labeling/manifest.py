"""What made a task's labels, as ``data/labels/<task>.manifest.json`` has it: functions, models, settings, data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.errors import TableError
from weakfish.files import read_json
from weakfish.labeling.choice import SNORKEL
from weakfish.labeling.models import FittedModel, Probabilities, covered, decide, majority
from weakfish.project.paths import Project


@dataclass(frozen=True)
class Maker:
    """A fitted model and the method that make the labels of some partitions.

    Attributes
    ----------
    model : FittedModel
    names : list of str
        The labeling functions in the order of the model's parameters.
    method : str
        ``snorkel`` or ``majority``.
    partitions : list of str
        Those that it labels.
    seed : int
        Decides ties.
    """

    model: FittedModel
    names: list[str]
    method: str
    partitions: list[str]
    seed: int

    def probabilities(self, votes: Votes) -> Probabilities:
        """The probabilities that votes (rows, functions) get, (rows, classes)."""
        if self.method == SNORKEL:
            return self.model.posterior(votes)
        found = majority(votes, len(self.model.class_balance))
        found[~covered(votes)] = self.model.class_balance
        return found

    def labels(self, votes: Votes, keys: pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """The class of each row as a position, `ABSTAIN` where no function votes."""
        chosen = decide(self.probabilities(votes), keys, self.seed)
        chosen[~covered(votes)] = ABSTAIN
        return chosen


@dataclass(frozen=True)
class Manifest:
    """A task's manifest.

    Attributes
    ----------
    classes : list of str
    functions : dict of str to dict
        ``module`` and ``identity`` of each labeling function.
    events : dict of str to str
        The SHA-256 of each partition of the events.
    settings, versions : dict
        The task's settings, and the packages behind the labels.
    why : list of str
        Why the method was chosen.
    makers : list of Maker
        Empty in a manifest of the older form, which did not have models and the order of their functions.
    """

    classes: list[str]
    functions: dict[str, dict[str, str]]
    events: dict[str, str]
    settings: dict[str, Any]
    versions: dict[str, str]
    why: list[str]
    makers: list[Maker]

    @staticmethod
    def of(content: dict[str, Any]) -> Manifest:
        """The manifest in a JSON file."""
        settings = content["settings"]
        seed = settings["label_model"]["seed"]
        makers = [
            Maker(
                FittedModel.from_json(entry),
                list(entry["functions"]),
                entry.get("method", content["method"]),
                list(entry["partitions"]),
                seed,
            )
            for entry in content.get("models", [])
            if "functions" in entry
        ]
        return Manifest(
            list(settings["classes"]),
            content["functions"],
            content["events"],
            settings,
            content["versions"],
            list(content.get("why", [])),
            makers,
        )

    def maker(self, partition: str) -> Maker:
        """What labelled a partition; raises `TableError` where the manifest has no model for it."""
        for maker in self.makers:
            if partition in maker.partitions:
                return maker
        raise TableError(f"The manifest of the labels has no model for partition {partition}; run `dvc repro label`.")


def read_manifest(project: Project, task: str) -> Manifest:
    """The manifest of the labels in the work tree; raises `TableError` when it is missing or cut off."""
    return Manifest.of(read_json(project.data / "labels" / f"{task}.manifest.json"))
