"""A column in numbers that add over partitions: rows, nulls, distinct values, extremes, a sketch, categories.

Columns of partitions add up to that of the table, and go to JSON and back.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, starmap
from math import floor, log10
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from weakfish.contracts.hashes import hashes_of
from weakfish.contracts.record import EVENT_TIMESTAMP
from weakfish.contracts.tables import ROWS_IN_A_GROUP, UNDATED, by_period, open_partition
from weakfish.engine import fleet
from weakfish.engine.sketch import Sketch
from weakfish.errors import TableError
from weakfish.files import read_json, write_json
from weakfish.project.cache import Cache, key_of
from weakfish.project.paths import Project
from weakfish.project.runs import Progress

Kind = Literal["number", "distance", "time", "text", "boolean", "list", "other"]
"""What is measured of a column: numbers themselves; times as hours from the table's own time; of that time itself and
of structures only nulls; lengths of text and of lists; categories of booleans and of texts with few values."""

CATEGORIES = 64
"""How many distinct values a column of categories has at most."""

CATEGORY_LENGTH = 64
"""How many characters a category's name has at most."""

REPEATS = 10
"""How often a value has to occur to be told by name, and on average in a column of categories: what stands in fewer
rows may be anybody's text."""


@dataclass(frozen=True)
class ColumnProfile:
    """What is known of a column, in one partition or in several.

    Attributes
    ----------
    distinct
        Distinct values of each partition, added up; estimated (a few percent off) where they are many. None for kinds
        whose values are not looked at.
    low, high
        The extremes of finite numbers; those that are not whole at six digits, rounded away from them.
    sketch
        Of numbers, of hours, or of lengths.
    categories
        Rows by value, where there are few short values, much repeated; None otherwise. Rare ones are left out.
    """

    type: str
    kind: Kind
    rows: int
    nulls: int
    distinct: int | None = None
    low: float | None = None
    high: float | None = None
    sketch: Sketch | None = None
    categories: Mapping[str, int] | None = None

    @property
    def valued(self) -> int:
        """Rows that have a value."""
        return self.rows - self.nulls

    @property
    def frequent(self) -> dict[str, int]:
        """The categories that repeat, and their rows; all of a boolean."""
        fewest = 0 if self.kind == "boolean" else REPEATS
        return {name: count for name, count in (self.categories or {}).items() if count >= fewest}

    @property
    def rare(self) -> int:
        """Rows of categories that do not repeat."""
        return self.valued - sum(self.frequent.values())

    def naming(self, names: Collection[str] | None) -> ColumnProfile:
        """The column with these categories, and no others; None takes them all away."""
        known = self.categories if names is not None else None
        return replace(self, categories=known and {name: of for name, of in known.items() if name in (names or ())})

    @classmethod
    def merged(cls, columns: Iterable[ColumnProfile]) -> ColumnProfile:
        """The column over several partitions, all of one type."""
        found = list(columns)
        return replace(
            found[0],
            rows=sum(column.rows for column in found),
            nulls=sum(column.nulls for column in found),
            distinct=None if found[0].distinct is None else sum(column.distinct or 0 for column in found),
            low=min((column.low for column in found if column.low is not None), default=None),
            high=max((column.high for column in found if column.high is not None), default=None),
            sketch=None if found[0].sketch is None else Sketch.merged(c.sketch for c in found if c.sketch is not None),
            categories=_united([column.categories for column in found]),
        )

    def as_json(self) -> dict[str, Any]:
        """The column as JSON; what is None is left out."""
        content = {**vars(self), "sketch": self.sketch and self.sketch.text()}
        return {name: value for name, value in content.items() if value is not None}

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> ColumnProfile:
        """The column that `as_json` gave."""
        return cls(**{**content, "sketch": Sketch.parse(content["sketch"]) if "sketch" in content else None})


def _united(categories: Sequence[Mapping[str, int] | None]) -> dict[str, int] | None:
    total: Counter[str] = Counter()
    for of in categories:
        if of is None:
            return None
        total.update(of)
    return dict(sorted(total.items())) if len(total) <= CATEGORIES else None


