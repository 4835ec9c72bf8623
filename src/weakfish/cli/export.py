"""`weakfish export`, which brings labels, features and training sets into tables that others keep."""

from __future__ import annotations

import json

import click

from weakfish.project.paths import Project


@click.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...")
@click.option(
    "--to",
    "target",
    nargs=2,
    required=True,
    type=(click.Choice(["delta", "iceberg"]), str),
    metavar="delta|iceberg URI",
    help="The kind of table, and a folder, an object store's URI, or catalog.namespace of a catalog of pyiceberg.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def export(tables: tuple[str, ...], target: tuple[str, str], as_json: bool) -> None:
    """Bring TABLEs into Delta or Iceberg tables, which then hold the same rows, in one commit each.

    TABLE is labels, features or training, which stand for all of their kind, or labels/<task>, features/<view> or
    training/<task>. Files are registered there as they are. When nothing changed, nothing is done. A shut gate is exit
    code 1.
    """
    from weakfish.exports.exporting import export as work
    from weakfish.project import runs

    project = Project.find()
    runs.require_no_run(project)
    to, address = target
    done = work(project, tables, to, address)  # type: ignore[arg-type]
    if as_json:
        click.echo(json.dumps({"tables": [each.as_json() for each in done]}, indent=2))
        return
    for each in done:
        click.echo(each.sentence())
