"""Training sets by shares of the rows: buckets of entities, stretches of events, an entity that has most of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from projects import contents
from test_training import CUSTOMERS, SHOPS, VIEWS, customer, event, expected, features, project, trained

from weakfish.feast.asof import ViewColumns
from weakfish.feast.definitions import view_source
from weakfish.project.runs import temporary_folder
from weakfish.training.joins import JoinLimits, Joins
from weakfish.training.sets import build_training_sets

TINY = JoinLimits(batch=2, stretch=5, bucket=3)


def test_neither_buckets_nor_stretches_nor_batches_change_a_byte(tmp_path: Path) -> None:
    entities = ["ann", "bob", None, *(f"c{number}" for number in range(9))]
    events = [event(number, 31 * number, entities[number % 12], "east") for number in range(90)]  # of several months
    events += [event(100 + number, number, "bob", "west") for number in range(4)]
    rows = [customer(f"c{number}", 20 * number, orders=number, tier="new") for number in range(9)]
    made = project(tmp_path / "p", events, [*CUSTOMERS, *rows], SHOPS)
    whole = trained(made)
    assert len(list(made.table("training/fraud").glob("*.parquet"))) > 2
    before = contents(made.data / "training")
    for limits in (TINY, JoinLimits(batch=7), JoinLimits(stretch=40), JoinLimits(bucket=50), JoinLimits(bucket=100)):
        build_training_sets(made, limits)
        assert contents(made.data / "training") == before, limits
    known = [{**dict.fromkeys(VIEWS["customer_activity"].names), **row} for row in [*CUSTOMERS, *rows]]
    assert features(whole) == expected(events, known, SHOPS)


def test_the_events_of_an_entity_that_has_most_are_joined_some_at_a_time(tmp_path: Path) -> None:
    events = [event(number, 31 * number) for number in range(90)]
    made = project(tmp_path / "p", events, CUSTOMERS, SHOPS)
    with temporary_folder(made.temporary, "joins") as scratch:
        joins = Joins(made, scratch, JoinLimits(stretch=1, bucket=50))
        assert len(joins.stretches) == 5
        view = ViewColumns("shops", {"shop": "shop"}, {"n": "orders"}, "event_timestamp", "created", None, known=True)
        source = view_source(made, "shop_activity")
        files = joins.features(view, source, "features/shop_activity", "fraud_v1")
        ran = {file for of_stretch in files for file in of_stretch if pq.read_metadata(made.root / file).num_rows}
        assert len({Path(file).stem for file in ran}) > 1  # of one bucket, apart
        found = [pq.read_table(made.root / file) for of_stretch in files for file in of_stretch]
        assert sorted(pa.concat_tables(found)["row"].to_pylist()) == list(range(90))