_KINDS: dict[Kind, tuple[Callable[[pa.DataType], bool], ...]] = {
    "distance": (pt.is_timestamp, pt.is_date),
    "boolean": (pt.is_boolean,),
    "number": (pt.is_integer, pt.is_floating, pt.is_decimal, pt.is_duration),
    "text": (pt.is_string, pt.is_large_string, pt.is_string_view),
    "list": (pt.is_list, pt.is_large_list, pt.is_fixed_size_list),
}


def kind_of(name: str, kind: pa.DataType, time: str | None) -> Kind:
    """What is measured of a column; ``time`` is the table's own time column."""
    if pt.is_dictionary(kind):
        kind = kind.value_type
    found: Kind = next((of for of, tests in _KINDS.items() if any(test(kind) for test in tests)), "other")
    return "time" if found == "distance" and time in (None, name) else found


KEPT_HASHES = 1024
"""Of a column's values the smallest hashes are kept; up to so many, distinct values are counted exactly."""

MICROSECONDS_IN_AN_HOUR = 3.6e9


class _Tally:
    """Adds up batches of one column of one partition."""

    def __init__(self, name: str, kind: pa.DataType, time: str | None, is_key: bool) -> None:
        self.type, self.kind = str(kind), kind_of(name, kind, time)
        self.rows = self.nulls = 0
        self.ends: list[Any] = []
        self.sketch = Sketch()
        self.hashes = np.empty(0, np.uint64)
        has_categories = self.kind == "boolean" or (self.kind == "text" and not is_key)
        self.categories: Counter[str] | None = Counter() if has_categories else None

    def add(self, values: pa.Array, times: pa.Array) -> None:
        """Count a batch; ``times`` is the table's own time in the same rows."""
        self.rows += len(values)
        if pt.is_dictionary(values.type):
            values = values.dictionary_decode()
        if self.kind in ("number", "distance"):
            numbers = _floats(values) if self.kind == "number" else _hours(values, times)
            known = numbers[~np.isnan(numbers)]
            self.nulls += len(values) - len(known)
            self._add_to_sketch(known)
            self._add_hashes(known)
            self.ends = ends(known[np.isfinite(known)], self.ends)
            return
        self.nulls += values.null_count
        values = values.drop_null()
        if self.kind == "text":
            self._add_to_sketch(_floats(pc.utf8_length(values)))
            if self.categories is not None:
                encoded = values.dictionary_encode()
                values = encoded.dictionary
                self._add_categories(encoded)
            self._add_hashes(values.to_numpy(zero_copy_only=False).astype(object))
        elif self.kind == "boolean":
            self._add_categories(pc.cast(values, pa.string()).dictionary_encode())
        elif self.kind == "list":
            self._add_to_sketch(_floats(pc.list_value_length(values)))

    def column(self) -> ColumnProfile:
        """What was found."""
        low, high = self.ends or (None, None)
        return ColumnProfile(
            type=self.type,
            kind=self.kind,
            rows=self.rows,
            nulls=self.nulls,
            distinct=self._distinct() if self.kind in ("number", "distance", "text") else None,
            low=_outwards(low, -1),
            high=_outwards(high, 1),
            sketch=self.sketch if self.kind in ("number", "distance", "text", "list") else None,
            categories=None if self.categories is None else dict(sorted(self.categories.items())),
        )

    def _add_categories(self, encoded: pa.DictionaryArray) -> None:
        names = encoded.dictionary.to_pylist() if len(encoded.dictionary) <= CATEGORIES else None
        if names is None or self.categories is None or any(len(name) > CATEGORY_LENGTH for name in names):
            self.categories = None
            return
        counts = np.bincount(encoded.indices.to_numpy(zero_copy_only=False), minlength=len(names))
        self.categories.update(dict(zip(names, counts.tolist(), strict=True)))
        if len(self.categories) > CATEGORIES:
            self.categories = None

    def _add_to_sketch(self, numbers: npt.NDArray[np.float64]) -> None:
        if len(numbers):
            self.sketch = Sketch.merged([self.sketch, Sketch.of(numbers, self.sketch.bits)])

    def _add_hashes(self, values: npt.NDArray[Any]) -> None:
        from pandas.util import hash_array

        if len(values):
            new = hash_array(values, categorize=False)
            if len(self.hashes) == KEPT_HASHES:
                new = new[new < self.hashes[-1]]
            self.hashes = np.unique(np.concatenate([self.hashes, new]))[:KEPT_HASHES]

    def _distinct(self) -> int:
        """Distinct values by the smallest hashes (Bar-Yossef et al. 2002): exact while all of them are kept."""
        if len(self.hashes) < KEPT_HASHES:
            return len(self.hashes)
        return round((KEPT_HASHES - 1) / (float(self.hashes[-1]) / 2.0**64))


