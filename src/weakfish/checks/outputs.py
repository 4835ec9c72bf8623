"""What programs outside are told: ``reports/junit.xml`` for CI systems, and a webhook when a stage or a gate failed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib import error, parse, request
from xml.etree import ElementTree

from weakfish import __version__
from weakfish.checks.gates import Finding, findings
from weakfish.contracts.record import read
from weakfish.contracts.verdicts import Check, Status, Verdict, read_verdict, verdict_files
from weakfish.errors import TableError
from weakfish.files import whole_file
from weakfish.project.git import git_output
from weakfish.project.paths import Project
from weakfish.project.stages import gates

_OUTCOMES = {"failure": "failures", "error": "errors", "skipped": "skipped"}
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML may hold."""


def write_junit(root: Path, earlier: Collection[str] = ()) -> Path:
    """Write ``reports/junit.xml`` from the verdicts below ``root``, and return its path.

    A check that failed is a failure, one that could not be run an error. One that warned, set rows aside or was noted
    is a test case that passed and says so in its ``system-out``: JUnit knows no warnings, `weakfish gate --fail-on
    warning` does. A verdict that cannot be read is an error.

    Parameters
    ----------
    earlier
        Tables whose verdicts the last run did not reach: their test cases are skipped.
    """
    suites = ElementTree.Element("testsuites", name="weakfish")
    for table, file in verdict_files(Project(root)).items():
        suites.append(_suite(table, file, table in earlier))
    for count in ("tests", *_OUTCOMES.values()):
        suites.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    ElementTree.indent(suites)
    junit = root / "reports" / "junit.xml"
    with whole_file(junit) as part:
        ElementTree.ElementTree(suites).write(part, encoding="utf-8", xml_declaration=True)
    return junit


def _suite(table: str, file: Path, is_earlier: bool) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=_text(table))
    place = f"validation.{table.replace('/', '.')}"
    try:
        verdict = read(Verdict, file)
    except (TableError, OSError, RecursionError):
        cases = [ElementTree.Element("testcase", classname=_text(place), name="verdict")]
        _add(cases[0], "error", "The verdict cannot be read.", kind="verdict")
    else:
        properties = ElementTree.SubElement(suite, "properties")
        for name in ("verdict", "data_version", "rows", "quarantined", "rejected"):
            ElementTree.SubElement(properties, "property", name=name, value=_text(getattr(verdict, name)))
        cases = [_case(place, check, is_earlier) for check in verdict.checks]
    suite.extend(cases)
    suite.set("tests", str(len(cases)))
    for outcome, count in _OUTCOMES.items():
        suite.set(count, str(sum(case.find(outcome) is not None for case in cases)))
    return suite


def _case(place: str, check: Check, is_earlier: bool) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=_text(place), name=_text(check.check))
    status, severity = check.status, check.severity
    if is_earlier:
        _add(case, "skipped", "The last run did not come here; this verdict is of an earlier one.")
    elif status == Status.FAILED and check.error:
        _add(case, "error", "The check could not be run; its verdict says why.", _details(check), kind=severity)
    elif status == Status.FAILED:
        _add(case, "failure", _found(check), _details(check), kind=severity)
    elif status != Status.PASSED:
        ElementTree.SubElement(case, "system-out").text = _text(f"{status} ({severity}): {_details(check)}")
    return case


def _add(case: ElementTree.Element, outcome: str, message: str, text: str = "", kind: str = "") -> None:
    added = ElementTree.SubElement(case, outcome, message=_text(message))
    added.text = _text(text) or None
    if kind:
        added.set("type", _text(kind))


def _details(check: Check) -> str:
    keys = f"Rows: {', '.join(map(str, check.keys))}." if check.keys else ""
    return "\n".join(filter(None, (_found(check), check.found, check.why, check.detects, keys)))


def _found(check: Check) -> str:
    """What was found, in numbers."""
    if check.unexpected is not None:
        share = f" ({check.unexpected_share:.3%})" if check.unexpected_share is not None else ""
        return f"It does not hold for {check.unexpected} rows{share}."
    limit = "" if check.threshold is None else f", threshold {check.threshold:.6g}"
    return "It does not hold." if check.value is None else f"It does not hold: {check.value:.6g}{limit}."


def _text(value: object) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", str(value))


URL = "WEAKFISH_WEBHOOK"
"""The environment variable that holds the URL."""

TIMEOUT = 5.0
"""Seconds that the whole call may take, the resolution of the name included."""


def tell_of_stage(project: Project, stage: str | None, exit_code: int) -> None:
    """Tell that a stage failed (None: DVC, outside of all stages), with what failed on its table if it is a gate."""
    found: list[Finding] = []
    table = gates(verdict_files(project)).get(stage or "") if os.environ.get(URL) and exit_code == 1 else None
    if table:
        with contextlib.suppress(TableError):
            found = findings(table, read_verdict(project, table), "critical")
    tell(project, stage, exit_code, "failed", found)


def tell(project: Project, stage: str | None, exit_code: int, verdict: str, found: Sequence[Finding]) -> None:
    """Send what failed to the URL in the environment, where there is one; never raises."""
    url = os.environ.get(URL, "").strip()
    if not url:
        return
    revision = git_output(project.root, "rev-parse", "--verify", "--quiet", "HEAD", timeout=TIMEOUT) or ""
    content = {
        "project": project.root.name,
        "revision": revision.strip() or None,
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
