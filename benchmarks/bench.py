"""What all figures of one run share: the scale, a folder to work in, and for labels amplified events, made once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks import projects
from benchmarks.process import run

MONTH_ROWS = 250_000
"""Rows of one partition at scale 1."""

LEAST_MONTH_ROWS = 500


@dataclass(frozen=True)
class Run:
    """One run of any group.

    Attributes
    ----------
    work : Path
        Where data and projects are made.
    scale : float
        Share of the rows that a full run has.
    """

    work: Path
    scale: float

    def scaled(self, rows: int, least: int = 20) -> int:
        """A number of rows at the run's scale, ``least`` at least."""
        return max(least, round(rows * self.scale))


@dataclass(frozen=True)
class Bench(Run):
    """One run of the group about labels.

    Attributes
    ----------
    corpus : Path
        The folder of real events.
    epochs : int
        Of the label model.
    months : int
        How many partitions to amplify, at scale 1: what the largest of the chosen figures needs.
    """

    corpus: Path
    epochs: int
    months: int

    @cached_property
    def amplified(self) -> dict[str, Any]:
        """The summary of the amplifier, which runs when this is first asked for."""
        months = self.scaled_months(self.months)
        out = str(self.work / "events")
        return run(
            "amplify:amplify", corpus=str(self.corpus), out=out, rows=months * self.month_rows, months=months
        ).result

    @property
    def month_rows(self) -> int:
        """Rows of one partition at the run's scale, some hundreds at least."""
        return max(LEAST_MONTH_ROWS, round(MONTH_ROWS * self.scale))

    def scaled_months(self, months: int) -> int:
        """How many partitions hold what ``months`` hold at scale 1: as many, or fewer where those would be tiny."""
        return max(1, round(MONTH_ROWS * self.scale * months / self.month_rows))

    def rows(self, months: int) -> int:
        """The rows of a project on ``months`` months, at the run's scale."""
        return self.scaled_months(months) * self.month_rows

    def sizes(self) -> dict[str, Any]:
        """What every figure on amplified events tells."""
        made = self.amplified
        return {
            "scale": self.scale,
            "mean_text_length": made["text_length"]["mean"],
            "repeated_texts": made["repeated_texts"],
        }

    @contextmanager
    def project(self, name: str, months: int, functions: Sequence[str]) -> Iterator[Path]:
        """A project on the first ``months`` (at scale 1) of the amplified events; it vanishes with the block."""
        assert self.amplified  # noqa: S101 -- makes the events
        root = self.work / name
        try:
            events = sorted((self.work / "events").glob("*.parquet"))[: self.scaled_months(months)]
            yield projects.make(root, events, functions, self.epochs)
        finally:
            shutil.rmtree(root, ignore_errors=True)
