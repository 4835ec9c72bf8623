"""Rows into real servers by compare-and-set: the newer row stays, whole, whoever comes last and whatever goes down."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import machine
import pyarrow as pa
import pytest
import redis
from encoding import NOON, config, feast_rows, hashes, server, table, view, write, write_by_feast
from feast import types
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from listening import free_port
from redis.cluster import ClusterNode, RedisCluster
from servers import cluster
from stores import port

from weakfish.errors import StoreError
from weakfish.feast import clients
from weakfish.feast import layout as keys
from weakfish.feast import writer as calls
from weakfish.feast.encoding import Encoded, encode
from weakfish.feast.server import NEVER
from weakfish.feast.writer import removals, writes

ONE = view({"count": types.Int64, "label": types.String})
MICROSECOND = timedelta(microseconds=1)
Row = tuple[int, datetime, datetime | None, int]
"""User, event time, created time, count."""


@pytest.fixture(scope="module", params=["redis-server", "valkey"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with server(request.param, tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        found = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", nodes[0].port)])
        yield found
        found.close()


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    for name in ("client", "slots"):
        if name in request.fixturenames:
            request.getfixturevalue(name).flushall()


def encoded(rows: Sequence[Row], project: str = "pröject") -> Encoded:
    users, events, created, counts = zip(*rows, strict=True)
    columns = {"user": pa.array(users, pa.int64()), "count": pa.array(counts, pa.int64())}
    columns["label"] = pa.array([f"label {count}" for count in counts])
    return encode(ONE, config(project=project), table(columns, list(events), list(created)))


def key(user: int) -> bytes:
    found: bytes = encoded([(user, NOON, None, 0)]).keys[0].as_py()
    return found


def count(client: Any, user: int = 1) -> int | None:
    """What a row holds, once all of its fields are seen to be of one row."""
    row = client.hgetall(key(user))
    if not row:
        return None
    found = next(number for number in range(10_000) if _values(number).items() <= row.items())
    assert len(row) == 4
    return found


def _values(number: int) -> dict[bytes, bytes]:
    return {name: column[0].as_py() for name, column in encoded([(1, NOON, None, number)]).values.items()}


def test_the_newer_event_time_stays_whoever_writes_last(client: redis.Redis) -> None:
    assert write(client, encoded([(1, NOON, NOON, 1)])) == 1
    assert write(client, encoded([(1, NOON - MICROSECOND, NOON + timedelta(days=9), 2)])) == 0
    assert count(client) == 1
    assert write(client, encoded([(1, NOON + MICROSECOND, NOON - timedelta(days=9), 3)])) == 1
    assert count(client) == 3


def test_a_correction_of_the_same_event_time_arrives_and_what_it_corrects_does_not_come_back(
    client: redis.Redis,
) -> None:
    write(client, encoded([(1, NOON, NOON + MICROSECOND, 1)]))
    assert write(client, encoded([(1, NOON, NOON + 2 * MICROSECOND, 2)])) == 1
    assert write(client, encoded([(1, NOON, NOON + MICROSECOND, 1)])) == 0
    assert write(client, encoded([(1, NOON, None, 3)])) == 0
    assert count(client) == 2
    assert write(client, encoded([(1, NOON, NOON + 2 * MICROSECOND, 4)])) == 1
    assert count(client) == 4


FAR = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1583, 6, 1, 0, 0, 0, 1, UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1970, 1, 1, 0, 0, 0, 1, UTC),
    NOON - MICROSECOND,
    NOON,
    datetime(9999, 12, 31, 23, 59, 59, 999_998, UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
]
moments = st.sampled_from(FAR)
written_rows = st.tuples(st.integers(1, 2), moments, st.none() | moments, st.integers(0, 99))
batches = st.lists(st.tuples(st.booleans(), st.lists(written_rows, min_size=1, max_size=4)), min_size=1, max_size=8)


def test_any_batches_of_ours_and_of_feasts_leave_the_row_that_should_stay(client: redis.Redis) -> None:
    @settings(max_examples=60, deadline=None)
    @given(batches)
    def holds(done: list[tuple[bool, list[Row]]]) -> None:
        client.flushall()
        held: dict[int, tuple[datetime, Any, int]] = {}  # event time, what our field says, count
        for by_feast, rows in done:
            (_as_feast_would if by_feast else write)(client, encoded(rows))
            for user, event, created, number in rows:
                stands, mark, _ = held.get(user, (None, None, None))
                known = mark[1] if mark and mark[0] == stands else None
                if by_feast:
                    held[user] = (event, mark, number)
                elif stands is None or _order(event, created) >= _order(stands, known):
                    held[user] = (event, (event, created), number)
        for user, (event, _, number) in held.items():
            stamp = Timestamp.FromString(client.hget(key(user), keys.time_field("habits")))
            assert stamp.ToDatetime(UTC) == event
            assert _values(number).items() <= client.hgetall(key(user)).items()

    holds()


def _order(event: datetime, created: datetime | None) -> tuple[datetime, bool, datetime]:
    return event, created is not None, created or event


def _as_feast_would(client: redis.Redis, batch: Encoded) -> None:
    """Plain writes of Feast's fields, with ours left as it is: what a writer does that does not know it."""
    fields = {name: column for name, column in batch.fields().items() if not name.startswith(b"_created:")}
    for number, name in enumerate(batch.keys.to_pylist()):
        client.hset(name, mapping={field: column[number].as_py() for field, column in fields.items()})


