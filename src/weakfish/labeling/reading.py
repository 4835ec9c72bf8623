"""The reader at work: what it reads of events, which rows it learns from, and what it says of each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.contracts.gold import UNKNOWN
from weakfish.contracts.tables import open_partition, partitions, read_partition, row_count, schema_of
from weakfish.contracts.votes_file import Votes
from weakfish.errors import TableError
from weakfish.labeling import embedding, learning
from weakfish.labeling.choice import Chosen
from weakfish.labeling.label_model import BATCH, Probabilities, covered
from weakfish.labeling.learning import Floats, NothingToLearn, word_counts, words_of
from weakfish.labeling.lessons import PACKAGES, Lesson, PlacedLesson, Read
from weakfish.labeling.matrix import rows_at
from weakfish.labeling.row_reader import (
    Bools,
    Ints,
    RowReader,
    folds_of,
    hashes_of,
    joined,
)
from weakfish.labeling.row_texts import Readable, RowHashes, Texts, refuse_columns
from weakfish.project.params import LabelModelParams
from weakfish.project.paths import Project
from weakfish.project.versioned import Versioned

AT_ONCE, CHARACTERS_AT_ONCE = 1 << 13, 1 << 22
"""Rows that are read together, and about how many characters they may have."""

TOLD = 5
"""Words that an explanation names."""

RESTS = ("votes", "row", "both", "known")
"""What a label may rest on; a known one rests on nothing else."""


def fits_of(project: Project, task: str) -> Versioned:
    """What the label stage fits for a task, readers included: outs beside the labels."""
    return Versioned(project, f"fits/{task}", f"labels/{task}.fits")


class TaskReader:
    """What is read of a task's events."""

    def __init__(self, project: Project, task: str) -> None:
        self.settings, self.classes = project.task(task).label_model, len(project.task(task).classes)
        self.files = partitions(project.table("events"))
        self.pieces = Versioned(project, f"embeddings/{task}", f"labels/{task}.embeddings")
        setting, reads, embeds = f"label_models.{task}", self.settings.reads, self.settings.embeds
        refuse_columns(schema_of(project.table("events")), reads, embeds, setting)
        if embeds:
            embedding.require_model(f"{setting}.embeds")
        self.columns = list(dict.fromkeys([*reads, *embeds]))

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages on which what it says depends, those aside on which all labels do."""
        return PACKAGES[1:3] + (embedding.PACKAGES if self.settings.embeds else ())

    def whole(self) -> StoredTexts:
        """What is read of all events, which is hashed and let go."""
        nothing = [RowHashes(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))]
        parts = [RowHashes.of(part, np.arange(len(part))) for name in self.files for _, part in self.texts(name)]
        found = RowHashes.together([*nothing, *parts])
        return StoredTexts(self, found.hashes, found.characters, np.arange(len(found.rows)))

    def at(self, partition: str, rows: Ints) -> Iterator[Texts]:
        """What is read of some rows of a partition, which are in order, with their embeddings."""
        if not self.settings.embeds:
            for part in rows_at(self.files[partition], self.columns, rows):
                yield Texts.of(part, self.settings.reads).embedded()
            return
        for start, texts in self.texts(partition):  # embeddings lie in pieces of whole batches
            low, high = np.searchsorted(rows, [start, start + len(texts)])
            if low < high:
                yield texts.embedded(self.pieces).at(rows[low:high] - start)

    def texts(self, partition: str) -> Iterator[tuple[int, Texts]]:
        """The texts of a partition and the place of their first row, some rows at once, none across two batches."""
        start = 0
        for batch in open_partition(self.files[partition]).iter_batches(AT_ONCE, columns=self.columns):
            texts = Texts.of(batch, self.settings.reads, self.settings.embeds)
            total = np.cumsum(texts.lengths())
            first = 0
            while first < batch.num_rows:
                most = CHARACTERS_AT_ONCE + (total[first - 1] if first else 0)
                number = max(1, int(np.searchsorted(total, most, "right")) - first)
                number = min(number, BATCH - (start + first) % BATCH)
                yield start + first, texts.at(np.arange(first, first + number))
                first += number
            start += batch.num_rows

    def contents(self, partition: str, taught: Bools) -> tuple[RowHashes, list[str]]:
        """Those of the rows of a partition that teach, where ``taught`` (rows,) says so; the keys of all embeddings."""
        nothing, keys = np.zeros(0, np.int64), list[str]()
        found = [RowHashes(nothing.astype(np.uint64), nothing, nothing)]
        for start, texts in self.texts(partition):
            rows = np.flatnonzero(taught[start : start + len(texts)])
            found.append(RowHashes.of(texts.at(rows), rows + start))
            keys += [embedding.Distinct.of(column).key for column in texts.wholes]
        return RowHashes.together(found), keys

    def of_lesson(self, placed: PlacedLesson) -> Texts:
        """What is read of the rows of a lesson, one at least, in its order."""
        parts, order = list[Texts](), []
        for number in np.unique(placed.places):
            mine = np.flatnonzero(placed.places == number)
            mine = mine[np.argsort(placed.rows[mine], kind="stable")]
            parts += self.at(placed.names[number], placed.rows[mine])
            order.append(mine)
        return Texts.together(parts).at(np.argsort(np.concatenate(order), kind="stable"))

    def embed(self, partition: str) -> None:
        """Compute the embeddings of a partition that are not there."""
        for _, texts in self.texts(partition):
            texts.embedded(self.pieces)

    def added(self, partition: str, reader: RowReader) -> Iterator[tuple[int, Floats, Bools]]:
        """What reading adds, the place of the first row before it, and which rows have anything that is known."""
        for start, texts in self.texts(partition):
            yield start, *added(reader, texts.embedded(self.pieces))


@dataclass(frozen=True, eq=False)
class StoredTexts:
    """What a reader reads of some events, which lies where it is until it is asked for.

    Attributes
    ----------
    reader : TaskReader
    hashes, characters : numpy.ndarray, (rows,)
        As `RowHashes` has them.
    places : numpy.ndarray, int64, (rows,)
        Of each row among all events.
    """

    reader: TaskReader
    hashes: npt.NDArray[np.uint64]
    characters: Ints
    places: Ints

    def at(self, rows: Ints) -> StoredTexts:
        """Those of some rows."""
        return replace(self, hashes=self.hashes[rows], characters=self.characters[rows], places=self.places[rows])

    def lengths(self) -> Ints:
        """The characters of each row."""
        return self.characters

    def loaded(self) -> Texts:
        """The texts, of one row at least, with their embeddings."""
        order = np.argsort(self.places, kind="stable")
        places, parts, start = self.places[order], list[Texts](), 0
        for name, file in self.reader.files.items():
            end = start + row_count(file)
            if len(mine := places[(places >= start) & (places < end)]):
                parts += self.reader.at(name, mine - start)
            start = end
        return Texts.together(parts).at(np.argsort(order, kind="stable"))

    def __len__(self) -> int:
        return len(self.places)


def added(reader: RowReader, texts: Texts) -> tuple[Floats, Bools]:
    """What reading adds to the logarithm of each class, (rows, classes), and which rows have anything that is known.

    To others, which have no word that the reader has learned, and no text that is embedded, it adds nothing.
    """
    vectors = texts.embedded().vectors
    rows = reader.rows(texts.counts(reader.apart), vectors)
    known: Bools = np.asarray(rows.any(axis=1)) if isinstance(rows, np.ndarray) else np.diff(rows.indptr) > 0
    found = reader.added(rows, folds_of(texts.hashes))
    found[~known] = 0
    return found, known


def rests_on(covered: Bools, read: Bools, known: Bools | None = None) -> pa.Array:
    """What the label of each row rests on, text, null where it is nothing.

    Votes, and what the reader knows of it, unless the label itself is ``known``.
    """
    places = covered + 2 * read.astype(np.int8) - 1
    if known is not None:
        places[known] = RESTS.index("known")
    return pa.array(RESTS).take(pa.array(places, mask=places < 0))


def parts_of(project: Project, settings: LabelModelParams, partition: str, keys: pa.ChunkedArray, rows: Ints) -> Ints:
    """The part of the rows that each of some rows belongs to: by what a reader reads of it, else by its key."""
    if settings.reader != "off":
        return folds_of(read_rows(project, partition, settings.reads, settings.embeds, rows).hashes)
    return folds_of(hashes_of([keys.take(pa.array(rows)).cast(pa.string()).to_pylist()]))


def labels_of(
    chosen: Chosen,
    votes: Votes,
    texts: Readable,
    settings: LabelModelParams,
    rows: Ints,
    known: Ints | None = None,
) -> tuple[Probabilities, Bools]:
    """The probabilities of some rows by votes and, where the settings have one and it helps, a reader; which are known.

    Parameters
    ----------
    chosen
        What makes probabilities of votes.
    votes : (all rows, functions)
        The reader learns from the rows that have some.
    texts
        What is read of all rows.
    rows : (rows,)
        Those that are asked for.
    known : (all rows,), optional
        The class of each row, `UNKNOWN` where it is not; the reader learns from these too.
    """
    voted, number = covered(votes), len(chosen.model.class_balance)
    taught = np.flatnonzero(voted if known is None else voted | (known != UNKNOWN))
    classes = None if known is None else known[taught]
    contents = RowHashes.of(texts.at(taught), taught)
    places = contents.lowest(number, None if classes is None else classes != UNKNOWN)
    contents, classes = contents.at(places), None if classes is None else classes[places]
    soft = chosen.probabilities(votes[contents.rows])
    if classes is not None:
        soft = chosen.by_part(votes[contents.rows])
    found, told = chosen.probabilities(votes[rows]), voted[rows]
    try:
        reader = Lesson.of(contents.hashes, soft, classes).learned(lambda: texts.at(contents.rows).loaded())
    except NothingToLearn:
        return found, told
    if not Read.of(settings, reader).used:
        return found, told
    for start in range(0, len(rows), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        more, own = added(reader, texts.at(rows[part]).loaded())
        found[part] = joined(found[part], more)
        told[part] |= own
    return found, told


def reader_in(made: Mapping[str, Any], content: bytes, where: str) -> RowReader:
    """The reader of which a manifest says ``made``; raises `TableError` unless ``content`` is that one."""
    if hashlib.sha256(content).hexdigest() != made["sha256"]:
        raise TableError(f"{where} is not the reader that the manifest of the labels names; run `dvc repro label`.")
    return RowReader.from_bytes(content)


def reader_of(project: Project, made: Mapping[str, Any]) -> RowReader:
    """The reader of which the manifest of the labels says ``made``; raises `TableError` where it is not there."""
    file = project.table("labels") / made["file"]
    try:
        return reader_in(made, file.read_bytes(), str(file))
    except FileNotFoundError as error:
        raise TableError(
            f"{file}, which read the events for their labels, is missing; run `dvc repro label`."
        ) from error


def columns_of(made: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The columns of which the reader that a manifest calls ``made`` reads the words, and those that it embeds."""
    return made["columns"], made.get("embeds", [])


