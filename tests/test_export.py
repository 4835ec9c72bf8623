"""`weakfish export`: Delta and Iceberg tables that hold the rows of ours, by registered files, in one commit each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from in_process import run_here
from projects import ORDERS, git, write
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.utils.config import Config

from weakfish.contracts.gate import table_version
from weakfish.contracts.tables import TIME, read_table, write_partition
from weakfish.errors import CheckFailed, ServiceError, UnknownName, UserError
from weakfish.exports.exporting import Exported, export
from weakfish.files import sha256
from weakfish.project.paths import Project

Read = Callable[[Path], pa.Table]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project in git with labels of two months."""
    root = tmp_path / "project"
    write(root / "params.yaml", ORDERS)
    write(root / "dvc.yaml", "stages: {}")
    git(root, "init", "--quiet")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--allow-empty", "-m", "one")
    for name in ("2024-01", "2024-02"):
        write_partition(root / "data/labels/fraud", name, labels(name, 3))
    return Project(root)


def labels(month: str, rows: int, **more: pa.Array) -> pa.Table:
    at = datetime.fromisoformat(f"{month}-03").replace(tzinfo=UTC)
    columns = {
        "order_id": [f"{month}-{row}" for row in range(rows)],
        "placed_at": pa.array([at] * (rows - 1) + [None], TIME),
        "p_fraud": [0.1 * row for row in range(rows)],
        "covered": [row > 0 for row in range(rows)],
        "n_votes": pa.array(range(rows), pa.int32()),
        "label": ["fraud", None, "fine", "fine"][:rows],
    }
    return pa.table({**columns, **more})


def of_delta(folder: Path) -> pa.Table:
    return DeltaTable(folder / "labels/fraud").to_pyarrow_table()


def of_iceberg(folder: Path) -> pa.Table:
    catalog, table = iceberg(folder)
    found = table.scan().to_arrow()
    catalog.close()
    return found


def iceberg(folder: Path) -> tuple[SqlCatalog, Any]:
    catalog = SqlCatalog("weakfish", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder.as_uri())
    return catalog, catalog.load_table("weakfish.labels_fraud")


READERS: dict[str, Read] = {"delta": of_delta, "iceberg": of_iceberg}


@pytest.fixture(params=READERS)
def to(request: pytest.FixtureRequest) -> Any:
    return request.param


def exported(project: Project, to: Any, folder: Path) -> Exported:
    (done,) = export(project, ["labels"], to, str(folder))
    return done


def same(found: pa.Table, ours: pa.Table) -> bool:
    """Whether two tables have the same rows and columns; texts and whole numbers may be of a wider type."""
    assert found.column_names == ours.column_names
    return bool(found.cast(ours.schema).sort_by("order_id").equals(ours.sort_by("order_id")))


def test_an_exported_table_has_our_rows_and_outlives_ours(project: Project, to: str, tmp_path: Path) -> None:
    ours, files = read_table(project.table("labels/fraud")), sorted(project.table("labels/fraud").iterdir())
    hashes = {sha256(file) for file in files}
    done = exported(project, to, tmp_path / "lake")
    assert (done.added, done.removed) == (2, 0)
    shutil.rmtree(project.data)
    assert same(READERS[to](tmp_path / "lake"), ours)
    assert {sha256(file) for file in (tmp_path / "lake").rglob("2024-*.parquet")} == hashes, "nothing is rewritten"


def test_the_table_says_our_version_and_revision(project: Project, tmp_path: Path) -> None:
    said = {
        "weakfish.data_version": table_version(project, "labels/fraud"),
        "weakfish.git_revision": git(project.root, "rev-parse", "HEAD").strip(),
        "weakfish.table": "labels/fraud",
    }
    for kind in READERS:
        exported(project, kind, tmp_path / kind)
    commit = DeltaTable(tmp_path / "delta/labels/fraud").history()[0]
    assert {name: commit[name] for name in said} == said
    catalog, table = iceberg(tmp_path / "iceberg")
    assert said.items() <= table.properties.items()
    assert said.items() <= table.current_snapshot().summary.additional_properties.items()
    catalog.close()


