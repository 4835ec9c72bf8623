"""Which edit did it: edits in the order of what they move, and the sentence that a report begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from weakfish.diffing.edits import Area, Edit
from weakfish.project.laid_out import ProjectVersion
from weakfish.report.wording import count

ORDER = get_args(Area)

KINDS: Mapping[str, Sequence[str]] = {
    **{"data": ["events"], "source": ["events"], "patches": ["events"], "gold": ["known"], "reviews": ["reviews"]},
    **{"labels": ["refit", "reader", "several"]},
}
"""The causes of moved labels that edits of an area bring about; those of functions are by name."""


@dataclass(frozen=True)
class RankedCause:
    """An edit and what it moved.

    Attributes
    ----------
    labels
        Labels that flipped, appeared or vanished because of it alone.
    effective
        Whether the tables that it is about differ.
    """

    area: Area
    what: str
    path: str
    names: tuple[str, ...]
    labels: int = 0
    effective: bool = False


def ranked(edits: Sequence[Edit], found: Mapping[str, Any]) -> list[RankedCause]:
    """The edits, those first that moved something, of these those that moved most labels, then in the flow's order.

    Data that only grew come after what people edited. What was done to the data is no cause of its own where the
    settings or the code that read them were edited.
    """
    read_otherwise = any(edit.area == "source" for edit in edits)
    kept = [edit for edit in edits if not (edit.area == "data" and read_otherwise)]
    areas = {edit.area for edit in kept if not edit.path.startswith("data/")}
    kept = [edit for edit in kept if not edit.path.startswith("data/") or edit.area not in areas]
    if {edit.area for edit in kept} & {"data", "source"}:  # gold comes with the rows that it is about
        kept = [edit for edit in kept if edit.path != "data/gold"]
    causes = [_cause(edit, found) for edit in kept]

    def importance(cause: RankedCause) -> tuple[Any, ...]:
        grew = cause.area == "data" and _only_grew(found)
        return not cause.effective, grew, -cause.labels, ORDER.index(cause.area)

    return sorted(causes, key=importance)


def _cause(edit: Edit, found: Mapping[str, Any]) -> RankedCause:
    labels = 0
    for of_task in found["labels"].values():
        for group in of_task.get("groups", ()):
            cause = group["cause"] or {"kind": None, "functions": []}
            by_name = edit.area == "functions" and {*cause["functions"]} & {*edit.names}
            labels += group["count"] if by_name or cause["kind"] in KINDS.get(edit.area, ()) else 0
    return RankedCause(edit.area, edit.what, edit.path, edit.names, labels, _is_effective(edit, found))


def _is_effective(edit: Edit, found: Mapping[str, Any]) -> bool:
    """Whether what an edit is about differs."""
    match edit.area:
        case "data" | "source":
            return "staged" in found["data"]
        case "gold" | "reviews":
            return bool(found["labels"]) or edit.path.startswith("data/")
        case "functions":
            return bool(found["functions"] or found["labels"])
        case "labels":
            return bool(found["labels"])
        case "features":
            return bool(found["features"])
        case "patches" | "checks":
            return "staged" not in found["data"] and bool(found["data"])
        case "training":
            return bool(found["training"])
        case "publish":
            return bool(found["served"])
    return False


def _only_grew(found: Mapping[str, Any]) -> bool:
    """Whether all that happened to the rows is that new periods came."""
    change = found["data"].get("staged")
    return bool(change and change["partitions"].keys() <= {"added"} and not change["columns"])


MOST = 3
"""Effects that the sentence names."""


def sentence(old: ProjectVersion, new: ProjectVersion, causes: Sequence[RankedCause], found: Mapping[str, Any]) -> str:
    """The report in one sentence: what did it, and what moved."""
    moved = effects(found)
    if not causes and not moved:
        idle = (
            f"; in {_listed(found['idle'])} only comments, layout or names of locals changed" if found["idle"] else ""
        )
        return f"Nothing changed from {old} to {new} that moves a row, a vote, a label or a feature{idle}."
    if not causes:
        return f"Nobody edited anything from {old} to {new}, and yet {_listed(moved[:MOST])}."
    first = causes[0]
    told = first.what[0].upper() + first.what[1:]
    others = f"; {count(len(causes) - 1, 'other edit')} besides" if causes[1:] else ""
    if not moved:
        again = "; if the pipeline has not run since, `weakfish run` does that" if _may_wait(first, new) else ""
        return f"{told}, and no row, vote, label or feature moved{others}{again}."
    return f"{told}: {_listed(moved[:MOST])}{others}."


def _may_wait(cause: RankedCause, new: ProjectVersion) -> bool:
    """Whether an edit that moved nothing may not have come through the pipeline of the work tree yet."""
    waits = ("source", "gold", "reviews", "functions", "labels", "features", "checks", "patches", "training")
    return new.commit is None and cause.area in waits


def effects(found: Mapping[str, Any]) -> list[str]:
    """What moved, a clause each, in the order of what a reader asks first."""
    told = list[str]()
    for task, of in found["labels"].items():
        told += _of_labels(task, of, found["metrics"].get(task))
    change = found["data"].get("events") or found["data"].get("staged")
    if change:
        parts = [("added", "came"), ("removed", "went"), ("moved", "have other values")]
        told += [f"{count(change[name], 'event')} {verb}" for name, verb in parts if change[name]]
    for view, of in found["features"].items():
        before, now = of["entity"]
        if before and now and before != now:
            told.append(f"the rows of {view} are of another entity, {now} instead of {before}")
        elif of["columns"]:
            told.append(f"{count(len(of['columns']), 'column')} of {view} came, went or became another type")
    moved = sum(sum(of["values"].values()) for of in found["features"].values())
    rows = sum(of["added"] + of["removed"] for of in found["features"].values())
    if moved or rows:
        told.append(f"{count(moved, 'feature value')} moved" if moved else f"{count(rows, 'feature row')} came or went")
    served = sum(of["moved"] + of["added"] + of["removed"] for of in found["served"].values())
    if served:
        told.append(f"{count(served, 'entity').replace('entitys', 'entities')} would be served otherwise")
    for task, change in found["training"].items():
        if change["rows"][0] != change["rows"][1]:
            told.append(f"the training set of {task} has {change['rows'][1]:,} rows instead of {change['rows'][0]:,}")
        elif change["columns"]:
            told.append(f"{count(len(change['columns']), 'column')} of the training set of {task} changed")
    votes = sum(each["moved"] for of in found["functions"].values() for each in of)
    if votes and not found["labels"]:
        told.append(f"{count(votes, 'vote')} moved and no label")
    return told


def _of_labels(task: str, of: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> list[str]:
    if "only" in of:
        return [f"{task} is a task {'now' if of['only'] == 'new' else 'no more'}"]
    parts = [f"{of[kind]:,} {kind}" for kind in ("flipped", "appeared", "vanished") if of[kind]]
    if not parts:
        number = count(of["probabilities"], "event")
        return [f"the probabilities of {number} moved, and no label of {task}"] if of["probabilities"] else []
    better = ""
    if metrics and (metrics["fixed"] or metrics["broken"]):
        better = f" (on dev gold {metrics['fixed']:,} became right and {metrics['broken']:,} wrong)"
    return [f"of the labels of {task} {_listed(parts)}{better}"]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
