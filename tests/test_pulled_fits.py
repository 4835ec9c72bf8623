"""What was fitted is an out: who pulls it computes with its numbers, on any processor, and does not fit again."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from in_process import own_modules
from projects import contents, replace
from told_orders import ON, labels, manifest, project, rows

from weakfish.labeling.row_reader import RowReader
from weakfish.project.cache import key_of
from weakfish.project.locked import locked_files
from weakfish.project.paths import Project
from weakfish.project.versioned import Versioned, file_of

KEY, OTHER = key_of("one"), key_of("other")
TABLE = "labels/fraud.fits"


def pieces(root: Path) -> Versioned:
    return Versioned(Project(root), "fits/fraud", TABLE)


def written(root: Path, *given: tuple[str, bytes]) -> Path:
    """The folder of a version that another machine made of these pieces."""
    made = pieces(root)
    for key, content in given:
        made.put(key, content)
    (root / "data/labels").mkdir(parents=True, exist_ok=True)
    made.write(root / "data" / TABLE)
    shutil.rmtree(root / ".weakfish")
    return root / "data" / TABLE


def content(found: Versioned, key: str) -> bytes | None:
    piece = found.get(key)
    return None if piece is None else piece.to_pybytes()


def test_a_piece_of_the_last_version_comes_before_one_of_this_machine(tmp_path: Path) -> None:
    written(tmp_path, (KEY, b"theirs"))
    here = pieces(tmp_path)
    here.put(KEY, b"ours")
    here.put(OTHER, b"ours alone")
    assert content(here, KEY) == b"theirs"
    assert content(here, OTHER) == b"ours alone"
    assert content(pieces(tmp_path), key_of("neither")) is None


def test_what_was_asked_for_is_in_the_next_version_and_nothing_else(tmp_path: Path) -> None:
    written(tmp_path, (KEY, b"theirs"), (OTHER, b"no longer asked for"))
    here = pieces(tmp_path)
    here.get(KEY)
    here.get(key_of("neither"))
    here.put(key_of("new"), b"new")
    here.write(tmp_path / "next")
    names = {file_of(KEY, b"theirs"), file_of(key_of("new"), b"new")}
    assert {file.name for file in (tmp_path / "next").iterdir()} == names
    pieces(tmp_path).write(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("damage", [b"", b"their", b"theirs!"])
def test_a_damaged_piece_is_as_good_as_none(tmp_path: Path, damage: bytes) -> None:
    (file,) = written(tmp_path, (KEY, b"theirs")).iterdir()
    file.write_bytes(damage)
    assert content(pieces(tmp_path), KEY) is None
    here = pieces(tmp_path)
    here.put(KEY, b"ours")
    assert content(here, KEY) == b"ours"


def dvc(root: Path, *arguments: str) -> None:
    from dvc.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main([*arguments, "--quiet"]) == 0


STAGES = """
stages:
  label:
    cmd: echo
    outs: [data/labels]
"""


@pytest.mark.parametrize("place", ["", "inner/project"])
@pytest.mark.parametrize("cache", [None, "../elsewhere"])
def test_pieces_are_found_in_dvcs_cache_after_the_outs_are_gone(tmp_path: Path, cache: str | None, place: str) -> None:
    repository = tmp_path / "repository"
    root = repository / place
    root.mkdir(parents=True)
    dvc(repository, "init", "--no-scm")
    if cache:
        dvc(repository, "cache", "dir", cache)
    (root / "dvc.yaml").write_text(STAGES, encoding="utf-8")
    folder = written(root, (KEY, b"theirs"))
    (folder.parent / "fraud.manifest.json").write_text("{}", encoding="utf-8")
    dvc(root, "commit", "--force")
    shutil.rmtree(root / "data")
    assert list(locked_files(root, f"data/{TABLE}")) == [file_of(KEY, b"theirs")]
    assert list(locked_files(root, "data/labels")) == ["fraud.manifest.json"]
    assert content(pieces(root), KEY) == b"theirs"


@pytest.mark.parametrize(
    "lock", [None, "", "stages: {}", "stages: {label: {outs: [{path: data/labels, md5: 0a.dir}]}}"]
)
def test_without_a_version_there_is_none(tmp_path: Path, lock: str | None) -> None:
    if lock is not None:
        (tmp_path / "dvc.lock").write_text(lock, encoding="utf-8")
    assert locked_files(tmp_path, f"data/{TABLE}") == {}
    (tmp_path / ".dvc").mkdir()
    assert locked_files(tmp_path, f"data/{TABLE}") == {}


def test_labels_are_made_with_the_parameters_that_were_pulled(tmp_path: Path) -> None:
    with own_modules():
        root = project(tmp_path / "orders", ON)
        labels(root)
        before = rows(root)
        (model,) = manifest(root)["models"]
        file = root / "data/labels" / model["reader"]["file"]
        key, reader = file.name.partition("-")[0], RowReader.from_bytes(file.read_bytes())
        other = dataclasses.replace(reader, power=reader.power / 2).to_bytes()
        file.unlink()
        file.with_name(file_of(key, other)).write_bytes(other)
        shutil.rmtree(root / ".weakfish")
        labels(root)
        assert manifest(root)["models"][0]["reader"]["file"] == f"fraud.fits/{file_of(key, other)}"
        assert (rows(root)["p_fraud"] != before["p_fraud"]).any()

        fits = {name for name in contents(root / "data/labels") if ".fits/" in name}
        replace(root / "params.yaml", "seed: 1", "seed: 2")
        labels(root)
        assert not fits & set(contents(root / "data/labels")), "other settings are fitted"
