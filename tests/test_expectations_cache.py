"""What is known of partitions that did not change: not read again, never wrong, never more than needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from suites import PARTS, Case, made, table, written

from weakfish.checks import expectations
from weakfish.checks.expectations import unique
from weakfish.checks.expectations.source import Batch, Source

CASES: list[Case] = [
    ("ExpectColumnValuesToNotBeNull", {"column": "gaps"}),
    ("ExpectColumnValuesToBeBetween", {"column": "whole", "min_value": 0, "max_value": 3}),
    ("ExpectColumnValuesToMatchRegex", {"column": "text", "regex": "^a"}),
    ("ExpectColumnPairValuesAToBeGreaterThanB", {"column_A": "whole", "column_B": "count"}),
    ("ExpectColumnValuesToBeUnique", {"column": "key"}),
    ("ExpectCompoundColumnsToBeUnique", {"column_list": ["key", "code"]}),
    ("ExpectColumnMeanToBeBetween", {"column": "share", "min_value": 0}),
    ("ExpectColumnMaxToBeBetween", {"column": "at", "max_value": "2002-01-01T00:00:00+00:00"}),
    ("ExpectColumnMedianToBeBetween", {"column": "whole", "min_value": 0}),
    ("ExpectColumnDistinctValuesToEqualSet", {"column": "code", "value_set": ["a", "b", "c"]}),
    ("ExpectColumnUniqueValueCountToBeBetween", {"column": "text", "min_value": 1}),
    ("ExpectTableRowCountToEqual", {"value": 150}),
]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The partitions whose rows are read, as they are read."""
    parts: list[str] = []
    batches = Source.batches

    def watched(self: Source, part: str, group: int, columns: Any) -> Iterator[Batch]:
        parts.append(part)
        return batches(self, part, group, columns)

    monkeypatch.setattr(Source, "batches", watched)
    return parts


def found(files: dict[str, Path], cache: Path, cases: list[Case] = CASES) -> list[Any]:
    """All that comes of the suite, as values that compare."""
    outcome = expectations.run("suite", made(cases), files, cache)
    assert outcome.by_pandas == ()
    checks = [
        {**asdict(check), "rows": {part: rows.tolist() for part, rows in check.rows.items()}}
        for check in outcome.checks
    ]
    return [checks, outcome.result.to_json_dict()]


def keys(first: int, rows: int) -> pa.Table:
    """Rows with keys that stand nowhere else."""
    numbers = pa.array([f"own-{number}" for number in range(first, first + rows)])
    return table(rows, first).set_column(0, "key", numbers)


def test_partitions_that_did_not_change_are_not_read_again(tmp_path: Path, read: list[str]) -> None:
    files = written(tmp_path / "table", PARTS)
    fresh = found(files, tmp_path / "cache")
    assert set(read) == set(PARTS)
    read.clear()
    assert found(files, tmp_path / "cache") == fresh
    assert read == []


def test_only_a_partition_that_changed_is_read(tmp_path: Path, read: list[str]) -> None:
    parts = {"a": keys(0, 40), "b": keys(100, 40), "c": keys(200, 40)}
    found(written(tmp_path / "table", parts), tmp_path / "cache")
    read.clear()
    parts |= {"b": keys(300, 50), "d": keys(400, 5)}
    again = found(written(tmp_path / "table", parts), tmp_path / "cache")
    assert set(read) == {"b", "d"}
    assert again == found(written(tmp_path / "table", parts), tmp_path / "other cache")


def test_a_key_that_came_again_in_a_new_partition_is_bad_in_both(tmp_path: Path) -> None:
    parts = {"a": keys(0, 40), "b": keys(100, 40)}
    case = [("ExpectColumnValuesToBeUnique", {"column": "key", "severity": "critical"})]
    expectations.run("suite", made(case), written(tmp_path / "table", parts), tmp_path / "cache")
    parts["c"] = keys(138, 4)
    outcome = expectations.run("suite", made(case), written(tmp_path / "table", parts), tmp_path / "cache")
    (check,) = outcome.checks
    assert {part: rows.tolist() for part, rows in check.rows.items()} == {"b": [38, 39], "c": [0, 1]}
    assert check.by_partition == {"a": 0.0, "b": 2 / 40, "c": 2 / 4}
    assert check.unexpected_share == 4 / 84


@pytest.mark.parametrize("damage", ["cut off", "other bytes", "empty"])
def test_a_damaged_cache_is_computed_again(damage: str, tmp_path: Path) -> None:
    files = written(tmp_path / "table", PARTS)
    fresh = found(files, tmp_path / "cache")
    kept = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert len(kept) > len(PARTS)
    for file in kept:
        whole = file.read_bytes()
        cut = {"cut off": whole[:-9], "empty": b"", "other bytes": whole[:-9] + b"123456789"}
        file.write_bytes(cut[damage])
    assert found(files, tmp_path / "cache") == fresh


def test_the_cache_holds_only_what_the_last_run_asked_for(tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def size() -> int:
        return sum(file.is_file() for file in cache.rglob("*"))

    found(written(tmp_path / "table", PARTS), cache)
    whole = size()
    found(written(tmp_path / "table", PARTS | {"undated": table(10, 9)}), cache)
    assert size() == whole
    found(written(tmp_path / "table", PARTS), cache, CASES[:1])
    assert size() == len(PARTS)


def test_other_arguments_are_another_fact(tmp_path: Path) -> None:
    files = written(tmp_path / "table", PARTS)
    counts = []
    for least in (0, 1, 2):
        case = ("ExpectColumnValuesToBeBetween", {"column": "whole", "min_value": least})
        counts.append(expectations.run("suite", made([case]), files, tmp_path / "cache").checks[0].unexpected)
    whole = np.concatenate([part["whole"].to_numpy() for part in PARTS.values()])
    assert counts == [int((whole < least).sum()) for least in (0, 1, 2)]


def test_what_is_merged_in_small_slices_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = written(tmp_path / "table", PARTS)
    fresh = found(files, tmp_path / "cache")
    monkeypatch.setattr(unique, "MERGED", 7)
    assert found(files, tmp_path / "other cache") == fresh
