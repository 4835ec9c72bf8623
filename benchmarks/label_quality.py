"""How good labels are: label models, with and without the reader, on vote matrices whose truth is known.

    python -m benchmarks.label_quality --data DIR [--sets NAME ...] [--methods NAME ...] [--seeds 1 2 3 4 5]
        [--embeddings [alone|words]] [--known 0 20 50 120 500] [--set known.RATIO=0.15 ...]

``DIR`` holds a folder per set (or is one) in WRENCH's form: ``train``, ``valid`` and ``test`` as ``.json`` or
``.json.gz``, each ``{id: {"label": class, "weak_labels": [vote or -1, ...], "data": {"text": ...}}}``. One line of JSON
for each set, method, reader, number of known labels and seed:

- ``covered`` and ``all_rows``: the labels of training rows with a vote, and of all, against their truth;
- ``test``: what a logistic regression on words, trained on those labels, makes of the test rows.

``--embeddings`` lets both, reader and regression, learn from sentence embeddings, alone or beside words.

Each is the accuracy in per cent; of two classes of which one has less than `RARE` of the rows, its F1. Where classes
tie, and where nothing is known, a row counts as right by its share, so that nothing depends on how ties fall. No gold
is used but to measure, and that of ``known`` training rows, which the seed draws: ``covered`` and ``all_rows`` are then
over the other rows. They weigh votes with ``naive-bayes`` and ``auto`` alone, so only these have such lines.
``default`` is what Weakfish 0.1 made by default, ``snorkel`` with ``l2: 1``. ``--set`` gives a constant of a module of
`weakfish.labeling` another value.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.contracts.votes_file import Votes
from weakfish.labeling.choice import NAIVE_BAYES, learn
from weakfish.labeling.embedding import require_model, vectors_of
from weakfish.labeling.known import KnownVotes, weight
from weakfish.labeling.label_model import covered, winners
from weakfish.labeling.learning import SoftRegression, WordFeatures, word_counts
from weakfish.labeling.row_reader import FOLDS, STRENGTH, features_of, fit_reader, folds_of, hashes_of, normalized
from weakfish.project.params import LabelModelParams, TaskParams

METHODS = ("majority", "default", "snorkel", "hyper", "dawid-skene", "naive-bayes", "auto")
SEEDS = (1, 2, 3, 4, 5)
KNOWN = (0, 20, 50, 120, 500)
RARE = 0.3
FLOOR = 1e-9

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Rows of a set: texts, votes (rows, functions), and the true class of each."""

    texts: list[str]
    votes: Votes
    truth: Ints

    @staticmethod
    def read(folder: Path, split: str) -> Rows:
        """The rows of a split; ends with a sentence where there is no file of it."""
        found = [file for file in (folder / f"{split}.json", folder / f"{split}.json.gz") if file.is_file()]
        if not found:
            sys.exit(f"{folder} has no {split}.json and no {split}.json.gz.")
        with gzip.open(found[0], "rt") if found[0].suffix == ".gz" else found[0].open() as file:
            rows = list(json.load(file).values())
        texts = [str(row["data"].get("text", "")) for row in rows]
        votes = np.array([row["weak_labels"] for row in rows], np.int8)
        return Rows(texts, votes, np.array([row["label"] for row in rows], np.int64))


class Measured:
    """A set, and what its labels are measured by."""

    def __init__(self, folder: Path, embeddings: str | None = None) -> None:
        self.name, self.train, self.test = folder.name, Rows.read(folder, "train"), Rows.read(folder, "test")
        self.classes = 1 + max(int(part.max()) for rows in (self.train, self.test) for part in (rows.truth, rows.votes))
        shares = np.bincount(self.train.truth, minlength=self.classes) / len(self.train.truth)
        self.positive = int(shares.argmin()) if self.classes == 2 and shares.min() < RARE else None
        texts = [[rows.texts] if embeddings != "alone" else [] for rows in (self.train, self.test)]
        self.counts, counts = (word_counts(columns) for columns in texts)
        self.vectors, vectors = (vectors_of(rows.texts) if embeddings else None for rows in (self.train, self.test))
        features = WordFeatures.of(self.counts)
        self.examples = features_of(features, self.counts, self.vectors)
        self.of_test = features_of(features, counts, vectors)
        self.folds = folds_of(hashes_of([self.train.texts]))

    def figure(self, probabilities: Floats, truth: Ints) -> float:
        """The accuracy, or the F1 of the rarer class, in per cent; ties count as their share."""
        won = winners(probabilities)
        shares = won / won.sum(axis=1, keepdims=True)
        if self.positive is None:
            return 100 * float(shares[np.arange(len(truth)), truth].mean())
        said, true = shares[:, self.positive], truth == self.positive
        return 200 * float(said[true].sum() / (said.sum() + true.sum()))

    def tested(self, labels: Floats, rows: npt.NDArray[np.bool_]) -> float:
        """What a classifier that learned from labels of some rows makes of the test rows."""
        model = SoftRegression.of(self.examples[rows], labels[rows], STRENGTH)
        return self.figure(np.exp(model.logs(self.of_test)), self.test.truth)


