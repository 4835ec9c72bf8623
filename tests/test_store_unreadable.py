"""What cannot be read in the online store is null, with a status of its own, and everything beside it is served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import reading
import redis
from encoding import ALL
from feast import FeatureStore
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Int64List, Value
from feast.value_type import ValueType
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from reading import feast_store
from stores import port

from weakfish.feast import layout as keys
from weakfish.feast.encoding import encoded
from weakfish.feast.reader import hashes
from weakfish.feast.unreadable import (
    ANY,
    LINES,
    MINUTE,
    Log,
    are_times,
    check_of,
    first_byte,
    hash_of,
    is_time,
    is_value,
)

PRESENT, NOT_FOUND, INVALID = FieldStatus.PRESENT, FieldStatus.NOT_FOUND, FieldStatus.INVALID
DRIVERS = [0, 2, 3, 5, 6]  # all of them have trips
BROKEN = 3


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, server: redis.Redis) -> Iterator[FeatureStore]:
    root = reading.made(tmp_path_factory.mktemp("repository"), port(server))
    with feast_store(root, port(server)) as store:
        yield store


def key(store: FeatureStore, driver: int) -> bytes:
    message = EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=driver)])
    return hashes(store.config, [message])[0]


@pytest.fixture
def row(ours: FeatureStore, server: redis.Redis) -> Iterator[bytes]:
    """The key of one driver's rows, which are put back afterwards."""
    found = key(ours, BROKEN)
    held: Any = server.hgetall(found)
    yield found
    server.delete(found)
    server.hset(found, mapping=held)


Cells = dict[str, list[tuple[bytes, int, int]]]
FEATURES = [f"trips:{name}" for name in reading.VALUES if name != "third"]


def cells(response: OnlineResponse) -> Cells:
    """By column the value, status and time of each entity."""
    response.to_dict()  # which is what clients look at
    names = response.proto.metadata.feature_names.val
    return {
        name: [
            (value.SerializeToString(), status, time.ToNanoseconds())
            for value, status, time in zip(column.values, column.statuses, column.event_timestamps, strict=True)
        ]
        for name, column in zip(names, response.proto.results, strict=True)
    }


def ask(store: FeatureStore, drivers: list[int] = DRIVERS, features: list[str] = FEATURES) -> Cells:
    """A request's answer, which an event loop gets too, on a connection of its own and on one that is open."""

    async def asynchronously() -> list[Cells]:
        asked = [await store.get_online_features_async(features, {"driver_id": drivers}) for _ in range(2)]
        await store._get_provider().online_store.close()
        return [cells(response) for response in asked]

    found = cells(store.get_online_features(features, {"driver_id": drivers}))
    assert asyncio.run(asynchronously()) == [found, found]
    return found


BAD_VALUES = {
    "garbage": b"\xff\xfe\xfd",
    "cut off": Value(string_val="x" * 50).SerializeToString()[:-1],
    "a wire type that the field does not have": bytes([4 << 3 | 2, 1, 7]),
    "a field that no value has": bytes([10 << 3, 1]),
    "no text": bytes([2 << 3 | 2, 2, 0xC3, 0x28]),
}
BAD_FOR = {
    **{(feature, name): data for feature in ("count", "rate", "name", "tags") for name, data in BAD_VALUES.items()},
    ("count", "a text"): Value(string_val="7").SerializeToString(),
    ("count", "an integer, then a text"): Value(int64_val=7).SerializeToString() + b"\xff",
    ("count", "an integer, then a double"): Value(int64_val=7).SerializeToString()
    + Value(double_val=7).SerializeToString(),
    ("count", "an integer, then a truth"): Value(int64_val=7).SerializeToString()
    + Value(bool_val=True).SerializeToString(),
    ("seen", "a time, then an integer"): Value(unix_timestamp_val=7).SerializeToString()
    + Value(int64_val=7).SerializeToString(),
    ("rate", "an integer"): Value(int64_val=7).SerializeToString(),
    ("rate", "eight bytes and one"): Value(double_val=7).SerializeToString() + b"\x00",
    **{
        (feature, f"a {kind}, then {more}"): reading.VALUES[feature](5).SerializeToString() + data
        for feature, kind in (("rate", "double"), ("score", "float"), ("name", "text"), ("blob", "bytes"))
        for more, data in (
            ("an integer", Value(int64_val=7).SerializeToString()),
            ("a list", Value(int64_list_val=Int64List(val=[7])).SerializeToString()),
        )
    },
    ("vector", "a vector, then a double"): reading.VALUES["vector"](5).SerializeToString()
    + Value(double_val=7).SerializeToString(),
    ("tags", "a long list, then a text"): reading.VALUES["tags"](200).SerializeToString()
    + Value(string_val="7").SerializeToString(),
    ("score", "a double"): Value(double_val=7).SerializeToString(),
    ("name", "a number"): Value(int64_val=7).SerializeToString(),
    ("active", "a text"): Value(string_val="true").SerializeToString(),
    ("seen", "the year 10000"): Value(unix_timestamp_val=253_402_300_800).SerializeToString(),
    ("seen", "before the year 1"): Value(unix_timestamp_val=-62_135_596_801).SerializeToString(),
    ("seen", "an integer"): Value(int64_val=1_700_000_000).SerializeToString(),
    ("blob", "a text"): Value(string_val="7").SerializeToString(),
    ("vector", "a number"): Value(float_val=7).SerializeToString(),
    ("vector", "a text with the vector's first byte"): bytes([0x82, 0x02, 1, 0x7B]),
}


