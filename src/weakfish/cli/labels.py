"""`explain` and `labels`: why one label is what it is, and what moved those that changed, as people read it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from weakfish.cli.help import WholeHelp
from weakfish.errors import UserError
from weakfish.project.paths import Project

WIDTH = 110

SHOWN = 4
"""Classes that are all shown; of more, those that are most probable."""


def print_explanation(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print what `explain` found; votes that weigh most come first."""
    out = console(file or sys.stdout)
    out.print(Text(_headline(found), "bold"))
    out.print(Text(_method(found)))
    if found["label"] is not None:
        out.print(_weights(found))
    for line in _notes(found) + _origin(found):
        out.print(Text(line))


def console(file: TextIO) -> Console:
    """A console on ``file``, as wide as the terminal that it is; colours only there."""
    terminal = file.isatty()
    width = min(WIDTH, Console(file=file).width) if terminal else WIDTH
    return Console(file=file, width=width, force_terminal=terminal, highlight=False, markup=False, emoji=False)


def grid(titles: Sequence[str], *, right: Sequence[str] = (), fold: Sequence[str] = ()) -> Table:
    """An empty table: columns in ``right`` are justified to there, and only those in ``fold`` may be folded."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles:
        justify: JustifyMethod = "right" if title in right else "left"
        table.add_column(title, justify=justify, no_wrap=title not in fold, overflow="fold")
    return table


def _headline(found: dict[str, Any]) -> str:
    about, shares = f"{found['key']} ({found['time'] or 'undated'}), task {found['task']}", found["probabilities"]
    if found["known"] is not None:
        return (
            f"{about}: {found['label']}, a known label, which is evidence for other rows. Below is what is said of the "
            f"row without it and others of its part ({_shares(shares)})."
        )
    if found["label"] is not None:
        unvoted = "" if found["covered"] else "; no labeling function votes on it, the label rests on what it says"
        return f"{about}: {found['label']} ({_shares(shares)}){unvoted}"
    return (
        f"{about}: uncovered, no labeling function votes on it. Its probabilities are the class balance "
        f"({_shares(shares)})."
    )


def _method(found: dict[str, Any]) -> str:
    if found["label"] is None:
        return "It has no label: do not use the class balance as one."
    if found["prior"] is None:
        votes = {name: number for name, number in found["votes"].items() if number or len(found["classes"]) <= SHOWN}
        counts = ", ".join(f"{number} for {name}" for name, number in votes.items())
        return f"Majority vote: {counts}; the class with most votes has the probability, classes that tie share it."
    parts = "the class balance, the votes and the reader" if found["reader"] else "the class balance and the votes"
    if len(found["classes"]) > SHOWN:
        return f"Log odds of {_best(found)[0]} against the classes that come next: {parts} add up to them."
    against = found["classes"][0]
    return f"Log odds of each class against {against}: {parts} add up to the probability."


def _weights(found: dict[str, Any]) -> Table:
    """Each vote, and what it adds to the log odds between the two classes of each column."""
    pairs = _pairs(found) if found["prior"] is not None else {}
    table = grid(
        ["labeling function", "vote", *pairs, "module"], right=list(pairs), fold=["labeling function", "module"]
    )
    voted = [function for function in found["functions"] if function["vote"] is not None]
    for function in sorted(voted, key=_weight, reverse=True):
        own = function["log_odds"]
        odds = (_odds(_between(own, pair), function["at_bound"]) if own else "" for pair in pairs.values())
        table.add_row(Text(function["name"]), function["vote"], *odds, Text(function["module"]))
    if pairs:
        parts = [found["prior"], *_parts(found)]
        if found["together"]:
            votes = (_odds(_between(found["together"], pair)) for pair in pairs.values())
            table.add_row(Text("(the votes together)"), "", *votes, "")
        prior = (_odds(_between(found["prior"], pair)) for pair in pairs.values())
        total = (_odds(sum(_between(part, pair) for part in parts)) for pair in pairs.values())
        table.add_row(Text("(class balance)"), "", *prior, "")
        if found["reader"]:
            read = (_odds(_between(found["reader"]["log_odds"], pair)) for pair in pairs.values())
            table.add_row(Text("(the reader of the row)"), "", *read, "")
        table.add_row(Text("together", "bold"), "", *total, "")
    return table


def _parts(found: dict[str, Any]) -> list[dict[str, float]]:
    """What votes add to the log odds, each its own or all together as the method weighs them, and what reading adds."""
    read = [found["reader"]["log_odds"]] if found["reader"] else []
    if found["together"]:
        return [found["together"], *read]
    return [*(function["log_odds"] for function in found["functions"]), *read]


def _pairs(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """By the title of a column: a class, and the class that it is compared with.

    Of few classes each with the first one; of many the most probable one with those that come next.
    """
    classes, best = found["classes"], _best(found)
    if len(classes) <= SHOWN:
        return {f"log odds of {name}": (name, classes[0]) for name in classes[1:]}
    return {f"against {name}": (best[0], name) for name in best[1:SHOWN]}


def _best(found: dict[str, Any]) -> list[str]:
    """The classes, the most probable first."""
    return sorted(found["classes"], key=lambda name: -found["probabilities"][name])


def _shares(shares: dict[str, float]) -> str:
    """Probabilities; of many classes the largest, and how much is left for the others."""
    if len(shares) > SHOWN and len(set(shares.values())) == 1:
        return f"{next(iter(shares.values())):.4f} for each of {len(shares)} classes"
    most = sorted(shares.items(), key=lambda item: -item[1])[:SHOWN] if len(shares) > SHOWN else list(shares.items())
    named = [f"{name} {share:.4f}" for name, share in most]
    if len(shares) > SHOWN:
        named.append(f"{len(shares) - SHOWN} others {max(1 - sum(share for _, share in most), 0.0):.4f}")
    return ", ".join(named)


def _weight(function: dict[str, Any]) -> float:
    return max(map(abs, function["log_odds"].values())) if function["log_odds"] else 0.0


def _between(odds: dict[str, float], pair: tuple[str, str]) -> float:
    """The log odds of one class against another; those that are given are against the first class."""
    return odds.get(pair[0], 0.0) - odds.get(pair[1], 0.0)


def _odds(value: float, at_bound: bool = False) -> str:
    return f"{value:+.3f}{'*' if at_bound else ' '}"


def _notes(found: dict[str, Any]) -> list[str]:
    functions, lines = found["functions"], []
    if any(function["at_bound"] for function in functions):
        lines.append("* The estimate is at the label model's bound; the true weight may be larger.")
    failed = [function["name"] for function in functions if function["failed"]]
    if failed:
        lines.append(f"Failed on it, which counts as an abstain: {', '.join(failed)}.")
    again = [each["name"] for each in functions if not each["counted"]]
    if again:
        lines.append(f"Not counted, since a function with the same votes already counts: {', '.join(again)}.")
    silent = [each["name"] for each in functions if each["vote"] is None and not each["failed"]]
    if silent and found["covered"]:
        lines.append(f"Abstained: {', '.join(silent)}.")
    if found["reader"] and found["reader"]["words"]:
        pair = next(iter(_pairs(found).values()))
        words = (
            f"{_word(each['word'])} in {each['column']} ({_between(each['log_odds'], pair):+.2f})"
            for each in found["reader"]["words"]
        )
        lines.append(f"Words that the reader goes by, for {pair[0]} against {pair[1]}: {', '.join(words)}.")
    return lines


def _word(word: str) -> str:
    from weakfish.labeling.reading import WHOLE

    return word if word == WHOLE else repr(word)


def _origin(found: dict[str, Any]) -> list[str]:
    events, model, settings = found["events"], found["model"], found["settings"]["label_model"]
    told = ", ".join(f"{name} {_setting(value)}" for name, value in settings.items() if value is not None)
    return [
        "",
        f"Events    data/events/{events['partition']}.parquet, sha256 {events['sha256'][:12]}",
        f"Model     {found['method']}, fitted through {model['fitted_through']} on {model['rows']:,} rows",
        *(f"          {why}" for why in found["why"]),
        f"Settings  {told}",
        f"Packages  {', '.join(f'{name} {version}' for name, version in found['versions'].items())}",
    ]


def _setting(value: Any) -> str:
    if not isinstance(value, list) or len(value) <= SHOWN:
        return str(value)
    if not all(isinstance(each, int | float) for each in value):
        return ", ".join(map(str, value))
    least, most = f"{min(value):.3g}", f"{max(value):.3g}"
    return f"{least if least == most else f'{least} to {most}'} for each of {len(value)} classes"


KINDS = {
    "events": "the events changed",
    "reviews": "a reviewer's answer that came, left or changed",
    "known": "a known label that came, left or changed",
    "reader": "the reader, which learned anew",
    "several": "several edits together",
    "refit": "refit of the label model",
}


def print_diff(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print what `diff` found."""
    rows, since = found["rows"], f"{found['revision']} ({found['commit'][:7]})"
    lines = [
        f"Labels of {found['task']} since {since}: {found['flipped']:,} flipped, {found['appeared']:,} appeared, "
        f"{found['vanished']:,} vanished; {rows['old']:,} events then, {rows['new']:,} now."
    ]
    edits = (found["functions"] or {}).items()
    lines += [f"Labeling functions {verb}: {', '.join(names)}." for verb, names in edits if names]
    for name, (old, new) in found["settings"].items():
        lines.append(f"Setting {name} was {old} and is {new}; labels that it moved count as refit.")
    then, now = (", ".join(f"{rows:,} {name}" for name, rows in known.items()) or "none" for known in found["known"])
    if then != now:
        lines.append(f"Known labels were {then} and are {now}; labels of other rows that they moved count as refit.")
    lines += [found["causes_unknown"]] if found["causes_unknown"] else []
    out = console(file or sys.stdout)
    for line in lines:
        out.print(Text(line))
    table = grid(
        ["labels", "", "from", "to", "because of", "for example"],
        right=["labels"],
        fold=["because of", "for example"],
    )
    for group in found["groups"]:
        cause, examples = group["cause"], ", ".join(map(str, group["examples"]))
        because = KINDS.get(cause["kind"]) or " or ".join(cause["functions"]) if cause else "not known"
        ends = (group["from"] or "-", group["to"] or "-")
        table.add_row(f"{group['count']:,}", group["change"], *ends, Text(because), Text(examples))
    if found["groups"]:
        out.print(table)


