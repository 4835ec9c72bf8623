"""Rows encoded by whole columns: the bytes are those that Feast's own writer puts into Redis."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis
from encoding import (
    ALL,
    NOON,
    TIME,
    USERS,
    all_types,
    config,
    digest_of_all,
    feast_rows,
    hashes,
    read_by_feast,
    server,
    table,
    view,
    write,
    write_by_feast,
)
from feast import types
from feast.feature_view import DUMMY_ENTITY_FIELD
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import MapKey, ScalarMap, ScalarMapEntry, Value, ZonedTimestamp
from feast.type_map import feast_value_type_to_python_type
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from weakfish.errors import StoreError
from weakfish.feast import layout as keys
from weakfish.feast.encoding import UNKNOWN, encode, encode_rows
from weakfish.feast.filling import taken

quick = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module", params=["redis-server", "valkey"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with server(request.param, tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    if "client" in request.fixturenames:
        request.getfixturevalue("client").flushall()


def plain(message: Any) -> Any:
    """A value to be compared, in sets whatever the order."""
    name = message.WhichOneof("val")
    content = getattr(message, name) if name else None
    if name and name.endswith("_set_val"):
        return name, sorted(content.val, key=repr)
    return name, message.SerializeToString(deterministic=True)


def messages(encoded: Any, name: str) -> list[bytes]:
    found: list[bytes] = encoded.values[keys.feature_field(encoded.view, name)].to_pylist()
    return found


def test_hashes_are_byte_for_byte_those_that_feast_writes(client: redis.Redis) -> None:
    one, rows = all_types()
    write_by_feast(client, one, feast_rows(one, rows))
    theirs = hashes(client)
    client.flushall()
    write(client, encode(one, config(), rows))
    ours = hashes(client)
    assert ours.keys() == theirs.keys()
    assert len(ours) == 5
    unordered = {keys.feature_field("habits", name) for name in ALL if re.search("_set$|^map|^struct", name)}
    for key, row in theirs.items():
        assert ours[key].keys() == row.keys()
        for field, content in row.items():
            if field in unordered:  # as hashing in the process has it
                assert plain(Value.FromString(ours[key][field])) == plain(Value.FromString(content))
            else:
                assert ours[key][field] == content


def test_every_type_comes_back_through_feasts_reader_from_both_writers(client: redis.Redis) -> None:
    one, rows = all_types()
    handed = feast_rows(one, rows)
    entities = [row[0] for row in handed]
    found = []
    for writer in (
        lambda: write_by_feast(client, one, handed),
        lambda: write(client, encode(one, config(), rows)),
        lambda: [write(client, encoded) for encoded in encode_rows(one, config(), handed)],
    ):
        client.flushall()
        writer()
        found.append(read_by_feast(client, one, entities))
    for answers in found:
        for (time, values), (_, sent, event, _) in zip(answers, handed, strict=True):
            assert time == event.replace(tzinfo=UTC)
            assert {name: plain(value) for name, value in values.items()} == {
                name: plain(value) for name, value in sent.items()
            }


def test_types_that_feast_takes_only_row_by_row_come_back_too(client: redis.Redis) -> None:
    one = view({"shelf": types.ScalarMap, "seen": types.ZonedTimestamp, "tags": types.Map})
    entries = [ScalarMapEntry(key=MapKey(int64_key=7), value=Value(string_val="seven"))]
    values = {
        "shelf": Value(scalar_map_val=ScalarMap(val=entries)),
        "seen": Value(zoned_timestamp_val=ZonedTimestamp(unix_timestamp=5, zone="Europe/Berlin")),
        "tags": Value(),
    }
    values["tags"].map_val.val["a"].int64_val = 1
    entity = EntityKey(join_keys=["user"], entity_values=[Value(int64_val=3)])
    rows = [(entity, values, NOON, None)]
    write_by_feast(client, one, rows)
    theirs = hashes(client)
    client.flushall()
    write(client, next(encode_rows(one, config(), rows)))
    assert hashes(client) == theirs
    assert read_by_feast(client, one, [entity])[0][1] == values


def test_maps_and_zoned_times_are_taken_from_arrow_where_feast_refuses_them() -> None:
    one = view({"shelf": types.ScalarMap, "seen": types.ZonedTimestamp, "tags": types.Map})
    columns = {
        "shelf": pa.array([[(7, "seven")]], pa.map_(pa.int64(), pa.string())),
        "seen": pa.array([NOON], pa.timestamp("us", "Europe/Berlin")),
        "tags": pa.array([[("b", "2"), ("a", "1")]], pa.map_(pa.string(), pa.string())),
    }
    encoded = encode(one, config(), table({"user": [1], **columns}))
    shelf, seen, tags = (Value.FromString(messages(encoded, name)[0]) for name in columns)
    assert shelf.scalar_map_val.val[0].key.int64_key == 7
    assert seen.zoned_timestamp_val == ZonedTimestamp(unix_timestamp=int(NOON.timestamp()), zone="Europe/Berlin")
    assert {name: value.string_val for name, value in tags.map_val.val.items()} == {"a": "1", "b": "2"}


whole = st.integers(-(2**53), 2**53)
COLUMNS: list[tuple[Any, pa.DataType, Any]] = [
    (types.Bool, pa.bool_(), st.booleans()),
    (types.Int32, pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    (types.Int32, pa.int8(), st.integers(-128, 127)),
    (types.Int64, pa.int64(), whole),
    (types.Int64, pa.uint32(), st.integers(0, 2**32 - 1)),
    (types.Float32, pa.float32(), st.floats(width=32)),
    (types.Float32, pa.float64(), st.floats(-3e38, 3e38)),
    (types.Float32, pa.int64(), whole),
    (types.Float64, pa.float64(), st.floats()),
    (types.String, pa.string(), st.text()),
    (types.String, pa.large_string(), st.text()),
    (types.Bytes, pa.binary(), st.binary()),
    (types.Bytes, pa.binary(3), st.binary(min_size=3, max_size=3)),
    (types.UnixTimestamp, TIME, st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1))),
    (types.UnixTimestamp, pa.timestamp("ms"), st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1))),
    (types.UnixTimestamp, pa.timestamp("ns"), st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1))),
]


@pytest.mark.parametrize(("kind", "arrow", "values"), COLUMNS, ids=lambda part: str(part))
def test_a_column_of_any_values_and_nulls_is_encoded_as_feast_does(kind: Any, arrow: pa.DataType, values: Any) -> None:
    one = view({"habit": kind})

    @quick
    @given(st.lists(st.none() | values, min_size=1, max_size=12))
    def holds(content: list[Any]) -> None:
        if kind == types.Bytes:  # Feast takes empty bytes for null where a batch has no others
            content = [b"and", *content]
        column = (
            pa.array(content, type=arrow, from_pandas=False)
            if "timestamp" not in str(arrow)
            else _times(content, arrow)
        )
        rows = table({"user": pa.array(range(len(content)), pa.int64()), "habit": column})
        expected = [row[1]["habit"].SerializeToString() for row in feast_rows(one, rows)]
        assert messages(encode(one, config(), rows), "habit") == expected

    holds()


def _times(content: list[datetime | None], arrow: pa.DataType) -> pa.Array:
    return pa.array(content, pa.timestamp("us")).cast(arrow, safe=False)


@quick
@given(st.lists(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), min_size=1, max_size=8))
def test_event_times_of_all_years_are_what_protobuf_makes_of_them(times: list[datetime]) -> None:
    aware = [time.replace(tzinfo=UTC) for time in times]
    encoded = encode(
        view({"habit": types.Bool}), config(), table({"user": range(len(times)), "habit": [True] * len(times)}, aware)
    )
    for time, proto, number, made in zip(aware, encoded.times, encoded.event_us, encoded.created, strict=True):
        stamp = Timestamp()
        stamp.FromDatetime(time)
        assert proto.as_py() == stamp.SerializeToString()
        assert number == (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        assert made.as_py()[:8] == int(number).to_bytes(8, "big", signed=True)


KEY_COLUMNS: dict[str, tuple[Any, pa.DataType, Any]] = {
    "zone": (types.String, pa.string(), st.text()),
    "number": (types.Int64, pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "small": (types.Int32, pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "raw": (types.Bytes, pa.binary(), st.binary(min_size=1)),
    "at": (types.UnixTimestamp, TIME, st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))),
    "ähnlich": (types.String, pa.large_string(), st.text(max_size=3)),
}


@quick
@given(st.data())
def test_keys_of_any_columns_and_types_are_feasts(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(list(KEY_COLUMNS)), min_size=1, unique=True))
    one = view({"habit": types.Bool}, {name: KEY_COLUMNS[name][0] for name in names})
    size = data.draw(st.integers(1, 4))
    columns = {
        name: pa.array(data.draw(st.lists(KEY_COLUMNS[name][2], min_size=size, max_size=size)), KEY_COLUMNS[name][1])
        for name in names
    }
    rows = table({**columns, "habit": [True] * size})
    encoded = encode(one, config(project="andere_2"), rows)
    assert encoded.keys.to_pylist() == [_redis_key("andere_2", row[0], 3) for row in feast_rows(one, rows)]


def test_a_whole_number_beside_a_null_stays_exact_where_feast_rounds_it() -> None:
    rows = table({"user": [1, 2], "habit": pa.array([2**53 + 1, None])})
    assert messages(encode(view({"habit": types.Int64}), config(), rows), "habit") == [
        Value(int64_val=2**53 + 1).SerializeToString(),
        b"",
    ]


def test_the_arrow_type_of_a_column_of_texts_does_not_matter() -> None:
    one = view({"habit": types.String})
    plain_texts = pa.array(["a", None, "ä", "a", ""])
    expected = messages(encode(one, config(), table({"user": USERS, "habit": plain_texts})), "habit")
    for column in (
        plain_texts.dictionary_encode(),
        plain_texts.cast(pa.string_view()),
        plain_texts.cast(pa.large_string()),
    ):
        assert messages(encode(one, config(), table({"user": USERS, "habit": column})), "habit") == expected
    chunked = pa.concat_tables(
        [table({"user": [n], "habit": pa.array([text], pa.string())}) for n, text in enumerate(["a", None])]
    )
    assert messages(encode(one, config(), chunked), "habit") == expected[:2]


def test_a_column_of_nothing_but_nulls_needs_no_type() -> None:
    one = view({"count": types.Int64, "seen": types.UnixTimestamp, "tags": types.Array(types.String)})
    rows = table({"user": [1], "count": pa.nulls(1), "seen": pa.nulls(1), "tags": pa.nulls(1, pa.list_(pa.string()))})
    encoded = encode(one, config(), rows)
    assert messages(encoded, "count") == messages(encoded, "tags") == [b""]
    assert Value.FromString(messages(encoded, "seen")[0]).unix_timestamp_val == -(2**63)


def test_rows_that_feast_hands_over_are_encoded_as_columns_are() -> None:
    one, rows = all_types()
    by_column = encode(one, config(), rows)
    (by_row,) = encode_rows(one, config(), feast_rows(one, rows))
    assert by_row.fields().keys() == by_column.fields().keys()
    for field, column in by_column.fields().items():
        assert by_row.fields()[field].equals(column)
    assert by_row.keys.equals(by_column.keys)


def test_rows_with_other_features_come_apart_in_their_order() -> None:
    entity = EntityKey(join_keys=["user"], entity_values=[Value(int64_val=3)])
    sets = [{"a": Value(bool_val=True)}, {"a": Value()}, {"b": Value()}, {"a": Value()}]
    found = list(
        encode_rows(view({"a": types.Bool, "b": types.Bool}), config(), [(entity, one, NOON, None) for one in sets])
    )
    assert [len(encoded) for encoded in found] == [2, 1, 1]
    assert [list(encoded.values) for encoded in found] == [[keys.feature_field("habits", name)] for name in "aba"]
    assert set(found[0].created_us) == {UNKNOWN}
    assert found[0].keys[0].as_py() == serialize_entity_key(entity, 3) + "pröject".encode()


def test_a_view_without_entities_has_feasts_one_key() -> None:
    bare = view({"habit": types.Bool}, {})
    applied = view({"habit": types.Bool}, {})
    applied.entity_columns = [DUMMY_ENTITY_FIELD]
    rows, with_key = table({"habit": [True]}), table({"habit": [True], "__dummy_id": [""]})
    expected = [_redis_key("pröject", feast_rows(applied, with_key)[0][0], 3)]
    for one in (bare, applied):
        for given_rows in (rows, with_key):
            assert encode(one, config(), given_rows).keys.to_pylist() == expected


def test_slices_hold_their_rows() -> None:
    one, rows = all_types()
    whole_of_it, part = encode(one, config(), rows), encode(one, config(), rows.slice(2, 2))
    sliced = taken(whole_of_it, [2, 3])
    assert len(sliced) == 2
    assert sliced.keys.equals(part.keys)
    assert list(sliced.created_us) == list(part.created_us)
    assert all(sliced.fields()[field].equals(column) for field, column in part.fields().items())


def test_no_rows_are_encoded_to_none() -> None:
    one, rows = all_types()
    encoded = encode(one, config(), rows.slice(0, 0))
    assert len(encoded) == 0
    assert all(len(column) == 0 for column in encoded.fields().values())


ARRAYS = [name for name, (kind, _) in ALL.items() if isinstance(kind, types.Array | types.Set)]
HOLD_NULLS = {"time_list", "time_set", "json_list", "float32_list", "float64_list", "float32_set", "float64_set"}


def with_a_null(name: str, place: int) -> pa.Array:
    """A column of an array type, with a null in its first array."""
    column = ALL[name][1]
    (first, *rest), is_text = column.to_pylist(), pa.types.is_string(column.type)
    inside = json.loads(first) if is_text else list(first)
    inner = inside[0] if name.startswith("nested") else inside
    inner.insert(place, None)
    return pa.array([json.dumps(inside) if is_text else inside, *rest], column.type)


@pytest.mark.parametrize("place", [0, 1], ids=["before", "after"])
@pytest.mark.parametrize("name", ARRAYS)
def test_a_null_inside_an_array_comes_back_or_is_refused(name: str, place: int) -> None:
    column = with_a_null(name, place)
    one, rows = view({name: ALL[name][0]}), table({"user": USERS, name: column})
    if name not in HOLD_NULLS:
        with pytest.raises(StoreError, match=f"^Feature {name} of view habits .*; (remove or replace it|correct)"):
            encode(one, config(), rows)
        return
    values = feast_value_type_to_python_type(Value.FromString(messages(encode(one, config(), rows), name)[0]))
    assert len(values) == len(column[0])
    assert sum(value is None or value != value for value in values) == 1


@pytest.mark.parametrize("kind", [types.Array, types.Set])
def test_an_empty_array_inside_an_array_is_refused(kind: Any) -> None:
    one = view({"tags": kind(types.Array(types.String))})
    with pytest.raises(StoreError, match=r"Feature tags of view habits .* An empty array inside an array"):
        encode(one, config(), table({"user": [1], "tags": [[["a"], []]]}))


def test_no_null_hides_in_arrays_of_three_levels() -> None:
    one = view({"tags": types.Array(types.Array(types.Array(types.Int64)))})
    encode(one, config(), table({"user": [1], "tags": [[[[1], [2]], [[3]]]]}))
    with pytest.raises(StoreError, match="A null inside an array"):
        encode(one, config(), table({"user": [1], "tags": [[[[1], [2]], [[3, None]]]]}))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"user": [1, None], "habit": [1, 2]}, "1 rows of view habits have no user, which is their key"),
        (
            {"user": [1.5, 2.5], "habit": [1, 2]},
            r"Join keys of view habits \(user double as DOUBLE\) make no entity key",
        ),
        ({"user": ["a", "b"]}, "no column 'habit' .*there are user, event_timestamp, created"),
        ({"habit": [1, 2]}, "no join key 'user'"),
        ({"user": ["a", "b"], "habit": [1, 2**31]}, "Feature habit of view habits is declared Int32"),
        ({"user": ["a", "b"], "habit": ["one", "two"]}, "Feature habit of view habits is declared Int32"),
    ],
)
def test_what_cannot_be_encoded_is_said_in_a_sentence(columns: dict[str, Any], says: str) -> None:
    kind = types.Float64 if columns.get("user") == [1.5, 2.5] else types.String
    with pytest.raises(StoreError, match=says):
        encode(view({"habit": types.Int32}, {"user": kind}), config(), table(columns))


def test_a_row_without_event_time_is_refused() -> None:
    one = view({"habit": types.Bool})
    rows = table({"user": [1, 2], "habit": [True, True]})
    rows = rows.set_column(2, "event_timestamp", pa.array([NOON, None], TIME))
    with pytest.raises(StoreError, match="1 rows of view habits have no event_timestamp"):
        encode(one, config(), rows)
    with pytest.raises(StoreError, match="no event time"):
        list(encode_rows(one, config(), [(EntityKey(), {}, None, None)]))


def test_created_times_that_are_unknown_are_the_oldest() -> None:
    one = view({"habit": types.Bool})
    rows = table({"user": [1, 2], "habit": [True, True]}, created=[NOON, None])
    encoded = encode(one, config(), rows)
    assert list(encoded.created_us) == [int(NOON.timestamp()) * 1_000_000, UNKNOWN]
    assert encoded.created[1].as_py()[8:] == UNKNOWN.to_bytes(8, "big", signed=True)
    assert list(encode(one, config(), rows.drop_columns("created")).created_us) == [UNKNOWN, UNKNOWN]


def test_the_same_rows_give_the_same_bytes_in_every_process() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import encoding; print(encoding.digest_of_all())"],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split()[-1] == digest_of_all()
