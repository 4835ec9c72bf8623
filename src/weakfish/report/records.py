"""The shapes of what other stages leave in ``reports/`` and ``.weakfish/runs/``; unknown keys are ignored.

Those of labels are in `label_records`. Every field that a reader can do without has a default, so that a report is made
of whatever there is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel

from weakfish.report.base import SHAPE, Number
from weakfish.report.label_records import Empirical
from weakfish.report.words import MODELS

Status = Literal["passed", "noted", "quarantined", "warned", "failed"]
Severity = Literal["critical", "warning", "info"]


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Time = Annotated[datetime, AfterValidator(_utc)]


class Record(BaseModel):
    """Base of all shapes."""

    model_config = SHAPE


class Check(Record):
    """One check of a verdict. ``quarantined``: its bad rows were set aside, within the limit."""

    check: str
    severity: Severity = "critical"
    status: Status
    why: str | None = None
    observed: Any = None
    unexpected: int | None = None
    unexpected_share: Number = None
    keys: list[Any] | None = None
    error: str | None = None


class Verdict(Record):
    """``reports/validation/<table>.json``."""

    table: str
    verdict: Literal["passed", "warned", "failed"]
    rows: int | None = None
    quarantined: int | None = None
    quarantined_share: Number = None
    max_quarantined_share: Number = None
    data_version: str | None = None
    checks: list[Check] = []


class Ledger(Record):
    """``reports/ledger/<stage>.json``."""

    rows_in: int | None = None
    rows_out: int | None = None
    quarantined: int | None = None
    reasons: dict[str, int] = {}


class Run(Record):
    """``.weakfish/runs/<stage>.json``; no ``exit_code``: at work, or killed."""

    started_at: Time
    finished_at: Time | None = None
    seconds: Number = None
    exit_code: int | None = None
    message: str | None = None


class Metric(Record):
    """A metric: its value, the worst over the seeds, and its bootstrap interval; no value for a ``reason``.

    The worst is the ``minimum``, or the ``maximum`` where less is better.
    """

    value: Number = None
    minimum: Number = None
    maximum: Number = None
    interval: tuple[Number, Number] | None = None
    reason: str | None = None


def _in_order(models: dict[str, dict[str, Metric]]) -> dict[str, dict[str, Metric]]:
    """Models as people expect them: first the labels, then what learned from them, then the ceiling."""
    known = [name for name in MODELS if name in models]
    return {name: models[name] for name in (*known, *sorted(set(models) - set(known)))}


class TaskMetrics(Record):
    """One task of ``reports/metrics.json``."""

    test_rows: int | None = None
    dev_rows: int | None = None
    models: Annotated[dict[str, dict[str, Metric]], AfterValidator(_in_order)] = {}
    functions: dict[str, dict[str, Empirical]] = {}


class Metrics(Record):
    """``reports/metrics.json``."""

    tasks: dict[str, TaskMetrics]


class Gate(Record):
    """``reports/gates/<table>.json``: exists while the table's gate is open."""

    table: str


class FeatureTable(Record):
    """``data/features/<view>.manifest.json``; ``partitions`` by name, whatever is said of each."""

    entity: str | None = None
    features: list[str] = []
    rows: int | None = None
    as_of: Time | None = None
    partitions: dict[str, Any] = {}
    data_version: str | None = None


class PublishedView(Record):
    """What the online store got of one view."""

    rows: int | None = None
    entities: int | None = None
    last_row_at: Time | None = None
    data_version: str | None = None


class AuditCounts(Record):
    """Rows or values by what the audit made of them; ``newer`` ones a service pushed, and they are no error."""

    equal: int = 0
    missing: int = 0
    stale: int = 0
    different: int = 0
    unexpected: int = 0
    newer: int = 0


class AuditSample(Record):
    """Rows that plain Feast read too, and how many of them otherwise than the table has them."""

    rows: int = 0
    different: int = 0
    first: list[dict[str, Any]] = []


class AuditedView(Record):
    """What the audit found of one view; ``first`` names entities, by kind."""

    rows: AuditCounts = AuditCounts()
    features: dict[str, AuditCounts] = {}
    first: dict[str, list[dict[str, Any]]] = {}
    sample: AuditSample = AuditSample()


class Audit(Record):
    """The audit of what is published."""

    passed: bool
    views: dict[str, AuditedView] = {}


class Rollback(Record):
    """The revision that was gone back to."""

    name: str
    commit: str


class Published(Record):
    """``reports/publish.json``; ``as_of`` is the time that the online store answers for."""

    version: str
    as_of: Time | None = None
    revision: Rollback | None = None
    views: dict[str, PublishedView] = {}
    audit: Audit | None = None


class TrainingSet(Record):
    """``data/training/<task>.manifest.json``; ``nulls`` counts them per feature, ``data`` has the tables' versions."""

    rows: int | None = None
    columns: dict[str, str] = {}
    nulls: dict[str, int] = {}
    data: dict[str, str] = {}
    functions: dict[str, str] = {}
    feature_service: str | None = None
    versions: dict[str, str] = {}


class LockedOut(Record):
    """One out of a stage in ``dvc.lock``."""

    path: str
    md5: str | None = None
    size: int | None = None
    nfiles: int | None = None


class LockedStage(Record):
    """One stage of ``dvc.lock``."""

    outs: list[LockedOut] = []


class Lock(Record):
    """``dvc.lock``."""

    stages: dict[str, LockedStage] = {}


class Stage(Record):
    """One stage of ``dvc.yaml``."""

    desc: str | None = None


class Pipeline(Record):
    """``dvc.yaml``."""

    stages: dict[str, Stage] = {}