def test_the_same_data_again_is_no_new_version(project: Project, to: str, tmp_path: Path) -> None:
    first = exported(project, to, tmp_path / "lake")
    before = {file: file.read_bytes() for file in (tmp_path / "lake").rglob("*") if file.is_file()}
    again = exported(project, to, tmp_path / "lake")
    assert (again.added, again.removed, again.version) == (0, 0, first.version)
    assert {file: file.read_bytes() for file in (tmp_path / "lake").rglob("*") if file.is_file()} == before


def test_changed_data_replace_the_rows_in_one_version_and_the_former_can_be_read(
    project: Project, to: str, tmp_path: Path
) -> None:
    former = read_table(project.table("labels/fraud"))
    first = exported(project, to, tmp_path / "lake")
    folder = project.table("labels/fraud")
    (folder / "2024-01.parquet").unlink()
    for name in ("2024-02", "2024-03"):
        write_partition(folder, name, labels(name, 4))
    done = exported(project, to, tmp_path / "lake")
    assert (done.added, done.removed) == (2, 2)
    assert same(READERS[to](tmp_path / "lake"), read_table(folder))
    if to == "delta":
        table = DeltaTable(tmp_path / "lake/labels/fraud", version=first.version)
        assert done.version == first.version + 1
        assert same(table.to_pyarrow_table(), former)
    else:
        catalog, found = iceberg(tmp_path / "lake")
        assert found.current_snapshot().parent_snapshot_id == first.version
        assert same(found.scan(snapshot_id=first.version).to_arrow(), former)
        catalog.close()


def test_a_new_month_is_appended(project: Project, to: str, tmp_path: Path) -> None:
    exported(project, to, tmp_path / "lake")
    write_partition(project.table("labels/fraud"), "2024-03", labels("2024-03", 2))
    done = exported(project, to, tmp_path / "lake")
    assert (done.added, done.removed) == (1, 0)
    assert same(READERS[to](tmp_path / "lake"), read_table(project.table("labels/fraud")))


def test_columns_come_and_go(project: Project, to: str, tmp_path: Path) -> None:
    exported(project, to, tmp_path / "lake")
    for name in ("2024-01", "2024-02"):
        table = labels(name, 3, rests_on=pa.array(["votes"] * 3)).drop_columns("covered")
        write_partition(project.table("labels/fraud"), name, table)
    exported(project, to, tmp_path / "lake")
    assert same(READERS[to](tmp_path / "lake"), read_table(project.table("labels/fraud")))


def test_a_type_that_changes_is_one_sentence_or_the_new_type(project: Project, to: str, tmp_path: Path) -> None:
    exported(project, to, tmp_path / "lake")
    before = READERS[to](tmp_path / "lake")
    for name in ("2024-01", "2024-02"):
        table = labels(name, 3)
        place = table.schema.get_field_index("p_fraud")
        write_partition(project.table("labels/fraud"), name, table.set_column(place, "p_fraud", pa.array(["a"] * 3)))
    if to == "delta":
        exported(project, to, tmp_path / "lake")
        assert same(of_delta(tmp_path / "lake"), read_table(project.table("labels/fraud")))
        return
    with pytest.raises(UserError, match=r"Column p_fraud of .*labels_fraud is double there and string here"):
        exported(project, to, tmp_path / "lake")
    assert of_iceberg(tmp_path / "lake").equals(before)


def test_a_shut_gate_exports_nothing(project: Project, to: str, tmp_path: Path) -> None:
    write(project.root / "validation/labels/fraud.py", "EXPECTATIONS = []")
    with pytest.raises(CheckFailed, match="labels/fraud has not been validated"):
        exported(project, to, tmp_path / "lake")
    assert not (tmp_path / "lake").exists()


