"""Numbers, times, names and findings in words; the same for the page, the terminal and `weakfish status`.

Of what a check observed only numbers and times are shown: anything else might quote a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from weakfish.contracts.reports import MODELS
from weakfish.contracts.verdicts import Check

NONE = "–"
"""What stands where there is no value."""

MINUS = "\N{MINUS SIGN}"
"""What stands before a negative number; a hyphen would read as a dash."""

NAMED = 3
"""How many of many names a sentence has."""

RULES = "rule_"
"""The prefix of checks on a single labeling function."""

BAD_ROWS = {
    "expect_column_values_to_not_be_null": "have no `{column}`",
    "expect_column_values_to_be_unique": "share their `{column}` with another row",
    "expect_column_values_to_be_between": "have a `{column}` outside of {limits}",
    "expect_column_values_to_be_in_set": "have a `{column}` that is not on the list",
    "expect_column_values_to_match_regex": "have a `{column}` that does not look as it should",
    "expect_column_value_lengths_to_be_between": "have a `{column}` whose length is outside of {limits}",
}
"""What is wrong with the rows that do not meet an expectation, by its type; the check itself says it of all others."""


def shorten(text: str, limit: int = 300) -> str:
    """The text on one line, cut at ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def clause(text: str) -> str:
    """The text as part of a sentence that has its own full stop."""
    return shorten(text, 600).rstrip(".")


def count(number: int, noun: str) -> str:
    """A number of things: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Sequence[str], most: int | None = NAMED) -> str:
    """Names as an enumeration, ``a, b and c``: the first few and how many more there are, or all of them."""
    left = 0 if most is None else len(names) - most
    said = [*names[:most], f"{left} more"] if left > 0 else list(names)
    return " and ".join(filter(None, (", ".join(said[:-1]), *said[-1:])))


def percent(share: float | None) -> str:
    """A share in percent; what is nearly nothing or nearly all is not rounded to it."""
    if share is None:
        return NONE
    if 0 < share < 0.0005:
        return "<0.1 %"
    return ">99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"


def short_percent(share: float) -> str:
    """A share for a sentence: whole percents, but where that would hide it."""
    return f"{100 * share:.0f} %" if share in (0, 1) or 0.02 <= share <= 0.98 else percent(share)


def decimal(value: float | None) -> str:
    """A metric."""
    return NONE if value is None else f"{value:.3f}"


def integer(value: int | None) -> str:
    """A count."""
    return NONE if value is None else f"{value:,}"


def figure(value: float | None) -> str:
    """A number whose size is not known: three digits, or all of them before the point."""
    if value is None:
        return NONE
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", MINUS, 1 if value < 0 else 0)


def seconds(value: float | None) -> str:
    """A duration of work."""
    return NONE if value is None else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def duration(age: timedelta | None) -> str:
    """An age in hours, or in days from two days on."""
    if age is None:
        return NONE
    hours = age / timedelta(hours=1)
    return f"{hours / 24:,.0f} days" if hours >= 48 else f"{hours:.0f} hours"


def when(time: datetime) -> str:
    """A time in UTC, to the minute."""
    return f"{time:%Y-%m-%d %H:%M}"


def month(partition: str) -> str:
    """A partition as people call its time: ``2002-09`` is September 2002."""
    for written, spoken in (("%Y-%m-%d", "%-d %B %Y"), ("%Y-%m", "%B %Y")):
        try:
            return datetime.strptime(partition, written).strftime(spoken)
        except ValueError:
            continue
    return partition


def model_name(name: str) -> str:
    """A model's name for people."""
    return MODELS.get(name, name.replace("_", " ").capitalize())


def subject(check: Check) -> str:
    """The column or function that a check is about: ``amount`` of ``drift(amount)``; else the check's name."""
    name, bracket, rest = check.check.partition("(")
    return rest.rpartition(")")[0] or name if bracket else name


def is_psi(check: Check) -> bool:
    """Whether a check measures the drift of a single column; that of a whole table is a share of its columns."""
    return check.expectation == "drift" and subject(check) != "drift"


def tolerated(check: Check) -> float:
    """The share of bad rows up to which a check of rows holds."""
    if check.threshold is not None:
        return check.threshold
    mostly = check.arguments.get("mostly")
    return 1 - mostly if isinstance(mostly, int | float) and 0 <= mostly <= 1 else 0.0


