"""An explanation of one label as people read it: a table of votes, and below it what the label rests on."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 110


def print_explanation(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print what `explain` found; votes that weigh most come first."""
    out = console(file or sys.stdout)
    out.print(Text(_headline(found), "bold"))
    out.print(Text(_method(found)))
    if found["covered"]:
        out.print(_table(found))
    for line in _rest(found) + _origin(found):
        out.print(Text(line))


def console(file: TextIO) -> Console:
    """A console on ``file``, as wide as the terminal that it is; colours only there."""
    terminal = file.isatty()
    width = min(WIDTH, Console(file=file).width) if terminal else WIDTH
    return Console(file=file, width=width, force_terminal=terminal, highlight=False, markup=False, emoji=False)


def _headline(found: dict[str, Any]) -> str:
    about = f"{found['key']} ({found['time'] or 'undated'}), task {found['task']}"
    shares = ", ".join(f"{name} {share:.4f}" for name, share in found["probabilities"].items())
    if not found["covered"]:
        return (
            f"{about}: uncovered, no labeling function votes on it. Its probabilities are the class balance ({shares})."
        )
    return f"{about}: {found['label']} ({shares})"


def _method(found: dict[str, Any]) -> str:
    if not found["covered"]:
        return "It has no label; what treats the class balance as one is mistaken."
    if found["prior"] is not None:
        against = found["classes"][0]
        return f"Log odds of each class against {against}: the class balance and the votes add up to the probability."
    counts = ", ".join(f"{number} for {name}" for name, number in found["votes"].items())
    return f"Majority vote: {counts}; the class with most votes has the probability, classes that tie share it."


def _table(found: dict[str, Any]) -> Table:
    others = found["classes"][1:]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("labeling function", overflow="fold")
    table.add_column("vote", no_wrap=True)
    weighed = found["prior"] is not None
    for name in others if weighed else []:
        table.add_column(f"log odds of {name}", justify="right")
    table.add_column("module", overflow="fold")
    voted = [function for function in found["functions"] if function["vote"] is not None]
    for function in sorted(voted, key=_weight, reverse=True):
        odds = [_odds(function["log_odds"][name], function["at_bound"]) for name in others] if weighed else []
        table.add_row(Text(function["name"]), function["vote"], *odds, Text(function["module"]))
    if weighed:
        table.add_row(Text("(class balance)"), "", *(_odds(found["prior"][name]) for name in others), "")
        table.add_row(Text("together", "bold"), "", *(_odds(_total(found, name)) for name in others), "")
    return table


def _weight(function: dict[str, Any]) -> float:
    return max(map(abs, function["log_odds"].values())) if function["log_odds"] else 0.0


def _total(found: dict[str, Any], name: str) -> float:
    parts = [function["log_odds"][name] for function in found["functions"]]
    return float(found["prior"][name] + sum(parts))


def _odds(value: float, at_bound: bool = False) -> str:
    return f"{value:+.3f}{'*' if at_bound else ' '}"


def _rest(found: dict[str, Any]) -> list[str]:
    lines = []
    if any(function["at_bound"] for function in found["functions"]):
        lines.append("* An estimate at the bound that the label model sets: the true weight may be larger.")
    failed = [function["name"] for function in found["functions"] if function["failed"]]
    if failed:
        lines.append(f"Failed on it, which counts as an abstain: {', '.join(failed)}.")
    silent = [function["name"] for function in found["functions"] if function["vote"] is None]
    silent = [name for name in silent if name not in failed]
    if silent and found["covered"]:
        lines.append(f"Abstained: {', '.join(silent)}.")
    return lines


def _origin(found: dict[str, Any]) -> list[str]:
    events, model = found["events"], found["model"]
    settings = ", ".join(
        f"{name} {value}" for name, value in found["settings"]["label_model"].items() if value is not None
    )
    return [
        "",
        f"Events    data/events/{events['partition']}.parquet, sha256 {events['sha256'][:12]}",
        f"Model     {found['method']}, fitted through {model['fitted_through']} on {model['rows']:,} rows",
        *(f"          {why}" for why in found["why"]),
        f"Settings  {settings}",
        f"Packages  {', '.join(f'{name} {version}' for name, version in found['versions'].items())}",
    ]
