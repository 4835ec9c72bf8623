"""The embedded server: starts on demand, keeps its data, knows itself; and the Redis that the environment names."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner
from listening import free_port
from projects import contents
from stores import dump, port, python, redis_server, shop

from weakfish.cli.store import online
from weakfish.errors import StoreError, UserError
from weakfish.feast import layout as keys
from weakfish.feast import server
from weakfish.feast.clients import Address, explained, external
from weakfish.feast.publish import publish
from weakfish.project.paths import Project


@pytest.fixture(autouse=True)
def no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "_USER", "_PASSWORD", "_TLS"):
        monkeypatch.delenv(f"WEAKFISH_REDIS{name}", raising=False)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project whose embedded server, if a test starts one, ends with the test."""
    found = shop(tmp_path / "shop")
    yield found
    server.stop(found)


def record(project: Project) -> dict[str, object]:
    content: dict[str, object] = json.loads((project.data / "online/server.json").read_text())
    return content


def test_it_starts_once_on_loopback_and_never_on_the_usual_port(project: Project) -> None:
    first, second = server.start(project), server.start(project)
    assert first == second
    assert first.address.port != 6379
    assert record(project)["port"] == first.address.port
    client = first.address.client()
    assert client.config_get("bind")["bind"] == "127.0.0.1"
    assert os.getsid(first.pid) == first.pid, "a session of its own: it outlives the stage that started it"
    client.close()


def test_it_outlives_the_process_that_started_it(project: Project) -> None:
    assert python(project, "from weakfish.feast import server; print(server.start(project).pid)").returncode == 0
    assert server.running(project) == server.start(project)


def test_many_at_once_start_one(project: Project) -> None:
    found: list[server.Server] = []
    threads = [threading.Thread(target=lambda: found.append(server.start(project))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.pid for one in found}) == 1
    assert len(found) == 8


def test_its_data_survive_a_stop_and_a_kill(project: Project) -> None:
    for number, end in enumerate((server.stop, lambda p: os.kill(server.start(p).pid, 9))):
        client = server.start(project).address.client()
        client.set(f"key{number}", "value")
        client.close()
        before = server.start(project)
        end(project)
        if number:
            os.waitpid(before.pid, 0)
        after = server.start(project)
        assert after.pid != before.pid
        assert after.address.port == before.address.port, "services find it again"
        client = after.address.client()
        assert client.get(f"key{number}") == b"value"
        client.close()


def test_a_stale_record_and_a_foreign_program_on_its_port_are_seen_through(project: Project, tmp_path: Path) -> None:
    first = server.start(project)
    server.stop(project)
    assert server.running(project) is None
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        foreign.bind(("127.0.0.1", first.address.port))
        foreign.listen()
        stale = {"host": "127.0.0.1", "port": first.address.port, "pid": first.pid, "program": "x"}
        (project.data / "online/server.json").write_text(json.dumps(stale))
        second = server.start(project)
        assert second.address.port != first.address.port
    server.stop(project)
    with socket.socket() as silent:  # takes connections and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        stale = {"host": "127.0.0.1", "port": silent.getsockname()[1], "pid": os.getpid(), "program": "x"}
        (project.data / "online/server.json").write_text(json.dumps(stale))
        with pytest.raises(StoreError, match="does not answer"):
            server.start(project)
        os.utime(project.data / "online/server.json", (0, 0))  # the number is another process's now
        assert server.start(project).pid != os.getpid()
        server.stop(project)
    with redis_server(tmp_path / "redis") as other:
        stale = {"host": "127.0.0.1", "port": port(other), "pid": os.getpid(), "program": "x"}
        (project.data / "online/server.json").write_text(json.dumps(stale))
        assert server.start(project).address.port != port(other)
        server.stop(project)
        assert other.ping(), "another Redis is never taken for ours, nor ended"


def test_a_copied_project_gets_a_server_of_its_own(project: Project, tmp_path: Path) -> None:
    import shutil

    first = server.start(project)
    copy = Project(Path(shutil.copytree(project.root, tmp_path / "copy")))
    try:
        assert server.running(copy) is None
        second = server.start(copy)
        assert second.pid != first.pid
        assert not server.stop(Project(tmp_path / "elsewhere"))
        assert server.stop(copy)
        assert server.start(project) == first
    finally:
        server.stop(copy)


