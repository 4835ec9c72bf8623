"""A Feast repository with rows in Redis, all written by plain Feast, and HTTP servers on it: ours and Feast's own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.labeling.label_view import LabelView
from feast.on_demand_feature_view import on_demand_feature_view
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.type_map import python_values_to_proto_values
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, Map, String, UnixTimestamp
from listening import free_port, start
from projects import BIN, write
from stores import debian

from weakfish.feast import server
from weakfish.project.paths import Project

NOW = datetime.now(UTC).replace(microsecond=0)
NEVER = timedelta(0)
BUYERS = [f"b{number}" for number in range(8)]
SHOPS = [1, 2, 3, -5, 2**62]


TEN: dict[str, Any] = {"feature_service": "ten", "entities": {"buyer": ["b1"]}}
"""A request."""


class Store:
    """Debian's redis-server on a port of its own, which keeps its data when it is killed."""

    def __init__(self, folder: Path, at: int | None = None) -> None:
        self.folder, self.arguments = folder, debian(folder, "--appendonly", "yes", "--appendfsync", "always")
        self.process, self.port = start(self.arguments, folder, at)

    def start(self) -> None:
        self.process, _ = start(self.arguments, self.folder, self.port)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @contextlib.contextmanager
    def stuck(self) -> Iterator[None]:
        """A server that takes connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def own_redis(folder: Path) -> Iterator[Store]:
    """A `Store` that is killed at the end."""
    found = Store(folder)
    try:
        yield found
    finally:
        found.kill()


@contextlib.contextmanager
def served_from(store: Store, root: Path) -> Iterator[Project]:
    """A `repository` whose rows are in a store, which the environment names; no token is asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{store.port}")
        patch.delenv("WEAKFISH_SERVE_TOKEN", raising=False)
        yield repository(root, lambda _: store.port)


def embedded(project: Project) -> str:
    """Port and password of a project's embedded server, as Feast writes them."""
    found = server.start(project).address
    return f"{found.port},password={found.password}"


def repository(root: Path, redis: Callable[[Project], int | str]) -> Project:
    """A project in the new folder ``root`` with a registry and rows; ``root/plain`` is the same for plain Feast.

    ``redis`` gives the port of its server, and what Feast needs to know beside it.
    """
    orders = Path(__file__).parent / "orders"
    root.mkdir(parents=True)
    for file in ("params.yaml", "dvc.yaml"):
        shutil.copy(orders / file, root)
    (root / "data/registry").mkdir(parents=True)
    port = redis(Project(root))
    ours = "{type: weakfish.feast.online.ProjectRedisOnlineStore}"
    theirs = f'{{type: redis, connection_string: "127.0.0.1:{port}"}}'
    for folder, online in (("feature_repo", ours), ("plain", theirs)):
        write(
            root / folder / "feature_store.yaml",
            f"""
            project: shop
            provider: local
            registry: {{path: {root}/data/registry/registry.db, cache_ttl_seconds: 60}}
            offline_store: {{type: duckdb}}
            online_store: {online}
            entity_key_serialization_version: 3
            """,
        )
    apply(root)
    fill(root)
    return Project(root)


def plain(root: Path) -> FeatureStore:
    """The repository as plain Feast opens it."""
    return FeatureStore(repo_path=str(root / "plain"))


def apply(root: Path, *more: Any) -> None:
    """Make the registry, with more objects than it usually has."""
    with quiet():
        plain(root).apply([*objects(root), *more])


