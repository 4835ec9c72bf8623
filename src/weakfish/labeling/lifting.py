"""The text columns of a plan: each is read once by one automaton, whose answers become boolean columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import ibis.expr.operations as ops
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from weakfish.engine import Engine
from weakfish.labeling.automaton import Automaton, Recheck, is_usable
from weakfish.labeling.regex import Unlifted
from weakfish.labeling.searches import TWINS_NEEDLE, Lifted, Needle, Search, kind_of, lift, named, searches_in


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


class Lifting:
    """What becomes of the searches in ``votes`` (by function) on ``events``.

    Attributes
    ----------
    hits
        By lifted search: the boolean column that answers it.
    searches
        All searches, each once per function, in the order of the functions.
    """

    def __init__(self, engine: Engine, votes: Mapping[str, ir.Value], events: ir.Table) -> None:
        found = {function: searches_in(vote) for function, vote in votes.items()}
        self._why: dict[ops.Node, str] = {}
        wanted = self._wanted([search for searches in found.values() for search in searches], events.op())
        self._reading = Reading(wanted.values())
        self.hits: dict[ops.Node, str] = {}
        self._doubted: dict[ops.Node, tuple[str, tuple[str, ...]]] = {}
        for search, lifted in wanted.items():
            self._why[search] = self._decided(search, lifted)
        self.searches = [self._account(function, search) for function, these in found.items() for search in these]
        self._rechecks = self._settled(engine, events)

    @property
    def names(self) -> list[str]:
        """The columns that `answers` makes."""
        return list(dict.fromkeys(self.hits.values()))

    def answers(self, batch: pa.Table) -> dict[str, pa.Array]:
        """The answers to all lifted searches on a batch; null where the text is."""
        found = self._reading.answers(batch)
        for recheck in self._rechecks:
            found |= recheck.answers(batch, found)
        return {name: found[name] for name in self.names}

    def _settled(self, engine: Engine, events: ir.Table) -> list[Recheck]:
        """Give searches in doubt columns of their own, one recheck for those that are in doubt on the same rows."""
        groups: dict[tuple[str, tuple[str, ...]], dict[str, tuple[ops.Node, str]]] = defaultdict(dict)
        for number, (search, doubt) in enumerate(self._doubted.items()):
            hit = self.hits[search]
            self.hits[search] = name = f"{hit}_rechecked_{number}"
            groups[doubt][name] = (search, hit)
        return [Recheck(engine, events, column, doubts, group) for (column, doubts), group in groups.items()]

    def _wanted(self, searches: list[ops.Node], events: ops.Node) -> dict[ops.Node, Lifted]:
        wanted = {}
        for search in searches:
            try:
                wanted[search] = lift(search, events)
                if not is_usable():
                    raise Unlifted("waits for a pyperscan that finds what it must")
            except Unlifted as reason:
                self._why[search] = str(reason)
        return {search: lifted for search, lifted in wanted.items() if search not in self._why}

    def _decided(self, search: ops.Node, lifted: Lifted) -> str:
        """Why the search, or some rows of it, are the engine's."""
        why, doubts = [], []
        try:
            self.hits[search] = hit = self._reading.name(lifted.column, lifted.needle)
        except Unlifted as reason:
            return str(reason)
        if self._reading.is_doubtful(lifted.column, lifted.needle):
            doubts.append(hit)
            why.append("hits, for the automaton knows the pattern only roughly")
        if lifted.needle.twins:
            doubts.append(self._reading.name(lifted.column, TWINS_NEEDLE))
            why.append("texts with İ, ı, ſ or K")
        if doubts:
            self._doubted[search] = (lifted.column, tuple(doubts))
        return "the engine judges " + " and ".join(why) if why else ""

    def _account(self, function: str, search: ops.Node) -> Search:
        column, pattern = named(search)
        hit = self.hits.get(search)
        rechecked = hit in self._doubted.get(search, ("", ()))[1]
        return Search(function, column, pattern, kind_of(search), hit is not None, rechecked, self._why[search])
