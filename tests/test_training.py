"""Training sets: every label once and in order, with the features that were known at its event's time (rules 3, 4)."""

from __future__ import annotations

import json
import linecache
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projects import contents, replace, tiny, write

from weakfish.contracts.tables import TIME, partition_names, read_table, write_partition
from weakfish.errors import TableError, TrainingError, UnknownName, UserError
from weakfish.project.paths import Project
from weakfish.training.joins import JoinLimits
from weakfish.training.sets import build_training_sets

START = datetime(2024, 1, 31, 20, tzinfo=UTC)
LARGE = 2**53 + 1
"""A whole number that a float cannot hold."""

EVENTS = pa.schema(
    [
        ("order_id", pa.string()),
        ("placed_at", TIME),
        ("customer", pa.string()),
        ("shop", pa.string()),
        ("amount", pa.int64()),
    ]
)
VIEWS = {
    "customer_activity": pa.schema(
        [
            ("customer", pa.string()),
            ("event_timestamp", TIME),
            ("created", TIME),
            ("orders", pa.int64()),
            ("gift_share", pa.float64()),
            ("first_seen_at", TIME),
            ("is_regular", pa.bool_()),
            ("tier", pa.string()),
        ]
    ),
    "shop_activity": pa.schema(
        [("shop", pa.string()), ("event_timestamp", TIME), ("created", TIME), ("orders", pa.int64())]
    ),
}
MANIFEST: dict[str, Any] = {"task": "fraud", "method": "majority", "events": {}, "settings": {}, "versions": {}}
STORE = """
    project: orders
    provider: local
    registry: {path: ../data/registry/registry.db}
    offline_store: {type: weakfish.feast.offline.AsOfOfflineStore}
    online_store: {type: weakfish.feast.online.ProjectRedisOnlineStore}
    entity_key_serialization_version: 3
"""
DEFINITIONS = """
    from datetime import timedelta
    from pathlib import Path

    import pandas as pd
    from feast import Entity, FeatureService, FeatureView, Field, RequestSource, ValueType
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.types import Float64, Int64, UnixTimestamp

    from weakfish.project.paths import Project
    from weakfish.feast.definitions import view_schema, view_source

    here = Project.find(Path(__file__).parent)
    buyer = Entity(name="customer", value_type=ValueType.STRING)
    seller = Entity(name="shop", value_type=ValueType.STRING)


    def view(name, entity):
        return FeatureView(
            name=name,
            entities=[entity],
            ttl=timedelta(0),
            schema=view_schema(here, name),
            source=view_source(here, name),
        )


    customer_activity = view("customer_activity", buyer)
    shop_activity = view("shop_activity", seller)
    order = RequestSource(
        name="order", schema=[Field(name="amount", dtype=Int64), Field(name="placed_at", dtype=UnixTimestamp)]
    )


    @on_demand_feature_view(
        sources=[order, customer_activity],
        schema=[Field(name="amount_doubled", dtype=Int64), Field(name="hours_known", dtype=Float64)],
    )
    def request_features(inputs: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        found = pd.DataFrame(index=inputs.index)
        found["amount_doubled"] = inputs["amount"] * 2
        known = pd.to_datetime(inputs["placed_at"], utc=True) - pd.to_datetime(inputs["first_seen_at"], utc=True)
        found["hours_known"] = known / pd.Timedelta(hours=1)
        return found


    fraud_v1 = FeatureService(name="fraud_v1", features=[customer_activity, shop_activity, request_features])
"""


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def event(
    number: int, hours: float, customer: str | None = "ann", shop: str | None = "east", **more: Any
) -> dict[str, Any]:
    placed = {"order_id": f"o{number:03}", "placed_at": at(hours), "customer": customer, "shop": shop}
    return {**placed, "amount": number, **more}


def row(entity: str, name: str | None, hours: float, created: float | None = None, **features: Any) -> dict[str, Any]:
    known = at(hours if created is None else created)
    return {entity: name, "event_timestamp": at(hours), "created": known, **features}


def customer(name: str, hours: float, created: float | None = None, **features: Any) -> dict[str, Any]:
    return row("customer", name, hours, created, **features)


def shop(name: str, hours: float, created: float | None = None, **features: Any) -> dict[str, Any]:
    return row("shop", name, hours, created, **features)


