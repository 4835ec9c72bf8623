"""What one function's votes are worth beside those of others: votes and gold labels in, counts out.

Shares are left to whoever prints: every figure is a count of rows, or a list of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.labeling.modeling.model import majority
from weakfish.labeling.votes_file import ABSTAIN, Votes

UNKNOWN = -1
"""The gold label of a row that has none, and the majority's class where there is none."""

Z = 1.959964
"""Of the 95 % interval."""

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Compared:
    """Rows are those of the sample in every array.

    Attributes
    ----------
    votes : numpy.ndarray, int8, (rows,)
        The function's own; -1 abstains.
    others : numpy.ndarray, int8, (rows, functions)
        Votes of all others; no columns where there are none to compare with.
    gold : numpy.ndarray, int64, (rows,)
        The dev gold label, `UNKNOWN` where there is none.
    classes : list of str
    """

    votes: Votes
    others: Votes
    gold: Ints
    classes: list[str]

    @cached_property
    def fires(self) -> Bools:
        """Where it votes."""
        found: Bools = self.votes != ABSTAIN
        return found

    @cached_property
    def adds(self) -> Bools:
        """Where it votes and no other function does."""
        found: Bools = self.fires & ~(self.others != ABSTAIN).any(axis=1)
        return found

    @cached_property
    def conflicts(self) -> Bools:
        """Where some other function votes otherwise."""
        differ = (self.others != ABSTAIN) & (self.others != self.votes[:, None])
        found: Bools = self.fires & differ.any(axis=1)
        return found

    @cached_property
    def majority(self) -> Ints:
        """The class that most others vote for; `UNKNOWN` where none votes, or where classes tie."""
        won = majority(self.others, len(self.classes)) == 1
        found: Ints = np.where(won.any(axis=1), won.argmax(axis=1), UNKNOWN)
        return found

    @cached_property
    def against_majority(self) -> Bools:
        """Where the others have a majority, and it votes otherwise."""
        most = self.majority
        found: Bools = self.fires & (most != UNKNOWN) & (most != self.votes)
        return found

    @cached_property
    def wrong(self) -> Bools:
        """Where dev gold says otherwise."""
        found: Bools = self.fires & (self.gold != UNKNOWN) & (self.gold != self.votes)
        return found

    @cached_property
    def contradicted(self) -> Bools:
        """Where dev gold or the others' majority says otherwise."""
        found: Bools = self.wrong | self.against_majority
        return found

    def by_class(self, rows: Bools) -> dict[str, int]:
        """How many of ``rows`` it gives to each class that it gives any."""
        counts = {name: int((self.votes[rows] == label).sum()) for label, name in enumerate(self.classes)}
        return {name: count for name, count in counts.items() if count}

    def right(self, rows: Bools) -> dict[str, int]:
        """Of ``rows``, on which it votes, those that have dev gold: how many, and on how many it is right."""
        known = rows & (self.gold != UNKNOWN)
        return {"votes": int(known.sum()), "correct": int((self.votes[known] == self.gold[known]).sum())}


def against_gold(compared: Compared) -> dict[str, Any] | None:
    """How often it is right on dev gold, in all and by class, beside the others' majority; None without gold.

    ``accuracy`` and ``interval`` (95 %, Wilson's) are null where it votes on no row with gold.
    """
    if not (compared.gold != UNKNOWN).any():
        return None
    found = compared.right(compared.fires)
    both = compared.fires & (compared.gold != UNKNOWN) & (compared.majority != UNKNOWN)
    by_class = {
        name: compared.right(compared.votes == label)
        for label, name in enumerate(compared.classes)
        if (compared.votes == label).any()
    }
    return {
        "rows": int((compared.gold != UNKNOWN).sum()),
        **found,
        "accuracy": found["correct"] / found["votes"] if found["votes"] else None,
        "interval": wilson(found["correct"], found["votes"]),
        "by_class": by_class,
        "majority": {
            "rows": int(both.sum()),
            "correct": int((compared.majority[both] == compared.gold[both]).sum()),
            "own_correct": int((compared.votes[both] == compared.gold[both]).sum()),
        },
    }


def against_others(compared: Compared, names: Sequence[str]) -> dict[str, Any]:
    """What it adds and with whom it agrees; ``names`` are the functions of the columns of ``others``."""
    adds, gold = compared.adds, compared.right(compared.adds)
    by_function = [
        {"name": name, **_pair(compared.votes, compared.others[:, column])} for column, name in enumerate(names)
    ]
    return {
        "functions": len(names),
        "adds": {"rows": int(adds.sum()), "by_class": compared.by_class(adds), "gold": gold},
        "conflicts": int(compared.conflicts.sum()),
        "against_majority": int(compared.against_majority.sum()),
        "by_function": sorted(by_function, key=lambda each: (-each["conflict"], -each["both"], each["name"])),
    }


def _pair(own: Votes, other: Votes) -> dict[str, int]:
    both = (own != ABSTAIN) & (other != ABSTAIN)
    agree = int((own[both] == other[both]).sum())
    return {"both": int(both.sum()), "agree": agree, "conflict": int(both.sum()) - agree}


def wilson(correct: int, votes: int) -> list[float] | None:
    """Wilson's 95 % interval of a share (Wilson 1927); None of no votes."""
    if not votes:
        return None
    share, square = correct / votes, Z * Z
    middle = (share + square / (2 * votes)) / (1 + square / votes)
    half = Z / (1 + square / votes) * (share * (1 - share) / votes + square / (4 * votes * votes)) ** 0.5
    return [max(0.0, middle - half), min(1.0, middle + half)]
