"""Feast itself on a published repository: its command line, its feature server, request-time features, its writes."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import redis
from feast import FeatureStore
from label_tables import label_table
from listening import free_port
from projects import BIN, REPOSITORY, command
from stores import AS_OF, COLUMNS, dump, port, shop, table

from weakfish.feast import layout as keys
from weakfish.feast.publish import publish
from weakfish.project.paths import Project

SERVICE = "spam_v1"
MESSAGE = {"n_links": 3, "n_images": 0, "n_recipients": 2, "size_bytes": 5000, "is_html": True, "has_attachment": False}
MESSAGE |= {"content_type": "text/html", "charset": None, "sent_at": None}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, server: redis.Redis) -> Iterator[Project]:
    """This repository's own definitions over small tables, published."""
    found = shop(tmp_path_factory.mktemp("repository") / "project")
    for file in ("feature_repo/definitions.py", "feature_repo/feature_store.yaml", "params.yaml"):
        shutil.copy(REPOSITORY / file, found.root / file)
    label_table(found, "spam", ["m1", "m2"])
    shutil.rmtree(found.table("features"))
    columns = [*COLUMNS, "last_seen_at"]
    table(found.root, "sender_activity", "sender_domain", [f"d{number}.org" for number in range(9)], columns)
    table(found.root, "relay_activity", "relay_ip", ["192.0.2.1", "2001:db8::1"], columns)
    table(found.root, "list_activity", "list_id", ["a.list", "b.list"], columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{port(server)}")
        assert publish(found)
        yield found


@pytest.fixture
def feast(project: Project) -> FeatureStore:
    return FeatureStore(repo_path=str(project.root / "feature_repo"))


def rows(received_at: Any) -> list[dict[str, Any]]:
    keys = [("d0.org", "192.0.2.1", "a.list"), ("d3.org", "2001:db8::1", "b.list"), ("new.org", "192.0.2.9", "c.list")]
    names = ("sender_domain", "relay_ip", "list_id")
    return [{**dict(zip(names, key, strict=True)), **MESSAGE, "received_at": received_at} for key in keys]


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
def test_the_whole_service_is_the_same_online_and_in_history(feast: FeatureStore) -> None:
    received_at = AS_OF  # with a fraction of a second, which the online store cannot hold
    asked = rows(received_at)
    service = feast.get_feature_service(SERVICE)
    online = feast.get_online_features(service, asked, full_feature_names=True).to_df()
    frame = pd.DataFrame(asked).assign(event_timestamp=received_at)
    history = feast.get_historical_features(frame, service, full_feature_names=True, filter_by_created_timestamp=True)
    offline = history.to_df().set_index("sender_domain").loc[[row["sender_domain"] for row in asked]]
    features = [name for name in online.columns if "__" in name]
    assert len(features) == 3 * 5 + 19
    for feature in features:
        for got, want in zip(online[feature], offline[feature], strict=True):
            if pd.isna(want):
                assert pd.isna(got), feature
            elif isinstance(want, pd.Timestamp):
                assert pd.to_datetime(got, utc=True) == want.floor("s")
            else:
                assert got == want, feature


def test_request_features_count_in_whole_seconds_utc(feast: FeatureStore) -> None:
    received_at = datetime(2024, 2, 11, 23, 59, 59, 999_999, tzinfo=UTC)  # a Sunday
    names = ["hour_of_day", "day_of_week", "hours_since_last_seen", "kilobytes", "links_per_kilobyte", "is_bulk"]
    asked = [f"request_features:{name}" for name in names]
    found = feast.get_online_features(asked, rows(received_at)).to_dict()
    assert found["hour_of_day"] == [23] * 3
    assert found["day_of_week"] == [6] * 3
    last_seen = (AS_OF - timedelta(hours=1, microseconds=7)).replace(microsecond=0)
    hours = (received_at.replace(microsecond=0) - last_seen).total_seconds() / 3600
    assert found["hours_since_last_seen"][0] == hours
    assert found["hours_since_last_seen"][2] is None, "a sender not seen before has no age"
    assert found["kilobytes"] == [5000 / 1024] * 3
    assert found["links_per_kilobyte"] == [3 / (5000 / 1024)] * 3
    assert found["is_bulk"] == [True] * 3
    made = (
        "links",
        "recipients",
        "holds_html",
        "is_html_alone",
        "is_plain_text",
        "declares_charset",
        "hours_since_sent",
    )
    sent_at = received_at + timedelta(hours=2)
    message = [{**row, "sent_at": sent_at, "charset": "us-ascii"} for row in rows(received_at)[:1]]
    message += [{**message[0], "sent_at": None, "charset": None}]
    known = feast.get_online_features([f"request_features:{name}" for name in made], message).to_dict()
    assert [known[name] for name in made[:5]] == [[3, 3], [2, 2], [True, True], [True, True], [False, False]]
    assert known["declares_charset"] == [True, False]
    assert known["hours_since_sent"] == [-2, None]
    seconds = int(received_at.timestamp())
    assert feast.get_online_features(asked, rows(seconds)).to_dict() == found


def test_the_command_line_works_from_any_directory(project: Project) -> None:
    result = command(Path("/"), str(BIN / "feast"), "-c", str(project.root / "feature_repo"), "feature-views", "list")
    assert result.returncode == 0, result.stderr
    assert {"sender_activity", "relay_activity", "list_activity"} <= set(result.stdout.split())


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
def test_apply_and_materialize_of_feast_itself_work_and_the_next_publication_knows(
    project: Project, feast: FeatureStore, server: redis.Redis
) -> None:
    held = dump(server)
    result = command(Path("/"), str(BIN / "feast"), "-c", str(project.root / "feature_repo"), "apply")
    assert result.returncode == 0, result.stderr
    feast.refresh_registry()
    feast.materialize(datetime(2024, 1, 1, tzinfo=UTC), AS_OF - timedelta(days=9))
    assert dump(server) == held, "older rows do not take the place of newer ones"
    assert publish(project), "the registry was touched"
    assert not publish(project)
    assert dump(server) == held


def test_a_push_by_feast_is_served(project: Project, feast: FeatureStore, server: redis.Redis) -> None:
    time = AS_OF + timedelta(hours=1)
    row = {"relay_ip": "192.0.2.77", "orders_7d": 5, "mean_30d": 0.5, "is_new": True}
    row |= {"first_seen_at": time, "last_seen_at": time, "event_timestamp": time, "created": time}
    feast.write_to_online_store("relay_activity", pd.DataFrame([row]))
    assert feast.get_online_features(["relay_activity:orders_7d"], [{"relay_ip": "192.0.2.77"}]).to_dict()[
        "orders_7d"
    ] == [5]
    for key in dump(server):
        if b"192.0.2.77" in key:
            server.delete(key)


@contextlib.contextmanager
def feature_server(project: Project) -> Iterator[str]:
    number = free_port()
    arguments = [BIN / "feast", "-c", project.root / "feature_repo", "serve", "-h", "127.0.0.1", "-p", str(number)]
    with (project.root / "serve.log").open("wb") as log:
        process = subprocess.Popen([*arguments, "--no-access-log"], cwd="/", stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{number}"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health") as answer:  # noqa: S310
                if answer.status == 200:
                    break
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_the_feature_server_answers_over_http(project: Project) -> None:
    received_at = int(AS_OF.timestamp())
    entities = {name: [row[name] for row in rows(received_at)] for name in rows(received_at)[0]}
    content = json.dumps({"feature_service": SERVICE, "entities": entities, "full_feature_names": True}).encode()
    with feature_server(project) as address:
        request = urllib.request.Request(  # noqa: S310
            f"{address}/get-online-features", content, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310
            answer = json.load(response)
    names = answer["metadata"]["feature_names"]
    results = dict(zip(names, answer["results"], strict=True))
    assert results["sender_activity__orders_7d"]["values"] == [
        1000,
        results["sender_activity__orders_7d"]["values"][1],
        None,
    ]
    assert results["sender_activity__orders_7d"]["statuses"] == ["PRESENT", "PRESENT", "NOT_FOUND"]
    assert results["request_features__hour_of_day"]["values"] == [8, 8, 8]


def test_deleting_a_view_by_feast_touches_no_other_project(
    project: Project, feast: FeatureStore, server: redis.Redis
) -> None:
    held = dump(server)
    stranger = next(key for key in held if keys.join_keys(key, "weakfish_demo") == ("list_id",)).replace(
        b"weakfish_demo", b"other_weakfish_demo"
    )
    server.hset(stranger, mapping={b"_ts:list_activity": b"x"})
    view = feast.get_feature_view("list_activity")
    feast._get_provider().online_store.update(feast.config, [view], [], [], [], False)
    kinds = {keys.join_keys(key, "weakfish_demo") for key in dump(server)} - {None}
    assert kinds == {("relay_ip",), ("sender_domain",)}
    assert server.hgetall(stranger) == {b"_ts:list_activity": b"x"}
    server.delete(stranger)
    assert publish(project), "what was lost is made again"
    assert dump(server) == held
