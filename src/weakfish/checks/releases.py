"""Rows in quarantine, and the decisions that let them in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from weakfish.checks.bad_rows import NAMELESS, hashes_of, names_of, sets_aside, together
from weakfish.checks.patches import Patch, as_yaml, digest, from_text, patch_files, patch_of, read_patches, typed
from weakfish.checks.repairs import Plan, StagedFiles, contract_of, no_such, plan_of, staged_files
from weakfish.contracts.tables import UNDATED, Contract, open_partition, partitions, read_partition
from weakfish.contracts.verdicts import Check, Mask, Rows, Status, Verdict, read_verdict
from weakfish.errors import TableError, UnknownName, UserError
from weakfish.project.git import git_output
from weakfish.project.paths import Project


@dataclass(frozen=True)
class Aside:
    """The rows of a table that are set aside, and the verdict that they come with."""

    project: Project
    table: str
    mask: Mask
    verdict: Verdict

    @classmethod
    def read(cls, project: Project, table: str) -> Aside:
        """As the last `validate` left it; raises `TableError` where there was none."""
        return cls(project, table, Mask.read(project, table), read_verdict(project, table))

    @property
    def patched_since(self) -> bool:
        """Whether patches came, changed or went since."""
        then = self.mask.notes.get("digest", "")
        now = digest(self.project) if patch_files(self.project) else ""
        return bool(then != now)

    def summary(self, rule: str | None, partition: str | None, limit: int) -> dict[str, Any]:
        """Counts, rows per check, and the newest ``limit`` rows; raises `UserError` on a name that does not occur."""
        lines = self._of(rule, partition)
        notes, rows = self.mask.notes, self.verdict.rows
        return {
            "table": self.table,
            "rows": rows,
            "quarantined": self.verdict.quarantined,
            "max_quarantined_share": self.verdict.max_quarantined_share,
            "gate": "shut" if self.verdict.verdict == "failed" else "open",
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
                f"The rows of {self.table}, or its patches, have changed since it was validated; "
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


_LONGEST_NAME = 60


@dataclass(frozen=True)
class Decision:
    """What a person decided, as typed: rows by name, a check, who and why, and values as ``column=value``."""

    names: Sequence[str]
    rule: str | None
    who: str | None
    why: str
    values: Sequence[str] = ()


def write_patch(project: Project, table: str, decision: Decision) -> tuple[Path, str]:
    """Write the patch of a decision; return its file and a sentence on what the next run will make of it.

    Raises
    ------
    UserError
        When a row, check or column does not exist, a value does not fit, or nobody is named; nothing is written.
    """
    if not decision.names and not decision.rule:
        raise UserError("Say what to release: rows by their names, or all rows of a check with --rule.")
    aside = Aside.read(project, table)
    lines = _lines(project, aside, decision)
    content = _content(project, aside, decision, lines)
    file = _free(project.patches, _slug(decision))
    patch = patch_of(content, file.relative_to(project.root).as_posix())
    plan = plan_of(project, table, partitions(project.staged(table)), [*read_patches(project, table), patch])
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("x", encoding="utf-8") as stream:
        stream.write(text)
    return file, _what_follows(aside, patch, plan, lines)


def _lines(project: Project, aside: Aside, decision: Decision) -> pa.Table:
    """The mask's lines that the decision is about."""
    if decision.rule is not None:
        aside.require_rule(decision.rule)
    if not decision.names:
        return _of_rule(aside.mask.lines, str(decision.rule))
    with staged_files(project, aside.table) as files:
        found = {name: aside.lines_of(name, files) for name in decision.names}
    for name, lines in found.items():
        rules = lines["check"].unique().to_pylist()
        if decision.rule is not None and decision.rule not in rules:
            raise UserError(f"{decision.rule} did not quarantine {name}; {', '.join(sorted(rules))} did.")
    return pa.concat_tables(found.values())


