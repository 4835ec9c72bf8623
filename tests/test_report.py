"""The report: what it says in which state, that it is one safe offline file, and that a browser shows it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from projects import git

from reports import (
    HOSTILE,
    STAGES,
    START,
    audited,
    check,
    fail_gate,
    features,
    good_run,
    html,
    labels,
    metrics,
    run,
    shown,
    verdict,
    write,
)
from weakfish.contracts.ledgers import Run, write_run
from weakfish.project.paths import Project
from weakfish.report.inputs import StageRow, read
from weakfish.report.overall import overall
from weakfish.report.page import render
from weakfish.report.summary import print_summary


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose last run went well."""
    return good_run(tmp_path)


def states(root: Path, since: datetime | None = None) -> dict[str, str]:
    return {row.stage: row.state for row in read(root).rows(since)}


def test_a_browser_without_network_shows_a_good_run_and_asks_for_nothing(root: Path, browser: Browser) -> None:
    browser.open(render(root))
    assert shown(browser, "h1") == "Passed"
    assert "0.973" in shown(browser, "#metrics-1")
    assert "97.2 %" not in shown(browser, "#quarantine")
    assert len(browser.requested()) == 1
    assert browser.complaints() == []


def test_the_page_refers_to_nothing_outside_itself(root: Path) -> None:
    page = html(root)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", page)
    assert set(re.findall(r'(?:src|href)="([^#"][^"]*)"', page)) == {"data:,"}


def test_nothing_runs_but_the_one_script_whose_hash_the_policy_names(root: Path, browser: Browser) -> None:
    page = html(root)
    (policy,), (script,) = re.findall(r"script-src ([^;]*);", page), re.findall(r"<script>(.*?)</script>", page, re.S)
    assert policy == f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    assert not re.search(r"\son\w+=|javascript:|eval\(|new Function", page)
    injected = "<script>document.title='owned'</script><p onclick=\"document.title='owned'\" id=trap>x</p>"
    (root / "reports/index.html").write_text(page.replace("</main>", f"{injected}</main>"))
    browser.open(root / "reports/index.html")
    browser.evaluate("document.getElementById('trap').click()")
    assert browser.evaluate("document.title") == f"Passed · {root.name}"
    assert len(browser.complaints()) == 2


def test_a_failed_gate_makes_the_page_red_and_says_what_to_do(root: Path, browser: Browser) -> None:
    fail_gate(root)
    browser.open(render(root))
    assert shown(browser, "h1") == "Failed: the events table is not fit for use"
    cause = " ".join(shown(browser, "#causes article.failed").split())
    assert "7 rows do not meet unique(order_id) (0.6 %). Joins multiply." in cause
    assert "correct the expectation in validation/events.py." in cause
    assert "o-17" in shown(browser, "#checks tr.failed")
    assert "The pipeline stopped at accept" in shown(browser, "#verdict")
    red, green, blue = map(
        int, re.findall(r"\d+", browser.evaluate("getComputedStyle(document.querySelector('h1')).color"))[:3]
    )
    assert red > 2 * green
    assert red > 2 * blue


def test_stages_after_a_failed_one_are_not_run_and_have_no_figures(root: Path) -> None:
    fail_gate(root)
    rows = {row.stage: row for row in read(root).rows()}
    assert [row.state for row in rows.values()] == ["run", "run", "failed", *["not run"] * 5]
    assert rows["label"] == StageRow("label", "not run")


def test_sections_of_stages_that_were_not_reached_are_tagged(root: Path, browser: Browser) -> None:
    fail_gate(root)
    browser.open(render(root))
    for heading in ("#metrics-1 summary", "#h-labels-1"):
        assert "from an earlier run" in shown(browser, heading)
    assert "from an earlier run" in shown(browser, "#checks .group:last-child summary")
    assert "from an earlier run" not in shown(browser, "#checks .group summary")
    assert "0.973" not in shown(browser, "#verdict")


def test_nothing_of_a_good_run_is_tagged(root: Path) -> None:
    assert "from an earlier run" not in html(root)


