"""What a label model of some periods is fitted on, written to a folder where another process fits it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weakfish.engine import fleet
from weakfish.files import read_arrays, write_arrays
from weakfish.labeling.known import KnownVotes
from weakfish.labeling.tally import VoteTally
from weakfish.project.paths import Project

WORTH_PROCESSES = 12.0
"""Seconds of fits from which on other processes help: each imports what fits, which takes some."""

TOGETHER = 1 << 30
"""Bytes of what models are fitted on that lie on disk at once, about."""


@dataclass(frozen=True)
class VoteHistory:
    """The votes through a period, and the dev gold that is evidence of them."""

    through: str
    tally: VoteTally
    known: KnownVotes | None

    def write(self, project: Project, folder: Path) -> fleet.Item:
        """Write it for a worker, whose item names the folder."""
        self.tally.write(folder / "tally.npz")
        if self.known is not None:
            write_arrays(folder / "known.npz", **vars(self.known))
        return {"through": self.through, "history": fleet.relative(project, folder)}

    @staticmethod
    def read(project: Project, item: fleet.Item) -> VoteHistory:
        """What `write` wrote."""
        folder = project.root / item["history"]
        known = KnownVotes(**read_arrays(folder / "known.npz")) if (folder / "known.npz").exists() else None
        return VoteHistory(item["through"], VoteTally.read(folder / "tally.npz"), known)


def delete(project: Project, items: Sequence[fleet.Item]) -> None:
    """Delete what `VoteHistory.write` wrote."""
    for item in items:
        shutil.rmtree(project.root / item["history"])
