"""A thousand malformed files: each is read or refused in a sentence, and every line of it is accounted for."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spoiling import packed, spoiled
from tabular import HEADER, accounted, line, put, source

from weakfish.errors import ParamsError, SourceError
from weakfish.sources.tabular import TabularSource, infer
from weakfish.sources.tabular import csv as delimited
from weakfish.sources.tabular import jsonl as lines
from weakfish.sources.tabular import pieces as piece

COUNT = {"csv": 400, "jsonl": 350, "parquet": 250}


def clean(kind: str, draw: random.Random) -> bytes:
    """A small file without faults."""
    rows = draw.randrange(0, 30)
    if kind == "csv":
        notes = ["a", '"b, ""c"""', '"d\ne"', 'it"s', ""]
        return HEADER + b"".join(line(number, note=draw.choice(notes)) for number in range(rows))
    records = [
        {"id": f"o{n}", "at": "2024-01-05T10:00:00Z", "amount": n / 7, "count": n, "ok": True} for n in range(rows)
    ]
    if kind == "jsonl":
        return "".join(json.dumps(record) + "\n" for record in records).encode()
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), stream, row_group_size=10, write_page_checksum=draw.random() < 0.5)
    return stream.getvalue()


@pytest.mark.parametrize("kind", COUNT)
def test_malformed_files_are_read_or_refused_and_every_line_is_accounted_for(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = refused = 0
    for seed in range(COUNT[kind]):
        draw = random.Random(f"{kind} {seed}")  # noqa: S311  the same files in every run
        name, content = packed(f"a.{kind}", spoiled(clean(kind, draw), draw), draw)
        put(tmp_path / str(seed), name, content)
        found = outcomes(tmp_path / str(seed), name, source(), monkeypatch)
        assert found[0] == found[1] == found[2], f"seed {seed}: what is read depends on where blocks begin"
        assert found[2] == found[3], f"seed {seed}: the fast and the exact way read differently"
        read, refused = read + (found[0] is not None), refused + (found[0] is None)
    assert read > COUNT[kind] / 8
    assert refused > 0


def test_csv_of_all_dialects_is_read_the_same_way_by_blocks_and_by_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(100):
        draw = random.Random(f"dialect {seed}")  # noqa: S311
        end, mark, quote = (
            draw.choice(["\n", "\r\n", "\r"]),
            draw.choice([",", ";", "\t"]),
            draw.choice(['"', "'", None]),
        )
        names, q = ["id", "note"][: draw.choice([1, 1, 2])], quote or ""
        values = ["a", "", f"{q}b{q}", f"{q}c{mark}{end}d{q}", f"{q}{q}", "é", f"x{q}y", "\ufeffz", " ", "f,g\th;i"]
        written = [
            mark.join(names),
            *(mark.join(draw.choice(values) for _ in names) for _ in range(draw.randrange(20))),
        ]
        content = "".join(line + end for line in written).encode()
        put(tmp_path / str(seed), "a.csv", spoiled(content, draw) if draw.random() < 0.7 else content)
        key, encoding = draw.choice([None, "id"]), draw.choice(["utf-8", "latin-1", None])
        columns = dict.fromkeys(names, "string")
        reader = source(columns=columns, key=key, time=None, delimiter=mark, quote=quote, encoding=encoding)
        found = outcomes(tmp_path / str(seed), "a.csv", reader, monkeypatch)
        assert all(each == found[0] for each in found), f"seed {seed}"
        content = (tmp_path / str(seed) / "a.csv").read_bytes()
        if encoding == "utf-8" and found[0] is not None and content.startswith((written[0] + end).encode()):
            as_read = [[row[name] for name in names] for row in found[0][0]]
            assert as_read == list(rows_of(content, mark.encode(), q.encode(), len(names))), f"seed {seed}"


def test_lone_quotes_and_escapes_are_read_the_same_way_by_blocks_and_by_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swallowed = 0
    for seed in range(150):
        draw = random.Random(f"lone {seed}")  # noqa: S311
        mark, escape = draw.choice([",", "\t"]), draw.choice([None, "\\"])
        odd = ['"lone', 'end"', '"a\n7' + mark + 'b"', "x, y", '\\"', "\\\n", "\\" + mark, "\\N", '""', "\\\\"]
        lines = [
            mark.join([str(n), *(draw.choice(odd) if draw.random() < 0.15 else "word" for _ in range(2))])
            for n in range(draw.randrange(60))
        ]
        put(tmp_path / str(seed), "a.csv", "\n".join([mark.join(["id", "note", "kind"]), *lines, ""]))
        columns = {"id": "string", "note": "string", "kind": "string"}
        reader = source(columns=columns, key="id", time=None, delimiter=mark, escape=escape)
        found = outcomes(tmp_path / str(seed), "a.csv", reader, monkeypatch)
        assert found[0] is not None
        assert all(each == found[0] for each in found), f"seed {seed}"
        swallowed += any("each of the lines is a row" in reject for reject in found[0][1])
    assert swallowed > 20


def rows_of(content: bytes, mark: bytes, quote: bytes, width: int) -> Iterator[list[str | None]]:
    """The rows of a CSV file below its header, as one reads them who knows nothing of blocks and parity."""
    place, header = 0, True
    while place < len(content):
        start, fields, whole = place, [], True
        while True:
            if quote and content.startswith(quote, place):
                end = place + 1
                while (end := content.find(quote, end)) >= 0 and content.startswith(quote, end + 1):
                    end += 2
                fields.append(content[place + 1 : end].replace(quote * 2, quote))
                place = end + 1 if end >= 0 else len(content)
                whole = end >= 0 and content[place : place + 1] in (b"", mark, b"\n", b"\r")
            else:
                end = re.compile(rb"[\r\n]|\Z|" + re.escape(mark)).search(content, place).start()
                fields.append(content[place:end])
                place = end
            if not whole or not content.startswith(mark, place):
                break
            place += 1
        blank = place == start
        place = re.compile(rb"\r\n|\n|\r|\Z").search(content, place if whole else start).end()
        if header and not blank:
            header = False
        elif whole and not blank and len(fields) == width:
            yield [value_of(field) for field in fields]


def value_of(field: bytes) -> str | None:
    try:
        return field.decode() if field and b"\0" not in field else None
    except UnicodeDecodeError:
        return None


def test_what_is_guessed_of_malformed_files_reads_them_or_is_refused_in_a_sentence(tmp_path: Path) -> None:
    read = 0
    for seed in range(150):
        draw = random.Random(f"guess {seed}")  # noqa: S311
        content = spoiled(clean("csv", draw).replace(b",", draw.choice([b",", b";", b"\t"])), draw)
        put(tmp_path / str(seed), "a.csv", content[draw.choice([0, 0, len(HEADER)]) :])
        found, said = None, "."
        try:
            found = infer(tmp_path / str(seed))
        except SourceError as error:
            said = str(error)
        assert re.fullmatch(r"[^\n]*\.", said), f"seed {seed}"
        if found is None:
            continue
        reader = TabularSource(found.settings("."))
        rows = sum(batch.num_rows for batch in reader.read(tmp_path / str(seed)))
        accounted(reader, tmp_path / str(seed), rows)
        read += 1
    assert read > 100


Outcome = tuple[list[dict[str, object]], list[str]] | None


def outcomes(folder: Path, name: str, reader: TabularSource, monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    """What a file comes to in small blocks, that begin anywhere, in such as it fits into, and the exact way alone."""
    found = []
    for size in (32, 768, 1 << 22):
        with monkeypatch.context() as patch:
            patch.setattr(piece, "BLOCK", size)
            found.append(outcome(folder, name, reader))
    with monkeypatch.context() as patch:  # no block is fit for Arrow's readers
        patch.setattr(delimited._Marks, "run", lambda *_: (np.empty(0, np.int64), True))
        patch.setattr(delimited.Grammar, "run", lambda _, __, start, ___: (*np.empty((2, 0), np.int64), start))
        patch.setattr(lines._Lines, "_fast", lambda *_: None)
        return [*found, outcome(folder, name, reader)]


def outcome(folder: Path, name: str, reader: TabularSource) -> Outcome:
    """Rows and rejects of a file, or None where it is refused."""
    try:
        rows = pa.Table.from_batches(reader.read(folder), reader.schema)
    except (SourceError, ParamsError) as error:
        message = str(error)
        assert message.startswith(name), message
        assert message.endswith("."), message
        assert "\n" not in message, message
        return None
    accounted(reader, folder, rows.num_rows)
    return rows.to_pylist(), sorted(map(str, reader.rejects.kept))
