"""Classifiers are trained anew as test periods pass, on nothing that comes later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_evaluation import BINARY, held

from weakfish.contracts.gold import UNKNOWN
from weakfish.contracts.tables import UNDATED
from weakfish.evaluation.aligned import Aligned, Periods
from weakfish.evaluation.at_work import learned_anew
from weakfish.evaluation.classifiers import Classifiers, Stretch, stretches
from weakfish.evaluation.measures import Predictions
from weakfish.project.params import TaskParams

TASK = TaskParams(classes=BINARY, label_model={"class_balance": [0.5, 0.5], "method": "majority"})

MONTHS = ["2024-01", "2024-02", "2024-03", "2024-04"]


def events(rows: int = 1600) -> Aligned:
    """Four months, of which the first comes before the split; from the third on other words tell the classes apart."""
    random = np.random.default_rng(3)
    month = np.arange(rows) * len(MONTHS) // rows
    gold = random.integers(2, size=rows)
    votes = np.stack([np.where(random.random(rows) < 0.9, gold, 1 - gold) for _ in range(5)], axis=1).astype(np.int8)
    told = random.integers(20, size=(rows, 4))
    words = [
        " ".join(f"{'xy'[right]}{number}" if of < 2 else f"{'qk'[right]}{chr(97 + number)}" for number in numbers)
        for of, right, numbers in zip(month, gold, told, strict=True)
    ]
    shares = np.stack([1 - votes.mean(axis=1), votes.mean(axis=1)], axis=1)
    return Aligned(
        classes=BINARY,
        functions=[f"function_{column}" for column in range(5)],
        votes=votes,
        published=Predictions(shares, np.ones(rows, dtype=bool)),
        dev=np.where(month == 0, gold, UNKNOWN),
        test=np.where(month == 0, UNKNOWN, gold),
        earlier=month == 0,
        days=np.arange(rows) / 10,
        periods=Periods.of([MONTHS[of] for of in month]),
        texts=held(words),
    )


def of_text(rows: Aligned) -> Predictions:
    learned = learned_anew(rows, TASK, [1], 1)[0]["text_weak"]
    assert not isinstance(learned, str)
    return learned[0][1]


def test_a_classifier_has_learned_from_all_periods_before_those_that_it_judges() -> None:
    rows = events()
    found = stretches(rows)
    months = np.array(rows.periods.of_rows())
    assert [sorted(set(months[of.test])) for of in found] == [[month] for month in MONTHS[1:]]
    assert [sorted(set(months[of.earlier])) for of in found] == [MONTHS[:1], MONTHS[:2], MONTHS[:3]]
    gold, last = rows.test[rows.test != UNKNOWN], months[rows.test != UNKNOWN] == MONTHS[3]
    assert (of_text(rows).decided() == gold)[last].mean() > 0.9
    classifiers, once = Classifiers(rows, 1), Stretch(rows.test != UNKNOWN, rows.earlier)
    never = classifiers.on_weak_labels(classifiers.soft_labels(TASK, [1], once), once)["text"]
    assert not isinstance(never, str)
    assert (never[1].decided() == gold)[last].mean() < 0.7


def test_nothing_later_has_a_part_in_what_is_said_of_a_period() -> None:
    rows = events()
    last = np.array(rows.periods.of_rows()) == MONTHS[3]
    votes = rows.votes.copy()
    votes[last] = 1 - votes[last]
    turned = replace(rows, votes=votes)
    before, after = of_text(rows).probabilities, of_text(turned).probabilities
    assert np.array_equal(before, after)
    third = np.array(rows.periods.of_rows()) == MONTHS[2]
    votes[third] = 1 - votes[third]
    again = of_text(replace(rows, votes=votes)).probabilities
    own = last[rows.test != UNKNOWN]
    assert np.array_equal(before[~own], again[~own])
    assert not np.allclose(before[own], again[own])


def test_few_rows_of_a_period_are_judged_with_the_period_before() -> None:
    rows = events()
    test = rows.test.copy()
    test[np.flatnonzero(np.array(rows.periods.of_rows()) == MONTHS[2])[20:]] = UNKNOWN
    found = stretches(replace(rows, test=test))
    months = np.array(rows.periods.of_rows())
    assert [sorted(set(months[of.test])) for of in found] == [[MONTHS[1]], MONTHS[2:]]


@pytest.mark.parametrize("partitions", [[UNDATED] * 1600, None])
def test_gold_that_time_does_not_split_is_judged_at_once(partitions: list[str] | None) -> None:
    rows = events()
    gold = np.where(rows.earlier, rows.dev, rows.test)
    drawn = np.random.default_rng(1).random(len(gold)) < 0.5
    apart = replace(rows, dev=np.where(drawn, UNKNOWN, gold), test=np.where(drawn, gold, UNKNOWN), earlier=~drawn)
    apart = replace(apart, periods=Periods.of(partitions) if partitions else rows.periods)
    (only,) = stretches(apart)
    assert np.array_equal(only.test, drawn)
    assert np.array_equal(only.earlier, ~drawn)


def test_every_test_row_is_judged_once_those_without_a_time_among_them() -> None:
    rows = events()
    partitions = [UNDATED if row % 97 == 0 else name for row, name in enumerate(rows.periods.of_rows())]
    found = stretches(replace(rows, periods=Periods.of(partitions)))
    assert len(found) > 1
    assert np.array_equal(sum(of.test.astype(int) for of in found), rows.test != UNKNOWN)
