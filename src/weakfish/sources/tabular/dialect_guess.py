"""How files of text seem to be written, from their first records: what `init` puts into the settings of a source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from weakfish.errors import SourceError
from weakfish.sources.tabular.charsets import guess
from weakfish.sources.tabular.dialect import DELIMITERS, SAMPLE, lead, sample
from weakfish.sources.tabular.escapes import ESCAPE, is_escaped
from weakfish.sources.tabular.grammar import Grammar
from weakfish.sources.tabular.json_documents import key_of_list
from weakfish.sources.tabular.raw_files import DAMAGE, READ, RawFile, Text
from weakfish.sources.tabular.settings import plain

FIRST = "first"
"""As ``header``: the first line holds the names, whatever it looks like."""

NONE = "none"
"""As ``header``: there is no line of names."""

_VALUE = re.compile(rb"\s*[-+$]?\d[\d.,:/%+ TZ-]*+\s*+")
_COLUMNS = 0.9
"""The share of a column's values that have to be alike for its first one to be judged by them."""

STRANGE = 2
"""Fewer quotes that are none are damage."""

Fields = list[bytes]


@dataclass
class Dialects:
    """``settings`` are those of the source that are none of its defaults, ``names`` those of each file's fields."""

    settings: dict[str, Any] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Dialect:
    """Of one file; ``header`` are names where it has no line of them, ``skip`` lines stand before a likelier one."""

    delimiter: str
    quote: str | None
    escape: str | None
    names: tuple[str, ...]
    header: tuple[str, ...] | None
    skip: int | None = None


def guess_dialects(files: Sequence[RawFile], kind: str, said: Mapping[str, Any]) -> Dialects:
    """Look at the first records of each file; ``said`` are settings that a person has stated, by name.

    Raises
    ------
    SourceError
        When a file cannot be read, or has no names of columns where others have them.
    """
    found = Dialects(dict(said))
    found.settings.pop("header", None)
    encodings: dict[str, str | None] = {}
    telling: list[bytes] = []
    dialects: dict[str, _Dialect] = {}
    lists: dict[str, str] = {}
    for file in files if kind != "parquet" else ():
        try:
            with Text(file, said.get("encoding")) as text:
                text.fill(READ)
                if text.encoding is not None:
                    other = text.evidence is not None and text.evidence.wrong > text.evidence.right
                    encodings[file.name] = text.encoding if other else None
                    telling += text.evidence.telling if other and text.evidence else ()
                if kind == "jsonl" and "records" not in said and (key := key_of_list(text, READ)):
                    lists[file.name] = key
            dialect = _dialect(file, said) if kind == "csv" else None
        except DAMAGE as error:
            raise SourceError(f"{file.name} cannot be read ({error}); take it away.") from error
        if dialect is not None:
            dialects[file.name] = dialect
            found.names[file.name] = list(dialect.names)
            if dialect.skip is not None:
                taken = ", ".join(repr(name[:40]) for name in dialect.names[:4])
                found.notes.append(
                    f"{file.name}: line {dialect.skip + 1} seems to hold the names of columns rather than {taken}; "
                    f"--skip {dialect.skip} takes it."
                )
    _settle_encoding(found, encodings, telling)
    if dialects:
        _settle(found, dialects)
    if lists and len(lists) == len(files):
        _settle_records(found, lists)
    return found


def _settle_records(found: Dialects, lists: Mapping[str, str]) -> None:
    """Say of files that are one object each which key holds rows; a single one is one row only."""
    (name, key), *others = lists.items()
    if not others:
        raise SourceError(
            f"{name} is one object, in which the key {key!r} holds a list of objects; --records {key} reads these as "
            "rows."
        )
    found.notes.append(
        f"Each file is one object and becomes one row, although the key {key!r} of {name} holds a list of objects; "
        f"--records {key} reads these as rows."
    )


