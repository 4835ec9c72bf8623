"""A comparison as one page that needs no network, light and dark, for a desk and a phone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup

import weakfish
from weakfish.diffing.sections import sections
from weakfish.report.markup import environment

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
    return environment("diffing/templates").get_template("comparison.html.j2")
