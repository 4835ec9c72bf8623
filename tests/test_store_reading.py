"""Honest reads equal plain Feast's of the same rows, but for what plain Feast keeps silent about."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reading
import redis
from feast import FeatureService, FeatureStore, utils
from feast.feature_server_utils import convert_response_to_dict
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import FRESH, KEYS, PLACES, REFERENCES, STALE, feast_store
from stores import port

from weakfish.feast import layout as keys
from weakfish.feast.exchange import MAX_ROWS
from weakfish.feast.read_plan import ReadPlan
from weakfish.feast.serving.messages import rendered

Request = dict[str, Any]
PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE = FieldStatus.PRESENT, FieldStatus.NOT_FOUND, FieldStatus.OUTSIDE_MAX_AGE


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, server: redis.Redis) -> Path:
    return reading.made(tmp_path_factory.mktemp("repository"), port(server))


@pytest.fixture(scope="module")
def plain(root: Path, server: redis.Redis) -> Iterator[FeatureStore]:
    with feast_store(root, port(server), "redis") as store:
        yield store


@pytest.fixture(scope="module")
def ours(root: Path, server: redis.Redis) -> Iterator[FeatureStore]:
    with feast_store(root, port(server)) as store:
        yield store


def arguments(store: FeatureStore, request: Request) -> Request:
    features = request["features"]
    return {**request, "features": store.get_feature_service(features) if isinstance(features, str) else features}


def outcome(store: FeatureStore, request: Request) -> Any:
    """The response, or the error as type and text."""
    try:
        return store.get_online_features(**arguments(store, request))
    except Exception as error:
        return type(error), str(error)


def outcome_async(store: FeatureStore, request: Request) -> Any:
    async def ask() -> OnlineResponse:
        online = store._get_provider().online_store
        try:
            return await store.get_online_features_async(**arguments(store, request))
        finally:
            await online.close()

    try:
        return asyncio.run(ask())
    except Exception as error:
        return type(error), str(error)


def forget() -> None:
    """Let Feast forget what it was asked: to its cache, a tuple is the list of the same features, which is no error."""
    utils._feature_resolution_cache.clear()


def expected(plain: FeatureStore, request: Request) -> Any:
    """What an honest store says: as plain Feast, but for statuses and what is too old."""
    said = outcome(plain, request)
    if not isinstance(said, OnlineResponse):
        return said
    full = outcome(plain, {**request, "full_feature_names": True})
    rows = request["entity_rows"]
    asked = {name: [row[name] for row in rows] for name in rows[0]} if isinstance(rows, list) else rows
    return reading.honest(said, full.proto.metadata.feature_names.val, asked)


def equal(got: Any, want: Any) -> bool:
    if not isinstance(want, OnlineResponse):
        return bool(got == want)
    assert got.proto == want.proto
    assert got.to_dict(include_event_timestamps=True) == want.to_dict(include_event_timestamps=True)
    assert got.to_arrow().equals(want.to_arrow())
    return bool(got._feature_types == want._feature_types)


def statuses(response: OnlineResponse) -> dict[str, list[int]]:
    names = response.proto.metadata.feature_names.val
    return {name: list(result.statuses) for name, result in zip(names, response.proto.results, strict=True)}


ONE = {"driver_id": st.integers(-2, 10), "extra": st.integers(-5, 5)}
ONE |= dict.fromkeys(("place", "start_id", "end_id"), st.sampled_from([*PLACES, "nowhere"]))


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Services and lists of references, with all keys or some, once or again, by rows or by columns."""
    if draw(st.booleans()):
        features: Any = draw(st.sampled_from(sorted(KEYS)))
        columns = KEYS[features]
    else:
        features = draw(st.lists(st.sampled_from(REFERENCES), min_size=1, max_size=6, unique=True))
        columns = ["driver_id", "place"]
    columns = draw(st.permutations(columns))[: draw(st.sampled_from([3, 3, 3, 1]))]
    height = draw(st.integers(1, 6))
    entities: Any = {name: draw(st.lists(ONE[name], min_size=height, max_size=height)) for name in columns}
    if draw(st.booleans()):
        entities = [{name: entities[name][row] for name in columns} for row in range(height)]
    more = {"full_feature_names": draw(st.booleans())}
    if draw(st.booleans()):
        more["include_feature_view_version_metadata"] = draw(st.booleans())
    return {"features": features, "entity_rows": entities, **more}


