"""The figures about writing to the online store: plain Feast's engine and ours, from the same feature table."""

from __future__ import annotations

from statistics import median

import redis

from benchmarks.figures import Figure
from benchmarks.session import Session, ask, session
from benchmarks.store_bench import StoreBench
from benchmarks.store_data import FEATURES, present
from weakfish.feast.server import HOST

ROUNDS = 3
CHECKED = 1_000


def materialize(bench: StoreBench) -> Figure:
    """Rows a second from Parquet to the server, each side to an empty one, three times in turn.

    All that both servers hold is compared, and what plain Feast reads of our server with the feature table.
    """
    ports = {side: bench.server(f"materialize_{side}").port for side in ("ours", "theirs", "ready_made")}
    bench.point(ports["theirs"])
    with (
        session("store_sides:materialize", repo=bench.latest.ours, port=ports["ours"]) as ours,
        session("store_sides:materialize", repo=bench.latest.plain, port=ports["theirs"]) as theirs,
    ):
        sides = [(ours, ports["ours"]), (theirs, ports["theirs"])]
        rounds = [[_written(*side) for side in sides] for _ in range(bench.rounds(ROUNDS))]
    seconds = [median(side) for side in zip(*rounds, strict=True)]
    check = ask("store_checks:servers", light=True, ours=ports["ours"], theirs=ports["theirs"])
    ready = ask("store_checks:ready_made", light=True, source=ports["ours"], target=ports["ready_made"], batch=10_000)
    bench.point(ports["ours"])
    table = str(bench.latest.table)
    reader = ask("store_checks:plain_reader", repo=bench.latest.plain, table=table, accounts=CHECKED)
    return Figure(
        "materialize",
        bench.accounts / seconds[0],
        bench.accounts / seconds[1],
        "rows/s",
        check["equal"] and reader["equal"],
        bench.accounts,
        ours.peak_rss_mb,
        theirs.peak_rss_mb,
        bench.sizes(8, features=len(FEATURES), rounds=len(rounds), seconds=seconds[0], their_seconds=seconds[1])
        | {"ready_made": round(ready["rate"])},
    )


def _written(side: Session, port: int) -> float:
    """Seconds of a side on a server that was emptied."""
    with redis.Redis(HOST, port) as client:
        client.flushall()
    return float(side.ask(until=present().isoformat())["seconds"])


def audit(bench: StoreBench) -> Figure:
    """Seconds to compare all that is online with the feature table, against those of publishing it, audit included.

    Audits must pass, but not once a byte in the server was changed.
    """
    project, port = bench.fresh("audit"), bench.server("audit").port
    root = str(project.root)
    with (
        session("store_sides:publish", root=root, port=port) as theirs,
        session("store_sides:audit", root=root, port=port) as ours,
    ):
        published, first = theirs.ask(), ours.ask()
        rounds = [first, *(ours.ask() for _ in range(bench.rounds(ROUNDS) - 1))]
        ask("store_checks:corrupt", light=True, port=port)
        corrupted = ours.ask()
    seconds = median(done["seconds"] for done in rounds)
    passed = all(done["passed"] and done["rows"] == {"equal": bench.accounts} for done in rounds)
    return Figure(
        "audit",
        seconds,
        published["seconds"],
        "s",
        passed and not corrupted["passed"],
        bench.accounts,
        ours.peak_rss_mb,
        theirs.peak_rss_mb,
        bench.sizes(None, features=len(FEATURES), rounds=len(rounds)),
    )
