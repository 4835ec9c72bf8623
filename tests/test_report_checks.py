"""What the report says of checks: found against limit, trends, since when, drift, quarantine, and what to do."""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from projects import git

from reports import HOSTILE, check, good_run, html, measured, run, shown, unfold, verdict, write
from weakfish.checks.baseline import AcceptedCheck, Baseline, Entry
from weakfish.contracts.record import parse
from weakfish.contracts.verdicts import Check
from weakfish.project.paths import Project
from weakfish.report.check_tables import over_partitions, since
from weakfish.report.inputs import BaselineTable, read
from weakfish.report.overall import overall
from weakfish.report.page import render
from weakfish.report.summary import print_summary

MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose last run went well."""
    return good_run(tmp_path)


def trend(*values: float) -> dict[str, float]:
    return dict(zip(MONTHS, values, strict=False))


def as_check(fields: dict[str, Any]) -> Check:
    return parse(Check, {"expectation": "", "severity": "critical", "why": ""} | fields, "a test")


def since_of(**fields: Any) -> list[str]:
    return since("events", as_check(fields), [])


def card(browser: Browser, name: str) -> str:
    """The text of a check's row, on one line."""
    unfold(browser)
    found: str = browser.evaluate(
        "[...document.querySelectorAll('tr.check')].find(row => row.querySelector('code').textContent == "
        f"{json.dumps(name)}).innerText.replace(/\\s+/g, ' ')"
    )
    return found


def cause(browser: Browser, place: int = 0) -> str:
    """The text of a cause, on one line."""
    found: str = browser.evaluate(
        f"document.querySelectorAll('article.cause')[{place}].innerText.replace(/\\s+/g, ' ')"
    )
    return found


def accept(root: Path, version: str, through: str | None, **checks: tuple[str, float]) -> str:
    """Accept a baseline of the events and commit it; its commit."""
    found = {name: AcceptedCheck(status, value) for name, (status, value) in checks.items()}
    Baseline({"events": Entry(version, "passed", through, {"2024-01": 5}, {}, checks=found)}).write(Project(root))
    if not (root / ".git").exists():
        git(root, "init", "--quiet")
    git(root, "add", "validation/baseline.json")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "m")
    return git(root, "rev-parse", "--short", "HEAD").strip()


def test_a_check_that_did_not_hold_says_what_was_found_why_since_when_and_what_to_do(
    root: Path, browser: Browser
) -> None:
    about = {"arguments": {"column": "amount"}, "by_partition": trend(0.01, 0.02, 0.5, 0.4)}
    moved = measured("drift(amount)", 0.41, 0.2, **about)
    bad = check(
        "not_null(placed_at)",
        status="quarantined",
        unexpected=30,
        unexpected_share=0.025,
        keys=[f"o-{n}" for n in range(20)],
        by_partition=trend(0, 0, 0.1, 0),
        released=2,
    )
    verdict(root, "events", "warned", moved, bad, check("unique(order_id)"))
    browser.open(render(root))
    text = cause(browser)
    assert "30 rows do not meet not_null(placed_at) (2.5 %) and were quarantined. It matters." in text
    assert "weakfish quarantine show o-0" in text
    assert "weakfish quarantine release --rule 'not_null(placed_at)'" in text
    text = cause(browser, 1)
    assert "amount of events has changed since March 2024." in text
    assert "run weakfish accept-baseline events and commit validation/baseline.json." in text
    assert browser.evaluate("document.getElementById('checks').querySelector('details').open") is False
    text = card(browser, "drift(amount)")
    assert "warned why, and what it detects It matters. It detects: A shift of 0.07 shows. warning PSI 0.41" in text
    assert "PSI 0.41 holds: at most 0.2 It lies 0.41 from the accepted rows." in text
    assert "Beyond the limit in every partition since 2024-03." in text
    text = card(browser, "not_null(placed_at)")
    assert "critical 30 bad rows (2.5 %) holds: no bad row 2 more are let in by patches" in text
    assert "Bad rows in 1 of 4 partitions: 2024-03." in text
    assert "Bad rows, the first 20 of 28: o-0 o-1 o-2 17 more" in text
    assert (len(browser.requested()), browser.complaints()) == (1, [])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.3, 0.3, 0.3, 0.3), "Beyond the limit in every partition"),
        ((0.1, 0.3, 0.3, 0.3), "Beyond the limit in every partition since 2024-02"),
        ((0.3, 0.1, 0.1, 0.1), "Beyond the limit in 1 of 4 partitions: 2024-01"),
        ((0.1, 0.1, 0.1, 0.3), "Beyond the limit in 1 of 4 partitions: 2024-04"),
        ((0.3,), "Beyond the limit in 2024-01, the only partition"),
        ((0.1, 0.2, 0.1, 0.1), None),
    ],
)
def test_since_when_is_told_by_partition(values: tuple[float, ...], said: str | None) -> None:
    found = since_of(check="drift(a)", status="warned", observed=0.3, threshold=0.2, by_partition=trend(*values))
    assert found == ([said] if said else [])


