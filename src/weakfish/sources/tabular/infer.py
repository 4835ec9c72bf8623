"""What files of rows hold, from a bounded sample of them: a mapping to propose, with a reason for each choice."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.errors import SourceError
from weakfish.sources.tabular.csv import Grammar, read_delimited
from weakfish.sources.tabular.jsonl import read_lines
from weakfish.sources.tabular.parquet import read_parquet
from weakfish.sources.tabular.pieces import Rejects, Tally
from weakfish.sources.tabular.raw_files import DAMAGE, RawFile, Text, find, format_of
from weakfish.sources.tabular.settings import Format, Kind, TabularSettings, plain
from weakfish.sources.tabular.types import as_text, convert

ROWS = 20_000
"""How many rows are looked at in all."""

FILES = 50
"""How many files are looked at, the first, the last and others in even distance."""

HEAD = 1 << 18
DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Sample:
    """Rows of files as text, and how the files have to be read; ``headers`` names each column in the files."""

    files: int
    looked_at: int
    format: str
    delimiter: str | None
    encoding: str | None
    headers: dict[str, str]
    rows: pa.Table
    rejects: tuple[str, ...]
    left_out: tuple[str, ...]


def take(paths: Sequence[str | Path], root: Path, kind: Format | None = None) -> Sample:
    """Look at files, directories or globs, of a format that their suffixes tell unless ``kind`` does.

    Raises
    ------
    ParamsError
        When a path cannot be used.
    SourceError
        When there are no files, or of several formats, or none of them can be read.
    """
    files = [file for path in paths for file in find(str(path), root)]
    formats = sorted({format_of(file, kind) for file in files})
    if len(formats) > 1:
        raise SourceError(f"The files are of several formats ({', '.join(formats)}); name those of one.")
    chosen = _spread(files, FILES)
    delimiter, encoding = _dialect(chosen, formats[0])
    headers, left_out = _headers(chosen, formats[0], delimiter, encoding)
    columns = dict.fromkeys(headers, "string")
    options = {"path": ".", "columns": columns, "delimiter": delimiter, "encoding": encoding, "null_values": ()}
    # the reader finds a column by its header's plain form, whatever the settings name it later
    settings = TabularSettings.model_construct(**{"quote": '"', "format": None, **options})  # type: ignore[arg-type]
    rejects = Rejects()
    each = max(ROWS // len(chosen), 200)
    tables = [_rows(file, formats[0], settings, rejects, each) for file in chosen]
    lines = tuple(f"{r.file}, line {r.line}: {r.reason}" for r in rejects.kept if r.kind == "line")
    rows = pa.concat_tables(tables)
    return Sample(len(files), len(chosen), formats[0], delimiter, encoding, headers, rows, lines, left_out)


def _spread(files: list[RawFile], most: int) -> list[RawFile]:
    if len(files) <= most:
        return files
    return [files[place * (len(files) - 1) // (most - 1)] for place in range(most)]


def _rows(file: RawFile, kind: str, settings: TabularSettings, rejects: Rejects, most: int) -> pa.Table:
    reader = {"csv": read_delimited, "jsonl": read_lines, "parquet": read_parquet}[kind]
    names = list(settings.columns)
    schema = pa.schema([(name, pa.string()) for name in names])
    tables, held = [schema.empty_table()], 0
    for piece in reader(file, settings, rejects, Tally()):
        columns = []
        for name in names:
            given = piece.columns.get(name)
            if given is None and name in file.hive:
                given = pa.repeat(pa.scalar(file.hive[name], pa.string()), piece.rows)
            given = pa.nulls(piece.rows, pa.string()) if given is None else given
            columns.append(as_text(given.combine_chunks() if isinstance(given, pa.ChunkedArray) else given))
        tables.append(pa.Table.from_arrays(columns, schema=schema).slice(0, most - held))
        held += tables[-1].num_rows
        if held >= most:
            break
    return pa.concat_tables(tables)


def _headers(
    files: list[RawFile], kind: str, delimiter: str | None, encoding: str | None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Columns of all files, by the name they will have, as the files name them; and those whose name is taken."""
    headers: dict[str, str] = {}
    left_out: list[str] = []
    for file in files:
        for header in [*_names(file, kind, delimiter, encoding), *file.hive]:
            name = plain(header)
            if headers.setdefault(name, header) != header and header not in left_out:
                left_out.append(header)
    if not headers:
        raise SourceError(f"{files[0].name} and the other files have no columns; bring files with rows.")
    return headers, tuple(left_out)


