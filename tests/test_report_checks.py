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

from reports import HOSTILE, check, good_run, html, measured, run, shown, verdict, write
from weakfish.checks.baseline import AcceptedCheck, Baseline, Entry
from weakfish.contracts.record import parse
from weakfish.contracts.verdicts import Check
from weakfish.project.paths import Project
from weakfish.report.check_tables import over_partitions, since
from weakfish.report.inputs import stage_rows
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
    """The text of a check's card, on one line."""
    browser.evaluate("document.querySelectorAll('.folded').forEach(details => { details.open = true; })")
    return browser.evaluate(
        "[...document.querySelectorAll('article.check')].find(card => card.querySelector('h4').textContent == "
        f"{json.dumps(name)}).innerText.replace(/\\s+/g, ' ')"
    )


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
    moved = measured("drift(amount)", 0.41, 0.2, by_partition=trend(0.01, 0.02, 0.5, 0.4))
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
    text = card(browser, "drift(amount)")
    assert "warned warning check of events PSI 0.41 holds: at most 0.2 It lies 0.41 from the accepted rows." in text
    assert "It matters. Beyond the limit in every partition since 2024-03." in text
    assert "run weakfish accept-baseline events and commit validation/baseline.json." in text
    assert "A shift of 0.07 shows." in text
    text = card(browser, "not_null(placed_at)")
    assert "quarantined critical check of events 30 bad rows (2.5%) holds: no bad row" in text
    assert "Bad rows in 1 of 4 partitions: 2024-03." in text
    assert "Bad rows, the first 20 of 28: o-0 o-1 o-2 17 more 2 more are let in by patches." in text
    assert "weakfish quarantine release --rule 'not_null(placed_at)'" in text
    headings = browser.evaluate("[...document.querySelectorAll('#checks h3')].map(h => h.textContent)")
    assert headings == ["Critical: 1 does not hold", "Warning: 1 does not hold"]
    assert browser.evaluate("document.querySelector('#checks > details').open") is False
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
    moved = measured("drift(amount)", 0.41, 0.2, by_partition=trend(0.01, 0.02, 0.5, 0.4))
    verdict(root, "events", "warned", moved)
    browser.open(render(root))
    picture = "document.querySelector('article.check .spark')"
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
    drawn = (
        "[...document.querySelectorAll('article.check')].map(c => c.querySelectorAll('circle title, .marks').length)"
    )
    assert browser.evaluate(drawn) == [4, 1, 0]
    last = browser.evaluate("document.querySelector('article.check circle:last-of-type').textContent")
    assert last == "now: 0.41, does not hold"


def test_drift_is_told_biggest_first_with_what_was_accepted_and_the_others_fold(root: Path, browser: Browser) -> None:
    first = accept(root, "e1", "2024-02")
    columns = [measured(f"drift(column_{n:02})", n / 100, 0.2, by_partition=trend(0.1, n / 100)) for n in range(30)]
    verdict(root, "events", "warned", *columns, measured("volume(new)", 900, 500.0), measured("nulls(a)", 0.0, 0.1))
    browser.open(render(root))
    section = " ".join(shown(browser, "#drift").split())
    assert f"Accepted through 2024-02 at revision {first} of 20" in section
    assert "9 of 30 columns moved beyond their limits. 1 other comparison holds." in section
    assert "warned volume(new) It lies 900 from the accepted rows." in section
    assert "22 more columns of events, which moved less" in section
    assert "There is no accepted baseline yet for labels/fraud, so drift cannot be measured there." in section
    rows = "#drift .group > .scroll tbody th"
    names = browser.evaluate(f"[...document.querySelectorAll('{rows}')].map(h => h.querySelector('code').textContent)")
    assert names == [f"column_{n:02}" for n in range(29, 21, -1)]
    fills = browser.evaluate("[...document.querySelectorAll('#drift .bar .fill')].map(b => b.width.baseVal.value)")
    assert fills == sorted(fills, reverse=True)
    ticks = browser.evaluate("[...document.querySelectorAll('#drift .bar .tick')].map(t => t.x1.baseVal.value)")
    beyond = [fill > tick for fill, tick in zip(fills, ticks, strict=True)]
    assert beyond == [True] * 9 + [False] * 21
    assert "accept-baseline events</code> and commit" in html(root)


