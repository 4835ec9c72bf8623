"""The figures about reading online: our store against Feast's and against the bare client, our server against Feast's.

Both sides take turns, reading the same accounts from the same server; medians are over the readings of all rounds.
Server and readers have a processor each: which of them the scheduler would put on one is chance, and doubles a reading.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks import servers, store_projects
from benchmarks.figures import Figure
from benchmarks.session import Session, session
from benchmarks.store_bench import StoreBench
from benchmarks.store_data import FEATURES, KEY
from benchmarks.store_projects import StoreProject
from benchmarks.store_sides import drawn

ROUNDS = 5
CONNECTIONS = 4
WIDE_ACCOUNTS = 4_000
PATH = "/get-online-features"
HELP = ("--no-access-log", "--max-requests", "100000000")


def online_1(bench: StoreBench) -> Figure:
    """An SDK reading of one account against redis-py's ``HMGET`` of the same fields, median in ms."""
    accounts, port = bench.accounts, bench.serving.port
    raw = {"project": store_projects.PROJECT, "view": store_projects.VIEW, "features": list(FEATURES)}
    with (
        servers.apart(bench.serving),
        session("store_sides:reads", repo=bench.latest.ours, port=port, accounts=accounts) as ours,
        session("store_sides:raw_reads", light=True, port=port, accounts=accounts, **raw) as theirs,
    ):
        rounds = _reading(bench, ours, theirs, count=bench.scaled(1_000), entities=1)
    return _online(bench, "online_1", rounds, (ours, theirs), "values", 0.5)


def online_100(bench: StoreBench) -> Figure:
    """SDK readings of a hundred accounts on our store and on Feast's, median in ms."""
    accounts, port = bench.accounts, bench.served
    bench.point(port)
    with (
        servers.apart(bench.serving),
        session("store_sides:reads", repo=bench.latest.ours, port=port, accounts=accounts) as ours,
        session("store_sides:reads", repo=bench.latest.plain, port=port, accounts=accounts) as theirs,
    ):
        rounds = _reading(bench, ours, theirs, count=bench.scaled(200), entities=100)
    return _online(bench, "online_100", rounds, (ours, theirs), "digest", 5)


def _reading(bench: StoreBench, ours: Session, theirs: Session, **asked: int) -> list[tuple[Any, Any]]:
    """Rounds of the same readings on both sides; the first of one more warms connections and registry up."""
    rounds = [
        (ours.ask(seed=seed, **asked), theirs.ask(seed=seed, **asked)) for seed in range(bench.rounds(ROUNDS) + 1)
    ]
    return rounds[1:]


def _online(
    bench: StoreBench,
    name: str,
    rounds: list[tuple[Any, Any]],
    sides: tuple[Session, Session],
    same: str,
    wanted: float,
) -> Figure:
    mine, other = ([latency for done in side for latency in done["latencies"]] for side in zip(*rounds, strict=True))
    sizes: dict[str, Any] = {"features": len(FEATURES), "readings": len(mine), "rounds": len(rounds)}
    sizes |= {"p99": _rounded(_p99(mine)), "their_p99": _rounded(_p99(other))}
    for number, key in enumerate(("with_to_dict", "theirs_with_to_dict")):
        if "dict_latencies" in rounds[0][number]:
            sizes[key] = _rounded(median(latency for done in rounds for latency in done[number]["dict_latencies"]))
    return Figure(
        name,
        median(mine),
        median(other),
        "ms",
        all(ours[same] == theirs[same] for ours, theirs in rounds),
        bench.accounts,
        sides[0].peak_rss_mb,
        sides[1].peak_rss_mb,
        bench.sizes(wanted, **sizes),
    )


def serve(bench: StoreBench) -> Figure:
    """Requests a second over four connections that stay open, one account each, on our server and Feast's.

    Feast's has neither an access log nor workers that restart after a thousand requests, which helps it.
    """
    bench.point(bench.served)
    asked = {"feature_service": store_projects.SERVICE}
    return _serve(bench, "serve", bench.latest, bench.served, bench.accounts, asked, bench.scaled(2_000))


