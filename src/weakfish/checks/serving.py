"""Does the online store serve what training read? The audit in ``reports/publish.json`` in, a check per view out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from weakfish.contracts.verdicts import Check, Severity, judged
from weakfish.files import read_json
from weakfish.project.paths import Project

BAD = ("missing", "stale", "different", "unexpected")
"""Kinds of rows that are not served as they are stored; `store.publishing.audit` says what each is."""

WHY = "A model that is served other values than it learned from is wrong in ways that no offline measure shows."
SHOWN = 3
"""Entities, and features, that a sentence names."""


def serving_checks(project: Project, task: str) -> list[Check]:
    """For each feature view of a training set, whether all that is online equals what training read.

    Without an audit, one ``info`` check that says so. Entities are named by their keys.

    Raises
    ------
    TableError
        When the training set has no manifest.
    """
    read = read_json(project.table("training") / f"{task}.manifest.json")["data"]
    views = {name.removeprefix("features/"): version for name, version in read.items() if name.startswith("features/")}
    file = project.reports / "publish.json"
    published = read_json(file) if file.exists() else {}
    audited = (published.get("audit") or {}).get("views", {})
    found = []
    for view, version in sorted(views.items()):
        if view not in audited:
            found.append(_unknown(view))
            continue
        found.append(_equal(view, audited[view]))
        found.append(_same_version(view, version, published["views"][view]["data_version"]))
    return found


def _equal(view: str, audit: Mapping[str, Any]) -> Check:
    counts = {kind: audit["rows"].get(kind, 0) for kind in BAD}
    otherwise = audit["sample"]["different"]
    bad, rows = sum(counts.values()) + otherwise, sum(audit["rows"].values())
    features = {
        name: {kind: of[kind] for kind in BAD if of.get(kind)}
        for name, of in audit["features"].items()
        if any(of.get(kind) for kind in BAD)
    }
    return _check(
        f"serving_equals_training({view})",
        "critical",
        not bad,
        WHY,
        arguments={"view": view, "rows": counts, "features": features, "read_otherwise_by_feast": otherwise},
        unexpected=bad,
        unexpected_share=bad / rows if rows else 0.0,
        threshold=0.0,
        found=_said(counts, otherwise, rows, features, _first(audit)),
        detects=f"One value in one of {rows:,} rows shows: all are compared.",
    )


def _said(counts: Mapping[str, int], otherwise: int, rows: int, features: Mapping[str, Any], first: list[str]) -> str:
    if not any(counts.values()) and not otherwise:
        return f"All {rows:,} rows online are as stored."
    said = [f"{count:,} {kind}" for kind, count in counts.items() if count]
    said += [f"{otherwise:,} read otherwise by plain Feast"] if otherwise else []
    worst = Counter({name: sum(of.values()) for name, of in features.items()}).most_common(SHOWN)
    where = f"; features: {', '.join(f'{name} ({count:,})' for name, count in worst)}" if worst else ""
    return f"Of {rows:,} rows online, {', '.join(said)}{where}; first: {', '.join(first)}."


def _first(audit: Mapping[str, Any]) -> list[str]:
    entities = [entity for kind in BAD for entity in audit["first"].get(kind, [])] + audit["sample"]["first"]
    return ["@".join(map(str, entity.values())) for entity in entities[:SHOWN]]


def _same_version(view: str, trained: str, served: str) -> Check:
    return _check(
        f"serving_version({view})",
        "warning",
        trained == served,
        "An audit of other rows than training read says nothing about what was learned.",
        arguments={"view": view, "trained": trained, "served": served},
        found=f"Training read version {trained[:12]}; {served[:12]} is online.",
    )


def _unknown(view: str) -> Check:
    return _check(
        f"serving_equals_training({view})",
        "info",
        False,
        WHY,
        arguments={"view": view},
        found=f"Nobody has compared what is online of {view} with what training read; `weakfish publish` does.",
    )


def _check(name: str, severity: Severity, holds: bool, why: str, **more: Any) -> Check:
    expectation = name.partition("(")[0]
    return Check(name, expectation, severity, why, judged(severity, holds), kind="serving", **more)
