"""The text columns of a plan: each is read once by one automaton, whose answers become boolean columns."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from weakfish.labeling.voting.automaton import Automaton
from weakfish.labeling.voting.searches import Lifted
from weakfish.labeling.voting.syntax import Unlifted
from weakfish.labeling.voting.translate import TWINS_NEEDLE, Needle


class Reading:
    """What to look for in which text column; the same needle in the same column is looked for once."""

    def __init__(self, wanted: Iterable[Lifted]) -> None:
        needles: dict[str, dict[Needle, None]] = {}
        for lifted in wanted:
            needles.setdefault(lifted.column, {})[lifted.needle] = None
            if lifted.needle.twins:
                needles[lifted.column][TWINS_NEEDLE] = None
        self._automata = {column: Automaton(these) for column, these in needles.items()}
        self._names = {
            column: {needle: f"weakfish_{column}_{number}" for number, needle in enumerate(automaton.needles)}
            for column, automaton in self._automata.items()
        }

    @property
    def names(self) -> list[str]:
        """The names of the columns that `answers` makes."""
        return [name for names in self._names.values() for name in names.values()]

    def name(self, column: str, needle: Needle) -> str:
        """The boolean column that answers; raises `Unlifted` where the automaton refuses the needle."""
        if needle not in self._names[column]:
            raise Unlifted(self._automata[column].refused[needle])
        return self._names[column][needle]

    def is_doubtful(self, column: str, needle: Needle) -> bool:
        """Whether the answer may be yes where it should be no."""
        return self._automata[column].needles[needle].doubtful

    def answers(self, batch: pa.Table) -> dict[str, pa.Array]:
        """The boolean columns, null where the text is."""
        found: dict[str, pa.Array] = {}
        for column, automaton in self._automata.items():
            texts = batch[column]
            missing = np.asarray(texts.is_null()) if texts.null_count else None
            for name, hits in zip(self._names[column].values(), automaton.hits(texts), strict=True):
                found[name] = pa.array(hits, mask=missing)
        return found
