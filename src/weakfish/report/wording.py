"""Numbers, names and findings in words; the same for the page, the terminal and `weakfish status`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence, Sized
from datetime import datetime
from typing import Any

from weakfish.contracts.reports import MODELS
from weakfish.contracts.verdicts import Check, Verdict

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
    if not check.found or check.error or check.value is None:
        return None
    if check.unexpected is not None:
        return _bad_rows(check)
    return f"{'PSI ' if is_psi(check) else ''}{figure(check.value)}"


def is_psi(check: Check) -> bool:
    """Whether it is how far a single column drifted; of all columns of a table together, there is a share."""
    return check.expectation == "drift" and subject(check) != "drift"


def limit(check: Check) -> str | None:
    """What would have held; None where the check does not say it in numbers."""
    if check.threshold is not None and check.unexpected is None:
        at_limit = check.value == check.threshold and check.status != "passed"
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
    if check.value is None or check.threshold is None or check.error:
        return True
    return (check.value > check.threshold) == (check.status != "passed")


def beyond(check: Check) -> float:
    """How far a measured check is from its limit, for comparing like with like: 1 is at it, more is beyond it."""
    number, threshold = check.value or 0.0, check.threshold or 1.0
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
    if check.threshold is not None and check.value is not None:
        return f"does not hold: {figure(check.value)}; {limit(check) or 'that'} would"
    return f"does not hold{aside}"


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


RULES = "rule_"
"""What the names of checks of a single labeling function begin with."""

NAMED = 3
"""Labeling functions, or tables, that a sentence on many names."""

Found = tuple[Verdict, Check]
"""A check that did not hold, and the verdict that it stands in."""


def for_check(table: str, check: Check) -> str:
    """What to do about one check; words between backticks are commands or names."""
    if check.error:
        return f"Make it run: correct what it says, or the check in `validation/{table}.py`."
    if check.status == "quarantined":
        return _set_aside([str(key) for key in check.keys or []], check.check)
    if check.kind == "serving":
        return "Run `weakfish publish`: it writes again what differs."
    if check.against_baseline:
        return f"Look {_where_to_look(check)}. If it is the new normal, run {_accept([table])}."
    if check.kind == "expectation":
        keys = "Look up the bad rows by their keys. " if check.keys else ""
        return (
            f"{keys}If the data is wrong, correct its source; "
            f"if it is right, correct the expectation in `validation/{table}.py`."
        )
    return {
        "features": "See whether its source still delivers, then run `dvc repro`.",
        "evaluation": "Compare Metrics below with those of the last accepted revision before these labels are used.",
        "labels": "Look at Labeling functions below before these labels are used.",
    }.get(check.kind, "Look at it before this table is used.")


def for_all(found: Sequence[Found]) -> list[str]:
    """What to do about all checks that did not hold, in their order, without repeating itself."""
    moved = list(dict.fromkeys(verdict.table for verdict, check in found if _answer(check) == "accept"))
    rules = {rule: verdict.table for verdict, check in found if _answer(check) == "rule" and (rule := _rule(check))}
    keys = [str(key) for _, check in found if _answer(check) == "release" for key in check.keys or []]
    said: dict[str, None] = {}
    for verdict, check in found:
        match _answer(check):
            case "accept":
                sentence = (
                    f"Look under Drift at what changed in {_and(moved)}. If it is the new normal, run "
                    f"{_accept(moved)}; if it is not, correct what changed it."
                )
            case "rule":
                tables = list(dict.fromkeys(rules.values()))
                sentence = (
                    f"Look at {_named(list(rules))}: correct {_it(rules)}, or take {_it(rules)} out. "
                    f"If this is the new normal, run {_accept(tables)}."
                )
            case "release":
                sentence = _set_aside(keys, None)
            case "look up":
                sentence = (
                    f"Look up the bad rows of {verdict.table} by the keys that the checks name. "
                    "If the data is wrong, correct its source; "
                    f"if the data is right, correct the expectation in `validation/{verdict.table}.py`."
                )
            case _:
                sentence = for_check(verdict.table, check)
        said[sentence] = None
    return list(said)


def _answer(check: Check) -> str:
    """What kind of answer there is to a check that did not hold."""
    if check.error or check.kind == "serving":
        return "its own"
    if check.status == "quarantined":
        return "release"
    if check.against_baseline:
        return "rule" if _rule(check) and str(check.expectation).startswith(RULES) else "accept"
    return "look up" if check.kind == "expectation" else "its own"


def _where_to_look(check: Check) -> str:
    rule = _rule(check)
    if rule and str(check.expectation).startswith(RULES):
        return f"at the labeling function `{rule}`: correct it, or take it out"
    return f"whether the labeling function `{rule}` changed, or what it reads" if rule else "at what changed it"


def _rule(check: Check) -> str | None:
    """The labeling function that a check is about."""
    rule = check.arguments.get("rule")
    if check.kind != "labels":
        return None
    return rule if isinstance(rule, str) else subject(check) if str(check.expectation).startswith(RULES) else None


def _it(things: Sized) -> str:
    return "it" if len(things) == 1 else "them"


def _named(rules: Sequence[str]) -> str:
    shown = [f"`{rule}`" for rule in rules[:NAMED]]
    more = [f"{len(rules) - NAMED} more"] if len(rules) > NAMED else []
    return f"the labeling function{'s' if len(rules) > 1 else ''} {_and([*shown, *more])}"


def _set_aside(keys: Sequence[str], rule: str | None) -> str:
    return (
        f"`weakfish quarantine show {keys[0] if keys else 'KEY'}` tells of a row why it is set aside. Rows come back "
        "when their source is corrected, or are let in with "
        f"`weakfish quarantine release --rule {_quoted(rule)} --why WHY`."
    )


def _quoted(rule: str | None) -> str:
    return "RULE" if rule is None else shlex.quote(rule)


def _accept(tables: Sequence[str]) -> str:
    named = f" {' '.join(tables)}" if len(tables) <= NAMED else ""
    return f"`weakfish accept-baseline{named}` and commit `validation/baseline.json`"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
