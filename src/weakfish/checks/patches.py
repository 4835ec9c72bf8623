"""Patches: decisions to let quarantined rows in, one YAML file each in ``validation/patches/``, under version control.

What they do to rows, `weakfish.checks.repairs` does.
A repair names rows (``keys``) and the values that they should have (``set``); they are checked again. A waiver lets
rows in although a check finds them bad: those of ``keys`` past the checks in ``release``, or all that ``rule`` finds,
in ``partitions`` where these are given.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.types as pt
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr, ValidationError, model_validator

from weakfish.errors import UnknownName, UserError
from weakfish.project.paths import Project

TABLES = ("events",)
"""Tables whose bad rows are set aside, by `accept`; the rows of others are made from theirs."""


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _once(names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise ValueError(f"names {twice[0]!r} twice")
    return names


Said = Annotated[StrictStr, AfterValidator(_said)]
Names = Annotated[list[Said], Field(min_length=1), AfterValidator(_once)]


class Patch(BaseModel):
    """One patch; ``name`` is its path from the project's root. ``set`` is called ``values`` here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(exclude=True)
    table: Said
    who: Said
    why: Said
    rule: Said | None = None
    partitions: Names | None = None
    keys: Names | None = None
    values: dict[str, Any] | None = Field(default=None, alias="set", min_length=1)
    release: Names | None = None

    @model_validator(mode="after")
    def _is_a_repair_or_a_waiver(self) -> Patch:
        if (self.rule is None) == (self.keys is None):
            raise ValueError("give either rule (all rows that a check quarantines) or keys (the rows by name)")
        if self.rule is not None and (self.values is not None or self.release is not None):
            raise ValueError("rule lets in all rows of a check as they are; set and release go with keys")
        if self.keys is not None and (self.values is None) == (self.release is None):
            raise ValueError("with keys give either set (repaired values) or release (checks that may be passed)")
        if self.keys is not None and self.partitions is not None:
            raise ValueError("partitions goes with rule; keys name the rows already")
        return self

    @property
    def rules(self) -> list[str]:
        """The checks that a waiver lets rows past; none of a repair."""
        return [self.rule] if self.rule is not None else self.release or []

    def scalars(self, schema: pa.Schema) -> dict[str, pa.Scalar]:
        """The repaired values in the types of their columns; raises `UserError` when one does not fit."""
        found = {}
        for column, value in (self.values or {}).items():
            if column not in schema.names:
                raise UnknownName("column", column, schema.names, f"{self.table}, for {self.name} to set")
            try:
                found[column] = typed(value, schema.field(column).type)
            except ValueError as error:
                raise UserError(f"{self.name}: set.{column} {error}; correct it there.") from error
        return found


def read_patches(project: Project, table: str) -> list[Patch]:
    """The patches of a table, by name; none when there is no folder of patches.

    Raises
    ------
    UserError
        When a file of the folder is not a patch; names the file and the field.
    """
    if table not in TABLES:
        return []
    patches = [_read(file, _name(project, file)) for file in patch_files(project)]
    return [patch for patch in patches if patch.table == table]


def patch_files(project: Project) -> list[Path]:
    """The files of patches; raises `UserError` on a file that would be passed over, though it looks like one."""
    files = sorted(file for file in project.patches.rglob("*") if file.is_file())
    seen = [file for file in files if not file.name.startswith(".") and file.name != "README.md"]
    for file in seen:
        if file.suffix != ".yaml" or file.parent != project.patches:
            raise UserError(
                f"{_name(project, file)} is not read: patches are files *.yaml directly in validation/patches; "
                "rename, move or remove it."
            )
    return seen


def digest(project: Project) -> str:
    """A hash of all patches as they lie there; empty where there are none."""
    files = patch_files(project)
    content = b"".join(f"{file.name}\n".encode() + hashlib.sha256(file.read_bytes()).digest() for file in files)
    return hashlib.sha256(content).hexdigest() if files else ""


