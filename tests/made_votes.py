"""A project whose votes are made: six rules with known errors vote on orders of known kinds, and labels follow.

A test bends the votes of some months, labels, and asks what the checks say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from in_process import own_modules
from projects import ORDERS, write

from weakfish.contracts.tables import TIME, Part, folder, write_partition
from weakfish.contracts.votes_file import FAILED, fingerprint, print_of, votes_file, write_votes
from weakfish.files import write_json
from weakfish.labeling.label import label
from weakfish.project.paths import Project

RULES = ("is_large", "is_odd", "buys_gift_cards", "is_rushed", "is_small", "is_a_book")
"""The first two vote for both classes, two more for fraud alone, two for fine alone."""

RIGHT = (0.9, 0.8, 0.9, 0.85, 0.9, 0.85)
"""How often each is right where it votes, of an order of either kind."""

COVERAGE = 0.6
"""On how many of the orders that it may vote on each does."""

Votes = npt.NDArray[np.int8]
Gold = npt.NDArray[np.int64]
Bend = Callable[[Votes, Gold], Votes]
"""What a test does to the votes of one rule in one month."""


def project(root: Path) -> Project:
    """The project, without votes; import its functions within `own_functions`."""
    write(root / "params.yaml", ORDERS)
    write(root / "dvc.yaml", "stages: {}\n")
    lines = [f'{rule} = threshold("{rule}", 1, "amount", above=1, why="Made for a test.")' for rule in RULES]
    write(root / "labeling_functions/made.py", "\n".join(["from weakfish.rules import threshold", "", *lines, ""]))
    return Project(root)


def vote(
    at: Project,
    month: str,
    *,
    rows: int = 600,
    fraud: float = 0.4,
    seed: int = 0,
    bends: Mapping[str, Bend] | None = None,
    edited: tuple[str, ...] = (),
    gold_in: Part | None = None,
) -> None:
    """Orders of a month, of which the share ``fraud`` is fraud, and votes on them; ``gold_in`` is told the truth."""
    random = np.random.default_rng([seed, *month.encode()])
    gold = (random.random(rows) < fraud).astype(np.int64)
    keys = pa.array([f"{month}-{number}" for number in range(rows)])
    start = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
    times = pa.array([start + timedelta(hours=hour) for hour in range(rows)], TIME)
    events = {"order_id": keys, "placed_at": times, "amount": pa.array([100] * rows)}
    write_partition(at.table("events"), month, pa.table(events))
    if gold_in:
        labels = pa.array(["fine", "fraud"]).take(pa.array(gold))
        write_partition(folder(at, "fraud", gold_in), month, pa.table({"order_id": keys, "label": labels}))
    by_rule = {}
    for number, rule in enumerate(RULES):
        votes = _votes(random, gold, number)
        by_rule[rule] = (bends or {}).get(rule, lambda votes, _: votes)(votes, gold).astype(np.int8)
    write_votes(votes_file(at, "fraud", month), by_rule, fingerprint(pa.chunked_array([keys])))
    made = {
        rule: {"module": "labeling_functions.made", "identity": "new" if rule in edited else "old"} for rule in RULES
    }
    write_json(at.table("votes") / "fraud.manifest.json", {"task": "fraud", "functions": made})


def _votes(random: np.random.Generator, gold: Gold, number: int) -> Votes:
    said = np.where(random.random(len(gold)) < RIGHT[number], gold, 1 - gold)
    votes = np.where(random.random(len(gold)) < COVERAGE, said, -1)
    only = {2: 1, 3: 1, 4: 0, 5: 0}.get(number)
    return np.where((votes == only) | (only is None), votes, -1).astype(np.int8)


def revote(file: Path, votes: Mapping[str, Votes]) -> None:
    """Let some functions vote otherwise in a votes file; the votes of others stay."""
    table = pq.ParquetFile(file).read()
    before = {name: table[name].fill_null(FAILED).to_numpy() for name in table.column_names}
    file.unlink()
    write_votes(file, before | dict(votes), print_of(table))


def labelled(at: Project) -> Project:
    """The project with labels and the reports on them."""
    with own_functions():
        label(at)
    return at


own_functions = own_modules
"""To import the labeling functions of such a project, not those of another that came before."""
