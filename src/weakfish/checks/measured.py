"""What is checked of some tables alone: labels, features, training sets. A table's name in, checks out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weakfish.checks.change.baseline import Entry
from weakfish.checks.check import Check
from weakfish.checks.features import feature_checks
from weakfish.checks.labels.checks import label_checks
from weakfish.checks.labels.rules import rules_of
from weakfish.checks.serving import serving_checks
from weakfish.project import Project


def measured_checks(project: Project, table: str, files: Mapping[str, Path], accepted: Entry | None) -> list[Check]:
    """The checks of labels, features or a training set; of other tables none.

    Raises
    ------
    TableError
        When a report or a manifest that belongs to the table is missing.
    """
    kind, _, name = table.partition("/")
    if kind == "labels":
        return label_checks(project, name, accepted.rules if accepted else None)
    if kind == "features":
        return feature_checks(project, name, files)
    if kind == "training":
        return serving_checks(project, name)
    return []


def remembered(project: Project, table: str) -> dict[str, Any]:
    """What goes beside the columns into a table's profile, for `weakfish accept-baseline`: of labels, the ``rules``."""
    kind, _, name = table.partition("/")
    return {"rules": rules_of(project, name)} if kind == "labels" else {}