def test_a_first_gate_that_fails_has_only_a_verdict_and_a_ledger(tmp_path: Path) -> None:
    write(tmp_path, "dvc.yaml", {"stages": {stage: {} for stage in STAGES}})
    verdict(tmp_path, "events", "failed", check("unique(order_id)", status="failed", unexpected=7))
    write(
        tmp_path,
        "reports/ledger/ingest.json",
        {"stage": "ingest", "rows_in": 9, "rows_out": 9, "quarantined": None, "reasons": {}},
    )
    assert overall(tmp_path).verdict == "failed"
    assert states(tmp_path)["accept"] == "failed"
    assert "Failed: the events table is not fit for use" in html(tmp_path)


def test_too_many_bad_rows_are_named_with_the_limit(root: Path) -> None:
    verdict(root, "events", "failed", check("a", status="failed"), quarantined=90, quarantined_share=0.075)
    assert "events: 7.5 % of the rows are bad; at most 5.0 % may be quarantined." in overall(root).what


def test_a_later_gate_fails_and_earlier_sections_stay_current(root: Path) -> None:
    verdict(root, "labels/fraud", "failed", check("mean(p_fraud)", status="failed", observed=0.7))
    assert states(root)["gate_labels@fraud"] == "failed"
    assert states(root)["label"] == "run"
    page = html(root)
    assert "from an earlier run" not in page[page.index('id="labels-1"') :].split("</section>")[0]
    assert "from an earlier run" in page[page.index('id="metrics-1"') :].split("</section>")[0]


def test_warnings_and_rows_set_aside_warn(root: Path) -> None:
    aside = check("not_null(placed_at)", status="quarantined", unexpected=30, unexpected_share=0.025)
    verdict(
        root,
        "events",
        "warned",
        aside,
        check("share(amount)", severity="warning", status="warned", unexpected=1, unexpected_share=1e-5),
    )
    found = overall(root)
    assert found.verdict == "warned"
    assert found.what[:2] == (
        "30 rows do not meet `not_null(placed_at)` (2.5 %) and were quarantined. It matters.",
        "1 row does not meet `share(amount)` (<0.1 %). It matters.",
    )
    row = next(row for row in read(root).rows() if row.stage == "validate_events")
    assert (row.passed, row.warned, row.failed) == (0, 2, 0)


def test_a_stage_that_stopped_fails_the_page_with_its_message(root: Path) -> None:
    run(root, "label", 70, exit_code=2, message="Labeling function 'x' raised KeyError.")
    found = overall(root)
    assert found.verdict == "failed"
    assert found.what[0] == "`label` ended with exit code 2: Labeling function 'x' raised KeyError."
    assert "raised KeyError" in html(root)


def test_the_report_stage_itself_never_fails_the_page(root: Path) -> None:
    run(root, "report", 70, exit_code=3, message="No disk.")
    assert overall(root).verdict == "passed"
    run(root, "report", 70, exit_code=None)
    assert overall(root).verdict == "passed"


def test_a_stage_that_was_killed_fails_the_page(root: Path) -> None:
    run(root, "label", 70, exit_code=None)
    assert overall(root).what[0] == "`label` began and never ended: it was killed."
    assert states(root)["evaluate"] == "not run"


def test_a_stage_at_work_is_no_verdict_yet(root: Path) -> None:
    run(root, "label", 70, exit_code=None)
    lock = root / ".weakfish/locks/label.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(str(os.getpid()))
    assert (overall(root).verdict, overall(root).headline) == ("warned", "Still running")
    assert (states(root)["label"], states(root)["evaluate"]) == ("running", "not run")
    os.utime(lock, (0, 0))  # the number is another process's now
    assert overall(root).what[0] == "`label` began and never ended: it was killed."


def test_a_gate_that_renders_before_it_exits_has_failed(root: Path) -> None:
    fail_gate(root)
    run(root, "accept", 61, exit_code=None)
    lock = root / ".weakfish/locks/accept.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(str(os.getpid()))
    assert (overall(root).verdict, states(root)["accept"]) == ("failed", "failed")
    said = "`label`, `validate_labels@fraud`, `gate_labels@fraud` and 2 more did not run."
    assert said in overall(root).sentence