def ends(values: Any, known: Sequence[Any] = ()) -> list[Any]:
    """The least and the greatest of some values and those ``known`` before, in Python's types; none of nothing."""
    found = pc.min_max(values).as_py().values()
    all_ = [end for end in (*known, *found) if end is not None]
    return [min(all_), max(all_)] if all_ else []


def _outwards(number: float | None, direction: int) -> float | None:
    """An extreme as it is if whole, else at six digits, away from the numbers: what differs beyond is how they came."""
    if number is None or not number or number.is_integer():
        return number
    rounded = float(f"{number:.6g}")
    step = 10.0 ** (floor(log10(abs(number))) - 5)
    return rounded if (rounded - number) * direction >= 0 else float(f"{rounded + direction * step:.6g}")


def _floats(values: pa.Array) -> npt.NDArray[np.float64]:
    if pt.is_duration(values.type):
        values = pc.cast(values, pa.duration("us")).cast(pa.int64())
    found: npt.NDArray[np.float64] = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return found


def _hours(values: pa.Array, times: pa.Array) -> npt.NDArray[np.float64]:
    """How long after the table's own time each time is, in hours."""
    at, own = (
        _floats(pc.cast(of, pa.timestamp("us", getattr(of.type, "tz", None)), safe=False).cast(pa.int64()))
        for of in (values, times)
    )
    return (at - own) / MICROSECONDS_IN_AN_HOUR


FORMAT = 2
"""Goes into the name of what is cached; a change of what is measured needs another number."""

BATCH_BYTES = 16 << 20
"""About how much of a partition is decoded at a time."""

NAMES_SOMEONE = re.compile(r"@|[0-9a-fA-F]{16}")
"""An address or a hash: no category is called so."""


@dataclass(frozen=True)
class Partition:
    """One period in numbers, all its parts together: distinct values of parts do not add up."""

    rows: int
    columns: Mapping[str, ColumnProfile]

    def as_json(self) -> dict[str, Any]:
        """The partition as JSON."""
        return {"rows": self.rows, "columns": {name: column.as_json() for name, column in self.columns.items()}}

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Partition:
        """The partition that `as_json` gave."""
        return cls(content["rows"], {name: ColumnProfile.parse(column) for name, column in content["columns"].items()})


