"""Storage that cannot be used: one sentence that names its address and no secret, and nothing half-written."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
from buckets import SECRET, named
from projects import contents, tiny, weakfish

from weakfish.contracts import storage
from weakfish.contracts.pointers import listed, local, settle
from weakfish.contracts.storage import Storage, address, setting_of
from weakfish.contracts.tables import read_table, write_partition
from weakfish.errors import ParamsError, StorageError, TableError, UserError
from weakfish.files import whole_file
from weakfish.project.params import load

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "RETRIES", {"max_retries": 1, "retry_timeout": timedelta(seconds=5)})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project about orders, with a table of one partition in a folder that machines share."""
    root = tiny(tmp_path / "orders")
    with (root / "params.yaml").open("a") as params:
        params.write(f"storage: file://{tmp_path}/shared\n")
    write_partition(root / "data/events", "2024-01", pa.table({"a": range(1000)}))
    settle(root, root / "data/events")
    return root


def objects(project: Path) -> list[Path]:
    return [file for file in (project.parent / "shared/objects").rglob("*") if file.is_file()]


def forget(project: Path) -> Path:
    """Empty the machine's cache; the partition."""
    for file in (project / ".weakfish/objects").rglob("*.parquet"):
        file.unlink()
    return listed(project / "data/events")[0]


