"""What a transform may return; anything else is one sentence that names the view, and the column where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ibis
import pytest

from weakfish.errors import FeatureError, UnknownName
from weakfish.features import Past
from weakfish.features.views import Transform, check_view


def past(boundary_hours: int = 1) -> Past:
    events = ibis.table(
        {"id": "string", "at": "timestamp('UTC', 6)", "note": "string", "amount": "int64"}, name="events"
    )
    labels = ibis.table({"p_fine": "float64", "p_fraud": "float64"}, name="fraud")
    return Past("kind", events, "at", boundary_hours, {"fraud": (labels, ["fine", "fraud"])})


WRONG: list[tuple[Callable[[Past], Any], str]] = [
    (lambda past: 1 / 0, "View 'kind' raised ZeroDivisionError"),
    (lambda past: {"a": past.ever.mean(past.events.amuont)}, "View 'kind' raised AttributeError"),
    (lambda past: past.ever.count(), "View 'kind' returned"),
    (lambda past: {}, "View 'kind' returned dict instead of"),
    (lambda past: {"a": 3}, "Column 'a' of view 'kind' is int, not an Ibis expression"),
    (lambda past: {"a b": past.ever.count()}, "Column 'a b' of view 'kind' cannot have that name"),
    (lambda past: {"created": past.ever.count()}, "Column 'created' of view 'kind' cannot have that name"),
    (lambda past: {"a": past.events.amount}, "Column 'a' of view 'kind' belongs to another table"),
    (lambda past: {"a": past.ever.count().max()}, "Column 'a' of view 'kind' looks at other rows"),
    (lambda past: {"a": past.ever.sum(past.events.amount - past.events.amount.mean())}, "looks at other rows"),
    (lambda past: {"a": ibis.now()}, "Column 'a' of view 'kind' reads a clock"),
    (lambda past: {"a": past.first_seen().time()}, "Column 'a' of view 'kind' is of type time"),
    (lambda past: {"a": past.last(days=0).count()}, "View 'kind' has a window of 0 hours"),
    (lambda past: {"a": past.ever.sum(past.events.note)}, "View 'kind' sums values of type string"),
    (lambda past: {"a": past.ever.count(past.events.note)}, "View 'kind' counts where a value of type string holds"),
    (lambda past: {"a": past.ever.distinct(3)}, "View 'kind' asks a window about 3"),
    (lambda past: {"a": past.ever.known_labels("fruad").count()}, "did you mean 'fraud'?"),
    (lambda past: {"a": past.ever.known_labels("fraud").share("fin")}, "did you mean 'fine'?"),
]


@pytest.mark.parametrize(("function", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_transform_is_one_sentence(function: Callable[[Past], Any], message: str) -> None:
    with pytest.raises((FeatureError, UnknownName)) as caught:
        check_view(Transform("kind", "note", function), past())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_entity_that_is_no_column_is_refused() -> None:
    with pytest.raises(FeatureError, match="View 'kind' is about 'nota', which is not a column of the events"):
        check_view(Transform("kind", "nota", lambda past: {"a": past.ever.count()}), past())


def test_a_window_must_be_a_multiple_of_the_boundary() -> None:
    with pytest.raises(FeatureError, match="has a window of 24 hours, which is no positive multiple of the 5"):
        past(boundary_hours=5).last(days=1)


def test_the_same_question_is_measured_once() -> None:
    asked = past()
    week = asked.last(days=7)
    view = check_view(
        Transform("kind", "note", lambda _: {"a": week.count(), "b": week.sum(asked.events.amount) / week.count()}),
        asked,
    )
    assert len(view.measures) == 2
