"""Tables that others keep as sources: the same settings and the same bytes as of the same rows in Parquet."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake
from in_process import own_modules
from postgres import PASSWORD, postgres
from projects import write
from pyiceberg.catalog import load_catalog
from pyiceberg.utils.config import Config

from weakfish.contracts.ledgers import read_ledger
from weakfish.contracts.tables import read_table
from weakfish.errors import ParamsError, ServiceError, SourceError, UserError
from weakfish.project.paths import Project
from weakfish.sources.fetching import fetch, look
from weakfish.sources.ingest import ingest
from weakfish.sources.lake import snapshot, warehouse

UTC, BERLIN = dt.UTC, dt.timezone(dt.timedelta(hours=1))

ROWS = pa.table(
    {
        "order_id": ["a", "b", "c", "d"],
        "placed_at": pa.array(
            [dt.datetime(2024, 1, day, 12, 30, 0, 250_000, tzinfo=UTC) for day in (1, 2, 3)] + [None],
            pa.timestamp("us", "UTC"),
        ),
        "amount": pa.array([Decimal("1.10"), None, Decimal("-3.00"), Decimal("99999999.99")], pa.decimal128(12, 2)),
        "price": pa.array([Decimal("1.10"), None, Decimal("-3.00"), Decimal("99999999.99")], pa.decimal128(12, 2)),
        "local": pa.array([dt.datetime(2024, 3, 31, 1, 0), None] * 2, pa.timestamp("us")),
        "day": pa.array([dt.date(2024, 2, 29), None] * 2),
        "items": pa.array([1, 2, None, (1 << 53) + 1], pa.int64()),
        "weight": pa.array([0.1, None, -0.0, 1e300]),
        "paid": pa.array([True, False, None, True]),
        "note": ["grüß dich", "", None, "NULL"],
        "status": ["fraud", None, "fine", None],
    }
)
NESTED = ROWS.append_column("buyer", pa.array([{"id": "x", "age": 3}, None, {"id": None, "age": 4}, {"id": "y"}]))
NESTED = NESTED.append_column("tags", pa.array([["a", "b"], [], None, ["c"]]))

COLUMNS = {
    **{"order_id": "string", "placed_at": "time", "amount": "number", "price": "string", "local": "time"},
    **{"day": "date", "items": "integer", "weight": "number", "paid": "boolean", "note": "string", "status": "string"},
}
NESTED_COLUMNS = {**COLUMNS, "buyer_id": "string", "buyer_age": "integer", "tags": "string"}

Make = Callable[..., Project]


@pytest.fixture
def made(tmp_path: Path) -> Make:
    """Makes a project with a source of these settings, fetched and ingested."""

    def make(name: str, **settings: Any) -> Project:
        project = described(tmp_path / name, **settings)
        with own_modules(project.root):
            fetch(project)
            ingest(project)
        return project

    return make


def described(root: Path, **settings: Any) -> Project:
    settings = {"columns": COLUMNS, "key": "order_id", "time": "placed_at", "time_zone": "Europe/Berlin", **settings}
    source = {"reader": "sources.events:Events", "gold": {"fraud": "status"}, **settings}
    write(root / "dvc.yaml", "stages: {}")
    write(root / "sources/__init__.py", "")
    write(
        root / "sources/events.py",
        "from pathlib import Path\n\nfrom weakfish.sources.tabular import tabular_source\n\n"
        "Events = tabular_source(Path(__file__).parents[1])\n",
    )
    params = {
        "events": {"key": "order_id", "time": "placed_at"},
        "source": source,
        "gold": {"split": "2024-01-02"},
        "tasks": {"fraud": {"classes": ["fine", "fraud"], "functions": "all"}},
        "evaluate": {"text": ["note"], "seeds": [1], "bootstrap": 10},
    }
    write(root / "params.yaml", yaml.safe_dump(params))
    return Project(root)


def outs(project: Project) -> dict[str, bytes]:
    """The bytes of staged events and gold."""
    files = [file for name in ("staged", "gold") for file in sorted((project.data / name).rglob("*.parquet"))]
    return {str(file.relative_to(project.data)): file.read_bytes() for file in files}


def of_parquet(made: Make, tmp_path: Path, rows: pa.Table, **settings: Any) -> dict[str, bytes]:
    """What the same rows give that lie in Parquet."""
    pq.write_table(rows, tmp_path / "rows.parquet")
    found = outs(made("parquet", path="../rows.parquet", **settings))
    assert len(found) == 4
    return found


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A catalog of Iceberg tables that pyiceberg knows as `lake`, with the namespace `shop`."""
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__WAREHOUSE", f"file://{tmp_path}/lake")
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())  # it looks at the environment once, when imported
    catalog = load_catalog("lake")
    catalog.create_namespace("shop")
    yield catalog
    catalog.close()


