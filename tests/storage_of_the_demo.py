"""The demo on moto's S3 server, and a small project on azurite: `make test-storage`, too long for each run of tests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from buckets import commit, done, make_bucket, named, s3_server, stored_orders, tables
from listening import listening
from projects import REPOSITORY, clone, replace, weakfish

from weakfish.contracts import storage as of_storage
from weakfish.contracts.pointers import SUFFIX, Pointer
from weakfish.contracts.record import read
from weakfish.project.garbage import collect
from weakfish.project.paths import Project

AZURITE = REPOSITORY / ".venv/azurite/node_modules/.bin/azurite-blob"

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The public account of the emulator."""

EDITED, EDIT = "labeling_functions/subject.py", (r"!(\s|!|$)", r"!(!|$)")


@pytest.fixture(scope="module")
def machine(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo made by `dvc repro` with its tables in a bucket, committed, its pointers in a remote of DVC."""
    home = tmp_path_factory.mktemp("demo")
    with s3_server(home / "s3") as endpoint, pytest.MonkeyPatch.context() as monkeypatch:
        named(monkeypatch, endpoint)
        root = clone(home / "first")
        with (root / "params.yaml").open("a") as params:
            params.write(f"storage: {make_bucket(endpoint, 'demo')}\n")
        done(root, "dvc", "repro", "--quiet")
        done(root, "dvc", "remote", "add", "--quiet", "--default", "pointers", str(home / "remote"))
        commit(root)
        done(root, "dvc", "push", "--quiet")
        yield root
        weakfish(root, "online", "stop")


def test_the_demo_has_the_same_tables_in_a_bucket(machine: Path, demo: Path) -> None:
    assert tables(machine) == tables(demo)
    assert {file.relative_to(machine / "data").parts[0] for file in (machine / "data").rglob("*.parquet")} == {"masks"}


def test_a_second_machine_goes_on_and_computes_only_the_votes_of_an_edited_function(machine: Path) -> None:
    second = machine.parent / "second"
    done(machine.parent, "git", "clone", "--quiet", str(machine), str(second))
    try:
        done(second, "dvc", "pull", "--quiet")
        first = done(second, "weakfish", "run")
        ran = {line.split()[0] for line in first.splitlines() if line.rstrip().endswith("run")}
        assert ran <= {"fetch", "publish", "report"}  # raw data and the online store are each machine's own
        assert "Nothing changed" in done(second, "weakfish", "run")
        assert not list((second / ".weakfish/cache").glob("votes/*/*"))

        before = votes(second)
        replace(second / EDITED, *EDIT)
        said = done(second, "weakfish", "run", "vote")
        assert "spam: 1 of 42 labeling functions, 15 of 15 partitions: 15 of 630 pieces computed." in said
        assert votes(second).keys() == before.keys()
        assert votes(second) != before
    finally:
        weakfish(second, "online", "stop")


def test_the_store_goes_back_to_the_features_of_a_revision(machine: Path) -> None:
    said = done(machine, "weakfish", "publish", "--rollback", "HEAD")
    assert "all rows audited" in said
    done(machine, "weakfish", "publish")


def votes(root: Path) -> dict[str, bytes]:
    return {name: content for name, content in tables(root).items() if name.startswith("data/votes/")}


def test_only_what_the_other_machine_did_not_commit_is_garbage(machine: Path, demo: Path) -> None:
    found = collect(Project(machine), ["HEAD"], timedelta(seconds=-2), dry_run=False)
    of_edit = named_by(machine.parent / "second") - named_by(machine)
    assert found.objects == len(of_edit) > 0  # votes on the months in which the edit changed one
    shutil.rmtree(machine / ".weakfish/objects")
    assert tables(machine) == tables(demo)


def named_by(root: Path) -> set[str]:
    """The objects that a work tree names."""
    return {read(Pointer, file).sha256 for file in (root / "data").rglob(f"*{SUFFIX}")}


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A container of azurite, named by the environment."""
    options = ["--disableTelemetry", "--skipApiVersionCheck", "--location", str(tmp_path / "blobs")]
    with listening(lambda port: [str(AZURITE), "--blobPort", str(port), *options], tmp_path / "azurite") as (_, port):
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        make_container(endpoint, "tables")
        settings = {"ACCOUNT_NAME": ACCOUNT, "ACCOUNT_KEY": KEY, "ENDPOINT": endpoint}
        for name, value in settings.items():
            monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
        of_storage._opened.cache_clear()
        yield "az://tables/prefix"


def make_container(endpoint: str, name: str) -> None:
    """Make a container, by a request that the account's key signs."""
    said = {"x-ms-date": f"{datetime.now(UTC):%a, %d %b %Y %H:%M:%S GMT}", "x-ms-version": "2021-12-02"}
    headers = "\n".join(f"{key}:{value}" for key, value in said.items())
    to_sign = f"PUT{chr(10) * 12}{headers}\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), to_sign.encode(), hashlib.sha256)).decode()
    said |= {"Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": "0"}
    request = urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT", headers=said)  # noqa: S310
    with urllib.request.urlopen(request):  # noqa: S310
        pass


def test_azure_keeps_tables_too(azure: str, tmp_path: Path) -> None:
    stored, here = (stored_orders(tmp_path / name, uri) for name, uri in (("stored", azure), ("local", None)))
    for root in (stored, here):
        done(root, "dvc", "repro", "--quiet")
    assert tables(stored) == tables(here)
    commit(stored)
    replace(stored / "labeling_functions/orders.py", 'contains("gift")', 'contains("book")')
    done(stored, "dvc", "repro", "--quiet")
    assert done(stored, "weakfish", "gc", "--dry-run").startswith("Would delete 0 objects")
