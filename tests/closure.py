"""Which parts of the engine a stage runs: the modules that its verb's function imports, and all that these import."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from projects import REPOSITORY

SOURCES = REPOSITORY / "src"
MAIN = SOURCES / "weakfish/cli/main.py"


def parts_of(verb: str) -> list[str]:
    """The packages (and modules outside of any) that a verb's function imports, as paths in the repository."""
    functions = [node for node in ast.parse(MAIN.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    function = next(node for node in functions if node.name == verb.replace("-", "_"))
    found, waiting = set[str](), set(_imported(ast.walk(function)))
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting |= _imports_of(module)
    return sorted({_part(module) for module in found} - {"src/weakfish/cli", "src/weakfish/__init__.py"})


@cache
def _imports_of(module: str) -> frozenset[str]:
    """What a module imports, in functions too; what stands below ``if TYPE_CHECKING`` is never run."""
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    branches = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    checked = [node for node in branches if "TYPE_CHECKING" in ast.unparse(node.test)]
    typing = {id(inner) for node in checked for statement in node.body for inner in ast.walk(statement)}
    return frozenset(_imported(node for node in ast.walk(tree) if id(node) not in typing))


def _imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith("weakfish.") and _file(name).is_file():
                yield name
                above = name.rpartition(".")[0]
                while above != "weakfish":  # a package is imported with its modules
                    yield above
                    above = above.rpartition(".")[0]


def _file(module: str) -> Path:
    path = SOURCES / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _part(module: str) -> str:
    part = "src/" + "/".join(module.split(".")[:2])
    return part if (REPOSITORY / part).is_dir() else f"{part}.py"