def objects(root: Path) -> list[Any]:
    """Views with keys of several kinds, types of all kinds, a time to live, and a view that computes."""
    source = FileSource(name="orders", path=str(root / "orders.parquet"), timestamp_field="event_timestamp")
    pd.DataFrame({"event_timestamp": [NOW]}).to_parquet(root / "orders.parquet")
    buyer = Entity(name="buyer", join_keys=["buyer"], value_type=ValueType.STRING)
    shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.INT64)

    def view(name: str, entities: list[Entity], fields: Mapping[str, Any], ttl: timedelta = NEVER) -> FeatureView:
        keys = {"buyer": String, "shop_id": Int64}
        schema = [Field(name=entity.join_key, dtype=keys[entity.join_key]) for entity in entities]
        schema += [Field(name=field, dtype=kind) for field, kind in fields.items()]
        return FeatureView(name=name, entities=entities, schema=schema, source=source, ttl=ttl)

    orders = view("buyer_orders", [buyer], ORDERS)
    visits = view("buyer_visits", [buyer], {"visits": Int64, "mean": Float64}, timedelta(days=2))
    shops = view("shop_sales", [shop], {"sales": Int64, "mean": Float64})
    pairs = view("pair_orders", [buyer, shop], {"together": Int64})
    alls = view("shop_all", [shop], ALL)
    basket = RequestSource(name="basket", schema=[Field(name="price", dtype=Float64), Field(name="items", dtype=Int64)])

    @on_demand_feature_view(
        sources=[basket, orders], schema=[Field(name="per_item", dtype=Float64), Field(name="above_mean", dtype=Bool)]
    )
    def computed(inputs: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        found = pd.DataFrame(index=inputs.index)
        found["per_item"] = inputs["price"].astype("float64") / inputs["items"].clip(lower=1)
        found["above_mean"] = inputs["price"].astype("float64") > inputs["f0"].fillna(0)
        return found

    @on_demand_feature_view(sources=[basket], schema=[Field(name="slow", dtype=Float64)])
    def trying(inputs: pd.DataFrame) -> pd.DataFrame:
        """Takes as many seconds as a price below 100 says; fails above."""
        import time

        import pandas as pd

        seconds = float(inputs["price"].max())
        if seconds > 100:
            raise ValueError("a secret in the code")
        time.sleep(seconds)
        return pd.DataFrame({"slow": inputs["price"].astype("float64")})

    services = [
        FeatureService(name="ten", features=[orders]),
        FeatureService(name="wide", features=[orders, visits, shops, pairs]),
        FeatureService(name="types", features=[alls]),
        FeatureService(name="priced", features=[computed, orders[["f0", "n0"]], visits]),
        FeatureService(
            name="compared",
            features=[
                orders[["f0"]].with_name("own_orders"),
                orders[["f0"]].with_name("friend_orders").with_join_key_map({"buyer": "friend"}),
            ],
        ),
    ]
    services.append(FeatureService(name="trying", features=[trying, orders[["f0"]]]))
    labels = LabelView(
        name="labels", entities=[buyer], schema=[Field(name="p", dtype=Float64)], source=source, online=False
    )
    return [buyer, shop, orders, visits, shops, pairs, alls, computed, trying, labels, *services]


ORDERS = {f"f{number}": Float64 for number in range(6)} | {"n0": Int64, "n1": Int64, "name": String, "new": Bool}
ALL = {"i32": Int32, "i64": Int64, "f32": Float32, "f64": Float64, "text": String, "raw": Bytes, "flag": Bool}
ALL |= {"when": UnixTimestamp, "texts": Array(String), "numbers": Array(Int64), "reals": Array(Float64)}
ALL |= {"raws": Array(Bytes), "flags": Array(Bool), "whens": Array(UnixTimestamp), "map": Map}


def fill(root: Path) -> None:
    """Write rows by plain Feast: nulls, extremes and old rows among them."""
    store = plain(root)
    rows = {
        "buyer_orders": [_order(number) for number in range(6)],
        "buyer_visits": [_visit(number) for number in range(5)],
        "shop_sales": [
            _row(place, shop_id=shop, sales=shop // 2, mean=place / 3) for place, shop in enumerate(SHOPS[:4])
        ],
        "pair_orders": [_row(1, buyer="b1", shop_id=1, together=7), _row(2, buyer="b2", shop_id=-5, together=None)],
        "shop_all": [_all(number, shop) for number, shop in enumerate(SHOPS[:4])],
    }
    for name, values in rows.items():
        put(store, name, values)


def put(store: FeatureStore, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of a view, through no frame, which would make floats of integers."""
    view = store.get_feature_view(name)
    kinds = {field.name: field.dtype.to_value_type() for field in (*view.entity_columns, *view.features)}
    batch = []
    for row in rows:
        values = {field: python_values_to_proto_values([row[field]], kind)[0] for field, kind in kinds.items()}
        keys = sorted(view.join_keys)
        key = EntityKey(join_keys=keys, entity_values=[values[field] for field in keys])
        features = {field.name: values[field.name] for field in view.features}
        batch.append((key, features, row["event_timestamp"], None))
    store._get_provider().online_write_batch(store.config, view, batch, None)


def _row(hours: float, **values: Any) -> dict[str, Any]:
    return {**values, "event_timestamp": NOW - timedelta(hours=hours)}


def _order(number: int) -> dict[str, Any]:
    reals = {f"f{place}": None if (number + place) % 4 == 3 else number + place / 7 for place in range(6)}
    others = {
        "n0": 2**53 + number,
        "n1": None if number == 2 else -number,
        "name": f'"é{number}\\',
        "new": number % 2 == 0,
    }
    return _row(number, buyer=BUYERS[number], **reals, **others)


def _visit(number: int) -> dict[str, Any]:
    return _row(18 * number, buyer=BUYERS[number], visits=number, mean=1e300 / (number + 1))


def _all(number: int, shop: int) -> dict[str, Any]:
    if number == 3:
        return _row(number, shop_id=shop, **dict.fromkeys(ALL))
    return _row(
        number,
        shop_id=shop,
        i32=-(2**31) + number,
        i64=2**63 - 1 - number,
        f32=0.1 * number,
        f64=(float("inf"), 5e-324, -0.0)[number],
        text=("", "ß\u2028<&>", "x" * 300)[number],
        raw=(b"\x00\xff", b"abc", b"")[number],
        flag=number == 1,
        when=NOW - timedelta(days=number),
        texts=["", "é"],
        numbers=[number, -(2**60)],
        reals=[0.5, float("nan"), float("-inf")],
        raws=[b"\xff", b""],
        flags=[True, False],
        whens=[NOW],
        map={"a": "b"},
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Feast's warnings, which say nothing about what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        found = self.json
        assert set(found) == {"detail"}
        return str(found["detail"])


@dataclass
class Site:
    """A server that runs: where, which process, what it says."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def ask(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None, method: str | None = None
    ) -> Answer:
        """One request; a body that is not bytes goes as JSON."""
        sent = {"Content-Type": "application/json"} if body is not None else {}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, data, {**sent, **(headers or {})})
            response = connection.getresponse()
            return Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    def features(self, **question: Any) -> Answer:
        """Ask for features."""
        return self.ask("/get-online-features", question)

    def said(self) -> str:
        """All that it wrote to stderr and stdout."""
        return self.log.read_text(encoding="utf-8")


@contextlib.contextmanager
def on_embedded_server(root: Path) -> Iterator[Project]:
    """A project like `repository` on its embedded server, which ends with the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WEAKFISH_REDIS", raising=False)
        patch.delenv("WEAKFISH_SERVE_TOKEN", raising=False)
        found = repository(root, embedded)
        yield found
        server.stop(found)


@contextlib.contextmanager
def serving(project: Project, *options: str, wait: int = 200, **environment: str) -> Iterator[Site]:
    """`weakfish serve` on a free port, until /health answers with ``wait``."""
    port = free_port()
    arguments = [str(BIN / "weakfish"), "serve", "--port", str(port), *options]
    with _running(project.root, project.root / f"serve-{port}.log", port, arguments, wait, environment) as site:
        yield site


@contextlib.contextmanager
def feast_serving(root: Path, repository: str = "plain") -> Iterator[Site]:
    """`feast serve`, on Feast's own store unless another repository is named."""
    port = free_port()
    arguments = [str(BIN / "feast"), "-c", str(root / repository), "serve", "-h", "127.0.0.1", "-p", str(port)]
    with _running(root, root / "feast.log", port, [*arguments, "--no-access-log"], 200, {}) as site:
        yield site


@contextlib.contextmanager
def _running(
    root: Path, log: Path, port: int, arguments: Sequence[str], wait: int, environment: Mapping[str, str]
) -> Iterator[Site]:
    with log.open("wb") as stream:
        process = subprocess.Popen(arguments, cwd=root, env={**os.environ, **environment}, stdout=stream, stderr=stream)
    site = Site(port, process, log)
    try:
        until(lambda: _healthy(site) == wait, site)
        yield site
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _healthy(site: Site) -> int:
    try:
        return site.ask("/health").status
    except OSError:
        return 0


def until(true: Any, site: Site, seconds: float = 60) -> None:
    """Wait until something holds, as long as the server lives."""
    deadline = time.monotonic() + seconds
    while not true():
        assert site.process.poll() is None, site.said()
        assert time.monotonic() < deadline, site.said()
        time.sleep(0.05)


if __name__ == "__main__":  # a repository to try things on: folder, port of a Redis
    repository(Path(sys.argv[1]), lambda _: int(sys.argv[2]))
