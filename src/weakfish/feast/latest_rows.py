"""The last rows of a view as of a time, in batches: here, or shard by shard wherever a worker is.

A shard holds all stored rows of some entities. Which entities it holds decides nothing but who works on them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import pyarrow as pa
from feast import FeatureView, RepoConfig
from feast.feature_view import DUMMY_ENTITY_ID
from feast.protos.feast.core.FeatureView_pb2 import FeatureView as FeatureViewMessage

from weakfish.contracts.pointers import local
from weakfish.contracts.tables import partitions
from weakfish.engine import fleet
from weakfish.feast.contents import Contents
from weakfish.feast.encoding import Encoded, encode
from weakfish.feast.probe import repository
from weakfish.feast.retrieval import latest
from weakfish.feast.source_files import literal, open_files, session
from weakfish.files import part_folder
from weakfish.project.paths import Project

ROWS = 5_000
"""Rows that are encoded, compared and written at a time: what bounds memory."""

SHARD_ROWS = 1_000_000
"""Stored rows of a shard, about."""

ALONE = 200_000
"""Stored rows up to which they are not spread: one process has done sooner than others begin."""

OFFLINE_STORE = "weakfish.feast.offline.AsOfOfflineStore"
LIMITS = ("memory_limit", "threads")
"""Settings of the offline store that hold wherever it works."""


@dataclass(frozen=True)
class LatestRows:
    """The last row of each entity of a view as of a time."""

    view: FeatureView
    config: RepoConfig
    as_of: datetime

    def batches(self) -> Iterator[tuple[pa.RecordBatch, Encoded]]:
        """The rows as they are offline and as they are to be online, at most `ROWS` at a time."""
        with latest(self.view, self.as_of, self.config, known=True) as reader:
            for whole in reader:
                for start in range(0, whole.num_rows, ROWS):
                    batch = whole.slice(start, ROWS)
                    yield batch, self.encoded(batch)

    def encoded(self, batch: pa.RecordBatch) -> Encoded:
        """Rows of the view as they are to be online."""
        return encode(self.view, self.config, batch)

    def packed(self) -> dict[str, Any]:
        """What a worker needs to know of the view, and no secret, as an item has it."""
        store, config = self.config.offline_store, self.config
        return {
            "view": base64.b64encode(self.view.to_proto().SerializeToString()).decode(),
            "project": config.project,
            "serialization": config.entity_key_serialization_version,
            "versioning": config.registry.enable_online_feature_view_versioning,
            "limits": {name: value for name in LIMITS if (value := getattr(store, name, None)) is not None},
            "as_of": self.as_of.isoformat(),
        }

    @classmethod
    def unpacked(cls, project: Project, found: dict[str, Any], shard: str | None = None) -> LatestRows:
        """What was `packed`; with a ``shard``, of the rows there."""
        view = FeatureView.from_proto(FeatureViewMessage.FromString(base64.b64decode(found["view"])))
        if shard is not None:
            view.batch_source.file_options.uri = str(project.root / shard)
        config = RepoConfig(
            project=found["project"],
            provider="local",
            registry={"path": "none", "enable_online_feature_view_versioning": found["versioning"]},
            offline_store={"type": OFFLINE_STORE, **found["limits"]},
            online_store=None,
            entity_key_serialization_version=found["serialization"],
            repo_path=repository(project),
        )
        return cls(view, config, datetime.fromisoformat(found["as_of"]))


def is_spread(project: Project, rows: int) -> bool:
    """Whether other machines are to work on so many stored rows."""
    return rows > ALONE and fleet.is_elsewhere(project)


def shards(contents: Contents, rows: LatestRows, stored: int, folder: Path, verb: str) -> list[str]:
    """Regroup the stored rows of a view by entity; the folders of the shards, of which each holds some.

    Parameters
    ----------
    stored
        How many rows there are.
    folder
        Below which shards are made.
    verb
        Who asks, for people.
    """
    project, number = contents.project, -(-stored // SHARD_ROWS)
    found = partitions(contents.source.table("features") / str(rows.view.batch_source.name)).values()
    files = found if contents.source == project else map(local, found)  # whose pointers do not travel
    items = [
        {
            "rows": rows.packed(),
            "file": fleet.relative(project, file),
            "to": fleet.relative(project, folder),
            "shards": number if set(rows.view.join_keys) != {DUMMY_ENTITY_ID} else 1,
        }
        for file in files
    ]
    work, what = f"{__name__}:regrouped", f"{verb}: partitions of {rows.view.name}"
    receipts = fleet.receipts(project, work, items, what)
    return [f"{fleet.relative(project, folder)}/{n}" for n in sorted({n for of in receipts for n in of["shards"]})]


def regrouped(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Put the rows of a partition into the shards of their entities; the receipt says which shards those are."""
    rows, file, to = LatestRows.unpacked(project, item["rows"]), project.root / item["file"], project.root / item["to"]
    what = f"Reading {file.name} of view {rows.view.name}"
    made = []
    with session(rows.config) as opened, part_folder(to / file.stem, within=project.temporary) as part:
        source = open_files(opened, str(local(file)), what, _stored(rows.view))
        keys = [source.column(key) for key in rows.view.join_keys if key != DUMMY_ENTITY_ID]
        shard = f"hash({', '.join(keys)}) % {item['shards']}" if keys else "0"
        opened.run(
            f"COPY (SELECT f.*, {shard} AS __shard FROM {source.scan} f) TO {literal(str(part / 'rows'))} "  # noqa: S608
            "(FORMAT parquet, PARTITION_BY (__shard))",
            what,
        )
        for home in (part / "rows").iterdir():
            number = int(home.name.partition("=")[2])
            made.append(number)
            (to / str(number)).mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # another try was first, and its rows are the same
                home.rename(to / str(number) / file.stem)
    return {"shards": sorted(made)}


def _stored(view: FeatureView) -> dict[str, str]:
    return {new: old for old, new in (view.batch_source.field_mapping or {}).items()}
