"""What a check found, and against which limit, in words; the same for the page, the terminal and `weakfish status`.

Only numbers and times of what was observed are told: anything else might quote a row.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from weakfish.report.records import Check
from weakfish.report.words import clause, count, figure, percent, told

KINDS = ("expectation", "serving", "labels", "evaluation", "features", "change")
"""Kinds of checks in the order in which they are told: what someone wrote down, what labels are, what merely moved."""


def kind_order(check: Check) -> int:
    """The place of a check's kind."""
    return KINDS.index(check.kind) if check.kind in KINDS else len(KINDS)


def describe(check: Check, why: bool = False) -> str:
    """A sentence on a check that did not hold; its name stands between backticks."""
    reason = f" {check.why}" if why and check.why else ""
    return f"`{check.check}` {_predicate(check)}.{reason}"


def found(check: Check) -> str:
    """What was found, without the check's name; an en dash where there is nothing to tell."""
    if check.error:
        return f"could not be run: {clause(check.error)}"
    if check.found:
        return told(check.found)
    if check.unexpected is not None:
        return _bad_rows(check)
    return observed(check.value if check.observed is None else check.observed) or "–"


def headline(check: Check) -> str | None:
    """What was found as a number, where a sentence says the same at length; None where there is no such sentence."""
    if not check.found or check.error or check.number is None:
        return None
    if check.unexpected is not None:
        return _bad_rows(check)
    return f"{'PSI ' if is_psi(check) else ''}{figure(check.number)}"


def is_psi(check: Check) -> bool:
    """Whether it is how far a single column drifted; of all columns of a table together, there is a share."""
    return check.expectation == "drift" and subject(check) != "drift"


def limit(check: Check) -> str | None:
    """What would have held; None where the check does not say it in numbers."""
    if check.threshold is not None and check.unexpected is None:
        at_limit = check.number == check.threshold and check.status != "passed"
        return None if at_limit else f"{'at most' if bad_above(check) else 'at least'} {figure(check.threshold)}"
    if check.unexpected is not None:
        return f"at most {percent(tolerated(check))} bad rows" if tolerated(check) else "no bad row"
    low, high = (observed(check.arguments.get(name)) for name in ("min_value", "max_value"))
    if low and high:
        return f"{low} to {high}"
    exactly = observed(check.arguments.get("value"))
    return f"at least {low}" if low else f"at most {high}" if high else exactly


def tolerated(check: Check) -> float:
    """The share of bad rows that a check of rows bears."""
    if check.threshold is not None:
        return check.threshold
    mostly = check.arguments.get("mostly")
    return 1 - mostly if isinstance(mostly, int | float) and 0 <= mostly <= 1 else 0.0


def bad_above(check: Check) -> bool:
    """Whether a measured check fails above its threshold, or below it: its own value and status tell."""
    if check.number is None or check.threshold is None or check.error:
        return True
    return (check.number > check.threshold) == (check.status != "passed")


def beyond(check: Check) -> float:
    """How far a measured check is from its limit, for comparing like with like: 1 is at it, more is beyond it."""
    number, threshold = check.number or 0.0, check.threshold or 1.0
    return number / threshold if bad_above(check) else threshold / max(number, threshold / 1000)


def subject(check: Check) -> str:
    """The column or function that a check is about, for ``drift(amount)`` the amount; the check's name otherwise."""
    name, bracket, rest = check.check.partition("(")
    return rest.rpartition(")")[0] or name if bracket else name


def observed(value: Any) -> str | None:
    """A number or a time as people read it; None for anything else."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
    if isinstance(value, str) and _is_time(value):
        return value
    return None


def _bad_rows(check: Check) -> str:
    share = f" ({percent(check.unexpected_share)})" if check.unexpected_share else ""
    return f"{count(check.unexpected, 'bad row')}{share}" if check.unexpected else "no bad row"


def _predicate(check: Check) -> str:
    aside = ", set aside" if check.status == "quarantined" else ""
    if check.error:
        return found(check)
    if check.found:
        return f"does not hold{aside}. {clause(check.found)}"
    if check.unexpected:
        share = f" ({percent(check.unexpected_share)})" if check.unexpected_share is not None else ""
        return f"does not hold for {count(check.unexpected, 'row')}{share}{aside}"
    if check.threshold is not None and check.number is not None:
        return f"does not hold: {figure(check.number)}; {limit(check) or 'that'} would"
    return f"does not hold{aside}"


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
