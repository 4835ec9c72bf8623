"""Storage that many machines share: a bucket or folder of objects, those of tables named by the hash of their bytes.

An object never changes, so whoever puts it puts the same bytes, and nobody has to lock it. Credentials and endpoint
come from the environment (``AWS_*``, ``GOOGLE_*``, ``AZURE_*``), never from a file of the project.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from weakfish.errors import ParamsError, StorageError, UserError, WeakfishError

VARIABLE = "WEAKFISH_STORAGE"
"""Of the environment: the storage to use instead of that in ``params.yaml``."""

SCHEMES = ("s3", "gs", "az", "azure", "abfs", "abfss", "file")

RETRIES = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}
"""How long a request is tried again when the network or the service fails."""

AT_ONCE = 8
"""Objects that are put, fetched or looked for at once."""

PARTS_AT_ONCE = 4
"""Parts of 5 MB of a large object that are in memory at once, for each of those that are put."""

FRESH = timedelta(minutes=30)
"""Age up to which an object that is there already counts as just put. `weakfish gc` spares what is younger than an hour
at least, so an older one is put again before a pointer names it."""

OBJECTS = "objects"
"""The folder of objects, which are named by the SHA-256 of their bytes."""

EXPORTS = "exports"
"""The folder of what was exported: lists of hashes in JSON, of objects that `weakfish gc` spares."""

NOTES = "votes"
"""The folder of notes on votes (`weakfish.labeling.shared_votes`)."""

FLEET = "fleet"
"""The folder of files that travel between the driver of a cluster and its executors, each below its job's id."""

DAMAGED = "damaged"
"""The folder of marks for objects that were found to have other bytes than their name says: they are put again."""

PROJECTS = "projects"
"""The folder of marks of the projects that keep tables here (`weakfish.project.garbage`)."""

RUNNING, ENDED = "gc/running", "gc/ended"
"""What exists while `weakfish gc` deletes; what each of its runs leaves, other than before."""

_OF_FOLDER = re.compile(r"file://(?:/[^/\x00-\x1f\x7f]+)+")
"""An absolute path without a host and without empty parts."""

_NO_CREDENTIALS = re.compile(r"169\.254\.169\.254|latest/api/token|metadata\.google|credential", re.IGNORECASE)
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|specified bucket does not exist", re.IGNORECASE)
_OF_SYSTEM = re.compile(r"Generic LocalFileSystem error: .*\(os error (\d+)\)")
"""What is said of a folder of this machine."""

_WHY = re.compile(r"status code: (\d+ [A-Za-z ]+)|(error [a-z ]+|operation timed out)")
"""What may be repeated of an error: the rest of it may hold a header or a signed address."""


@dataclass(frozen=True)
class Setting:
    """Where objects lie, and how many megabytes of them are kept on this machine."""

    uri: str
    max_cache_megabytes: int = 20_000


def address(uri: str, where: str) -> str:
    """The address of a storage as it is used; raises `ParamsError`, which repeats nothing that may be a secret."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise ParamsError(f"{where} is no address; write it as s3://bucket/prefix or file:///folder.") from None
    if parts.scheme not in SCHEMES:
        kinds = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ParamsError(f"{where} must be an address that begins with one of {kinds}; correct it.")
    if holds_secret(uri):
        raise ParamsError(
            f"{where} must hold neither a user or password nor a query, for it is written into files and messages; "
            "put credentials into the environment."
        )
    if not (parts.path.strip("/") if parts.scheme == "file" else parts.netloc):
        raise ParamsError(f"{where} names no {'folder' if parts.scheme == 'file' else 'bucket'}; add it.")
    if parts.scheme == "file" and not _OF_FOLDER.fullmatch(uri.rstrip("/")):
        raise ParamsError(f"{where} must name a folder of this machine as file:///folder/below; correct it.")
    return uri.rstrip("/")


def holds_secret(uri: str) -> bool:
    """Whether an address has a part that may be a secret: a user or password, a query, or a fragment."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return any(sign in uri for sign in "@?#")
    of_container = parts.scheme.startswith("abfs") and not parts.password  # container@account
    return "://" in uri and bool(parts.query or parts.fragment or ("@" in parts.netloc and not of_container))


