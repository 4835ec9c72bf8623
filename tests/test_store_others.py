"""Views that the publication does not own: rows of streams and computed ones stay, a team's Parquet is materialized."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import redis
from feast import FeatureStore
from projects import replace
from stores import AS_OF, dump, shop, table

from weakfish.errors import StoreError, TableError
from weakfish.feast import layout as keys
from weakfish.feast.publish import publish
from weakfish.project.paths import Project

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:Stream feature views", "ignore:On demand feature view"
)

LIVE = """
from feast import Field, FileSource, PushSource, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.stream_feature_view import StreamFeatureView
from feast.types import Int64, String

visit = Entity(name="visit", value_type=ValueType.STRING)
rows = FileSource(name="rows", path=str(here.root / "clicks.parquet"), timestamp_field="event_timestamp")
clicks = StreamFeatureView(
    name="clicks", entities=[buyer], schema=[Field(name="buyer", dtype=String), Field(name="n", dtype=Int64)],
    source=PushSource(name="clicks_pushed", batch_source=rows),
)
visits = StreamFeatureView(
    name="visits", entities=[visit], schema=[Field(name="visit", dtype=String), Field(name="n", dtype=Int64)],
    source=PushSource(name="visits_pushed", batch_source=rows),
)
basket = RequestSource(name="basket", schema=[Field(name="items", dtype=Int64)])

@on_demand_feature_view(
    name="totals", sources=[basket], entities=[buyer], write_to_online_store=True, mode="pandas",
    schema=[Field(name="buyer", dtype=String), Field(name="items", dtype=Int64), Field(name="twice", dtype=Int64)],
)
def totals(inputs):
    return inputs.assign(twice=2 * inputs["items"])
"""

OWN = """
from feast import Field, FileSource
from feast.types import Int64, String

ratings = FeatureView(
    name="ratings", entities=[buyer], ttl=timedelta(0),
    schema=[Field(name="buyer", dtype=String), Field(name="stars", dtype=Int64)],
    source=FileSource(name="ratings", path=str(here.root / "ratings.parquet"), timestamp_field="event_timestamp"),
)
"""


@pytest.fixture
def project(tmp_path: Path, store: redis.Redis) -> Project:
    return shop(tmp_path / "shop")


def define(project: Project, text: str) -> None:
    file = project.root / "feature_repo/definitions.py"
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")


def feast(project: Project) -> FeatureStore:
    return FeatureStore(repo_path=str(project.root / "feature_repo"))


def features(project: Project, references: list[str], **entity: str) -> dict[str, Any]:
    found = feast(project).get_online_features(references, [entity], full_feature_names=True).to_dict()
    return {name: values[0] for name, values in found.items() if name not in entity}


def test_live_rows_of_streams_and_of_computed_views_stay(project: Project, store: redis.Redis) -> None:
    define(project, LIVE)
    pd.DataFrame({"buyer": ["b1"], "visit": ["v1"], "n": [0], "event_timestamp": [AS_OF]}).to_parquet(
        project.root / "clicks.parquet"
    )
    assert publish(project)
    now = datetime(2024, 2, 10, tzinfo=UTC)
    live = feast(project)
    live.push("clicks_pushed", pd.DataFrame({"buyer": ["b1", "new"], "n": [7, 8], "event_timestamp": [now, now]}))
    live.push("visits_pushed", pd.DataFrame({"visit": ["v1"], "n": [9], "event_timestamp": [now]}))
    live.write_to_online_store("totals", pd.DataFrame({"buyer": ["b1"], "items": [4], "event_timestamp": [now]}))
    asked = ["clicks:n", "totals:twice", "buyer_orders:orders_7d"]
    before = features(project, asked, buyer="b1")
    assert (before["clicks__n"], before["totals__twice"]) == (7, 8)
    held = dump(store)
    store.delete(keys.marker("shop"))
    publish(project)
    assert {key: row for key, row in dump(store).items() if keys.join_keys(key, "shop")} == {
        key: row for key, row in held.items() if keys.join_keys(key, "shop")
    }
    table(project.root, "buyer_orders", "buyer", ["b0", "b1"], shift=5)
    assert publish(project)
    found = features(project, asked, buyer="b1")
    assert (found["clicks__n"], found["totals__twice"]) == (7, 8)
    assert features(project, ["clicks:n"], buyer="new") == {"clicks__n": 8}
    assert features(project, ["visits:n"], visit="v1") == {"visits__n": 9}
    replace(project.root / "feature_repo/definitions.py", LIVE, "")
    outcome = publish(project)
    assert outcome
    assert {view: counts.removed for view, counts in outcome.counts.items() if counts.removed} == {
        "clicks": 2,
        "visits": 1,
        "totals": 1,
    }
    of_orders = {*keys.fields("buyer_orders", ["orders_7d", "mean_30d", "first_seen_at", "is_new"])}
    of_refunds = {*keys.fields("buyer_refunds", ["orders_7d", "mean_30d", "first_seen_at", "is_new"])}
    left = {keys.join_keys(key, "shop"): set(row) for key, row in dump(store).items() if b"b1" in key}
    assert left[("buyer",)] <= of_orders | of_refunds, "fields of views that the registry no longer has are gone"
    assert not any(b"new" in key or b"v1" in key for key in dump(store))


def rate(project: Project, **stars: int) -> None:
    frame = pd.DataFrame({"buyer": list(stars), "stars": list(stars.values())})
    frame["event_timestamp"] = pd.Timestamp(AS_OF - timedelta(days=1))
    frame.to_parquet(project.root / "ratings.parquet")


@pytest.mark.parametrize("offline", ["duckdb", "weakfish.feast.offline.AsOfOfflineStore"])
def test_a_view_on_parquet_of_the_teams_own_is_materialized_as_feast_would(
    project: Project, store: redis.Redis, offline: str
) -> None:
    replace(project.root / "feature_repo/feature_store.yaml", "type: duckdb", f"type: {offline}")
    rate(project, b1=3, somebody=5)
    define(project, OWN)
    outcome = publish(project)
    assert outcome
    assert set(outcome.counts) == {"buyer_orders", "buyer_refunds", "shop_orders"}
    found = features(project, ["ratings:stars", "buyer_orders:orders_7d"], buyer="b1")
    assert found["ratings__stars"] == 3
    assert features(project, ["ratings:stars"], buyer="somebody") == {"ratings__stars": 5}
    assert not publish(project)
    rate(project, b1=4)
    assert publish(project), "its files are another version"
    assert features(project, ["ratings:stars"], buyer="b1") == {"ratings__stars": 4}
    assert features(project, ["ratings:stars"], buyer="somebody") == {"ratings__stars": 5}, "Feast deletes nothing"
    assert not publish(project)


def test_own_parquet_that_cannot_be_read_is_named_and_nothing_is_published(
    project: Project, store: redis.Redis
) -> None:
    define(project, OWN)
    with pytest.raises(TableError, match=r"There is no Parquet of view ratings at .*ratings\.parquet"):
        publish(project)
    rate(project, b1=3)
    replace(project.root / "feature_repo/definitions.py", 'name="stars"', 'name="starlight"')
    with pytest.raises(StoreError, match="starlight"):
        publish(project)
    assert not dump(store)