def _content(project: Project, aside: Aside, decision: Decision, lines: pa.Table) -> dict[str, Any]:
    """The patch as its file will hold it."""
    if not decision.why.strip():
        raise UserError("Give the reason, in a sentence that someone will understand a year from now: --why.")
    content: dict[str, Any] = {"table": aside.table, "who": _who(project, decision.who), "why": decision.why.strip()}
    if not decision.names and not decision.values:
        parts = sorted(lines["partition"].unique().to_pylist())
        return {**content, "rule": decision.rule, "partitions": parts}
    names = list(dict.fromkeys(decision.names)) or lines["key"].unique().to_pylist()
    if decision.values:
        return {**content, "keys": names, "set": _values(decision.values, project, aside.table)}
    rules = [decision.rule] if decision.rule else sorted(lines["check"].unique().to_pylist())
    return {**content, "keys": names, "release": rules}


def _values(pairs: Sequence[str], project: Project, table: str) -> dict[str, Any]:
    schema = contract_of(project, table).schema
    found: dict[str, Any] = {}
    for pair in pairs:
        column, equals, text = pair.partition("=")
        if not equals or not column:
            raise UserError(f"--set {pair!r} does not have the form column=value; write, for example, --set amount=12.")
        if column not in schema.names:
            raise UnknownName("column", column, schema.names, table)
        if column in found:
            raise UserError(f"--set names {column} twice; name it once.")
        try:
            kind = schema.field(column).type
            found[column] = as_yaml(typed(from_text(text, kind), kind))
        except ValueError as error:
            raise UserError(f"--set {column} {error}; write it so.") from error
    return found


def _who(project: Project, who: str | None) -> str:
    found = _author(project) if who is None else who.strip()
    if not found:
        raise UserError("Say who decides: --who 'Name <address>', or set the user of git.")
    return found


def _author(project: Project) -> str:
    """Name and address of who commits here, as git was told them; empty where git would have to guess."""
    found = git_output(project.root, "-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT") or ""
    return found.rpartition(">")[0] + ">" if ">" in found else ""


def _slug(decision: Decision) -> str:
    what = decision.names[0] if decision.names else str(decision.rule)
    plain = re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")[:_LONGEST_NAME].strip("-") or "rows"
    more = f"-and-{len(decision.names) - 1}-more" if len(decision.names) > 1 else ""
    return f"{'repair' if decision.values else 'release'}-{plain}{more}"


def _free(folder: Path, slug: str) -> Path:
    """A file that is not there yet."""
    number, file = 1, folder / f"{slug}.yaml"
    while file.exists():
        number += 1
        file = folder / f"{slug}-{number}.yaml"
    return file


def _what_follows(aside: Aside, patch: Patch, plan: Plan, lines: pa.Table) -> str:
    if patch.values:
        return _of_repair(patch, plan, contract_of(aside.project, aside.table))
    rows = lines.select(["partition", "row"]).group_by(["partition", "row"]).aggregate([]).num_rows
    still = _still_aside(aside.mask.lines, lines, patch.rules)
    past = f"past {', '.join(patch.rules)}"
    rest = f"; {still:,} of them {'stays' if still == 1 else 'stay'} in quarantine for other reasons" if still else ""
    scope = f", in {', '.join(patch.partitions)} only" if patch.partitions else ""
    return f"The next `dvc repro` lets {_rows(rows)} {past}{scope}{rest}."


def _of_repair(patch: Patch, plan: Plan, contract: Contract) -> str:
    rows, columns = plan.rows[patch.name], ", ".join(patch.values or ())
    if not rows:
        return f"The next `dvc repro` changes nothing: {columns} already has this value."
    time = patch.scalars(contract.schema).get(contract.time)
    stand = f" (partition {contract.partition_of(pa.array([time.as_py()], time.type))[0]})" if time is not None else ""
    return f"The next `dvc repro` sets {columns} of {_rows(rows)}{stand}, checks again, and lets in what passes."


def _still_aside(all_lines: pa.Table, lines: pa.Table, rules: Sequence[str]) -> int:
    """How many of these rows fail other checks too."""
    other = all_lines.filter(pc.invert(pc.is_in(all_lines["check"].cast(pa.string()), pa.array(rules, pa.string()))))
    left, right = (_places(table) for table in (lines, other))
    return len(left & right)


def _places(lines: pa.Table) -> set[tuple[str, int]]:
    return set(zip(lines["partition"].to_pylist(), lines["row"].to_pylist(), strict=True))


def _of_rule(lines: pa.Table, rule: str) -> pa.Table:
    return lines.filter(pc.equal(lines["check"], rule))


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


