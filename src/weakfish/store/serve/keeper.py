"""Looks after what answers are made from: the connection to the online store, and the registry's current generation.

A thread of its own pings the store and looks at the registry's file twice a second. A lost store is noticed, told once,
and taken up again when it is back; a new registry takes the old one's place for the requests that come after.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import redis

from weakfish.errors import WeakfishError
from weakfish.project import Project
from weakfish.store.connection import server
from weakfish.store.connection.address import Address, explained
from weakfish.store.serve import metrics
from weakfish.store.serve.files import Stamp, registry_file, stamp_of
from weakfish.store.serve.generation import Generation
from weakfish.store.serve.settings import Settings

SECONDS = 0.5
CONNECT_SECONDS = 1.0

Say = Callable[[str], None]


class Keeper:
    """The current generation, and whether the store behind it answers; ``say`` gets a sentence when either changes."""

    def __init__(self, project: Project, settings: Settings, say: Say) -> None:
        self.project, self.settings, self.say = project, settings, say
        self.lost = False
        self.generation = Generation.load(project)
        self._refused: Stamp | None = None
        self._registry = registry_file(project)
        self._address = server.resolve(project)
        self._client: redis.Redis | None = None
        self._wake, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._look, name="keeper", daemon=True)
        self._look_at_store()

    def start(self) -> None:
        """Begin to look after things."""
        self._thread.start()

    def stop(self) -> None:
        """End that, and the connections."""
        self._over.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._client is not None:
            self._client.close()

    def doubt(self) -> None:
        """Look at the store at once: a request failed on it."""
        self._wake.set()

    def _look(self) -> None:
        while not self._over.is_set():
            self._wake.wait(SECONDS)
            self._wake.clear()
            self._look_at_store()
            self._look_at_registry()

    def _look_at_store(self) -> None:
        try:
            with explained(self._address):
                self._connected().ping()
        except WeakfishError as error:
            if not self.lost:
                self.say(f"{error} Requests get 503 until it is back.")
            self.lost = True
            self._look_elsewhere()
        else:
            if self.lost:
                self.say(f"The online store at {self._address} is back.")
            self.lost = False

    def _connected(self) -> redis.Redis:
        if self._client is None:
            self._client = _hasty(self._address, self.settings.store_seconds).client()
            self.generation.online._client = self._client
        return self._client

    def _look_elsewhere(self) -> None:
        """An embedded server that was started anew can have another port."""
        found = server.running(self.project) if self._address.embedded else None
        if found is not None and found.address != self._address:
            self._address, self._client = found.address, None

    def _look_at_registry(self) -> None:
        stamp = stamp_of(self._registry)
        if stamp is None or stamp in (self.generation.stamp, self._refused):
            return
        try:
            found = Generation.load(self.project)
        except WeakfishError as error:
            self._refused = stamp
            self.say(f"{error} The registry that was there before is served on.")
            return
        found.online._client = self._client
        self.generation, self._refused = found, None
        metrics.reloaded()
        self.say(f"A new registry is served: {', '.join(sorted(found.services)) or 'no feature service'}.")


def _hasty(address: Address, seconds: float) -> Address:
    """The address with the patience of one who has a client waiting."""
    patience: dict[str, Any] = {"socket_connect_timeout": min(CONNECT_SECONDS, seconds), "socket_timeout": seconds}
    return replace(address, more={**address.more, **patience})
