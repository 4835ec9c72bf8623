"""Which labeling functions say the same: copies and the halves of one question count once, others are told of.

Label models and majority votes take functions for witnesses that judge on their own; five copies are one witness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from weakfish.contracts.figures import percent
from weakfish.contracts.votes_file import Votes
from weakfish.labeling.label_model import Patterns, Sums, once

NEARLY = 0.95
"""Of the rows on which either of two functions votes: where both vote the same on so many, one is a copy of the other.
Also the share of all rows on which two halves vote."""

RARELY = 0.01
"""Of the votes of the rarer half: on so many rows the other half may vote too."""

ALWAYS = 0.999
"""Of the votes of a function: where another votes the same on so many, the first lies within it."""

ENOUGH = 20
"""Rows behind anything that is said of two functions, so that chance is no reason."""

NAMED = 4
"""Functions that a sentence names, and sentences about pairs that are told of."""

Kind = Literal["copy", "halves", "within", "against"]
Matrix = npt.NDArray[np.int64]

TOLD: dict[Kind, str] = {
    "halves": "{first} and {second} are halves of one question: together they vote on {share} of rows, hardly ever "
    "on the same; {counted}.",
    "within": "{first} votes only where {second} votes the same, so on its rows they say one thing twice.",
    "against": "{first} and {second} vote on the same rows for different classes, so they cancel each other out.",
}


@dataclass(frozen=True)
class Kin:
    """Two functions (columns) one of which says what the other does.

    Attributes
    ----------
    kind : str
        ``copy``: both vote the same, on nearly the same rows. ``halves``: together they vote on nearly all rows, hardly
        ever on the same. ``within``: where ``first`` votes, ``second`` votes the same. ``against``: both vote on nearly
        the same rows, hardly ever the same.
    share : float
        How far that holds, 1 for without exception: of the rows on which either votes; for ``halves`` of all rows, for
        ``within`` of those on which ``first`` votes.
    """

    kind: Kind
    first: int
    second: int
    share: float


@dataclass(frozen=True)
class Kinship:
    """How functions are related, and which of them count as one.

    Attributes
    ----------
    kin : tuple of Kin
        A copy is related to the first function that it copies, and to no other.
    sets : tuple of tuple of int
        Each function once, with those that count as one with it; in the order of their first functions.
    compared : bool
        Whether functions were compared: not with so many that pairs are not counted.
    """

    kin: tuple[Kin, ...]
    sets: tuple[tuple[int, ...], ...]
    compared: bool = True

    @staticmethod
    def of(sums: Sums, classes: int) -> Kinship:
        """What pairs of votes show; it costs the same for any number of rows."""
        if sums.voted.counts is None:
            return Kinship((), tuple((function,) for function in range(sums.voted.functions)), compared=False)
        same, both = sums.voted.between_functions()
        votes = np.diag(both)
        either, own = votes[:, None] + votes - both, np.broadcast_to(votes[:, None], both.shape)
        seen: dict[Kind, tuple[Matrix, Matrix, float]] = {
            "copy": (same, either, NEARLY),
            "halves": (either, np.full_like(either, sums.rows), NEARLY),
            "within": (same, own, ALWAYS),
            "against": (both - same, either, NEARLY),
        }
        shares = {kind: part / np.maximum(of, 1) for kind, (part, of, _) in seen.items()}
        holds = {kind: (shares[kind] >= least) & (part >= ENOUGH) for kind, (part, _, least) in seen.items()}
        rarer = np.minimum.outer(votes, votes)
        holds["halves"] &= (both <= RARELY * rarer) & (rarer >= ENOUGH)
        holds["within"] &= own < votes

        def kin(kind: Kind, first: int, second: int) -> Kin:
            return Kin(kind, first, second, float(shares[kind][first, second]))

        head = np.arange(len(votes))  # the first function of each one's set
        for function in head:
            head[function] = next((one for one in head[:function] if holds["copy"][one, function]), function)
        originals = np.unique(head).tolist()
        found = [kin("copy", int(one), place) for place, one in enumerate(head) if one != place]
        halved = set[int]()
        for pair in combinations(originals, 2):
            if holds["halves"][pair] and not halved & set(pair):
                halved |= set(pair)
                found.append(kin("halves", *pair))
                head[head == pair[1]] = pair[0]
        found += [kin("within", *pair) for pair in permutations(originals, 2) if holds["within"][pair]]
        found += [kin("against", *pair) for pair in combinations(originals, 2) if holds["against"][pair]]
        sets = tuple(tuple(np.flatnonzero(head == one).tolist()) for one in np.unique(head))
        return Kinship(tuple(found), sets)

    @property
    def as_one(self) -> tuple[tuple[int, ...], ...]:
        """The sets of several functions."""
        return tuple(own for own in self.sets if len(own) > 1)

    @property
    def copies(self) -> tuple[Kin, ...]:
        """The copies among the kin."""
        return tuple(each for each in self.kin if each.kind == "copy")

    def apart(self) -> Kinship:
        """The same, but every function counts by itself."""
        return replace(self, sets=tuple((function,) for function in sorted(sum(self.sets, ()))))

    def sums_of_sets(self, sums: Sums, classes: int) -> Sums:
        """The sums as if each set were a function: copies say no more than what they copy, halves add up."""
        if not self.as_one:
            return sums
        copies = [each.second for each in self.copies]
        function, label = np.divmod(sums.voted.columns, classes)
        of = np.where(np.isin(function, copies), -1, np.array(self.set_of)[function] * classes + label)
        return replace(sums, voted=sums.voted.grouped(of, len(self.sets), classes))

    def patterns_of_sets(self, patterns: Patterns) -> Patterns:
        """The patterns as if each set were a function."""
        if not self.as_one:
            return patterns
        of_sets = self.votes_of_sets(patterns.votes)
        return Patterns(of_sets[:0], patterns.counts[:0]) + Patterns(of_sets, patterns.counts)  # equal ones become one

    def votes_of_sets(self, votes: Votes) -> Votes:
        """Votes (rows, functions) as if each set were a function."""
        counted = once(votes, self.as_one)
        found: Votes = np.stack([counted[:, own].max(axis=1) for own in map(list, self.sets)], axis=1)
        return found

    @property
    def set_of(self) -> list[int]:
        """The number of each function's set."""
        return [place for _, place in sorted((one, place) for place, own in enumerate(self.sets) for one in own)]

    def told(self, names: Sequence[str], auto: bool) -> list[str]:
        """What a person should know, in sentences: all with `auto`, else only who counts more than once.

        ``names`` are those of the functions.
        """
        counted = "they count as one function" if auto else "each counts, which `method: auto` avoids"
        copied: dict[int, list[int]] = {}
        for each in self.copies:
            copied.setdefault(each.first, [each.first]).append(each.second)
        lines = [f"{_listed([names[place] for place in own])} vote alike; {counted}." for own in copied.values()]
        pairs = []
        for each in self.kin:
            if each.kind == "halves" or (auto and each.kind in TOLD):
                first, second = names[each.first], names[each.second]
                pairs.append(
                    TOLD[each.kind].format(first=first, second=second, share=percent(each.share), counted=counted)
                )
        left = len(pairs) - NAMED
        more = [f"There {'is 1 more such pair' if left == 1 else f'are {left} more such pairs'}."] if left > 0 else []
        more += [] if self.compared else ["There are too many functions and classes to look for copies among them."]
        return [*lines, *pairs[:NAMED], *more]

    def to_json(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """As the report has it."""
        return [
            {"kind": each.kind, "functions": [names[each.first], names[each.second]], "share": each.share}
            for each in self.kin
        ]


def _listed(names: Sequence[str]) -> str:
    if len(names) > NAMED:
        names = [*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"]
    return f"{', '.join(names[:-1])} and {names[-1]}"
