"""The page: its templates with what they may call, its style sheet, its script, and the hash that lets it run."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

import weakfish
from weakfish.checks.outputs import write_junit
from weakfish.contracts.gold import ROWS_OF_CLASS
from weakfish.files import whole_file
from weakfish.report import (
    charts,
    check_tables,
    feature_tables,
    function_tables,
    overall,
    review_tables,
    story,
    task_sections,
    wording,
)
from weakfish.report.inputs import RunRecords, read
from weakfish.report.markup import environment

FOLDER = Path(__file__).parent / "templates"
STYLES = ("page.css", "checks.css", "charts.css", "phone.css")
"""In this order: what comes later may narrow down what came before."""


def render(root: Path) -> Path:
    """Write the page below ``root``, whole or not at all, and return its path.

    Inputs that are missing leave their section out; inputs that cannot be read make the verdict ``failed``. The same
    verdicts go into ``reports/junit.xml`` beside it.
    """
    records, page = read(root), root / "reports" / "index.html"
    html = _environment().get_template("page.html.j2").render(_context(records))
    with whole_file(page) as part:
        # Lone surrogates, which JSON may hold, cannot be written.
        part.write_text(html, encoding="utf-8", errors="replace")
    write_junit(root, earlier=[table.verdict.table for table in check_tables.tables(records) if table.stale])
    return page


def _context(records: RunRecords) -> dict[str, Any]:
    verdict, history = overall.judge(records), records.history()
    rows = check_tables.check_rows(records, history)
    bad = [row for row in rows if not row.held]
    names = dict.fromkeys((*records.labels.tasks, *records.metrics.tasks))
    return {
        "version": weakfish.__version__,
        "project": records.name,
        "ended_at": records.ended_at,
        "revision": records.revision(),
        "overall": verdict,
        "story": story.story(records),
        "figures": list(overall.figures(records)),
        "shown": overall.SHOWN,
        "rows_of": {row.anchor: row for row in bad},
        "descriptions": records.stages,
        "stages": records.rows(),
        "tally": records.tally,
        "tables": [
            (table, [row for row in rows if row.name == name], check_tables.accepted(records, name, history))
            for table in check_tables.tables(records)
            for name in [table.verdict.table]
        ],
        "rule_checks": check_tables.by_rule(bad),
        "quarantines": check_tables.quarantines(records),
        "tasks": task_sections.tasks(records),
        "reviewed": records.reviews.tasks,
        "plots": {task: task_sections.plots(records, task) for task in names},
        "functions": function_tables.pages(records),
        "views": feature_tables.views(records),
        "moves": {name: feature_tables.moves(records, name) for name in records.features},
        "published": records.published if records.published and records.published.views else None,
        "trainings": feature_tables.trainings(records),
        "stale_stages": {stage: records.outdated(stage) for stage in ("features", "publish", "training_set")},
        "versions": records.versions(),
        "colours": task_sections.models(records),
    }


@cache
def _environment() -> Environment:
    found = environment("report/templates")
    styles, script = (
        [(FOLDER / name).read_text(encoding="utf-8") for name in names] for names in (STYLES, ["search.js"])
    )
    # A content security policy lets the script with this hash run and no other; it is of all between the script's tags.
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    found.globals |= {
        "css": Markup("\n".join(styles)),  # noqa: S704  our own files
        "script": {"text": Markup(script[0]), "source": Markup(f"'sha256-{digest}'")},  # noqa: S704  our own file
        "charts": charts,
        "checks": check_tables,
        "audits": feature_tables,
        "functions_of": function_tables,
        "sections": task_sections,
        "reviews": review_tables,
        "anchor": check_tables.anchor,
        "model_name": wording.model_name,
        "few": ROWS_OF_CLASS,
    }
    words = {name: word for name, word in vars(wording).items() if callable(word)}
    aliases = {"count": wording.integer, "share": wording.percent, "number": wording.decimal}
    found.filters |= {**words, **aliases, "at": charts.place}
    return found
