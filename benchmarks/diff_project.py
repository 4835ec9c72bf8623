"""A small project of made-up payments in files of CSV, run in this process, and kept in git and DVC's cache."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from weakfish.cli.main import cli

MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04")
ROWS = 80
"""Payments of a month."""

BIN = Path(sys.executable).parent

BAD = "p9999"
"""The payment that is quarantined, for its sum is negative."""

COLUMNS = ("payment_id", "paid_at", "customer", "merchant", "channel", "amount", "items", "note", "judged")
OWN = ("feature_repo", "labeling_functions", "sources", "validation")

FUNCTIONS = '''"""What tells fraud from payments that are fine."""

from weakfish.rules import keywords, threshold, votes
from snorkel.labeling import labeling_function

FINE = 0
FRAUD = 1
NIGHT = 5


@votes(FRAUD)
def is_at_night(payment):
    """Few people pay at night."""
    hour = payment.paid_at.hour()
    return hour < NIGHT


@votes(FRAUD)
def has_many_items(payment):
    """Thieves buy in bulk."""
    return payment.items > 7


@votes(FINE)
def is_at_noon(payment):
    """Lunch is honest."""
    return payment.paid_at.hour().between(11, 14)


@labeling_function()
def says_rent(payment):
    """Rent is paid every month."""
    words = (payment.note or "").split()
    return FINE if "rent" in words else -1


is_large = threshold("is_large", FRAUD, "amount", above=400, why="Large sums are worth the trouble.")
is_small = threshold("is_small", FINE, "amount", below=100, why="Small sums are not.")
says_gift = keywords("says_gift", FRAUD, "note", ["gift"], why="Gift cards cannot be taken back.")
says_invoice = keywords("says_invoice", FINE, "note", ["invoice"], why="Who writes invoices can be found.")
'''

TRANSFORMS = '''"""What was known of a customer before a payment."""

from weakfish.features import Past, transform

DAYS = 30


@transform(entity="customer")
def customer_activity(past: Past):
    """How often, how much, and what it turned out to be."""
    week, month = past.last(days=7), past.last(days=DAYS)
    return {
        "payments_7d": week.count(),
        "payments_30d": month.count(),
        "amount_mean_30d": month.mean(past.events.amount),
        "merchants_30d": month.distinct(past.events.merchant),
        "fraud_share": past.ever.known_labels("fraud").share("fraud"),
    }


@transform(entity="merchant")
def merchant_activity(past: Past):
    """How busy a merchant is."""
    month = past.last(days=30)
    return {"payments_30d": month.count(), "items_30d": month.sum(past.events.items)}
'''

DEFINITIONS = '''"""What Feast serves."""

from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, ValueType

from weakfish.feast.definitions import view_schema, view_source
from weakfish.project.paths import Project

here = Project.find(Path(__file__).parent)


def view(entity: str):
    """The view of an entity, and the entity."""
    name = f"{entity}_activity"
    known = Entity(name=entity, value_type=ValueType.STRING)
    schema, source = view_schema(here, name), view_source(here, name)
    return known, FeatureView(name=name, entities=[known], ttl=timedelta(0), schema=schema, source=source)


customer, customer_activity = view("customer")
merchant, merchant_activity = view("merchant")
service = FeatureService(name="fraud_v1", features=[customer_activity, merchant_activity])
'''

SUITE = '''"""What must hold."""

from great_expectations import expectations as gxe

MOST = 100000

EXPECTATIONS = [
    gxe.ExpectColumnValuesToNotBeNull(column="{column}", severity="critical", meta={{"why": "It tells rows apart."}}),
    gxe.ExpectColumnValuesToBeBetween(
        column="{number}", min_value=0, max_value=MOST, severity="critical", meta={{"why": "No debts."}}
    ),
]
'''

PARAMS = """# Made-up payments.
events: {key: payment_id, time: paid_at}
fetch: {watch: raw, look: []}
source:
  reader: sources.events:Events
  path: raw
  columns:
    payment_id: string
    paid_at: time
    customer: string
    merchant: string
    channel: string
    amount: number
    items: integer
    note: string
    judged: string
  key: payment_id
  time: paid_at
  gold: {fraud: judged}
gold: {split: "2024-04-01"}
validation: {max_quarantined_share: 0.5}
tasks: {fraud: {classes: [fine, fraud], functions: all}}
label_models:
  fraud:
    class_balance: [0.8, 0.2]
    method: snorkel
    n_epochs: 100
    known: dev
    reader: "off"
    seed: 1
views: [customer_activity, merchant_activity]
features: {boundary_hours: 1, labeling_delay_hours: 24}
publish: {as_of: last}
evaluate: {text: [note], seeds: [1], bootstrap: 10}
"""

PIPELINE = """stages:
  make:
    cmd: "true"
    outs:
      - data/staged
      - data/gold/dev
      - data/gold/test
      - data/reviews/dev
      - data/reviews/test
      - data/events
      - data/quarantine/raw
      - data/quarantine/events
      - data/votes
      - data/labels
      - data/features
      - data/training
      - reports/ledger
      - reports/labeling_functions.json
