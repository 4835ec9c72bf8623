"""The profile of a table: each column in numbers, by partition; partitions that did not change come from a cache.

``data/profiles/<table>.json`` holds it for the next reader, who needs the table no more.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.checks.change.column import CATEGORIES, REPEATS, Column
from weakfish.checks.change.tally import Tally
from weakfish.errors import TableError
from weakfish.files import read_json, sha256, write_json
from weakfish.project import Project
from weakfish.runs import Progress
from weakfish.tables import ROWS_IN_A_GROUP, UNDATED, open_partition

FORMAT = 2
"""Goes into the name of what is cached; a change of what is measured needs another number."""

BATCH_BYTES = 16 << 20
"""About how much of a partition is decoded at a time."""

NAMES_SOMEONE = re.compile(r"@|[0-9a-fA-F]{16}")
"""An address or a hash: no category is called so."""

FEATURE_TIME = "event_timestamp"
"""The time column of feature tables, Feast's own name for it; entities stand before it."""


@dataclass(frozen=True)
class Partition:
    """One partition in numbers."""

    rows: int
    columns: Mapping[str, Column]

    def as_json(self) -> dict[str, Any]:
        """The partition as JSON."""
        return {"rows": self.rows, "columns": {name: column.as_json() for name, column in self.columns.items()}}

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Partition:
        """The partition that `as_json` gave."""
        return cls(content["rows"], {name: Column.parse(column) for name, column in content["columns"].items()})


@dataclass(frozen=True)
class Profile:
    """A table in numbers, by partition."""

    partitions: Mapping[str, Partition]

    @cached_property
    def columns(self) -> dict[str, Column]:
        """The columns of the whole table."""
        return self.of(self.partitions)

    @property
    def rows(self) -> dict[str, int]:
        """Rows by partition."""
        return {name: partition.rows for name, partition in self.partitions.items()}

    def of(self, names: Iterable[str]) -> dict[str, Column]:
        """The columns over some partitions; of a column whose type changes, the partitions of its last type."""
        found: dict[str, list[Column]] = {}
        for name in sorted(set(names)):
            for column, content in self.partitions[name].columns.items():
                found.setdefault(column, []).append(content)
        return {name: Column.merged(c for c in of if c.type == of[-1].type) for name, of in found.items()}

    def through(self, last: str | None) -> Profile:
        """The partitions up to and with ``last``, and rows without a time; all for None."""
        return Profile(
            {name: of for name, of in self.partitions.items() if last is None or name <= last or name == UNDATED}
        )

    def as_json(self) -> dict[str, Any]:
        """The profile as JSON."""
        return {name: partition.as_json() for name, partition in self.partitions.items()}

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Profile:
        """The profile that `as_json` gave."""
        return cls({name: Partition.parse(partition) for name, partition in sorted(content.items())})


def profile_of(project: Project, table: str, files: Mapping[str, Path]) -> Profile:
    """Measure the columns of a table, given by its partitions' files.

    Names of categories are kept only of columns with few, short, much repeated values that are no keys.

    Raises
    ------
    TableError
        When a file is missing or cut off.
    """
    progress = Progress(f"Rows of {table} measured", sum(open_partition(f).metadata.num_rows for f in files.values()))
    cache = project.root / ".weakfish" / "checks" / "profiles" / table
    left = set(cache.glob("*.json"))
    found = {}
    for name, file in sorted(files.items()):
        found[name], used = _cached(project, cache, file, progress)
        left.discard(used)
    for unused in left:
        unused.unlink(missing_ok=True)
    return _without_names_of_things(Profile(found))


def write_profile(project: Project, table: str, data_version: str, profile: Profile, **more: Any) -> None:
    """Write ``data/profiles/<table>.json``; ``more`` goes beside the profile."""
    content = {"table": table, "data_version": data_version, "profile": profile.as_json(), **more}
    write_json(project.profile(table), content)


def time_of(project: Project, columns: Iterable[str]) -> str | None:
    """The table's own time column: that of feature rows where there is one, else that of the events."""
    names = list(columns)
    return next((name for name in (FEATURE_TIME, project.params.events.time) if name in names), None)


def keys_of(project: Project, columns: Iterable[str]) -> set[str]:
    """The columns that name rows: the events' key; in feature tables, the entities."""
    names = list(columns)
    entities = names[: names.index(FEATURE_TIME)] if FEATURE_TIME in names else []
    return {project.params.events.key, *entities}


def _cached(project: Project, folder: Path, file: Path, progress: Progress) -> tuple[Partition, Path]:
    """A partition in numbers, and the file that keeps them for the next time."""
    names = open_partition(file).schema_arrow.names
    time, keys = time_of(project, names), keys_of(project, names)
    asked = json.dumps([sha256(file), FORMAT, time, sorted(keys), pa.__version__, np.__version__])
    cache = folder / f"{hashlib.sha256(asked.encode()).hexdigest()}.json"
    try:
        return Partition.parse(json.loads(cache.read_text(encoding="utf-8"))), cache
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or cut off: measured anew
        partition = _measured(file, time, keys, progress)
        write_json(cache, partition.as_json())
        return partition, cache


def _measured(file: Path, time: str | None, keys: set[str], progress: Progress) -> Partition:
    parquet = open_partition(file)
    schema = parquet.schema_arrow
    tallies = {f.name: Tally(f.name, f.type, time, may_have_categories=f.name not in keys) for f in schema}
    rows = 0
    with ThreadPoolExecutor(2) as pool:
        for batch in _batches(parquet, file):
            times = batch.column(time) if time else None
            list(pool.map(lambda name, batch=batch, times=times: tallies[name].add(batch.column(name), times), tallies))
            rows += batch.num_rows
            progress.add(batch.num_rows)
    return Partition(rows, {name: tally.column() for name, tally in tallies.items()})


def _batches(parquet: pq.ParquetFile, file: Path) -> Iterator[pa.RecordBatch]:
    """Batches of about `BATCH_BYTES`; row group by row group, for a reader of all of them reads far ahead."""
    for number in range(parquet.num_row_groups):
        group = parquet.metadata.row_group(number)
        rows = min(ROWS_IN_A_GROUP, max(1024, BATCH_BYTES * group.num_rows // max(1, group.total_byte_size)))
        try:
            yield from parquet.iter_batches(batch_size=rows, row_groups=[number])
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise TableError(f"{file} is not readable Parquet ({reason}); delete it and run `dvc repro`.") from error


def _without_names_of_things(profile: Profile) -> Profile:
    """The profile with names only of categories, and of those only such as repeat in the table."""
    names = {name: column.frequent for name, column in profile.columns.items() if _is_of_categories(column)}
    return Profile(
        {
            name: Partition(part.rows, {of: column.naming(names.get(of)) for of, column in part.columns.items()})
            for name, part in profile.partitions.items()
        }
    )


def _is_of_categories(column: Column) -> bool:
    if column.categories is None or column.kind == "boolean":
        return column.kind == "boolean"
    few = len(column.categories) <= min(CATEGORIES, column.valued // REPEATS)
    return few and not any(NAMES_SOMEONE.search(name) for name in column.categories)


def read_profile(project: Project, table: str) -> dict[str, Any]:
    """What ``data/profiles/<table>.json`` holds; raises `TableError` when it is missing or cut off."""
    content: dict[str, Any] = read_json(project.profile(table))
    return content
