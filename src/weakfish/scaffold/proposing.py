"""From files and the parts of their columns to a `Proposal`: settings, classes, the split of gold, rules and suites.

All rows are read once. `propose` returns the proposal and what a person has to know of it, as sentences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from weakfish.errors import UserError
from weakfish.scaffold.classes import DEFAULT, classes_of
from weakfish.scaffold.examples import examples
from weakfish.scaffold.facts import ColumnFacts
from weakfish.scaffold.paths import Place
from weakfish.scaffold.proposal import Proposal, TaskProposal
from weakfish.scaffold.roles import Roles, settings
from weakfish.scaffold.sentences import counted, sentences
from weakfish.scaffold.split import balance, dev_rows, split_day
from weakfish.scaffold.suites import measure
from weakfish.scaffold.survey import Gold, Survey, survey
from weakfish.scaffold.wishes import check_classes
from weakfish.sources.tabular import Inferred
from weakfish.sources.tabular.settings import MADE_KEY

BALANCED = 50
"""From how many dev labels on the class balance is taken from them."""


def propose(name: str, inferred: Inferred, roles: Roles, place: Place) -> tuple[Proposal, list[str]]:
    """Read all rows and propose a project.

    Raises
    ------
    ParamsError, SourceError
        When the files cannot be read so.
    UserError
        When a column does not hold what its part needs: times, or two to fifty classes; when rows are too few.
    """
    section = settings(inferred, roles, place.path)
    found = survey(section, place.given)
    _check_filled(found, roles)
    classes, meant = _classes(found, roles)
    labels = _labels(found.gold, meant)
    split = split_day(labels) if roles.time else None
    dev = dev_rows(labels, split)
    tasks = {
        task: TaskProposal(
            classes=names,
            gold=roles.labels.get(task),
            class_balance=balance(dev.get(task, {}), names, BALANCED),
        )
        for task, names in classes.items()
    }
    facts = _facts(found)
    entities = roles.entities if _spans_hours(facts.get(roles.time or "")) else ()
    rules = examples(found.sample, classes, key=roles.key or MADE_KEY, time=roles.time, entities=entities)
    if not all(rules.values()):
        raise UserError(
            f"{place.path} has {counted(found.rows, 'row')}, too few or too much alike for a function that votes on "
            "some of them; bring more rows."
        )
    suites = measure(
        found.sample,
        key=roles.key or MADE_KEY,
        time=roles.time,
        facts=found.facts,
        key_repeats=found.key_repeats,
    )
    proposal = Proposal(
        name=name,
        path=place.path,
        fetch_dep=place.fetch_dep,
        source=_with_values(section, roles, meant),
        key=roles.key,
        time=roles.time,
        time_zone=roles.time_zone,
        entities=entities,
        texts=roles.texts,
        columns=found.facts,
        rows=found.rows,
        tasks=tasks,
        gold_split=split,
        rules=rules,
        suites=suites,
    )
    return proposal, sentences(proposal, found, labels, meant, roles.entities)


def _facts(found: Survey) -> dict[str, ColumnFacts]:
    return {facts.name: facts for facts in found.facts}


def _check_filled(found: Survey, roles: Roles) -> None:
    empty = [facts.name for facts in found.facts if facts.nulls == found.rows]
    for column in (roles.key, *roles.entities, *roles.texts):
        if column in empty:
            raise UserError(f"Column {column!r} is empty in all rows; give its part to another, or to none.")
    if roles.time in empty:
        raise UserError(
            f"Column {roles.time!r} holds no time as 2024-05-31T12:00:00Z in any row; name another with --time, "
            "or say --no-time."
        )


def _spans_hours(time: ColumnFacts | None) -> bool:
    """Whether events lie in more than one hour: feature rows stand at full hours between them."""
    return time is not None and str(time.least)[:13] != str(time.greatest)[:13]


def _classes(found: Survey, roles: Roles) -> tuple[dict[str, tuple[str, ...]], dict[str, dict[str, str] | None]]:
    """The classes of each task, and the class of each value of its gold column where they differ."""
    classes: dict[str, tuple[str, ...]] = {}
    meant: dict[str, dict[str, str] | None] = {}
    for task in roles.tasks:
        wanted = roles.classes.get(task, ())
        column = roles.labels.get(task)
        if column is None:
            classes[task] = wanted or DEFAULT
            continue
        values = {value for named, value, *_ in found.gold if named == task}
        classes[task], meant[task] = classes_of(values, column, wanted)
        check_classes(classes[task])
    return classes, meant


def _labels(gold: Gold, meant: Mapping[str, Mapping[str, str] | None]) -> Gold:
    """Gold labels by class instead of value."""
    found: Gold = Counter()
    for (task, value, day, late), rows in gold.items():
        found[task, (meant[task] or {}).get(value, value), day, late] += rows
    return found


def _with_values(
    section: Mapping[str, Any], roles: Roles, meant: Mapping[str, dict[str, str] | None]
) -> dict[str, Any]:
    if not roles.labels:
        return dict(section)
    gold = {
        task: {"column": column, "values": values} if (values := meant[task]) else column
        for task, column in roles.labels.items()
    }
    return {**section, "gold": gold}