def test_a_failed_stage_whose_outs_dvc_has_brought_back_is_cached(root: Path) -> None:
    run(root, "accept", 61, exit_code=1, message="The gate was shut.")
    assert states(root)["accept"] == "failed"
    (root / "data/events").mkdir(parents=True)
    assert states(root)["accept"] == "cached"
    assert overall(root).verdict == "passed"


def test_stages_that_did_not_run_since_are_cached(root: Path) -> None:
    found = states(root, since=START + timedelta(minutes=3))
    assert found == {stage: "cached" if place < 3 else "run" for place, stage in enumerate(STAGES)}


def test_stages_without_a_record_are_cached_if_their_outs_exist(root: Path) -> None:
    for stage in ("accept", "label"):
        (root / f".weakfish/runs/{stage}.json").unlink()
    (root / "data/events").mkdir(parents=True)
    assert (states(root)["accept"], states(root)["label"]) == ("cached", "not run")


def test_the_run_of_a_stage_whose_name_holds_a_slash_is_found(root: Path) -> None:
    stage = "validate_labels@shop/fraud"
    write(root, "dvc.yaml", {"stages": {**{name: {} for name in STAGES}, stage: {}}})
    write_run(Project(root), Run(stage, START, START + timedelta(seconds=3), 0, None, 3.0))
    row = next(row for row in read(root).rows() if row.stage == stage)
    assert (row.state, row.seconds) == ("run", 3.0)


def test_stage_rows_hold_counts_of_rows_and_checks(root: Path) -> None:
    rows = {row.stage: row for row in read(root).rows()}
    assert rows["accept"] == StageRow(
        "accept", "run", 1200, 1167, 33, seconds=9.0, started_at=START + timedelta(minutes=2)
    )
    assert (rows["validate_events"].passed, rows["validate_labels@fraud"].passed) == (2, 1)


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_the_window(root: Path, browser: Browser, width: int, scheme: Any) -> None:
    fail_gate(root)
    long = "a_name_that_nothing_breaks_" * 6
    verdict(root, long, "failed", check(f"unique({long})", status="failed", keys=[long], why=long, error=long))
    browser.open(render(root), width=width, scheme=scheme)
    assert browser.evaluate("document.documentElement.scrollWidth") == width


def test_dark_and_light_differ(root: Path, browser: Browser) -> None:
    colours = []
    schemes: tuple[Any, Any] = ("light", "dark")
    for scheme in schemes:
        browser.open(render(root), scheme=scheme)
        colours.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]


def test_tables_and_pictures_say_what_they_are(root: Path, browser: Browser) -> None:
    fail_gate(root)
    browser.open(render(root))
    assert browser.evaluate("[...document.querySelectorAll('table')].every(t => t.caption?.textContent.trim())")
    assert browser.evaluate("[...document.querySelectorAll('th')].every(t => t.scope)")
    pictures = "svg:not([aria-hidden=true])"
    assert browser.evaluate(f"[...document.querySelectorAll('{pictures}')].length") >= 5
    assert browser.evaluate(
        f"[...document.querySelectorAll('{pictures}')].every(s => s.role == 'img' && s.querySelector('title'))"
    )
    assert browser.evaluate("[...document.querySelectorAll('.scroll')].every(s => s.tabIndex == 0)")
    assert browser.evaluate("[...document.querySelectorAll('a')].every(a => document.querySelector(a.hash))")


def test_hostile_strings_are_shown_and_do_nothing(root: Path, browser: Browser) -> None:
    write(root, "dvc.yaml", {"stages": {**{stage: {"desc": HOSTILE} for stage in STAGES[:-1]}, HOSTILE: {}}})
    aside = check(
        HOSTILE, status="quarantined", unexpected=1, keys=[HOSTILE, {"a": HOSTILE}], why=HOSTILE, error=HOSTILE
    )
    verdict(root, HOSTILE.replace("/", ""), "warned", aside)
    hostile = json.loads(json.dumps({"tasks": {"fraud": labels()}}).replace("fraud", "@").replace("large_amount", "@@"))
    hostile["tasks"]["@"]["functions"][0]["doc"] = hostile["tasks"]["@"]["by_partition"][0]["partition"] = "@"
    for file, content in {"labeling_functions": hostile, "metrics": {"tasks": {"@": metrics()}}}.items():
        write(root, f"reports/{file}.json", json.loads(json.dumps(content).replace("@", json.dumps(HOSTILE)[1:-1])))
    write(root, "reports/ledger/accept.json", {"quarantined": 1, "reasons": {HOSTILE: 1}})
    run(root, "label", 70, exit_code=2, message=HOSTILE)
    browser.open(render(root))
    assert browser.evaluate("document.title") == f"Failed: label stopped · {root.name}"
    assert browser.evaluate("document.querySelectorAll('script, img, iframe, object').length") == 1  # our own script
    assert HOSTILE.replace("`", "") in shown(browser, "#causes").replace("`", "")
    assert browser.evaluate("document.body.textContent").count("document.title='owned'") > 20
    assert browser.complaints() == []


