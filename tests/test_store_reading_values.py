"""Values and times are written as JSON just as Feast's feature server does it."""

from __future__ import annotations

from datetime import UTC, datetime

from feast.feature_server_utils import _timestamp_to_str, _value_to_native
from feast.protos.feast.types.Value_pb2 import Int64List, Int64Set, Value
from feast.type_map import NULL_TIMESTAMP_INT_VALUE, feast_value_type_to_python_type
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from weakfish.feast.serving.messages import natives, rfc3339

EACH = st.one_of(
    st.floats(width=64).map(lambda value: Value(double_val=value)),
    st.floats(width=32).map(lambda value: Value(float_val=value)),
    st.integers(-(2**63), 2**63 - 1).map(lambda value: Value(int64_val=value)),
    st.integers(-(2**31), 2**31 - 1).map(lambda value: Value(int32_val=value)),
    st.integers(-(2**63) + 1, 2**63 - 1).map(lambda value: Value(unix_timestamp_val=value)),
    st.booleans().map(lambda value: Value(bool_val=value)),
    st.text(max_size=200).map(lambda value: Value(string_val=value)),
    st.binary(max_size=20).map(lambda value: Value(bytes_val=value)),
    st.just(Value()),
)


SAME = st.lists(st.floats().map(lambda value: Value(double_val=value)), max_size=9)


@settings(max_examples=300, deadline=None)
@given(values=st.lists(EACH, max_size=8) | SAME | st.lists(st.just(Value(int64_val=7)), max_size=3))
def test_values_are_written_as_the_feature_server_does(values: list[Value]) -> None:
    want, got = [_value_to_native(value) for value in values], natives(values)
    assert got == want
    assert [type(value) for value in got] == [type(value) for value in want]


def test_a_null_among_times_is_null_where_the_feature_server_writes_a_number() -> None:
    null, time = Value(unix_timestamp_val=NULL_TIMESTAMP_INT_VALUE), Value(unix_timestamp_val=7)
    several = Int64List(val=[7, NULL_TIMESTAMP_INT_VALUE])
    assert _value_to_native(null) == NULL_TIMESTAMP_INT_VALUE
    assert natives([null, time]) == [None, 7]
    assert natives([null, time, Value(), Value(int64_val=NULL_TIMESTAMP_INT_VALUE)]) == [None, 7, None, -(2**63)]
    arrays = [Value(unix_timestamp_list_val=several), Value(unix_timestamp_set_val=Int64Set(val=several.val))]
    assert [feast_value_type_to_python_type(each) for each in (null, arrays[0])] == [
        None,
        [datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC), None],
    ]
    assert natives(arrays) == [[7, None], [7, None]]


@settings(max_examples=100, deadline=None)
@given(seconds=st.integers(-62_135_596_800, 253_402_300_799), nanos=st.integers(0, 999_999_999), cut=st.integers(0, 9))
def test_times_are_written_as_the_feature_server_does(seconds: int, nanos: int, cut: int) -> None:
    time = Timestamp(seconds=seconds, nanos=nanos // 10**cut * 10**cut)
    assert rfc3339((time.seconds, time.nanos)) == _timestamp_to_str(time)
