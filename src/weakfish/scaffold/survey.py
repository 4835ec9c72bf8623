"""What all rows of the data are: where the files lie, what each column holds, and what to expect of it."""

from __future__ import annotations

import math
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
from weakfish.sources.tabular.pieces import Keys
from weakfish.sources.tabular.raw_files import find
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


EARLIEST, LATEST = 1971, 2100
"""Years; event times outside are those of a clock that was not set, or of another unit."""

FIRST, LAST = 1678, 2262
"""Years that a time can have at all: the bounds where events are so old, or so far ahead."""

FEW = 0.05
"""The share of rows outside of bounds up to which these rows are wrong, and not the bounds."""

FEW_VALUES = 30
"""Different values up to which a column of short texts is one of categories."""

SHORT = 60
"""Characters of a category."""

HUGE = 1 << 62
"""Whole numbers from which on a bound would have no place in 64 bits."""


class ColumnSuite(Section):
    """What to expect of a column; what is null is not expected.

    ``present`` is the share of rows with a value, ``least`` and ``greatest`` bound numbers, ``values`` are categories,
    ``longest`` bounds the characters of a text.
    """

    name: Name
    present: float | None = None
    least: int | float | None = None
    greatest: int | float | None = None
    values: tuple[str, ...] | None = None
    longest: int | None = None


class Suite(Section):
    """What to expect of the events.

    ``earliest`` and ``latest`` bound event times and are null where there are none. ``key_length`` bounds the
    characters of a key. ``max_quarantined_share`` lets the rows through that are known to fail critical checks, and
    some more.
    """

    rows: int
    earliest: str | None
    latest: str | None
    key_length: int | None
    max_quarantined_share: float
    columns: tuple[ColumnSuite, ...]


def measure(
    sample: pa.Table, *, key: str, time: str | None, facts: Sequence[ColumnFacts], key_repeats: int = 0
) -> Suite:
    """Propose what to expect.

    Parameters
    ----------
    sample
        Rows spread over all; only values that are looked up by share come from it.
    key, time
        Columns of the events; ``time`` is None where no column holds times.
    facts
        What each column holds, in all rows; the made ones are not among them.
    key_repeats
        Rows whose key stood before.
    """
    by_name = {column.name: column for column in facts}
    rows = max((column.rows for column in facts), default=sample.num_rows)
    earliest, latest, strange = _times(sample, time)
    undated = by_name[time].nulls if time in by_name else 0
    keyless = by_name[key].nulls if key in by_name else 0
    longest = by_name[key].longest if key in by_name else None
    return Suite(
        rows=rows,
        earliest=earliest,
        latest=latest,
        key_length=2 * longest if longest else None,
        max_quarantined_share=_quarantined((undated + keyless + 2 * key_repeats) / max(rows, 1) + strange),
        columns=tuple(_column(column, sample.num_rows) for column in facts if column.name not in (key, time)),
    )


def _times(sample: pa.Table, time: str | None) -> tuple[str | None, str | None, float]:
    """Bounds of event times, and the share of rows outside; wider ones where more than a few rows are outside."""
    if time is None:
        return None, None, 0.0
    years = pc.year(sample[time].drop_null())
    rows = max(sample.num_rows, 1)
    early = (pc.sum(pc.less(years, EARLIEST)).as_py() or 0) / rows
    late = (pc.sum(pc.greater_equal(years, LATEST)).as_py() or 0) / rows
    first = FIRST if early > FEW else EARLIEST
    last = LAST if late > FEW else LATEST
    strange = sum(share for share in (early, late) if share <= FEW)
    return f"{first}-01-01T00:00:00+00:00", f"{last}-01-01T00:00:00+00:00", strange


def _quarantined(failing: float) -> float:
    """The usual limit, or the share of rows that fail today and a quarter more."""
    return 0.05 if failing <= 0.04 else min(1.0, math.ceil(125 * failing + 1) / 100)


def _column(column: ColumnFacts, sampled: int) -> ColumnSuite:
    share = 1 - column.null_share
    present = 0.99 if not column.nulls else math.floor(100 * (share - max(0.05, 0.1 * share))) / 100
    least, greatest = _bounds(column)
    values = _values(column, sampled)
    longest = None if values or not column.longest else _outwards(2 * column.longest)
    return ColumnSuite(
        name=column.name,
        present=present if present > 0 else None,
        least=least,
        greatest=greatest,
        values=values,
        longest=None if longest is None else int(longest),
    )


def _bounds(column: ColumnFacts) -> tuple[int | float | None, int | float | None]:
    """Half as far again as the numbers go; nothing below 0 where there is nothing."""
    least, greatest = column.least, column.greatest
    if not isinstance(least, int | float) or not isinstance(greatest, int | float):  # those of times are texts
        return None, None
    room = (greatest - least) / 2 or abs(greatest) or 1
    low, high = (0 if least >= 0 else -_outwards(room - least)), _outwards(greatest + room)
    if column.kind == "number":
        return float(low), float(high)
    return (int(low) if -low < HUGE else None), (int(high) if high < HUGE else None)


def _outwards(number: float) -> float:
    """The next number of two digits away from 0, or towards it where the number is below."""
    if not number:
        return number
    step = 10.0 ** (math.floor(math.log10(abs(number))) - 1)
    return float(f"{math.ceil(number / step) * step:.3g}")


def _values(column: ColumnFacts, sampled: int) -> tuple[str, ...] | None:
    """The categories of a column that has few, in the order of letters."""
    known = [value for value, _ in column.frequent]
    few = column.distinct == len(known) <= min(FEW_VALUES, sampled / 10)
    if column.kind != "string" or not known or not few or (column.longest or 0) > SHORT:
        return None
    return tuple(sorted(known))