def lines(of: Measured, method: str, seed: int, known: int = 0) -> Iterator[dict[str, Any]]:
    """The line of a method's labels by votes alone, and of those with the reader; so many labels are known."""
    model = LabelModelParams(method="snorkel" if method == "default" else method, seed=seed)  # type: ignore[arg-type]
    task = TaskParams(classes=[f"class_{number}" for number in range(of.classes)])._with(model, None)
    votes, rows = of.train.votes, len(of.train.truth)
    told, evidence = np.zeros(rows, bool), None
    if known:
        told[np.random.default_rng(seed).choice(rows, known, replace=False)] = True
        evidence = KnownVotes(votes[told], of.train.truth[told], of.folds[told])
    voted, began = covered(votes), time.monotonic()
    chosen = learn(votes, task, seed, evidence)
    labels = chosen.probabilities(votes)
    line = {"set": of.name, "method": method, "reader": False, "known": known, "seed": seed}
    line |= {} if of.vectors is None else {"embeddings": "words" if of.counts else "alone"}
    line |= {"chose": chosen.method} if method == "auto" else {}
    weights = np.where(told, weight(known, int((voted & ~told).sum())), 1.0)
    yield line | _figures(of, labels, told, weights * (voted | told), began)
    soft = np.stack([chosen.apart(part).probabilities(votes) for part in range(FOLDS)]) if known else labels
    soft[..., told, :] = np.eye(of.classes)[of.train.truth[told]]
    reader = fit_reader(of.counts, of.folds, soft, weights * (voted | told), told if known else None, of.vectors)
    both = normalized(np.log(np.maximum(labels, FLOOR)) + reader.log_odds(of.counts, of.folds, of.vectors))
    about = {"power": round(float(reader.power.mean()), 3), "gain": round(reader.gain, 3)}
    yield line | {"reader": True} | _figures(of, both, told, weights, began) | about


def _figures(of: Measured, labels: Floats, told: Any, weights: Floats, began: float) -> dict[str, float]:
    """The figures of labels of rows that are not ``told``; ``weights`` are how much each row teaches."""
    voted, truth = covered(of.train.votes) & ~told, of.train.truth
    teach = np.where(told[:, None], np.eye(of.classes)[truth], labels) * weights[:, None]
    return {
        "covered": round(of.figure(labels[voted], truth[voted]), 2),
        "all_rows": round(of.figure(labels[~told], truth[~told]), 2),
        "test": round(of.tested(teach, weights > 0), 2),
        "seconds": round(time.monotonic() - began, 1),
    }


def _set(constants: list[str]) -> None:
    """Give constants, each ``module.NAME=value``, other values."""
    for each in constants:
        place, _, value = each.partition("=")
        module, _, name = place.partition(".")
        setattr(importlib.import_module(f"weakfish.labeling.{module}"), name, float(value))


def main() -> int:
    """Print the lines that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_quality", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder of sets, or a set")
    parser.add_argument("--sets", nargs="+", help="names of sets; all by default")
    parser.add_argument("--methods", nargs="+", default=METHODS, help=f"of {', '.join(METHODS)}; all by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    choices = ("alone", "words")
    parser.add_argument("--embeddings", nargs="?", const="alone", choices=choices, help="alone (the default) or words")
    parser.add_argument("--known", nargs="+", type=int, default=KNOWN, help="how many training rows are known")
    parser.add_argument("--set", nargs="+", default=[], dest="constants", metavar="MODULE.NAME=VALUE")
    options = parser.parse_args()
    _set(options.constants)
    if options.embeddings:
        require_model("--embeddings")
    folders = sorted(folder for folder in options.data.iterdir() if folder.is_dir()) or [options.data]
    for folder in folders:
        if options.sets and folder.name not in options.sets:
            continue
        of = Measured(folder, options.embeddings)
        for method in options.methods:
            for known in options.known:
                if known >= len(of.train.truth) or (known and method not in (NAIVE_BAYES, "auto")):
                    continue
                for seed in options.seeds:
                    for line in lines(of, method, seed, known):
                        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