def test_a_check_that_fails_below_its_threshold_has_its_bad_points_there() -> None:
    fields = {"check": "metric(m, auc)", "threshold": 0.9, "by_partition": trend(0.95, 0.91, 0.7)}
    fell = over_partitions(as_check({**fields, "status": "warned", "observed": 0.7}))
    held = over_partitions(as_check({**fields, "status": "passed", "observed": 0.95}))
    assert fell
    assert held
    assert [point.bad for point in fell.points] == [point.bad for point in held.points] == [False, False, True]


def test_bad_rows_that_an_expectation_bears_are_none() -> None:
    borne = {"unexpected": 7, "unexpected_share": 0.01, "arguments": {"mostly": 0.95}}
    found = since_of(check="a", status="warned", by_partition=trend(0.04, 0.06, 0.01, 0.02), **borne)
    assert found == ["Bad rows in 1 of 4 partitions: 2024-02"]


def test_a_trend_is_drawn_where_its_values_are_and_told_to_who_does_not_see_it(root: Path, browser: Browser) -> None:
    moved = measured("freshness", 0.41, 0.2, kind="features", by_partition=trend(0.01, 0.02, 0.5, 0.4))
    verdict(root, "events", "warned", moved)
    browser.open(render(root))
    picture = "document.querySelector('article.cause .spark')"
    label = browser.evaluate(f"{picture}.ariaLabel")
    assert label == "By partition, 2024-01 to 2024-04: 0.01 to 0.4, lowest 0.01 in 2024-01, highest 0.5 in 2024-03"
    heights = browser.evaluate(f"[...{picture}.querySelectorAll('circle')].map(c => c.cy.baseVal.value)")
    assert sorted(range(4), key=lambda n: -heights[n]) == [0, 1, 3, 2]
    limit = browser.evaluate(f"{picture}.querySelector('.limit').y1.baseVal.value")
    bad = browser.evaluate(f"[...{picture}.querySelectorAll('.bad')].map(c => c.cy.baseVal.value)")
    assert [height < limit for height in heights] == [False, False, True, True]
    assert bad == [height for height in heights if height < limit]
    lefts = browser.evaluate(f"[...{picture}.querySelectorAll('circle')].map(c => c.cx.baseVal.value)")
    assert all(one < other for one, other in pairwise(lefts))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.3, 0.3, 0.3, 0.3), "Beyond the limit in every partition since 2024-03"),
        ((0.3, 0.1, 0.3, 0.3), "Beyond the limit in every partition since 2024-03"),
        ((0.3, 0.1, 0.1, 0.3), "Beyond the limit in 1 of 4 partitions: 2024-04"),
        ((0.3, 0.3, 0.1, 0.1), "Beyond the limit in 2 of 4 partitions: 2024-01, 2024-02"),
    ],
)
def test_a_change_does_not_begin_in_a_month_that_was_accepted(values: tuple[float, ...], said: str) -> None:
    accepted = BaselineTable(through="2024-02", profile={"rows": {"2024-01": 10, "2024-02": 10}})
    moved = as_check(measured("drift(amount)", 0.41, 0.2, by_partition=trend(*values)))
    assert since("events", moved, [], accepted)[0] == said


