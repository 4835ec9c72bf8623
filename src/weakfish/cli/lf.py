"""`lf`: what labeling functions do on a sample, and suggestions, as people and programs read them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click
from rich.console import Console
from rich.text import Text

from weakfish.cli.help import WholeHelp
from weakfish.cli.labels import AS_JSON, TASK, console, grid, task_of
from weakfish.cli.quarantine import printable
from weakfish.contracts.figures import percent, short_percent
from weakfish.project.paths import Project

if TYPE_CHECKING:
    from weakfish.labeling.plan import Search
    from weakfish.labeling.suggest import Suggestions
    from weakfish.labeling.trial import Trial

WIDEST = 150
"""How many characters of a value are shown."""

BEFORE = 50
"""How many of them stand before what was found."""

LITERAL = {"contains", "startswith", "endswith"}


def excerpt(column: str, value: Any, searches: Sequence[Search]) -> str:
    """``value`` without line breaks and control characters; of a long text, the part where a search finds something."""
    if value is None:
        return "-"
    if not isinstance(value, str):
        return _cut(value.hex() if isinstance(value, bytes) else str(value), 0)
    found = [place for search in searches if (place := _place(search, column, value)) is not None]
    return _cut(value, min(found, default=0))


def _cut(text: str, place: int) -> str:
    if len(text) <= WIDEST:
        return _plain(text)
    start = max(0, min(place - BEFORE, len(text) - WIDEST))
    part = text[start : start + WIDEST]
    before, after = "..." if start else "", "..." if start + WIDEST < len(text) else ""
    return f"{before}{_plain(part)}{after} ({len(text):,} characters)"


def _plain(text: str) -> str:
    return printable(re.sub(r"\s+", " ", text))


def _place(search: Search, column: str, text: str) -> int | None:
    """Where a search finds something in a column's text; RE2 looks, as in the engine. None where it finds nothing."""
    cases = {column: text, f"lower({column})": text.lower(), f"upper({column})": text.upper()}
    if search.column not in cases:
        return None
    haystack = cases[search.column]
    if search.kind in LITERAL:
        place = haystack.find(search.pattern)
        return place if place >= 0 else None
    if search.kind != "regex":
        return None
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        place = pc.find_substring_regex(pa.array([haystack]), search.pattern)[0].as_py()
    except pa.ArrowInvalid:
        return None
    return len(haystack.encode()[:place].decode(errors="ignore")) if place >= 0 else None


MOST_OTHERS = 5
"""Of the functions that conflict, and of those that agree, how many are shown; JSON has all."""

NO_GOLD = "there is none for these rows"

MOST_READ = 8
"""Columns that are named."""


def print_trial(trial: Trial, file: TextIO | None = None) -> None:
    """Print what `try_function` found."""
    found, out = trial.figures, console(file or sys.stdout)
    where = f" ({found['where']})" if found["where"] else ""
    out.print(Text(printable(f"{found['task']}: {found['function']}{where}"), "bold"))
    notes = [f"note       {note}" for note in found["notes"]]
    for line in [*_about(trial), "", *_votes(found), *_beside(found), *_faults(trial), *notes]:
        out.print(Text(line))
    if found["others"]:
        _print_others(out, found["others"]["by_function"])
    fires, disagrees = found["examples"]["fires"], found["examples"]["disagrees"]
    _print_rows(out, trial, f"Where it votes: {len(fires):,} of {_rows(found['coverage']['rows'])}", fires, 0)
    sides = ["dev gold"] * bool(found["gold"]) + ["the others' majority"] * bool(found["others"])
    if sides:
        title = f"Where {' or '.join(sides)} disagrees: {len(disagrees):,} of {_rows(found['contradicted'])}"
        _print_rows(out, trial, title, disagrees, len(fires))


def _about(trial: Trial) -> list[str]:
    found, sample, doc = trial.figures, trial.figures["sample"], " ".join(trial.doc.split())
    reads = ", ".join(found["reads"][:MOST_READ]) or "no column"
    if len(found["reads"]) > MOST_READ:
        reads += f" and {len(found['reads']) - MOST_READ} more columns, as far as can be told"
    how = "on columns" if found["kind"] == "columns" else "row by row"
    return [printable(doc)] * bool(doc) + [f"Works {how}, reads {reads}; tried on {_tried(sample)}."]


def _tried(sample: dict[str, int]) -> str:
    if sample["rows"] == sample["of"]:
        return f"all {sample['of']:,} events"
    return f"{sample['rows']:,} of {sample['of']:,} events, from {sample['partitions']:,} partitions"


