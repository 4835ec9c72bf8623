"""Files that are read apart, and periods that are written apart, come out as if one process had done all in order."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from in_process import run_here
from made_projects import init
from projects import contents, replace, write

from weakfish.contracts.tables import partitions, read_partition
from weakfish.engine import local
from weakfish.errors import CheckFailed, SourceError
from weakfish.files import read_json
from weakfish.project.paths import Project
from weakfish.sources import parts, staging
from weakfish.sources.declared import source
from weakfish.sources.tabular import pieces
from weakfish.sources.tabular import source as tabular

HEADER = "at,who,amount,note,label\n"


def rows(first: int, count: int) -> str:
    """Orders, two a day; every third has a gold label, some notes are said again."""
    return "".join(
        f"2024-{number // 20 % 3 + 1:02}-{number // 2 % 10 + 1:02}T10:00:00Z,c{number % 7},{number % 5}.5,"
        f"n{number % 4},{'fraud' if number % 6 == 0 else 'fine' if number % 3 == 0 else ''}\n"
        for number in range(first, first + count)
    )


LATER = "2091-02-01T10:00:00Z,c3,1.5,late,\n2092-02-01T10:00:00Z,c3,1.5,late,\n"

FILES = {
    "a.csv": HEADER + rows(0, 40) + "2024-01-01T10:00:00Z,c0\n",  # cut off
    "b.csv": HEADER + rows(20, 40).replace("1.5,", "01.5,").replace("2.5,", "two,"),  # many are those of a.csv
    "c.csv": HEADER.replace("note", "remark") + rows(40, 20) + "yesterday,c1,1.5,x,\n",
    "d.csv": HEADER + rows(0, 40) + 20 * "2024-02-01T10:00:00Z,c3,1.5,again,\n" + LATER,
}


KEYED = """
import pyarrow as pa
import pyarrow.csv
from weakfish.sources import Source

class Keyed(Source):
    schema = pa.schema({"id": "string", "at": pa.timestamp("us", "UTC"), "who": "string"})

    def splits(self, raw):
        return [[file.name] for file in sorted(raw.glob("*.csv"))]

    def read_split(self, raw, split):
        for name in split:
            yield from pa.csv.read_csv(raw / name).cast(self.schema).to_batches()

    def read(self, raw):
        for split in Keyed.splits(self, raw):
            yield from self.read_split(raw, split)

class InOnePass(Keyed):
    def splits(self, raw):
        return []
"""


def keyed(first: int, count: int) -> str:
    """Orders with keys of their own, which end with a number."""
    lines = (f"ORD-{n},2024-{n % 2 + 1:02}-0{n % 9 + 1}T10:00:00Z,c{n % 3}\n" for n in range(first, first + count))
    return "id,at,who\n" + "".join(lines)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of several files whose events have no key, so that it is made."""
    home = tmp_path_factory.mktemp("splits")
    for name, content in FILES.items():
        write(home / "files" / name, content)
    init(
        str(home / "project"),
        "--from",
        str(home / "files/*.csv"),
        "--no-id",
        "--time",
        "at",
        "--type",
        "amount=number",
        "--yes",
    )
    run_here(home / "project", ["fetch"])
    return home / "project"


def ingested(project: Path) -> Mapping[str, bytes]:
    """Everything that ingest writes."""
    run_here(project, ["ingest"])
    folders = ("data/staged", "data/gold", "data/quarantine", "reports/ledger")
    return {name: content for name, content in contents(project).items() if name.startswith(folders)}


