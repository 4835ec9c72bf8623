"""What files of rows hold, from a bounded sample of them: a mapping to propose, with a reason for each choice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.errors import SourceError
from weakfish.sources.tabular.charsets import guess
from weakfish.sources.tabular.csv import Grammar, read_delimited
from weakfish.sources.tabular.jsonl import read_lines
from weakfish.sources.tabular.parquet import read_parquet
from weakfish.sources.tabular.pieces import Reader, Rejects, Tally
from weakfish.sources.tabular.raw_files import DAMAGE, RawFile, Text, find, format_of
from weakfish.sources.tabular.settings import Format, Kind, TabularSettings, plain
from weakfish.sources.tabular.types import as_text, convert

ROWS = 20_000
"""How many rows are looked at in all."""

FILES = 50
"""How many files are looked at, the first, the last and others in even distance."""

HEAD = 1 << 18
DELIMITERS = (",", ";", "\t", "|")

READERS: dict[str, Reader] = {"csv": read_delimited, "jsonl": read_lines, "parquet": read_parquet}


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
class SampledColumn:
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
    """A column for a role, and why; ``sure`` says that its name suggests the role, too."""

    column: str
    reason: str
    sure: bool = False


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
    columns: tuple[SampledColumn, ...]
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
    The sample is the first rows of up to `FILES` files spread over all, `ROWS` rows altogether; it,
    and what is said of it, are the same whenever the files are.

    Raises
    ------
    ParamsError
        When a path cannot be used.
    SourceError
        When there are no files, or of several formats, or they cannot be read.
    """
    named = [paths] if isinstance(paths, str | Path) else paths
    files = [file for path in named for file in find(str(path), root or Path.cwd())]
    formats = sorted({format_of(file, kind) for file in files})
    if len(formats) > 1:
        raise SourceError(f"The files are of several formats ({', '.join(formats)}); name those of one.")
    most = min(len(files), FILES)
    chosen = [files[place * (len(files) - 1) // max(most - 1, 1)] for place in range(most)]
    delimiter, encoding, notes = _dialect(chosen, formats[0])
    headers, left_out = _headers(chosen, formats[0], delimiter, encoding)
    # the reader finds a column by its header's plain form, whatever the settings name it later
    columns = dict.fromkeys(headers, "string")
    options = {"path": ".", "columns": columns, "delimiter": delimiter, "encoding": encoding, "null_values": ()}
    settings = TabularSettings.model_construct(**{"quote": '"', "format": None, **options})  # type: ignore[arg-type]
    rejects, reader = Rejects(), READERS[formats[0]]
    parts = [_rows(file, reader, settings, rejects, max(ROWS // len(chosen), 200)) for file in chosen]
    rows = pa.concat_tables(parts)
    found = [_describe(name, header, rows[name].combine_chunks()) for name, header in headers.items()]
    key, time = _key(found), _time(found)
    taken = {choice.column for choice in (key, time) if choice}
    texts = _texts(found, taken)
    taken |= {choice.column for choice in texts}
    nulls, kept = _nulls(found, rows)
    notes = [
        *(f"Column {header!r} is left out: another has the same plain name." for header in left_out),
        *(f"{text!r} stands for null in some columns and is text in others; it stays as it is." for text in kept),
        *[f"{r.file}, line {r.line}: {r.reason}." for r in rejects.kept if r.kind == "line"][:5],
        *notes,
    ]
    return Inferred(
        files=len(files),
        looked_at=len(chosen),
        rows=rows.num_rows,
        format=formats[0],
        delimiter=delimiter,
        encoding=encoding,
        null_values=("", *nulls),
        columns=tuple(found),
        key=key,
        time=time,
        texts=texts,
        entities=_entities(found, taken),
        labels=_labels(found, taken),
        notes=tuple(notes),
    )


def _rows(file: RawFile, reader: Reader, settings: TabularSettings, rejects: Rejects, most: int) -> pa.Table:
    """The first rows of a file as text."""
    schema = pa.schema([(name, pa.string()) for name in settings.columns])
    tables, held = [schema.empty_table()], 0
    for piece in reader(file, settings, rejects, Tally()):
        given = [piece.column(name, file) for name in settings.columns]
        texts = [pa.nulls(piece.rows, pa.string()) if values is None else as_text(values) for values in given]
        tables.append(pa.Table.from_arrays(texts, schema=schema).slice(0, most - held))
        held += tables[-1].num_rows
        if held >= most:
            break
    return pa.concat_tables(tables)


def _headers(
    files: list[RawFile], kind: str, delimiter: str | None, encoding: str | None
) -> tuple[dict[str, str], list[str]]:
    """Columns of all files, by the name they will have, as the files name them; and those whose name is taken."""
    headers: dict[str, str] = {}
    left_out: dict[str, None] = {}
    for file in files:
        for header in [*_names(file, kind, delimiter, encoding), *file.hive]:
            if headers.setdefault(plain(header), header) != header:
                left_out[header] = None
    if not headers:
        raise SourceError(f"{files[0].name} and the other files have no columns; bring files with rows.")
    return headers, list(left_out)


def _names(file: RawFile, kind: str, delimiter: str | None, encoding: str | None) -> Iterable[str]:
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
            with suppress(ValueError, RecursionError):
                record = json.loads(line)
                found.update(dict.fromkeys(record if isinstance(record, dict) else ()))
        return found


def _dialect(files: list[RawFile], kind: str) -> tuple[str | None, str | None, list[str]]:
    """The delimiter that gives most records as many fields as the header, the encoding if not UTF-8, and notes."""
    delimiter: str | None = None
    encodings: dict[str, str | None] = {}
    telling: list[bytes] = []
    for file in files if kind != "parquet" else ():
        try:
            with Text(file, None) as text:
                text.fill(HEAD)
                if text.encoding is not None:
                    other = text.evidence is not None and text.evidence.wrong > text.evidence.right
                    encodings[file.name] = text.encoding if other else None
                    telling += text.evidence.telling if other and text.evidence else ()
                if delimiter is None and kind == "csv" and text.buffer.strip():
                    delimiter = max(DELIMITERS, key=lambda mark: _fits(text, mark))
        except DAMAGE as error:
            raise SourceError(f"{file.name} cannot be read ({error}); take it away.") from error
    return (delimiter, *_encoding(encodings, telling))


def _encoding(found: dict[str, str | None], telling: list[bytes]) -> tuple[str | None, list[str]]:
    """The encoding of files of which none is UTF-8, and what is to say of those that are not."""
    others = {name: encoding for name, encoding in found.items() if encoding is not None}
    if not others:
        return None, []
    if len(others) == len(found):
        encoding = guess(telling)
        return encoding, [f"The files are not UTF-8; {encoding} is a guess: name another with --encoding."]
    named = ", ".join(f"{name} as {encoding}" for name, encoding in list(others.items())[:3])
    return None, [
        f"Not UTF-8, as other files are, and read by a guess: {named}"
        + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        + "; --encoding names one for all that are not UTF-8."
    ]


def _fits(text: Text, mark: str) -> tuple[int, int]:
    grammar = Grammar(mark, '"')
    records = [record for record in islice(grammar.records(text, HEAD), 200) if record.raw]
    counts = [0 if record.problem else len(grammar.fields(record.raw)) for record in records]
    return (counts.count(counts[0]) if counts[0] > 1 else 0, counts[0]) if counts else (0, 0)


def _nulls(columns: list[SampledColumn], rows: pa.Table) -> tuple[list[str], list[str]]:
    """Texts that stand for null in some column, and those of them that are text in another."""
    wanted = [text for text in NULLS if any(text in column.null_values for column in columns)]
    strings = [rows[column.name] for column in columns if column.kind == "string"]
    kept = [text for text in wanted if any(pc.any(pc.equal(values, text)).as_py() for values in strings)]
    return [text for text in wanted if text not in kept], kept


def _describe(name: str, header: str, texts: pa.Array) -> SampledColumn:
    """Judge a column of texts."""
    given = texts.drop_null()
    known = given.filter(pc.invert(pc.is_in(pc.utf8_trim_whitespace(given), pa.array(["", *NULLS]))))
    kind, reason = _kind(name, known)
    used: tuple[str, ...] = ()
    if kind == "string":
        known = given.filter(pc.not_equal(given, ""))
    else:
        present = set(pc.unique(pc.utf8_trim_whitespace(given)).to_pylist())
        used = tuple(text for text in NULLS if text in present)
    return SampledColumn(
        name=name,
        header=header,
        kind=kind,
        values=len(known),
        nulls=len(texts) - len(known),
        distinct=pc.count_distinct(known).as_py(),
        length=pc.mean(pc.utf8_length(known)).as_py() or 0.0,
        words=pc.mean(pc.count_substring_regex(known, r"\S+")).as_py() or 0.0,
        null_values=used,
        reason=reason,
    )


def _kind(name: str, known: pa.Array) -> tuple[Kind, str]:
    if not len(known):
        return "string", "it has no values in the sample"
    distinct = set(pc.unique(pc.utf8_lower(pc.utf8_trim_whitespace(known))).to_pylist())
    if distinct <= {"true", "false", "t", "f", "yes", "no", "y", "n"}:
        return "boolean", f"its values are {', '.join(sorted(distinct))}"
    if pc.any(pc.match_substring_regex(known, r"^\s*[+-]?0\d")).as_py() and not _date_like(known):
        return "string", "some of its values begin with a zero, which a number would lose"
    for kind in _KINDS:
        bad = _misfits(known, kind)
        if bad <= (1 - GOOD) * len(known):
            if kind == "integer" and _TIME.search(name) and 1 - _misfits(known, "time") / len(known) >= GOOD:
                return "time", "its values are seconds or milliseconds since 1970"
            but = f", {bad} of {len(known):,} are not and become null" if bad else ""
            return kind, f"its values are {_PLURAL[kind]}{but}"
    counts = pc.value_counts(known)
    often = min(zip(pc.negate(counts.field(1)).to_pylist(), counts.field(0).to_pylist(), strict=True))
    return "string", f"its values are of no other type, as {often[1][:40]!r}"


_PLURAL = {"integer": "whole numbers", "number": "numbers", "date": "dates", "time": "times"}


def _misfits(known: pa.Array, kind: Kind) -> int:
    """How many values are not of a kind."""
    bad: int = pc.sum(convert(known, kind, _SETTINGS).bad).as_py()
    return bad


def _date_like(known: pa.Array) -> bool:
    return bool(pc.all(pc.match_substring_regex(known, r"^\s*\d{4}[-/]\d|^\s*[+-]?0?\.\d|^\s*[+-]?0\d*[.]")).as_py())


def _key(columns: list[SampledColumn]) -> Choice | None:
    """The column that tells rows apart: no nulls, (nearly) no value twice, and a name or a place that says so."""
    found = []
    for place, column in enumerate(columns):
        twice, named = column.values - column.distinct, bool(_KEY.search(column.name))
        usable = column.kind in ("string", "integer") and column.values and not column.nulls and not _is_text(column)
        if usable and (not twice or (named and twice <= 0.01 * column.values)) and (named or place == 0):
            found.append((bool(twice), not named, place, column.name, f"{twice} of {column.values:,}"))
    if not found:
        return None
    twice, _, _, name, repeats = min(found)
    if twice:
        return Choice(name, f"none is missing; {repeats} stand there again, checks will tell")
    return Choice(name, "no value is missing and none repeats")


def _time(columns: list[SampledColumn]) -> Choice | None:
    """The column of event times: times before dates, names that say so first, fewer nulls before more."""
    found = [column for column in columns if column.kind in ("time", "date")]
    if not found:
        return None
    column = min(found, key=lambda each: (each.kind != "time", not _TIME.search(each.name), each.nulls))
    share = column.values / max(column.values + column.nulls, 1)
    return Choice(column.name, f"{column.reason}, and {share:.0%} of rows have one")


def _is_text(column: SampledColumn) -> bool:
    return column.kind == "string" and column.words >= 3 and column.distinct > max(50, 0.2 * column.values)


def _texts(columns: list[SampledColumn], taken: set[str]) -> tuple[Choice, ...]:
    """Columns of running text, the longest first."""
    found = [column for column in columns if column.name not in taken and _is_text(column)]
    return tuple(
        Choice(c.name, f"{c.words:.0f} words and {c.length:.0f} characters on average, {c.distinct:,} texts")
        for c in sorted(found, key=lambda column: (-column.length, column.name))
    )


def _labels(columns: list[SampledColumn], taken: set[str]) -> tuple[Choice, ...]:
    """Columns of two to fifty values that may be classes, those whose name says so first.

    What is named as a question may be any fact, and is surely a label only where it is not known of some rows.
    """
    found = []
    for column in columns:
        named = bool(_LABEL.search(column.name))
        right = column.kind in ("string", "boolean") or (column.kind == "integer" and named)
        if column.name not in taken and right and 2 <= column.distinct <= min(50, max(column.values // 2, 2)):
            sure = named and (column.nulls > 0 or not column.name.startswith("is_"))
            reason = f"it has {column.distinct} values" + (", and its name says so" if sure else "")
            found.append((not named, column.distinct, Choice(column.name, reason, sure)))
    return tuple(choice for *_, choice in sorted(found, key=lambda each: (*each[:2], each[2].column)))


def _entities(columns: list[SampledColumn], taken: set[str]) -> tuple[Choice, ...]:
    """Columns whose values come back and are many: what rows are about, those whose name says so first."""
    found: dict[bool, list[Choice]] = {True: [], False: []}
    for column in columns:
        named = bool(_ENTITY.search(column.name))
        right = column.kind == "string" or (column.kind == "integer" and named)
        many = column.distinct >= (2 if named else 20)
        back = 1.05 if named else 1.5  # where there are many, few come back in a sample
        if column.name not in taken and right and many and column.values >= back * column.distinct:
            rows = column.values / column.distinct
            found[named].append(Choice(column.name, f"{column.distinct:,} values, each on {rows:.1f} rows on average"))
    return (*found[True], *found[False])
