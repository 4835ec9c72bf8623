"""Promise 7 at scale: three million events through the engine twice, on two threads, give the same bytes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import pytest
from projects import contents

from weakfish.contracts.record import EPOCH
from weakfish.engine import duckdb as compute
from weakfish.features import Past, transform
from weakfish.features.history import Limits
from weakfish.features.months import Basis, Months, Part
from weakfish.features.views import check_view
from weakfish.project.cache import Cache
from weakfish.project.paths import Project

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


def written(stream: Path, root: Path, limits: Limits) -> dict[str, bytes]:
    engine = compute.connect()
    engine.connection.raw_sql("SET threads = 2")
    known = ibis.table({"p_yes": "float64"}, name="fraud")
    schema = engine.read([stream / "events.parquet"]).schema()
    past = Past("shop_activity", ibis.table(schema, name="events"), "placed_at", 1, {"fraud": (known, ["yes"])})
    begins, ends = (datetime(2024, month, 1, tzinfo=UTC) for month in (3, 5))
    part = Part(stream / "events.parquet", {"fraud": stream / "labels.parquet"}, begins, ends, EVENTS, "1")
    last = (datetime(2024, 4, 23, tzinfo=UTC) - EPOCH) // timedelta(hours=1)
    basis = Basis([part], "id", "placed_at", 1, timedelta(hours=24), last, "1")
    view = check_view(shop_activity, past)
    months = Months(engine, view, basis, Cache(Project(root), "features/shop"), root / "scratch", limits)
    assert sum(month.rows for month in months.write(root / "out").values()) > 1_000_000
    return contents(root / "out")


def test_three_million_events_give_the_same_bytes_twice_on_two_threads(stream: Path, tmp_path: Path) -> None:
    first = written(stream, tmp_path / "first", Limits())
    assert sorted(first) == ["2024-03.parquet", "2024-04.parquet"]
    assert written(stream, tmp_path / "second", Limits(cells=1 << 25, rows=1 << 20)) == first
