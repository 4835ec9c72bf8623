"""Rows that are set aside now, from the mask of the last `validate`: per check, the newest, or one with its values.

The mask tells them whether `accept` wrote them to ``data/quarantine`` or the gate stayed shut, so both are shown alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.check import Rows
from weakfish.checks.quarantine.find import no_such
from weakfish.checks.quarantine.patches import digest, patch_files
from weakfish.checks.rows import NAMELESS, Mask, hashes_of, names_of
from weakfish.errors import TableError
from weakfish.files import read_json
from weakfish.project import Project
from weakfish.tables import UNDATED, open_partition, read_partition


@dataclass(frozen=True)
class Aside:
    """The rows of a table that are set aside, and the verdict that they come with."""

    project: Project
    table: str
    mask: Mask
    verdict: Mapping[str, Any]

    @classmethod
    def read(cls, project: Project, table: str) -> Aside:
        """As the last `validate` left it; raises `TableError` where there was none."""
        return cls(project, table, Mask.read(project, table), read_json(project.verdict(table)))

    @property
    def patched_since(self) -> bool:
        """Whether patches came, changed or went since."""
        then = self.mask.notes.get("digest", "")
        now = digest(self.project) if patch_files(self.project) else ""
        return bool(then != now)

    def summary(self, rule: str | None, partition: str | None, limit: int) -> dict[str, Any]:
        """Counts, rows per check, and the newest ``limit`` rows; raises `UserError` on a name that does not occur."""
        lines = self._of(rule, partition)
        notes, rows = self.mask.notes, self.verdict["rows"]
        return {
            "table": self.table,
            "rows": rows,
            "quarantined": self.verdict["quarantined"],
            "max_quarantined_share": self.verdict["max_quarantined_share"],
            "gate": "shut" if self.verdict["verdict"] == "failed" else "open",
            "released": notes.get("released", 0),
            "repaired": notes.get("repaired", 0),
            "patched_since": self.patched_since,
            "rules": _by_rule(lines, rows),
            "newest": _newest(lines, limit),
        }

    def lines_of(self, name: str, files: Mapping[str, Path]) -> pa.Table:
        """The mask's lines of the rows that bear a name; raises `UserError` where none that is set aside does."""
        lines = self.mask.lines
        found = lines.filter(pc.equal(lines["key"], name))
        if not found.num_rows and name.startswith(NAMELESS):
            found = self._by_hash(name, files)
        if not found.num_rows:
            raise no_such("row", name, lines["key"].unique().to_pylist(), f"the quarantine of {self.table}")
        return found

    def rows_of(self, name: str, files: Mapping[str, Path]) -> list[dict[str, Any]]:
        """The rows that bear a name: where they are, why they are set aside, and their columns."""
        lines = self.lines_of(name, files)
        found = []
        for partition in lines["partition"].unique().to_pylist():
            here = lines.filter(pc.equal(lines["partition"], partition))
            rows = np.unique(here["row"].to_numpy())
            self._require_same(files, partition, here)
            columns = read_partition(files[partition]).take(pa.array(rows)).to_pylist()
            hashes = hashes_of(files[partition], rows)
            for row, hash_name, values in zip(rows.tolist(), hashes, columns, strict=True):
                why = here.filter(pc.equal(here["row"], row)).select(["check", "why"]).to_pylist()
                reasons = [{"rule": line["check"], "why": line["why"]} for line in why]
                found.append({"partition": partition, "hash": hash_name, "reasons": reasons, "columns": values})
        return found

    def require_rule(self, rule: str) -> None:
        """Raise `UserError` unless the check sets rows aside."""
        known = sorted(self.mask.lines["check"].unique().to_pylist())
        if rule not in known:
            raise no_such("rule", rule, known, f"the quarantine of {self.table}")

    def _of(self, rule: str | None, partition: str | None) -> pa.Table:
        lines = self.mask.lines
        if rule is not None:
            self.require_rule(rule)
            lines = lines.filter(pc.equal(lines["check"], rule))
        if partition is not None:
            known = sorted(self.mask.lines["partition"].unique().to_pylist())
            if partition not in known:
                raise no_such("partition", partition, known, f"the quarantine of {self.table}")
            lines = lines.filter(pc.equal(lines["partition"], partition))
        return lines

    def _by_hash(self, name: str, files: Mapping[str, Path]) -> pa.Table:
        """Lines of a row that shares its key with others that are set aside, by the hash of what it holds."""
        lines = self.mask.lines
        places = lines.select(["key", "partition", "row"]).group_by(["key", "partition", "row"]).aggregate([])
        counts = places.group_by("key").aggregate([("row", "count")])
        shared = counts.filter(pc.greater(counts["row_count"], 1))["key"].combine_chunks()
        for partition in lines["partition"].unique().to_pylist():
            here = self.mask.of(partition)
            here = here.filter(pc.is_in(here["key"], shared))
            rows = np.unique(here["row"].to_numpy())
            bear = [row for row, text in zip(rows, hashes_of(files[partition], rows), strict=True) if text == name]
            if bear:
                return here.filter(pc.is_in(here["row"], pa.array(bear, pa.int64())))
        return lines.slice(0, 0)

    def _require_same(self, files: Mapping[str, Path], partition: str, lines: pa.Table) -> None:
        """The mask speaks of positions, which hold only while the staged rows are those that were validated."""
        rows: Rows = lines["row"].to_numpy()
        total = open_partition(files[partition]).metadata.num_rows if partition in files else 0
        if rows.max() >= total or not names_of(self.project, files[partition], rows).equals(
            lines["key"].combine_chunks()
        ):
            raise TableError(
                f"The rows of {self.table}, or its patches, are others than when it was validated; "
                f"run `weakfish validate {self.table}`."
            )


def in_time(partitions: list[str]) -> list[str]:
    """Partitions from the newest to the oldest, and last the one of rows without a time."""
    return sorted(set(partitions) - {UNDATED}, reverse=True) + [name for name in partitions if name == UNDATED]


def _by_rule(lines: pa.Table, total: int) -> list[dict[str, Any]]:
    found = []
    for rule in sorted(lines["check"].unique().to_pylist()):
        of = lines.filter(pc.equal(lines["check"], rule))
        since = in_time(of["partition"].unique().to_pylist())
        dated = [name for name in since if name != UNDATED]
        found.append(
            {
                "rule": rule,
                "why": of["why"][0].as_py(),
                "rows": of.num_rows,
                "share": of.num_rows / total,
                "since": dated[-1] if dated else UNDATED,
            }
        )
    return sorted(found, key=lambda item: (-item["rows"], item["rule"]))


def _newest(lines: pa.Table, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for partition in in_time(lines["partition"].unique().to_pylist()):
        here = lines.filter(pc.equal(lines["partition"], partition))
        rows = np.unique(here["row"].to_numpy())[::-1][: limit - len(found)]
        for row in rows.tolist():
            of = here.filter(pc.equal(here["row"], row))
            found.append({"key": of["key"][0].as_py(), "partition": partition, "rules": of["check"].to_pylist()})
    return found
