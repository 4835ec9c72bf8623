"""How a classifier learns from soft labels, the same for every kind of classifier here."""

from __future__ import annotations

from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from weakfish.evaluation.measures import Floats

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
