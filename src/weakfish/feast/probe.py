"""What is published, as far as it can be seen without Feast: settings, versions, and what the store says of itself."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import redis
import yaml

from weakfish.contracts.manifests import FEATURES
from weakfish.contracts.pointers import exists
from weakfish.contracts.publications import SHARES, Marker, Receipt, parse_marker, read_receipt
from weakfish.contracts.record import utc
from weakfish.errors import StoreError, TableError
from weakfish.feast import layout as keys
from weakfish.files import read_json, sha256
from weakfish.project.paths import Project

SECONDS, NANOS = 8, 16
"""The tags of the two fields of a ``google.protobuf.Timestamp``, both variable-length integers."""


def event_time(stamp: bytes) -> int | None:
    """The event time of a row, from its field ``_ts:<view>``; None for bytes that are no time."""
    parts, tag, value, shift = {SECONDS: 0, NANOS: 0}, None, 0, 0
    for byte in stamp:
        if tag is None:
            tag, value, shift = byte, 0, 0
            continue
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if tag not in parts:
                return None
            parts[tag], tag = value, None
    if tag is not None:
        return None
    seconds = parts[SECONDS] - 2**64 if parts[SECONDS] >= 2**63 else parts[SECONDS]
    return seconds * 1_000_000 + parts[NANOS] // 1000


FORMAT = 2
"""Part of every version: raise it when the same tables are to be published in another way."""

COUNTED = 20_000
"""Rows, or keys of the server, up to which every view's rows are counted; above, a sample of them is looked up."""


def read_marker(client: redis.Redis, name: str) -> Marker | None:
    """What the store says was published last for a Feast project; None when it says nothing that can be read.

    Says on stderr that there is one of another shape.
    """
    key = keys.marker(name)
    found = keys.text(client, key)
    marker = parse_marker(found)
    if found and marker is None:
        print(
            f"weakfish: {key} in the online store is no marker that this version wrote; it counts as if nothing had "
            "been published.",
            file=sys.stderr,
        )
    return marker


def repository(project: Project) -> Path:
    """The folder of the Feast repository."""
    return project.root / "feature_repo"


def settings(project: Project) -> dict[str, Any]:
    """The content of ``feature_store.yaml``, and the file of its registry as ``registry_file``.

    Raises
    ------
    StoreError
        When it is missing, malformed, names no project, or its registry is not a file.
    """
    file = repository(project) / "feature_store.yaml"
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        name, registry = content["project"], content["registry"]
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise StoreError(f"{file} cannot be used: {type(error).__name__} {reason}; correct it there.") from error
    path = registry if isinstance(registry, str) else registry.get("path")
    if not isinstance(name, str) or not isinstance(path, str):
        raise StoreError(f"{file} cannot be used: project and registry.path must be texts; correct it there.")
    kind = "file" if isinstance(registry, str) else registry.get("registry_type", "file")
    if kind != "file" or "://" in path:
        raise StoreError(
            f"The registry that {file} names (registry_type: {kind}) is not a local file, and publishing puts a new "
            "file in its place; let registry.path be one."
        )
    return {**content, "registry_file": (repository(project) / path).resolve()}


def manifests(project: Project) -> dict[str, dict[str, Any]]:
    """What each feature table holds, by its name; raises `TableError` when there is none or one lost its files."""
    found = {name: read_json(file) for name, file in FEATURES.files(project).items()}
    if not found:
        raise TableError(
            f"There is no feature table in {project.table('features')}; run `dvc repro`, which makes them."
        )
    for name, content in found.items():
        for partition in content.get("partitions", {}):
            file = project.table(f"features/{name}") / f"{partition}.parquet"
            if not exists(file):
                raise TableError(f"{file} is gone, nothing was published; run `dvc repro`, which makes it.")
    return found


def as_of(project: Project, setting: datetime | str | None = None) -> datetime:
    """The time that the store answers for: as the setting says, ``last`` being the last event that features know.

    ``setting`` is ``publish.as_of`` of params.yaml, where that is not to be read.
    """
    setting = project.params.publish.as_of if setting is None else setting
    if isinstance(setting, datetime):
        return utc(setting)
    if setting == "now":
        return datetime.now(UTC)
    return max(utc(datetime.fromisoformat(content["as_of"])) for content in manifests(project).values())