def test_a_catalog_that_pyiceberg_knows_gets_the_table(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__SHOP__URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__SHOP__WAREHOUSE", f"file://{tmp_path}/warehouse")
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())  # it looks at the environment once, when imported
    export(project, ["labels/fraud"], "iceberg", "shop.labels_of_orders")
    catalog = load_catalog("shop")
    assert same(
        catalog.load_table("labels_of_orders.labels_fraud").scan().to_arrow(),
        read_table(project.table("labels/fraud")),
    )
    catalog.close()


def test_the_command_prints_what_it_did(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = str(tmp_path / "lake")
    run_here(project.root, ["export", "labels", "--to", "delta", lake])
    assert capsys.readouterr().out == f"labels/fraud: 2 files came into {lake}/labels/fraud; version 0.\n"
    run_here(project.root, ["export", "labels/fraud", "--to", "delta", lake, "--json"])
    (said,) = json.loads(capsys.readouterr().out)["tables"]
    assert said == {
        "table": "labels/fraud",
        "address": f"{lake}/labels/fraud",
        "version": 0,
        "added": 0,
        "removed": 0,
        "data_version": table_version(project, "labels/fraud"),
    }


def test_what_cannot_be_exported_is_one_sentence(project: Project, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'labels/fraud'"):
        export(project, ["labels/frauds"], "delta", str(tmp_path))
    with pytest.raises(UnknownName, match="no table to export 'events'"):
        export(project, ["events"], "delta", str(tmp_path))
    (tmp_path / "file").touch()
    for kind in ("delta", "iceberg"):
        with pytest.raises(UserError, match="cannot be written"):
            export(project, ["labels"], kind, str(tmp_path / "file"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="a catalog in a file cannot lie there"):
        export(project, ["labels"], "iceberg", "s3://bucket/lake")


def test_a_word_makes_no_folder_and_a_file_address_with_a_host_is_refused(
    project: Project, to: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for address in ("file://host/lake", "file:lake", "file://"):
        with pytest.raises(UserError, match=r"names no folder of this machine; write it as file:///folder/below"):
            export(project, ["labels"], to, address)
    if to == "iceberg":
        with pytest.raises(UserError, match=r"'shop' is neither a folder nor catalog\.namespace .*; write \./shop for"):
            export(project, ["labels"], to, "shop")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_catalog_that_does_not_answer_is_no_mistake_of_the_user(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__DOWN__URI", "http://127.0.0.1:1")
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())
    with pytest.raises(ServiceError, match="cannot be written, for its service does not answer") as raised:
        export(project, ["labels"], "iceberg", "down.weakfish")
    assert raised.value.exit_code == 3


def test_a_table_that_no_export_made_stays_as_it_is(project: Project, to: Any, tmp_path: Path) -> None:
    theirs, lake = pa.table({"mine": ["a", "b"]}), tmp_path / "lake"
    lake.mkdir()
    if to == "delta":
        write_deltalake(lake / "labels/fraud", theirs)
    else:
        catalog = SqlCatalog("weakfish", uri=f"sqlite:///{lake}/catalog.db", warehouse=lake.as_uri())
        catalog.create_namespace("weakfish")
        catalog.create_table("weakfish.labels_fraud", theirs.schema).append(theirs)
        catalog.close()
    with pytest.raises(UserError, match="is a table that Weakfish did not make, and stays as it is"):
        exported(project, to, lake)
    assert READERS[to](lake).to_pylist() == theirs.to_pylist()


@pytest.mark.parametrize("address", ["", " ", "s3://u:SECRETPW@b/x", "s3://b/x?k=SECRETPW", "s3://b/x#SECRETPW"])
def test_an_address_that_is_empty_or_may_hold_a_secret_is_refused(project: Project, to: Any, address: str) -> None:
    with pytest.raises(UserError, match=r"The address to export to (is empty|must hold neither)") as raised:
        export(project, ["labels"], to, address)
    assert "SECRETPW" not in str(raised.value)
