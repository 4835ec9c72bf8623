"""The offline store in Feast's hands: what it takes, what it gives back, and what it refuses in one sentence."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureService, FeatureStore, FeatureView, Field
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_logging import FeatureServiceLoggingSource, LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.types import Int64
from hotels import BEGIN, LARGE, SCHEMAS, at, fill, hotels, references, row, source
from projects import command

from weakfish.contracts.tables import TIME
from weakfish.errors import StoreError, TableError, UserError
from weakfish.feast.offline import AsOfOfflineStore
from weakfish.feast.retrieval import latest

GUESTS = [
    row(0, guest="ann", stays=1, spent=0.5),
    row(2, guest="ann", stays=LARGE, spent=None),
    row(5, 9, guest="ann", stays=99, spent=9.0),
    row(1, guest="bob", stays=None, spent=float("nan")),
]
HOTELS = [row(0, hotel=1, rating=1.5, city="Rome"), row(1, hotel=LARGE, rating=None, city="Oslo")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A store that tests only read."""
    root = tmp_path_factory.mktemp("hotels")
    store = hotels(root)
    rows = {"guest_stats": GUESTS, "visit_stats": [], "hotel_stats": HOTELS, "weather": [row(0, rain=0.5)]}
    for name in SCHEMAS:
        fill(root, name, rows[name], files=2)
    return store


def folder(store: FeatureStore) -> Path:
    return Path(store.config.repo_path)


def asked(*rows: tuple[float, Any], **columns: list[Any]) -> pa.Table:
    """Entity rows of guests."""
    times = pa.array([at(hours) for hours, _ in rows], TIME)
    return pa.table({"guest": pa.array([guest for _, guest in rows], pa.string()), "event_timestamp": times, **columns})


def stays(store: FeatureStore, rows: Any, **more: Any) -> list[Any]:
    found = store.get_historical_features(rows, ["guest_stats:stays"], **more).to_arrow()
    return found["stays"].to_pylist()


def test_every_row_comes_back_once_in_order_with_its_columns_first(made: FeatureStore) -> None:
    rows = asked((9, "bob"), (0, "ann"), (9, "new"), (0, "ann"), (-1, "ann"), (9, None), note=[5, 4, 3, 2, 1, 0])
    found = made.get_historical_features(rows, references("guest_stats")).to_arrow()
    assert found.column_names == ["guest", "event_timestamp", "note", "stays", "spent"]
    assert found.select(["guest", "event_timestamp", "note"]).equals(rows)
    assert found["stays"].to_pylist() == [None, 1, None, 1, None, None]
    assert str(found["spent"].to_pylist()) == "[nan, 0.5, None, 0.5, None, None]"


def test_a_whole_number_stays_one_whatever_its_size_and_its_neighbours(made: FeatureStore) -> None:
    rows = asked((3, "ann"), (3, "new"))
    job = made.get_historical_features(rows, references("guest_stats"))
    assert job.to_arrow()["stays"].type == pa.int64()
    frame = job.to_df()
    assert frame["stays"].dtype == pd.Int64Dtype()
    assert frame["stays"].tolist() == [LARGE, pd.NA]
    alone = made.get_historical_features(rows.slice(0, 1), references("guest_stats")).to_df()
    assert alone["stays"].dtype == np.int64
    assert alone["stays"].tolist() == [LARGE]


def test_rows_count_from_their_created_time_on_when_that_is_asked_for(made: FeatureStore) -> None:
    rows = asked((5, "ann"), (8.9, "ann"), (9, "ann"))
    assert stays(made, rows) == [99, 99, 99]
    assert stays(made, rows, filter_by_created_timestamp=True) == [LARGE, LARGE, 99]


def test_a_row_that_came_late_does_not_hide_a_newer_one_that_was_known_before(tmp_path: Path) -> None:
    store = hotels(tmp_path)
    late = [row(0, 5, guest="ann", stays=0, spent=None), row(1, guest="ann", stays=1, spent=None)]
    later = [row(2, 9, guest="ann", stays=2, spent=None), row(3, 9, guest="ann", stays=3, spent=None)]
    fill(tmp_path, "guest_stats", [*later, *late], files=2)
    rows = asked((0.5, "ann"), (1, "ann"), (5, "ann"), (8.9, "ann"), (9, "ann"))
    assert stays(store, rows, filter_by_created_timestamp=True) == [None, 1, 1, 1, 3]
    assert stays(store, rows) == [0, 1, 3, 3, 3]


