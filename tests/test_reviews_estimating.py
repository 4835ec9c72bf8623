"""What answers about a random sample of the test side say of labels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from weakfish.contracts.gold import UNKNOWN
from weakfish.errors import UserError
from weakfish.reviews.estimating import FrameAnswers, LabelsToday, ReviewEstimates, estimates
from weakfish.reviews.frames import Frame, draw
from weakfish.reviews.sides import is_dev

CLASSES = ["ham", "news", "spam"]


class Made:
    """Rows whose truth is known: most are ham, few spam, labels are right more often where they are surer."""

    def __init__(self, rows: int = 3000, seed: int = 1) -> None:
        made = np.random.default_rng(seed)
        self.keys = [f"row-{number}" for number in range(rows)]
        self.truth = made.choice(3, rows, p=[0.7, 0.22, 0.08])
        self.certainty = np.round(made.uniform(0.4, 1, rows), 2)
        wrong = made.random(rows) > self.certainty
        self.labels = np.where(wrong, (self.truth + made.integers(1, 3, rows)) % 3, self.truth)
        self.labels[made.random(rows) < 0.05] = UNKNOWN
        self.place = {key: row for row, key in enumerate(self.keys)}
        self.test = ~is_dev(self.keys)

    def frame(self, questions: int, seed: int = 1) -> Frame:
        found = (self.keys, self.labels, self.certainty, CLASSES, questions)
        return draw(*found, task="mail", version="v1", seed=seed)

    def answers(self, *frames: Frame, of: int | None = None) -> FrameAnswers:
        told = [
            (str(number), question.key, int(self.truth[self.place[question.key]]))
            for number, frame in enumerate(frames)
            for question in list(frame.questions())[:of]
        ]
        return FrameAnswers.of({str(number): frame for number, frame in enumerate(frames)}, told)

    def today(self, frame: Frame, answers: FrameAnswers) -> LabelsToday:
        strata = frame.strata
        places = strata.of(self.labels, self.certainty)
        mine = places[[self.place[key] for key in answers.keys]]
        return LabelsToday(strata, mine, strata.counts(self.keys, self.labels, self.certainty))

    def estimates(self, *frames: Frame, of: int | None = None) -> ReviewEstimates:
        answers = self.answers(*frames, of=of)
        return estimates(answers, self.today(frames[-1], answers))

    def true(self, within: np.ndarray | None = None) -> dict[str, float]:
        rows = self.test if within is None else self.test & within
        labels, truth = self.labels[rows], self.truth[rows]
        found = {"accuracy": float((labels == truth)[labels != UNKNOWN].mean())}
        for place, name in enumerate(CLASSES):
            both = ((labels == place) & (truth == place)).sum()
            found[f"{name} precision"] = float(both / (labels == place).sum())
            found[f"{name} recall"] = float(both / (truth == place).sum())
            found[f"{name} share"] = float((truth == place).mean())
        return found


def told(found: ReviewEstimates) -> dict[str, tuple[float, float, float]]:
    every = {"accuracy": found.accuracy}
    for name, of in found.classes.items():
        every |= {f"{name} {figure}": each for figure, each in vars(of).items()}
    return {name: (each.low, each.value, each.high) for name, each in every.items() if each is not None}


MADE = Made()


def test_a_frame_asks_about_the_test_side_alone_and_never_twice() -> None:
    frame = MADE.frame(300)
    assert len(set(frame.keys)) == 300
    assert not is_dev(frame.keys).any()


def test_a_frame_survives_its_file() -> None:
    frame = MADE.frame(50)
    assert Frame.from_json(json.loads(json.dumps(frame.to_json()))) == frame
    with pytest.raises(ValueError, match="strata"):
        Frame.from_json(frame.to_json() | {"classes": CLASSES[:2]})


def test_which_rows_are_drawn_depends_neither_on_their_order_nor_on_dev_rows() -> None:
    order = np.random.default_rng(3).permutation(np.flatnonzero(MADE.test))
    keys, labels, certainty = [MADE.keys[row] for row in order], MADE.labels[order], MADE.certainty[order]
    assert draw(keys, labels, certainty, CLASSES, 100, task="mail", version="v1", seed=1) == MADE.frame(100)


def test_another_seed_draws_other_rows() -> None:
    assert len(set(MADE.frame(100, 1).keys) & set(MADE.frame(100, 2).keys)) < 30


def test_rare_classes_have_more_than_their_share_of_questions() -> None:
    frame = MADE.frame(300)
    rate = frame.probabilities
    assert rate[4] > 1.5 * rate[0]
    assert rate[0] > rate[1]


def test_a_session_that_ends_early_has_asked_of_each_stratum_in_proportion() -> None:
    frame = MADE.frame(200)
    for asked in (10, 50, 120):
        part = np.bincount(frame.places[:asked], minlength=len(frame.strata))
        assert (np.abs(part - frame.asked * asked / 200) <= 2).all()


def test_more_questions_than_rows_ask_about_every_row() -> None:
    few = Made(rows=40)
    assert sorted(few.frame(1000).keys) == sorted(np.array(few.keys)[few.test])


def test_where_every_row_is_answered_the_truth_is_told_without_a_doubt() -> None:
    found, true = told(MADE.estimates(MADE.frame(10_000))), MADE.true()
    assert found.keys() == true.keys()
    for name, (low, value, high) in found.items():
        assert (low, value, high) == pytest.approx((true[name],) * 3)


def test_estimates_are_unbiased_and_intervals_cover_the_truth_wherever_a_session_ends() -> None:
    true, draws = MADE.true(), 200
    for asked in (90, 250):
        found = [told(MADE.estimates(MADE.frame(250, seed), of=asked)) for seed in range(draws)]
        for name, truth in true.items():
            lows, values, highs = np.array([each[name] for each in found if name in each]).T
            assert abs(values.mean() - truth) < 0.02 + 3 * values.std() / np.sqrt(draws), name
            assert ((lows <= truth) & (truth <= highs)).mean() > 0.9, name


def test_labels_that_changed_since_the_frame_was_drawn_are_judged_as_they_are_today() -> None:
    later = Made()
    frame = later.frame(10_000)
    later.labels = np.where(later.labels == 1, 0, later.labels)
    found = told(later.estimates(frame))
    share = (later.truth[later.test & (later.labels == 0)] == 0).mean()
    assert found["ham precision"][1] == pytest.approx(share)
    assert "news precision" not in found
    assert found["news recall"] == (0, 0, 0)


def test_sessions_add_up_to_a_narrower_interval() -> None:
    first, second = MADE.frame(80, 1), MADE.frame(250, 2)
    widths = [MADE.estimates(*frames).accuracy.width for frames in ([first], [second], [first, second])]
    assert widths[0] > widths[1] > widths[2]


def test_skipped_rows_widen_the_interval_and_move_nothing_else() -> None:
    frame = MADE.frame(200)
    whole = MADE.answers(frame)
    skipped = np.arange(200) % 3 == 0
    answers = [(key, int(label)) for key, label in zip(whole.keys, whole.classes, strict=True)]
    left = [("0", key, UNKNOWN if skip else label) for (key, label), skip in zip(answers, skipped, strict=True)]
    found = FrameAnswers.of({"0": frame}, left)
    some = estimates(found, MADE.today(frame, found))
    assert (some.answers, some.unanswered) == (133, 67)
    assert some.accuracy.width > MADE.estimates(frame).accuracy.width
    kept = [answer for answer in left if answer[2] != UNKNOWN]
    alone = FrameAnswers.of({"0": frame}, kept)
    assert told(estimates(alone, MADE.today(frame, alone))) == told(some)


def test_a_slice_is_estimated_from_its_own_rows() -> None:
    frame = MADE.frame(10_000)
    sliced = np.arange(3000) % 4 == 0
    answers = MADE.answers(frame)
    within = sliced[[MADE.place[key] for key in answers.keys]]
    rows = np.bincount(frame.strata.of(MADE.labels, MADE.certainty)[MADE.test & sliced], minlength=len(frame.strata))
    found = told(estimates(answers, replace(MADE.today(frame, answers), rows=rows), within))
    for name, truth in MADE.true(sliced).items():
        assert found[name] == pytest.approx((truth,) * 3)


def test_a_row_that_no_frame_drew_cannot_estimate_anything() -> None:
    frame = MADE.frame(20)
    picked = next(key for key in MADE.keys if is_dev([key])[0])
    with pytest.raises(UserError, match=f"Row {picked} was not drawn for estimate session monday"):
        FrameAnswers.of({"monday": frame}, [("monday", picked, 1)])
    with pytest.raises(UserError, match="not drawn for estimate session tuesday"):
        FrameAnswers.of({"monday": frame}, [("tuesday", frame.keys[0], 1)])
    with pytest.raises(UserError, match="answered twice"):
        FrameAnswers.of({"monday": frame}, [("monday", frame.keys[0], 1), ("monday", frame.keys[0], 2)])


def test_without_answers_nothing_is_claimed() -> None:
    frame = MADE.frame(20)
    none = FrameAnswers.of({"0": frame}, [])
    found = estimates(none, MADE.today(frame, none))
    assert (found.answers, found.accuracy, told(found)) == (0, None, {})


def test_few_answers_claim_little() -> None:
    found = MADE.estimates(MADE.frame(200), of=5)
    assert found.accuracy.width > 0.3
    assert json.dumps(found.to_json())
