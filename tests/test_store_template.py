"""The template of `feast init` on our stores: it applies, materializes, takes pushes, and is served as by Feast."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import redis
import yaml
from feast import FeatureStore
from feast.data_source import PushMode
from projects import BIN, command
from serving import feast_serving, serving
from stores import dump, port

from weakfish.project.paths import Project

pytestmark = pytest.mark.filterwarnings("ignore")

OURS = {
    "offline_store": {"type": "weakfish.feast.offline.AsOfOfflineStore"},
    "online_store": {"type": "weakfish.feast.online.ProjectRedisOnlineStore"},
    "batch_engine": {"type": "weakfish.feast.materialize.ColumnarComputeEngine"},
}
DRIVERS = {"driver_id": [1001, 1005, 7], "val_to_add": [1, 2, 3], "val_to_add_2": [10, 20, 30]}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, server: redis.Redis) -> Iterator[Project]:
    """The template in ``feature_repo`` on our stores and in ``plain`` on those that Feast gives it, both filled."""
    folder = tmp_path_factory.mktemp("template")
    made = command(folder, str(BIN / "feast"), "init", "--template", "local", "drivers")
    assert made.returncode == 0, made.stderr
    root = folder / "drivers"
    orders = Path(__file__).parent / "orders"
    for file in ("params.yaml", "dvc.yaml"):
        shutil.copy(orders / file, root)
    shutil.copytree(root / "feature_repo", root / "plain")
    file = root / "feature_repo/feature_store.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **OURS}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{port(server)}")
        patch.delenv("WEAKFISH_SERVE_TOKEN", raising=False)
        for repository in ("feature_repo", "plain"):
            home = str(root / repository)
            applied = command(root / repository, str(BIN / "feast"), "-c", home, "apply")
            assert applied.returncode == 0, applied.stderr
            now = datetime.now(UTC)
            FeatureStore(repo_path=home).materialize(now - timedelta(days=30), now)
        yield Project(root)


def opened(project: Project, repository: str = "feature_repo") -> FeatureStore:
    return FeatureStore(repo_path=str(project.root / repository))


@pytest.mark.parametrize("service", ["driver_activity_v1", "driver_activity_v2", "driver_activity_v3"])
def test_its_services_have_the_values_that_feasts_stores_have(project: Project, service: str) -> None:
    found, wanted = (
        store.get_online_features(store.get_feature_service(service), DRIVERS).to_dict()
        for store in (opened(project), opened(project, "plain"))
    )
    assert found == wanted
    assert found["conv_rate_plus_val1"][0] is not None


def test_it_is_served_over_http_with_the_same_values(project: Project) -> None:
    question: dict[str, Any] = {"feature_service": "driver_activity_v2", "entities": DRIVERS}
    with serving(project) as site, feast_serving(project.root) as theirs:
        answers = [site.features(**question), theirs.features(**question)]
    found, wanted = (
        dict(
            zip(
                one.json["metadata"]["feature_names"], (column["values"] for column in one.json["results"]), strict=True
            )
        )
        for one in answers
    )
    assert [one.status for one in answers] == [200, 200]
    assert found == wanted


def test_its_history_is_that_of_feasts_store(project: Project) -> None:
    rows = pd.DataFrame({**DRIVERS, "event_timestamp": datetime.now(UTC)})
    features = ["driver_hourly_stats:conv_rate", "driver_hourly_stats:avg_daily_trips"]
    features.append("transformed_conv_rate:conv_rate_plus_val1")
    found, wanted = (
        store.get_historical_features(rows, features)
        .to_df()
        .sort_values("driver_id")[["driver_id", "conv_rate", "avg_daily_trips", "conv_rate_plus_val1"]]
        for store in (opened(project), opened(project, "plain"))
    )
    assert found.fillna(-1).to_numpy().tolist() == wanted.fillna(-1).to_numpy().tolist()


def test_a_push_is_served_and_labels_stay_out(project: Project, server: redis.Redis) -> None:
    now = datetime.now(UTC)
    row = {"driver_id": [1001], "event_timestamp": [now], "created": [now], "conv_rate": [1.0], "acc_rate": [1.0]}
    row |= {"avg_daily_trips": [1000], "driver_metadata": [{"a": "b"}], "driver_config": ['{"c": 1}']}
    row["driver_profile"] = [{"name": "one", "age": "30"}]
    here = opened(project)
    here.push("driver_stats_push_source", pd.DataFrame(row))
    fresh = here.get_online_features(["driver_hourly_stats_fresh:avg_daily_trips"], {"driver_id": [1001]}).to_dict()
    assert fresh["avg_daily_trips"] == [1000]
    labels = {"driver_id": [1001], "event_timestamp": [now], "is_reliable": [1], "quality_score": [0.5]}
    labels |= {"reviewer_notes": ["good"], "labeler": ["anna"]}
    held = dump(server)
    with pytest.warns(UserWarning, match="Labels of 'driver_quality_labels' are not written to the online store"):
        here.push("driver_quality_labels_push", pd.DataFrame(labels), to=PushMode.ONLINE_AND_OFFLINE)
    assert dump(server) == held
    kept = pd.read_parquet(project.root / "feature_repo/data/driver_quality_labels.parquet")
    assert kept["reviewer_notes"].tolist() == ["good"]
