"""Tables with all that pandas treats in its own way, and Great Expectations over pandas to compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from weakfish.checks import expectations, gx
from weakfish.contracts.verdicts import Check
from weakfish.project.cache import Cache
from weakfish.project.paths import Project

TIME = pa.timestamp("us", tz="UTC")
NAN = float("nan")
WHEN = [datetime(2002, month, 1, tzinfo=UTC) for month in range(1, 13)]

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("text", pa.string()),
        ("code", pa.string()),
        ("whole", pa.int64()),
        ("count", pa.int32()),
        ("gaps", pa.int64()),
        ("share", pa.float64()),
        ("ratio", pa.float32()),
        ("flag", pa.bool_()),
        ("maybe", pa.bool_()),
        ("at", TIME),
        ("local", pa.timestamp("us")),
        ("day", pa.date32()),
        ("price", pa.decimal128(9, 2)),
        ("tags", pa.list_(pa.string())),
        ("void", pa.string()),
        ("hollow", pa.float64()),
        ("with 'a \"name", pa.int64()),
        ("long", pa.large_string()),
        ("tiny", pa.uint8()),
        ("label", pa.dictionary(pa.int32(), pa.string())),
    ]
)
"""A column of each kind that pandas treats in its own way; nothing is in `void` and `hollow`."""

Case = tuple[str, dict[str, Any]]
"""An expectation: its class and its arguments."""

WORDS = [
    "",
    "a",
    "ab\n",
    "abc",
    "ärger",
    "ſtraße",
    "12",
    "٣٤",
    "a b",
    "e\u0301",
    "\U0001f600",
    "NaN",
    None,
    "x" * 40,
    "ab",
]


def table(rows: int, seed: int, nulls: bool = True) -> pa.Table:
    """Rows with nulls, NaN, zeros of both signs, empty texts, all alphabets, and values that stand again."""
    random = np.random.default_rng(seed)

    def some(values: Sequence[Any]) -> list[Any]:
        values = values if nulls else [value for value in values if value is not None and value == value]
        return [values[place] for place in random.integers(0, len(values), rows)]

    columns = {
        "key": [f"k{place}" for place in random.integers(0, 400, rows)],
        "text": some(WORDS),
        "code": some(["a", "b", "c"]),
        "whole": some([0, 1, 2, 3, 5, 8, -7, 1000]),
        "count": some([0, 1, 2, 3, 70_000]),
        "gaps": some([0, 1, 2, 3, None]),
        "share": some([0.0, -0.0, 0.1, 0.25, 0.5, 1.0, 1.5, NAN, None, 1e-9, 12345.678]),
        "ratio": some([0.1, 0.5, 2.0, NAN, None]),
        "flag": some([True, False]),
        "maybe": some([True, False, None]),
        "at": some([*WHEN, None]),
        "local": some([when.replace(tzinfo=None) for when in WHEN]),
        "day": some([date(2002, 1, 1), date(2002, 2, 1), None]),
        "price": some([Decimal("1.50"), Decimal("2.25"), None]),
        "tags": some([["a"], [], None]),
        "void": [None] * rows,
        "hollow": [NAN] * rows,
        "with 'a \"name": some([1, 2, None]),
        "long": some(WORDS),
        "tiny": some([0, 1, 255, None]),
        "label": some(["a", "b", None]),
    }
    return pa.table(
        {name: pa.array(columns[name], kind) for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True)}
    )


PARTS = {"2002-01": table(50, 1), "2002-02": table(0, 2), "2002-03": table(70, 3), "undated": table(30, 4)}


def written(folder: Path, parts: dict[str, pa.Table]) -> dict[str, Path]:
    """The partitions as files of several row groups."""
    files = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        files[name] = folder / f"{name}.parquet"
        pq.write_table(rows, files[name], row_group_size=32)
    return files


def cache(folder: Path) -> Cache:
    """A cache of facts in a folder."""
    return Cache(Project(folder), "facts")


def over_pandas(cases: list[Any], rows: pa.Table) -> list[Any]:
    """The results of Great Expectations over pandas, through its documented interface, in the order of the cases."""
    with gx.quiet():
        from great_expectations import ExpectationSuite, get_context

        context = get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        asset = context.data_sources.add_pandas("table").add_dataframe_asset("table")
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": rows.to_pandas()})
        suite = ExpectationSuite(name="suite", expectations=cases)
        found = batch.validate(suite, result_format={"result_format": "COMPLETE"}).results
    by_place = {result.expectation_config.meta["place"]: result for result in found}
    return [by_place[place] for place in range(len(cases))]


def positions(check: Check, parts: dict[str, pa.Table]) -> list[int]:
    """The bad rows as positions in the table."""
    starts = dict(zip(parts, np.cumsum([0, *(rows.num_rows for rows in parts.values())]).tolist(), strict=False))
    return [starts[part] + row for part in parts for row in check.rows.get(part, np.array([], np.int64)).tolist()]


def same(ours: Any, theirs: Any) -> bool:
    """Whether two JSON values are equal up to the digits that repeat."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-11, abs_tol=1e-300)
    return type(ours) is type(theirs) and bool(ours == theirs)


def differences(check: Check, result: Any, theirs: Any, parts: dict[str, pa.Table]) -> dict[str, Any]:
    """In what a check and its result differ from the library's result over pandas."""
    found, mine = theirs.result, result.result
    raised = theirs.exception_info.get("raised_exception", True)
    pairs = {"success": (result.success, theirs.success), "raised": (check.error is not None, raised)}
    if not raised:
        bad = sorted(found.get("unexpected_index_list") or ())
        pairs["unexpected"] = (check.unexpected, found.get("unexpected_count"))
        pairs["rows"] = (positions(check, parts), [] if theirs.success else bad)
        shown = ["observed_value", "element_count", "unexpected_percent", "missing_percent", "partial_missing_list"]
        shown += ["partial_unexpected_counts"] if found.get("unexpected_count", 0) <= 20 else []
        pairs |= {name: (mine.get(name), found.get(name)) for name in shown}
        lists = mine.get("partial_unexpected_list"), found.get("partial_unexpected_list")
        if "element_count" not in found:  # distinct values come in no order
            lists = sorted(lists[0] or (), key=repr), sorted(lists[1] or (), key=repr)
        pairs["values"] = lists
        pairs["first rows"] = (mine.get("partial_unexpected_index_list"), found.get("partial_unexpected_index_list"))
    plain = {name: tuple(map(expectations.plain, both)) for name, both in pairs.items()}
    return {name: both for name, both in plain.items() if not same(*both)}


def made(cases: list[Case]) -> list[Any]:
    """The expectations; each knows its place."""
    with gx.quiet():
        from great_expectations import expectations as gxe

        made = [getattr(gxe, kind)(**arguments) for kind, arguments in cases]
        for place, expectation in enumerate(made):
            expectation.meta = {"place": place}
        return made
