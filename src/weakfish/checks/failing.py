"""What in the verdicts makes a gate fail, from which severity on: verdict files in, names and numbers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from weakfish.checks.check import Status
from weakfish.checks.quarantine.repairs import staged_files
from weakfish.errors import CheckFailed, TableError, UnknownName
from weakfish.files import read_json
from weakfish.project import Project

FailOn = Literal["critical", "warning", "info"]

STATUSES: Mapping[FailOn, frozenset[str]] = {
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
    there = verdict_files(project.root)
    if not there:
        raise TableError(
            f"There is no verdict in {project.reports / 'validation'}; run `weakfish run`, which makes them."
        )
    if table is not None and table not in there:
        raise UnknownName("verdict", table, there, "reports/validation/")
    contents = {name: read_json(there[name]) for name in ([table] if table else there)}
    return Look(
        fail_on,
        {name: content["verdict"] for name, content in contents.items()},
        [name for name, content in contents.items() if compare and not _lies_there(project, name, content)],
        [found for name, content in contents.items() for found in findings(name, content, fail_on)],
    )


def findings(table: str, content: Mapping[str, Any], fail_on: FailOn) -> list[Finding]:
    """The checks of a verdict that make a gate fail, in the verdict's order."""
    return [
        Finding(
            table,
            check["check"],
            check["severity"],
            check["status"],
            check.get("unexpected"),
            check.get("value"),
            check.get("threshold"),
        )
        for check in content["checks"]
        if check["status"] in STATUSES[fail_on]
    ]


def verdict_files(root: Path) -> dict[str, Path]:
    """The files of all verdicts, by table."""
    folder = root / "reports" / "validation"
    files = sorted(file for file in folder.rglob("*.json") if not file.name.startswith("."))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def _lies_there(project: Project, table: str, content: Mapping[str, Any]) -> bool:
    """Whether a verdict's data lie there; where none do, as of metrics or where nothing was pulled, it stands."""
    if not project.staged(table).is_dir():
        return True
    with staged_files(project, table) as files:
        return bool(files.version == content["data_version"])
