"""One rate of labels against the accepted one: a question in, the check on the window that differs most out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weakfish.checks.check import Check, judged
from weakfish.checks.labels.rules import DIGITS
from weakfish.checks.labels.windows import EDITED, Comparison, Of, Window
from weakfish.checks.rates import Bounds, Limit, Rate, distance, percent


@dataclass(frozen=True)
class Question:
    """Whether a rate is still what it was.

    Attributes
    ----------
    check
        The name of the check.
    rows
        What the rate is a share of, to go after "of 2,366 rows after 2002-08".
    says
        What was found: ``{share}``, that of all other rows as ``{rest}``, and ``{where}``, how many rows of which.
    upward
        Whether only a rise is told of.
    """

    check: str
    why: str
    of: Of
    limit: Limit
    says: str
    rows: str = ""
    upward: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


def shifted(compared: Comparison, question: Question) -> Check | None:
    """The check, with severity ``warning``; None where there are no rows to ask."""
    accepted = question.of(compared.accepted)
    asked = [(window, question.of(window.totals)) for window in compared.windows]
    asked = [(window, rate) for window, rate in asked if rate.rows]
    if not asked or not accepted.rows:
        return None
    window, rate = max(
        asked, key=lambda pair: (_is_told(question, pair[1], accepted), abs(distance(pair[1], accepted)))
    )
    bounds = question.limit.bounds(rate.rows, accepted)
    bounds = Bounds(None, bounds.high) if question.upward else bounds
    figures = {"rows": rate.rows, "where": window.text, "accepted": round(accepted.share, DIGITS)}
    return Check(
        check=question.check,
        expectation=question.check.partition("(")[0],
        severity="warning",
        why=question.why,
        status=judged("warning", not _is_told(question, rate, accepted)),
        kind="labels",
        against_baseline=True,
        arguments={**question.arguments, **figures, "accepted_rows": accepted.rows},
        observed=round(rate.share, DIGITS),
        threshold=bounds.high if question.upward else bounds.side(rate.share, accepted.share),
        found=_found(question, window, rate, accepted),
        detects=_detects(question, window, rate, bounds),
        by_partition=compared.by_partition(question.of),
    )


def _is_told(question: Question, now: Rate, accepted: Rate) -> bool:
    return question.limit.tells(now, accepted) and not (question.upward and now.share < accepted.share)


def _found(question: Question, window: Window, rate: Rate, accepted: Rate) -> str:
    where = _where(question, window, rate)
    said = question.says.format(share=percent(rate.share), rest=percent(1 - rate.share), where=where)
    edited = EDITED if question.arguments.get("edited") else ""
    return f"{said}; accepted is {percent(accepted.share)} of {accepted.rows:,}.{edited}"


def _detects(question: Question, window: Window, rate: Rate, bounds: Bounds) -> str:
    shows = f"a share {bounds.text()} shows" if bounds.text() else "no change shows, they are too few"
    return f"Of {_where(question, window, rate)}, {shows}."


def _where(question: Question, window: Window, rate: Rate) -> str:
    return f"{rate.rows:,} {window.text}{question.rows}"
