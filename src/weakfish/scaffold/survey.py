"""What all rows of the data are: where the files lie, what each column holds, and what to expect of it."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.ledgers import MissingColumn
from weakfish.contracts.tables import TIME, in_test
from weakfish.engine.clock import SKEW
from weakfish.engine.profile import ends
from weakfish.errors import SourceError, UserError
from weakfish.project.params import GoldParams, Name, Section
from weakfish.project.runs import Progress
from weakfish.scaffold.leaks import Leaks
from weakfish.sources.tabular.infer import cut
from weakfish.sources.tabular.pieces import Keys
from weakfish.sources.tabular.raw_files import find, split
from weakfish.sources.tabular.settings import MADE_KEY, MADE_TIME, Kind, TabularSettings
from weakfish.sources.tabular.source import TabularSource


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

SAMPLE_BYTES = 1 << 27
"""The most bytes of the sample, while it has more than a thousand rows; long texts are cut."""

VALUES = 1_000
"""The most values of a column of gold labels; more are no classes."""

CATEGORIES = 50
"""The most values of a column that is described by its values."""

_DIGEST = 32

LATE = "__late"
"""The column of rows with gold that says whether a split by keys makes them test."""

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
    copies
        How many rows are equal to an earlier one, where no column is the key.
    gold
        How many rows have a gold label, by task, value (trimmed), day (ISO, UTC; None where it is not known), and
        whether a split by keys makes them test.
    told
        At most `ROWS` of the rows with gold, those in even distance: the columns of the sample, the gold column of each
        task (as it is written), and `LATE`, whether a split by keys makes them test.
    rejected, bad
        How many records became no row; how many values became null, by column and reason.
    unfit
        By column of numbers, a text that its type cannot hold as it is written.
    swapped
        By column of times, a text in which day and month stand in the other order.
    changed
        Sentences about values that are kept, but not as they are written.
    unknown
        Headers that are of no column of the settings, with the first file that has each.
    leaks
        Sentences about columns that seem to be filled from the label.
    optional
        Columns that some files lack.
    renamed
        Of these, and their files, a column of the file that seems to be the same under another name.
    """

    rows: int
    facts: tuple[ColumnFacts, ...]
    sample: pa.Table
    key_repeats: int
    copies: int
    gold: Gold
    told: pa.Table
    rejected: int
    bad: Mapping[tuple[str, str], int]
    unfit: Mapping[str, str]
    swapped: Mapping[str, str]
    changed: tuple[str, ...]
    unknown: Mapping[str, str]
    leaks: tuple[str, ...]
    optional: tuple[str, ...] = ()
    renamed: tuple[MissingColumn, ...] = ()


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
    gold, key = source.options.gold_columns, source.options.key
    kinds = {name: kind for name, kind in source.options.columns.items() if name not in gold.values()}
    nulls: Counter[str] = Counter()
    extremes: dict[str, list[Any]] = {name: [] for name, kind in kinds.items() if kind != "boolean"}
    keys, repeats = Keys(), 0
    kept = _Kept([name for name in source.schema.names if name not in gold.values()])
    labels: Gold = Counter()
    told = _Kept([*kept.names, *dict.fromkeys(gold.values()), LATE])
    leaks = Leaks([name for name in kinds if name != key], gold)
    progress = Progress("init: rows")
    for batch in source.read_files(find(path, Path("/"))):
        for name, kind in kinds.items():
            nulls[name] += batch[name].null_count
            if name in extremes:
                values = pc.utf8_length(batch[name]) if kind == "string" else batch[name]
                extremes[name] = ends(values, extremes[name])
        if key is not None:
            same = [batch[key].drop_null()]
        else:  # what the key is made from, and gold, which it is not
            same = [pc.utf8_slice_codeunits(batch[MADE_KEY], 0, _DIGEST), *(batch[name] for name in set(gold.values()))]
        repeats += pc.sum(pc.greater(pc.utf8_length(keys.of(same)), _DIGEST), min_count=0).as_py()
        kept.add(batch)
        _count_gold(labels, batch, source.options, told)
        leaks.add(batch)
        progress.add(batch.num_rows)
    if not progress.done:
        raise UserError(f"No row could be read from {path}; bring files with rows.")
    sample = kept.table()
    return Survey(
        rows=progress.done,
        facts=tuple(
            _facts(name, kind, progress.done, nulls[name], extremes.get(name, []), sample[name])
            for name, kind in kinds.items()
        ),
        sample=sample,
        key_repeats=repeats if key is not None else 0,
        copies=repeats if key is None else 0,
        gold=labels,
        told=told.table(),
        rejected=sum(tally.rejected for tally in source.tallies.values()),
        bad=source.rejects.reasons,
        unfit=source.unfit,
        swapped=source.swapped,
        changed=tuple(source.rejects.changes()),
        unknown=source.rejects.unknown,
        leaks=tuple(leaks.sentences()),
        optional=tuple(
            name for name in source.options.columns if any(name in of for of in source.rejects.lacking.values())
        ),
        renamed=tuple(missing for missing in source.reading().missing if missing.likely is not None),
    )


