"""Bad rows: what names a row to people, the mask that lists those of a table, and what is read from it."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.patches import digest
from weakfish.contracts.gate import EVENTS
from weakfish.contracts.ledgers import ingested
from weakfish.contracts.tables import UNDATED, is_dated, open_partition, period_of, read_partition, row_count
from weakfish.contracts.verdicts import MASK, Check, Mask, Rows, Status, Verdict, mask_file, mask_writer, read_verdict
from weakfish.errors import TableError, UserError
from weakfish.files import read_json, write_json
from weakfish.project.paths import Project

NAMELESS = "~"
"""What the name of a row without a key begins with; a hash of the row follows."""

COMPARED = 20_000
"""The most names that a wrong one is compared with."""


def names_of(project: Project, file: Path, rows: Rows) -> pa.StringArray:
    """What names these rows of a partition: the events' key, or in tables that have none, as features, both of the
    first two columns; a hash of the whole row where the key is null."""
    key = project.params.events.key
    columns = open_partition(file).schema_arrow.names
    if key not in columns:
        parts = read_partition(file, columns[:2]).take(rows)
        texts = [pc.fill_null(parts[name].cast(pa.string()), "None") for name in columns[:2]]
        return pc.binary_join_element_wise(*texts, "@").combine_chunks()
    keys = read_partition(file, [key])[key].take(rows).cast(pa.string()).combine_chunks()
    if not keys.null_count:
        return keys
    missing = pc.is_null(keys)
    hashes = hashes_of(file, rows[missing.to_numpy(zero_copy_only=False)])
    return pc.replace_with_mask(keys, missing, pa.array(hashes, pa.string()))


def hashes_of(file: Path, rows: Rows) -> list[str]:
    """`NAMELESS` and a hash of what stands in each of these rows, in its staged form where a patch repaired it.

    Rows that are copies of each other have a number behind it.
    """
    before = _names_before(file)
    given = read_json(before) if before.exists() else {}
    new = [row for row in rows.tolist() if str(row) not in given]
    made = _made_hashes(read_partition(file), new) if new else {}
    return [given.get(str(row)) or made[row] for row in rows.tolist()]


def _made_hashes(table: pa.Table, rows: Sequence[int]) -> dict[int, str]:
    """The hashes of rows, and of all that may be copies of them, by position."""
    chosen = table.take(pa.array(rows, pa.int64()))
    alike = np.ones(table.num_rows, np.bool_)
    for name in table.column_names:
        with suppress(pa.ArrowNotImplementedError):  # lists and structures: then other columns tell
            known = pc.is_in(table[name], chosen[name].combine_chunks())
            alike &= known.to_numpy()
    places = np.flatnonzero(alike)
    return dict(zip(places.tolist(), numbered(hashed(table.take(pa.array(places)))), strict=True))


def numbered(hashes: Sequence[str]) -> list[str]:
    """Hashes of all copies of some rows, in their order, each with a number behind it where there are several."""
    counts, seen = Counter(hashes), Counter[str]()
    seen_so_far = (seen.update([name]) or seen[name] for name in hashes)
    return [f"{name}-{number}" if counts[name] > 1 else name for name, number in zip(hashes, seen_so_far, strict=True)]


def unnumbered(name: str) -> str:
    """A hash that names a row and all of its copies, of one that names it alone."""
    return name.partition("-")[0] if name.startswith(NAMELESS) else name


def hashed(rows: pa.Table) -> list[str]:
    """The hash of each row: of its columns that are not null, whatever their order and that of the rows."""
    known = ({name: value for name, value in row.items() if value is not None} for row in rows.to_pylist())
    texts = (json.dumps(row, sort_keys=True, default=plain) for row in known)
    return [NAMELESS + hashlib.sha256(text.encode()).hexdigest()[:12] for text in texts]


def plain(value: Any) -> str:
    """A value as text: times in ISO form, bytes in hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def keep_names(file: Path, hashes: Mapping[int, str]) -> None:
    """Keep, beside a partition's file, the hashes that rows had before they were repaired, by position."""
    write_json(_names_before(file), {str(row): name for row, name in hashes.items()})


def _names_before(file: Path) -> Path:
    return file.with_suffix(".names.json")


