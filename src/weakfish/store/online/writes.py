"""The writing half of the online store: whatever comes in by Feast is set where it is newer than what is there.

Rows come from Feast's own calls (push, ``write_to_online_store``, other compute engines), whole columns from ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feast import FeatureView, RepoConfig

from weakfish.store.connection.address import ERRORS, explained
from weakfish.store.online.encode import Encoded, encode_rows
from weakfish.store.online.write import Written, write, write_all, write_async
from weakfish.store.refusals import refuse_rows

Rows = Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]]
"""Entity key, values by feature, event time and created time, as Feast hands them to an online store."""

BATCH = 10_000
"""Rows that are encoded at once."""

Progress = Callable[[int], Any] | None


class ColumnarWrites:
    """Writes of Feast's ``RedisOnlineStore`` that let the newer row stay, whoever comes last.

    ``key_ttl_seconds`` holds as Feast has it; ``skip_dedup`` means nothing, since comparing costs no round trip.
    """

    if TYPE_CHECKING:
        repository: Path | None
        _get_client: Callable[[Any], Any]
        _get_client_async: Callable[[Any], Any]

        def _address(self, online_store_config: Any = None) -> Any: ...

    def online_write_batch(self, config: RepoConfig, table: FeatureView, data: Rows, progress: Progress) -> None:
        """Write rows; see Feast's ``OnlineStore``.

        Raises
        ------
        UserError
            When the view holds labels, or reads them.
        StoreError
            When the server cannot be reached or refuses the rows.
        """
        self._allowed_to_write(config, table)
        with self._write_explained(config):
            client = self._get_client(config.online_store)
            for encoded in _encoded(config, table, data):
                write(client, encoded, expire=config.online_store.key_ttl_seconds)
                _told(progress, encoded)

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: Rows, progress: Progress
    ) -> None:
        """What `online_write_batch` does, in an event loop."""
        self._allowed_to_write(config, table)
        with self._write_explained(config):
            client = await self._get_client_async(config.online_store)
            for encoded in _encoded(config, table, data):
                await write_async(client, encoded, expire=config.online_store.key_ttl_seconds)
                _told(progress, encoded)

    def write_columns(
        self, config: RepoConfig, view: FeatureView, batches: Iterable[Encoded], progress: Progress = None
    ) -> Written:
        """Write rows of a view that are encoded already; see `weakfish.store.online.write.write_all`."""
        self._allowed_to_write(config, view)
        total = Written()
        with self._write_explained(config):
            client = self._get_client(config.online_store)
            with closing(write_all(client, batches, expire=config.online_store.key_ttl_seconds)) as written:
                for done in written:
                    total += done
                    if progress is not None:
                        progress(done.written + done.older)
        return total

    def _allowed_to_write(self, config: RepoConfig, view: FeatureView) -> None:
        self.repository = config.repo_path
        refuse_rows(view, config.repo_path)

    @contextmanager
    def _write_explained(self, config: RepoConfig) -> Iterator[None]:
        """Errors as sentences; where the server is gets looked up only when there is one to be told."""
        try:
            yield
        except ERRORS:
            with explained(self._address(config.online_store)):
                raise


def _encoded(config: RepoConfig, view: FeatureView, data: Rows) -> Iterator[Encoded]:
    rest = iter(data)
    while rows := list(islice(rest, BATCH)):
        yield from encode_rows(view, config, rows)


def _told(progress: Progress, encoded: Encoded) -> None:
    if progress is not None:
        progress(len(encoded))