relaxed = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@relaxed
@given(request=requests())
def test_any_request_is_answered_as_feast_does_but_honestly(
    plain: FeatureStore, ours: FeatureStore, request: Request
) -> None:
    assert equal(outcome(ours, request), expected(plain, request))


@pytest.mark.parametrize("service", sorted(KEYS))
def test_every_service_is_read_whole(plain: FeatureStore, ours: FeatureStore, service: str) -> None:
    drivers = [*range(-1, 8), 77]
    every = {"driver_id": drivers, "extra": drivers}
    places = ([*PLACES, "nowhere"] * 2)[: len(drivers)]
    asked = {name: every.get(name, places) for name in KEYS[service]}
    request = {"features": service, "entity_rows": asked, "full_feature_names": True}
    want = expected(plain, request)
    assert isinstance(want, OnlineResponse)
    assert equal(outcome(ours, request), want)


@settings(relaxed, max_examples=15)
@given(request=requests())
def test_any_request_is_answered_alike_in_an_event_loop(
    plain: FeatureStore, ours: FeatureStore, request: Request
) -> None:
    assert equal(outcome_async(ours, request), expected(plain, request))


@settings(relaxed, max_examples=40)
@given(request=requests())
def test_the_body_is_what_the_feature_server_makes_of_the_response(ours: FeatureStore, request: Request) -> None:
    response = outcome(ours, request)
    if isinstance(response, OnlineResponse):
        given = arguments(ours, request)
        plan = ReadPlan(
            ours.config, ours.registry, ours.project, given["features"], given.get("full_feature_names", False)
        )
        body, _ = rendered(plan, response)
        assert json.loads(body) == convert_response_to_dict(response.proto)


def test_an_entity_that_is_not_there_is_not_found_with_nulls_and_no_time(ours: FeatureStore) -> None:
    features = ["trips:count", "places:name", "ratings:rate"]  # the last has a time to live
    response = ours.get_online_features(features, [{"driver_id": 77, "place": "nowhere"}])
    for result in response.proto.results[2:]:
        assert list(result.statuses) == [NOT_FOUND]
        assert result.values[0].WhichOneof("val") is None
        assert result.event_timestamps[0].ToNanoseconds() == 0


def test_a_row_beyond_its_time_to_live_is_null_and_keeps_its_time(ours: FeatureStore) -> None:
    response = ours.get_online_features(["ratings:name", "trips:count"], {"driver_id": [4, 3, 6]})
    found = dict(zip(statuses(response), response.proto.results, strict=True))
    assert list(found["name"].statuses) == [PRESENT, OUTSIDE_MAX_AGE, PRESENT]
    assert [value.WhichOneof("val") for value in found["name"].values] == ["string_val", None, "string_val"]
    assert [time.ToDatetime(FRESH.tzinfo) for time in found["name"].event_timestamps] == [FRESH, STALE, FRESH]
    assert list(found["count"].statuses) == [NOT_FOUND, PRESENT, PRESENT]  # as old, but its view has no time to live


def test_a_null_in_a_row_that_is_there_is_present(ours: FeatureStore, plain: FeatureStore) -> None:
    asked: Request = {"features": REFERENCES[:9], "entity_rows": {"driver_id": [3]}}
    nulls = [name for name, (value,) in outcome(plain, asked).to_dict().items() if value is None]
    assert nulls
    assert {statuses(outcome(ours, asked))[name][0] for name in nulls} == {PRESENT}


def test_a_row_of_the_first_of_january_1970_is_there(ours: FeatureStore, server: redis.Redis) -> None:
    online = RedisOnlineStore()
    online._client = server
    key = online._generate_redis_keys_for_entities(
        ours.config, [EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=1970)])]
    )[0]
    server.hset(key, keys.time_field("trips"), b"")
    server.hset(key, keys.feature_field("trips", "count"), Value(int64_val=0).SerializeToString())
    try:
        response = ours.get_online_features(["trips:count"], {"driver_id": [1970]})
        assert response.to_dict() == {"driver_id": [1970], "count": [0]}
        assert statuses(response)["count"] == [PRESENT]
    finally:
        server.delete(key)


