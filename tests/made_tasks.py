"""A project of tickets with any number of label tasks, classes and functions, whose votes and gold labels are made.

Of a task with k classes, function n votes for class n modulo k, if it is one of the first ``votes_for``; it is right on
nine of ten rows on which it votes. A ticket's text tells its class of each task. Tickets may lack a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml
from made_votes import own_functions
from projects import write

from weakfish.contracts.tables import TIME, UNDATED, Part, folder, in_test, write_partition
from weakfish.contracts.votes_file import fingerprint, votes_file, write_votes
from weakfish.evaluation.evaluate import evaluate
from weakfish.files import write_json
from weakfish.labeling.label import label
from weakfish.project.paths import Project

MONTHS = ("2024-01", "2024-02", "2024-03")
SPLIT = "2024-02-01"

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Made:
    """A task: its number of classes and functions, the classes that any function votes for, and the share with gold."""

    classes: int
    functions: int
    votes_for: int = 99
    gold: float = 1.0
    method: str = "snorkel"

    @property
    def names(self) -> list[str]:
        """Of its classes."""
        return ["no", "yes"] if self.classes == 2 else [f"kind_{number:02}" for number in range(self.classes)]

    def of(self, function: int) -> int:
        """The class that a function votes for."""
        return function % min(self.classes, self.votes_for)


def project(
    root: Path,
    tasks: Mapping[str, Made],
    *,
    rows: int = 300,
    dated: bool = True,
    text: bool = True,
    evaluate: Mapping[str, Any] | None = None,
) -> Project:
    """The project with events, votes and gold labels; ``rows`` are those of a month, of which there are three."""
    balance = {name: [1 / made.classes] * made.classes for name, made in tasks.items()}
    params = {
        "events": {"key": "ticket_id", "time": "opened_at"},
        "source": {"reader": "sources.tickets:Tickets"},
        "gold": {"split": SPLIT} if dated else {"test_share": 0.5},
        "tasks": {
            name: {
                "classes": made.names,
                "functions": [f"{name}.*"],
                "label_model": {
                    "class_balance": balance[name],
                    "n_epochs": 100,
                    "lr": 0.01,
                    "l2": 0.1,
                    "seed": 1,
                    "method": made.method,
                },
            }
            for name, made in tasks.items()
        },
        "evaluate": {"text": ["note"] if text else [], "seeds": [1], "bootstrap": 50} | dict(evaluate or {}),
    }
    write(root / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    write(root / "dvc.yaml", "stages: {}\n")
    for name, made in tasks.items():
        lines = [
            f'{name}_{number} = threshold("{name}_{number}", {made.of(number)}, "size", above=1, why="Made.")'
            for number in range(made.functions)
        ]
        source = "\n".join(["from weakfish.rules import threshold", "", *lines, ""])
        write(root / f"labeling_functions/{name}.py", source)
    at = Project(root)
    for place, month in enumerate(MONTHS if dated else (UNDATED,)):
        _partition(at, tasks, month, rows if dated else rows * len(MONTHS), place)
    for name, made in tasks.items():
        names = [f"{name}_{number}" for number in range(made.functions)]
        functions = {each: {"module": f"labeling_functions.{name}", "identity": "same"} for each in names}
        write_json(at.table("votes") / f"{name}.manifest.json", {"task": name, "functions": functions})
    return at


def labelled(at: Project) -> Project:
    """The project with labels and the reports on them."""
    with own_functions():
        label(at)
    return at


def evaluated(at: Project) -> Project:
    """The same with metrics."""
    with own_functions():
        evaluate(at)
    return at


def _partition(at: Project, tasks: Mapping[str, Made], name: str, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    keys = pa.array([f"{name}-{number:04}" for number in range(rows)])
    start = None if name == UNDATED else datetime.fromisoformat(f"{name}-01").replace(tzinfo=UTC)
    times = pa.array([start and start + timedelta(hours=hour * 600 / rows) for hour in range(rows)], TIME)
    truth = {task: random.integers(made.classes, size=rows) for task, made in tasks.items()}
    notes = [" ".join([f"{task}{of[row]}" for task, of in truth.items()] * 2 + ["ticket"]) for row in range(rows)]
    events = {"ticket_id": keys, "opened_at": times, "size": pa.array([2] * rows), "note": notes}
    write_partition(at.table("events"), name, pa.table(events))
    for task, made in tasks.items():
        _vote(at, task, made, name, keys, truth[task], random)
        known = random.random(rows) < made.gold
        late = in_test(at.params.gold, pa.chunked_array([keys]), pa.chunked_array([times])).to_numpy()
        labels = pa.array(made.names).take(pa.array(truth[task]))
        gold = pa.table({"ticket_id": keys, "label": labels})
        parts: dict[Part, Any] = {"dev": known & ~late.astype(bool), "test": known & late.astype(bool)}
        for part, chosen in parts.items():
            if chosen.any():
                write_partition(folder(at, task, part), name, gold.filter(pa.array(chosen)))


def _vote(
    at: Project, task: str, made: Made, partition: str, keys: pa.Array, truth: Ints, random: np.random.Generator
) -> None:
    votes = {}
    for number in range(made.functions):
        own = made.of(number)
        hits = (truth == own) & (random.random(len(truth)) < 0.7)
        misses = (truth != own) & (random.random(len(truth)) < 0.07 / max(1, made.classes - 1))
        votes[f"{task}_{number}"] = np.where(hits | misses, own, -1).astype(np.int8)
    write_votes(votes_file(at, task, partition), votes, fingerprint(pa.chunked_array([keys])))