def test_values_that_might_quote_a_row_are_not_shown(root: Path) -> None:
    checks = [
        check(f"c{n}", status="warned", unexpected=None, observed=value)
        for n, value in enumerate(["Dear sir", ["Dear sir"], 41.25])
    ]
    verdict(root, "events", "warned", *checks)
    page = html(root)
    assert "Dear sir" not in page
    assert "41.25" in page


@pytest.mark.parametrize(
    "gone",
    [
        *("dvc.yaml", "dvc.lock", ".weakfish", "reports/validation", "reports/ledger", "reports/gates"),
        *("reports/labeling_functions.json", "reports/metrics.json", "reports/plots"),
    ],
)
def test_the_page_is_made_of_whatever_there_is(root: Path, gone: str) -> None:
    (root / gone).rename(root / "elsewhere")
    assert re.search("<span>Passed( so far)?<", html(root))


def test_a_run_that_has_not_come_to_its_end_passed_so_far(root: Path) -> None:
    (root / ".weakfish/runs/evaluate.json").unlink()
    found = overall(root)
    assert (found.verdict, found.headline) == ("passed", "Passed so far")
    assert found.sentence.endswith(" Not run yet: `evaluate`.")


def test_without_anything_the_page_says_how_to_begin(tmp_path: Path) -> None:
    assert overall(tmp_path).verdict == "empty"
    assert "Run <code>weakfish run</code>" in html(tmp_path)


@pytest.mark.parametrize(
    "text", ["", '{"tasks": ', "[]", '"text"', "[" * 100_000, '{"tasks": {"x": 7}}', "\x00", '{"verdict": "perhaps"}']
)
@pytest.mark.parametrize(
    "file",
    [
        "reports/validation/events.json",
        "reports/metrics.json",
        "reports/labeling_functions.json",
        ".weakfish/runs/label.json",
    ],
)
def test_a_file_that_cannot_be_read_fails_the_page(root: Path, file: str, text: str) -> None:
    (root / file).write_text(text)
    found = overall(root)
    assert found.verdict == "failed"
    assert f"`{file}` cannot be read" in found.what[0]
    assert f"Delete `{file}` and run `dvc repro`." in found.todo
    assert file in html(root)


@pytest.mark.parametrize("file", ["dvc.yaml", "dvc.lock"])
def test_a_pipeline_file_that_cannot_be_read_fails_the_page(root: Path, file: str) -> None:
    (root / file).write_bytes(b"stages: [\xff")
    assert overall(root).todo[0] == f"Repair `{file}`, or restore it from git."
    html(root)


def test_bytes_that_are_not_text_and_folders_in_place_of_files_fail_the_page(root: Path) -> None:
    (root / "reports/metrics.json").write_bytes(b"\xff\xfe")
    (root / "reports/plots/roc.json").unlink()
    (root / "reports/plots/roc.json").mkdir()
    causes = overall(root).causes
    assert [cause.title.split("`")[1] for cause in causes] == ["reports/metrics.json", "reports/plots/roc.json"]
    html(root)


def test_numbers_that_are_none_are_left_out(root: Path) -> None:
    content = json.dumps({"tasks": {"fraud": metrics()}}).replace("0.9731", "NaN").replace("0.9412", "Infinity")
    (root / "reports/metrics.json").write_text(content)
    (root / "reports/plots/roc.json").write_text('[{"model": "m", "fpr": NaN, "tpr": 0.5}, {"model": "m"}, {}]')
    assert "nan" not in re.findall(r'(?:x|y|cx|cy|width|height|d)="([^"]*)"', html(root).lower())


