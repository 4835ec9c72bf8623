"""How a file of delimited text begins: what delimits its fields, which line is its header, how wide its rows are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from weakfish.errors import SourceError
from weakfish.sources.tabular import pieces as sizes
from weakfish.sources.tabular.grammar import CsvRecord, Grammar
from weakfish.sources.tabular.raw_files import READ, RawFile, Text
from weakfish.sources.tabular.settings import TabularSettings

DELIMITERS = (",", ";", "\t", "|")

LOOK = 20
"""The records among which the header is."""

SAMPLE = 200
"""The records that tell how the others are."""

_SEP = re.compile(rb"\"?sep=([^\r\n\"])\"?(?:\r\n|\n|\r|\Z)", re.IGNORECASE)


@dataclass(frozen=True)
class Opening:
    """What stands before the rows: ``names`` are those of their fields, as many as rows have; None in an empty file.

    ``header`` and ``blank`` count its lines, ``line`` is that of the names, ``notes`` say what a person should know.
    """

    grammar: Grammar
    names: list[str] | None
    line: int
    header: int
    blank: int
    notes: tuple[str, ...] = ()


def open_rows(text: Text, file: RawFile, settings: TabularSettings) -> Opening:
    """Read what stands before the rows of a file.

    The header is the first line that has half of the columns, or else the line among the first that has most of them.
    Where the stated delimiter finds none, the others are tried.

    Raises
    ------
    SourceError
        When there is a line that cannot be the header.
    """
    lines, stated = lead(text, settings.skip)
    escaped = settings.escape is not None
    usual = stated or settings.delimiter or ("\t" if file.suffix == ".tsv" else ",")
    if settings.header is not None:
        grammar = Grammar(usual, settings.quote, escaped=escaped)
        return _with_width(text, grammar, list(settings.header), (lines + 1, lines, 0), [])
    notes = []
    for mark in (usual, *(mark for mark in DELIMITERS if mark != usual and stated is None and mark != settings.quote)):
        grammar = Grammar(mark, settings.quote, escaped=escaped)
        found = _find(text, grammar, file, settings)
        if found is not None:
            if mark != usual and settings.delimiter is not None:
                notes.append(f"is delimited by {mark!r} and is read so, although source.delimiter is {usual!r}")
            break
    else:
        grammar = Grammar(usual, settings.quote, escaped=escaped)
        found = next((place for place, record in enumerate(grammar.records(text, sizes.LONGEST)) if record.raw), None)
    records = list(islice(grammar.records(text, sizes.LONGEST), None if found is None else found + 1))
    before = sum(record.lines for record in records[:-1] if record.raw)
    blank = sum(record.lines for record in records if not record.raw)
    line = text.line + sum(record.lines for record in records[:-1])
    if found is None:
        text.take(records[-1].end if records else 0, blank)
        return Opening(grammar, None, line, lines, blank)
    names = _names(records[-1], grammar, f"{file.name}, line {line}", text)
    text.take(records[-1].end, sum(record.lines for record in records))
    if before:
        notes.append(f"has its header in line {line}; what stands before it is left out")
    return _with_width(text, grammar, names, (line, lines + before + records[-1].lines, blank), notes)


def lead(text: Text, skip: int) -> tuple[int, str | None]:
    """Skip lines, and one such as ``sep=;``: how many they are, and the delimiter that the last states."""
    text.fill(READ)
    lines = 0
    while lines < skip and text.buffer:
        text.skip_line(sizes.BLOCK)
        text.fill(READ)
        lines += 1
    found = _SEP.match(text.buffer)
    if found is None:
        return lines, None
    text.take(found.end(), 1)
    text.fill(READ)
    return lines + 1, found[1].decode("latin-1")


def _find(text: Text, grammar: Grammar, file: RawFile, settings: TabularSettings) -> int | None:
    """The place of the header among the records."""
    wanted = {name for name in settings.columns if name not in file.hive} or set(settings.columns)
    best: tuple[int, int] = (0, 0)
    for place, record in islice(enumerate(grammar.records(text, READ)), 2 * LOOK):
        if record.problem is not None or not record.raw:
            continue
        names = [field.decode("utf-8", "replace").strip() for field in grammar.fields(record.raw)]
        hits = len({settings.column_of(name) for name in names if name} & wanted)
        if 2 * hits >= len(wanted):
            return place
        best = max(best, (hits, -place))
    return -best[1] if best[0] else None


def _names(record: CsvRecord, grammar: Grammar, where: str, text: Text) -> list[str]:
    if record.problem is not None:
        raise SourceError(f"{where}: the header {record.problem}; correct it there.")
    try:
        return [name.decode("utf-8").strip() for name in grammar.fields(record.raw)]
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{where}: the header {text.not_text}; name the encoding (--encoding of `weakfish init`, source.encoding "
            "in params.yaml)."
        ) from error


def _with_width(
    text: Text, grammar: Grammar, names: list[str], counts: tuple[int, int, int], notes: list[str]
) -> Opening:
    """Names for as many fields as most rows have: what rows have more, or less, has to be without name and value."""
    text.fill(READ)
    rows = list(sample(text, grammar))
    usual, often = Counter(map(len, rows)).most_common(1)[0] if rows else (len(names), 0)
    surplus = {name for row in rows if len(row) == usual for name in row[len(names) :]} | {*names[usual:]}
    if not surplus - {b"", ""} and often >= 2 and 2 * often > len(rows):
        names = [*names[:usual], *[""] * (usual - len(names))]
    unnamed = [place + 1 for place, name in enumerate(names) if not name]
    if any(row[place - 1].strip() for row in rows for place in unnamed if place <= len(row)):
        notes.append(f"has fields without a name ({', '.join(map(str, unnamed[:5]))}); they are left out")
    grammar.width = len(names)
    return Opening(grammar, names, *counts, tuple(notes))


def sample(text: Text, grammar: Grammar) -> Iterator[list[bytes]]:
    """The fields of the first records of what is held, but for blank lines and those that are no record."""
    found = (record for record in grammar.records(text, READ) if record.raw and record.problem is None)
    return (grammar.fields(record.raw) for record in islice(found, SAMPLE))
