"""Great Expectations: imported late and in half the time, asked which metrics it needs and what it makes of them.

The one file that reaches beyond that library's documented interface. It has no public way to be given metrics that
were computed elsewhere (it offers SQL and Spark, and its SQL has no DuckDB), so this calls what its own validators
call. `tests/test_expectations_library.py` notices when that changes; pyproject.toml bounds the version.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import sys
import threading
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from weakfish.errors import UserError

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

EXAMPLES = 20
"""The most bad rows whose values a result shows."""

_ENGINE, _LIBRARY = "great_expectations.execution_engine", "great_expectations.expectations.expectation"

_LONG = ("unexpected_list", "unexpected_index_list", "unexpected_index_query")
"""Parts of a result that grow with the bad rows; their positions stand in the row mask."""

_DEFERRED = ("altair", "scipy.stats")
"""What the library imports for one chart and three metrics, more than a second of CPU time in all."""

_importing = threading.Lock()


class _Deferred(types.ModuleType):
    """Stands for a module until one of its names is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def import_gx() -> None:
    """Import Great Expectations without what it hardly uses; what was imported before is left alone."""
    with _importing, quiet():
        if "great_expectations" in sys.modules:
            return
        importlib.import_module("scipy")  # a parent has to be there before what stands for its submodule
        later = [name for name in _DEFERRED if name not in sys.modules]
        sys.modules.update({name: _Deferred(name) for name in later})
        collects = gc.isenabled()
        gc.disable()  # thousands of classes come and stay: looking for garbage among them takes a sixth of the time
        try:
            importlib.import_module("great_expectations.expectations")
        finally:
            if collects:
                gc.enable()
            for name in later:
                del sys.modules[name]


@contextmanager
def quiet() -> Iterator[None]:
    """Third parties' own deprecations and logging stay silent within this block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("great_expectations").setLevel(logging.ERROR)
        yield


def require_suite(name: str, expectations: Sequence[Any]) -> None:
    """Raise `UserError` when a suite holds anything but expectations."""
    kind = _of_library(_LIBRARY, "Expectation")
    for item in expectations:
        if not isinstance(item, kind):
            what = f"holds {item!r}, which is not an expectation"
            raise UserError(f"EXPECTATIONS of the suite {name!r} {what}; see docs/validation.md.")


def is_by_rows(expectation: Any) -> bool:
    """Whether the expectation calls each row good or bad."""
    kinds = ("ColumnMapExpectation", "ColumnPairMapExpectation", "MulticolumnMapExpectation")
    return isinstance(expectation, tuple(_of_library(_LIBRARY, kind) for kind in kinds))


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


def asked_of(expectation: Any) -> set[str]:
    """The columns by which a critical expectation calls rows good or bad; none of any other expectation."""
    severity = getattr(expectation.severity, "value", expectation.severity)
    if severity != "critical" or not is_by_rows(expectation) or expectation.row_condition:
        return set()
    asked = expectation.configuration.to_json_dict()["kwargs"]
    pair = [asked.get(name) for name in ("column", "column_A", "column_B")]
    return {column for column in (*pair, *asked.get("column_list", ())) if column}


def engine_of(rows: pa.Table) -> Any:
    """An execution engine of the library over ``rows``."""
    return _of_library(_ENGINE, "PandasExecutionEngine")(batch_data_dict={"table": rows.to_pandas()})


def column_types(engine: Any) -> list[dict[str, Any]]:
    """The columns of an engine's rows with their pandas types, as the library's metric of this name has them."""
    return [{"name": name, "type": kind} for name, kind in engine.get_domain_records({}).dtypes.items()]


def dependencies(expectation: Any, engine: Any) -> dict[str, Any]:
    """The metrics that an expectation needs of a table like that of ``engine``, by name; each has its id, its domain
    and its arguments."""
    found = expectation.get_validation_dependencies(execution_engine=engine, runtime_configuration=_summary())
    return dict(found.metric_configurations)


def judge(expectation: Any, engine: Any, metrics: Mapping[Any, Any]) -> Any:
    """The library's result, given the values of the metrics that it needs, by their id."""
    return expectation.metrics_validate(dict(metrics), runtime_configuration=_summary(), execution_engine=engine)


def _summary() -> dict[str, Any]:
    return {"result_format": {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}}


def judge_by_pandas(expectation: Any, rows: pa.Table) -> tuple[Any, list[int]]:
    """The result of the library's own metrics over pandas, and the positions of the bad rows.

    The library's validator is what its data contexts use; a context itself would add seconds and no word to the result.
    """
    validator = _of_library("great_expectations.validator.validator", "Validator")
    silent = type("_Silent", (validator,), {"_determine_progress_bars": lambda _: False})
    try:
        runs = silent(execution_engine=engine_of(rows))
        asked = runs.process_expectations_for_validation([expectation.configuration])
        (result,) = runs.graph_validate(asked, runtime_configuration={"result_format": {"result_format": "COMPLETE"}})
    except Exception as error:  # the library catches what metrics raise, not what expectations do
        return _could_not_run(expectation, error), []
    bad = sorted({int(row) for row in result.result.get("unexpected_index_list") or ()})
    result.result = {name: value for name, value in result.result.items() if name not in _LONG}
    result.expectation_config.kwargs.pop("batch_id", None)
    return result, bad


def _could_not_run(expectation: Any, error: Exception) -> Any:
    result = _of_library("great_expectations.core.expectation_validation_result", "ExpectationValidationResult")
    information = {
        "raised_exception": True,
        "exception_message": f"{type(error).__name__}: {error}",
        "exception_traceback": None,
    }
    return result(success=False, expectation_config=expectation.configuration, result={}, exception_info=information)


def _of_library(module: str, name: str) -> Any:
    import_gx()
    return getattr(importlib.import_module(module), name)
