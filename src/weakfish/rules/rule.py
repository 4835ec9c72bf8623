"""The Rule: a labeling function expressed as data, which can be run, written down as Python, and said in a sentence.

`weakfish lf suggest` and `weakfish init` make rules; what a team pastes or edits is their source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import ibis.expr.types as ir
import pyarrow as pa

from weakfish.project.params import Section
from weakfish.rules.builders import keywords, lookup, threshold
from weakfish.rules.columnar import ColumnarLabelingFunction

Form = Literal[
    "keywords",
    "lookup",
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
"""What a rule asks of its column. The first four are written with a builder, the others as a condition."""

BUILDERS = {"keywords": "keywords", "lookup": "lookup", "at_least": "threshold", "at_most": "threshold"}

_FORMS: dict[Form, tuple[str, str]] = {
    "keywords": ("{column} has {words}", ""),
    "lookup": ("{column} is {words}", ""),
    "at_least": ("{column} is at least {value}", ""),
    "at_most": ("{column} is at most {value}", ""),
    "equals": ("{column} is {value}", "{column} == {value}"),
    "holds": ("{column} is true", "{column}"),
    "holds_not": ("{column} is false", "~{column}"),
    "from_hour": ("{column} is in the hour from {value}:00 or later", "{column}.hour() >= {value}"),
    "until_hour": ("{column} is in the hour from {value}:00 or earlier", "{column}.hour() <= {value}"),
    "weekend": ("{column} is on a weekend", "{column}.day_of_week.index() >= 5  # Monday is 0"),
    "longer": ("{column} has at least {value} characters", "{column}.length() >= {value}"),
    "shorter": ("{column} has at most {value} characters", "{column}.length() <= {value}"),
    "missing": ("{column} is missing", "{column}.isnull()"),
    "present": ("{column} is there", "{column}.notnull()"),
    "sorts_last": ("{column} sorts at or after {value}", "{column} >= {value}"),
}
"""Of each form the sentence and, without a builder, the condition: what is written is also what runs."""


class Rule(Section):
    """One labeling function: it votes for the class at ``label`` where ``column`` is as the form and its argument say.

    Attributes
    ----------
    words
        Of ``keywords`` the words to find, of ``lookup`` the values to be equal to.
    value
        What the forms that compare compare with.
    why
        Why the function should work; by default its `sentence`.
    """

    name: str
    label: int
    column: str
    form: Form
    words: tuple[str, ...] = ()
    value: bool | int | float | str | None = None
    why: str = ""

    def function(self) -> ColumnarLabelingFunction:
        """The labeling function."""
        name, label, column, why = self.name, self.label, self.column, self.why or self.sentence()
        if self.form == "keywords":
            return keywords(name, label, column, self.words, why=why)
        if self.form == "lookup":
            return lookup(name, label, column, pa.table({column: list(self.words)}), why=why)
        if self.form in BUILDERS:
            return threshold(name, label, column, why=why, **{self.form: self.value})  # type: ignore[arg-type]
        written = compile(_FORMS[self.form][1].format(column="column", value="value"), self.form, "eval")

        def condition(events: ir.Table) -> ir.BooleanValue:
            names = {"column": events[column], "value": self.value}
            return cast(ir.BooleanValue, eval(written, {}, names))  # noqa: S307  one of the conditions above

        condition.__name__, condition.__doc__ = name, why
        return ColumnarLabelingFunction(name, condition, label)

    def source(self, label: str) -> str:
        """The function as Python, as a formatter leaves it; ``label`` is how the class is written."""
        why, column = self.why or self.sentence(), literal(self.column)
        if self.form not in BUILDERS:
            condition = _FORMS[self.form][1].format(column=f"events[{column}]", value=literal(self.value))
            sentence = _escaped(why, '"') + "." * (not why.endswith("."))
            head = f"@votes({label})\ndef {self.name}(events: ir.Table) -> ir.BooleanValue:"
            return f'{head}\n    """{sentence}"""\n    return {condition}'
        asked = listed(self.words, 4) if self.words else f"{self.form}={literal(self.value)}"
        if self.form == "lookup":
            table = f"            {column}: {listed(self.words, 12)},\n"
            asked = f"pa.table(\n        {{\n{table}        }}\n    )"
        arguments = [literal(self.name), label, column, asked, f"why={literal(why)}"]
        lines = "".join(f"    {argument},\n" for argument in arguments)
        return f"{self.name} = {BUILDERS[self.form]}(\n{lines})"

    def sentence(self) -> str:
        """Where the rule votes, as a person would say it."""
        words = " or ".join(map(literal, self.words))
        return _FORMS[self.form][0].format(column=self.column, words=words, value=literal(self.value))


def module_source(
    rules: Sequence[Rule],
    classes: Sequence[str],
    *,
    about: str = "",
    comments: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Rules as a module for ``labeling_functions/``.

    Parameters
    ----------
    classes
        Names of the task's classes; those that the rules vote for become constants.
    about
        The module's docstring. Without it the text is there to be pasted, perhaps below other functions.
    comments
        By the name of a rule, lines that stand above it.
    """
    names = constants(classes)
    forms = {rule.form for rule in rules}
    head = ['"""' + about + '"""', "", "from __future__ import annotations", ""] if about else []
    head += ["import ibis.expr.types as ir"] * bool(forms - set(BUILDERS))
    head += ["import pyarrow as pa"] * ("lookup" in forms)
    head += [f"from weakfish.rules import {', '.join(sorted({BUILDERS.get(form, 'votes') for form in forms}))}", ""]
    voted = range(len(names)) if about else sorted({rule.label for rule in rules})
    head += [f"{names[label]} = {label}" for label in voted]
    parts = ["\n".join(head)]
    for rule in rules:
        above = "".join(f"# {line}\n" for line in (comments or {}).get(rule.name, ()))
        parts.append(above + rule.source(names[rule.label]))
    return "\n\n\n".join(parts) + "\n"


def constants(classes: Iterable[str]) -> list[str]:
    """How each class is written as a constant: its name in capitals, ``CLASS_<n>`` where that would be none."""
    capitals = [name.upper() for name in classes]
    return [
        name if name.isascii() and name.isidentifier() and capitals.count(name) == 1 else f"CLASS_{place}"
        for place, name in enumerate(capitals)
    ]


def literal(value: Any) -> str:
    """A text, number, boolean or None as Python; a text in double quotes, unless that takes more escapes."""
    if not isinstance(value, str):
        return repr(value)
    quote = "'" if value.count('"') > value.count("'") else '"'
    return quote + _escaped(value, quote) + quote


def _escaped(text: str, quote: str) -> str:
    return "".join((f"\\{one}" if one == quote else one) if one in "'\"" else repr(one)[1:-1] for one in text)


def listed(values: Iterable[Any], indent: int = 0) -> str:
    """A list with an item per line, as a formatter leaves it; ``indent`` is that of its first line."""
    items = "".join(f"{' ' * (indent + 4)}{literal(value)},\n" for value in values)
    return f"[\n{items}{' ' * indent}]" if items else "[]"
