"""What is known of partitions that did not change: not read again, never wrong, never more than needed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from suites import PARTS, Case, cache, made, table, written

from weakfish.checks import expectations
from weakfish.checks.expectations import repeats

CASES: list[Case] = [
    ("ExpectColumnValuesToNotBeNull", {"column": "gaps"}),
    ("ExpectColumnValuesToBeBetween", {"column": "whole", "min_value": 0, "max_value": 3}),
    ("ExpectColumnValuesToMatchRegex", {"column": "text", "regex": "^a"}),
    ("ExpectColumnPairValuesAToBeGreaterThanB", {"column_A": "whole", "column_B": "count"}),
    ("ExpectColumnValuesToBeUnique", {"column": "key"}),
    ("ExpectCompoundColumnsToBeUnique", {"column_list": ["key", "code"]}),
    ("ExpectColumnMeanToBeBetween", {"column": "share", "min_value": 0}),
    ("ExpectColumnMaxToBeBetween", {"column": "at", "max_value": "2002-01-01T00:00:00+00:00"}),
    ("ExpectColumnStdevToBeBetween", {"column": "whole", "min_value": 0}),
    ("ExpectColumnDistinctValuesToEqualSet", {"column": "code", "value_set": ["a", "b", "c"]}),
    ("ExpectColumnUniqueValueCountToBeBetween", {"column": "text", "min_value": 1}),
    ("ExpectTableRowCountToEqual", {"value": 150}),
]


def pieces(folder: Path) -> dict[Path, int]:
    """What is remembered, each with its inode: what is computed again is written anew."""
    return {file: file.stat().st_ino for file in folder.rglob("*") if file.is_file()}


def found(files: dict[str, Path], folder: Path, cases: list[Case] = CASES) -> list[Any]:
    """All that comes of the suite, as values that compare."""
    outcome = expectations.run("suite", made(cases), files, cache(folder))
    assert outcome.by_pandas == []
    checks = [
        {**asdict(check), "rows": {part: rows.tolist() for part, rows in check.rows.items()}}
        for check in outcome.checks
    ]
    return [checks, [result.to_json_dict() for result in outcome.results]]


def keys(first: int, rows: int) -> pa.Table:
    """Rows with keys that stand nowhere else."""
    numbers = pa.array([f"own-{number}" for number in range(first, first + rows)])
    return table(rows, first).set_column(0, "key", numbers)


def test_partitions_that_did_not_change_are_not_read_again(tmp_path: Path) -> None:
    files = written(tmp_path / "table", PARTS)
    fresh = found(files, tmp_path / "cache")
    known = pieces(tmp_path / "cache")
    assert found(files, tmp_path / "cache") == fresh
    assert pieces(tmp_path / "cache") == known


def test_only_a_partition_that_changed_is_read(tmp_path: Path) -> None:
    parts = {"a": keys(0, 40), "b": keys(100, 40), "c": keys(200, 40)}
    found(written(tmp_path / "table", parts), tmp_path / "cache")
    known = pieces(tmp_path / "cache")
    parts |= {"b": keys(300, 50), "d": keys(400, 5)}
    again = found(written(tmp_path / "table", parts), tmp_path / "cache")
    now = pieces(tmp_path / "cache")
    assert len(known) % 3 == 0
    assert len(known.items() & now.items()) == len(known) // 3 * 2  # of a and c
    assert len(now.items() - known.items()) == len(known) // 3 * 2  # of b and d
    assert again == found(written(tmp_path / "table", parts), tmp_path / "other cache")


def test_a_key_that_came_again_in_a_new_partition_is_bad_in_both(tmp_path: Path) -> None:
    parts = {"a": keys(0, 40), "b": keys(100, 40)}
    case = [("ExpectColumnValuesToBeUnique", {"column": "key", "severity": "critical"})]
    expectations.run("suite", made(case), written(tmp_path / "table", parts), cache(tmp_path / "cache"))
    parts["c"] = keys(138, 4)
    outcome = expectations.run("suite", made(case), written(tmp_path / "table", parts), cache(tmp_path / "cache"))
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
    kept = tmp_path / "cache"
    found(written(tmp_path / "table", PARTS), kept)
    whole = len(pieces(kept))
    found(written(tmp_path / "table", PARTS | {"undated": table(10, 9)}), kept)
    assert len(pieces(kept)) == whole
    found(written(tmp_path / "table", PARTS), kept, CASES[:1])
    assert len(pieces(kept)) < whole / 4


def test_other_arguments_are_another_fact(tmp_path: Path) -> None:
    files = written(tmp_path / "table", PARTS)
    counts = []
    for least in (0, 1, 2):
        case = ("ExpectColumnValuesToBeBetween", {"column": "whole", "min_value": least})
        counts.append(expectations.run("suite", made([case]), files, cache(tmp_path / "cache")).checks[0].unexpected)
    whole = np.concatenate([part["whole"].to_numpy() for part in PARTS.values()])
    assert counts == [int((whole < least).sum()) for least in (0, 1, 2)]


def test_what_is_merged_in_small_slices_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = written(tmp_path / "table", PARTS)
    fresh = found(files, tmp_path / "cache")
    monkeypatch.setattr(repeats, "MERGED", 7)
    assert found(files, tmp_path / "other cache") == fresh


def test_results_do_not_depend_on_the_order_of_rows_and_on_threads(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    rows = pa.table({"share": draw.lognormal(0, 9, 200_000) * draw.choice([-1, 1], 200_000), "place": range(200_000)})
    orders = {"as made": rows, "shuffled": rows.take(pa.array(draw.permutation(len(rows))))}
    cases = [
        ("ExpectColumnSumToBeBetween", {"column": "share", "min_value": 0}),
        ("ExpectColumnMeanToBeBetween", {"column": "share", "min_value": 0}),
        ("ExpectColumnStdevToBeBetween", {"column": "share", "max_value": 0}),
        ("ExpectColumnValuesToBeBetween", {"column": "share", "min_value": 0}),
    ]
    values, bad = {}, {}
    for name, ordered in orders.items():
        file = tmp_path / f"{name}.parquet"
        pq.write_table(ordered, file, row_group_size=2048)
        outcome = expectations.run("suite", made(cases), {"a": file}, cache(tmp_path / name))
        values[name] = [result.result.get("observed_value") for result in outcome.results]
        bad[name] = next(check.rows["a"] for check in outcome.checks if "values_to_be" in check.check)
    assert values["as made"] == values["shuffled"]  # to the last bit, not to the digits of a verdict
    for name, ordered in orders.items():
        assert bad[name].tolist() == np.flatnonzero(ordered["share"].to_numpy() < 0).tolist()


def test_rows_that_only_share_a_hash_are_not_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = written(tmp_path / "table", PARTS)
    cases: list[Case] = [("ExpectColumnValuesToBeUnique", {"column": "key"})]
    fresh = found(files, tmp_path / "cache", cases)
    monkeypatch.setattr(repeats, "_hash", lambda rows, columns: rows[columns[0]].length().cast("uint64"))
    assert found(files, tmp_path / "other cache", cases) == fresh
