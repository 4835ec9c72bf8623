"""How a classifier learns from soft labels, the same for every kind of classifier here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from weakfish.evaluation.measures import Bools, Floats

NEGLIGIBLE = 1e-6
"""A class with a smaller probability than this does not become a training example."""

CLASSES = 3
"""Of each example the most probable classes that count, so that fifty classes do not make fifty examples of each."""


def fit_predict(model: Any, examples: Any, soft: Floats, rows: Any) -> Floats | str:
    """Train on soft labels, predict other rows.

    Each example counts once for every class, weighted with the class's probability, which for a loss that is a sum over
    examples is its expectation under the soft label. Of more than `CLASSES` classes, the least probable are left out.

    Parameters
    ----------
    model
        A classifier of scikit-learn, not fitted.
    examples : scipy.sparse.csr_array or numpy.ndarray, (examples, features)
    soft : (examples, classes)
        Their probabilities.
    rows : as ``examples``, (rows, features)
        What to predict.

    Returns
    -------
    numpy.ndarray, float64, (rows, classes), or the reason why nothing can be learned.
    """
    weights = _most_probable(soft).T.ravel()
    labels = np.repeat(np.arange(soft.shape[1]), len(soft))
    used = np.flatnonzero(weights > NEGLIGIBLE)
    if len(np.unique(labels[used])) < 2:
        return "The training rows are fewer than two or of one class only, so there is nothing to learn."
    with threadpool_limits(1):  # sums in one order
        model.fit(examples[used % len(soft)], labels[used], sample_weight=weights[used])
        found = model.predict_proba(rows) if rows.shape[0] else np.zeros((0, len(model.classes_)))
    probabilities = np.zeros((rows.shape[0], soft.shape[1]))
    probabilities[:, model.classes_] = found
    return probabilities


def _most_probable(soft: Floats) -> Floats:
    if soft.shape[1] <= CLASSES:
        return soft
    order = np.argsort(-soft, axis=1, kind="stable")[:, :CLASSES]
    kept = np.zeros_like(soft)
    np.put_along_axis(kept, order, np.take_along_axis(soft, order, axis=1), axis=1)
    total = kept.sum(axis=1, keepdims=True)
    found: Floats = kept * np.divide(soft.sum(axis=1, keepdims=True), total, out=np.zeros_like(total), where=total > 0)
    return found


COLUMNS = 2**18
"""Hash columns per column of text and kind of feature."""

MIN_ROWS = 3
"""Features of fewer training rows are left out."""

INVERSE_REGULARIZATION = 10.0
MAX_ITERATIONS = 1000


def features(texts: Sequence[Sequence[str]], train: Bools) -> Any:
    """TF-IDF features of rows of text.

    Parameters
    ----------
    texts
        One sequence per column of text, each with one string per row.
    train : (rows,)
        Rows from which document frequencies are counted.

    Returns
    -------
    scipy.sparse.csr_array, (rows, features)
    """
    from scipy.sparse import hstack  # type: ignore[import-untyped]

    kinds = ({"analyzer": "word", "ngram_range": (1, 1)}, {"analyzer": "char_wb", "ngram_range": (2, 4)})
    return hstack([_tfidf(column, train, kind) for column in texts for kind in kinds]).tocsr()


def _tfidf(column: Sequence[str], train: Bools, kind: dict[str, Any]) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    counts = HashingVectorizer(n_features=COLUMNS, alternate_sign=False, norm=None, **kind).transform(column).tocsr()
    counts = counts[:, np.flatnonzero(counts[train].getnnz(axis=0) >= MIN_ROWS)]
    if not counts.shape[1]:
        return counts
    return TfidfTransformer(sublinear_tf=True).fit(counts[train]).transform(counts)


def learn(examples: Any, soft: Floats, rows: Any) -> Floats | str:
    """Train on the examples and predict ``rows``, see `learning.fit_predict`."""
    from sklearn.linear_model import LogisticRegression

    if not examples.shape[1]:
        return "The training rows share no words, so there is nothing to learn from."
    return fit_predict(LogisticRegression(C=INVERSE_REGULARIZATION, max_iter=MAX_ITERATIONS), examples, soft, rows)


SETTINGS: dict[str, Any] = {
    "max_iter": 60,
    "learning_rate": 0.1,
    "max_leaf_nodes": 6,
    "min_samples_leaf": 40,
    "l2_regularization": 5.0,
    "max_features": 0.5,
    "early_stopping": False,
}
"""Of scikit-learn's ``HistGradientBoostingClassifier``, chosen on dev; docs/labels.md says how. Each split may ask half
of the features, which a seed draws."""

FOLDS = 3
"""Parts of the training rows, each of which is read by a text classifier that has not learned from it."""

HALF_LIFE = 30.0
"""Days after which an example counts half."""

FLOOR = 1e-6
"""Probabilities closer to 0 than this count as this, where their logarithm is taken."""


def numbers(features: pa.Table) -> Floats:
    """Features as numbers: (rows, features).

    A whole number that is null becomes 0: of what is not known, nothing was counted. Any other is NaN where null. Texts
    are left out, and times too: what they are good for is an age, which an on-demand view computes.
    """
    columns = [features[name] for name in features.column_names if _is_number(features[name].type)]
    return np.stack([_numbers(column) for column in columns], axis=1) if columns else np.zeros((features.num_rows, 0))


@dataclass(frozen=True)
class Examples:
    """Rows to learn from: features, (rows, features), soft labels, (rows, classes), and times in days, (rows,)."""

    features: Floats
    soft: Floats
    days: Floats


def learn_tabular(examples: Examples, seed: int, rows: Floats) -> Floats | str:
    """Train on the examples, late ones above all, and predict ``rows``.

    See `learning.fit_predict`. An example counts half as much as one that is `HALF_LIFE` days younger: the past of an
    entity grows, so that the same features mean something else later.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    if not examples.features.shape[1]:
        return "The training set has no feature that is a number, so there is nothing to learn from."
    usual = _means(examples.features)
    known, rows = (np.where(np.isnan(values), usual, values) for values in (examples.features, rows))
    weights = 0.5 ** ((examples.days.max(initial=0.0) - examples.days) / HALF_LIFE)
    soft = examples.soft * (weights * len(weights) / max(weights.sum(), FLOOR))[:, None]
    return fit_predict(HistGradientBoostingClassifier(random_state=seed, **SETTINGS), known, soft, rows)


