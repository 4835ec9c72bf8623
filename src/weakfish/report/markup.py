"""Templates of pages that need no network, and what they make of sentences and names."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape


def environment(folder: str) -> Environment:
    """Templates of a folder below `weakfish`, which escape what they are given."""
    found = Environment(
        loader=PackageLoader("weakfish", folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"code": code, "breakable": breakable}
    return found


def code(sentence: str) -> Markup:
    """Escape a sentence, then set what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))  # noqa: S704  escaped above


def breakable(name: str) -> Markup:
    """Escape a name, and let it break after underscores and brackets."""
    return Markup(re.sub(r"([_(/])", r"\1<wbr>", str(escape(name))))  # noqa: S704  escaped above
