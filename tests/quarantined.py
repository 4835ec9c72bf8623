"""A tiny project with bad rows, for the tests of quarantine: three orders that fail checks, one of them two checks."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml
from projects import replace

from weakfish.checks.gates import accept
from weakfish.checks.validate import validate
from weakfish.contracts.tables import partitions, read_partition, read_table
from weakfish.project.paths import Project
from weakfish.sources.ingest import ingest

NO_TIME = "column_values_to_not_be_null(placed_at)"
DEBT = "column_values_to_be_between(amount)"
AMOUNTS = "{0: -1, 5: None, 7: -7, 20: -20}.get(number, number * 10)"
"""The order without a time is a debt as well; o07 of January and o20 of February are debts."""


def spoil(root: Path) -> None:
    """Make orders bad at their source."""
    replace(root / "sources/orders.py", "None if number == 5 else number * 10", AMOUNTS)
    for folder in ("sources", "validation", "labeling_functions"):
        (root / folder / "__init__.py").touch()  # or this repository's packages of these names would come first


def forget(root: Path) -> None:
    """Forget the modules of projects, which have the same names in each, and import those of this one."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("sources", "validation", "labeling_functions")]:
        del sys.modules[name]
    for cache in root.rglob("__pycache__"):
        shutil.rmtree(cache)
    sys.path[:] = [folder for folder in sys.path if Path(folder).name != "orders"]
    importlib.invalidate_caches()


def read_again(root: Path) -> None:
    """Read the source anew, as after a fix of it."""
    forget(root)
    ingest(Project(root))


def check_again(root: Path) -> Project:
    """Validate and accept, as the next run would."""
    forget(root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third parties' own deprecations
        import great_expectations.expectations  # noqa: F401
    project = Project(root)
    validate(project, "events")
    accept(project)
    return project


def patch(root: Path, name: str, **content: Any) -> Path:
    """Write a patch; who and why are said unless given."""
    file = root / f"validation/patches/{name}.yaml"
    said = {"table": "events", "who": "Ann <ann@example.org>", "why": "The paper copy says so."}
    file.write_text(yaml.safe_dump({**said, **content}, sort_keys=False), encoding="utf-8")
    return file


def keys(root: Path, table: str) -> list[str]:
    """The keys of a table, in its order; none where it is empty."""
    folder = root / "data" / table
    return read_table(folder)["order_id"].to_pylist() if any(folder.glob("*.parquet")) else []


def rows(root: Path, table: str) -> dict[str, list[dict[str, Any]]]:
    """A table's rows by partition."""
    files = partitions(root / "data" / table)
    return {name: read_partition(file).to_pylist() for name, file in files.items()}


def ledger(root: Path) -> dict[str, Any]:
    """What `accept` counted."""
    found: dict[str, Any] = json.loads((root / "reports/ledger/accept.json").read_text())
    return found


def checks(root: Path) -> dict[str, dict[str, Any]]:
    """The checks of the events, by name."""
    verdict = json.loads((root / "reports/validation/events.json").read_text())
    return {check["check"]: check for check in verdict["checks"]}
