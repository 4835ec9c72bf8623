"""What files of rows hold, from a bounded sample of them: a mapping to propose, with a reason for each choice."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.errors import SourceError
from weakfish.sources.tabular.csv import read_delimited
from weakfish.sources.tabular.dialect_guess import Dialects, guess_dialects
from weakfish.sources.tabular.formats import Order, decimal_mark, ungrouped, with_point
from weakfish.sources.tabular.guess import (
    Choice,
    SampledColumn,
    describe,
    entity_choices,
    key_choice,
    label_choices,
    text_choices,
    time_choice,
)
from weakfish.sources.tabular.json_documents import documents, elements, spans_lines
from weakfish.sources.tabular.jsonl import MOST_KEYS, TooManyKeys, header_of, keys_of, read_lines
from weakfish.sources.tabular.parquet import leaves_of, read_parquet
from weakfish.sources.tabular.pieces import LONGEST, Piece, Reader, Rejects, Tally
from weakfish.sources.tabular.raw_files import RawFile, Text, find, first_end, format_of
from weakfish.sources.tabular.settings import Format, Kind, TabularSettings, plain
from weakfish.sources.tabular.types import as_text

ROWS = 20_000
"""How many rows are looked at in all."""

FILES = 50
"""How many files are looked at, the first, the last and others in even distance."""

SAMPLE_BYTES = 1 << 26
"""How many bytes of rows are looked at in all, `LONG` characters of each value."""

LONG = 1 << 14

MOST_COLUMNS = 1_000
"""How many columns a project is proposed for: each is described, searched for functions, and has expectations."""

LONGEST_NAME = 500
"""Characters of a column's name; YAML takes no keys of more than 1,024 characters."""

HEAD = 1 << 18

WHOLE = "whole_object"
"""The column of objects that stay JSON text as a whole."""

READERS: dict[str, Reader] = {"csv": read_delimited, "jsonl": read_lines, "parquet": read_parquet}


@dataclass(frozen=True)
class Inferred:
    """What a sample of ``rows`` rows, from ``looked_at`` of ``files`` files, says.

    ``dialect`` are the settings that say how files of text are written, where the defaults do not. ``columns`` are in
    the order of the files. ``texts``, ``entities`` and ``labels`` are candidates, the best first.
    ``notes`` are sentences about what a person should know.
    """

    files: int
    looked_at: int
    rows: int
    format: str
    dialect: Mapping[str, Any]
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
        found |= {name: list(value) if isinstance(value, tuple) else value for name, value in self.dialect.items()}
        found |= {"gold": dict(gold)} if gold else {}
        forms = {column.name: column.format.form for column in self.columns if column.format}
        found |= {"time_formats": forms} if forms else {}
        nulls = {column.name: ["", *column.null_values] for column in self.columns if column.null_values}
        return found | {"null_values": nulls or [""]}


