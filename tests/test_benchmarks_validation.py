"""The figures about validation can be measured: a smoke run of each, small; and what compares both sides sees more
than counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from projects import REPOSITORY, command
from test_benchmarks import corpus, kept_results

from benchmarks import validation_bench, validation_data, validation_figures, validation_sides
from benchmarks.amplify import KEY, TIME
from benchmarks.figures import PAGE
from benchmarks.process import Done
from benchmarks.validation_figures import FIGURES

SCALE = "0.0003"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What a smoke run of all figures prints, by name."""
    work, events = tmp_path_factory.mktemp("work"), corpus(tmp_path_factory.mktemp("corpus") / "events")
    before = kept_results()
    options = ("--scale", SCALE, "--events", str(events), "--work", str(work))
    result = command(REPOSITORY, sys.executable, "-m", "benchmarks.validation", *options)
    assert result.returncode == 0, result.stderr
    assert not list(work.iterdir()), "the folder to work in is left as it was"
    assert kept_results() == before, "small runs are not kept"
    return {line["name"]: line for line in map(json.loads, result.stdout.splitlines())}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_one_line_with_equal_results(lines: dict[str, dict[str, Any]], name: str) -> None:
    line = lines[name]
    assert line["equal"] is True
    assert {"ours", "theirs", "unit", "ratio", "rows", "peak_rss_mb", "imports_mb"} <= set(line)
    assert (line["scale"], line["partitions"]) == (float(SCALE), 13)


def test_fifteen_expectations_run_on_the_engine_and_not_all_hold(lines: dict[str, dict[str, Any]]) -> None:
    line = lines["validate"]
    assert (line["expectations"], line["by_pandas"]) == (15, 0)
    assert 0 < line["not_held"] < 15
    assert line["bad_rows"] > 0


def test_memory_is_told_whole_and_above_imports(lines: dict[str, dict[str, Any]]) -> None:
    line = lines["validate"]
    assert line["scaled"] is False
    assert line["rows_theirs"] == line["rows"]
    for side in ("ours", "theirs"):
        assert line["net_mb"][side] == pytest.approx(line["peak_rss_mb"][side] - line["imports_mb"][side], abs=0.2)
    assert line["memory_share"] == pytest.approx(line["net_mb"]["ours"] / line["net_mb"]["theirs"], abs=1e-3)


def test_what_is_scaled_is_said() -> None:
    ours = Done({"seconds": 10.0, "rows": 600, "imports_mb": 100.0}, 150.0)
    theirs = Done({"seconds": 8.0, "rows": 200, "imports_mb": 90.0}, 290.0)
    said = validation_figures.compared(ours, theirs, 3.0)
    assert (said["scaled"], said["rows_theirs"], said["their_seconds"]) == (True, 200, 8.0)
    assert said["net_mb"] == {"ours": 50.0, "theirs": 200.0}
    assert (said["their_net_mb_scaled"], said["memory_share"]) == (600.0, 0.0833)


def test_unknown_figures_are_refused_by_name() -> None:
    result = command(REPOSITORY, sys.executable, "-m", "benchmarks.validation", "valdiate")
    assert result.returncode == 2
    assert "valdiate" in result.stderr


def test_the_page_says_what_every_figure_of_validation_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in FIGURES)


def test_the_data_hold_what_the_suite_looks_for(tmp_path: Path) -> None:
    validation_data.prepare(str(corpus(tmp_path / "events")), str(tmp_path), 2_400)
    files = sorted((tmp_path / "staged").glob("*.parquet"))
    *months, undated = (pq.ParquetFile(file).read() for file in files)
    assert [month.num_rows for month in months] == [200] * 12
    assert undated[TIME].null_count == undated.num_rows == 12
    assert undated[KEY].null_count == 4
    assert pc.sum(pc.is_in(undated[KEY].drop_null(), value_set=months[0][KEY].combine_chunks())).as_py() == 4
    for name, value in validation_data.SPOILED.items():
        rows = sum(pc.sum(pc.fill_null(pc.equal(month[name], value), False)).as_py() for month in months)
        assert 0 < rows < 1_200, name
    (changed,) = (tmp_path / "changed").glob("*.parquet")
    before, after = files[validation_data.CHANGED], changed
    assert before.name == after.name
    assert before.read_bytes() != after.read_bytes()


def test_great_expectations_gets_no_more_months_than_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 24 * 2**18}.__getitem__)
    rows = validation_bench.ROWS / 12
    months = validation_bench.months_in_memory(rows)
    taken = months * rows * validation_bench.THEIR_BYTES
    assert taken <= validation_bench.MEMORY_SHARE * 24 * 2**30 < taken + rows * validation_bench.THEIR_BYTES
    assert validation_bench.months_in_memory(10**12) == 1


def test_positions_differ_when_other_rows_are_bad_or_in_another_partition() -> None:
    hashes = validation_sides.hashes
    one = hashes({"may": [3, 5], "june": []})
    assert one == hashes({"may": [5, 3]})
    assert one != hashes({"may": [3, 6]})
    assert one != hashes({"june": [3, 5]})
    assert one != hashes({"may": [3], "june": [5]})


def test_positions_in_the_frame_become_positions_in_its_partitions() -> None:
    found = validation_sides.by_partition([7, 0, 3, 4], {"may": 4, "june": 0, "july": 4})
    assert {name: list(rows) for name, rows in found.items()} == {"may": [0, 3], "june": [], "july": [0, 3]}