WIDEST = 60
"""How many characters of a pattern are shown."""


def print_plan(project: Project) -> None:
    """Print the searches of the columnar functions of all tasks, which are one plan, and count those that run by row.

    Raises
    ------
    TableError
        When there are no events, whose columns the functions are compiled for.
    """
    from weakfish.contracts.tables import schema_of
    from weakfish.engine.duckdb import connect
    from weakfish.labeling.plan import VotePlan
    from weakfish.rules.columnar import ColumnarLabelingFunction
    from weakfish.rules.loading import load_voters

    out, tasks, voters = console(sys.stdout), list(project.params.tasks), load_voters(project)
    columnar = [each.function for each in voters.values() if isinstance(each.function, ColumnarLabelingFunction)]
    searches = VotePlan(connect(), columnar, schema_of(project.table("events"))).searches if columnar else []
    titles = ["tasks"] * (len(tasks) > 1) + ["function", "column", "pattern", "where", "why"]
    table = grid(titles, fold=titles)
    for search in searches:
        where = "scan, then engine" if search.rechecked else "scan" if search.lifted else "engine"
        pattern = search.pattern if len(search.pattern) <= WIDEST else search.pattern[: WIDEST - 3] + "..."
        of = [", ".join(voters[search.function].tasks)] * (len(tasks) > 1)
        table.add_row(*of, search.function, search.column, repr(pattern)[1:-1], where, search.why)
    lifted, several = sum(search.lifted for search in searches), sum(len(each.tasks) > 1 for each in voters.values())
    out.print(f"{', '.join(tasks)}: searches of text", table, sep="\n")
    out.print(
        f"{lifted} of {len(searches)} searches are done in one scan per column of text; {len(columnar)} of "
        f"{len(voters)} labeling functions are columnar, {len(voters) - len(columnar)} run row by row.",
        soft_wrap=True,
    )
    if several:
        out.print(f"{several} of them vote in several tasks, once for all of these.", soft_wrap=True)


