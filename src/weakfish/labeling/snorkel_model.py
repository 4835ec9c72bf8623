"""Snorkel's ``LabelModel`` fitted from sums in the place of a label matrix; imports torch, so import it late.

What ``LabelModel.fit`` computes from the matrix (snorkel 0.10, ``label_model.py``) is set here from the sums: the
numbers of rows and functions, the overlaps ``O``, and the coverages. All else is Snorkel's own code, so the bits are
the same.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.project.params import LabelModelParams

LOGGED = 50
"""About so many losses are kept of a fit."""


class _Functions(ModuleType):
    """A module of which only functions are used: each imports it when it is called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *given, **named: getattr(import_module(self.__name__), name)(*given, **named)


@contextmanager
def _standing_in(*modules: ModuleType) -> Iterator[None]:
    """Put modules in the place of some that are not imported yet, for a while."""
    placed = {module.__name__: module for module in modules if module.__name__ not in sys.modules}
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name, module in placed.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


# The label model's module imports scikit-learn (a second of CPU time) for scores that nobody asks for here.
_sklearn, _metrics = ModuleType("sklearn"), _Functions("sklearn.metrics")
_sklearn.__dict__["metrics"] = _metrics
with _standing_in(_sklearn, _metrics):
    import torch
    from snorkel.labeling.model import LabelModel


class LabelModelFromSums(LabelModel):
    """Snorkel's label model of ``rows`` rows, of which ``pairs`` counts the pairs of votes (`label_model.Sums`).

    ``losses`` holds (epoch, loss) pairs of its fit.
    """

    def __init__(self, rows: int, pairs: npt.NDArray[np.int64], cardinality: int) -> None:
        super().__init__(cardinality=cardinality, verbose=False)
        self.rows, self.pairs = rows, pairs
        self.losses: list[tuple[int, float]] = []

    def train_on(self, settings: LabelModelParams) -> None:
        """Fit with these settings, on one thread: the matrices are tiny, and threads only wait for each other."""
        functions = len(self.pairs) // self.cardinality
        self._every = max(1, settings.n_epochs // LOGGED)
        self._last, self._epochs = settings.n_epochs - 1, count()
        logging.getLogger("root").setLevel(logging.WARNING)
        with warnings.catch_warnings(), _one_thread(), _standing_in(_no_compiler()):
            warnings.simplefilter("ignore")  # torch's own deprecations
            self.fit(
                np.zeros((1, functions), np.int8),
                class_balance=settings.class_balance,
                n_epochs=settings.n_epochs,
                lr=settings.lr,
                l2=settings.l2,
                seed=settings.seed,
                log_freq=settings.n_epochs,
                progress_bar=False,
            )

    def _set_constants(self, L: Any) -> None:  # noqa: N803 (Snorkel's names)
        super()._set_constants(L)
        self.n = self.rows

    def _create_L_ind(self, L: Any) -> Any:  # noqa: N802, N803
        return np.zeros((0, self.m * self.cardinality))

    def _generate_O(self, L: Any, higher_order: bool = False) -> None:  # noqa: N802, N803
        self.d = self._get_augmented_label_matrix(L, higher_order=higher_order).shape[1]
        self.O = torch.from_numpy(self.pairs.astype(np.float64) / self.n).float()
        voted = np.diag(self.pairs).reshape(self.m, self.cardinality).sum(axis=1)
        self.coverage = voted / self.n

    def _execute_logging(self, loss: torch.Tensor) -> Any:
        """Keep some losses; Snorkel's own logging, which nobody reads, would take a tenth of the time of the fit."""
        epoch = next(self._epochs)
        if epoch % self._every == 0 or epoch == self._last:
            self.losses.append((epoch, loss.item()))
        return {}


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _no_compiler() -> ModuleType:
    """A stand-in for torch's compiler, which takes seconds to import: optimizers ask only not to be compiled."""
    found = ModuleType("torch._dynamo")
    found.__dict__.update(disable=lambda function, *_, **__: function, graph_break=lambda: None)
    return found
