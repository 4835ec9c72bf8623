"""Quarantine as people read it on a terminal: what `aside` found comes in, lines go out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 110
LONGEST_VALUE = 300
"""How many characters of a value are shown."""


def print_summary(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print rows per check, then the newest rows by name."""
    out = _console(file)
    out.print(Text(_headline(found), "bold"))
    if found["patched_since"]:
        out.print(Text("Patches have changed since; the next `dvc repro` applies them."))
    if not found["rules"]:
        return
    rules = _table("rule", rows="right", share="right", since="left")
    for rule in found["rules"]:
        rules.add_row(rule["rule"], f"{rule['rows']:,}", f"{rule['share']:.1%}", rule["since"])
    out.print(rules)
    newest = _table("newest rows", partition="left", rules="left")
    for row in found["newest"]:
        newest.add_row(Text(printable(row["key"])), row["partition"], ", ".join(row["rules"]))
    out.print(newest)
    out.print(Text("Why, and what a row holds: weakfish quarantine show ROW"))
    out.print(Text("Let rows in: weakfish quarantine release --help"))


def print_rows(name: str, found: Sequence[dict[str, Any]], file: TextIO | None = None) -> None:
    """Print why rows are set aside, and what they hold."""
    out = _console(file)
    for row in found:
        out.print(Text(f"{printable(name)}, partition {row['partition']}", "bold"))
        if len(found) > 1:
            out.print(Text(f"{len(found)} rows bear this name; '{row['hash']}' names this one alone."))
        for reason in row["reasons"]:
            out.print(Text(f"  {reason['rule']}: {reason['why']}"))
        values = _table("column", value="left")
        for column, value in row["columns"].items():
            values.add_row(column, Text("-" if value is None else _cut(value)))
        out.print(values)


def print_patches(found: Sequence[dict[str, Any]], file: TextIO | None = None) -> None:
    """Print what each patch does, whose decision it was, and how many rows it touches."""
    out = _console(file)
    if not found:
        out.print(Text("There are no patches."))
        return
    patches = _table("patch", rows="right", does="left", who="left", why="left")
    for patch in found:
        rows = "not applied yet" if patch["rows"] is None else f"{patch['rows']:,}"
        patches.add_row(
            *(Text(printable(text)) for text in (_name(patch), rows, patch["does"], patch["who"], patch["why"]))
        )
    out.print(patches)


def as_json(found: Any) -> str:
    """Anything here as JSON; times in ISO form, bytes in hexadecimal."""
    return json.dumps(found, indent=2, ensure_ascii=False, default=_plain)


def printable(text: str) -> str:
    """``text`` on one line, without what would steer the terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _name(patch: dict[str, Any]) -> str:
    return str(patch["patch"]).rpartition("/")[2]


def _headline(found: dict[str, Any]) -> str:
    share = found["quarantined"] / found["rows"] if found["rows"] else 0.0
    limit = found["max_quarantined_share"]
    most = f"; at most {limit:.1%} may be" if limit is not None else ""
    let_in = f", {found['released']:,} released, {found['repaired']:,} repaired"
    shut = "; the gate is shut, none were let in" if found["gate"] == "shut" else ""
    return (
        f"{found['table']}: {found['quarantined']:,} of {found['rows']:,} rows set aside ({share:.1%}{most})"
        f"{let_in}{shut}"
    )


def _cut(value: Any) -> str:
    text = printable(value if isinstance(value, str) else _plain(value))
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]} ... ({len(text):,} characters)"


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def _table(first: str, **columns: Any) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for name, side in columns.items():
        table.add_column(name, justify=side, overflow="fold")
    return table


def _console(file: TextIO | None) -> Console:
    """A console as wide as the terminal that it is; colours only there."""
    stream = file or sys.stdout
    terminal = stream.isatty()
    width = min(WIDTH, Console(file=stream).width) if terminal else WIDTH
    return Console(file=stream, width=width, force_terminal=terminal, highlight=False, markup=False, emoji=False)
