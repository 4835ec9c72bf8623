"""The verdict on a table: what each check found, in a canonical form without ids and without a clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any

from weakfish.checks.check import Check, Status
from weakfish.checks.rows import together
from weakfish.errors import CheckFailed
from weakfish.files import read_json, write_json
from weakfish.project import Project

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
