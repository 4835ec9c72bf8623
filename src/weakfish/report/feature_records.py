"""The shapes of what is left of features: their tables, what is published, its audit, training sets.

Fields that older files lack have defaults, so that they still make a page.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from weakfish.report.base import SHAPE, Time


class Record(BaseModel):
    """Base of all shapes."""

    model_config = SHAPE


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
    """``data/training/<task>.manifest.json``: ``nulls`` per feature, versions of tables in ``data``, settings."""

    rows: int | None = None
    columns: dict[str, str] = {}
    nulls: dict[str, int] = {}
    data: dict[str, str] = {}
    functions: dict[str, str] = {}
    feature_service: str | None = None
    label_model: dict[str, Any] = {}
    versions: dict[str, str] = {}