def write_table(root: Path, name: str, table: pa.Table, time: str) -> None:
    months = partition_names(table[time], "month")
    for partition in sorted(set(months.to_pylist())):
        write_partition(root / "data" / name, partition, table.filter(pc.equal(months, partition)))


def write_view(root: Path, name: str, rows: Sequence[dict[str, Any]]) -> None:
    schema = VIEWS[name]
    table = pa.Table.from_pylist(list(rows), schema)
    write_table(root, f"features/{name}", table, "event_timestamp")
    manifest = {
        "columns": {field.name: str(field.type) for field in schema},
        "features": schema.names[3:],
        "entity": schema.names[0],
        "data_version": "1",
    }
    write(root / f"data/features/{name}.manifest.json", json.dumps(manifest))


def project(
    root: Path, events: Sequence[dict[str, Any]], customers: Sequence[dict[str, Any]], shops: Sequence[dict[str, Any]]
) -> Project:
    """A project that stands before its `training_set` stage."""
    tiny(root)
    (root / "feature_repo/transforms.py").unlink()  # the tables here are made by hand,
    shutil.rmtree(root / "validation")  # and nothing judges them
    table = pa.Table.from_pylist(list(events), EVENTS).sort_by([("placed_at", "ascending"), ("order_id", "ascending")])
    write_table(root, "events", table, "placed_at")
    chance = pa.array([(number % 10) / 10 for number in range(len(events))], pa.float64())
    labels = table.select(["order_id", "placed_at"])
    for column, values in {"p_fine": pc.subtract(1.0, chance), "p_fraud": chance}.items():
        labels = labels.append_column(column, values)
    labels = labels.append_column("covered", pa.array([True] * len(events)))
    labels = labels.append_column("n_votes", pa.array([2] * len(events), pa.int32()))
    write_table(root, "labels/fraud", labels, "placed_at")
    functions = {"is_large": {"module": "labeling_functions.orders", "identity": "ab"}}
    write(root / "data/labels/fraud.manifest.json", json.dumps({**MANIFEST, "functions": functions}))
    write_view(root, "customer_activity", customers)
    write_view(root, "shop_activity", shops)
    write(root / "feature_repo/definitions.py", DEFINITIONS)
    write(root / "feature_repo/feature_store.yaml", STORE)
    return Project(root)


def trained(made: Project, limits: JoinLimits | None = None) -> list[dict[str, Any]]:
    build_training_sets(made, limits)
    found: list[dict[str, Any]] = read_table(made.table("training/fraud")).to_pylist()
    return found


def last_known(
    rows: Sequence[dict[str, Any]], entity: str, of: dict[str, Any], time_column: str = "placed_at"
) -> dict[str, Any]:
    """Brute force: the last row of the same entity with event time and created time at or before the event's."""
    time = of[time_column]
    past = [
        row
        for row in rows
        if of[entity] is not None and row[entity] == of[entity] and row["event_timestamp"] <= time >= row["created"]
    ]
    return max(past, key=lambda row: (row["event_timestamp"], row["created"]), default={})


def expected(
    events: Sequence[dict[str, Any]], customers: Sequence[dict[str, Any]], shops: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    found = []
    for of in sorted(events, key=lambda event: (event["placed_at"], event["order_id"])):
        own, others = last_known(customers, "customer", of), last_known(shops, "shop", of)
        seen, amount = own.get("first_seen_at"), of["amount"]
        found.append(
            {
                "order_id": of["order_id"],
                **{f"customer_activity__{name}": own.get(name) for name in VIEWS["customer_activity"].names[3:]},
                "shop_activity__orders": others.get("orders"),
                "request_features__amount_doubled": None if amount is None else amount * 2,
                "request_features__hours_known": seen and (of["placed_at"] - seen) / timedelta(hours=1),
            }
        )
    return found


def features(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name == "order_id" or "__" in name} for row in rows]


CUSTOMERS = [
    customer("ann", 0, orders=1, gift_share=0.5, first_seen_at=at(-1), is_regular=False, tier="new"),
    customer("ann", 2, orders=LARGE, gift_share=None, first_seen_at=at(-1), is_regular=True, tier=None),
    customer("ann", 5, created=9, orders=99, gift_share=0.9, first_seen_at=at(-1), is_regular=True, tier="late"),
    customer("bob", 1, orders=None, gift_share=0.1, first_seen_at=at(0), is_regular=None, tier="new"),
]
SHOPS = [shop("east", 0, orders=3), shop("west", 3, orders=4)]


