"""Rules 1 and 2 of time: what a feature row states, against a plain Python account of the same past."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weakfish.contracts.record import EPOCH
from weakfish.contracts.tables import TIME
from weakfish.engine import duckdb as compute
from weakfish.features import Past, transform
from weakfish.features.history import Limits
from weakfish.features.months import Basis, Months, Part
from weakfish.features.views import Transform, View, check_view
from weakfish.project.cache import Cache
from weakfish.project.paths import Project

START = datetime(2024, 3, 9, tzinfo=UTC)
EVENTS = pa.schema(
    [("id", pa.int64()), ("at", TIME), ("who", pa.string()), ("n", pa.int32()), ("ok", pa.bool_()), ("x", pa.float64())]
)
LABELS = pa.schema([("id", pa.int64()), ("known_at", TIME), ("p_no", pa.float64()), ("p_yes", pa.float64())])


@transform(entity="who")
def activity(past: Past) -> dict[str, ir.Value]:
    """One of each statistic, over windows of different lengths."""
    day, week = past.last(hours=12), past.last(days=3)
    return {
        "count_12h": day.count(),
        "count": past.ever.count(),
        "ok_12h": day.count(past.events.ok),
        "n_sum_3d": week.sum(past.events.n),
        "x_mean_3d": week.mean(past.events.x),
        "ok_share_3d": week.share(past.events.ok),
        "n_distinct_12h": day.distinct(past.events.n),
        "n_distinct_3d": week.distinct(past.events.n),
        "n_distinct": past.ever.distinct(past.events.n),
        "days_3d": week.active_days(),
        "first": past.first_seen(),
        "last": past.last_seen(),
        "yes_12h": day.known_labels("task").share("yes"),
        "yes": past.ever.known_labels("task").share("yes"),
        "labels_12h": day.known_labels("task").count(),
        "per_label": past.ever.count() / past.ever.known_labels("task").count(),
    }


def at_boundary(history: History, who: str, b: datetime) -> dict[str, Any]:
    """What was known of ``who`` from events and labels strictly before b: the oracle."""
    past = [event for event in history.events if event["who"] == who and event["at"] < b]
    labels = [
        label
        for label in history.labels
        if label["known_at"] < b and any(event["id"] == label["id"] and event["who"] == who for event in history.events)
    ]
    day = [event for event in past if event["at"] >= b - timedelta(hours=12)]
    week = [event for event in past if event["at"] >= b - timedelta(days=3)]
    labels_day = [label for label in labels if label["known_at"] >= b - timedelta(hours=12)]
    oks = [event["ok"] for event in week if event["ok"] is not None]
    return {
        "count_12h": len(day),
        "count": len(past),
        "ok_12h": sum(event["ok"] is True for event in day),
        "n_sum_3d": sum(event["n"] or 0 for event in week),
        "x_mean_3d": mean([event["x"] for event in week if event["x"] is not None]),
        "ok_share_3d": mean(oks),
        "n_distinct_12h": len({event["n"] for event in day} - {None}),
        "n_distinct_3d": len({event["n"] for event in week} - {None}),
        "n_distinct": len({event["n"] for event in past} - {None}),
        "days_3d": len({event["at"].date() for event in week}),
        "first": min((event["at"] for event in past), default=None),
        "last": max((event["at"] for event in past), default=None),
        "yes_12h": mean([label["p_yes"] for label in labels_day]),
        "yes": mean([label["p_yes"] for label in labels]),
        "labels_12h": len(labels_day),
        "per_label": len(past) / len(labels) if labels else None,
    }


def mean(values: list[Any]) -> float | None:
    return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class History:
    """Events, and labels on some of them."""

    events: list[dict[str, Any]]
    labels: list[dict[str, Any]]
    hours: int

    @property
    def as_of(self) -> datetime:
        return max(event["at"] for event in self.events)

    def floor(self, time: datetime) -> datetime:
        step = timedelta(hours=self.hours)
        return EPOCH + (time - EPOCH) // step * step


# Times on boundaries, a microsecond beside them, and anywhere.
times = st.builds(
    lambda hour, micros: START + timedelta(hours=hour, microseconds=micros),
    st.integers(0, 110),
    st.sampled_from([-1, 0, 0, 1, 3_599_999_999]) | st.integers(0, 3_599_999_999),
)
shares = st.integers(0, 1_000_000).map(lambda number: number / 1_000_000)


@st.composite
def histories(draw: st.DrawFn) -> History:
    count = draw(st.integers(1, 20))
    events = [
        {
            "id": number,
            "at": draw(times),
            "who": draw(st.sampled_from(["ann", "bob", "cyd", None])),
            "n": draw(st.sampled_from([None, 1, 2, -3])),
            "ok": draw(st.sampled_from([None, True, False])),
            "x": draw(st.none() | shares),
        }
        for number in range(count)
    ]
    delay = timedelta(hours=draw(st.sampled_from([0, 5, 24])))
    labels = [
        {"id": event["id"], "known_at": event["at"] + delay, "p_no": 1 - p, "p_yes": p}
        for event in events
        if (p := draw(st.none() | shares)) is not None
    ]
    return History(events, labels, draw(st.sampled_from([1, 2, 6, 12])))


def view_of(made: Transform, hours: int) -> View:
    labels = ibis.table({"p_no": "float64", "p_yes": "float64"}, name="task")
    events = ibis.table(ibis.Schema.from_pyarrow(EVENTS), name="events")
    return check_view(made, Past(made.name, events, "at", hours, {"task": (labels, ["no", "yes"])}))


def part_of(folder: Path, events: list[dict[str, Any]], labels: list[dict[str, Any]]) -> Part:
    """A partition below ``folder``, for all of whose events its name, that of a month, stands."""
    folder.mkdir(parents=True)
    for name, rows, schema in (("events", events, EVENTS), ("labels", labels, LABELS)):
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{name}.parquet")
    begins = (
        START.replace(day=1) if folder.name == "all" else datetime.strptime(folder.name, "%Y-%m").replace(tzinfo=UTC)
    )
    ends = (begins + timedelta(days=32)).replace(day=1)
    version = repr((events, labels))
    return Part(folder / "events.parquet", {"task": folder / "labels.parquet"}, begins, ends, len(events), version)


def months_of(
    root: Path, parts: list[Part], as_of: datetime, hours: int, made: Transform = activity, limits: Limits | None = None
) -> Months:
    """The months of a view of a project at ``root``."""
    last = (as_of - EPOCH) // timedelta(hours=hours)
    basis = Basis(parts, "id", "at", hours, timedelta(hours=24), last, f"{made.name} {hours}")
    root.mkdir(exist_ok=True)
    cache = Cache(Project(root), f"features/{made.name}")
    return Months(compute.connect(), view_of(made, hours), basis, cache, Path(mkdtemp(dir=root)), limits)


def built(history: History, made: Transform = activity, limits: Limits | None = None) -> pa.Table:
    """The rows that the engine makes of a history."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        part = part_of(root / "all", history.events, history.labels)
        months = months_of(root, [part], history.as_of, history.hours, made, limits)
        months.write(root / "out")
        tables = [pq.read_table(file) for file in sorted((root / "out").glob("*.parquet"))]
        return pa.concat_tables([months.view.schema.empty_table(), *tables])


