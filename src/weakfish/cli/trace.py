"""`trace`: what made a value of a feature, or the label of an event, as people read it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import click

from weakfish.cli.labels import AS_JSON, TASK, console, print_explanation, task_of
from weakfish.errors import UserError
from weakfish.project.paths import Project

FEW = 10
"""Events and labels that are shown; ``--json`` has all."""


@click.command()
@click.argument("words", nargs=2, metavar="ENTITY=VALUE FEATURE | label KEY")
@click.option("--at", "at", metavar="TIME", help="The value as of this time (ISO; UTC where it has no zone).")
@TASK
@AS_JSON
def trace(words: tuple[str, str], at: str | None, task: str | None, as_json: bool) -> None:
    """Trace a value of a feature, or the label of the event KEY, back to the events, code and versions that made it.

    FEATURE is named <view>__<feature>, and its value is made again from the events. Without --at it is what is served:
    by the online store where it runs, else the newest row as of the publication. With --at it is what training joins to
    an event of that time.
    """
    project, (first, second) = Project.find(), words
    if first == "label":
        if at is not None:
            raise click.UsageError("--at is for features; a label has no other time than its event.")
        from weakfish.tracing.label_trace import trace_label

        label = trace_label(project, task_of(project, task), second)
        click.echo(json.dumps(label, indent=2)) if as_json else print_label(label)
        return
    entity, sign, value = first.partition("=")
    if not (entity and sign and value):
        raise UserError(f"{first!r} is not of the form ENTITY=VALUE; write for example name=value, or label KEY.")
    if task is not None:
        raise click.UsageError("--task is for labels; the name of a feature says all.")
    from weakfish.tracing.feature_trace import trace_feature

    found = trace_feature(project, entity, value, second, at if at is None else _time(at))
    click.echo(json.dumps(found, indent=2)) if as_json else print_feature(found)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"--at {text!r} is not a time; write it as 2024-05-31T14:00:00, in UTC.") from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def print_feature(found: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Print where a value comes from, and whether its events make it again."""
    out = console(file or sys.stdout)
    ((entity, value),) = found["entity"].items()
    lines = [f"{found['feature']} of {entity}={value} is {_value(found['value'])}", ""]
    lines += _origin(found)
    for window in found["windows"]:
        since = f"{_short(window['since'])} <= " if window["since"] else ""
        of = f"{window['of']}: {window['rows']:,}"
        lines.append(f"Window      {since}{window['time']} < {_short(window['until'])} UTC, {of}")
    made = found["transform"]
    edited = ", edited since the row was made" if made["edited_since"] else ""
    lines += [
        f"Transform   {made['name']}, {_place(made)}{edited}",
        f"Made again  {_value(found['recomputed'])}: {_verdict(found)}",
    ]
    lines += [*(f"            {said}" for said in found["differs"]), *_versions(found["versions"])]
    if found["events"]:
        lines += _events("events", found["events"])
    for task, labels in found["labels"].items():
        lines += _events(f"known labels of {task}", labels)
        functions = found["functions"][task]
        lines += ["", f"{len(functions)} functions voted on their events:"] if functions else []
        lines += [f"  {each['name']}  {_place(each)}  {_votes(each['votes'])}" for each in functions]
    if found["raw_unknown"]:
        lines += ["", found["raw_unknown"]]
    for line in lines:
        out.print(line, soft_wrap=True)


def _origin(found: Mapping[str, Any]) -> list[str]:
    """What is served or was asked for, and the row that says it."""
    online, publication = found["online"], found["versions"]["publication"]
    if online:
        version = f"version {online['version'][:12]} as of {_short(online['as_of'])} UTC"
        served = f"{_value(online['value'])} by the online store, {version}"
    elif found["asked_at"]:
        served = f"asked for as of {_short(found['asked_at'])} UTC"
    elif publication:
        served = f"published as of {_short(publication['as_of'])} UTC; no online store runs"
    else:
        served = "nothing was published; this is the newest row"
    row, until = found["row"], _short(found["holds_until"])
    return [
        f"Served      {served}",
        f"Row         {row['file']}, of {_short(row['at'])} UTC; nothing came or went until {until}",
    ]


def _verdict(found: Mapping[str, Any]) -> str:
    return "equal" if found["equal"] else "different"


