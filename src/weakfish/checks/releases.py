"""Decisions that let quarantined rows in, written as patches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from weakfish.checks.bad_rows import QuarantinedRows
from weakfish.checks.gx import asked_of, judge_by_pandas
from weakfish.checks.patches import Patch, as_yaml, from_text, patch_of, read_patches, typed
from weakfish.checks.repairs import RepairPlan, contract_of, plan_of, staged_files
from weakfish.checks.validate import suite
from weakfish.contracts.tables import partitions, period_of, read_partition
from weakfish.errors import UnknownName, UserError
from weakfish.project.git import git_output
from weakfish.project.paths import Project

_LONGEST_NAME = 60


@dataclass(frozen=True)
class Decision:
    """What a person decided, as typed: rows by name, a check, who and why, and values as ``column=value``."""

    names: tuple[str, ...]
    rule: str | None
    who: str | None
    why: str
    values: tuple[str, ...] = ()

    def lines(self, quarantine: QuarantinedRows) -> pa.Table:
        """The mask's lines that the decision is about."""
        of_rule = quarantine.lines(rule=self.rule)
        if not self.names:
            return of_rule
        with staged_files(quarantine.project, quarantine.table) as files:
            found = {name: quarantine.lines_of(name, files) for name in self.names}
        for name, lines in found.items():
            rules = lines["check"].unique().to_pylist()
            if self.rule is not None and self.rule not in rules:
                raise UserError(f"{self.rule} did not quarantine {name}; {', '.join(sorted(rules))} did.")
        return pa.concat_tables(found.values())

    def content(self, project: Project, table: str, lines: pa.Table) -> dict[str, Any]:
        """The patch as its file will hold it."""
        why = self.why.strip()
        if not why:
            raise UserError("Give the reason, in a sentence that someone will understand a year from now: --why.")
        who = _author(project) if self.who is None else self.who.strip()
        if not who:
            raise UserError("Say who decides: --who 'Name <address>', or set the user of git.")
        content: dict[str, Any] = {"table": table, "who": who, "why": why}
        if not self.names and not self.values:
            periods = sorted({period_of(of) for of in lines["partition"].unique().to_pylist()})
            return {**content, "rule": self.rule, "partitions": periods}
        content["keys"] = list(dict.fromkeys(self.names)) or lines["key"].unique().to_pylist()
        if self.values:
            return {**content, "set": _values(self.values, contract_of(project, table).schema, table)}
        return {**content, "release": [self.rule] if self.rule else sorted(lines["check"].unique().to_pylist())}

    @property
    def slug(self) -> str:
        """What its file is called."""
        what = self.names[0] if self.names else str(self.rule)
        plain = re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")[:_LONGEST_NAME].strip("-") or "rows"
        more = f"-and-{len(self.names) - 1}-more" if len(self.names) > 1 else ""
        return f"{'repair' if self.values else 'release'}-{plain}{more}"


def write_patch(project: Project, table: str, decision: Decision) -> tuple[Path, str]:
    """Write the patch of a decision; return its file and a sentence on what the next run will make of it.

    Raises
    ------
    UserError
        When a row, check or column does not exist, a value does not fit, nobody is named, or a later gate would refuse
        the rows; nothing is written.
    """
    if not decision.names and not decision.rule:
        raise UserError("Say what to release: rows by their names, or all rows of a check with --rule.")
    quarantine = QuarantinedRows.read(project, table)
    lines = decision.lines(quarantine)
    content = decision.content(project, table, lines)
    names = (f"{decision.slug}{'' if number == 1 else f'-{number}'}.yaml" for number in count(1))
    file = next(file for name in names if not (file := project.patches / name).exists())
    patch = patch_of(content, file.relative_to(project.root).as_posix())
    plan = plan_of(project, table, partitions(project.staged(table)), [*read_patches(project, table), patch])
    if not patch.values:
        _require_fit(quarantine, patch, lines)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("x", encoding="utf-8") as stream:
        stream.write(text)
    return file, _what_follows(quarantine, patch, plan, lines)


