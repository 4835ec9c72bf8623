"""What was accepted as good: ``validation/baseline.json``, in git, moved only by `weakfish accept-baseline`.

Of each table it holds the columns in numbers over all accepted partitions, the rows of each partition, what labels and
metrics were, and how the checks stood. It holds no clock and no text of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from weakfish.engine.profile import ColumnProfile, Profile
from weakfish.errors import TableError, UserError, reason
from weakfish.files import read_json, write_json
from weakfish.project.git import git_output
from weakfish.project.paths import Project


class AcceptedCheck(NamedTuple):
    """How a check stood when its table was accepted."""

    status: str
    value: float | None


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
        The columns over these partitions; none of tables without rows.
    rules, metrics
        What labeling functions did, and what evaluation measured, where the table has such.
    code
        Hashes of the team's code that makes the table's columns, by name; None where it was not known.
    """

    data_version: str
    verdict: str
    through: str | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, ColumnProfile] = field(default_factory=dict)
    rules: Any = None
    metrics: Any = None
    code: Mapping[str, str] | None = None
    checks: Mapping[str, AcceptedCheck] = field(default_factory=dict)

    @classmethod
    def of(cls, profile: Profile, through: str | None, **more: Any) -> Entry:
        """The entry of a table's profile, restricted to the partitions up to ``through``."""
        part = profile.through(through)
        columns = {name: column.naming(column.frequent) for name, column in part.columns.items()}
        return cls(through=through, rows=part.rows, columns=columns, **more)

    def as_json(self) -> dict[str, Any]:
        """The entry as JSON."""
        columns = {name: column.as_json() for name, column in self.columns.items()}
        content = {
            **{
                name: getattr(self, name) for name in ("data_version", "through", "verdict", "rules", "metrics", "code")
            },
            "profile": {"rows": dict(self.rows), "columns": columns} if columns else None,
            "checks": {name: check._asdict() for name, check in self.checks.items()},
        }
        return {name: value for name, value in content.items() if value is not None or name == "through"}

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Entry:
        """The entry that `as_json` gave."""
        profile = content.get("profile") or {"rows": {}, "columns": {}}
        return cls(
            **{name: content[name] for name in ("data_version", "verdict", "through")},
            rows=dict(sorted(profile["rows"].items())),
            columns={name: ColumnProfile.parse(column) for name, column in profile["columns"].items()},
            rules=content.get("rules"),
            metrics=content.get("metrics"),
            code=content.get("code"),
            checks={name: AcceptedCheck(of["status"], of["value"]) for name, of in content["checks"].items()},
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
                f"{project.baseline} is not a baseline ({reason(error)}); "
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


class AcceptedRevision(NamedTuple):
    """A commit that moved the baseline: its short name, its time (ISO 8601 with offset), and what it accepted."""

    commit: str
    date: str
    tables: Mapping[str, Entry]


def revisions(project: Project, limit: int = 20) -> list[AcceptedRevision]:
    """The last commits that moved the baseline, newest last; none outside of git. What cannot be read is left out."""
    path = project.baseline.relative_to(project.root).as_posix()

    def found() -> Iterator[AcceptedRevision]:
        log = git_output(project.root, "log", f"--max-count={limit}", "--format=%h %cI", "--", path) or ""
        for line in log.splitlines():
            commit, _, date = line.partition(" ")
            text = git_output(project.root, "show", f"{commit}:./{path}") or ""
            try:
                yield AcceptedRevision(commit, date, Baseline.parse(json.loads(text)).tables)
            except (AttributeError, KeyError, TypeError, ValueError):
                continue

    return list(found())[::-1]