def bad_above(check: Check) -> bool:
    """Whether a measured check fails above its threshold, and not below it: its value and status tell."""
    if check.value is None or check.threshold is None or check.error:
        return True
    return (check.value > check.threshold) == (check.status != "passed")


def beyond(check: Check) -> float:
    """How far a measured check is from its limit, to compare checks of a kind: 1 is at it, more is beyond it."""
    number, threshold = check.value or 0.0, check.threshold or 1.0
    return number / threshold if bad_above(check) else threshold / max(number, threshold / 1000)


def found(check: Check) -> str:
    """What a check found, without its name."""
    if check.error:
        return f"could not be run: {clause(check.error)}"
    if check.found:
        return shorten(check.found, 600)
    if check.unexpected is not None:
        return bad_rows(check)
    return observed(check.value if check.observed is None else check.observed) or NONE


def headline(check: Check) -> str | None:
    """What was found as a number, for a check that says it as a sentence too; None for others."""
    if not check.found or check.error or check.value is None:
        return None
    if check.unexpected is not None:
        return bad_rows(check)
    return f"{'PSI ' if is_psi(check) else ''}{figure(check.value)}"


def limit(check: Check) -> str | None:
    """What would have held; None where the check does not say it in numbers."""
    if check.unexpected is not None:
        return f"at most {percent(tolerated(check))} bad rows" if tolerated(check) else "no bad row"
    if check.threshold is not None:
        at_limit = check.value == check.threshold and check.status != "passed"
        return None if at_limit else f"{'at most' if bad_above(check) else 'at least'} {figure(check.threshold)}"
    return limits(check)


def limits(check: Check) -> str | None:
    """Between what an expectation wants its values; None where it does not say."""
    low, high, exactly = (observed(check.arguments.get(name)) for name in ("min_value", "max_value", "value"))
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}" if high else exactly


def observed(value: Any) -> str | None:
    """A number or a time as people read it; None for anything else."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
    try:
        return str(value) if isinstance(value, str) and datetime.fromisoformat(value) else None
    except ValueError:
        return None


def describe(check: Check, passed: bool = True) -> str:
    """A sentence on a check that did not hold; names stand between backticks.

    While the verdict has not ``passed``, nothing is quarantined yet.
    """
    if check.error:
        return f"`{check.check}` {found(check)}."
    if check.found:
        return shorten(check.found, 600)
    if check.unexpected:
        said = BAD_ROWS.get(check.expectation, "do not meet `{check}`")
        names = {**check.arguments, "check": check.check, "limits": limits(check)}
        if "{column}" in said and not isinstance(names.get("column"), str):
            said = "do not meet `{check}`"
        if check.unexpected == 1:
            said = (
                said.replace("do not", "does not", 1).replace("have", "has", 1).replace("share their", "shares its", 1)
            )
        share = f" ({percent(check.unexpected_share)})" if check.unexpected_share is not None else ""
        are = ("was" if check.unexpected == 1 else "were") if passed else "would be"
        aside = f" and {are} quarantined" if check.status == "quarantined" else ""
        return f"{count(check.unexpected, 'row')} {said.format_map(names)}{share}{aside}."
    if check.threshold is not None and check.value is not None:
        return f"`{check.check}` is {figure(check.value)}, not {limit(check) or 'as it should be'}."
    value = observed(check.value if check.observed is None else check.observed)
    wanted = limit(check)
    return f"`{check.check}` does not hold{f': it is {value}' if value else ''}{f', not {wanted}' if wanted else ''}."


def bad_rows(check: Check, noun: str = "bad row") -> str:
    """The bad rows of a check: ``30 bad rows (2.5 %)``."""
    share = f" ({percent(check.unexpected_share)})" if check.unexpected_share is not None else ""
    return f"{count(check.unexpected, noun)}{share}" if check.unexpected else f"no {noun}"


def rule_of(check: Check) -> str | None:
    """The labeling function that a check of labels is about."""
    rule = check.arguments.get("rule")
    if check.kind != "labels":
        return None
    return rule if isinstance(rule, str) else subject(check) if check.expectation.startswith(RULES) else None
