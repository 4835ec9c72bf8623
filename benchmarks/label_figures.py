"""The figures about labels: votes, the label model, all of it end to end, and runs after an edit."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.figures import Figure
from benchmarks.process import Done, run
from benchmarks.projects import TASK, TEN, TWELVE, TWENTY, edit

THEIR_ROWS = 100_000
CHECKED_ROWS = 20_000
DRYBELL_SECONDS = 1800.0
"""Half an hour, on a cluster: the first abstract of Bach et al., Snorkel DryBell (arXiv:1812.00417v1, 2018)."""

SNORKEL_BYTES = 80
MEMORY_SHARE = 0.6
"""What Snorkel's label model takes for one vote on two classes, measured, and how much of the memory it may take."""

PLAIN = (
    *("subject_is_in_capitals", "subject_begins_with_re", "text_speaks_of_free_offers", "text_exclaims_often"),
    *("text_counts_money", "text_quotes_lines", "text_has_short_lines", "links_outweigh_text"),
)


@dataclass(frozen=True)
class Group:
    """A figure's function and the number of amplified months that it needs."""

    measure: Callable[[Bench, int], Figure]
    months: int


def votes_columnar(bench: Bench, months: int) -> Figure:
    """Twelve columnar functions against the same twelve in Python under `PandasLFApplier`, votes a second."""
    return _votes(bench, "votes_columnar", months, TWELVE, "benchmarks.functions.twelve", bench.scaled(THEIR_ROWS))


def votes_rows(bench: Bench, months: int) -> Figure:
    """Eight plain functions in worker processes against `PandasLFApplier`, votes a second."""
    rows = bench.rows(months)
    return _votes(bench, "votes_rows", months, PLAIN, "benchmarks.functions.plain", rows)


def _votes(bench: Bench, name: str, months: int, functions: tuple[str, ...], module: str, their_rows: int) -> Figure:
    with bench.project(name, months, functions) as root:
        ours = run("ours:votes", root=str(root))
        out = str(root / "theirs.parquet")
        theirs = run("theirs:votes", root=str(root), functions=module, rows=their_rows, out=out)
        check = run("checks:votes", root=str(root), theirs=out).result
    rows = bench.rows(months)
    sizes = {"functions": len(functions), "patterns": check["patterns"], "their_rows": theirs.result["rows"]}
    return Figure(
        name,
        rows * len(functions) / ours.seconds,
        theirs.result["rows"] * len(functions) / theirs.seconds,
        "votes/s",
        check["equal"],
        rows,
        ours.peak_rss_mb,
        theirs.peak_rss_mb,
        bench.sizes() | sizes | {"seconds": ours.seconds, "their_seconds": theirs.seconds},
    )


def votes_40_patterns(bench: Bench, months: int) -> Figure:
    """Forty pattern functions against the first ten of them, seconds; their votes are also the engine's own."""
    from benchmarks.functions.patterns import PATTERNS

    names = tuple(f"pattern_{name}" for name in PATTERNS)
    with bench.project("ten", months, names[:10]) as ten, bench.project("forty", months, names) as forty:
        done = [run("ours:votes", root=str(root)) for root in (ten, forty)]
        shared = run("checks:folders", ours=str(ten), theirs=str(forty)).result
        engine = run("checks:engine_votes", root=str(forty), rows=bench.scaled(CHECKED_ROWS)).result
    return Figure(
        "votes_40_patterns",
        done[1].seconds,
        done[0].seconds,
        "s",
        shared["equal"] and engine["equal"],
        bench.rows(months),
        done[1].peak_rss_mb,
        done[0].peak_rss_mb,
        bench.sizes() | {"functions": len(names), "their_functions": 10},
    )


