"""Redis in every form that the store speaks to: TLS with client certificates, Sentinels with a failover, a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import pandas as pd
import redis
from feast import FeatureStore
from listening import free_port, listening
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from weakfish.feast import layout as keys
from weakfish.feast.registry import definitions, quiet
from weakfish.feast.server import resolve
from weakfish.project.paths import Project

SLOTS = 16384


@dataclass(frozen=True)
class Certificates:
    """Files of an authority, of a server and of a client that it vouches for."""

    authority: Path
    server: Path
    client: Path
    key: Path
    """One key for all: a test's."""


def certificates(folder: Path) -> Certificates:
    folder.mkdir(parents=True, exist_ok=True)
    key, authority = folder / "key.pem", folder / "ca.pem"

    def openssl(*arguments: str | Path) -> None:
        subprocess.run([machine.program("openssl"), *arguments], check=True, capture_output=True)

    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    usage = ["-addext", "keyUsage=critical,keyCertSign"]  # which Python 3.13 asks of an authority
    openssl("req", "-x509", "-key", key, "-days", "1", "-subj", "/CN=authority", *usage, "-out", authority)
    made = Certificates(authority, folder / "server.pem", folder / "client.pem", key)
    for name, file in (("localhost", made.server), ("client", made.client)):
        asked, extension = folder / f"{name}.csr", folder / f"{name}.ext"
        extension.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
        openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", asked)
        signed = ["-CA", authority, "-CAkey", key, "-CAcreateserial", "-days", "1", "-extfile", extension]
        openssl("x509", "-req", "-in", asked, *signed, "-out", file)
    return made


@dataclass
class Server:
    """A server that was started, and its port."""

    process: subprocess.Popen[bytes]
    port: int
    tls: Certificates | None

    def client(self, **settings: Any) -> redis.Redis:
        if self.tls:
            settings |= {"ssl": True, "ssl_ca_certs": str(self.tls.authority)}
            settings |= {"ssl_certfile": str(self.tls.client), "ssl_keyfile": str(self.tls.key)}
        return redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0), **settings)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=20)


@contextlib.contextmanager
def server(folder: Path, *settings: str, tls: Certificates | None = None) -> Iterator[Server]:
    """Debian's redis-server on a loopback port, which asks for certificates where ``tls`` says so; ended by its id."""
    program = machine.program("redis-server")
    first = [settings[0]] if settings and settings[0].endswith(".conf") else []

    def arguments(port: int) -> list[str]:
        found = [program, *first, "--bind", "127.0.0.1", "--dir", str(folder), "--port", "0" if tls else str(port)]
        if tls:
            found += ["--tls-port", str(port), "--tls-ca-cert-file", str(tls.authority), "--tls-replication", "yes"]
            found += ["--tls-cert-file", str(tls.server), "--tls-key-file", str(tls.key)]
        return [*found, *settings[len(first) :]]

    with listening(arguments, folder) as (process, port):
        yield Server(process, port, tls)