WRONG: list[Request] = [
    {"features": [], "entity_rows": {"driver_id": [1]}},
    {"features": ["trips"], "entity_rows": {"driver_id": [1]}},
    {"features": ["nothing:count"], "entity_rows": {"driver_id": [1]}},
    {"features": ["trips:nothing"], "entity_rows": {"driver_id": [1]}},
    {"features": ["trips@v3:count"], "entity_rows": {"driver_id": [1]}},
    {"features": ("trips:count",), "entity_rows": {"driver_id": [1]}},
    {"features": ["trips:count", "ratings:count"], "entity_rows": {"driver_id": [1]}},
    {"features": ["trips:count", "trips:count"], "entity_rows": {"driver_id": [1]}, "full_feature_names": True},
    {"features": ["trips:count"], "entity_rows": []},
    {"features": ["trips:count"], "entity_rows": {}},
    {"features": ["trips:count"], "entity_rows": [{}]},
    {"features": ["trips:count"], "entity_rows": {"driver_id": []}},
    {"features": ["trips:count"], "entity_rows": {"place": ["a"]}},
    {"features": ["trips:count"], "entity_rows": {"driver_id": [None]}},
    {"features": ["trips:count"], "entity_rows": {"driver_id": [1, None]}},
    {"features": ["trips:count"], "entity_rows": {"driver_id": ["one"]}},
    {"features": ["trips:count"], "entity_rows": {"driver_id": [2**63]}},
    {"features": ["trips:count"], "entity_rows": {"driver_id": [[1]]}},
    {"features": ["trips:count"], "entity_rows": {"driver_id": 1}},
    {"features": ["trips:count"], "entity_rows": [{"driver_id": 1}, {"driver_id": 1, "place": "a"}]},
    {"features": ["trips:count"], "entity_rows": [{"driver_id": 1, "place": "a"}, {"driver_id": 1}]},
    {"features": ["visits:count"], "entity_rows": {"driver_id": [1, 2], "place": ["a"]}},
    {"features": ["places:name"], "entity_rows": {"place": ["\ud800"]}},
    {"features": "pandas_too", "entity_rows": {"driver_id": [1]}},
    {"features": "pandas_too", "entity_rows": {"driver_id": [1], "extra": [{1}]}},
    {"features": FeatureService(name="unheard_of", features=[reading.trips]), "entity_rows": {"driver_id": [1]}},
]


@pytest.mark.parametrize("request_", WRONG, ids=lambda wrong: str(wrong)[:60])
def test_a_wrong_request_raises_what_feast_raises(plain: FeatureStore, ours: FeatureStore, request_: Request) -> None:
    forget()
    want = outcome(plain, request_)
    assert isinstance(want, tuple), want
    for got in (outcome(ours, request_), outcome_async(ours, request_)):
        assert got == want


def test_a_tuple_of_features_is_refused_though_the_list_was_answered_before(
    plain: FeatureStore, ours: FeatureStore
) -> None:
    entities = {"driver_id": [1]}
    wrong: Request = {"features": ("trips:count",), "entity_rows": entities}
    forget()
    want = outcome(plain, wrong)
    for ask in (outcome, outcome_async):
        assert isinstance(ask(ours, {"features": ["trips:count"], "entity_rows": entities}), OnlineResponse)
        assert isinstance(outcome(plain, {"features": ["trips:count"], "entity_rows": entities}), OnlineResponse)
        assert ask(ours, wrong) == want


def test_rows_that_lack_different_keys_are_refused_instead_of_mixed_up(ours: FeatureStore) -> None:
    rows = [{"driver_id": 0, "place": "a"}, {"driver_id": 1}, {"place": "b"}]  # two of each: Feast would pair 1 with b
    with pytest.raises(ValueError, match="All entity rows must have the same columns"):
        ours.get_online_features(["visits:count"], rows)