def test_every_value_is_that_of_the_last_row_known_at_the_time(tmp_path: Path) -> None:
    events = [event(number, hours) for number, hours in enumerate((-1, 0, 1.9, 2, 5, 8.9, 9, 30))]
    events += [event(10 + n, hours, "bob", "west", amount=None) for n, hours in enumerate((0.5, 3, 40))]
    rows = trained(project(tmp_path / "p", events, CUSTOMERS, SHOPS))
    assert features(rows) == expected(events, CUSTOMERS, SHOPS)
    assert [row["customer_activity__orders"] for row in rows if row["order_id"] in ("o000", "o005", "o006")] == [
        None,
        LARGE,
        99,
    ]


def test_rows_of_one_entity_and_time_and_rows_without_an_entity_are_all_kept(tmp_path: Path) -> None:
    events = [event(number, 4) for number in range(5)] + [
        event(5, 4, None),
        event(6, 4, None, None),
        event(7, 4, "new"),
    ]
    made = project(tmp_path / "p", events, CUSTOMERS, SHOPS)
    rows = trained(made)
    assert [row["order_id"] for row in rows] == [f"o00{number}" for number in range(8)]
    assert {row["customer_activity__orders"] for row in rows[:5]} == {LARGE}
    assert {row["customer_activity__orders"] for row in rows[5:]} == {None}
    assert [row["shop_activity__orders"] for row in rows[5:]] == [3, None, 3]
    labels = read_table(
        made.table("labels/fraud"), ["order_id", "placed_at", "p_fine", "p_fraud", "covered", "n_votes"]
    )
    assert read_table(made.table("training/fraud")).select(labels.column_names).equals(labels)


def test_features_keep_the_types_in_which_they_were_stored(tmp_path: Path) -> None:
    made = project(tmp_path / "p", [event(1, 4), event(2, 4, None, amount=None)], CUSTOMERS, SHOPS)
    build_training_sets(made)
    schema = read_table(made.table("training/fraud")).schema
    for view, stored in VIEWS.items():
        for field in list(stored)[3:]:
            assert schema.field(f"{view}__{field.name}").type == field.type
    assert schema.field("request_features__amount_doubled").type == pa.int64()


hours = st.integers(-3, 6).map(lambda half: half / 2)
names = st.sampled_from(["ann", "bob"])
histories = st.lists(
    st.builds(
        lambda name, time, late, orders: customer(name, time, time + late, orders=orders),
        names,
        hours,
        st.sampled_from([0, 0, 0.5, 2]),
        st.none() | st.integers(0, LARGE),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda row: (row["customer"], row["event_timestamp"], row["created"]),
)
spines = st.lists(st.tuples(hours, st.none() | names), min_size=1, max_size=12)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories, spines)
def test_random_histories_agree_with_brute_force(history: list[dict[str, Any]], spine: list[Any]) -> None:
    events = [event(number, time, name) for number, (time, name) in enumerate(spine)]
    with tempfile.TemporaryDirectory() as folder:
        rows = trained(project(Path(folder) / "p", events, history, SHOPS), JoinLimits(batch=2, stretch=3, bucket=5))
    wanted = [{"first_seen_at": None, "gift_share": None, "is_regular": None, "tier": None} | row for row in history]
    assert features(rows) == expected(events, wanted, SHOPS)


def test_the_same_inputs_give_the_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    events = [event(number, number % 7) for number in range(40)]
    made = [project(tmp_path / name, events, CUSTOMERS, SHOPS) for name in ("one", "two")]
    for one in made:
        build_training_sets(one)
    first, second = (contents(one.data / "training") for one in made)
    assert first == second
    assert sorted(first) == ["fraud.manifest.json", "fraud/2024-01.parquet", "fraud/2024-02.parquet"]


