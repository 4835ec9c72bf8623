"""A DuckDB for one retrieval: its memory, threads and spill files are bounded, and all of it is gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from weakfish.errors import StoreError


@dataclass(frozen=True)
class Limits:
    """What a retrieval may use: the settings of the offline store, those that are None being DuckDB's own.

    Attributes
    ----------
    memory_limit : str or None
        What DuckDB may hold in memory (``2GB``); beyond that it spills to ``temp_directory``.
    threads : int or None
    temp_directory : str or None
        The folder of spill files, from the Feast repository if relative; the system's for temporary files if None.
    repo : Path or None
        The Feast repository, from which relative paths start.
    """

    memory_limit: str | None = None
    threads: int | None = None
    temp_directory: str | None = None
    repo: Path | None = None

    @classmethod
    def of(cls, config: Any) -> Limits:
        """The limits in a Feast ``RepoConfig``, whatever its offline store."""
        store = config.offline_store
        said = {name: getattr(store, name, None) for name in ("memory_limit", "threads", "temp_directory")}
        return cls(**said, repo=None if config.repo_path is None else Path(config.repo_path))


@contextmanager
def session(limits: Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database that works in UTC and spills to a folder that goes away with it.

    Raises
    ------
    StoreError
        When a setting is none that DuckDB accepts, or the folder cannot be made.
    """
    settings: dict[str, Any] = {"memory_limit": limits.memory_limit, "threads": limits.threads}
    settings = {name: value for name, value in settings.items() if value is not None}
    try:
        parent = _parent(limits)
        folder = tempfile.TemporaryDirectory(prefix="weakfish-offline-", dir=parent)
    except OSError as error:
        raise StoreError(
            f"offline_store.temp_directory in feature_store.yaml cannot be used ({error}); name a writable folder."
        ) from error
    with folder as spill:
        try:
            connection = duckdb.connect(config={**settings, "temp_directory": spill})
        except (duckdb.Error, TypeError, ValueError) as error:
            raise StoreError(
                f"DuckDB refuses offline_store's settings in feature_store.yaml ({first_line(error)}); correct them."
            ) from error
        with connection:
            connection.execute("SET TimeZone = 'UTC'; SET parquet_metadata_cache = true")
            yield connection


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn DuckDB's errors into one sentence about ``what`` was tried; the query stays in the cause's text.

    Raises
    ------
    StoreError
        When DuckDB fails, or runs out of memory or of room for spill files.
    """
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise StoreError(
            f"{what} needs more memory than it may use ({first_line(error)}); raise offline_store.memory_limit or "
            "free room in offline_store.temp_directory (feature_store.yaml)."
        ) from error
    except duckdb.Error as error:
        raise StoreError(f"{what} failed in DuckDB: {first_line(error)}.") from error


def first_line(error: BaseException) -> str:
    """An engine's message without the query that it repeats."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def spill_folder(connection: duckdb.DuckDBPyConnection) -> Path:
    """The folder of a session's spill files."""
    return Path(connection.execute("SELECT current_setting('temp_directory')").fetchall()[0][0])


def quoted(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _parent(limits: Limits) -> str | None:
    if limits.temp_directory is None:
        return None
    folder = (limits.repo or Path()) / limits.temp_directory
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)
