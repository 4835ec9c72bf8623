"""Snorkel's label model and majority vote: a label matrix in, a probability per row and class out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from weakfish.errors import LabelingFunctionError
from weakfish.labeling.functions import ABSTAIN
from weakfish.labeling.votes_file import Votes
from weakfish.params import TaskParams

if TYPE_CHECKING:
    from snorkel.labeling.model import LabelModel

Probabilities = npt.NDArray[np.float64]

MIN_FUNCTIONS = 3
"""Snorkel's label model tells functions apart by how pairs agree; with fewer than three it cannot."""


def fit(votes: Votes, task: TaskParams, seed: int | None = None) -> LabelModel:
    """Fit Snorkel's ``LabelModel`` on a label matrix (rows, functions).

    ``seed`` overrides the task's. Snorkel's own default seed differs from process to process, so one is always passed.

    Raises
    ------
    LabelingFunctionError
        With fewer than three functions, or when no function votes at all.
    """
    from snorkel.labeling.model import LabelModel

    if votes.shape[1] < MIN_FUNCTIONS:
        raise LabelingFunctionError(
            f"The label model needs at least {MIN_FUNCTIONS} labeling functions, there are {votes.shape[1]}; add some."
        )
    if not covered(votes).any():
        raise LabelingFunctionError(
            "No labeling function votes on any row, so there is nothing to label; see reports/labeling_functions.json."
        )
    settings = task.label_model
    model = LabelModel(cardinality=len(task.classes), verbose=False)
    logging.getLogger("root").setLevel(logging.WARNING)
    with warnings.catch_warnings(), _one_thread():
        warnings.simplefilter("ignore")  # Snorkel's progress bar and torch's own deprecations
        model.fit(
            votes,
            class_balance=settings.class_balance,
            n_epochs=settings.n_epochs,
            lr=settings.lr,
            l2=settings.l2,
            seed=settings.seed if seed is None else seed,
            log_freq=settings.n_epochs,
            progress_bar=False,
        )
    return model


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: the matrices are tiny, and threads that wait for each other cost more than they bring."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def probabilities(model: LabelModel, votes: Votes) -> Probabilities:
    """The posterior of each class, (rows, classes); a row without votes has the class balance."""
    found: Probabilities = np.asarray(model.predict_proba(votes), dtype=np.float64)
    return found


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
