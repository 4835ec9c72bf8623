"""A project of made-up payments, from raw Parquet on: two entities, short notes, ten functions, gold on 5 %."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.growth_features import FILES as OF_FEATURES

TASK, VIEWS = "fraud", ("customer_activity", "merchant_activity")
FRAUD, GOLD = 0.1, 0.05
"""The shares of payments that are fraud, and of those that somebody judged."""

FUNCTIONS = {
    "is_large": (1, "payment.amount > 400"),
    "says_gift": (1, 'payment.note.contains("gift")'),
    "says_urgent": (1, r'payment.note.re_search(r"(?i)\burgent\b")'),
    "is_at_night": (1, "payment.paid_at.hour() < 5"),
    "has_many_items": (1, "payment.items > 7"),
    "is_small": (0, "payment.amount < 100"),
    "says_rent": (0, 'payment.note.contains("rent")'),
    "says_invoice": (0, 'payment.note.re_search(r"(?i)invoice (no|number)")'),
    "is_at_noon": (0, "payment.paid_at.hour().between(11, 14)"),
    "has_one_item": (0, "payment.items == 1"),
}

NOTES: dict[bool, Sequence[str]] = {
    False: ("rent for May", "Invoice number 12", "books", "groceries", "thanks", "gift for you", "invoice no 7"),
    True: ("gift for you", "URGENT please", "urgent transfer", "thanks", "books", "a gift", "groceries"),
}

PARAMS = """
events: {{key: payment_id, time: paid_at, partition: {partition}}}
fetch: {{watch: raw, look: []}}
source:
  reader: sources.events:Events
  path: raw
  columns:
    {{payment_id: string, paid_at: time, customer: string, merchant: string, amount: number, items: integer,
     note: string, judged: string}}
  key: payment_id
  time: paid_at
  gold: {{fraud: judged}}
gold: {{split: "{split}"}}
validation: {{max_quarantined_share: 0.05}}
tasks: {{fraud: {{classes: [fine, fraud], functions: all}}}}
label_models: {{fraud: {{class_balance: [0.9, 0.1], method: auto, known: dev, reader: "off"}}}}
views: [customer_activity, merchant_activity]
features: {{boundary_hours: 1, labeling_delay_hours: 24}}
evaluate: {{text: [note], seeds: [1], bootstrap: 50}}
"""

SUITE = """
from great_expectations import expectations as gxe

EXPECTATIONS = [
    gxe.ExpectColumnValuesToNotBeNull(column="{column}", severity="critical", meta={{"why": "It tells rows apart."}}),
    gxe.ExpectColumnValuesToBeBetween(column="{number}", min_value=0, severity="critical", meta={{"why": "No debts."}}),
]
"""

SUITES = {
    "events": ("payment_id", "amount"),
    "labels/fraud": ("payment_id", "p_fraud"),
    "features/customer_activity": ("customer", "payments_30d"),
    "features/merchant_activity": ("merchant", "items_30d"),
    "training/fraud": ("payment_id", "p_fraud"),
}

SOURCE = """
from pathlib import Path

from weakfish.sources.tabular import tabular_source

