"""What every shape of a report file has in common: unknown keys are ignored, numbers that are none count as missing."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from weakfish.contracts.ledgers import Override
from weakfish.report.words import MODELS


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Number = Annotated[float | None, BeforeValidator(_finite)]
"""A number to show; NaN and infinities, which JSON should not hold, count as missing."""


Time = Annotated[datetime, AfterValidator(_utc)]
"""A time in UTC."""


SHAPE = ConfigDict(extra="ignore", frozen=True)
"""How every shape is read."""


Status = Literal["passed", "noted", "quarantined", "warned", "failed"]
Severity = Literal["critical", "warning", "info"]


def _numbers(value: Any) -> Any:
    return {} if value is None else value


class Record(BaseModel):
    """Base of all shapes."""

    model_config = SHAPE


class Check(Record):
    """One check of a verdict; `weakfish.contracts.verdicts` says what its fields mean. Older verdicts lack the later ones."""

    check: str
    severity: Severity = "critical"
    status: Status
    why: str | None = None
    expectation: str | None = None
    kind: str = "expectation"
    against_baseline: bool = False
    arguments: dict[str, Any] = {}
    found: str | None = None
    observed: Any = None
    unexpected: int | None = None
    unexpected_share: Number = None
    threshold: Number = None
    detects: str | None = None
    value: Number = None
    by_partition: Annotated[dict[str, Number], BeforeValidator(_numbers)] = {}
    released: int = 0
    keys: list[Any] | None = None
    error: str | None = None

    @property
    def number(self) -> float | None:
        """Its `value`; in older verdicts, which have none, what it would be."""
        if self.value is not None or self.unexpected_share is not None:
            return self.value if self.value is not None else self.unexpected_share
        is_number = isinstance(self.observed, int | float) and not isinstance(self.observed, bool)
        return float(self.observed) if is_number else None


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


class Patch(Record):
    """A decision that lets rows in: its file, who decided, why, and how many rows it touches now."""

    patch: str
    who: str | None = None
    why: str | None = None
    rows: int | None = None


class Ledger(Record):
    """``reports/ledger/<stage>.json``; ``released`` and ``repaired`` count the rows that ``patches`` let in."""

    rows_in: int | None = None
    rows_out: int | None = None
    quarantined: int | None = None
    reasons: dict[str, int] = {}
    released: int | None = None
    repaired: int | None = None
    patches: list[Patch] = []
    despite_gate: Override | None = None


class Run(Record):
    """``.weakfish/runs/<stage>.json``; no ``exit_code``: at work, or killed."""

    started_at: Time
    finished_at: Time | None = None
    seconds: Number = None
    exit_code: int | None = None
    message: str | None = None


class Metric(Record):
    """A metric: its value, the worst over the seeds, and its bootstrap interval; no value for a ``reason``.

    The worst is the ``minimum``, or the ``maximum`` where less is better. A mean over classes says over how many.
    """

    value: Number = None
    minimum: Number = None
    maximum: Number = None
    interval: tuple[Number, Number] | None = None
    reason: str | None = None
    classes: int | None = None


def _in_order(models: dict[str, dict[str, Metric]]) -> dict[str, dict[str, Metric]]:
    """Models as people expect them: first the labels, then what learned from them, then the ceiling."""
    known = [name for name in MODELS if name in models]
    return {name: models[name] for name in (*known, *sorted(set(models) - set(known)))}


class ClassMetrics(Record):
    """A class of three or more: its rows with gold labels, and by model and measure what rows can support."""

    test_rows: int | None = None
    dev_rows: int | None = None
    models: Annotated[dict[str, dict[str, Metric]], AfterValidator(_in_order)] = {}


class TaskMetrics(Record):
    """One task of ``reports/metrics.json``; ``left_out`` says by plot why it cannot be had."""

    test_rows: int | None = None
    dev_rows: int | None = None
    classes: dict[str, ClassMetrics] = {}
    left_out: dict[str, str] = {}
    models: Annotated[dict[str, dict[str, Metric]], AfterValidator(_in_order)] = {}
    functions: dict[str, dict[str, Empirical]] = {}


class Metrics(Record):
    """``reports/metrics.json``."""

    tasks: dict[str, TaskMetrics]


class Gate(Record):
    """``reports/gates/<table>.json``: exists while the table's gate is open."""

    table: str


class AcceptedTable(Record):
    """One table of the accepted baseline; ``through`` is the last accepted partition, None: all that there were."""

    data_version: str | None = None
    through: str | None = None


class Accepted(Record):
    """``validation/baseline.json``, of which the page tells what was accepted, by table."""

    tables: dict[str, AcceptedTable] = {}


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


class LabelsRecord(BaseModel):
    """Base of all shapes."""

    model_config = SHAPE


def _counted(value: Any) -> Any:
    return {"count": value} if isinstance(value, int) else value or {}


