"""What time reads compare times to live with: now, or the time that the last publication answers for.

The project's setting ``publish.as_of`` and the marker in the store come in, each looked at once a second at most; a
time in nanoseconds since 1970 goes out. Reads of views without a time to live never ask.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from weakfish.errors import UserError
from weakfish.project import Project
from weakfish.store import keys

PATIENCE = 1.0
"""Seconds that a marker or setting, once looked at, is believed."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was found, and when (by the monotonic clock); ``fixed`` is None where time is now."""

    looked: float
    fixed: int | None


class Clock:
    """The clock of a Feast project's reads.

    Parameters
    ----------
    repository
        The folder of the Feast repository; outside of a Weakfish project, or without one, the clock says now.
    name
        The Feast project, which the marker belongs to.
    """

    def __init__(self, repository: Path | None, name: str) -> None:
        self.name = name
        self._root = _root(repository)
        self._settings: tuple[int, str | datetime] | None = None
        self._seen: _Seen | None = None

    def now(self, client: Any) -> int:
        """The time, with the marker read through a sync client where it is needed and old.

        Raises
        ------
        redis.RedisError
            When the marker cannot be read.
        ParamsError
            When the project's settings are malformed.
        """
        if self._is_old():
            self._see(client.get(keys.marker(self.name)) if self._follows_marker() else None)
        return self._time()

    async def now_async(self, client: Any) -> int:
        """The time, with the marker read through an async client; raises as `now` does."""
        if self._is_old():
            self._see(await client.get(keys.marker(self.name)) if self._follows_marker() else None)
        return self._time()

    def _is_old(self) -> bool:
        return self._seen is None or time.monotonic() - self._seen.looked > PATIENCE

    def _time(self) -> int:
        seen = self._seen
        return time.time_ns() if seen is None or seen.fixed is None else seen.fixed

    def _follows_marker(self) -> bool:
        return self._root is not None and self._setting(self._root) != "now"

    def _setting(self, root: Path) -> str | datetime:
        """``publish.as_of`` as params.yaml has it; the file is read again only when it changed."""
        changed = (root / "params.yaml").stat().st_mtime_ns
        if self._settings is None or self._settings[0] != changed:
            self._settings = (changed, Project(root).params.publish.as_of)
        return self._settings[1]

    def _see(self, marker: bytes | None) -> None:
        self._seen = _Seen(time.monotonic(), as_of(marker))


def as_of(marker: bytes | None) -> int | None:
    """The time that a marker answers for, in nanoseconds since 1970; None when it says none."""
    try:
        said = json.loads(marker)["as_of"] if marker else None
        return _nanoseconds(datetime.fromisoformat(said)) if said else None
    except (ValueError, TypeError, KeyError):
        return None


def _nanoseconds(moment: datetime) -> int:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(microseconds=1) * 1_000


def _root(repository: Path | None) -> Path | None:
    try:
        return None if repository is None else Project.find(Path(repository)).root
    except UserError:
        return None
