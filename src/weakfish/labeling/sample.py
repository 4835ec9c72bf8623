"""A sample of the events, spread evenly over them, the same each time: columns come in, rows and their places leave.

Of few events all are read. Of many, each row group gives its share out of its first rows, so that a sample costs about
the same whether there are a million events or a hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.contracts.tables import open_partition, partitions
from weakfish.errors import TableError
from weakfish.project.paths import Project

SPAN = 4
"""Rows that are read for each row of the sample, at most."""

BATCH = 8_192
"""Rows that are read at a time."""

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Some of the events, in their order.

    Attributes
    ----------
    rows : pyarrow.Table
        The columns asked for.
    places : dict of numpy.ndarray, int64
        By partition: which rows of it are in the sample; only partitions that have some.
    of : int
        How many events there are.
    """

    rows: pa.Table
    places: dict[str, Places]
    of: int


@dataclass(frozen=True)
class Share:
    """What the sample takes from a row group; ``first`` is the number of the group's first row in its partition."""

    partition: str
    file: Path
    group: int
    first: int
    places: Places


def take_sample(project: Project, columns: Sequence[str], rows: int) -> Sample:
    """``rows`` of the events with ``columns``, or all events where there are fewer.

    Raises
    ------
    TableError
        When there are no events, or a file is cut off.
    """
    files = partitions(project.table("events"))
    schema = open_partition(next(iter(files.values()))).schema_arrow.remove_metadata()
    of, shares = _shares(files, rows)
    parts: list[pa.Table] = []
    places: dict[str, list[Places]] = {}
    for share in shares:
        parts += _read(share, columns)
        places.setdefault(share.partition, []).append(share.first + share.places)
    empty = pa.schema([schema.field(name) for name in columns]).empty_table()
    taken = pa.concat_tables([empty, *(part.replace_schema_metadata(None) for part in parts)])
    return Sample(taken, {name: np.concatenate(each) for name, each in places.items()}, of)


def evenly(of: int, number: int) -> Places:
    """``number`` of the places 0 to ``of`` - 1, evenly spread; all where there are no more."""
    number = min(of, number)
    steps: Places = (2 * np.arange(number, dtype=np.int64) + 1) * of // max(1, 2 * number)
    return steps


def _shares(files: dict[str, Path], rows: int) -> tuple[int, list[Share]]:
    """How many events there are, and what each row group gives."""
    groups = []
    for partition, file in files.items():
        metadata = open_partition(file).metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        firsts = accumulate(sizes, initial=0)
        groups += [
            (partition, file, group, first, size)
            for group, (first, size) in enumerate(zip(firsts, sizes, strict=False))
        ]
    of = sum(size for *_, size in groups)
    chosen, before, shares = evenly(of, rows), 0, []
    for partition, file, group, first, size in groups:
        places = chosen[(chosen >= before) & (chosen < before + size)] - before
        if of > SPAN * rows:
            places = evenly(min(size, SPAN * len(places)), len(places))
        if len(places):
            shares.append(Share(partition, file, group, first, places))
        before += size
    return of, shares


def _read(share: Share, columns: Sequence[str]) -> list[pa.Table]:
    """The rows of a share, and no more of the file than up to its last one."""
    parts, first, last = [], 0, int(share.places[-1])
    try:
        for batch in open_partition(share.file).iter_batches(min(BATCH, last + 1), [share.group], list(columns)):
            wanted = share.places[(share.places >= first) & (share.places < first + batch.num_rows)] - first
            parts.append(pa.Table.from_batches([batch]).take(pa.array(wanted)))
            first += batch.num_rows
            if first > last:
                break
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise TableError(
            f"{share.file} is not readable Parquet ({reason}); run `dvc repro`, which makes it."
        ) from error
    return parts
