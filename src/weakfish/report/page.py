"""Renders ``reports/index.html``: one file, which loads nothing, from whatever inputs there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import weakfish
from weakfish.checks.junit import write_junit
from weakfish.files import whole_file
from weakfish.report import (
    checks,
    drift,
    facts,
    features,
    functions,
    plots,
    published,
    sections,
    stages,
    versions,
    words,
)
from weakfish.report.collect import Overall, judge
from weakfish.report.history import accepted_revisions
from weakfish.report.inputs import Inputs, read
from weakfish.report.quarantine import quarantines
from weakfish.report.templating import linked, script, style, template


def render(root: Path) -> Path:
    """Write the page below ``root``, whole or not at all, and return its path.

    Inputs that are missing leave their section out; inputs that cannot be read make the verdict ``failed``. Beside it,
    the same verdicts go into ``reports/junit.xml``.
    """
    inputs, page = read(root), root / "reports" / "index.html"
    html = template("page.html.j2").render(_context(inputs))
    with whole_file(page) as part:
        # Lone surrogates, which JSON may hold, cannot be written.
        part.write_text(html, encoding="utf-8", errors="replace")
    stop = stages.find_stop(inputs)
    write_junit(root, earlier=[table.verdict.table for table in checks.tables(inputs, stop) if table.stale])
    return page


def _context(inputs: Inputs) -> dict[str, Any]:
    stop, overall = stages.find_stop(inputs), judge(inputs)
    return {
        "version": weakfish.__version__,
        "revision": versions.revision(inputs.root),
        "css": style(),
        "script": script(),
        "overall": overall,
        "descriptions": {name: stage.desc for name, stage in inputs.stages.items()},
        "messages": _messages(inputs, overall),
        "stages": stages.rows(inputs),
        **_checks(inputs, stop, overall),
        "tasks": sections.tasks(inputs, stop),
        "plots": {task: _plots(inputs, task) for task in (*inputs.labels.tasks, *inputs.metrics.tasks)},
        "functions": functions.pages(inputs, stop),
        "views": features.views(inputs, stop),
        "published": features.published(inputs, stop),
        "online": published.online_views(inputs),
        "kinds": published.KINDS,
        "trainings": features.trainings(inputs, stop),
        "versions": versions.versions(inputs),
        "colours": plots.models(inputs),
    }


def _checks(inputs: Inputs, stop: stages.Stop | None, overall: Overall) -> dict[str, Any]:
    history, tables = accepted_revisions(inputs.root), checks.tables(inputs, stop)
    rows = checks.check_rows(tables, history)
    bad = checks.by_severity(rows)
    shown = [row for _, found in bad for alike in found for row in alike.rows]
    return {
        "what": linked(overall.what, shown),
        "facts": facts.facts(inputs, stop, rows),
        "tables": tables,
        "history": history,
        "bad_checks": bad,
        "rule_checks": checks.by_rule(shown),
        "held_checks": [row for row in rows if row.held],
        "quarantines": quarantines(inputs, stop, rows),
        "drifts": drift.drifts(inputs, rows, history),
        "unaccepted": drift.unaccepted(inputs),
    }


def _messages(inputs: Inputs, overall: Overall) -> dict[str, str]:
    """How stages ended that ended badly, unless the verdict says so already."""
    said = " ".join(overall.what)
    messages = {name: words.shorten(run.message) for name, run in inputs.runs.items() if run.exit_code and run.message}
    return {name: message for name, message in messages.items() if message[:80] not in said}


def _plots(inputs: Inputs, task: str) -> dict[str, Any]:
    drawn = {"roc": plots.roc, "calibration": plots.calibration, "share_over_time": plots.share_over_time}
    found = {
        name: {"svg": draw(inputs, task), "legend": plots.legend(inputs, name, task)} for name, draw in drawn.items()
    }
    return {**found, "classes": plots.shares_of_classes(inputs, task)}