@pytest.mark.parametrize(("feature", "what"), BAD_FOR, ids=lambda text: text.replace(" ", "_"))
def test_a_value_that_cannot_be_read_is_null_and_invalid_and_nothing_else_changes(
    ours: FeatureStore, server: redis.Redis, row: bytes, feature: str, what: str
) -> None:
    want = ask(ours)
    place = DRIVERS.index(BROKEN)
    _, _, time = want[feature][place]
    server.hset(row, keys.feature_field("trips", feature), BAD_FOR[feature, what])  # type: ignore[arg-type]
    want[feature][place] = (b"", INVALID, time)
    assert ask(ours) == want
    assert ask(ours, [BROKEN]) == {name: column[place : place + 1] for name, column in want.items()}


@pytest.mark.parametrize(("feature", "length", "nulls"), [("rate", 9, False), ("score", 5, True)])
def test_bytes_as_long_as_the_numbers_beside_them_are_told_from_numbers(
    ours: FeatureStore, server: redis.Redis, row: bytes, feature: str, length: int, nulls: bool
) -> None:
    drivers, features = [0, 5, 6, 0, 5, BROKEN], [f"trips:{feature}"]
    data = Value(bytes_val=b"x" * (length - 2)).SerializeToString()
    server.hset(row, keys.feature_field("trips", feature), data)  # type: ignore[arg-type]
    found = ask(ours, drivers, features)[feature]
    assert {len(value) for value, _, _ in found[:-1]} == ({0, length} if nulls else {length})
    assert len(data) == length
    assert [status for _, status, _ in found] == [PRESENT] * 5 + [INVALID]


BAD_TIMES = {
    "garbage": b"\xff\xfe",
    "cut off": b"\x08\x80",
    "a wire type that the field does not have": b"\x0a\x01\x07",
    "a field that no time has": b"\x08\x05\x18\x01",
    "the year 10000": Timestamp(seconds=253_402_300_800).SerializeToString(),
    "before the year 1": Timestamp(seconds=-62_135_596_801).SerializeToString(),
    "a second of nanoseconds": Timestamp(seconds=5, nanos=1_000_000_000).SerializeToString(),
    "less than no nanoseconds": Timestamp(seconds=5, nanos=-1).SerializeToString(),
}


@pytest.mark.parametrize("what", BAD_TIMES, ids=lambda text: text.replace(" ", "_"))
@pytest.mark.parametrize("view", ["trips", "ratings"])  # without and with a time to live
def test_a_row_whose_time_cannot_be_read_is_invalid_as_a_whole(
    ours: FeatureStore, server: redis.Redis, row: bytes, view: str, what: str
) -> None:
    features = [f"{view}:count", f"{view}:rate"]
    want = ask(ours, features=features)
    server.hset(row, keys.time_field(view), BAD_TIMES[what])  # type: ignore[arg-type]
    for feature in ("count", "rate"):
        want[feature][DRIVERS.index(BROKEN)] = (b"", INVALID, 0)
    assert ask(ours, features=features) == want


def test_a_value_of_a_row_that_is_too_old_stays_that(ours: FeatureStore, server: redis.Redis, row: bytes) -> None:
    features = ["ratings:count", "trips:count"]
    want = ask(ours, features=["ratings:count"])
    assert want["count"][DRIVERS.index(BROKEN)][1] == FieldStatus.OUTSIDE_MAX_AGE
    server.hset(row, keys.feature_field("ratings", "count"), b"\xff")  # type: ignore[arg-type]
    server.hset(row, keys.feature_field("trips", "count"), b"\xff")  # type: ignore[arg-type]
    response = ours.get_online_features(features, {"driver_id": DRIVERS}, full_feature_names=True)
    assert cells(response)["ratings__count"] == want["count"]


