"""Snorkel's ``LabelModel`` fitted from sums in the place of a label matrix; imports torch, so import it late.

What ``LabelModel.fit`` computes from the matrix (snorkel 0.10, ``label_model.py``) is set here from the sums: the
numbers of rows and functions, the overlaps ``O``, and the coverages. All else is Snorkel's own code, so the bits are
the same.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from snorkel.labeling.model import LabelModel

from weakfish.labeling.sums import Sums
from weakfish.project.params import LabelModelParams

LOGGED = 50
"""About so many losses are kept of a fit."""


class LabelModelFromSums(LabelModel):
    """Snorkel's label model of the rows behind `Sums`; ``losses`` holds (epoch, loss) pairs of its fit."""

    def __init__(self, sums: Sums, cardinality: int) -> None:
        super().__init__(cardinality=cardinality, verbose=False)
        self.sums = sums
        self.losses: list[tuple[int, float]] = []

    def train_on(self, settings: LabelModelParams, seed: int) -> None:
        """Fit with these settings, on one thread: the matrices are tiny, and threads only wait for each other."""
        functions = len(self.sums.pairs) // self.cardinality
        self._every = max(1, settings.n_epochs // LOGGED)
        self._last = settings.n_epochs - 1
        logging.getLogger("root").setLevel(logging.WARNING)
        with warnings.catch_warnings(), _one_thread():
            warnings.simplefilter("ignore")  # torch's own deprecations
            self.fit(
                np.zeros((1, functions), np.int8),
                class_balance=settings.class_balance,
                n_epochs=settings.n_epochs,
                lr=settings.lr,
                l2=settings.l2,
                seed=seed,
                log_freq=settings.n_epochs,
                progress_bar=False,
            )

    def _set_constants(self, L: Any) -> None:  # noqa: N803 (Snorkel's names)
        super()._set_constants(L)
        self.n = self.sums.rows

    def _create_L_ind(self, L: Any) -> Any:  # noqa: N802, N803
        return np.zeros((0, self.m * self.cardinality))

    def _generate_O(self, L: Any, higher_order: bool = False) -> None:  # noqa: N802, N803
        self.d = self._get_augmented_label_matrix(L, higher_order=higher_order).shape[1]
        self.O = torch.from_numpy(self.sums.pairs.astype(np.float64) / self.n).float()
        voted = self.sums.votes.reshape(self.m, self.cardinality).sum(axis=1)
        self.coverage = voted / self.n

    def _execute_logging(self, loss: torch.Tensor) -> Any:
        epoch = self._epoch = getattr(self, "_epoch", -1) + 1
        if epoch % self._every == 0 or epoch == self._last:
            self.losses.append((epoch, loss.item()))
        return super()._execute_logging(loss)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