def test_a_baseline_that_is_not_committed_says_so(root: Path) -> None:
    accept(root, "e1", None)
    Baseline({"events": Entry("e2", "passed", None, {"2024-01": 5}, {})}).write(Project(root))
    verdict(root, "events", "warned", measured("drift(a)", 0.41, 0.2))
    assert "Accepted with all its partitions, not committed yet." in html(root)


def test_while_nothing_is_accepted_one_sentence_says_how_to(root: Path) -> None:
    nothing = measured("baseline", 0, None, severity="info", status="noted", found="Nothing was accepted of events.")
    verdict(root, "events", "passed", nothing, check("unique(order_id)"))
    page = html(root)
    assert page.count("run <code>weakfish accept-baseline</code>") == 1
    assert "There is no accepted baseline yet for events, labels/fraud" in page
    assert "<article" not in page
    assert overall(root).verdict == "passed"


def test_many_alike_fold_on_the_page_and_are_one_sentence_in_the_verdict(root: Path, browser: Browser) -> None:
    columns = [measured(f"drift(column_{n:02})", n / 100, 0.2) for n in range(21, 30)]
    verdict(root, "events", "warned", *columns)
    what = overall(root).what
    said = "9 columns drifted from the accepted baseline: `column_29`, `column_28`, `column_27` and 6 more."
    assert what[0] == f"events: {said}"
    browser.open(render(root))
    assert "8 more of drift in events" in shown(browser, "#checks")
    at_once = browser.evaluate("[...document.querySelectorAll('div.group > article h4')].map(h => h.innerText)")
    assert at_once == ["drift(column_29)"]
    assert browser.evaluate("document.querySelectorAll('#checks .folded article').length") == 8


def test_what_many_tables_say_alike_is_one_sentence_after_what_stands_alone(root: Path) -> None:
    for table, columns in (("events", 2), ("labels/fraud", 3)):
        drifted = [measured(f"drift(column_{n})", 0.4, 0.2) for n in range(columns)]
        balance = [measured("class_balance(fraud)", 0.4, 0.2, kind="labels")] if table != "events" else []
        verdict(root, table, "warned", *drifted, *balance)
    assert overall(root).what[:2] == (
        "labels/fraud: `class_balance(fraud)` does not hold. It lies 0.4 from the accepted rows.",
        "5 columns drifted from the accepted baseline: 3 of labels/fraud, 2 of events.",
    )


@pytest.mark.parametrize(
    ("table", "found", "todo"),
    [
        (
            "events",
            [measured("drift(amount)", 0.41, 0.2), measured("volume(new)", 9, 5)],
            "Look under Drift at what changed in events. If it is the new normal, run "
            "`weakfish accept-baseline events` and commit `validation/baseline.json`; if it is not, correct what "
            "changed it.",
        ),
        (
            "labels/fraud",
            [measured("rule_died(large)", 0, 0.0, kind="labels", status="warned", arguments={"rule": "large"})],
            "Look at the labeling function `large`: correct it, or take it out. If this is the new normal, run "
            "`weakfish accept-baseline labels/fraud` and commit `validation/baseline.json`.",
        ),
        (
            "labels/fraud",
            [measured("label_model_degenerate(one)", 0.9, 0.5, kind="labels", against_baseline=False)],
            "Look at Labeling functions below before these labels are used.",
        ),
        (
            "training/fraud",
            [check("serving_equals_training(customer)", kind="serving", status="warned", unexpected=1)],
            "Run `weakfish publish`: it writes again what differs.",
        ),
        (
            "features/customer",
            [measured("freshness", 90, 48, kind="features", against_baseline=False)],
            "See whether its source still delivers, then run `dvc repro`.",
        ),
        (
            "evaluation/fraud",
            [measured("calibration(label_model)", 0.3, 0.1, kind="evaluation", against_baseline=False)],
            "Compare Metrics below with those of the last accepted revision before these labels are used.",
        ),
        (
            "events",
            [check("unique(order_id)", status="quarantined", unexpected=1, keys=["o-17"])],
            "`weakfish quarantine show o-17` says why a row was quarantined. Rows come back when their source is "
            "corrected, or when `weakfish quarantine release --rule RULE --why WHY` lets them in.",
        ),
        (
            "events",
            [check("unique(order_id)", severity="warning", status="warned", unexpected=1, keys=["o-17"])],
            "Look up the bad rows of events by the keys that the checks name. If the data is wrong, correct its "
            "source; if the data is right, correct the expectation in `validation/events.py`.",
        ),
    ],
)
def test_every_kind_of_check_has_its_answer(root: Path, table: str, found: list[Any], todo: str) -> None:
    verdict(root, table, "warned", *found)
    assert overall(root).todo == (todo,)