def test_a_delta_table_gives_what_its_rows_in_parquet_give(made: Make, tmp_path: Path) -> None:
    write_deltalake(tmp_path / "orders", NESTED.slice(0, 3))
    write_deltalake(tmp_path / "orders", NESTED.slice(3), mode="append")
    project = made("delta", format="delta", path="../orders", columns=NESTED_COLUMNS)
    assert outs(project) == of_parquet(made, tmp_path, NESTED, columns=NESTED_COLUMNS)
    assert read_ledger(project, "fetch").fetched == {"table": "../orders", "version": 1, "rows": 4}


def test_an_iceberg_table_gives_what_its_rows_in_parquet_give(made: Make, tmp_path: Path, lake: Any) -> None:
    table = lake.create_table("shop.orders", NESTED.schema)
    table.append(NESTED.slice(2))
    table.append(NESTED.slice(0, 2))
    project = made("iceberg", format="iceberg", path="lake.shop.orders", columns=NESTED_COLUMNS)
    assert outs(project) == of_parquet(made, tmp_path, NESTED, columns=NESTED_COLUMNS)
    version = table.current_snapshot().snapshot_id
    assert read_ledger(project, "fetch").fetched == {"table": "lake.shop.orders", "version": version, "rows": 4}


def test_a_pinned_version_stays_when_the_table_goes_on(made: Make, tmp_path: Path, lake: Any) -> None:
    expected = of_parquet(made, tmp_path, ROWS)
    write_deltalake(tmp_path / "orders", ROWS)
    DeltaTable(tmp_path / "orders").delete("order_id = 'a'")
    assert outs(made("delta-0", format="delta", path="../orders", version=0)) == expected
    assert outs(made("delta-1", format="delta", path="../orders")) != expected

    table = lake.create_table("shop.orders", ROWS.schema)
    table.append(ROWS)
    table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "audited").commit()
    number = table.current_snapshot().snapshot_id
    table.delete("order_id = 'a'")
    iceberg = {"format": "iceberg", "path": "lake.shop.orders"}
    assert outs(made("iceberg-0", **iceberg, version=number)) == expected
    assert outs(made("iceberg-tag", **iceberg, version="audited")) == expected
    assert outs(made("iceberg-file", format="iceberg", path=table.metadata_location, version="audited")) == expected
    assert outs(made("iceberg-1", **iceberg)) != expected


def test_a_delta_table_is_read_as_it_was_at_a_time(made: Make, tmp_path: Path) -> None:
    write_deltalake(tmp_path / "orders", ROWS)
    written = dt.datetime.fromtimestamp(DeltaTable(tmp_path / "orders").history()[0]["timestamp"] / 1000, UTC)
    at = written + dt.timedelta(milliseconds=1)
    while dt.datetime.now(UTC) <= at + dt.timedelta(milliseconds=5):
        pass
    DeltaTable(tmp_path / "orders").delete()
    project = made("delta", format="delta", path="../orders", version=at)  # YAML makes a time of it, too
    assert outs(project) == of_parquet(made, tmp_path, ROWS)
    assert read_ledger(project, "fetch").fetched["version"] == 0  # type: ignore[index]
    with pytest.raises(SourceError, match=r"was not there at 2020-01-01: its first version .* is of 20"):
        made("early", format="delta", path="../orders", version="2020-01-01")


def test_fetch_is_stale_once_the_table_has_another_version(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "orders", ROWS)
    project = described(tmp_path / "delta", format="delta", path="../orders")
    seen = []
    for _ in range(2):
        with own_modules(project.root):
            look(project)
        seen.append(json.loads((project.data / "files.json").read_text()))
        write_deltalake(tmp_path / "orders", ROWS, mode="append")
    assert seen == [{"table": "../orders", "version": 0}, {"table": "../orders", "version": 1}]


def test_what_iceberg_deletes_by_position_is_left_out(made: Make, tmp_path: Path, lake: Any) -> None:
    """The private name of pyiceberg that streams a file's rows applies its deletes."""
    table = lake.create_table("shop.orders", ROWS.schema)
    table.append(ROWS)
    (task,) = table.scan().plan_files()
    deletes = pa.table({"file_path": [task.file.file_path], "pos": pa.array([1], pa.int64())})
    pq.write_table(deletes, tmp_path / "deletes.parquet")
    from pyiceberg.io.pyarrow import ArrowScan

    scan = table.scan()
    reader = ArrowScan(table.metadata, table.io, scan.projection(), scan.row_filter)
    known = {task.file.file_path: [pa.chunked_array([deletes["pos"].combine_chunks()])]}
    batches = list(reader._record_batches_from_scan_tasks_and_deletes([task], known))
    assert [key for batch in batches for key in batch["order_id"].to_pylist()] == ["a", "c", "d"]