def no_such(kind: str, name: str, known: Iterable[str], where: str) -> UserError:
    """An error on a name that does not exist, with the nearest of those that do, or some of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names[:COMPARED], n=1)
    some = ", ".join(repr(other) for other in names[:3])
    hint = f"did you mean {near[0]!r}?" if near else f"there are {len(names):,}, such as {some}."
    return UserError(f"There is no {kind} {name!r} in {where}; {hint if names else 'there are none.'}")


def write_mask(
    project: Project,
    table: str,
    checks: Iterable[Check],
    files: Mapping[str, Path],
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write the mask of all bad rows of critical checks; ``notes`` (JSON) go with it."""
    aside = sorted((check for check in checks if sets_aside(check)), key=lambda check: (check.check, check.why))
    texts = {name: pa.array([getattr(check, name) for check in aside], pa.string()) for name in ("check", "why")}
    with mask_writer(project, table, notes or {}) as writer:
        for partition in sorted({name for check in aside for name in check.rows}):
            of = [check.rows.get(partition, np.empty(0, np.int64)) for check in aside]
            rows, number = np.concatenate(of), np.repeat(np.arange(len(of)), [len(found) for found in of])
            order = np.lexsort((number, rows))
            bad, place = np.unique(rows[order], return_inverse=True)
            lines = {
                "partition": pa.repeat(partition, len(rows)),
                "row": rows[order],
                "key": names_of(project, files[partition], bad).take(pa.array(place)),
                **{name: of.take(pa.array(number[order])) for name, of in texts.items()},
            }
            writer.write_table(pa.table({name: lines[name] for name in MASK.names}).cast(writer.schema))


def sets_aside(check: Check) -> bool:
    """Whether the check's bad rows go into the mask."""
    return check.severity == "critical" and check.status in (Status.QUARANTINED, Status.FAILED)


def together(rows: Iterable[Rows]) -> Rows:
    """Rows that are among any of these."""
    found = np.sort(np.concatenate([np.empty(0, np.int64), *rows]))
    return found[np.append(True, found[1:] != found[:-1])] if len(found) else found  # np.unique hashes, which is slow


