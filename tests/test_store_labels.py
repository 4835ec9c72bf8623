"""Labels are not features: they have an entry in the registry, and no way into the online store or a service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pytest
import redis
from click.testing import CliRunner
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType
from feast.cli.cli import cli
from feast.data_format import ParquetFormat
from feast.data_source import PushMode
from feast.labeling.label_view import LabelView
from feast.types import Float64, String, from_feast_to_pyarrow_type
from label_tables import label_table
from projects import replace, write
from stores import AS_OF, dump, port, shop

from weakfish.contracts.tables import read_table
from weakfish.errors import FeatureError, TableError, UnknownName, UserError
from weakfish.feast.definitions import keeps_out, label_view, refuse_mixture, refuse_view
from weakfish.feast.publish import publish
from weakfish.feast.registry import definitions, quiet
from weakfish.features import Past
from weakfish.features.views import Transform, check_view
from weakfish.project.paths import Project

KEYS = [f"o{number}" for number in range(12)]
LABELS = """
from feast import Field, FileSource, PushSource
from feast.labeling.label_view import LabelView
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64

from weakfish.feast.definitions import label_view

order = Entity(name="labelled_order", join_keys=["order_id"], value_type=ValueType.STRING)
fraud_labels = label_view(here, "fraud", order)
"""
IN_A_SERVICE = 'fraud_v2 = FeatureService(name="fraud_v2", features=[buyer_orders, fraud_labels])\n'
BY_NAME = 'fraud_v2 = FeatureService(name="fraud_v2", features=[buyer_orders, "fraud_labels:p_fraud"])\n'
ON_DEMAND = """
@on_demand_feature_view(name="peeks", sources=[fraud_labels.projection], schema=[Field(name="twice", dtype=Float64)])
def peeks(inputs):
    return inputs[["p_fraud"]].rename(columns={"p_fraud": "twice"})
"""
ONLINE = """
served = LabelView(name="served", entities=[order], schema=[Field(name="p_fraud", dtype=Float64)],
                   source=fraud_labels.source)
"""
KEPT_OUT = "Labels of '{}' are not written to the online store; read them offline"


@pytest.fixture
def project(tmp_path: Path, server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project with labels that are registered."""
    monkeypatch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{port(server)}")
    found = shop(tmp_path / "shop")
    label_table(found, "fraud", KEYS)
    add(found, LABELS)
    yield found
    server.flushall()


@pytest.fixture
def feast(project: Project) -> FeatureStore:
    """Feast on the project's applied definitions."""
    made = FeatureStore(repo_path=str(project.root / "feature_repo"))
    with quiet():
        made.apply(definitions(project))
    return made


def add(project: Project, text: str) -> None:
    """Add to the definitions."""
    with (project.root / "feature_repo/definitions.py").open("a", encoding="utf-8") as file:
        file.write(text)


def order() -> Entity:
    return Entity(name="labelled_order", join_keys=["order_id"], value_type=ValueType.STRING)


def rows() -> pd.DataFrame:
    time = pd.Timestamp(AS_OF)
    return pd.DataFrame([{"order_id": "o1", "p_fraud": 0.5, "placed_at": time, "event_timestamp": time}])


def peeking(path: str) -> FeatureView:
    """A feature view over labels."""
    return FeatureView(
        name="peeking",
        entities=[order()],
        ttl=timedelta(days=10_000),
        schema=[Field(name="order_id", dtype=String), Field(name="p_fraud", dtype=Float64)],
        source=FileSource(name="peeking", path=path, file_format=ParquetFormat(), timestamp_field="placed_at"),
    )


def test_labels_are_registered_with_their_provenance_and_nothing_of_them_is_published(
    project: Project, server: redis.Redis
) -> None:
    assert publish(project)
    assert not publish(project)
    feast = FeatureStore(repo_path=str(project.root / "feature_repo"))
    view = feast.get_label_view("fraud_labels")
    assert (view.online, view.join_keys, view.stream_source) == (False, ["order_id"], None)
    assert {field.name for field in view.features} == set(read_table(project.data / "labels/fraud").column_names) - {
        "order_id",
        "placed_at",
    }
    assert view.source.path == str((project.data / "labels/fraud").resolve())
    assert view.source.timestamp_field == "placed_at"
    tags = {name.removeprefix("weakfish."): value for name, value in view.tags.items()}
    assert (tags["task"], tags["classes"], tags["method"]) == ("fraud", "fine, fraud", "snorkel")
    assert (tags["labeler"], tags["functions"], tags["fitted_through"]) == (
        "weakfish label, method snorkel",
        "1",
        "2024-01",
    )
    assert all(len(tags[name]) == 64 for name in ("functions_version", "model_version", "labels_version"))
    join_keys = {key for one in feast.list_feature_views() for key in one.join_keys}
    assert "order_id" not in join_keys, "no feature view is keyed as labels are"
    assert "fraud_labels" not in {one.name for one in feast.list_feature_views()}
    assert not any(b"order_id" in key for key in dump(server))


