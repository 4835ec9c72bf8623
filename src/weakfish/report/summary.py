"""The end of a run in a terminal: a table of stages, one line of metrics per model, the verdict."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from weakfish.contracts.reports import Metric
from weakfish.report.inputs import Inputs, StageRow, find_stop, read, rows
from weakfish.report.overall import Overall, judge
from weakfish.report.task_sections import METRICS, Task, nothing_measured, tasks
from weakfish.report.wording import model_name

WIDTH = 110
COLUMNS = ("rows in", "rows out", "quarantined", "passed", "warned", "failed", "seconds")
SHOWN = ("auc", "f1", "coverage")
TONES = {
    "passed": "green",
    "warned": "yellow",
    "failed": "bold red",
    "running": "yellow",
    "not run": "dim",
    "cached": "dim",
}


def print_summary(root: Path, since: datetime | None = None, file: TextIO | None = None) -> None:
    """Print what the run did.

    Parameters
    ----------
    root
        The project's root.
    since
        When the run began, UTC: stages that did not run since count as cached.
    file
        Where to; default standard output. Colours only if it is a terminal.
    """
    inputs = read(root)
    console = _console(file or sys.stdout)
    console.print(_stage_table(rows(inputs, since)))
    for task in tasks(inputs, find_stop(inputs)):
        if task.metrics and not task.metrics_stale:
            nothing = nothing_measured(task.metrics)
            console.print(_metrics_table(task) if nothing is None else Text(f" {task.name}, test: {nothing}\n"))
    _print_verdict(console, judge(inputs), inputs)


def _console(file: TextIO) -> Console:
    terminal = file.isatty()
    width = min(WIDTH, Console(file=file).width) if terminal else WIDTH
    return Console(file=file, width=width, force_terminal=terminal, highlight=False, markup=False, emoji=False)


def _stage_table(stages: list[StageRow]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("stage", overflow="fold")
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in stages:
        counts = (row.rows_in, row.rows_out, row.quarantined, row.passed, row.warned, row.failed)
        seconds = "" if row.seconds is None or row.state == "cached" else f"{row.seconds:.1f}"
        table.add_row(Text(row.stage), *map(_count, counts), seconds, Text(row.state, TONES.get(row.state, "")))
    return table


def _metrics_table(task: Task) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text(f"{task.name}, test"), overflow="fold")
    for name in SHOWN:
        table.add_column(METRICS[name], justify="right", no_wrap=True)
    for name, model in (task.metrics.models if task.metrics else {}).items():
        table.add_row(Text(model_name(name)), *(_value(model.get(metric)) for metric in SHOWN))
    return table


def _print_verdict(console: Console, overall: Overall, inputs: Inputs) -> None:
    console.print(Text(overall.headline, TONES.get(overall.verdict, "")))
    for sentence in overall.sentences:
        console.print(Padding(Text(sentence.replace("`", "")), (0, 0, 0, 2)))
    if (inputs.root / "reports" / "index.html").exists():
        console.print(Text("  The whole of it: reports/index.html"))


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _value(metric: Metric | None) -> str:
    return "" if metric is None or metric.value is None else f"{metric.value:.3f}"
