"""The templates of the page, with what they may call; its style sheet; its script, and the hash that lets it run."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from weakfish.evaluation.support import OF_CLASS
from weakfish.report import accuracies, charts, features, function_charts, notes, sections, sparks, words
from weakfish.report.checks import CheckRow

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
