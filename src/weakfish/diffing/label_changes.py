"""How labels differ between two versions, and whether that is better: rows of dev gold that became right or wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from weakfish.contracts.manifests import LabelsManifest, read_manifest
from weakfish.contracts.pointers import listed
from weakfish.contracts.reports import LabelsReport, read_report, report_file
from weakfish.contracts.tables import GOLD_LABEL, folder, open_partition
from weakfish.diffing.rows import quoted, scanned, session
from weakfish.labeling.flips import flips
from weakfish.project.laid_out import ProjectVersion


def label_changes(old: ProjectVersion, new: ProjectVersion, task: str) -> dict[str, Any]:
    """What `weakfish labels diff --json` says of a task, with ``shares``: labels by class before and now."""
    found = flips(old, new, task)
    shares = {side: _shares(version, task) for side, version in (("old", old), ("new", new))}
    return {**found, "shares": shares}


def _shares(version: ProjectVersion, task: str) -> dict[str, int]:
    files = listed(version.project.table(f"labels/{task}"))
    with session() as con:
        query = f"SELECT label, count(*) FROM {scanned(files)} WHERE label IS NOT NULL GROUP BY label ORDER BY label"
        return dict(con.execute(query).fetchall())


def dev_metrics(old: ProjectVersion, new: ProjectVersion, task: str) -> dict[str, Any] | None:
    """What dev gold says of a task before and now; None where there is none.

    Returns
    -------
    dict
        ``old`` and ``new``: ``rows``, ``accuracy``, ``f1``, ``coverage``, as `label` reported them. ``fixed`` and
        ``broken``: rows whose label, as it would be without their own gold, became right, or no longer is.
    """
    sides = {}
    for name, version in (("old", old), ("new", new)):
        report = (
            read_report(version.project, LabelsReport) if report_file(version.project, LabelsReport).is_file() else None
        )
        dev = report.tasks[task].dev if report and task in report.tasks else None
        sides[name] = dev and {of: getattr(dev, of) for of in ("rows", "accuracy", "f1", "coverage")}
    if not any(sides.values()):
        return None
    fixed, broken = _turned(old, new, task)
    return {**sides, "fixed": fixed, "broken": broken}


def _turned(old: ProjectVersion, new: ProjectVersion, task: str) -> tuple[int, int]:
    """How many rows of today's dev gold became right, and how many no longer are."""
    gold, key = listed(folder(new.project, task, "dev")), quoted(new.project.params.events.key)
    sides = [listed(side.project.table(f"labels/{task}")) for side in (old, new)]
    if not gold or not all(sides):
        return 0, 0
    said = [_said(side, task, files) for side, files in zip((old, new), sides, strict=True)]
    with session() as con:
        con.execute(f"CREATE TEMP TABLE gold AS SELECT {key} AS key, {GOLD_LABEL} AS label FROM {scanned(gold)}")
        for name, query in zip(("o", "n"), said, strict=True):
            of_gold = f"{query} WHERE {key} IN (SELECT key FROM gold)"
            con.execute(f"CREATE TEMP TABLE {name} AS SELECT {key} AS key, {of_gold}")
        right = [f"coalesce({side}.said = gold.label, false)" for side in ("o", "n")]
        counts = f"count(*) FILTER (NOT {right[0]} AND {right[1]}), count(*) FILTER ({right[0]} AND NOT {right[1]})"
        fixed, broken = con.execute(f"SELECT {counts} FROM gold JOIN o USING (key) JOIN n USING (key)").fetchone()
    return int(fixed), int(broken)


def _said(version: ProjectVersion, task: str, files: list[Path]) -> str:
    """What labels say of rows without their own gold, as SQL: the most probable class of those that are known."""
    classes = read_manifest(version.project, LabelsManifest, f"labels/{task}").classes
    scan, names = scanned(files), open_partition(files[0]).schema_arrow.names
    if "known" not in names:
        return f"label AS said FROM {scan}"
    shares = ", ".join(quoted(f"p_{name}") for name in classes)
    named = ", ".join("'" + name.replace("'", "''") + "'" for name in classes)
    best = f"([{named}])[list_position([{shares}], list_max([{shares}]))]"
    return f"CASE WHEN known IS NULL THEN label WHEN covered THEN {best} END AS said FROM {scan}"
