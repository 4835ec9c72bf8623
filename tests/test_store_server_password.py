"""The embedded server's password: who can read it, where it never stands, and servers that have none yet."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from click.testing import CliRunner
from feast import FeatureStore
from projects import contents, weakfish, write
from stores import shop

from weakfish.cli.store import online
from weakfish.errors import StoreError
from weakfish.feast import server
from weakfish.feast.clients import explained
from weakfish.feast.publish import publish
from weakfish.files import write_json
from weakfish.project.paths import Project


@pytest.fixture(autouse=True)
def no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WEAKFISH_REDIS")]:
        monkeypatch.delenv(name)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    found = shop(tmp_path / "shop")
    yield found
    server.stop(found)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def password(found: server.Server) -> str:
    assert found.address.password
    return found.address.password


def older(project: Project) -> server.Server:
    """The server as versions without passwords started it."""
    home = server.folder(project).resolve()
    number = server.start(project).address.port
    server.stop(project)
    shutil.rmtree(home)
    shutil.rmtree(server.password_file(project).parent)
    home.mkdir()
    settings = ["--bind", "127.0.0.1", "--port", str(number), "--dir", str(home), "--appendonly", "yes", "--save", ""]
    arguments = [server.program(), *settings, "--pidfile", str(home / "server.pid")]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log, start_new_session=True)
    write_json(home / "server.json", {"host": "127.0.0.1", "port": number, "pid": process.pid, "program": "x"})
    process.returncode = 0  # it is the project's to end
    with redis.Redis(port=number) as client:
        while True:
            try:
                client.ping()
            except redis.RedisError:
                assert psutil.pid_exists(process.pid)
            else:
                return server.start(project)


def test_no_other_user_can_read_it_or_write_it(project: Project) -> None:
    assert publish(project)
    found = server.start(project)
    file = server.password_file(project)
    assert (mode(file), mode(file.parent), mode(server.folder(project))) == (0o600, 0o700, 0o700)
    assert file.read_text() == password(found)
    assert len(password(found)) == 64
    kept = [one for one in server.folder(project).rglob("*") if one.is_file() and one.suffix in {".aof", ".manifest"}]
    assert kept
    assert {mode(one) for one in kept} == {0o600}
    for shown in (None, "", "x"):
        with redis.Redis(port=found.address.port, password=shown) as stranger:
            for command in (("PING",), ("GET", "x"), ("SET", "x", "y"), ("CONFIG", "GET", "*"), ("SHUTDOWN",)):
                with pytest.raises(redis.AuthenticationError):
                    stranger.execute_command(*command)
    assert not server.is_open(found)


def test_the_password_stands_in_its_file_alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert publish(project)
    found = server.start(project)
    secret = password(found)
    monkeypatch.chdir(project.root)
    said = ""
    for arguments in (["start"], ["status"], ["status", "--json"], ["get", "buyer=b3"]):
        said += CliRunner().invoke(online, arguments, catch_exceptions=False).output
    said += repr(found) + str(found.address)
    os.kill(found.pid, 9)
    os.waitpid(found.pid, 0)
    with pytest.raises(StoreError) as lost, explained(found.address), closing(found.address.client()) as client:
        client.ping()
    said += str(lost.value) + weakfish(project.root, "--debug", "audit").stderr
    again = server.start(project)
    process = psutil.Process(again.pid)
    said += " ".join(process.cmdline()) + str(process.environ())
    assert secret not in said
    holding = {name for name, content in contents(project.root).items() if secret.encode() in content}
    assert holding == {".weakfish/online/password"}


def test_feast_s_own_store_reads_through_the_same_address(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert publish(project)
    found = server.start(project)
    monkeypatch.setenv("ONLINE_PASSWORD", server.password_file(project).read_text())
    settings = (project.root / "feature_repo/feature_store.yaml").read_text(encoding="utf-8")
    ours = "type: weakfish.feast.online.ProjectRedisOnlineStore"
    assert ours in settings
    where = f"{found.address},password=${{ONLINE_PASSWORD}}"
    theirs = settings.replace(ours, f"type: redis, connection_string: '{where}'")
    write(project.root / "plain/feature_store.yaml", theirs.replace("../data", str(project.data)))
    asked: Any = (["shop_orders:mean_30d"], [{"shop": "s0"}])
    for repository in ("plain", "feature_repo"):
        store = FeatureStore(repo_path=str(project.root / repository))
        assert store.get_online_features(*asked).to_dict()["mean_30d"] == [1000 / 7]


def test_it_stays_over_a_restart_and_a_new_one_takes_the_place_of_one_that_was_deleted(project: Project) -> None:
    first = server.start(project)
    server.stop(project)
    second = server.start(project)
    assert second.pid != first.pid
    assert second.address == first.address
    server.stop(project)
    server.password_file(project).unlink()
    assert password(server.start(project)) != password(first)


def test_a_server_of_an_older_version_is_used_until_it_is_stopped(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    found = older(project)
    assert server.start(project) == found
    assert server.is_open(found)
    assert publish(project)
    assert not publish(project)

    def said(*arguments: str) -> str:
        return CliRunner().invoke(online, list(arguments), catch_exceptions=False).output

    for output in (said("start"), said("status")):
        assert "All users of this machine can read and write it" in output
    assert json.loads(said("status", "--json"))["without_password"]
    assert "as of 2024-0" in said("get", "buyer=b3")
    assert "was stopped" in said("stop")
    assert "All users" not in said("start")
    assert not server.is_open(server.start(project))
    assert mode(server.folder(project)) == 0o700
    assert not publish(project), "the data are there"


def test_a_server_without_a_password_is_known_though_there_is_one(project: Project) -> None:
    found = older(project)  # as after a return to an older version
    file = server.password_file(project)
    file.parent.mkdir()
    file.write_text("x" * 64)
    assert server.start(project).pid == found.pid  # clients that speak the older protocol are refused the first time
    assert server.is_open(server.start(project))


def test_a_password_that_was_lost_is_named_and_no_second_server_writes_its_files(project: Project) -> None:
    found = server.start(project)
    file = server.password_file(project)
    secret = file.read_text()
    for wrong in (None, "x" * 64):
        if wrong:
            file.write_text(wrong)
        else:
            file.unlink()
        for work in (server.start, server.stop):
            with pytest.raises(StoreError, match=rf"process {found.pid}\) has another password than .*; end that proc"):
                work(project)
        assert psutil.pid_exists(found.pid)
    file.write_text(secret)
    assert server.start(project) == found


def test_a_copy_of_the_data_without_the_password_gets_a_server_of_its_own(project: Project, tmp_path: Path) -> None:
    first = server.start(project)
    shutil.copytree(project.root, tmp_path / "copy", ignore=shutil.ignore_patterns(".weakfish"))
    copy = Project(tmp_path / "copy")
    try:
        second = server.start(copy)
        assert second.pid != first.pid
        assert password(second) != password(first)
    finally:
        server.stop(copy)
    assert server.start(project).pid == first.pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can listen as another user")
def test_another_user_who_listens_on_its_port_is_not_told_the_password(project: Project) -> None:
    first = server.start(project)
    server.stop(project)
    os.seteuid(65534)
    try:
        foreign = socket.create_server((first.address.host, first.address.port))
    finally:
        os.seteuid(0)
    with foreign:
        assert server.running(project) is None
        assert server.start(project).address.port != first.address.port
        foreign.setblocking(False)
        with pytest.raises(BlockingIOError):
            foreign.accept()
