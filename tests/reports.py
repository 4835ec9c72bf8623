"""A project's reports as its last run left them, for tests of the page; and the page, as text or in a browser."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from browser import Browser

from weakfish.report.page import render

STAGES = (
    "ingest",
    "validate_events",
    "accept",
    "label",
    "validate_labels@fraud",
    "gate_labels@fraud",
    "evaluate",
    "report",
)
START = datetime(2024, 5, 1, 8, 0, tzinfo=UTC)
HOSTILE = (
    "\u202e\u05e9\u05dc\u05d5\u05dd</style></title><script>document.title='owned'</script>"
    """<img src=x onerror="document.title='owned'">'"`&{{ 7*7 }}"""
)


def good_run(root: Path) -> Path:
    """A project whose last run went well."""
    pipeline = {stage: {"cmd": f"weakfish {stage}", "desc": f"What {stage} is for"} for stage in STAGES}
    write(root, "dvc.yaml", {"stages": pipeline})
    outs = {"accept": ["data/events", "reports/ledger/accept.json"], "label": ["data/labels"]}
    lock = {
        stage: {"outs": [{"path": path, "md5": "0123456789abcdef.dir", "size": 2048}]}
        for stage, (path, *_) in outs.items()
    }
    write(root, "dvc.lock", {"schema": "2.0", "stages": lock})
    for number, stage in enumerate(STAGES):
        run(root, stage, number)
        write(root, f"reports/ledger/{stage}.json", {"stage": stage, "rows_in": 1200, "rows_out": 1200})
    reasons = {"not_null(placed_at)": 30, "unique(order_id)": 5}
    accepted = {"stage": "accept", "rows_in": 1200, "rows_out": 1167, "quarantined": 33, "reasons": reasons}
    write(root, "reports/ledger/accept.json", accepted)
    verdict(root, "events", "passed", check("unique(order_id)"), check("mean(amount)", severity="info", status="noted"))
    verdict(root, "labels/fraud", "passed", check("between(p_fraud)"))
    write(root, "reports/gates/labels/fraud.json", {"table": "labels/fraud"})
    write(root, "reports/labeling_functions.json", {"tasks": {"fraud": labels()}})
    write(root, "reports/metrics.json", {"tasks": {"fraud": metrics()}})
    for name, points in plots().items():
        write(root, f"reports/plots/{name}.json", points)
    return root


def write(root: Path, file: str, content: Any) -> Path:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) if path.suffix == ".json" else yaml.safe_dump(content, sort_keys=False))
    return path


def run(root: Path, stage: str, minute: int, exit_code: int | None = 0, message: str | None = None) -> None:
    began = START + timedelta(minutes=minute)
    ended = None if exit_code is None else (began + timedelta(seconds=9)).isoformat()
    times = {"started_at": began.isoformat(), "finished_at": ended, "seconds": 9.0 if ended else 0.0}
    write(root, f".weakfish/runs/{stage}.json", {"stage": stage, "exit_code": exit_code, "message": message, **times})


def check(name: str, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "unexpected": 0,
        "unexpected_share": 0.0,
        "observed": None,
        "keys": [],
        "error": None,
        "arguments": {},
    }
    return {"check": name, "severity": "critical", "status": "passed", "why": "It matters.", **found, **changes}


def measured(name: str, value: float, threshold: float | None, **changes: Any) -> dict[str, Any]:
    """A check against the baseline, which does not hold above its threshold."""
    held = threshold is not None and value <= threshold
    about = {"expectation": name.partition("(")[0], "kind": "change", "against_baseline": True, "severity": "warning"}
    found = {"observed": value, "value": value, "threshold": threshold, "unexpected": None, "unexpected_share": None}
    said = {"found": f"It lies {value} from the accepted rows.", "detects": "A shift of 0.07 shows.", "released": 0}
    return check(name, **{"status": "passed" if held else "warned", **about, **found, **said, **changes})


def verdict(root: Path, table: str, outcome: str, *checks: dict[str, Any], **changes: Any) -> None:
    content = {
        "table": table,
        "verdict": outcome,
        "rows": 1200,
        "quarantined": 0,
        "quarantined_share": 0.0,
        "checks": checks,
    }
    write(root, f"reports/validation/{table}.json", {**content, "max_quarantined_share": 0.05, **changes})


def labels() -> dict[str, Any]:
    shares = {"coverage": 0.25, "overlaps": 0.1, "conflicts": 0.05, "weight": 0.8}
    functions = [
        {
            "name": "large_amount",
            "module": "rules",
            "kind": "columnar",
            "doc": "Thieves buy big.",
            "polarity": ["fraud"],
            **shares,
        },
        {
            "name": "never_votes",
            "module": "rules",
            "kind": "row",
            "doc": None,
            "polarity": [],
            **dict.fromkeys(shares, 0.0),
        },
    ]
    parts = [
        {"partition": "2024-01", "rows": 700, "covered": 630, "mean": {"fine": 0.9, "fraud": 0.1}},
        {"partition": "2024-02", "rows": 467, "covered": 0, "mean": {"fine": None, "fraud": None}},
        {"partition": "2024-03", "rows": 0, "covered": 0, "mean": {}},
    ]
    balance = {"fine": 0.9, "fraud": 0.1}
    return {
        "classes": ["fine", "fraud"],
        "class_balance": balance,
        "rows": 1167,
        "covered": 630,
        "functions": functions,
        "by_partition": parts,
    }


