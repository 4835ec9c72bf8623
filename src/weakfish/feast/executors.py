"""The online store as executors reach it: an item has its address, and their own environment the login."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from ipaddress import ip_address
from typing import Any

import redis

from weakfish.engine.fleet import Item
from weakfish.errors import StoreError
from weakfish.feast import server
from weakfish.feast.clients import VARIABLE, Address, addressed, explained
from weakfish.project.paths import Project


def reach(address: Address) -> dict[str, Any]:
    """What an item says of the store: where it is, without any secret."""
    return {"address": str(address), "embedded": address.embedded, "driver": socket.gethostname()}


@contextmanager
def reached(project: Project, item: Item) -> Iterator[redis.Redis]:
    """A client of the store that an item names; its errors are sentences that name the store's address.

    Raises
    ------
    StoreError
        When it is one that only the driver's machine reaches.
    """
    address = _address(project, item["store"])
    with explained(address), closing(address.client()) as client:
        yield client


def _address(project: Project, found: Mapping[str, Any]) -> Address:
    named = addressed(found["address"])
    if found["driver"] != socket.gethostname() and any(_is_loopback(host) for host, _ in named.nodes):
        raise StoreError(
            f"The online store is at {named}, an address of the driver's own machine, which executors on "
            f"{socket.gethostname()} do not reach; let {VARIABLE} name a server that all machines reach, or publish "
            "with WEAKFISH_ENGINE=local."
        )
    if found["embedded"]:
        return server.beside(project, named.port)
    own = server.named(project)  # with what feature_store.yaml says of it, and nobody else knows
    return own if own is not None and str(own) == str(named) else named


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