def _settle(found: Dialects, dialects: Mapping[str, _Dialect]) -> None:
    """Settings for all files: those that may differ are left to each file."""
    delimiters = {each.delimiter for each in dialects.values()}
    if len(delimiters) == 1:
        found.settings["delimiter"] = delimiters.pop()
    for name, default in (("quote", '"'), ("escape", None)):
        values = Counter(getattr(each, name) for each in dialects.values())
        if name not in found.settings and (most := values.most_common(1)[0][0]) != default:
            found.settings[name] = most
    without = [name for name, each in dialects.items() if each.header is not None]
    if not without:
        return
    named = [name for name in dialects if name not in without]
    if named:
        raise SourceError(
            f"{without[0]} begins with values, and {named[0]} with the names of its columns; give all files a line of "
            "names, or take them all as having one with --header first."
        )
    headers = {dialects[name].header for name in without}
    if len(headers) > 1:
        raise SourceError(
            "The files have no line of names, and not the same number of columns; name files of one kind."
        )
    found.settings["header"] = headers.pop()
    if not dialects[without[0]].names[0].startswith("column_"):
        return
    found.notes.append(
        f"{without[0]} begins with values and not with names, so its columns are named by number; --header A,B,... "
        "names them, and --header first takes the first line as names."
    )


def _settle_encoding(found: Dialects, encodings: Mapping[str, str | None], telling: Sequence[bytes]) -> None:
    """The encoding of files of which none is UTF-8, and what is to say of those that are not."""
    others = {name: encoding for name, encoding in encodings.items() if encoding is not None}
    if not others:
        return
    if len(others) == len(encodings):
        encoding = found.settings["encoding"] = guess(telling)
        found.notes.append(f"The files are not UTF-8; {encoding} is a guess: name another with --encoding.")
        return
    named = ", ".join(f"{name} as {encoding}" for name, encoding in list(others.items())[:3])
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    found.notes.append(
        f"Not UTF-8, as other files are, and read by a guess: {named}{more}; --encoding names one for all that are not "
        "UTF-8."
    )


def _dialect(file: RawFile, said: Mapping[str, Any]) -> _Dialect | None:
    """How a file is written; None where it has no records."""
    escape = said.get("escape")
    while True:
        with Text(file, said.get("encoding"), escaped=escape is not None) as text:
            _, stated = lead(text, said.get("skip", 0))
            if not text.buffer.strip():
                return None
            stated = stated or said.get("delimiter")
            delimiter = stated or max(DELIMITERS, key=lambda mark: _fits(text, mark))
            if escape is None and "escape" not in said and is_escaped(text.buffer[:READ], delimiter):
                escape = ESCAPE
                continue
            quote = said["quote"] if "quote" in said else _quote(text, delimiter)
            grammar = Grammar(delimiter, quote, escaped=escape is not None)
            rows = list(sample(text, grammar))
            if not rows:
                return None
            names, header = _names(file, rows, said.get("header"))
            skip = None if header or "header" in said else _likelier(text, grammar, names)
        return _Dialect(delimiter, quote, escape, names, header, skip)


def _likelier(text: Text, grammar: Grammar, names: tuple[str, ...]) -> int | None:
    """How many lines stand before the record behind that of the names, where that one looks like the names of all rows.

    Its fields differ, are of no row, and are no values in columns of values.
    """
    records, lines = [], text.line - 1
    for record in islice(grammar.records(text, READ), SAMPLE):
        if record.raw and record.problem is None:
            records.append((lines, grammar.fields(record.raw)))
        lines += record.lines
    place = next((place for place, (_, fields) in enumerate(records) if _texts(fields) == names), len(records))
    if len(records) < place + 4:
        return None
    before, row = records[place + 1]
    body = [fields for _, fields in records[place + 2 :] if len(fields) == len(row)]
    if not all(row) or len(set(row)) < len(row) or not body:
        return None
    columns = list(zip(*body, strict=True))
    values = [_values(below) and not _VALUE.fullmatch(value) for value, below in zip(row, columns, strict=True)]
    wrong = [_values(below) and _VALUE.fullmatch(value) is not None for value, below in zip(row, columns, strict=True)]
    again = any(value in below for value, below in zip(row, columns, strict=True))
    return before if any(values) and not any(wrong) and not again else None