def test_the_view_of_the_real_labels_has_their_columns_and_types(demo: Path) -> None:
    entity = Entity(name="labelled_message", join_keys=["message_id"], value_type=ValueType.STRING)
    view = label_view(Project(demo), "spam", entity)
    found = read_table(demo / "data/labels/spam").schema
    expected = {field.name: from_feast_to_pyarrow_type(field.dtype) for field in (*view.entity_columns, *view.features)}
    assert {field.name: field.type for field in found if field.name != "received_at"} == expected


def test_new_labels_give_new_provenance(project: Project) -> None:
    def versions() -> list[str]:
        label_table(project, "fraud", KEYS)
        view = label_view(project, "fraud", order())
        return [view.tags[f"weakfish.{name}_version"] for name in ("functions", "model", "labels")]

    first = versions()
    assert versions() == first
    manifest = project.data / "labels/fraud.manifest.json"
    replace(manifest, "0" * 64, "1" * 64)
    tags = label_view(project, "fraud", order()).tags
    assert tags["weakfish.functions_version"] != first[0]
    assert tags["weakfish.model_version"] == first[1]
    assert tags["weakfish.labels_version"] != first[2]


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
def test_labels_are_read_offline_by_the_key_of_their_events(project: Project, feast: FeatureStore) -> None:
    table = read_table(project.data / "labels/fraud").to_pandas()
    asked = pd.DataFrame({"order_id": [*KEYS, "stranger"], "event_timestamp": AS_OF})
    with quiet():
        found = feast.get_historical_features(asked, ["fraud_labels:p_fraud", "fraud_labels:label"]).to_df()
    by_key = found.set_index("order_id")
    assert by_key.loc[KEYS, "p_fraud"].tolist() == table["p_fraud"].tolist()
    assert by_key.loc[KEYS, "label"].tolist() == table["label"].tolist()
    assert pd.isna(by_key.loc["stranger", "p_fraud"])


def test_labels_and_features_in_one_request_are_refused(feast: FeatureStore) -> None:
    labels, features = feast.get_label_view("fraud_labels"), feast.get_feature_view("buyer_orders")
    refuse_mixture([labels])
    refuse_mixture([features])
    with pytest.raises(UserError, match=r"Labels \(fraud_labels\) and features are asked for in one request"):
        refuse_mixture([features, labels])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (IN_A_SERVICE, "Feature service 'fraud_v2' holds the label view 'fraud_labels', and labels are not features"),
        (BY_NAME, "Feature service 'fraud_v2' holds the label view 'fraud_labels', and labels are not features"),
        (ON_DEMAND, "On-demand feature view 'peeks' is computed from the label view 'fraud_labels'"),
    ],
)
def test_publishing_refuses_labels_in_services_and_views_and_changes_nothing(
    project: Project, server: redis.Redis, text: str, sentence: str
) -> None:
    publish(project)
    held, registry = dump(server), (project.data / "registry/registry.db").read_bytes()
    add(project, text)
    with pytest.raises(UserError, match=sentence):
        publish(project)
    assert dump(server) == held
    assert (project.data / "registry/registry.db").read_bytes() == registry


def link_to_folder(data: Path) -> str:
    (data / "features/borrowed").symlink_to(data / "labels/fraud", target_is_directory=True)
    return str(data / "features/borrowed")


def link_to_file(data: Path) -> str:
    (data / "features/borrowed").mkdir()
    (data / "features/borrowed/2024-01.parquet").symlink_to(data / "labels/fraud/2024-01.parquet")
    return str(data / "features/borrowed")


def link_above(data: Path) -> str:
    (data.parent / "elsewhere").symlink_to(data, target_is_directory=True)
    return str(data.parent / "elsewhere/gold/test.parquet")


PATHS: dict[str, Callable[[Path], str]] = {
    "labels": lambda data: str(data / "labels/fraud"),
    "gold": lambda data: str(data / "gold/test.parquet"),
    "dots": lambda data: str(data / "features/../labels/fraud"),
    "relative to the repository": lambda data: "../data/labels/fraud",
    "a uri": lambda data: (data / "labels/fraud").as_uri(),
    "a wildcard": lambda data: str(data / "*/fraud/*.parquet"),
    "all of data": lambda data: str(data),
    "a link to the folder": link_to_folder,
    "a link to a file": link_to_file,
    "a link above it": link_above,
}


