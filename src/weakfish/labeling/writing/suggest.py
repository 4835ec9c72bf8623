"""Suggests rules for rows that no function covers, or hardly: events and labels in, rules with estimates out.

Candidates are counted partition by partition, over all uncovered and covered rows or, where they are very many, over an
even sample of each. Chosen greedily by what they add, they become functions; those vote on all events, and what
is said of them is what they did. Nothing is written, and of gold labels only the dev part is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weakfish.errors import TableError, UnknownName
from weakfish.labeling.load import FOLDER, events_schema, load_functions
from weakfish.labeling.writing.choosing import Chosen, Settings, choose
from weakfish.labeling.writing.code import Rule, name_of
from weakfish.labeling.writing.counting import Counts, count
from weakfish.labeling.writing.labelled import Kind, entity_columns, read_labelled
from weakfish.project import Project

WHY = "Suggested from the labels, not by anyone who knows why it should work: say so here, or leave it out."


@dataclass(frozen=True)
class Suggestion:
    """A rule, which rows it is for, and what is expected and known of it.

    Attributes
    ----------
    rule : Rule
    kind : str
        ``uncovered`` or ``undecided``: the rows that it was chosen for.
    estimate, low : float
        Of its precision on those rows, and the lower bound (`estimates.LEVEL`).
    expected : float
        The share of those rows that it was estimated to cover beyond the suggestions before it.
    counts : Counts
        What it does on all events.
    """

    rule: Rule
    kind: Kind
    estimate: float
    low: float
    expected: float
    counts: Counts


@dataclass(frozen=True)
class Suggestions:
    """All suggestions for a task, best first within their kind.

    Attributes
    ----------
    task : str
    classes : list of str
    rows : dict of str to int
        How many rows there are: ``all``, ``uncovered``, ``undecided``; and how many were looked at of uncovered and
        covered ones: ``looked_at_uncovered``, ``looked_at_covered``.
    balance : dict
        By kind of row, the share of each class among covered rows like those, and as estimated among themselves.
    best : dict of str to list of float
        By kind of row, the best lower bound of any candidate for each class.
    suggestions : list of Suggestion
    wanted : float
        The precision asked for.
    together : dict of str to Counts
        By kind, what all its suggestions do at once.
    """

    task: str
    classes: list[str]
    rows: dict[str, int]
    balance: dict[str, dict[str, list[float]]]
    best: dict[str, list[float]]
    suggestions: list[Suggestion]
    wanted: float
    together: dict[str, Counts]


def suggest(
    project: Project, task: str, wanted: float = 0.9, most: int = 10, columns: Sequence[str] | None = None
) -> Suggestions:
    """Rules for rows without a vote, and for those with a single one or an undecided probability.

    Parameters
    ----------
    wanted
        The precision that each rule must be estimated to have, and each function's lower bound too.
    most
        How many functions to suggest at most.
    columns
        Where to look; None for all columns but the key, times and entities.

    Raises
    ------
    UnknownName
        When there is no such task or column.
    TableError
        When there are no labels, or they are of other events.
    """
    schema = events_schema(project)
    if schema is None:
        raise TableError("There are no events in data/events; run `dvc repro accept`, which makes them.")
    for name in columns or ():
        if name not in schema.names:
            raise UnknownName("column", name, schema.names, "data/events")
    classes = project.task(task).classes
    entities = [name for name in entity_columns(project) if name in schema.names]
    labelled = read_labelled(project, task, columns, entities)
    balance: dict[str, dict[str, list[float]]] = {}
    best: dict[str, list[float]] = {}
    chosen: list[Chosen] = []
    kinds: tuple[Kind, ...] = ("uncovered", "undecided")
    settings = Settings(wanted, np.array(project.task(task).label_model.class_balance))
    for kind in kinds:
        found = choose(labelled, kind, settings, most - len(chosen), [each.candidates for each in chosen])
        balance[kind] = {"like": found.like, "themselves": found.themselves}
        best[kind] = found.best
        chosen += found.chosen
    taken = _names(project, task)
    rules = []
    for each in chosen:
        name = name_of(classes[each.label], each.candidates[0].column, taken)
        taken.append(name)
        rules.append(Rule(name, each.label, each.candidates, WHY))
    counts, together = count(project, task, rules, [each.kind for each in chosen])
    looked_at = {"looked_at_uncovered": labelled.uncovered.holds.shape[0], "looked_at_covered": len(labelled.votes)}
    suggestions = [_suggestion(*parts) for parts in zip(rules, chosen, counts, strict=True)]
    return Suggestions(
        task, list(classes), {**labelled.totals, **looked_at}, balance, best, suggestions, wanted, together
    )


def _names(project: Project, task: str) -> list[str]:
    """Names that are taken: of the task's functions, and whatever else was suggested and pasted, in use or not."""
    files = sorted((project.root / FOLDER).glob("*.py"))
    pasted = [name for file in files for name in re.findall(r"\bsuggested_\w+", file.read_text(encoding="utf-8"))]
    return [*(function.name for function in load_functions(project, task)), *pasted]


def _suggestion(rule: Rule, chosen: Chosen, counts: Counts) -> Suggestion:
    return Suggestion(rule, chosen.kind, chosen.estimate, chosen.low, chosen.expected, counts)