def label_model(bench: Bench, months: int) -> Figure:
    """Fit and predict, from votes in Parquet to probabilities in Parquet, against `LabelModel` on the matrix; rows/s.

    Snorkel gets as many partitions as fit into memory, and ours is compared with it on those.
    """
    fitting = min(months, _months_in_memory(bench, len(TWENTY)))
    with bench.project("label_model", months, TWENTY) as root:
        run("ours:votes", root=str(root))
        ours = run("ours:fit_and_predict", root=str(root), out=str(root / "ours"))
        verb = run("ours:labels", root=str(root))
        theirs, check = _snorkel(root, "ours") if fitting == months else (None, {})
    if theirs is None:
        with bench.project("label_model_in_memory", fitting, TWENTY) as root:
            run("ours:votes", root=str(root))
            run("ours:fit_and_predict", root=str(root), out=str(root / "ours"))
            theirs, check = _snorkel(root, "ours")
    rows, their_rows = bench.rows(months), theirs.result["rows"]
    sizes = {"scale": bench.scale, "functions": len(TWENTY), "patterns": check["patterns"], "their_rows": their_rows}
    sizes["imports_mb"] = {"ours": ours.result["rss_mb_before"], "theirs": theirs.result["rss_mb_before"]}
    sizes |= {"seconds": ours.seconds, "their_seconds": theirs.seconds, "label_verb_seconds": verb.seconds}
    return Figure(
        "label_model",
        rows / ours.seconds,
        their_rows / theirs.seconds,
        "rows/s",
        check["equal"],
        rows,
        ours.peak_rss_mb,
        theirs.peak_rss_mb,
        sizes,
    )


def _snorkel(root: Path, ours: str) -> tuple[Done, dict[str, Any]]:
    """Snorkel's label model on the votes of a project, and how its probabilities compare with those in a folder."""
    out = str(root / "theirs.parquet")
    theirs = run("theirs:labels", root=str(root), out=out)
    return theirs, run("checks:labels", root=str(root), ours=str(root / ours), theirs=out).result


def _months_in_memory(bench: Bench, functions: int) -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, int(memory * MEMORY_SHARE / (SNORKEL_BYTES * functions * bench.month_rows)))


def labels_end_to_end(bench: Bench, months: int) -> Figure:
    """Events in Parquet to labels in Parquet with ten functions against the time that DryBell's authors report.

    The labels are compared with those of Snorkel's `LabelModel` on the whole matrix.
    """
    with bench.project("labels_end_to_end", months, TEN) as root:
        ours = run("ours:votes_and_labels", root=str(root))
        _, check = _snorkel(root, f"data/labels/{TASK}")
    stages = {name: round(ours.result[name], 2) for name in ("votes_seconds", "labels_seconds")}
    return Figure(
        "labels_end_to_end",
        ours.seconds,
        DRYBELL_SECONDS,
        "s",
        check["equal"],
        bench.rows(months),
        ours.peak_rss_mb,
        None,
        bench.sizes() | {"patterns": check["patterns"], "functions": len(TEN)} | stages,
    )


def one_function_edited(bench: Bench, months: int) -> Figure:
    """Votes and labels after an edit of a function without text, against a full run, seconds."""
    return _edited(bench, "one_function_edited", months, ("format", "n_links < 15", "n_links < 14"))


def one_text_function_edited(bench: Bench, months: int) -> Figure:
    """Votes and labels after an edit of a function that searches the text, against a full run, seconds."""
    edited = ("pitch", "visit our (web ?)?site", "visit our (web ?)?(site|page)")
    return _edited(bench, "one_text_function_edited", months, edited)


def _edited(bench: Bench, name: str, months: int, change: tuple[str, str, str]) -> Figure:
    """A full run, an edit, a run; and for comparison a full run on the edited functions, in a project of its own."""
    with bench.project(name, months, TWENTY) as root, bench.project(f"{name}_full", months, TWENTY) as fresh:
        run("ours:votes_and_labels", root=str(root))
        edit(root, *change)
        edit(fresh, *change)
        ours = run("ours:votes_and_labels", root=str(root))
        theirs = run("ours:votes_and_labels", root=str(fresh))
        check = run("checks:folders", ours=str(root), theirs=str(fresh), whole=True).result
    stages = {stage: round(ours.result[stage], 2) for stage in ("votes_seconds", "labels_seconds")}
    return Figure(
        name,
        ours.seconds,
        theirs.seconds,
        "s",
        check["equal"],
        bench.rows(months),
        ours.peak_rss_mb,
        theirs.peak_rss_mb,
        bench.sizes() | {"functions": len(TWENTY)} | stages,
    )


FIGURES = {
    "votes_columnar": Group(votes_columnar, 16),
    "votes_40_patterns": Group(votes_40_patterns, 8),
    "votes_rows": Group(votes_rows, 4),
    "label_model": Group(label_model, 26),
    "labels_end_to_end": Group(labels_end_to_end, 26),
    "one_function_edited": Group(one_function_edited, 20),
    "one_text_function_edited": Group(one_text_function_edited, 20),
}
"""The figures of `make bench-labels`, and the number of partitions that each takes: a million rows are four."""
