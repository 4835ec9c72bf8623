"""The settings of a tabular source as a frozen, checked object; a setting that cannot be used is one sentence."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

import pyarrow as pa
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from weakfish.contracts.storage import holds_secret
from weakfish.contracts.tables import TIME
from weakfish.errors import ParamsError
from weakfish.project.params import Name, Section
from weakfish.sources.lake import TableAt
from weakfish.sources.lake.snapshot import TableKind
from weakfish.sources.tabular.times import pattern

Kind = Literal["string", "integer", "number", "boolean", "time", "date"]
Format = Literal["csv", "jsonl", "parquet"]

ARROW: dict[str, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "time": TIME,
    "date": pa.date32(),
}
"""The Arrow type of each kind of column."""

SECRET = re.compile(r"pass|pwd|token|secret|key|sig", re.IGNORECASE)
"""Names of parameters in the address of a database that may be a secret."""

MADE_KEY = "row_id"
"""The column of keys that are made, where no column is the key."""

MADE_TIME = "event_time"
"""The column of event times, all of them null, where no column holds them."""


@dataclass(frozen=True)
class Conversion:
    """How texts of a column become values: which mean null, the zone of times that name none, their own format.

    ``thousands`` is the mark before each three digits of numbers, ``longest`` how many bytes a text may have.
    """

    nulls: tuple[str, ...] = ("",)
    time_zone: str = "UTC"
    time_format: str | None = None
    thousands: str | None = None
    longest: int = 1 << 24


class GoldColumn(Section):
    """A column of gold labels.

    ``values`` says which class each of its values stands for, where these are no plain names: one that is not listed
    becomes null and is reported, like one that cannot be read. ``known_at`` is a column of times that says since when
    each label is known.
    """

    column: str
    values: dict[str, Name] | None = Field(default=None, min_length=1)
    known_at: str | None = None


class TabularSettings(Section):
    """The ``source`` section of a tabular source.

    ``path`` is a file, a glob or a directory, from the project's root or absolute. ``format`` is told from the file's
    suffix where it is null, ``delimiter`` too (a tab for ``.tsv``), and ``encoding`` is that of files that are not
    UTF-8, guessed for each where it is null. ``columns`` are the columns of the events and their types. Without
    ``key`` one is made from the row's content, without ``time`` all events are undated. ``gold`` names, by task, the
    column of its gold labels, and may say which class each of its values stands for. Times without a zone are of
    ``time_zone``. ``time_formats`` has, by column, the format of times and dates that are not ISO 8601: one of
    ``strftime``, or the unit of a count since 1970 (s, ms, us, ns). Values in ``null_values`` are null: in every
    column, or by column; in the others only the empty text is. ``optional`` are columns that whole
    files may lack. ``thousands`` is the mark before each three digits of numbers, with a point before their decimals.

    Of tables, which ``format`` names: ``path`` is the folder or address of a Delta table, the name of an Iceberg table
    (``catalog.namespace.table``) or the file of its metadata, or the URL of a database. ``version`` is that of a Delta
    or Iceberg table, the newest where it is null; ``table`` is the name of a database's.

    Of JSON: ``records`` is the key of the lists whose objects are the rows, where others are around them: ``data``, or
    ``result.rows`` in an inner object. ``whole`` is a column of text that gets each object whole, as JSON; then keys
    that are no columns are not left out.

    A value of more than ``max_value_bytes`` bytes becomes null and is reported.

    Of CSV: ``escape`` is a backslash where one escapes what follows, ``decimal`` the mark before decimals. ``skip``
    lines at the start of each file are no rows. ``header`` names the fields of files that have no line of names.
    """

    path: str = Field(min_length=1)
    format: Literal[Format, TableKind] | None = None
    version: int | str | None = None
    table: str | None = Field(default=None, min_length=1)
    columns: dict[Name, Kind] = Field(min_length=1)
    key: str | None = None
    time: str | None = None
    time_zone: str = "UTC"
    delimiter: str | None = None
    quote: str | None = '"'
    escape: Literal["\\"] | None = None
    decimal: Literal[".", ","] = "."
    header: tuple[str, ...] | None = Field(default=None, min_length=1)
    skip: int = Field(default=0, ge=0)
    encoding: str | None = None
    records: str | None = Field(default=None, min_length=1)
    gold: dict[Name, str | GoldColumn] = Field(default_factory=dict)
    null_values: tuple[str, ...] | dict[Name, tuple[str, ...]] = ("",)
    time_formats: dict[Name, str] = Field(default_factory=dict)
    optional: tuple[str, ...] = ()
    thousands: Literal[",", "'", " "] | None = None
    whole: Name | None = None
    max_value_bytes: int = Field(default=1 << 24, ge=1, le=1 << 24)

    @field_validator("delimiter", "quote")
    @classmethod
    def _one_plain_character(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n\0"):
            raise ValueError("must be one ASCII character that is not a line end")
        return value

    @field_validator("version", mode="before")
    @classmethod
    def _as_written(cls, value: object) -> object:
        return value.isoformat() if isinstance(value, date) else value  # YAML makes times of what looks like one

    @field_validator("time_zone")
    @classmethod
    def _a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError("must be the name of a time zone, such as UTC or Europe/Berlin") from error
        return value

    @field_validator("encoding")
    @classmethod
    def _a_text_encoding(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            b"?".decode(value, "replace")  # Python's codecs that are no encodings of text, such as hex, raise here
            return codecs.lookup(value).name
        except (LookupError, ValueError) as error:
            raise ValueError("must be the name of a text encoding, such as utf-8 or cp1252") from error

    @field_validator("thousands")
    @classmethod
    def _not_the_mark_of_decimals(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value == info.data.get("decimal"):
            raise ValueError("must differ from decimal")
        return value

    @model_validator(mode="after")
    def _tables_have_what_they_need(self) -> TabularSettings:
        if self.version is not None and self.format not in ("delta", "iceberg"):
            raise ValueError("version is of format delta and iceberg, and no other has one")
        if (self.table is not None) != (self.format == "warehouse"):
            raise ValueError("table names a table of a database: format warehouse needs it, and no other takes it")
        return self

    @model_validator(mode="after")
    def _roles_are_columns(self) -> TabularSettings:
        roles = {"key": (self.key, "string"), "time": (self.time, "time")}
        roles |= {"whole": (self.whole, "string")}
        roles |= {f"gold.{task}": (column, "string") for task, column in self.gold_columns.items()}
        roles |= {f"gold.{task}.known_at": (column, "time") for task, column in self.gold_known_at.items()}
        for role, (name, kind) in roles.items():
            if name is None:
                continue
            if name not in self.columns:
                raise ValueError(f"{role} names {name!r}, which is not among columns ({', '.join(self.columns)})")
            if self.columns[name] != kind:
                raise ValueError(f"{role} names {name!r}, which must be a {kind}, not a {self.columns[name]}")
        if unknown := [name for name in self.optional if name not in self.columns]:
            raise ValueError(f"optional names {unknown[0]!r}, which is not among columns ({', '.join(self.columns)})")
        if self.key in self.gold_columns.values():
            raise ValueError(f"key and gold both name {self.key!r}; gold never reaches the events table")
        if self.time is not None and self.time in self.gold_known_at.values():
            raise ValueError(f"time and gold's known_at both name {self.time!r}; gold never reaches the events table")
        for role, made in (("key", MADE_KEY), ("time", MADE_TIME)):
            if getattr(self, role) is None and made in self.columns:
                raise ValueError(f"columns has {made!r}, which is the name of the {role} that is made; name another")
        for column, form in self.time_formats.items():
            if self.columns.get(column) not in ("time", "date"):
                raise ValueError(f"time_formats names {column!r}, which is no column of times or dates")
            pattern(form)
        if self.format == "warehouse":
            named = [part.partition("=") for part in self.path.partition("?")[2].split("&")]
            if any(SECRET.search(name) and not value.startswith("${") for name, _, value in named):
                raise ValueError("path must not hold a secret; write ${NAME} there, and set NAME in the environment")
        elif holds_secret(self.path):
            raise ValueError(
                "path must hold neither a user or password nor a query, for messages and reports repeat it; put "
                "credentials into the environment"
            )
        if isinstance(self.null_values, dict) and (strange := set(self.null_values) - set(self.columns)):
            raise ValueError(f"null_values names {min(strange)!r}, which is not among columns")
        if self.delimiter is not None and self.delimiter == self.quote:
            raise ValueError("delimiter and quote must differ")
        for task, column in self.gold_columns.items():
            if self.classes_of(column) != getattr(self.gold[task], "values", None):
                raise ValueError(
                    f"gold.{task} gives values of {column!r} other classes than another task; make them equal"
                )
        return self

    @property
    def file_format(self) -> str | None:
        """The format of the files in ``data/raw``, where the settings say it: rows of tables come there as Parquet."""
        return "parquet" if self.is_table else self.format

    @property
    def is_table(self) -> bool:
        """Whether the rows are those of a table that others keep, and not of files."""
        return self.format in get_args(TableKind)

    def table_at(self, root: Path) -> TableAt:
        """The table; paths count from ``root``."""
        order = [name for name in (self.time, self.key) if name is not None]
        return TableAt(self.format, self.path, root, self.version, self.table, order, self._is_wanted)  # type: ignore[arg-type]

    def _is_wanted(self, header: str) -> bool:
        return self.column_of(header) is not None

    @property
    def gold_columns(self) -> dict[str, str]:
        """The column of gold labels of each task."""
        return {task: gold if isinstance(gold, str) else gold.column for task, gold in self.gold.items()}

    @property
    def gold_known_at(self) -> dict[str, str]:
        """The column that says since when its gold labels are known, of each task that has one."""
        found = {task: gold.known_at for task, gold in self.gold.items() if isinstance(gold, GoldColumn)}
        return {task: column for task, column in found.items() if column is not None}

    def classes_of(self, column: str) -> dict[str, str] | None:
        """Which class each value of a column stands for; None where its values are classes, or it holds no gold."""
        found = (gold.values for gold in self.gold.values() if isinstance(gold, GoldColumn) and gold.column == column)
        return next(found, None)

    def conversion(self, column: str) -> Conversion:
        """How the texts of a column become values."""
        nulls = self.null_values.get(column, ("",)) if isinstance(self.null_values, dict) else self.null_values
        form = self.time_formats.get(column)
        return Conversion(nulls, self.time_zone, form, self.thousands, self.max_value_bytes)

    @property
    def schema(self) -> pa.Schema:
        """The columns of the events: key and time that are made first, then as ``columns`` has them."""
        made = [] if self.key else [(MADE_KEY, pa.string())]
        made += [] if self.time else [(MADE_TIME, TIME)]
        return pa.schema(made + [(name, ARROW[kind]) for name, kind in self.columns.items()])

    def column_of(self, header: str) -> str | None:
        """The column that a header of a file belongs to: its own name, else its plain form (``Order ID``: order_id)."""
        for name in (header, header.strip(), plain(header)):
            if name in self.columns:
                return name
        return None


def plain(header: str) -> str:
    """A header as the name of a column: small letters, digits and underscores, the first of them no digit."""
    name = re.sub(r"\W+", "_", re.sub(r"\w", _plain_character, header.strip().lower())).strip("_") or "column"
    return f"_{name}" if name[0].isdigit() else name


def _plain_character(found: re.Match[str]) -> str:
    """A letter or digit as names may have it: m² is m2."""
    if f"_{found[0]}".isidentifier():
        return found[0]
    return "".join(part if f"_{part}".isidentifier() else " " for part in unicodedata.normalize("NFKC", found[0]))


def read_settings(settings: Mapping[str, Any]) -> TabularSettings:
    """Check the settings of a source; raises `ParamsError` with one sentence."""
    try:
        return TabularSettings.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        setting = f"source.{name}" if name else "source"
        if first["type"] == "extra_forbidden":
            known = ", ".join(TabularSettings.model_fields)
            raise ParamsError(
                f"params.yaml: {setting} is not a setting of a tabular source; there are: {known}."
            ) from None
        if first["type"] == "missing":
            raise ParamsError(f"params.yaml: {setting} is missing; add it.") from None
        what = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise ParamsError(f"params.yaml: {setting} cannot be used: {what}; correct it there.", name, what) from None
