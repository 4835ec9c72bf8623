"""The figures about validation: a suite on the engine against Great Expectations over pandas, and after a change."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from benchmarks.figures import Figure
from benchmarks.process import Done, run
from benchmarks.validation_bench import ValidationBench

WANTED_RATIO = 3.0
WANTED_MEMORY_SHARE = 0.2
"""At most a third of the time and a fifth of the memory above imports: what was agreed upon."""


def validate(bench: ValidationBench) -> Figure:
    """Fifteen expectations on our engine against Great Expectations over pandas, Parquet to findings, seconds.

    Great Expectations gets as many partitions as it can hold; its time and its memory above imports are scaled up to
    all rows, and ours runs once more on just those partitions, so that findings are compared in full.
    """
    ours = bench.ours
    theirs = run("validation_sides:theirs", files=bench.theirs, out=str(bench.out("theirs")))
    same = "ours"
    if bench.theirs != bench.files:
        same = "ours_in_memory"
        bench.checked(same, bench.theirs, bench.work / "cache_in_memory")
    found, wanted = (json.loads(bench.out(name).read_text(encoding="utf-8")) for name in (same, "theirs"))
    factor = ours.result["rows"] / theirs.result["rows"]
    return Figure(
        "validate",
        ours.seconds,
        theirs.seconds * factor,
        "s",
        found == wanted,
        ours.result["rows"],
        ours.peak_rss_mb,
        theirs.peak_rss_mb,
        bench.sizes() | compared(ours, theirs, factor) | _said(ours, wanted),
    )


def compared(ours: Done, theirs: Done, factor: float) -> dict[str, Any]:
    """The time and memory that were measured, what of the memory is above imports, theirs also times ``factor``."""
    net = {name: round(side.peak_rss_mb - side.result["imports_mb"], 1) for name, side in _named(ours, theirs)}
    return {
        "wanted": WANTED_RATIO,
        "wanted_memory_share": WANTED_MEMORY_SHARE,
        "scaled": factor > 1,
        "rows_theirs": theirs.result["rows"],
        "their_seconds": theirs.seconds,
        "imports_mb": {name: side.result["imports_mb"] for name, side in _named(ours, theirs)},
        "net_mb": net,
        "their_net_mb_scaled": round(net["theirs"] * factor, 1),
        "memory_share": round(net["ours"] / (net["theirs"] * factor), 4),
    }


def _named(ours: Done, theirs: Done) -> tuple[tuple[str, Done], tuple[str, Done]]:
    return ("ours", ours), ("theirs", theirs)


def _said(ours: Done, findings: dict[str, Any]) -> dict[str, Any]:
    """How many expectations there are, how many did not hold, and how many bad rows those have.

    ``by_pandas`` counts those that our side left to Great Expectations over pandas.
    """
    failed = [found for found in findings.values() if not found["success"]]
    return {
        "expectations": len(findings),
        "by_pandas": ours.result["by_pandas"],
        "not_held": len(failed),
        "bad_rows": sum(found["unexpected_count"] or 0 for found in failed),
    }


def validate_one_partition_changed(bench: ValidationBench) -> Figure:
    """The suite again after one month of twelve changed, with what the full run left, against a full run; seconds."""
    assert bench.ours  # noqa: S101 -- fills the cache
    again = bench.checked("again", bench.changed, bench.cache)
    full = bench.checked("full", bench.changed, bench.work / "cache_full")
    texts = [bench.out(name).read_text(encoding="utf-8") for name in ("again", "full", "ours")]
    return Figure(
        "validate_one_partition_changed",
        again.seconds,
        full.seconds,
        "s",
        texts[0] == texts[1] != texts[2],
        again.result["rows"],
        again.peak_rss_mb,
        full.peak_rss_mb,
        bench.sizes() | {"imports_mb": {name: side.result["imports_mb"] for name, side in _named(again, full)}},
    )


FIGURES: dict[str, Callable[[ValidationBench], Figure]] = {
    "validate": validate,
    "validate_one_partition_changed": validate_one_partition_changed,
}
"""The figures of `make bench-validation`."""
