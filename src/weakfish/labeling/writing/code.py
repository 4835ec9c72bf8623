"""Suggested rules as labeling functions, to count with, and as Python to paste: the same words make both."""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import ibis.expr.types as ir
import pyarrow as pa

from weakfish.labeling.builders import keywords, lookup, threshold
from weakfish.labeling.functions import ColumnarLabelingFunction
from weakfish.labeling.writing.candidates import Candidate

WIDTH = 120
"""Of a line of code."""

GROUPED = ("word", "value")
"""Kinds of which one function holds several."""

CONDITIONS = {
    "missing": "events[{column}].isnull()",
    "present": "events[{column}].notnull()",
    "holds": "events[{column}]",
    "holds_not": "~events[{column}]",
}
"""Kinds that no short form is for."""


@dataclass(frozen=True)
class Rule:
    """One function to suggest: the class ``label`` where any of ``candidates`` holds, all of one column and kind."""

    name: str
    label: int
    candidates: tuple[Candidate, ...]
    why: str

    @property
    def column(self) -> str:
        """The column that it reads."""
        return self.candidates[0].column

    @property
    def kind(self) -> str:
        """What its candidates are."""
        return self.candidates[0].kind

    @property
    def values(self) -> list[str]:
        """The words or values that it looks for."""
        return [str(candidate.value) for candidate in self.candidates if candidate.value is not None]

    @property
    def form(self) -> str:
        """The short form that it is written in."""
        return {"word": "keywords", "value": "lookup", "at_least": "threshold", "at_most": "threshold"}.get(
            self.kind, "votes"
        )


def name_of(class_name: str, column: str, taken: Iterable[str]) -> str:
    """A name that no function has: ``suggested_<class>_by_<column>``, with a number where that is taken."""
    plain, names = f"suggested_{class_name}_by_{column}", set(taken)
    numbered = (plain if number == 1 else f"{plain}_{number}" for number in range(1, len(names) + 2))
    return next(name for name in numbered if name not in names)


def function_of(rule: Rule) -> ColumnarLabelingFunction:
    """The labeling function that `source_of` writes down."""
    name, label, column = rule.name, rule.label, rule.column
    if rule.form == "keywords":
        return keywords(name, label, column, rule.values, why=rule.why)
    if rule.form == "lookup":
        return lookup(name, label, column, pa.table({column: rule.values}), why=rule.why)
    if rule.form == "threshold":
        bound = rule.candidates[0].value
        if rule.kind == "at_least":
            return threshold(name, label, column, at_least=bound, why=rule.why)
        return threshold(name, label, column, at_most=bound, why=rule.why)
    kind = rule.kind

    def condition(events: ir.Table) -> ir.BooleanValue:
        value = events[column]
        if kind in ("missing", "present"):
            return value.isnull() if kind == "missing" else value.notnull()
        return value if kind == "holds" else ~value

    condition.__doc__ = rule.why
    return ColumnarLabelingFunction(name, condition, label)


def module_of(rules: Sequence[tuple[Rule, Sequence[str]]], classes: Sequence[str]) -> str:
    """A module of rules, each below its comments; it can be pasted into ``labeling_functions/`` as it is."""
    used = sorted({rule.label for rule, _ in rules})
    names = _constants(classes)
    forms = sorted({rule.form for rule, _ in rules})
    imports = ["import pyarrow as pa", ""] if "lookup" in forms else []
    imports += [f"from weakfish.labeling import {', '.join(forms)}", ""]
    constants = [f"{names[label]} = {label}" for label in used if names[label] != str(label)]
    parts = ["\n".join(imports + constants)]
    for rule, comments in rules:
        about = [f"# {line}" for line in comments]
        parts.append("\n".join([*about, source_of(rule, names[rule.label])]))
    return ("\n\n\n" if "votes" in forms else "\n\n").join(part.rstrip() for part in parts)


def source_of(rule: Rule, label: str) -> str:
    """The rule as code; ``label`` is how the class is written."""
    why = _quoted(rule.why)
    if rule.form == "votes":
        condition = CONDITIONS[rule.kind].format(column=_quoted(rule.column))
        return f'@votes({label})\ndef {rule.name}(events):\n    """{rule.why}"""\n    return {condition}'
    start = f"{rule.name} = {rule.form}("
    given = [_quoted(rule.name), label, _quoted(rule.column)]
    if rule.form == "threshold":
        return _call(start, [*given, f"{rule.kind}={_number(rule.candidates[0].value)}", f"why={why}"])
    listed = _list(rule.values)
    if rule.form == "lookup":
        listed = f"pa.table({{{_quoted(rule.column)}: {listed}}})"
    return _call(start, [*given, listed, f"why={why}"])


def _call(start: str, arguments: Sequence[str]) -> str:
    line = f"{start}{', '.join(arguments)})"
    if len(line) <= WIDTH and "\n" not in line:
        return line
    return "\n".join([start, *(textwrap.indent(f"{argument},", "    ") for argument in arguments), ")"])


def _list(values: Sequence[str]) -> str:
    line = f"[{', '.join(map(_quoted, values))}]"
    if len(line) <= WIDTH - 40:
        return line
    return "\n".join(["[", *(f"    {_quoted(value)}," for value in values), "]"])


def _quoted(text: str) -> str:
    """A Python literal in double quotes, on one line, whatever the text holds."""
    plain = text.isprintable() and '"' not in text and "\\" not in text
    return f'"{text}"' if plain else repr(text)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _constants(classes: Sequence[str]) -> list[str]:
    """How each class is written: its name in capitals, or its number where that would be no name of its own."""
    names = [name.upper() for name in classes]
    return [
        name if names.count(name) == 1 and name.isidentifier() and not keyword.iskeyword(name) else str(number)
        for number, name in enumerate(names)
    ]
