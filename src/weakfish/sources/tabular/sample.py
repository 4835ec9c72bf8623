"""A bounded sample of files as text columns, the same whenever it is taken: the first rows of files spread over all.

`take` gives what `infer` judges; it reads through the readers that read the data later.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.errors import SourceError
from weakfish.sources.tabular.delimited import read_delimited
from weakfish.sources.tabular.files import DAMAGE, RawFile, find, format_of
from weakfish.sources.tabular.lines import read_lines
from weakfish.sources.tabular.parquet import read_parquet
from weakfish.sources.tabular.records import Records
from weakfish.sources.tabular.rejects import Rejects, Tally
from weakfish.sources.tabular.settings import Format, TabularSettings, plain
from weakfish.sources.tabular.text import Text
from weakfish.sources.tabular.types import as_text

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
            first = next((r for r in Records(text, delimiter or ",", '"').some(HEAD, None) if not r.blank), None)
            return [] if first is None else [name.decode("utf-8", "replace").strip() for name in first.fields]
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
    counts = [len(r.fields) for r in islice(Records(text, mark, '"').some(HEAD, 200), 200) if not r.blank]
    same = sum(count == counts[0] for count in counts) if counts and counts[0] > 1 else 0
    return same, counts[0] if counts else 0


def _is_utf8(content: bytes, *, cut: bool) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return cut and error.start >= len(content) - 3
    return True
