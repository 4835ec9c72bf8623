"""JUnit XML: a suite per table, a case per check, in the common shape; no clock and no text of rows."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from verdicts import ASIDE, BROKEN, FAILED, NOTED, PASSED, TEXT, judged, write

from weakfish.checks.outputs import write_junit
from weakfish.contracts.verdicts import verdict_file
from weakfish.project.paths import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return judged(tmp_path, monkeypatch)


def junit(project: Project, *earlier: str) -> ElementTree.Element:
    return ElementTree.parse(write_junit(project.root, earlier)).getroot()  # noqa: S314  our own


def test_junit_has_a_suite_per_table_and_a_case_per_check(project: Project) -> None:
    write(project, "events", PASSED, FAILED, BROKEN, ASIDE, NOTED)
    root = junit(project)
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7",
        "failures": "1",
        "errors": "1",
        "skipped": "0",
    }
    events, labels = root
    assert [events.get("name"), labels.get("name")] == ["events", "labels/fraud"]
    found = {case.get("name"): [child.tag for child in case] for case in events.iter("testcase")}
    assert found == {
        "between(amount)": [],
        "unique(order_id)": ["failure"],
        "of_type(note)": ["error"],
        "not_null(placed_at)": ["system-out"],
        "mean(amount)": ["system-out"],
    }
    failure = events.find(".//failure")
    assert failure is not None
    assert failure.attrib == {"message": "It does not hold for 2 rows (1.000%).", "type": "critical"}
    assert "unique(order_id) matters.\nRows: order\ufffd-17, order-18." in (failure.text or "")
    warned = labels.findtext(".//system-out") or ""
    assert warned.startswith("warned (warning): It does not hold: 0.31, threshold 0.2.\nPSI is 0.31.")
    assert {case.get("classname") for case in labels.iter("testcase")} == {"validation.labels.fraud"}


def test_junit_has_the_common_shape(project: Project) -> None:
    write(project, "events", PASSED, FAILED, BROKEN, ASIDE)
    (project.reports / "validation/labels/fraud.json").write_text('{"table": ')
    counts = {"tests", "failures", "errors", "skipped"}
    root = junit(project, "events")
    assert (root.tag, set(root.attrib)) == ("testsuites", {"name", *counts})
    for suite in [root, *root]:
        outcomes = {"failures": "failure", "errors": "error", "skipped": "skipped", "tests": "testcase"}
        assert {count: int(suite.get(count, "")) for count in counts} == {
            count: len(list(suite.iter(tag))) for count, tag in outcomes.items()
        }
    for suite in root:
        assert (suite.tag, set(suite.attrib)) == ("testsuite", {"name", *counts})
        assert re.fullmatch("(properties )?(testcase )*", "".join(f"{child.tag} " for child in suite))
        for case in suite.iter("testcase"):
            assert set(case.attrib) == {"name", "classname"}
            assert re.fullmatch("((skipped|error|failure) )?(system-out )?", "".join(f"{child.tag} " for child in case))


def test_junit_skips_what_the_last_run_did_not_reach_and_names_what_cannot_be_read(project: Project) -> None:
    skipped = junit(project, "labels/fraud").findall("testsuite[@name='labels/fraud']/testcase/skipped")
    assert len(skipped) == 2
    for text in ('{"table": ', "[]", '{"checks": [{}]}', "[" * 100_000):
        verdict_file(project, "events").write_text(text)
        (case,) = junit(project).findall("testsuite[@name='events']/testcase")
        assert (case.get("name"), [child.tag for child in case]) == ("verdict", ["error"])


def test_junit_has_no_text_of_rows_and_no_clock(project: Project) -> None:
    write(project, "events", FAILED, BROKEN, NOTED)
    first = write_junit(project.root).read_bytes()
    assert TEXT.encode() not in first
    assert b"Dear" not in first
    assert write_junit(project.root).read_bytes() == first