def _names(file: RawFile, kind: str, delimiter: str | None, encoding: str | None) -> list[str]:
    if kind == "parquet":
        try:
            names: list[str] = pq.read_schema(file.path).names
            return names
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise SourceError(f"{file.name} is not readable Parquet ({reason}); take it away.") from error
    with Text(file, encoding) as text:
        text.fill(HEAD)
        if kind == "csv":
            grammar = Grammar(delimiter or ",", '"')
            first = next((record.raw for record in grammar.records(text, HEAD) if record.raw), b"")
            return [name.decode("utf-8", "replace").strip() for name in grammar.fields(first)] if first else []
        found: dict[str, None] = {}
        for line in islice(text.buffer.splitlines(), 1000):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            found.update(dict.fromkeys(record if isinstance(record, dict) else ()))
        return list(found)


def _dialect(files: list[RawFile], kind: str) -> tuple[str | None, str | None]:
    """The delimiter that gives most records as many fields as the header, and the encoding, where it is not UTF-8."""
    if kind == "parquet":
        return None, None
    encoding, delimiter = None, None
    for file in files:
        try:
            with Text(file, None) as text:
                text.fill(HEAD)
                content = text.buffer[:HEAD]
                if encoding is None and not _is_utf8(content, cut=not text.ended):
                    encoding = "cp1252"
                if delimiter is None and kind == "csv" and content.strip():
                    delimiter = max(DELIMITERS, key=lambda mark: _fits(text, mark))
        except DAMAGE as error:
            raise SourceError(f"{file.name} cannot be read ({error}); take it away.") from error
    return delimiter, encoding


def _fits(text: Text, mark: str) -> tuple[int, int]:
    grammar = Grammar(mark, '"')
    records = [record for record in islice(grammar.records(text, HEAD), 200) if record.raw]
    counts = [0 if record.problem else len(grammar.fields(record.raw)) for record in records]
    same = sum(count == counts[0] for count in counts) if counts and counts[0] > 1 else 0
    return same, counts[0] if counts else 0


def _is_utf8(content: bytes, *, cut: bool) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return cut and error.start >= len(content) - 3
    return True


NULLS = ("NULL", "null", "NA", "N/A", "n/a", "NaN", "nan", "None", "none", "\\N", "#N/A", "-", "?")
"""Texts that often stand for null; they are taken so where the column's other values have a type."""

GOOD = 0.99
"""The share of a column's values that have to be of a type."""

_KEY = re.compile(r"(^|_)(id|uuid|guid|key|number|no)$|id$")
_TIME = re.compile(r"(^|_)(at|time|timestamp|date|datetime|created|when|ts|day)($|_)|^(time|date)|(time|date|stamp)$")
_LABEL = re.compile(r"(^|_)(label|class|category|target|outcome|verdict|gold|truth|y)($|_)|^is_")
_ENTITY = re.compile(
    r"(^|_)(id|user|customer|account|client|device|host|ip|merchant|card|seller|author|domain|key)$|id$"
)
_KINDS: tuple[Kind, ...] = ("integer", "number", "date", "time")
_SETTINGS = TabularSettings.model_construct(time_zone="UTC", null_values=("",))


@dataclass(frozen=True)
class Column:
    """A column of the sample: ``header`` is its name in the files, ``distinct`` counts values in the sample."""

    name: str
    header: str
    kind: Kind
    values: int
    nulls: int
    distinct: int
    length: float
    words: float
    null_values: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Choice:
    """A column for a role, and why; ``sure`` says that its name tells of the role, too."""

    column: str
    reason: str
    sure: bool = False


def _describe(name: str, header: str, texts: pa.Array) -> Column:
    """Judge a column of texts."""
    spare = pa.array(["", *NULLS])
    given = texts.drop_null()
    known = given.filter(pc.invert(pc.is_in(pc.utf8_trim_whitespace(given), spare)))
    counts = pc.value_counts(known)
    kind, reason = _kind(name, known, counts)
    used: tuple[str, ...] = ()
    if kind == "string":
        known = texts.filter(pc.fill_null(pc.not_equal(texts, ""), False))
        counts = pc.value_counts(known)
    else:
        present = set(pc.unique(pc.utf8_trim_whitespace(texts)).to_pylist())
        used = tuple(text for text in NULLS if text in present)
    length = pc.mean(pc.utf8_length(known)).as_py() or 0.0
    words = (pc.mean(pc.count_substring_regex(known, r"\S+")).as_py()) or 0.0
    nulls = len(texts) - len(known)
    return Column(name, header, kind, len(known), nulls, len(counts), length, words, used, reason)


