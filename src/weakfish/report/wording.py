"""Numbers, names and findings in words; the same for the page, the terminal and `weakfish status`.

Of what a check observed only numbers and times are shown: anything else might quote a row.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from weakfish.contracts.reports import MODELS
from weakfish.contracts.verdicts import Check, Verdict

NONE = "–"
"""What stands where there is no value."""

NAMED = 3
"""How many of many names a sentence has."""

KINDS = ("expectation", "serving", "labels", "evaluation", "features", "change")
"""Kinds of checks in the order of the page: what someone wrote down, what labels are, what merely moved."""

RULES = "rule_"
"""The prefix of checks on a single labeling function."""

Finding = tuple[Verdict, Check]
"""A check that did not hold, and its verdict."""


def shorten(text: str, limit: int = 300) -> str:
    """The text on one line, cut at ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def told(text: str) -> str:
    """A sentence of a check on one line; percent signs stand at their numbers, as elsewhere on the page."""
    return re.sub(r"(?<=\d)\s%", "%", shorten(text, 600))


def clause(text: str) -> str:
    """The text as part of a sentence that has its own full stop."""
    return told(text).rstrip(".")


def count(number: int, noun: str) -> str:
    """A number of things: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Sequence[str], most: int | None = NAMED) -> str:
    """Names as an enumeration, ``a, b and c``: the first few and how many more there are, or all of them."""
    left = 0 if most is None else len(names) - most
    said = [*names[:most], f"{left} more"] if left > 0 else list(names)
    return " and ".join(filter(None, (", ".join(said[:-1]), said[-1])))


def percent(share: float | None) -> str:
    """A share in percent; what is nearly nothing or nearly all is not rounded to it."""
    if share is None:
        return NONE
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


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
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def seconds(value: float | None) -> str:
    """A duration of work."""
    return NONE if value is None else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def duration(age: timedelta | None) -> str:
    """An age in hours, or in days from two days on."""
    if age is None:
        return NONE
    hours = age / timedelta(hours=1)
    return f"{hours / 24:,.0f} days" if hours >= 48 else f"{hours:.0f} hours"


def size(value: int | None) -> str:
    """Bytes in decimal units."""
    if value is None:
        return NONE
    number, units = float(value), ["B", "kB", "MB", "GB", "TB"]
    while number >= 999.95 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.0f} B" if units[0] == "B" else f"{number:.1f} {units[0]}"


def when(time: datetime) -> str:
    """A time in UTC, to the minute."""
    return f"{time:%Y-%m-%d %H:%M}"


def model_name(name: str) -> str:
    """A model's name for people."""
    return MODELS.get(name, name.replace("_", " ").capitalize())


def kind_order(check: Check) -> int:
    """The place of a check's kind in `KINDS`."""
    return KINDS.index(check.kind) if check.kind in KINDS else len(KINDS)


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
        return told(check.found)
    if check.unexpected is not None:
        return _bad_rows(check)
    return observed(check.value if check.observed is None else check.observed) or NONE


def headline(check: Check) -> str | None:
    """What was found as a number, for a check that says it as a sentence too; None for others."""
    if not check.found or check.error or check.value is None:
        return None
    if check.unexpected is not None:
        return _bad_rows(check)
    return f"{'PSI ' if is_psi(check) else ''}{figure(check.value)}"


def limit(check: Check) -> str | None:
    """What would have held; None where the check does not say it in numbers."""
    if check.unexpected is not None:
        return f"at most {percent(tolerated(check))} bad rows" if tolerated(check) else "no bad row"
    if check.threshold is not None:
        at_limit = check.value == check.threshold and check.status != "passed"
        return None if at_limit else f"{'at most' if bad_above(check) else 'at least'} {figure(check.threshold)}"
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


def describe(check: Check, why: bool = False) -> str:
    """A sentence on a check that did not hold; its name stands between backticks."""
    verb = "was" if check.unexpected == 1 else "were"
    aside = f", which {verb} quarantined" if check.status == "quarantined" else ""
    if check.error:
        said = found(check)
    elif check.found:
        said = f"does not hold. {clause(check.found)}"
    elif check.unexpected:
        said = f"does not hold for {_bad_rows(check, 'row')}{aside}"
    elif check.threshold is not None and check.value is not None:
        said = f"does not hold: {figure(check.value)}; {limit(check) or 'that'} would"
    else:
        said = "does not hold"
    return f"`{check.check}` {said}.{f' {check.why}' if why and check.why else ''}"


