"""How features and training sets grow: `python -m benchmarks.growth_features [EVENTS ...] [--work W]`.

Made-up payments of two entities in twelve months: seconds and peak memory of the whole stage and of one new month, for
each number of events, and the training set. ``equal`` says that the month gave the bytes of the whole.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Figure
from benchmarks.process import own_peak_mb, run

MONTHS = [np.datetime64(f"2024-{month:02}") for month in range(1, 13)]
SIZES = (100_000, 1_000_000)

FILES = {
    "params.yaml": """
events: {key: payment_id, time: paid_at}
source: {reader: sources.none:None}
gold: {split: "2024-12-01"}
tasks: {fraud: {classes: [fine, fraud], functions: all}}
label_models: {fraud: {class_balance: [0.9, 0.1], method: auto}}
views: [customer_activity, merchant_activity]
features: {boundary_hours: 1, labeling_delay_hours: 24}
evaluate: {text: [note], seeds: [1], bootstrap: 1}
""",
    "labeling_functions/__init__.py": "",
    "feature_repo/__init__.py": "",
    "dvc.yaml": "stages: {}\n",
    "labeling_functions/payments.py": """
import ibis.expr.types as ir
from weakfish.rules import votes


@votes(1)
def is_large(payment: ir.Table) -> ir.BooleanValue:
    return payment.amount > 400


@votes(1)
def says_gift(payment: ir.Table) -> ir.BooleanValue:
    return payment.note.contains("gift")


@votes(0)
def is_small(payment: ir.Table) -> ir.BooleanValue:
    return payment.amount < 100


@votes(0)
def says_rent(payment: ir.Table) -> ir.BooleanValue:
    return payment.note.contains("rent")
""",
    "feature_repo/feature_store.yaml": """
project: growth
provider: local
registry: {path: ../data/registry/registry.db}
offline_store: {type: weakfish.feast.offline.AsOfOfflineStore}
entity_key_serialization_version: 3
""",
    "feature_repo/definitions.py": """
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, ValueType

from weakfish.feast.definitions import view_schema, view_source
from weakfish.project.paths import Project

here = Project.find(Path(__file__).parent)


def view(entity: str) -> FeatureView:
    name = f"{entity}_activity"
    known = Entity(name=entity, value_type=ValueType.STRING)
    schema, source = view_schema(here, name), view_source(here, name)
    return known, FeatureView(name=name, entities=[known], ttl=timedelta(0), schema=schema, source=source)


customer, customer_activity = view("customer")
merchant, merchant_activity = view("merchant")
service = FeatureService(name="fraud_v1", features=[customer_activity, merchant_activity])
""",
    "feature_repo/transforms.py": """
from weakfish.features import Past, transform


@transform(entity="customer")
def customer_activity(past: Past):
    week, month = past.last(days=7), past.last(days=30)
    return {
        "payments_7d": week.count(),
        "payments_30d": month.count(),
        "amount_mean_30d": month.mean(past.events.amount),
        "merchants_30d": month.distinct(past.events.merchant),
        "payments": past.ever.count(),
        "fraud_share": past.ever.known_labels("fraud").share("fraud"),
        "last_seen_at": past.last_seen(),
    }


@transform(entity="merchant")
def merchant_activity(past: Past):
    week, month = past.last(days=7), past.last(days=30)
    return {
        "payments_7d": week.count(),
        "amount_30d": month.sum(past.events.amount),
        "items_30d": month.sum(past.events.items),
        "customers_7d": week.distinct(past.events.customer),
        "fraud_share_30d": month.known_labels("fraud").share("fraud"),
        "first_seen_at": past.first_seen(),
    }
