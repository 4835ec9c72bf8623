"""Numbers and texts as people read them."""

from __future__ import annotations

import re

from weakfish.contracts.reports import MODELS

"""What models of the metrics are called, in the order in which they are shown."""


def shorten(text: str, limit: int = 300) -> str:
    """The text on one line, cut at ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def told(text: str) -> str:
    """A sentence of a check, with percent signs as this page sets them: at their number, which they never leave."""
    return re.sub(r"(?<=\d)\s%", "%", shorten(text, 600))


def clause(text: str) -> str:
    """The text as the end of a sentence that goes on to its own full stop."""
    return told(text).rstrip(".")


def count(number: int, noun: str) -> str:
    """A number of things: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def percent(share: float | None) -> str:
    """A share in percent; what is not quite nothing, and not quite all, says so."""
    if share is None:
        return "–"
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def decimal(value: float | None) -> str:
    """A metric."""
    return "–" if value is None else f"{value:.3f}"


def integer(value: int | None) -> str:
    """A count."""
    return "–" if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """A duration."""
    return "–" if value is None else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def size(value: int | None) -> str:
    """Bytes in decimal units."""
    if value is None:
        return "–"
    number, units = float(value), ["B", "kB", "MB", "GB", "TB"]
    while number >= 999.95 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.0f} B" if units[0] == "B" else f"{number:.1f} {units[0]}"


def model_name(name: str) -> str:
    """A model's name for people."""
    return MODELS.get(name, name.replace("_", " ").capitalize())


def figure(value: float | None) -> str:
    """A number of which only the size is known: three digits, or all of them before the point."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
