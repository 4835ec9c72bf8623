"""The templates of the page, with what they may call; its style sheet; its script, and the hash that lets it run."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

import weakfish
from weakfish.checks.outputs import write_junit
from weakfish.evaluation.measures import ROWS_OF_CLASS as OF_CLASS
from weakfish.files import whole_file
from weakfish.report import charts
from weakfish.report import charts as sparks
from weakfish.report import check_tables as checks
from weakfish.report import check_tables as drift
from weakfish.report import feature_tables as features
from weakfish.report import feature_tables as published
from weakfish.report import function_tables as accuracies
from weakfish.report import function_tables as function_charts
from weakfish.report import function_tables as functions
from weakfish.report import function_tables as notes
from weakfish.report import inputs as stages
from weakfish.report import inputs as versions
from weakfish.report import overall as facts
from weakfish.report import task_sections as plots
from weakfish.report import task_sections as sections
from weakfish.report import wording as words
from weakfish.report.check_tables import CheckRow, quarantines
from weakfish.report.inputs import Inputs, accepted_revisions, read
from weakfish.report.overall import Overall, judge

FOLDER = Path(__file__).parent / "templates"
STYLES = ("page.css", "checks.css", "charts.css", "phone.css")
"""In this order: what comes later may narrow down what came before."""


@dataclass(frozen=True)
class Script:
    """The page's script, and the source expression by which a content security policy allows it and nothing else."""

    text: Markup
    source: Markup


def template(name: str) -> Template:
    """A template by file name."""
    return _environment().get_template(name)


def style() -> Markup:
    """The style sheet."""
    return Markup("\n").join(Markup((FOLDER / name).read_text(encoding="utf-8")) for name in STYLES)  # noqa: S704  ours


def script() -> Script:
    """The script; its hash is that of all between its tags."""
    text = (FOLDER / "search.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(Markup(text), Markup(f"'sha256-{digest}'"))  # noqa: S704  our own file


def linked(sentences: Iterable[str], rows: Sequence[CheckRow]) -> list[Markup]:
    """Sentences as markup; where one is about a check that the page shows, the check's name leads there."""
    return [_linked(sentence, rows) for sentence in sentences]


def _linked(sentence: str, rows: Sequence[CheckRow]) -> Markup:
    about = next((row for row in rows if sentence.startswith(f"{row.name}: `{row.check.check}` ")), None)
    if about is None:
        return code(sentence)
    start, rest = f"{about.name}: ", sentence.removeprefix(f"{about.name}: `{about.check.check}`")
    name = Markup('<a href="#{}"><code>{}</code></a>').format(about.anchor, about.check.check)
    return Markup("{}{}{}").format(start, name, code(rest))


def code(sentence: str) -> Markup:
    """Escape a sentence, then set what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))  # noqa: S704  escaped above


def _breakable(name: str) -> Markup:
    """Escape a name, and let it break after underscores and brackets."""
    return Markup(re.sub(r"([_(/])", r"\1<wbr>", str(escape(name))))  # noqa: S704  escaped above


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("weakfish", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "charts": charts,
        "sparks": sparks,
        "function_charts": function_charts,
        "accuracies": accuracies,
        "notes": notes.notes,
        "model_name": words.model_name,
        "metric_names": sections.metric_names,
        "reasons": sections.reasons,
        "nothing_measured": sections.nothing_measured,
        "averaged": sections.averaged,
        "few": OF_CLASS,
        "expected": sections.expected,
    }
    environment.filters |= {
        "code": code,
        "when": sections.when,
        "duration": features.duration,
        "shorten": words.shorten,
        "told": words.told,
        "breakable": _breakable,
        "count": words.integer,
        "share": words.percent,
        "figure": words.figure,
        "number": words.decimal,
        "size": words.size,
        "seconds": words.seconds,
    }
    return environment


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
        "descriptions": inputs.stages,
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
