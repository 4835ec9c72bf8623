"""The as-of join against brute force: whatever the histories, each row gets what was known at its time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from hotels import FEATURES, KEYS, LARGE, SCHEMAS, TTL, at, fill, hotels, known, references, row
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from weakfish.contracts.tables import TIME
from weakfish.feast.retrieval import latest

QUICK: dict[str, Any] = {
    "deadline": None,
    "phases": [Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take minutes, and cases are small
    "suppress_health_check": [HealthCheck.too_slow],
}
GUESTS, HOTELS = ["ann", "bob"], [1, LARGE]
hours = st.integers(0, 8).map(lambda half: half / 2)
delays = st.sampled_from([0, 0, 0, 0.5, 1, 2, -1, None])
guests, places = st.sampled_from([*GUESTS[:1] * 6, *GUESTS, None]), st.sampled_from([*HOTELS[:1] * 6, *HOTELS, None])
numbers = st.sampled_from([None, 0, 1, LARGE])
floats = st.sampled_from([None, 0.0, 0.5, -2.5])
VALUES = {
    "guest": guests,
    "hotel": places,
    "stays": numbers,
    "visits": numbers,
    "spent": floats,
    "rating": floats,
    "rain": floats,
    "city": st.sampled_from([None, "", "Rome", "Ärö"]),
}


@st.composite
def feature_rows(draw: st.DrawFn, view: str) -> list[dict[str, Any]]:
    found = []
    for _ in range(draw(st.integers(0, 12))):
        time, delay = draw(hours), draw(delays)
        one = row(time, None if delay is None else time + delay)
        if delay is None:
            one["created"] = None
        if draw(st.integers(0, 15)) == 0:
            one["event_timestamp"] = None
        found.append(one | {name: draw(VALUES[name]) for name in (*KEYS[view], *FEATURES[view])})
    return found


histories = st.fixed_dictionaries({view: feature_rows(view) for view in SCHEMAS})
spines = st.lists(
    st.fixed_dictionaries(
        {
            "event_timestamp": st.sampled_from([*(at(half / 2) for half in range(-1, 11)), None]),
            "guest": guests,
            "hotel": places,
            "note": st.sampled_from([None, LARGE, 7]),
        }
    ),
    max_size=12,
)
SPINE = pa.schema([("event_timestamp", TIME), ("guest", pa.string()), ("hotel", pa.int64()), ("note", pa.int64())])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    return hotels(tmp_path_factory.mktemp("hotels"))


def given_as(form: str, table: pa.Table, root: Path) -> Any:
    """The same entity rows in another form."""
    if form == "pandas":
        return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    if form == "arrow":
        return table
    shutil.rmtree(root / "asked", ignore_errors=True)
    (root / "asked").mkdir()
    half = table.num_rows // 2
    pq.write_table(table.slice(0, half), root / "asked/0.parquet")
    pq.write_table(table.slice(half), root / "asked/1.parquet")
    if form == "folder":
        return "asked"
    return "SELECT *, FROM read_parquet(['asked/0.parquet', 'asked/1.parquet'])"


def refill(root: Path, history: dict[str, list[dict[str, Any]]], files: int) -> None:
    for view, rows in history.items():
        shutil.rmtree(root / "data" / view, ignore_errors=True)
        fill(root, view, rows, files)


@settings(max_examples=60, **QUICK)
@given(
    histories,
    spines,
    st.booleans(),
    st.sampled_from(["pandas", "arrow", "folder", "query"]),
    st.integers(1, 3),
    st.sampled_from([1, 2, 1_000_000]),
)
def test_every_row_gets_what_was_known_at_its_time(
    store: FeatureStore,
    history: dict[str, list[dict[str, Any]]],
    spine: list[dict[str, Any]],
    created: bool,
    form: str,
    files: int,
    batch: int,
) -> None:
    root = Path(store.config.repo_path)
    refill(root, history, files)
    asked = pa.Table.from_pylist(spine, SPINE)
    job = store.get_historical_features(
        given_as(form, asked, root),
        references(*SCHEMAS),
        full_feature_names=True,
        filter_by_created_timestamp=created,
    )
    found = job.to_arrow_batches(batch).read_all()
    wanted = []
    for one in spine:
        values: dict[str, Any] = {}
        for view, rows in history.items():
            keys = {key: one[key] for key in KEYS[view]}
            answer = known(rows, keys, one["event_timestamp"], TTL.get(view), created=created)
            values |= {f"{view}__{name}": answer.get(name) for name in FEATURES[view]}
        wanted.append(one | values)
    assert found.to_pylist() == wanted


@settings(max_examples=30, **QUICK)
@given(histories, hours, st.integers(1, 3))
def test_the_latest_rows_are_what_each_entity_would_be_asked_for(
    store: FeatureStore, history: dict[str, list[dict[str, Any]]], end: float, files: int
) -> None:
    refill(Path(store.config.repo_path), history, files)
    for name, rows in history.items():
        view = store.get_feature_view(name)
        found = latest(view, at(end), store.config).read_all()
        found = found.sort_by([(key, "ascending") for key in KEYS[name]]) if KEYS[name] else found
        assert found.schema.field("event_timestamp").type == found.schema.field("created").type == TIME
        keys = KEYS[name]
        entities = sorted({tuple(one[key] for key in keys) for one in rows if None not in [one[key] for key in keys]})
        wanted = [known(rows, dict(zip(keys, one, strict=True)), at(end), None, created=True) for one in entities]
        assert found.to_pylist() == [{column: one[column] for column in found.column_names} for one in wanted if one]
