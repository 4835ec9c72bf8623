"""Tables in storage that machines share: the same bytes, pointers for DVC, and other machines that go on from there."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pyarrow as pa
import pytest
from buckets import commit, done, make_bucket, named, s3_server, stored_orders, tables
from in_process import run_here
from projects import contents, replace, weakfish

import weakfish as api
from weakfish.contracts import pointers
from weakfish.contracts.gate import table_version
from weakfish.contracts.pointers import SUFFIX, listed, local, settle
from weakfish.contracts.storage import storage_of
from weakfish.contracts.tables import open_partition, partitions, read_table, write_partition
from weakfish.engine.duckdb import connect
from weakfish.errors import CheckFailed, UserError
from weakfish.exports.exporting import Format, export
from weakfish.feast.offline import require_open_source
from weakfish.feast.source_files import Session, files, open_files
from weakfish.files import sha256
from weakfish.labeling.flips import diff
from weakfish.project.paths import Project

FUNCTIONS = "labeling_functions/orders.py"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    with s3_server(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def made(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project about orders on a bucket, made by `dvc repro` and committed, its pointers in a remote of DVC."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        named(monkeypatch, endpoint)
        home = tmp_path_factory.mktemp("stored")
        root = stored_orders(home / "orders", make_bucket(endpoint, "made"))
        done(root, "dvc", "repro", "--quiet")
        done(root, "dvc", "remote", "add", "--quiet", "--default", "pointers", str(home / "remote"))
        commit(root)
        done(root, "dvc", "push", "--quiet")
        return root


@pytest.fixture
def stored(made: Path, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, and the environment that names its server."""
    named(monkeypatch, endpoint)
    return Path(shutil.copytree(made, tmp_path / "orders", symlinks=True))


