"""Which class a row gets: the most probable one; among equals, one that the row's key and the model's seed decide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.errors import LabelingFunctionError
from weakfish.labeling.sums import BATCH, Patterns, Sums, indicators
from weakfish.project.cache import Cache, key_of
from weakfish.project.params import TaskParams

TOLERANCE = 1e-5
"""Probabilities that differ by less are tied, as in Snorkel's ``probs_to_preds``."""

Classes = npt.NDArray[np.int64]


def winners(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which classes are most probable, (rows, classes); several where they tie."""
    found: npt.NDArray[np.bool_] = probabilities.max(axis=1, keepdims=True) - probabilities < TOLERANCE
    return found


def decide(
    probabilities: npt.NDArray[np.float64],
    keys: pa.Array | pa.ChunkedArray,
    seed: int,
    inverse: npt.NDArray[np.integer] | None = None,
) -> Classes:
    """The class of each row as a position; a tie goes to the class that `draws` names.

    ``inverse`` gives the row of ``probabilities`` for each key, where several keys share one. The answer for a key does
    not depend on its place, nor on other rows, nor on the run.
    """
    won = winners(probabilities)
    order = np.argsort(~won, axis=1, kind="stable")
    number = won.sum(axis=1)
    if inverse is not None:
        order, number = order[inverse], number[inverse]
    tied = np.flatnonzero(number > 1)
    chosen: Classes = order[:, 0].astype(np.int64)
    if len(tied):
        draw = draws(keys.take(pa.array(tied)), seed) % number[tied].astype(np.uint64)
        chosen[tied] = order[tied, draw.astype(np.int64)]
    return chosen


def draws(keys: pa.Array | pa.ChunkedArray, seed: int) -> npt.NDArray[np.uint64]:
    """A number per key: the SipHash-2-4 of its text, the secret being made from ``seed``."""
    from pandas.util import hash_array

    secret = hashlib.blake2b(str(seed).encode(), digest_size=8).hexdigest()
    texts = pc.fill_null(keys.cast(pa.large_string()), "").to_numpy(zero_copy_only=False)
    found: npt.NDArray[np.uint64] = hash_array(texts.astype(object), hash_key=secret, categorize=False)
    return found


STEPS = 20
"""Steps of expectation maximization: enough to see where it goes, not to arrive."""

MOST = 1 << 14
"""The commonest patterns, which are all that are looked at."""

FLOOR = 1e-4
"""Probabilities stay away from 0 and 1 by this, since their logarithms are taken."""

Floats = npt.NDArray[np.float64]


def refined(model: FittedModel, patterns: Patterns) -> FittedModel:
    """The model after some steps of expectation maximization from where it stands (Dawid and Skene, 1979).

    Abstaining counts as an answer here, since the likelihood is that of the whole pattern; the class balance is free.
    """
    classes = len(model.class_balance)
    most = np.sort(np.argsort(-patterns.counts, kind="stable")[:MOST])
    votes, counts = patterns.votes[most], patterns.counts[most].astype(np.float64)
    voted, abstained = indicators(votes, classes), (votes < 0).astype(np.float64)
    mu, balance = _inside(model.mu.astype(np.float64)), model.class_balance
    for _ in range(STEPS):
        share = _expected(voted, abstained, mu, balance) * counts[:, None]
        balance = _inside(share.sum(axis=0) / counts.sum())
        mu = _inside(voted.T @ share / np.maximum(share.sum(axis=0), FLOOR))
    return replace(model, mu=mu.astype(np.float32), class_balance=balance / balance.sum())


def _expected(voted: Floats, abstained: Floats, mu: Floats, balance: Floats) -> Floats:
    classes = len(balance)
    silent = _inside(1 - mu.reshape(-1, classes, classes).sum(axis=1))
    joint = voted @ np.log(mu) + abstained @ np.log(silent) + np.log(balance)
    shares: Floats = np.exp(joint - joint.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _inside(values: Floats) -> Floats:
    return np.clip(values, FLOOR, 1 - FLOOR)


Probabilities = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

MIN_FUNCTIONS = 3
"""Snorkel's label model tells functions apart by how pairs agree; with fewer than three it cannot."""


@dataclass(frozen=True, eq=False)
class FittedModel:
    """What a fit of Snorkel's ``LabelModel`` found; predicts without torch.

    Attributes
    ----------
    mu : numpy.ndarray, float32, (functions * classes, classes)
        At ``[i * classes + a, y]`` the probability that function i votes a on a row of class y.
    class_balance : numpy.ndarray, float64, (classes,)
        Snorkel's ``p``, the share of each class before any vote.
    weights : list of float
        Snorkel's ``get_weights()``: the estimated accuracy of each function where it votes.
    losses : list of (epoch, loss)
        About fifty of the fit, the first and the last among them.
    rows : int
        Rows that it was fitted on.
    fitted_through : str
        The last partition that it was fitted on.
    """

    mu: Singles
    class_balance: Probabilities
    weights: list[float]
    losses: list[tuple[int, float]] = field(default_factory=list)
    rows: int = 0
    fitted_through: str = ""

    def probabilities(self, votes: Votes) -> Probabilities:
        """The posterior of each class, (rows, classes), to the bit as ``LabelModel.predict_proba`` has it.

        Computed once per distinct pattern of a batch. A row without votes has the class balance.
        """
        found = np.empty((len(votes), len(self.class_balance)))
        for rows, patterns in batches(votes):
            np.take(self.posterior(patterns.votes), patterns.inverse, axis=0, out=found[rows])
        return found

    def posterior(self, votes: Votes, balance: Probabilities | None = None) -> Probabilities:
        """As `probabilities`, row by row; ``balance`` takes the place of the class balance.

        Adds the logarithms function by function, as the matrix product in ``predict_proba`` does.
        """
        classes = len(self.class_balance)
        logs = np.log(self.mu).astype(np.float64).reshape(-1, classes, classes)
        total = np.zeros((len(votes), classes))
        for votes_of_one, log in zip(votes.T, logs, strict=True):
            total += np.concatenate([log, np.zeros((1, classes))])[votes_of_one]
        joint = np.exp(total + np.log(self.class_balance if balance is None else balance))
        shares: Probabilities = joint / joint.sum(axis=1).reshape(-1, 1)
        return shares

    def to_json(self) -> dict[str, Any]:
        """As JSON, exactly."""
        return {
            "mu": [[float(value) for value in row] for row in self.mu],
            "class_balance": [float(value) for value in self.class_balance],
            "weights": self.weights,
            "losses": [list(pair) for pair in self.losses],
            "rows": self.rows,
            "fitted_through": self.fitted_through,
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> FittedModel:
        """The model that `to_json` wrote; other keys are ignored."""
        return FittedModel(
            np.array(content["mu"], np.float32),
            np.array(content["class_balance"]),
            list(content["weights"]),
            [(epoch, loss) for epoch, loss in content["losses"]],
            content["rows"],
            content["fitted_through"],
        )

    def through(self, partition: str) -> FittedModel:
        """This model, known as fitted through ``partition``."""
        return replace(self, fitted_through=partition)


PACKAGES = ("numpy", "snorkel", "torch")
"""Packages on whose versions a fit depends."""


def fit(sums: Sums, task: TaskParams, seed: int | None = None, cache: Cache | None = None) -> FittedModel:
    """Fit Snorkel's ``LabelModel`` on the rows behind ``sums``, to the bit as on their label matrix.

    ``seed`` overrides the task's. Snorkel's own default seed differs from process to process, so one is always passed.
    A fit that lies in ``cache`` is not made again, and torch not imported.

    Raises
    ------
    LabelingFunctionError
        With fewer than three functions, or when no function votes at all.
    """
    classes = len(task.classes)
    functions = len(sums.pairs) // classes
    if functions < MIN_FUNCTIONS:
        raise LabelingFunctionError(
            f"The label model needs at least {MIN_FUNCTIONS} labeling functions, there are {functions}; add some."
        )
    if not sums.covered:
        raise LabelingFunctionError(
            "No labeling function votes on any row, so there is nothing to label; see reports/labeling_functions.json."
        )
    settings = task.label_model.model_copy(update={"seed": task.label_model.seed if seed is None else seed})
    versions = [version(package) for package in PACKAGES]
    counts = hashlib.sha256(np.ascontiguousarray(sums.pairs)).hexdigest()
    key = key_of(sums.rows, counts, classes, settings.model_dump(mode="json"), versions)
    known = cache.get(key) if cache else None
    if known is not None:
        return FittedModel.from_json(json.loads(known.to_pybytes()))
    from weakfish.labeling.snorkel_model import LabelModelFromSums

    model = LabelModelFromSums(sums, classes)
    model.train_on(settings)
    with np.errstate(divide="ignore"):  # a function that never votes has coverage 0, and weight 1
        weights = [float(weight) for weight in model.get_weights()]
    found = FittedModel(model.mu.detach().numpy().copy(), np.array(model.p), weights, model.losses, sums.rows)
    if cache:
        cache.put(key, json.dumps(found.to_json()).encode())
    return found


def batches(votes: Votes) -> Iterator[tuple[slice, Patterns]]:
    """The rows of each batch of a label matrix, and its patterns."""
    for start in range(0, len(votes), BATCH):
        rows = slice(start, min(start + BATCH, len(votes)))
        yield rows, Patterns.of(votes[rows])


def majority(votes: Votes, cardinality: int) -> Probabilities:
    """Snorkel's majority vote, (rows, classes): ties share equally, a row without votes is uniform."""
    counts = np.stack([(votes == label).sum(axis=1) for label in range(cardinality)], axis=1)
    winners = counts == counts.max(axis=1, keepdims=True)
    shares: Probabilities = winners / winners.sum(axis=1, keepdims=True)
    return shares


def covered(votes: Votes) -> npt.NDArray[np.bool_]:
    """Whether any function votes on a row."""
    found: npt.NDArray[np.bool_] = (votes != ABSTAIN).any(axis=1)
    return found
