"""Many patterns, one pass over each column of text; what the automaton cannot decide, the engine judges again."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, reduce
from itertools import pairwise
from operator import or_

import ibis.expr.operations as ops
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.engine import Engine
from weakfish.labeling.regex import TWINS_NEEDLE, Lifted, Needle, Search, Unlifted, kind_of, lift, named, searches_in

Booleans = npt.NDArray[np.bool_]
Scanner = tuple[Callable[[bytes | memoryview], object], list[int]]


KNOWN_PATTERN = (
    r"(?i)\bI[\t\n\f\r ]+(think|guess|suppose|wonder|tried|believe|mean|don't|can't|haven't|didn't|was|thought)\b"
)
KNOWN_TEXT = b" wttw   wtww \n\t \t  \t\t\n\n \n \n\nI was x x x x x x x"
"""A match that Vectorscan 5.4.12 misses, which several packages of this automaton have carried."""


@cache
def is_usable() -> bool:
    """Whether the library is there and finds what it must; without it all searches stay with the engine."""
    try:
        scan, found = _scanner({0: Needle(KNOWN_PATTERN)})
    except ImportError:
        problem = "pyperscan is not installed"
    else:
        scan(KNOWN_TEXT)
        problem = "" if found else "the installed pyperscan misses a match that it must find"
    if problem:
        print(
            f"weakfish: {problem}, so every pattern reads the text anew; votes are the same, only slower.",
            file=sys.stderr,
        )
    return not problem


class Automaton:
    """Needles compiled together.

    Parameters
    ----------
    needles
        What to look for; those that no text can match are allowed.

    Attributes
    ----------
    needles
        Those that are looked for, each with its form that the library accepts: itself, or a doubtful one.
    refused
        Those that are not, and why.
    """

    def __init__(self, needles: Iterable[Needle]) -> None:
        self.needles: Mapping[Needle, Needle] = {needle: needle for needle in needles}
        self.refused: Mapping[Needle, str] = {}
        try:
            self._scanner = _compiled(list(self.needles))
        except _Refusal:
            self._settle_one_by_one()

    def _settle_one_by_one(self) -> None:
        accepted, refused = {}, {}
        for needle in self.needles:
            try:
                accepted[needle] = _settled(needle)
            except Unlifted as reason:
                refused[needle] = str(reason)
        self.needles, self.refused = accepted, refused
        self._scanner = _compiled(list(accepted.values()))

    def hits(self, texts: pa.ChunkedArray) -> Booleans:
        """Whether each of ``needles`` (first axis) is in each text (second axis); for nulls it says nothing."""
        chunks = [self._chunk_hits(chunk) for chunk in texts.chunks]
        return np.concatenate(chunks, axis=1) if chunks else np.zeros((len(self.needles), 0), bool)

    def _chunk_hits(self, texts: pa.Array) -> Booleans:
        if pa.types.is_dictionary(texts.type):
            each = self._chunk_hits(texts.dictionary)
            known = texts.indices.fill_null(len(texts.dictionary)).to_numpy(zero_copy_only=False)
            return np.pad(each, ((0, 0), (0, 1)))[:, known]
        if not pa.types.is_string(texts.type) and not pa.types.is_large_string(texts.type):
            texts = texts.cast(pa.large_string())
        found = np.zeros((len(self.needles), len(texts)), bool)
        needles, rows = self._scan(texts)
        found[needles, rows] = True
        return found

    def _scan(self, texts: pa.Array) -> tuple[list[int], list[int]]:
        """The needle and the row of each hit, straight from the bytes of the column."""
        _, ends, characters = texts.buffers()
        if self._scanner is None or characters is None or not characters.size:
            return [], []
        width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
        offsets = np.frombuffer(ends, width)[texts.offset : texts.offset + len(texts) + 1].tolist()
        text, (scan, hits) = memoryview(characters), self._scanner
        rows: list[int] = []
        for row, (start, end) in enumerate(pairwise(offsets)):
            if start < end:
                scan(text[start:end])
                if len(hits) > len(rows):
                    rows += [row] * (len(hits) - len(rows))
        needles = hits.copy()
        hits.clear()
        return needles, rows


class _Refusal(Exception):
    """The library does not compile a pattern."""


def _settled(needle: Needle) -> Needle:
    """``needle`` as the library accepts it: as it is, or else as a doubtful one, which finds too much at most."""
    reasons = []
    for candidate in (needle, needle.doubted()):
        try:
            _compiled([candidate])
        except _Refusal as reason:
            reasons.append(str(reason).rstrip("."))
        else:
            return candidate
    raise Unlifted(f"is refused by the automaton: {reasons[0]}")


def _compiled(needles: Sequence[Needle]) -> Scanner | None:
    """A scanner for needles, numbered by their position; None where there is nothing to look for."""
    written = {number: needle for number, needle in enumerate(needles) if needle.written is not None}
    return _scanner(written) if written else None


def _scanner(needles: Mapping[int, Needle]) -> Scanner:
    """A scan of one text, and the list to which it adds the number of each needle that it finds there, once."""
    from pyperscan import BlockDatabase, Flag, Pattern, Scan

    def note(found: list[int], number: int, _start: int, _end: int) -> Scan:
        found.append(number)
        return Scan.Continue

    def pattern(number: int, needle: Needle) -> Pattern:
        extra = [Flag.UTF8] * needle.utf8 + [Flag.PREFILTER] * needle.doubtful
        return Pattern(str(needle.written).encode(), Flag.SINGLEMATCH, *extra, tag=number)

    hits: list[int] = []
    try:
        database = BlockDatabase(*(pattern(number, needle) for number, needle in needles.items()))
    except Exception as reason:  # HyperscanCompileError, which the library does not export
        raise _Refusal(str(reason.args[0])) from reason
    return database.build(hits, note).scan, hits


ROW = "weakfish_row"


class Recheck:
    """Searches of one column that are in doubt on the same rows.

    Parameters
    ----------
    events
        The table that the searches refer to.
    column
        The column that they search.
    doubts
        The automaton's answers that cast doubt: the engine judges a row where any of them is yes.
    searches
        By the name of the column that is to hold the answers: the search, and the name of the automaton's answer.
    """

    def __init__(
        self,
        engine: Engine,
        events: ir.Table,
        column: str,
        doubts: Sequence[str],
        searches: Mapping[str, tuple[ops.Node, str]],
    ) -> None:
        self._column, self._doubts = column, doubts
        self._hits = {name: hit for name, (_, hit) in searches.items()}

        def build(given: ir.Table) -> ir.Table:
            placed = {
                name: search.replace({events.op(): given.op()}).to_expr() for name, (search, _) in searches.items()
            }
            return given.select(given[ROW], **placed)

        schema = events.select(column).schema().to_pyarrow().append(pa.field(ROW, pa.int64()))
        self._query: Callable[[pa.Table], pa.Table] = engine.prepare(schema, build)

    def answers(self, batch: pa.Table, hits: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        """The searches' answers on a batch, by name; ``hits`` are the automaton's."""
        rows = np.flatnonzero(reduce(or_, (_true(hits[name]) for name in self._doubts)))
        if not len(rows):
            return {name: hits[hit] for name, hit in self._hits.items()}
        found = self._query(pa.table({self._column: batch[self._column].take(rows), ROW: rows}))
        judged = found[ROW].to_numpy()
        return {name: _corrected(hits[hit], judged, found[name]) for name, hit in self._hits.items()}


def _true(answers: pa.Array) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = answers.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _corrected(hits: pa.Array, rows: npt.NDArray[np.int64], answers: pa.ChunkedArray) -> pa.Array:
    """``hits`` with ``answers`` at ``rows``, none of which is null: a text that is null is in no doubt."""
    values = _true(hits).copy()
    values[rows] = answers.to_numpy()
    missing = hits.is_null().to_numpy(zero_copy_only=False) if hits.null_count else None
    return pa.array(values, mask=missing)


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