def test_a_trend_over_accepted_revisions_says_since_which_one_a_check_does_not_hold(
    root: Path, browser: Browser
) -> None:
    accept(root, "e1", "2024-01", **{"drift(amount)": ("passed", 0.05), "drift(gift)": ("passed", 0.01)})
    second = accept(root, "e2", "2024-02", **{"drift(amount)": ("warned", 0.3), "drift(gift)": ("passed", 0.02)})
    third = accept(root, "e3", "2024-03", **{"drift(amount)": ("warned", 0.35), "drift(gift)": ("passed", 0.03)})
    moved = [measured(name, 0.41, 0.2) for name in ("drift(amount)", "drift(gift)", "drift(new)")]
    verdict(root, "events", "warned", *moved)
    browser.open(render(root))
    text = card(browser, "drift(amount)")
    assert f"Does not hold since the accepted revision {second} of " in text
    assert f"Held at the last accepted revision, {third} of " in card(browser, "drift(gift)")
    assert "accepted revision" not in card(browser, "drift(new)")
    drawn = "[...document.querySelectorAll('tr.check.warned')].map(row => row.querySelectorAll('.spark').length)"
    assert browser.evaluate(drawn) == [1, 1, 0]
    last = browser.evaluate("document.querySelector('tr.check .spark').ariaLabel")
    assert last.endswith("to now: 0.05 to 0.41, lowest 0.05 in " + last.split("lowest 0.05 in ")[1])


def test_checks_of_a_table_stand_together_worst_first_with_what_was_accepted(root: Path, browser: Browser) -> None:
    first = accept(root, "e1", "2024-02")
    columns = [measured(f"drift(column_{n:02})", n / 100, 0.2, by_partition=trend(0.1, n / 100)) for n in range(30)]
    verdict(root, "events", "warned", *columns, measured("volume(new)", 900, 500.0), measured("nulls(a)", 0.0, 0.1))
    browser.open(render(root))
    section = " ".join(shown(browser, "#checks .group").split())
    assert "events 22 of 32 checks passed; 1,200 rows" in section
    assert f"Accepted through 2024-02 at revision {first} of 20" in section
    rows = "[...document.querySelectorAll('#checks .group')][0].querySelectorAll('tbody tr')"
    names = browser.evaluate(f"[...{rows}].map(row => row.querySelector('code').textContent)")
    assert names[:10] == ["volume(new)", *(f"drift(column_{n:02})" for n in range(29, 20, -1))]
    assert len(names) == 32
    assert "accept-baseline events</code> and commit" in html(root)


def test_a_baseline_that_is_not_committed_says_so(root: Path) -> None:
    accept(root, "e1", None)
    Baseline({"events": Entry("e2", "passed", None, {"2024-01": 5}, {})}).write(Project(root))
    verdict(root, "events", "warned", measured("drift(a)", 0.41, 0.2))
    assert "Accepted with all its partitions, not committed yet." in html(root)


def test_while_nothing_is_accepted_a_check_says_how_to_and_nothing_warns(root: Path) -> None:
    why = "Look at the data, then run `weakfish accept-baseline`."
    about = {"severity": "info", "status": "noted", "found": "Nothing was accepted of events."}
    verdict(root, "events", "passed", measured("baseline", 0, None, **about, why=why), check("unique(order_id)"))
    page = html(root)
    assert page.count("Nothing was accepted of events.") == 1
    assert "<article" not in page
    assert overall(root).verdict == "passed"