"""

FILES = {
    "params.yaml": PARAMS,
    "dvc.yaml": PIPELINE,
    "requirements.txt": "duckdb==1.4.0\nsnorkel==0.10.0\n",
    ".gitignore": "/data\n/reports\n/.weakfish\n__pycache__\n",
    "sources/__init__.py": "",
    "sources/events.py": "from pathlib import Path\n\nfrom weakfish.sources.tabular import tabular_source\n\n"
    "Events = tabular_source(Path(__file__).parents[1])\n",
    "labeling_functions/__init__.py": "",
    "labeling_functions/payments.py": FUNCTIONS,
    "feature_repo/__init__.py": "",
    "feature_repo/feature_store.yaml": """project: payments
provider: local
registry: {path: ../data/registry/registry.db}
offline_store: {type: weakfish.feast.offline.AsOfOfflineStore}
online_store: {type: weakfish.feast.online.ProjectRedisOnlineStore}
batch_engine: {type: weakfish.feast.materialize.ColumnarComputeEngine}
entity_key_serialization_version: 3
""",
    "feature_repo/definitions.py": DEFINITIONS,
    "feature_repo/transforms.py": TRANSFORMS,
    "validation/__init__.py": "",
    "validation/patches/README.md": "Patches of rows.\n",
    "validation/events.py": SUITE.format(column="payment_id", number="amount"),
    "validation/labels/fraud.py": SUITE.format(column="payment_id", number="p_fraud"),
    "validation/features/customer_activity.py": SUITE.format(column="customer", number="payments_30d"),
    "validation/features/merchant_activity.py": SUITE.format(column="merchant", number="items_30d"),
}

STAGES: Sequence[Sequence[str]] = (
    ["fetch"],
    ["ingest"],
    ["validate", "events"],
    ["accept"],
    ["gather-reviews"],
    ["vote"],
    ["label"],
    ["validate", "labels/fraud"],
    ["gate", "labels/fraud"],
    ["features"],
    ["validate", "features/customer_activity"],
    ["gate", "features/customer_activity"],
    ["validate", "features/merchant_activity"],
    ["gate", "features/merchant_activity"],
    ["training-set"],
)


def payments(month: str) -> list[dict[str, str]]:
    """The payments of a month as fields of CSV; fraud differs somewhat in hour, amount, items and note."""
    number = MONTHS.index(month)
    rng = np.random.default_rng(number)
    found = []
    for row in range(ROWS):
        fraud = rng.random() < 0.25
        hour = int(rng.integers(0, 6)) if fraud and rng.random() < 0.5 else int(rng.integers(7, 23))
        notes = ("gift for you", "urgent transfer", "thanks") if fraud else ("rent for May", "invoice 7", "books")
        judged = "fraud" if fraud else "fine"
        found.append(
            {
                "payment_id": f"p{number * ROWS + row:04}",
                "paid_at": f"{month}-{row * 27 // ROWS + 1:02}T{hour:02}:{int(rng.integers(60)):02}:00Z",
                "customer": f"c{int(rng.integers(12)):02}",
                "merchant": f"m{int(rng.integers(5))}",
                "channel": ("web", "shop", "phone")[int(rng.integers(3))],
                "amount": f"{rng.exponential(400 if fraud else 150):.2f}",
                "items": str(int(rng.integers(5, 10) if fraud else rng.integers(1, 9))),
                "note": str(rng.choice(notes)),
                "judged": judged if rng.random() < 0.4 else "",
            }
        )
    if month == MONTHS[0]:
        found[4]["payment_id"], found[4]["amount"] = BAD, "-12.50"
    return found


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a raw file."""
    return list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))


def write_rows(file: Path, rows: Sequence[Mapping[str, str]], header: Sequence[str] | None = None) -> None:
    """Write a raw file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, header or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.getvalue(), encoding="utf-8")


def make(root: Path) -> None:
    """Write the project into a new folder, run it, and commit it."""
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for month in MONTHS:
        write_rows(root / f"raw/{month}.csv", payments(month))
    run(root)
    call(root, "git", "init", "--quiet")
    call(root, str(BIN / "dvc"), "init", "--quiet")
    call(root, str(BIN / "dvc"), "commit", "--quiet", "--force")
    commit(root, "accepted")


def commit(root: Path, message: str) -> None:
    """Commit all that git sees."""
    call(root, "git", "add", "--all")
    who = ("-c", "user.name=b", "-c", "user.email=b@example.org")
    call(root, "git", *who, "commit", "--quiet", "--message", message)


def call(root: Path, *arguments: str) -> None:
    """Run a program, which must succeed."""
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    subprocess.run(arguments, cwd=root, check=True, capture_output=True, env=environment)


def run(root: Path, stages: Sequence[Sequence[str]] = STAGES) -> None:
    """Run stages in this process; raises what the first of them raises that fails."""
    with _own_modules(root), contextlib.chdir(root), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for arguments in stages:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                cli.main(list(arguments), prog_name="weakfish", standalone_mode=False)


@contextlib.contextmanager
def _own_modules(root: Path) -> Iterator[None]:
    """Import the project's packages from its folder, whatever was imported before."""
    path = list(sys.path)
    sys.path[:] = [str(root), *(entry for entry in path if not any((Path(entry) / name).is_dir() for name in OWN))]
    _forget()
    try:
        yield
    finally:
        sys.path[:] = path
        _forget()


def _forget() -> None:
    import inspect
    import linecache

    linecache.clearcache()
    for name in OWN:
        vars(inspect).get("_filesbymodname", {}).pop(name, None)
    for name in [name for name in sys.modules if name.split(".")[0] in OWN]:
        del sys.modules[name]