def wait_until(works: Callable[..., Any], *arguments: Any, seconds: float = 20) -> None:
    """Wait until a call gives something true; what redis raises until then is forgotten."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if works(*arguments):
                return
        except redis.AuthenticationError:
            return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"{works} did not come true within {seconds} s"
        time.sleep(0.02)


@contextlib.contextmanager
def cluster(folder: Path, *settings: str) -> Iterator[list[Server]]:
    """A cluster of three primaries."""
    common = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--save", "", *settings]
    with contextlib.ExitStack() as stack:
        buses = [free_port() for _ in range(3)]
        nodes = [
            stack.enter_context(server(folder / str(number), *common, "--cluster-port", str(bus)))
            for number, bus in enumerate(buses)
        ]
        clients = [node.client() for node in nodes]
        for number, client in enumerate(clients):
            first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[number].port, buses[number])
        for client in clients:
            wait_until(cluster_is, client, "ok")
            client.close()
        yield nodes


def cluster_is(client: redis.Redis, state: str) -> bool:
    found = client.execute_command("CLUSTER", "INFO")
    text = found.decode() if isinstance(found, bytes) else str(found)
    return f"cluster_state:{state}" in text.replace("'cluster_state': '", "cluster_state:")


def move_slot(key: bytes, nodes: list[Server]) -> None:
    """Move the slot of a key, with all that is in it, to another node of the cluster."""
    slot = key_slot(key)
    clients = [node.client() for node in nodes]
    names = [str(client.execute_command("CLUSTER", "MYID"), "ascii") for client in clients]
    source = next(number for number, client in enumerate(clients) if client_holds(client, key))
    target = (source + 1) % len(nodes)
    clients[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    clients[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    held = clients[source].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100)
    clients[source].execute_command("MIGRATE", "127.0.0.1", nodes[target].port, "", 0, 5000, "KEYS", *held)
    for number in (target, source, *(other for other in range(len(nodes)) if other not in (source, target))):
        clients[number].execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[target])
    for client in clients:
        client.close()


def client_holds(client: redis.Redis, key: bytes) -> bool:
    try:
        return bool(client.exists(key))
    except redis.exceptions.MovedError:
        return False


@dataclass
class Watched:
    """A primary, its replica, and a Sentinel that watches both."""

    primary: Server
    replica: Server
    sentinel: Server
    files: Certificates
    password: str
    sentinel_password: str

    def primary_port(self) -> int:
        client = self.sentinel.client(password=self.sentinel_password, decode_responses=True)
        try:
            return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "weak")[1])
        finally:
            client.close()


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """A primary called ``weak`` with a replica, under a Sentinel that fails over in a second or two; all over TLS."""
    files = certificates(folder / "certificates")
    password, other = "data-s3cret", "sentinel-s3cret"
    common = ["--save", "", "--requirepass", password, "--masterauth", password, "--repl-diskless-sync-delay", "0"]
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(server(folder / "primary", *common, tls=files))
        of_primary = ["--replicaof", "127.0.0.1", str(primary.port)]
        replica = stack.enter_context(server(folder / "replica", *common, *of_primary, tls=files))
        link = replica.client(password=password)
        wait_until(lambda: link.info("replication")["master_link_status"] == "up")
        link.close()
        file = folder / "sentinel" / "sentinel.conf"
        file.parent.mkdir(parents=True)
        file.write_text(
            f"sentinel monitor weak 127.0.0.1 {primary.port} 1\nsentinel auth-pass weak {password}\n"
            "sentinel down-after-milliseconds weak 1000\nsentinel failover-timeout weak 4000\n"
            f"requirepass {other}\n"
        )
        sentinel = stack.enter_context(server(file.parent, str(file), "--sentinel", tls=files))
        asked = sentinel.client(password=other, decode_responses=True)
        wait_until(lambda: len(asked.execute_command("SENTINEL", "REPLICAS", "weak")) == 1)
        asked.close()
        yield Watched(primary, replica, sentinel, files, password, other)


def opened(project: Project) -> FeatureStore:
    """Feast on a project whose definitions were applied."""
    store = FeatureStore(repo_path=str(project.root / "feature_repo"))
    with quiet():
        store.apply(definitions(project))
    return store


def write_shop(store: FeatureStore, name: str, orders: int) -> None:
    """Write a row of a shop by Feast's SDK."""
    time_ = pd.Timestamp("2024-03-01T00:00:00Z")
    row = {"shop": name, "orders_7d": orders, "mean_30d": 0.5, "first_seen_at": time_, "is_new": True}
    store.write_to_online_store("shop_orders", pd.DataFrame([{**row, "event_timestamp": time_, "created": time_}]))


def read_shop(store: FeatureStore, name: str) -> Any:
    """A shop's orders as Feast's SDK reads them."""
    return store.get_online_features(["shop_orders:orders_7d"], [{"shop": name}]).to_dict()["orders_7d"][0]


async def read_shop_async(store: FeatureStore, name: str) -> Any:
    """A shop's orders as Feast's async SDK reads them; its connections are closed."""
    try:
        found = await store.get_online_features_async(["shop_orders:orders_7d"], [{"shop": name}])
        return found.to_dict()["orders_7d"][0]
    finally:
        await store.close()


def held(client: redis.Redis, project: str) -> int:
    """How many entity keys a project has in a store."""
    return sum(1 for _ in keys.of_project(client, project))


def assert_written_read_and_torn_down(one: Project, other: Project) -> None:
    """Two projects in one store, whose names may end alike: write, read both ways, tear one down, the other stays."""
    ours, theirs = opened(one), opened(other)
    write_shop(ours, "s[0]*", 1)
    write_shop(theirs, "s[0]*", 2)
    assert (read_shop(ours, "s[0]*"), read_shop(theirs, "s[0]*")) == (1, 2)
    assert asyncio.run(read_shop_async(ours, "s[0]*")) == 1
    assert asyncio.run(read_shop_async(ours, "s[0]*")) == 1, "in another event loop too"
    with contextlib.closing(resolve(one).client()) as client:
        client.set(keys.marker(ours.project), "{}")
        client.set(keys.marker(theirs.project), "{}")
        ours.teardown()
        assert (held(client, ours.project), held(client, theirs.project)) == (0, 1)
        assert (client.get(keys.marker(ours.project)), client.get(keys.marker(theirs.project))) == (None, b"{}")
    assert read_shop(theirs, "s[0]*") == 2
    theirs.teardown()
