"""New texts of old ones: the head of one text, up to the end of a line, and the tail of another.

Corpus texts come in; row numbers come in; texts go out as Arrow arrays, none of them made row by row in Python.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

CUTS = tuple(number / 16 for number in range(3, 14))
"""Where texts are cut, as shares of their length; the nearest end of a line counts."""

NEIGHBOURS = 0.3
"""A tail comes from the texts nearest in length, this share of all, so that lengths spread as in the corpus."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """The distinct heads and tails of all texts of at least two lines, each cut at every one of `CUTS`.

    Attributes
    ----------
    heads, tails : pyarrow.StringArray
        The parts, those of one cut side by side, by the length of the text that they come from.
    source : numpy.ndarray, int64, (heads,)
        The row of the corpus that gave each head.
    nearest : numpy.ndarray, int64, (heads,)
        The position of the first of ``choices`` tails, of the same cut, that each head may get.
    choices : int
        How many tails a head may get.
    """

    heads: pa.StringArray
    tails: pa.StringArray
    source: Rows
    nearest: Rows
    choices: int

    @classmethod
    def of(cls, corpus: Sequence[str | None]) -> Texts:
        """Cut the texts of a corpus; repeated texts count once, texts of a single line not at all."""
        row = {text: number for number, text in enumerate(corpus) if text and "\n" in text[:-1]}
        texts = sorted(row, key=lambda text: (len(text), text))
        cuts = [[_cut(text, share) for text in texts] for share in CUTS]
        heads = _new_in_each([{head: row[text] for (head, _), text in zip(cut, texts, strict=True)} for cut in cuts])
        tails = [list(dict.fromkeys(tail for _, tail in cut)) for cut in cuts]
        choices = max(1, round(min(map(len, tails)) * NEIGHBOURS))
        ends = np.cumsum([len(cut) for cut in tails])
        nearest = [
            end - len(cut) + _windows(len(of_cut), len(cut), choices)
            for end, cut, of_cut in zip(ends, tails, heads, strict=True)
        ]
        return cls(
            pa.array([head for cut in heads for head, _ in cut], pa.string()),
            pa.array([tail for cut in tails for tail in cut], pa.string()),
            np.array([source for cut in heads for _, source in cut]),
            np.concatenate(nearest),
            choices,
        )

    @property
    def combinations(self) -> int:
        """How many rows can be made before a head meets a tail for the second time."""
        return len(self.heads) * self.choices

    def make(self, rows: Rows, seed: int) -> tuple[Rows, pa.StringArray]:
        """For each row number: the corpus row that gave the head, and the new text.

        Row numbers below `combinations` map one to one to combinations, in an order that ``seed`` fixes.
        """
        combination = self._shuffled(rows, seed)
        head, choice = combination % len(self.heads), combination // len(self.heads)
        heads, tails = self.heads.take(pa.array(head)), self.tails.take(pa.array(self.nearest[head] + choice))
        return self.source[head], pc.binary_join_element_wise(heads, tails, "")

    def _shuffled(self, rows: Rows, seed: int) -> Rows:
        """An affine permutation of 0 .. combinations - 1; products stay below 2**63 for up to 3 * 10**9 of them."""
        rng = np.random.default_rng(seed)
        factor = int(rng.integers(self.combinations // 3, self.combinations))
        while math.gcd(factor, self.combinations) != 1:
            factor += 1
        shift = int(rng.integers(self.combinations))
        shuffled: Rows = (rows % self.combinations * factor + shift) % self.combinations
        return shuffled


def _new_in_each(cuts: Sequence[dict[str, int]]) -> list[list[tuple[str, int]]]:
    """The heads of each cut that no earlier cut has: short texts end their lines in few places."""
    seen: set[str] = set()
    found = []
    for cut in cuts:
        found.append([(head, row) for head, row in cut.items() if head not in seen])
        seen |= set(cut)
    return found


def _windows(heads: int, tails: int, choices: int) -> Rows:
    """Where ``choices`` of ``tails`` begin for each of ``heads``, both by length: those of about the same length."""
    middle = np.arange(heads) * tails // max(heads, 1)
    windows: Rows = np.clip(middle - choices // 2, 0, tails - choices)
    return windows


def _cut(text: str, share: float) -> tuple[str, str]:
    """The text in two parts at the end of a line nearest to a share of its length."""
    wanted = round(len(text) * share)
    before, after = text.rfind("\n", 0, wanted) + 1, text.find("\n", wanted, len(text) - 1) + 1
    inside = [place for place in (before, after) if place]
    place = min(inside, key=lambda place: (abs(place - wanted), place))
    return text[:place], text[place:]
