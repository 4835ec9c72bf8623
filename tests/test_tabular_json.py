"""JSON in all its forms: one object a line, an array, printed over lines; inner objects, and keys that nearly agree."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tabular import put

from weakfish.errors import SourceError
from weakfish.sources.tabular import TabularSource, infer
from weakfish.sources.tabular import jsonl as lines

RECORDS = [
    {"id": f"o{n}", "user": {"name": f"u{n % 3}", "place": {"city": "Köln"}}, "n": n, "tags": ["a", "b"]}
    for n in range(200)
]
COLUMNS = {"id": "string", "user_name": "string", "user_place_city": "string", "n": "integer", "tags": "string"}
FORMS = {
    "lines": "".join(json.dumps(record) + "\n" for record in RECORDS),
    "array": json.dumps(RECORDS),
    "pretty array": json.dumps(RECORDS, indent=2, ensure_ascii=False),
    "line for each element": "[\n" + ",\n".join(json.dumps(record) for record in RECORDS) + "\n]\n",
    "pretty objects": "\n".join(json.dumps(record, indent=4) for record in RECORDS),
    "windows": json.dumps(RECORDS, indent=2).replace("\n", "\r\n"),
}


def read(folder: Path, columns: dict[str, str]) -> tuple[list[dict[str, Any]], TabularSource]:
    reader = TabularSource({"path": ".", "columns": columns})
    rows = pa.Table.from_batches(reader.read(folder), reader.schema).to_pylist()
    return [{name: row[name] for name in columns} for row in rows], reader


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_all_forms_of_json_are_the_same_rows(tmp_path: Path, form: str, name: str) -> None:
    put(tmp_path, name, FORMS[form])
    found = infer(tmp_path)
    assert {column.name: column.kind for column in found.columns} == COLUMNS
    assert [column.header for column in found.columns][1:3] == ["user.name", "user.place.city"]
    rows, reader = read(tmp_path, COLUMNS)
    assert reader.rejects.kept == []
    assert [row["id"] for row in rows] == [f"o{n}" for n in range(200)]
    assert rows[4] == {"id": "o4", "user_name": "u1", "user_place_city": "Köln", "n": 4, "tags": '["a","b"]'}


def test_inner_objects_are_read_the_fast_way_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {name: kind for name, kind in COLUMNS.items() if name != "tags"}  # JSON as text is read line by line
    put(tmp_path, "a.jsonl", FORMS["lines"])
    monkeypatch.setattr(lines._Lines, "_slow", None)
    rows, reader = read(tmp_path, columns)
    assert rows[199] == {"id": "o199", "user_name": "u1", "user_place_city": "Köln", "n": 199}
    assert [reject.reason for reject in reader.rejects.kept] == [
        "has a column 'tags' that is not in source.columns; it is left out"
    ]


@pytest.mark.parametrize("exact", [False, True])
def test_an_inner_object_may_be_missing_null_or_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    records = [{"n": n} if n < 150 else {"n": n, "user": None if n % 2 else {"name": f"u{n}"}} for n in range(200)]
    put(tmp_path, "a.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    if exact:
        monkeypatch.setattr(lines._Lines, "_fast", lambda *_: None)
    rows, reader = read(tmp_path, {"n": "integer", "user_name": "string"})
    assert [row["user_name"] for row in rows[148:153]] == [None, None, "u150", None, "u152"]
    assert reader.rejects.kept == []


def test_a_json_file_beside_rows_is_about_them(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "n\n1\n2\n")
    put(tmp_path, "a.json", '{"about": "a.csv"}')
    assert (infer(tmp_path).format, infer(tmp_path).files) == ("csv", 1)


def test_a_column_that_holds_the_whole_object_stays_json(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", '{"user": {"name": "a", "age": 1.50}}\n{"user": "b"}\n')
    rows, reader = read(tmp_path, {"user": "string"})
    assert [row["user"] for row in rows] == ['{"name":"a","age":1.50}', "b"]
    assert reader.rejects.kept == []
    assert [column.name for column in infer(tmp_path).columns] == ["user"]


def test_an_object_of_many_keys_is_a_table_of_its_own_and_stays_json(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", "".join(json.dumps({"n": n, "seen": {f"k{n}": n}}) + "\n" for n in range(90)))
    assert [column.name for column in infer(tmp_path).columns] == ["n", "seen"]


@pytest.mark.parametrize("exact", [False, True])
def test_keys_that_differ_in_case_are_one_column_and_the_very_name_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    put(tmp_path, "a.jsonl", '{"Id": 1, "id": "a", "n": 1}\n{"id": "b", "Id": 2, "n": 2}\n{"Id": 3, "n": 3}\n')
    if exact:
        monkeypatch.setattr(lines._Lines, "_fast", lambda *_: None)
    rows, reader = read(tmp_path, {"id": "string", "n": "integer"})
    assert rows == [{"id": "a", "n": 1}, {"id": "b", "n": 2}, {"id": "3", "n": 3}]
    assert [(reject.kind, reject.reason) for reject in reader.rejects.kept] == [
        ("file", "has a key 'Id' beside 'id', which is of the same column; it is left out where both have a value")
    ]
    assert any("'id'" in note and "'Id'" in note for note in infer(tmp_path).notes)


def test_fields_of_parquet_structures_are_columns_too(tmp_path: Path) -> None:
    at = datetime(2024, 5, 31, 12, tzinfo=UTC)
    users = [{"name": "a", "place": {"city": "Bonn"}, "at": at}, {"name": None, "place": None, "at": None}, None]
    pq.write_table(pa.table({"n": [1, 2, 3], "user": users, "tags": [["x"], [], None]}), tmp_path / "a.parquet")
    found = infer(tmp_path)
    kinds = {column.name: column.kind for column in found.columns}
    assert kinds == {
        "n": "integer",
        "user_name": "string",
        "user_place_city": "string",
        "user_at": "time",
        "tags": "string",
    }
    rows, reader = read(tmp_path, kinds)
    assert rows[0] == {"n": 1, "user_name": "a", "user_place_city": "Bonn", "user_at": at, "tags": '["x"]'}
    assert rows[1:] == [
        {"n": 2, "user_name": None, "user_place_city": None, "user_at": None, "tags": "[]"},
        {"n": 3, "user_name": None, "user_place_city": None, "user_at": None, "tags": None},
    ]
    assert reader.rejects.kept == []
    whole, _ = read(tmp_path, {"user": "string"})
    assert json.loads(whole[0]["user"])["place"] == {"city": "Bonn"}


@pytest.mark.parametrize("broken", ['"id": "b", "n: 2\n  },', '"id": "b", "n": 2', '"id": "b", "n": 2, "x": {\n  },'])
def test_an_object_that_does_not_close_costs_itself_alone(tmp_path: Path, broken: str) -> None:
    whole = '  {\n    "id": "a", "n": 1\n  },\n'
    put(tmp_path, "a.json", f"[\n{whole}  {{\n    {broken}\n{whole}{whole}]\n")
    rows, reader = read(tmp_path, {"id": "string", "n": "integer"})
    assert [row["id"] for row in rows] == ["a", "a", "a"]
    assert [(reject.line, reject.reason) for reject in reader.rejects.kept] == [
        (5, "has a bracket or a quote that never closes")
    ]


def test_a_torn_array_costs_its_last_element_and_junk_its_own_place(tmp_path: Path) -> None:
    text = json.dumps(RECORDS[:5], indent=2)
    put(tmp_path, "torn.json", text[: text.rindex('"n"')])
    put(tmp_path, "wild.json", '[\n  {"id": "a", "n": 1},\n  7,\n  {"id": "b" "n": 2},\n  {"id": "c", "n": 3}\n]\n')
    rows, reader = read(tmp_path, {"id": "string", "n": "integer"})
    assert [row["id"] for row in rows] == ["o0", "o1", "o2", "o3", "a", "c"]
    told = [(reject.file, reject.line, reject.reason[:20]) for reject in reader.rejects.kept if reject.kind == "line"]
    assert sorted(told) == [
        ("torn.json", text[: text.rindex('"id"')].count("\n"), "has a bracket or a q"),
        ("wild.json", 3, "is not a JSON object"),
        ("wild.json", 4, "is not JSON (Expecti"),
    ]
    assert {name: tally.records for name, tally in reader.tallies.items()} == {"torn.json": 5, "wild.json": 4}


ROWS = [{"id": f"o{n}", "n": n, "note": 'a ] } [ {, " é'} for n in range(200)]
LIST_COLUMNS = {"id": "string", "n": "integer", "note": "string"}
WRAPPED = {
    "one line": ("data", json.dumps({"page": {"no": 1, "of": [1, 2]}, "data": ROWS, "next": None}, ensure_ascii=False)),
    "over lines": ("data", json.dumps({"data": ROWS, "page": 1}, indent=2).replace("\n", "\r\n")),
    "nested": ("result.rows", json.dumps({"rows": [{"id": "no"}], "result": {"rows": ROWS, "n": [[1], {}]}}, indent=1)),
    "pages": ("data", "".join(json.dumps({"data": ROWS[n : n + 50], "page": n}) + "\n" for n in range(0, 200, 50))),
    "array of pages": ("data", json.dumps([{"data": ROWS[:70]}, {"data": []}, {"x": [{}], "data": ROWS[70:]}])),
}


@pytest.mark.parametrize("form", WRAPPED)
@pytest.mark.parametrize("start", [0, 1, 17])
def test_rows_may_stand_in_a_list_under_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, start: int
) -> None:
    key, text = WRAPPED[form]
    put(tmp_path, "a.json", "\n" * start + text)
    if start:  # tokens lie across what is read at once
        monkeypatch.setattr("weakfish.sources.tabular.json_documents.READ", 97 + start)
        monkeypatch.setattr("weakfish.sources.tabular.raw_files.READ", 61)
        monkeypatch.setattr("weakfish.sources.tabular.pieces.BLOCK", 500)
    reader = TabularSource({"path": ".", "columns": LIST_COLUMNS, "records": key})
    rows = pa.Table.from_batches(reader.read(tmp_path), reader.schema).select(list(LIST_COLUMNS)).to_pylist()
    assert rows == ROWS
    assert reader.rejects.kept == []
    assert reader.tallies["a.json"].lines == start + len(text.splitlines())
    assert {c.name: c.kind for c in infer(tmp_path, said={"records": key}).columns} == LIST_COLUMNS


def test_an_object_around_a_list_is_one_sentence_with_the_flag_that_helps(tmp_path: Path) -> None:
    put(tmp_path, "a.json", WRAPPED["one line"][1])
    with pytest.raises(SourceError) as error:
        infer(tmp_path / "a.json")
    assert str(error.value) == (
        "a.json is one object, in which the key 'data' holds a list of objects; --records data reads these as rows."
    )
    for name in ("a.json", "b.json"):
        put(tmp_path, name, WRAPPED["nested"][1])
    found = infer(tmp_path)
    assert found.rows == 2
    assert found.notes[-1] == (
        "Each file is one object and becomes one row, although the key 'result.rows' of a.json holds a list of "
        "objects; --records result.rows reads these as rows."
    )
    put(tmp_path, "a.json", "".join(json.dumps({"id": n, "items": ROWS[:3]}) + "\n" for n in range(9)))
    assert infer(tmp_path / "a.json").rows == 9


def test_what_is_no_row_in_a_list_is_a_reject_and_so_is_its_missing_end(tmp_path: Path) -> None:
    put(tmp_path, "a.json", '{"data": [\n{"id": "a"},\n7, "x]",\n[1, {"id": "no"}],\n{"id": "b"}\n], "page": 1}\n')
    put(tmp_path, "b.json", '{"page": 1,\n"data": [\n{"id": "c"},\n{"id": "d"')
    put(tmp_path, "c.json", '{"data": [{"id": "e"}\n')
    reader = TabularSource({"path": ".", "columns": {"id": "string"}, "key": "id", "records": "data"})
    rows = pa.Table.from_batches(reader.read(tmp_path), reader.schema)["id"].to_pylist()
    assert rows == ["a", "b", "c", "e"]
    assert [(reject.file, reject.line, reject.text) for reject in reader.rejects.kept] == [
        ("a.json", 3, "7"),
        ("a.json", 3, '"x]"'),
        ("a.json", 4, '[1, {"id": "no"}]'),
        ("b.json", 4, '{"id": "d"'),
        ("c.json", 1, "\\n"),
    ]
    assert {name: tally.lines for name, tally in reader.tallies.items()} == {"a.json": 6, "b.json": 4, "c.json": 1}
    reader = TabularSource({"path": ".", "columns": {"id": "string"}, "key": "id", "records": "rows"})
    with pytest.raises(SourceError, match=r"^a\.json: no object has a list under the key 'rows'; correct source\.rec"):
        list(reader.read(tmp_path))
