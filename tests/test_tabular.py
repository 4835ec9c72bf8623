"""Rows of CSV, JSON Lines and Parquet: what is good becomes a row, what is bad a null or a reject that says so."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tabular import COLUMNS, HEADER, line, put, read, source

from weakfish.errors import SourceError
from weakfish.sources.tabular import TabularSource
from weakfish.sources.tabular import csv as delimited
from weakfish.sources.tabular.dialect import SAMPLE

PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda content: gzip.compress(content, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}
AT = datetime(2024, 1, 1, 10, tzinfo=UTC)


def said(rejects: list) -> list[tuple]:
    return [(reject.file, reject.line, reject.kind, reject.column) for reject in rejects]


def test_a_clean_csv_is_what_pandas_reads(tmp_path: Path) -> None:
    notes = ["plain", '"a, ""b"""', '"two\nlines"', "wörld"]
    put(tmp_path, "a.csv", HEADER + b"".join(line(n, note=notes[n % 4].encode().decode()) for n in range(5000)))
    rows, rejects = read(tmp_path)
    frame = pd.read_csv(tmp_path / "a.csv", parse_dates=["at"])
    assert rejects == []
    assert [row["note"] for row in rows] == frame["note"].tolist()
    assert [row["amount"] for row in rows] == frame["amount"].tolist()
    assert [row["count"] for row in rows] == frame["count"].tolist()
    assert [row["ok"] for row in rows] == frame["ok"].tolist()
    assert [row["at"] for row in rows] == [time.to_pydatetime() for time in frame["at"]]


def test_clean_json_lines_are_what_pandas_reads(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", HEADER + b"".join(line(n) for n in range(3000)))
    frame = pd.read_csv(tmp_path / "a.csv")
    (tmp_path / "a.csv").unlink()
    put(tmp_path, "a.jsonl", frame.to_json(orient="records", lines=True))
    rows, rejects = read(tmp_path)
    assert rejects == []
    found = pd.DataFrame(rows)
    pd.testing.assert_frame_equal(found.drop(columns="at"), frame.drop(columns="at"))


def test_the_three_formats_give_the_same_rows(tmp_path: Path) -> None:
    put(tmp_path / "csv", "a.csv", HEADER + b"".join(line(n) for n in range(300)))
    rows, _ = read(tmp_path / "csv")
    put(tmp_path / "jsonl", "a.jsonl", "".join(json.dumps(row, default=str) + "\n" for row in rows))
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "parquet" / "a.parquet", row_group_size=100)
    assert read(tmp_path / "jsonl") == (rows, [])
    assert read(tmp_path / "parquet") == (rows, [])