def metrics() -> dict[str, Any]:
    def metric(value: float) -> dict[str, Any]:
        return {"value": value, "minimum": value - 0.001, "interval": [value - 0.01, value + 0.01]}

    names = ("accuracy", "f1", "auc", "coverage")
    models = {"label_model": 0.9412, "text_weak": 0.9731}
    functions = {"large_amount": {"dev": {"votes": 40, "accuracy": 0.91}, "test": {"votes": 0, "accuracy": None}}}
    values = {model: {name: metric(value) for name in names} for model, value in models.items()}
    return {"test_rows": 300, "dev_rows": 600, "models": values, "functions": functions}


def plots() -> dict[str, list[dict[str, Any]]]:
    steps = [step / 10 for step in range(11)]
    return {
        "roc": [{"model": "text_weak", "fpr": step, "tpr": step**0.5} for step in steps],
        "calibration": [{"model": "text_weak", "mean_predicted": step, "fraction_positive": step**2} for step in steps],
        "share_over_time": [
            {"model": "text_weak", "partition": f"2024-0{month}", "share": 0.1 * month} for month in (1, 2, 3)
        ],
    }


def features(root: Path) -> None:
    """What the features, publish and training_set stages leave behind, all of one version."""
    pipeline = yaml.safe_load((root / "dvc.yaml").read_text())
    stages = {**pipeline["stages"], **{stage: {"cmd": stage} for stage in ("features", "publish", "training_set")}}
    order = [*STAGES[:-2], "features", "publish", "training_set", *STAGES[-2:]]
    write(root, "dvc.yaml", {"stages": {stage: stages[stage] for stage in order}})
    for stage in ("features", "publish", "training_set"):
        run(root, stage, 6)
    partitions = {name: {"rows": 500} for name in ("2024-01", "2024-02", "2024-03")}
    table = {"view": "customer_activity", "entity": "customer", "features": ["orders_30d", "gift_share"], "rows": 1500}
    write(
        root,
        "data/features/customer_activity.manifest.json",
        {**table, "columns": {}, "partitions": partitions, "data_version": "f1", "as_of": "2024-03-31T12:00:00+00:00"},
    )
    view = {"rows": 1500, "entities": 321, "last_row_at": "2024-03-31T07:00:00+00:00", "data_version": "f1"}
    as_of = "2024-03-31T12:00:00+00:00"
    write(
        root,
        "reports/publish.json",
        {"version": "abcdef0123", "as_of": as_of, "views": {"customer_activity": view}},
    )
    columns = {"customer_activity__orders_30d": "int64", "customer_activity__gift_share": "double"}
    write(
        root,
        "data/training/fraud.manifest.json",
        {
            "rows": 1000,
            "columns": columns,
            "nulls": {"customer_activity__orders_30d": 240, "customer_activity__gift_share": 310},
            "data": {"events": "e1", "features/customer_activity": "f1", "labels/fraud": "l1"},
            "functions": {"is_large": "ab"},
            "feature_service": "fraud_v1",
            "versions": {"feast": "0.67.0"},
        },
    )


def audited(root: Path, **rows: int) -> None:
    """What the audit said of the published view; what is not equal is about a customer."""
    file = root / "reports/publish.json"
    content = json.loads(file.read_text())
    bad = {kind: count for kind, count in rows.items() if kind not in ("equal", "newer")}
    first = {kind: [{"customer": "c7"}] for kind in bad}
    view = {"rows": rows, "features": {"orders_30d": {**rows, "first": first}, "gift_share": {"equal": 321}}}
    view |= {"first": first, "sample": {"rows": 100, "different": 0, "first": []}}
    write(root, "reports/publish.json", {**content, "audit": {"passed": not bad, "views": {"customer_activity": view}}})


def fail_gate(root: Path) -> None:
    """The gate of the events fails; what later stages made before still lies about."""
    bad = check(
        "unique(order_id)",
        status="failed",
        unexpected=7,
        unexpected_share=0.006,
        keys=["o-17", "o-18"],
        why="Joins multiply.",
    )
    verdict(root, "events", "failed", bad, check("not_null(amount)"))
    run(root, "validate_events", 60)
    run(root, "accept", 61, exit_code=1, message="The gate of events is shut: unique(order_id) failed on 7 rows.")
    (root / "reports/ledger/accept.json").unlink()


def html(root: Path) -> str:
    return render(root).read_text(encoding="utf-8")


def unfold(browser: Browser) -> None:
    """Open whatever folds, as a reader would."""
    browser.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")


def shown(browser: Browser, selector: str) -> str:
    unfold(browser)
    text = browser.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
    assert isinstance(text, str)
    return text
