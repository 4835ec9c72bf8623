"""The label of an event, traced: its votes with the functions behind them, the model, and the probabilities they make.

`weakfish.labeling.explain` takes a label apart; here its parts are added up again, by nothing but the parts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.gate import partition_hashes, table_version
from weakfish.contracts.gold import UNKNOWN, gold_labels
from weakfish.contracts.hashes import hashes_of
from weakfish.contracts.manifests import TRAINING
from weakfish.contracts.tables import folder, partitions, read_partition
from weakfish.contracts.votes_file import votes_file
from weakfish.engine.portable import exp
from weakfish.errors import TableError
from weakfish.labeling.dev_gold import gold_place
from weakfish.labeling.explain import explain
from weakfish.project.paths import Project
from weakfish.reviews.answers import read_answers, settle
from weakfish.tracing.made_by import code_place, raw_data, revision

TOLERANCE = 1e-9
"""How far added-up parts may be from the stored probability."""


def trace_label(project: Project, task: str, key: str) -> dict[str, Any]:
    """The label of the event ``key`` and what made it, as `weakfish trace label --json` prints it.

    Raises
    ------
    UserError
        When no event has this key.
    TableError
        When a stage never ran, or labels, votes and events are not from the same run.
    """
    found = explain(project, task, key)
    partition = found["events"]["partition"]
    events, labels = partitions(project.table("events")), partitions(project.table(f"labels/{task}"))
    hashes = partition_hashes(project, "events")
    if hashes.get(partition) != found["events"]["sha256"]:
        raise TableError(
            f"data/labels/{task} was made of other events than data/events/{partition}.parquet holds now, so what is "
            f"behind the label of {key!r} is gone; run `weakfish run label`, or check out the version it was made of."
        )
    keys = read_partition(events[partition], [project.params.events.key])[project.params.events.key]
    position = int(pc.index(keys, pa.scalar(key).cast(keys.type)).as_py())
    made = added_up(found)
    raw = raw_data(project, [key])
    gap = max(abs(made[name] - found["probabilities"][name]) for name in made)
    votes = votes_file(project, task, partition)
    return {
        **found,
        "recomputed": made,
        "equal": gap <= TOLERANCE,
        "differs": [] if gap <= TOLERANCE else [f"The parts make {made}, and the label has {found['probabilities']}."],
        "event": {
            "file": f"data/events/{partition}.parquet",
            "row": position + 1,
            "raw": raw.of(key),
            "raw_unknown": raw.unknown,
        },
        "gold": _dev_gold(project, task, partition, keys, position),
        "review": _review(project, task, str(key)),
        "functions": [
            {**each, **code_place(project.root, each["module"], each["name"])} for each in found["functions"]
        ],
        "made_of": {
            "revision": revision(project),
            "labels": {"file": f"data/labels/{task}/{partition}.parquet", **_hash(labels[partition])},
            "votes": {"file": votes.relative_to(project.root).as_posix(), **_hash(votes)},
            "events": {"sha256": hashes[partition]},
            "training_set": _trained(project, task),
        },
    }


def added_up(found: dict[str, Any]) -> dict[str, float]:
    """The probability of each class by the parts of an explanation; where votes are only counted, by their numbers."""
    classes, reader = found["classes"], found["reader"] or {}
    parts = [found["prior"], found["together"], reader.get("log_odds"), *(f["log_odds"] for f in found["functions"])]
    given = [part for part in parts if part is not None]
    if not given:
        counts = np.array([found["votes"][name] for name in classes])
        best = counts == counts.max() if counts.any() else np.ones(len(classes), bool)
        shares = best / best.sum() if counts.any() else np.array([found["class_balance"][name] for name in classes])
    else:
        odds = np.array([sum(part.get(name, 0.0) for part in given) for name in classes])
        weights = exp(odds - odds.max())
        shares = weights / weights.sum()
    return dict(zip(classes, map(float, shares), strict=True))


def _dev_gold(
    project: Project, task: str, partition: str, keys: pa.ChunkedArray, position: int
) -> dict[str, Any] | None:
    """The event's gold label of the dev side as it was given, and whether the task learns of such; test is sealed."""
    settings, key = project.task(task), project.params.events.key
    where, place = folder(project, task, "dev"), gold_place(project, partition)
    gold = int(gold_labels(where, key, keys.slice(position, 1), settings.classes, place)[0])
    if gold == UNKNOWN:
        return None
    return {"label": settings.classes[gold], "is_evidence": settings.label_model.known != "none"}


def _review(project: Project, task: str, key: str) -> dict[str, Any] | None:
    """What reviewers said of the event, line by line, and what counts; None where nobody answered."""
    of_event = [placed for placed in read_answers(project, task).answers if placed.answer.key == key]
    if not of_event:
        return None
    counts = settle(of_event).get(key)
    said = [
        {
            "file": placed.file,
            "line": placed.line,
            "reviewer": placed.reviewer,
            "said": placed.answer.label or placed.answer.said,
            "purpose": placed.answer.purpose,
            "time": placed.answer.time.isoformat(),
            "resolves": placed.answer.resolves,
        }
        for placed in of_event
    ]
    return {"label": counts and counts.label, "is_disputed": bool(counts and counts.is_disputed), "answers": said}


def _hash(file: Any) -> dict[str, str]:
    return {"sha256": hashes_of({file.stem: file})[file.stem]}


def _trained(project: Project, task: str) -> bool | None:
    """Whether the training set was made of these labels; None where there is none."""
    if task not in TRAINING.files(project):
        return None
    return TRAINING.read(project, task).data.get(f"labels/{task}") == table_version(project, f"labels/{task}")
