"""What is relied on of Great Expectations, and what becomes of suites and tables that are not as they should be."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from suites import PARTS, cache, made, table, written

from weakfish.checks import expectations, gx
from weakfish.errors import TableError, UserError

METRIC = "column_values.between"


@pytest.fixture(scope="module")
def engine() -> Any:
    with gx.quiet():
        return gx.engine_of(pa.table({"whole": [0, 1]}))


def between(**arguments: Any) -> Any:
    return made([("ExpectColumnValuesToBeBetween", {"column": "whole", "min_value": 1, **arguments})])[0]


def test_the_library_asks_for_the_metrics_that_are_computed_here(engine: Any) -> None:
    with gx.quiet():
        needed = gx.dependencies(between(strict_min=True), engine)
    parts = ("unexpected_count", "unexpected_values", "unexpected_index_list", "unexpected_index_query")
    assert set(needed) == {
        "table.row_count",
        "column_values.nonnull.unexpected_count",
        *(f"{METRIC}.{part}" for part in parts),
    }
    count = needed[f"{METRIC}.unexpected_count"]
    assert count.metric_domain_kwargs["column"] == "whole"
    assert count.metric_value_kwargs["min_value"] == 1
    assert count.metric_value_kwargs["strict_min"] is True


@pytest.mark.parametrize(("mostly", "holds"), [(0.75, True), (0.76, False)])
def test_the_library_judges_from_metrics_that_it_is_given(mostly: float, holds: bool, engine: Any) -> None:
    expectation = between(mostly=mostly)
    values = {
        "table.row_count": 10,
        "column_values.nonnull.unexpected_count": 2,
        f"{METRIC}.unexpected_count": 2,
        f"{METRIC}.unexpected_values": [-1, 0],
        f"{METRIC}.unexpected_index_list": [3, 7],
        f"{METRIC}.unexpected_index_query": None,
    }
    with gx.quiet():
        needed = gx.dependencies(expectation, engine)
        result = gx.judge(expectation, engine, {metric.id: values[name] for name, metric in needed.items()})
    assert result.success is holds
    assert result.result["unexpected_percent"] == 25.0
    assert result.result["partial_unexpected_index_list"] == [3, 7]


def test_the_library_has_no_door_for_duckdb_of_its_own() -> None:
    """When it has one, `gx.judge` may go: the library can then compute its metrics on DuckDB itself."""
    with gx.quiet():
        from great_expectations.execution_engine.sqlalchemy_dialect import GXSqlDialect
    assert "duckdb" not in {dialect.value.lower() for dialect in GXSqlDialect}


def test_a_suite_that_is_none_is_a_mistake_of_its_author(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'no', which is not an expectation"):
        expectations.run("suite", ["no"], written(tmp_path / "table", PARTS), cache(tmp_path / "cache"))


def test_an_expectation_of_a_projects_own_is_computed_by_its_own_code(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with gx.quiet():
        from great_expectations.execution_engine import PandasExecutionEngine
        from great_expectations.expectations.expectation import ColumnMapExpectation
        from great_expectations.expectations.metrics import ColumnMapMetricProvider, column_condition_partial

        class ColumnValuesEven(ColumnMapMetricProvider):
            condition_metric_name = "column_values.even"

            @column_condition_partial(engine=PandasExecutionEngine)
            def _pandas(cls, column: Any, **_: Any) -> Any:  # noqa: N805
                return column % 2 == 0

        class ExpectColumnValuesToBeEven(ColumnMapExpectation):
            map_metric = "column_values.even"

        class ExpectTrouble(ColumnMapExpectation):
            map_metric = "column_values.even"

            def get_validation_dependencies(self, *_: Any, **__: Any) -> Any:
                raise RuntimeError("no metrics today")

        even, trouble = ExpectColumnValuesToBeEven(column="whole"), ExpectTrouble(column="whole")
    files = written(tmp_path / "table", PARTS)
    with caplog.at_level(logging.DEBUG, logger="weakfish"):
        outcome = expectations.run("suite", [trouble, even], files, cache(tmp_path / "cache"))
    odd = {
        part: [place for place, value in enumerate(rows["whole"].to_pylist()) if value % 2]
        for part, rows in PARTS.items()
    }
    assert {part: rows.tolist() for part, rows in outcome.checks[0].rows.items()} == {p: r for p, r in odd.items() if r}
    assert outcome.checks[1].status == "failed"
    assert outcome.checks[1].error == "RuntimeError: no metrics today"
    assert len(outcome.by_pandas) == 2
    assert "ExpectColumnValuesToBeEven is left to pandas: the metric column_values.even" in caplog.text


def test_a_subclass_with_other_defaults_runs_on_the_engine_and_one_with_code_of_its_own_over_pandas(
    tmp_path: Path,
) -> None:
    with gx.quiet():
        from great_expectations import expectations as gxe

        class ExpectPassingGrade(gxe.ExpectColumnValuesToBeBetween):
            column: str = "whole"
            min_value: float = 3

        class ExpectTwoRows(gxe.ExpectTableRowCountToEqual):
            value: int = 2

            def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:
                rows = len(execution_engine.get_domain_records({}))
                return {"success": rows == self.value, "result": {"observed_value": rows}}

        suite = [ExpectPassingGrade(), ExpectTwoRows()]
    outcome = expectations.run("suite", suite, written(tmp_path / "table", PARTS), cache(tmp_path / "cache"))
    grade, rows = outcome.checks
    assert grade.unexpected == sum(value < 3 for part in PARTS.values() for value in part["whole"].to_pylist())
    assert (rows.status, rows.observed) == ("failed", 150)
    assert outcome.by_pandas == [rows.check]


def test_a_check_on_a_column_that_is_not_there_failed_and_says_so(tmp_path: Path) -> None:
    cases = made([("ExpectColumnValuesToNotBeNull", {"column": "nowhere", "severity": "info"})])
    outcome = expectations.run("suite", cases, written(tmp_path / "table", PARTS), cache(tmp_path / "cache"))
    assert outcome.checks[0].status == "failed"
    assert 'The column "nowhere" in BatchData does not exist' in str(outcome.checks[0].error)
    assert outcome.results[0].success is False


def test_a_critical_check_of_a_type_that_no_row_fails_shuts_the_gate(tmp_path: Path) -> None:
    cases = made([("ExpectColumnValuesToBeOfType", {"column": "whole", "type_": "float64", "severity": "critical"})])
    outcome = expectations.run("suite", cases, written(tmp_path / "table", PARTS), cache(tmp_path / "cache"))
    assert outcome.checks[0].status == "failed"


def test_a_partition_that_lacks_a_column_has_nulls_in_it(tmp_path: Path) -> None:
    parts = {"a": table(4, 1), "b": table(3, 2).drop_columns(["code"])}
    cases = made([("ExpectColumnValuesToNotBeNull", {"column": "code"}), ("ExpectColumnToExist", {"column": "code"})])
    outcome = expectations.run("suite", cases, written(tmp_path / "table", parts), cache(tmp_path / "cache"))
    exists, present = outcome.checks
    assert exists.status == "passed"
    assert present.by_partition == {"a": 0.0, "b": 1.0}


def test_partitions_of_types_that_do_not_fit_are_named(tmp_path: Path) -> None:
    parts = {"a": pa.table({"whole": [1]}), "b": pa.table({"whole": ["one"]})}
    with pytest.raises(TableError, match=r"b\.parquet has other types than the partitions before it"):
        expectations.run("suite", [between()], written(tmp_path / "table", parts), cache(tmp_path / "cache"))


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    files = written(tmp_path / "table", PARTS)
    files["undated"].write_bytes(files["undated"].read_bytes()[:-20])
    with pytest.raises(TableError, match=r"undated\.parquet is not readable Parquet"):
        expectations.run("suite", [between()], files, cache(tmp_path / "cache"))


def test_pages_that_are_damaged_are_named(tmp_path: Path) -> None:
    files = written(tmp_path / "table", PARTS)
    whole = files["undated"].read_bytes()
    place = pq.read_metadata(files["undated"]).row_group(0).column(3).data_page_offset
    files["undated"].write_bytes(whole[: place + 30] + bytes(8) + whole[place + 38 :])
    with pytest.raises(TableError, match=r"undated\.parquet is not readable Parquet"):
        expectations.run("suite", [between()], files, cache(tmp_path / "cache"))


def test_observed_numbers_have_the_digits_that_repeat(tmp_path: Path) -> None:
    rows = pa.table({"share": [0.1] * 3})
    cases = made([("ExpectColumnSumToBeBetween", {"column": "share", "min_value": 0})])
    outcome = expectations.run("suite", cases, written(tmp_path / "table", {"a": rows}), cache(tmp_path / "cache"))
    assert outcome.checks[0].observed == 0.3


def test_the_library_is_imported_without_what_it_hardly_uses_and_still_has_it() -> None:
    program = """
import sys
from weakfish.checks.gx import import_gx
import_gx()
from great_expectations import expectations
from great_expectations.expectations.core import expect_column_kl_divergence_to_be_less_than as module
assert "great_expectations" in sys.modules
assert "altair" not in sys.modules and "scipy.stats" not in sys.modules
assert abs(module.stats.entropy([0.5, 0.5]) - 0.6931) < 1e-4
assert module.alt.Chart.__name__ == "Chart"
import altair, scipy.stats
assert scipy.stats.norm.cdf(0) == 0.5 and altair.Chart is module.alt.Chart
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_metrics_over_pandas_that_need_what_was_deferred_are_computed(tmp_path: Path) -> None:
    bins = {"values": ["a", "b", "c"], "weights": [0.4, 0.3, 0.3]}
    arguments = {"column": "code", "partition_object": bins, "threshold": 1}
    cases = made([("ExpectColumnKLDivergenceToBeLessThan", arguments)])
    outcome = expectations.run("suite", cases, written(tmp_path / "table", PARTS), cache(tmp_path / "cache"))
    assert (outcome.checks[0].status, outcome.checks[0].error) == ("passed", None)
    assert outcome.by_pandas == [outcome.checks[0].check]
