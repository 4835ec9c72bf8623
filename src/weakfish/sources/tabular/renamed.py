"""Which column of a file seems to be one that the file lacks, under a new name: by its name, and by what it holds."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from weakfish.sources.tabular.pieces import Reader, Rejects, Tally
from weakfish.sources.tabular.raw_files import RawFile
from weakfish.sources.tabular.settings import TabularSettings, plain
from weakfish.sources.tabular.types import convert

LIKELY = 0.4
"""The least mean of both likenesses, each from 0 to 1, at which a column is named."""

CONVERTED = 0.9
"""The least share of values that have to be of the column's type."""

TIMES = 0.8
"""How alike the values of two columns of times are, whenever these lie: few columns hold times."""

WITHIN = 0.9
"""How alike names are of which one has all parts of the other: ``amount`` and ``amount_kzt``."""


def likely(
    column: str, there: Sequence[str], file: RawFile, other: RawFile | None, reader: Reader, settings: TabularSettings
) -> str | None:
    """The header among ``there`` that seems to be ``column`` renamed; None where none does.

    Parameters
    ----------
    there
        Headers of ``file`` that are no columns of the settings.
    other
        A file that has the column; None where there is none, so that names alone decide.
    """
    known = _values(column, column, other, reader, settings) if other else None
    best, found = LIKELY, None
    for header in there:
        values = _values(header, column, file, reader, settings)
        if values is None:
            continue
        alike = (_of_names(plain(header), column) + _of_values(values, known)) / 2
        if alike >= best:
            best, found = alike, header
    return found


def _values(header: str, column: str, file: RawFile, reader: Reader, settings: TabularSettings) -> pa.Array | None:
    """The first values of a header, in the type of ``column``; None where there are none, or most are of no such."""
    alone = settings.model_copy(update={"columns": {header: "string"}, "key": None, "time": None, "gold": {}})
    piece = next((piece for piece in reader(file, alone, Rejects(), Tally()) if piece.rows), None)
    texts = piece.column(header, file) if piece else None
    if texts is None:
        return None
    found = convert(texts, settings.columns[column], settings.conversion(column))
    given, good = (len(of) - of.null_count for of in (found.texts, found.values))
    return found.values.drop_null() if good and good >= CONVERTED * given else None


def _of_names(one: str, other: str) -> float:
    parts = [set(name.split("_")) for name in (one, other)]
    within = WITHIN if parts[0] < parts[1] or parts[1] < parts[0] else 0.0
    return max(within, difflib.SequenceMatcher(None, one, other).ratio())


def _of_values(values: pa.Array, known: pa.Array | None) -> float:
    """The share of values that occur among the known ones, or lie between all but the extreme ones of these."""
    if known is None or not len(known):
        return 0.0
    if pa.types.is_string(values.type) or pa.types.is_boolean(values.type):
        return _share(pc.is_in(values, known))
    if pa.types.is_temporal(values.type):
        return TIMES
    low, high = pc.quantile(known, [0.01, 0.99]).to_pylist()
    return _share(pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high)))


def _share(of: pa.Array) -> float:
    return float(pc.mean(of.cast(pa.int8())).as_py() or 0.0)
