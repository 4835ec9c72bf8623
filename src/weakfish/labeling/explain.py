"""Why one event has its label: each function's vote and what it adds to the log odds, the class balance among them.

Reads the labels, their manifest and the votes; computes nothing that is not in them, and imports no torch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.tables import partitions, read_partition
from weakfish.contracts.votes_file import ABSTAIN, Votes, fingerprint, read_votes
from weakfish.errors import TableError, UserError
from weakfish.labeling.choice import MAJORITY, Maker, Manifest, read_manifest
from weakfish.labeling.label_model import FittedModel
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
