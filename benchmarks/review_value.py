"""What answers of reviewers are worth, gold playing the reviewer, on vote matrices whose truth is known.

    python -m benchmarks.review_value --data DIR [--sets NAME ...] [--ways chosen random] [--seeds 20]
        [--answers 0 20 50 60 120 250 500] [--repeats 2000] [--questions 60 120 250 500]

``DIR`` is that of `benchmarks.label_quality`. One line of JSON each:

- ``"figure": "labels"``, for each set, way to choose rows, and number of answers, means over the seeds: ``all_rows``,
  the accuracy of the labels of all training rows, known rows included; ``others``, that of the rows that nobody
  answered; ``votes``, that of the label model without the reader; ``test``, what the classifier of
  `weakfish.evaluation` makes of the test rows after learning from these labels. ``sd`` are standard deviations over the
  seeds, ``wrong`` is the share of the answers since the line before that corrected a label. Rows are asked about on the
  dev side alone, ten at a time; labels are made anew from the answers (``known: dev``) before each line, and between
  lines only answers are new.
- ``"figure": "interval"``, for each set, number of questions, and estimate that had `ENOUGH` answers in half of the
  repeats at least: how often the 95 % interval covered the truth (``covered``), its mean width, and the mean error of
  the estimate, over ``repeats`` frames drawn from the test side, about the labels that there are without answers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.label_quality import FLOOR, Floats, Measured
from weakfish.contracts.gold import ROWS, UNKNOWN
from weakfish.evaluation.classifiers import learn_words, word_features
from weakfish.labeling.choice import learn
from weakfish.labeling.known import KnownVotes, weight
from weakfish.labeling.label_model import covered, winners
from weakfish.labeling.row_reader import fit_reader, normalized
from weakfish.project.params import LabelModelParams, TaskParams
from weakfish.reviews.estimating import Estimated, FrameAnswers, LabelsToday, ReviewEstimates, estimates
from weakfish.reviews.frames import draw
from weakfish.reviews.picking import AnsweredSoFar, PickableRows
from weakfish.reviews.picking import learn as pick
from weakfish.reviews.sides import is_dev

ANSWERS = (0, 20, 50, 60, 120, 250, 500)
QUESTIONS = (60, 120, 250, 500)
WAYS = ("chosen", "random")
BATCH = 10
ENOUGH = ROWS


@dataclass(frozen=True)
class Made:
    """Labels of all training rows, and how they were made."""

    by_votes: Floats
    labels: Floats
    weights: Floats


class Reviewed:
    """A set whose gold answers what is asked."""

    def __init__(self, folder: Path) -> None:
        self.of = Measured(folder)
        self.truth, self.votes = self.of.train.truth, self.of.train.votes
        self.keys = [f"{self.of.name}-{row}" for row in range(len(self.truth))]
        self.dev = is_dev(self.keys)
        model = LabelModelParams(method="auto", seed=1)
        self.classes = [f"class_{number}" for number in range(self.of.classes)]
        self.task = TaskParams(classes=self.classes)._with(model, None)
        words = word_features([*self.of.counts], np.ones(len(self.truth), bool))
        self.words, self.test_words = words, self.of.of_test
        self.without = self.made(np.zeros(len(self.truth), bool))

    def made(self, told: Any) -> Made:
        """What the engine makes of votes, texts, and the classes of the rows that are ``told``, (rows,)."""
        of, known, voted = self.of, int(told.sum()), covered(self.votes)
        evidence = KnownVotes(self.votes[told], self.truth[told], of.folds[told]) if known else None
        chosen = learn(self.votes, self.task, 1, evidence)
        by_votes = chosen.probabilities(self.votes)
        weights = np.where(told, weight(known, int((voted & ~told).sum())), 1.0)
        gold = np.eye(of.classes)[self.truth[told]]
        soft = chosen.by_part(self.votes) if known else by_votes.copy()
        soft[..., told, :] = gold
        reader = fit_reader(of.counts, of.folds, soft, weights * (voted | told), told if known else None)
        logs = np.log(np.maximum(by_votes, FLOOR)) + reader.log_odds(of.counts, of.folds)
        labels = normalized(logs) if reader.helps else by_votes.copy()
        labels[told] = gold
        return Made(by_votes, labels, weights if reader.helps else weights * (voted | told))

    def figures(self, made: Made, told: Any) -> dict[str, float]:
        """Those of labels, in per cent."""
        found = learn_words(self.words, made.labels * made.weights[:, None], self.test_words)
        return {
            "all_rows": self.of.figure(made.labels, self.truth),
            "others": self.of.figure(made.labels[~told], self.truth[~told]),
            "votes": self.of.figure(made.by_votes, self.truth),
            "test": self.of.figure(found, self.of.test.truth),
        }

    def asked(self, way: str, labels: Floats, told: Any, number: int, seed: int) -> Any:
        """The same rows, with so many more that were asked about."""
        told = told.copy()
        if way == "random":
            free = np.flatnonzero(self.dev & ~told)
            told[np.random.default_rng([seed, int(told.sum())]).choice(free, number, replace=False)] = True
            return told
        size = len(self.truth)
        functions = [f"function_{place}" for place in range(self.votes.shape[1])]
        rows = PickableRows(self.classes, functions, self.votes, labels, self.dev, ["all"], np.zeros(size, np.int64))
        while number > 0:
            so_far = AnsweredSoFar(np.where(told, self.truth, UNKNOWN), told)
            picked = [each.row for each in pick(rows, so_far, min(BATCH, number), seed)]
            told[picked] = True
            number -= len(picked)
        return told

    def course(self, way: str, answers: Sequence[int], seed: int) -> Iterator[dict[str, float]]:
        """The figures at each number of answers."""
        told, made = np.zeros(len(self.truth), bool), self.without
        for number in answers:
            more, wrong = number - int(told.sum()), 0.0
            if more:
                before, labels = told, made.labels
                told = self.asked(way, labels, told, more, seed)
                new = np.flatnonzero(told & ~before)
                wrong = float((labels[new].argmax(axis=1) != self.truth[new]).mean())
                made = self.made(told)
            yield self.figures(made, told) | {"wrong": 100 * wrong}

    def lines(self, way: str, answers: Sequence[int], seeds: int) -> Iterator[dict[str, Any]]:
        """A line for each number of answers."""
        found = []
        for seed in range(1, seeds + 1):
            found.append(list(self.course(way, answers, seed)))
            print(json.dumps([self.of.name, way, seed, found[-1]]), file=sys.stderr, flush=True)
        for place, number in enumerate(answers):
            mine = [course[place] for course in found]
            means = {name: round(float(np.mean([each[name] for each in mine])), 2) for name in mine[0]}
            spread = {name: round(float(np.std([each[name] for each in mine])), 2) for name in ("all_rows", "test")}
            about = {"figure": "labels", "set": self.of.name, "way": way, "answers": number, "seeds": seeds}
            yield about | means | {"sd": spread}

    def intervals(self, questions: int, repeats: int) -> Iterator[dict[str, Any]]:
        """A line for each estimate of the labels without answers."""
        made = self.without
        decided = winners(made.labels).sum(axis=1) == 1
        labels, certainty = np.where(decided, made.labels.argmax(axis=1), UNKNOWN), made.labels.max(axis=1)
        true, place = self._true(labels), {key: row for row, key in enumerate(self.keys)}
        found: dict[str, list[Estimated]] = {name: [] for name in true}
        for seed in range(repeats):
            frame = draw(self.keys, labels, certainty, self.classes, questions, task="task", version="", seed=seed)
            rows = np.array([place[key] for key in frame.keys])
            told = zip(frame.keys, self.truth[rows].tolist(), strict=True)
            answers = FrameAnswers.of({"one": frame}, [("one", key, label) for key, label in told])
            today = frame.strata.of(labels, certainty)[rows]
            for name, each in _named(estimates(answers, LabelsToday(frame.strata, today, np.array(frame.rows)))):
                found[name].append(each)
        for name, every in found.items():
            if len(every) >= repeats / 2:
                yield self._interval(name, every, true[name]) | {"questions": frame.asked.sum().item()}

    def _interval(self, name: str, every: Sequence[Estimated], truth: float) -> dict[str, Any]:
        within = [each.low - FLOOR <= truth <= each.high + FLOOR for each in every]
        return {
            "figure": "interval",
            "set": self.of.name,
            "estimate": name,
            "repeats": len(every),
            "truth": round(100 * truth, 1),
            "covered": round(100 * float(np.mean(within)), 1),
            "width": round(100 * float(np.mean([each.width for each in every])), 1),
            "error": round(100 * float(np.mean([each.value for each in every]) - truth), 2),
        }

    def _true(self, labels: Any) -> dict[str, float]:
        labels, truth = labels[~self.dev], self.truth[~self.dev]
        found = {"accuracy": float((labels == truth)[labels != UNKNOWN].mean())}
        for place, name in enumerate(self.classes):
            said, true = labels == place, truth == place
            found[f"{name} precision"] = float((said & true).sum() / max(said.sum(), 1))
            found[f"{name} recall"] = float((said & true).sum() / max(true.sum(), 1))
            found[f"{name} share"] = float(true.mean())
        return found


def _named(found: ReviewEstimates) -> Iterator[tuple[str, Estimated]]:
    """Estimates that have enough answers, by name; a share has those of its class."""
    if found.accuracy is not None:
        yield "accuracy", found.accuracy
    for name, of in found.classes.items():
        of_class = of.recall.answers if of.recall else 0
        for figure, each, answers in (
            ("precision", of.precision, of.precision.answers if of.precision else 0),
            ("recall", of.recall, of_class),
            ("share", of.share, of_class),
        ):
            if each is not None and answers >= ENOUGH:
                yield f"{name} {figure}", each


def main() -> int:
    """Print the lines that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.review_value", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder of sets, or a set")
    parser.add_argument("--sets", nargs="+", help="names of sets; all by default")
    parser.add_argument(
        "--ways", nargs="*", default=WAYS, choices=WAYS, help="how rows are chosen; none: intervals alone"
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--answers", nargs="+", type=int, default=ANSWERS)
    parser.add_argument("--repeats", type=int, default=2000, help="of each interval; 0: labels alone")
    parser.add_argument("--questions", nargs="+", type=int, default=QUESTIONS)
    options = parser.parse_args()
    folders = sorted(folder for folder in options.data.iterdir() if folder.is_dir()) or [options.data]
    for folder in folders:
        if options.sets and folder.name not in options.sets:
            continue
        of = Reviewed(folder)
        for way in options.ways:
            for line in of.lines(way, sorted(options.answers), options.seeds):
                print(json.dumps(line), flush=True)
        for questions in options.questions if options.repeats else ():
            for line in of.intervals(questions, options.repeats):
                print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
