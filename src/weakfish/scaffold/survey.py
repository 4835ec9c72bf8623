"""Where the data lie, seen from a project yet to be: ``source.path``, and what of it the fetch stage watches."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.tables import in_test
from weakfish.engine.profile import ends
from weakfish.errors import SourceError, UserError
from weakfish.project.params import GoldParams, Name, Section
from weakfish.project.runs import Progress
from weakfish.sources.tabular.files import find
from weakfish.sources.tabular.pieces import Keys
from weakfish.sources.tabular.settings import MADE_KEY, MADE_TIME, Kind, TabularSettings
from weakfish.sources.tabular.source import TabularSource

WILD = "*?["
"""What makes a part of a path a pattern."""


@dataclass(frozen=True)
class Place:
    """``given`` is the absolute path of the data, ``path`` and ``fetch_dep`` are as in `proposal.Proposal`."""

    given: str
    path: str
    fetch_dep: str | None


def place(given: str, project: Path) -> Place:
    """A file, directory or pattern, from the working directory, as a project in the folder ``project`` names it.

    It is relative where the data lie beside the project or below its parent, so that both can move together.

    Raises
    ------
    UserError
        When there is no file, or the files that it means would come to be those of the project, too.
    """
    absolute = os.path.abspath(given)  # noqa: PTH100  `Path.resolve` would follow links
    try:
        find(absolute, Path("/"))
    except SourceError as error:
        raise UserError(f"There is no file {given}; correct --from, or bring the data.") from error
    base, rest = (Path(absolute), None) if Path(absolute).exists() else split(absolute)
    folder = base.resolve()
    project = project.parent.resolve() / project.name
    for known in (base, base.parent.resolve() / base.name):
        if known.is_relative_to(project.parent):
            base = Path(os.path.relpath(known, project))
            break
    path = str(base / rest) if rest else str(base)
    if not project.is_relative_to(folder):
        return Place(absolute, path, str(base))
    if rest is None or len(Path(rest).parts) > 1:
        raise UserError(
            f"The project in {project} would lie among the data that {given} means, and its own files be read as data; "
            "choose a folder elsewhere."
        )
    return Place(absolute, path, None)


def split(path: str) -> tuple[Path, str | None]:
    """The part of a path before the first one with a wildcard, and the pattern from there on."""
    parts = Path(path).parts
    first = next((number for number, part in enumerate(parts) if any(sign in part for sign in WILD)), len(parts))
    return Path(*parts[:first]), str(Path(*parts[first:])) if parts[first:] else None


class ColumnFacts(Section):
    """What a column of the events holds.

    ``rows``, ``nulls`` (how many), ``least`` and ``greatest`` (of numbers; of times and dates in ISO form, UTC) and
    ``shortest`` and ``longest`` (characters, of texts) are those of all rows; they are null where no row has a value or
    the kind has no such number. ``distinct`` is of the sample, and so is ``frequent``, values as text and how often,
    the most frequent first; it is empty where there are more than fifty, which may be people's own.
    """

    name: Name
    kind: Kind
    rows: int
    nulls: int
    least: int | float | str | None = None
    greatest: int | float | str | None = None
    shortest: int | None = None
    longest: int | None = None
    distinct: int = 0
    frequent: tuple[tuple[str, int], ...] = ()

    @property
    def null_share(self) -> float:
        """The share of rows without a value."""
        return self.nulls / self.rows if self.rows else 0.0


ROWS = 20_000
"""The most rows of the sample; they lie in even distance."""

SAMPLE_BYTES = 1 << 28
"""The most bytes of the sample, while it has more than a thousand rows."""

VALUES = 1_000
"""The most values of a column of gold labels; more are no classes."""

CATEGORIES = 50
"""The most values of a column that is described by its values."""

_DIGEST = 32
_ORDERED = ("integer", "number", "time", "date")

Gold = Counter[tuple[str, str, str | None, bool]]


@dataclass(frozen=True)
class Survey:
    """What all rows are.

    Attributes
    ----------
    facts
        Of every column of the events in order, without gold and what is made.
    sample
        At most `ROWS` rows, without gold.
    key_repeats
        On how many rows the key stood before.
    gold
        How many rows have a gold label, by task, value (trimmed), day (ISO, UTC; None where it is not known), and
        whether a split by keys makes them test.
    rejected, bad
        How many records became no row; how many values became null, by column.
    """

    rows: int
    facts: tuple[ColumnFacts, ...]
    sample: pa.Table
    key_repeats: int
    gold: Gold
    rejected: int
    bad: Mapping[str, int]


def survey(settings: Mapping[str, Any], path: str) -> Survey:
    """Read the files at an absolute path as a source with these settings, whose gold names columns only.

    Raises
    ------
    ParamsError, SourceError
        When the settings or the files cannot be used.
    UserError
        When there are no rows, or a gold column has more values than there may be classes.
    """
    source = TabularSource(settings)
    gold = source.options.gold_columns
    kinds = {name: kind for name, kind in source.options.columns.items() if name not in gold.values()}
    columns = {name: _Column(kind) for name, kind in kinds.items()}
    seen = _Seen(source.options.key)
    kept = _Kept(source.schema.names, tuple(gold.values()))
    labels: Gold = Counter()
    progress = Progress("init: rows")
    for batch in source.read_files(find(path, Path("/"))):
        for name, column in columns.items():
            column.add(batch[name])
        seen.add(batch)
        kept.add(batch)
        _count_gold(labels, batch, source.options)
        progress.add(batch.num_rows)
    if not progress.done:
        raise UserError(f"No row could be read from {path}; bring files with rows.")
    sample = kept.table(source.schema)
    return Survey(
        rows=progress.done,
        facts=tuple(column.facts(name, progress.done, sample[name]) for name, column in columns.items()),
        sample=sample,
        key_repeats=seen.repeats,
        gold=labels,
        rejected=sum(tally.rejected for tally in source.tallies.values()),
        bad=_bad(source),
    )


@dataclass
class _Column:
    """Nulls and extremes of a column, batch by batch; of texts, extremes of their lengths."""

    kind: Any
    nulls: int = 0
    ends: list[Any] = field(default_factory=list)

    def add(self, values: pa.Array) -> None:
        self.nulls += values.null_count
        if self.kind == "string":
            values = pc.utf8_length(values)
        if self.kind == "string" or self.kind in _ORDERED:
            self.ends = ends(values, self.ends)

    def facts(self, name: str, rows: int, sample: pa.ChunkedArray) -> ColumnFacts:
        plain: list[Any] = [end if isinstance(end, int | float) else end.isoformat() for end in self.ends]
        text = self.kind == "string"
        names = ("shortest", "longest") if text else ("least", "greatest")
        counts = pc.value_counts(sample.combine_chunks().drop_null())
        few = self.kind in ("string", "boolean") and len(counts) <= CATEGORIES
        return ColumnFacts(
            name=name,
            kind=self.kind,
            rows=rows,
            nulls=self.nulls,
            distinct=len(counts),
            frequent=_frequent(counts) if few else (),
            **dict(zip(names, plain, strict=False)),
        )


def _frequent(counts: pa.StructArray) -> tuple[tuple[str, int], ...]:
    texts = pc.cast(counts.field(0), pa.string()).to_pylist()
    found = zip(texts, counts.field(1).to_pylist(), strict=True)
    return tuple(sorted(((text[:100], count) for text, count in found), key=lambda pair: (-pair[1], pair[0])))


@dataclass
class _Seen:
    """Counts keys that come back; a key that is made does not."""

    key: str | None
    repeats: int = 0
    keys: Keys = field(default_factory=Keys)

    def add(self, batch: pa.RecordBatch) -> None:
        if self.key is not None:
            known = batch[self.key].drop_null()
            digests = self.keys.of([known])
            self.repeats += pc.sum(pc.greater(pc.utf8_length(digests), _DIGEST), min_count=0).as_py()


@dataclass
class _Kept:
    """Every n-th row, n doubled whenever there are too many."""

    names: Sequence[str]
    without: Sequence[str]
    step: int = 1
    rows: int = 0
    parts: list[pa.Table] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch) -> None:
        first = -self.rows % self.step
        self.rows += batch.num_rows
        places = pa.array(range(first, batch.num_rows, self.step), pa.int64())
        wanted = [name for name in self.names if name not in self.without]
        if len(places):
            self.parts.append(pa.Table.from_batches([batch.select(wanted)]).take(places))
        while self._too_many(2):
            self._halve()

    def table(self, schema: pa.Schema) -> pa.Table:
        while self._too_many(1):
            self._halve()
        wanted = pa.schema([column for column in schema if column.name not in self.without])
        return pa.concat_tables(self.parts) if self.parts else wanted.empty_table()

    def _too_many(self, times: int) -> bool:
        rows = sum(part.num_rows for part in self.parts)
        size = sum(int(part.nbytes) for part in self.parts)
        return rows > times * ROWS or (rows > 1000 and size > times * SAMPLE_BYTES)

    def _halve(self) -> None:
        whole = pa.concat_tables(self.parts)
        self.step *= 2
        self.parts = [whole.take(pa.array(range(0, whole.num_rows, 2), pa.int64())).combine_chunks()]


def _count_gold(labels: Gold, batch: pa.RecordBatch, options: TabularSettings) -> None:
    if not options.gold:
        return
    times = batch[options.time or MADE_TIME]
    days = pc.strftime(times, format="%Y-%m-%d", locale="C")
    late = in_test(GoldParams(), pa.chunked_array([batch[options.key or MADE_KEY].fill_null("")]), times)
    for task, column in options.gold_columns.items():
        rows = pa.table({"value": pc.utf8_trim_whitespace(batch[column]), "day": days, "late": late})
        for row in rows.group_by(["value", "day", "late"]).aggregate([([], "count_all")]).to_pylist():
            if row["value"] is not None:
                labels[task, row["value"], row["day"], row["late"]] += row["count_all"]
        if len({value for named, value, *_ in labels if named == task}) > VALUES:
            raise UserError(f"Column {column!r} has more than {VALUES:,} values: it holds no classes; name another.")


def _bad(source: TabularSource) -> dict[str, int]:
    found: Counter[str] = Counter()
    for (_, kind, column), count in source.rejects.counts.items():
        if kind == "value":
            found[column] += count
    return dict(found)
