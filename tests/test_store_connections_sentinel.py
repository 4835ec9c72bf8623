"""Sentinels name the primary, over TLS: two projects in one store, and a failover that open clients follow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from listening import free_port
from servers import (
    Watched,
    assert_written_read_and_torn_down,
    opened,
    read_shop,
    wait_until,
    watched,
    write_shop,
)
from stores import shop

from weakfish.errors import StoreError
from weakfish.feast.clients import explained, external
from weakfish.feast.publish import publish
from weakfish.feast.server import resolve
from weakfish.project.paths import Project

REDIS = "WEAKFISH_REDIS"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("watched")) as servers:
        yield servers


@pytest.fixture
def setting(found: Watched, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment names the Sentinel, after one that does not answer."""
    monkeypatch.setenv(REDIS, f"sentinel:weak@127.0.0.1:{free_port()},127.0.0.1:{found.sentinel.port}")
    for name in ("_USER", "_SENTINEL_USER", "_SENTINEL_TLS"):
        monkeypatch.delenv(f"{REDIS}{name}", raising=False)
    monkeypatch.setenv(f"{REDIS}_TLS", str(found.files.authority))
    monkeypatch.setenv(f"{REDIS}_TLS_CERT", str(found.files.client))
    monkeypatch.setenv(f"{REDIS}_TLS_KEY", str(found.files.key))
    monkeypatch.setenv(f"{REDIS}_PASSWORD", found.password)
    monkeypatch.setenv(f"{REDIS}_SENTINEL_PASSWORD", found.sentinel_password)
    return monkeypatch


@pytest.fixture
def two(tmp_path: Path) -> tuple[Project, Project]:
    return shop(tmp_path / "one"), shop(tmp_path / "other", "workshop")


def test_what_sentinels_name_is_written_read_and_torn_down(
    two: tuple[Project, Project], setting: pytest.MonkeyPatch
) -> None:
    assert_written_read_and_torn_down(*two)


def test_a_database_number_goes_through_sentinels(
    two: tuple[Project, Project], found: Watched, setting: pytest.MonkeyPatch
) -> None:
    setting.setenv(REDIS, f"sentinel:weak@127.0.0.1:{found.sentinel.port}/3")
    store = opened(two[0])
    write_shop(store, "s", 3)
    with contextlib.closing(found.primary.client(db=3, password=found.password)) as client:
        assert client.dbsize() == 1
    store.teardown()


def test_a_login_that_sentinels_refuse_and_a_name_that_they_do_not_know_are_told(setting: pytest.MonkeyPatch) -> None:
    text = resolve_text()
    setting.setenv(REDIS, text.replace("weak@", "strong@"))
    with pytest.raises(StoreError, match="has no primary: its Sentinels do not answer, do not know strong"):
        ping()
    setting.setenv(REDIS, text)
    setting.setenv(f"{REDIS}_SENTINEL_PASSWORD", "wr0ng")
    with pytest.raises(
        StoreError, match="has Sentinels that refuse the login; correct WEAKFISH_REDIS_SENTINEL_USER"
    ) as error:
        ping()
    assert "wr0ng" not in str(error.value)


def resolve_text() -> str:
    return str(external())


def ping() -> bool:
    address = external()
    assert address is not None
    with explained(address), contextlib.closing(address.client()) as client:
        return bool(client.ping())


def test_a_failover_is_followed_by_clients_that_are_open(
    two: tuple[Project, Project], found: Watched, setting: pytest.MonkeyPatch
) -> None:
    one, _ = two
    store = opened(one)
    write_shop(store, "s0", 10)
    assert read_shop(store, "s0") == 10

    client = store._get_provider().online_store.client_of(store.config)
    assert client.ping()
    with contextlib.closing(resolve(one).client()) as writer:
        assert writer.wait(1, 5000) == 1, "the replica has all"
    found.primary.kill()
    wait_until(lambda: found.primary_port() == found.replica.port)
    with contextlib.closing(found.replica.client(password=found.password)) as replica:
        wait_until(lambda: replica.info("replication")["role"] == "master")
    assert client.ping()
    assert read_shop(store, "s0") == 10
    write_shop(store, "new", 11)
    assert read_shop(store, "new") == 11
    store.teardown()
    assert publish(one)
    assert not publish(one)