""",
}


def make(root: str, events: int, months: int) -> dict[str, Any]:
    """A project on the first ``months`` of so many events, with its votes; keeps what is there already."""
    folder = Path(root)
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.lstrip(), encoding="utf-8")
    for number, month in enumerate(MONTHS[:months]):
        file = folder / f"data/events/{month}.parquet"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(_payments(number, events), file, row_group_size=131_072, compression="zstd")
    from weakfish.labeling.vote import vote
    from weakfish.project.paths import Project

    vote(Project(folder))
    return {}


def _payments(number: int, events: int) -> pa.Table:
    """The payments of a month, in the order of time."""
    rng, rows = np.random.default_rng(number), events // len(MONTHS)
    start, end = ((MONTHS[number] + step).astype("datetime64[us]").astype(np.int64) for step in (0, 1))
    times = np.sort(rng.integers(start, end, rows))
    skewed = (rng.random(rows) ** 2 * max(20, events // 100)).astype(np.int64)
    words = np.array(["rent", "gift for you", "books", "groceries", "thanks", "invoice"])
    return pa.table(
        {
            "payment_id": pa.array(np.arange(rows) + number * rows).cast(pa.string()),
            "paid_at": pa.array(times).cast(pa.timestamp("us", "UTC")),
            "customer": pa.array(np.char.add("c", skewed.astype(str))),
            "merchant": pa.array(np.char.add("m", rng.integers(max(10, events // 5000), size=rows).astype(str))),
            "amount": np.round(rng.exponential(150, rows), 2),
            "items": rng.integers(1, 9, rows),
            "note": pa.array(words[rng.integers(len(words), size=rows)]),
        }
    )


def features(root: str) -> dict[str, Any]:
    """A side: the stage as DVC runs it, which has deleted its outs; and a hash of what it wrote."""
    from weakfish.features.build import build_features
    from weakfish.project.paths import Project

    project = Project(Path(root))
    outs = [project.data / name for name in ("features", "known_labels")]
    for out in outs:
        shutil.rmtree(out, ignore_errors=True)
    start, used = time.perf_counter(), time.process_time()
    build_features(project)
    seconds, used, digest = time.perf_counter() - start, time.process_time() - used, hashlib.sha256()
    files = sorted(file for out in outs for file in out.rglob("*.parquet"))
    for file in files:
        digest.update(f"{file.relative_to(project.data)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    rows = sum(pq.read_metadata(file).num_rows for file in files if "features" in file.parts)
    return {"seconds": seconds, "cpu_seconds": used, "digest": digest.hexdigest(), "feature_rows": rows}


def training(root: str) -> dict[str, Any]:
    """A side: the training set, of labels that are made before the clock starts."""
    from weakfish.labeling.label import label
    from weakfish.project.paths import Project
    from weakfish.training.sets import build_training_sets

    project = Project(Path(root))
    label(project)
    held, start, used = own_peak_mb(), time.perf_counter(), time.process_time()
    build_training_sets(project)
    seconds, used, digest = time.perf_counter() - start, time.process_time() - used, hashlib.sha256()
    for file in sorted((project.data / "training").rglob("*.parquet")):
        digest.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    rows = sum(pq.read_metadata(file).num_rows for file in (project.data / "features").rglob("*.parquet"))
    digests = {"digest": digest.hexdigest(), "feature_rows": rows}
    return {"seconds": seconds, "cpu_seconds": used, "before_mb": held} | digests


def growth(work: Path, events: int) -> list[Figure]:
    """The whole stage on so many events, one new month of them, and the training set of what both made."""
    root = str(work / f"growth-{events}")
    run("growth_features:make", root=root, events=events, months=11)
    run("growth_features:features", root=root)
    run("growth_features:make", root=root, events=events, months=12)
    month = run("growth_features:features", root=root)
    shutil.rmtree(Path(root) / ".weakfish")
    whole = run("growth_features:features", root=root)
    trained = run("growth_features:training", root=root)
    shutil.rmtree(root)
    equal = month.result["digest"] == whole.result["digest"]
    return [
        Figure(f"{name}_{events}", done.seconds, None, "s", equal, events, done.peak_rss_mb, None, told(done.result))
        for name, done in (("features", whole), ("features_new_month", month), ("training_set", trained))
    ]


def told(result: dict[str, Any]) -> dict[str, Any]:
    """What a line says besides: seconds of processors, and of the outs their rows and the first digits of a hash."""
    return {
        "cpu_seconds": round(result["cpu_seconds"], 1),
        "feature_rows": result["feature_rows"],
        "digest": result["digest"][:16],
    }


def main() -> int:
    """Print the figures of each size; 1 when a new month gave other bytes than the whole."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth_features", description=__doc__)
    parser.add_argument("events", nargs="*", type=int, default=SIZES, help="numbers of events")
    parser.add_argument("--work", type=Path, help="where to make projects; 3 GB for ten million events")
    options = parser.parse_args()
    equal = True
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        for events in options.events:
            for figure in growth(Path(work), events):
                print(figure.line(), flush=True)
                equal &= figure.equal
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