def setting_of(root: Path) -> Setting | None:
    """The storage of a project by the environment, else by ``params.yaml``; None where tables stay in ``data/``."""
    file = root / "params.yaml"
    try:
        changed = file.stat().st_mtime_ns
    except OSError:
        changed = 0
    return _setting(file, changed, os.environ.get(VARIABLE, ""))


@lru_cache
def _setting(file: Path, _: int, named: str) -> Setting | None:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):  # whoever reads the settings says so
        content = None
    given: Any = content.get("storage") if isinstance(content, dict) else None
    said = given if isinstance(given, dict) else {"uri": given}
    where = VARIABLE if named else "params.yaml: storage"
    if not (uri := named or said.get("uri")):
        return None
    megabytes = said.get("max_cache_megabytes", Setting.max_cache_megabytes)
    if type(megabytes) is not int or megabytes < 0:
        raise ParamsError(
            f"params.yaml: storage.max_cache_megabytes is {megabytes!r}; let it be a whole number, 0 or more."
        )
    return Setting(address(str(uri), where), megabytes)


@dataclass(frozen=True)
class Found:
    """An object as a listing or a look has it: its path, when it was put, by the storage's clock, and its bytes."""

    path: str
    at: datetime
    size: int


class Storage:
    """A bucket or folder, below a prefix; threads may share it, processes that were forked may not.

    Raises
    ------
    StorageError
        From all methods, when the storage cannot be reached or refuses; names its address.
    UserError
        When its bucket does not exist, or it asks for credentials.
    """

    def __init__(self, uri: str) -> None:
        try:
            from obstore.store import from_url
        except ModuleNotFoundError as error:
            raise UserError(
                f"{uri} needs the package obstore, which is not installed; `pip install 'weakfish[s3]'` adds it."
            ) from error
        self.uri = uri
        options: dict[str, Any] = {"retry_config": dict(RETRIES)}
        if uri.startswith("file:"):
            options = {"mkdir": True}
        elif any(value.startswith("http://") for name, value in os.environ.items() if "ENDPOINT" in name):
            options["client_options"] = {"allow_http": True}
        from obstore.exceptions import BaseError

        try:
            self._store = from_url(uri, **options)
        except (BaseError, OSError, ValueError) as error:  # nothing was asked yet; the cause may hold a secret
            raise UserError(
                f"{uri} cannot be opened ({type(error).__name__}); correct storage in params.yaml, or what the "
                "environment says of its service (docs/storage.md)."
            ) from None

    @staticmethod
    def object(digest: str) -> str:
        """The path of the object with a SHA-256."""
        return f"{OBJECTS}/{digest[:2]}/{digest}"

    def look(self, path: str) -> Found | None:
        """What is known of an object; None where there is none."""
        import obstore

        with self._told():
            try:
                found = obstore.head(self._store, path)
            except FileNotFoundError:
                return None
            return Found(path, found["last_modified"], found["size"])

    def get(self, path: str) -> bytes | None:
        """A small object; None where there is none."""
        import obstore

        with self._told():
            try:
                return bytes(obstore.get(self._store, path).bytes())
            except FileNotFoundError as error:
                if _NO_BUCKET.search(str(error)):
                    raise
                return None

    def put(self, path: str, content: bytes | Path, create: bool = False) -> bool:
        """Put an object whole; with ``create`` only where there is none, and False where there is one."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._told():
            try:
                obstore.put(
                    self._store,
                    path,
                    content,
                    mode="create" if create else "overwrite",
                    max_concurrency=PARTS_AT_ONCE,
                )
            except AlreadyExistsError:
                return False
        return True

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects, those that are there."""
        import obstore

        with self._told():
            for path in paths:  # a folder says of each that is gone that it is not there
                try:
                    obstore.delete(self._store, path)
                except FileNotFoundError:
                    continue

    def listing(self, prefix: str) -> Iterator[Found]:
        """All objects below a folder."""
        import obstore

        with self._told():
            for page in obstore.list(self._store, f"{prefix}/"):
                for found in page:
                    yield Found(found["path"], found["last_modified"], found["size"])

    def fetch(self, digest: str, to: Path) -> None:
        """Write the object with a SHA-256 to a file; raises `StorageError` when it is missing or has other bytes."""
        import obstore

        path, hashed = self.object(digest), hashlib.sha256()
        with self._told():
            try:
                stream = obstore.get(self._store, path).stream()
            except FileNotFoundError as error:
                if _NO_BUCKET.search(str(error)):
                    raise
                raise StorageError(
                    f"{self.uri}/{path} does not exist, though a pointer names it; run `weakfish run --force` for the "
                    "stage that made it, or put it back."
                ) from error
            with to.open("wb") as file:
                for chunk in stream:
                    hashed.update(chunk)
                    file.write(chunk)
        if hashed.hexdigest() != digest:
            with suppress(WeakfishError):  # who may only read cannot leave the mark
                self.put(f"{DAMAGED}/{digest}", b"")
            raise StorageError(
                f"{self.uri}/{path} is damaged: its bytes do not have the hash that it is named by; run `weakfish run "
                "--force` for the stage that made it, which puts it again."
            )

    def export(self, name: str, digests: Iterable[str]) -> None:
        """Note that objects were exported under a name, so that `weakfish gc` spares them until the note is deleted."""
        self.put(f"{EXPORTS}/{name}.json", json.dumps(sorted(digests)).encode())

    def keep(self, files: Mapping[str, Path]) -> None:
        """Put files as objects, by their SHA-256, so that `weakfish gc` spares them from now on for an hour at least.

        An object that `weakfish gc` may have deleted meanwhile is put again.
        """
        ended = self.get(ENDED)
        damaged = {found.path.rpartition("/")[2] for found in self.listing(DAMAGED)}.intersection(files)
        for digest in damaged:
            self.put(self.object(digest), files[digest])
        self.delete(f"{DAMAGED}/{digest}" for digest in damaged)
        while True:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(self._keep, files, files.values()))
            self._await_collection()
            if (now := self.get(ENDED)) == ended:
                return
            ended = now

    def _keep(self, digest: str, file: Path) -> None:
        path = self.object(digest)
        found = self.look(path)
        # Who puts it at the same time puts the same bytes, so no condition is needed, which some services do not know.
        if found is None or found.size != file.stat().st_size or datetime.now(UTC) - found.at > FRESH:
            self.put(path, file)

    def _await_collection(self) -> None:
        """Wait while `weakfish gc` deletes; what a killed one left behind for an hour counts no more."""
        while (running := self.look(RUNNING)) and datetime.now(UTC) - running.at < timedelta(hours=1):
            time.sleep(1)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What obstore raises becomes a sentence."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            if isinstance(error, FileNotFoundError) and isinstance(error.filename, str | Path):
                raise  # a local file, not an object
            raise self._sentence(error) from None  # the cause may hold an address with a signature

    def _sentence(self, error: Exception) -> WeakfishError:
        said, kind = str(error), type(error).__name__
        if _NO_BUCKET.search(said) or isinstance(error, FileNotFoundError):
            return UserError(f"The bucket of {self.uri} does not exist; create it, or correct storage in params.yaml.")
        refused = kind in ("PermissionDeniedError", "UnauthenticatedError")
        if refused or _NO_CREDENTIALS.search(said):
            return UserError(
                f"{self.uri} {'refuses these credentials' if refused else 'needs credentials'}; set those of its "
                "service in the environment (AWS_*, GOOGLE_* or AZURE_*)."
            )
        if known := _OF_SYSTEM.search(said):
            return StorageError(
                f"{self.uri} cannot be used ({os.strerror(int(known[1]))}); free some space there or make it writable, "
                "and run this again: what was finished is kept."
            )
        known = _WHY.search(said)
        why = known[1] or known[2] if known else kind
        return StorageError(
            f"{self.uri} cannot be used ({why.strip()}); check the network and the service, and run this again: what "
            "was finished is kept."
        )


@lru_cache
def _opened(uri: str, _: int) -> Storage:
    return Storage(uri)


def storage_of(root: Path) -> Storage | None:
    """The storage of a project, opened once in a process; None where tables stay in ``data/``."""
    setting = setting_of(root)
    return _opened(setting.uri, os.getpid()) if setting else None