TASK = click.option("--task", help="The labeling task; needed where there are several.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.command()
@click.argument("key")
@TASK
@AS_JSON
def explain(key: str, task: str | None, as_json: bool) -> None:
    """Explain the label of the event KEY: each function's vote, its weight, and the model behind it."""
    from weakfish.labeling.explain import explain as work

    project = Project.find()
    found = work(project, task_of(project, task), key)
    click.echo(json.dumps(found, indent=2)) if as_json else print_explanation(found)


@click.group(cls=WholeHelp)
def labels() -> None:
    """Compare labels with those of another revision."""


@labels.command()
@click.argument("revision", metavar="REV")
@TASK
@AS_JSON
def diff(revision: str, task: str | None, as_json: bool) -> None:
    """Show which labels differ from those at REV, any git revision, and which edit moved them."""
    from weakfish.labeling.flips import diff as work

    project = Project.find()
    found = work(project, task_of(project, task), revision)
    click.echo(json.dumps(found, indent=2)) if as_json else print_diff(found)


def task_of(project: Project, task: str | None) -> str:
    """The task asked for, or the only one; raises `UserError` where that is open, `UnknownName`."""
    known = list(project.params.tasks)
    if task is None and len(known) > 1:
        raise UserError(f"There are several tasks ({', '.join(known)}); say which with --task.")
    name = task or known[0]
    project.task(name)
    return name
