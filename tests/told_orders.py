"""Orders with votes on some, whose notes tell what they are: for tests of readers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from projects import ORDERS, contents, replace, write

from weakfish.contracts.tables import TIME, read_table, write_partition
from weakfish.contracts.votes_file import fingerprint, write_votes
from weakfish.files import write_json
from weakfish.labeling.label import label
from weakfish.project.paths import Project

FUNCTIONS = ("one", "two", "three", "four")
MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04")
TOPICS = (["fruit", "apple", "bread", "cheese", "market"], ["urgent", "voucher", "transfer", "account", "prize"])
OTHER = ["the", "a", "of", "to", "in", "on", "for", "with", "at", "by"]

Ints = npt.NDArray[np.int64]


def truth_of(name: str, rows: int) -> Ints:
    """The classes of a month's orders."""
    return np.random.default_rng([1, *name.encode()]).integers(2, size=rows)


def write_month(root: Path, name: str, *, rows: int = 240, covered: float = 0.6, told: bool = True) -> None:
    """Orders of a month whose notes tell their class, or do not, and votes that are mostly right on a part of them."""
    truth, draw = truth_of(name, rows), np.random.default_rng([2, *name.encode()])
    keys = pa.array([f"{name}-{number:03}" for number in range(rows)])
    start = datetime.fromisoformat(f"{name}-01").replace(tzinfo=UTC)
    times = pa.array([start + timedelta(hours=number) for number in range(rows)], TIME)
    notes = [
        " ".join([*draw.choice(TOPICS[kind], 3 * told), *draw.choice(OTHER, 6), f"n{number}"])
        for number, kind in enumerate(truth)
    ]
    notes[:2] = "", ""  # nothing to read
    events: dict[str, Any] = {"order_id": keys, "placed_at": times, "note": pa.array(notes)}
    events["amount"] = pa.array(np.where(truth == 1, 500.0, 20.0) * draw.lognormal(0, 0.3, rows))
    events["paid"] = pa.array((draw.random(rows) < 0.5).tolist())
    events["state"] = pa.array([{"is": "new"}] * rows)
    write_partition(root / "data/events", name, pa.table(events))
    voted = draw.random(rows) < covered
    voted[:2] = False, covered > 0
    by_function = {}
    for column, function in enumerate(FUNCTIONS):
        votes = np.where(draw.random(rows) < 0.85 - 0.05 * column, truth, 1 - truth)
        by_function[function] = np.where(voted & (draw.random(rows) < 0.7), votes, -1).astype(np.int8)
    write_votes(root / f"data/votes/fraud/{name}.parquet", by_function, fingerprint(pa.chunked_array([keys])))
    made = {function: {"module": "labeling_functions.orders", "identity": "ab"} for function in FUNCTIONS}
    write_json(root / "data/votes/fraud.manifest.json", {"task": "fraud", "functions": made})


def project(root: Path, settings: str, *months: str, **how: Any) -> Path:
    """A project of orders with votes on some months."""
    write(root / "params.yaml", ORDERS)
    write(root / "dvc.yaml", "stages: {}\n")
    lines = [f'{name} = threshold("{name}", 1, "amount", above=1, why="Made.")' for name in FUNCTIONS]
    write(root / "labeling_functions/orders.py", "\n".join(["from weakfish.rules import threshold", "", *lines, ""]))
    replace(root / "params.yaml", "method: snorkel", f"method: snorkel{', ' if settings else ''}{settings}")
    for name in months or MONTHS[:2]:
        write_month(root, name, **how)
    return root


ON = "reader: on, reads: [note]"


def learning(root: Path) -> Path:
    """Orders of two months whose labels `auto` makes, with what is known of them."""
    made = project(root, "known: dev", *MONTHS[:2])
    replace(made / "params.yaml", "method: snorkel", "method: auto")
    return made


def labels(root: Path) -> dict[str, bytes]:
    label(Project(root))
    return contents(root / "data/labels")


def manifest(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "data/labels/fraud.manifest.json").read_text())
    return found


def rows(root: Path) -> dict[str, npt.NDArray[Any]]:
    """The columns of the labels."""
    table = read_table(root / "data/labels/fraud")
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}
