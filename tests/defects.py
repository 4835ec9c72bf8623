"""Kinds of defects, what is done to the demo's tables for each, and what has to come of it.

Tables are changed a partition at a time, as Arrow tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from corpus import EVENTS, LABELS
from made_votes import revote

from weakfish.contracts.tables import partitions, read_partition, read_table, write_partition
from weakfish.contracts.votes_file import fingerprint, votes_file, write_votes
from weakfish.project.paths import Project
from weakfish.rules.slices import SLICES

Rows = Callable[[pa.Table], pa.Table]
"""What a defect does to the rows of a partition."""

Votes = npt.NDArray[np.int8]

NO_TIME = "column_values_to_not_be_null(received_at)"
TWICE = "column_values_to_be_unique(message_id)"
NO_KEY = "column_values_to_not_be_null(message_id)"
OUT_OF_RANGE = "column_values_to_be_between(received_at)"


def change(folder: Path, rows: Rows, *months: str) -> None:
    """Change partitions of a table, all by default."""
    for name, file in partitions(folder).items():
        if not months or name in months:
            changed = rows(read_partition(file))
            file.unlink()
            write_partition(folder, name, changed)


def put(table: pa.Table, column: str, value: Any, places: npt.NDArray[np.int64]) -> pa.Table:
    """The table with ``value`` in some rows of a column."""
    field = table.schema.field(column)
    values = table[column].to_pylist()
    for place in places.tolist():
        values[place] = value
    return table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))


def some(table: pa.Table, share: float, seed: int = 1) -> npt.NDArray[np.int64]:
    """Rows at random, one at least."""
    number = max(1, round(table.num_rows * share))
    return np.sort(np.random.default_rng(seed).choice(table.num_rows, number, replace=False))


def change_votes(project: Project, function: str, votes: Callable[[Votes], Votes], *months: str) -> None:
    """Change the votes of a labeling function, on all events by default."""
    for name, file in partitions(project.table("votes/spam")).items():
        if not months or name in months:
            old = pq.ParquetFile(file).read([function])[function].to_numpy().astype(np.int8)
            revote(file, {function: votes(old)})


def new_month(project: Project, month: str, rows: int, spam: float | None) -> None:
    """Add a month of events that others were, under new keys, with the votes and slices that they had.

    ``spam`` is the share of those that are labelled as spam; None takes them as they come.
    """
    key = project.params.events.key
    table = read_table(project.table(EVENTS))
    probabilities = read_table(project.table(LABELS))["p_spam"].to_numpy()
    random = np.random.default_rng(1)
    if spam is None:
        chosen = random.choice(table.num_rows, rows, replace=False)
    else:
        sides = ((probabilities >= 0.5, spam), (probabilities < 0.5, 1 - spam))
        chosen = np.concatenate([random.choice(np.flatnonzero(side), round(rows * share)) for side, share in sides])
    keys = pa.array([f"{number:032x}" for number in range(len(chosen))])
    new = table.take(pa.array(chosen)).set_column(table.schema.get_field_index(key), table.schema.field(key), keys)
    for task in ("spam", SLICES):
        old = read_table(project.table(f"votes/{task}"))
        votes = {name: old[name].to_numpy()[chosen].astype(np.int8) for name in old.column_names}
        write_votes(votes_file(project, task, month), votes, fingerprint(pa.chunked_array([keys])))
    write_partition(project.table(EVENTS), month, new)


def spam_share(folder: Path) -> float:
    """The share of gold labels below ``folder`` that say spam."""
    labels: list[str] = read_table(folder)["label"].to_pylist()
    return labels.count("spam") / len(labels)


def copies(table: pa.Table) -> pa.Table:
    """A tenth of the rows make way for copies of others."""
    places = some(table, 0.2)
    rows = np.arange(table.num_rows)
    rows[places[::2][: len(places) // 2]] = places[1::2]
    return table.take(pa.array(rows))


def nulls(column: str, share: float, table: pa.Table) -> pa.Table:
    """Values of a column go missing."""
    return put(table, column, None, some(table, share))


def future(table: pa.Table) -> pa.Table:
    """Some rows come from thirty years ahead."""
    place = table.schema.get_field_index("received_at")
    times = table["received_at"].combine_chunks()
    moved = pc.add(times, pa.scalar(30 * 365 * 86_400_000_000, pa.duration("us")))
    chosen = pa.array(np.isin(np.arange(table.num_rows), some(table, 0.05)))
    return table.set_column(place, table.schema.field(place), pc.if_else(chosen, moved, times))


def as_text(table: pa.Table) -> pa.Table:
    """A column of numbers becomes one of text."""
    return table.set_column(table.schema.get_field_index("priority"), "priority", table["priority"].cast(pa.string()))


@dataclass(frozen=True)
class Defect:
    """What is done to which months of the staged events (all by default), and what has to come of it.

    ``stops`` are all checks that set rows aside or close the gate; ``warns`` are among those that warn.
    """

    rows: Rows
    months: tuple[str, ...] = ()
    stops: dict[str, str] = field(default_factory=dict)
    warns: tuple[str, ...] = ()


LATE = ("2002-08", "2002-09", "2002-10")
"""Accepted and new months, whichever of both baselines there is."""

DEFECTS = {
    "rows that stand twice": Defect(copies, ("2002-10",), {TWICE: "quarantined"}),
    "more rows that stand twice than may be set aside": Defect(
        lambda table: table.take(pa.array(np.arange(table.num_rows) // 2)),
        ("2002-08", "2002-09"),
        {TWICE: "failed", NO_TIME: "failed"},
        ("column_proportion_of_unique_values_to_be_between(body)",),
    ),
    "keys that are null": Defect(partial(nulls, "message_id", 0.1), ("2002-10",), {NO_KEY: "quarantined"}),
    "values that are null": Defect(
        partial(nulls, "sender_domain", 0.4),
        LATE,
        warns=("column_values_to_not_be_null(sender_domain)", "nulls(sender_domain)"),
    ),
    "times in the future": Defect(future, ("2002-10",), {OUT_OF_RANGE: "quarantined"}),
    "a truncated month": Defect(
        lambda table: table.slice(0, table.num_rows // 2),
        ("2002-07",),
        {"table_row_count_to_equal()": "failed", "volume(lost)": "failed"},
    ),
    "a column that is gone": Defect(lambda table: table.drop_columns(["mailer"]), stops={"schema": "failed"}),
    "a column of another type": Defect(as_text, stops={"schema": "failed"}),
    "a column that is new": Defect(
        lambda table: table.append_column("color", pa.nulls(table.num_rows, pa.string())), warns=("schema(new)",)
    ),
    "a new category": Defect(
        lambda table: put(table, "content_type", "application/unheard-of", some(table, 0.2)),
        LATE,
        warns=("categories(content_type)",),
    ),
}


NEW_MONTHS = ("2002-09", "2002-10", "2002-11", "2002-12")


@dataclass(frozen=True)
class RuleDefect:
    """What is done to the votes of a labeling function, the check that has to notice, and how grave it is where the
    accepted months are concerned, and where only new ones are."""

    function: str
    votes: Callable[[Votes], Votes]
    check: str
    everywhere: str = "failed"
    in_new_months: str = "failed"


RULE_DEFECTS = {
    "a dead rule": RuleDefect("asks_to_click", lambda votes: np.full_like(votes, -1), "rule_died", "failed", "warned"),
    "a rule that votes for the other class": RuleDefect(
        "quotes_someone", lambda votes: np.where(votes == 0, 1, votes).astype(np.int8), "rule_flipped"
    ),
    "a rule with its condition turned round": RuleDefect(
        "came_over_a_list", lambda votes: np.where(votes == 0, -1, 0).astype(np.int8), "rule_flipped"
    ),
    "a rule that votes on everything": RuleDefect(
        "talks_shop", lambda votes: np.zeros_like(votes), "rule_fires_everywhere", "failed", "warned"
    ),
}