def test_a_row_that_feast_wrote_since_is_of_unknown_age_and_is_replaced(client: redis.Redis) -> None:
    write(client, encoded([(1, NOON, NOON + timedelta(days=5), 1)]))
    later = table({"user": [1], "count": [2], "label": ["label 2"]}, [NOON + timedelta(days=1)])
    write_by_feast(client, ONE, feast_rows(ONE, later))
    assert write(client, encoded([(1, NOON, NOON + timedelta(days=9), 3)])) == 0
    assert write(client, encoded([(1, NOON + timedelta(days=1), NOON, 4)])) == 1
    assert count(client) == 4


@pytest.mark.parametrize("damaged", [b"\x08", b"\xff\xff", b"plain text"])
def test_a_stored_time_that_is_none_is_older_than_any(client: redis.Redis, damaged: bytes) -> None:
    write(client, encoded([(1, NOON, NOON, 1)]))
    client.hset(key(1), keys.time_field("habits"), damaged)
    assert write(client, encoded([(1, FAR[0], None, 2)])) == 1
    assert count(client) == 2


def test_rows_of_one_entity_in_one_batch_leave_the_newest(client: redis.Redis) -> None:
    rows: list[Row] = [(1, NOON + number * MICROSECOND, None, number) for number in range(500)]
    random.Random(3).shuffle(rows)  # noqa: S311
    assert 1 <= write(client, encoded(rows)) <= 500
    assert count(client) == 499


def test_until_the_end_of_time_writes_whatever_stands(client: redis.Redis) -> None:
    write(client, encoded([(1, NOON, NOON, 1)]))
    assert write(client, encoded([(1, FAR[0], None, 2)]), until=2**62) == 1
    assert count(client) == 2


def test_until_replaces_all_that_is_not_after_it_and_leaves_the_rest(client: redis.Redis) -> None:
    write(client, encoded([(1, NOON, NOON, 1), (2, NOON + MICROSECOND, NOON, 1)]))
    until = encoded([(1, NOON, NOON, 1)]).event_us[0]
    old: list[Row] = [(1, FAR[0], None, 2), (2, FAR[0], None, 2), (3, FAR[0], None, 2)]
    assert write(client, encoded(old), until=int(until)) == 2
    assert [count(client, user) for user in (1, 2, 3)] == [2, 1, 2]
    assert write(client, encoded(old), until=2**63 - 1) == 3
    far: list[Row] = [(1, FAR[-1], None, 3)]
    write(client, encoded(far))
    assert write(client, encoded(old[:1]), until=int(encoded(far).event_us[0]) - 1) == 0
    assert write(client, encoded([(4, FAR[2], None, 3)])) == 1
    assert write(client, encoded([(4, FAR[0], None, 4)]), until=-2) == 0
    assert write(client, encoded([(4, FAR[0], None, 4)]), until=-1) == 1


