"""Whether what is served is fresh, and what training read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.rates import percent
from weakfish.contracts.tables import open_partition, read_partition
from weakfish.contracts.verdicts import Check, measured
from weakfish.engine.profile import FEATURE_TIME
from weakfish.files import read_json
from weakfish.project.paths import Project

BAD = ("missing", "stale", "different", "unexpected")
"""Kinds of rows that are not served as they are stored; `store.publishing.audit` says what each is."""

WHY = "A model that is served other values than it was trained on fails in ways that no offline metric shows."
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
    return measured(
        "serving",
        f"serving_equals_training({view})",
        "critical",
        WHY,
        not bad,
        against_baseline=False,
        arguments={"view": view, "rows": counts, "features": features, "read_otherwise_by_feast": otherwise},
        unexpected=bad,
        unexpected_share=bad / rows if rows else 0.0,
        threshold=0.0,
        found=_said(counts, otherwise, rows, features, _first(audit)),
        detects=f"A single value in any of {rows:,} rows: all are compared.",
    )


def _said(counts: Mapping[str, int], otherwise: int, rows: int, features: Mapping[str, Any], first: list[str]) -> str:
    if not any(counts.values()) and not otherwise:
        return f"All {rows:,} online rows equal the stored ones."
    said = [f"{count:,} {kind}" for kind, count in counts.items() if count]
    said += [f"{otherwise:,} read differently by plain Feast"] if otherwise else []
    worst = Counter({name: sum(of.values()) for name, of in features.items()}).most_common(SHOWN)
    where = f"; features: {', '.join(f'{name} ({count:,})' for name, count in worst)}" if worst else ""
    return f"Of {rows:,} rows online, {', '.join(said)}{where}; first: {', '.join(first)}."


def _first(audit: Mapping[str, Any]) -> list[str]:
    entities = [entity for kind in BAD for entity in audit["first"].get(kind, [])] + audit["sample"]["first"]
    return ["@".join(map(str, entity.values())) for entity in entities[:SHOWN]]


def _same_version(view: str, trained: str, served: str) -> Check:
    return measured(
        "serving",
        f"serving_version({view})",
        "warning",
        "The audit compared other rows than the training set was made from, so it says nothing about this "
        "training set.",
        trained == served,
        against_baseline=False,
        arguments={"view": view, "trained": trained, "served": served},
        found=f"The training set was made from version {trained[:12]}; version {served[:12]} is online.",
    )


def _unknown(view: str) -> Check:
    return measured(
        "serving",
        f"serving_equals_training({view})",
        "info",
        WHY,
        False,
        against_baseline=False,
        arguments={"view": view},
        found=f"The online rows of {view} have not been compared with the training set yet; `weakfish "
        "publish` compares them.",
    )


DIGITS = 3
"""Decimals of hours: more than seconds."""


def feature_checks(project: Project, view: str, files: Mapping[str, Path]) -> list[Check]:
    """Whether the newest row is new enough, and how many entities have only old ones.

    Raises
    ------
    TableError
        When a partition or the view's manifest is missing.
    """
    as_of = _as_of(project, view)
    newest = _newest(files, as_of)
    return [_freshness(project, newest, as_of), *_stale_entities(project, newest, as_of)]


def _as_of(project: Project, view: str) -> datetime:
    """What `publish` will answer for; ``last`` is the last accepted event that the features know."""
    asked = project.params.publish.as_of
    if isinstance(asked, datetime):
        return asked if asked.tzinfo else asked.replace(tzinfo=UTC)
    if asked == "now":
        return datetime.now(UTC)
    return datetime.fromisoformat(read_json(project.table("features") / f"{view}.manifest.json")["as_of"])


def _newest(files: Mapping[str, Path], as_of: datetime) -> pa.Array:
    """The time of each entity's newest row that is not after ``as_of``, partition by partition."""

    def later(found: pa.Table, file: Path) -> pa.Table:
        rows = read_partition(file, [*entities, FEATURE_TIME])
        rows = rows.filter(pc.less_equal(rows[FEATURE_TIME], pa.scalar(as_of, rows[FEATURE_TIME].type)))
        last = pa.concat_tables([found, rows]).group_by(entities).aggregate([(FEATURE_TIME, "max")])
        return pa.table([last[name] for name in (*entities, f"{FEATURE_TIME}_max")], rows.schema)

    schema = open_partition(next(iter(files.values()))).schema_arrow
    entities = schema.names[: schema.names.index(FEATURE_TIME)]
    nothing = schema.empty_table().select([*entities, FEATURE_TIME])
    return reduce(later, files.values(), nothing)[FEATURE_TIME]


def _freshness(project: Project, newest: pa.Array, as_of: datetime) -> Check:
    limit, last = project.params.validation.features.max_age_hours, pc.max(newest).as_py()
    hours = round((as_of - last) / timedelta(hours=1), DIGITS) if last else None
    age = f"The newest row is of {_text(last)}, {hours:,.1f} hours before" if last else "There is no row before"
    return measured(
        "features",
        "freshness",
        "warning",
        "A view that is no longer rebuilt serves values that are older than its readers believe.",
        hours is not None and hours <= limit,
        against_baseline=False,
        observed=hours,
        threshold=limit,
        found=f"{age} {_text(as_of)}, the time set by publish.as_of.",
        detects=f"A newest row older than {_text(as_of - timedelta(hours=limit))}.",
    )


def _stale_entities(project: Project, newest: pa.Array, as_of: datetime) -> list[Check]:
    """None where no entity has a row."""
    limits, entities = project.params.validation.features, len(newest)
    if not entities:
        return []
    since = as_of - timedelta(hours=limits.stale_after_hours)
    stale = pc.sum(pc.less(newest, pa.scalar(since, newest.type))).as_py() or 0
    check = measured(
        "features",
        "stale_entities",
        "warning",
        "Entities that are no longer updated are served with their last values, or not at all once their TTL "
        "has passed.",
        stale / entities <= limits.max_stale_share,
        against_baseline=False,
        observed=round(stale / entities, 6),
        threshold=limits.max_stale_share,
        found=f"{stale:,} of {entities:,} entities have no row since {_text(since)}.",
        detects=f"A share above {percent(limits.max_stale_share)} is reported; one entity is {percent(1 / entities)}."
        if limits.max_stale_share < 1
        else "Nothing, because validation.features.max_stale_share is 1.",
    )
    return [check]


def _text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
