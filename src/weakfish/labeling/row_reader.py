"""The reader: a classifier on the row itself, trained on what votes say of other rows.

It is cross-fitted: rows are parted by a hash of their content, and each part is read by a model that learned from the
others alone. So no row is judged by what learned from its own votes, nor by what saw a copy of it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.engine.portable import exp, log
from weakfish.labeling.embedding import SCALE, Vectors
from weakfish.labeling.learning import (
    KINDS,
    NEGLIGIBLE,
    Columns,
    Floats,
    NothingToLearn,
    SoftRegression,
    WordFeatures,
    together,
)

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FOLDS = 5
"""Parts of the rows."""

STRENGTH = 4.0
"""Of the logistic regression, scikit-learn's ``C``."""

STRENGTH_OF_EMBEDDINGS = 12.0
"""The same of embeddings: `RowReader.gain`, which no gold has a part in, was highest from 8 to 16 on three sets."""

MOST_POWER = 4.0
"""Above it a reader would be trusted more than anything that it was compared with."""

LEAST_GAIN = 0.02
"""Of what could be known of votes, how much a reader must know of those that it has not seen."""

FLOOR = 1e-9
"""Probabilities closer to 0 than this count as this, where their logarithm is taken."""


def hashes_of(texts: Sequence[Sequence[str]]) -> npt.NDArray[np.uint64]:
    """A number for the content of each row; ``texts`` has a sequence per column, each with a string per row."""
    rows = ("\x1f".join(row).encode("utf-8", "surrogatepass") for row in zip(*texts, strict=True))
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def folds_of(hashes: npt.NDArray[np.uint64]) -> Ints:
    """The part of each row; copies of a content are in one."""
    return (hashes % np.uint64(FOLDS)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class RowReader:
    """A fitted reader.

    Attributes
    ----------
    features : WordFeatures
        Of words. Embeddings come after them.
    apart : list of bool
        Of which columns the words are not taken apart, see `word_counts`.
    models : list
        For each part the classifier that learned from the others.
    share : numpy.ndarray, (parts, classes)
        For each part, of each class in what its classifier learned from.
    power : numpy.ndarray, (parts,)
        By which what is said of a part is taken, estimated on votes that had not been seen: 0 when it says nothing.
        All parts have one share and one power, but with known rows, which must not have a say in those of their part.
    gain : float
        Which part of what could be known of those votes beyond the classes' shares they knew, at most 1.
    """

    features: WordFeatures
    apart: list[bool]
    models: list[SoftRegression]
    share: Floats
    power: Floats
    gain: float

    @property
    def helps(self) -> bool:
        """Whether it knows enough of votes that it has not seen."""
        return self.gain >= LEAST_GAIN

    def rows(self, counts: Columns, vectors: Vectors | None = None) -> Any:
        """The features (rows, features) of rows with these counts of words and embeddings."""
        return features_of(self.features, counts, vectors)

    def log_odds(self, counts: Columns, folds: Ints, vectors: Vectors | None = None) -> Floats:
        """What reading adds to the logarithm of each class, (rows, classes), given words, parts and embeddings."""
        return self.added(self.rows(counts, vectors), folds)

    def added(self, rows: Any, folds: Ints) -> Floats:
        """The same, given features (rows, features)."""
        found: Floats = self.power[folds, None] * _read(rows, self.models, folds, self.share)
        return found

    def to_bytes(self) -> bytes:
        """As a file of arrays (``.npz``), the same bytes for the same reader."""
        file = io.BytesIO()
        arrays: dict[str, Any] = {"share": self.share, "power": self.power, "gain": np.array(self.gain)}
        arrays["apart"] = np.array(self.apart, bool)
        arrays |= {f"kept_{place}": each for place, each in enumerate(self.features.kept)}
        arrays |= {f"idf_{place}": each for place, each in enumerate(self.features.weights)}
        arrays |= {f"weights_{place}": each.weights for place, each in enumerate(self.models)}
        arrays |= {f"intercepts_{place}": each.intercepts for place, each in enumerate(self.models)}
        np.savez(file, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> RowReader:
        """The reader that `to_bytes` wrote; raises `ValueError`, `KeyError` or `OSError` where it is none."""
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = dict(file)
        kinds = sum(name.startswith("kept_") for name in found)
        features = WordFeatures(*([found[f"{name}_{place}"] for place in range(kinds)] for name in ("kept", "idf")))
        models = [SoftRegression(found[f"weights_{place}"], found[f"intercepts_{place}"]) for place in range(FOLDS)]
        apart = found["apart"].tolist() if "apart" in found else [False] * (kinds // len(KINDS))
        return cls(features, apart, models, found["share"], found["power"], float(found["gain"]))


def fit_reader(
    counts: Columns,
    folds: Ints,
    soft: Floats,
    weights: Floats,
    known: npt.NDArray[np.bool_] | None = None,
    vectors: Vectors | None = None,
    apart: Sequence[bool] | None = None,
) -> RowReader:
    """A reader of rows with these counts of words, which learns from soft labels.

    Parameters
    ----------
    counts
        Of words, see `word_counts`.
    folds : (rows,)
        See `folds_of`.
    soft : (rows, classes) or (parts, rows, classes)
        What is known of each row without reading it; where known labels have a part in it, for each part what those of
        other parts make of it.
    weights : (rows,)
        How much a row teaches, 0 for one of which nothing is known.
    known : (rows,), optional
        Rows whose class is known. Then no known row has a say in anything that is said of its own part.
    vectors : (rows, numbers), optional
        Embeddings of the rows; without them words are all that is read.
    apart : optional
        Of which columns the words were not taken apart; of none unless given.

    Raises
    ------
    NothingToLearn
        When a part has too few rows to learn from, or the rows share no words.
    """
    taught = weights > 0
    if not taught.any():
        raise NothingToLearn("No row has a vote, so there is nothing to learn from.")
    features = WordFeatures.of(counts)
    rows, by_part = features_of(features, counts, vectors), np.broadcast_to(soft, (FOLDS, *soft.shape[-2:]))
    models, shares = [], []
    for number in range(FOLDS):
        others = np.flatnonzero(taught & (folds != number))
        target = by_part[number][others] * weights[others, None]
        models.append(SoftRegression.of(rows[others], target, STRENGTH))
        shares.append(target.sum(axis=0))
    judged = taught if known is None else taught & ~known
    if known is None:
        whole = soft * weights[:, None]
        shares = [whole.sum(axis=0)] * FOLDS
    share = np.maximum(np.stack(shares) / np.sum(shares, axis=1, keepdims=True), FLOOR)
    power, surprises = np.ones(FOLDS), np.zeros(3)
    for own in [np.arange(FOLDS)] if known is None else np.arange(FOLDS)[:, None]:
        mine = np.flatnonzero(judged & np.isin(folds, own))
        if len(mine):
            said = _read(rows[mine], models, folds[mine], share)
            target = by_part[folds[mine], mine] * weights[mine, None]
            power[own], found = _power(said, share[own[0]], target)
            surprises += found
    before, after, least = surprises
    gain = (before - after) / (before - least) if before - least > FLOOR else 0.0
    apart = list(apart or [False] * (len(counts) // len(KINDS)))
    return RowReader(features, apart, models, share, power if gain > 0 else np.zeros(FOLDS), max(gain, 0.0))


def features_of(features: WordFeatures, counts: Columns, vectors: Vectors | None) -> Any:
    """Features of words and embeddings; those are as long as lets one strength be that of both."""
    length = np.sqrt(STRENGTH_OF_EMBEDDINGS / STRENGTH) / SCALE
    return together(features(counts) if counts else None, None if vectors is None else vectors * length)


def _read(rows: Any, models: Sequence[SoftRegression], folds: Ints, share: Floats) -> Floats:
    """Logarithms of what the model of each row's part says of each class, beyond the ``share``, (parts, classes).

    Of a class of which a part has seen nothing it cannot know anything: it counts like the least likely of the others.
    """
    found = np.zeros((rows.shape[0], share.shape[1]))
    for number, model in enumerate(models):
        mine = np.flatnonzero(folds == number)
        unseen = share[number] <= NEGLIGIBLE
        said = model.logs(rows[mine]) - log(share[number])
        said[:, unseen] = said[:, ~unseen].min(axis=1, keepdims=True)
        found[mine] = said
    return found


def _power(said: Floats, share: Floats, target: Floats) -> tuple[float, Floats]:
    """The power of what a reader says by which it best foretells ``target``.

    Also how little is known of it without the reader, with it, and with all that can be known (3,).
    """
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    def surprise(power: float) -> float:
        return float(-(target * log(np.maximum(normalized(log(share) + power * said), FLOOR))).sum())

    power = float(minimize_scalar(surprise, bounds=(0.0, MOST_POWER), method="bounded").x)
    total = np.maximum(target.sum(axis=1, keepdims=True), FLOOR)
    least = float(-(target * log(np.maximum(target / total, FLOOR))).sum())
    return power, np.array([surprise(0.0), surprise(power), least])


def joined(votes: Floats, added: Floats) -> Floats:
    """The probabilities by votes (rows, classes), and what reading adds to their logarithms, together.

    Rows to which it adds nothing stay as they are.
    """
    return np.where(added.any(axis=1, keepdims=True), normalized(log_of(votes) + added), votes)


def log_of(shares: Floats) -> Floats:
    """Logarithms of probabilities; what is impossible by the votes counts as `FLOOR`."""
    return log(np.where(shares > 0, shares, FLOOR))


def normalized(logs: Floats) -> Floats:
    """The probabilities whose logarithms, up to a constant by row, these are, (rows, classes)."""
    found = exp(logs - logs.max(axis=1, keepdims=True))
    shares: Floats = found / found.sum(axis=1, keepdims=True)
    return shares
