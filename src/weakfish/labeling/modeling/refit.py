"""When the label model is fitted anew, and which partitions each fit labels: ``label_model.refit``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weakfish.errors import ParamsError
from weakfish.params import LabelModelParams
from weakfish.tables import UNDATED

MIN_HISTORY = 100
"""Covered rows that a model which is to stand for good must have seen."""


@dataclass(frozen=True)
class Fit:
    """One fit: the partitions whose votes it sees, the last of them, and the partitions that it labels."""

    sees: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def through(self) -> str:
        """The last partition whose votes it sees."""
        return self.sees[-1]


def schedule(settings: LabelModelParams, covered: Mapping[str, int], task: str) -> list[Fit]:
    """The fits of a task; ``covered`` has the covered rows of each partition, in the order of their names.

    ``always``: one fit on all partitions. ``monthly``: each partition has the fit on all up to and including it, and
    those before `MIN_HISTORY` covered rows share the first fit that has them. ``never``: one fit on the partitions up
    to ``fitted_through``. Undated rows are seen only by ``always``; else the first fit labels them.

    Raises
    ------
    ParamsError
        When ``fitted_through`` names no partition.
    """
    names = tuple(covered)
    dated = tuple(name for name in names if name != UNDATED)
    if settings.refit == "never":
        return [Fit(_until(settings.fitted_through or "", dated, task), names)]
    if settings.refit == "always" or not dated:
        return [Fit(names, names)]
    return _monthly(dated, names, covered)


def _monthly(dated: tuple[str, ...], names: tuple[str, ...], covered: Mapping[str, int]) -> list[Fit]:
    first, seen = 0, covered[dated[0]]
    while seen < MIN_HISTORY and first < len(dated) - 1:
        first += 1
        seen += covered[dated[first]]
    undated = tuple(name for name in names if name == UNDATED)
    fits = [Fit(dated[: first + 1], dated[: first + 1] + undated)]
    return fits + [Fit(dated[: place + 1], (dated[place],)) for place in range(first + 1, len(dated))]


def _until(last: str, dated: tuple[str, ...], task: str) -> tuple[str, ...]:
    if last not in dated:
        raise ParamsError(
            f"params.yaml: tasks.{task}.label_model.fitted_through is {last!r}, which is no partition of the events "
            f"({', '.join(dated[:3])}{', ...' if len(dated) > 3 else ''}); name the last one that the model may see."
        )
    return dated[: dated.index(last) + 1]