def test_deleting_its_folder_under_it_leaves_no_stray(project: Project) -> None:
    import shutil

    first = server.start(project)
    shutil.rmtree(project.data / "online")
    second = server.start(project)
    assert second.pid != first.pid
    with pytest.raises(ProcessLookupError):
        os.kill(first.pid, 0)


def test_a_server_that_hangs_is_named_and_not_doubled(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.5)
    found = server.start(project)
    os.kill(found.pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreError, match=rf"process {found.pid}\) does not answer .* end that process"):
            server.start(project)
    finally:
        os.kill(found.pid, signal.SIGCONT)


def test_damaged_data_are_named_with_what_to_do(project: Project) -> None:
    server.start(project)
    server.stop(project)
    for file in (project.data / "online/appendonlydir").glob("*.manifest"):
        file.write_text("nonsense\n")
    with pytest.raises(StoreError, match=r"could not start .* delete .*data/online, which publishing makes anew"):
        server.start(project)


def test_a_platform_without_a_server_is_told_to_name_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StoreError, match=r"no embedded server for this machine .*WEAKFISH_REDIS=host:port"):
        server.start(project)


def test_stopping_and_deleting_then_publishing_restores_what_is_served(project: Project) -> None:
    import shutil

    assert publish(project)
    client = server.start(project).address.client()
    held, reports = dump(client), contents(project.reports)
    client.close()
    server.stop(project)
    shutil.rmtree(project.data / "online")
    assert publish(project)
    client = server.start(project).address.client()
    assert dump(client) == held
    client.close()
    assert contents(project.reports) == reports
    server.stop(project)
    assert not publish(project), "after a restart the data are there"


def test_addresses_are_read_from_the_environment_and_hide_their_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert external() is None
    monkeypatch.setenv("WEAKFISH_REDIS", "[::1]:7000")
    monkeypatch.setenv("WEAKFISH_REDIS_PASSWORD", "s3cret")
    monkeypatch.setenv("WEAKFISH_REDIS_TLS", "1")
    found = external()
    assert found is not None
    assert (found.host, found.port, found.tls, str(found)) == ("::1", 7000, "", "[::1]:7000")
    assert "s3cret" not in repr(found)
    assert found.client().connection_pool.connection_class is redis.SSLConnection
    monkeypatch.setenv("WEAKFISH_REDIS_TLS", "/no/such.pem")
    with pytest.raises(UserError, match="neither 1 nor 0 nor a file"):
        external()


def test_a_server_that_does_not_answer_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{free_port()}")
    with pytest.raises(StoreError, match=r"does not answer .*; start it, or correct WEAKFISH_REDIS\.$"):
        publish(project)
    assert not (project.data / "online").exists(), "the embedded server is no silent substitute"


def test_a_user_with_a_password_publishes_over_the_listed_commands_and_no_secret_is_written(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documented = (Path(__file__).parent.parent / "docs/store.md").read_text(encoding="utf-8")
    rule = next(line for line in documented.splitlines() if line.startswith("ACL SETUSER"))
    rights = rule.split("weakfish on >PASSWORD ")[1].split()
    secret = "s3cr3t-Pa55,word=1"
    with redis_server(tmp_path / "redis", "--requirepass", "admin") as _:
        number = port(_)
        admin = redis.Redis(port=number, password="admin")
        admin.execute_command("ACL", "SETUSER", "weakfish", "on", f">{secret}", *rights)
        monkeypatch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{number}")
        with pytest.raises(StoreError, match=r"refuses the login .*correct WEAKFISH_REDIS_USER and"):
            publish(project)
        monkeypatch.setenv("WEAKFISH_REDIS_USER", "weakfish")
        monkeypatch.setenv("WEAKFISH_REDIS_PASSWORD", secret + "x")
        with pytest.raises(StoreError, match="refuses the login") as error:
            publish(project)
        assert secret not in str(error.value)
        monkeypatch.setenv("WEAKFISH_REDIS_PASSWORD", secret)
        assert publish(project)
        assert not publish(project)
        from feast import FeatureStore

        feast = FeatureStore(repo_path=str(project.root / "feature_repo"))
        assert feast.get_online_features(["shop_orders:mean_30d"], [{"shop": "s0"}]).to_dict()["mean_30d"] == [1000 / 7]
        monkeypatch.chdir(project.root)
        status = CliRunner().invoke(online, ["status"])
        assert "External server at" in status.output
        admin.execute_command("ACL", "SETUSER", "weakfish", "-set")
        admin.delete(keys.marker("shop"))
        with pytest.raises(StoreError, match=r"denies its user a command .* docs/store.md"):
            publish(project)
        admin.close()
    assert all(secret.encode() not in content for content in contents(project.root).values())
    assert secret not in status.output


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (redis.BusyLoadingError("x"), "still loading its data; try again"),
        (redis.ReadOnlyError("You can't write against a read only replica."), "read-only replica"),
        (redis.TimeoutError("Timeout reading"), "does not answer"),
        (redis.ResponseError("MISCONF Redis is configured to save"), "failed: MISCONF"),
        (redis.ResponseError("Command # 1 (HSET private@key) of pipeline caused error: ERR x"), "failed: ERR x"),
    ],
)
def test_every_failure_of_a_server_is_one_sentence(error: redis.RedisError, expected: str) -> None:
    with pytest.raises(StoreError) as found, explained(Address("host", 1)):
        raise error
    assert str(found.value).startswith("The online store at host:1 ")
    assert expected in str(found.value)
    assert "private" not in str(found.value)