Places = Mapping[str, Rows]
"""Rows by partition."""


@dataclass(frozen=True)
class Waived:
    """Checks after waivers, and an account of patches.

    ``released`` counts rows that no check sets aside any more, ``patches`` says what each patch did, in the form that
    the ledger has; rows 0 means that it touches none any more.
    """

    checks: list[Check]
    released: int
    repaired: int
    patches: list[dict[str, Any]]
    digest: str

    @property
    def notes(self) -> dict[str, Any]:
        """What goes with the mask, for `accept` to put into its ledger and to compare with the patches that it sees."""
        return {
            "released": self.released,
            "repaired": self.repaired,
            "patches": self.patches,
            "digest": self.digest,
        }

    @property
    def idle(self) -> list[str]:
        """Patches that touch no row any more."""
        return [patch["patch"] for patch in self.patches if not patch["rows"]]


def waive(project: Project, table: str, checks: Sequence[Check], files: StagedFiles) -> Waived:
    """Take out of each check the bad rows that a waiver lets past it.

    Raises
    ------
    UserError
        When a waiver names a check that does not exist, or that sets no rows aside.
    """
    patches = files.plan.patches
    by_name = {check.check: check for check in checks}
    free: dict[str, list[Places]] = {check.check: [] for check in checks}
    rows = dict(files.plan.rows)
    for patch in patches:
        found = []
        for rule in patch.rules:
            places = _released(project, patch, _row_check(patch, rule, by_name), files)
            free[rule].append(places)
            found.append(places)
        if patch.rules:
            rows[patch.name] = _count(_union(found))
    left = [_without(check, _union(free[check.check])) for check in checks]
    account = [{"patch": patch.name, "who": patch.who, "why": patch.why, "rows": rows[patch.name]} for patch in patches]
    return Waived(left, _let_in(left, free), files.plan.repaired, account, digest(project) if patches else "")


def _row_check(patch: Patch, rule: str, checks: Mapping[str, Check]) -> Check:
    if rule not in checks:
        raise no_such("check", rule, checks, f"the suite of {patch.table}, past which {patch.name} lets rows")
    check = checks[rule]
    if check.severity != "critical" or (check.unexpected is None and not check.error):
        raise UserError(
            f"{patch.name}: {rule} quarantines no rows, so it needs no waiver (only critical checks of rows do); "
            "remove it there."
        )
    return check


def _released(project: Project, patch: Patch, check: Check, files: StagedFiles) -> Places:
    """The bad rows of a check that a waiver lets past it."""
    if not sets_aside(check):
        return {}
    if patch.keys is None:
        only = patch.partitions or files
        return {partition: rows for partition, rows in check.rows.items() if partition in only}
    names = pa.array(patch.keys, pa.string())
    hashes = any(name.startswith(NAMELESS) for name in patch.keys)
    found = {}
    for partition, rows in check.rows.items():
        named = _bear(names_of(project, files[partition], rows), names)
        if hashes:
            named |= _bear(pa.array(hashes_of(files[partition], rows), pa.string()), names)
        if named.any():
            found[partition] = rows[named]
    return found


def _bear(of: pa.Array, names: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_in(of, names).to_numpy(zero_copy_only=False), np.bool_)


def _without(check: Check, released: Places) -> Check:
    count = _count(released)
    if not count:
        return check
    left = {part: np.setdiff1d(rows, released[part]) if part in released else rows for part, rows in check.rows.items()}
    left = {part: rows for part, rows in left.items() if len(rows)}
    return replace(check, rows=left, released=count, status=check.status if left else Status.PASSED)


def _let_in(left: Sequence[Check], free: Mapping[str, Sequence[Places]]) -> int:
    """Rows that were let past a check and that no other sets aside."""
    released = _union(places for of in free.values() for places in of)
    aside = _union(check.rows for check in left if sets_aside(check))
    return sum(len(np.setdiff1d(rows, aside.get(part, []))) for part, rows in released.items())


def _union(places: Iterable[Places]) -> dict[str, Rows]:
    of = list(places)
    return {part: together(found[part] for found in of if part in found) for part in sorted({p for f in of for p in f})}


def _count(places: Places) -> int:
    return sum(len(rows) for rows in places.values())
