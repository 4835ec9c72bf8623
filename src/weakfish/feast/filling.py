"""What becomes of a view's rows in a publication: compared with the store, batch by batch, and written if they differ.

One process compares and writes at once. Workers compare first, which changes no row and so may be tried again, and
leave what differs in files; then they write that, and a second try of it says what the first one said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import numpy as np
import pyarrow as pa

from weakfish.engine.fleet import Item, Receipt
from weakfish.feast.commit import Claim, Counts
from weakfish.feast.diff import NO_HASH, Hashes, Losses, Online, differences, keep_hashes, keys_and_others
from weakfish.feast.encoding import Encoded
from weakfish.feast.executors import reached
from weakfish.feast.latest_rows import LatestRows
from weakfish.feast.writer import Change, removals, writes
from weakfish.files import whole_file
from weakfish.project.paths import Project


@dataclass(frozen=True)
class Intent:
    """What a publication wants of a view's rows.

    Attributes
    ----------
    until : int
        Microseconds since 1970 up to which the store's rows are the publication's to change.
    gone, retyped : sequence of bytes
        Fields that written rows lose, and those that rows which stay as they were pushed lose, too.
    others : sequence of bytes
        Fields to be read along, by which `KnownKeys` learns of other views' rows.
    expire : int or None
        Seconds after which the keys of written rows expire.
    keeps : bool
        Whether keys that would expire are to stay.
    is_first : bool
        Whether the store is empty, so that nothing is compared.
    """

    until: int
    gone: Sequence[bytes]
    retyped: Sequence[bytes]
    others: Sequence[bytes]
    expire: int | None
    keeps: bool
    is_first: bool

    def packed(self) -> dict[str, Any]:
        """The intent as an item has it."""
        fields = {name: [field.hex() for field in getattr(self, name)] for name in ("gone", "retyped", "others")}
        return {**asdict(self), **fields}

    @classmethod
    def unpacked(cls, found: Mapping[str, Any]) -> Intent:
        """What was `packed`."""
        names = ("gone", "retyped", "others")
        return cls(**{**found, **{name: [bytes.fromhex(field) for field in found[name]] for name in names}})

    def changes(self, encoded: Encoded, ours: list[int], newer: list[int]) -> Iterator[tuple[Change, bool]]:
        """What is to be done to rows at some positions, and whether it is a row that is written then."""
        rows = taken(encoded, ours)
        yield writes(rows, until=self.until, gone=self.gone, expire=self.expire), True
        if self.retyped:
            keys = encoded.keys.take(pa.array(newer, pa.int64())).to_pylist()
            yield removals(keys, None, self.retyped), False


@dataclass(frozen=True)
class ComparedBatch:
    """Rows of a batch that differ, by position, and what is known of all its keys.

    Attributes
    ----------
    ours, newer : list of int
        Rows to be written, and those that a service pushed since.
    own, others : arrays of hashes
        As `KnownKeys.take` has them.
    """

    ours: list[int]
    newer: list[int]
    own: Hashes
    others: list[Hashes]


class Filling:
    """Compares rows of a view with the store, and counts what it finds."""

    def __init__(self, intent: Intent, features: Sequence[str], counts: Counts | None = None) -> None:
        self.intent, self.counts, self.losses = intent, counts or Counts(), Losses(features)
        self.no_hash: list[bytes] = []

    def compare(self, online: Online, encoded: Encoded) -> ComparedBatch:
        """Compare a batch; rows that are the same are counted, and their keys kept from expiring if that is asked."""
        intent, found = self.intent, encoded.keys.to_pylist()
        if intent.is_first:
            nothing: list[list[bytes | None]] = [[None] * len(intent.others)] * len(found)
            return ComparedBatch([*range(len(found))], [], *keys_and_others(found, nothing, len(intent.others)))
        different, others = differences(online, encoded, intent.others)
        self.no_hash += [found[d.position] for d in different if d.online[0] is NO_HASH]
        written = [d for d in different if d.event_us is None or d.event_us <= intent.until]
        ours, wrong = [d.position for d in written], {d.position for d in different}
        newer = sorted(wrong.difference(ours))
        self.losses.add(encoded, written)
        self.counts.unchanged += len(encoded) - len(different)
        if intent.keeps:
            online.keep([found[position] for position in wrong])
            kept = online.keep([key for position, key in enumerate(found) if position not in wrong])
            self.counts.written, self.counts.unchanged = self.counts.written + kept, self.counts.unchanged - kept
        self.counts.left += len(newer)
        return ComparedBatch(ours, newer, *keys_and_others(found, others, len(intent.others)))


NEWER = "__newer"
"""The column of a file of rows that differ: whether a service pushed the row that is online."""


def compared(project: Project, item: Item) -> Receipt:
    """Compare a shard with the store, wherever a worker is.

    Writes the rows that differ to ``<to>.rows``, and what is known of all keys to ``<to>.keys.npz``; the receipt says
    what was counted.
    """
    rows = LatestRows.unpacked(project, item["rows"], item["shard"])
    filling = Filling(Intent.unpacked(item["intent"]), [feature.name for feature in rows.view.features])
    to, known, differ = project.root / item["to"], list[ComparedBatch](), 0
    with ExitStack() as stack:
        online, writer = Online(stack.enter_context(reached(project, item))), None
        file = stack.enter_context(whole_file(to.with_name(f"{to.name}.rows")))
        for batch, encoded in rows.batches():
            found = filling.compare(online, encoded)
            known.append(found)
            part = _that_differ(batch, found)
            if writer is None:
                writer = stack.enter_context(pa.ipc.new_stream(stack.enter_context(file.open("wb")), part.schema))
            writer.write_batch(part)
            differ += len(found.ours)
        file.touch()
    if known:
        keep_hashes(to.with_name(f"{to.name}.keys.npz"), [(each.own, each.others) for each in known])
    losses = [filling.losses.lost.tolist(), filling.losses.had.tolist()]
    no_hash = [key.hex() for key in filling.no_hash]
    return {"counts": vars(filling.counts), "differ": differ, "losses": losses, "no_hash": no_hash, "any": bool(known)}


def _that_differ(batch: pa.RecordBatch, found: ComparedBatch) -> pa.RecordBatch:
    newer = pa.array([False] * len(found.ours) + [True] * len(found.newer), pa.bool_())
    part = batch.take(pa.array([*found.ours, *found.newer], pa.int64()))
    return part.append_column(NEWER, newer)


def that_differ(project: Project, item: Item) -> Iterator[tuple[Change, bool]]:
    """The changes that the rows of a file ask for which differ, as `Intent.changes`."""
    rows, intent = LatestRows.unpacked(project, item["rows"]), Intent.unpacked(item["intent"])
    with pa.ipc.open_stream(project.root / item["file"]) as reader:
        for batch in reader:
            if batch.num_rows:
                newer = batch.column(NEWER).to_numpy(zero_copy_only=False)
                encoded = rows.encoded(batch.drop_columns([NEWER]))
                yield from intent.changes(encoded, np.flatnonzero(~newer).tolist(), np.flatnonzero(newer).tolist())


def written(project: Project, item: Item) -> Receipt:
    """Write the rows of a file that differ, wherever a worker is; the receipt counts rows written, and newer ones."""
    claim, done, newer = Claim(**item["claim"]), 0, 0
    with reached(project, item) as client:
        for change, counts in that_differ(project, item):
            changed = claim.make(client, change)
            if counts:
                done, newer = done + changed, newer + change.size - changed
    return {"written": done, "left": newer}


def taken(encoded: Encoded, positions: list[int]) -> Encoded:
    """Some of the rows, by their positions."""
    if len(positions) == len(encoded):
        return encoded
    places = pa.array(positions, pa.int64())
    return replace(
        encoded,
        keys=encoded.keys.take(places),
        times=encoded.times.take(places),
        event_us=encoded.event_us[positions],
        created_us=encoded.created_us[positions],
        created=encoded.created.take(places),
        values={name: column.take(places) for name, column in encoded.values.items()},
    )
