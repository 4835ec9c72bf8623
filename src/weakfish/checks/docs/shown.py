"""What of a validation result Data Docs show: a bounded copy, in which no text of the data can act as markup.

Great Expectations' templates escape some values and others not. So the characters that mean something in HTML leave
here as stand-ins, which no template knows, and `escaped` puts their escapes into the finished page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

VALUES = 20
"""How many values a list shows."""

CHARACTERS = 200
"""How much of a text is shown."""

_SPECIAL = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "$": "&#36;", "{": "&#123;"}
_STAND_INS = {character: chr(0x12480 + number) for number, character in enumerate(_SPECIAL)}
"""Signs of Early Dynastic cuneiform: in no data to speak of, and printed as they are by `repr`, which GX applies."""

_IN = str.maketrans(_STAND_INS)
_OUT = str.maketrans({_STAND_INS[character]: escape for character, escape in _SPECIAL.items()})

_WHOLE_TABLE = ("unexpected_list", "unexpected_index_list", "partial_unexpected_index_list", "unexpected_index_query")
"""Entries of a result that grow with the table; the row mask has what they say."""

COLUMNS = {"Severity": "severity", "Why it matters": "why"}
"""Columns that the pages have beyond those of Great Expectations: heading, name."""


def bounded(result: Any, table: str) -> Any:
    """A copy of an ``ExpectationSuiteValidationResult`` for its page; what was copied stays as it is."""
    from great_expectations import __version__
    from great_expectations.core import ExpectationSuiteValidationResult

    return ExpectationSuiteValidationResult(
        success=result.success,
        results=[_one(item) for item in result.results],
        suite_name=_plain(table),
        suite_parameters=_plain(dict(result.suite_parameters or {})),
        statistics=dict(result.statistics or {}),
        meta={"great_expectations_version": __version__, "batch_spec": {"data_asset_name": _plain(table)}},
    )


def escaped(page: str) -> str:
    """A finished page with the escapes of HTML in place of the stand-ins."""
    return page.translate(_OUT)


def _one(item: Any) -> Any:
    from great_expectations.core import ExpectationValidationResult

    found = {name: value for name, value in (item.result or {}).items() if name not in _WHOLE_TABLE}
    return ExpectationValidationResult(
        success=item.success,
        expectation_config=_configuration(item.expectation_config),
        result=_plain(found),
        exception_info=_plain(item.exception_info or {"raised_exception": False}),
    )


def _configuration(asked: Any) -> Any:
    """What was asked, with severity and reason as what Great Expectations knows as columns of one's own."""
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    class Shown(ExpectationConfiguration):
        def to_domain_obj(self) -> Any:
            """The expectation itself, of which renderers want the description; it knows no additional columns."""
            itself = asked.to_domain_obj()
            return itself.copy(update={"description": _plain(itself.description)})

    severity = getattr(asked.severity, "value", asked.severity)
    why = (asked.meta or {}).get("why", "")
    arguments = {name: value for name, value in asked.kwargs.items() if name != "batch_id"}
    return Shown(
        type=asked.type,
        kwargs={**_plain(arguments), "meta_properties_to_render": dict(COLUMNS)},
        meta={"attributes": {"severity": _plain(severity), "why": str(why).translate(_IN)}},
        severity=asked.severity,
    )


def _plain(value: Any) -> Any:
    """Numbers as they are, all else as text with stand-ins; lists and texts cut to what is shown."""
    if isinstance(value, Mapping):
        return {_plain(name): _plain(item) for name, item in value.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value[:VALUES]]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return (text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}…").translate(_IN)
