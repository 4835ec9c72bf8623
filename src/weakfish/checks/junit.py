"""Verdicts as JUnit XML, ``reports/junit.xml``: what CI systems show; a suite per table, a test case per check.

It has no clock, the same verdicts give the same bytes; and of rows it has numbers and keys, no text.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from xml.etree import ElementTree

from weakfish.contracts.record import read
from weakfish.contracts.verdicts import Check, Status, Verdict, verdict_files
from weakfish.errors import TableError
from weakfish.files import whole_file
from weakfish.project.paths import Project

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
        properties = ElementTree.SubElement(suite, "properties")
        for name in ("verdict", "data_version", "rows", "quarantined"):
            ElementTree.SubElement(properties, "property", name=name, value=_text(getattr(verdict, name)))
        cases = [_case(place, check, is_earlier) for check in verdict.checks]
    except (TableError, OSError, RecursionError):
        case = ElementTree.Element("testcase", classname=_text(place), name="verdict")
        _add(case, "error", "The verdict cannot be read.", kind="verdict")
        suite.clear()
        suite.set("name", _text(table))
        cases = [case]
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
