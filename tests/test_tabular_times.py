"""Times that no column of times holds as they are written: cut, skipped by clocks, or shown by them twice."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tabular import put, read, source

from weakfish.sources.tabular import TabularSource

BERLIN = "Europe/Berlin"
CUT = "digits beyond microseconds are cut"
TWICE = f"clocks in {BERLIN} showed this time twice, and the first is taken"
SKIPPED = f"is no time in {BERLIN}: clocks are set forward over it"


def times_of(folder: Path, texts: list[Any], **settings: Any) -> tuple[list[datetime | None], TabularSource]:
    put(folder, "a.jsonl", "".join(json.dumps({"id": f"o{n}", "at": text}) + "\n" for n, text in enumerate(texts)))
    reader = source(columns={"id": "string", "at": "time"}, **settings)
    rows, _ = read(folder, reader)
    return [row["at"] for row in rows], reader


@pytest.mark.parametrize(
    ("text", "form", "cut"),
    [
        ("2024-07-01T12:00:00.123456789Z", None, True),
        ("2024-07-01T12:00:00.123456000Z", None, False),
        ("2024-07-01 12:00:00,123456700", None, True),
        ("1719835200123456789", None, True),
        ("1719835200123456000", None, False),
        ("1719835200123456.5", None, True),
        ("1719835200123.4565", None, True),
        ("1719835200123.456", None, False),
        ("1719835200.1234567", None, True),
        ("1719835200123456100", "ns", True),
        ("1719835200123456000", "ns", False),
        ("1719835200.123456", "s", False),
        ("01.07.2024 12:00:00.123456789", "%d.%m.%Y %H:%M:%S", True),
        ("01.07.2024 12:00:00.123456", "%d.%m.%Y %H:%M:%S", False),
    ],
)
def test_digits_beyond_microseconds_are_counted_where_they_are_lost(
    tmp_path: Path, text: str, form: str | None, cut: bool
) -> None:
    found, reader = times_of(tmp_path, [text], time_formats={"at": form} if form else {})
    assert found[0] is not None
    assert found[0].replace(microsecond=0) == datetime(2024, 7, 1, 12, tzinfo=UTC)
    assert reader.rejects.changed == ({("a.jsonl", "at", CUT): (1, text)} if cut else {})
    assert reader.remarks() == ([f"Column at: {CUT}, in 1 row (first {text!r})."] if cut else [])


def test_nanoseconds_of_parquet_are_counted_where_they_are_lost(tmp_path: Path) -> None:
    counts = [1719835200123456789, 1719835200123456000, None, -1]
    pq.write_table(pa.table({"at": pa.array(counts, pa.timestamp("ns", "UTC"))}), tmp_path / "a.parquet")
    reader = TabularSource({"path": ".", "columns": {"at": "time"}, "time": "at"})
    rows = pa.Table.from_batches(reader.read(tmp_path))["at"].to_pylist()
    assert rows[:2] == [datetime(2024, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)] * 2
    assert [count for count, _ in reader.rejects.changed.values()] == [2]
    (sentence,) = reader.remarks()
    assert sentence.startswith(f"Column at: {CUT}, in 2 rows (first '2024-07-01 12:00:00.123456789")
    assert [row["reason"][:34] for row in reader.rejects.table().to_pylist()] == [CUT]


def test_a_time_that_clocks_skip_is_null_with_that_reason(tmp_path: Path) -> None:
    texts = ["2024-03-31 01:59:59", "2024-03-31 02:30:00", "2024-03-31 03:00:00", "nope", "2024-03-31T02:30:00+01:00"]
    found, reader = times_of(tmp_path, texts, time_zone=BERLIN)
    assert found == [
        datetime(2024, 3, 31, 0, 59, 59, tzinfo=UTC),
        None,
        datetime(2024, 3, 31, 1, tzinfo=UTC),
        None,
        datetime(2024, 3, 31, 1, 30, tzinfo=UTC),
    ]
    told = [(reject.line, reject.column, reject.reason[:30], reject.text) for reject in reader.rejects.kept]
    assert told == [
        (2, "at", SKIPPED[:30], "2024-03-31 02:30:00"),
        (4, "at", "is not a time as 2024-05-31T12", "nope"),
    ]
    assert reader.remarks() == ["2 values became null (at 2); data/quarantine/raw says which and why."]


@pytest.mark.parametrize("alike", [True, False], ids=["by Arrow", "part by part"])
def test_a_time_that_clocks_show_twice_is_the_first_and_told_of(tmp_path: Path, alike: bool) -> None:
    texts = ["2024-10-27 02:00:00", "2024-10-27 02:59:59", "2024-10-27 03:00:00", "2024-10-27 01:59:59"]
    zoned = ["2024-10-27T02:30:00+02:00", "2024-10-27T01:30:00Z", "1729990800"]
    found, reader = times_of(tmp_path, texts if alike else texts + zoned, time_zone=BERLIN)
    assert found[:4] == [
        datetime(2024, 10, 27, 0, tzinfo=UTC),
        datetime(2024, 10, 27, 0, 59, 59, tzinfo=UTC),
        datetime(2024, 10, 27, 2, tzinfo=UTC),
        datetime(2024, 10, 26, 23, 59, 59, tzinfo=UTC),
    ]
    assert reader.rejects.changed == {("a.jsonl", "at", TWICE): (2, "2024-10-27 02:00:00")}


def test_a_zone_within_a_format_and_timestamps_of_parquet_are_heeded(tmp_path: Path) -> None:
    form = "%a %b %d %H:%M:%S %z %Y"
    _, reader = times_of(tmp_path, ["Sun Oct 27 02:30:00 +0200 2024"], time_zone=BERLIN, time_formats={"at": form})
    assert reader.rejects.changed == {}
    form = "%d.%m.%Y %H:%M"
    _, reader = times_of(tmp_path, ["27.10.2024 02:30"], time_zone=BERLIN, time_formats={"at": form})
    assert reader.rejects.changed == {("a.jsonl", "at", TWICE): (1, "27.10.2024 02:30")}
    stamps = [datetime(2024, 10, 27, 2, 30), datetime(2024, 3, 31, 2, 30), datetime(2024, 3, 31, 3, 30)]
    folder = tmp_path / "parquet"
    folder.mkdir()
    for unit in ("s", "ms", "us", "ns"):
        pq.write_table(pa.table({"at": pa.array(stamps, pa.timestamp(unit))}), folder / "a.parquet")
        reader = TabularSource({"path": ".", "columns": {"at": "time"}, "time": "at", "time_zone": BERLIN})
        found = pa.Table.from_batches(reader.read(folder))["at"].to_pylist()
        assert found == [datetime(2024, 10, 27, 0, 30, tzinfo=UTC), None, datetime(2024, 3, 31, 1, 30, tzinfo=UTC)]
        assert [count for count, _ in reader.rejects.changed.values()] == [1]
        assert [reject.reason for reject in reader.rejects.kept] == [SKIPPED]
