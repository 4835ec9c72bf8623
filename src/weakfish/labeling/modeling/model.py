"""The label model and majority vote: sums in, a fitted model out; votes in, a probability per row and class out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.errors import LabelingFunctionError
from weakfish.labeling.modeling.patterns import BATCH, Patterns
from weakfish.labeling.modeling.sums import Sums
from weakfish.labeling.votes_file import ABSTAIN, Votes
from weakfish.params import TaskParams

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


def fit(sums: Sums, task: TaskParams, seed: int | None = None) -> FittedModel:
    """Fit Snorkel's ``LabelModel`` on the rows behind ``sums``, to the bit as on their label matrix.

    ``seed`` overrides the task's. Snorkel's own default seed differs from process to process, so one is always passed.

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
    from weakfish.labeling.modeling.from_sums import LabelModelFromSums

    model = LabelModelFromSums(sums, classes)
    model.train_on(task.label_model, task.label_model.seed if seed is None else seed)
    with np.errstate(divide="ignore"):  # a function that never votes has coverage 0, and weight 1
        weights = [float(weight) for weight in model.get_weights()]
    return FittedModel(model.mu.detach().numpy().copy(), np.array(model.p), weights, model.losses, sums.rows)


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
