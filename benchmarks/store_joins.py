"""The figures about historical features: plain Feast's join and ours on the same feature table and spine."""

from __future__ import annotations

from statistics import median

from benchmarks.figures import Figure
from benchmarks.session import ask, session
from benchmarks.store_bench import StoreBench
from benchmarks.store_data import FEATURES

ROUNDS = 7


def pit_join_short(bench: StoreBench) -> Figure:
    """Historical features of 20,000 spine rows from 1,000 accounts of 300 rows, seconds."""
    return _pit_join(bench, "pit_join_short", hours=300, rows=20_000, wanted=8, their_rounds=ROUNDS)


def pit_join_long(bench: StoreBench) -> Figure:
    """Historical features of 100,000 spine rows from 1,000 accounts of 3,000 rows, seconds; Feast has one round."""
    return _pit_join(bench, "pit_join_long", hours=3_000, rows=100_000, wanted=30, their_rounds=1)


def _pit_join(bench: StoreBench, name: str, hours: int, rows: int, wanted: float, their_rounds: int) -> Figure:
    accounts, spine_rows = bench.scaled(1_000), bench.scaled(rows)
    project = bench.history(name, accounts, hours, spine_rows)
    out = {side: str(project.root / f"{side}.parquet") for side in ("ours", "theirs")}
    spine = str(project.root / "spine.parquet")
    with (
        session("store_sides:historical", repo=project.ours, spine=spine) as ours,
        session("store_sides:historical", repo=project.plain, spine=spine) as theirs,
    ):
        mine, other = [], []
        for number in range(bench.rounds(ROUNDS)):
            mine.append(ours.ask(out=out["ours"])["seconds"])
            if number < their_rounds:
                other.append(theirs.ask(out=out["theirs"])["seconds"])
    check = ask("store_checks:frames", light=True, by="row", **out)
    sizes = {"accounts": accounts, "feature_rows": accounts * hours, "features": len(FEATURES), "rounds": len(mine)}
    return Figure(
        name,
        median(mine),
        median(other),
        "s",
        check["equal"],
        spine_rows,
        ours.peak_rss_mb,
        theirs.peak_rss_mb,
        bench.sizes(wanted, **sizes, rows_without_features=check["nulls"]),
    )