def for_check(table: str, check: Check) -> str:
    """What to do about one check; words between backticks are commands or names."""
    if check.error:
        return f"Make it run: correct what it says, or the check in `validation/{table}.py`."
    if check.status == "quarantined":
        return _set_aside(check.keys, shlex.quote(check.check))
    if check.kind == "serving":
        return "Run `weakfish publish`: it writes again what differs."
    if check.against_baseline:
        rule = _rule(check)
        if rule and check.expectation.startswith(RULES):
            place = f"at the labeling function `{rule}`: correct it, or take it out"
        elif rule:
            place = f"whether the labeling function `{rule}` changed, or what it reads"
        else:
            place = "at what changed it"
        return f"Look {place}. If it is the new normal, run {_accept([table])}."
    if check.kind == "expectation":
        keys = "Look up the bad rows by their keys. " if check.keys else ""
        return f"{keys}{_source_or_suite(table, 'it')}"
    return {
        "features": "See whether its source still delivers, then run `dvc repro`.",
        "evaluation": "Compare Metrics below with those of the last accepted revision before these labels are used.",
        "labels": "Look at Labeling functions below before these labels are used.",
    }.get(check.kind, "Look at it before this table is used.")


def for_all(findings: Sequence[Finding]) -> list[str]:
    """What to do about all checks that did not hold, in their order, without repetition."""
    moved: dict[str, None] = {}
    rules: dict[str, str] = {}
    keys: list[Any] = []
    for verdict, check in findings:
        answer = _answer(check)
        if answer == "accept":
            moved[verdict.table] = None
        elif answer == "rule":
            rules[_rule(check) or ""] = verdict.table
        elif answer == "release":
            keys += check.keys
    said: dict[str, None] = {}
    for verdict, check in findings:
        match _answer(check):
            case "accept":
                sentence = (
                    f"Look under Drift at what changed in {listed(list(moved), None)}. If it is the new normal, run "
                    f"{_accept(list(moved))}; if it is not, correct what changed it."
                )
            case "rule":
                plural, it = ("s", "them") if len(rules) > 1 else ("", "it")
                sentence = (
                    f"Look at the labeling function{plural} {listed([f'`{rule}`' for rule in rules])}: correct {it}, "
                    f"or take {it} out. If this is the new normal, run {_accept(list(dict.fromkeys(rules.values())))}."
                )
            case "release":
                sentence = _set_aside(keys, "RULE")
            case "look up":
                sentence = (
                    f"Look up the bad rows of {verdict.table} by the keys that the checks name. "
                    f"{_source_or_suite(verdict.table, 'the data')}"
                )
            case _:
                sentence = for_check(verdict.table, check)
        said[sentence] = None
    return list(said)


def _answer(check: Check) -> str | None:
    """The kind of answer to a check that did not hold; None where each check has its own."""
    if check.error or check.kind == "serving":
        return None
    if check.status == "quarantined":
        return "release"
    if check.against_baseline:
        return "rule" if _rule(check) and check.expectation.startswith(RULES) else "accept"
    return "look up" if check.kind == "expectation" else None


def _rule(check: Check) -> str | None:
    """The labeling function that a check is about."""
    rule = check.arguments.get("rule")
    if check.kind != "labels":
        return None
    return rule if isinstance(rule, str) else subject(check) if check.expectation.startswith(RULES) else None


def _bad_rows(check: Check, noun: str = "bad row") -> str:
    share = f" ({percent(check.unexpected_share)})" if check.unexpected_share is not None else ""
    return f"{count(check.unexpected, noun)}{share}" if check.unexpected else f"no {noun}"


def _source_or_suite(table: str, data: str) -> str:
    return (
        f"If the data is wrong, correct its source; if {data} is right, correct the expectation in "
        f"`validation/{table}.py`."
    )


def _set_aside(keys: Sequence[Any], rule: str) -> str:
    return (
        f"`weakfish quarantine show {keys[0] if keys else 'KEY'}` says why a row was quarantined. Rows come back when "
        f"their source is corrected, or when `weakfish quarantine release --rule {rule} --why WHY` lets them in."
    )


def _accept(tables: Sequence[str]) -> str:
    names = f" {' '.join(tables)}" if len(tables) <= NAMED else ""
    return f"`weakfish accept-baseline{names}` and commit `validation/baseline.json`"
