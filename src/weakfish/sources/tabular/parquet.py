"""Parquet as pieces of columns, bounded in rows and bytes; rows that cannot be read are rejects by row group.

A few bytes of a file may stand for gigabytes of values: dictionary-encoded texts therefore stay so while they are read,
and their lengths say how many rows are a piece. Of other columns the footer says how many values and bytes they have,
and `parquet_pages` what is unpacked at once.

Lines are rows here, counted from 1. Fields of structures are columns, as inner objects of JSON are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.errors import SourceError
from weakfish.sources.tabular.jsonl import MANY, Path, header_of
from weakfish.sources.tabular.parquet_pages import too_large
from weakfish.sources.tabular.pieces import LONGEST, Bad, Piece, Rejects, Tally, places_of
from weakfish.sources.tabular.raw_files import RawFile
from weakfish.sources.tabular.settings import TabularSettings
from weakfish.sources.tabular.types import least_bytes, too_long

ROWS = 1 << 14
BYTES = 1 << 25
"""How many bytes of values are held at once, unless one row has more."""

_BROKEN = (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError, NotImplementedError)


_HOW: dict[str, Any] = {
    "page_checksum_verification": True,
    "coerce_int96_timestamp_unit": "us",  # as nanoseconds, those outside of 1678 to 2261 come back as others
}


def read_parquet(file: RawFile, settings: TabularSettings, rejects: Rejects, tally: Tally) -> Iterator[Piece]:
    """Yield the rows of a Parquet file.

    Raises
    ------
    SourceError
        When its footer cannot be read, or it has none of the columns, or one of them twice.
    """
    try:
        parquet = pq.ParquetFile(file.path, **_HOW)
        groups = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
        leaves = leaves_of(parquet.schema_arrow, lambda header: settings.column_of(header) is not None)
        places = {header_of(path): path for path, _ in leaves}
    except _BROKEN as error:
        raise _unreadable(file, error) from error
    headers = list(places)
    found = places_of(headers, file, settings, rejects, file.name)
    wanted = {column: places[headers[place]] for column, place in found.items()}
    texts = _of_dictionaries(parquet.metadata, set(map(header_of, wanted.values())))
    parquet.close()
    try:
        parquet = pq.ParquetFile(file.path, read_dictionary=sorted(texts), **_HOW)
    except _BROKEN as error:
        raise _unreadable(file, error) from error
    with parquet, file.path.open("rb") as raw:
        if not groups:
            rejects.note(file.name, "is empty: it has no rows")
        first = 1
        for number, rows in enumerate(groups):
            tally.lines += max(rows, 0)
            group = parquet.metadata.row_group(number)
            if rows > 0 and (reason := too_large(raw.fileno(), group, parquet.schema, _places(group, wanted))):
                rejects.line(file.name, first, f"row group {number + 1} {reason}", "", rows, rows)
                tally.rejected += rows
            else:
                yield from _group(parquet, number, (first, rows), wanted, (file, rejects, tally, settings))
            first += rows


def _group(
    parquet: pq.ParquetFile,
    number: int,
    place: tuple[int, int],
    wanted: dict[str, Path],
    told: tuple[RawFile, Rejects, Tally, TabularSettings],
) -> Iterator[Piece]:
    """The rows of a row group; what is lost of it is one reject that spans the rows."""
    (first, rows), (file, rejects, tally, settings) = place, told
    done = 0
    reason = "ends before all its rows are read"
    names = list(map(header_of, wanted.values()))
    most = _rows_at_once(parquet.metadata.row_group(number), set(names))
    batches = parquet.iter_batches(most, row_groups=[number], columns=names, use_threads=True)
    while done < rows:
        try:
            batch = next(batches)
            batch.validate(full=True)
            columns = {column: _values(batch, path) for column, path in wanted.items()}
        except StopIteration:
            break
        except _BROKEN as error:
            reason = f"cannot be read ({_reason(error)})"
            break
        if done + batch.num_rows > rows:
            reason = f"holds more rows than the {rows} that the file states"
            break
        longest, bad = settings.max_value_bytes, list[Bad]()
        columns = {column: _bounded(column, values, longest, bad) for column, values in columns.items()}
        for begin, count in _slices(columns.values(), batch.num_rows, BYTES):
            start = first + done
            done += count
            tally.rows += count
            part = {column: _decoded(values.slice(begin, count)) for column, values in columns.items()}
            here = [replace(one, row=one.row - begin) for one in bad if begin <= one.row < begin + count]
            yield Piece(part, count, range(start, first + done), tuple(here))
    if done < rows:
        rejects.line(file.name, first + done, f"row group {number + 1} {reason}", "", rows - done, rows - done)
        tally.rejected += rows - done


def _slices(columns: Iterable[pa.Array], rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Where slices of some rows begin, and how many rows they have: of one row, or of at most so many bytes.

    Only dictionary-encoded values count, with their size when they are `_decoded`.
    """
    sizes = [least_bytes(values) for values in columns if pa.types.is_dictionary(values.type)]
    ends = np.cumsum(sum((of for of in sizes if of is not None), np.zeros(rows, np.int64)))
    begin = 0
    while begin < rows:
        before = ends[begin - 1] if begin else 0
        end = max(int(np.searchsorted(ends, before + most, "right")), begin + 1)
        yield begin, end - begin
        begin = end