def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each file be read apart from now on, and each period be written apart."""
    monkeypatch.setattr(tabular, "SPLIT", 1)
    monkeypatch.setattr(staging, "TOGETHER", 1)


def test_the_files_are_what_the_tests_are_about(made: Path) -> None:
    ingested(made)
    ledger = read_json(made / "reports/ledger/ingest.json")
    assert source(Project(made)).makes_keys
    assert ledger["rejected"] > ledger["copies"] > 50
    assert ledger["reading"]["values"]


def test_it_is_the_same_in_several_processes(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = ingested(made)
    apart(monkeypatch)
    monkeypatch.setattr(local, "WORTH_A_PROCESS", 0.0)
    assert ingested(made) == together


@pytest.mark.parametrize("on_duplicate", ["keep_first", "quarantine"])
@pytest.mark.parametrize("most", [10, 1_000])
def test_it_is_the_same_however_many_files_and_periods_go_together(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_duplicate: str, most: int
) -> None:
    project = tmp_path / "project"
    shutil.copytree(made, project)
    replace(project / "params.yaml", "on_duplicate: keep_first", f"on_duplicate: {on_duplicate}")
    monkeypatch.setattr(parts, "ROWS_IN_A_PART", most)
    monkeypatch.setattr(parts, "ROWS_IN_A_GROUP", 4)
    together = ingested(project)
    assert any("~0002" in name for name in together) == (most == 10)
    apart(monkeypatch)
    assert ingested(project) == together


@pytest.mark.parametrize("most", [10, 1_000])
def test_keys_of_the_rows_stay_as_they_are_and_copies_are_found_in_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    for name, (first, count) in {"a": (0, 40), "b": (40, 20), "c": (30, 20)}.items():
        write(tmp_path / f"files/{name}.csv", keyed(first, count))
    project = tmp_path / "project"
    init(str(project), "--from", str(tmp_path / "files/*.csv"), "--id", "id", "--time", "at", "--yes")
    run_here(project, ["fetch"])
    monkeypatch.setattr(parts, "ROWS_IN_A_PART", most)
    monkeypatch.setattr(parts, "ROWS_IN_A_GROUP", 4)
    together = ingested(project)
    ids = [key for file in partitions(Project(project).staged("events")).values() for key in ids_of(file)]
    assert sorted(ids) == sorted(f"ORD-{n}" for n in range(60))
    assert read_json(project / "reports/ledger/ingest.json")["copies"] == 20
    apart(monkeypatch)
    assert ingested(project) == together
    write(project / "sources/keyed.py", KEYED)
    for reader in ("Keyed", "InOnePass"):
        params = (project / "params.yaml").read_text()
        write(project / "params.yaml", re.sub(r"reader: sources\S+", f"reader: sources.keyed:{reader}", params))
        run_here(project, ["ingest"])
        again = [key for file in partitions(Project(project).staged("events")).values() for key in ids_of(file)]
        assert again == ids
        assert read_json(project / "reports/ledger/ingest.json")["copies"] == 20


def test_a_source_that_does_not_say_how_a_split_is_read_is_told(made: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(made, project)
    write(project / "sources/keyed.py", KEYED.replace("def read_split", "def read_other"))
    replace(project / "params.yaml", "reader: sources.events:Events", "reader: sources.keyed:Keyed")
    with pytest.raises(SourceError, match="Keyed has splits, and does not say how one is read; write read_split"):
        run_here(project, ["ingest"])


def ids_of(file: Path) -> list[str]:
    found: list[str] = read_partition(file, ["id"])["id"].to_pylist()
    return found


def test_rejects_that_are_not_kept_are_counted_the_same(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("KEPT", "KEPT_LINES", "KEPT_VALUES"):
        monkeypatch.setattr(pieces, limit, 3)
    together = ingested(made)
    apart(monkeypatch)
    assert ingested(made) == together


def test_copies_that_are_refused_are_named_the_same(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, said = tmp_path / "project", []
    shutil.copytree(made, project)
    write(project / "data/quarantine/raw/before.txt", "as it was")
    before = contents(project / "data")
    replace(project / "params.yaml", "on_duplicate: keep_first", "on_duplicate: refuse")
    for _ in range(2):
        with pytest.raises(CheckFailed) as raised:
            run_here(project, ["ingest"])
        said.append(str(raised.value))
        apart(monkeypatch)
    assert said[0] == said[1]
    assert "exact copies" in said[0]
    assert contents(project / "data") == before


def test_bad_rows_are_set_aside_the_same_in_several_processes(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, found = tmp_path / "project", []
    shutil.copytree(made, project)
    replace(project / "params.yaml", "max_quarantined_share: 0.05", "max_quarantined_share: 1.0")
    run_here(project, ["ingest"], ["validate", "events"])
    for worth in (local.WORTH_A_PROCESS, 0.0):
        monkeypatch.setattr(local, "WORTH_A_PROCESS", worth)
        run_here(project, ["accept"])
        found.append({name: content for name, content in contents(project).items() if name.startswith("data/")})
    assert found[0] == found[1]
    assert sum(name.startswith("data/quarantine/events/") for name in found[0]) > 2
