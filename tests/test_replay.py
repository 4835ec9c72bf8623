"""The replay: what serving would have returned at a time is what training joins at that time.

Feast's own engine fills a real Redis step by step through two hundred times of the corpus; at each, every entity seen
by then is read online and compared with its rows offline, and a sample of them with Feast's historical features.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from stores import port, redis_server

from weakfish.contracts.tables import read_table

TIMES = 200
SAMPLE = 2_000
VIEWS = {"sender_activity": "sender_domain", "relay_activity": "relay_ip", "list_activity": "list_id"}


@pytest.fixture(scope="module")
def store(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Feast on the demo's repository, with an empty Redis of its own."""
    with redis_server(tmp_path_factory.mktemp("replay")) as client, pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{port(client)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from feast import FeatureStore

            yield FeatureStore(repo_path=str(demo / "feature_repo"))


@pytest.fixture(scope="module")
def times(events: pa.Table) -> list[datetime]:
    """Times in order: of messages, of full hours, and any; the first and last message among them."""
    chance = random.Random(1)  # noqa: S311  a test's choice
    received = [time.astimezone(UTC) for time in events["received_at"].to_pylist()]
    first, last = received[0], received[-1]
    of_messages = chance.sample(received, 120)
    hours = [time.replace(minute=0, second=0) for time in chance.sample(received, 60)]
    anywhere = [first + (last - first) * chance.random() for _ in range(60)]
    return sorted({first, last, *of_messages, *hours, *anywhere})


def seconds(value: Any) -> Any:
    """Times as Feast serves them, in whole seconds; missing values as None."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if value is None or isinstance(value, int | str):  # most values: millions are compared
        return value
    if isinstance(value, pd.Timestamp | datetime):
        return math.floor(pd.Timestamp(value).timestamp()) if not pd.isna(value) else None
    return None if value is None or pd.isna(value) else value


@pytest.mark.filterwarnings("ignore")
def test_online_reads_through_time_equal_the_rows_that_training_joins(
    demo: Path, store: Any, times: list[datetime], events: pa.Table
) -> None:
    assert len(times) >= TIMES
    rows = {view: read_table(demo / "data/features" / view).to_pandas() for view in VIEWS}
    history = events.select(["received_at", *VIEWS.values()]).to_pandas()
    joined: list[tuple[str, datetime, str, dict[str, Any]]] = []
    known: dict[str, dict[str, dict[str, Any]]] = {view: {} for view in VIEWS}
    before, read = datetime(1990, 1, 1, tzinfo=UTC), 0
    for time in times:
        store.materialize(start_date=before, end_date=time)
        for view, key in VIEWS.items():
            seen = sorted(history.loc[history.received_at <= time, key].dropna().unique())
            found = online(store, view, key, seen, rows[view])
            known[view] |= offline(rows[view], key, before, time)
            nothing = dict.fromkeys(names_of(rows[view], key))
            expected = {entity: known[view].get(entity, nothing) for entity in seen}
            assert found == expected, (view, time)
            read += len(seen)
            joined += [(view, time, entity, expected[entity]) for entity in seen]
        before = time
    assert read > 100_000
    assert_historical(store, random.Random(2).sample(joined, SAMPLE), rows)  # noqa: S311  a test's choice


def online(store: Any, view: str, key: str, entities: list[str], rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """What serving returns now."""
    names = names_of(rows, key)
    if not entities:
        return {}
    answer = store.get_online_features([f"{view}:{name}" for name in names], {key: entities}).to_dict()
    columns = [[seconds(value) for value in answer[name]] for name in names]
    return {entity: dict(zip(names, values, strict=True)) for entity, *values in zip(entities, *columns, strict=True)}


def offline(rows: pd.DataFrame, key: str, before: datetime, time: datetime) -> dict[str, dict[str, Any]]:
    """The last row by ``time`` of each entity that has rows after ``before``: those of the others stand."""
    assert rows.event_timestamp.equals(rows.created), "a row is known at its time"
    new = rows[(rows.event_timestamp > before) & (rows.event_timestamp <= time)]
    last = new.groupby(key).tail(1).set_index(key)[names_of(rows, key)].to_dict("index")
    return {entity: {name: seconds(value) for name, value in row.items()} for entity, row in last.items()}


def names_of(rows: pd.DataFrame, key: str) -> list[str]:
    """The features of a view."""
    return [name for name in rows.columns if name not in (key, "event_timestamp", "created")]


def assert_historical(store: Any, joined: list[tuple[str, datetime, str, dict[str, Any]]], rows: Any) -> None:
    """Feast's historical features at those times are the same."""
    for view, key in VIEWS.items():
        mine = [(time, entity, values) for name, time, entity, values in joined if name == view]
        names = list(mine[0][2])
        spine = pd.DataFrame({key: [entity for _, entity, _ in mine], "event_timestamp": [time for time, _, _ in mine]})
        spine["row"] = np.arange(len(spine))
        found = store.get_historical_features(spine, [f"{view}:{name}" for name in names]).to_df()
        assert len(found) == len(spine)
        found = found.set_index("row").sort_index()
        for position, (_, _, values) in enumerate(mine):
            assert {name: seconds(found.loc[position, name]) for name in names} == values
