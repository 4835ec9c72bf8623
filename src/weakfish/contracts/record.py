"""How records become objects: frozen dataclasses, read from JSON; keys that a record does not have are ignored."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Generic, Protocol, TypeVar, cast

from pydantic import AfterValidator, BeforeValidator, TypeAdapter, ValidationError

from weakfish.errors import TableError
from weakfish.files import read_json

T = TypeVar("T")


class Rooted(Protocol):
    """Whatever has the root folder of a project, as `weakfish.project.paths.Project` does."""

    @property
    def root(self) -> Path:
        """The folder that holds ``params.yaml`` and ``dvc.yaml``."""
        ...


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def utc(time: datetime) -> datetime:
    """The same time in UTC; one without a zone is UTC already."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _mapping(value: Any) -> Any:
    return {} if value is None else value


Number = Annotated[float | None, BeforeValidator(_finite)]
"""A measured number; NaN and infinities, which JSON should not hold, count as missing."""

Numbers = Annotated[Mapping[str, Number], BeforeValidator(_mapping)]
"""Measured numbers by name; null in a file means none."""

Time = Annotated[datetime, AfterValidator(utc)]
"""A time in UTC."""


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def parse(kind: type[T], content: Any, source: Path | str) -> T:
    """A record from JSON content; raises `TableError`, which names ``source`` and the first field that does not fit."""
    try:
        found: T = _adapter(cast(Hashable, kind)).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its content"
        raise TableError(
            f"{source} cannot be read: {where}: {first['msg'].lower()}; delete it and run `dvc repro`."
        ) from error
    return found


def read(kind: type[T], file: Path) -> T:
    """A record from its file; raises `TableError` when the file is missing, cut off or something else."""
    return parse(kind, read_json(file), file)


@dataclass(frozen=True)
class Stored(Generic[T]):
    """Records of one kind as files below the root of a project: ``<folder>/<name><suffix>``."""

    kind: type[T]
    folder: str
    suffix: str = ".json"

    def file(self, project: Rooted, name: str) -> Path:
        """The file of a record."""
        return project.root / self.folder / f"{name}{self.suffix}"

    def files(self, project: Rooted) -> dict[str, Path]:
        """The files that are there, by name, in order; names may hold slashes."""
        base = project.root / self.folder
        files = sorted(file for file in base.rglob(f"*{self.suffix}") if not file.name.startswith("."))
        return {file.relative_to(base).as_posix().removesuffix(self.suffix): file for file in files}

    def read(self, project: Rooted, name: str) -> T:
        """A record; raises `TableError` when it is missing, cut off or something else."""
        return read(self.kind, self.file(project, name))


EVENT_TIMESTAMP = "event_timestamp"
"""The column of feature tables, spines and training sets that says when a row became true."""

CREATED = "created"
"""The column of feature tables that says when a row was computed; the later of two rows of one time wins."""

UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
"""Units of counts since 1970."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def microseconds(time: datetime | str) -> int:
    """A time, or its ISO form, as microseconds since 1970; without a zone it is UTC."""
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return (aware - EPOCH) // MICROSECOND


def moment(number: int) -> datetime:
    """The time of a number of microseconds since 1970."""
    return EPOCH + number * MICROSECOND
