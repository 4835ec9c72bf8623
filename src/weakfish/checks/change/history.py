"""What was accepted over time: the versions of ``validation/baseline.json`` in git, for trends over revisions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from weakfish.checks.change.baseline import Baseline, Entry
from weakfish.project import Project


@dataclass(frozen=True)
class AcceptedCheck:
    """How a check stood when its table was accepted."""

    status: str
    value: float | None


@dataclass(frozen=True)
class AcceptedTable:
    """What was accepted of a table."""

    data_version: str
    through: str | None
    rows: int
    verdict: str
    checks: Mapping[str, AcceptedCheck]


@dataclass(frozen=True)
class Accepted:
    """A commit that moved the baseline.

    Attributes
    ----------
    commit
        Its short name.
    date
        When it was committed, ISO 8601 with offset.
    """

    commit: str
    date: str
    tables: Mapping[str, AcceptedTable]


def revisions(project: Project, limit: int = 20) -> list[Accepted]:
    """The last commits that moved the baseline, newest last; none outside of git. What cannot be read is left out."""
    return list(_read(project, limit))[::-1]


def _read(project: Project, limit: int) -> Iterator[Accepted]:
    path = project.baseline.relative_to(project.root).as_posix()
    log = _git(project, "log", f"--max-count={limit}", "--format=%h %cI", "--", path) or ""
    for line in log.splitlines():
        commit, _, date = line.partition(" ")
        try:
            baseline = Baseline.parse(json.loads(_git(project, "show", f"{commit}:./{path}") or ""))
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
        yield Accepted(commit, date, {name: _table(entry) for name, entry in baseline.tables.items()})


def _table(entry: Entry) -> AcceptedTable:
    checks = {name: AcceptedCheck(check["status"], check["value"]) for name, check in entry.checks.items()}
    return AcceptedTable(entry.data_version, entry.through, sum(entry.rows.values()), entry.verdict, checks)


def _git(project: Project, *arguments: str) -> str | None:
    command = ["git", "-C", str(project.root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