def infer(
    paths: str | Path | Sequence[str | Path],
    root: Path | None = None,
    kind: Format | None = None,
    said: Mapping[str, Any] | None = None,
) -> Inferred:
    """Look at files, directories or globs, from ``root`` (default: the working directory).

    ``kind`` is the format of the files, which their suffixes tell otherwise. ``said`` are settings that say how files
    of text are written (``encoding``, ``delimiter``, ``header`` and so on), which are guessed otherwise.
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
    dialects = guess_dialects(chosen, formats[0], said or {})
    headers, left_out, as_text = _headers(chosen, formats[0], dialects)
    # the reader finds a column by its header's plain form, whatever the settings name it later
    columns = dict.fromkeys(headers, "string")
    settings = TabularSettings.model_construct(path=".", columns=columns, null_values=(), **dialects.settings)
    rejects, reader = Rejects(), READERS[formats[0]]
    most, size = max(ROWS // len(chosen), 200), SAMPLE_BYTES // len(chosen)
    parts = [_rows(file, reader, settings, rejects, most, size) for file in chosen]
    rows = pa.concat_tables(parts)
    if not rows.num_rows:
        raise SourceError(_why_none(chosen, rejects, formats[0]))
    mark = decimal_mark(map(pa.ChunkedArray.combine_chunks, rows.columns)) if formats[0] == "csv" else None
    if mark == "," and "decimal" not in dialects.settings:
        dialects.settings["decimal"] = mark
        dialects.notes.append("Numbers have a decimal comma: 1.234,5 is 1234.5; --decimal . takes them as they are.")
    if dialects.settings.get("decimal") == ",":
        rows = pa.table({name: with_point(rows[name]) for name in rows.column_names})
    stated: dict[str, Kind] = dict.fromkeys(as_text, "string")
    if mark := dialects.settings.get("thousands"):
        plain_rows = pa.table({name: ungrouped(rows[name], mark) for name in rows.column_names})
        for name, header in headers.items():
            if plain_rows[name] != rows[name]:  # who names the mark wants them as numbers
                stated.pop(header, None)
        rows = plain_rows
    stated |= _stated(chosen[0]) if formats[0] == "parquet" else {}
    found = [
        describe(name, header, rows[name].combine_chunks(), stated.get(header)) for name, header in headers.items()
    ]
    found = [
        _decided(column, files, settings, reader) if column.format and column.format.other else column
        for column in found
    ]
    key, time = key_choice(found), time_choice(found)
    taken = {choice.column for choice in (key, time) if choice}
    texts = text_choices(found, taken)
    taken |= {choice.column for choice in texts}
    labels = label_choices(found, taken)
    notes = [
        *left_out,
        *_null_words(found, labels[0].column if labels and labels[0].sure else "")[:5],
        *[note for column in found for note in column.notes],
        *[f"{r.file} {r.reason}." for r in rejects.kept if r.kind == "file" and r.reason.endswith("left out")][:5],
        *[f"{r.file}, line {r.line}: {r.reason}." for r in rejects.kept if r.kind == "line"][:5],
        *dialects.notes,
    ]
    return Inferred(
        files=len(files),
        looked_at=len(chosen),
        rows=rows.num_rows,
        format=formats[0],
        dialect=dialects.settings,
        columns=tuple(found),
        key=key,
        time=time,
        texts=texts,
        entities=entity_choices(found, taken),
        labels=labels,
        notes=tuple(notes),
    )


def _null_words(columns: Sequence[SampledColumn], label: str) -> list[str]:
    """What to say of words that are text in a column, no label, and stand for null in others, or nearly everywhere."""
    usual = {"NULL", "null", "NaN", "nan", "#N/A"}.union(*(column.null_values for column in columns))
    return [
        f"{text!r} is text in column {column.name}; --null {column.name}={text} makes it null."
        for column in columns
        for text in column.null_words
        if column.kind == "string" and text in usual and column.name != label
    ]


def described_later(inferred: Inferred, path: str, headers: Mapping[str, str]) -> tuple[SampledColumn, ...]:
    """Columns that the sample lacks, by name with their headers, judged by the first rows that have any of them."""
    headers = {name: header for name, header in headers.items() if len(name) <= LONGEST_NAME}
    if not headers:
        return ()
    options = {"columns": dict.fromkeys(headers, "string"), "key": None, "time": None, "time_formats": {}}
    settings = TabularSettings.model_validate({**inferred.settings(path), **options, "null_values": ()})
    tables = [pa.schema([(name, pa.string()) for name in headers]).empty_table()]
    for file in find(path, Path("/")):
        with suppress(SourceError):  # has none of them
            for piece in READERS[inferred.format](file, settings, Rejects(), Tally()):
                rows = _texts(piece, file, settings)
                there = [pc.is_valid(column) for column in rows.columns]
                tables.append(rows.filter(functools.reduce(pc.or_, there)))
                if sum(table.num_rows for table in tables) >= ROWS:
                    break
    rows = pa.concat_tables(tables)
    return tuple(describe(name, header, rows[name].combine_chunks()) for name, header in headers.items())


def _rows(file: RawFile, reader: Reader, settings: TabularSettings, rejects: Rejects, most: int, size: int) -> pa.Table:
    """The first rows of a file as text, as many as there may be, or until they have so many bytes."""
    tables, held = [pa.schema([(name, pa.string()) for name in settings.columns]).empty_table()], 0
    for piece in reader(file, settings, rejects, Tally()):
        rows = _texts(piece, file, settings).slice(0, most - held)
        tables.append(
            pa.table(
                {
                    name: cut(values.combine_chunks())
                    for name, values in zip(rows.column_names, rows.columns, strict=True)
                }
            )
        )
        held, size = held + rows.num_rows, size - tables[-1].nbytes
        if held >= most or size <= 0:
            break
    return pa.concat_tables(tables)


def cut(texts: pa.Array) -> pa.Array:
    """Texts, the first `LONG` characters of longer ones."""
    if (pc.max(pc.binary_length(texts)).as_py() or 0) <= LONG:
        return texts
    return pc.utf8_slice_codeunits(texts, 0, LONG)


def _texts(piece: Piece, file: RawFile, settings: TabularSettings) -> pa.Table:
    """The columns of a piece as text."""
    given = {name: piece.column(name, file) for name in settings.columns}
    return pa.table(
        {
            name: pa.nulls(piece.rows, pa.string()) if values is None else as_text(values)
            for name, values in given.items()
        }
    )


def _decided(
    column: SampledColumn, files: Sequence[RawFile], settings: TabularSettings, reader: Reader
) -> SampledColumn:
    """A column; where its sample does not tell day from month, by what all rows say, up to the first that tells."""
    if column.format is None or column.format.other is None:
        return column
    order, alone = Order(), settings.model_copy(update={"columns": {column.name: "string"}})
    for file in files:
        with suppress(SourceError):  # has not the column, or cannot be read: reading all of it says so
            for piece in reader(file, alone, Rejects(), Tally()):
                values = piece.column(column.name, file)
                order.add(as_text(values) if values is not None else pa.nulls(0, pa.string()))
                if order.known:
                    return column.ordered(order)
    return column


def _headers(files: list[RawFile], kind: str, dialects: Dialects) -> tuple[dict[str, str], list[str], list[str]]:
    """Columns of all files, by the name they will have, as the files name them; and what to say of them.

    The third are the headers that all files themselves say to be text.

    Raises
    ------
    SourceError
        When there are none, or more than `MOST_COLUMNS`, or a file has none that another has.
    """
    headers: dict[str, str] = {}
    left_out: dict[str, None] = {}
    long: dict[str, None] = {}
    of_files: dict[str, set[str]] = {}
    as_text: dict[str, bool] = {}
    for file in files:
        try:
            said = _names(file, kind, dialects)
        except TooManyKeys:
            return _whole(dialects)
        for name, text in said.items():
            as_text[name] = as_text.get(name, True) and text
        names = [name for name in (*said, *file.hive) if name and len(plain(name)) <= LONGEST_NAME]
        long |= {name: None for name in said if len(plain(name)) > LONGEST_NAME}
        for header in names:
            if headers.setdefault(plain(header), header) != header:
                left_out[header] = None
        if names:
            of_files[file.name] = set(map(plain, names))
    if kind == "jsonl" and len(headers) > MOST_KEYS:
        return _whole(dialects)
    if len(headers) > MOST_COLUMNS:
        raise SourceError(
            f"The files have {len(headers):,} columns, and a project is proposed for {MOST_COLUMNS:,} at most; bring "
            "files with the columns that matter."
        )
    if not headers:
        for file in files:
            with Text(file, dialects.settings.get("encoding")) as begun:
                begun.fill(1)
                if begun.damage is not None:
                    raise SourceError(f"{file.name}: {begun.damage}; bring the file again, or correct its name.")
        what = f"{files[0].name} is" if len(files) == 1 else f"All {len(files)} files are"
        raise SourceError(f"{what} empty or without names of columns; name files with rows.")
    for name, columns in of_files.items():
        others = set[str]().union(*(theirs for other, theirs in of_files.items() if other != name))
        if others and not columns & others:
            raise SourceError(
                f"{name} has the columns {_some(columns)}, none of which another file has ({_some(others)}); "
                "name files of one kind, or make their delimiters alike."
            )
    notes = [
        f"Column {header!r} is left out: {headers[plain(header)]!r} has the same plain name; rename it in the files."
        for header in left_out
    ]
    notes += [
        f"The column {header[:40]!r}... is left out: its name has {len(header):,} characters, and a name of a column "
        f"has {LONGEST_NAME} at most; rename it in the files."
        for header in long
    ]
    return headers, notes, [header for header, text in as_text.items() if text]


def _whole(dialects: Dialects) -> tuple[dict[str, str], list[str], list[str]]:
    """One column for objects whose keys are too many to be columns, as `_headers` has them."""
    dialects.settings["whole"] = WHOLE
    note = (
        f"The objects have more than {MOST_KEYS} different keys, so each is kept whole, as JSON text in the column "
        f"{WHOLE} (source.whole); keys that you add to source.columns become columns beside it."
    )
    return {WHOLE: WHOLE}, [note], [WHOLE]


def _why_none(files: Sequence[RawFile], rejects: Rejects, kind: str) -> str:
    """That there are no rows, by the first line that is none."""
    first = next((reject for reject in rejects.kept if reject.kind == "line"), None)
    if first is None:
        return f"{files[0].name} has a header and no rows; name files with rows."
    if kind == "parquet":
        return f"No row of the files can be read: {first.file}, {first.reason}; write them in smaller parts, or anew."
    return (
        f"No line of the files is a row: {first.file}, line {first.line}, {first.reason}; --delimiter, --quote, "
        "--header and --skip say how they are written."
    )


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(repr(name[:40]) for name in found[:4]) + (" and others" if len(found) > 4 else "")


def _stated(file: RawFile) -> dict[str, Kind]:
    """The kinds that the types of a Parquet file state: those that no text of theirs could gainsay."""
    tests: dict[Kind, Callable[[pa.DataType], bool]] = {
        "time": pa.types.is_timestamp,
        "date": pa.types.is_date,
        "boolean": pa.types.is_boolean,
    }
    leaves = leaves_of(pq.read_schema(file.path), lambda _: False)
    return {header_of(path): kind for path, stated in leaves for kind, test in tests.items() if test(stated)}


def _names(file: RawFile, kind: str, dialects: Dialects) -> dict[str, bool]:
    """The headers of a file, and whether the file itself says that they are text."""
    if kind == "parquet":
        try:
            leaves = leaves_of(pq.read_schema(file.path), lambda _: False)
            return {header_of(path): _is_text(stated) for path, stated in leaves}
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise SourceError(f"{file.name} is not readable Parquet ({reason}); take it away.") from error
    if kind == "csv":
        return dict.fromkeys(dialects.names.get(file.name, []), False)
    with Text(file, dialects.settings.get("encoding")) as text:
        text.fill(HEAD)
        if records := dialects.settings.get("records"):
            return keys_of(each.raw for each in islice(elements(text, records), 1000))
        if spans_lines(text):
            return keys_of(islice((each.raw for each in documents(text)), 1000))
        while (first := first_end(text.buffer, 0)[1]) == len(text.buffer) <= LONGEST and not text.ended:
            text.fill(2 * len(text.buffer))
        return keys_of(islice(text.buffer[: max(first, HEAD)].splitlines(), 1000))


def _is_text(stated: pa.DataType) -> bool:
    stated = stated.value_type if pa.types.is_dictionary(stated) else stated
    return any(test(stated) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))