@dataclass(frozen=True)
class Profile:
    """A table in numbers, by period."""

    partitions: Mapping[str, Partition]

    @cached_property
    def columns(self) -> dict[str, ColumnProfile]:
        """The columns of the whole table."""
        return self.of(self.partitions)

    @property
    def rows(self) -> dict[str, int]:
        """Rows by partition."""
        return {name: partition.rows for name, partition in self.partitions.items()}

    def of(self, names: Iterable[str]) -> dict[str, ColumnProfile]:
        """The columns over some partitions; of a column whose type changes, the partitions of its last type."""
        found: dict[str, list[ColumnProfile]] = {}
        for name in sorted(set(names)):
            for column, content in self.partitions[name].columns.items():
                found.setdefault(column, []).append(content)
        return {name: ColumnProfile.merged(c for c in of if c.type == of[-1].type) for name, of in found.items()}

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
    """Measure the columns of a table, given by its partitions' files; those that did not change come from the cache.

    Names of categories are kept only of columns with few, short, much repeated values that are no keys.

    Raises
    ------
    TableError
        When a file is missing or cut off.
    """
    opened = {name: open_partition(file) for name, file in sorted(files.items())}
    hashes = by_period(hashes_of(files))
    cache, events = Cache(project, f"profiles/{table}"), project.params.events
    keys, missing = {}, []
    for name, parts in by_period({name: (parquet, files[name]) for name, parquet in opened.items()}).items():
        columns = parts[0][0].schema_arrow.names
        # The table's own time is that of feature rows where there is one; before it stand the entities, which are keys.
        time = next((of for of in (EVENT_TIMESTAMP, events.time) if of in columns), None)
        entities = columns[: columns.index(EVENT_TIMESTAMP)] if EVENT_TIMESTAMP in columns else []
        of_rows = sorted({events.key, *entities})
        keys[name] = key_of(hashes[name], FORMAT, time, of_rows, pa.__version__, np.__version__)
        if cache.get(keys[name]) is None:
            places = [fleet.relative(project, file) for _, file in parts]
            missing.append({"table": table, "key": keys[name], "files": places, "time": time, "keys": of_rows})
    progress = Progress(f"Rows of {table} measured", sum(file.metadata.num_rows for file in opened.values()))
    for _, receipt in fleet.run(project, f"{__name__}:measure", missing, f"{table}: profiles", lambda _: 0.0):
        progress.add(receipt["rows"])
    found = {}
    for name, key in keys.items():
        known = cache.get(key)
        if known is None:
            raise TableError(f"What was measured of {name} of {table} is gone from .weakfish/cache; run this again.")
        found[name] = Partition.parse(json.loads(known.to_pybytes()))
    cache.drop_unused()
    return _without_names_of_things(Profile(found))


def measure(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Measure the parts of a period, and put what was found into the cache."""
    files = [project.root / file for file in item["files"]]
    found = _measured([(open_partition(file), file) for file in files], item["time"], set(item["keys"]))
    Cache(project, f"profiles/{item['table']}").put(item["key"], json.dumps(found.as_json()).encode())
    return {"rows": found.rows}


def _measured(parts: Sequence[tuple[pq.ParquetFile, Path]], time: str | None, keys: set[str]) -> Partition:
    """The parts of a period, which have the same columns."""
    tallies = {of.name: _Tally(of.name, of.type, time, of.name in keys) for of in parts[0][0].schema_arrow}
    rows = 0
    with ThreadPoolExecutor(2) as pool:
        for batch in chain.from_iterable(starmap(_batches, parts)):
            times = batch.column(time) if time else None
            list(pool.map(lambda name, batch=batch, times=times: tallies[name].add(batch.column(name), times), tallies))
            rows += batch.num_rows
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

    def is_of_categories(column: ColumnProfile) -> bool:
        if column.categories is None or column.kind == "boolean":
            return column.kind == "boolean"
        few = len(column.categories) <= min(CATEGORIES, column.valued // REPEATS)
        return few and not any(NAMES_SOMEONE.search(name) for name in column.categories)

    names = {name: column.frequent for name, column in profile.columns.items() if is_of_categories(column)}
    return Profile(
        {
            name: Partition(part.rows, {of: column.naming(names.get(of)) for of, column in part.columns.items()})
            for name, part in profile.partitions.items()
        }
    )


def write_profile(project: Project, table: str, data_version: str, profile: Profile, **more: Any) -> None:
    """Write ``data/profiles/<table>.json``; ``more`` goes beside the profile."""
    content = {"table": table, "data_version": data_version, "profile": profile.as_json(), **more}
    write_json(project.profile(table), content)


def read_profile(project: Project, table: str) -> dict[str, Any]:
    """What ``data/profiles/<table>.json`` holds; raises `TableError` when it is missing or cut off."""
    content: dict[str, Any] = read_json(project.profile(table))
    return content
