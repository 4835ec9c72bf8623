"""How shares and counts are written in sentences, the same in checks, gates, reasons and commands."""

from __future__ import annotations

import math


def percent(share: float) -> str:
    """A share for people: ``4.0 %``; ``0.012 %`` and ``99.988 %`` where one decimal would say nothing or all."""
    rest = 100 * min(share, 1 - share)
    digits = min(1 - math.floor(math.log10(rest)), 9) if 0 < rest < 0.1 else 1
    return f"{100 * share:.{digits}f} %"


def short_percent(share: float) -> str:
    """The same, as short as may be: ``4 %``."""
    number, _, unit = percent(share).partition(" ")
    return f"{number.removesuffix('.0')} {unit}"


def counted(number: float, noun: str) -> str:
    """A number of things: ``1 row``, ``2,000 rows``."""
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"