@pytest.fixture
def second(made: Path, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine: a clone with DVC's outs and empty caches."""
    named(monkeypatch, endpoint)
    root = tmp_path / "second"
    done(tmp_path, "git", "clone", "--quiet", str(made), str(root))
    done(root, "dvc", "pull", "--quiet")
    return root


def test_tables_and_records_are_those_of_a_project_that_keeps_them_in_its_folder(stored: Path, tmp_path: Path) -> None:
    here = stored_orders(tmp_path / "local", None)
    done(here, "dvc", "repro", "--quiet")
    assert tables(stored) == tables(here)
    assert not list((here / "data").rglob(f"*{SUFFIX}"))
    assert {file.parent.name for file in (stored / "data").rglob("*.parquet")} == {"masks", "labels"}  # of masks
    for folder in ("reports/validation", "reports/gates", "data/profiles", "data/masks"):
        assert contents(stored / folder) == contents(here / folder)


def test_a_pointer_names_no_address_so_another_bucket_gives_the_same(stored: Path, endpoint: str) -> None:
    before = contents(stored / "data/events")
    replace(stored / "params.yaml", "s3://made/", f"{make_bucket(endpoint, 'another')}/deeper/")
    run_here(stored, ["ingest"], ["validate", "events"], ["accept"])
    assert contents(stored / "data/events") == before
    assert all(name.endswith(SUFFIX) for name in before)


def test_the_environment_names_another_storage(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKFISH_STORAGE", f"file://{tmp_path}/shared")
    run_here(stored, ["ingest"])
    objects = {file.name for file in (tmp_path / "shared/objects").rglob("*") if file.is_file()}
    assert objects >= set(_digests(stored / "data/staged"))


def _digests(folder: Path) -> list[str]:
    found = (pointers.pointer_of(file) for file in listed(folder))
    return [pointer.sha256 for pointer in found if pointer]


def test_a_second_machine_goes_on_from_the_pointers(second: Path, stored: Path) -> None:
    assert "Nothing changed" in weakfish(second, "run").stdout
    assert not (second / ".weakfish/objects").exists()  # and to know that, it fetched nothing

    for root in (second, stored):
        replace(root / FUNCTIONS, "order.amount > 200", "order.amount > 150")
    said = weakfish(second, "run").stdout
    assert "fraud: 1 of 4 labeling functions, 2 of 2 partitions: 2 of 8 pieces computed." in said
    done(stored, "dvc", "repro", "--quiet")
    assert tables(second) == tables(stored)


def test_votes_that_failed_on_a_row_are_computed_anew_elsewhere(stored: Path, second: Path) -> None:
    for root in (stored, second):
        replace(root / FUNCTIONS, 'if order.note == "book"', "if 1 // order.amount or True")
        replace(root / "params.yaml", "functions: all", "functions: all\n    max_faults: 30")
    for root in (stored, second):
        run_here(root, ["vote"])
    reports = [(root / "reports/votes.json").read_text() for root in (stored, second)]
    assert reports[0] == reports[1]
    assert '"count": 0' not in reports[0]


def test_partitions_are_fetched_when_they_are_opened_and_not_before(second: Path) -> None:
    files_of_events = partitions(second / "data/events")
    assert list(files_of_events) == ["2024-01", "2024-02"]
    version = table_version(Project(second), "events")
    assert not (second / ".weakfish/objects").exists()
    open_partition(files_of_events["2024-02"])
    assert [file.name for file in (second / ".weakfish/objects").rglob("*.parquet")] == ["2024-02.parquet"]
    assert table_version(Project(second), "events") == version


def test_whoever_reads_in_order_gets_the_next_partitions_at_once_and_others_only_theirs(stored: Path) -> None:
    names = [f"2024-{month:02}" for month in range(1, 13)]
    for place, name in enumerate(names):
        write_partition(stored / "data/other", name, pa.table({"a": [place]}))
    settle(stored, stored / "data/other")
    of = dict(zip(names, _digests(stored / "data/other"), strict=True))

    def fetched() -> list[str]:
        return [name for name, digest in of.items() if (stored / ".weakfish/objects" / digest).exists()]

    files_of_other = partitions(stored / "data/other")
    shutil.rmtree(stored / ".weakfish/objects")
    for name in ("2024-06", "2024-02"):
        local(files_of_other[name])
    assert fetched() == ["2024-02", "2024-06"]
    local(files_of_other["2024-03"])
    assert fetched() == names[1:10]  # eight from there
    assert read_table(stored / "data/other")["a"].to_pylist() == list(range(12))


def test_python_the_engine_and_feast_read_what_lies_there(second: Path, stored: Path, tmp_path: Path) -> None:
    events = read_table(stored / "data/events")
    assert api.open(second).events.arrow().equals(events)
    engine = connect()
    assert engine.run(engine.read(list(partitions(second / "data/events").values()))).num_rows == 29
    for path in ("data/events", "data/events/*.parquet", "data/events/2024-01.parquet"):
        assert files(path, second, "events")[0].name == "2024-01.parquet"
    with duckdb.connect() as connection:
        found = open_files(Session(connection, tmp_path, second), "data/events", "events")
        assert connection.sql(f"FROM {found.scan}").to_arrow_table().num_rows == events.num_rows


def test_a_shut_gate_holds_back_a_single_partition_too(stored: Path) -> None:
    one = SimpleNamespace(path="data/labels/fraud/2024-01.parquet")
    require_open_source(one, stored)
    write_partition(stored / "data/labels/fraud", "2024-03", pa.table({"a": [1]}))
    with pytest.raises(CheckFailed, match="about different data than the table holds"):
        require_open_source(one, stored)


def test_labels_are_explained_and_compared_with_a_revision_whose_objects_are_fetched(stored: Path) -> None:
    replace(stored / FUNCTIONS, 'contains("gift")', 'contains("book")')
    run_here(stored, ["vote"], ["label"])
    shutil.rmtree(stored / ".weakfish/objects")
    found = diff(Project(stored), "fraud", "HEAD")
    assert found["rows"] == {"old": 29, "new": 29}
    assert found["groups"]
    explained = weakfish(stored, "explain", "o12")
    assert explained.returncode == 0, explained.stderr


@pytest.mark.parametrize("to", ["delta", "iceberg"])
def test_tables_are_exported_from_what_pointers_stand_for(second: Path, tmp_path: Path, to: Format) -> None:
    (exported,) = export(Project(second), ["labels"], to, str(tmp_path / "lake"))
    assert exported.data_version == table_version(Project(second), "labels/fraud")
    copies = {sha256(file) for file in (tmp_path / "lake").rglob("*.parquet")}
    assert copies == set(_digests(second / "data/labels/fraud"))  # so that `weakfish gc` takes nothing from them


def test_files_beyond_the_setting_leave_the_cache_oldest_first_and_come_back(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = partitions(stored / "data/events").values()
    shutil.rmtree(stored / ".weakfish/objects")
    with (stored / "params.yaml").open("a") as params:
        params.write("# smaller\n")
    replace(
        stored / "params.yaml", "storage: s3://made/tables", "storage: {uri: s3://made/tables, max_cache_megabytes: 0}"
    )
    local(first)
    assert local(last).exists()
    assert local(first).exists()  # of what was asked for just now nothing goes
    monkeypatch.setattr(pointers, "IN_USE", -1.0)
    shutil.rmtree(local(last).parent, ignore_errors=True)
    local(last)
    assert not list((stored / ".weakfish/objects").rglob("*.parquet"))


def test_a_table_becomes_pointers_at_once_or_not_at_all(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(stored / "data/events")
    monkeypatch.setenv("WEAKFISH_STORAGE", "s3://nowhere/tables")
    with pytest.raises(UserError, match=r"The bucket of s3://nowhere/tables does not exist"):
        run_here(stored, ["accept"])
    assert contents(stored / "data/events") == before
    assert not [path for path in (stored / "data").rglob(".*") if "part-" in path.name]


def test_the_same_rows_in_two_tables_are_one_object(stored: Path) -> None:
    for table in ("one", "two"):
        write_partition(stored / "data" / table, "2024-01", pa.table({"a": [1, 2, 3]}))
        settle(stored, stored / "data" / table)
    storage = storage_of(stored)
    assert storage is not None
    digests = {digest for table in ("one", "two") for digest in _digests(stored / "data" / table)}
    assert len(digests) == 1
    assert storage.look(storage.object(digests.pop())) is not None
    assert read_table(stored / "data/two").equals(read_table(stored / "data/one"))