def _values(pairs: tuple[str, ...], schema: pa.Schema, table: str) -> dict[str, Any]:
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


def _author(project: Project) -> str:
    """Name and address of who commits here, as git was told them; empty where git would have to guess."""
    found = git_output(project.root, "-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT") or ""
    return found.rpartition(">")[0] + ">" if ">" in found else ""


def _what_follows(quarantine: QuarantinedRows, patch: Patch, plan: RepairPlan, lines: pa.Table) -> str:
    if patch.values:
        contract, rows, columns = plan.contract, plan.rows[patch.name], ", ".join(patch.values)
        if not rows or contract is None:
            return f"The next `dvc repro` changes nothing: {columns} already has this value."
        time = patch.scalars(contract.schema).get(contract.time)
        to = contract.partition_of(pa.array([time.as_py()], time.type))[0] if time is not None else None
        stand = "" if to is None else f" (partition {to})"
        return f"The next `dvc repro` sets {columns} of {_rows(rows)}{stand}, checks again, and lets in what passes."
    mine = set(_places(lines))
    still = len(mine) - len(_free(quarantine, patch, lines))
    rest = f"; {still:,} of them {'stays' if still == 1 else 'stay'} in quarantine for other reasons" if still else ""
    scope = f", in {', '.join(patch.partitions)} only" if patch.partitions else ""
    return f"The next `dvc repro` lets {_rows(len(mine))} past {', '.join(patch.rules)}{scope}{rest}."


def _require_fit(quarantine: QuarantinedRows, patch: Patch, lines: pa.Table) -> None:
    """Refuse to let in rows that the gate of a later table would not pass, for their key or time goes on to it."""
    project, table = quarantine.project, quarantine.table
    columns = [project.params.events.key, project.params.events.time]
    later = [name for name in project.suites() if name.startswith(("labels/", "training/"))]
    if not later or not (free := _free(quarantine, patch, lines)):
        return
    with staged_files(project, table) as files:
        rows, released = _after(quarantine, files, columns, free)
    for name in later:
        for expectation in suite(project, name):
            asked = asked_of(expectation)
            if not asked or not asked <= {*columns}:
                continue
            check, bad = judge_by_pandas(expectation, rows)
            worse = np.intersect1d(np.array(bad, np.int64), released)
            if len(worse):
                what = f"{check.expectation_config.type.removeprefix('expect_')}({', '.join(sorted(asked))})"
                raise UserError(
                    f"Letting in {_rows(len(released))} would shut the gate of {name}: {what} would not hold for "
                    f"{_rows(len(worse))} of them; repair {'it' if len(worse) == 1 else 'them'} with --set, or release "
                    "others."
                )


def _free(quarantine: QuarantinedRows, patch: Patch, lines: pa.Table) -> set[tuple[str, int]]:
    """The rows, by partition and position, that nothing else sets aside once these are released."""
    checks = quarantine.mask.lines["check"].cast(pa.string())
    others = quarantine.mask.lines.filter(pc.invert(pc.is_in(checks, pa.array(patch.rules, pa.string()))))
    mine, theirs = (set(_places(of)) for of in (lines, others))
    return mine - theirs


def _places(lines: pa.Table) -> Iterator[tuple[str, int]]:
    return zip(lines["partition"].to_pylist(), lines["row"].to_pylist(), strict=True)


def _after(
    quarantine: QuarantinedRows, files: Mapping[str, Path], columns: list[str], free: set[tuple[str, int]]
) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """The columns of all rows that are kept then, and the positions among them of those that are let in."""
    parts, released, before = [], [], 0
    for name, file in files.items():
        rows = read_partition(file, columns)
        aside = {row for part, row in _places(quarantine.mask.of(name)) if (part, row) not in free}
        kept = np.setdiff1d(np.arange(rows.num_rows), np.array(sorted(aside), np.int64))
        let_in = np.array(sorted(row for part, row in free if part == name), np.int64)
        released.append(before + np.searchsorted(kept, let_in))
        parts.append(rows.take(pa.array(kept)))
        before += len(kept)
    return pa.concat_tables(parts), np.concatenate(released)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
