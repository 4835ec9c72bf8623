"""One simple text classifier: columns of text become TF-IDF features once, and soft labels train a logistic regression.

It shows what a model learns from labels. Words and short runs of characters are hashed to columns, so that memory does
not grow with the vocabulary; columns are then weighted by the training rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from weakfish.evaluation.learning import fit_predict
from weakfish.evaluation.measures import Bools, Floats

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