def stack(examples: Examples, words: Any, seed: int, rows: Floats, said: Floats) -> Floats | str:
    """`learn` with one more feature, the log odds of the text classifier; then the geometric mean of the two.

    What text says of a training row comes from a classifier of the other rows (stacking: Wolpert 1992), or it would be
    trusted for what it knows by heart. The mean holds where entities are new and only text can tell.

    Parameters
    ----------
    words
        Of the examples, as `text.features` makes them.
    said : (rows, classes)
        What the text classifier, trained on the same examples, says of ``rows``.
    """
    soft = examples.soft
    own = np.zeros_like(soft)
    part = np.random.default_rng(seed).permutation(len(soft)) % FOLDS
    for number in range(FOLDS):
        read = learn(words[part != number], soft[part != number], words[part == number])
        if isinstance(read, str):
            return read
        own[part == number] = read
    both = replace(examples, features=np.hstack([_log_odds(own), examples.features]))
    stacked = learn_tabular(both, seed, np.hstack([_log_odds(said), rows]))
    return stacked if isinstance(stacked, str) else _geometric_mean(stacked, said)


def _means(examples: Floats) -> Floats:
    """What a feature usually is: its mean where it is known, 0 where it never is."""
    known = ~np.isnan(examples)
    sums: Floats = np.where(known, examples, 0.0).sum(axis=0)
    means: Floats = sums / np.maximum(known.sum(axis=0), 1)
    return means


def _log_odds(probabilities: Floats) -> Floats:
    """Of each class but the first, against the first."""
    logs = _logs(probabilities)
    return logs[:, 1:] - logs[:, :1]


def _geometric_mean(one: Floats, other: Floats) -> Floats:
    mean = np.exp((_logs(one) + _logs(other)) / 2)
    shares: Floats = mean / mean.sum(axis=1, keepdims=True)
    return shares


def _logs(probabilities: Floats) -> Floats:
    found: Floats = np.log(np.maximum(probabilities, FLOOR))
    return found


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _numbers(column: pa.ChunkedArray) -> Floats:
    missing = 0.0 if pa.types.is_integer(column.type) else float("nan")
    found: Floats = pc.fill_null(column.cast(pa.float64()), missing).to_numpy()
    return found
