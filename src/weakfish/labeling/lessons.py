"""What a reader learns from: which rows may teach one, what the votes say of them, and the reader that they make."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.contracts.figures import percent
from weakfish.contracts.gold import UNKNOWN
from weakfish.contracts.votes_file import Votes
from weakfish.engine import descent
from weakfish.files import read_arrays, write_arrays
from weakfish.labeling import embedding, learning, row_texts
from weakfish.labeling.known import weight
from weakfish.labeling.label_model import Probabilities
from weakfish.labeling.learning import Floats, NothingToLearn
from weakfish.labeling.row_reader import (
    FOLDS,
    LEAST_GAIN,
    STRENGTH,
    STRENGTH_OF_EMBEDDINGS,
    Bools,
    Ints,
    RowReader,
    fit_reader,
    folds_of,
)
from weakfish.labeling.row_texts import RowHashes, Texts
from weakfish.project.cache import key_of
from weakfish.project.params import LabelModelParams
from weakfish.project.versioned import file_of

PACKAGES = ("numpy", "scikit-learn", "scipy", "weakfish")
"""Packages on which a reader depends."""


@dataclass(frozen=True)
class Read:
    """What a fit made of reading.

    Attributes
    ----------
    reader : RowReader or None
        None where there was nothing to learn.
    used : bool
        Whether labels rest on it.
    why : str
        A sentence.
    content, key : bytes, str
        The reader as a file, and what it was fitted on.
    """

    reader: RowReader | None
    used: bool
    why: str
    content: bytes = field(default=b"", repr=False)
    key: str = ""

    @classmethod
    def of(cls, settings: LabelModelParams, reader: RowReader | str, content: bytes = b"", key: str = "") -> Read:
        """The reader, or why there is none, and whether it is used by the settings."""
        columns = [*settings.reads, *(f"{name} as a whole" for name in settings.embeds)]
        what = f"The reader of {', '.join(columns)}"
        if isinstance(reader, str):
            return cls(None, False, f"{what} is left out, so the labels are those of the votes alone. {reader}")
        known = f"{what} knows {percent(reader.gain)} of what can be known of votes that it has not seen"
        if settings.reader == "on":
            why = f"{known}; params.yaml asks for it: label_model.reader is on (power {reader.power.mean():.2f})."
            return cls(reader, True, why, content, key)
        if reader.helps:
            why = f"{known}, so labels rest on it as well (power {reader.power.mean():.2f})."
            return cls(reader, True, why, content, key)
        why = f"{known}, less than {percent(LEAST_GAIN)}, so the labels are those of the votes alone."
        return cls(reader, False, why, content, key)

    def to_json(self, settings: LabelModelParams, folder: str) -> dict[str, Any]:
        """As the manifest of labels has it; ``folder`` is that of the file that holds the reader."""
        found: dict[str, Any] = {"used": self.used, "why": self.why, "columns": list(settings.reads)}
        found |= {"embeds": list(settings.embeds)} if settings.embeds else {}
        if self.reader is not None:
            file = f"{folder}/{file_of(self.key, self.content)}"
            found |= {"file": file, "sha256": hashlib.sha256(self.content).hexdigest()}
            found |= {"power": float(self.reader.power.mean()), "gain": self.reader.gain}
            found |= {"share": self.reader.share.mean(axis=0).tolist()}
        return found


@dataclass(frozen=True, eq=False)
class Taught:
    """Rows of a partition that may teach a reader, in their order, and their votes (rows, functions)."""

    contents: RowHashes
    votes: Votes

    def at(self, places: Any) -> Taught:
        """Some of them."""
        return Taught(self.contents.at(places), self.votes[places])

    def write(self, file: Path) -> None:
        """Write them for another process."""
        write_arrays(file, votes=self.votes, **vars(self.contents))

    @staticmethod
    def read(file: Path) -> Taught:
        """What `write` wrote."""
        found = read_arrays(file)
        votes = found.pop("votes")
        return Taught(RowHashes(**found), votes)


class Teachers:
    """Rows that may teach the reader of any fit, partition by partition: few, however many there are.

    A fit sees a partition with all before it, so of rows that are not known those are let go before which enough of
    lower hashes stand.

    Attributes
    ----------
    of : dict of str to Taught
    """

    def __init__(self, classes: int) -> None:
        self.of: dict[str, Taught] = {}
        self._most = row_texts.ROWS // classes
        self._lowest = np.zeros(0, np.uint64)

    def add(self, partition: str, rows: Taught, known: Ints | None) -> None:
        """Take in the next partition, of which the rows at the places ``known`` are."""
        hashes = rows.contents.hashes
        others = np.ones(len(hashes), bool) if known is None else ~np.isin(rows.contents.rows, known)
        low = hashes < self._lowest[-1] if len(self._lowest) == self._most else others
        self._lowest = np.sort(np.concatenate([self._lowest, hashes[others]]))[: self._most]
        self.of[partition] = rows.at(low | ~others)


@dataclass(frozen=True, eq=False)
class Lesson:
    """Soft labels of rows that teach a reader.

    Attributes
    ----------
    hashes : numpy.ndarray, uint64, (rows,)
        Of what stands in them.
    soft : numpy.ndarray, float64, (rows, classes) or (parts, rows, classes)
    weights : numpy.ndarray, float64, (rows,)
    known : numpy.ndarray, bool, (rows,), or None
        See `fit_reader`.
    """

    hashes: npt.NDArray[np.uint64]
    soft: Probabilities
    weights: Floats
    known: Bools | None

    @staticmethod
    def of(hashes: npt.NDArray[np.uint64], soft: Probabilities, known: Ints | None = None) -> Lesson:
        """What soft labels teach; ``known`` are classes of rows, `UNKNOWN` where votes alone tell.

        A known row teaches its class, and more than others, see `weight`.
        """
        weights, is_known = np.ones(len(hashes)), None if known is None else known != UNKNOWN
        if known is not None and is_known is not None and is_known.any():
            soft = soft.copy()
            soft[..., is_known, :] = np.eye(soft.shape[-1])[known[is_known]]
            weights[is_known] = weight(int(is_known.sum()), int((~is_known).sum()))
        return Lesson(hashes, soft, weights, is_known)

    def key(self, settings: LabelModelParams) -> str:
        """That of the reader that it makes."""
        digest = hashlib.sha256(self.hashes.tobytes() + self.soft.tobytes())
        digest.update(b"" if self.known is None else self.weights.tobytes() + self.known.tobytes())
        constants: list[Any] = [FOLDS, STRENGTH, STRENGTH_OF_EMBEDDINGS, embedding.MODEL, embedding.SCALE]
        constants += [learning.HASHED, learning.MIN_ROWS, learning.ITERATIONS, learning.GRADIENT]
        constants += [learning.FEATURE_BITS, learning.WEIGHT_BITS, descent.PAIRS, descent.LESS, descent.FLATTER]
        constants += [row_texts.VALUES, row_texts.ROWS_OF_VALUE, row_texts.LONGEST]
        columns, versions = [len(settings.reads), len(settings.embeds)], [version(name) for name in PACKAGES]
        return key_of("reader", digest.hexdigest(), self.soft.shape, columns, constants, versions)

    def learned(self, texts: Callable[[], Texts]) -> RowReader:
        """The reader that the rows with these texts make; raises `NothingToLearn`."""
        if not len(self.hashes):
            raise NothingToLearn("No row has a vote, so there is nothing to learn from.")
        read = texts().embedded()
        apart, folds = read.categories(), folds_of(self.hashes)
        return fit_reader(read.counts(apart), folds, self.soft, self.weights, self.known, read.vectors, apart)


@dataclass(frozen=True, eq=False)
class PlacedLesson:
    """A lesson, and where its rows stand: ``rows`` of the partitions ``names`` that ``places`` says, (rows,) both."""

    lesson: Lesson
    names: tuple[str, ...]
    places: Ints
    rows: Ints

    @staticmethod
    def of(
        taught: Mapping[str, Taught],
        posterior: Callable[[Votes], Probabilities],
        seen: Sequence[str],
        classes: int,
        known: Mapping[str, Ints] | None = None,
    ) -> PlacedLesson:
        """What a fit that has ``seen`` these partitions learns from.

        ``posterior`` makes probabilities of votes, by part of the rows where there are known ones: ``known`` is the
        class of each row of ``taught``, `UNKNOWN` where it is not. Which rows teach, and in which order, follows from
        what stands in them.
        """
        whole = RowHashes.together([taught[name].contents for name in seen])
        places = np.repeat(np.arange(len(seen)), [len(taught[name].votes) for name in seen])
        of_row = None if known is None else np.concatenate([known[name] for name in seen])
        chosen = whole.lowest(classes, None if of_row is None else of_row != UNKNOWN)
        teaching, places = whole.at(chosen), places[chosen]
        soft = np.zeros((*([FOLDS] if known else []), len(chosen), classes))
        for number in np.unique(places):
            mine, own = np.flatnonzero(places == number), taught[seen[number]]
            at = np.searchsorted(own.contents.rows, teaching.rows[mine])
            soft[..., mine, :] = posterior(own.votes[at])
        lesson = Lesson.of(teaching.hashes, soft, None if of_row is None else of_row[chosen])
        return PlacedLesson(lesson, tuple(seen), places, teaching.rows)

    def write(self, file: Path) -> None:
        """Write it for another process, but for the names."""
        known = {} if self.lesson.known is None else {"known": self.lesson.known}
        arrays = {"hashes": self.lesson.hashes, "soft": self.lesson.soft, "weights": self.lesson.weights}
        write_arrays(file, places=self.places, rows=self.rows, **arrays, **known)

    @staticmethod
    def read(file: Path, names: Sequence[str]) -> PlacedLesson:
        """What `write` wrote of partitions of these names."""
        found = read_arrays(file)
        lesson = Lesson(found["hashes"], found["soft"], found["weights"], found.get("known"))
        return PlacedLesson(lesson, tuple(names), found["places"], found["rows"])