UNUSUAL: list[Request] = [
    {"features": ["trips:rate"], "entity_rows": {"driver_id": ["0", "3"]}},
    {"features": ["trips:rate"], "entity_rows": {"driver_id": [0.0, 3.0]}},
    {"features": ["trips:rate"], "entity_rows": {"driver_id": np.array([0, 3])}},
    {"features": ["trips:rate"], "entity_rows": {"driver_id": (0, 3)}},
    {"features": ["trips:rate"], "entity_rows": {"driver_id": [True, False]}},
    {"features": ["trips:rate"], "entity_rows": {"driver_id": [Value(int64_val=0), Value(int64_val=3)]}},
    {"features": ["trips:rate"], "entity_rows": {"driver_id": RepeatedValue(val=[Value(int64_val=3)])}},
    {"features": ["trips:rate"], "entity_rows": {"driver_id": [0, 3], "unknown": ["x", "y"]}},
    {"features": ["places:name", "weather:rate"], "entity_rows": {"place": [1, 2]}},
    {"features": ["weather:rate"], "entity_rows": {"place": ["a", "b"]}},
    {"features": ["weather:rate"], "entity_rows": {"__dummy_id": [""], "driver_id": [5]}},
    {"features": "mapped", "entity_rows": {"start_id": ["a"], "end_id": ["b"], "place": [""]}},
]


@pytest.mark.parametrize("request_", UNUSUAL, ids=lambda unusual: str(unusual["entity_rows"])[:60])
def test_unusual_entities_mean_what_they_mean_to_feast(
    plain: FeatureStore, ours: FeatureStore, request_: Request
) -> None:
    got, want = outcome(ours, request_), outcome(plain, request_)
    if isinstance(want, tuple):
        assert got == want
        return
    assert got.proto.metadata == want.proto.metadata
    assert got.to_dict(include_event_timestamps=True) == want.to_dict(include_event_timestamps=True)
    assert [list(result.values) for result in got.proto.results] == [list(r.values) for r in want.proto.results]


def test_an_entitys_name_is_taken_for_its_key_with_feasts_warning(ours: FeatureStore) -> None:
    with pytest.warns(UserWarning, match="entity name is deprecated"):
        by_name = ours.get_online_features(["trips:rate"], {"driver": [0]})
    assert by_name.to_dict() == ours.get_online_features(["trips:rate"], {"driver_id": [0]}).to_dict()


def test_a_service_that_differs_from_the_registrys_is_read_as_it_is_handed_in(root: Path, server: redis.Redis) -> None:
    changed = FeatureService(name="renamed", features=[reading.trips[["count", "rate"]].with_name("journeys")])
    with feast_store(root, port(server)) as store, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Feast says that it is not the registry's
        whole = store.get_online_features(store.get_feature_service("renamed"), {"driver_id": [0]}).to_dict()
        with pytest.raises(Exception, match="ratings"):
            store.get_online_features(changed, {"driver_id": [0]})
    assert set(whole) == {"driver_id", "count", "rate", "name"}


def test_more_entities_than_one_round_trip_takes_are_all_read(ours: FeatureStore) -> None:
    asked = [number % 9 if number % 2 else number for number in range(2 * MAX_ROWS + 3)]
    many = ours.get_online_features(["trips:rate"], {"driver_id": asked}).to_dict()["rate"]
    few = ours.get_online_features(["trips:rate"], {"driver_id": [*range(10)]}).to_dict()["rate"]
    assert many == [few[number] if number < 10 else None for number in asked]


def test_what_feast_reads_by_view_is_honest_too(ours: FeatureStore) -> None:
    online, view = ours._get_provider().online_store, ours.get_feature_view("ratings")
    asked = [EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=number)]) for number in (4, 3, 77)]

    async def ask() -> Any:
        try:
            return await online.online_read_async(ours.config, view, asked, ["name"])
        finally:
            await online.close()

    for rows in (online.online_read(ours.config, view, asked, ["name"]), asyncio.run(ask())):
        assert rows == [(FRESH, {"name": Value(string_val="ß" * 5)}), (STALE, {"name": Value()}), (None, None)]
    assert set(online.online_read(ours.config, view, asked)[0][1]) == {"count", "rate", "score", "name"}
