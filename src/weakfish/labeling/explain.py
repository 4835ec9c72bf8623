"""Why an event has its label: what each vote adds to it.

Reads labels, their manifest and votes; computes nothing that is not in them but embeddings of texts, for which alone it
imports torch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.manifests import LabelsManifest, read_manifest
from weakfish.contracts.tables import partitions, read_partition
from weakfish.contracts.votes_file import ABSTAIN, Votes, fingerprint, read_votes, votes_file
from weakfish.engine.portable import exp, log
from weakfish.errors import TableError, UserError
from weakfish.labeling.choice import HYPER, MAJORITY, SNORKEL, Maker, maker_of, makers_of
from weakfish.labeling.label_model import FittedModel, once
from weakfish.labeling.reading import TOLD, Told, columns_of, parts_of, read_row, reader_of
from weakfish.labeling.row_reader import joined, log_of
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