def _votes(found: dict[str, Any]) -> list[str]:
    """How often it votes, and how often dev gold says that it is right."""
    coverage, gold = found["coverage"], found["gold"]
    share = _share(coverage["rows"], found["sample"]["rows"])
    lines = [f"coverage   {_rows(coverage['rows'])}, {share}{_classes(coverage['by_class'])}"]
    if gold is None:
        return [*lines, f"dev gold   {NO_GOLD}"]
    if not gold["votes"]:
        return [*lines, f"dev gold   it votes on none of the {_rows(gold['rows'])} with a gold label"]
    (low, high), most = gold["interval"], gold["majority"]
    lines.append(f"dev gold   {_right(gold)} (95 %: {percent(low)} to {percent(high)})")
    if len(gold["by_class"]) > 1:
        lines += [f"           {name}: {_right(each)}" for name, each in gold["by_class"].items()]
    if most["rows"]:
        lines.append(
            f"           where the others have a majority too ({_rows(most['rows'])}): it is right on "
            f"{most['own_correct']:,}, the majority on {most['correct']:,}"
        )
    return lines


def _beside(found: dict[str, Any]) -> list[str]:
    lines, others, votes = [], found["others"], found["coverage"]["rows"]
    if others:
        adds = others["adds"]
        right = f"; {_right(adds['gold'])}" if adds["gold"]["votes"] else ""
        lines = [
            f"adds       {_rows(adds['rows'])} on which none of {others['functions']:,} others votes, "
            f"{_share(adds['rows'], found['sample']['rows'])}{_classes(adds['by_class'])}{right}",
            f"conflicts  on {_rows(others['conflicts'])}, {_share(others['conflicts'], votes)} of its votes, another "
            f"votes otherwise; on {others['against_majority']:,} the others' majority does",
        ]
    if found["changed"]:
        lines.append(f"changed    on {_rows(found['changed'])} its vote is not the one that lies in data/votes")
    return lines


def _faults(trial: Trial) -> list[str]:
    faults = trial.figures["faults"]
    if not faults["rows"]:
        return []
    keys = ", ".join(printable(repr(key)) for key in faults["keys"])
    keys += ", ..." if faults["rows"] > len(faults["keys"]) else ""
    return [
        f"faults     it raised on {_rows(faults['rows'])}, first {excerpt('', trial.exception, [])} ({keys}); "
        "there it has no vote"
    ]


def _print_others(out: Console, others: list[dict[str, Any]]) -> None:
    met = [each for each in others if each["both"]]
    agreeing = sorted(met, key=lambda each: -each["agree"])[:MOST_OTHERS]
    shown = [each for each in met if (each in met[:MOST_OTHERS] and each["conflict"]) or each in agreeing]
    table = grid(
        ["votes on the same rows", "rows", "agree", "conflict"],
        right=["rows", "agree", "conflict"],
        fold=["votes on the same rows"],
    )
    for each in shown:
        table.add_row(Text(each["name"]), *(f"{each[count]:,}" for count in ("both", "agree", "conflict")))
    if met:
        out.print(table)
    if len(met) > len(shown):
        out.print(Text(f"and {len(met) - len(shown):,} more, which conflict or agree on fewer rows; --json has all."))


def _print_rows(out: Console, trial: Trial, title: str, rows: list[dict[str, Any]], first: int) -> None:
    """Rows under a title; ``first`` is the place of their values in ``trial.shown``."""
    out.print()
    out.print(Text(title, "bold"))
    columns = trial.shown.column_names
    width = max(map(len, columns), default=0)
    for place, row in enumerate(rows, first):
        others = ", ".join(f"{name} {count}" for name, count in row["others"].items()) or "none"
        beside = f"; others {others}" if trial.figures["others"] else ""
        gold = f"; dev gold {row['gold']}" if row["gold"] else ""
        out.print(Text(f"{excerpt('', str(row['key']), [])}  {row['vote']}{beside}{gold}"))
        for column in columns:
            value = excerpt(column, trial.shown[column][place].as_py(), trial.searches)
            out.print(Text(f"    {column:{width}}  {value}"), soft_wrap=True)


def _right(found: dict[str, int]) -> str:
    share = _share(found["correct"], found["votes"])
    return f"right on {found['correct']:,} of {_rows(found['votes'])} with dev gold, {share}"


def _classes(by_class: dict[str, int]) -> str:
    return f" ({', '.join(f'{name} {count:,}' for name, count in by_class.items())})" if by_class else ""


def _share(part: int, whole: int) -> str:
    return percent(part / whole if whole else 0.0)


def _rows(number: int) -> str:
    return f"{number:,} {'row' if number == 1 else 'rows'}"