@pytest.mark.parametrize("named", PATHS)
def test_a_feature_view_over_labels_or_gold_is_refused_however_its_path_is_written(
    project: Project, named: str
) -> None:
    view = peeking(PATHS[named](project.data))
    with pytest.raises(UserError, match=r"Feature view 'peeking' reads .*under data/(labels|gold), and labels are no"):
        refuse_view(view, project.root / "feature_repo", every_file=True)


def test_feature_tables_are_not_taken_for_labels(project: Project) -> None:
    beside = project.data / "labels_of_others"
    beside.mkdir()
    for path in (project.data / "features/buyer_orders", project.data / "features/*/2024-01.parquet", beside):
        refuse_view(peeking(str(path)), project.root, every_file=True)
    refuse_view(peeking("s3://bucket/data/labels"), project.root, every_file=True)


def test_publishing_refuses_a_feature_view_over_labels(project: Project, server: redis.Redis) -> None:
    publish(project)
    held = dump(server)
    add(
        project,
        'peeking = FeatureView(name="peeking", entities=[order], schema=[Field(name="p_fraud", dtype=Float64)],\n'
        '    source=FileSource(name="x", path="../data/features/../labels/fraud", timestamp_field="placed_at"))\n',
    )
    with pytest.raises(UserError, match=r"Feature view 'peeking' reads \.\./data/features/\.\./labels/fraud"):
        publish(project)
    assert dump(server) == held


def test_labels_that_are_written_stay_out_of_the_online_store(feast: FeatureStore, server: redis.Redis) -> None:
    frame = rows().assign(p_fine=0.5, majority_fine=0.5, majority_fraud=0.5, covered=True, n_votes=2, label="fine")
    with pytest.warns(UserWarning, match=KEPT_OUT.format("fraud_labels")):
        feast.write_to_online_store("fraud_labels", frame)
    with pytest.warns(UserWarning, match=KEPT_OUT.format("fraud_labels")):
        asyncio.run(feast.write_to_online_store_async("fraud_labels", frame))
    assert not dump(server)


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
@pytest.mark.parametrize("to", [PushMode.ONLINE, PushMode.ONLINE_AND_OFFLINE])
def test_labels_that_are_pushed_stay_out_of_the_online_store(
    feast: FeatureStore, project: Project, server: redis.Redis, to: PushMode
) -> None:
    entity = feast.get_entity("labelled_order")
    source = FileSource(
        name="by_people", path=str(project.root / "by_people.parquet"), timestamp_field="event_timestamp"
    )
    rows().drop(columns="placed_at").to_parquet(source.path)
    pushed = LabelView(
        name="pushed",
        entities=[entity],
        schema=[Field(name="p_fraud", dtype=Float64)],
        source=PushSource(name="by_hand", batch_source=source),
    )
    feast.apply([entity, pushed])
    with pytest.warns(UserWarning, match=KEPT_OUT.format("pushed")):
        feast.push("by_hand", rows().drop(columns="placed_at"), to=to)
    assert not dump(server)
    assert pd.read_parquet(source.path).shape == (2 if to == PushMode.ONLINE_AND_OFFLINE else 1, 3)


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
def test_materializing_labels_is_refused_and_materializing_all_leaves_them_out(
    feast: FeatureStore, server: redis.Redis
) -> None:
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="fraud_labels"):
        feast.materialize(begin, AS_OF, feature_views=["fraud_labels"])
    with pytest.raises(ValueError, match="fraud_labels"):
        feast.materialize_incremental(AS_OF, feature_views=["fraud_labels"])
    assert not dump(server)
    with quiet():
        feast.materialize(begin, AS_OF)
    assert not any(b"order_id" in key for key in dump(server))
    assert dump(server)


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
def test_a_view_over_labels_that_got_into_the_registry_is_materialized_by_no_way(
    feast: FeatureStore, project: Project, server: redis.Redis
) -> None:
    view = peeking(str(project.data / "features/../labels/fraud"))
    feast.registry.apply_feature_view(view, feast.project)  # as a Feast with another online store would
    refused = "Feature view 'peeking' reads .*labels are not features"
    for fill in (
        lambda: feast.materialize(datetime(2024, 1, 1, tzinfo=UTC), AS_OF, feature_views=["peeking"]),
        lambda: feast.materialize_incremental(AS_OF, feature_views=["peeking"]),
        lambda: feast.write_to_online_store("peeking", rows()),
    ):
        with quiet(), pytest.raises(UserError, match=refused):
            fill()
    assert not dump(server)


