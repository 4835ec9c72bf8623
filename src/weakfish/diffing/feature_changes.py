"""How features differ between two versions: values of the same entity and time, distributions, and what is served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.types as types

from weakfish.contracts.manifests import FEATURES, FeaturesManifest, read_manifest
from weakfish.contracts.pointers import listed
from weakfish.contracts.record import CREATED, EVENT_TIMESTAMP, utc
from weakfish.contracts.tables import row_count
from weakfish.diffing.rows import EXAMPLES, Differing, compare, differ, differing, form, quoted, scanned, session
from weakfish.errors import ParamsError
from weakfish.project.laid_out import ProjectVersion

SAMPLE = 1_000_000
"""Rows, about, from which quantiles are taken; chosen by a hash of their times."""

MOST = 12
"""Features of a view whose distributions are told: those that moved most."""


def views(*versions: ProjectVersion) -> list[str]:
    """The views that any of some versions has."""
    return sorted({view for version in versions for view in FEATURES.files(version.project)})


def feature_changes(old: ProjectVersion, new: ProjectVersion, view: str) -> dict[str, Any] | None:
    """How a view differs; None where it does not.

    Returns
    -------
    dict
        The fields of `TableChange`; ``entity`` before and now; ``distributions`` by feature, ``old`` and ``new`` over
        the partitions that differ.
    """
    table = f"features/{view}"
    found = differing(old.project.table(table), new.project.table(table))
    made = [_manifest(version, view) for version in (old, new)]
    entities = [each.entity if each else None for each in made]
    if not found or (not found.old and not found.new and entities[0] == entities[1]):
        return None
    change = compare(
        found,
        [name for name in (entities[1] or "", EVENT_TIMESTAMP) if name in found.schemas[1].names],
        fitted=True,
        unique=True,
    )
    values = {name: count for name, count in change.values.items() if name != CREATED}
    came = change.added or change.removed or change.columns
    if not (came or values) and entities[0] == entities[1]:
        return None
    told = [*values, *(name for name in change.columns if name not in values)] or _features(made)
    return {
        **asdict(change),
        "values": values,
        "entity": entities,
        "distributions": _distributions(found, told[:MOST]),
    }


def _manifest(version: ProjectVersion, view: str) -> FeaturesManifest | None:
    there = FEATURES.file(version.project, view).is_file()
    return read_manifest(version.project, FeaturesManifest, f"features/{view}") if there else None


def _features(made: Sequence[FeaturesManifest | None]) -> list[str]:
    return list(dict.fromkeys(name for each in made if each for name in each.features))


def _distributions(found: Differing, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    sides = {}
    for side, files, schema in (("old", found.old, found.schemas[0]), ("new", found.new, found.schemas[1])):
        sides[side] = _summaries(files, schema, [name for name in names if name in schema.names]) if files else {}
    return {name: {side: sides[side].get(name) for side in ("old", "new")} for name in names}


def _summaries(files: Mapping[str, Path], schema: Any, names: Sequence[str]) -> dict[str, Any]:
    """Of each column the share of nulls and, of numbers, mean, tenth, middle and ninetieth of a hundred."""
    asked, shape = list[str](), list[tuple[str, bool]]()
    share = -(-sum(map(row_count, files.values())) // SAMPLE)
    sampled = f" FILTER (hash({EVENT_TIMESTAMP}) % {share} = 0)" if share > 1 else ""
    for name in names:
        kind, column = schema.field(name).type, quoted(name)
        numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
        asked.append(f"1 - count({column}) / count(*)")
        if numeric:
            value = f"CAST({column} AS DOUBLE)"
            asked += [f"avg({value})", *(f"quantile_disc({value}, {q}){sampled}" for q in (0.1, 0.5, 0.9))]
        shape.append((name, numeric))
    if not asked:
        return {}
    with session() as con:
        row = list(con.execute(f"SELECT {', '.join(asked)} FROM {scanned(files.values())}").fetchone())
    told = {}
    for name, numeric in shape:
        own, row = row[: 5 if numeric else 1], row[5 if numeric else 1 :]
        told[name] = dict(zip(("nulls", "mean", "p10", "median", "p90"), map(_digits, own), strict=False))
    return told


def _digits(value: float | None) -> float | None:
    """Six digits: how threads share the work decides the last ones of a mean."""
    return None if value is None else float(f"{value:.6g}")


def served_changes(old: ProjectVersion, new: ProjectVersion, view: str) -> dict[str, Any] | None:
    """What is served otherwise of a view: the newest row of each entity as of the publication, before and now.

    Returns
    -------
    dict or None
        ``entities`` (with a row, ``old`` and ``new``), ``added``, ``removed`` and ``moved`` entities, ``values`` by
        feature, ``examples`` of entities, ``as_of`` before and now; None where nothing differs.
    """
    table, made = f"features/{view}", [_manifest(version, view) for version in (old, new)]
    if not made[0] or not made[1] or made[0].entity != made[1].entity:
        return None
    times = [_as_of(version) for version in (old, new)]
    sides = [listed(version.project.table(table)) for version in (old, new)]
    found = differing(old.project.table(table), new.project.table(table))
    if found is None or not all(sides) or None in times or (not found and times[0] == times[1]):
        return None
    entity, names = made[1].entity, [name for name in made[1].features if name in made[0].features]
    if entity not in found.shared:
        return None
    with session() as con:
        forms = [form(name, *(schema.field(name).type for schema in found.schemas)) for name in names]
        best = "".join(f", arg_max_null({one}, {EVENT_TIMESTAMP}) h{place}" for place, one in enumerate(forms))
        for name, files, time in zip(("o", "n"), sides, times, strict=True):
            con.execute(
                f"CREATE TEMP TABLE {name} AS SELECT {quoted(entity)} AS entity, max({EVENT_TIMESTAMP}) AS at{best} "
                f"FROM {scanned(files)} WHERE {EVENT_TIMESTAMP} <= ? GROUP BY 1",
                [time],
            )
        differs = [differ(f"o.h{place}", f"n.h{place}", one, True) for place, one in enumerate(forms)]
        both = "o.entity IS NOT NULL AND n.entity IS NOT NULL"
        moved = f"({' OR '.join(differs) or 'false'})"
        asked = [
            "count(o.entity)",
            "count(n.entity)",
            "count(*) FILTER (o.entity IS NULL)",
            "count(*) FILTER (n.entity IS NULL)",
            f"count(*) FILTER ({both} AND {moved})",
            *(f"count(*) FILTER ({both} AND {one})" for one in differs),
        ]
        join = "FROM o FULL JOIN n ON o.entity = n.entity"
        was, now, added, removed, changed, *by_feature = con.execute(f"SELECT {', '.join(asked)} {join}").fetchone()
        examples = f"SELECT n.entity {join} WHERE {both} AND {moved} ORDER BY 1 LIMIT {EXAMPLES}"
        keys = [str(key) for (key,) in con.execute(examples).fetchall()]
    if not (added or removed or changed):
        return None
    values = {name: count for name, count in zip(names, by_feature, strict=True) if count}
    return {
        "entities": [was, now],
        "added": added,
        "removed": removed,
        "moved": changed,
        "values": dict(sorted(values.items(), key=lambda item: -item[1])),
        "examples": keys,
        "as_of": [time.isoformat() if time else None for time in times],
    }


def _as_of(version: ProjectVersion) -> datetime | None:
    """The time that the store answers for; of ``now`` that of the last event, so that the clock makes no difference."""
    with suppress(ParamsError):  # of an earlier version, whose settings are no longer understood
        setting = version.project.params.publish.as_of
        if isinstance(setting, datetime):
            return utc(setting)
    known = [made.as_of for view in views(version) if (made := _manifest(version, view)) and made.as_of]
    return max(known, default=None)
