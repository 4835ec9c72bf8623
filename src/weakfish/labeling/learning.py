"""What classifiers learn from rows of text and soft labels: features of words, and training on probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from weakfish.engine.descent import least
from weakfish.engine.portable import exp, log, product, rounded, sums_by_row

Floats = npt.NDArray[np.float64]
Columns = list[Any]
"""Counts of features, a scipy.sparse.csr_array (rows, hash columns) for each column of text and kind of feature."""


class NothingToLearn(Exception):
    """Why a classifier cannot be trained; a figure's reason, not an error."""


NEGLIGIBLE = 1e-6
"""A class with a smaller probability than this does not become a training example."""

CLASSES = 3
"""Of each example the most probable classes that count, so that fifty classes do not make fifty examples of each."""


def fit_predict(model: Any, examples: Any, soft: Floats, rows: Any) -> Floats:
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
    numpy.ndarray, float64, (rows, classes)

    Raises
    ------
    NothingToLearn
        When the examples are fewer than two or of one class.
    """
    weights = _most_probable(soft).T.ravel()
    labels = np.repeat(np.arange(soft.shape[1]), len(soft))
    used = np.flatnonzero(weights > NEGLIGIBLE)
    if len(np.unique(labels[used])) < 2:
        raise NothingToLearn("The training rows are fewer than two or of one class only, so there is nothing to learn.")
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


AT_ONCE = 1 << 15
"""Features of rows, more or less, that are weighed together."""

HASHED = 2**18
"""Hash columns per column of text and kind of feature."""

MIN_ROWS = 3
"""Features of fewer training rows are left out."""

KINDS: tuple[dict[str, Any], ...] = (
    {"analyzer": "word", "ngram_range": (1, 1)},
    {"analyzer": "char_wb", "ngram_range": (2, 4)},
)
"""Words, and two to four characters within words."""


SEPARATOR = "\x1f"
"""What stands between words that are not taken apart; for `str.split` it is white space."""


def words_of(text: str, apart: bool) -> list[str]:
    """The words of a text; those that are not taken apart are whole, with their upper case and white space."""
    return [word for word in text.split(SEPARATOR) if word] if apart else text.lower().split()


def word_counts(texts: Sequence[Sequence[str]], apart: Sequence[bool] = ()) -> Columns:
    """How often each feature stands in each row.

    ``texts`` has a sequence per column, each with a string per row; the words of columns that are ``apart`` are
    features as they are, and have no others.
    """
    from scipy.sparse import csr_array  # type: ignore[import-untyped]
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer

    found = []
    for column, whole in zip(texts, apart or [False] * len(texts), strict=True):
        # No feature spans white space, so that each token is hashed once, and not once for each of its occurrences.
        counter = CountVectorizer(analyzer=partial(words_of, apart=whole), dtype=np.float64)
        rows = counter.fit_transform([*column, "word"])[:-1]  # it refuses texts that have no word at all
        tokens = counter.get_feature_names_out()
        for kind in ({"analyzer": _itself}, None) if whole else KINDS:
            if kind is None:
                found.append(csr_array((len(column), HASHED)))
                continue
            hashed = HashingVectorizer(n_features=HASHED, alternate_sign=False, norm=None, **kind).transform(tokens)
            counts = (rows @ hashed).tocsr()
            counts.sort_indices()
            found.append(counts)
    return found


def _itself(word: str) -> list[str]:
    return [word]


@dataclass(frozen=True)
class WordFeatures:
    """TF-IDF features of rows of text, as some rows have taught them.

    Attributes
    ----------
    kept : list of numpy.ndarray
        For each column of text and kind of feature the hash columns that enough rows have.
    weights : list of numpy.ndarray
        The inverse document frequency of each of those.
    """

    kept: list[npt.NDArray[np.int64]]
    weights: list[Floats]

    @classmethod
    def of(cls, counts: Columns) -> WordFeatures:
        """The features that rows with these counts teach."""
        kept = [np.flatnonzero(np.bincount(each.indices, minlength=HASHED) >= MIN_ROWS) for each in counts]
        weights = []
        for each, columns in zip(counts, kept, strict=True):
            rows = np.bincount(each.indices, minlength=HASHED)[columns]
            weights.append(log((1 + each.shape[0]) / (1 + rows)) + 1)
        return cls(kept, weights)

    def __call__(self, counts: Columns) -> Any:
        """The features of rows with these counts, of a column at least, scipy.sparse.csr_array (rows, features)."""
        from scipy.sparse import hstack

        own = zip(counts, self.kept, self.weights, strict=True)
        return hstack([_weighed(each[:, columns], weights) for each, columns, weights in own]).tocsr()


def _weighed(counts: Any, weights: Floats) -> Any:
    """Rows of length 1, of 1 and the logarithm of each count, times the weight of its column; the same everywhere."""
    from scipy.sparse import csr_array

    values, often = np.empty(counts.nnz), 1 + log(np.arange(1, counts.data.max(initial=0) + 1))
    for _, of, ends in _parts(counts.indptr):
        own = often[counts.data[of].astype(np.int64) - 1] * weights[counts.indices[of]]
        values[of] = own / np.repeat(np.sqrt(sums_by_row(own * own, ends)), np.diff(ends))
    return csr_array((values, counts.indices, counts.indptr), shape=counts.shape)


def _parts(ends: npt.NDArray[np.integer]) -> Iterator[tuple[slice, slice, npt.NDArray[np.integer]]]:
    """Some rows of a sparse array at once: which rows, where their values lie, and where each row's end there."""
    start, rows = 0, len(ends) - 1
    while start < rows:
        end = max(start + 1, int(np.searchsorted(ends, ends[start] + AT_ONCE, "right")) - 1)
        yield slice(start, end), slice(ends[start], ends[end]), ends[start : end + 1] - ends[start]
        start = end


