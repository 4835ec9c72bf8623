"""Storage that machines share, for tests: moto's S3 server on loopback, and projects that keep their tables there."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from in_process import run_here
from listening import listening
from projects import command, git, tiny

from weakfish.contracts import storage
from weakfish.contracts.pointers import listed, local

SECRET = "a-key-that-nobody-may-see"

SHOWN = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "all")


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """The endpoint of an S3 server."""
    with listening(lambda port: [sys.executable, "-m", "moto.server", "-p", str(port)], folder) as (_, port):
        yield f"http://127.0.0.1:{port}"


def named(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let the environment name a server, and the credentials for it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {"ENDPOINT_URL": endpoint, "ACCESS_KEY_ID": "tests", "SECRET_ACCESS_KEY": SECRET, "REGION": "us-east-1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    storage._opened.cache_clear()


def make_bucket(endpoint: str, name: str) -> str:
    """Make a bucket; its address."""
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")):  # noqa: S310
        return f"s3://{name}/tables"


def stored_orders(root: Path, uri: str | None) -> Path:
    """The project about orders, under git and DVC, with this storage; nothing has run yet."""
    tiny(root)
    if uri:
        with (root / "params.yaml").open("a") as params:
            params.write(f"storage: {uri}\n")
    (root / ".gitignore").write_text("/data\n/reports\n/.weakfish\n__pycache__\n")
    git(root, "init", "--quiet")
    for arguments in (["init", "--quiet"], ["config", "core.analytics", "false"], ["config", "core.autostage", "true"]):
        done(root, "dvc", *arguments)
    commit(root)
    return root


def commit(root: Path) -> str:
    """Commit everything; the new commit."""
    git(root, "add", "--all")
    done(root, *SHOWN)
    return git(root, "rev-parse", "HEAD").strip()


def commit_made(root: Path) -> str:
    """Run the stages in this process, let DVC keep what they made, and commit; the new commit."""
    of_events = (["ingest"], ["validate", "events"], ["accept"], ["vote"], ["label"])
    run_here(root, *of_events, ["validate", "labels/fraud"], ["gate", "labels/fraud"])
    done(root, "dvc", "commit", "--quiet", "--force")
    return commit(root)


def done(root: Path, *arguments: str) -> str:
    """Run a program that has to succeed; what it prints."""
    result = command(root, *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def tables(root: Path) -> dict[str, bytes]:
    """The bytes of all partitions below ``data/``, by path, wherever they lie."""
    folders = sorted({root / "data", *(path for path in (root / "data").rglob("*") if path.is_dir())})
    files = [file for folder in folders for file in listed(folder)]
    return {file.relative_to(root).as_posix(): local(file).read_bytes() for file in files}