@pytest.mark.parametrize("kind", ["string", "list", "set", "sorted set", "stream"])
def test_a_key_that_holds_no_hash_is_invalid_as_a_whole(
    ours: FeatureStore, server: redis.Redis, row: bytes, kind: str
) -> None:
    want = ask(ours)
    server.delete(row)
    {
        "string": lambda: server.set(row, "hello"),
        "list": lambda: server.rpush(row, "hello"),
        "set": lambda: server.sadd(row, "hello"),
        "sorted set": lambda: server.zadd(row, {"hello": 1}),
        "stream": lambda: server.xadd(row, {"hello": "there"}),
    }[kind]()
    for feature, column in want.items():
        if feature != "driver_id":
            column[DRIVERS.index(BROKEN)] = (b"", INVALID, 0)
    assert ask(ours) == want


def test_connections_outlive_keys_that_hold_no_hash(ours: FeatureStore, server: redis.Redis, row: bytes) -> None:
    server.delete(row)
    server.set(row, "hello")
    ours.get_online_features(FEATURES, {"driver_id": DRIVERS})
    before = server.info("stats")["total_connections_received"]
    for _ in range(3):
        ours.get_online_features(FEATURES, {"driver_id": DRIVERS})
    assert server.info("stats")["total_connections_received"] == before


def test_ten_thousand_entities_are_answered_around_one_broken_value(
    ours: FeatureStore, server: redis.Redis, row: bytes
) -> None:
    drivers = [driver for number in range(2_000) for driver in DRIVERS] + list(range(100, 9_900))
    features = ["trips:count", "trips:name", "ratings:rate"]
    want = cells(ours.get_online_features(features, {"driver_id": drivers}))
    server.hset(row, keys.feature_field("trips", "name"), b"\xff")  # type: ignore[arg-type]
    for place in range(DRIVERS.index(BROKEN), 10_000, len(DRIVERS)):
        want["name"][place] = (b"", INVALID, want["name"][place][2])
    response: Any = ours.get_online_features(features, {"driver_id": drivers})
    assert cells(response) == want
    assert response.unreadable == {"name": 2_000}


def test_views_of_their_own_keys_and_computed_ones_are_answered_too(
    ours: FeatureStore, server: redis.Redis, row: bytes
) -> None:
    server.set(row, "hello")
    asked = {"driver_id": [BROKEN, 0], "place": ["a", ""], "extra": [1, 2]}
    for service in ("everything", "pandas_too", "python_too", "on_demand"):
        response = ours.get_online_features(ours.get_feature_service(service), asked, full_feature_names=True)
        found = {name: [cell[1] for cell in column] for name, column in cells(response).items()}
        assert all(INVALID not in statuses[1:] for statuses in found.values())
        for name, statuses in found.items():
            if name.startswith(("trips__", "ratings__")):
                assert statuses[0] == INVALID, name


def test_a_view_read_by_itself_has_nulls_and_rows_that_are_not_there(
    ours: FeatureStore, server: redis.Redis, row: bytes
) -> None:
    online, view = ours._get_provider().online_store, ours.get_feature_view("trips")
    entities = [EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=driver)]) for driver in DRIVERS]
    want = online.online_read(ours.config, view, entities, ["count", "rate"])
    place = DRIVERS.index(BROKEN)
    server.hset(row, keys.feature_field("trips", "count"), b"\xff")  # type: ignore[arg-type]
    want[place][1]["count"] = Value()
    assert online.online_read(ours.config, view, entities, ["count", "rate"]) == want
    server.set(row, "hello")
    want[place] = (None, None)
    assert online.online_read(ours.config, view, entities, ["count", "rate"]) == want


