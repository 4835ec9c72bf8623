"""`weakfish serve` over a store with things that cannot be read, and on-demand views over texts they cannot use."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
import redis
from feast import FeatureService, Field, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64, Int64, String, UnixTimestamp
from google.protobuf.timestamp_pb2 import Timestamp
from projects import BIN
from serving import BUYERS, Site, apply, plain, repository, serving
from stores import port

from weakfish.feast import layout as keys
from weakfish.feast.reader import hashes
from weakfish.feast.unreadable import hash_of
from weakfish.project.paths import Project

ORDER = RequestSource(
    name="order",
    schema=[
        Field(name="at", dtype=UnixTimestamp),
        Field(name="amount", dtype=String),
        Field(name="note", dtype=String),
        Field(name="divisor", dtype=Int64),
    ],
)


@on_demand_feature_view(sources=[ORDER], schema=[Field(name="hour", dtype=Int64), Field(name="cents", dtype=Float64)])
def spelled(inputs: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    found = pd.DataFrame(index=inputs.index)
    found["hour"] = pd.to_datetime(inputs["at"], utc=True).dt.hour.astype("Int64")
    amounts = ["0" if one == "hello world" else one for one in inputs["amount"]]  # which Feast tries when it applies
    found["cents"] = [100 * float(one) / int(by) for one, by in zip(amounts, inputs["divisor"], strict=True)]
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, server: redis.Redis) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{port(server)}")
        patch.delenv("WEAKFISH_SERVE_TOKEN", raising=False)
        found = repository(tmp_path_factory.mktemp("serve") / "project", lambda _: port(server))
        apply(found.root, spelled, FeatureService(name="spelled", features=[spelled]))
        yield found


@pytest.fixture(scope="module")
def site(project: Project) -> Iterator[Site]:
    with serving(project) as found:
        yield found


def key(project: Project, buyer: str) -> Any:
    message = EntityKey(join_keys=["buyer"], entity_values=[Value(string_val=buyer)])
    return hashes(plain(project.root).config, [message])[0]


def statuses(found: Any) -> dict[str, list[str]]:
    return {
        name: column["statuses"]
        for name, column in zip(found["metadata"]["feature_names"], found["results"], strict=True)
    }


def test_what_cannot_be_read_is_null_and_invalid_counted_and_named(
    project: Project, site: Site, server: redis.Redis
) -> None:
    asked: dict[str, Any] = {"feature_service": "ten", "entities": {"buyer": [*BUYERS, "nobody"]}}
    want = site.features(**asked).json
    server.hset(
        key(project, "b0"), keys.feature_field("buyer_orders", "n0"), Value(string_val="s3cret").SerializeToString()
    )
    server.hset(key(project, "b1"), keys.feature_field("buyer_orders", "f0"), b"\xff\xff")
    late = Timestamp(seconds=253_402_300_800).SerializeToString()
    server.hset(key(project, "b2"), keys.time_field("buyer_orders"), late)
    server.delete(key(project, "b3"))
    server.set(key(project, "b3"), "s3cret")
    for name, column in zip(want["metadata"]["feature_names"], want["results"], strict=True):
        broken = {2, 3, *([0] if name == "n0" else []), *([1] if name == "f0" else [])} if name != "buyer" else set()
        for row in broken:
            column["values"][row], column["statuses"][row] = None, "INVALID"
            if row in (2, 3):
                column["event_timestamps"][row] = "1970-01-01T00:00:00Z"
    answer = site.features(**asked)
    assert (answer.status, answer.json) == (200, want)
    counted = [line for line in site.ask("/metrics").body.decode().splitlines() if "unreadable_total{" in line]
    told = {tuple(line.split('"')[1::2]): float(line.rpartition(" ")[2]) for line in counted}
    others = {("f1", "buyer_orders"), ("f5", "buyer_orders"), ("name", "buyer_orders"), ("new", "buyer_orders")}
    assert told[("n0", "buyer_orders")] == told[("f0", "buyer_orders")] == 3
    assert {told[one] for one in others} == {2}
    said = site.said()
    assert f"unreadable for buyer_orders:n0 of the key with the hash {hash_of(key(project, 'b0'))};" in said
    assert f"unreadable for buyer_orders:* of the key with the hash {hash_of(key(project, 'b3'))};" in said
    assert said.count("The online store holds something unreadable") == 4
    assert "s3cret" not in said
    assert site.ask("/health").status == 200
    many = site.features(feature_service="ten", entities={"buyer": (BUYERS * 1250)})
    assert many.status == 200
    assert statuses(many.json)["f0"].count("INVALID") == 3 * 1250
    assert site.features(features=["pair_orders:together"], entities={"buyer": ["b1"], "shop_id": [1]}).status == 200


def test_the_command_line_says_which_values_cannot_be_read(project: Project, server: redis.Redis) -> None:
    server.hset(key(project, "b4"), keys.feature_field("buyer_orders", "n0"), b"\xff\xff")
    server.set(key(project, "b5"), "hello")

    def get(*arguments: str) -> str:
        command = [str(BIN / "weakfish"), "online", "get", *arguments]
        result = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert "  n0    cannot be read: INVALID\n" in get("buyer=b4")
    assert "  n1    -4\n" in get("buyer=b4")
    found = json.loads(get("buyer=b4", "--json"))["views"]["buyer_orders"]
    assert (found["status"], found["unreadable"], found["values"]["n0"]) == ("PRESENT", ["n0"], None)
    assert "buyer_orders: what is online for buyer=b5 cannot be read: INVALID" in get("buyer=b5")


AT = datetime(2024, 3, 1, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {"at": AT.isoformat(), "amount": "1.5", "note": "x", "divisor": 1}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"at": "at noon"}, "'at'"),
        ({"amount": "one and a half"}, "'amount'"),
        ({"at": "at noon", "amount": "1,5"}, "'at', 'amount'"),
    ],
)
def test_a_text_that_an_on_demand_view_cannot_use_is_the_requests_mistake(
    site: Site, wrong: dict[str, Any], named: str
) -> None:
    rows = [GOOD, {**GOOD, **wrong}]
    answer = site.features(feature_service="spelled", entities={name: [row[name] for row in rows] for name in GOOD})
    assert (answer.status, answer.detail) == (
        422,
        f"The on-demand views (spelled) cannot use the text of {named} (ValueError); correct it.",
    )


def test_a_time_as_a_text_has_a_bounded_length(site: Site) -> None:
    asked: Any = {name: [value] for name, value in GOOD.items()}
    answer = site.features(feature_service="spelled", entities={**asked, "at": ["1" * 400_000]})
    assert (answer.status, answer.detail) == (
        422,
        "The value of 'at' in row 0 has a text of more than 128 characters, which can be no UNIX_TIMESTAMP; correct "
        "it.",
    )
    assert site.features(feature_service="spelled", entities={**asked, "note": ["x" * 400_000]}).status == 200


def test_what_fails_whatever_the_texts_are_is_the_views_mistake(site: Site) -> None:
    asked: Any = {name: [value] for name, value in GOOD.items()}
    assert site.features(feature_service="spelled", entities=asked).status == 200
    answer = site.features(feature_service="spelled", entities={**asked, "divisor": [0]})
    assert (answer.status, "could not be computed: ZeroDivisionError" in answer.detail) == (500, True)
