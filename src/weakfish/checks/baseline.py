"""What was accepted as good: ``validation/baseline.json``, in git, moved only by `weakfish accept-baseline`.

Of each table it holds the columns in numbers over all accepted partitions, the rows of each partition, what labels and
metrics were, and how the checks stood. It holds no clock and no text of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from weakfish.contracts.tables import UNDATED
from weakfish.engine.profile import Column, Profile
from weakfish.errors import TableError, UserError
from weakfish.files import read_json, write_json
from weakfish.project.git import git_output
from weakfish.project.params import ChangeParams
from weakfish.project.paths import Project


@dataclass(frozen=True)
class Entry:
    """What was accepted of one table.

    Attributes
    ----------
    through
        The last accepted partition; None when all that there were are accepted.
    rows
        Rows by accepted partition.
    columns
        The columns over these partitions.
    rules, metrics
        What labeling functions did, and what evaluation measured, where the table has such.
    checks
        ``{"status", "value"}`` by check.
    """

    data_version: str
    verdict: str
    through: str | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, Column] = field(default_factory=dict)
    rules: Any = None
    metrics: Any = None
    checks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, profile: Profile, through: str | None, **more: Any) -> Entry:
        """The entry of a table's profile, restricted to the partitions up to ``through``."""
        part = profile.through(through)
        columns = {name: column.naming(column.frequent) for name, column in part.columns.items()}
        return cls(through=through, rows=part.rows, columns=columns, **more)

    def as_json(self) -> dict[str, Any]:
        """The entry as JSON; tables without rows have no profile."""
        columns = {name: column.as_json() for name, column in self.columns.items()}
        content = {
            "data_version": self.data_version,
            "through": self.through,
            "verdict": self.verdict,
            "profile": {"rows": dict(self.rows), "columns": columns} if self.columns else None,
            "rules": self.rules,
            "metrics": self.metrics,
            "checks": {name: dict(check) for name, check in self.checks.items()},
        }
        return {name: value for name, value in content.items() if value is not None or name == "through"}

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Entry:
        """The entry that `as_json` gave."""
        profile = content.get("profile") or {"rows": {}, "columns": {}}
        return cls(
            data_version=content["data_version"],
            verdict=content["verdict"],
            through=content["through"],
            rows=dict(sorted(profile["rows"].items())),
            columns={name: Column.parse(column) for name, column in profile["columns"].items()},
            rules=content.get("rules"),
            metrics=content.get("metrics"),
            checks=content["checks"],
        )


@dataclass(frozen=True)
class Baseline:
    """What was accepted, by table."""

    tables: Mapping[str, Entry] = field(default_factory=dict)

    @classmethod
    def read(cls, project: Project) -> Baseline:
        """What ``validation/baseline.json`` holds; nothing when there is no such file.

        Raises
        ------
        UserError
            When the file is not what `weakfish accept-baseline` writes.
        """
        if not project.baseline.exists():
            return cls()
        try:
            return cls.parse(read_json(project.baseline))
        except (AttributeError, KeyError, TypeError, ValueError, TableError) as error:
            raise UserError(
                f"{project.baseline} is not a baseline ({type(error).__name__}: {error}); "
                "`git checkout validation/baseline.json` brings back the last one."
            ) from error

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Baseline:
        """The baseline that `write` wrote."""
        return cls({name: Entry.parse(entry) for name, entry in sorted(content["tables"].items())})

    def table(self, name: str) -> Entry | None:
        """What was accepted of a table; None when nothing was."""
        return self.tables.get(name)

    def write(self, project: Project) -> None:
        """Write ``validation/baseline.json``: the same tables, the same bytes."""
        write_json(project.baseline, {"tables": {name: entry.as_json() for name, entry in self.tables.items()}})


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
    log = git_output(project.root, "log", f"--max-count={limit}", "--format=%h %cI", "--", path) or ""
    for line in log.splitlines():
        commit, _, date = line.partition(" ")
        try:
            baseline = Baseline.parse(json.loads(git_output(project.root, "show", f"{commit}:./{path}") or ""))
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
        yield Accepted(commit, date, {name: _table(entry) for name, entry in baseline.tables.items()})


def _table(entry: Entry) -> AcceptedTable:
    checks = {name: AcceptedCheck(check["status"], check["value"]) for name, check in entry.checks.items()}
    return AcceptedTable(entry.data_version, entry.through, sum(entry.rows.values()), entry.verdict, checks)


@dataclass(frozen=True)
class Window:
    """Some partitions of a table as they are now."""

    name: str
    """``new partitions`` or ``accepted partitions as they are now``."""

    columns: Mapping[str, Column]
    partitions: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """A table's profile and what was accepted."""

    accepted: Entry
    profile: Profile
    limits: ChangeParams

    @cached_property
    def new(self) -> Window:
        """The partitions that the baseline does not have. Rows without a time belong to none."""
        names = [name for name in self.profile.partitions if name not in self.accepted.rows and name != UNDATED]
        return Window("new partitions", self.profile.of(names), tuple(names))

    @cached_property
    def kept(self) -> Window:
        """The accepted partitions that are still there."""
        names = [name for name in self.profile.partitions if name in self.accepted.rows]
        return Window("accepted partitions as they are now", self.profile.of(names), tuple(names))

    def sides(self, column: str) -> list[tuple[Window, Column, Column]]:
        """A column as it is in each window, beside the accepted one; where it has rows and the accepted type."""
        before = self.accepted.columns.get(column)
        if before is None or not before.rows:
            return []
        found = [(window, window.columns.get(column)) for window in (self.new, self.kept)]
        return [
            (window, now, before) for window, now in found if now is not None and now.rows and now.type == before.type
        ]

    def by_partition(self, column: str) -> dict[str, Column]:
        """A column in every partition that has rows of it, of the accepted type."""
        before = self.accepted.columns[column]
        found = {name: partition.columns.get(column) for name, partition in self.profile.partitions.items()}
        return {name: now for name, now in found.items() if now is not None and now.rows and now.type == before.type}


def rounded(value: float) -> float:
    """Six significant digits: what differs beyond them is how sums were formed."""
    return float(f"{value:.6g}")


def percent(share: float) -> str:
    """A share for people: ``4.2 %``."""
    digits = 3 if 0 < share < 0.001 else 1
    return f"{100 * share:.{digits}f}".removesuffix(".0") + " %"
