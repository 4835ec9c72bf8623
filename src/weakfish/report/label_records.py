"""The shapes of what is left of labels: functions, partitions, the choice of a model, faults, accuracy against gold.

Fields that older files lack have defaults, so that they still make a page.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator

from weakfish.report.base import SHAPE, Number


class Record(BaseModel):
    """Base of all shapes."""

    model_config = SHAPE


def _counted(value: Any) -> Any:
    return {"count": value} if isinstance(value, int) else value or {}


class Faults(Record):
    """How often a labeling function failed, as what, and the keys of the first rows."""

    count: int = 0
    exception: str | None = None
    rows: list[Any] = []

    @property
    def kind(self) -> str | None:
        """The class of the exception; its message might quote a row."""
        found = re.match(r"[\w.]+(?=$|:|\()", self.exception or "")
        return found.group() if found else None


class Function(Record):
    """One labeling function of a task; ``weight`` is the accuracy that the label model learned for it."""

    name: str
    module: str | None = None
    kind: str | None = None
    doc: str | None = None
    polarity: list[str] = []
    coverage: Number = None
    overlaps: Number = None
    conflicts: Number = None
    weight: Number = None
    faults: Annotated[Faults, BeforeValidator(_counted)] = Faults()


class Partition(Record):
    """Labels of one partition.

    ``mean`` is the mean probability per class of the covered rows, ``votes`` the votes of each function per class.
    """

    partition: str
    rows: int
    covered: int
    mean: dict[str, Number] = {}
    votes: dict[str, list[int]] = {}


class Copies(Record):
    """A pair of functions that agree more than two that judge on their own."""

    functions: tuple[str, str]
    residual: Number = None


class Signals(Record):
    """What tells, without gold labels, whether to trust the label model or majority vote."""

    disagreement: Number = None
    unexplained: Number = None
    unstable: Number = None
    shift: Number = None
    sensitivity: Number = None
    converged: bool | None = None
    losses: list[tuple[int, Number]] = []
    copies: list[Copies] = []
    at_clamp: int | None = None


class TaskLabels(Record):
    """One task of ``reports/labeling_functions.json``."""

    classes: list[str] = []
    class_balance: dict[str, Number] = {}
    rows: int | None = None
    covered: int | None = None
    method: Literal["snorkel", "majority"] | None = None
    why: list[str] = []
    signals: Signals | None = None
    functions: list[Function] = []
    by_partition: list[Partition] = []


class Labels(Record):
    """``reports/labeling_functions.json``."""

    tasks: dict[str, TaskLabels]


class TaskVotes(Record):
    """One task of ``reports/votes.json``; faults by function, of those that failed."""

    faults: dict[str, Annotated[Faults, BeforeValidator(_counted)]] = {}


class VotesReport(Record):
    """``reports/votes.json``."""

    tasks: dict[str, TaskVotes] = {}


class Empirical(Record):
    """How often a labeling function is right where it votes."""

    votes: int | None = None
    accuracy: Number = None
