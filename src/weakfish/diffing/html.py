"""A comparison as one page that needs no network, light and dark, for a desk and a phone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

import weakfish
from weakfish.diffing.sections import sections

STYLES = Path(__file__).parent / "templates" / "comparison.css"


def html(found: Mapping[str, Any]) -> str:
    """The report as a page."""
    rendered: str = _template().render(
        found=found,
        sections=list(sections(found)),
        version=weakfish.__version__,
        css=Markup(STYLES.read_text(encoding="utf-8")),  # noqa: S704  our own file
    )
    return rendered


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("weakfish", "diffing/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    return environment.get_template("comparison.html.j2")


def _code(sentence: str) -> Markup:
    """Escape a sentence, then set what stands between backticks as code, which may break after signs."""
    text = re.sub(r"`([^`]+)`", lambda found: f"<code>{_breakable(found[1])}</code>", str(escape(sentence)))
    return Markup(text)  # noqa: S704  escaped above


def _breakable(name: str) -> str:
    return re.sub(r"([_/.])", r"\1<wbr>", name)
