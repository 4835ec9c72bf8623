"""Files of a tabular source on their way into the project: names, links, keys that are made, settings, the pipeline."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects import contents, replace, tiny, weakfish, write
from tabular import COLUMNS, HEADER, line, put, read, source

from weakfish.contracts.tables import read_table
from weakfish.errors import ParamsError, SourceError
from weakfish.sources.tabular import TabularSource, tabular_source


def fetched(root: Path, path: str) -> dict[str, bytes]:
    """What a fetch of a path puts into the raw folder."""
    raw = root / "data" / ".raw.part"
    raw.mkdir(parents=True)
    reader = type("Here", (TabularSource,), {"root": root})(
        {"path": path, "columns": COLUMNS, "key": "id", "time": "at"}
    )
    reader.fetch(raw)
    found = contents(raw)
    for file in sorted(raw.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    raw.rmdir()
    return found


def test_a_file_a_glob_and_a_directory_name_files_below_them(tmp_path: Path) -> None:
    for name in ("in/a.csv", "in/2024/b.csv.gz", "in/2024/c.txt", "in/_d.csv", "in/.e.csv", "in/x/f.csv"):
        put(tmp_path, name, name)
    assert fetched(tmp_path, "in/a.csv") == {"a.csv": b"in/a.csv"}
    assert list(fetched(tmp_path, "in")) == ["2024/b.csv.gz", "a.csv", "x/f.csv"]
    assert list(fetched(tmp_path, str(tmp_path / "in/*/*.csv*"))) == ["2024/b.csv.gz", "x/f.csv"]
    assert list(fetched(tmp_path, "in/**/[af].csv")) == ["a.csv", "x/f.csv"]


def test_a_new_file_leaves_the_names_and_bytes_of_the_others(tmp_path: Path) -> None:
    put(tmp_path, "in/b.csv", "b")
    before = fetched(tmp_path, "in/*.csv")
    put(tmp_path, "in/a.csv", "a")
    assert fetched(tmp_path, "in/*.csv") == before | {"a.csv": b"a"}


def test_files_are_linked_where_that_can_be(tmp_path: Path) -> None:
    file = put(tmp_path, "in/a.csv", "a")
    (tmp_path / "raw").mkdir()
    reader = type("Here", (TabularSource,), {"root": tmp_path})({"path": "in", "columns": COLUMNS})
    reader.fetch(tmp_path / "raw")
    assert (tmp_path / "raw/a.csv").stat().st_ino == file.stat().st_ino


@pytest.mark.parametrize("path", ["nothing.csv", "in/*.parquet", "empty"])
def test_a_path_without_files_is_refused(tmp_path: Path, path: str) -> None:
    put(tmp_path, "in/a.csv", "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"^There is no file for source\.path"):
        fetched(tmp_path, path)


def test_a_file_of_no_known_kind_is_refused_by_name(tmp_path: Path) -> None:
    put(tmp_path, "in/a.txt", "a")
    with pytest.raises(SourceError, match=r"^a\.txt has none of the suffixes"):
        fetched(tmp_path, "in/a.txt")


def test_a_path_may_not_climb_behind_a_wildcard(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"source\.path cannot be used"):
        fetched(tmp_path, "in/*/../../x.csv")


def test_folders_state_columns_and_a_column_of_the_file_goes_before(tmp_path: Path) -> None:
    columns = {"id": "string", "year": "integer", "shop": "string"}
    put(tmp_path, "year=2024/shop=k%C3%B6ln/a.csv", "id\na\n")
    put(tmp_path, "year=x/shop=__HIVE_DEFAULT_PARTITION__/b.csv", "id\nb\n")
    pq.write_table(pa.table({"id": ["c"], "shop": ["own"]}), put(tmp_path, "year=2025/shop=z/c.parquet", b""))
    rows, rejects = read(tmp_path, TabularSource({"path": ".", "columns": columns, "key": "id"}))
    assert [(row["id"], row["year"], row["shop"]) for row in rows] == [
        ("a", 2024, "köln"),
        ("c", 2025, "own"),
        ("b", None, None),
    ]
    assert [(r.file[:6], r.column, r.text) for r in rejects if r.kind == "value"] == [("year=x", "year", "x")]


def test_keys_that_are_made_are_the_rows_own_wherever_they_stand(tmp_path: Path) -> None:
    def keys(folder: str) -> list[str]:
        rows, _ = read(tmp_path / folder, source(key=None, columns=COLUMNS | {"gold": "string"}, gold={"kind": "gold"}))
        return [row["row_id"] for row in rows]

    header = HEADER.replace(b"\n", b",gold\n")

    def lines(*numbers: int, gold: bytes = b"x") -> bytes:
        return b"".join(line(number).replace(b"\n", b"," + gold + b"\n") for number in numbers)

    put(tmp_path, "one/b.csv", header + lines(1, 2, 1, 3, 1))
    put(tmp_path, "two/a.csv", header + lines(1, 7, gold=b"y"))
    put(tmp_path, "two/b.csv", header + lines(3, 1, 2, 1, gold=b""))
    one, two = keys("one"), keys("two")
    assert len(set(one)) == 5
    assert set(one) < set(two)
    assert [key[32:] for key in one] == ["", "", "-2", "", "-3"]


def test_made_keys_stay_apart_over_many_batches(tmp_path: Path) -> None:
    for name in "abc":
        put(tmp_path, f"{name}.csv", HEADER + b"".join(line(n % 40_000) for n in range(60_000)))
    reader = source(key=None)
    keys = [key for batch in reader.read(tmp_path) for key in batch["row_id"].to_pylist()]
    assert len(set(keys)) == len(keys) == 180_000


def test_duplicate_ids_are_rows_that_checks_judge(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", HEADER + line(1) + line(1, note="other"))
    rows, rejects = read(tmp_path)
    assert [(row["id"], row["note"]) for row in rows] == [("o1", "note 1"), ("o1", "other")]
    assert rejects == []


def test_null_values_are_null_in_every_column(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", HEADER + line(1, amount="NA", note="NA", at=" NA "))
    rows, rejects = read(tmp_path, null_values=["", "NA"])
    assert (rows[0]["amount"], rows[0]["note"], rows[0]["at"], rejects) == (None, None, None, [])


def test_delimiter_and_quote_are_settings(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "id;note\no1;'a;b'\no2;\"c\n")
    put(tmp_path, "b.csv", "note;id\n'it''s';o3\n")
    rows, rejects = read(tmp_path, delimiter=";", quote="'", columns={"id": "string", "note": "string"}, time=None)
    assert [(row["id"], row["note"]) for row in rows] == [("o1", "a;b"), ("o2", '"c'), ("o3", "it's")]
    assert rejects == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"colums": {}}, "source.colums is not a setting of a tabular source"),
        ({"path": ""}, "source.path cannot be used"),
        ({"columns": {"a b": "string"}}, "source.columns.a b"),
        ({"columns": {"a": "int"}}, "source.columns.a cannot be used"),
        ({"key": "nope"}, "key names 'nope', which is not among columns"),
        ({"key": "count"}, "key names 'count', which must be a string, not a integer"),
        ({"time": "note"}, "time names 'note', which must be a time"),
        ({"gold": {"kind": "id"}}, "key and gold both name 'id'"),
        ({"delimiter": ";;"}, "source.delimiter cannot be used: must be one ASCII character"),
        ({"delimiter": '"'}, "delimiter and quote must differ"),
        ({"encoding": "hex"}, "source.encoding cannot be used"),
        ({"time_zone": "Mars/Olympus"}, "source.time_zone cannot be used"),
        ({"format": "xls"}, "source.format cannot be used"),
        ({"key": None, "columns": COLUMNS | {"row_id": "string"}}, "columns has 'row_id'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ParamsError) as raised:
        source(**changed)
    message = str(raised.value)
    assert said in message
    assert message.startswith("params.yaml: ")
    assert message.endswith(".")
    assert "\n" not in message


def test_a_project_reads_its_files_through_the_pipeline(tmp_path: Path) -> None:
    root = tiny(tmp_path / "shop")
    write(
        root / "sources" / "files.py",
        """
        from pathlib import Path

        from weakfish.sources.tabular import tabular_source

        Events = tabular_source(Path(__file__).parents[1])
        """,
    )
    section = """\
      reader: sources.files:Events
      path: in/*.csv
      columns: {order_id: string, placed_at: time, amount: integer, note: string, label: string}
      key: order_id
      time: placed_at
      gold: {fraud: label}
    """
    replace(root / "params.yaml", "  reader: sources.orders:Orders\n", textwrap.indent(textwrap.dedent(section), "  "))
    header = "order_id,placed_at,amount,note,label\n"
    put(root, "in/a.csv", header + "o1,2024-01-02,5,book,fine\no2,2024-02-03,x,gift,fraud\nbad\no3,,7,book,\n")
    ingested(root)
    staged = read_table(root / "data/staged")
    assert staged.schema.names == ["order_id", "placed_at", "amount", "note"]
    assert staged.select(["order_id", "amount"]).to_pylist() == [
        {"order_id": "o1", "amount": 5},
        {"order_id": "o2", "amount": None},
        {"order_id": "o3", "amount": 7},
    ]
    assert sorted(contents(root / "data/gold")) == ["dev/fraud/2024-01.parquet", "test/fraud/2024-02.parquet"]
    aside = read_table(root / "data/quarantine/raw").select(["line", "kind", "column"]).to_pylist()
    assert sorted(aside, key=lambda reject: reject["line"]) == [
        {"line": 3, "kind": "value", "column": "amount"},
        {"line": 4, "kind": "line", "column": None},
    ]
    ledger = json.loads((root / "reports/ledger/ingest.json").read_text())
    assert (ledger["rows_in"], ledger["rows_out"], ledger["rejected"]) == (4, 3, 1)
    before = contents(root / "data/staged")
    put(root, "in/b.csv", header + "o4,2024-03-02,5,book,fine\n")
    ingested(root)
    assert contents(root / "data/staged") == before | {
        "2024-03.parquet": contents(root / "data/staged")["2024-03.parquet"]
    }


def ingested(root: Path) -> None:
    """Fetch and ingest, as the stages of a project do."""
    for stage in ("fetch", "ingest"):
        result = weakfish(root, stage)
        assert result.returncode == 0, result.stderr


def test_the_class_of_a_project_has_the_schema_of_its_settings(tmp_path: Path) -> None:
    root = tiny(tmp_path / "shop")
    replace(root / "params.yaml", "  reader: sources.orders:Orders\n", "  reader: sources.orders:Orders\n  path: x\n")
    with pytest.raises(ParamsError, match=r"source\.columns is missing"):
        tabular_source(root)
    replace(root / "params.yaml", "  path: x\n", "  path: x\n  columns: {a: string}\n")
    assert tabular_source(root).schema.names == ["row_id", "event_time", "a"]