def _kind(name: str, known: pa.Array, counts: pa.StructArray) -> tuple[Kind, str]:
    if not len(known):
        return "string", "it has no values in the sample"
    distinct = set(pc.unique(pc.utf8_lower(pc.utf8_trim_whitespace(known))).to_pylist())
    if distinct <= {"true", "false", "t", "f", "yes", "no", "y", "n"}:
        return "boolean", f"its values are {', '.join(sorted(distinct))}"
    if pc.any(pc.match_substring_regex(known, r"^\s*[+-]?0\d")).as_py() and not _date_like(known):
        return "string", "some of its values begin with a zero, which a number would lose"
    for kind in _KINDS:
        bad = pc.sum(convert(known, kind, _SETTINGS).bad).as_py()
        if bad <= (1 - GOOD) * len(known):
            if kind == "integer" and _TIME.search(name) and _share(known, "time") >= GOOD:
                return "time", "its values are seconds or milliseconds since 1970"
            but = f", {bad} of {len(known):,} are not and become null" if bad else ""
            return kind, f"its values are {_PLURAL[kind]}{but}"
    return "string", f"its values are of no other type, as {shown_value(counts)}"


_PLURAL = {"integer": "whole numbers", "number": "numbers", "date": "dates", "time": "times"}


def _share(known: pa.Array, kind: Kind) -> float:
    bad: int = pc.sum(convert(known, kind, _SETTINGS).bad).as_py()
    return 1 - bad / len(known)


def _date_like(known: pa.Array) -> bool:
    return bool(pc.all(pc.match_substring_regex(known, r"^\s*\d{4}[-/]\d|^\s*[+-]?0?\.\d|^\s*[+-]?0\d*[.]")).as_py())


def shown_value(counts: pa.StructArray) -> str:
    """The most frequent value, the first of equals in their order."""
    most = min(((-c, v) for v, c in zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True)))
    return repr(most[1][:40])


def _key(columns: list[Column]) -> Choice | None:
    """The column that tells rows apart: no nulls, (nearly) no value twice, and a name or a place that says so."""
    found = []
    for place, column in enumerate(columns):
        if column.kind not in ("string", "integer") or not column.values or column.nulls or _is_text(column):
            continue
        twice = column.values - column.distinct
        named = bool(_KEY.search(column.name))
        if (twice and not (named and twice <= 0.01 * column.values)) or not (named or place == 0):
            continue
        found.append((bool(twice), not named, place, column, twice))
    if not found:
        return None
    *_, column, twice = min(found, key=lambda each: each[:3])
    if twice:
        return Choice(column.name, f"none is missing; {twice} of {column.values:,} stand there again, checks will tell")
    return Choice(column.name, "no value is missing and each stands there once")


def _time(columns: list[Column]) -> Choice | None:
    """The column of event times: times before dates, fewer nulls before more, names that say so first."""
    found = [
        (column.kind != "time", not _TIME.search(column.name), column.nulls, place, column)
        for place, column in enumerate(columns)
        if column.kind in ("time", "date")
    ]
    if not found:
        return None
    column = min(found, key=lambda each: each[:4])[-1]
    share = column.values / max(column.values + column.nulls, 1)
    return Choice(column.name, f"{column.reason}, and {share:.0%} of rows have one")


def _texts(columns: list[Column], taken: set[str]) -> tuple[Choice, ...]:
    """Columns of running text, the longest first."""
    found = [column for column in columns if column.name not in taken and _is_text(column)]
    found.sort(key=lambda column: (-column.length, column.name))
    return tuple(
        Choice(c.name, f"{c.words:.0f} words and {c.length:.0f} characters on average, {c.distinct:,} texts")
        for c in found
    )


def _is_text(column: Column) -> bool:
    return column.kind == "string" and column.words >= 3 and column.distinct > max(50, 0.2 * column.values)


