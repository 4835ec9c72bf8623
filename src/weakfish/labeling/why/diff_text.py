"""What moved labels since a revision, as people read it: one sentence of counts, one table of groups."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from weakfish.labeling.why.explain_text import console

KINDS = {
    "events": "the events changed",
    "several": "several edits together",
    "refit": "refit of the label model",
}


def print_diff(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print what `diff` found."""
    out = console(file or sys.stdout)
    for line in _counts(found):
        out.print(Text(line))
    if found["groups"]:
        out.print(_table(found["groups"]))


def _counts(found: dict[str, Any]) -> list[str]:
    rows, since = found["rows"], f"{found['revision']} ({found['commit'][:7]})"
    lines = [
        f"Labels of {found['task']} since {since}: {found['flipped']:,} flipped, {found['appeared']:,} appeared, "
        f"{found['vanished']:,} vanished; {rows['old']:,} events then, {rows['new']:,} now."
    ]
    for verb, names in (found["functions"] or {}).items():
        if names:
            lines.append(f"Labeling functions {verb}: {', '.join(names)}.")
    for name, (old, new) in found["settings"].items():
        lines.append(f"Setting {name} was {old} and is {new}; labels that it moved count as refit.")
    return lines + ([found["causes_unknown"]] if found["causes_unknown"] else [])


def _table(groups: list[dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("labels", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("from", no_wrap=True)
    table.add_column("to", no_wrap=True)
    table.add_column("because of", overflow="fold")
    table.add_column("for example", overflow="fold")
    for group in groups:
        examples = Text(", ".join(map(str, group["examples"])))
        ends = (group["from"] or "-", group["to"] or "-")
        table.add_row(f"{group['count']:,}", group["change"], *ends, Text(_because(group["cause"])), examples)
    return table


def _because(cause: dict[str, Any] | None) -> str:
    if cause is None:
        return "not known"
    return KINDS.get(cause["kind"]) or " or ".join(cause["functions"])