@contextmanager
def answering(status: int, said: int, sent: bytes) -> Iterator[str]:
    """A service that answers every request so: with ``said`` bytes by its head, and these."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(said))
            self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.wfile.write(sent)
            self.close_connection = True

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_PUT(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        (f"s3://user:{SECRET}@bucket/tables", "neither a user or password nor a query"),
        (f"s3://{SECRET}@bucket", "neither a user or password nor a query"),
        (f"az://account/container?sig={SECRET}", "neither a user or password nor a query"),
        (f"ftp://{SECRET}/tables", "begins with one of s3://, gs://"),
        (SECRET, "begins with one of s3://, gs://"),
        ("s3:///tables", "names no bucket"),
        ("file://", "names no folder"),
        ("file://host/tables", "as file:///folder/below"),
        ("file:tables", "as file:///folder/below"),
        ("file:///tables//below", "as file:///folder/below"),
        ("FILE:///tables", "as file:///folder/below"),
        (f"s3://[{SECRET}", "is no address"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, why: str
) -> None:
    root = tiny(tmp_path / "orders")
    with (root / "params.yaml").open("a") as params:
        params.write(f"storage: {uri}\n")
    with pytest.raises(ParamsError, match=why) as found:
        load(root)
    monkeypatch.setenv(storage.VARIABLE, uri)
    with pytest.raises(ParamsError, match=f"^{storage.VARIABLE} .*{why}") as named_by_variable:
        setting_of(root)
    assert SECRET not in str(found.value) + str(named_by_variable.value)


def test_a_command_refuses_it_as_wrong_use(tmp_path: Path) -> None:
    root = tiny(tmp_path / "orders")
    result = weakfish(root, "ingest", WEAKFISH_STORAGE=f"s3://user:{SECRET}@bucket")
    assert (result.returncode, SECRET in result.stdout + result.stderr) == (2, False)
    assert not (root / "data").exists()


def test_containers_of_azure_may_name_their_account() -> None:
    assert address("abfss://container@account.dfs.core.windows.net/x/", "storage").endswith("/x")


@pytest.mark.parametrize("given", ["{uri: 's3://bucket', max_cache_megabytes: -1}", "{max_cache_megabytes: 1}", "[a]"])
def test_settings_of_storage_are_checked_like_others(tmp_path: Path, given: str) -> None:
    root = tiny(tmp_path / "orders")
    with (root / "params.yaml").open("a") as params:
        params.write(f"storage: {given}\n")
    with pytest.raises(ParamsError, match=r"params\.yaml: storage"):
        load(root)


@pytest.mark.parametrize("given", ["-3", "x", "1.5", "true"])
def test_a_setting_of_the_cache_that_is_no_number_is_told_by_every_command(tmp_path: Path, given: str) -> None:
    root = tiny(tmp_path / "orders")
    with (root / "params.yaml").open("a") as params:
        params.write(f"storage: {{uri: 'file://{tmp_path}/shared', max_cache_megabytes: {given}}}\n")
    with pytest.raises(ParamsError, match=r"storage\.max_cache_megabytes is .*; let it be a whole number, 0 or more"):
        setting_of(root)
    ended = weakfish(root, "gc")
    assert (ended.returncode, "max_cache_megabytes" in ended.stderr) == (2, True)


def test_what_a_service_cannot_be_opened_by_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for uri in (f"file://{tmp_path}/file/below", "s3://a b/c"):
        with pytest.raises(UserError, match=r"cannot be opened \(.*correct storage in params\.yaml"):
            Storage(uri)


def test_a_service_that_does_not_answer_is_told_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, NOWHERE)
    with pytest.raises(StorageError, match=r"^s3://bucket/tables cannot be used \(error sending request\)") as found:
        Storage("s3://bucket/tables").look("a")
    assert found.value.exit_code == 3
    assert SECRET not in str(found.value)


def test_a_folder_that_takes_nothing_is_told_with_the_reason_and_not_as_a_network(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_bytes(b"x")
    with pytest.raises(
        StorageError, match=r"file:///dev/fd cannot be used \([A-Z][a-z ]+\); free some space"
    ) as raised:
        Storage("file:///dev/fd").put("a/b", given, create=True)
    assert "network" not in str(raised.value)


def test_missing_and_refused_credentials_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(403, 0, b"") as endpoint:
        named(monkeypatch, endpoint)
        with pytest.raises(UserError, match=r"^s3://bucket/tables refuses these credentials; set"):
            Storage("s3://bucket/tables").put("a", b"")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", NOWHERE)
    with pytest.raises(UserError, match=r"^s3://bucket/tables needs credentials; set"):
        Storage("s3://bucket/tables").put("a", b"")


def test_a_network_that_goes_in_the_middle_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with answering(200, 1000, b"only this") as endpoint:
        named(monkeypatch, endpoint)
        cannot = pytest.raises(StorageError, match=r"^s3://bucket/tables cannot be used")
        with cannot, whole_file(tmp_path / "file") as part:
            Storage("s3://bucket/tables").fetch("0" * 64, part)
    assert not list(tmp_path.iterdir())


def test_an_object_that_is_gone_or_damaged_is_named_and_never_read(project: Path) -> None:
    file, (stored,) = forget(project), objects(project)
    content = stored.read_bytes()
    stored.write_bytes(content[:-1] + b"!")
    with pytest.raises(StorageError, match=f"objects/../{stored.name} is damaged"):
        read_table(project / "data/events")
    assert not [path for path in (project / ".weakfish/objects").rglob("*") if path.is_file()]
    stored.unlink()
    with pytest.raises(StorageError, match=f"objects/../{stored.name} does not exist, though a pointer names it"):
        local(file)
    stored.write_bytes(content)
    assert read_table(project / "data/events").num_rows == 1000


def test_an_object_that_was_found_damaged_is_put_again_though_it_looks_fresh(project: Path) -> None:
    _, (stored,) = forget(project), objects(project)
    content = stored.read_bytes()
    stored.write_bytes(content[:-1] + b"!")
    with pytest.raises(
        StorageError, match=r"is damaged: .* `weakfish run --force` for the stage .*, which puts it again"
    ):
        read_table(project / "data/events")
    write_partition(project / "data/again", "2024-01", pa.table({"a": range(1000)}))
    settle(project, project / "data/again")
    assert stored.read_bytes() == content
    assert not [file for file in (project.parent / "shared/damaged").rglob("*") if file.is_file()]


def test_a_file_of_the_cache_that_was_changed_is_named_itself(project: Path) -> None:
    kept = local(listed(project / "data/events")[0])
    content = kept.read_bytes()
    kept.write_bytes(b"x" * len(content))
    with pytest.raises(TableError, match=rf"^{kept}, this machine's copy .*; delete it and run this again"):
        read_table(project / "data/events")
    kept.unlink()
    assert read_table(project / "data/events").num_rows == 1000


def test_a_damaged_file_of_the_cache_is_fetched_again(project: Path) -> None:
    file = listed(project / "data/events")[0]
    local(file).write_bytes(b"cut off")
    assert read_table(project / "data/events").num_rows == 1000


def test_pointers_without_a_storage_say_what_is_missing(project: Path) -> None:
    forget(project)
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params[: params.index("storage:")])
    with pytest.raises(UserError, match=r"lie in storage that machines share .*, and none is set; add storage"):
        read_table(project / "data/events")


def test_a_stage_that_cannot_put_its_tables_ends_with_3_and_leaves_the_former_ones(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(monkeypatch, NOWHERE)
    before = contents(project / "data")
    monkeypatch.setenv(storage.VARIABLE, "s3://bucket/tables")
    monkeypatch.setattr(storage, "RETRIES", {"max_retries": 0, "retry_timeout": timedelta(seconds=1)})
    result = weakfish(project, "ingest")
    assert result.returncode == 3
    assert "s3://bucket/tables cannot be used" in result.stderr
    assert SECRET not in result.stdout + result.stderr
    assert contents(project / "data") == before


def test_without_its_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(UserError, match=r"not installed; `pip install 'weakfish\[s3\]'` adds it"):
        Storage("s3://bucket/tables")