def test_lines_with_too_many_or_too_few_fields_are_rejects_with_their_line(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", HEADER + line(1) + b"o2,too,few\n" + line(3) + b"o4,1,2,3,4,5,6\n" + line(5))
    rows, rejects = read(tmp_path)
    assert [row["id"] for row in rows] == ["o1", "o3", "o5"]
    assert [(r.line, r.kind, r.reason, r.text) for r in rejects] == [
        (3, "line", "has 3 fields instead of 6", "o2,too,few"),
        (5, "line", "has 7 fields instead of 6", "o4,1,2,3,4,5,6"),
    ]


def test_an_unterminated_quote_costs_its_line_and_not_the_file(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", HEADER + line(1) + line(2, note='"open') + b"".join(line(n) for n in range(3, 2000)))
    rows, rejects = read(tmp_path)
    assert [row["id"] for row in rows] == ["o1", *(f"o{n}" for n in range(3, 2000))]
    assert [(r.line, r.reason) for r in rejects] == [(3, "has a quote that never closes")]


@pytest.mark.parametrize("mark", ["\t", ",", ";"])
@pytest.mark.parametrize("kind", ["numbers", "words"])
def test_a_lone_quote_does_not_swallow_the_lines_to_the_next_one(tmp_path: Path, mark: str, kind: str) -> None:
    first = str if kind == "numbers" else lambda n: ("ham", "spam")[n % 2]
    rows = [[first(n), f"call me at noon {n}" if kind == "numbers" else "call me", "x"] for n in range(300)]
    rows[100][1], rows[120][1] = '"so she said', 'and left"'
    put(tmp_path, "a.csv", "\n".join(map(mark.join, [["id", "note", "kind"], *rows])) + "\n")
    columns = {"id": "string", "note": "string", "kind": "string"}
    found, rejects = read(tmp_path, delimiter=mark, columns=columns, key=None, time=None)
    assert [row["note"] for row in found] == [note for n, (_, note, _) in enumerate(rows) if n != 100]
    assert [(r.line, r.lines, r.text) for r in rejects] == [(102, 1, mark.join(rows[100]).replace("\t", r"\t"))]
    assert "has a quote that closes on a later line" in rejects[0].reason
    found, rejects = read(tmp_path, delimiter=mark, columns=columns, key=None, time=None, quote=None)
    assert ([row["note"] for row in found], rejects) == ([note for _, note, _ in rows], [])


def test_two_words_on_a_line_are_enough_to_see_what_a_lone_quote_swallows(tmp_path: Path) -> None:
    put(tmp_path, "a.tsv", 'kind\tnote\nham\t"ok\nspam\twin"\nham\tsee you\n')
    found, rejects = read(tmp_path, columns={"kind": "string", "note": "string"}, key=None, time=None)
    assert [row["note"] for row in found] == ['win"', "see you"]
    assert [r.line for r in rejects] == [2]


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        (",", "We met, twice,\nand left, again,\nin the rain, alone, "),
        (",", "Main Street 5\n10115, Berlin"),
        (",", "Dear Sir,\nthank you, but no\nyours, Bob"),
        ("\t", "def f():\n\treturn 1"),
        ("\t", "name\tcount\tnote\none\t1\tfine"),
    ],
)
def test_texts_over_several_lines_stay_whole(tmp_path: Path, mark: str, text: str) -> None:
    put(tmp_path, "a.csv", f'id{mark}note\n17{mark}"{text}"\n18{mark}fine\n')
    found, rejects = read(tmp_path, delimiter=mark, columns={"id": "string", "note": "string"}, time=None)
    assert ([row["note"] for row in found], rejects) == ([text, "fine"], [])


