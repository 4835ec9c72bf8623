"""Great Expectations itself: imported late and kept quiet, asked what metrics it needs and what it says of them.

The one file that reaches beyond the library's documented interface. `judge` gives an expectation metrics that the
engine computed; the library has no public door for that (it offers SQL and Spark, and its SQL knows no DuckDB), so
this calls ``get_validation_dependencies`` and ``metrics_validate``, which its own validators call. A test holds that
they behave as they are used here.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import pyarrow as pa

from weakfish.checks.expectations.facts import EXAMPLES
from weakfish.errors import UserError

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

_LONG = ("unexpected_list", "unexpected_index_list", "unexpected_index_query")
"""Parts of a result that grow with the bad rows; their positions stand in the row mask."""


@contextmanager
def quiet() -> Iterator[None]:
    """Third parties' own deprecations and logging stay silent within this block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("great_expectations").setLevel(logging.ERROR)
        yield


def require_suite(name: str, expectations: Sequence[Any]) -> None:
    """Raise `UserError` when a suite is empty or holds what is no expectation."""
    from great_expectations.expectations.expectation import Expectation

    strangers = [item for item in expectations if not isinstance(item, Expectation)]
    if strangers or not expectations:
        what = f"holds {strangers[0]!r}, which is not an expectation" if strangers else "is empty"
        raise UserError(f"EXPECTATIONS of the suite {name!r} {what}; see docs/validation.md.")


def is_by_rows(expectation: Any) -> bool:
    """Whether each row is good or bad in the eyes of this expectation."""
    from great_expectations.expectations.expectation import (
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
    )

    return isinstance(expectation, ColumnMapExpectation | ColumnPairMapExpectation | MulticolumnMapExpectation)


def is_its_own(expectation: Any) -> bool:
    """Whether the library's own code says what an expectation needs and what follows; a project's may read the rows."""
    kind = type(expectation)
    code = (kind.get_validation_dependencies, kind.metrics_validate, kind._validate)
    return all(function.__module__.startswith("great_expectations.") for function in code)


def columns_read(expectation: Any, columns: Sequence[str]) -> list[str]:
    """The columns that an expectation may look at: for one of the library's own, those that its arguments name."""
    if not type(expectation).__module__.startswith("great_expectations.expectations.core."):
        return list(columns)
    asked = json.dumps(expectation.configuration.to_json_dict()["kwargs"])
    named = [column for column in columns if json.dumps(column)[1:-1] in asked]
    return named or list(columns[:1])


def dependencies(expectation: Any, engine: Any) -> dict[str, Any]:
    """The metrics that an expectation needs of a table like that of ``engine``, by name; each has its id, its domain
    and its arguments."""
    found = expectation.get_validation_dependencies(execution_engine=engine, runtime_configuration=_runtime())
    return dict(found.metric_configurations)


def judge(expectation: Any, engine: Any, metrics: Mapping[Any, Any]) -> Any:
    """The library's result, given the values of the metrics that it needs, by their id."""
    return expectation.metrics_validate(dict(metrics), runtime_configuration=_runtime(), execution_engine=engine)


def engine_of(rows: pa.Table) -> Any:
    """An engine of the library on some rows that stand for a table: it says the types of its columns."""
    from great_expectations.execution_engine import PandasExecutionEngine

    return PandasExecutionEngine(batch_data_dict={"table": rows.to_pandas()})


def _runtime() -> dict[str, Any]:
    return {"result_format": {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}}


def column_types(engine: Any) -> list[dict[str, Any]]:
    """The columns of an engine's rows with their pandas types, as the library's metric of this name has them."""
    types = engine.get_domain_records({}).dtypes.items()
    return [{"name": name, "type": kind} for name, kind in types]


class Pandas:
    """The library over pandas, for what the engine does not know."""

    @cached_property
    def _rows(self) -> Any:
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        asset = context.data_sources.add_pandas("table").add_dataframe_asset("table")
        return asset.add_batch_definition_whole_dataframe("all")

    def judge(self, expectation: Any, table: pa.Table) -> tuple[Any, list[int]]:
        """The library's result and the positions of the bad rows."""
        batch = self._rows.get_batch(batch_parameters={"dataframe": table.to_pandas()})
        try:
            result = batch.validate(expectation, result_format={"result_format": "COMPLETE"})
        except Exception as error:  # the library catches what metrics raise, not what expectations do
            return _could_not_run(expectation, error), []
        bad = sorted({int(row) for row in result.result.get("unexpected_index_list") or ()})
        result.result = {name: value for name, value in result.result.items() if name not in _LONG}
        result.expectation_config.kwargs.pop("batch_id", None)
        return result, bad


def _could_not_run(expectation: Any, error: Exception) -> Any:
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult

    information = {
        "raised_exception": True,
        "exception_message": f"{type(error).__name__}: {error}",
        "exception_traceback": None,
    }
    return ExpectationValidationResult(
        success=False, expectation_config=expectation.configuration, result={}, exception_info=information
    )


def suite_result(name: str, results: Sequence[Any]) -> Any:
    """The results as the library's own ``ExpectationSuiteValidationResult``."""
    import great_expectations as gx
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult

    good = sum(bool(result.success) for result in results)
    statistics = {
        "evaluated_expectations": len(results),
        "successful_expectations": good,
        "unsuccessful_expectations": len(results) - good,
        "success_percent": good / len(results) * 100 if results else None,
    }
    return ExpectationSuiteValidationResult(
        success=good == len(results),
        results=list(results),
        suite_name=name,
        statistics=statistics,
        meta={"great_expectations_version": gx.__version__, "expectation_suite_name": name},
    )