def test_written_rows_lose_the_fields_that_are_gone_and_rows_that_stay_keep_them(client: redis.Redis) -> None:
    write(client, encoded([(1, NOON, None, 1), (2, NOON, None, 1)]))
    gone = [f"gone {number}".encode() for number in range(5_000)]
    for user in (1, 2):
        client.hset(key(user), mapping=dict.fromkeys([*gone, b"kept"], b"x"))
    write(client, encoded([(1, NOON, None, 2), (2, FAR[0], None, 2)]), gone=gone)
    assert client.hlen(key(1)) == 5
    assert client.hlen(key(2)) == 5_005


def test_keys_expire_where_feast_is_told_so(client: redis.Redis) -> None:
    write(client, encoded([(1, NOON, None, 1)]), expire=1000)
    assert 0 < client.ttl(key(1)) <= 1000
    write(client, encoded([(2, NOON, None, 1)]))
    assert client.ttl(key(2)) == -1


def test_a_view_of_thousands_of_features_is_written_whole(client: redis.Redis) -> None:
    values = {number.to_bytes(4, "big"): pa.array([b"%d" % number, b""], pa.binary()) for number in range(4_500)}
    wide = replace(encoded([(1, NOON, None, 1), (2, NOON, None, 1)]), values=values)
    assert write(client, wide) == 2
    for number in range(2):
        row = {field: column[number].as_py() for field, column in wide.fields().items()}
        assert client.hgetall(key(number + 1)) == row


def test_values_of_all_lengths_arrive(client: redis.Redis) -> None:
    texts = ["x" * length for length in (0, 1, 20, 27, 28, 29, 30, 31, 32, 252, 253, 254, 255, 256, 65_534, 70_000)]
    for chosen in (texts, texts[:6], texts[:12], texts[:14]):
        client.flushall()
        rows = table({"user": range(len(chosen)), "count": [None] * len(chosen), "label": chosen})
        batch = encode(ONE, config(), rows)
        write(client, batch)
        for number, name in enumerate(batch.keys.to_pylist()):
            assert client.hgetall(name) == {field: column[number].as_py() for field, column in batch.fields().items()}


