"""How `--help` lists commands: whole sentences, by who uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import cleandoc

import click


class WholeHelp(click.Group):
    """A group whose help shows the first paragraph of each command whole, under the titles of ``sections``."""

    sections: Mapping[str, Sequence[str]] = {}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in (self.sections or {"Commands": self.list_commands(ctx)}).items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            lines = [(name, _first_paragraph(command)) for name, command in commands if command]
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)


def _first_paragraph(command: click.Command) -> str:
    return " ".join(cleandoc(command.help or "").partition("\n\n")[0].split())