def close(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether a row has these values: times and whole numbers equal, others to a millionth."""
    return all(
        found[name] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value)
        for name, value in expected.items()
    )


relaxed = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(histories(), st.lists(times, min_size=1, max_size=8))
def test_the_row_as_of_any_time_states_what_was_known_at_the_boundary_before_it(
    history: History, moments: list[datetime]
) -> None:
    rows = built(history).to_pylist()
    for who in ("ann", "bob", "cyd"):
        for moment in [*moments, history.as_of]:
            boundary = history.floor(min(moment, history.as_of))
            before = [row for row in rows if row["who"] == who and row["event_timestamp"] <= boundary]
            expected = at_boundary(history, who, boundary)
            if not before:
                assert expected["count"] == 0
            else:
                assert close(before[-1], expected)
                assert close(before[-1], at_boundary(history, who, before[-1]["event_timestamp"]))


@relaxed
@given(histories())
def test_rows_stand_at_boundaries_where_something_enters_or_leaves_and_nowhere_else(history: History) -> None:
    found = [(row["event_timestamp"], row["who"]) for row in built(history).to_pylist()]
    step = timedelta(hours=history.hours)
    expected = set()
    entities = {event["id"]: event["who"] for event in history.events}
    known = [(event["at"], event["who"]) for event in history.events]
    known += [(label["known_at"], entities[label["id"]]) for label in history.labels]
    for position, (time, who) in enumerate(known):
        lengths = (0, 12, 72) if position < len(history.events) else (0, 12)
        expected |= {(history.floor(time + timedelta(hours=hours)) + step, who) for hours in lengths}
    assert found == sorted((b, who) for b, who in expected if who is not None and b <= history.as_of)


@relaxed
@given(histories(), st.lists(times, max_size=5))
def test_later_events_and_labels_change_no_row_that_stood(history: History, later: list[datetime]) -> None:
    more = [
        {"id": 100 + number, "at": history.as_of + (time - START) + timedelta(days=1), "who": "ann", "n": 7, "ok": True}
        for number, time in enumerate(later)
    ]
    labels = [{"id": event["id"], "known_at": event["at"], "p_no": 0.0, "p_yes": 1.0} for event in more]
    grown = History(history.events + more, history.labels + labels, history.hours)
    before = built(history)
    assert built(grown).to_pylist()[: before.num_rows] == before.to_pylist()


@relaxed
@given(histories(), st.randoms())
def test_the_order_of_events_changes_nothing(history: History, order: random.Random) -> None:
    shuffled = order.sample(history.events, len(history.events)), order.sample(history.labels, len(history.labels))
    assert built(History(*shuffled, history.hours)).equals(built(history))


def test_rows_have_a_key_and_times_of_the_declared_types() -> None:
    events = [{"id": number, "at": START + timedelta(hours=7 * number), "who": "ann"} for number in range(9)]
    rows = built(History(events, [], 1))
    assert rows.schema.field("event_timestamp").type == TIME == rows.schema.field("created").type
    assert rows["created"].equals(rows["event_timestamp"])
    assert {str(rows.schema.field(name).type) for name in activity_names()} <= {"int64", "double", str(TIME)}
    keys = list(zip(rows["who"].to_pylist(), rows["event_timestamp"].to_pylist(), strict=True))
    assert len(set(keys)) == len(keys)


def activity_names() -> list[str]:
    return list(view_of(activity, 1).features)


@pytest.mark.parametrize("hours", [1, 12])
def test_an_event_exactly_at_a_boundary_enters_and_leaves_at_the_next_one(hours: int) -> None:
    step = timedelta(hours=hours)
    events = [{"id": 0, "at": START, "who": "ann"}, {"id": 1, "at": START + timedelta(hours=36), "who": "bob"}]
    rows = [row for row in built(History(events, [], hours)).to_pylist() if row["who"] == "ann"]
    assert [(row["event_timestamp"], row["count"], row["count_12h"]) for row in rows] == [
        (START + step, 1, 1),
        (START + step + timedelta(hours=12), 1, 0),
    ]


def test_a_share_of_nothing_is_null_and_no_value_is_nan() -> None:
    @transform(entity="who")
    def odd(past: Past) -> dict[str, ir.Value]:
        n = past.ever.sum(past.events.n)
        return {
            "nan": n.cast("float64") / n,
            "mean": past.ever.mean(past.events.x),
            "sum": past.ever.sum(past.events.x),
        }

    events = [
        {"id": 0, "at": START, "who": "ann", "n": 0, "x": float("nan")},
        {"id": 1, "at": START + timedelta(days=1)},
    ]
    (row,) = built(History(events, [], 1), odd).to_pylist()
    assert (row["nan"], row["mean"], row["sum"]) == (None, None, 0.0)


def test_buckets_and_slices_give_the_rows_of_one() -> None:
    chance = random.Random(1)  # noqa: S311
    events = [
        {
            "id": n,
            "at": START + timedelta(minutes=chance.randrange(9000)),
            "who": f"w{chance.randrange(40)}",
            "n": n % 7,
        }
        for n in range(600)
    ]
    history = History(events, [], 1)
    whole = built(history)
    assert built(history, limits=Limits(cells=20_000, values=40, rows=50)).equals(whole)
