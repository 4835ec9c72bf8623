"""Bytes that are no text in the encoding of a file: a reason of their own, and the encoding that is likelier."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_process import own_modules
from made_projects import init, refused
from tabular import put

from weakfish.project.paths import Project
from weakfish.sources.fetching import fetch
from weakfish.sources.ingest import ingest
from weakfish.sources.tabular import TabularSource

RUSSIAN = ("карта не принята банком", "клиент просит вернуть деньги", "добрый день где мой заказ")
JAPANESE = ("商品が届きません", "返金をお願いします", "住所を変更したい")


def rows(texts: tuple[str, ...], number: int = 120) -> str:
    return "id,kind,note\n" + "".join(f"o{n},{'ab'[n % 2]},{texts[n % 3]} {n}\n" for n in range(number))


@pytest.mark.parametrize(
    ("texts", "written", "stated"),
    [
        (RUSSIAN, "cp1251", "utf-8"),
        (JAPANESE, "cp932", "utf-8"),
        (JAPANESE, "cp932", "cp1253"),
        (RUSSIAN, "utf-8", "ascii"),
    ],
)
def test_the_encoding_that_is_likelier_is_named(
    tmp_path: Path, texts: tuple[str, ...], written: str, stated: str
) -> None:
    put(tmp_path, "a.csv", rows(texts).encode(written))
    columns = dict.fromkeys(("id", "kind", "note"), "string")
    reader = TabularSource({"path": ".", "columns": columns, "key": "id", "encoding": stated})
    read = pa.Table.from_batches(reader.read(tmp_path))
    assert read.num_rows == 120
    if written == "utf-8":
        assert (read["note"].null_count, reader.rejects.kept) == (0, [])
        return
    assert {(reject.column, reject.reason) for reject in reader.rejects.kept} == {
        ("note", f"has bytes that are not text in {stated}; it is likely {written} (--encoding, or source.encoding)")
    }
    assert reader.rejects.values() == {"note": read["note"].null_count}
    assert read["note"].null_count >= 40


def test_lines_of_json_and_headers_say_it_too(tmp_path: Path) -> None:
    likely = "has bytes that are not text in utf-8; it is likely cp1251 (--encoding, or source.encoding)"
    text = "".join(json.dumps({"id": n, "note": RUSSIAN[n % 3]}, ensure_ascii=False) + "\n" for n in range(60))
    put(tmp_path, "a.jsonl", text.encode("cp1251"))
    reader = TabularSource({"path": ".", "columns": {"id": "string", "note": "string"}, "encoding": "utf-8"})
    assert list(reader.read(tmp_path)) == []
    assert {reject.reason for reject in reader.rejects.kept if reject.kind == "line"} == {likely}
    (tmp_path / "a.jsonl").unlink()
    put(tmp_path, "b.csv", rows(RUSSIAN).replace("note", "текст", 1).encode("cp1251"))
    said = refused(str(tmp_path / "site"), "--from", str(tmp_path / "b.csv"), "--encoding", "utf-8", "--yes")
    assert said == (
        f"b.csv, line 1: the header {likely}; name the encoding (--encoding of `weakfish init`, source.encoding in "
        "params.yaml)."
    )


def test_damage_in_a_file_of_utf8_suggests_no_other_encoding(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", rows(RUSSIAN).encode() + b"last,a,M\xfcller\n")
    reader = TabularSource({"path": ".", "columns": {"id": "string", "note": "string"}, "key": "id"})
    assert sum(batch.num_rows for batch in reader.read(tmp_path)) == 121
    assert [reject.reason for reject in reader.rejects.kept if reject.kind == "value"] == [
        "has bytes that are not text in utf-8"
    ]


def test_init_and_ingest_say_that_bytes_are_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "a.csv", rows(JAPANESE).encode("cp932"))
    said = init("site", "--from", "a.csv", "--classes", "a,b", "--encoding", "cp1253", "--yes")
    (sentence,) = (line for line in said.splitlines() if line.startswith("Values of note that become null"))
    reason = "has bytes that are not text in cp1253; it is likely cp932 (--encoding, or source.encoding)"
    assert sentence.endswith(f", for each {reason}. data/quarantine/raw will tell which.")
    project = Project(tmp_path / "site")
    with own_modules():
        fetch(project)
        ingest(project)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("ingest: Column note: ")
    assert first.endswith(f" values became null, for each {reason}.")
    assert "values became null (note " in last


def test_bytes_of_parquet_that_are_no_text_say_so(tmp_path: Path) -> None:
    table = {"id": ["a", "b", "c"], "n": pa.array([b"1", b"\xff", b"x"]), "note": pa.array([b"ok", b"\xfc", b"\x00y"])}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    reader = TabularSource({"path": ".", "columns": {"id": "string", "n": "integer", "note": "string"}, "key": "id"})
    read = pa.Table.from_batches(reader.read(tmp_path)).to_pylist()
    assert [(row["n"], row["note"]) for row in read] == [(1, "ok"), (None, None), (None, None)]
    told = {(reject.line, reject.column): reject.reason for reject in reader.rejects.kept}
    assert told[2, "n"] == told[2, "note"] == "is bytes that are not UTF-8"
    assert told[3, "n"] == "is not an integer of 64 bits"
