"""The automaton: all that is looked for in one column of text, compiled together and found in one scan of each text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.labeling.regex import Needle

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
        problem = "" if found else "the installed pyperscan misses a known match"
    if problem:
        print(
            f"weakfish: {problem}, so each pattern scans the text by itself; the votes are the same, but slower.",
            file=sys.stderr,
        )
    return not problem


class Automaton:
    """Needles of one column of text, compiled together.

    Parameters
    ----------
    needles
        What to look for; those that no text can match are allowed.

    Attributes
    ----------
    needles
        Those that are looked for, each with its form that the library accepts: itself, or a doubtful one.
    names
        The boolean column that answers for each.
    refused
        Those that are not looked for, and why.
    """

    def __init__(self, needles: Iterable[Needle], column: str = "") -> None:
        self.needles = {needle: needle for needle in needles}
        self.refused: dict[Needle, str] = {}
        try:
            self._scanner = _compiled(list(self.needles))
        except _Refusal:
            for needle in list(self.needles):
                self._settle(needle)
            self._scanner = _compiled(list(self.needles.values()))
        self.names = {needle: f"weakfish_{column}_{number}" for number, needle in enumerate(self.needles)}

    def _settle(self, needle: Needle) -> None:
        """Keep a needle as the library accepts it: as it is, or else as a doubtful one, which may find too much."""
        reasons = []
        for candidate in (needle, replace(needle, doubtful=True)):
            try:
                _compiled([candidate])
            except _Refusal as reason:
                reasons.append(str(reason).rstrip("."))
            else:
                self.needles[needle] = candidate
                return
        del self.needles[needle]
        self.refused[needle] = f"is refused by the automaton: {reasons[0]}"

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

    def answers(self, texts: pa.ChunkedArray) -> dict[str, pa.Array]:
        """The boolean columns that `names` names, null where the text is."""
        missing = np.asarray(texts.is_null()) if texts.null_count else None
        return {
            name: pa.array(hits, mask=missing) for name, hits in zip(self.names.values(), self.hits(texts), strict=True)
        }


class _Refusal(Exception):
    """The library does not compile a pattern."""


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
