"""The figures about the feature store, by name."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.figures import Figure
from benchmarks.store_bench import StoreBench
from benchmarks.store_joins import pit_join_long, pit_join_short
from benchmarks.store_out_of_core import pit_join_out_of_core
from benchmarks.store_reading import online_1, online_100, serve, serve_wide
from benchmarks.store_writing import audit, materialize

FIGURES: dict[str, Callable[[StoreBench], Figure]] = {
    "pit_join_short": pit_join_short,
    "pit_join_long": pit_join_long,
    "materialize": materialize,
    "audit": audit,
    "online_1": online_1,
    "online_100": online_100,
    "serve": serve,
    "serve_wide": serve_wide,
}
"""The figures of `make bench-store`."""

BY_NAME: dict[str, Callable[[StoreBench], Figure]] = {"pit_join_out_of_core": pit_join_out_of_core}
"""Figures that are measured only when they are asked for by name."""
