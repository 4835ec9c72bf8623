"""Judging a table by what its checks found, and what a gate sees of verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, Literal

from weakfish.checks.bad_rows import together
from weakfish.checks.repairs import staged_files
from weakfish.contracts.verdicts import Check, Outcome, Status, Verdict, read_verdict, verdict_files
from weakfish.errors import CheckFailed, TableError, UnknownName
from weakfish.project.paths import Project

KEYS_SHOWN = 20
"""How many keys of bad rows a verdict names per check; the mask names all."""


def verdict_of(table: str, data_version: str, rows: int, checks: Sequence[Check], max_share: float | None) -> Verdict:
    """The verdict on a table: critical row checks quarantine while at most ``max_share`` of rows are bad, else fail.

    ``max_share`` is None for a table whose rows cannot be set aside.
    """
    aside = [check for check in checks if check.status is Status.QUARANTINED]
    parts = {partition for check in aside for partition in check.rows}
    bad = sum(len(together(check.rows[part] for check in aside if part in check.rows)) for part in parts)
    if max_share is None or bad > max_share * rows:
        checks = [replace(c, status=Status.FAILED) if c.status is Status.QUARANTINED else c for c in checks]
    found = {check.status for check in checks}
    warned = found & {Status.WARNED, Status.QUARANTINED}
    outcome: Outcome = "failed" if Status.FAILED in found else "warned" if warned else "passed"
    return Verdict(table, outcome, data_version, rows, bad, max_share, checks)


def named(verdict: Verdict, names: Mapping[tuple[str, int], str]) -> Verdict:
    """The verdict with the first bad rows of each check by name; ``names`` has them by partition and position."""
    checks = [replace(check, keys=[names[place] for place in first_rows(check)]) for check in verdict.checks]
    return replace(verdict, checks=checks)


def first_rows(check: Check) -> list[tuple[str, int]]:
    """The first bad rows of a check, by partition and position: those that a verdict names."""
    found = ((partition, row) for partition in sorted(check.rows) for row in check.rows[partition].tolist())
    return list(islice(found, KEYS_SHOWN))


FailOn = Literal["critical", "warning", "info"]

STATUSES: Mapping[FailOn, frozenset[Status]] = {
    "critical": frozenset({Status.FAILED}),
    "warning": frozenset({Status.FAILED, Status.WARNED, Status.QUARANTINED}),
    "info": frozenset({Status.FAILED, Status.WARNED, Status.QUARANTINED, Status.NOTED}),
}
"""The statuses that make a gate fail; rows that were set aside count as a warning, as in the verdict."""


@dataclass(frozen=True)
class Finding:
    """A check that did not hold, in numbers: all that leaves the machine of it."""

    table: str
    check: str
    severity: str
    status: str
    unexpected: int | None
    value: float | None
    threshold: float | None

    @property
    def line(self) -> str:
        """The finding in a line."""
        rows = "" if self.unexpected is None else f"{self.unexpected:,} row{'' if self.unexpected == 1 else 's'}"
        value = "" if self.value is None else f"value {self.value:.4g}"
        threshold = "" if self.threshold is None else f"threshold {self.threshold:.4g}"
        numbers = ", ".join(filter(None, (rows, value, threshold)))
        return f"{self.status:<11} {self.severity:<8} {self.table}: {self.check}{': ' if numbers else ''}{numbers}"


@dataclass(frozen=True)
class Look:
    """What a gate saw: the verdicts by table, tables that have other data than their verdict, what did not hold."""

    fail_on: FailOn
    verdicts: Mapping[str, str]
    outdated: Sequence[str]
    findings: Sequence[Finding]

    @property
    def verdict(self) -> str:
        """The worst of the verdicts."""
        found = {*self.verdicts.values(), *(["failed"] if self.outdated else [])}
        return next(verdict for verdict in ("failed", "warned", "passed") if verdict in found)

    @property
    def lines(self) -> str:
        """A line per finding, for people."""
        if not self.findings:
            return f"{', '.join(self.verdicts)}: nothing fails the gate (--fail-on {self.fail_on})."
        return "\n".join(finding.line for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        content = {"fail_on": self.fail_on, "verdict": self.verdict, "tables": dict(self.verdicts)}
        return {**content, "outdated": list(self.outdated), "checks": [asdict(finding) for finding in self.findings]}

    def require(self) -> None:
        """Raise `CheckFailed` if anything makes the gate fail."""
        if self.outdated:
            raise CheckFailed(
                f"The verdict on {', '.join(self.outdated)} is about other data than what lies there now; "
                f"run `weakfish run`."
            )
        require_none(self.findings, self.fail_on)


def require_none(found: Sequence[Finding], fail_on: FailOn) -> None:
    """Raise `CheckFailed` if there is a finding."""
    if found:
        tables = ", ".join(dict.fromkeys(finding.table for finding in found))
        checks = f"{len(found)} check{'s' if len(found) > 1 else ''}"
        raise CheckFailed(f"{checks} of {tables} did not hold (--fail-on {fail_on}); see reports/index.html.")


def look(project: Project, table: str | None, fail_on: FailOn, compare: bool = True) -> Look:
    """What a gate sees of a table, or of all that have a verdict; it changes nothing.

    Parameters
    ----------
    compare
        Whether to see if the data are still those that the verdicts are about.

    Raises
    ------
    UnknownName
        When the table has no verdict.
    TableError
        When nothing has a verdict yet, or one is cut off.
    """
    there = verdict_files(project)
    if not there:
        raise TableError(
            f"There is no verdict in {project.reports / 'validation'}; run `weakfish run`, which makes them."
        )
    if table is not None and table not in there:
        raise UnknownName("verdict", table, there, "reports/validation/")
    verdicts = {name: read_verdict(project, name) for name in ([table] if table else there)}
    return Look(
        fail_on,
        {name: verdict.verdict for name, verdict in verdicts.items()},
        [name for name, verdict in verdicts.items() if compare and not _lies_there(project, name, verdict)],
        [found for name, verdict in verdicts.items() for found in findings(name, verdict, fail_on)],
    )


def findings(table: str, verdict: Verdict, fail_on: FailOn) -> list[Finding]:
    """The checks of a verdict that make a gate fail, in the verdict's order."""
    return [
        Finding(table, check.check, check.severity, check.status, check.unexpected, check.value, check.threshold)
        for check in verdict.checks
        if check.status in STATUSES[fail_on]
    ]


def _lies_there(project: Project, table: str, verdict: Verdict) -> bool:
    """Whether a verdict's data lie there; where none do, as of metrics or where nothing was pulled, it stands."""
    if not project.staged(table).is_dir():
        return True
    with staged_files(project, table) as files:
        return files.version == verdict.data_version
