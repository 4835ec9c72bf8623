"""One simple text classifier: columns of text become TF-IDF features once, and soft labels train a logistic regression.

It shows what a model learns from labels. Words and short runs of characters are hashed to columns, so that memory does
not grow with the vocabulary; columns are then weighted by the training rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from weakfish.evaluation.measures import Bools, Floats

COLUMNS = 2**18
"""Hash columns per column of text and kind of feature."""

MIN_ROWS = 3
"""Features of fewer training rows are left out."""

INVERSE_REGULARIZATION = 10.0
TRAINED_SHARE = 0.9
"""Each seed trains on its own random nine tenths of the rows: what differs between seeds is the data."""

MAX_ITERATIONS = 1000
NEGLIGIBLE = 1e-6
"""A class with a smaller probability than this does not become a training example."""


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


def learn(examples: Any, soft: Floats, seed: int, rows: Any) -> Floats | str:
    """Train on soft labels, predict other rows.

    Each example counts once for every class, weighted with the class's probability, which for logistic regression is
    the expected loss under the soft label.

    Parameters
    ----------
    examples : scipy.sparse.csr_array, (examples, features)
    soft : (examples, classes)
        Their probabilities.
    seed
        Draws the examples that are used.
    rows : scipy.sparse.csr_array, (rows, features)
        What to predict.

    Returns
    -------
    numpy.ndarray, float64, (rows, classes), or the reason why nothing can be learned.
    """
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression

    kept = np.sort(np.random.default_rng(seed).permutation(len(soft))[: round(len(soft) * TRAINED_SHARE)])
    weights = soft[kept].T.ravel()
    labels = np.repeat(np.arange(soft.shape[1]), len(kept))
    used = weights > NEGLIGIBLE
    if len(np.unique(labels[used])) < 2:
        return "The training rows are fewer than two or of one class only, so there is nothing to learn."
    if not examples.shape[1]:
        return "The training rows share no words, so there is nothing to learn from."
    model = LogisticRegression(C=INVERSE_REGULARIZATION, max_iter=MAX_ITERATIONS)
    stacked = vstack([examples[kept]] * soft.shape[1]).tocsr()
    with threadpool_limits(1):  # sums in one order
        model.fit(stacked[used], labels[used], sample_weight=weights[used])
        found = model.predict_proba(rows) if rows.shape[0] else np.zeros((0, len(model.classes_)))
    probabilities = np.zeros((rows.shape[0], soft.shape[1]))
    probabilities[:, model.classes_] = found
    return probabilities