def test_a_value_counts_until_its_time_to_live_has_passed(tmp_path: Path) -> None:
    store = hotels(tmp_path)
    fill(tmp_path, "visit_stats", [row(0, guest="ann", hotel=1, visits=1)])
    for unit, past in (("us", timedelta(microseconds=1)), ("ns", pd.Timedelta(1, "ns"))):
        times = [at(1), at(1) - past, pd.Timestamp(at(1)) + past]
        rows = pa.table(
            {"guest": ["ann"] * 3, "hotel": [1] * 3, "event_timestamp": pa.array(times, pa.timestamp(unit, "UTC"))}
        )
        found = store.get_historical_features(rows, ["visit_stats:visits"]).to_arrow()
        assert found["visits"].to_pylist() == [1, 1, None]


def test_times_come_back_in_utc_whatever_the_zone_of_the_machine(tmp_path: Path) -> None:
    code = """
        from types import SimpleNamespace
        from weakfish.feast.source_files import session
        with session(SimpleNamespace(offline_store=None, repo_path=None)) as opened:
            found = opened.stream("SELECT CAST('2024-01-31 20:00' AS TIMESTAMPTZ) AS t", 10, "A time").read_all()
        print(found["t"].type, found["t"][0].as_py().isoformat())
    """
    result = command(tmp_path, sys.executable, "-c", textwrap.dedent(code), TZ="Asia/Tokyo")
    assert result.stdout == "timestamp[us, tz=UTC] 2024-01-31T20:00:00+00:00\n", result.stderr


def test_a_nanosecond_decides(made: FeatureStore) -> None:
    times = [pd.Timestamp(BEGIN) + pd.Timedelta(past, "ns") for past in (-1, 0, 1)]
    rows = pa.table({"guest": ["ann"] * 3, "event_timestamp": pa.array(times, pa.timestamp("ns", "UTC"))})
    assert stays(made, rows) == [None, 1, 1]


def test_a_row_of_unknown_creation_yields_to_one_of_its_time_that_is_known(tmp_path: Path) -> None:
    store = hotels(tmp_path)
    unknown = row(0, guest="ann", stays=9, spent=9.0) | {"created": None}
    fill(tmp_path, "guest_stats", [unknown, row(0, -5, guest="ann", stays=1, spent=None)])
    assert stays(store, asked((0, "ann"))) == [1]


FORMS: dict[str, Callable[[pa.Table, Path], Any]] = {
    "frame": lambda rows, _: rows.to_pandas(),
    "table": lambda rows, _: rows,
    "batch": lambda rows, _: rows.to_batches()[0],
    "file": lambda *_: "asked/1.parquet",
    "path": lambda _, root: root / "asked/1.parquet",
    "folder": lambda *_: "asked",
    "glob": lambda *_: "asked/*.parquet",
    "query": lambda *_: "SELECT * FROM 'asked/1.parquet'",
    "query of a function": lambda *_: "-- all\nWITH a AS (FROM read_parquet(['asked/1.parquet'])) SELECT * FROM a",
}


