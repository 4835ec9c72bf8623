"""Tries one labeling function on a sample of the events: what it votes on, whether it is right, what it adds.

Events, votes of the other functions and gold labels of the dev part come in; a `Trial` leaves, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from snorkel.labeling import LabelingFunction

from weakfish import compute
from weakfish.errors import TableError, UnknownName
from weakfish.labeling.load import classes_of, events_schema
from weakfish.labeling.votes_file import ABSTAIN, FAILED, Faults, Votes
from weakfish.labeling.voting.plan import Search
from weakfish.labeling.voting.workers import LEAST_ROWS, Applied, joined
from weakfish.labeling.writing.beside import DevGold, Others, others_votes
from weakfish.labeling.writing.drafts import find_function
from weakfish.labeling.writing.examples import account, disagreeing, firing
from weakfish.labeling.writing.figures import Compared, against_gold, against_others
from weakfish.labeling.writing.sample import Sample, take_sample
from weakfish.project import Project
from weakfish.runs import Progress

BATCH = 1_000
"""Rows that a row function gets at a time: after each, progress is said."""

MOST_COLUMNS = 6
"""Columns that are shown unless asked for."""


@dataclass(frozen=True)
class Trial:
    """What a function does on a sample.

    Attributes
    ----------
    figures : dict
        Numbers and keys, as `weakfish lf try --json` prints them; docs/labeling.md has the fields.
    shown : pyarrow.Table
        The values of the example rows, firing ones first, in the order of ``figures["examples"]``.
    doc : str
        What the function says of itself.
    columns : list of str
        The columns of ``shown``.
    searches : list of Search
        What the function looks for in text.
    exception : str
        The first that it failed with, ``Type: message``.
    """

    figures: dict[str, Any]
    shown: pa.Table
    doc: str
    columns: list[str]
    searches: list[Search]
    exception: str


def try_function(
    project: Project, task: str, name: str, rows: int, examples: int, columns: Sequence[str] | None = None
) -> Trial:
    """Apply NAME or FILE:FUNCTION to ``rows`` of the events, and pick ``examples`` of each kind.

    Parameters
    ----------
    columns
        What to keep of the examples; None for the time and the columns that the function reads.

    Raises
    ------
    UserError
        When there is no such function, file or column, or the file cannot be imported.
    LabelingFunctionError
        When the function cannot be computed, or returns what is not a vote.
    TableError
        When there are no events, or a table is cut off.
    """
    schema = events_schema(project)
    if schema is None:
        raise TableError("There are no events in data/events to try it on; run `dvc repro accept`, which makes them.")
    key = project.params.events.key
    candidate = find_function(project, task, name, schema)
    function = candidate.function
    classes = {function.name: classes_of(project, task)}
    applied = Applied(compute.connect(), [function], schema, key, classes)
    shown = _shown(project, schema, applied, columns)
    sample = take_sample(project, list(dict.fromkeys([key, *applied.columns, *shown])), rows)
    votes, faults = _votes(function, applied, sample)
    compared, others, notes = _compared(project, task, sample, votes, function.name)
    places = [firing(compared, examples), disagreeing(compared, examples)]
    fires, disagrees = ([account(compared, sample.rows[key], int(row)) for row in each] for each in places)
    figures = {
        "task": task,
        "function": function.name,
        "where": candidate.where,
        "kind": "columns" if applied.plan else "rows",
        "reads": _reads(applied, key),
        "sample": {"rows": len(votes), "of": sample.of, "partitions": len(sample.places)},
        "faults": {"rows": faults.count, "exception": faults.exception.partition(":")[0] or None, "keys": faults.rows},
        **_figures(compared, others),
        "notes": notes,
        "examples": {"fires": fires, "disagrees": disagrees},
    }
    values = sample.rows.select(shown).take(pa.array(np.concatenate(places)))
    searches = applied.plan.searches if applied.plan else []
    return Trial(figures, values, function._f.__doc__ or "", shown, searches, faults.exception)


def _figures(compared: Compared, others: Others | None) -> dict[str, Any]:
    own = others.own if others else None
    return {
        "classes": compared.classes,
        "coverage": {"rows": int(compared.fires.sum()), "by_class": compared.by_class(compared.fires)},
        "gold": against_gold(compared),
        "others": against_others(compared, others.names) if others else None,
        "contradicted": int(compared.contradicted.sum()),
        "changed": None if own is None else int((compared.votes != own).sum()),
    }


def _shown(project: Project, schema: pa.Schema, applied: Applied, asked: Sequence[str] | None) -> list[str]:
    """The columns of examples, without the key, which names them in any case."""
    key, time = project.params.events.key, project.params.events.time
    for name in asked or ():
        if name not in schema.names:
            raise UnknownName("column", name, schema.names, "data/events")
    wanted = [time, *_reads(applied, key)][: MOST_COLUMNS + 1] if asked is None else asked
    return [name for name in dict.fromkeys(wanted) if name != key]


def _reads(applied: Applied, key: str) -> list[str]:
    """The columns that the function reads, as far as can be told."""
    if applied.plan:
        return list(applied.plan.columns)
    return [name for name in applied.columns if name != key]


def _votes(function: LabelingFunction, applied: Applied, sample: Sample) -> tuple[Votes, Faults]:
    """The votes on a sample; it abstains where the function raised."""
    rows = sample.rows.select([name for name in sample.rows.column_names if name in applied.columns])
    progress, parts = Progress(f"lf try: votes of {function.name}", rows.num_rows), []
    step = LEAST_ROWS if applied.plan else BATCH
    for start in range(0, max(1, rows.num_rows), step):
        part = rows.slice(start, step)
        parts.append(applied.to(part, start)[function.name])
        progress.add(part.num_rows)
    votes, faults = joined(parts)
    return np.where(votes == FAILED, np.int8(ABSTAIN), votes), faults


def _compared(
    project: Project, task: str, sample: Sample, votes: Votes, tried: str
) -> tuple[Compared, Others | None, list[str]]:
    """The votes beside those of others and dev gold, and what is to be said of these.

    A function can be tried without the others, as long as they have no votes or cannot make any.
    """
    classes, notes = project.task(task).classes, []
    others, silent = None, np.empty((len(votes), 0), np.int8)
    try:
        others = others_votes(project, task, sample.places, tried)
    except TableError as error:
        notes.append(f"Not compared with other functions: {error}")
    gold, strange = DevGold(project, task).of(sample.rows[project.params.events.key])
    if strange:
        notes.append(
            f"Labels in data/gold/{task}/dev that are no classes of the task are passed over: {strange:,} here."
        )
    return Compared(votes, others.votes if others else silent, gold, classes), others, notes