def test_two_writers_and_a_reader_at_once_never_see_a_torn_row(client: redis.Redis) -> None:
    where = {"port": port(client)}
    rows: list[Row] = [(number % 3, NOON + number * MICROSECOND, None, number) for number in range(300)]
    whole = {tuple(sorted(_values(number).items())) for number in range(300)}
    torn, over = [], threading.Event()

    def work(seed: int) -> None:
        mine = rows[seed::2]
        random.Random(seed).shuffle(mine)  # noqa: S311
        with redis.Redis(**where) as own:
            for start in range(0, len(mine), 9):
                write(own, encoded(mine[start : start + 9]))

    def look() -> None:
        names = [key(user) for user in range(3)]
        with redis.Redis(**where) as own:
            while not over.is_set():
                for name in names:
                    row = {field: value for field, value in own.hgetall(name).items() if len(field) == 4}
                    if row and tuple(sorted(row.items())) not in whole:
                        torn.append(row)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    reader = threading.Thread(target=look)
    for thread in (reader, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    reader.join()
    assert not torn
    assert [count(client, user) for user in range(3)] == [297, 298, 299]


def test_a_server_that_forgot_the_script_is_told_again(client: redis.Redis) -> None:
    rows: list[Row] = [(user, NOON, None, 1) for user in range(250)]
    for _ in range(2):
        client.script_flush()
        assert write(client, encoded(rows)) == 250


def test_a_transaction_takes_the_rows_with_all_else_or_not_at_all(client: redis.Redis) -> None:
    client.script_flush()
    rows: list[Row] = [(user, NOON, None, 1) for user in range(250)]
    with client.pipeline(transaction=True) as pipe:
        number = writes(encoded(rows)).queue(pipe)
        pipe.set("marker", "done")
        assert client.dbsize() == 0
        *counts, _ = pipe.execute()
    assert number == len(counts) == 3
    assert sum(counts) == 250
    assert client.dbsize() == 251
    with client.pipeline(transaction=True) as pipe:
        removals([key(user) for user in range(250)], "habits", list(encoded(rows).fields()), 2**62).queue(pipe)
        assert sum(pipe.execute()) == 250
    assert client.dbsize() == 1


def test_removal_leaves_rows_that_came_later(client: redis.Redis) -> None:
    write(client, encoded([(1, NOON, None, 1), (2, NOON + MICROSECOND, None, 1)]))
    client.hset(key(3), b"orphan", b"x")
    until = int(encoded([(1, NOON, None, 1)]).event_us[0])
    fields = [*encoded([(1, NOON, None, 1)]).fields(), b"orphan"]
    assert removals([key(user) for user in (1, 2, 3, 4)], "habits", fields, until).make(client) == 3
    assert [bool(client.exists(key(user))) for user in (1, 2, 3)] == [False, True, False]


def test_a_cluster_takes_rows_by_their_slots(slots: Any, client: redis.Redis) -> None:
    rows: list[Row] = [(user, NOON, None, user) for user in range(400)] + [(7, NOON, None, 9), (7, FAR[0], None, 8)]
    write(client, encoded(rows))
    expected = hashes(client)
    assert write(slots, encoded(rows)) == 401
    assert hashes(slots) == expected
    nodes = slots.get_primaries()
    assert all(slots.dbsize(target_nodes=node) > 50 for node in nodes)
    slots.script_flush()
    assert write(slots, encoded(rows), until=2**62) == 402
    names = [key(user) for user in range(400)]
    assert removals(names, "habits", list(encoded(rows).fields()), 2**62).make(slots) == 400
    assert not list(slots.scan_iter())


def test_calls_and_windows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = encoded([(user, NOON, None, user) for user in range(1_000)])
    sizes = [[len(call.keys) for call in window] for window in calls.windows(rows, [], False)]
    assert sizes == [[100] * 10]
    monkeypatch.setattr(calls, "WINDOW_ROWS", 250)
    monkeypatch.setattr(calls, "BYTES", 1_000)
    windows = list(calls.windows(rows, [], False))
    assert [sum(len(call.keys) for call in window) for window in windows] == [250] * 4
    assert all(len(call.arguments[1]) <= 1_500 for window in windows for call in window)
    found = [name for window in windows for call in window for name in call.keys]
    assert sorted(found) == sorted(rows.keys.to_pylist())


def rated(users: Sequence[int], ratios: Sequence[float | None]) -> Encoded:
    """Rows of one time with a number that may be null."""
    one = view({"ratio": types.Float64})
    count = len(users)
    return encode(one, config(), table({"user": users, "ratio": ratios}, [NOON] * count, [NOON] * count))


def test_rows_with_a_rare_null_are_written_in_calls_of_their_own(client: redis.Redis) -> None:
    users = range(1_000)
    rows = rated(users, [None if user % 50 == 7 else user / 7 for user in users])
    (window,) = calls.windows(rows, [], False)
    assert window[-1].keys == [key(user) for user in range(7, 1_000, 50)]
    assert write(client, rows) == 1_000
    for place, name in enumerate(rows.keys.to_pylist()):
        assert client.hgetall(name) == {field: column[place].as_py() for field, column in rows.fields().items()}


def test_of_rows_of_one_key_and_time_the_last_stays_whatever_is_null(client: redis.Redis) -> None:
    write(client, rated([5, *range(100, 200), 5], [None, *range(100), 0.5]))
    ((field, column),) = rated([5], [0.5]).values.items()
    assert client.hget(key(5), field) == column[0].as_py()


def test_a_server_that_comes_back_in_time_gets_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.program("redis-server")  # where it is missing, the test is left out here and not in the thread
    monkeypatch.setattr(calls, "WINDOW_ROWS", 100)
    rows: list[Row] = [(user, NOON, None, user) for user in range(1_000)]
    at, back, up = free_port(), threading.Event(), threading.Event()

    def later() -> None:
        time.sleep(0.4)
        with server("redis-server", tmp_path, at=at) as client:
            up.set()
            back.wait(60)
            client.close()

    thread = threading.Thread(target=later)
    thread.start()
    try:
        client = redis.Redis(port=at, retry=NEVER)  # it is we who try again
        assert write(client, encoded(rows)) == 1_000
        assert up.wait(60)
        assert client.dbsize() == 1_000
        client.close()
    finally:
        back.set()
        thread.join()


def test_a_connection_that_is_cut_between_batches_is_made_anew(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "ROWS", 2)
    rows = encoded([(user, NOON, None, user) for user in range(600)])
    ended, own = [], redis.Redis(port=port(client), retry=NEVER)

    def cut() -> None:
        while not ended:
            client.client_kill_filter(_type="normal", skipme=True)
            time.sleep(0.001)

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        assert write(own, rows) == 600
    finally:
        ended.append(True)
        thread.join()
        own.close()
    assert client.dbsize() == 600


def test_a_server_that_stays_away_is_an_error_after_which_the_next_run_ends_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "RETRY_SECONDS", 0.3)
    rows = encoded([(user, NOON, None, user) for user in range(300)])
    at = free_port()
    with server("redis-server", tmp_path, "--appendonly", "yes", at=at) as client:
        write(client, encoded([(user, NOON, None, user) for user in range(100)]))
    lost = redis.Redis(port=at, retry=NEVER)
    with pytest.raises(StoreError, match=r"went away while view habits was being written .*run this again"):
        write(lost, rows)
    lost.close()
    with server("redis-server", tmp_path, "--appendonly", "yes", at=at) as client:
        assert client.dbsize() == 100
        assert write(client, rows) == 300
        assert client.dbsize() == 300


