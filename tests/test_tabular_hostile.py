"""Small files that stand for gigabytes, and input that takes the square of its length: memory and work are bounded.

Memory is measured in a process of its own; work is counted in what regular expressions are asked for.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tabular import put

from weakfish.errors import ParamsError, SourceError
from weakfish.sources.tabular import TabularSource, infer, json_documents, parquet_pages
from weakfish.sources.tabular import parquet as reader_of_parquet
from weakfish.sources.tabular.pieces import Rejects, Tally
from weakfish.sources.tabular.raw_files import RawFile
from weakfish.sources.tabular.settings import read_settings

PEAK = """
import json, re, sys
from pathlib import Path
from weakfish.sources.tabular import TabularSource, infer
found = infer(sys.argv[1])
said = json.loads(sys.argv[2]) or found.settings(sys.argv[1])
source = TabularSource(said)
rows = sum(batch.num_rows for batch in source.read(Path(sys.argv[1])))
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
print(json.dumps([peak, rows, said, [each.reason for each in source.rejects.kept], list(found.notes)]))
"""


def peak(folder: Path, settings: dict[str, Any] | None = None) -> tuple[int, int, dict[str, Any], list[str], list[str]]:
    """MB that looking at files and reading them take at most, the rows, the settings, and what is said."""
    command = [sys.executable, "-c", PEAK, str(folder), json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    megabytes, rows, said, reasons, notes = json.loads(done.stdout)
    return megabytes, rows, said, reasons, notes


def test_eighty_thousand_keys_are_one_column_of_json(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", "".join(f'{{"k{n}":{n % 10}}}\n' for n in range(80_000)))
    megabytes, rows, said, reasons, notes = peak(tmp_path)
    assert megabytes < 1000
    assert (rows, said["columns"], said["whole"]) == (80_000, {"whole_object": "string"}, "whole_object")
    assert reasons == []
    assert notes[0].startswith("The objects have more than 500 different keys, so each is kept whole, as JSON text")
    batches = TabularSource(said).read(tmp_path)
    assert next(batches)["whole_object"][:2].to_pylist() == ['{"k0":0}', '{"k1":1}']


def test_eighty_thousand_keys_beside_columns_are_left_out_and_it_is_told(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", "".join(f'{{"n": {n}, "k{n}" :{n % 10}}}\n' for n in range(80_000)))
    megabytes, rows, _, reasons, _ = peak(tmp_path, {"path": ".", "columns": {"n": "integer"}})
    assert (megabytes < 1000, rows) == (True, 80_000)
    assert len(reasons) == 1001
    assert reasons[-1].startswith("has more than 1,000 keys that are not in source.columns; they are left out")


FULL = {
    "keys": "{" + ",".join(f'"{n:x}":1' for n in range(1_200_000)) + "}",
    "empty objects": '{"n": 7, "list": [' + "{}," * 5_000_000 + "{}]}",
    "inner objects": '{"n": 7, "list": [' + '{"a":{}},' * 1_500_000 + "{}]}",
}


@pytest.mark.parametrize("kind", FULL)
def test_an_object_of_a_million_values_is_a_reject(tmp_path: Path, kind: str) -> None:
    lines = [f'{{"n": {n}, "at": "2024-01-{n % 28 + 1:02}"}}' for n in range(300)]
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write("\n".join([*lines, FULL[kind], lines[0]]) + "\n")
    megabytes, rows, said, reasons, _ = peak(tmp_path)
    assert (megabytes < 600, rows, reasons) == (True, 301, ["holds more than 131,072 values"])
    assert list(said["columns"]) == ["n", "at"]


def test_separators_in_texts_are_no_values(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", json.dumps({"n": 1, "text": '",' * 200_000}) + '\n{"n": 2, "text": "b"}\n')
    _, rows, _, reasons, _ = peak(tmp_path)
    assert (rows, reasons) == (2, [])


def test_keys_are_columns_beside_the_whole_object(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", '{"id": "a", "x": {"y": 1}}\n {"id": "b", "z": "\\ud800"}\n')
    reader = TabularSource({"path": ".", "columns": {"id": "string", "raw": "string"}, "whole": "raw", "key": "id"})
    rows = pa.Table.from_batches(reader.read(tmp_path), reader.schema).to_pylist()
    assert [row["raw"] for row in rows] == ['{"id": "a", "x": {"y": 1}}', '{"id": "b", "z": "\\ud800"}']
    assert [row["id"] for row in rows] == ["a", "b"]
    assert reader.rejects.kept == []


def test_inner_objects_with_keys_of_their_own_stay_json(tmp_path: Path) -> None:
    lines = [json.dumps({"id": n, "tags": {f"k{n}_{m}": m for m in range(40)}}) for n in range(4000)]
    put(tmp_path, "a.jsonl", "\n".join(lines))
    megabytes, rows, said, _, _ = peak(tmp_path)
    assert (megabytes < 1000, rows, list(said["columns"])) == (True, 4000, ["id", "tags"])


TEXT = "lorem ipsum " * 33_000


def coded(rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([TEXT]))


@pytest.mark.parametrize(
    "columns",
    [
        {"body": coded(4096)},
        {"inner": pa.StructArray.from_arrays([coded(4096)], ["body"])},
        {"body": pa.array([["x"] * 20_000] * 200 + [None] * 3896, pa.list_(pa.string()))},
        {f"c{n}": pa.array([n] * 16_384) for n in range(400)},
    ],
    ids=["dictionary", "inner", "lists", "wide"],
)
def test_a_few_bytes_of_parquet_are_read_a_bounded_number_of_bytes_at_a_time(
    tmp_path: Path, columns: dict[str, pa.Array]
) -> None:
    rows = len(next(iter(columns.values())))
    pq.write_table(pa.table({"id": range(rows), **columns}), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 500_000
    megabytes, read, *_ = peak(tmp_path)
    assert (megabytes < 900, read) == (True, rows)


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_are_found_by_their_headers(tmp_path: Path, version: str, compression: str) -> None:
    texts = pa.array([f"{n % 7}" * 50 for n in range(5000)])
    lists = pa.array([["é"] * (n % 3) for n in range(5000)])
    table = pa.table({"n": range(5000), "plain": texts, "coded": texts, "l": lists, "null": pa.nulls(5000)})
    how = {"data_page_version": version, "compression": compression, "write_page_checksum": True}
    pq.write_table(table, tmp_path / "a", use_dictionary=["coded"], data_page_size=1 << 14, row_group_size=3000, **how)
    metadata = pq.read_metadata(tmp_path / "a")
    with (tmp_path / "a").open("rb") as file:
        for number, column in product(range(2), range(5)):
            chunk = metadata.row_group(number).column(column)
            found = parquet_pages.pages_of(file.fileno(), chunk)
            assert found.values == chunk.num_values
            assert found.largest <= chunk.total_uncompressed_size
            if chunk.path_in_schema == "plain":
                assert 1 << 14 <= found.largest <= 1 << 16


def test_what_is_no_header_of_a_page_ends_the_walk() -> None:
    draw = random.Random(1)  # noqa: S311
    for _ in range(2000):
        head = parquet_pages._Compact(draw.randbytes(draw.randrange(60)))
        with suppress(IndexError, RecursionError):
            assert isinstance(head.structure(), dict)


def test_row_groups_of_pages_that_are_too_large_are_rejects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"id": [f"o{n}" for n in range(300)], "body": ["x" * 10_000] * 200 + ["y"] * 100})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, row_group_size=100, data_page_size=1 << 30)
    reader = TabularSource({"path": ".", "columns": {"id": "string", "body": "string"}, "key": "id"})
    for limit, reason in (
        ("PAGE", "pages of 0 MiB in body, and 0 are"),
        ("PAGES", "pages of 0 MiB in all its columns"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(parquet_pages, limit, 1 << 19)
            rows = pa.Table.from_batches(reader.read(tmp_path), reader.schema)
        assert rows["id"].to_pylist() == [f"o{n}" for n in range(200, 300)]
        assert [(one.line, one.records) for one in reader.rejects.kept] == [(1, 100), (101, 100)]
        assert reader.rejects.kept[0].reason.startswith(f"row group 1 has {reason}")
        assert (reader.tallies["a.parquet"].rows, reader.tallies["a.parquet"].rejected) == (100, 200)
    monkeypatch.setattr(parquet_pages, "PAGE", 100)
    with pytest.raises(SourceError, match=r"^No row of the files can be read: a\.parquet, row group 1 has pages of"):
        infer(tmp_path)


def test_lists_of_items_that_are_nowhere_written_are_rejects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"id": ["a", "b"], "l": pa.array([[1] * 900_000, [2]], pa.list_(pa.int64()))})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    reader = TabularSource({"path": ".", "columns": {"id": "string", "l": "string"}, "key": "id"})
    assert sum(batch.num_rows for batch in reader.read(tmp_path)) == 2
    monkeypatch.setattr(parquet_pages, "ITEMS", 100_000)
    assert list(reader.read(tmp_path)) == []
    (reject,) = reader.rejects.kept
    assert reject.reason.startswith("row group 1 has lists of 900,001 items in l.list.element")


def test_a_list_that_is_too_long_is_a_reject_before_it_becomes_text(tmp_path: Path) -> None:
    long = [1] * 400
    inner = [{"a": ["x" * 30] * 40}, {"a": ["x"]}, {"a": None}]
    table = pa.table({"id": ["a", "b", "c"], "l": [long, [1] * 200, None], "s": inner, "m": [["é"] * 300, [None], []]})
    pq.write_table(table, tmp_path / "a.parquet")
    columns = dict.fromkeys(("id", "l", "s", "m"), "string")
    reader = TabularSource({"path": ".", "columns": columns, "key": "id", "max_value_bytes": 1000})
    raw = RawFile(tmp_path / "a.parquet", "a.parquet")
    (piece,) = reader_of_parquet.read_parquet(raw, reader.options, Rejects(), Tally())
    assert [piece.columns[name].is_valid().to_pylist()[:2] for name in ("l", "s", "m")] == [[False, True]] * 3
    assert [(bad.row, bad.column) for bad in piece.bad] == [(0, "l"), (0, "s"), (0, "m")]
    rows = pa.Table.from_batches(reader.read(tmp_path)).select([*columns]).to_pylist()
    assert rows[0] == {"id": "a", "l": None, "s": None, "m": None}
    assert rows[1] == {"id": "b", "l": json.dumps([1] * 200), "s": '{"a": ["x"]}', "m": "[null]"}
    assert [(one.line, one.column) for one in reader.rejects.kept] == [(1, "l"), (1, "s"), (1, "m")]
    assert {one.reason for one in reader.rejects.kept} == {"is longer than 1,000 bytes (source.max_value_bytes)"}


INGEST = """
import re, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from in_process import run_here
root, folder = Path(sys.argv[2]) / "project", Path(sys.argv[2])
given = ["--from", str(folder / "a.parquet"), "--yes", "--classes", "task=a,b"]
run_here(folder, ["init", str(root), *given])
run_here(root, ["fetch"], ["ingest"])
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def test_a_partition_of_gigabytes_of_the_same_text_is_ingested_in_a_fraction_of_its_size(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": range(4096), "body": coded(4096)}), tmp_path / "a.parquet", compression="zstd")
    command = [sys.executable, "-c", INGEST, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    assert int(done.stdout.splitlines()[-1]) < 1000
    staged = [pq.read_metadata(file) for file in (tmp_path / "project/data/staged").glob("undated~*.parquet")]
    assert sum(part.num_rows for part in staged) == 4096
    assert 4096 * len(TEXT) > 1_600_000_000
    groups = [part.row_group(number).num_rows for part in staged for number in range(part.num_row_groups)]
    assert max(groups) * len(TEXT) < 1 << 26


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_more_columns_than_a_project_can_have_are_refused_and_of_others_a_thousand_are_named(
    tmp_path: Path, kind: str
) -> None:
    names = [f"c{n}" for n in range(20_000)]
    if kind == "csv":
        put(tmp_path, "a.csv", "".join(",".join(row) + "\n" for row in (names, ["1"] * 20_000, ["2"] * 20_000)))
    else:
        pq.write_table(pa.table(dict.fromkeys(names, pa.array([1, 2]))), tmp_path / "a.parquet")
    with pytest.raises(
        SourceError, match=r"^The files have 20,000 columns, and a project is proposed for 1,000 at most"
    ):
        infer(tmp_path)
    reader = TabularSource({"path": ".", "columns": {"c7": "integer"}})
    assert pa.Table.from_batches(reader.read(tmp_path))["c7"].to_pylist() == [1, 2]
    assert len(reader.rejects.kept) == 1001
    reason = "has 18,999 more columns that are not in source.columns; they are left out"
    assert reader.rejects.kept[-1].reason == reason


def test_texts_that_share_prefixes_are_read_a_bounded_number_of_bytes_at_a_time(tmp_path: Path) -> None:
    table = pa.table({"id": range(2048), "body": [TEXT] * 2048})
    pq.write_table(
        table,
        tmp_path / "a.parquet",
        compression="zstd",
        use_dictionary=False,
        column_encoding={"body": "DELTA_BYTE_ARRAY", "id": "PLAIN"},
    )
    group = pq.read_metadata(tmp_path / "a.parquet").row_group(0)
    assert reader_of_parquet._rows_at_once(group, {"id", "body"}) * len(TEXT) < 1 << 27


def test_a_value_that_is_too_long_is_a_reject_with_file_row_and_reason(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a", "b"], "body": ["x" * 1001, "é" * 500]}), tmp_path / "a.parquet")
    settings = {"path": ".", "columns": {"id": "string", "body": "string"}, "key": "id", "max_value_bytes": 1000}
    reader = TabularSource(settings)
    rows = pa.Table.from_batches(reader.read(tmp_path), reader.schema).to_pylist()
    assert [row["body"] for row in rows] == [None, "é" * 500]
    (reject,) = reader.rejects.kept
    assert (reject.file, reject.line, reject.kind, reject.column) == ("a.parquet", 1, "value", "body")
    assert reject.reason == "is longer than 1,000 bytes (source.max_value_bytes)"
    with pytest.raises(ParamsError, match=r"source\.max_value_bytes cannot be used"):
        read_settings({**settings, "max_value_bytes": 0})


class Counted:
    """A regular expression that counts the characters at which it is asked to look."""

    def __init__(self, form: re.Pattern[bytes]) -> None:
        self.form, self.work = form, 0

    def finditer(self, text: bytes, at: int) -> Iterator[re.Match[bytes]]:
        for found in self.form.finditer(text, at):
            self.work += 1
            yield found

    def search(self, text: bytes, at: int = 0) -> re.Match[bytes] | None:
        found = self.form.search(text, at)
        self.work += (found.end() if found else len(text)) - at
        return found


@pytest.mark.parametrize(
    ("form", "begin", "unit", "records"),
    [
        ("_TOKEN", "{\n", "{\n", None),
        ("_TOKEN", "{\n", '{"a":\n', None),
        ("_TOKEN", "[", "{", None),
        ("_BEGIN", "[", " \n" * 50_000, None),
        ("_BEGIN", "[", "\r\n" * 50_000, None),
        ("_ELEMENT", '{"a": [', " \n" * 50_000, "a"),
        ("_STEP", '{"a": "', "x" * 100_000, "a"),
    ],
)
def test_json_twice_as_long_is_twice_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, begin: str, unit: str, records: str | None
) -> None:
    def work(times: int) -> int:
        counted = Counted(getattr(original, form))
        monkeypatch.setattr(json_documents, form, counted)
        put(tmp_path, "a.json", begin + unit * times)
        reader = TabularSource({"path": ".", "columns": {"n": "integer"}, "records": records})
        with suppress(SourceError):
            list(reader.read(tmp_path))
        monkeypatch.setattr(json_documents, form, counted.form)
        return counted.work

    original = json_documents
    times = 20_000 if len(unit) < 100 else 40
    assert work(2 * times) <= 2.5 * work(times) + 1000


def test_lines_whose_first_object_is_long_and_holds_a_list_are_lines(tmp_path: Path) -> None:
    long = {"id": "a", "items": [{"n": n} for n in range(40_000)]}
    put(tmp_path, "a.jsonl", json.dumps(long) + "\n" + json.dumps({"id": "b", "items": []}) + "\n")
    found = infer(tmp_path)
    assert ([column.name for column in found.columns], found.rows) == (["id", "items"], 2)
    put(tmp_path, "a.jsonl", json.dumps(long) + "\n")
    with pytest.raises(SourceError, match="--records items reads these as rows"):
        infer(tmp_path)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz"])
def test_a_file_that_is_not_packed_as_its_name_says_is_not_told_to_be_empty(tmp_path: Path, name: str) -> None:
    put(tmp_path, name, "n,text\n1,a\n" if "csv" in name else '{"n": 1}\n')
    with pytest.raises(SourceError, match=rf"{name}: the compressed data cannot be read .*[Nn]ot a gzip.*its name\."):
        infer(tmp_path)
