"""What people answered about rows, in sentences and figures for the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from weakfish.contracts.reports import TaskMetrics, TaskReviews
from weakfish.report.wording import count, decimal, listed, percent


def said(reviews: TaskReviews, metrics: TaskMetrics | None) -> list[str]:
    """Sentences: who answered what for, how reviewers agree, and where they and gold differ."""
    return list(_sentences(reviews, metrics))


def _sentences(reviews: TaskReviews, metrics: TaskMetrics | None) -> Iterator[str]:
    purposes = ", ".join(f"{number:,} to {name}" for name, number in reviews.by_purpose.items())
    yield f"{listed(list(reviews.reviewers))} named the class of {count(reviews.rows, 'row')} ({purposes})."
    if passed := reviews.skipped + reviews.unsure:
        yield f"Passed over or left unsure, which counts as no answer: {count(passed, 'row')}."
    if agreement := reviews.agreement:
        measured = [f"{name} {decimal(agreement[name])}" for name in ("kappa", "alpha") if agreement[name] is not None]
        beyond = f" ({', '.join(measured)})" if measured else ""
        rows, same = count(agreement["rows"], "row"), percent(agreement["same"])
        yield f"Of answers to {rows} that several gave, {same} agree{beyond}."
    if reviews.disputed.rows:
        rows = count(reviews.disputed.rows, "row")
        yield f"On {rows} reviewers disagree; `weakfish review --disputed` resolves them."
    gold = metrics.reviews.gold if metrics and metrics.reviews else {}
    if gold.get("differing"):
        yield (
            f"Of {count(gold['rows'], 'reviewed row')} with gold {gold['differing']:,} have another class there; the "
            "review counts."
        )
    if reviews.unknown.rows:
        yield f"Answers about what is no accepted event do not count: {count(reviews.unknown.rows, 'row')}."


def estimates(metrics: TaskMetrics | None) -> list[tuple[str, Mapping[str, Any]]]:
    """What answers to *estimate* say: of all rows, then by slice; nothing without any."""
    reviews = metrics.reviews if metrics else None
    if reviews is None or reviews.estimates is None:
        return []
    return [("all rows", reviews.estimates), *reviews.slices.items()]


def shown(found: Mapping[str, Any] | None) -> str:
    """A share and its interval: ``97.5 % (94.6 to 99.0 %)``."""
    if found is None:
        return "–"
    low, high = (f"{100 * found[name]:.1f}" for name in ("low", "high"))
    return f"{percent(found['value'])} ({low} to {high} %)"