def patch_of(content: dict[Any, Any], name: str) -> Patch:
    """The patch that ``content`` says; raises `UserError`, which names the file and the field."""
    if "name" in content:
        raise UserError(f"{name}: name is not a field of a patch; remove it or correct its name.")
    try:
        patch = Patch.model_validate({**content, "name": name})
    except ValidationError as error:
        raise UserError(_first_problem(error, name)) from error
    if patch.table not in TABLES:
        raise UserError(
            f"{name}: table is {patch.table!r}, but rows are quarantined only in {', '.join(TABLES)}; correct it there."
        )
    return patch


def _read(file: Path, name: str) -> Patch:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it holds what is neither text nor a value"
        raise UserError(f"{name}{place} is not YAML: {problem}; correct it there.") from error
    if not isinstance(content, dict):
        raise UserError(f"{name} holds no fields; a patch has table, who, why and what to do: see docs/validation.md.")
    return patch_of(content, name)


def _name(project: Project, file: Path) -> str:
    return file.relative_to(project.root).as_posix()


def _first_problem(error: ValidationError, name: str) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = ", ".join(field.alias or key for key, field in Patch.model_fields.items() if key != "name")
        problem = f"is not a field of a patch, which are {known}; remove it or correct its name"
    elif first["type"] == "missing":
        problem = "is missing; add it"
    else:
        problem = f"{first['msg'].removeprefix('Value error, ')}; correct it there".replace("Input should", "should")
    more = f" ({error.error_count() - 1} more fields are wrong too)" if error.error_count() > 1 else ""
    return f"{name}: {place}{' ' if place else ''}{problem}{more}."


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _time(value: str | datetime) -> datetime:
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    if time.tzinfo is None:
        raise ValueError("no zone")
    return time.astimezone(UTC)


def _date(value: str | date) -> date:
    if isinstance(value, datetime):
        raise ValueError("a time")
    return date.fromisoformat(value) if isinstance(value, str) else value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("no end")
    return float(value)


_FITTING: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], bool], Callable[[Any], Any], str], ...] = (
    (pt.is_timestamp, _is(str, datetime), _time, "a time with its zone, such as 2024-01-31T09:30:00Z"),
    (pt.is_date, _is(str, date), _date, "a date, such as 2024-01-31"),
    (pt.is_boolean, _is(bool), bool, "true or false"),
    (pt.is_integer, _is(int), int, "a whole number that the type can hold"),
    (pt.is_floating, _is(int, float), _finite, "a number"),
    (pt.is_decimal, _is(int, float, str), lambda value: Decimal(str(value)), "a number that the type can hold"),
    (_is_text, _is(str), str, "text (in quotes, if it looks like a number)"),
    (lambda kind: True, lambda value: True, lambda value: value, "a value that the type can hold"),
)
"""By type of column: what fits it, how it is converted, and how people are told."""


def typed(value: Any, kind: pa.DataType) -> pa.Scalar:
    """``value``, as YAML gives it, as a scalar of type ``kind``; nothing is converted that would lose or guess.

    Raises
    ------
    ValueError
        When it does not fit; the message says what fits, and never the value.
    """
    if value is None:
        return pa.scalar(None, kind)
    if pt.is_dictionary(kind):
        return pa.scalar(typed(value, kind.value_type).as_py(), kind)
    _, fits, convert, wanted = next(of for of in _FITTING if of[0](kind))
    try:
        if fits(value):
            return pa.scalar(convert(value), kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError, InvalidOperation) as error:
        raise ValueError(f"must be {wanted}, or null; the column is {kind}") from error
    raise ValueError(f"must be {wanted}, or null; the column is {kind}")


def from_text(text: str, kind: pa.DataType) -> Any:
    """What ``text``, as typed on the command line, says in YAML, for a column of type ``kind``; ``null`` is none."""
    if text == "null":
        return None
    if _is_text(kind) or pt.is_temporal(kind):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def as_yaml(value: pa.Scalar) -> Any:
    """A typed value in the form that a patch file holds: times in ISO form, UTC."""
    found = value.as_py()
    if isinstance(found, datetime):
        return found.astimezone(UTC).isoformat().replace("+00:00", "Z") if found.tzinfo else found.isoformat() + "Z"
    return found.isoformat() if isinstance(found, date) else str(found) if isinstance(found, Decimal) else found