def test_memory_holds_a_row_group_and_files_have_a_bounded_size(
    made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_deltalake(tmp_path / "orders", ROWS)
    expected = of_parquet(made, tmp_path, ROWS)
    for name, value in (("ROWS_IN_A_GROUP", 1), ("ROWS_IN_A_FILE", 2)):
        monkeypatch.setattr(snapshot, name, value)
    project = made("delta", format="delta", path="../orders")
    files = sorted((project.data / "raw").iterdir())
    assert [pq.read_metadata(file).num_row_groups for file in files] == [2, 2]
    assert outs(project) == expected


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as address:
        yield address


def test_a_table_of_duckdb_gives_what_its_rows_in_parquet_give(made: Make, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.sql("CREATE TABLE orders AS FROM ROWS ORDER BY order_id DESC")
    project = made("duckdb", format="warehouse", path="duckdb://../shop.duckdb", table="orders")
    assert outs(project) == of_parquet(made, tmp_path, ROWS)
    assert read_ledger(project, "fetch").fetched == {"table": "duckdb://../shop.duckdb orders", "rows": 4}


def filled(address: str, password: str = PASSWORD) -> psycopg.Connection:
    """A connection to a server that has the rows as `shop.orders`."""
    host, _, port = address.partition("/")[0].partition(":")
    connection = psycopg.connect(host=host, port=port, user="reader", password=password, dbname="postgres")
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS shop CASCADE; CREATE SCHEMA shop")
        cursor.execute(
            "CREATE TABLE shop.orders (order_id text, placed_at timestamptz, amount numeric, price numeric(12, 2), "
            "local timestamp, day date, items bigint, weight double precision, paid boolean, note text, status text, "
            "ip inet)"
        )
        rows = [tuple(row.values()) for row in reversed(ROWS.to_pylist())]
        cursor.executemany(f"INSERT INTO shop.orders VALUES ({', '.join(['%s'] * 11)})", rows)  # noqa: S608
    connection.commit()
    return connection


def test_a_table_of_postgres_gives_what_its_rows_in_parquet_give(
    made: Make, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(server).close()
    monkeypatch.setattr(warehouse, "ROWS", 3)
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    settings = {"format": "warehouse", "path": f"postgres://reader:${{SHOP_PASSWORD}}@{server}", "table": "shop.orders"}
    project = made("postgres", **settings)
    assert "columns that are not in source.columns are left out: ip." in capsys.readouterr().err
    expected = of_parquet(made, tmp_path, ROWS)
    assert outs(project) == expected
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert outs(made("unnamed", **settings | {"path": f"postgres://reader@{server}"})) == expected


def test_rows_that_come_while_postgres_is_read_are_of_a_later_moment(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse, "ROWS", 1)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    options = described(tmp_path, format="warehouse", path=f"postgres://reader@{server}", table="shop.orders")
    with filled(server) as connection:
        found = snapshot.open_table(_table(options)).read()
        first = next(found)
        connection.execute("DELETE FROM shop.orders")
        connection.commit()
        keys = [key for batch in (first, *found) for key in batch["order_id"].to_pylist()]
    connection.close()
    assert keys == ["a", "b", "c", "d"]


def _table(project: Project) -> snapshot.TableAt:
    from weakfish.sources.tabular.settings import read_settings

    return read_settings(project.params.source.settings).table_at(project.root)


@pytest.mark.parametrize("url", ["postgres://reader:${SHOP_PASSWORD}@{server}", "postgres://reader@{server}"])
def test_no_message_holds_a_password(
    url: str, made: Make, server: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("SHOP_PASSWORD", "PGPASSWORD"):
        monkeypatch.setenv(name, "not/the one")
    with pytest.raises(SourceError, match=r"cannot be read .*password authentication failed") as raised:
        made("refused", format="warehouse", path=url.replace("{server}", server), table="shop.orders")
    shown = [str(raised.value), *capfd.readouterr()]
    assert not [text for text in shown for word in ("not/the one", "not%2Fthe") if word in text]
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("delta", "s3://u:SECRETPW@b/x"),
        ("delta", "s3://b/x?sig=SECRETPW"),
        ("iceberg", "s3://u:SECRETPW@b/x.metadata.json"),
        ("parquet", "https://u:SECRETPW@h/x.parquet"),
        ("warehouse", "duckdb://wh.duckdb?password=SECRETPW"),
    ],
)
def test_an_address_that_may_hold_a_secret_is_refused(made: Make, kind: str, address: str) -> None:
    more = {"table": "orders"} if kind == "warehouse" else {}
    with pytest.raises(ParamsError, match=r"path must (not hold a secret|hold neither)") as raised:
        made("refused", format=kind, path=address, **more)
    assert "SECRETPW" not in str(raised.value)


def test_a_password_in_the_settings_is_refused(tmp_path: Path, made: Make) -> None:
    with pytest.raises(ParamsError, match=r"holds a password; write") as raised:
        made("plain", format="warehouse", path="postgres://reader:geheim@127.0.0.1/shop", table="orders")
    assert "geheim" not in str(raised.value)
    with pytest.raises(ParamsError, match="needs NO_SUCH_NAME in the environment"):
        made("unset", format="warehouse", path="postgres://reader:${NO_SUCH_NAME}@127.0.0.1/shop", table="orders")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"format": "delta", "path": "../orders", "version": 9}, "Delta table ../orders cannot be read"),
        ({"format": "delta", "path": "../orders", "version": -1}, "source.version -1 in .* which count from 0"),
        ({"format": "delta", "path": "../orders", "version": 10**30}, "source.version 10+ in .* which count from 0"),
        ({"format": "delta", "path": "file://[x/y"}, r"Delta table file://\[x/y cannot be read"),
        ({"format": "delta", "path": "../orders", "version": "v1"}, "neither a version of a Delta table nor a time"),
        ({"format": "delta", "path": "../none"}, "Delta table ../none cannot be read"),
        ({"path": "../orders"}, "is a Delta table; set source.format: delta"),
        ({"format": "iceberg", "path": "lake.shop.none"}, "Iceberg table lake.shop.none cannot be read"),
        ({"format": "iceberg", "path": "orders"}, "give catalog.namespace.table"),
        ({"format": "iceberg", "path": "lake.shop.orders", "version": "v1"}, r"nor a ref 'v1' \(refs: main\)"),
        ({"format": "warehouse", "path": "duckdb://../none.db", "table": "orders"}, "There is no file ../none.db"),
        ({"format": "warehouse", "path": "../shop.duckdb", "table": "orders"}, "is no database; give a URL"),
        ({"format": "warehouse", "path": "duckdb://../shop.duckdb", "table": "none"}, "Table none of duckdb://"),
        ({"format": "warehouse", "path": "duckdb://../shop.duckdb", "table": "odd"}, "Column note of table odd is arr"),
        ({"format": "warehouse", "path": "duckdb://../shop.duckdb"}, "format warehouse needs it"),
        ({"path": "../rows.csv", "version": 1}, "version is of format delta and iceberg"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    settings: dict[str, Any], said: str, made: Make, tmp_path: Path, lake: Any
) -> None:
    write_deltalake(tmp_path / "orders", ROWS)
    lake.create_table("shop.orders", ROWS.schema).append(ROWS)
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.sql("CREATE TABLE odd AS SELECT 'a' AS order_id, [1, 2] AS note")
    with pytest.raises(UserError, match=said):
        made("bad", **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"format": "delta", "path": "s3://bucket/orders"},
        {"format": "iceberg", "path": "down.shop.orders"},
        {"format": "warehouse", "path": "postgres://reader@127.0.0.1:1/shop", "table": "orders"},
    ],
)
def test_a_service_that_does_not_answer_is_no_mistake_of_the_user(
    settings: dict[str, Any], made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:1", "ALLOW_HTTP": "true", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    monkeypatch.setenv("PYICEBERG_CATALOG__DOWN__URI", "http://127.0.0.1:1")
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())
    with pytest.raises(ServiceError, match="cannot be read, for its service does not answer") as raised:
        made("down", **settings)
    assert raised.value.exit_code == 3


def test_a_day_that_never_comes_is_rejected_and_not_another_day(made: Make, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.sql(
            "CREATE TABLE orders AS SELECT 'a' AS order_id, TIMESTAMPTZ '2024-01-01' AS placed_at, "
            "DATE 'infinity' AS day UNION ALL SELECT 'b', TIMESTAMPTZ 'infinity', DATE '-infinity' "
            "UNION ALL SELECT 'c', TIMESTAMPTZ '2024-01-02', DATE '9999-12-31'"
        )
    columns = {name: COLUMNS[name] for name in ("order_id", "placed_at", "day")}
    settings = {"format": "warehouse", "path": "duckdb://../shop.duckdb", "table": "orders", "gold": {}}
    project = made("never", columns=columns, **settings)
    rows = {row["order_id"]: row for row in read_table(project.staged("events")).to_pylist()}
    assert [rows[key]["day"] for key in "abc"] == [None, None, dt.date(9999, 12, 31)]
    assert rows["b"]["placed_at"] is None
    rejected = read_table(project.data / "quarantine/raw").to_pylist()
    assert sorted((each["line"], each["column"]) for each in rejected) == [(1, "day"), (3, "day"), (3, "placed_at")]
