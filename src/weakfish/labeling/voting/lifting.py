"""Decides for each search of a set of votes whether the automaton answers it, and keeps account of why."""

from __future__ import annotations

from collections.abc import Mapping

import ibis.expr.operations as ops
import ibis.expr.types as ir

from weakfish.labeling.voting.automaton import is_usable
from weakfish.labeling.voting.reading import Reading
from weakfish.labeling.voting.searches import Lifted, Search, kind_of, lift, named, searches_in
from weakfish.labeling.voting.syntax import Unlifted
from weakfish.labeling.voting.translate import TWINS_NEEDLE


class Lifting:
    """What becomes of the searches in ``votes`` (by function) on ``events``.

    Attributes
    ----------
    reading
        The text columns with what to look for in them.
    hits, judged
        By search: the boolean column that answers it, and those that tell which rows the engine judges.
    searches
        All searches, each once per function, in the order of the functions.
    """

    def __init__(self, votes: Mapping[str, ir.Value], events: ops.Node) -> None:
        found = {function: searches_in(vote) for function, vote in votes.items()}
        self._why: dict[ops.Node, str] = {}
        wanted = self._wanted([search for searches in found.values() for search in searches], events)
        self.reading = Reading(wanted.values())
        self.hits: dict[ops.Node, str] = {}
        self.judged: dict[ops.Node, list[str]] = {}
        for search, lifted in wanted.items():
            self._why[search] = self._decided(search, lifted)
        self.searches = [self._account(function, search) for function, these in found.items() for search in these]

    def _wanted(self, searches: list[ops.Node], events: ops.Node) -> dict[ops.Node, Lifted]:
        wanted = {}
        for search in searches:
            try:
                wanted[search] = lift(search, events)
                if not is_usable():
                    raise Unlifted("waits for a hyperscan that finds what it must")
            except Unlifted as reason:
                self._why[search] = str(reason)
        return {search: lifted for search, lifted in wanted.items() if search not in self._why}

    def _decided(self, search: ops.Node, lifted: Lifted) -> str:
        """Why the search, or some rows of it, are the engine's."""
        why = []
        try:
            self.hits[search] = hit = self.reading.name(lifted.column, lifted.needle)
        except Unlifted as reason:
            return str(reason)
        self.judged[search] = judged = []
        if self.reading.is_doubtful(lifted.column, lifted.needle):
            judged.append(hit)
            why.append("hits, for the automaton knows the pattern only roughly")
        if lifted.needle.twins:
            judged.append(self.reading.name(lifted.column, TWINS_NEEDLE))
            why.append("texts with İ, ı, ſ or K")
        return "the engine judges " + " and ".join(why) if why else ""

    def _account(self, function: str, search: ops.Node) -> Search:
        column, pattern = named(search)
        hit = self.hits.get(search)
        rechecked = hit in self.judged.get(search, [])
        return Search(function, column, pattern, kind_of(search), hit is not None, rechecked, self._why[search])