def read_rows(project: Project, partition: str, reads: Sequence[str], embeds: Sequence[str], rows: Ints) -> Texts:
    """What a reader of these columns reads of some rows of the events."""
    table = read_partition(project.table("events") / f"{partition}.parquet", list(dict.fromkeys([*reads, *embeds])))
    return Texts.of(table.take(pa.array(rows)), reads, embeds)


def read_row(project: Project, task: str, made: Mapping[str, Any], partition: str, row: int) -> Texts:
    """What the reader of which a manifest says ``made`` reads of an event, with the embedding that its label has."""
    (reads, embeds), settings, place = columns_of(made), project.task(task).label_model, np.array([row])
    if embeds and (list(settings.reads), list(settings.embeds)) == (reads, embeds):
        (texts,) = TaskReader(project, task).at(partition, place)
        return texts
    return read_rows(project, partition, reads, embeds, place)


WHOLE = "the text as a whole"
"""What stands for a word where a text is embedded."""


@dataclass(frozen=True)
class Told:
    """What a reader says of one row.

    Attributes
    ----------
    added : numpy.ndarray, float64, (classes,)
        To the logarithm of each class.
    power : float
        By which that was taken, see `RowReader`.
    words : list of (column, word, numpy.ndarray)
        What each word of the row adds, (classes,), up to a constant; the heaviest first. The embedding of a column is
        one word, `WHOLE`.
    """

    added: Floats
    power: float
    words: list[tuple[str, str, Floats]]

    @classmethod
    def of(cls, reader: RowReader, made: Mapping[str, Any], texts: Texts) -> Told:
        """What the reader says of a row, given what the manifest says of it, and the texts of the row alone."""
        from scipy.sparse import diags_array, issparse  # type: ignore[import-untyped]

        reads, embeds = columns_of(made)
        texts = texts.embedded()
        whole, _ = added(reader, texts)
        fold = int(folds_of(texts.hashes)[0])
        features = reader.rows(texts.counts(reader.apart), texts.vectors)
        rows = features.toarray()[0] if issparse(features) else features[0]
        weights = reader.models[fold].weights
        found, start = [], 0
        for column, kinds, apart, (text,) in zip(reads, _by_column(reader), reader.apart, texts.columns, strict=True):
            words = Counter(words_of(text, apart))
            share = np.zeros((len(words), reader.share.shape[1]))
            if words:
                often = diags_array(np.array(list(words.values()), float))
                counted = word_counts([list(words)], [apart])
                for counts, kept in zip(counted, kinds, strict=True):
                    own, here = often @ counts[:, kept], slice(start, start + len(kept))
                    # a feature that several words have is each one's by how often it stands in it
                    scale = rows[here] / np.maximum(own.sum(axis=0), 1)
                    share += own @ (weights[here] * scale[:, None])
                    start += len(kept)
            else:
                start += sum(map(len, kinds))
            found += list(zip([column] * len(words), words, share, strict=True))
        for column in embeds:
            here = slice(start, start + embedding.WIDTH)
            found.append((column, WHOLE, rows[here] @ weights[here]))
            start = here.stop
        power = float(reader.power[fold])
        told = [(column, word, power * own) for column, word, own in found if np.ptp(own) > 0]
        return cls(whole[0], power, sorted(told, key=lambda each: (-np.ptp(each[2]), each[0], each[1])))


def _by_column(reader: RowReader) -> list[list[npt.NDArray[np.int64]]]:
    """The hash columns of each kind of feature, by column that is read."""
    kept, kinds = reader.features.kept, len(learning.KINDS)
    return [kept[place : place + kinds] for place in range(0, len(kept), kinds)]
