"""The folders are the architecture: packages import only from those above them, and the engine knows no domain."""

from __future__ import annotations

import ast
import re

import pytest
from projects import REPOSITORY

SOURCE = REPOSITORY / "src/weakfish"
ORDER = (
    "errors",
    "files",
    "params",
    "project",
    "revisions",
    "runs",
    "tables",
    "gold",
    "compute",
    "sources",
    "checks",
    "labeling",
    "features",
)
ORDER += ("store", "training", "evaluation", "report", "pipeline", "scaffold", "cli")
FILES = sorted(SOURCE.rglob("*.py"))


def imported(file: str) -> set[str]:
    """The parts of weakfish that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((SOURCE / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "weakfish":
            names = [node.module] if "." in node.module else [f"weakfish.{alias.name}" for alias in node.names]
            found |= {name.split(".")[1] for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("weakfish.")}
    return found & set(ORDER)


@pytest.mark.parametrize(
    "file", [str(file.relative_to(SOURCE)) for file in FILES if file.parent != SOURCE or file.stem in ORDER]
)
def test_a_part_imports_only_from_parts_above_it(file: str) -> None:
    own = file.split("/")[0].removesuffix(".py")
    below = {name for name in imported(file) if ORDER.index(name) > ORDER.index(own)}
    assert not below, f"{file} imports from below: {below}"


def test_every_part_has_its_place_in_the_order() -> None:
    parts = {file.relative_to(SOURCE).parts[0].removesuffix(".py") for file in FILES} - {"__init__"}
    assert parts <= set(ORDER)


@pytest.mark.parametrize(
    "file",
    [str(file.relative_to(SOURCE)) for file in sorted(SOURCE.rglob("*.*")) if file.suffix in {".py", ".j2", ".css"}],
)
def test_the_engine_knows_no_domain(file: str) -> None:
    text = (SOURCE / file).read_text(encoding="utf-8").lower()
    assert not re.search(r"\b(e?mails?|spam|ham|message_id|received_at|senders?|inbox)\b", text)


@pytest.mark.parametrize("file", [str(file.relative_to(SOURCE)) for file in FILES])
def test_every_module_says_what_it_is_for(file: str) -> None:
    docstring = ast.get_docstring(ast.parse((SOURCE / file).read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ";", ",", ":"))
