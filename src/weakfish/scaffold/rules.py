"""An example labeling function as data: what it looks for, for which class, and on which rows of a sample it fires.

Rules are chosen in `examples`, stand in the proposal as JSON, and become code in ``templates/functions.py.j2``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from weakfish import compute
from weakfish.labeling.words import whole
from weakfish.params import Section

Form = Literal[
    "keywords",
    "at_least",
    "at_most",
    "equals",
    "holds",
    "holds_not",
    "from_hour",
    "until_hour",
    "weekend",
    "longer",
    "shorter",
    "missing",
    "present",
    "sorts_last",
]
"""What a rule asks of its column; the first three are short forms of ``weakfish.labeling``, the others conditions."""

SATURDAY = 5
"""The first day of the weekend, where Monday is 0."""


class Rule(Section):
    """One example function: votes for the class at ``label`` where the column is as ``form`` and its argument say.

    ``words`` go with keywords, ``value`` with the forms that compare; ``share`` is that of the sample's rows on which
    it fires. ``named`` says that the class's own name was found in the data, which is why the rule is for that class.
    """

    name: str
    label: int
    column: str
    form: Form
    words: tuple[str, ...] = ()
    value: bool | int | float | str | None = None
    share: float = 0.0
    named: bool = False


def condition(rule: Rule, events: ir.Table) -> ir.BooleanValue:
    """Where the rule fires, as the code made of it says it."""
    column = events[rule.column]
    if rule.form in ("keywords", "holds", "holds_not", "missing", "present"):
        return _plain(rule, column)
    if rule.form in ("from_hour", "until_hour", "weekend"):
        return _of_time(rule, cast(ir.TimestampValue, column))
    if rule.form in ("longer", "shorter"):
        length = cast(ir.StringValue, column).length()
        return length >= rule.value if rule.form == "longer" else length <= rule.value
    if rule.form == "equals":
        return cast(ir.BooleanValue, column == rule.value)
    within = cast(ir.BooleanValue, column <= rule.value if rule.form == "at_most" else column >= rule.value)
    return within & ~column.isnan() if isinstance(column, ir.FloatingValue) else within


def fired(sample: pa.Table, rules: Sequence[Rule]) -> list[float]:
    """The share of the sample's rows on which each rule fires, as the engine computes it."""
    if not rules or not sample.num_rows:
        return [0.0] * len(rules)
    count = compute.connect().prepare(sample.schema, lambda events: events.aggregate(**_counts(rules, events)))
    found = count(sample).to_pylist()[0]
    return [int(found[f"fired_{place}"] or 0) / sample.num_rows for place in range(len(rules))]


def _counts(rules: Sequence[Rule], events: ir.Table) -> dict[str, ir.Value]:
    found = (condition(rule, events).fill_null(False) for rule in rules)
    return {f"fired_{place}": ibis.ifelse(fires, 1, 0).sum() for place, fires in enumerate(found)}


def _plain(rule: Rule, column: ir.Value) -> ir.BooleanValue:
    if rule.form == "keywords":
        searches = [f"(?:{whole(word)})" for word in rule.words]
        return cast(ir.StringValue, column).re_search("(?i)" + "|".join(searches))
    if rule.form == "missing":
        return column.isnull()
    if rule.form == "present":
        return column.notnull()
    flag = cast(ir.BooleanValue, column)
    return flag if rule.form == "holds" else ~flag


def _of_time(rule: Rule, column: ir.TimestampValue) -> ir.BooleanValue:
    if rule.form == "weekend":
        return cast(ir.BooleanValue, column.day_of_week.index() >= SATURDAY)
    hour = column.hour()
    return cast(ir.BooleanValue, hour >= rule.value if rule.form == "from_hour" else hour <= rule.value)