class Faults(LabelsRecord):
    """How often a labeling function failed, as what, and the keys of the first rows."""

    count: int = 0
    exception: str | None = None
    rows: list[Any] = []

    @property
    def kind(self) -> str | None:
        """The class of the exception; its message might quote a row."""
        found = re.match(r"[\w.]+(?=$|:|\()", self.exception or "")
        return found.group() if found else None


class Function(LabelsRecord):
    """One labeling function of a task; ``weight`` is the accuracy that the label model learned for it."""

    name: str
    module: str | None = None
    kind: str | None = None
    doc: str | None = None
    polarity: list[str] = []
    coverage: Number = None
    overlaps: Number = None
    conflicts: Number = None
    weight: Number = None
    faults: Annotated[Faults, BeforeValidator(_counted)] = Faults()


class Partition(LabelsRecord):
    """Labels of one partition.

    ``mean`` is the mean probability per class of the covered rows, ``votes`` the votes of each function per class.
    """

    partition: str
    rows: int
    covered: int
    mean: dict[str, Number] = {}
    votes: dict[str, list[int]] = {}


class Copies(LabelsRecord):
    """A pair of functions that agree more than two that judge on their own."""

    functions: tuple[str, str]
    residual: Number = None


class Signals(LabelsRecord):
    """What tells, without gold labels, whether to trust the label model or majority vote."""

    disagreement: Number = None
    unexplained: Number = None
    unstable: Number = None
    shift: Number = None
    sensitivity: Number = None
    converged: bool | None = None
    losses: list[tuple[int, Number]] = []
    copies: list[Copies] = []
    at_clamp: int | None = None


class TaskLabels(LabelsRecord):
    """One task of ``reports/labeling_functions.json``."""

    classes: list[str] = []
    class_balance: dict[str, Number] = {}
    rows: int | None = None
    covered: int | None = None
    method: Literal["snorkel", "majority"] | None = None
    why: list[str] = []
    signals: Signals | None = None
    functions: list[Function] = []
    by_partition: list[Partition] = []


class Labels(LabelsRecord):
    """``reports/labeling_functions.json``."""

    tasks: dict[str, TaskLabels]


class TaskVotes(LabelsRecord):
    """One task of ``reports/votes.json``; faults by function, of those that failed."""

    faults: dict[str, Annotated[Faults, BeforeValidator(_counted)]] = {}


class VotesReport(LabelsRecord):
    """``reports/votes.json``."""

    tasks: dict[str, TaskVotes] = {}


class Empirical(LabelsRecord):
    """How often a labeling function is right where it votes."""

    votes: int | None = None
    accuracy: Number = None


class FeaturesRecord(BaseModel):
    """Base of all shapes."""

    model_config = SHAPE


class FeatureTable(FeaturesRecord):
    """``data/features/<view>.manifest.json``; ``partitions`` by name, whatever is said of each."""

    entity: str | None = None
    features: list[str] = []
    rows: int | None = None
    as_of: Time | None = None
    partitions: dict[str, Any] = {}
    data_version: str | None = None


class PublishedView(FeaturesRecord):
    """What the online store got of one view."""

    rows: int | None = None
    entities: int | None = None
    last_row_at: Time | None = None
    data_version: str | None = None


class AuditCounts(FeaturesRecord):
    """Rows or values by what the audit made of them; ``newer`` ones a service pushed, and they are no error."""

    equal: int = 0
    missing: int = 0
    stale: int = 0
    different: int = 0
    unexpected: int = 0
    newer: int = 0


class AuditSample(FeaturesRecord):
    """Rows that plain Feast read too, and how many of them otherwise than the table has them."""

    rows: int = 0
    different: int = 0
    first: list[dict[str, Any]] = []


class AuditedView(FeaturesRecord):
    """What the audit found of one view; ``first`` names entities, by kind."""

    rows: AuditCounts = AuditCounts()
    features: dict[str, AuditCounts] = {}
    first: dict[str, list[dict[str, Any]]] = {}
    sample: AuditSample = AuditSample()


class Audit(FeaturesRecord):
    """The audit of what is published."""

    passed: bool
    views: dict[str, AuditedView] = {}


class Rollback(FeaturesRecord):
    """The revision that was gone back to."""

    name: str
    commit: str


class Published(FeaturesRecord):
    """``reports/publish.json``; ``as_of`` is the time that the online store answers for."""

    version: str
    as_of: Time | None = None
    revision: Rollback | None = None
    views: dict[str, PublishedView] = {}
    audit: Audit | None = None


class TrainingSet(FeaturesRecord):
    """``data/training/<task>.manifest.json``: ``nulls`` per feature, versions of tables in ``data``, settings."""

    rows: int | None = None
    columns: dict[str, str] = {}
    nulls: dict[str, int] = {}
    data: dict[str, str] = {}
    functions: dict[str, str] = {}
    feature_service: str | None = None
    label_model: dict[str, Any] = {}
    versions: dict[str, str] = {}