def _fits(text: Text, mark: str) -> tuple[int, bool, int]:
    """How many records have the number of fields that most have; commas that are all decimal are rather those."""
    rows = list(sample(text, Grammar(mark, '"')))
    usual, often = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
    decimal = mark == "," and re.search(rb",(?!\d)|(?<!\d),", b"\n".join(map(mark.encode().join, rows[1:]))) is None
    return (often if usual > 1 else 0, not decimal, usual)


def _quote(text: Text, delimiter: str) -> str | None:
    """A quote, unless several stand where none can, and hardly any are needed or around all values of a column."""
    grammar = Grammar(delimiter, '"')
    records = list(islice(grammar.records(text, READ), SAMPLE))
    whole = [grammar.written(record.raw) for record in records if record.problem is None and record.raw]
    grammar.width = Counter(map(len, whole)).most_common(1)[0][0] if whole else None
    strange = sum(record.problem is not None or grammar.swallows(record.raw) for record in records)
    if strange < STRANGE:
        return '"'
    quoted = [(place, value) for row in whole for place, value in enumerate(row) if value.startswith(b'"')]
    need = re.compile(rb'[\r\n]|""|' + re.escape(delimiter.encode()))
    needed = sum(need.search(value[1:-1]) is not None for _, value in quoted)
    around = max(Counter(place for place, _ in quoted).values(), default=0)
    return '"' if needed > strange or around >= _COLUMNS * len(whole) else None


def _names(
    file: RawFile, rows: Sequence[Fields], said: str | Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The names of a file's fields, and the same again where no line of it has them."""
    usual = Counter(map(len, rows)).most_common(1)[0][0]
    if said == FIRST:
        return _texts(rows[0]), None
    if said == NONE:
        header = tuple(f"column_{number + 1}" for number in range(usual))
        return header, header
    if said is not None:
        if len(said) != usual:
            raise SourceError(f"--header has {len(said)} names, and rows of {file.name} {usual} fields; name them all.")
        return tuple(said), tuple(said)
    first = next((place for place, row in enumerate(rows) if len(row) == usual and not _is_title(row)), None)
    if first is None:
        return _texts(rows[0]), None
    body = [row for row in rows[first + 1 :] if len(row) == usual]
    above = rows[first - 1] if first else []
    if not _are_values(rows[first], body):
        return _texts(rows[first]), None
    if len(above) == usual and above[0].startswith(b"#"):
        return _texts(above), None
    if len(above) == usual - 1 > 0 and not _are_values(above, body):
        if any(row[-1] for row in body):
            names = ",".join(("row", *map(plain, _texts(above))))
            raise SourceError(
                f"{file.name} has {usual - 1} names for {usual} fields; name all of them, such as by --skip {first} "
                f"--header {names}."
            )
        return _texts(above), None
    header = tuple(f"column_{number + 1}" for number in range(usual))
    return header, header


def _is_title(row: Fields) -> bool:
    """Whether a row is a comment, or a title with the delimiters of a row."""
    return row[0].startswith(b"#") or (len(row) > 1 and sum(map(bool, row)) <= 1)


def _texts(fields: Fields) -> tuple[str, ...]:
    return tuple(field.decode("utf-8", "replace").strip() for field in fields)


def _are_values(row: Fields, body: Sequence[Fields]) -> bool:
    """Whether a row is one of values, as those below are, and not of names."""
    signs = []
    for value, below in zip(row, zip(*body, strict=True), strict=False):
        if _values(below):
            signs.append(_VALUE.fullmatch(value) is not None if value.strip() else None)
    if False in signs or row in body:
        return False
    columns = list(zip(*body, strict=True))
    return True in signs or any(value.strip() and value in below for value, below in zip(row, columns, strict=False))


def _values(fields: Sequence[bytes]) -> bool:
    """Whether nearly all fields of a column that are not empty are numbers, times and the like."""
    known = [each for each in fields if each.strip()]
    return bool(known) and sum(_VALUE.fullmatch(each) is not None for each in known) >= _COLUMNS * len(known)
