"""The verdict on a table: what each check found, in a canonical form without ids and without a clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from weakfish.checks.repairs import staged_files
from weakfish.checks.rows import together
from weakfish.contracts.verdicts import Check, Status
from weakfish.errors import CheckFailed, TableError, UnknownName
from weakfish.files import read_json, write_json
from weakfish.project.paths import Project

KEYS_SHOWN = 20
"""How many keys of bad rows a verdict names per check; the mask names all."""


@dataclass(frozen=True)
class Verdict:
    """The checks of one table and what follows from them."""

    table: str
    data_version: str
    rows: int
    quarantined: int
    max_quarantined_share: float | None
    checks: Sequence[Check]

    @classmethod
    def of(cls, table: str, data_version: str, rows: int, checks: Sequence[Check], max_share: float | None) -> Verdict:
        """Judge: critical row checks quarantine while the share of bad rows stays within ``max_share``, else they fail.

        ``max_share`` is None for a table whose rows cannot be set aside.
        """
        aside = [check for check in checks if check.status is Status.QUARANTINED]
        parts = {partition for check in aside for partition in check.rows}
        bad = sum(len(together(check.rows[part] for check in aside if part in check.rows)) for part in parts)
        if max_share is None or bad > max_share * rows:
            checks = [replace(c, status=Status.FAILED) if c.status is Status.QUARANTINED else c for c in checks]
        return cls(table, data_version, rows, bad, max_share, checks)

    @property
    def verdict(self) -> str:
        """``failed``, ``warned`` or ``passed``."""
        found = {check.status for check in self.checks}
        if Status.FAILED in found:
            return "failed"
        return "warned" if found & {Status.WARNED, Status.QUARANTINED} else "passed"

    @property
    def counts(self) -> dict[str, int]:
        """Checks by outcome; those that quarantined rows count as warned."""
        found = Counter(check.status for check in self.checks)
        found[Status.WARNED] += found.pop(Status.QUARANTINED, 0)
        return {str(status): found[status] for status in Status if status is not Status.QUARANTINED}

    def write(self, project: Project, names: Mapping[tuple[str, int], str]) -> None:
        """Write ``reports/validation/<table>.json``; ``names`` has the name of bad rows by partition and position."""
        content = {
            "table": self.table,
            "data_version": self.data_version,
            "verdict": self.verdict,
            "rows": self.rows,
            "quarantined": self.quarantined,
            "quarantined_share": self.quarantined / self.rows if self.rows else 0.0,
            "max_quarantined_share": self.max_quarantined_share,
            "counts": self.counts,
            "checks": [_as_json(check, names) for check in self.checks],
        }
        write_json(project.verdict(self.table), content)


def first_rows(check: Check) -> list[tuple[str, int]]:
    """The first bad rows of a check, by partition and position: those that a verdict names."""
    found = ((partition, row) for partition in sorted(check.rows) for row in check.rows[partition].tolist())
    return list(islice(found, KEYS_SHOWN))


def _as_json(check: Check, names: Mapping[tuple[str, int], str]) -> dict[str, Any]:
    content = {item.name: getattr(check, item.name) for item in fields(check) if item.name != "rows"}
    derived = {"status": str(check.status), "value": check.value, "by_partition": dict(check.by_partition)}
    return {**content, **derived, "keys": [names[place] for place in first_rows(check)]}


def require_open(project: Project, table: str, data_version: str) -> dict[str, Any]:
    """The verdict on ``table`` as written.

    Raises
    ------
    CheckFailed
        When the verdict is ``failed``; names the failed checks.
    TableError
        When there is no verdict.
    """
    content: dict[str, Any] = read_json(project.verdict(table))
    if content["data_version"] != data_version:
        raise CheckFailed(
            f"The verdict on {table} is about other data than what lies there now; run `weakfish validate {table}`."
        )
    failed = [_sentence(check) for check in content["checks"] if check["status"] == Status.FAILED]
    if failed:
        limit = content["max_quarantined_share"]
        share = (
            f" ({content['quarantined']} of {content['rows']} rows are bad, {limit:.1%} may be)"
            if limit is not None and content["quarantined"]
            else ""
        )
        raise CheckFailed(
            f"The gate of {table} is shut: {'; '.join(failed)}{share}; see reports/index.html for the rows."
        )
    return content


def _sentence(check: dict[str, Any]) -> str:
    if check["error"]:
        return f"{check['check']} could not be run: {check['error']}"
    if check["unexpected"] is not None:
        return f"{check['check']} failed on {check['unexpected']} rows"
    return f"{check['check']} failed, observed {check['observed']}"


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
