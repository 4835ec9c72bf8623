"""A classifier on the features of a training set, alone or together with what the text classifier says.

Small boosted trees: only the order of values counts, so nothing needs scaling. They are kept small, since what is
known of few entities is soon learned by heart. They never see that a value was missing, only the usual value in its
place: why something is not known is often an accident of how data was collected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.evaluation import text
from weakfish.evaluation.learning import fit_predict
from weakfish.evaluation.measures import Floats

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


def learn(examples: Examples, seed: int, rows: Floats) -> Floats | str:
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
        read = text.learn(words[part != number], soft[part != number], words[part == number])
        if isinstance(read, str):
            return read
        own[part == number] = read
    both = replace(examples, features=np.hstack([_log_odds(own), examples.features]))
    stacked = learn(both, seed, np.hstack([_log_odds(said), rows]))
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