def _versions(versions: Mapping[str, Any]) -> list[str]:
    table, partition, publication = versions["table"], versions["partition"], versions["publication"]
    trained = [task for task, same in versions["training_sets"].items() if same]
    uses = [f"training set {task}" for task in trained]
    if publication:
        same = "" if publication["same_table"] else ", of another version of the table"
        uses.insert(0, f"publication {publication['version'][:12]}{same}")
    events = f"events {versions['events']['version'][:12]}"
    labels = [f"known labels of {task} {version[:12]}" for task, version in versions["known_labels"].items()]
    return [
        f"Versions    {_revision(versions['revision'])}",
        f"            table {table['version'][:12]}, partition {partition['name']} sha256 {partition['sha256'][:12]}",
        f"            {', '.join([events, *labels])}",
        *([f"Used by     {', '.join(uses)}"] if uses else []),
    ]


def _revision(revision: Mapping[str, Any]) -> str:
    if not revision["commit"]:
        return "not in git"
    return f"git {revision['commit'][:12]}{', with changes that are not committed' if revision['changed'] else ''}"


def _events(title: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The last rows, with where each comes from."""
    left = f", of which the last {FEW}" if len(rows) > FEW else ""
    lines = ["", f"{len(rows):,} {title}{left}:"]
    for row in rows[-FEW:]:
        label = f"known {_short(row['known_at'])}  {_shares(row['probabilities'])}  " if "known_at" in row else ""
        lines.append(
            f"  {_short(row['time'])}  {row['key']}  {label}{row['file']} row {row['row']:,}  {_raw(row['raw'])}"
        )
    return lines


def _raw(places: Sequence[Mapping[str, Any]]) -> str:
    said = [each["file"] if each["line"] is None else f"{each['file']}:{each['line']}" for each in places]
    return ", ".join(said) or "not known"


def _shares(shares: Mapping[str, float]) -> str:
    best = max(shares, key=lambda name: shares[name])
    return f"{best} {shares[best]:.4f}"


def _votes(votes: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in votes.items())


def _place(made: Mapping[str, Any]) -> str:
    if made["file"] is None:
        return f"module {made['module']}"
    return made["file"] if made["line"] is None else f"{made['file']}:{made['line']}"


def _short(time: str | None) -> str:
    """A time without what is zero and without its zone, which is UTC."""
    if time is None:
        return "undated"
    return time.replace("T", " ").removesuffix("+00:00").removesuffix(":00")


def _value(value: Any) -> str:
    return "null" if value is None else str(value)


def print_label(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print an explanation, and where the event, the functions and the model are."""
    print_explanation(found, file)
    out, event, made = console(file or sys.stdout), found["event"], found["made_of"]
    raw = _raw(event["raw"]) if event["raw"] else event["raw_unknown"]
    lines = [f"Event     {event['file']} row {event['row']:,}; raw data: {raw}"]
    if found["gold"]:
        used = "evidence" if found["gold"]["is_evidence"] else "not evidence in this task"
        lines.append(f"Gold      {found['gold']['label']} (dev), {used}")
    for each in (found["review"] or {}).get("answers", ()):
        place = f"{each['file']}:{each['line']}"
        lines.append(f"Review    {each['said']} by {each['reviewer']} ({each['purpose']}), {place}")
    if found["review"]:
        counts = found["review"]["label"] or ("nothing, they disagree" if found["review"]["is_disputed"] else "nothing")
        lines.append(f"          of which counts: {counts}")
    voted = [f"{each['name']} {_place(each)}" for each in found["functions"] if each["vote"] is not None]
    lines += [f"{'' if number else 'Functions':9} {place}" for number, place in enumerate(voted or ["none voted"])]
    for kind in ("labels", "votes"):
        lines.append(f"{kind.capitalize():9} {made[kind]['file']}, sha256 {made[kind]['sha256'][:12]}")
    lines.append(f"Versions  {_revision(made['revision'])}")
    shares = ", ".join(f"{name} {share:.6g}" for name, share in found["recomputed"].items())
    lines.append(f"Again     {shares}: {_verdict(found)}")
    for line in [*lines, *found["differs"]]:
        out.print(line, soft_wrap=True)