def test_a_model_without_metrics_says_why(root: Path) -> None:
    nothing = {"value": None, "minimum": None, "interval": None, "reason": "No test row is of class fraud."}
    write(
        root, "reports/metrics.json", {"tasks": {"fraud": {"models": {"text_weak": {"auc": nothing, "f1": nothing}}}}}
    )
    assert html(root).count("No test row is of class fraud.") == 1


def test_page_and_terminal_say_which_class_figures_are_about_and_what_they_are_worth(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    useless = "It decides no better than always answering fine: its balanced accuracy is 0.50, that of a constant 0.50."
    moved = "By the votes, fraud is 5.0 % of the test rows and was 40.0 % of those that were learned from."
    found = metrics()
    models = found["models"]
    for of in models.values():
        of["average_precision"] = {"value": 0.4321, "minimum": 0.4, "interval": [0.4, 0.5]}
    found |= {
        "positive": "fraud",
        "positive_why": "it is the rarer class of dev gold",
        "no_better": {"label_model": useless},
        "share": {"sentence": moved, "corrected": True},
        "uncorrected": {"text_weak": {"f1": {"value": 0.1234}, "auc": models["text_weak"]["auc"]}},
    }
    write(root, "reports/metrics.json", {"tasks": {"fraud": found}})
    page = html(root)
    about = "Average precision and F1 are those of fraud: it is the rarer class of dev gold."
    assert all(sentence in page for sentence in (about, useless, moved))
    assert page.count("raw 0.123") == 1 == page.count("<small>raw")
    assert "Average precision of fraud with its bootstrap interval" in page
    assert "Average precision of the labels of fraud" in page
    out = io.StringIO()
    print_summary(root, file=out)
    said = out.getvalue()
    assert all(sentence in said for sentence in (about, f"Label model: {useless}", moved))
    assert re.search(r"fraud, test +Av. prec. +F1 +AUC +Coverage", said)
    assert "the labels of fraud: it decides no better than always answering fine" in said


def test_the_same_inputs_give_the_same_page_and_nothing_is_left_beside_it(root: Path) -> None:
    assert html(root) == html(root)
    assert [file.name for file in (root / "reports").iterdir() if file.name.startswith(".")] == []


def test_data_versions_tell_what_changed_since_the_commit(root: Path) -> None:
    git(root, "init", "--quiet")
    git(root, "add", "dvc.lock")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "m")
    lock = (root / "dvc.lock").read_text()
    (root / "dvc.lock").write_text(lock.replace("0123456789abcdef", "fedcba9876543210", 1))
    page = html(root)
    assert re.search(r'data/events.*fedcba98.*2\.0 kB.*class="warn">changed<', page)
    assert re.search(r"data/labels.*01234567.*>same<", page)


