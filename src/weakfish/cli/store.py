"""The commands of the online store: what publishing and audits found, the embedded server, an entity, and serving."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from weakfish.cli.help import WholeHelp
from weakfish.errors import UserError
from weakfish.project.paths import Project

if TYPE_CHECKING:
    from weakfish.contracts.publications import Receipt
    from weakfish.feast.publish import PublishOutcome


OPEN = (
    "All users of this machine can read and write it: an older version started it, without a password. Run `weakfish "
    "online stop`, then `weakfish online start`."
)


@click.group(cls=WholeHelp)
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
    if server.is_open(found):
        click.echo(OPEN)


@online.command()
def stop() -> None:
    """Stop the embedded server; what it holds stays in data/online."""
    from weakfish.feast import server

    click.echo("The embedded server was stopped." if server.stop(Project.find()) else "No embedded server runs.")


@online.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def status(as_json: bool) -> None:
    """Show which server is used, what it holds, and whether that is up to date."""
    found = _status(Project.find())
    if as_json:
        click.echo(json.dumps(found, indent=2, sort_keys=True))
        return
    if not found["running"]:
        click.echo("The embedded server does not run; `weakfish online start` starts it, and so does publishing.")
        return
    click.echo(f"{found['server'].capitalize()} server at {found['address']}")
    if found["without_password"]:
        click.echo(OPEN)
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

    named = {}
    for text in entities:
        key, _, value = text.partition("=")
        if not key or not value:
            raise UserError(f"{text!r} is not of the form KEY=VALUE; write for example name=value.")
        named[key] = value
    project = Project.find()
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


def _lines(view: str, row: dict[str, Any]) -> list[str]:
    entity = ", ".join(f"{key}={value}" for key, value in row["entity"].items())
    if row["status"] == "INVALID":
        return [f"{view}: what is online for {entity} cannot be read: INVALID; `weakfish audit` looks at all rows"]
    if row["event_timestamp"] is None:
        return [f"{view}: no such entity ({entity}): {row['status']}"]
    hours = row["age_seconds"] / 3600
    old = "" if row["status"] == "PRESENT" else f", older than the view allows: {row['status']}, nulls are served"
    lines = [f"{view} ({entity}), as of {row['event_timestamp']}, {hours:,.1f} hours old{old}"]
    width = max(map(len, row["values"]))
    for name, value in row["values"].items():
        shown = "cannot be read: INVALID" if name in row["unreadable"] else "-" if value is None else value
        lines.append(f"  {name:{width}}  {shown}")
    return lines


def _status(project: Project) -> dict[str, Any]:
    from weakfish.feast import layout as keys
    from weakfish.feast import probe, server
    from weakfish.feast.clients import explained

    named = server.named(project)
    found = None if named else server.running(project)
    address = named or (found.address if found else None)
    result: dict[str, Any] = {
        "server": "external" if named else "embedded",
        "running": address is not None,
        "address": str(address) if address else None,
        **{"version": None, "as_of": None, "current": False, "views": {}, "keys": 0},
        **{"memory_bytes": None, "under_way": False, "without_password": found is not None and server.is_open(found)},
    }
    if address is None:
        return result
    name = probe.settings(project)["project"]
    with explained(address), closing(address.client()) as client:
        marker = probe.read_marker(client, name)
        result |= {"keys": sum(1 for _ in keys.of_project(client, name)), "memory_bytes": _memory(client)}
        if marker is not None:
            result |= {"version": marker.version, "as_of": marker.as_of, "views": marker.views}
            result["under_way"] = marker.under_way is not None
            result["current"] = probe.is_current(project, client, name, marker)
    return result


def _memory(client: Any) -> int | None:
    """Bytes in use; None where the user may not ask."""
    import redis

    from weakfish.feast.layout import is_cluster

    try:
        if is_cluster(client):
            parts = client.info("memory", target_nodes="primaries").values()
        else:
            parts = [client.info("memory")]
        return sum(int(part["used_memory"]) for part in parts)
    except (redis.exceptions.NoPermissionError, KeyError):
        return None


def of_publication(outcome: PublishOutcome | None, as_json: bool) -> str:
    """A publication: what was written, or that nothing had to be; None where there is no view.

    As JSON: ``changed``, and if so ``version``, ``as_of``, ``revision`` (``name``, ``commit``, or null) and ``rows``:
    per view those ``written``, ``unchanged``, ``removed``, and ``left`` as a service pushed them. Else how many of the
    ``rows`` were ``compared``.
    """
    if as_json:
        return json.dumps(outcome.as_json() if outcome is not None else {"changed": False}, indent=2, sort_keys=True)
    if outcome is None:
        return "There is nothing to publish: `views` in params.yaml is empty."
    if outcome.counts is None:
        return _nothing_changed(outcome)
    marker = outcome.marker
    lines = [f"Published version {marker.version[:12]} as of {marker.as_of}, all rows audited"]
    for view, rows in outcome.counts.items():
        left = f", {rows.left:,} left that a service pushed" if rows.left else ""
        lines.append(
            f"  {view}: {rows.written:,} written, {rows.unchanged:,} unchanged, {rows.removed:,} removed{left}"
        )
    lines += losses(marker.views)
    if marker.revision:
        name, commit = marker.revision["name"], marker.revision["commit"]
        lines.append(
            f"This is {name} (commit {commit[:7]}); the next `weakfish publish` restores the version in the work tree."
        )
    return "\n".join(lines)


def _nothing_changed(outcome: PublishOutcome) -> str:
    if outcome.share is None:
        return f"Nothing changed: all {outcome.compared:,} rows online were compared with the feature tables."
    from weakfish.contracts.publications import SHARES

    return (
        f"Nothing changed, and {outcome.compared:,} of {outcome.rows:,} rows (share {outcome.share + 1} of {SHARES}) "
        "are online as the last audit found them; the next run compares the next share."
    )


def of_audit(receipt: Receipt, as_json: bool) -> str:
    """An audit: rows by kind for every view. JSON is what reports/publish.json says of it, with the ``version``."""
    from weakfish.feast.probe import entity

    if as_json:
        return json.dumps({"version": receipt.version, **receipt.audit}, indent=2, sort_keys=True, ensure_ascii=False)
    lines = [f"Version {receipt.version[:12]}, every entity and feature online and in the feature tables"]
    for view, found in receipt.audit["views"].items():
        counts = ", ".join(f"{count:,} {kind}" for kind, count in found["rows"].items() if count or kind == "equal")
        sample = found["sample"]
        lines.append(
            f"  {view}: {counts}; {sample['rows'] - sample['different']:,} of {sample['rows']:,} by plain Feast"
        )
        for kind, first in found["first"].items():
            lines.append(f"    {kind}: {'; '.join(map(entity, first))}")
    return "\n".join([*lines, *losses(receipt.audit["views"])])


def losses(views: Mapping[str, Any]) -> list[str]:
    """What most entities of views lost since the publication before, a line each."""
    from weakfish.contracts.publications import Emptied
    from weakfish.contracts.record import parse

    found = {view: content["emptied"] for view, content in views.items() if content.get("emptied")}
    return [parse(Emptied, content, "the audit").sentence(view) for view, content in found.items()]


KIBIBYTE, MEBIBYTE = 1 << 10, 1 << 20


def _limit(name: str, field: str, default: float, least: float, what: str) -> Callable[[Any], Any]:
    """An option whose default says whether it is a whole number."""
    kind = click.IntRange(int(least)) if isinstance(default, int) else click.FloatRange(least)
    return click.option(name, field, default=default, show_default=True, type=kind, help=what)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=6567, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: a free one.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes that answer.")
@click.option(
    "--threads", default=8, show_default=True, type=click.IntRange(1, 256), help="Requests a process works on at once."
)
@_limit("--max-entities", "max_entities", 10_000, 1, "Entities in one request.")
@_limit("--max-body", "max_bytes", 8 * MEBIBYTE, 1, "Bytes of one request's body.")
@_limit("--max-head", "max_head", 16 * KIBIBYTE, 64, "Bytes of one request's head.")
@_limit("--max-connections", "max_connections", 1000, 1, "Connections to one process.")
@_limit("--store-timeout", "store_seconds", 2.0, 0.01, "Seconds that the online store may take.")
@_limit("--request-timeout", "request_seconds", 10.0, 0.1, "Seconds for a request's head, and then for its body.")
@_limit("--idle-timeout", "idle_seconds", 75, 1, "Seconds that an idle connection is kept open.")
@_limit("--finish-timeout", "finish_seconds", 30, 0, "Seconds that requests get when the server ends.")
@click.option("--access-log", is_flag=True, help="Log each request on stderr: client, path, status, milliseconds.")
def serve(**options: Any) -> None:
    """Serve online features over HTTP, as `feast serve` does.

    Clients send Feast's requests to /get-online-features; /openapi.json describes them. If WEAKFISH_SERVE_TOKEN is set,
    they have to show it. The address is printed on stdout, what happens on stderr; SIGTERM ends the server when it has
    answered what it was asked.
    """
    from weakfish.feast.serving import ServeSettings, processes, token

    processes.serve(Project.find(), ServeSettings(**options, token=token()))
