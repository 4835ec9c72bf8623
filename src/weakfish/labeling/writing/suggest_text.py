"""Suggestions for people: a Python module with its figures as comments; and for programs: the same as JSON."""

from __future__ import annotations

from typing import Any

import click

from weakfish.labeling.writing.code import module_of
from weakfish.labeling.writing.suggest import Suggestion, Suggestions

KINDS = {
    "uncovered": "rows that no function votes on",
    "undecided": "rows with one vote or an undecided probability",
}


def print_suggestions(found: Suggestions) -> None:
    """Print a module to paste, or say that there is nothing to suggest."""
    click.echo("\n".join(f"# {line}" for line in _head(found)))
    if found.suggestions:
        rules = [(each.rule, _about(found, each)) for each in found.suggestions]
        click.echo(f"\n{module_of(rules, found.classes)}")


def as_json(found: Suggestions) -> dict[str, Any]:
    """The suggestions as plain values; no values of rows but the words that many share."""
    return {
        "task": found.task,
        "precision": found.wanted,
        "rows": found.rows,
        "balance": found.balance,
        "best": found.best,
        "suggestions": [_json(found, each) for each in found.suggestions],
        "together": {kind: counts.as_json() for kind, counts in found.together.items()},
        "code": module_of([(each.rule, _about(found, each)) for each in found.suggestions], found.classes)
        if found.suggestions
        else None,
    }


def _json(found: Suggestions, each: Suggestion) -> dict[str, Any]:
    rule = each.rule
    return {
        "name": rule.name,
        "for": each.kind,
        "class": found.classes[rule.label],
        "column": rule.column,
        "kind": rule.kind,
        "values": [candidate.value for candidate in rule.candidates],
        "estimate": each.estimate,
        "low": each.low,
        "expected": each.expected,
        **each.counts.as_json(),
    }


def _head(found: Suggestions) -> list[str]:
    rows = found.rows
    lines = [
        f"Task {found.task}: of {rows['all']:,} rows, no function votes on {rows['uncovered']:,}; "
        f"{rows['undecided']:,} more have one vote or an undecided probability."
    ]
    if rows["looked_at_uncovered"] + rows["looked_at_covered"] < rows["all"]:
        lines.append(
            f"Estimates are from an even sample of {rows['looked_at_uncovered']:,} uncovered and "
            f"{rows['looked_at_covered']:,} covered rows; counts are of all rows."
        )
    for kind, name in KINDS.items():
        of = sum(each.kind == kind for each in found.suggestions)
        if not of:
            lines.append(f"Nothing to suggest for {name}: {_why_not(found, kind)}.")
            continue
        counts = found.together[kind]
        lines.append(
            f"For {name}, {of} suggestion{'s' if of > 1 else ''}, which together vote on {counts.adds:,} of "
            f"{rows[kind]:,} ({counts.adds / max(rows[kind], 1):.0%}); "
            f"{_gold(counts.correct_added, counts.gold_added)}."
        )
    if found.suggestions:
        lines.append(
            "Nothing was applied: paste what makes sense into labeling_functions/, and say why it should work."
        )
    return lines


def _why_not(found: Suggestions, kind: str) -> str:
    if not found.rows[kind]:
        return "there are none"
    if any(each.kind != kind for each in found.suggestions) and kind == "undecided":
        return "no further rule would vote on enough of them"
    best = max(found.best[kind], default=0)
    themselves, like = found.balance[kind]["themselves"], found.balance[kind]["like"]
    moved = [
        f"{name} {before:.0%} there, {after:.0%} here"
        for name, before, after in zip(found.classes, like, themselves, strict=True)
        if abs(before - after) > 0.2
    ]
    differ = f", and these rows seem to differ from covered ones with few votes ({'; '.join(moved)})" if moved else ""
    if best >= found.wanted:
        return f"rules that reach a precision of {found.wanted:.0%} vote on too few of them{differ}"
    return f"no rule is estimated to reach a precision of {found.wanted:.0%}{differ}"


def _about(found: Suggestions, each: Suggestion) -> list[str]:
    counts, name = each.counts, found.classes[each.rule.label]
    adds = f"votes on {counts.votes:,} rows, adds {counts.adds:,} of {found.rows[each.kind]:,} {each.kind} ones"
    return [
        f"{name}: {adds}; estimated precision there {each.estimate:.2f}, at least {each.low:.2f};",
        f"{_gold(counts.correct_added, counts.gold_added)}, {_gold(counts.correct, counts.gold, 'in all')}.",
    ]


def _gold(correct: int, gold: int, where: str = "of these") -> str:
    return f"dev gold agrees with {correct:,} of {gold:,} {where}" if gold else f"no dev gold {where}"