def column(name: str, value: float, **more: Any) -> dict[str, Any]:
    """A column that drifted."""
    return measured(f"drift({name})", value, 0.2, **{"arguments": {"column": name}, **more})


def test_columns_of_a_table_that_changed_in_one_partition_are_one_cause_each_partition_its_own(root: Path) -> None:
    accept(root, "e1", "2024-01")
    sooner = [column(f"column_{n}", n / 10, by_partition=trend(0.1, 0.3, 0.3)) for n in range(3, 7)]
    later = [column("gift", 0.4, by_partition=trend(0.1, 0.1, 0.9)), column("tax", 0.3, by_partition=trend(0, 0, 0.5))]
    verdict(root, "events", "warned", *sooner, *later)
    titles = [cause.title for cause in overall(root).causes]
    assert titles == [
        "4 columns of events have changed since February 2024, `column_6` most.",
        "2 columns of events have changed since March 2024, `gift` most.",
    ]
    assert [len(cause.findings) for cause in overall(root).causes] == [4, 2]
    assert overall(root).causes[0].detail == "The others: `column_5`, `column_4` and `column_3`."


def test_what_follows_from_changed_rows_comes_after_them_and_says_so(root: Path) -> None:
    for table in ("events", "features/customer", "training/fraud"):
        verdict(root, table, "warned", column("amount", 0.4), column("gift", 0.3))
    first, last = overall(root).causes
    assert (first.title, len(first.findings)) == ("2 columns of events have changed, `amount` most.", 2)
    assert (last.title, len(last.findings)) == ("2 features changed with them.", 4)
    assert last.todo.startswith("They are computed from what changed above, so settle that first.")


def test_columns_that_are_missing_more_often_are_one_cause_with_a_bar_each(root: Path, browser: Browser) -> None:
    accept(root, "e1", "2024-01")
    for_all = {"by_partition": trend(0.04, 0.27)}
    lacking = [
        measured(f"nulls({name})", now, 0.1, arguments={"column": name, "accepted_share": then}, **for_all)
        for name, then, now in (("relay", 0.04, 0.27), ("mailer", 0.44, 0.56))
    ]
    verdict(root, "events", "warned", *lacking, column("relay", 0.5))
    (found,) = overall(root).causes
    assert found.title == "`mailer` and `relay` have been missing more often since February 2024."
    assert found.picture
    assert sorted(found.picture.bars) == [("mailer", 0.44, 0.56), ("relay", 0.04, 0.27)]
    browser.open(render(root))
    widths = browser.evaluate(
        "Object.fromEntries(['before', 'now'].map(side => [side, [...document.querySelectorAll('.compare .' + side)]"
        ".map(bar => bar.width.baseVal.value)]))"
    )
    assert widths["now"][0] / widths["before"][0] == pytest.approx(0.56 / 0.44, rel=0.02)
    assert widths["now"][1] / widths["before"][1] == pytest.approx(0.27 / 0.04, rel=0.02)
    assert "4 % → 27 %" in browser.evaluate("document.querySelector('.compare').textContent")


def test_labels_and_the_functions_that_moved_with_them_are_one_cause(root: Path) -> None:
    about = {"kind": "labels", "arguments": {"class": "fraud", "accepted": 0.44}}
    balance = measured("class_balance(fraud)", 0.18, 0.1, **about)
    rules = [
        measured(f"coverage({name})", 0.4, 0.2, kind="labels", arguments={"rule": name, "accepted": 0.1})
        for name in ("large", "gift")
    ]
    verdict(root, "labels/fraud", "warned", *rules, balance)
    (found,) = overall(root).causes
    assert found.title == "The labels of fraud have changed."
    assert found.detail == "2 labeling functions vote or are contradicted on more or fewer rows: `gift` and `large`."
    assert found.picture
    assert found.picture.bars == [("fine", pytest.approx(0.56), pytest.approx(0.82)), ("fraud", 0.44, 0.18)]
    verdict(root, "labels/fraud", "warned", *rules)
    (found,) = overall(root).causes
    assert found.title == "The labeling functions of fraud have changed."
    moved = measured("drift(p_fraud)", 0.9, 0.2, kind="labels", arguments={"column": "p_fraud"})
    verdict(root, "labels/fraud", "warned", moved)
    (found,) = overall(root).causes
    assert found.title == "The label probabilities of fraud have changed."


