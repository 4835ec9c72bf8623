"""What the store's figures of one run share: projects on made-up feature tables, and a server that holds one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any

from benchmarks import servers, store_data, store_projects
from benchmarks.bench import Run
from benchmarks.session import ask, session
from benchmarks.store_projects import StoreProject

ACCOUNTS = 200_000
"""Rows online at scale 1."""


@dataclass(frozen=True)
class StoreBench(Run):
    """One run of the group about the store; servers that it starts end with its block."""

    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> StoreBench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    @property
    def accounts(self) -> int:
        """Accounts online."""
        return self.scaled(ACCOUNTS, 400)

    def history(self, name: str, accounts: int, hours: int, rows: int) -> StoreProject:
        """A project with so many hours of each account, and ``spine.parquet`` of ``rows`` rows in its root."""
        root = self.work / name
        store_data.histories(root / "data/features" / store_projects.VIEW, accounts, hours)
        store_data.spine(root / "spine.parquet", accounts, hours, rows)
        project = store_projects.make(root)
        ask("store_projects:apply", project=str(root))
        return project

    @cached_property
    def latest(self) -> StoreProject:
        """A project with one row per account, of the last twenty hours."""
        return self.fresh("latest")

    def fresh(self, name: str, accounts: int | None = None, *, wide: bool = False) -> StoreProject:
        """A project of its own like `latest`."""
        root = self.work / name
        table = root / "data/features" / store_projects.VIEW
        store_data.latest(table, accounts or self.accounts, store_data.present())
        project = store_projects.make(root, wide=wide)
        ask("store_projects:apply", project=str(root))
        return project

    @cached_property
    def serving(self) -> servers.Server:
        """A server that holds `latest`, written by our engine."""
        return self.filled("served", self.latest, [store_projects.VIEW])

    def filled(self, name: str, project: StoreProject, views: Sequence[str]) -> servers.Server:
        """A server that holds views of a project, written by our engine."""
        server = self.server(name)
        store_projects.settings(project, server.port)
        with session("store_sides:materialize", repo=project.ours, port=server.port, views=views) as engine:
            engine.ask(until=store_data.present().isoformat())
        return server

    @property
    def served(self) -> int:
        """The port of `serving`."""
        return self.serving.port

    def point(self, port: int) -> None:
        """Let plain Feast's repository of `latest` name a server; ours is told by the environment."""
        store_projects.settings(self.latest, port)

    def server(self, name: str) -> servers.Server:
        """An empty server that ends with the run."""
        return self.stack.enter_context(servers.redis_server(self.work / "servers" / name))

    def rounds(self, rounds: int) -> int:
        """How often sides take turns: as often as asked for, once in a smoke run."""
        return rounds if self.scale >= 1 else 1

    def sizes(self, wanted: float | None, **sizes: Any) -> dict[str, Any]:
        """What every figure tells; ``wanted`` is the least ratio that was agreed upon, if any."""
        common = {"scale": self.scale, "wanted": wanted, "ttl_days": store_projects.TTL.days, "cores": os.cpu_count()}
        return {**common, **sizes}