def test_the_commands_start_tell_read_and_stop(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root / "feature_repo")

    def said(*arguments: str) -> str:
        result = CliRunner().invoke(online, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    assert "does not run" in said("status")
    assert "answers at 127.0.0.1:" in said("start")
    assert "Nothing is published" in said("status")
    publish(project)
    assert "Embedded server at" in said("status")
    found = json.loads(said("status", "--json"))
    assert (found["current"], found["keys"], found["running"]) == (True, 15, True)
    assert found["views"]["buyer_orders"]["entities"] == 12
    assert "buyer_orders (buyer=b3), as of 2024-0" in said("get", "buyer=b3")
    row = json.loads(said("get", "buyer=b0", "shop=nowhere", "--json"))
    assert row["as_of"] == "2024-02-10T08:30:00.250000+00:00"
    assert row["views"]["buyer_orders"]["values"]["orders_7d"] == 1000
    assert row["views"]["buyer_orders"]["age_seconds"] == 0.0
    assert row["views"]["shop_orders"]["status"] == "NOT_FOUND"
    assert "no such entity (shop=nowhere): NOT_FOUND" in said("get", "shop=nowhere")
    for wrong, expected in ((["seller=1"], "did you mean 'shop'|there are: buyer, shop"), (["buyer"], "KEY=VALUE")):
        with pytest.raises(UserError, match=expected):
            CliRunner().invoke(online, ["get", *wrong], catch_exceptions=False)
    assert "was stopped" in said("stop")
    assert "No embedded server runs" in said("stop")
    registry = project.data / "registry/registry.db"
    registry.write_bytes(b"")
    with pytest.raises(StoreError, match=r"no registry that Feast can read .*it is empty.* run `weakfish publish`"):
        CliRunner().invoke(online, ["get", "buyer=b3"], catch_exceptions=False)
    registry.write_bytes(b"\xff" * 400)
    with pytest.raises(StoreError, match=r"no registry that Feast can read .* run `weakfish publish`"):
        CliRunner().invoke(online, ["get", "buyer=b3"], catch_exceptions=False)
    registry.unlink()
    registry.mkdir()
    with pytest.raises(StoreError, match=r"cannot be replaced .*; move it away and run `weakfish publish`"):
        publish(project)
    assert "was stopped" in said("stop")


def test_nothing_heavy_is_imported_for_the_commands_themselves(project: Project) -> None:
    heavy = "('feast', 'pandas', 'pyarrow', 'redis')"
    code = f"import weakfish.cli.store, sys; print([m for m in {heavy} if m in sys.modules])"
    assert python(project, code).stdout == "[]\n"


def test_waiting_for_a_stop_does_not_need_the_parent(project: Project) -> None:
    code = "from weakfish.feast import server; server.start(project); print(server.stop(project))"
    assert python(project, code).stdout == "True\n"
