"""What to do about checks that did not hold: a sentence per check for the page, a few for all of them together."""

from __future__ import annotations

import shlex
from collections.abc import Sequence, Sized

from weakfish.report.found import subject
from weakfish.report.records import Check, Verdict

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