def test_text_behind_a_closing_quote_is_a_reject(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", HEADER + line(1, note='"a"b') + line(2, note='5" wide'))
    rows, rejects = read(tmp_path)
    assert [row["note"] for row in rows] == ['5" wide']
    assert [(r.line, r.reason) for r in rejects] == [(2, "has text behind a closing quote")]


def test_lines_behind_quoted_line_ends_and_blank_lines_keep_their_numbers(tmp_path: Path) -> None:
    put(
        tmp_path,
        "a.csv",
        HEADER + line(1, note='"x\ny"') + b"\n\r\n" + line(2, note='"z"', amount="1,5".replace(",", ";")),
    )
    _, rejects = read(tmp_path)
    assert said(rejects) == [("a.csv", 6, "value", "amount")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_all_line_ends_are_read(tmp_path: Path, end: bytes) -> None:
    put(tmp_path, "a.csv", (HEADER + line(1) + line(2)).replace(b"\n", end))
    put(tmp_path, "b.jsonl", b'{"id":"o3"}' + end + b'{"id":"o4"}' + end)
    rows, rejects = read(tmp_path)
    assert [row["id"] for row in rows] == ["o1", "o2", "o3", "o4"]
    assert {r.kind for r in rejects} == {"file"}


def test_values_that_cannot_be_converted_are_null_and_told_of(tmp_path: Path) -> None:
    bad = line(1, amount='"1,234"', count="1.5", ok="maybe", at="05/06/2024 10:00")
    put(
        tmp_path, "a.csv", HEADER + bad + line(2, amount="inf", count="9" * 20) + line(3, amount="NaN", at="2024-02-30")
    )
    rows, rejects = read(tmp_path)
    assert [(row["amount"], row["count"], row["ok"], row["at"]) for row in rows] == [
        (None, None, None, None),
        (None, None, False, datetime(2024, 1, 3, 10, tzinfo=UTC)),
        (None, 3, True, None),
    ]
    assert sorted((r.line, r.column, r.text) for r in rejects) == [
        (2, "amount", "1,234"),
        (2, "at", "05/06/2024 10:00"),
        (2, "count", "1.5"),
        (2, "ok", "maybe"),
        (3, "amount", "inf"),
        (3, "count", "9" * 20),
        (4, "amount", "NaN"),
        (4, "at", "2024-02-30"),
    ]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-07-01T12:00:00Z", "2024-07-01T12:00:00+00:00"),
        ("2024-07-01T12:00:00+02:00", "2024-07-01T10:00:00+00:00"),
        ("2024-07-01 12:00:00.123456-0330", "2024-07-01T15:30:00.123456+00:00"),
        ("2024-07-01T12:00:00.1234567Z", "2024-07-01T12:00:00.123456+00:00"),
        ("2024-07-01 12:00", "2024-07-01T10:00:00+00:00"),
        ("2024-07-01", "2024-06-30T22:00:00+00:00"),
        ("2024-10-27 02:30:00", "2024-10-27T00:30:00+00:00"),
        ("2024-03-31 03:00:00", "2024-03-31T01:00:00+00:00"),
        ("1719828000", "2024-07-01T10:00:00+00:00"),
        ("1719828000123", "2024-07-01T10:00:00.123000+00:00"),
    ],
)
def test_times_of_all_zones_become_utc(tmp_path: Path, text: str, time: str) -> None:
    put(tmp_path / "alone", "a.csv", HEADER + line(1, at=text))
    put(
        tmp_path / "mixed",
        "a.csv",
        HEADER + line(1, at=text) + line(2, at="2020-01-01T00:00:00-05:00") + line(3, at="x"),
    )
    alone, _ = read(tmp_path / "alone", time_zone="Europe/Berlin")
    mixed, rejects = read(tmp_path / "mixed", time_zone="Europe/Berlin")
    assert alone[0]["at"] == mixed[0]["at"] == datetime.fromisoformat(time)
    assert mixed[1]["at"] == datetime(2020, 1, 1, 5, tzinfo=UTC)
    assert said(rejects) == [("a.csv", 4, "value", "at")]