def test_what_moved_within_a_slice_is_told_after_what_moved_in_all_rows(root: Path) -> None:
    about = {"kind": "labels", "arguments": {"class": "fraud", "accepted": 0.44}}
    inside = {"kind": "labels", "arguments": {"slice": "small", "class": "fraud", "accepted": 0.1}}
    whole = measured("class_balance(fraud)", 0.18, 0.1, **about)
    balance = measured("class_balance(fraud, small)", 0.9, 0.1, found="Within small: it is more.", **inside)
    votes = measured("functions(small)", 3.0, 0.0, kind="labels", arguments={"slice": "small"})
    verdict(root, "labels/fraud", "warned", votes, balance, whole)
    (found,) = overall(root).causes
    assert found.title == "The labels of fraud have changed."
    assert found.picture
    assert found.picture.bars == [("fine", pytest.approx(0.56), pytest.approx(0.82)), ("fraud", 0.44, 0.18)]
    verdict(root, "labels/fraud", "warned", votes, balance)
    (found,) = overall(root).causes
    assert (found.title, found.detail) == ("The labels of fraud have changed within `small`.", "it is more.")


def test_functions_of_which_the_same_is_to_say_are_one_cause(root: Path) -> None:
    silent = [
        measured(f"rule_died({name})", 0.0, -1.0, kind="labels", arguments={"rule": name})
        for name in ("a", "b", "c", "d")
    ]
    wrong = measured("rule_right(e)", 0.1, -1.0, kind="labels", arguments={"rule": "e"}, against_baseline=False)
    verdict(root, "labels/fraud", "warned", *silent, wrong)
    titles = [cause.title for cause in overall(root).causes]
    assert titles == ["`a`, `b`, `c` and 1 more no longer vote.", "`e` is right less often than chance."]


def test_of_more_than_five_causes_the_others_fold(root: Path, browser: Browser) -> None:
    rows = [check(f"c{n}", status="quarantined", unexpected=n + 1) for n in range(7)]
    verdict(root, "events", "warned", *rows)
    assert len(overall(root).causes) == 7
    assert overall(root).what[5] == "2 more causes; the page has them."
    browser.open(render(root))
    seen = "[...document.querySelectorAll('article.cause')].filter(cause => cause.checkVisibility()).length"
    assert browser.evaluate(seen) == 5
    assert "2 more, less important" in shown(browser, "#causes")
    assert browser.evaluate(seen) == 7


@pytest.mark.parametrize(
    ("table", "found", "todo"),
    [
        (
            "events",
            column("amount", 0.41),
            "Look at what changed in the source. If it is the new normal, run `weakfish accept-baseline events` and "
            "commit `validation/baseline.json`.",
        ),
        (
            "labels/fraud",
            measured("rule_died(large)", 0, 0.0, kind="labels", status="warned", arguments={"rule": "large"}),
            "Correct `large` or remove it; if the new votes are right, run `weakfish accept-baseline labels/fraud` and "
            "commit `validation/baseline.json`.",
        ),
        (
            "labels/fraud",
            measured("label_model_degenerate(one)", 0.9, 0.5, kind="labels", against_baseline=False),
            "Look at the labeling functions before you use these labels.",
        ),
        (
            "training/fraud",
            check("serving_equals_training(customer)", kind="serving", status="warned", unexpected=1),
            "Run `weakfish publish`: it rewrites what differs.",
        ),
        (
            "features/customer",
            measured("freshness", 90, 48, kind="features", against_baseline=False),
            "See whether the source still delivers, then run `dvc repro`.",
        ),
        (
            "evaluation/fraud",
            measured("calibration(label_model)", 0.3, 0.1, kind="evaluation", against_baseline=False),
            "Compare the metrics with those of the last accepted revision before you use these labels.",
        ),
        (
            "events",
            check("unique(order_id)", status="quarantined", unexpected=1, keys=["o-17"]),
            "Look at one with `weakfish quarantine show o-17`. Correct the source, or let the rows in with "
            "`weakfish quarantine release --rule 'unique(order_id)' --why WHY`.",
        ),
        (
            "events",
            check("unique(order_id)", severity="warning", status="warned", unexpected=1, keys=["o-17"]),
            "If the data is wrong, correct its source; if it is right, correct the expectation in "
            "`validation/events.py`.",
        ),
    ],
)
def test_every_kind_of_cause_has_its_answer(root: Path, table: str, found: Any, todo: str) -> None:
    verdict(root, table, "warned", found)
    assert overall(root).todo == (todo,)


