"""Example functions as code, and rows made for the tests of a generated project: one that each votes on, one not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from weakfish.scaffold.literals import python
from weakfish.scaffold.proposal import Proposal
from weakfish.scaffold.rules import SATURDAY, Rule

SOME = {
    "integer": "1",
    "number": "1.5",
    "boolean": "True",
    "time": "datetime(2024, 1, 8, 12, tzinfo=UTC)",
    "date": "date(2024, 1, 8)",
    "string": '"some text"',
}
"""Code of a value of each kind."""

ABSTAIN = -1


@dataclass(frozen=True)
class MadeRow:
    """A call of a test: a task's function on a value, given as code, of its column, and the vote."""

    task: str
    function: str
    column: str
    value: str
    vote: int


def made_rows(proposal: Proposal) -> list[MadeRow]:
    """Two rows for each function."""
    return [row for task, rules in proposal.rules.items() for rule in rules for row in _rows(proposal, task, rule)]


def condition_code(rule: Rule) -> str:
    """The condition of a rule that no short form is for, as an expression of ``events``."""
    column, value = f"events[{python(rule.column)}]", python(rule.value)
    return {
        "equals": f"{column} == {value}",
        "holds": column,
        "holds_not": f"~{column}",
        "from_hour": f"{column}.hour() >= {value}",
        "until_hour": f"{column}.hour() <= {value}",
        "weekend": f"{column}.day_of_week.index() >= {SATURDAY}  # Monday is 0",
        "longer": f"{column}.length() >= {value}",
        "shorter": f"{column}.length() <= {value}",
        "missing": f"{column}.isnull()",
        "present": f"{column}.notnull()",
        "sorts_last": f"{column} >= {value}",
    }[rule.form]


def _rows(proposal: Proposal, task: str, rule: Rule) -> Iterator[MadeRow]:
    kind = next((column.kind for column in proposal.columns if column.name == rule.column), "string")
    fires, passes = _values(rule, kind)
    yield MadeRow(task, rule.name, rule.column, fires, rule.label)
    yield MadeRow(task, rule.name, rule.column, passes, ABSTAIN)


def _values(rule: Rule, kind: str) -> tuple[str, str]:
    """Code of a value that the rule votes on, and of one that it does not."""
    value = rule.value
    if rule.form == "keywords":
        return python(f"so {rule.words[0]} is"), python("0")
    if rule.form in ("at_least", "at_most"):
        assert isinstance(value, int | float)  # noqa: S101  thresholds have numbers
        beyond = value - abs(value) - 1 if rule.form == "at_least" else value + abs(value) + 1
        return python(value), python(beyond)
    if rule.form in ("longer", "shorter"):
        assert isinstance(value, int)  # noqa: S101  lengths are whole numbers
        return f'"x" * {value}', f'"x" * {value - 1 if rule.form == "longer" else value + 1}'
    if rule.form in ("from_hour", "until_hour"):
        assert isinstance(value, int)  # noqa: S101  hours are whole numbers
        beyond = value - 1 if rule.form == "from_hour" else value + 1
        return _hour(value), _hour(beyond)
    if rule.form == "weekend":
        monday = SOME[kind]
        return monday.replace("8", "6", 1), monday
    if rule.form in ("equals", "sorts_last"):
        return python(value), python("" if rule.form == "sorts_last" else f"{value}?")
    return {
        "holds": ("True", "False"),
        "holds_not": ("False", "True"),
        "missing": ("None", SOME[kind]),
        "present": (SOME[kind], "None"),
    }[rule.form]


def _hour(hour: int) -> str:
    return f"datetime(2024, 1, 8, {hour}, tzinfo=UTC)"