def _decoded(values: pa.Array) -> pa.Array:
    """Values as they are, not dictionary-encoded."""
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _bounded(column: str, values: pa.Array, longest: int, bad: list[Bad]) -> pa.Array:
    """A column without values that are longer than one may be, before anything copies them; ``bad`` gets them."""
    sizes = least_bytes(values)
    wrong = sizes > longest if sizes is not None else np.zeros(0, np.bool_)
    if not wrong.any():
        return values
    for row in map(int, np.flatnonzero(wrong)):
        bad.append(Bad(row, column, too_long(longest), _beginning(values[row])))
    return values.take(pa.array(np.arange(len(values)), mask=wrong))


def _beginning(value: pa.Scalar) -> bytes:
    """What a text or bytes begin with; nothing of lists and structures."""
    value = value.value if pa.types.is_dictionary(value.type) else value
    return bytes(memoryview(value.as_buffer())[:1000]) if hasattr(value, "as_buffer") else b""


def _places(group: pq.RowGroupMetaData, wanted: dict[str, Path]) -> list[int]:
    """The places of all that is stored of the columns."""
    names = set(map(header_of, wanted.values()))
    paths = [group.column(place).path_in_schema for place in range(group.num_columns)]
    return [place for place, path in enumerate(paths) if is_of(path, names)]


def is_of(path: str, names: set[str]) -> bool:
    """Whether what is stored under a path belongs to one of the columns."""
    return any(path == name or path.startswith(f"{name}.") for name in names)


def _of_dictionaries(metadata: pq.FileMetaData, names: set[str]) -> set[str]:
    """The columns of texts or bytes, outside of lists, that are dictionary-encoded in some row group."""
    flat = {place for place in range(metadata.num_columns) if metadata.schema.column(place).max_repetition_level == 0}
    chunks = (metadata.row_group(group).column(place) for group in range(metadata.num_row_groups) for place in flat)
    return {
        chunk.path_in_schema
        for chunk in chunks
        if chunk.physical_type == "BYTE_ARRAY" and chunk.path_in_schema in names and _is_coded(chunk)
    }


def _is_coded(chunk: pq.ColumnChunkMetaData) -> bool:
    return any("DICTIONARY" in encoding for encoding in chunk.encodings)


def _rows_at_once(group: pq.RowGroupMetaData, names: set[str]) -> int:
    """How many rows of a row group are read at once, by the bytes that they have on average.

    A text that may be written as one with a prefix of another, or is a place in the dictionary of a list, may have as
    many bytes as the whole column: there it is as many as all such texts may have.
    """
    rows, size = max(group.num_rows, 1), 0.0
    for place in range(group.num_columns):
        chunk = group.column(place)
        path = chunk.path_in_schema
        if not is_of(path, names):
            continue
        values = max(chunk.num_values, 0) / rows
        listed = path not in names
        if chunk.physical_type == "BYTE_ARRAY" and (
            "DELTA_BYTE_ARRAY" in chunk.encodings or (listed and _is_coded(chunk))
        ):
            size += values * min(chunk.total_uncompressed_size, LONGEST)
        elif chunk.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"):
            size += chunk.total_uncompressed_size / rows
        size += values * (64 if listed else 16)  # those of lists become objects of Python
    return int(min(max(BYTES / max(size, 1), 1), ROWS))


def leaves_of(
    fields: Iterable[pa.Field], is_column: Callable[[str], bool], above: Path = ()
) -> Iterator[tuple[Path, pa.DataType]]:
    """Paths and types of columns; a structure is one only where it is asked for as a whole, or has `MANY` fields."""
    for field in fields:
        path = (*above, field.name)
        whole = not pa.types.is_struct(field.type) or field.type.num_fields > MANY or is_column(header_of(path))
        if whole:
            yield path, field.type
        else:
            yield from leaves_of(field.type, is_column, path)


def _values(batch: pa.RecordBatch, path: Path) -> pa.Array:
    values = batch.column(path[0])
    for name in path[1:]:
        values = pc.struct_field(values, name)
    return values


def _unreadable(file: RawFile, error: BaseException) -> SourceError:
    return SourceError(
        f"{file.name} is not readable Parquet ({_reason(error)}); bring the file again, or take it away."
    )


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".")[:200] if text else type(error).__name__