def test_the_log_names_view_feature_and_hash_but_never_key_or_value(
    ours: FeatureStore, server: redis.Redis, row: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    ours._get_provider().online_store.reader(ours.config).log = Log()
    server.hset(row, keys.feature_field("trips", "count"), Value(string_val="s3cret").SerializeToString())  # type: ignore[arg-type]
    ours.get_online_features(["trips:count"], {"driver_id": DRIVERS})
    assert caplog.messages == [
        f"The online store holds something unreadable for trips:count of the key with the hash {hash_of(row)}; it is "
        "served as null, and `weakfish audit` names the entity."
    ]
    server.set(row, "s3cret")
    caplog.clear()
    ours.get_online_features(["trips:count", "trips:rate"], {"driver_id": DRIVERS})
    assert [message.partition(" for ")[2][:8] for message in caplog.messages] == ["trips:* "]


def test_the_log_has_few_lines_a_minute_and_counts_the_others(caplog: pytest.LogCaptureFixture) -> None:
    log, broken = Log(), [("trips", f"f{number}", b"key") for number in range(LINES + 3)]
    log.tell(broken, now=100.0)
    log.tell(broken[:2], now=100.0 + MINUTE - 1)
    assert len(caplog.messages) == LINES
    log.tell(broken[:1], now=100.0 + MINUTE)
    assert caplog.messages[LINES] == "5 more values in the online store could not be read."
    assert "trips:f0 " in caplog.messages[LINES + 1]
    assert len(caplog.messages) == LINES + 2
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


MESSAGES = {
    name: (kind.to_value_type(), encoded(column, kind.to_value_type()).to_pylist())
    for name, (kind, column) in ALL.items()
}


@pytest.mark.parametrize("name", ALL)
def test_all_that_is_written_of_a_type_is_read_as_that_type_and_as_no_other(name: str) -> None:
    kind, column = MESSAGES[name]
    assert all(is_value(data, kind) for data in column)
    for other, (of, values) in MESSAGES.items():
        check, first = check_of(kind), first_byte(kind)
        seen = [data for data in values if data]
        passes = [data for data in seen if first in (ANY, data[0]) and (check is None or check([data]))]
        assert passes == [data for data in seen if is_value(data, kind)], (name, other)
        same = of == kind or {of.name, kind.name} <= {"BYTES", "PDF_BYTES", "IMAGE_BYTES"}
        uuids = "UUID" in kind.name and "STRING" in of.name
        assert uuids or passes == (seen if same else [])


def test_a_value_that_stands_twice_or_is_long_is_one() -> None:
    for kind, value in ((ValueType.STRING, Value(string_val="x" * 300)), (ValueType.BYTES, Value(bytes_val=b"x"))):
        check, data = check_of(kind), value.SerializeToString()
        assert check is not None
        assert check([data, None, data + data])
        assert is_value(data + data, kind)
        assert not check([data, data + Value(int64_val=1).SerializeToString()])


def test_texts_that_are_none_of_their_type_cannot_be_read() -> None:
    kinds = {name: kind for name, (kind, _) in MESSAGES.items()}
    assert not is_value(Value(uuid_val="no uuid").SerializeToString(), kinds["uuid"])
    assert not is_value(Value(decimal_val="no number").SerializeToString(), kinds["decimal"])
    assert is_value(Value(string_val="00000000-0000-0000-0000-000000000001").SerializeToString(), kinds["uuid"])


def test_every_time_that_protobuf_has_is_one() -> None:
    for seconds in (-62_135_596_800, -1, 0, 1, 2**31, 2**35, 253_402_300_799):
        for nanos in (0, 1, 2**28, 805_306_368, 999_999_999):
            assert is_time(Timestamp(seconds=seconds, nanos=nanos).SerializeToString())
    assert is_time(None)
    assert not any(map(is_time, BAD_TIMES.values()))


def is_message(data: bytes) -> bool:
    try:
        Timestamp.FromString(data)
    except DecodeError:
        return False
    return True


@pytest.mark.parametrize("seed", range(20))
def test_times_one_after_another_are_judged_as_each_of_them_is(seed: int) -> None:
    draw = np.random.default_rng(seed)
    seconds = [int(number) for number in (draw.integers(-(10**12), 10**12), *draw.integers(2**31, size=2))]
    nanos = [0, 804_999_999, 805_306_368, 998_244_351, 998_244_352, 999_999_999, 1_000_000_000, 2**31 - 1, -1]
    times = [Timestamp(seconds=one, nanos=nano).SerializeToString() for one in seconds for nano in (*nanos, *nanos[:3])]
    pieces = [piece for time in times for piece in (time, time + times[0], time[6:], time[:6], b"\x1a\x01a" + time)]
    messages, found = [None, *filter(is_message, pieces)], [False, False]
    for _ in range(500):
        column = [messages[place] for place in draw.integers(len(messages), size=draw.integers(1, 4))]
        each = all(map(is_time, column))
        assert are_times(column) == each, column
        found[each] = True
    assert all(found)