def test_times_that_nanoseconds_cannot_hold_are_told_of(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", HEADER + line(1, at="9999-12-31T00:00:00Z"))
    rows, rejects = read(tmp_path)
    assert rows[0]["at"] is None
    assert [r.text for r in rejects] == ["9999-12-31T00:00:00Z"]


def test_dates_are_dates(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "id,day\na,2024-02-29\nb,2023-02-29\nc,2024-02-29 00:00:00\nd,2024-02-29 10:00\n")
    reader = TabularSource({"path": ".", "columns": {"id": "string", "day": "date"}, "key": "id"})
    rows, rejects = read(tmp_path, reader)
    assert [row["day"] for row in rows] == [date(2024, 2, 29), None, date(2024, 2, 29), None]
    assert [r.line for r in rejects] == [3, 5]


def test_invalid_utf8_and_nul_bytes_cost_their_value(tmp_path: Path) -> None:
    put(
        tmp_path, "a.csv", HEADER + line(1) + line(2).replace(b"note 2", b"\xff\x1b") + line(3).replace(b"note", b"n\0")
    )
    rows, rejects = read(tmp_path)
    assert [row["note"] for row in rows] == ["note 1", None, None]
    assert sorted((r.line, r.column, r.text) for r in rejects) == [
        (3, "note", r"\xff\x1b"),
        (4, "note", r"n\x00 3"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_how_to_read(tmp_path: Path, encoding: str) -> None:
    put(tmp_path, "a.csv", (HEADER + line(1, note="wörld")).decode().encode(encoding))
    rows, rejects = read(tmp_path) if encoding == "utf-8-sig" else (list_rows(tmp_path), [])
    assert (rows[0]["id"], rows[0]["note"], rejects) == ("o1", "wörld", [])


def list_rows(folder: Path) -> list[dict]:
    reader = source()
    return pa.Table.from_batches(reader.read(folder), reader.schema).to_pylist()


def test_another_encoding_is_read_and_what_it_cannot_hold_is_told_of(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", HEADER + line(1, note="wörld").decode().encode("cp1252") + line(2).replace(b"note", b"\x81"))
    rows, rejects = read(tmp_path, encoding="cp1252")
    assert [row["note"] for row in rows] == ["wörld", None]
    assert said(rejects) == [("a.csv", 3, "value", "note")]


def late(content: bytes) -> bytes:
    """A file whose bytes beyond ASCII stand behind the first 256 KiB."""
    return HEADER + b"".join(line(n) for n in range(8000)) + content


@pytest.mark.parametrize("place", [0, 8000])
def test_one_byte_that_is_not_utf8_costs_one_value_wherever_it_stands(tmp_path: Path, place: int) -> None:
    rows = [line(n, note="Köln" if n > 7000 else "Koln") for n in range(9000)]
    rows.insert(place, line(9000, note="K?ln").replace(b"?", b"\xf6"))
    put(tmp_path, "a.csv", HEADER + b"".join(rows))
    rows, rejects = read(tmp_path)
    notes = [row["note"] for row in rows]
    assert (notes.count("Koln"), notes.count("Köln"), notes.count(None)) == (7001, 1999, 1)
    assert [(r.line, r.column, r.reason) for r in rejects] == [
        (place + 2, "note", "has bytes that are not text in utf-8")
    ]


def test_a_file_of_another_encoding_is_noticed_where_it_is_first_seen(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", late(line(1, note="Ärger in Köln").decode().encode("cp1252")))
    put(tmp_path, "b.jsonl", '{"id": "o", "note": "Ärger in Köln"}\n'.encode("cp1252"))
    put(tmp_path, "c.csv", late(line(1, note="Ärger in Köln")))
    rows, rejects = read(tmp_path)
    assert [row["note"] for row in rows if not row["note"].startswith("note")] == ["Ärger in Köln"] * 3
    assert [r.file for r in rejects if "read as cp1252, which is a guess" in r.reason] == ["a.csv", "b.jsonl"]


def test_utf8_is_read_as_such_where_another_encoding_is_set_for_the_rest(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", HEADER + line(1, note="Köln"))
    put(tmp_path, "b.csv", (HEADER + line(2, note="Köln")).decode().encode("cp1252"))
    rows, rejects = read(tmp_path, encoding="cp1252")
    assert [row["note"] for row in rows] == ["Köln", "Köln"]
    assert [(r.file, r.reason) for r in rejects] == [
        ("a.csv", "is UTF-8 and is read as that, although source.encoding says cp1252")
    ]


def test_two_characters_that_could_be_utf8_are_read_as_they_are_said_to_be(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", (HEADER + line(1, note="一支")).decode().encode("gb18030"))  # four bytes: two of UTF-8
    rows, rejects = read(tmp_path, encoding="gb18030")
    assert ([row["note"] for row in rows], rejects) == (["一支"], [])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_known_without_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    put(tmp_path, "a.csv", (HEADER + line(1, note="名前") + line(2)).decode().encode(encoding))
    assert [row["note"] for row in list_rows(tmp_path)] == ["名前", "note 2"]


def test_headers_may_differ_between_files(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", HEADER + line(1))
    put(tmp_path, "b.csv", "Note,extra,ID ,at\nhello,1,o2,2024-01-01T10:00:00Z\n")
    rows, rejects = read(tmp_path)
    assert rows[1] == {"id": "o2", "at": AT, "amount": None, "count": None, "ok": None, "note": "hello"}
    assert [(r.file, r.kind, r.column) for r in rejects] == [
        ("b.csv", "file", "amount"),
        ("b.csv", "file", "count"),
        ("b.csv", "file", "ok"),
        ("b.csv", "file", None),
    ]
    assert "'extra'" in rejects[-1].reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,at,id\n1,2,3\n", "a.csv, line 1: column 'id' appears twice, as fields 1 and 3"),
        ("\n\no1,2024\no2,2025\n", "a.csv, line 3: the header has none of source.columns"),
        ('id,"at\n1,2\n', "a.csv, line 1: the header has a quote that never closes"),
        (b"id,\xff\n1,2\n", "a.csv, line 1: the header has bytes that are not text in utf-8"),
    ],
)
def test_a_header_that_cannot_be_used_refuses_the_file(tmp_path: Path, content: bytes | str, message: str) -> None:
    put(tmp_path, "a.csv", content)
    with pytest.raises(SourceError) as raised:
        read(tmp_path)
    assert str(raised.value).startswith(message)


def test_an_empty_file_is_told_of(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "")
    put(tmp_path, "b.csv", HEADER)
    put(tmp_path, "c.jsonl", "\n")
    rows, rejects = read(tmp_path)
    assert rows == []
    assert [(r.file, r.kind) for r in rejects] == [("a.csv", "file"), ("c.jsonl", "file")]


def test_a_cell_that_is_too_long_is_a_reject(tmp_path: Path) -> None:
    huge = b"x" * 50_000_000
    put(
        tmp_path,
        "a.csv",
        HEADER + line(1) + b"o2,," + huge + b"\n" + line(3) + b'o4,,,,,"' + huge[:20_000_000] + b'"\n' + line(5),
    )
    put(tmp_path, "b.jsonl", b'{"id":"o6"}\n{"id":"' + huge[:20_000_000] + b'"}\n{"id":"o8"}\n')
    rows, rejects = read(tmp_path)
    assert [row["id"] for row in rows] == ["o1", "o3", "o5", "o6", "o8"]
    told = [(r.file, r.line, r.reason, len(r.text)) for r in rejects if r.kind == "line"]
    assert told == [
        ("a.csv", 3, "is longer than 16 MiB", 200),
        ("a.csv", 5, "is longer than 16 MiB", 200),
        ("b.jsonl", 2, "is longer than 16 MiB", 200),
    ]


def test_a_long_cell_below_the_bound_is_a_row(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", HEADER + line(1, note='"' + "y,\n" * 3_000_000 + '"') + line(2))
    rows, rejects = read(tmp_path)
    assert [len(row["note"]) for row in rows] == [9_000_000, 6]
    assert rejects == []


@pytest.mark.parametrize("suffix", PACKED)
def test_a_truncated_file_gives_what_can_be_had_and_a_reject(tmp_path: Path, suffix: str) -> None:
    draw = random.Random(1)  # noqa: S311  notes that do not compress to nothing
    content = HEADER + b"".join(line(n, note=f"{draw.getrandbits(400):x}") for n in range(10_000))
    whole = PACKED[suffix](content)
    put(tmp_path, f"a.csv{suffix}", whole[: len(whole) * 3 // 4])
    rows, rejects = read(tmp_path)
    assert 1000 < len(rows) < 10_000
    assert [row["id"] for row in rows] == [f"o{n}" for n in range(len(rows))]
    assert [(r.line, r.kind) for r in rejects] == [(len(rows) + 2, "line")]
    assert "cannot be read from here on" in rejects[0].reason


@pytest.mark.parametrize("suffix", PACKED)
def test_compressed_files_are_read(tmp_path: Path, suffix: str) -> None:
    put(tmp_path, f"a.csv{suffix}", PACKED[suffix](HEADER + b"".join(line(n) for n in range(20_000))))
    rows, rejects = read(tmp_path)
    assert rows == rows_of(range(20_000))
    assert rejects == []


def rows_of(numbers: range) -> list[dict]:
    return [
        {
            "id": f"o{n}",
            "at": datetime(2024, 1, n % 28 + 1, 10, tzinfo=UTC),
            "amount": n + 0.5,
            "count": n,
            "ok": bool(n % 2),
            "note": f"note {n}",
        }
        for n in numbers
    ]


def test_what_is_no_gzip_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.csv.gz", HEADER)
    with pytest.raises(SourceError, match=r"^a\.csv\.gz, line 1: "):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{x}", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"id":"a"}{"id":"b"}', "is not JSON"),
        ('{"id":"a","id":"b"}', "has the key 'id' twice"),
        ('{"id":' + "[" * 100_000 + "]" * 100_000 + "}", "nests brackets deeper than 200"),
        ('{"id":"a"', "is not JSON"),
    ],
)
def test_a_line_that_is_no_object_is_a_reject(tmp_path: Path, text: str, reason: str) -> None:
    put(tmp_path, "a.jsonl", f'{{"id":"o1","count":1}}\n{text}\n\n{{"id":"o2","count":2}}\n')
    rows, rejects = read(tmp_path, columns={"id": "string", "count": "integer"}, time=None)
    assert [(row["id"], row["count"]) for row in rows] == [("o1", 1), ("o2", 2)]
    assert [(r.line, r.kind) for r in rejects] == [(2, "line")]
    assert rejects[0].reason.startswith(reason)


def test_numbers_of_json_keep_their_digits_as_text(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", '{"id":123456789012345678901234567890,"note":{"a":[1.10]}}\n{"id":"x","count":1e3}\n')
    rows, rejects = read(tmp_path)
    assert [row["id"] for row in rows] == ["123456789012345678901234567890", "x"]
    assert rows[0]["note"] == '{"a":[1.10]}'
    assert [(r.line, r.column, r.text) for r in rejects if r.kind == "value"] == [(2, "count", "1e3")]


def test_half_of_a_surrogate_pair_costs_its_value_and_not_the_file(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", '{"\\ud800id":"o1","note":"\\ud800"}\n{"id":"o2","note":"\\ud83d\\ude00"}\n')
    rows, rejects = read(tmp_path)
    assert [(row["id"], row["note"]) for row in rows] == [("o1", None), ("o2", "😀")]
    assert [(r.line, r.column, r.text) for r in rejects if r.kind == "value"] == [(1, "note", r"\ud800")]


def test_a_column_may_change_its_type_between_files(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", '{"id":"o1","amount":1.5}\n{"id":"o2","amount":"2.5"}\n{"id":"o3","amount":[3]}\n')
    pq.write_table(pa.table({"id": [4], "amount": ["4.5"], "at": [date(2024, 1, 1)]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"id": ["o5"], "amount": pa.array([5], pa.int8()), "at": ["x"]}), tmp_path / "c.parquet")
    rows, rejects = read(tmp_path)
    assert [(row["id"], row["amount"]) for row in rows] == [
        ("o1", 1.5),
        ("o2", 2.5),
        ("o3", None),
        ("4", 4.5),
        ("o5", 5.0),
    ]
    assert rows[3]["at"] == datetime(2024, 1, 1, tzinfo=UTC)
    values = [(r.file, r.line, r.column) for r in rejects if r.kind == "value"]
    assert values == [("a.jsonl", 3, "amount"), ("c.parquet", 1, "at")]


def test_a_broken_row_group_costs_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    table = pa.table({"id": [f"o{n}" for n in range(300)], "note": [f"note {n * n}" for n in range(300)]})
    pq.write_table(table, file, row_group_size=100, compression="none", use_dictionary=False, write_page_checksum=True)
    content = bytearray(file.read_bytes())
    content[content.index(b"note 22500")] ^= 255  # of row 150, in the second group
    file.write_bytes(content)
    rows, rejects = read(tmp_path)
    assert [row["id"] for row in rows] == [f"o{n}" for n in (*range(100), *range(200, 300))]
    assert [(r.line, r.lines) for r in rejects if r.kind == "line"] == [(101, 100)]


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", b"PAR1 no PAR1")
    with pytest.raises(SourceError, match=r"^a\.parquet is not readable Parquet"):
        read(tmp_path)


def test_rejects_are_bounded_and_counted_in_full(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", HEADER + b"".join(line(n, amount="x") for n in range(3000)))
    reader = source()
    assert sum(batch.num_rows for batch in reader.read(tmp_path)) == 3000
    assert reader.rejects.counts["a.csv", "value", "amount"] == 3000
    reader.rejects.write(tmp_path / "out")
    kept = pq.read_table(tmp_path / "out" / "rejects.parquet")
    assert kept.num_rows == 1001
    assert kept["reason"][-1].as_py() == "2000 more value rejects are not shown"


def test_a_bad_line_is_the_only_one_that_is_read_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.csv", HEADER + b"".join(line(n, note='"q"') for n in range(100_000)) + line(1, note='"a"b'))
    exact: list[int] = []
    read_one = delimited.Grammar.record_at
    monkeypatch.setattr(
        delimited.Grammar, "record_at", lambda *given: exact.append(given[-1]) or read_one(*given), raising=True
    )
    rows, rejects = read(tmp_path)
    assert (len(rows), len(rejects)) == (100_000, 1)
    assert len(exact) <= 3 + SAMPLE  # the header, the first lines, and that line


def test_the_same_columns_are_those_of_the_schema() -> None:
    assert source().schema.names == list(COLUMNS)
    assert source(key=None, time=None).schema.names == ["row_id", "event_time", *COLUMNS]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_timestamps_of_parquet_become_utc_in_microseconds(tmp_path: Path, zone: str) -> None:
    noon = datetime(2024, 7, 1, 12)
    columns = {unit: pa.array([noon, None], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")}
    columns |= {"zoned": pa.array([AT, AT], pa.timestamp("ms", tz="America/New_York"))}
    columns |= {"far": pa.array([1 << 53, -(1 << 53)], pa.timestamp("ms")), "text": ["0001-01-01", "9999-12-31 23:00"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    rows, rejects = read(tmp_path, columns=dict.fromkeys(columns, "time"), key=None, time="us", time_zone=zone)
    there = datetime(2024, 7, 1, 12 if zone == "UTC" else 10, tzinfo=UTC)
    assert [rows[0][name] for name in ("ms", "us", "ns", "zoned", "far", "text")] == [*[there] * 3, AT, None, None]
    assert [(r.line, r.column) for r in rejects] == [(1, "far"), (2, "far"), (1, "text"), (2, "text")]


def test_parquet_of_other_types_is_text_or_told_of(tmp_path: Path) -> None:
    columns = {
        "bytes": pa.array([b"ok", b"\xff"]),
        "list": pa.array([[1, 2], None]),
        "decimal": pa.array([Decimal("1.50"), None]),
        "category": pa.array(["a", "b"]).dictionary_encode(),
        "big": pa.array([(1 << 64) - 1, 5], pa.uint64()),
        "clock": pa.array([time(1, 2), None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    kinds = dict.fromkeys(columns, "string") | {"decimal": "number", "big": "integer", "clock": "time"}
    rows, rejects = read(tmp_path, columns=kinds, key=None, time=None)
    found = [{name: row[name] for name in columns} for row in rows]
    assert found == [
        {"bytes": "ok", "list": "[1, 2]", "decimal": 1.5, "category": "a", "big": None, "clock": None},
        {"bytes": None, "list": None, "decimal": None, "category": "b", "big": 5, "clock": None},
    ]
    assert [(r.line, r.column) for r in rejects] == [(2, "bytes"), (1, "big"), (1, "clock")]