@pytest.mark.parametrize("form", FORMS)
def test_entity_rows_come_in_many_forms_and_paths_start_at_the_repository(
    made: FeatureStore, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = asked((3, "ann"), (9, "new"), (0, "ann"), note=[LARGE, 1, 2])
    for place in (folder(made), tmp_path):
        (place / "asked").mkdir(exist_ok=True)
        wrong = asked((-9, "ann"))
        pq.write_table(rows if place == folder(made) else wrong, place / "asked/1.parquet")
    monkeypatch.chdir(tmp_path)
    job = made.get_historical_features(FORMS[form](rows, folder(made)), ["guest_stats:stays"])
    assert job.to_arrow().select(rows.column_names).equals(rows)
    assert job.to_arrow()["stays"].to_pylist() == [LARGE, None, 1]
    assert job.metadata is not None
    assert (job.metadata.min_event_timestamp, job.metadata.max_event_timestamp) == (at(0), at(9))
    assert (job.metadata.keys, job.metadata.features) == (["guest", "note"], ["guest_stats:stays"])


def test_a_query_keeps_its_order_and_may_compute(made: FeatureStore) -> None:
    query = "SELECT 'ann' AS guest, TIMESTAMPTZ '2024-01-31 20:00:00Z' + to_hours(CAST(h AS INT)) AS event_timestamp "
    query += "FROM range(-1, 4) r(h) ORDER BY h DESC"
    assert stays(made, query) == [LARGE, LARGE, 1, 1, None]


MOMENTS = [BEGIN, BEGIN - timedelta(seconds=1)]
ZONES = {
    "without zone": pa.array([time.replace(tzinfo=None) for time in MOMENTS], pa.timestamp("us")),
    "in Berlin": pa.array(MOMENTS, pa.timestamp("us", "Europe/Berlin")),
    "in nanoseconds": pa.array(MOMENTS, pa.timestamp("ns", "UTC")),
    "in seconds": pa.array(MOMENTS, pa.timestamp("s", "UTC")),
    "as text": pa.array([time.astimezone(ZoneInfo("Europe/Berlin")).isoformat() for time in MOMENTS]),
    "as seconds": pa.array([int(time.timestamp()) for time in MOMENTS]),
    "as fractions of seconds": pa.array([time.timestamp() for time in MOMENTS]),
    "as milliseconds": pa.array([int(time.timestamp()) * 10**3 for time in MOMENTS]),
    "as microseconds": pa.array([int(time.timestamp()) * 10**6 for time in MOMENTS]),
    "as nanoseconds": pa.array([int(time.timestamp()) * 10**9 for time in MOMENTS]),
    "as text without zone": pa.array([time.replace(tzinfo=None).isoformat() for time in MOMENTS]),
}


@pytest.mark.parametrize("times", ZONES)
@pytest.mark.parametrize("form", ["frame", "table", "file"])
def test_times_are_instants_wherever_they_were_taken(made: FeatureStore, times: str, form: str) -> None:
    rows = pa.table({"guest": ["ann", "ann"], "event_timestamp": ZONES[times]})
    (folder(made) / "asked").mkdir(exist_ok=True)
    pq.write_table(rows, folder(made) / "asked/1.parquet")
    number = not pa.types.is_timestamp(ZONES[times].type) and not pa.types.is_string(ZONES[times].type)
    if number and form == "file":
        with pytest.raises(UserError, match=r"event_timestamp of .* is (BIGINT|DOUBLE), which is no time"):
            made.get_historical_features(FORMS[form](rows, folder(made)), ["guest_stats:stays"]).to_arrow()
        return
    unit = times.split()[-1]
    with pytest.warns(match=f"read as {unit} since 1970, the first is 2024-01-31") if number else nullcontext():
        found = made.get_historical_features(FORMS[form](rows, folder(made)), ["guest_stats:stays"]).to_arrow()
    assert found["stays"].to_pylist() == [1, None]
    assert found["event_timestamp"].type.tz == "UTC"
    assert [time.as_py() for time in found["event_timestamp"]] == MOMENTS


@pytest.mark.parametrize("count", [5, 10**8 - 1])
def test_numbers_that_count_nothing_since_1970_are_refused(made: FeatureStore, count: int) -> None:
    for times in ([count, count], [count, 10**9]):
        rows = pd.DataFrame({"guest": ["ann", "ann"], "event_timestamp": times})
        with pytest.raises(UserError, match="do not count seconds, milliseconds"):
            made.get_historical_features(rows, ["guest_stats:stays"]).to_arrow()


@pytest.mark.parametrize(
    "kind", [pa.timestamp("ns", "UTC"), pa.timestamp("ns"), pa.timestamp("us"), pa.timestamp("ms")]
)
@pytest.mark.parametrize("unit", ["us", "ns"])
def test_parquet_may_keep_times_in_any_unit(tmp_path: Path, kind: pa.DataType, unit: str) -> None:
    store = hotels(tmp_path)
    schema = pa.schema([pa.field(f.name, kind if f.type == TIME else f.type) for f in SCHEMAS["guest_stats"]])
    begin = int(BEGIN.timestamp()) * 10**9
    late = begin + (1 if kind.unit == "ns" else 10**6)
    columns = {"guest": ["ann", "ann"], "stays": [1, 2], "spent": [None, None]}
    times = pa.array([begin, late]).cast(pa.timestamp("ns", "UTC"))
    table = pa.table({**columns, "event_timestamp": times, "created": times}).select(schema.names).cast(schema)
    (tmp_path / "data/guest_stats").mkdir()
    pq.write_table(table, tmp_path / "data/guest_stats/1.parquet")
    rows = pa.table({"guest": ["ann", "ann"], "event_timestamp": times.cast(pa.timestamp(unit, "UTC"), safe=False)})
    exact = unit == "ns" or kind.unit != "ns"
    for known in (True, False):
        assert stays(store, rows, filter_by_created_timestamp=known) == ([1, 2] if exact else [1, 1])


def test_a_partitioned_folder_is_one_table_and_what_is_hidden_is_no_part_of_it(tmp_path: Path) -> None:
    store = hotels(tmp_path)
    base = tmp_path / "data/guest_stats"
    for hours, month in ((0, "2024-01"), (6, "2024-02")):
        (base / f"month={month}").mkdir(parents=True)
        part = pa.Table.from_pylist([row(hours, guest="ann", stays=hours, spent=None)], SCHEMAS["guest_stats"])
        part = part.drop_columns("spent") if hours == 0 else part
        pq.write_table(part.select(sorted(part.column_names)), base / f"month={month}/a[1].parquet")
    wrong = pa.Table.from_pylist([row(1, guest="ann", stays=77, spent=7.0)], SCHEMAS["guest_stats"])
    (base / "_temporary").mkdir()
    pq.write_table(wrong, base / "_temporary/a.parquet")
    pq.write_table(wrong, base / ".part.parquet")
    (base / "_SUCCESS").touch()
    assert stays(store, asked((0, "ann"), (5, "ann"), (6, "ann"))) == [0, 0, 6]
    found = store.get_historical_features(asked((5, "ann")), references("guest_stats")).to_arrow()
    assert found["spent"].to_pylist() == [None]


def test_ties_are_decided_whatever_the_columns_of_a_source_are_called(tmp_path: Path) -> None:
    store = hotels(tmp_path)
    rows = [row(0, guest="ann", stays=number, spent=None) for number in (1, 2)]
    table = pa.Table.from_pylist(rows, SCHEMAS["guest_stats"])
    for name, values in (("id", [5, 4]), ("e", [3, 3]), ("row", [0, 0])):
        table = table.append_column(name, pa.array(values))
    (tmp_path / "data/guest_stats").mkdir()
    pq.write_table(table, tmp_path / "data/guest_stats/0.parquet")
    assert stays(store, asked((1, "ann"))) == [1]


def test_a_folder_above_the_source_names_no_partition(tmp_path: Path) -> None:
    repository = tmp_path / "stays=7"
    store = hotels(repository)
    for hours in (0, 6):
        part = pa.Table.from_pylist([row(hours, guest="ann", stays=hours, spent=None)], SCHEMAS["guest_stats"])
        (repository / "data/guest_stats").mkdir(exist_ok=True)
        pq.write_table(part, repository / f"data/guest_stats/{hours}.parquet")
    assert stays(store, asked((5, "ann"), (6, "ann"))) == [0, 6]
    with latest(store.get_feature_view("guest_stats"), at(9), store.config) as reader:
        assert reader.read_all()["stays"].to_pylist() == [6]


def test_a_date_partition_column_says_which_partitions_can_count(tmp_path: Path) -> None:
    store = hotels(tmp_path)
    for day, hours in (("2024-01-31", 0), ("2024-02-01", 1), ("2024-02-02", 2)):  # the days of the last two are wrong
        part = pa.Table.from_pylist([row(hours, guest="ann", stays=hours, spent=None)], SCHEMAS["guest_stats"])
        (tmp_path / f"data/guest_stats/day={day}").mkdir(parents=True)
        pq.write_table(part, tmp_path / f"data/guest_stats/day={day}/1.parquet")
    rows = asked((3, "ann"), (4, "ann"))  # 23:00 and midnight
    assert stays(store, rows) == [2, 2]
    view = store.get_feature_view("guest_stats")
    view.batch_source.date_partition_column = "day"
    for ttl, wanted in ((timedelta(days=9), [1, 1]), (timedelta(hours=2), [1, None])):
        view.ttl = ttl
        job = AsOfOfflineStore.get_historical_features(
            store.config, [view], ["guest_stats:stays"], rows, store.registry, "hotels"
        )
        assert job.to_arrow()["stays"].to_pylist() == wanted


def test_columns_are_called_as_the_field_mapping_says(tmp_path: Path) -> None:
    store = hotels(tmp_path)
    table = pa.Table.from_pylist(GUESTS, SCHEMAS["guest_stats"])
    pq.write_table(table.rename_columns(["g", "t", "c", "n", "x"]), tmp_path / "data/mapped.parquet")
    mapping = {"g": "guest", "t": "event_timestamp", "c": "created", "n": "stays"}
    view = FeatureView(
        name="mapped",
        entities=[store.get_entity("guest")],
        schema=[Field(name="stays", dtype=Int64)],
        source=source("mapped", "data/mapped.parquet", field_mapping=mapping),
    )
    store.apply([view])
    rows = asked((3, "ann"), (9, "ann"), (0, "bob"))
    found = store.get_historical_features(rows, ["mapped:stays"], filter_by_created_timestamp=True).to_arrow()
    assert found["stays"].to_pylist() == [LARGE, 99, None]
    by_key = {
        one["guest"]: one
        for one in latest(store.get_feature_view("mapped"), at(5), store.config).read_all().to_pylist()
    }
    assert by_key == {
        "ann": {"guest": "ann", "stays": LARGE, "event_timestamp": at(2), "created": at(2)},
        "bob": {"guest": "bob", "stays": None, "event_timestamp": at(1), "created": at(1)},
    }


def test_one_view_may_be_joined_by_several_keys(made: FeatureStore) -> None:
    view = made.get_feature_view("hotel_stats")
    came, goes = (view.with_name(name).with_join_key_map({"hotel": name}) for name in ("came_from", "goes_to"))
    service = FeatureService(name="trips", features=[came[["rating"]], goes, made.get_feature_view("guest_stats")])
    made.apply([service])
    rows = asked((3, "ann"), (3, "bob"), came_from=[1, LARGE], goes_to=[LARGE, 1])
    found = (
        made.get_historical_features(rows, service, full_feature_names=True).to_arrow().drop_columns("event_timestamp")
    )
    assert found.to_pylist()[1]["guest_stats__spent"] != found.to_pylist()[1]["guest_stats__spent"]  # not a number
    assert found.drop_columns("guest_stats__spent").to_pylist() == [
        {"guest": "ann", "came_from": 1, "goes_to": LARGE, "came_from__rating": 1.5, "goes_to__rating": None}
        | {"goes_to__city": "Oslo", "guest_stats__stays": LARGE},
        {"guest": "bob", "came_from": LARGE, "goes_to": 1, "came_from__rating": None, "goes_to__rating": 1.5}
        | {"goes_to__city": "Rome", "guest_stats__stays": None},
    ]


@pytest.mark.parametrize("full", [True, False])
def test_on_demand_features_are_computed_at_once_and_in_batches(made: FeatureStore, full: bool) -> None:
    rows = asked((0, "ann"), (0, "new"), (1, "ann"), nights=[1, None, 3])
    wanted = ["booking_features:per_stay", "booking_features:nights_after"]
    job = made.get_historical_features(rows, wanted, full_feature_names=full)
    prefix = "booking_features__" if full else ""
    for found in (job.to_arrow(), job.to_arrow_batches(1).read_all(), job.to_df()):
        frame = found if isinstance(found, pd.DataFrame) else found.to_pandas()
        assert frame[f"{prefix}nights_after"].fillna(-1).tolist() == [2, -1, 4]
        assert frame[f"{prefix}per_stay"].fillna(-1).tolist() == [0.5, -1, 0.5]
    assert job.to_arrow_batches(1).schema.field(f"{prefix}nights_after").type == pa.int64()
    none = made.get_historical_features(rows.slice(0, 0), wanted, full_feature_names=full)
    assert none.to_arrow_batches().schema == job.to_arrow_batches().schema


def test_whole_numbers_that_pandas_made_floats_are_still_the_keys_they_were(made: FeatureStore) -> None:
    rows = pd.DataFrame({"hotel": [1, None, 1.5, 2.0**53, 2.0**90], "event_timestamp": [at(3)] * 5})
    found = made.get_historical_features(rows, ["hotel_stats:city"]).to_arrow()
    assert found["city"].to_pylist() == ["Rome", None, None, None, None]
    exact = pd.DataFrame({"hotel": [LARGE, None], "event_timestamp": [at(3)] * 2}, dtype="object")
    exact = exact.astype({"hotel": "Int64", "event_timestamp": "datetime64[us, UTC]"})
    found = made.get_historical_features(exact, ["hotel_stats:city"]).to_arrow()
    assert found.select(["hotel", "city"]).to_pydict() == {"hotel": [LARGE, None], "city": ["Oslo", None]}


def test_without_entity_rows_every_entity_of_the_range_is_asked_for_at_its_end(made: FeatureStore) -> None:
    wanted = ["guest_stats:stays", "hotel_stats:city"]
    found = made.get_historical_features(features=wanted, start_date=at(0.5), end_date=at(2)).to_arrow()
    rows = [(one["guest"], one["hotel"], one["stays"], one["city"]) for one in found.to_pylist()]
    assert set(found["event_timestamp"].to_pylist()) == {at(2)}
    assert rows == [("ann", None, LARGE, None), ("bob", None, None, None), (None, LARGE, None, "Oslo")]
    early = made.get_historical_features(features=["guest_stats:stays"], end_date=at(1)).to_arrow()
    assert early.select(["guest", "stays"]).to_pydict() == {"guest": ["ann", "bob"], "stays": [1, None]}
    late = made.get_historical_features(features=["guest_stats:stays"], end_date=at(9)).to_arrow()
    assert late.select(["guest", "stays"]).to_pydict() == {"guest": ["ann", "bob"], "stays": [99, None]}, "each once"


def test_without_entity_rows_a_view_without_entities_has_one_row(made: FeatureStore) -> None:
    found = made.get_historical_features(features=["weather:rain"], end_date=at(9)).to_arrow()
    assert found.to_pylist() == [{"event_timestamp": at(9), "rain": 0.5}]
    before = made.get_historical_features(features=["weather:rain"], end_date=at(-1)).to_arrow()
    assert before.to_pylist() == [{"event_timestamp": at(-1), "rain": None}]
    wanted = ["guest_stats:stays", "weather:rain"]
    both = made.get_historical_features(features=wanted, end_date=at(9)).to_arrow()
    assert both.select(["guest", "rain"]).to_pydict() == {"guest": ["ann", "bob"], "rain": [0.5, 0.5]}


def test_ties_are_broken_alike_whatever_the_order_of_rows_files_and_threads(tmp_path: Path) -> None:
    rows = [row(0, guest="ann", stays=number % 7, spent=float(-number % 3) or -0.0) for number in range(500)]
    found = set()
    for number, threads in enumerate((1, 2, 2)):
        store = hotels(tmp_path / str(number), threads=threads)
        fill(folder(store), "guest_stats", rows[::-1] if number else rows, files=1 + number)
        table = store.get_historical_features(asked((1, "ann"), (2, "ann")), references("guest_stats")).to_arrow()
        found.add(str(table.to_pylist()))
        last = latest(store.get_feature_view("guest_stats"), at(1), store.config).read_all()
        assert last.select(["stays", "spent"]).to_pylist() == table.select(["stays", "spent"]).slice(1).to_pylist()
    assert len(found) == 1
    assert "'stays': 6, 'spent': 2.0" in found.pop()


def test_ties_of_zeros_of_either_sign_are_broken_alike(tmp_path: Path) -> None:
    rows = [row(0, guest="ann", stays=1, spent=zero) for zero in (0.0, -0.0)]
    for number in range(2):
        store = hotels(tmp_path / str(number))
        fill(folder(store), "guest_stats", rows[:: -1 if number else 1], files=2)
        found = store.get_historical_features(asked((1, "ann")), references("guest_stats")).to_arrow()
        assert str(found["spent"][0].as_py()) == "0.0"


def test_memory_is_bounded_and_what_was_spilled_is_gone_afterwards(tmp_path: Path) -> None:
    store = hotels(tmp_path, memory_limit="40MB", threads=1, temp_directory="spill")
    number, guests = np.arange(400_000), np.array([f"guest {one}" for one in range(1000)])
    times = pa.array(number * 1_000_000 + int(BEGIN.timestamp() * 10**6)).cast(TIME)
    base = {"guest": guests[number * 7919 % 1000], "event_timestamp": times}
    feature_rows = pa.table({**base, "created": times, "stays": number, "spent": number / 3})
    (tmp_path / "data/guest_stats").mkdir()
    pq.write_table(feature_rows, tmp_path / "data/guest_stats/1.parquet", row_group_size=20_000)
    pq.write_table(pa.table(base), tmp_path / "asked.parquet", row_group_size=20_000)
    job = store.get_historical_features("asked.parquet", references("guest_stats"), filter_by_created_timestamp=True)
    seen = 0
    with job.to_arrow_batches(20_000) as batches:
        for batch in batches:
            seen += batch.num_rows
            spilled = [file for file in (tmp_path / "spill").rglob("*") if file.is_file()]
    assert seen == 400_000
    assert batch.column("stays").to_pylist()[-1] == 399_999
    assert spilled
    job.to_parquet("found.parquet")
    assert pq.read_table(tmp_path / "found.parquet")["stays"].combine_chunks().equals(pa.array(number))
    assert not list((tmp_path / "spill").iterdir())


def test_a_result_that_nobody_reads_to_its_end_leaves_nothing_behind(tmp_path: Path) -> None:
    store = hotels(tmp_path, temp_directory="spill")
    fill(tmp_path, "guest_stats", GUESTS)
    job = store.get_historical_features(asked((3, "ann"), (4, "ann")), references("guest_stats"))
    unread = job.to_arrow_batches(1)
    begun = latest(store.get_feature_view("guest_stats"), at(9), store.config)
    assert begun.read_next_batch().num_rows
    assert len(list((tmp_path / "spill").iterdir())) == 2
    del unread
    del begun
    assert not list((tmp_path / "spill").iterdir())


def test_a_saved_dataset_is_what_was_retrieved(made: FeatureStore) -> None:
    rows = asked((0, "ann"), (3, "new"), (3, "ann"), nights=[1, 2, 3])
    wanted = [*references("guest_stats"), "booking_features:nights_after"]
    for path in ("saved/one.parquet", "saved/folder"):
        for overwrite in (False, True):
            job = made.get_historical_features(rows, wanted, full_feature_names=True)
            with pytest.warns(RuntimeWarning, match="experimental"):
                made.create_saved_dataset(
                    from_=job, name=path, storage=SavedDatasetFileStorage(path), allow_overwrite=overwrite
                )
        with pytest.raises(SavedDatasetLocationAlreadyExists), pytest.warns(RuntimeWarning, match="experimental"):
            made.create_saved_dataset(from_=job, name=path, storage=SavedDatasetFileStorage(path))
        with pytest.warns(RuntimeWarning, match="experimental"):
            found = made.get_saved_dataset(path).to_arrow()
        assert (folder(made) / path).exists()
        for column in ("guest", "guest_stats__stays", "booking_features__nights_after"):
            assert found[column].to_pylist() == job.to_arrow()[column].to_pylist()


@pytest.mark.parametrize("layout", ["file", "folder", "partitioned"])
def test_rows_can_be_added_to_a_view(tmp_path: Path, layout: str) -> None:
    store = hotels(tmp_path)
    base = tmp_path / "data/guest_stats"
    old = pa.Table.from_pylist(GUESTS, SCHEMAS["guest_stats"])
    if layout == "file":
        pq.write_table(old, base)
    else:
        inside = base / "day=31" if layout == "partitioned" else base
        inside.mkdir(parents=True)
        pq.write_table(old, inside / "1.parquet")
    new = pa.Table.from_pylist([row(7, guest="ann", stays=5, spent=None)], SCHEMAS["guest_stats"]).to_pandas()
    store.write_to_offline_store("guest_stats", new.assign(day=1) if layout == "partitioned" else new)
    assert stays(store, asked((6, "ann"), (7, "ann"), (1, "bob"))) == [99, 5, None]
    last = latest(store.get_feature_view("guest_stats"), at(20), store.config).read_all()
    assert last.sort_by("guest")["stays"].to_pylist() == [5, None]
    table = pa.Table.from_pandas(new.drop(columns="spent"), preserve_index=False)
    with pytest.raises(UserError, match="spent"):
        store._get_provider().ingest_df_to_offline_store(store.get_feature_view("guest_stats"), table)
    assert stays(store, asked((7, "ann"))) == [5]


def test_logged_features_come_back(made: FeatureStore, tmp_path: Path) -> None:
    destination = FileLoggingDestination(path="logs", partition_by=["guest_stats__stays__status"])
    service = FeatureService(
        name="logged",
        features=[made.get_feature_view("guest_stats")],
        logging_config=LoggingConfig(destination=destination),
    )
    made.apply([service])
    schema = FeatureServiceLoggingSource(service, "hotels").get_schema(made.registry)
    line = dict.fromkeys(schema.names) | {"guest": "ann", "guest_stats__stays": LARGE}
    line |= {"__log_timestamp": at(3), "__request_id": "r", "guest_stats__stays__status": 2}
    logs = pa.Table.from_pylist([line], schema)
    pq.write_table(logs, tmp_path / "logs.parquet")
    made.write_logged_features(logs, service)
    made.write_logged_features(tmp_path / "logs.parquet", service)
    config, provider = made.config, made._get_provider()
    found = provider.retrieve_feature_service_logs(service, at(2), at(4), config, made.registry).to_arrow()
    assert found["guest_stats__stays"].to_pylist() == [LARGE, LARGE]
    assert not provider.retrieve_feature_service_logs(service, at(4), at(5), config, made.registry).to_arrow().num_rows


def test_feasts_monitoring_works_on_it(made: FeatureStore) -> None:
    offline, view = made._get_provider().offline_store, made.get_feature_view("guest_stats")
    assert offline.get_monitoring_max_timestamp(made.config, view.batch_source, "event_timestamp") == at(5)
    (found,) = offline.compute_monitoring_metrics(
        made.config, view.batch_source, [("stays", "numeric")], "event_timestamp", at(0), at(5)
    )
    assert (found["row_count"], found["null_count"], found["max_val"]) == (4, 1, float(LARGE))


def missing_key(store: FeatureStore) -> Any:
    return store.get_historical_features(asked((0, "ann")).drop_columns("guest"), ["guest_stats:stays"])


REFUSED: dict[str, tuple[Callable[[FeatureStore], Any], type[Exception], list[str]]] = {
    "a column with a feature's name": (
        lambda store: stays(store, asked((0, "ann"), stays=[1])),
        UserError,
        ["'stays'", "full_feature_names"],
    ),
    "features with one name": (
        lambda store: store.get_historical_features(
            asked((0, "ann"), nights=[1]), ["booking_features:per_stay", "other:stays"]
        ),
        UserError,
        ["'stays'", "full_feature_names"],
    ),
    "a key that is missing": (missing_key, UserError, ["'guest'", "guest_stats"]),
    "a request column that is missing": (
        lambda store: store.get_historical_features(asked((0, "ann")), ["booking_features:per_stay"]),
        UserError,
        ["'nights'", "booking_features"],
    ),
    "no time": (
        lambda store: stays(store, pa.table({"guest": ["ann"], "when": [3]})),
        UserError,
        ["event_timestamp"],
    ),
    "times that are none": (
        lambda store: stays(store, pd.DataFrame({"guest": ["ann"], "event_timestamp": ["noon"]})),
        UserError,
        ["noon", "times"],
    ),
    "a key of another kind": (
        lambda store: stays(store, asked((0, "ann")).set_column(0, "guest", pa.array([7]))),
        UserError,
        ["'guest'", "BIGINT", "VARCHAR"],
    ),
    "mixed types": (
        lambda store: stays(store, pd.DataFrame({"guest": ["ann", 1], "event_timestamp": [at(0), at(0)]})),
        UserError,
        ["guest"],
    ),
    "something else": (lambda store: stays(store, [1, 2]), UserError, ["list"]),
    "a path without Parquet": (lambda store: stays(store, "nowhere/*.parquet"), TableError, ["nowhere"]),
    "a path elsewhere": (lambda store: stays(store, "s3://bucket/x.parquet"), UserError, ["s3://bucket", "local"]),
    "a broken query": (lambda store: stays(store, "SELECT FROM"), UserError, ["query"]),
    "a query of nothing there": (lambda store: stays(store, "SELECT * FROM nothing"), UserError, ["query", "nothing"]),
    "a statement": (lambda store: stays(store, "SELECT 1; DROP TABLE x"), UserError, ["query"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_sentence(made: FeatureStore, case: str) -> None:
    use, kind, words = REFUSED[case]
    if "one name" in case:
        other = FeatureView(
            name="other",
            entities=[made.get_entity("guest")],
            schema=[Field(name="stays", dtype=Int64)],
            source=source("other", "data/guest_stats"),
        )
        made.apply([other])
    with pytest.raises(kind) as caught:
        use(made)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_parquet_that_is_missing_broken_or_lacks_a_column_is_named(tmp_path: Path) -> None:
    store = hotels(tmp_path)
    with pytest.raises(TableError, match="guest_stats"):
        stays(store, asked((0, "ann")))
    fill(tmp_path, "guest_stats", GUESTS)
    file = tmp_path / "data/guest_stats/0.parquet"
    pq.write_table(pq.read_table(file).drop_columns("stays"), file)
    with pytest.raises(UserError, match="'stays'"):
        stays(store, asked((0, "ann")))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(TableError, match="guest_stats"):
        stays(store, asked((0, "ann")))


@pytest.mark.parametrize(
    "settings", [{"memory_limit": "plenty"}, {"threads": 0}, {"temp_directory": "data/file"}, {"memory_limit": "1MB"}]
)
def test_settings_that_cannot_be_used_are_named(tmp_path: Path, settings: dict[str, Any]) -> None:
    store = hotels(tmp_path, **settings)
    (tmp_path / "data/file").touch()
    fill(tmp_path, "guest_stats", [row(number, guest="ann", stays=1, spent=None) for number in range(5000)])
    with pytest.raises(StoreError, match=r"feature_store\.yaml"):
        stays(store, asked(*[(number, "ann") for number in range(5000)]))


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # Ibis 12 itself calls it
def test_values_are_those_of_feasts_own_duckdb_store_where_that_is_right(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    stores = [hotels(tmp_path), hotels(tmp_path, "duckdb")]
    for name, schema in SCHEMAS.items():
        rows = [
            row(hours, hours + late)
            | {"guest": f"g{random.integers(20)}", "hotel": int(random.integers(5)), "city": "Rome"}
            | {feature: random.random() for feature in ("spent", "rating", "rain")}
            | {feature: int(random.integers(1000)) for feature in ("stays", "visits")}
            for hours, late in zip(random.permutation(300) / 10, random.integers(0, 5, 300), strict=True)
        ]
        fill(tmp_path, name, [{column: one[column] for column in schema.names} for one in rows], files=3)
    guests = [(float(hours), f"g{random.integers(22)}") for hours in random.permutation(350) / 10]
    spine = asked(*guests, hotel=random.integers(0, 6, 350).tolist()).to_pandas()
    for known in (True, False):
        ours, theirs = (
            store.get_historical_features(
                spine.copy(),
                references("guest_stats", "visit_stats", "hotel_stats"),
                full_feature_names=True,
                filter_by_created_timestamp=known,
            )
            .to_df()
            .sort_values("event_timestamp")
            .reset_index(drop=True)
            for store in stores
        )
        assert ours["visit_stats__visits"].isna().any()
        pd.testing.assert_frame_equal(ours, theirs[ours.columns], check_dtype=False)


def test_a_table_is_of_one_piece_since_feast_writes_the_first_alone(
    made: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weakfish.feast.offline.WHOLE", 2)
    rows = asked(*[(hours, "ann") for hours in range(7)])
    found = made.get_historical_features(rows, ["guest_stats:stays"]).to_arrow()
    assert [column.num_chunks for column in found.columns] == [1, 1, 1]
    assert found["stays"].to_pylist() == [1, 1, LARGE, LARGE, LARGE, 99, 99]


def test_feasts_own_engine_materializes_from_it(tmp_path: Path) -> None:
    online = {"type": "sqlite", "path": str(tmp_path / "online.db")}
    store = hotels(tmp_path, online_store=online)
    rows = [row(number % 9, guest=f"g{number}", stays=number, spent=None) for number in range(700)]
    fill(tmp_path, "guest_stats", [*rows, row(10, 99, guest="g7", stays=-1, spent=1.0)])
    store.materialize(at(0), at(20), feature_views=["guest_stats"])
    entities = [{"guest": name} for name in ("g0", "g7", "g699", "new")]
    found = store.get_online_features(["guest_stats:stays"], entities).to_dict()
    assert found["stays"] == [0, -1, 699, None], "rows that were created after the end too, as Feast has it"
