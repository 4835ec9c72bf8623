"""Runs a suite of Great Expectations over a table through a Checkpoint; only this file knows the library's objects.

Expectations come from a project's ``validation/`` modules as a list named ``EXPECTATIONS``, each with a ``severity``
and a sentence under ``meta["why"]``.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from weakfish.checks.check import NOT_HELD, Check, Rows, Severity, Status
from weakfish.errors import UserError
from weakfish.files import whole_folder
from weakfish.tables import read_partition

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


def run(name: str, expectations: Sequence[Any], files: Mapping[str, Path], docs: Path) -> list[Check]:
    """Check a table, given by its partitions, and write the library's own Data Docs into the folder ``docs``.

    Raises
    ------
    UserError
        When the suite is empty, or an entry is not an expectation.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third parties' own deprecations, all within this call
        logging.getLogger("great_expectations").setLevel(logging.ERROR)
        import great_expectations as gx
        from great_expectations.expectations.expectation import (
            ColumnMapExpectation,
            ColumnPairMapExpectation,
            Expectation,
            MulticolumnMapExpectation,
        )

        strangers = [item for item in expectations if not isinstance(item, Expectation)]
        if strangers or not expectations:
            what = f"holds {strangers[0]!r}, which is not an expectation" if strangers else "is empty"
            raise UserError(f"EXPECTATIONS of the suite {name!r} {what}; see docs/validation.md.")
        parts = {part: read_partition(file) for part, file in files.items()}
        frame = pa.concat_tables(parts.values()).to_pandas()
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        suite = gx.ExpectationSuite(name=name, expectations=list(expectations))
        result = _checkpoint(gx, context, suite).run(batch_parameters={"dataframe": frame})
        with whole_folder(docs) as site:
            _write_docs(context, site)
    (validation,) = result.run_results.values()
    maps = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
    by_rows = {_identity(item.configuration): isinstance(item, maps) for item in suite.expectations}
    sizes = {part: rows.num_rows for part, rows in parts.items()}
    checks = [_check(item, by_rows[_identity(item.expectation_config)], sizes) for item in validation.results]
    return _numbered(sorted(checks, key=lambda check: (check.check, str(check.arguments))))


def _checkpoint(gx: Any, context: Any, suite: Any) -> Any:
    asset = context.data_sources.add_pandas(suite.name).add_dataframe_asset(suite.name)
    definition = gx.ValidationDefinition(
        name=suite.name, data=asset.add_batch_definition_whole_dataframe("all"), suite=context.suites.add(suite)
    )
    validation = context.validation_definitions.add(definition)
    return context.checkpoints.add(
        gx.Checkpoint(name=suite.name, validation_definitions=[validation], result_format={"result_format": "COMPLETE"})
    )


def _write_docs(context: Any, site: Path) -> None:
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site)}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    context.add_data_docs_site(
        "local", {"class_name": "SiteBuilder", "site_index_builder": index, "store_backend": store}
    )
    context.build_data_docs(site_names=["local"])


def _identity(configuration: Any) -> str:
    arguments = {name: value for name, value in configuration.kwargs.items() if name != "batch_id"}
    return f"{configuration.type} {sorted((name, repr(value)) for name, value in arguments.items())}"


def _check(item: Any, by_rows: bool, sizes: Mapping[str, int]) -> Check:
    configuration, found = item.expectation_config, item.result
    severity: Severity = getattr(configuration.severity, "value", configuration.severity)
    arguments = {name: plain(value) for name, value in configuration.kwargs.items() if name != "batch_id"}
    error = _error(item.exception_info)
    rows = _by_partition(sorted({int(row) for row in found.get("unexpected_index_list") or ()}), sizes)
    status = Status.PASSED
    if error:
        status = Status.FAILED  # a check that could not be run proves nothing
    elif not item.success:
        status = Status.QUARANTINED if by_rows and severity == "critical" else NOT_HELD[severity]
    unexpected = found.get("unexpected_count")
    share = unexpected / found["element_count"] if unexpected is not None and found.get("element_count") else None
    return Check(
        check=_name(configuration.type, arguments),
        expectation=configuration.type,
        arguments=arguments,
        severity=severity,
        why=str((configuration.meta or {}).get("why", "")),
        status=status,
        observed=plain(found.get("observed_value")),
        unexpected=unexpected,
        unexpected_share=share,
        error=error,
        rows=rows if status is not Status.PASSED else {},
    )


def _by_partition(rows: Sequence[int], sizes: Mapping[str, int]) -> dict[str, Rows]:
    """Positions in the table as positions in its partitions."""
    starts = np.cumsum([0, *sizes.values()])
    places = np.array(rows, np.int64)
    owner = np.searchsorted(starts, places, side="right") - 1
    found = {part: places[owner == number] - starts[number] for number, part in enumerate(sizes)}
    return {part: of for part, of in found.items() if len(of)}


def _name(expectation: str, arguments: dict[str, Any]) -> str:
    columns = (
        arguments.get("column")
        or arguments.get("column_list")
        or [arguments.get("column_A"), arguments.get("column_B")]
    )
    named = [columns] if isinstance(columns, str) else [str(column) for column in columns if column]
    return f"{expectation.removeprefix('expect_')}({', '.join(named)})"


def _numbered(checks: list[Check]) -> list[Check]:
    """Tell checks of one name apart by a number."""
    total = Counter(check.check for check in checks)
    seen: Counter[str] = Counter()
    numbered = []
    for check in checks:
        seen[check.check] += 1
        suffix = f" #{seen[check.check]}" if total[check.check] > 1 else ""
        numbered.append(replace(check, check=check.check + suffix))
    return numbered


def _error(information: dict[str, Any]) -> str | None:
    entries = [information] if "raised_exception" in information else list(information.values())
    messages = {entry["exception_message"] for entry in entries if entry["raised_exception"]}
    return "; ".join(sorted(str(message).splitlines()[0] for message in messages)) or None


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: no NumPy, no NaN, times in ISO form, sets in order."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
