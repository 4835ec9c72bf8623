"""The shapes of what other stages leave in ``reports/`` and ``.weakfish/runs/``; unknown keys are ignored.

Those of labels are in `label_records`, those of features in `feature_records`. Every field that a reader can do without
has a default, so that a report is made of whatever there is.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator

from weakfish.report.base import SHAPE, Number, Time
from weakfish.report.label_records import Empirical
from weakfish.report.words import MODELS

Status = Literal["passed", "noted", "quarantined", "warned", "failed"]
Severity = Literal["critical", "warning", "info"]


def _numbers(value: Any) -> Any:
    return {} if value is None else value


class Record(BaseModel):
    """Base of all shapes."""

    model_config = SHAPE


class Check(Record):
    """One check of a verdict; `weakfish.checks.check` says what its fields mean. Older verdicts lack the later ones."""

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