def test_rows_are_in_the_order_of_time_and_key_whatever_that_of_the_events(tmp_path: Path) -> None:
    made = project(tmp_path / "p", [event(number, number % 7) for number in range(40)], CUSTOMERS, SHOPS)
    build_training_sets(made)
    before = read_table(made.table("training/fraud"))
    for file in (*made.table("events").glob("*.parquet"), *made.table("labels/fraud").glob("*.parquet")):
        rows = pq.read_table(file)
        write_partition(file.parent, file.stem, rows.take(list(reversed(range(rows.num_rows)))))
    build_training_sets(made)
    assert read_table(made.table("training/fraud")).equals(before)


def test_the_manifest_says_what_made_the_set(tmp_path: Path) -> None:
    made = project(tmp_path / "p", [event(1, 4)], CUSTOMERS, SHOPS)
    build_training_sets(made)
    manifest = json.loads((made.data / "training/fraud.manifest.json").read_text())
    assert set(manifest["data"]) == {"events", "features/customer_activity", "features/shop_activity", "labels/fraud"}
    assert manifest["functions"] == {"is_large": "ab"}
    assert manifest["feature_service"] == "fraud_v1"
    before = manifest["views"]
    assert set(before) == {"customer_activity", "request_features", "shop_activity"}
    replace(made.root / "feature_repo/definitions.py", '"amount"] * 2', '"amount"] * 3')
    linecache.clearcache()  # Feast reads the source of functions through it
    build_training_sets(made)
    after = json.loads((made.data / "training/fraud.manifest.json").read_text())["views"]
    assert {view for view in before if before[view] != after[view]} == {"request_features"}


def test_a_task_may_name_another_feature_service(tmp_path: Path) -> None:
    made = project(tmp_path / "p", [event(1, 4)], CUSTOMERS, SHOPS)
    with (made.root / "feature_repo/definitions.py").open("a") as file:
        file.write('small = FeatureService(name="small", features=[customer_activity[["orders"]], request_features])\n')
    replace(made.root / "params.yaml", "functions: all", "functions: all\n    feature_service: small")
    (found,) = trained(Project(made.root))
    assert [name for name in found if "__" in name] == [
        "customer_activity__orders",
        "request_features__amount_doubled",
        "request_features__hours_known",
    ]
    assert found["request_features__hours_known"] == 5.0


def test_a_view_that_only_an_on_demand_view_reads_is_asked_for_too(tmp_path: Path) -> None:
    made = project(tmp_path / "p", [event(1, 4)], CUSTOMERS, SHOPS)
    replace(made.root / "feature_repo/definitions.py", "[customer_activity, shop_activity, request", "[request")
    (found,) = trained(made)
    assert [name for name in found if "__" in name] == [
        "request_features__amount_doubled",
        "request_features__hours_known",
    ]
    assert found["request_features__hours_known"] == 5.0


@pytest.fixture
def made(tmp_path: Path) -> Project:
    return project(tmp_path / "p", [event(1, 1), event(2, 30)], CUSTOMERS, SHOPS)


def refused(made: Project, error: type[UserError], *words: str) -> None:
    """Building fails with one sentence that holds the words, and leaves what was there before."""
    before = contents(made.data / "training")
    with pytest.raises(error) as caught:
        build_training_sets(made)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert contents(made.data / "training") == before


def test_a_view_whose_parquet_is_gone_is_named(made: Project) -> None:
    build_training_sets(made)
    for file in (made.data / "features/shop_activity").iterdir():
        file.unlink()
    refused(made, TableError, "shop_activity", "dvc repro")
    (made.data / "features/customer_activity.manifest.json").unlink()
    refused(made, UserError, "customer_activity", "dvc repro")


def test_a_feature_that_the_parquet_lacks_is_named(made: Project) -> None:
    file = made.data / "features/shop_activity/2024-01.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["orders"]), file)
    refused(made, TrainingError, "shop_activity", "orders")


def test_rows_among_which_nothing_can_choose_are_refused(made: Project) -> None:
    write_view(made.root, "shop_activity", [*SHOPS, shop("east", 0, orders=7)])
    refused(made, TrainingError, "features/shop_activity", "several rows")
    with pytest.raises(TrainingError, match="several rows"):
        build_training_sets(made, JoinLimits(bucket=1))


