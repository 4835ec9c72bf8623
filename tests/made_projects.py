"""Projects that `weakfish init` makes in tests, in this process, of 200 orders of 20 customers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from projects import write

from weakfish.cli.main import cli
from weakfish.errors import UserError

HEADER = "id,at,customer,amount,label\n"


def orders(folder: Path) -> Path:
    """Write orders.csv into a folder and return it; every other order has a label."""
    write(folder / "orders.csv", HEADER + "".join(line(number) for number in range(200)))
    return folder


def line(number: int, label: str | None = None) -> str:
    """An order; the eight months of 28 days have one a day."""
    label = ("fraud" if number % 10 == 0 else "fine" if number % 2 == 0 else "") if label is None else label
    return f"o{number},2024-{number // 28 + 1:02}-{number % 28 + 1:02}T10:00:00Z,c{number % 20},{number}.5,{label}\n"


def init(*arguments: str) -> str:
    """What `weakfish init` prints; its error is raised."""
    return run("init", *arguments)


def run(*arguments: str) -> str:
    """What a command prints; its error is raised."""
    result = CliRunner().invoke(cli, list(arguments))
    if result.exception:
        raise result.exception
    return str(result.output)


def refused(*arguments: str) -> str:
    """The sentence with which `weakfish init` refuses."""
    with pytest.raises(UserError) as error:
        init(*arguments)
    return str(error.value)


def settings(root: Path) -> dict[str, Any]:
    """What stands in params.yaml."""
    found: dict[str, Any] = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    return found
