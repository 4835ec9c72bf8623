"""The end of a run in a terminal: a table of stages, one line of metrics per model, the verdict."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from weakfish.contracts.reports import DevReport
from weakfish.report.inputs import read
from weakfish.report.overall import judge
from weakfish.report.story import story
from weakfish.report.task_sections import METRICS, SHORT, nothing_measured, remarks, tasks
from weakfish.report.wording import count, model_name, when

WIDTH = 120
COUNTS = ("rows_in", "rows_out", "quarantined", "rejected", "passed", "warned", "failed")
SHOWN = ("average_precision", "f1", "auc", "balanced_accuracy", "coverage")
TONES = {
    "passed": "green",
    "warned": "yellow",
    "failed": "bold red",
    "running": "yellow",
    "not run": "dim",
    "cached": "dim",
    "stale": "yellow",
}


def print_summary(
    root: Path,
    since: datetime | None = None,
    file: TextIO | None = None,
    changed: Mapping[str, str] | None = None,
) -> None:
    """Print what the run did.

    Parameters
    ----------
    root
        The project's root.
    since
        When the run began, UTC: stages that did not run since count as cached.
    file
        Where to; default standard output. Colours only if it is a terminal.
    changed
        Stages that DVC knows to be stale, with why.
    """
    records, file = read(root, changed), file or sys.stdout
    terminal = file.isatty()
    width = Console(file=file).width if terminal else WIDTH
    console = Console(file=file, width=width, force_terminal=terminal, highlight=False, markup=False, emoji=False)

    stages = _table("stage", [name.replace("_", " ") for name in (*COUNTS, "seconds")], gap=1)
    stages.add_column("", no_wrap=True)
    for row in records.rows(since):
        counts = [getattr(row, name) for name in COUNTS]
        seconds = "" if row.seconds is None or row.state in ("cached", "stale") else f"{row.seconds:.1f}"
        said = ("" if number is None else f"{number:,}" for number in counts)
        stages.add_row(Text(row.stage), *said, seconds, Text(row.state, TONES.get(row.state, "")))
    console.print(stages)

    for task in tasks(records):
        if task.labels and task.labels.dev and not task.labels_stale:
            console.print(Text(f" {task.name}, dev: {_on_dev(task.labels.dev)}"))
        if task.metrics and task.metrics_stale:
            ran = records.runs.get("evaluate")
            ago = f", by evaluate of {when(ran.started_at)} UTC" if ran else ""
            console.print(Text(f" {task.name}, test: measured on earlier data{ago}; `weakfish run` measures again.\n"))
        elif task.metrics:
            if nothing := nothing_measured(task.metrics):
                console.print(Text(f" {task.name}, test: {nothing}\n"))
                continue
            shown = [metric for metric in SHOWN if any(metric in model for model in task.metrics.models.values())]
            names = [SHORT.get(metric, METRICS[metric]) for metric in shown]
            models = _table(f"{task.name}, test", names, gap=2)
            for name, model in task.metrics.models.items():
                values = [model[metric].value if metric in model else None for metric in shown]
                models.add_row(Text(model_name(name)), *("" if value is None else f"{value:.3f}" for value in values))
            console.print(models)
            for sentence in remarks(task.metrics):
                console.print(Text(f" {sentence}"))

    overall = judge(records)
    console.print(Text(overall.headline, TONES.get(overall.verdict, "")))
    if happened := story(records):
        console.print(Padding(Text(happened), (0, 0, 0, 2)))
    for sentence in overall.sentences:
        console.print(Padding(Text(sentence.replace("`", "")), (0, 0, 0, 2)))
    if (root / "reports" / "index.html").exists():
        console.print(Text("  The full report: reports/index.html"))


def _on_dev(dev: DevReport) -> str:
    """What dev gold says of the labels, in a line."""
    f1 = f"F1 of {dev.positive}" if dev.positive else "F1"
    figures = (("accuracy", dev.accuracy), (f1, dev.f1), ("coverage", dev.coverage))
    said = ", ".join(f"{name} {value:.3f}" for name, value in figures if value is not None)
    return f"{said or 'too few'} on {count(dev.rows, 'row')} of gold."


def _table(first: str, numbers: list[str], gap: int) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column(Text(first), overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table
