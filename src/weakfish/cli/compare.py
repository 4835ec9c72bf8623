"""`weakfish diff`: what changed between two versions of the project, and what did it."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.text import Text

from weakfish.cli.labels import console, grid
from weakfish.project.paths import Project


@click.command()
@click.argument("revision", metavar="[REV]", required=False)
@click.option("--to", metavar="REV", help="The later version; by default the work tree.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["text", "markdown", "html", "json"]),
    default="text",
    show_default=True,
    help="For a terminal, a comment on a pull request, a browser, or a program.",
)
def diff(revision: str | None, to: str | None, kind: str) -> None:
    """Show what changed since REV, and which edit did it: data, functions, labels, features, training sets, metrics.

    REV is any git revision that has run; by default the last one that accepted a baseline. What is compared comes from
    DVC's cache, or its remote. Nothing is changed.
    """
    from weakfish.diffing.comparison import diff as work

    found = work(Project.find(), revision, to)
    if kind == "json":
        click.echo(json.dumps(found, indent=2, default=str))
    elif kind == "markdown":
        from weakfish.diffing.markdown import markdown

        click.echo(markdown(found), nl=False)
    elif kind == "html":
        from weakfish.diffing.html import html

        click.echo(html(found), nl=False)
    else:
        print_text(found)


def print_text(found: dict[str, Any]) -> None:
    """Print a comparison for a terminal: the sentence, then each part that differs."""
    from weakfish.diffing.sections import sections

    out = console(sys.stdout)
    out.print(Text(found["sentence"].replace("`", ""), "bold"))
    for section in sections(found):
        out.print(Text(f"\n{section.title}", "bold"))
        for line in section.lines:
            out.print(Text(line.replace("`", "")))
        for table in section.tables:
            shown = grid(table.columns, right=[of for of in table.columns if of in table.right], fold=table.columns[:1])
            for row in table.rows:
                shown.add_row(*(Text(cell.replace("`", "")) for cell in row))
            out.print(shown)
