"""How a classifier learns from soft labels, the same for every kind of classifier here."""

from __future__ import annotations

from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from weakfish.evaluation.measures import Floats

NEGLIGIBLE = 1e-6
"""A class with a smaller probability than this does not become a training example."""


def fit_predict(model: Any, examples: Any, soft: Floats, rows: Any) -> Floats | str:
    """Train on soft labels, predict other rows.

    Each example counts once for every class, weighted with the class's probability, which for a loss that is a sum over
    examples is its expectation under the soft label.

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
    weights = soft.T.ravel()
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
