"""The `weakfish online` commands: the embedded server's life, what the store holds, what it answers."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import click

from weakfish.errors import UserError
from weakfish.project.paths import Project


@click.group()
def online() -> None:
    """The online store: start and stop the embedded server, see what is published, read an entity."""


@online.command()
def start() -> None:
    """Start the embedded server, if it does not run."""
    from weakfish.feast import server

    project = Project.find()
    named = server.named(project)
    if named:
        click.echo(f"The settings name {named}: that is used, and the embedded server is not started.")
        return
    found = server.start(project)
    click.echo(f"The embedded server answers at {found.address} (process {found.pid}).")


@online.command()
def stop() -> None:
    """Stop the embedded server; what it holds stays in data/online."""
    from weakfish.feast import server

    click.echo("The embedded server was stopped." if server.stop(Project.find()) else "No embedded server runs.")


@online.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def status(as_json: bool) -> None:
    """Say which server is used, what it holds, and whether that is up to date."""
    found = _status(Project.find())
    if as_json:
        click.echo(json.dumps(found, indent=2, sort_keys=True))
        return
    if not found["running"]:
        click.echo("The embedded server does not run; `weakfish online start` starts it, and so does publishing.")
        return
    click.echo(f"{found['server'].capitalize()} server at {found['address']}")
    if found["under_way"]:
        click.echo("A publication is under way or was cut off; `weakfish publish` goes on from there.")
    if not found["version"]:
        click.echo("Nothing is published there; `weakfish publish` does it.")
        return
    current = "up to date" if found["current"] else "out of date: run `weakfish publish`"
    click.echo(f"Published: version {found['version'][:12]} as of {found['as_of']}, {current}")
    for name, view in found["views"].items():
        click.echo(f"  {name}: {view['entities']:,} entities, {len(view['features'])} features")
    memory = f", {found['memory_bytes'] / 2**20:.1f} MiB in use" if found["memory_bytes"] is not None else ""
    click.echo(f"{found['keys']:,} keys{memory}")


@online.command()
@click.argument("entities", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def get(entities: tuple[str, ...], as_json: bool) -> None:
    """Read an entity: the values of its views, their event times and ages.

    KEY=VALUE names it by a join key, for example customer=42; more of them reach more views.
    """
    from weakfish.feast.clients import explained
    from weakfish.feast.online import read_entities
    from weakfish.feast.probe import read_marker, settings
    from weakfish.feast.server import resolve

    project = Project.find()
    named = _pairs(entities)
    address = resolve(project)
    with explained(address), closing(address.client()) as client:
        marker = read_marker(client, settings(project)["project"])
    rows = read_entities(project, named, marker)
    if as_json:
        as_of = marker.as_of if marker else None
        click.echo(json.dumps({"as_of": as_of, "views": rows}, indent=2, sort_keys=True))
        return
    for view, row in rows.items():
        click.echo("\n".join(_lines(view, row)))


def _pairs(entities: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in entities:
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            raise UserError(f"{text!r} is not of the form KEY=VALUE; write for example name=value.")
        pairs[key] = value
    return pairs


def _lines(view: str, row: dict[str, Any]) -> list[str]:
    entity = ", ".join(f"{key}={value}" for key, value in row["entity"].items())
    if row["event_timestamp"] is None:
        return [f"{view}: no such entity ({entity}): {row['status']}"]
    hours = row["age_seconds"] / 3600
    old = "" if row["status"] == "PRESENT" else f", older than the view allows: {row['status']}, nulls are served"
    lines = [f"{view} ({entity}), as of {row['event_timestamp']}, {hours:,.1f} hours old{old}"]
    width = max(map(len, row["values"]))
    return lines + [f"  {name:{width}}  {'-' if value is None else value}" for name, value in row["values"].items()]


def _status(project: Project) -> dict[str, Any]:
    from weakfish.feast import layout as keys
    from weakfish.feast import probe, server
    from weakfish.feast.clients import explained

    named = server.named(project)
    found = None if named else server.running(project)
    address = named or (found.address if found else None)
    empty: dict[str, Any] = {"version": None, "as_of": None, "current": False, "views": {}, "keys": 0}
    empty |= {"server": "external" if named else "embedded", "memory_bytes": None, "under_way": False}
    if address is None:
        return {**empty, "running": False, "address": None}
    name = probe.settings(project)["project"]
    with explained(address), closing(address.client()) as client:
        marker = probe.read_marker(client, name)
        result = {
            **empty,
            "running": True,
            "address": str(address),
            "keys": sum(1 for _ in keys.of_project(client, name)),
        }
        result["memory_bytes"] = _memory(client)
        if marker is None:
            return result
        current = probe.is_current(project, client, name, marker)
        result |= {"under_way": marker.under_way is not None, "current": current}
        return {**result, "version": marker.version, "as_of": marker.as_of, "views": marker.views}


def _memory(client: Any) -> int | None:
    """Bytes in use; None where the user may not ask."""
    import redis

    from weakfish.feast.layout import is_cluster

    try:
        if is_cluster(client):
            parts = client.info("memory", target_nodes="primaries")
            return sum(int(part["used_memory"]) for part in parts.values())
        return int(client.info("memory")["used_memory"])
    except (redis.exceptions.NoPermissionError, KeyError):
        return None
