"""The `gate` verb: a stage opens the gate of one table; by hand it looks, at one table or all, and changes nothing."""

from __future__ import annotations

import json
import os

import click

from weakfish.checks import gates, webhook
from weakfish.checks.failing import FailOn, Look, look
from weakfish.errors import CheckFailed
from weakfish.project import Project


def is_stage(table: str | None, fail_on: FailOn) -> bool:
    """Whether a gate is to be opened: asked for as the pipeline asks, or by DVC, whatever the severity."""
    return table is not None and (fail_on == "critical" or "DVC_STAGE" in os.environ)


def gate_as_stage(project: Project, table: str, fail_on: FailOn, as_json: bool) -> None:
    """Say what does not hold, and open the gate of ``table`` or raise `CheckFailed`."""
    _say(look(project, table, fail_on, compare=False), as_json)
    gates.gate(project, table, fail_on)


def gate_by_hand(project: Project, table: str | None, fail_on: FailOn, as_json: bool) -> None:
    """Say what does not hold of ``table``, or of all that have a verdict; raise `CheckFailed` and tell the webhook."""
    seen = look(project, table, fail_on)
    _say(seen, as_json)
    try:
        seen.require()
    except CheckFailed as error:
        webhook.tell(project, "gate", error.exit_code, seen.verdict, seen.findings)
        raise


def _say(seen: Look, as_json: bool) -> None:
    click.echo(json.dumps(seen.as_json(), indent=2) if as_json else seen.lines)