@dataclass(frozen=True)
class QuarantinedRows:
    """The rows of a table that are set aside, and the verdict that they come with."""

    project: Project
    table: str
    mask: Mask
    verdict: Verdict

    @classmethod
    def read(cls, project: Project, table: str) -> QuarantinedRows:
        """As the last `validate` left it; raises `TableError` where there was none."""
        if not mask_file(project, table).exists():
            raise TableError(f"The {table} have not been validated yet, so no row is quarantined; run `weakfish run`.")
        return cls(project, table, Mask.read(project, table), read_verdict(project, table))

    def lines(self, **wanted: str | None) -> pa.Table:
        """The mask's lines, of a ``rule`` or a period alone (``partition``, all its parts).

        Raises `UserError` on one that does not occur.
        """
        lines = self.mask.lines
        for kind, name in wanted.items():
            column = "check" if kind == "rule" else kind
            if name is None:
                continue
            called = {
                of: period_of(of) if kind == "partition" else of for of in self.mask.lines[column].unique().to_pylist()
            }
            if name not in called.values():
                raise no_such(kind, name, sorted({*called.values()}), f"the quarantine of {self.table}")
            lines = lines.filter(pc.is_in(lines[column], pa.array([of for of in called if called[of] == name])))
        return lines

    def summary(self, rule: str | None, partition: str | None, limit: int, files: Mapping[str, Path]) -> dict[str, Any]:
        """Counts, rows per check, and the newest ``limit`` rows; raises `UserError` on a name that does not occur.

        ``files`` are the partitions of the table, by which rows that share a key are told apart.
        """
        lines, notes, total = self.lines(rule=rule, partition=partition), self.mask.notes, self.verdict.rows
        rules = []
        for name in sorted(lines["check"].unique().to_pylist()):
            of = lines.filter(pc.equal(lines["check"], name))
            since = min(set(map(period_of, of["partition"].unique().to_pylist())) - {UNDATED}, default=UNDATED)
            why, rows = of["why"][0].as_py(), of.num_rows
            rules.append({"rule": name, "why": why, "rows": rows, "share": rows / total, "since": since})
        newest: list[dict[str, Any]] = []
        places: list[tuple[str, int]] = []
        # From the newest partition to the oldest, and last the one of rows without a time.
        for part in sorted(lines["partition"].unique().to_pylist(), key=lambda of: (is_dated(of), of), reverse=True):
            here = lines.filter(pc.equal(lines["partition"], part))
            for row in np.unique(here["row"].to_numpy())[::-1][: limit - len(newest)].tolist():
                of = here.filter(pc.equal(here["row"], row))
                rule_names = of["check"].to_pylist()
                newest.append({"key": of["key"][0].as_py(), "partition": period_of(part), "rules": rule_names})
                places.append((part, row))
        self._name(newest, places, files)
        reading = ingested(self.project).reading if self.table == EVENTS else None
        return {
            "table": self.table,
            "rows": total,
            "rows_read": self.verdict.rows_read,
            "kept": self.verdict.kept,
            "quarantined": self.verdict.quarantined,
            "rejected": self.verdict.rejected,
            "copies": self.verdict.copies,
            "bad_share": self.verdict.bad_share,
            "max_quarantined_share": self.verdict.max_quarantined_share,
            "gate": "shut" if self.verdict.verdict == "failed" else "open",
            "released": notes.get("released", 0),
            "repaired": notes.get("repaired", 0),
            "patched_since": notes.get("digest", "") != digest(self.project),
            "rejects": [asdict(of) for of in reading.rejected] if reading else [],
            "null_values": dict(reading.values) if reading else {},
            "rules": sorted(rules, key=lambda item: (-item["rows"], item["rule"])),
            "newest": newest,
        }

    def _name(
        self, rows: Sequence[dict[str, Any]], places: Sequence[tuple[str, int]], files: Mapping[str, Path]
    ) -> None:
        """Give each row a ``name`` of its own: its hash where others that are set aside have its key too."""
        bearing = self.mask.lines.group_by(["key", "partition", "row"]).aggregate([]).group_by("key")
        counts = dict(zip(*bearing.aggregate([([], "count_all")]).to_pydict().values(), strict=True))
        for found, (part, row) in zip(rows, places, strict=True):
            found["name"] = found["key"]
            if counts[found["key"]] > 1 and part in files:
                (found["name"],) = hashes_of(files[part], np.array([row], np.int64))

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
                found.append(
                    {"partition": period_of(partition), "hash": hash_name, "reasons": reasons, "columns": values}
                )
        return found

    def _by_hash(self, name: str, files: Mapping[str, Path]) -> pa.Table:
        """Lines of a row without a key, or with one that others that are set aside have too, by its hash.

        Without its number, the hash names all copies.
        """
        places = self.mask.lines.group_by(["key", "partition", "row"]).aggregate([])
        counts = places.group_by("key").aggregate([("row", "count")])
        shared = counts.filter(pc.greater(counts["row_count"], 1))["key"].combine_chunks()
        nameless = pc.starts_with(self.mask.lines["key"].unique(), NAMELESS)
        shared = pa.concat_arrays([shared, self.mask.lines["key"].unique().filter(nameless)])
        for partition in self.mask.lines["partition"].unique().to_pylist():
            here = self.mask.of(partition)
            here = here.filter(pc.is_in(here["key"], shared))
            rows = np.unique(here["row"].to_numpy())
            hashes = hashes_of(files[partition], rows) if len(rows) else []
            bear = rows[[name in (one, unnumbered(one)) for one in hashes]]
            if len(bear):
                return here.filter(pc.is_in(here["row"], pa.array(bear)))
        return self.mask.lines.slice(0, 0)

    def _require_same(self, files: Mapping[str, Path], partition: str, lines: pa.Table) -> None:
        """The mask speaks of positions, which hold only while the staged rows are those that were validated."""
        rows: Rows = lines["row"].to_numpy()
        total = row_count(files[partition]) if partition in files else 0
        if rows.max() >= total or not names_of(self.project, files[partition], rows).equals(
            lines["key"].combine_chunks()
        ):
            raise TableError(
                f"The rows of {self.table}, or its patches, have changed since it was validated; "
                f"run `weakfish validate {self.table}`."
            )