def expected_version(project: Project) -> str:
    """A hash of all that decides what is published: tables, definitions and settings, but not the clock."""
    parts: dict[str, Any] = {"format": FORMAT, "tables": manifests(project)}
    setting = project.params.publish.as_of
    parts["as_of"] = setting if setting == "now" else as_of(project).isoformat()
    home = repository(project)
    files = {file.relative_to(home).as_posix(): file for kind in ("*.py", "*.yaml") for file in home.rglob(kind)}
    shown = [name for name in sorted(files) if not any(part.startswith(".") for part in name.split("/"))]
    parts["files"] = {name: sha256(files[name]) for name in shown}
    if (ignored := home / ".feastignore").exists():
        parts["files"][ignored.name] = sha256(ignored)
    labels = sorted(project.table("labels").glob("*.manifest.json"))  # from which label views take their provenance
    parts["labels"] = {file.name: sha256(file) for file in labels}
    return digest(parts)


def digest(content: Any) -> str:
    """The SHA-256 of JSON-like content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_current(project: Project, client: redis.Redis, name: str, marker: Marker | None) -> bool:
    """True when store and registry are what publishing again would make of them, as far as a probe can see."""
    if marker is None:
        return False
    # Time stands still unless ``as_of`` is now; then it may have come for a row that was left for later.
    moves = project.params.publish.as_of == "now" and marker.due is not None
    return (
        marker.version == expected_version(project)
        and not (moves and datetime.fromisoformat(str(marker.due)) <= datetime.now(UTC))
        and registry_is(project, marker.version)
        and all(stamps(project, of["files"]) == of["files"] for of in marker.others.values() if "files" in of)
        and holds(project, client, name, marker)
    )


def stamps(project: Project, paths: Iterable[str]) -> dict[str, list[int] | None]:
    """What changes whenever a file or folder does, by its path from the project; None for one that is gone."""
    found: dict[str, list[int] | None] = {}
    for path in paths:
        try:
            told = (project.root / path).stat()
        except OSError:
            found[path] = None
        else:
            found[path] = [told.st_size, told.st_mtime_ns]
    return found


def holds(project: Project, client: redis.Redis, name: str, marker: Marker) -> bool:
    """True when the store still has the rows that it was given, and no audit here found any of them changed.

    False while a publication is under way. Up to `COUNTED` rows and keys all rows are counted; above, there must be as
    many keys as were written, and the sample of rows that the last audit took, if it was taken here.
    """
    if not marker.views or marker.under_way:
        return False
    known = read_receipt(project, name, marker.digest())
    if known and not known.passed:
        return False
    try:
        keys_in_all = keys.size(client)
    except redis.exceptions.NoPermissionError:
        keys_in_all = None
    entities: Counter[tuple[str, ...]] = Counter()
    for content in marker.views.values():
        kind = tuple(content["join_keys"])
        entities[kind] = max(entities[kind], content["entities"])
    if keys_in_all is not None and keys_in_all < entities.total():
        return False
    if known and max(entities.total(), keys_in_all or 0) > COUNTED:
        return _has_sample(client, marker, known.sample)
    return _has_all(client, name, marker)


def _has_sample(client: redis.Redis, marker: Marker, sample: Mapping[str, Iterable[bytes]]) -> bool:
    asked = [(view, key) for view in marker.views for key in sample.get(view, ())]
    with client.pipeline(transaction=False) as pipe:
        for view, key in asked:
            pipe.hexists(key, time_field(marker, view))
        return all(keys.answers(pipe.execute(raise_on_error=False)))


def _has_all(client: redis.Redis, name: str, marker: Marker) -> bool:
    """Whether each view has all its rows, later ones of services in the place of some included, and none too many."""
    fields = {view: time_field(marker, view) for view in marker.views}
    until = {view: marker.until(view) for view in marker.views}
    rows: Counter[str] = Counter()
    owned: Counter[str] = Counter()
    for batch in keys.batches(keys.of_project(client, name)):
        with client.pipeline(transaction=False) as pipe:
            for key in batch:
                pipe.hmget(key, list(fields.values()))
            for row in keys.answers(pipe.execute(raise_on_error=False)):
                if row is None:  # a key that holds no hash stands in the way of a row
                    return False
                for view, stamp in zip(fields, row, strict=True):
                    if stamp is not None:
                        rows[view] += 1
                        time, limit = event_time(stamp), until[view]
                        owned[view] += time is None or limit is None or time <= limit
    return all(owned[view] <= content["entities"] <= rows[view] for view, content in marker.views.items())


def share_of(key: bytes) -> int:
    """The share of the rows that a key's are in."""
    return crc32(key) % SHARES


