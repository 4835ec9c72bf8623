"""Two versions of a project side by side: all that `weakfish diff --format json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from weakfish.checks.baseline import revisions
from weakfish.contracts.hashes import hashes_of
from weakfish.contracts.ledgers import ledger_file, read_ledger
from weakfish.contracts.manifests import manifest_file
from weakfish.contracts.pointers import listed
from weakfish.diffing.data_edits import data_edits
from weakfish.diffing.edits import Edit, edits
from weakfish.diffing.feature_changes import feature_changes, served_changes, views
from weakfish.diffing.first_cause import ranked, sentence
from weakfish.diffing.function_changes import function_changes
from weakfish.diffing.label_changes import dev_metrics, label_changes
from weakfish.diffing.rows import compare, differing
from weakfish.errors import UserError
from weakfish.project.git import git_output
from weakfish.project.laid_out import ProjectVersion, laid_out, work_tree
from weakfish.project.paths import Project

WANTED = (
    *("data/events", "data/staged", "data/gold", "data/reviews", "data/quarantine", "data/votes", "data/labels"),
    *("data/features", "data/training", "reports/ledger", "reports/labeling_functions.json"),
)
"""The outs of a revision that are compared."""


def diff(project: Project, revision: str | None = None, to: str | None = None) -> dict[str, Any]:
    """What changed from one revision of a project, by default the last accepted one, to another, or the work tree.

    Returns
    -------
    dict
        ``from`` and ``to`` (``name``, ``commit``), ``sentence``, ``nothing`` (nothing that counts changed), ``causes``
        (edits, the first cause first), ``idle`` (files in which only comments or layout changed), ``data``,
        ``functions``, ``labels``, ``metrics`` and ``training`` by task, ``features`` and ``served`` by view; what does
        not differ is left out of these. docs/dataops.md has the fields.

    Raises
    ------
    UserError
        When there is no git, no revision was accepted, git does not know the revision, the project had not run, or
        the cache has lost its tables.
    """
    with ExitStack() as stack:
        old = stack.enter_context(laid_out(project, revision or accepted(project), WANTED))
        new = stack.enter_context(laid_out(project, to, WANTED)) if to else work_tree(project)
        for side in (old, new):
            if not listed(side.project.table("events")):
                raise UserError(
                    f"There are no events in {side.name}: the pipeline has not run there; run `weakfish run`"
                    f"{'' if side is new and not to else ', or name another revision'}."
                )
        return compared(old, new)


def accepted(project: Project) -> str:
    """The last commit that accepted something as good; raises `UserError` where none did."""
    if git_output(project.root, "rev-parse", "--git-dir") is None:
        raise UserError(f"{project.root} is in no git repository, so there is no earlier version to compare with.")
    moved = [found.commit for found in revisions(project) if found.tables]
    if not moved:
        raise UserError(
            "No commit has accepted a baseline yet, so say what to compare with: `weakfish diff HEAD`; `weakfish "
            "accept-baseline`, committed, makes a version the one to compare with."
        )
    return moved[-1]


def compared(old: ProjectVersion, new: ProjectVersion) -> dict[str, Any]:
    """What `diff` returns, of two versions that have run."""
    made, idle = edits(old, new)
    data, of_data = _data(old, new)
    tasks = _tasks(old, new)
    found: dict[str, Any] = {
        "from": {"name": old.name, "commit": old.commit},
        "to": {"name": new.name, "commit": new.commit},
        "data": data,
        "functions": {},
        "labels": {},
        "metrics": {},
        "training": {},
        "features": {},
        "served": {},
        "idle": idle,
    }
    for task in tasks:
        _task(old, new, task, made, found)
    for view in views(old, new):
        for name, changes in (("features", feature_changes), ("served", served_changes)):
            if (change := changes(old, new, view)) is not None:
                found[name][view] = change
    gold = [_told(old, new, "gold", "gold labels"), _told(old, new, "reviews", "answers of reviewers")]
    causes = ranked([*made, *of_data, *(edit for edit in gold if edit)], found)
    differs = any(found[name] for name in ("data", "functions", "labels", "training", "features", "served"))
    return {
        **{name: found[name] for name in ("from", "to")},
        "sentence": sentence(old, new, causes, found),
        "nothing": not causes and not differs,
        "causes": [asdict(cause) for cause in causes],
        **{name: of for name, of in found.items() if name not in ("from", "to")},
    }


def _data(old: ProjectVersion, new: ProjectVersion) -> tuple[dict[str, Any], list[Edit]]:
    """How the events differ, as they were staged and as they were accepted, and what was done to the data."""
    events, told = new.project.params.events, dict[str, Any]()
    of_data = list[Edit]()
    staged = differing(old.project.staged("events"), new.project.staged("events"))
    if staged:
        change = compare(staged, [events.key])
        if change:
            told["staged"] = asdict(change)
            of_data = data_edits(old, new, staged, change, events.key, events.time)
    accepted_ones = differing(old.project.table("events"), new.project.table("events"))
    if accepted_ones:
        change = compare(accepted_ones, [events.key])
        if change:
            told["events"] = asdict(change)
    counts = {side: _counts(version) for side, version in (("old", old), ("new", new))}
    if counts["old"] != counts["new"]:
        told["counts"] = counts
    return told, of_data


def _counts(version: ProjectVersion) -> dict[str, int | None]:
    """Rows that were read, rejected, quarantined and accepted."""
    found: dict[str, int | None] = {}
    for stage, names in (("ingest", ("rows_in", "rejected", "copies")), ("accept", ("quarantined", "rows_out"))):
        there = ledger_file(version.project, stage).is_file()
        ledger = read_ledger(version.project, stage) if there else None
        found |= {name: getattr(ledger, name) if ledger else None for name in names}
    return found


def _tasks(*versions: ProjectVersion) -> list[str]:
    names = [
        file.name.removesuffix(".manifest.json")
        for version in versions
        for file in sorted(version.project.table("labels").glob("*.manifest.json"))
    ]
    return list(dict.fromkeys(names))


def _task(old: ProjectVersion, new: ProjectVersion, task: str, made: Sequence[Edit], found: dict[str, Any]) -> None:
    """Add what differs of a task."""
    if not all(manifest_file(side.project, f"labels/{task}").is_file() for side in (old, new)):
        there = manifest_file(new.project, f"labels/{task}").is_file()
        found["labels"][task] = {"task": task, "only": "new" if there else "old"}
        return
    labels = label_changes(old, new, task)
    classes = labels.pop("classes")
    edited = any(edit.area in ("functions", "dependencies", "engine") for edit in made)
    functions = [
        each
        for each in function_changes(old, new, task, classes)
        if edited or each["change"] != "edited" or each["moved"]  # a comment changes an identity and no vote
    ]
    if functions:
        found["functions"][task] = functions
    labels["probabilities"] = _probabilities(old, new, task) if labels.pop("rewritten") else 0
    if labels["groups"] or labels["rows"]["old"] != labels["rows"]["new"] or labels["probabilities"]:
        found["labels"][task] = labels
        if metrics := dev_metrics(old, new, task):
            found["metrics"][task] = metrics
    files = differing(old.project.table(f"training/{task}"), new.project.table(f"training/{task}"))
    change = compare(files, [new.project.params.events.key], fitted=True) if files else None
    if change:
        found["training"][task] = asdict(change)


def _probabilities(old: ProjectVersion, new: ProjectVersion, task: str) -> int:
    """Rows whose probabilities moved."""
    files = differing(*(side.project.table(f"labels/{task}") for side in (old, new)))
    moved = compare(files, [new.project.params.events.key], fitted=True).values if files else {}
    return max((number for name, number in moved.items() if name.startswith("p_")), default=0)


def _told(old: ProjectVersion, new: ProjectVersion, table: str, called: str) -> Edit | None:
    """What people said of rows, where that differs: gold labels, or answers of reviews."""
    sides = [_hashes(side, table) for side in (old, new)]
    parts = sorted({name.split("/")[0] for name in {*sides[0], *sides[1]} if sides[0].get(name) != sides[1].get(name)})
    if not parts:
        return None
    area: Any = table
    return Edit(area, f"{called} changed ({' and '.join(parts)} side)", f"data/{table}", tuple(parts))


def _hashes(side: ProjectVersion, table: str) -> Mapping[str, str]:
    base = side.project.data / table
    folders: Sequence[Any] = sorted(
        {file.parent for suffix in ("parquet", "pointer") for file in base.rglob(f"*.{suffix}")}
    )
    files = {file.relative_to(base).as_posix(): file for folder in folders for file in listed(folder)}
    return hashes_of(files)