def serve_wide(bench: StoreBench) -> Figure:
    """What `serve` measures, for a service of 25 views of 10 features each."""
    accounts, views = (
        bench.scaled(WIDE_ACCOUNTS, 100),
        [f"{store_projects.VIEW}_{n}" for n in range(store_projects.VIEWS)],
    )
    project = bench.fresh("wide", accounts, wide=True)
    port = bench.filled("served_wide", project, views).port
    asked = {"feature_service": store_projects.WIDE, "full_feature_names": True}
    figure = _serve(bench, "serve_wide", project, port, accounts, asked, bench.scaled(400))
    return replace(figure, sizes={**figure.sizes, "views": len(views)})


def _serve(
    bench: StoreBench, name: str, project: StoreProject, port: int, accounts: int, asked: dict[str, Any], count: int
) -> Figure:
    """The figure of a project whose rows a server at a port holds; ``asked`` is what requests ask of each account."""
    bodies = _bodies(bench, name, accounts, asked)
    ports = servers.free_port(), servers.free_port()
    redis = {"WEAKFISH_REDIS": f"127.0.0.1:{port}"}
    with (
        servers.http_server(_program("weakfish", ports[0]), project.root, ports[0], redis) as ours,
        servers.http_server(_program("feast", ports[1], *HELP), Path(project.plain), ports[1], {}) as theirs,
        session("http_load:load", light=True, port=ports[0], path=PATH, bodies=bodies, connections=CONNECTIONS) as one,
        session("http_load:load", light=True, port=ports[1], path=PATH, bodies=bodies, connections=CONNECTIONS) as two,
    ):
        parts = [{"first": number * count, "count": count} for number in range(bench.rounds(ROUNDS) + 1)]
        rounds = [(one.ask(**part), two.ask(**part)) for part in parts][1:]
        peaks = ours.peak_rss_mb(), theirs.peak_rss_mb()
    return replace(_served(bench, rounds, count, peaks), name=name, rows=accounts)


def _program(name: str, port: int, *options: str) -> list[str]:
    return [str(Path(sys.executable).parent / name), "serve", "--port", str(port), *options]


def _served(bench: StoreBench, rounds: list[tuple[Any, Any]], count: int, peaks: tuple[float, float]) -> Figure:
    rates = []
    sizes: dict[str, Any] = {"features": len(FEATURES), "connections": CONNECTIONS}
    sizes |= {"requests": count, "rounds": len(rounds)}
    for prefix, side in zip(("", "their_"), zip(*rounds, strict=True), strict=True):
        latencies = [latency for done in side for latency in done["latencies"]]
        rates.append(median(count / done["seconds"] for done in side))
        sizes[f"{prefix}p50"] = _rounded(median(latencies))
        sizes[f"{prefix}p99"] = _rounded(_p99(latencies))
    sizes["load_us"] = round(1e6 * median(done["own_seconds"] / count for done, _ in rounds), 1)
    equal = all(ours["digest"] == theirs["digest"] for ours, theirs in rounds)
    return Figure("serve", rates[0], rates[1], "requests/s", equal, bench.accounts, *peaks, bench.sizes(5, **sizes))


def _bodies(bench: StoreBench, name: str, accounts: int, asked: dict[str, Any]) -> str:
    """A file of requests for one account each, one a line."""
    file = bench.work / f"{name}.jsonl"
    chosen = drawn(accounts, seed=4, count=min(accounts, 10_000), entities=1)
    bodies = [{**asked, "entities": {KEY: names}} for names in chosen]
    file.write_text("".join(json.dumps(body) + "\n" for body in bodies), encoding="utf-8")
    return str(file)


def _p99(latencies: list[float]) -> float:
    return quantiles(latencies, n=100)[98]


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")