def _labels(columns: list[Column], taken: set[str]) -> tuple[Choice, ...]:
    """Columns of two to fifty values that may be classes, those whose name says so first.

    What is named as a question may be any fact, and is surely a label only where it is not known of some rows.
    """
    found = [
        (not _LABEL.search(column.name), column.distinct, column.name, column)
        for column in columns
        if column.name not in taken
        and (column.kind in ("string", "boolean") or (column.kind == "integer" and _LABEL.search(column.name)))
        and 2 <= column.distinct <= min(50, max(column.values // 2, 2))
    ]
    ordered = [each[-1] for each in sorted(found, key=lambda each: each[:3])]
    return tuple(
        Choice(c.name, f"it has {c.distinct} values" + (", and its name says so" if sure else ""), sure)
        for c in ordered
        for sure in [bool(_LABEL.search(c.name)) and (c.nulls > 0 or not c.name.startswith("is_"))]
    )


def _entities(columns: list[Column], taken: set[str]) -> tuple[Choice, ...]:
    """Columns whose values come back and are many: what rows are about, those whose name says so first."""
    found = []
    for place, column in enumerate(columns):
        named = bool(_ENTITY.search(column.name))
        right = column.kind == "string" or (column.kind == "integer" and named)
        many = column.distinct >= (2 if named else 20)
        back = 1.05 if named else 1.5  # where there are many, few come back in a sample
        if column.name in taken or not right or not many or column.values < back * column.distinct:
            continue
        found.append((not named, place, column))
    return tuple(
        Choice(c.name, f"{c.distinct:,} values, each on {c.values / c.distinct:.1f} rows on average")
        for _, _, c in sorted(found, key=lambda each: each[:2])
    )


@dataclass(frozen=True)
class Inferred:
    """What a sample of ``rows`` rows, from ``looked_at`` of ``files`` files, says.

    ``columns`` are in the order of the files. ``texts``, ``entities`` and ``labels`` are candidates, the best first.
    ``notes`` are sentences about what a person should know.
    """

    files: int
    looked_at: int
    rows: int
    format: str
    delimiter: str | None
    encoding: str | None
    null_values: tuple[str, ...]
    columns: tuple[Column, ...]
    key: Choice | None
    time: Choice | None
    texts: tuple[Choice, ...]
    entities: tuple[Choice, ...]
    labels: tuple[Choice, ...]
    notes: tuple[str, ...]

    def settings(self, path: str, gold: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The ``source`` section that reads the files so; a key and gold are text, an event date is a time."""
        kinds: dict[str, str] = {column.name: column.kind for column in self.columns}
        kinds |= {choice.column: "string" for choice in [self.key] if choice}
        kinds |= {choice.column: "time" for choice in [self.time] if choice}
        kinds |= dict.fromkeys((gold or {}).values(), "string")
        found: dict[str, Any] = {"path": path, "format": self.format, "columns": kinds}
        found |= {"key": self.key.column if self.key else None, "time": self.time.column if self.time else None}
        found |= {name: value for name in ("delimiter", "encoding") if (value := getattr(self, name)) is not None}
        found |= {"gold": dict(gold)} if gold else {}
        return found | {"null_values": list(self.null_values)}


def infer(paths: str | Path | Sequence[str | Path], root: Path | None = None, kind: Format | None = None) -> Inferred:
    """Look at files, directories or globs, from ``root`` (default: the working directory).

    ``kind`` is the format of the files, which their suffixes tell otherwise.
    The sample is the first rows of up to fifty files spread over all, `sample.ROWS` rows altogether; it,
    and what is said of it, are the same whenever the files are.

    Raises
    ------
    ParamsError
        When a path cannot be used.
    SourceError
        When there are no files, or of several formats, or they cannot be read.
    """
    named = [paths] if isinstance(paths, str | Path) else paths
    sample = take(named, root or Path.cwd(), kind)
    columns = [_describe(name, header, sample.rows[name].combine_chunks()) for name, header in sample.headers.items()]
    key, time = _key(columns), _time(columns)
    taken = {choice.column for choice in (key, time) if choice}
    texts = _texts(columns, taken)
    taken |= {choice.column for choice in texts}
    nulls, kept = _nulls(columns, sample.rows.to_pydict() if any(c.null_values for c in columns) else {})
    notes = [f"Column {header!r} is left out: another has the same plain name." for header in sample.left_out]
    notes += [f"{text!r} stands for null in some columns and is text in others; it stays as it is." for text in kept]
    notes += [f"{reject}." for reject in sample.rejects[:5]]
    if sample.encoding:
        notes.append(
            f"The files are not UTF-8; {sample.encoding} is a guess, correct source.encoding if it is another."
        )
    return Inferred(
        sample.files,
        sample.looked_at,
        sample.rows.num_rows,
        sample.format,
        sample.delimiter,
        sample.encoding,
        ("", *nulls),
        tuple(columns),
        key,
        time,
        texts,
        _entities(columns, taken),
        _labels(columns, taken),
        tuple(notes),
    )


def _nulls(columns: list[Column], values: dict[str, list[str | None]]) -> tuple[list[str], list[str]]:
    """Texts that stand for null in some column, and those of them that are text in another."""
    wanted = [text for text in NULLS if any(text in column.null_values for column in columns)]
    strings = {value for column in columns if column.kind == "string" for value in values.get(column.name, [])}
    return [text for text in wanted if text not in strings], [text for text in wanted if text in strings]
