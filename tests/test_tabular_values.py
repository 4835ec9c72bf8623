"""Values stay what the files say: long numbers, null words, far times, and days and months in the right order."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tabular import put

from weakfish.errors import ParamsError
from weakfish.sources.tabular import Inferred, TabularSource, infer

PARCELS = [f"{12345678901234567890 + number}" for number in range(25)]
INVOICES = [f"35200{number:039}" for number in range(25)]


def taken(folder: Path, found: Inferred, **changed: Any) -> tuple[list[dict[str, Any]], TabularSource]:
    """The rows as the proposed settings read them, without the made key and time."""
    reader = TabularSource({**found.settings("x"), **changed})
    rows = pa.Table.from_batches(reader.read(folder), reader.schema).to_pylist()
    return [{name: row[name] for name in reader.options.columns} for row in rows], reader


def kinds(found: Inferred) -> dict[str, str]:
    return {column.name: column.kind for column in found.columns}


@pytest.mark.parametrize("digits", [PARCELS, INVOICES], ids=["twenty digits", "forty-four digits"])
def test_whole_numbers_that_a_float_cannot_hold_are_text(tmp_path: Path, digits: list[str]) -> None:
    put(tmp_path, "a.csv", "n,parcel\n" + "".join(f"{n % 5},{parcel}\n" for n, parcel in enumerate(digits)))
    found = infer(tmp_path)
    assert kinds(found) == {"n": "integer", "parcel": "string"}
    rows, reader = taken(tmp_path, found)
    assert [row["parcel"] for row in rows] == digits
    assert reader.rejects.kept == []


@pytest.mark.parametrize("long", ["98765432109876543210", "12345678901234567.5"])
def test_one_long_number_among_many_short_ones_makes_the_column_text(tmp_path: Path, long: str) -> None:
    put(tmp_path, "a.csv", "n,code\n" + "".join(f"{n % 5},{n}\n" for n in range(299)) + f"1,{long}\n")
    found = infer(tmp_path)
    assert kinds(found)["code"] == "string"
    assert taken(tmp_path, found)[0][-1]["code"] == long


def test_rows_that_differ_in_a_long_number_alone_are_no_duplicates(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "n,parcel\n" + "".join(f"1,{parcel}\n" for parcel in PARCELS))
    reader = TabularSource(infer(tmp_path).settings("x") | {"key": None})
    keys = pa.Table.from_batches(reader.read(tmp_path))["row_id"].to_pylist()
    assert len(set(keys)) == 25
    assert not [key for key in keys if "-" in key]


def test_numbers_of_json_and_parquet_beyond_64_bits_are_text(tmp_path: Path) -> None:
    put(tmp_path, "json/a.jsonl", "".join(f'{{"n": {n % 5}, "id": {2**63 + n}}}\n' for n in range(25)))
    rows, _ = taken(tmp_path / "json", infer(tmp_path / "json"))
    assert [row["id"] for row in rows] == [str(2**63 + n) for n in range(25)]
    hashes = [(n * 0x9E3779B97F4A7C15) % 2**64 for n in range(25)]
    columns = {
        "hash": pa.array(hashes, pa.uint64()),
        "key": pa.array([Decimal(10**30 + n) for n in range(25)], pa.decimal128(38, 0)),
        "small": pa.array([Decimal(n) for n in range(25)], pa.decimal128(38, 0)),
        "price": pa.array([Decimal(n) / 8 for n in range(25)], pa.decimal128(38, 3)),
        "fine": pa.array([Decimal(10**20 + n) / 1000 for n in range(25)], pa.decimal128(38, 3)),
        "count": pa.array([2**53 + n for n in range(25)], pa.int64()),
    }
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "parquet/a.parquet")
    found = infer(tmp_path / "parquet")
    expected = {"hash": "string", "key": "string", "small": "integer", "price": "number", "fine": "string"}
    assert kinds(found) == {**expected, "count": "integer"}
    rows, reader = taken(tmp_path / "parquet", found)
    assert [row["hash"] for row in rows] == list(map(str, hashes))
    assert [row["key"] for row in rows] == [str(10**30 + n) for n in range(25)]
    assert [row["small"] for row in rows] == list(range(25))
    assert [row["price"] for row in rows] == [n / 8 for n in range(25)]
    assert rows[7]["fine"] == "100000000000000000.007"
    assert [row["count"] for row in rows] == [2**53 + n for n in range(25)]
    assert reader.rejects.kept == []


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_long_number_in_a_column_of_numbers_is_told_of_and_never_another(tmp_path: Path, name: str) -> None:
    values = [1, 2**53, 2**53 + 1, 10**18, 12345678901234567]
    if name == "a.csv":
        put(tmp_path, name, "n\n" + "".join(f"{value}\n" for value in values))
    elif name == "a.jsonl":
        put(tmp_path, name, "".join(f'{{"n": {value}}}\n' for value in values))
    else:
        pq.write_table(pa.table({"n": values}), tmp_path / name)
    reader = TabularSource({"path": ".", "columns": {"n": "number"}})
    rows = pa.Table.from_batches(reader.read(tmp_path), reader.schema)
    assert rows["n"].to_pylist() == [1.0, 2.0**53, None, 1e18, None]
    assert [reject.text for reject in reader.rejects.kept] == [str(2**53 + 1), "12345678901234567"]
    assert reader.unfit == {"n": str(2**53 + 1)}


def test_zeros_in_front_make_a_column_text_and_are_told_of_later(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "code,share\n" + "".join(f"{n:03},0.{n}\n" for n in range(5, 30)))
    found = infer(tmp_path)
    assert kinds(found) == {"code": "string", "share": "number"}
    assert taken(tmp_path, found)[0][0] == {"code": "005", "share": 0.5}
    reader = TabularSource({"path": ".", "columns": {"code": "integer"}})
    rows = pa.Table.from_batches(reader.read(tmp_path), reader.schema)
    assert rows["code"][0].as_py() == 5
    assert [(reject.kind, reject.column) for reject in reader.rejects.kept] == [("file", None), ("file", "code")]
    assert "'005'" in reader.rejects.kept[1].reason
    assert reader.unfit == {"code": "005"}


def test_a_null_word_of_one_column_is_a_value_of_another(tmp_path: Path) -> None:
    rows = [("NA", "None", "NA"), ("DE", "Ann", "7"), ("FR", "Bob", "8")] * 10
    put(tmp_path, "a.csv", "country,name,score\n" + "".join(",".join(row) + "\n" for row in rows))
    found = infer(tmp_path)
    assert found.settings("x")["null_values"] == {"score": ["", "NA"]}
    assert "'NA' is text in column country; --null country=NA makes it null." in found.notes
    assert not any("name" in note for note in found.notes)
    read, reader = taken(tmp_path, found)
    assert read[0] == {"country": "NA", "name": "None", "score": None}
    assert reader.rejects.kept == []


def test_null_words_can_be_said_of_all_columns_or_of_some(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "a,b,c\nNA,NA,NA\n")
    columns = dict.fromkeys("abc", "string")
    for nulls, expected in [(["", "NA"], [None] * 3), ({"b": ["", "NA"], "c": []}, ["NA", None, "NA"])]:
        reader = TabularSource({"path": ".", "columns": columns, "null_values": nulls})
        read = pa.Table.from_batches(reader.read(tmp_path)).to_pylist()[0]
        assert [read[name] for name in "abc"] == expected
    with pytest.raises(ParamsError, match="null_values names 'd', which is not among columns"):
        TabularSource({"path": ".", "columns": columns, "null_values": {"d": [""]}})


def test_times_of_int96_outside_of_nanoseconds_are_null_and_told_of(tmp_path: Path) -> None:
    times = [datetime(2024, 5, 31, 12), datetime(9999, 12, 31), datetime(1500, 1, 1), datetime(2261, 12, 31)]
    table = pa.table({"at": pa.array(times, pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    found = infer(tmp_path)
    rows, reader = taken(tmp_path, found)
    assert [row["at"] for row in rows] == [times[0].replace(tzinfo=UTC), None, None, times[3].replace(tzinfo=UTC)]
    assert [(r.line, r.column, r.text[:10]) for r in reader.rejects.kept] == [
        (2, "at", "9999-12-31"),
        (3, "at", "1500-01-01"),
    ]


AT = datetime(2024, 7, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("unit", "per"), [("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)]
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_counts_since_1970_are_told_by_their_range(tmp_path: Path, unit: str, per: int, name: str) -> None:
    counts = [(int(AT.timestamp()) + 3600 * n) * per for n in range(25)]
    if name == "a.csv":
        put(tmp_path, name, "event_timestamp\n" + "".join(f"{count}\n" for count in counts))
    elif name == "a.jsonl":
        put(tmp_path, name, "".join(json.dumps({"event_timestamp": count}) + "\n" for count in counts))
    else:
        pq.write_table(pa.table({"event_timestamp": counts}), tmp_path / name)
    found = infer(tmp_path)
    assert kinds(found) == {"event_timestamp": "time"}
    assert found.time is not None
    assert f"its values are {unit} since 1970" in found.time.reason
    rows, reader = taken(tmp_path, found)
    assert [row["event_timestamp"].hour for row in rows] == [(10 + n) % 24 for n in range(25)]
    assert rows[0]["event_timestamp"] == AT
    assert reader.rejects.kept == []


FORMS = {
    "%m/%d/%Y %H:%M": (["2/24/2015 11:35", "2/9/2015 9:05"], datetime(2015, 2, 24, 11, 35)),
    "%m/%d/%y": (["3/22/21", "12/1/21"], date(2021, 3, 22)),
    "%d.%m.%Y": (["13.05.2024", "01.05.2024"], date(2024, 5, 13)),
    "%d.%m.%Y %H:%M": (["04.05.2021 09:00", "30.05.2021 10:00"], datetime(2021, 5, 4, 9)),
    "%d/%m/%Y %H:%M:%S": (["25/12/2023 08:00:01", "01/02/2023 08:00:00"], datetime(2023, 12, 25, 8, 0, 1)),
    "%m/%d/%Y %I:%M %p": (["12/25/2023 12:05 AM", "01/02/2023 1:00 PM"], datetime(2023, 12, 25, 0, 5)),
    "%d/%b/%Y:%H:%M:%S %z": (["[29/Jul/2019:13:55:36 +0200]"], datetime(2019, 7, 29, 11, 55, 36)),
    "%a %b %d %H:%M:%S %z %Y": (["Wed Oct 10 20:19:24 +0000 2018"], datetime(2018, 10, 10, 20, 19, 24)),
    "%a, %d %b %Y %H:%M:%S %z": (["Tue, 05 Mar 2024 10:00:00 -0500"], datetime(2024, 3, 5, 15)),
    "%b %d, %Y": (["May 4, 2021", "December 31, 2021"], date(2021, 5, 4)),
    "%Y%m%d": (["20240531", "20240601"], date(2024, 5, 31)),
    None: (["'2015-02-24 11:35'", "'2015-2-4 9:35:10'"], datetime(2015, 2, 24, 11, 35)),
}


@pytest.mark.parametrize("form", FORMS)
def test_times_and_dates_of_other_formats_are_told_and_read(tmp_path: Path, form: str | None) -> None:
    texts, first = FORMS[form]
    put(tmp_path, "a.jsonl", "".join(json.dumps({"created": text, "n": 1}) + "\n" for text in texts * 20))
    found = infer(tmp_path)
    assert found.settings("x").get("time_formats", {}) == ({"created": form} if form else {})
    rows, reader = taken(tmp_path, found, time=None, columns=kinds(found))
    expected = first.replace(tzinfo=UTC) if isinstance(first, datetime) else first
    assert (rows[0]["created"], len(rows), reader.rejects.kept) == (expected, 20 * len(texts), [])


@pytest.mark.parametrize(
    ("late", "form"), [("25/04/2021 09:00", "%d/%m/%Y %H:%M"), ("04/25/2021 09:00", "%m/%d/%Y %H:%M")]
)
def test_day_and_month_are_told_by_all_rows_of_all_files(tmp_path: Path, late: str, form: str) -> None:
    unclear = "".join(f"k{n},0{n % 9 + 1}/05/2021 09:00\n" for n in range(21_000))
    put(tmp_path, "a.csv", f"id,at\n{unclear}")
    put(tmp_path, "b.csv", f"id,at\n{unclear}k,{late}\n")
    found = infer(tmp_path)
    assert found.settings("x")["time_formats"] == {"at": form}
    rows, reader = taken(tmp_path, found)
    assert rows[-1]["at"] == datetime(2021, 4, 25, 9, tzinfo=UTC)
    assert reader.rejects.kept == []


def test_day_and_month_are_never_mixed(tmp_path: Path) -> None:
    texts = ["25/04/2021", "04/05/2021", "04/26/2021", "04/06/2021"]
    put(tmp_path, "a.csv", "id,at\n" + "".join(f"k{n},{texts[n % 4]}\n" for n in range(100)))
    found = infer(tmp_path)
    assert kinds(found)["at"] == "string"
    assert "both orders" in next(column.reason for column in found.columns if column.name == "at")
    rows, reader = taken(tmp_path, found, columns={"at": "date"}, key=None, time_formats={"at": "%d/%m/%Y"})
    assert [row["at"] for row in rows[:4]] == [date(2021, 4, 25), date(2021, 5, 4), None, date(2021, 6, 4)]
    assert {reject.text for reject in reader.rejects.kept if reject.kind == "value"} == {"04/26/2021"}


def test_what_has_the_format_of_the_column_is_never_read_as_another(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "id,at\na,2024-13-05\nb,2024-05-13\nc,2024-05-06T00:00\nd,2024-31-12\n")
    for kind in ("date", "time"):
        settings = {"path": ".", "columns": {"id": "string", "at": kind}, "time_formats": {"at": "%Y-%d-%m"}}
        reader = TabularSource(settings)
        days = [row["at"] for row in pa.Table.from_batches(reader.read(tmp_path)).to_pylist()]
        found = [day and (day.year, day.month, day.day) for day in days]
        assert found == [(2024, 5, 13), None, (2024, 5, 6), (2024, 12, 31)]  # only the third has ISO's form


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("%Q", "%Q is not a part that can be read"),
        ("%d.%m", "a format has a year, a month and a day"),
        ("%d.%d.%Y", "a format has a year, a month and a day"),
    ],
)
def test_a_format_that_cannot_be_is_one_sentence(form: str, said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        TabularSource({"path": ".", "columns": {"at": "time"}, "time": "at", "time_formats": {"at": form}})
    with pytest.raises(ParamsError, match="time_formats names 'n', which is no column of times or dates"):
        TabularSource({"path": ".", "columns": {"n": "string"}, "time_formats": {"n": "%d.%m.%Y"}})


def test_nan_of_a_column_of_floats_is_null_and_no_unreadable_value(tmp_path: Path) -> None:
    numbers = [float("nan") if n % 3 == 0 else n / 2 for n in range(60)]
    pq.write_table(pa.table({"id": [f"o{n}" for n in range(60)], "size": numbers}), tmp_path / "a.parquet")
    found = infer(tmp_path)
    assert any(note == "In column size 'nan' means null." for note in found.notes)
    rows, reader = taken(tmp_path, found)
    assert [row["size"] for row in rows] == [None if n % 3 == 0 else n / 2 for n in range(60)]
    assert reader.rejects.kept == []
    _, reader = taken(tmp_path, found, null_values=[""])
    assert sum(reader.rejects.values().values()) == 20, "unless it is not said to mean null"


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_an_empty_text_that_becomes_null_is_told_where_the_format_tells_the_two_apart(
    tmp_path: Path, kind: str
) -> None:
    notes: list[str | None] = ["", "some", None, ""]
    if kind == "parquet":
        pq.write_table(pa.table({"n": range(4), "note": notes}), tmp_path / "a.parquet")
    elif kind == "jsonl":
        put(tmp_path, "a.jsonl", "".join(f"{json.dumps({'n': n, 'note': note})}\n" for n, note in enumerate(notes)))
    else:
        put(tmp_path, "a.csv", "n,note\n" + "".join(f"{n},{note or ''}\n" for n, note in enumerate(notes)))
    settings: dict[str, Any] = {"path": "x", "columns": {"n": "integer", "note": "string"}}
    told = "Column note: an empty text became null (source.null_values), in 2 rows (first '')."
    for null_values, expected in (([""], [None, "some", None, None]), (["NULL"], notes)):
        reader = TabularSource({**settings, "null_values": null_values})
        rows = pa.Table.from_batches(reader.read(tmp_path), reader.schema)
        if kind != "csv" or null_values == [""]:
            assert rows["note"].to_pylist() == expected
        assert reader.remarks() == ([told] if kind != "csv" and null_values == [""] else [])