Events = tabular_source(Path(__file__).parents[1])
"""

STORE = """online_store: {type: weakfish.feast.online.ProjectRedisOnlineStore}
batch_engine: {type: weakfish.feast.materialize.ColumnarComputeEngine}
"""


@dataclass(frozen=True)
class Shape:
    """How many events there are in the first year or, by day, in as many days; how many customers; extra functions.

    One customer has the ``share`` of the events beside its own.
    """

    events: int
    customers: int | None = None
    days: int | None = None
    functions: int = 0
    share: float = 0.0

    @property
    def periods(self) -> list[tuple[np.datetime64, np.datetime64]]:
        """When each file of raw events begins and ends."""
        if self.days:
            days = np.datetime64("1998-01-01") + np.arange(self.days + 1)
            return [(days[place], days[place + 1]) for place in range(self.days)]
        months = np.datetime64("2024-01") + np.arange(13)
        return [(months[place], months[place + 1]) for place in range(12)]


def make(root: Path, shape: Shape) -> None:
    """Write the project and its raw events, those of the last period too."""
    (root / "raw").mkdir(parents=True)
    for name, text in files(shape).items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.lstrip(), encoding="utf-8")
    size = shape.events // len(shape.periods)
    for first in range(0, len(shape.periods), 500):  # files of text by the hundred, not by the ten thousand
        some = shape.periods[first : first + (500 if shape.days else 12)]
        if shape.days:
            tables = [payments(first + number, size, shape, *period) for number, period in enumerate(some)]
            pq.write_table(pa.concat_tables(tables), root / f"raw/{first:06}.parquet", compression="zstd")
        else:
            for number, period in enumerate(some):
                add(root, number, size, shape, period)


def add(root: Path, number: int, size: int, shape: Shape, period: tuple[np.datetime64, np.datetime64]) -> None:
    """Write a file of raw events."""
    table = payments(number, size, shape, *period)
    pq.write_table(table, root / f"raw/{period[0]}.parquet", row_group_size=131_072, compression="zstd")


def files(shape: Shape) -> dict[str, str]:
    """The texts of the project, by path."""
    split = shape.periods[len(shape.periods) * 3 // 4][0].astype("datetime64[D]")
    votes = [f"@votes({cls})\ndef {name}(payment):\n    return {body}\n" for name, (cls, body) in FUNCTIONS.items()]
    head = "from weakfish.rules import threshold, votes\n\n"
    more = [
        f'over_{n} = threshold("over_{n}", 1, "amount", above={300 + n}, why="Made.")\n' for n in range(shape.functions)
    ]
    own = {
        "params.yaml": PARAMS.format(partition="day" if shape.days else "month", split=split),
        "sources/__init__.py": "",
        "sources/events.py": SOURCE,
        "labeling_functions/payments.py": head + "\n\n".join([*votes, *more]),
        "feature_repo/feature_store.yaml": OF_FEATURES["feature_repo/feature_store.yaml"] + STORE,
        "validation/__init__.py": "",
        "validation/patches/README.md": "",
    }
    suites = {
        f"validation/{table}.py": SUITE.format(column=column, number=number)
        for table, (column, number) in SUITES.items()
    }
    return {**OF_FEATURES, **own, **suites}


def payments(number: int, rows: int, shape: Shape, start: np.datetime64, end: np.datetime64) -> pa.Table:
    """The payments of a period, in the order of time; fraud differs from the rest in all columns, somewhat."""
    rng = np.random.default_rng(number)
    first, last = (int(day.astype("datetime64[us]").astype(np.int64)) for day in (start, end))
    times, fraud = np.sort(rng.integers(first, last, rows)), rng.random(rows) < FRAUD
    night = fraud & (rng.random(rows) < 0.4)
    day = 86_400_000_000
    times = np.where(night, times - times % day + rng.integers(5 * 3_600_000_000, size=rows), times)
    customers = shape.customers or max(20, shape.events // 100)
    if shape.customers and shape.customers >= shape.events:
        customer = np.arange(rows) + number * rows
    else:
        customer = (rng.random(rows) ** 2 * customers).astype(np.int64)
    if shape.share:
        customer = np.where(np.random.default_rng([number, 1]).random(rows) < shape.share, 0, customer)
    merchants = rng.integers(max(10, shape.events // 5000), size=rows)
    judged = pa.array(np.where(fraud, "fraud", "fine"), mask=rng.random(rows) >= GOLD)
    return pa.table(
        {
            "payment_id": pa.array(np.char.add("p", (np.arange(rows) + number * rows).astype(str))),
            "paid_at": pa.array(times).cast(pa.timestamp("us", "UTC")),
            "customer": pa.array(np.char.add("c", customer.astype(str))),
            "merchant": pa.array(np.char.add("m", merchants.astype(str))),
            "amount": np.round(rng.exponential(np.where(fraud, 400, 120), rows), 2),
            "items": np.where(fraud, rng.integers(3, 10, rows), rng.integers(1, 9, rows)),
            "note": pa.array(_notes(rng, fraud)),
            "judged": judged,
        }
    ).sort_by("paid_at")


def _notes(rng: np.random.Generator, fraud: npt.NDArray[np.bool_]) -> npt.NDArray[np.str_]:
    chosen = rng.integers(len(NOTES[True]), size=len(fraud))
    return np.where(fraud, np.array(NOTES[True])[chosen], np.array(NOTES[False])[chosen])
