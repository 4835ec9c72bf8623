"""Quarantine as people read it on a terminal: what `aside` found comes in, lines go out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from weakfish.project.paths import Project

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


def to_json(found: Any) -> str:
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


TABLE = "events"
"""The table whose bad rows are set aside."""

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.group()
def quarantine() -> None:
    """Rows that failed a critical check: list them, see why, and let them in by a patch under version control."""


@quarantine.command("list")
@click.option("--rule", help="Only rows that this check sets aside.")
@click.option("--partition", help="Only rows of this partition.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="How many rows to name.")
@AS_JSON
def list_rows(rule: str | None, partition: str | None, limit: int, as_json: bool) -> None:
    """Say how many rows each check sets aside, and name the newest."""

    from weakfish.checks.releases import Aside

    found = Aside.read(Project.find(), TABLE).summary(rule, partition, limit)
    if as_json:
        click.echo(to_json(found))
        return
    print_summary(found)


@quarantine.command()
@click.argument("row")
@AS_JSON
def show(row: str, as_json: bool) -> None:
    """Say why ROW is set aside, and what it holds.

    This is the only command that prints the values of rows; they go nowhere else.
    """

    from weakfish.checks.releases import Aside
    from weakfish.checks.repairs import staged_files

    project = Project.find()
    aside = Aside.read(project, TABLE)
    with staged_files(project, TABLE) as files:
        found = aside.rows_of(row, files)
    if as_json:
        click.echo(to_json({"row": row, "rows": found}))
        return
    print_rows(row, found)


@quarantine.command()
@click.argument("rows", nargs=-1, metavar="[ROW]...")
@click.option("--rule", help="The check to let rows past; without ROW, all rows that it sets aside now.")
@click.option("--who", help="Who decides; whom git knows as the author where it is not given.")
@click.option("--why", required=True, help="Why, in a sentence that will be understood in a year.")
@click.option(
    "--set",
    "values",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="A value that the rows should have; `null` is none, a time is 2024-01-31T09:30:00Z. They are checked again.",
)
def release(rows: tuple[str, ...], rule: str | None, who: str | None, why: str, values: tuple[str, ...]) -> None:
    """Write a patch that lets rows in: as they are, or with repaired values.

    After a fix of the source no patch is needed: rows that pass the checks come in by the next `dvc repro`.
    """
    from weakfish.checks.releases import Decision, write_patch

    project = Project.find()
    file, follows = write_patch(project, TABLE, Decision(rows, rule, who, why, values))
    click.echo(file.relative_to(project.root))
    click.echo(f"{follows} Commit the file: it is the record of who decided and why.")


@quarantine.command()
@AS_JSON
def patches(as_json: bool) -> None:
    """Say which patches there are, whose they are, and how many rows each touches."""

    found = _patches(Project.find())
    if as_json:
        click.echo(to_json(found))
        return
    print_patches(found)


def _patches(project: Project) -> list[dict[str, Any]]:
    """The patches as they are now, with the rows that each touched in the last `validate`; None where it saw none."""
    from weakfish.checks.patches import read_patches
    from weakfish.contracts.verdicts import Mask, mask_file

    applied = Mask.read(project, TABLE).notes.get("patches", []) if mask_file(project, TABLE).exists() else []
    rows = {patch["patch"]: patch["rows"] for patch in applied}
    return [
        {
            "patch": patch.name,
            "who": patch.who,
            "why": patch.why,
            "does": f"sets {', '.join(patch.values)}" if patch.values else f"lets past {', '.join(patch.rules)}",
            "rows": rows.get(patch.name),
        }
        for patch in read_patches(project, TABLE)
    ]
