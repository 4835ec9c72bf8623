"""The `vote` verb: events through the labeling functions into ``data/votes/<task>/<function>/<partition>.parquet``.

Columnar functions run together in one pass of the engine, plain Snorkel functions row by row; one partition at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from snorkel.labeling import LabelingFunction

from weakfish import compute
from weakfish.compute import Engine
from weakfish.errors import LabelingFunctionError, WeakfishError
from weakfish.files import whole_folder
from weakfish.labeling.functions import ColumnarLabelingFunction
from weakfish.labeling.load import check_vote, load_functions
from weakfish.labeling.votes_file import VOTE, fingerprint, write_votes
from weakfish.project import Project
from weakfish.runs import Progress, write_ledger
from weakfish.tables import open_partition, partitions, read_partition


def vote(project: Project) -> None:
    """Apply the labeling functions of every task to ``data/events``.

    Raises
    ------
    LabelingFunctionError
        When a function raises or returns what is not a vote; names the function and the row.
    """
    events = partitions(project.table("events"))
    total = 0
    with whole_folder(project.data / "votes") as folder:
        tasks = {task: load_functions(project, task) for task in project.params.tasks}
        rows_expected = sum(open_partition(file).metadata.num_rows for file in events.values())
        progress = Progress("vote: votes", rows_expected * sum(map(len, tasks.values())))
        engine = compute.connect()
        for file in events.values():
            rows = read_partition(file)
            total += rows.num_rows
            keys = fingerprint(rows[project.params.events.key])
            for task, functions in tasks.items():
                votes = apply_functions(engine, functions, rows, project.params.events.key, project.task(task).classes)
                for name, column in votes.items():
                    write_votes(folder / task / name / file.name, column, keys)
                    progress.add(rows.num_rows)
    write_ledger(project, "vote", rows_in=total, rows_out=total)


def apply_functions(
    engine: Engine, functions: Sequence[LabelingFunction], rows: pa.Table, key: str, classes: Sequence[str]
) -> dict[str, pa.Array]:
    """The votes (int8) of each function on ``rows``, by name, in the order of ``rows``."""
    columnar = [function for function in functions if isinstance(function, ColumnarLabelingFunction)]
    votes = _columnar_votes(engine, columnar, rows) if columnar else {}
    for function in functions:
        if not isinstance(function, ColumnarLabelingFunction):
            votes[function.name] = _row_votes(function, rows, key, classes)
    return {function.name: votes[function.name] for function in functions}


def _columnar_votes(
    engine: Engine, functions: Sequence[ColumnarLabelingFunction], rows: pa.Table
) -> dict[str, pa.Array]:
    """One pass for all functions; the position of each row travels along, since engines may reorder."""
    position = "_position"
    table = engine.from_arrow(rows.append_column(position, pa.array(np.arange(rows.num_rows))))
    columns = {function.name: function.votes(table) for function in functions}
    try:
        found = engine.run(table.select(table[position], **columns))
    except WeakfishError as error:
        raise _culprit(engine, functions, rows, error) from error
    found = found.sort_by(position)
    if found.num_rows != rows.num_rows:
        raise LabelingFunctionError(
            f"A columnar labeling function made {found.num_rows} votes of {rows.num_rows} rows; "
            "conditions keep the rows of their table."
        )
    return {function.name: found[function.name].combine_chunks() for function in functions}


def _culprit(
    engine: Engine, functions: Sequence[ColumnarLabelingFunction], rows: pa.Table, error: WeakfishError
) -> WeakfishError:
    """The error with the name of the function that the engine cannot run."""
    table = engine.from_arrow(rows)
    for function in functions:
        try:
            engine.run(table.select(vote=function.votes(table)))
        except WeakfishError as own:
            return LabelingFunctionError(
                f"Labeling function {function.name!r} ({function.__module__}) cannot be computed: {own} "
                "Correct its condition."
            )
    return error


def _row_votes(function: LabelingFunction, rows: pa.Table, key: str, classes: Sequence[str]) -> pa.Array:
    """Row by row over pandas Series, as Snorkel's appliers do; nulls are None and integers stay integers."""
    votes = []
    for values in rows.to_pylist():
        row = pd.Series(values, dtype=object)
        try:
            vote = function(row)
        except Exception as error:
            raise LabelingFunctionError(
                f"Labeling function {function.name!r} ({function._f.__module__}) raised {type(error).__name__} "
                f"on row {row[key]!r}: {error}; make it return -1 where it cannot tell."
            ) from error
        votes.append(check_vote(vote, function.name, f"{function._f.__module__}, row {row[key]!r}", classes))
    return pa.array(votes, VOTE)