def test_the_summary_is_plain_and_fits_120_columns(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    print_summary(root, since=START + timedelta(minutes=3), file=out)
    lines = out.getvalue().splitlines()
    assert "\x1b" not in out.getvalue()
    assert max(map(len, lines)) <= 120
    words = [line.split() for line in lines]
    assert ["accept", "1,200", "1,167", "33", "cached"] in words
    assert ["evaluate", "1,200", "1,200", "9.0", "run"] in words
    assert ["Label", "model", "0.941", "0.941", "0.941"] in words
    assert "Passed" in lines


def test_the_summary_of_a_failed_run_has_no_metrics(root: Path) -> None:
    fail_gate(root)
    out = io.StringIO()
    print_summary(root, file=out)
    assert "Label model" not in out.getvalue()
    assert "Failed: the events table is not fit for use" in out.getvalue()


def test_features_say_what_is_offline_what_is_published_and_how_fresh_it_is(root: Path, browser: Browser) -> None:
    features(root)
    browser.open(render(root))
    section = shown(browser, "#features")
    assert "Published as of 2024-03-31 12:00: version abcdef01, 1 view." in section
    row = shown(browser, "#features tbody tr").split()
    assert row[:2] == ["customer_activity", "customer"]
    assert {"1,500", "321", "24.0", "2024-01", "2024-03"} <= set(row)
    assert row[-2:] == ["5", "hours"]
    assert "another version is published" not in section
    assert browser.complaints() == []


def test_training_sets_say_what_made_them(root: Path, browser: Browser) -> None:
    features(root)
    browser.open(render(root))
    section = shown(browser, "#training")
    assert "1,000 rows, one per label, with 2 features of the service fraud_v1" in section
    assert "labels from 1 labeling function" in section
    assert "features/customer_activity" in section
    assert "0.67.0" in section
    assert "other versions" not in section


def test_what_was_made_from_other_versions_is_said(root: Path, browser: Browser) -> None:
    features(root)
    manifest = root / "data/features/customer_activity.manifest.json"
    manifest.write_text(manifest.read_text().replace('"f1"', '"f2"'))
    browser.open(render(root))
    assert "another version is published" in shown(browser, "#features")
    assert "Made from other versions" in shown(browser, "#training")


def test_features_of_stages_that_were_not_reached_are_tagged(root: Path) -> None:
    features(root)
    assert "from an earlier run" not in html(root)
    fail_gate(root)
    page = html(root)
    for section in ("features", "training"):
        assert "from an earlier run" in page[page.index(f'<section id="{section}"') :].split("</section>")[0]


def test_published_features_say_that_all_were_audited(root: Path, browser: Browser) -> None:
    features(root)
    audited(root, equal=319, newer=2)
    browser.open(render(root))
    section = shown(browser, "#audit")
    assert "Version abcdef0123 as of 2024-03-31 12:00. passed" in " ".join(section.split())
    row = " ".join(shown(browser, "#audit tbody tr").split())
    assert row == "customer_activity 1,500 321 2024-03-31 07:00 319 0 0 0 0 2 100 of 100"
    assert overall(root).verdict == "passed"
    assert browser.complaints() == []


def test_an_audit_that_failed_fails_the_page_and_names_the_first_keys(root: Path, browser: Browser) -> None:
    features(root)
    audited(root, equal=320, different=1)
    browser.open(render(root))
    assert overall(root).verdict == "failed"
    assert "customer_activity: 1 different" in shown(browser, "#causes")
    assert "customer=c7" in shown(browser, "#audit")
    assert "orders_30d" in shown(browser, "#audit details[open]")
    assert browser.complaints() == []


def test_published_features_of_a_revision_say_so(root: Path) -> None:
    features(root)
    file = root / "reports/publish.json"
    revision = {"name": "v1.2", "commit": "0123456789abcdef"}
    write(root, "reports/publish.json", {**json.loads(file.read_text()), "revision": revision})
    page = html(root)
    assert "This is the revision v1.2 (0123456)" in page
    assert "Nothing was audited" in page


def test_features_that_are_not_published_say_so(root: Path) -> None:
    features(root)
    (root / "reports/publish.json").unlink()
    (root / "data/training/fraud.manifest.json").unlink()
    page = html(root)
    assert "Nothing is published yet" in page
    assert 'id="training"' not in page


def test_a_project_without_features_has_no_sections_of_them(root: Path) -> None:
    page = html(root)
    assert 'id="features"' not in page
    assert 'id="training"' not in page


@pytest.mark.parametrize(
    "file",
    ["data/features/customer_activity.manifest.json", "reports/publish.json", "data/training/fraud.manifest.json"],
)
def test_a_manifest_that_is_cut_off_fails_the_page_and_is_named(root: Path, file: str) -> None:
    features(root)
    (root / file).write_text('{"rows": 1')
    assert overall(root).verdict == "failed"
    assert file in html(root)


def test_hostile_names_of_features_stay_text(root: Path) -> None:
    features(root)
    manifest = root / "data/training/fraud.manifest.json"
    content = json.loads(manifest.read_text())
    write(
        root,
        "data/training/fraud.manifest.json",
        {**content, "columns": {HOSTILE: HOSTILE}, "feature_service": HOSTILE},
    )
    assert "<img" not in html(root)
    assert html(root).count("<script") == 1
