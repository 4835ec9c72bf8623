"""`--help` of every command: whole lines, none wider than 80 columns, commands grouped by who uses them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import click
import pytest
from click.testing import CliRunner

from weakfish.cli.main import SECTIONS, cli


def groups_and_commands(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    """The path of a command and of all below it."""
    yield path
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            yield from groups_and_commands(cast(click.Command, below), *path, name)


@pytest.mark.parametrize("path", list(groups_and_commands(cli)), ids=lambda path: " ".join(path) or "weakfish")
def test_no_line_is_cut_or_wider_than_a_terminal(path: tuple[str, ...]) -> None:
    said = CliRunner().invoke(cli, [*path, "--help"], terminal_width=80).output
    assert said.startswith("Usage: ")
    lines = said.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line.endswith("...") and not line.startswith("Usage: ")]


def test_every_command_stands_in_one_section() -> None:
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(cli.list_commands(click.Context(cli)))
    said = CliRunner().invoke(cli, ["--help"], terminal_width=80).output
    assert [line.rstrip(":") for line in said.splitlines() if line.rstrip(":") in SECTIONS] == list(SECTIONS)


def test_quiet_and_verbose_exclude_each_other() -> None:
    result = CliRunner().invoke(cli, ["-q", "-v", "status"])
    assert result.exit_code == 2
    assert "--quiet and --verbose exclude each other" in result.output
