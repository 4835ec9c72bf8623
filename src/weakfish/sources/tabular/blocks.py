"""Blocks of CSV that hold whole records: whether Arrow's reader takes them as `delimited` does, and their columns."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

_MOST_REPEATS = 900  # RE2 repeats no more than a thousand times


def is_clean(block: bytes, delimiter: str, quote: str, width: int) -> bool:
    """Whether a block is nothing but records of the right number of fields, as `delimited` reads them."""
    if width > _MOST_REPEATS:
        return False
    d, q = re.escape(delimiter), re.escape(quote)
    one = f"(?:{q}(?:[^{q}]|{q}{q})*{q}|[^{q}{d}\\r\\n][^{d}\\r\\n]*|)"
    record = f"{one}(?:{d}{one}){{{width - 1}}}"
    pattern = f"\\A(?:(?:{record})?(?:\\r\\n|\\n|\\r))*(?:{record})?\\z"
    try:
        return bool(pc.match_substring_regex(pa.scalar(block, pa.large_binary()), pattern).as_py())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False


def parse(
    block: bytes, delimiter: str, quote: str | None, shape: tuple[int, dict[str, int]]
) -> dict[str, pa.ChunkedArray]:
    """The columns of a clean block as text; ``shape`` is how many fields its records have and which are wanted."""
    width, places = shape
    names = [f"f{place}" for place in range(width)]
    wanted = {names[place]: column for column, place in places.items()}
    if not block.strip(b"\r\n"):
        return {column: pa.chunked_array([], pa.string()) for column in places}
    read = pacsv.ReadOptions(column_names=names, block_size=len(block) + 1)
    parse = pacsv.ParseOptions(delimiter=delimiter, quote_char=quote or False, newlines_in_values=quote is not None)
    convert = pacsv.ConvertOptions(
        column_types={name: pa.string() for name in names},
        include_columns=list(wanted),
        strings_can_be_null=False,
        quoted_strings_can_be_null=False,
    )
    table = pacsv.read_csv(pa.BufferReader(block), read, parse, convert)
    return {column: table[name] for name, column in wanted.items()}


def is_utf8(block: bytes) -> bool:
    """Whether a block is UTF-8 throughout."""
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
