"""Verdicts: what each check of a table found, and how the table fared, as `reports/validation/<table>.json` has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Severity = Literal["critical", "warning", "info"]
Kind = Literal["expectation", "change", "labels", "features", "serving", "evaluation"]
"""Who judged: an expectation of a suite, a comparison with the accepted baseline, or what is measured of labels,
features, serving and metrics."""

Rows = npt.NDArray[np.int64]
"""Positions of rows within a partition, from 0, ascending."""


class Status(StrEnum):
    """What became of a check, from good to bad."""

    PASSED = "passed"
    NOTED = "noted"
    """An info check did not hold."""
    QUARANTINED = "quarantined"
    """A critical check of rows did not hold; the rows are set aside and are few enough to go on."""
    WARNED = "warned"
    """A warning check did not hold."""
    FAILED = "failed"
    """A critical check did not hold, or a check could not be run: the gate stays shut."""


NOT_HELD = {"critical": Status.FAILED, "warning": Status.WARNED, "info": Status.NOTED}
"""The status of a check that did not hold, by its severity."""


@dataclass(frozen=True)
class Check:
    """A check and what it found.

    Attributes
    ----------
    check
        Its name, unique within the table: ``column_values_to_not_be_null(amount)``, ``drift(amount)``.
    expectation
        The type of the expectation, or the name of what was measured: ``drift``, ``rule_died``.
    arguments
        What it was asked with; JSON.
    against_baseline
        Whether it compares with the accepted baseline, so that `weakfish accept-baseline` is an answer to it.
    found
        What was found, as a sentence with its numbers; None where `observed` says all. Never text of a row.
    observed
        What was found, of the table as a whole: a number, a time, or a small JSON structure. Never text of a row.
    unexpected, unexpected_share
        Bad rows, for checks of rows; None otherwise.
    threshold
        From where on a measured check does not hold; None for expectations.
    detects
        The smallest change that a measured check detects with the rows that there are, as a sentence.
    by_partition
        The check's `value` in each partition: what its trend over partitions draws.
    released
        Bad rows that a patch lets in all the same.
    rows
        The bad rows, by partition; they go into the mask, not into the verdict.
    """

    check: str
    expectation: str
    severity: Severity
    why: str
    status: Status
    kind: Kind = "expectation"
    against_baseline: bool = False
    found: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    observed: Any = None
    unexpected: int | None = None
    unexpected_share: float | None = None
    threshold: float | None = None
    detects: str | None = None
    by_partition: Mapping[str, float] = field(default_factory=dict)
    released: int = 0
    error: str | None = None
    rows: Mapping[str, Rows] = field(default_factory=dict, repr=False)

    @property
    def value(self) -> float | None:
        """The one number that a trend draws: the share of bad rows, else what was observed if it is a number."""
        if self.unexpected_share is not None:
            return self.unexpected_share
        number = isinstance(self.observed, int | float) and not isinstance(self.observed, bool)
        return float(self.observed) if number else None


def judged(severity: Severity, holds: bool) -> Status:
    """The status of a check of this severity that holds or does not."""
    return Status.PASSED if holds else NOT_HELD[severity]