def test_a_wrong_password_is_told_at_once(tmp_path: Path) -> None:
    at = free_port()
    with server("redis-server", tmp_path, "--user", "default", "on", ">right", "~*", "+@all", at=at):
        own = redis.Redis(port=at, password="wrong", retry=NEVER)
        with pytest.raises(redis.AuthenticationError):
            write(own, encoded([(1, NOON, None, 1)]))
        own.close()


def test_a_full_server_says_so_and_keeps_its_rows_whole(tmp_path: Path) -> None:
    with server("valkey", tmp_path) as client:
        write(client, encoded([(1, NOON, None, 1)]))
        client.config_set("maxmemory", "1")
        with pytest.raises(redis.OutOfMemoryError):
            write(client, encoded([(1, NOON + MICROSECOND, None, 2)]))
        assert count(client) == 1


def test_a_user_with_the_rights_that_are_documented_can_write(client: redis.Redis) -> None:
    rights = ["+evalsha", "+script|load", "+hget", "+hset", "+hdel", "+expire", "+eval", "+multi", "+exec"]
    client.execute_command("ACL", "SETUSER", "writer", "on", ">secret", "resetkeys", "~*", "-@all", *rights)
    own = redis.Redis(port=port(client), username="writer", password="secret")
    client.script_flush()
    rows = encoded([(1, NOON, None, 1)])
    assert write(own, rows, gone=[b"x"], expire=100) == 1
    with own.pipeline() as pipe:
        writes(rows).queue(pipe)
        assert pipe.execute() == [1]
    own.close()
    client.acl_deluser("writer")
