"""The `weakfish quarantine` commands: which rows are set aside and why, and letting them in by a patch."""

from __future__ import annotations

from typing import Any

import click

from weakfish.project import Project

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
    from weakfish.checks.quarantine import text
    from weakfish.checks.quarantine.aside import Aside

    found = Aside.read(Project.find(), TABLE).summary(rule, partition, limit)
    if as_json:
        click.echo(text.as_json(found))
        return
    text.print_summary(found)


@quarantine.command()
@click.argument("row")
@AS_JSON
def show(row: str, as_json: bool) -> None:
    """Say why ROW is set aside, and what it holds.

    This is the only command that prints the values of rows; they go nowhere else.
    """
    from weakfish.checks.quarantine import text
    from weakfish.checks.quarantine.aside import Aside
    from weakfish.checks.quarantine.repairs import staged_files

    project = Project.find()
    aside = Aside.read(project, TABLE)
    with staged_files(project, TABLE) as files:
        found = aside.rows_of(row, files)
    if as_json:
        click.echo(text.as_json({"row": row, "rows": found}))
        return
    text.print_rows(row, found)


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
    from weakfish.checks.quarantine.release import Decision
    from weakfish.checks.quarantine.release import release as work

    project = Project.find()
    file, follows = work(project, TABLE, Decision(rows, rule, who, why, values))
    click.echo(file.relative_to(project.root))
    click.echo(f"{follows} Commit the file: it is the record of who decided and why.")


@quarantine.command()
@AS_JSON
def patches(as_json: bool) -> None:
    """Say which patches there are, whose they are, and how many rows each touches."""
    from weakfish.checks.quarantine import text

    found = _patches(Project.find())
    if as_json:
        click.echo(text.as_json(found))
        return
    text.print_patches(found)


def _patches(project: Project) -> list[dict[str, Any]]:
    """The patches as they are now, with the rows that each touched in the last `validate`; None where it saw none."""
    from weakfish.checks.quarantine.patches import read_patches
    from weakfish.checks.rows import Mask

    applied = Mask.read(project, TABLE).notes.get("patches", []) if project.mask(TABLE).exists() else []
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
