"""Renders ``reports/index.html``: one file, which loads nothing, from whatever inputs there are."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

import weakfish
from weakfish.files import whole_file
from weakfish.report import (
    accuracies,
    charts,
    features,
    function_charts,
    functions,
    notes,
    plots,
    published,
    sections,
    stages,
    versions,
    words,
)
from weakfish.report.collect import Overall, judge
from weakfish.report.inputs import Inputs, read


def render(root: Path) -> Path:
    """Write the page below ``root``, whole or not at all, and return its path.

    Inputs that are missing leave their section out; inputs that cannot be read make the verdict ``failed``.
    """
    page = root / "reports" / "index.html"
    html = _environment().get_template("page.html.j2").render(_context(read(root)))
    with whole_file(page) as part:
        # Lone surrogates, which JSON may hold, cannot be written.
        part.write_text(html, encoding="utf-8", errors="replace")
    return page


def _context(inputs: Inputs) -> dict[str, Any]:
    stop = stages.find_stop(inputs)
    overall, tables = judge(inputs), sections.tables(inputs, stop)
    open_checks, held_checks = sections.check_rows(tables)
    return {
        "version": weakfish.__version__,
        "revision": versions.revision(inputs.root),
        "css": Markup(Path(__file__).with_name("page.css").read_text(encoding="utf-8")),  # noqa: S704  our own file
        "overall": overall,
        "facts": sections.facts(inputs, stop),
        "descriptions": {name: stage.desc for name, stage in inputs.stages.items()},
        "messages": _messages(inputs, overall),
        "stages": stages.rows(inputs),
        "tables": tables,
        "open_checks": open_checks,
        "held_checks": held_checks,
        "quarantines": sections.quarantines(inputs, stop),
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


def _messages(inputs: Inputs, overall: Overall) -> dict[str, str]:
    """How stages ended that ended badly, unless the verdict says so already."""
    said = " ".join(overall.what)
    messages = {name: words.shorten(run.message) for name, run in inputs.runs.items() if run.exit_code and run.message}
    return {name: message for name, message in messages.items() if message[:80] not in said}


def _plots(inputs: Inputs, task: str) -> dict[str, Any]:
    drawn = {"roc": plots.roc, "calibration": plots.calibration, "share_over_time": plots.share_over_time}
    return {
        name: {"svg": draw(inputs, task), "legend": plots.legend(inputs, name, task)} for name, draw in drawn.items()
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("weakfish", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "charts": charts,
        "function_charts": function_charts,
        "accuracies": accuracies,
        "notes": notes.notes,
        "model_name": words.model_name,
        "metric_names": sections.metric_names,
        "reason": sections.reason,
    }
    environment.filters |= {
        "code": _code,
        "when": sections.when,
        "duration": features.duration,
        "observed": sections.observed,
        "shorten": words.shorten,
        "breakable": _breakable,
        "count": words.integer,
        "share": words.percent,
        "number": words.decimal,
        "size": words.size,
        "seconds": words.seconds,
    }
    return environment


def _breakable(name: str) -> Markup:
    """Escape a name, and let it break after underscores and brackets."""
    return Markup(re.sub(r"([_(/])", r"\1<wbr>", str(escape(name))))  # noqa: S704  escaped above


def _code(sentence: str) -> Markup:
    """Escape a sentence, then set what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))  # noqa: S704  escaped above
