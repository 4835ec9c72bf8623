"""Tells a URL in the environment that a stage or a gate failed: names and numbers as JSON, nothing of any row.

`docs/webhook.schema.json` documents the payload. Whatever becomes of the call, the run's result stands, and the URL,
which may hold a secret, is in no message.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from urllib import error, parse, request

from weakfish import __version__
from weakfish.checks.verdict import Finding, findings
from weakfish.contracts.verdicts import read_verdict, verdict_files
from weakfish.errors import TableError
from weakfish.project.git import git_output
from weakfish.project.paths import Project
from weakfish.project.stages import gates

URL = "WEAKFISH_WEBHOOK"
"""The environment variable that holds the URL."""

TIMEOUT = 5.0
"""Seconds that the whole call may take, the resolution of the name included."""


def tell_of_stage(project: Project, stage: str | None, exit_code: int) -> None:
    """Tell that a stage failed (None: DVC, outside of all stages), with what failed on its table if it is a gate."""
    if os.environ.get(URL):
        tell(project, stage, exit_code, "failed", _of_gate(project, stage) if exit_code == 1 else [])


def tell(project: Project, stage: str | None, exit_code: int, verdict: str, found: Sequence[Finding]) -> None:
    """Send what failed to the URL in the environment, where there is one; never raises."""
    url = os.environ.get(URL, "").strip()
    if not url:
        return
    content = {
        "project": project.root.name,
        "revision": _revision(project),
        "verdict": verdict,
        "stage": stage,
        "exit_code": exit_code,
        "checks": [asdict(finding) for finding in found],
    }
    if trouble := _post(url, content):
        print(f"weakfish: could not notify the webhook of the failure: {trouble}; check {URL}.", file=sys.stderr)


def _post(url: str, content: dict[str, Any]) -> str | None:
    """Post JSON; what went wrong, in words that have nothing of the URL."""
    outcome: list[str | None] = []
    thread = threading.Thread(target=lambda: outcome.append(_send(url, content)), daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return outcome[0] if outcome else f"it did not answer within {TIMEOUT:g} seconds"


def _send(url: str, content: dict[str, Any]) -> str | None:
    try:
        if parse.urlsplit(url).scheme not in ("http", "https"):
            return "its URL is neither http nor https"
        headers = {"Content-Type": "application/json", "User-Agent": f"weakfish/{__version__}"}
        body = json.dumps(content, allow_nan=False).encode()
        call = request.Request(url, body, headers, method="POST")  # noqa: S310  the scheme is checked above
        with _opener().open(call, timeout=TIMEOUT):
            return None
    except error.HTTPError as refusal:
        refusal.close()
        return f"it answered {refusal.code}"
    except TimeoutError:
        return f"it did not answer within {TIMEOUT:g} seconds"
    except Exception:  # whatever it says may quote the URL
        return "it could not be reached"


def _opener() -> request.OpenerDirector:
    """Opens http and https and follows no redirect, which could lead to another host."""
    opener = request.OpenerDirector()
    handlers = (request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler)
    for handler in (*handlers, request.HTTPDefaultErrorHandler, request.HTTPErrorProcessor):
        opener.add_handler(handler())
    return opener


def _of_gate(project: Project, stage: str | None) -> list[Finding]:
    """What failed on the table whose gate this stage is."""
    table = gates(verdict_files(project)).get(stage or "")
    try:
        return findings(table, read_verdict(project, table), "critical") if table else []
    except (TableError, KeyError, TypeError):
        return []


def _revision(project: Project) -> str | None:
    return (git_output(project.root, "rev-parse", "--verify", "--quiet", "HEAD", timeout=TIMEOUT) or "").strip() or None