def together(words: Any, vectors: Floats | None) -> Any:
    """Features of words, scipy.sparse.csr_array (rows, features), and embeddings beside them; either may be None."""
    from scipy.sparse import csr_array, hstack

    if vectors is None or not vectors.shape[1]:
        return words
    return vectors if words is None else hstack([words, csr_array(vectors)]).tocsr()


ITERATIONS = 200
GRADIENT = 1e-4
"""Fits end when no parameter's gradient, per example, is larger; probabilities have settled to some 1e-3 then."""

FEATURE_BITS, WEIGHT_BITS = 24, 29
"""Bits of features, and of what they are multiplied with, in a fit: see `weakfish.engine.portable.rounded`."""


@dataclass(frozen=True)
class SoftRegression:
    """Multinomial logistic regression that learns from probabilities.

    Its loss is the sum of the cross entropies of the examples, and half the squares of the weights over ``strength``,
    as scikit-learn's ``LogisticRegression(C=strength)`` has it. That one learns from classes alone: an example of a
    probability would have to stand there once for each class, which for many classes costs their square.

    Attributes
    ----------
    weights : numpy.ndarray, (features, classes)
    intercepts : numpy.ndarray, (classes,)
    """

    weights: Floats
    intercepts: Floats

    @classmethod
    def of(cls, examples: Any, soft: Floats, strength: float) -> SoftRegression:
        """What examples (rows, features) and the probabilities of their classes, times weights, (rows, classes) teach.

        Raises
        ------
        NothingToLearn
            When there are no features, or the examples are of one class only.
        """
        from scipy.sparse import csr_array

        if not examples.shape[1]:
            raise NothingToLearn("The training rows share no words, so there is nothing to learn from.")
        seen, classes = soft.sum(axis=0) > NEGLIGIBLE * soft.sum(), soft.shape[1]
        if seen.sum() < 2:
            raise NothingToLearn("The training rows are of one class only, so there is nothing to learn.")
        total, shape = soft.sum(), (examples.shape[1] + 1, classes)
        rows = csr_array(examples)  # SciPy adds in order; the products are exact, whatever it fuses
        rows = csr_array((rounded(rows.data, FEATURE_BITS), rows.indices, rows.indptr), shape=rows.shape)
        turned = rows.T.tocsr()

        def loss(flat: Floats) -> tuple[float, Floats]:
            held = rounded(flat.reshape(shape), WEIGHT_BITS)
            logs = rows @ held[:-1] + held[-1]
            logs -= logs.max(axis=1, keepdims=True)
            logs -= log(exp(logs).sum(axis=1, keepdims=True))
            wrong = exp(logs) * soft.sum(axis=1, keepdims=True) - soft
            gradient = turned @ rounded(wrong, WEIGHT_BITS) + held[:-1] / strength
            whole = np.concatenate([gradient, wrong.sum(axis=0, keepdims=True)])
            value = -(soft * logs).sum() + (held[:-1] ** 2).sum() / (2 * strength)
            return value / total, (whole / total).ravel()

        start = np.zeros(shape)
        start[-1] = log(np.maximum(soft.sum(axis=0) / total, NEGLIGIBLE))
        found = least(loss, start.ravel(), GRADIENT, ITERATIONS).reshape(shape)
        return cls(found[:-1], found[-1])

    def logs(self, rows: Any) -> Floats:
        """The logarithms of the probabilities of rows (rows, features), (rows, classes); the same bytes everywhere."""
        found = _product(rows, self.weights) + self.intercepts
        found -= found.max(axis=1, keepdims=True)
        found -= log(exp(found).sum(axis=1, keepdims=True))
        return found


def _product(rows: Any, weights: Floats) -> Floats:
    """``rows @ weights`` of rows that may be sparse, added in the order of the features."""
    from scipy.sparse import issparse

    if not issparse(rows):
        return product(rows, weights)
    found = np.empty((rows.shape[0], weights.shape[1]))
    for some, of, ends in _parts(rows.indptr):
        found[some] = sums_by_row(rows.data[of, None] * weights[rows.indices[of]], ends)
    return found
