"""What a person has to know of a proposal, as sentences: what it cannot do, and what it does that may be unwanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from weakfish.scaffold.classes import DEFAULT
from weakfish.scaffold.proposal import Proposal, TaskProposal
from weakfish.scaffold.survey import Gold, Survey


def sentences(
    proposal: Proposal,
    found: Survey,
    labels: Gold,
    meant: Mapping[str, Mapping[str, str] | None],
    entities: Sequence[str],
) -> list[str]:
    """What the proposal cannot do, or does in a way that a person may want otherwise.

    ``meant`` are values of gold columns as classes, ``entities`` those that were asked for.
    """
    said = []
    if proposal.key is None:
        said.append("No column is an id: row_id is made from what a row says; a row that changes is another one.")
    if proposal.time is None:
        said.append(
            "No column holds event times: there are no features of the past, no training sets as of a time, nothing "
            "to serve online, and no months; labels, checks, evaluation and training sets remain."
        )
    elif not proposal.entities:
        why = "All events lie within one hour" if entities else "No column is an entity"
        said.append(f"{why}: there are no features of the past, and nothing to serve online.")
    said += [_of_task(name, task, labels) for name, task in proposal.tasks.items()]
    for name, values in meant.items():
        other = [f"{value!r} is {as_class}" for value, as_class in (values or {}).items() if value != as_class]
        if other:
            more = f" and {len(other) - 3} more" if len(other) > 3 else ""
            said.append(f"Values of {name} become classes by plain names: {', '.join(other[:3])}{more} (source.gold).")
    if proposal.gold_split:
        said.append(f"Gold from {proposal.gold_split} on is the test part, which only `weakfish evaluate` reads.")
    elif labels:
        said.append("Half of the gold, chosen by keys, is the test part, which only `weakfish evaluate` reads.")
    if found.rejected:
        said.append(f"Lines that cannot be read: {found.rejected:,}; data/quarantine/raw will have them, with reasons.")
    said += [
        f"Values of {column} not of its type: {count:,}; they become null, and data/quarantine/raw will tell which."
        for column, count in sorted(found.bad.items())
    ]
    return said


def _of_task(name: str, task: TaskProposal, labels: Gold) -> str:
    rows = sum(count for (named, *_), count in labels.items() if named == name)
    if rows:
        return f"Task {name}: {rows:,} rows have a label; classes {', '.join(task.classes)}."
    where = f"{task.gold} holds no label yet" if task.gold else "no column holds labels"
    named = "" if task.classes != DEFAULT else f"; name them with --classes {name}=a,b, or in params.yaml"
    return f"Task {name}: {where}; classes {', '.join(task.classes)}{named}."


def counted(number: int, what: str) -> str:
    """How many there are of something, in words: `1 row`, `20,000 rows`."""
    return f"{number:,} {what}{'s' * (number != 1)}"