BETWEEN, ABSENT = b"\0", b"\xff"
"""What stands between the fields of a row, and for one that is not there, when a fingerprint is made of them."""


def fingerprint(key: bytes, fields: bytes) -> int:
    """What tells a row from what it is no longer, given all its fields with `BETWEEN` between them."""
    return crc32(fields, crc32(key))


def audited_share(client: redis.Redis, name: str, marker: Marker, known: Receipt) -> int | None:
    """How many rows of the share whose turn it is are online as the audit found them; None where one is not.

    Rows that a service pushed since take the place of others, so they are a difference too.
    """
    fields = {view: [*keys.fields(of.get("online_name", view), of["features"])] for view, of in marker.views.items()}
    until = {view: marker.until(view) for view in marker.views}
    sums, rows = dict.fromkeys(marker.views, 0), 0
    for batch in keys.batches(keys.of_project(client, name, lambda key: share_of(key) == known.turn)):
        asked = [(key, view) for key in batch for view in _views_of(keys.join_keys(key, name), marker)]
        with client.pipeline(transaction=False) as pipe:
            for key, view in asked:
                pipe.hmget(key, fields[view])
            answers = keys.answers(pipe.execute(raise_on_error=False))
        for (key, view), row in zip(asked, answers, strict=True):
            if row is None:
                return None
            time, limit = None if row[0] is None else event_time(row[0]), until[view]
            if row[0] is None or (time is not None and limit is not None and time > limit):
                continue
            sums[view] += fingerprint(key, BETWEEN.join(ABSENT if field is None else field for field in row))
            rows += 1
    return rows if all(sums[view] == sums_of[known.turn] for view, sums_of in known.shares.items()) else None


def _views_of(kind: tuple[str, ...] | None, marker: Marker) -> list[str]:
    return [view for view, content in marker.views.items() if tuple(content["join_keys"]) == kind]


def time_field(marker: Marker, view: str) -> str:
    """The field that holds the event time of a published view's row."""
    return keys.time_field(marker.views[view].get("online_name", view)).decode()


def stamp_file(project: Project) -> Path:
    """The file that says which version the registry was made for."""
    file: Path = settings(project)["registry_file"]
    return file.with_suffix(".json")


def registry_is(project: Project, version: str) -> bool:
    """True when the registry file is the one that was made for this version, byte for byte."""
    try:
        stamp = read_json(stamp_file(project))
        return bool(stamp == {"version": version, "sha256": sha256(settings(project)["registry_file"])})
    except (TableError, OSError):
        return False


EXPIRING = "expiring"
"""The kind of a row that is equal and whose key somebody gave a time to live."""

BAD = ("missing", "stale", "different", "unexpected", EXPIRING)
"""The kinds of rows and values that are not online as the tables have them; ``newer`` ones a service pushed."""


def entity(found: Mapping[str, Any]) -> str:
    """An entity by its join keys."""
    return ", ".join(f"{key}={value}" for key, value in found.items())


def failure(receipt: Receipt) -> str:
    """What an audit that failed found, in a sentence."""
    said = []
    for view, found in receipt.audit["views"].items():
        counts = [f"{found['rows'][kind]:,} {kind}" for kind in BAD if found["rows"].get(kind)]
        if found["sample"]["different"]:
            counts.append(f"{found['sample']['different']:,} read otherwise by plain Feast")
        named = [*(first for kind in BAD for first in found["first"].get(kind, ())), *found["sample"]["first"], {}]
        if counts:
            said.append(f"{view} has {', '.join(counts)} (first: {entity(named[0])})")
    return (
        f"The online store does not hold what the feature tables say: {'; '.join(said)}; run `weakfish publish`, which "
        "writes these rows again, and see reports/publish.json."
    )