def test_a_critical_change_fails_the_page_with_its_own_answer(root: Path) -> None:
    lost = measured(
        "volume(lost)", 0.3, 0.01, severity="critical", status="failed", found="300 accepted rows are gone."
    )
    verdict(root, "events", "failed", lost)
    run(root, "accept", 61, exit_code=1, message="The gate of events is shut.")
    found = overall(root)
    assert found.headline == "Failed: the events table is not fit for use"
    assert found.what[0] == "events: 300 accepted rows are gone. It matters."
    assert found.todo[0].startswith("Look at what changed in the source.")


def quarantined(root: Path, **changes: Any) -> None:
    """Two checks set rows aside, patches let in some."""
    rules = [
        check(name, status="quarantined", unexpected=n + 2, released=2, keys=[f"o-{n}"], by_partition=trend(0, 0.1))
        for name, n in (("not_null(placed_at)", 28), ("unique(order_id)", 5))
    ]
    verdict(root, "events", "warned", *rules, check("positive(amount)", unexpected=4, released=4))
    patches = [
        {"patch": "validation/patches/dates.yaml", "who": "Ada", "why": "Checked by hand.", "rows": 8},
        {"patch": "validation/patches/old.yaml", "who": "Ada", "why": "Not needed any more.", "rows": 0},
    ]
    ledger = {"stage": "accept", "rows_in": 1200, "rows_out": 1167, "quarantined": 33, "released": 6, "repaired": 2}
    reasons = {"unique(order_id)": 5, "not_null(placed_at)": 28}
    write(root, "reports/ledger/accept.json", {**ledger, "reasons": reasons, "patches": patches, **changes})


def test_quarantine_adds_up_by_rule_with_keys_patches_and_commands(root: Path, browser: Browser) -> None:
    quarantined(root)
    browser.open(render(root))
    section = " ".join(shown(browser, "#quarantine").split())
    assert "accept: 1,200 rows read = 1,167 kept + 33 quarantined + 0 rejected; of the accepted, patches let in 6 " in (
        section
    )
    assert "do not add up" not in section
    cells = "[...document.querySelectorAll('.reasons tbody tr')].map(r => [...r.cells].map(c => c.innerText.trim()))"
    rows = browser.evaluate(cells)
    assert rows == [["not_null(placed_at)", "28", "84.8 %"], ["unique(order_id)", "5", "15.2 %"]]
    links = browser.evaluate("[...document.querySelectorAll('.reasons a')].map(a => document.querySelector(a.hash).id)")
    assert len(set(links)) == 2
    assert "4 more are let in by patches" in card(browser, "positive(amount)")
    assert "validation/patches/dates.yaml 8 Ada Checked by hand." in section
    assert "weakfish quarantine show o-28 shows one with its reasons" in section
    assert browser.complaints() == []


