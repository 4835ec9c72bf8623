"""What must hold of each table of a generated project: a proposal in, expectations as data out, one list per table.

``templates/suite.py.j2`` writes them as Great Expectations objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from weakfish.scaffold.proposal import Proposal
from weakfish.scaffold.suites import ColumnSuite

TYPES = {
    "string": ["str", "object"],
    "integer": ["int64", "float64"],
    "number": ["float64"],
    "boolean": ["bool"],
    "date": ["date"],
}
"""What Great Expectations finds in a column of each kind, with nulls and without; it lists no times with a zone."""


@dataclass(frozen=True)
class Expectation:
    """A Great Expectations class by name, its arguments, how bad it is where it does not hold, and why."""

    kind: str
    severity: str
    why: str
    arguments: dict[str, Any] = field(default_factory=dict)


def of_events(proposal: Proposal) -> list[Expectation]:
    """Of the staged events: the contract first, then what their columns looked like."""
    key, suite = proposal.events_key, proposal.suites
    found = [
        Expectation(
            "ExpectTableRowCountToBeBetween", "critical", "Without events there is nothing to label.", {"min_value": 1}
        ),
        _present(key, None, "critical", "Everything downstream is joined by the key."),
        _unique(key, "A key that stands twice would count one event twice in every window and training set."),
    ]
    if suite.key_length is not None:
        found.append(_lengths(key, suite.key_length, None, "Keys were half as long; longer ones are of another kind."))
    if proposal.time is not None:
        found.append(_present(proposal.time, None, "critical", "Without its time an event has no past and no place."))
        bounds = {"column": proposal.time, "min_value": suite.earliest, "max_value": suite.latest}
        why = "A time far outside is a clock that was not set, or a time in another unit."
        found.append(Expectation("ExpectColumnValuesToBeBetween", "critical", why, bounds))
    return found + [each for column in suite.columns for each in _of_column(column)]


def types_of(proposal: Proposal) -> dict[str, list[str]]:
    """The types of the events' columns but times, as pandas names them; nulls make numbers of whole numbers."""
    kinds = {proposal.events_key: "string"} | {column.name: str(column.kind) for column in proposal.columns}
    return {name: TYPES[kind] for name, kind in kinds.items() if kind in TYPES}


def of_labels(proposal: Proposal, classes: Sequence[str]) -> list[Expectation]:
    """Of the labels of a task; of one that nobody proposed, whose classes are not known, what holds of any."""
    key = proposal.events_key
    return [
        _present(key, None, "critical", "A label without its event labels nothing."),
        _unique(key, "An event has one label."),
        *_probabilities(classes),
        _covered("Where hardly an event has a vote, the labels say nothing; write more functions."),
    ]


def of_training(proposal: Proposal, classes: Sequence[str], views: Sequence[str]) -> list[Expectation]:
    """Of the training set of a task."""
    key = proposal.events_key
    found = [
        _present(key, None, "critical", "A row without its event cannot be traced back."),
        _unique(key, "An event that stands twice counts twice: a join has multiplied rows."),
        *_probabilities(classes),
    ]
    if proposal.time is not None:
        found.append(_present(proposal.time, None, "critical", "Features are those known at this time."))
    why = "A row of the past exists from the first event on."
    found += [_between(f"{view}__events_before", 1, None, "critical", why) for view in views]
    if proposal.time is not None:
        found.append(_between("request_features__hour_of_day", 0, 23, "critical", "It is an hour, UTC."))
    return found


def _of_column(column: ColumnSuite) -> Iterator[Expectation]:
    name = column.name
    if column.present is not None:
        yield _present(name, column.present, "warning", "More rows had a value when this was proposed.")
    if column.least is not None or column.greatest is not None:
        why = "Numbers went half as far when this was proposed."
        yield _between(name, column.least, column.greatest, "warning", why, mostly=0.99)
    if column.values is not None:
        arguments = {"column": name, "value_set": list(column.values), "mostly": 0.95}
        why = "These were the values when this was proposed; add new ones here."
        yield Expectation("ExpectColumnValuesToBeInSet", "warning", why, arguments)
    if column.longest is not None:
        yield _lengths(name, column.longest, 0.99, "Texts were half as long when this was proposed.")


def _probabilities(classes: Sequence[str]) -> Iterator[Expectation]:
    for name in classes:
        yield _present(f"p_{name}", None, "critical", "A missing probability is a label model that did not converge.")
        yield _between(f"p_{name}", 0, 1, "critical", "It is a probability.")


def _covered(why: str) -> Expectation:
    arguments = {"column": "covered", "min_value": 0.01}
    return Expectation("ExpectColumnMeanToBeBetween", "critical", why, arguments)


def _present(column: str, mostly: float | None, severity: str, why: str) -> Expectation:
    arguments = {"column": column} | ({} if mostly is None else {"mostly": mostly})
    return Expectation("ExpectColumnValuesToNotBeNull", severity, why, arguments)


def _unique(column: str, why: str) -> Expectation:
    return Expectation("ExpectColumnValuesToBeUnique", "critical", why, {"column": column})


def _lengths(column: str, most: int, mostly: float | None, why: str) -> Expectation:
    arguments = {"column": column, "max_value": most} | ({} if mostly is None else {"mostly": mostly})
    return Expectation("ExpectColumnValueLengthsToBeBetween", "warning", why, arguments)


def _between(
    column: str, low: float | None, high: float | None, severity: str, why: str, mostly: float | None = None
) -> Expectation:
    bounds = {"min_value": low, "max_value": high, "mostly": mostly}
    known = {name: value for name, value in bounds.items() if value is not None}
    return Expectation("ExpectColumnValuesToBeBetween", severity, why, {"column": column, **known})
