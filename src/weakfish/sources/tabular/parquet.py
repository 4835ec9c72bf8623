"""Parquet as pieces of columns, a bounded number of rows at a time; rows that cannot be read are rejects by row group.

Lines are rows here, counted from 1. Fields of structures are columns, as inner objects of JSON are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weakfish.errors import SourceError
from weakfish.sources.tabular.jsonl import MANY, Path, header_of
from weakfish.sources.tabular.pieces import Piece, Rejects, Tally, places_of
from weakfish.sources.tabular.raw_files import RawFile
from weakfish.sources.tabular.settings import TabularSettings

ROWS = 1 << 14
_BROKEN = (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError, NotImplementedError)


def read_parquet(file: RawFile, settings: TabularSettings, rejects: Rejects, tally: Tally) -> Iterator[Piece]:
    """Yield the rows of a Parquet file.

    Raises
    ------
    SourceError
        When its footer cannot be read, or it has none of the columns, or one of them twice.
    """
    try:
        parquet = pq.ParquetFile(
            file.path,
            page_checksum_verification=True,
            coerce_int96_timestamp_unit="us",  # as nanoseconds, those outside of 1678 to 2261 come back as others
        )
        groups = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
        leaves = leaves_of(parquet.schema_arrow, lambda header: settings.column_of(header) is not None)
        places = {header_of(path): path for path, _ in leaves}
    except _BROKEN as error:
        raise SourceError(
            f"{file.name} is not readable Parquet ({_reason(error)}); bring the file again, or take it away."
        ) from error
    with parquet:
        headers = list(places)
        found = places_of(headers, file, settings, rejects, file.name)
        wanted = {column: places[headers[place]] for column, place in found.items()}
        if not groups:
            rejects.note(file.name, "is empty: it has no rows")
        first = 1
        for number, rows in enumerate(groups):
            tally.lines += max(rows, 0)
            yield from _group(parquet, number, (first, rows), wanted, (file, rejects, tally))
            first += rows


def _group(
    parquet: pq.ParquetFile,
    number: int,
    place: tuple[int, int],
    wanted: dict[str, Path],
    told: tuple[RawFile, Rejects, Tally],
) -> Iterator[Piece]:
    """The rows of a row group; what is lost of it is one reject that spans the rows."""
    (first, rows), (file, rejects, tally) = place, told
    done = 0
    reason = "ends before all its rows are read"
    batches = parquet.iter_batches(
        ROWS, row_groups=[number], columns=list(map(header_of, wanted.values())), use_threads=True
    )
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
        start = first + done
        done += batch.num_rows
        tally.rows += batch.num_rows
        yield Piece(columns, batch.num_rows, range(start, first + done))
    if done < rows:
        rejects.line(file.name, first + done, f"row group {number + 1} {reason}", "", rows - done, rows - done)
        tally.rejected += rows - done


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


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".")[:200] if text else type(error).__name__