def _facts(
    name: str, kind: Kind, rows: int, nulls: int, extremes: Sequence[Any], sample: pa.ChunkedArray
) -> ColumnFacts:
    plain: list[Any] = [end if isinstance(end, int | float) else end.isoformat() for end in extremes]
    counts = pc.value_counts(sample.combine_chunks().drop_null())
    frequent: list[tuple[str, int]] = []
    if kind in ("string", "boolean") and len(counts) <= CATEGORIES:
        texts = pc.utf8_slice_codeunits(pc.cast(counts.field(0), pa.string()), 0, 100).to_pylist()
        frequent = sorted(zip(texts, counts.field(1).to_pylist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    names = ("shortest", "longest") if kind == "string" else ("least", "greatest")
    return ColumnFacts(
        name=name,
        kind=kind,
        rows=rows,
        nulls=nulls,
        distinct=len(counts),
        frequent=tuple(frequent),
        **dict(zip(names, plain, strict=False)),
    )


@dataclass
class _Kept:
    """Every n-th row, n doubled whenever there are too many."""

    names: Sequence[str]
    step: int = 1
    rows: int = 0
    parts: list[pa.Table] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch) -> None:
        places = pa.array(range(-self.rows % self.step, batch.num_rows, self.step), pa.int64())
        self.rows += batch.num_rows
        if len(places):
            rows = pa.Table.from_batches([batch.select(self.names).take(places)])
            texts = [cut(c.combine_chunks()) if pa.types.is_string(c.type) else c for c in rows.columns]
            self.parts.append(pa.Table.from_arrays(texts, schema=rows.schema))
        self._bound(2)

    def table(self) -> pa.Table:
        self._bound(1)
        return pa.concat_tables(self.parts) if self.parts else pa.table({})

    def _bound(self, times: int) -> None:
        """Take every second row until there are at most so many times the bounds."""
        while (rows := sum(part.num_rows for part in self.parts)) > times * ROWS or (
            rows > 1000 and sum(int(part.nbytes) for part in self.parts) > times * SAMPLE_BYTES
        ):
            whole = pa.concat_tables(self.parts)
            self.step *= 2
            self.parts = [whole.take(pa.array(range(0, whole.num_rows, 2), pa.int64())).combine_chunks()]


def _count_gold(labels: Gold, batch: pa.RecordBatch, options: TabularSettings, told: _Kept) -> None:
    """Count the gold labels of a batch, and keep rows that have some."""
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
    known = reduce(pc.or_, [pc.is_valid(batch[column]) for column in options.gold_columns.values()])
    told.add(batch.append_column(LATE, late.combine_chunks()).filter(known))


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

    ``earliest`` and ``latest`` bound event times and are null where there are none; ``wrong_clocks`` is what becomes of
    rows later than now, which are no mistake where many are. ``key_length`` bounds the
    characters of a key. ``max_quarantined_share`` lets the rows through that are known to fail critical checks, and
    some more.
    """

    rows: int
    earliest: str | None
    latest: str | None
    wrong_clocks: Literal["quarantine", "allow"] = "quarantine"
    key_length: int | None
    max_quarantined_share: float
    columns: tuple[ColumnSuite, ...]


def measure(
    sample: pa.Table,
    *,
    key: str,
    time: str | None,
    facts: Sequence[ColumnFacts],
    key_repeats: int = 0,
    rejected: int = 0,
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
    rejected
        Lines that are no rows.
    """
    by_name = {column.name: column for column in facts}
    rows = max((column.rows for column in facts), default=sample.num_rows)
    earliest, latest, strange = _times(sample, time)
    future = _future(sample, time)
    undated = by_name[time].nulls if time in by_name else 0
    keyless = by_name[key].nulls if key in by_name else 0
    longest = by_name[key].longest if key in by_name else None
    failing = (undated + keyless + 2 * key_repeats + rejected) / max(rows + rejected, 1) + strange
    failing += future if future <= FEW else 0.0
    return Suite(
        rows=rows,
        earliest=earliest,
        latest=latest,
        wrong_clocks="quarantine" if future <= FEW else "allow",
        key_length=2 * longest if longest else None,
        # the usual limit, or the share of rows that fail today and a quarter more
        max_quarantined_share=0.05 if failing <= 0.04 else min(1.0, math.ceil(125 * failing + 1) / 100),
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


def _future(sample: pa.Table, time: str | None) -> float:
    """The share of rows that are later than now."""
    if time is None:
        return 0.0
    later = pc.greater(sample[time], pa.scalar(datetime.now(UTC) + SKEW, TIME))
    late: int = pc.sum(later).as_py() or 0
    return float(late / max(sample.num_rows, 1))


def _column(column: ColumnFacts, sampled: int) -> ColumnSuite:
    share = 1 - column.null_share
    present = 0.99 if not column.nulls else math.floor(100 * (share - max(0.05, 0.1 * share))) / 100
    least, greatest = _bounds(column)
    known = sorted(value for value, _ in column.frequent)
    few = 0 < len(known) == column.distinct <= min(FEW_VALUES, sampled / 10) and (column.longest or 0) <= SHORT
    values = tuple(known) if few and column.kind == "string" else None
    return ColumnSuite(
        name=column.name,
        present=present if present > 0 else None,
        least=least,
        greatest=greatest,
        values=values,
        longest=None if values or not column.longest else int(_outwards(2 * column.longest)),
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
