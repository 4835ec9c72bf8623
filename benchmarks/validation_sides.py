"""The sides of the validation figures: the same suite on our engine, and in Great Expectations over pandas.

Partitions come in as Parquet, by name; findings per expectation go to a JSON file, once the clock has stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process import own_peak_mb

NUMBERS = ("element_count", "unexpected_count", "unexpected_percent", "missing_count", "missing_percent")
PERCENTS = ("unexpected_percent_total", "unexpected_percent_nonmissing")
"""What the library's result of a check of rows says, besides the rows themselves."""


def ours(files: dict[str, str], cache: str, out: str) -> dict[str, Any]:
    """The engine: what a table's `weakfish validate` does with its suite, without any page."""
    _quiet()
    import duckdb  # noqa: F401

    from benchmarks.validation_suite import EXPECTATIONS
    from weakfish.checks import expectations
    from weakfish.contracts.tables import open_partition
    from weakfish.project.cache import Cache
    from weakfish.project.paths import Project

    imports, start = _imported(), time.perf_counter()
    paths = {name: Path(file) for name, file in files.items()}
    outcome = expectations.run("events", EXPECTATIONS, paths, Cache(Project(Path(cache)), "facts"))
    seconds = time.perf_counter() - start
    found = {}
    for check, result in zip(outcome.checks, outcome.results, strict=True):
        if check.error:
            raise ValueError(f"The engine could not run {check.check}: {check.error}")
        found[_identity(result)] = _finding(result, check.rows)
    _write(out, found)
    rows = sum(open_partition(file).metadata.num_rows for file in paths.values())
    return {"seconds": seconds, "rows": rows, "imports_mb": imports, "by_pandas": len(outcome.by_pandas)}


def theirs(files: dict[str, str], out: str) -> dict[str, Any]:
    """Great Expectations over one pandas frame, which is given only the columns that the suite names.

    Partitions are read one by one and Arrow lets go of what is converted, which halves the peak of reading.
    """
    _quiet()
    import great_expectations as gx
    import pandas as pd
    import pyarrow.parquet as pq

    from benchmarks.validation_suite import COLUMNS, EXPECTATIONS

    imports, start = _imported(), time.perf_counter()
    parts = []
    for file in files.values():
        table = pq.ParquetFile(file).read(list(COLUMNS))
        parts.append(table.to_pandas(split_blocks=True, self_destruct=True))
        del table
    sizes = {name: len(part) for name, part in zip(files, parts, strict=True)}
    frame = pd.concat(parts, ignore_index=True)
    del parts
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = context.data_sources.add_pandas("events").add_dataframe_asset("events")
    suite = context.suites.add(gx.ExpectationSuite(name="events", expectations=list(EXPECTATIONS)))
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name="events", data=batch.add_batch_definition_whole_dataframe("all"), suite=suite)
    )
    wanted = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
    checkpoint = gx.Checkpoint(name="events", validation_definitions=[definition], result_format=wanted)
    run = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame})
    (validation,) = run.run_results.values()
    seconds = time.perf_counter() - start
    found = {}
    for result in validation.results:
        if "exception_message" in result.exception_info and result.exception_info["raised_exception"]:
            raise ValueError(f"Great Expectations did not run {_identity(result)}.")
        bad = [] if result.success else result.result.get("unexpected_index_list") or []
        found[_identity(result)] = _finding(result, by_partition(bad, sizes))
    _write(out, found)
    return {"seconds": seconds, "rows": sum(sizes.values()), "imports_mb": imports}


def _quiet() -> None:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    warnings.simplefilter("ignore")


def _imported() -> float:
    """The peak of this process, all it did being to import what either side needs to begin, in MB."""
    import pyarrow.pandas_compat  # noqa: F401 -- pyarrow imports it when it first makes a frame

    return round(own_peak_mb(), 1)


def _identity(result: Any) -> str:
    """The expectation and its arguments."""
    config = result.expectation_config
    arguments = {name: value for name, value in config.kwargs.items() if name != "batch_id"}
    return f"{config.type} {json.dumps(arguments, sort_keys=True, default=str)}"


def _finding(result: Any, rows: Mapping[str, Any]) -> dict[str, Any]:
    """What an expectation found, numbers to twelve digits, and a hash of the bad rows' positions in each partition.

    There are positions where the expectation does not hold: where it does, no row is bad.
    """
    names = ("observed_value", *NUMBERS, *PERCENTS)
    return {
        "success": bool(result.success),
        "severity": str(getattr(result.expectation_config.severity, "value", result.expectation_config.severity)),
        **{name: _plain(result.result.get(name)) for name in names},
        "rows": hashes(rows),
    }


def hashes(rows: Mapping[str, Any]) -> dict[str, str]:
    """A hash of the positions in each partition, whatever their order; partitions without any are left out."""
    sets = {name: np.sort(np.asarray(of, np.int64)) for name, of in sorted(rows.items()) if len(of)}
    return {name: hashlib.sha256(places.tobytes()).hexdigest() for name, places in sets.items()}


def _plain(value: Any) -> Any:
    number = value.item() if hasattr(value, "item") else value
    return float(f"{number:.12g}") if isinstance(number, float) else number


def by_partition(rows: list[int], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Positions in the frame as positions in the partitions that it is made of."""
    places, ends = np.sort(np.asarray(rows, np.int64)), np.cumsum([*sizes.values()])
    parts = np.split(places, np.searchsorted(places, ends[:-1]))
    starts = ends - [*sizes.values()]
    return {name: part - start for name, part, start in zip(sizes, parts, starts, strict=True)}


def _write(out: str, found: dict[str, Any]) -> None:
    Path(out).write_text(json.dumps(found, indent=1, sort_keys=True), encoding="utf-8")
