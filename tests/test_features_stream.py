"""Promise 7 at scale: three million events through the engine twice, on two threads, give the same bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import pytest
from projects import contents

from weakfish import engine as compute
from weakfish.features import Past, transform
from weakfish.features.build import Relations, write_view
from weakfish.features.views import check_view

EVENTS = 3_000_000
DAYS = 45


@transform(entity="shop")
def shop_activity(past: Past) -> dict[str, ir.Value]:
    """What DuckDB's sums of doubles could not repeat: means and shares over many rows."""
    week = past.last(days=7)
    return {
        "orders_7d": week.count(),
        "amount_mean_7d": week.mean(past.events.amount),
        "buyers_7d": week.distinct(past.events.buyer),
        "fraud_share_7d": week.known_labels("fraud").share("yes"),
        "last_seen_at": past.last_seen(),
    }


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Orders of 45 days in some 5,000 shops, few of them with most orders, in no order; and a label on each."""
    folder = tmp_path_factory.mktemp("stream")
    with duckdb.connect() as connection:
        connection.execute(
            f"""COPY (SELECT i AS id, 's' || (5000 * pow(hash(i, 1) % 1000000 / 1e6, 3))::INT AS shop,
                make_timestamptz(1710000000000000 + (hash(i, 2) % {DAYS * 86_400_000_000})::BIGINT) AS placed_at,
                hash(i, 3) % 20000 / 7.0 AS amount, (hash(i, 4) % 50000)::INT AS buyer
                FROM range({EVENTS}) t(i)) TO '{folder / "events.parquet"}'"""  # noqa: S608
        )
        connection.execute(
            f"""COPY (SELECT id, placed_at + INTERVAL 24 HOURS AS known_at, hash(id) % 997 / 997.0 AS p_yes
                FROM '{folder / "events.parquet"}') TO '{folder / "labels.parquet"}'"""  # noqa: S608
        )
    return folder


def written(stream: Path, to: Path) -> dict[str, bytes]:
    engine = compute.connect()
    engine.connection.raw_sql("SET threads = 2")
    events, labels = (engine.read([stream / f"{name}.parquet"]) for name in ("events", "labels"))
    known = ibis.table({"p_yes": "float64"}, name="fraud")
    past = Past(
        "shop_activity", ibis.table(events.schema(), name="events"), "placed_at", 1, {"fraud": (known, ["yes"])}
    )
    relations = Relations(events, {"fraud": labels}, "id", "placed_at", 1)
    counts = write_view(engine, check_view(shop_activity, past), relations, datetime(2024, 4, 23, tzinfo=UTC), to)
    assert sum(counts.values()) > 1_000_000
    return contents(to)


def test_three_million_events_give_the_same_bytes_twice_on_two_threads(stream: Path, tmp_path: Path) -> None:
    first = written(stream, tmp_path / "first")
    assert sorted(first) == ["2024-03.parquet", "2024-04.parquet"]
    assert written(stream, tmp_path / "second") == first
