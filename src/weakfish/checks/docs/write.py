"""Writes the Data Docs of a table: a validation result through Great Expectations' renderers into one offline page."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

from weakfish.checks.docs.assets import LOOKS, lay_out
from weakfish.checks.docs.shown import VALUES, bounded, escaped
from weakfish.errors import SourceError
from weakfish.files import whole_file, whole_folder
from weakfish.project.paths import Project

ASSETS = "_assets"
"""The folder of what all pages load; no table has a name that begins so."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' file:",
        "style-src 'self' file: 'unsafe-inline'",
        "font-src 'self' file:",
        "img-src 'self' file: data:",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
"""What a page may load: files from where it lies, and no script of its own making."""

_HERE = Path(__file__).parent

_OUTSIDE = re.compile(
    r"""<script\b.*?</script>|\son\w+="[^"]*"|\s(?:href|src)="(?!\#)[^"]*"|url\((?!["']?data:)[^)]*\)""", re.DOTALL
)
"""What in Great Expectations' markup would load something, lead away or run."""


def write_docs(project: Project, table: str, result: Any) -> Path:
    """Write ``reports/gx/<table>/index.html`` from an ``ExpectationSuiteValidationResult`` and return its path.

    Where the assets can neither be found nor fetched, the page is written plain, and a sentence on stderr says so.
    """
    docs = project.reports / "gx"
    page = docs / table / "index.html"
    up = Path(os.path.relpath(docs, page.parent)).as_posix()
    styles = [f"{up}/{ASSETS}/{name}" for name in _styles(project, docs / ASSETS, table)]
    links = {"styles": styles, "script": f"{up}/{ASSETS}/page.js", "home": f"{up}/../index.html"}
    html = _render(table, result, links)
    with whole_folder(page.parent) as folder:
        (folder / page.name).write_text(html, encoding="utf-8", errors="replace")
    return page


def _styles(project: Project, into: Path, table: str) -> list[str]:
    with whole_file(into / "page.js") as part:
        part.write_bytes((_HERE / "page.js").read_bytes())
    try:
        return lay_out(project, into, LOOKS)
    except SourceError as error:
        print(
            f"weakfish: the Data Docs of {table} are plain, for their styles could not be fetched: {error} "
            f"`weakfish validate {table}` tries again.",
            file=sys.stderr,
        )
        return []


def _render(table: str, result: Any, links: dict[str, Any]) -> str:
    """The page; renderers that fail leave their own note in it, and say no more."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third parties' own deprecations
        logger.setLevel(logging.CRITICAL)
        try:
            return escaped(_view().render(_document(table, result), table=table, policy=POLICY, values=VALUES, **links))
        finally:
            logger.setLevel(level)


def _document(table: str, result: Any) -> Any:
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer

    document = ValidationResultsPageRenderer().render(bounded(result, table))
    first = document.sections[0]
    first.content_blocks = [block for block in first.content_blocks if block.content_block_type != "collapse"]
    return document


def _view() -> Any:
    """Great Expectations' view with our page around its sections, and our templates before those of the same name."""
    from great_expectations.render.view import DefaultJinjaPageView
    from jinja2 import ChoiceLoader, FileSystemLoader

    class View(DefaultJinjaPageView):
        _template = "page.html.j2"

    view = View()
    view.env.loader = ChoiceLoader([FileSystemLoader(_HERE), view.env.loader])
    view.env.globals["style"] = (_HERE / "page.css").read_text(encoding="utf-8")
    view.env.filters["generate_html_element_uuid"] = lambda prefix="": prefix  # a page has no ids by chance
    view.env.filters["offline"] = lambda markup: _OUTSIDE.sub("", markup)
    return view
