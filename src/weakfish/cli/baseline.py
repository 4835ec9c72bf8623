"""The command `weakfish accept-baseline`: says what moved, as sentences or as JSON."""

from __future__ import annotations

import json

import click

from weakfish.project.paths import Project


@click.command("accept-baseline")
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--through", metavar="PARTITION", help="Accept up to this partition (2002-08); later ones stay new.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def accept_baseline(tables: tuple[str, ...], through: str | None, as_json: bool) -> None:
    """Accept what lies there, and was checked, as what later data are compared with.

    Writes validation/baseline.json for all tables, or for TABLEs; commit it. Refuses after a run that failed, unless
    all that failed are differences from the baseline.
    """
    from weakfish.checks.accept import accept_baseline as work
    from weakfish.checks.accept import sentences

    project = Project.find()
    moves = work(project, tables, through)
    if as_json:
        click.echo(json.dumps({"tables": [move.as_json() for move in moves]}, indent=2))
        return
    for line in sentences(moves):
        click.echo(line)
    changed = any(move.state in ("new", "moved") for move in moves)
    where = project.baseline.relative_to(project.root)
    click.echo(f"Commit {where} and run `weakfish run`." if changed else f"{where} is as it was.")