def test_rows_that_patches_let_in_are_told_on_the_page_and_in_the_terminal(root: Path) -> None:
    quarantined(root)
    sentence = "`accept` let in by patches: 6 rows released and 2 rows repaired."
    assert sentence in overall(root).sentence
    out = io.StringIO()
    print_summary(root, file=out)
    assert "accept let in by patches: 6 rows released and 2 rows repaired." in " ".join(out.getvalue().split())
    assert "1,167 kept, 33 quarantined, 0 rejected" in html(root)


def test_rows_that_were_lost_in_accepting_are_said(root: Path) -> None:
    quarantined(root, rows_out=1100)
    assert "These do not add up: rows were lost." in html(root)


def test_a_labeling_function_leads_to_its_checks_that_do_not_hold(root: Path, browser: Browser) -> None:
    about = {"kind": "labels", "arguments": {"rule": "large_amount"}}
    moved = [measured(f"{name}(large_amount)", 0.4, 0.2, **about) for name in ("coverage", "conflicts")]
    verdict(root, "labels/fraud", "warned", *moved, measured("rule_died(large_amount)", 5.0, 9.0, **about))
    browser.open(render(root))
    link = "[...document.querySelectorAll('.functions a')]"
    assert browser.evaluate(f"{link}.map(a => a.textContent)") == ["coverage", "conflicts"]
    assert browser.evaluate(f"{link}.every(a => document.querySelector(a.hash).matches('tr.check'))")


def test_an_evaluation_has_its_stage_and_its_verdict(root: Path) -> None:
    stages = {"evaluate": {"cmd": "e"}, "validate_evaluation@fraud": {"cmd": "v"}, "report": {"cmd": "r"}}
    write(root, "dvc.yaml", {"stages": stages})
    for number, stage in enumerate(stages):
        run(root, stage, number)
    metric = measured("metric(label_model, auc)", 0.8, 0.9, kind="evaluation", found="0.800; accepted is 0.941.")
    metric["status"] = "warned"
    nothing = {"rows": 300, "quarantined": 0, "max_quarantined_share": None}
    verdict(root, "evaluation/fraud", "warned", metric, **nothing)
    row = next(row for row in read(root).rows() if row.stage == "validate_evaluation@fraud")
    assert (row.passed, row.warned, row.failed, row.state) == (0, 1, 0, "run")
    assert "0.8 holds: at least 0.9" in re.sub(r"<[^>]*>", "", html(root)).replace("\n", " ")


def test_verdicts_of_before_trends_still_make_a_page(root: Path) -> None:
    old = {"check": "mean(amount)", "severity": "warning", "status": "warned", "observed": 7.5, "keys": None}
    rows = {"check": "unique(order_id)", "severity": "critical", "status": "failed", "unexpected": 7, "keys": ["o-1"]}
    content = {"table": "events", "verdict": "failed", "checks": [old, rows]}
    write(root, "reports/validation/events.json", content)
    page = re.sub(r"<[^>]*>", "", html(root))
    assert "7.5" in page
    assert "7 bad rows" in page
    assert "one of 7: o-1" in page


def test_hostile_text_in_what_checks_say_stays_text(root: Path, browser: Browser) -> None:
    said = {"found": HOSTILE, "detects": HOSTILE, "by_partition": {HOSTILE: 0.4, "b": 0.1}, "keys": [HOSTILE]}
    hostile = measured(f"drift({HOSTILE})", 0.41, 0.2, **said, why=HOSTILE)
    verdict(root, "events", "warned", hostile, measured("nulls(a)", 0.1, 0.2, **said))
    Baseline({"events": Entry("e", "passed", HOSTILE, {"a": 1}, {})}).write(Project(root))
    quarantined_by = {HOSTILE: 3}
    patch = {"patch": HOSTILE, "who": HOSTILE, "why": HOSTILE, "rows": 1}
    ledger = {"rows_in": 3, "rows_out": 0, "quarantined": 3, "reasons": quarantined_by, "patches": [patch]}
    write(root, "reports/ledger/accept.json", ledger)
    browser.open(render(root))
    assert browser.evaluate("document.title") == f"Passed with warnings · {root.name}"
    assert browser.evaluate("document.querySelectorAll('script, img, iframe, object').length") == 1  # our own script
    assert browser.complaints() == []