def test_applying_a_view_that_would_serve_labels_is_refused_and_registers_nothing(
    feast: FeatureStore, project: Project
) -> None:
    with pytest.raises(UserError, match="view 'peeking' reads"):
        FeatureStore(repo_path=feast.repo_path).apply(
            [feast.get_entity("labelled_order"), peeking("../data/labels/fraud")]
        )
    again = FeatureStore(repo_path=feast.repo_path)
    assert "peeking" not in {view.name for view in again.list_all_feature_views()}


def test_a_label_view_that_is_online_as_feast_has_it_by_default_is_accepted_and_kept_out(
    project: Project, server: redis.Redis
) -> None:
    add(project, ONLINE)
    assert publish(project)
    found = FeatureStore(repo_path=str(project.root / "feature_repo"))
    assert found.get_label_view("served").online
    frame = rows().drop(columns="event_timestamp")
    with pytest.warns(UserWarning, match=KEPT_OUT.format("served")):
        found.write_to_online_store("served", frame)
    assert not any(b"order_id" in key for key in dump(server))


def test_feasts_own_commands_refuse_labels(feast: FeatureStore, project: Project, server: redis.Redis) -> None:
    folder = str(project.root / "feature_repo")
    asked = ["-c", folder, "materialize", "2024-01-01T00:00:00", "2024-02-10T00:00:00", "--views", "fraud_labels"]
    result = CliRunner().invoke(cli, asked)
    assert result.exit_code != 0
    assert "fraud_labels" in str(result.exception)
    assert not dump(server)


def test_a_read_of_labels_online_finds_nothing(feast: FeatureStore) -> None:
    answer = feast.get_online_features(["fraud_labels:p_fraud"], [{"order_id": "o1"}]).to_dict()
    assert answer["p_fraud"] == [None]


def test_rows_of_any_label_view_are_kept_out_whatever_it_says_of_itself(feast: FeatureStore) -> None:
    view = feast.get_label_view("fraud_labels")
    refuse_view(view, None)
    with pytest.warns(UserWarning, match=KEPT_OUT.format("fraud_labels")):
        assert keeps_out(view, None)
    assert not keeps_out(feast.get_feature_view("buyer_orders"), None)


def test_labels_that_are_unreadable_or_keyed_otherwise_are_one_sentence_and_before_there_are_any_none(
    project: Project,
) -> None:
    entity = order()
    with pytest.raises(UnknownName, match="no task 'fruad'"):
        label_view(project, "fruad", entity)
    with pytest.raises(UserError, match=r"keyed by 'order_id', and entity 'buyer' by 'buyer'; let its join_keys be"):
        label_view(project, "fraud", Entity(name="buyer", value_type=ValueType.STRING))
    write(project.data / "labels/fraud.manifest.json", "{}\n")
    with pytest.raises(TableError, match="is not a manifest of labels; delete it and run `dvc repro label`"):
        label_view(project, "fraud", entity)
    (project.data / "labels/fraud.manifest.json").unlink()
    assert label_view(project, "fraud", entity).tags == {"weakfish.task": "fraud", "weakfish.classes": "fine, fraud"}


@pytest.mark.parametrize("column", ["p_fraud", "label"])
def test_transforms_reach_labels_through_the_lagged_relation_alone(project: Project, column: str) -> None:
    events = ibis.table({"order_id": "string", "placed_at": "timestamp('UTC', 6)", "note": "string"}, name="events")
    known = ibis.table({"p_fine": "float64", "p_fraud": "float64"}, name="fraud")
    labels = ibis.table({"order_id": "string", "p_fraud": "float64", "label": "string"}, name="labels")
    past = Past("kind", events, "placed_at", 1, {"fraud": (known, ["fine", "fraud"])})
    assert check_view(Transform("kind", "note", lambda past: {"a": past.ever.known_labels("fraud").count()}), past)
    ways: list[Callable[[Past], Any]] = [
        lambda past: {"a": labels[column]},
        lambda past: {"a": past.ever.distinct(labels[column])},
        lambda past: {"a": past.events.join(labels, "order_id")[column].max()},
        lambda past: {"a": known.p_fraud},
        lambda past: {"a": past.ever.sum(known.p_fraud)},
    ]
    for way in ways:
        with pytest.raises(FeatureError):
            check_view(Transform("kind", "note", way), past)
