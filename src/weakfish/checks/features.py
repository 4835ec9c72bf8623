"""How old feature rows are at the time that the online store answers for: partitions of a view in, checks out.

Nulls, ranges and numbers of values of features are compared with the accepted ones like those of any table, in
`checks.change`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.rates import percent
from weakfish.contracts.tables import open_partition, read_partition
from weakfish.contracts.verdicts import Check, judged
from weakfish.engine.profile import FEATURE_TIME
from weakfish.files import read_json
from weakfish.project.paths import Project

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
    age = f"The newest row is of {_text(last)}, {hours:,.1f} hours before" if last else "There is no row until"
    return _check(
        "freshness",
        hours is not None and hours <= limit,
        "What is served of a view that is no longer built is older than whoever asks believes.",
        observed=hours,
        threshold=limit,
        found=f"{age} {_text(as_of)}, which publish.as_of asks for.",
        detects=f"A newest row from before {_text(as_of - timedelta(hours=limit))} shows.",
    )


def _stale_entities(project: Project, newest: pa.Array, as_of: datetime) -> list[Check]:
    """None where no entity has a row."""
    limits, entities = project.params.validation.features, len(newest)
    if not entities:
        return []
    since = as_of - timedelta(hours=limits.stale_after_hours)
    stale = pc.sum(pc.less(newest, pa.scalar(since, newest.type))).as_py() or 0
    check = _check(
        "stale_entities",
        stale / entities <= limits.max_stale_share,
        "Entities that are no longer updated are served as they last were, or not at all once their time is up.",
        observed=round(stale / entities, 6),
        threshold=limits.max_stale_share,
        found=f"{stale:,} of {entities:,} entities have no row since {_text(since)}.",
        detects=f"A share above {percent(limits.max_stale_share)} shows; one entity is {percent(1 / entities)}."
        if limits.max_stale_share < 1
        else "No share shows, since validation.features.max_stale_share is 1.",
    )
    return [check]


def _text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _check(name: str, holds: bool, why: str, **more: Any) -> Check:
    return Check(name, name, "warning", why, judged("warning", holds), kind="features", **more)
