"""What the validation figures of one run share: amplified events with a few bad rows, made once, and our full run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.bench import Run
from benchmarks.process import Done, run

ROWS = 10_000_000
LEAST_ROWS = 2_400
THEIR_BYTES = 4_300
MEMORY_SHARE = 0.75
"""What Great Expectations over pandas takes for one of these rows, measured, and how much of the memory it may take."""


@dataclass(frozen=True)
class ValidationBench(Run):
    """One run of the group about validation.

    Attributes
    ----------
    corpus : Path
        The folder of real events.
    months : int or None
        How many months Great Expectations gets; None for as many as it can hold.
    """

    corpus: Path
    months: int | None = None

    @cached_property
    def made(self) -> dict[str, Any]:
        """The summary of the amplifier, which runs when this is first asked for."""
        rows = self.scaled(ROWS, LEAST_ROWS)
        return run("validation_data:prepare", corpus=str(self.corpus), work=str(self.work), rows=rows).result

    @cached_property
    def files(self) -> dict[str, str]:
        """The partitions by name: months, then the rows without a time."""
        assert self.made  # noqa: S101 -- makes them
        return {file.stem: str(file) for file in sorted((self.work / "staged").glob("*.parquet"))}

    @property
    def changed(self) -> dict[str, str]:
        """The partitions after one month has changed."""
        return self.files | {file.stem: str(file) for file in (self.work / "changed").glob("*.parquet")}

    @cached_property
    def theirs(self) -> dict[str, str]:
        """The partitions that Great Expectations gets: the first months, and the rows without a time."""
        *months, undated = self.files
        held = self.months or months_in_memory(self.made["rows"] / len(months))
        return {name: self.files[name] for name in (*months[:held], undated)}

    @cached_property
    def ours(self) -> Done:
        """Our full run, nothing known before; it leaves its cache in `cache` and its findings in ``ours.json``."""
        return self.checked("ours", self.files, self.cache)

    @property
    def cache(self) -> Path:
        """Where `ours` keeps what it knows of each partition."""
        return self.work / "cache"

    def checked(self, name: str, files: dict[str, str], cache: Path) -> Done:
        """Our engine on ``files``; its findings go to ``<name>.json``."""
        return run("validation_sides:ours", files=files, cache=str(cache), out=str(self.out(name)))

    def out(self, name: str) -> Path:
        """The file of a side's findings."""
        return self.work / f"{name}.json"

    def sizes(self) -> dict[str, Any]:
        """What every figure tells."""
        return {
            "scale": self.scale,
            "partitions": len(self.files),
            "mean_text_length": self.made["text_length"]["mean"],
            "repeated_texts": self.made["repeated_texts"],
        }


def months_in_memory(rows: float) -> int:
    """How many months of so many rows Great Expectations can hold on this machine, one at least."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, int(memory * MEMORY_SHARE / (THEIR_BYTES * rows)))
