"""All that is checked of labels beside their suite: the label stage's reports and the accepted ones in, checks out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weakfish.checks.check import Check, judged
from weakfish.checks.labels.functions import of_functions
from weakfish.checks.labels.rules import Rules, rules_of
from weakfish.checks.labels.whole import of_classes, of_model
from weakfish.checks.labels.windows import Comparison
from weakfish.project import Project


def label_checks(project: Project, task: str, accepted: Mapping[str, Any] | None) -> list[Check]:
    """The checks of a task's labels.

    ``accepted`` is what `rules.through` gave when the labels were last accepted; without it only the label model is
    checked, by fixed limits.

    Raises
    ------
    TableError
        When the reports of the label stage are missing.
    """
    now, limits = Rules(rules_of(project, task)), project.params.validation.labels
    if not accepted or not now.over().rows:
        return of_model(now, None, limits)
    if accepted["classes"] != now.content["classes"]:
        return [*of_model(now, None, limits), _other_classes(now.content["classes"], accepted["classes"])]
    compared = Comparison(now, accepted)
    found = of_model(now, compared, limits) + of_classes(compared, limits) + of_functions(compared, limits)
    return sorted(found, key=lambda check: check.check)


def _other_classes(now: list[str], accepted: list[str]) -> Check:
    return Check(
        check="classes",
        expectation="classes",
        severity="warning",
        why="Labels of other classes cannot be compared with the accepted ones; look at them, and accept them.",
        status=judged("warning", False),
        kind="labels",
        against_baseline=True,
        arguments={"classes": now, "accepted": accepted},
        found=f"The classes are {', '.join(now)}; accepted are {', '.join(accepted)}.",
    )