@pytest.mark.parametrize("text", ["", '{"tables": ', '{"tables": 7}', '{"tables": {"events": {"through": 7}}}'])
def test_a_baseline_that_cannot_be_read_fails_the_page_and_is_not_to_be_deleted(root: Path, text: str) -> None:
    write(root, "validation/baseline.json", {}).write_text(text)
    found = overall(root)
    assert found.verdict == "failed"
    assert "Repair `validation/baseline.json`, or restore it from git." in found.todo
    html(root)


def test_four_hundred_checks_with_trends_stay_below_two_megabytes(root: Path) -> None:
    months = [f"{2020 + n // 12}-{n % 12 + 1:02}" for n in range(36)]
    names = [f"drift(a_column_of_usual_length_{n:03})" for n in range(400)]
    for version in range(3):
        accept(root, f"e{version}", None, **dict.fromkeys(names, ("passed", 0.1 * version)))
    found = "The values of it in the new partitions (2,366 rows) lie PSI 0.04 from the accepted ones (3,545 rows)."
    checks = [
        measured(name, 0.001 * n, 0.3, by_partition={month: n / 1234 + m / 77 for m, month in enumerate(months)})
        | {
            "found": found,
            "detects": found,
            "why": found,
            "keys": [f"{key:032}" for key in range(20)] if n > 300 else [],
        }
        for n, name in enumerate(names)
    ]
    verdict(root, "events", "warned", *checks)
    assert 100_000 < render(root).stat().st_size < 2_000_000


def of_rule(name: str, rule: str, found: str, **more: Any) -> dict[str, Any]:
    about = {"kind": "labels", "arguments": {"rule": rule}, "found": found, "against_baseline": name != "rule_right"}
    return measured(f"{name}({rule})", 0.1, 0.05, **{**about, **more})


def test_what_is_wrong_with_one_labeling_function_is_told_once_with_how_its_checks_ended(root: Path) -> None:
    flipped = of_rule("rule_flipped", "a", "It votes for fine alone.", severity="critical", status="failed")
    verdict(root, "labels/fraud", "failed", flipped, of_rule("rule_right", "a", "It is right on 81 of 872 dev rows."))
    (found,) = [cause for cause in overall(root).causes if cause.findings]
    assert found.title == "`a` votes for another class than before."
    assert found.detail == "It votes for fine alone."
    assert found.states == "2 checks, 1 failed and 1 warned"


def test_of_several_functions_the_worst_is_named_with_its_figures(root: Path) -> None:
    wrong = [of_rule("rule_right", name, f"It is right on {n} of 90 dev rows.") for n, name in enumerate(("a", "b"))]
    verdict(root, "labels/fraud", "warned", *wrong)
    (found,) = overall(root).causes
    assert found.title == "`a` and `b` are right less often than chance."
    assert found.detail == "`a` most: It is right on 0 of 90 dev rows."


def test_rows_of_a_table_that_failed_are_not_said_to_be_quarantined(root: Path) -> None:
    gone = measured("schema", 1.0, 0.0, severity="critical", status="failed", found="tax is gone from 2024-03.")
    new = measured("schema(new)", 1.0, 0.0, found="New: vat.")
    rows = check("unique(order_id)", status="quarantined", unexpected=30, unexpected_share=0.025)
    verdict(root, "events", "failed", gone, new, rows)
    run(root, "accept", 61, exit_code=1)
    first, second = overall(root).causes
    assert first.title == "events: tax is gone from 2024-03. New: vat."
    assert second.title == "30 rows do not meet `unique(order_id)` (2.5 %) and would be quarantined."
