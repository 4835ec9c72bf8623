"""`weakfish quarantine`: rows that failed a critical check, as people read them on a terminal or programs as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from weakfish.cli.help import WholeHelp
from weakfish.contracts.figures import percent
from weakfish.project.paths import Project

WIDTH = 110
LONGEST_VALUE = 300
"""How many characters of a value are shown."""

TABLE = "events"
"""The table whose bad rows are set aside."""

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.group(cls=WholeHelp)
def quarantine() -> None:
    """Rows that failed a critical check: list them, see why, and let them in by a patch under version control."""


@quarantine.command("list")
@click.option("--rule", help="Only rows that this check quarantines.")
@click.option("--partition", help="Only rows of this partition.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="How many rows to name.")
@AS_JSON
def list_rows(rule: str | None, partition: str | None, limit: int, as_json: bool) -> None:
    """Count what was read, kept, quarantined and rejected, and why; name the newest quarantined rows."""
    from weakfish.checks.bad_rows import QuarantinedRows
    from weakfish.checks.repairs import staged_files

    project = Project.find()
    aside = QuarantinedRows.read(project, TABLE)
    with ExitStack() as stack:
        files = stack.enter_context(staged_files(project, TABLE)) if project.staged(TABLE).is_dir() else {}
        found = aside.summary(rule, partition, limit, files)
    if as_json:
        _print_json(found)
        return
    share, limit_share = found["bad_share"], found["max_quarantined_share"]
    most = f"; at most {percent(limit_share)} may be" if limit_share is not None else ""
    shut = "; the gate is shut, none were let in" if found["gate"] == "shut" else ""
    copies = f", {found['copies']:,} of them exact copies" if found["copies"] else ""
    out = _console()
    _say(
        out,
        f"{found['table']}: {found['rows_read']:,} rows read = {found['kept']:,} kept + {found['quarantined']:,} "
        f"quarantined + {found['rejected']:,} rejected{copies} ({percent(share)} bad{most})",
        "bold",
    )
    _say(out, f"{found['released']:,} released, {found['repaired']:,} repaired{shut}")
    if found["rejects"]:
        lines = ((of["reason"], f"{of['rows']:,}", _place(of)) for of in found["rejects"][:limit])
        _table(out, lines, "rejected lines, by file and reason", rows="right", first="left")
        _say(out, "Each with what stood there, in Python: weakfish.open('.').rejects.pandas()")
    if found["null_values"]:
        values = ", ".join(f"{column} ({count:,})" for column, count in found["null_values"].items())
        _say(out, f"Values that could not be read, and are null: {values}")
    if found["patched_since"]:
        _say(out, "Patches have changed since; the next `dvc repro` applies them.")
    if found["rules"]:
        rows = ((of["rule"], f"{of['rows']:,}", percent(of["share"]), of["since"]) for of in found["rules"])
        _table(out, rows, "rule", rows="right", share="right", since="left")
        newest = ((of["name"], of["partition"], ", ".join(of["rules"])) for of in found["newest"])
        _table(out, newest, "newest rows", partition="left", rules="left")
        _say(out, "Why, and what a row holds: weakfish quarantine show ROW")
        _say(out, "Let rows in: weakfish quarantine release --help")


@quarantine.command()
@click.argument("row")
@AS_JSON
def show(row: str, as_json: bool) -> None:
    """Show why ROW is quarantined, and its values.

    This is the only command that prints the values of rows; they go nowhere else.
    """
    from weakfish.checks.bad_rows import QuarantinedRows
    from weakfish.checks.repairs import staged_files

    project = Project.find()
    aside = QuarantinedRows.read(project, TABLE)
    with staged_files(project, TABLE) as files:
        found = aside.rows_of(row, files)
    if as_json:
        _print_json({"row": row, "rows": found})
        return
    out = _console()
    for of in found:
        _say(out, f"{printable(row)}, partition {of['partition']}", "bold")
        if len(found) > 1:
            _say(out, f"{len(found)} rows bear this name; '{of['hash']}' names this one alone.")
        for reason in of["reasons"]:
            _say(out, f"  {reason['rule']}: {reason['why']}")
        values = ((name, "-" if value is None else _cut(value)) for name, value in of["columns"].items())
        _table(out, values, "column", value="left")


@quarantine.command()
@click.argument("rows", nargs=-1, metavar="[ROW]...")
@click.option("--rule", help="The check to overrule; without ROW, for all rows that it quarantines now.")
@click.option("--who", help="Who decides, by default git's author.")
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
    """List the patches, who wrote them, and how many rows each touches."""
    from weakfish.checks.patches import read_patches
    from weakfish.contracts.verdicts import Mask, mask_file

    project = Project.find()
    applied = Mask.read(project, TABLE).notes.get("patches", []) if mask_file(project, TABLE).exists() else []
    rows = {patch["patch"]: patch["rows"] for patch in applied}  # of the last `validate`; None where it saw none
    found = [
        {
            "patch": patch.name,
            "who": patch.who,
            "why": patch.why,
            "does": f"sets {', '.join(patch.values)}" if patch.values else f"lets past {', '.join(patch.rules)}",
            "rows": rows.get(patch.name),
        }
        for patch in read_patches(project, TABLE)
    ]
    if as_json:
        _print_json(found)
        return
    out = _console()
    if not found:
        _say(out, "There are no patches.")
        return
    lines = (
        (
            str(of["patch"]).rpartition("/")[2],
            "not applied yet" if of["rows"] is None else f"{of['rows']:,}",
            *(str(of[name]) for name in ("does", "who", "why")),
        )
        for of in found
    )
    _table(out, lines, "patch", rows="right", does="left", who="left", why="left")


def _place(reject: Mapping[str, Any]) -> str:
    """Where the first line that was rejected for a reason stands."""
    return reject["file"] if reject["line"] is None else f"{reject['file']}, line {reject['line']:,}"


def _print_json(found: Any) -> None:
    """Print JSON; times in ISO form, bytes in hexadecimal."""
    from weakfish.checks.bad_rows import plain

    click.echo(json.dumps(found, indent=2, ensure_ascii=False, default=plain))


def printable(text: str) -> str:
    """``text`` on one line, without what would steer the terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _cut(value: Any) -> str:
    from weakfish.checks.bad_rows import plain

    text = printable(value if isinstance(value, str) else plain(value))
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]} ... ({len(text):,} characters)"


def _console() -> Console:
    """A console as wide as the terminal that it is; colours only there."""
    terminal = sys.stdout.isatty()
    width = min(WIDTH, Console().width) if terminal else WIDTH
    return Console(file=sys.stdout, width=width, force_terminal=terminal, highlight=False, markup=False, emoji=False)


def _say(out: Console, line: str, style: str = "") -> None:
    out.print(Text(line, style))


def _table(out: Console, lines: Iterable[Sequence[str]], first: str, /, **columns: Any) -> None:
    """Print a table of texts; ``columns`` says to which side each goes."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for name, side in columns.items():
        table.add_column(name, justify=side, overflow="fold")
    for line in lines:
        table.add_row(*(Text(printable(text)) for text in line))
    out.print(table)