def test_a_critical_change_fails_the_page_with_its_own_answer(root: Path) -> None:
    lost = measured(
        "volume(lost)", 0.3, 0.01, severity="critical", status="failed", found="300 accepted rows are gone."
    )
    verdict(root, "events", "failed", lost)
    run(root, "accept", 61, exit_code=1, message="The gate of events is shut.")
    found = overall(root)
    assert found.headline == "Failed: events is not fit for use"
    assert found.what[0] == "events: `volume(lost)` does not hold. 300 accepted rows are gone. It matters."
    assert found.todo[0].startswith("Look under Drift at what changed in events.")
    assert "Look up the bad rows" not in " ".join(found.todo)


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
    assert (
        "accept: 1,200 staged = 1,167 accepted + 33 quarantined; of the accepted, patches let in 6 released and 2 "
        in (section)
    )
    assert "do not add up" not in section
    cells = "[...document.querySelectorAll('.reasons tbody tr')].map(r => [...r.cells].map(c => c.innerText.trim()))"
    rows = browser.evaluate(cells)
    assert [row[:4] for row in rows] == [
        ["not_null(placed_at)", "28", "84.8%", "2"],
        ["unique(order_id)", "5", "15.2%", "2"],
        ["positive(amount)", "0", "0.0%", "4"],
    ]
    assert [row[5] for row in rows] == ["o-28", "o-5", "–"]
    assert browser.evaluate("document.querySelectorAll('.reasons .spark').length") == 2
    assert "validation/patches/dates.yaml 8 Ada Checked by hand." in section
    assert "weakfish quarantine show o-28 shows one with its reasons" in section
    assert browser.complaints() == []


def test_rows_that_patches_let_in_are_told_on_the_page_and_in_the_terminal(root: Path) -> None:
    quarantined(root)
    sentence = "`accept` let in by patches: 6 rows released and 2 rows repaired."
    assert sentence in overall(root).what
    out = io.StringIO()
    print_summary(root, file=out)
    assert "accept let in by patches: 6 rows released and 2 rows repaired." in out.getvalue()
    assert "33 of 1,200 quarantined, 8 let in by patches" in html(root)


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
    assert browser.evaluate(f"{link}.every(a => document.querySelector(a.hash).matches('article.check'))")


def test_an_evaluation_has_its_stage_and_its_verdict(root: Path) -> None:
    stages = {"evaluate": {"cmd": "e"}, "validate_evaluation@fraud": {"cmd": "v"}, "report": {"cmd": "r"}}
    write(root, "dvc.yaml", {"stages": stages})
    for number, stage in enumerate(stages):
        run(root, stage, number)
    metric = measured("metric(label_model, auc)", 0.8, 0.9, kind="evaluation", found="0.800; accepted is 0.941.")
    metric["status"] = "warned"
    nothing = {"rows": 300, "quarantined": 0, "max_quarantined_share": None}
    verdict(root, "evaluation/fraud", "warned", metric, **nothing)
    row = next(row for row in stage_rows(root) if row.stage == "validate_evaluation@fraud")
    assert (row.passed, row.warned, row.failed, row.state) == (0, 1, 0, "run")
    assert "0.8 holds: at least 0.9" in re.sub(r"<[^>]*>", "", html(root))


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
    assert browser.evaluate("document.title") == "Passed with warnings · Weakfish report"
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
