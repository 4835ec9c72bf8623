"""The command of storage that machines share: delete what nothing names."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta

import click

from weakfish.contracts.figures import counted
from weakfish.project.paths import Project


@click.command()
@click.option("--rev", "revisions", metavar="REV", multiple=True, help="A git revision that counts; may be repeated.")
@click.option(
    "--older-than",
    metavar="HOURS",
    type=click.FloatRange(min=1),
    default=24,
    show_default=True,
    help="Spare what is younger: a machine at work may not have committed what names it.",
)
@click.option("--dry-run", is_flag=True, help="Delete nothing, say what would be deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def gc(revisions: tuple[str, ...], older_than: float, dry_run: bool, as_json: bool) -> None:
    """Delete from the storage the objects that no revision names and nobody exported.

    All commits of all branches and tags count, and the work tree; with --rev, only those revisions and the work tree.
    Projects that keep their tables in data/ use `dvc gc`.
    """
    from weakfish.project.garbage import collect

    found = collect(Project.find(), revisions, timedelta(hours=older_than), dry_run)
    if as_json:
        click.echo(json.dumps({**asdict(found), "dry_run": dry_run}, indent=2, sort_keys=True))
        return
    did = "Would delete" if dry_run else "Deleted"
    click.echo(
        f"{did} {counted(found.objects, 'object')} ({found.bytes / 1e6:,.1f} MB) from {found.uri}; {found.named:,} are "
        f"named by a revision, the work tree or an export, {found.young:,} are younger than {older_than:g} hours."
    )
