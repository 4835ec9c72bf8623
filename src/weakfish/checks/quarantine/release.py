"""A new patch: a person's decision goes in, a file in ``validation/patches/`` and what it will do come out.

Everything is checked before the file is written, and no file is ever written over.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from weakfish.checks.quarantine.aside import Aside
from weakfish.checks.quarantine.patches import Patch, patch_of, read_patches
from weakfish.checks.quarantine.plan import Plan, contract_of, plan_of
from weakfish.checks.quarantine.repairs import staged_files
from weakfish.checks.quarantine.values import as_yaml, from_text, typed
from weakfish.errors import UnknownName, UserError
from weakfish.project import Project
from weakfish.tables import Contract, partitions

_LONGEST_NAME = 60


@dataclass(frozen=True)
class Decision:
    """What a person decided, as typed: rows by name, a check, who and why, and values as ``column=value``."""

    names: Sequence[str]
    rule: str | None
    who: str | None
    why: str
    values: Sequence[str] = ()


def release(project: Project, table: str, decision: Decision) -> tuple[Path, str]:
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
            raise UserError(f"{decision.rule} does not set {name} aside; {', '.join(sorted(rules))} does.")
    return pa.concat_tables(found.values())


def _content(project: Project, aside: Aside, decision: Decision, lines: pa.Table) -> dict[str, Any]:
    """The patch as its file will hold it."""
    if not decision.why.strip():
        raise UserError("Say why, in a sentence that will be understood in a year: --why.")
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
            raise UserError(f"--set {pair!r} is not of the form column=value; write for example --set amount=12.")
        if column not in schema.names:
            raise UnknownName("column", column, schema.names, table)
        if column in found:
            raise UserError(f"--set names {column} twice; give it once.")
        try:
            kind = schema.field(column).type
            found[column] = as_yaml(typed(from_text(text, kind), kind))
        except ValueError as error:
            raise UserError(f"--set {column} {error}; write it so.") from error
    return found


def _who(project: Project, who: str | None) -> str:
    found = _author(project) if who is None else who.strip()
    if not found:
        raise UserError("Say who decides: --who 'Name <address>', or tell git your name and address.")
    return found


def _author(project: Project) -> str:
    """Name and address of who commits here, as git was told them; empty where git would have to guess."""
    command = ["git", "-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT"]
    try:
        found = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False).stdout
    except OSError:  # no git here, so it was told nothing
        return ""
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
    rest = f"; {still:,} of them {'stays' if still == 1 else 'stay'} aside for other reasons" if still else ""
    scope = f", in {', '.join(patch.partitions)} only" if patch.partitions else ""
    return f"The next `dvc repro` lets {_rows(rows)} {past}{scope}{rest}."


def _of_repair(patch: Patch, plan: Plan, contract: Contract) -> str:
    rows, columns = plan.rows[patch.name], ", ".join(patch.values or ())
    if not rows:
        return f"The next `dvc repro` changes nothing: {columns} has this value already."
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
