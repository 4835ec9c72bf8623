"""What the server counts, for Prometheus: requests, their seconds, what was not there or too old, and feature ages.

One process counts in memory; several keep their counts in files of a folder that the parent names, and whichever of
them is asked adds all up. prometheus_client decides which when it is imported: before Feast, whose own metrics decide
otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

IN_FILES = "PROMETHEUS_MULTIPROC_DIR" in os.environ
"""Whether prometheus_client, which has just been imported, keeps counts in files; Feast sets the variable later."""

PREFIX = "weakfish_serve"
OTHER = "other"
"""What requests are counted as whose path does not exist, or never arrived."""

CONTENT_TYPE = CONTENT_TYPE_LATEST
LATENCIES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
MINUTE, HOUR, DAY = 60, 3_600, 86_400
AGES = (MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY, 2 * DAY, 7 * DAY, 30 * DAY, 90 * DAY, 365 * DAY)

disable_created_metrics()  # type: ignore[no-untyped-call]
_own = CollectorRegistry()
_requests = Counter(
    f"{PREFIX}_requests", "Requests answered, by path and HTTP status.", ["path", "status"], registry=_own
)
_seconds = Histogram(
    f"{PREFIX}_request_seconds",
    "Seconds from a whole request to its answer, by feature service (empty: a list of features).",
    ["feature_service"],
    buckets=LATENCIES,
    registry=_own,
)
_entities = Counter(f"{PREFIX}_entities", "Entities read, by feature view.", ["feature_view"], registry=_own)
_not_found = Counter(
    f"{PREFIX}_not_found", "Entities that were not there, by feature view.", ["feature_view"], registry=_own
)
_too_old = Counter(
    f"{PREFIX}_outside_max_age", "Entities whose row was older than the view's ttl.", ["feature_view"], registry=_own
)
_unreadable = Counter(
    f"{PREFIX}_unreadable",
    "Values that are in the store and could not be read, each time that they were asked for.",
    ["feature_view", "feature"],
    registry=_own,
)
_age = Histogram(
    f"{PREFIX}_feature_age_seconds",
    "Age of the oldest row of a request, from its event time to the time that the store answers for.",
    ["feature_view"],
    buckets=AGES,
    registry=_own,
)
_reloads = Counter(f"{PREFIX}_registry_reloads", "Registries taken up since the start.", registry=_own)


@cache
def _labelled(metric: Any, *labels: str) -> Any:
    """The child of a metric for some labels; looking it up is dear."""
    return metric.labels(*labels)


def answered(path: str, status: int) -> None:
    """Count a request; ``path`` must be one of few."""
    _labelled(_requests, path, str(status)).inc()


def took(service: str, seconds: float) -> None:
    """Count the seconds of an answer with features; ``service`` must exist, or be empty."""
    _labelled(_seconds, service).observe(seconds)


def read(view: str, entities: int, not_found: int, too_old: int, oldest: float | None) -> None:
    """Count what was read of a view; ``oldest`` is the age of its oldest row in seconds, None without rows."""
    for metric, count in ((_entities, entities), (_not_found, not_found), (_too_old, too_old)):
        _labelled(metric, view).inc(count)
    if oldest is not None:
        _labelled(_age, view).observe(oldest)


def unreadable(view: str, feature: str, values: int) -> None:
    """Count values of a feature that could not be read."""
    _labelled(_unreadable, view, feature).inc(values)


def reloaded() -> None:
    """Count a registry that took the place of another."""
    _reloads.inc()


class _OfAllProcesses(MultiProcessCollector):
    """The counts of all processes of this server, without those of libraries that count in the same folder."""

    def collect(self) -> Iterator[Metric]:
        found = super().collect()  # type: ignore[no-untyped-call]
        return (metric for metric in found if metric.name.startswith(PREFIX))


def page() -> bytes:
    """All counts in Prometheus' text format."""
    if not IN_FILES:
        return generate_latest(_own)
    registry = CollectorRegistry()
    _OfAllProcesses(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
