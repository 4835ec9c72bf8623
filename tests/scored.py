"""A process of its own: what labels come to with fixed parameters, as digests, and what fits find, as numbers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from weakfish.contracts.votes_file import Votes
from weakfish.labeling import dawid_skene, hyper, naive_bayes
from weakfish.labeling.choice import alone, learn, probabilities_by
from weakfish.labeling.explain import from_log_odds, log_odds
from weakfish.labeling.known import KnownVotes, accuracies, gains, weighed
from weakfish.labeling.label_model import FittedModel, Patterns, Sums, fit
from weakfish.labeling.learning import SoftRegression, WordFeatures
from weakfish.labeling.row_reader import FOLDS, RowReader, fit_reader, folds_of, joined
from weakfish.labeling.row_texts import Texts
from weakfish.labeling.signals import copies, held_out, refined, signals, unexplained_where_both
from weakfish.project.params import TaskParams

ROWS, FUNCTIONS, CLASSES = 1500, 9, 3
EMBEDDED = 384
TASK = {"classes": ["first", "second", "third"]}


def votes() -> Votes:
    """Votes of functions of some worth."""
    draw = np.random.default_rng(5)
    truth = draw.integers(CLASSES, size=ROWS)
    right = draw.random((ROWS, FUNCTIONS)) < 0.7
    found = np.where(right, truth[:, None], draw.integers(CLASSES, size=(ROWS, FUNCTIONS)))
    return np.where(draw.random((ROWS, FUNCTIONS)) < 0.5, found, -1).astype(np.int8)


def texts() -> Texts:
    """Rows of text, a number, a category and a time, and the embedding of the text."""
    draw = np.random.default_rng(6)
    words = np.array([f"word{number}" for number in range(120)])
    rows = pa.table(
        {
            "text": [" ".join(draw.choice(words, size)) for size in draw.integers(1, 40, ROWS)],
            "amount": pa.array(draw.integers(1, 1 << 40, ROWS) / 1024.0),
            "country": draw.choice(["at", "de", "fr"], ROWS),
            "at": pa.array(draw.integers(0, 1 << 50, ROWS), pa.timestamp("us", "UTC")),
        }
    )
    found = Texts.of(rows, ["text", "amount", "country", "at"])
    return replace(found, vectors=draw.integers(-127, 128, (ROWS, EMBEDDED)).astype(np.int8))


def reader(of: Texts) -> RowReader:
    """A reader whose parameters are set, not fitted."""
    draw, apart = np.random.default_rng(7), of.categories()
    features = WordFeatures.of(of.counts(apart))
    size = sum(map(len, features.kept)) + EMBEDDED
    models = [
        SoftRegression(draw.integers(-9999, 9999, (size, CLASSES)) / 3000.0, np.arange(CLASSES) / 7.0)
        for _ in range(FOLDS)
    ]
    share, power = np.tile(np.array([0.2, 0.3, 0.5]), (FOLDS, 1)), np.full(FOLDS, 0.7)
    return RowReader(features, apart, models, share, power, 0.5)


def digests() -> dict[str, str]:
    """The SHA-256 of what each method says, and of the fits that are the same on every processor."""
    given, balance = votes(), np.array([0.2, 0.3, 0.5])
    sums, patterns, found = Sums.of(given, CLASSES), Patterns.of(given), {}
    draw = np.random.default_rng(8)
    mu = (draw.integers(1, 900, (FUNCTIONS * CLASSES, CLASSES)) / 1024).astype(np.float32)
    snorkel = FittedModel(mu, balance, [], rows=ROWS, rounded=(mu - 3).astype(np.float32))
    pretrained = hyper.fit(patterns, balance, ROWS)
    models = {
        "majority": pretrained,
        "snorkel": snorkel,
        "hyper": pretrained,
        "naive-bayes": naive_bayes.fit(pretrained, patterns),
        "dawid-skene": dawid_skene.fit(patterns, balance, ROWS),
    }
    known = KnownVotes(given[:60], np.arange(60) % CLASSES, np.arange(60) % FOLDS)
    bayes = models["naive-bayes"]
    assert isinstance(bayes, FittedModel)
    models["known"] = weighed(bayes, known)
    read, by = texts(), reader(texts())
    rows = by.rows(read.counts(by.apart), read.vectors)
    added = by.added(rows, folds_of(read.hashes))
    found["reader"] = (rows.data, added, by.features.weights, read.columns)
    dense = replace(by, models=[SoftRegression(each.weights[-EMBEDDED:], each.intercepts) for each in by.models])
    found["embeddings"] = dense.added(rows[:, -EMBEDDED:].toarray(), folds_of(read.hashes))
    for method, model in models.items():
        made = probabilities_by(method, model, given)
        judged = signals(model, sums, patterns, method == "snorkel")
        found[method] = (made, joined(made, added), held_out(model.posterior, patterns, CLASSES), judged)
        found[f"fit of {method}"] = json.dumps(model.to_json(), sort_keys=True)
    found["signals"] = (
        refined(snorkel, patterns).mu,
        copies(snorkel, sums),
        unexplained_where_both(bayes, sums),
        accuracies(models["known"], sums.votes),
        gains(pretrained.posterior, bayes, known),
        [from_log_odds(log_odds(snorkel, row)) for row in given[:50]],
    )
    soft = probabilities_by("dawid-skene", models["dawid-skene"], given)
    counts, folds = read.counts(by.apart), folds_of(read.hashes)
    for name, words in {"words": counts, "embeddings alone": []}.items():
        vectors = None if name == "words" else read.vectors
        found[f"fit of a reader of {name}"] = fit_reader(words, folds, soft, np.ones(ROWS), None, vectors).to_bytes()
    both = fit_reader(counts, folds, soft, np.ones(ROWS), None, read.vectors, by.apart)
    found["fit of a reader of words and embeddings"] = both.to_bytes()
    task = TaskParams.model_validate(TASK | {"label_model": {"class_balance": [0.2, 0.3, 0.5], "method": "auto"}})
    chosen = learn(given, task, known=known)
    found["auto"] = (chosen.why, chosen.probabilities(given), alone(chosen, patterns))
    return {name: hashlib.sha256(_bytes(value)).hexdigest() for name, value in found.items()}


def refits() -> dict[str, list[float]]:
    """What Snorkel's fit finds, which rounds by the processor."""
    settings = {"class_balance": [0.2, 0.3, 0.5], "n_epochs": 100, "method": "snorkel"}
    task = TaskParams.model_validate(TASK | {"label_model": settings})
    return {"snorkel": fit(Sums.of(votes(), CLASSES), task).mu.ravel().tolist()}


def _bytes(value: object) -> bytes:
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, tuple | list):
        return b"|".join(_bytes(each) for each in value)
    return repr(value).encode()


if __name__ == "__main__":
    chosen = [name for name in __cpu_dispatch__ if __cpu_features__[name]]
    print(json.dumps({"chosen": chosen, "digests": digests(), "refits": refits()}))