def test_a_feature_service_that_does_not_exist_is_answered_with_those_that_do(made: Project) -> None:
    replace(made.root / "feature_repo/definitions.py", 'name="fraud_v1"', 'name="frauds_v1"')
    refused(made, UnknownName, "fraud_v1", "frauds_v1")


def test_a_request_column_that_events_lack_is_named(made: Project) -> None:
    replace(made.root / "feature_repo/definitions.py", 'Field(name="amount"', 'Field(name="weight"')
    replace(made.root / "feature_repo/definitions.py", 'inputs["amount"]', 'inputs["weight"]')
    refused(made, TrainingError, "weight", "amount")


def test_a_request_feature_of_another_type_than_declared_is_named(made: Project) -> None:
    replace(made.root / "feature_repo/definitions.py", '"amount"] * 2', '"amount"] / 4')
    refused(made, UserError, "amount_doubled", "INT64")


def test_a_function_that_raises_is_one_sentence(made: Project) -> None:
    replace(made.root / "feature_repo/definitions.py", '"amount"] * 2', '"amount"].no_such_thing')
    refused(made, UserError, "no_such_thing")


def test_definitions_that_cannot_be_imported_are_one_sentence(made: Project) -> None:
    write(made.root / "feature_repo/definitions.py", "import no_such_module")
    refused(made, UserError, "no_such_module")


def test_settings_that_feast_refuses_are_one_sentence(made: Project) -> None:
    replace(made.root / "feature_repo/feature_store.yaml", "provider: local", "provider: elsewhere")
    refused(made, UserError, "feature_repo")


def test_an_offline_store_that_may_lose_rows_is_refused(made: Project) -> None:
    replace(made.root / "feature_repo/feature_store.yaml", "weakfish.feast.offline.AsOfOfflineStore", "duckdb")
    refused(made, TrainingError, "'duckdb'", "weakfish.feast.offline.AsOfOfflineStore")


def test_a_label_view_is_no_feature(made: Project) -> None:
    with (made.root / "feature_repo/definitions.py").open("a") as file:
        file.write(
            "from feast.labeling import LabelView\n"
            'labels = LabelView(name="labels", entities=[seller],\n'
            '    schema=[Field(name="shop", dtype=String), Field(name="orders", dtype=Int64)],\n'
            '    source=view_source(here, "shop_activity"), online=False)\n'
            'fraud_v1 = FeatureService(name="fraud_v1", features=[labels])\n'
        )
    replace(made.root / "feature_repo/definitions.py", "import Float64", "import String, Float64")
    refused(made, UserError, "label view", "labels")


def test_labels_of_other_events_are_refused(made: Project) -> None:
    file = made.data / "labels/fraud/2024-02.parquet"
    labels = pq.read_table(file)
    pq.write_table(labels.set_column(0, "order_id", pa.array(["stranger"] * labels.num_rows)), file)
    refused(made, TableError, "2024-02", "dvc repro label")
    file.unlink()
    refused(made, TableError, "2024-02", "dvc repro label")


def test_every_value_of_the_real_corpus_is_that_of_the_last_row_known_at_the_time(demo: Path) -> None:
    found = read_table(demo / "data/training/spam")
    spine = read_table(demo / "data/events", ["message_id", "received_at", "sender_domain", "relay_ip", "list_id"])
    assert found["message_id"].equals(spine["message_id"])
    assert found["received_at"].equals(spine["received_at"])
    labels = read_table(demo / "data/labels/spam")
    assert found.select(["p_ham", "p_spam", "covered"]).equals(labels.select(["p_ham", "p_spam", "covered"]))
    events = spine.to_pylist()
    for view, entity in (
        ("sender_activity", "sender_domain"),
        ("relay_activity", "relay_ip"),
        ("list_activity", "list_id"),
    ):
        stored = read_table(demo / "data/features" / view)
        names = [name for name in stored.column_names if name not in (entity, "event_timestamp", "created")]
        by_entity: dict[str, list[dict[str, Any]]] = {}
        for known in stored.to_pylist():
            by_entity.setdefault(known[entity], []).append(known)
        wanted = [last_known(by_entity.get(of[entity], []), entity, of, "received_at") for of in events]
        values = found.select([f"{view}__{name}" for name in names]).rename_columns(names).to_pylist()
        assert values == [{name: row.get(name) for name in names} for row in wanted]
