"""A trial of a labeling function as people read it: figures in sentences, the other functions, rows of both kinds."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from weakfish.checks.quarantine.text import printable
from weakfish.labeling.why.explain_text import console
from weakfish.labeling.writing.excerpt import excerpt
from weakfish.labeling.writing.trying import Trial

MOST_OTHERS = 5
"""Of the functions that conflict, and of those that agree, how many are shown; JSON has all."""

MOST_READ = 8
"""Columns that are named."""


def print_trial(trial: Trial, file: TextIO | None = None) -> None:
    """Print what `try_function` found."""
    found, out = trial.figures, console(file or sys.stdout)
    where = f" ({found['where']})" if found["where"] else ""
    out.print(Text(printable(f"{found['task']}: {found['function']}{where}"), "bold"))
    for line in [*_about(trial), "", *_lines(found), *_faults(trial), *_notes(found)]:
        out.print(Text(line))
    if found["others"]:
        _print_others(out, found["others"])
    fires, disagrees = found["examples"]["fires"], found["examples"]["disagrees"]
    _print_rows(out, trial, f"Where it votes: {len(fires):,} of {_rows(found['coverage']['rows'])}", fires, 0)
    if found["others"] or found["gold"]:
        title = f"Where {_sides(found)} says otherwise: {len(disagrees):,} of {_rows(found['contradicted'])}"
        _print_rows(out, trial, title, disagrees, len(fires))


def _about(trial: Trial) -> list[str]:
    found, sample = trial.figures, trial.figures["sample"]
    doc = " ".join(trial.doc.split())
    reads = ", ".join(found["reads"][:MOST_READ]) or "no column"
    if len(found["reads"]) > MOST_READ:
        reads += f" and {len(found['reads']) - MOST_READ} more columns, as far as can be told"
    how = "on columns" if found["kind"] == "columns" else "row by row"
    tried = (
        f"all {sample['of']:,} events"
        if sample["rows"] == sample["of"]
        else f"{sample['rows']:,} of {sample['of']:,} events, from {sample['partitions']:,} partitions"
    )
    return [*([printable(doc)] if doc else []), f"Works {how}, reads {reads}; tried on {tried}."]


def _lines(found: dict[str, Any]) -> list[str]:
    coverage, rows = found["coverage"], found["sample"]["rows"]
    votes = coverage["rows"]
    lines = [f"coverage   {_rows(votes)}, {_share(votes, rows)}{_classes(coverage['by_class'])}"]
    lines += _gold(found)
    others = found["others"]
    if others:
        adds = others["adds"]
        right = _right(adds["gold"], "; ")
        lines.append(
            f"adds       {_rows(adds['rows'])} on which none of {others['functions']:,} others votes, "
            f"{_share(adds['rows'], rows)}{_classes(adds['by_class'])}{right}"
        )
        lines.append(
            f"conflicts  on {_rows(others['conflicts'])}, {_share(others['conflicts'], votes)} of its votes, another "
            f"votes otherwise; on {others['against_majority']:,} the others' majority does"
        )
    if found["changed"]:
        lines.append(f"changed    on {_rows(found['changed'])} its vote is not the one that lies in data/votes")
    return lines


def _gold(found: dict[str, Any]) -> list[str]:
    gold = found["gold"]
    if gold is None:
        return ["dev gold   there is none for these rows"]
    if not gold["votes"]:
        return [f"dev gold   it votes on none of the {_rows(gold['rows'])} with a gold label"]
    low, high = gold["interval"]
    most = gold["majority"]
    lines = [f"dev gold   {_right(gold)[2:]} (95 %: {low:.1%} to {high:.1%})"]
    if len(gold["by_class"]) > 1:
        lines += [f"           {name}: {_right(each)[2:]}" for name, each in gold["by_class"].items()]
    if most["rows"]:
        lines.append(
            f"           where the others have a majority too ({_rows(most['rows'])}): it is right on "
            f"{most['own_correct']:,}, the majority on {most['correct']:,}"
        )
    return lines


def _faults(trial: Trial) -> list[str]:
    faults = trial.figures["faults"]
    if not faults["rows"]:
        return []
    more = ", ..." if faults["rows"] > len(faults["keys"]) else ""
    keys = ", ".join(printable(repr(key)) for key in faults["keys"])
    return [
        f"faults     it raised on {_rows(faults['rows'])}, first {excerpt('', trial.exception, [])} ({keys}{more}); "
        "there it has no vote"
    ]


def _notes(found: dict[str, Any]) -> list[str]:
    return [f"note       {note}" for note in found["notes"]]


def _print_others(out: Console, others: dict[str, Any]) -> None:
    met = [each for each in others["by_function"] if each["both"]]
    if not met:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("votes on the same rows", overflow="fold")
    for name in ("rows", "agree", "conflict"):
        table.add_column(name, justify="right")
    agreeing = sorted(met, key=lambda each: -each["agree"])[:MOST_OTHERS]
    shown = [each for each in met if (each in met[:MOST_OTHERS] and each["conflict"]) or each in agreeing]
    for each in shown:
        table.add_row(Text(each["name"]), f"{each['both']:,}", f"{each['agree']:,}", f"{each['conflict']:,}")
    out.print(table)
    if len(met) > len(shown):
        out.print(Text(f"and {len(met) - len(shown):,} more, which conflict or agree on fewer rows; --json has all."))


def _sides(found: dict[str, Any]) -> str:
    sides = [*(["dev gold"] if found["gold"] else []), *(["the others' majority"] if found["others"] else [])]
    return " or ".join(sides)


def _print_rows(out: Console, trial: Trial, title: str, rows: list[dict[str, Any]], first: int) -> None:
    """Rows under a title; ``first`` is the place of their values in ``trial.shown``."""
    out.print()
    out.print(Text(title, "bold"))
    width = max(map(len, trial.columns), default=0)
    for place, row in enumerate(rows, first):
        others = ", ".join(f"{name} {count}" for name, count in row["others"].items()) or "none"
        beside = f"; others {others}" if trial.figures["others"] else ""
        gold = f"; dev gold {row['gold']}" if row["gold"] else ""
        out.print(Text(f"{excerpt('', str(row['key']), [])}  {row['vote']}{beside}{gold}"))
        for column in trial.columns:
            value = excerpt(column, trial.shown[column][place].as_py(), trial.searches)
            out.print(Text(f"    {column:{width}}  {value}"), soft_wrap=True)


def _right(found: dict[str, int], before: str = "; ") -> str:
    if not found["votes"]:
        return ""
    share = _share(found["correct"], found["votes"])
    return f"{before}right on {found['correct']:,} of {_rows(found['votes'])} with dev gold, {share}"


def _classes(by_class: dict[str, int]) -> str:
    return f" ({', '.join(f'{name} {count:,}' for name, count in by_class.items())})" if by_class else ""


def _share(part: int, whole: int) -> str:
    share = part / whole if whole else 0.0
    return "< 0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _rows(number: int) -> str:
    return f"{number:,} {'row' if number == 1 else 'rows'}"