def print_module(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print what `try_module` found, a function a line, those for several classes a line for each."""
    out, dev, lines = console(file or sys.stdout), sum(found["dev"].values()), found["functions"]
    names = list(dict.fromkeys(line["function"] for line in lines))
    shares = ", ".join(f"{name} {_share(count, dev)}" for name, count in found["dev"].items())
    out.print(Text(printable(f"{found['task']}: {found['where']}, {len(names)} labeling functions"), "bold"))
    out.print(
        Text(
            f"Tried on {_tried(found['sample'])}. "
            + (f"{_rows(dev)} have dev gold: {shares}." if dev else f"Dev gold: {NO_GOLD}.")
        )
    )
    titles = ["votes", "coverage", *(["precision", "right on dev", "base rate", "lift", "recall"] if dev else [])]
    table = grid(["function", "class", *titles], right=titles, fold=["function"])
    for line in lines:
        cells = [f"{line['rows']:,}", _share(line["rows"], found["sample"]["rows"])]
        if dev:
            right, lift = line["dev"], line["lift"]
            of = f"{right['correct']:,} of {right['votes']:,}"
            shown = [_percent(line["precision"]), of, _percent(line["base_rate"])]
            cells += [*shown, "-" if lift is None else f"{lift:.2f}", _percent(line["recall"])]
        table.add_row(Text(line["function"]), line["class"] or "-", *cells)
    out.print(table)
    useless = [line["function"] for line in lines if line["lift"] is not None and line["lift"] <= 1]
    silent = [line["function"] for line in lines if not line["rows"]]
    notes = [
        f"No more often right than the class is there (lift up to 1): {', '.join(dict.fromkeys(useless))}."
    ] * bool(useless)
    notes += [f"Votes on no row: {', '.join(silent)}."] * bool(silent)
    failed = {line["function"]: line["faults"] for line in lines if line["faults"]}
    notes += [f"{name} raised on {_rows(count)}; there it has no vote." for name, count in failed.items()]
    for note in [*notes, *found["notes"]]:
        out.print(Text(note))


def _percent(share: float | None) -> str:
    return "-" if share is None else percent(share)


KINDS = {
    "uncovered": "rows that no function votes on",
    "undecided": "rows with one vote or an undecided probability",
}


def print_suggestions(found: Suggestions) -> None:
    """Print a module to paste, or say that there is nothing to suggest."""
    click.echo("\n".join(f"# {line}" for line in _head(found)))
    if (code := _module(found)) is not None:
        click.echo(f"\n{code}")


def to_json(found: Suggestions) -> dict[str, Any]:
    """The suggestions as plain values; no values of rows but the words that many share."""
    return {
        "task": found.task,
        "precision": found.wanted,
        "rows": found.rows,
        "balance": found.balance,
        "best": found.best,
        "refuted": found.refuted,
        "suggestions": [
            {
                "name": each.rule.name,
                "for": each.pick.kind,
                "class": found.classes[each.rule.label],
                "column": each.rule.column,
                "kind": each.pick.candidates[0].kind,
                "values": list(each.rule.words) or [each.rule.value],
                "estimate": each.pick.estimate,
                "low": each.pick.low,
                "expected": each.pick.expected,
                **each.counts,
            }
            for each in found.suggestions
        ],
        "together": found.together,
        "code": _module(found),
    }


def _module(found: Suggestions) -> str | None:
    """The suggestions as a module to paste; None where there are none."""
    from weakfish.rules.rule import module_source

    rules = [each.rule for each in found.suggestions]
    comments = {}
    for each in found.suggestions:
        pick, counts, name = each.pick, each.counts, found.classes[each.rule.label]
        adds = f"adds {counts['adds']:,} of {found.rows[pick.kind]:,} {pick.kind} ones"
        comments[each.rule.name] = [
            f"{name}: votes on {counts['votes']:,} rows, {adds}; estimated precision there {pick.estimate:.2f}, "
            f"at least {pick.low:.2f};",
            f"{_agrees(counts['correct_added'], counts['gold_added'])}, "
            f"{_agrees(counts['correct'], counts['gold'], 'in all')}.",
        ]
    return module_source(rules, found.classes, comments=comments).rstrip("\n") if rules else None


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
        of = sum(each.pick.kind == kind for each in found.suggestions)
        if not of:
            lines.append(f"Nothing to suggest for {name}: {_why_not(found, kind)}.")
            continue
        counts = found.together[kind]
        lines.append(
            f"For {name}, {of} suggestion{'s' if of > 1 else ''}, which together vote on {counts['adds']:,} of "
            f"{rows[kind]:,} ({short_percent(counts['adds'] / max(rows[kind], 1))}); "
            f"{_agrees(counts['correct_added'], counts['gold_added'])}."
        )
    if found.refuted:
        lines.append(
            f"Left out since dev gold refutes them: {found.refuted:,} conditions that were estimated to reach "
            f"{short_percent(found.wanted)}."
        )
    if found.suggestions:
        lines.append(
            "Nothing was applied: paste what makes sense into labeling_functions/, and say why it should work."
        )
    return lines


def _why_not(found: Suggestions, kind: str) -> str:
    if not found.rows[kind]:
        return "there are none"
    if any(each.pick.kind != kind for each in found.suggestions) and kind == "undecided":
        return "no further rule would vote on enough of them"
    best = max(found.best[kind], default=0)
    themselves, like = found.balance[kind]["themselves"], found.balance[kind]["like"]
    moved = [
        f"{name} {short_percent(before)} there, {short_percent(after)} here"
        for name, before, after in zip(found.classes, like, themselves, strict=True)
        if abs(before - after) > 0.2
    ]
    differ = f", and these rows seem to differ from covered ones with few votes ({'; '.join(moved)})" if moved else ""
    if best >= found.wanted:
        return f"rules that reach a precision of {short_percent(found.wanted)} vote on too few of them{differ}"
    return f"no rule is estimated to reach a precision of {short_percent(found.wanted)}{differ}"


def _agrees(correct: int, gold: int, where: str = "of these") -> str:
    return f"dev gold agrees with {correct:,} of {gold:,} {where}" if gold else f"no dev gold {where}"


ROWS = 20_000
"""Rows of the sample unless asked otherwise: shares of them are right to about a percent."""


@click.group(cls=WholeHelp)
def lf() -> None:
    """Write labeling functions: try one on a sample, or get suggestions."""


@lf.command("try")
@click.argument("function", metavar="NAME|FILE:FUNCTION|FILE")
@TASK
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=ROWS,
    show_default=True,
    help="Number of events to try it on, spread evenly over all of them.",
)
@click.option(
    "--examples", type=click.IntRange(min=0), default=10, show_default=True, help="Number of rows of each kind to show."
)
@click.option("--columns", help="Columns to show, as a,b; by default the key, the time and the columns that it reads.")
@AS_JSON
def try_(function: str, task: str | None, rows: int, examples: int, columns: str | None, as_json: bool) -> None:
    """Run one labeling function on a sample: coverage, accuracy on dev gold, what it adds, where it disagrees.

    NAME is a function in labeling_functions/; FILE:FUNCTION is one in any Python file of the project, a draft perhaps.
    FILE alone shows a table of all its functions: coverage, and on dev gold precision, base rate, lift and recall.
    Nothing is written. JSON holds numbers and keys, never the values of rows.
    """
    from weakfish.labeling.trial import try_function, try_module

    project = Project.find()
    asked = _task_of(project, task, function)
    if function.endswith(".py"):
        table = try_module(project, asked, function, rows)
        click.echo(json.dumps(table, indent=2)) if as_json else print_module(table)
        return
    found = try_function(project, asked, function, rows, examples, _listed(columns))
    click.echo(json.dumps(found.figures, indent=2)) if as_json else print_trial(found)


@lf.command("suggest")
@TASK
@click.option(
    "--precision",
    type=click.FloatRange(0.5, 0.999),
    default=0.9,
    show_default=True,
    help="Least precision: a function's estimate and its lower bound must reach it.",
)
@click.option(
    "--most", type=click.IntRange(min=1), default=10, show_default=True, help="Largest number of functions to suggest."
)
@click.option("--columns", help="Columns to look at, as a,b; by default all but the key and the event time.")
@AS_JSON
def suggest(task: str | None, precision: float, most: int, columns: str | None, as_json: bool) -> None:
    """Suggest rules for rows without votes, or with hardly any, as code to paste; nothing is applied.

    Precision is estimated from the labels, without gold; dev gold, where there is some, is shown beside it.
    """
    from weakfish.labeling.suggest import suggest as work

    project = Project.find()
    found = work(project, task_of(project, task), precision, most, _listed(columns))
    click.echo(json.dumps(to_json(found), indent=2)) if as_json else print_suggestions(found)


def _listed(columns: str | None) -> list[str] | None:
    return [name.strip() for name in columns.split(",")] if columns else None


def _task_of(project: Project, task: str | None, function: str) -> str:
    """The task asked for, the one that a function of `labeling_functions/` votes in, or the only one."""
    if task is None and ":" not in function and not function.endswith(".py") and len(project.params.tasks) > 1:
        from weakfish.rules.loading import load_voters

        voter = load_voters(project).get(function)
        if voter and len(voter.tasks) == 1:
            return voter.tasks[0]
    return task_of(project, task)
