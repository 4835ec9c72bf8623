"""The page before anything is unfolded: three screens, the story of the labels, histograms before and now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from browser import Browser

from reports import audited, check, features, good_run, html, labels, measured, metrics, run, shown, verdict, write
from weakfish.engine.sketch import Sketch
from weakfish.report.inputs import StageRow, read
from weakfish.report.overall import overall
from weakfish.report.page import render
from weakfish.report.story import story
from weakfish.report.wording import short_percent

MONTHS = [f"2023-{month:02}" for month in range(1, 13)] + ["2024-01", "2024-02", "2024-03"]
ACCEPTED = MONTHS[:12]
ROWS = 500


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose last run went well, and that has all that a page can show."""
    root = good_run(tmp_path / "shop")
    features(root)
    audited(root, equal=319, newer=2)
    over_time(root, [0.44] * 12 + [0.18] * 3, functions=42)
    return root


def over_time(root: Path, shares: list[float], functions: int = 2, **changes: Any) -> None:
    """Labels of which these shares are fraud, one month each."""
    parts = [
        {"partition": month, "rows": ROWS, "covered": ROWS, "mean": {"fine": 1 - share, "fraud": share}}
        for month, share in zip(MONTHS, shares, strict=False)
    ]
    known = labels()["functions"][0]
    made = [{**known, "name": f"function_{n:02}", "coverage": 0.01 * (n + 1)} for n in range(functions)]
    whole = {"rows": ROWS * len(parts), "covered": ROWS * len(parts), "functions": made, "by_partition": parts}
    write(root, "reports/labeling_functions.json", {"tasks": {"fraud": {**labels(), **whole, **changes}}})
    seen = {of["name"]: {"dev": {"votes": 60, "accuracy": 0.6 + 0.009 * n}} for n, of in enumerate(made)}
    write(root, "reports/metrics.json", {"tasks": {"fraud": {**metrics(), "functions": seen}}})


def accept(root: Path, share: float = 0.44, columns: dict[str, Any] | None = None) -> None:
    """A baseline of events and labels through 2023; this share of labels is fraud."""
    rows = dict.fromkeys(ACCEPTED, ROWS)
    total = ROWS * len(ACCEPTED)
    rules = {"rows": total, "covered": total, "mean": {"fine": 1 - share, "fraud": share}}
    of_all = {"through": "2023-12", "verdict": "passed", "checks": {}}
    events = {**of_all, "data_version": "e1", "profile": {"rows": rows, "columns": columns or {}}}
    of_labels = {**of_all, "data_version": "l1", "rules": rules, "profile": {"rows": rows, "columns": {}}}
    write(root, "validation/baseline.json", {"tables": {"events": events, "labels/fraud": of_labels}})


def profiled(root: Path, version: str, **columns: dict[str, Any]) -> None:
    """What the columns of the events are now: the same in every month."""
    parts = {month: {"rows": ROWS, "columns": columns} for month in MONTHS}
    write(root, "data/profiles/events.json", {"table": "events", "data_version": version, "profile": parts})


def numbers(*values: float, nulls: int = 0, kind: str = "number", type: str = "int64") -> dict[str, Any]:
    sketch = Sketch.of(np.array(values, np.float64)).text()
    return {"type": type, "kind": kind, "rows": len(values) + nulls, "nulls": nulls, "sketch": sketch}


def drifted(column: str, value: float = 0.5, **more: Any) -> dict[str, Any]:
    compared = {"new partitions": {"psi": value}, "accepted partitions as they are now": {"psi": 0.0}}
    arguments = {"column": column, "compared": compared}
    by_partition = {month: 0.01 if month in ACCEPTED else value for month in MONTHS}
    return measured(f"drift({column})", value, 0.2, arguments=arguments, by_partition=by_partition, **more)


def warnings(root: Path) -> list[dict[str, Any]]:
    """As many causes as a page shows at once and two more, with what the longest sentences say."""
    then = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0] * 50
    accept(root, columns={"amount": numbers(*then)})
    profiled(root, "e2", amount=numbers(*[value * 3 for value in then]))
    why = "Joins multiply, and what was once counted is counted twice in every window that reads it."
    rows = [
        check(f"unique(column_{n})", status="quarantined", unexpected=30, unexpected_share=0.025, why=why, keys=["o-1"])
        for n in range(3)
    ]
    found = "26.6 % of 2,366 rows in the new partitions have no relay; it was 4.2 % of 3,680 rows in the baseline."
    nulls = [
        measured(f"nulls({name})", 0.27, 0.1, arguments={"column": name, "accepted_share": 0.04}, found=found)
        for name in ("relay_of_the_sender", "mailer", "charset", "hops")
    ]
    return [*rows, *nulls, drifted("amount", 0.9), drifted("gift_of_the_customer"), drifted("tax")]


def height(browser: Browser, page: Path) -> int:
    browser.open(page, width=1280)
    found: int = browser.evaluate("document.documentElement.scrollHeight")
    return found


@pytest.mark.parametrize("warns", [False, True])
def test_a_passed_run_is_three_screens_high(root: Path, browser: Browser, warns: bool) -> None:
    if warns:
        bad = warnings(root)
        verdict(root, "events", "warned", *bad, data_version="e2")
        moved = measured("class_balance(fraud)", 0.18, 0.1, kind="labels", arguments={"class": "fraud"})
        verdict(root, "labels/fraud", "warned", moved)
        assert len(overall(root).causes) > 5
    assert overall(root).verdict == ("warned" if warns else "passed")
    assert height(browser, render(root)) <= 2700
    for section in ("#verdict", "#labels-1", "#pictures", "#details"):
        assert browser.evaluate(f"document.querySelector('{section}').offsetHeight") > 50


def test_a_failed_run_is_four_screens_high(root: Path, browser: Browser) -> None:
    bad = warnings(root)
    lost = [{**one, "status": "failed", "severity": "critical"} for one in bad[:3]]
    verdict(root, "events", "failed", *lost, *bad[3:], data_version="e2", quarantined=90, quarantined_share=0.075)
    run(root, "accept", 61, exit_code=1, message="The gate of events is shut.")
    assert overall(root).verdict == "failed"
    assert height(browser, render(root)) <= 3600
    causes, drawn = (
        browser.evaluate(f"document.querySelector('{section}').getBoundingClientRect().top")
        for section in ("#causes", "#labels-1")
    )
    assert causes < drawn


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_or_scrolls_sideways(
    root: Path, browser: Browser, width: int, scheme: Literal["light", "dark"]
) -> None:
    verdict(root, "events", "warned", *warnings(root), data_version="e2")
    browser.open(render(root), width=width, scheme=scheme)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    outside = browser.evaluate(
        "[...document.querySelectorAll('svg')].filter(s => s.checkVisibility()).flatMap(s => "
        "[...s.querySelectorAll('text')].filter(t => { const b = t.getBBox(), v = s.viewBox.baseVal;"
        " return t.getClientRects().length && !t.hasAttribute('transform')"
        " && (b.x < -1 || b.x + b.width > v.width + 1 || b.y < -4 || b.y + b.height > v.height + 4); }))"
        ".map(t => t.textContent)"
    )
    assert outside == []


def test_the_page_opens_with_project_time_and_revision_then_verdict_and_story(root: Path, browser: Browser) -> None:
    accept(root)
    browser.open(render(root))
    said = [line for line in shown(browser, "#verdict").splitlines() if line]
    assert said[:3] == ["shop", "last run 2024-05-01 08:07 UTC", "Passed"]
    assert said[3:] == [
        "All 3 checks on 2 tables passed; the labels of fraud have an F1 of 0.941 on 300 test rows.",
        "Labels of fraud changed in January 2024: fraud fell from 44 % to 18 %.",
    ]
    write(root, "feature_repo/feature_store.yaml", {"project": "orders"})
    assert "<title>Passed · orders</title>" in html(root)


def test_without_gold_the_verdict_says_that_nobody_knows(root: Path) -> None:
    (root / "reports/metrics.json").unlink()
    assert overall(root).verdict == "passed"
    assert "nobody knows how good the labels of fraud are: there is no gold." in overall(root).sentence


@pytest.mark.parametrize(
    ("shares", "accepted", "said"),
    [
        ([0.1] * 6, None, "Of the labels of fraud, 10 % are fraud, about the same from January 2023 to June 2023."),
        ([0.9] * 4 + [0.2] * 4, None, "Labels of fraud changed in May 2023: fraud fell from 90 % to 20 %."),
        ([0.1, 0.1, 0.1, 0.4], None, "Labels of fraud changed in April 2023: fraud rose from 10 % to 40 %."),
        ([0.3], None, "Of the labels of fraud, 30 % are fraud."),
        ([0.44] * 13, 0.44, "Of the labels of fraud, 44 % are fraud, as when they were accepted."),
        ([0.9] * 6 + [0.44] * 9, 0.64, "Labels of fraud changed in January 2024: fraud fell from 64 % to 44 %."),
        ([0.2] * 12, 0.44, "Labels of fraud changed since they were accepted: fraud fell from 44 % to 20 %."),
        ([0.010] * 12 + [0.014] * 3, 0.01, "Of the labels of fraud, 1.1 % are fraud, as when they were accepted."),
    ],
)
def test_the_story_is_the_largest_change_of_a_share_or_that_none_changed(
    tmp_path: Path, shares: list[float], accepted: float | None, said: str
) -> None:
    over_time(tmp_path, shares)
    if accepted is not None:
        accept(tmp_path, accepted)
    assert story(read(tmp_path)) == said


def test_the_stage_that_renders_the_page_is_not_called_not_run_on_it(root: Path) -> None:
    (root / ".weakfish/runs/report.json").unlink()
    assert read(root).rows()[-1] == StageRow("report", "run", 1200, 1200)
    assert "not run" not in html(root)


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "0 %"),
        (0.0001, "<0.1 %"),
        (0.011, "1.1 %"),
        (0.436, "44 %"),
        (0.993, "99.3 %"),
        (0.9999, ">99.9 %"),
        (1, "100 %"),
    ],
)
def test_a_share_in_a_sentence_is_short_and_never_rounded_to_nothing_or_to_all(share: float, said: str) -> None:
    assert short_percent(share) == said


def test_few_rows_make_no_story(tmp_path: Path) -> None:
    over_time(tmp_path, [0.2] * 6)
    file = tmp_path / "reports/labeling_functions.json"
    content = json.loads(file.read_text())
    content["tasks"]["fraud"]["by_partition"][-1] |= {"rows": 3, "covered": 3, "mean": {"fine": 0.0, "fraud": 1.0}}
    write(tmp_path, "reports/labeling_functions.json", content)
    assert "fraud, about the same from January 2023 to" in (story(read(tmp_path)) or "")


def test_rows_that_lost_their_labels_are_a_story_too_and_of_several_classes_the_largest_change(tmp_path: Path) -> None:
    over_time(tmp_path, [0.3] * 8)
    file = tmp_path / "reports/labeling_functions.json"
    content = json.loads(file.read_text())
    for part in content["tasks"]["fraud"]["by_partition"][4:]:
        part["covered"] = 300
    write(tmp_path, "reports/labeling_functions.json", content)
    lost = "Labels of fraud changed in May 2023: rows without a vote rose from 0 % to 40 %."
    assert story(read(tmp_path)) == lost
    content["tasks"]["fraud"]["classes"] = ["fine", "fraud", "odd"]
    for place, part in enumerate(content["tasks"]["fraud"]["by_partition"]):
        odd = 0.1 if place < 4 else 0.6
        part["mean"], part["covered"] = {"fine": 0.9 - odd, "fraud": 0.1, "odd": odd}, ROWS
    write(tmp_path, "reports/labeling_functions.json", content)
    assert (story(read(tmp_path)) or "").startswith("Labels of fraud changed in May 2023: ")
    assert "from 10 % to 60 %" in (story(read(tmp_path)) or "") or "from 80 % to 30 %" in (story(read(tmp_path)) or "")


def test_labels_of_an_earlier_run_have_no_story(root: Path) -> None:
    verdict(root, "events", "failed", check("unique(order_id)", status="failed", unexpected=7))
    run(root, "accept", 61, exit_code=1)
    assert story(read(root)) is None
    assert 'class="story"' not in html(root)


def picture(root: Path) -> dict[str, tuple[float, float]]:
    (cause,) = overall(root).causes
    assert cause.picture
    return {name: (before, now) for name, before, now in cause.picture.bars}


def test_a_histogram_has_the_shares_of_numbers_before_and_now(root: Path) -> None:
    accept(root, columns={"amount": numbers(1, 1, 1, 2, nulls=4)})
    profiled(root, "e2", amount=numbers(1, 2, 2, 2))
    verdict(root, "events", "warned", drifted("amount"), data_version="e2")
    assert picture(root) == {"below 2": (0.375, 0.25), "2 and more": (0.125, 0.75), "none": (0.5, 0.0)}


def test_a_histogram_of_many_numbers_has_six_bars_at_most_that_hold_all_rows(root: Path) -> None:
    accept(root, columns={"amount": numbers(*range(-100, 900))})
    profiled(root, "e2", amount=numbers(*[number + 300 for number in range(-100, 900)]))
    verdict(root, "events", "warned", drifted("amount"), data_version="e2")
    bars = picture(root)
    assert 3 <= len(bars) <= 6
    assert sum(before for before, _ in bars.values()) == pytest.approx(1)
    assert sum(now for _, now in bars.values()) == pytest.approx(1)
    first, *_, last = bars.values()
    assert first[0] > first[1]
    assert last[0] < last[1]


def test_a_histogram_has_the_values_that_most_rows_have(root: Path) -> None:
    def values(**categories: int) -> dict[str, Any]:
        rows = sum(categories.values())
        return {"type": "string", "kind": "text", "rows": rows, "nulls": 0, "categories": categories}

    accept(root, columns={"status": values(paid=60, open=40)})
    profiled(root, "e2", status=values(paid=10, open=40, lost=50))
    verdict(root, "events", "warned", drifted("status"), data_version="e2")
    assert picture(root) == {"paid": (0.6, 0.1), "open": (0.4, 0.4), "lost": (0.0, 0.5)}


@pytest.mark.parametrize("broken", ["", "[]", '{"profile": 7}', '{"data_version": "e2"}'])
def test_a_profile_that_cannot_be_read_or_is_of_other_data_leaves_the_histogram_out(root: Path, broken: str) -> None:
    accept(root, columns={"amount": numbers(1, 2)})
    profiled(root, "e1", amount=numbers(1, 2))
    verdict(root, "events", "warned", drifted("amount"), data_version="e2")
    (cause,) = overall(root).causes
    assert cause.picture is None
    (root / "data/profiles/events.json").write_text(broken)
    assert "amount of events has changed since January 2024" in html(root).replace("<code>", "").replace("</code>", "")


def test_precision_and_recall_are_drawn_from_the_curve_and_the_share_of_the_class(root: Path, browser: Browser) -> None:
    rows = [
        {"model": "label_model", "mean_predicted": 0.1, "fraction_positive": 0.0, "rows": 80},
        {"model": "label_model", "mean_predicted": 0.9, "fraction_positive": 1.0, "rows": 20},
    ]
    write(root, "reports/plots/calibration.json", rows)
    points = [(0.0, 0.5), (0.25, 1.0), (1.0, 1.0)]
    write(root, "reports/plots/roc.json", [{"model": "label_model", "fpr": x, "tpr": y} for x, y in points])
    browser.open(render(root))
    figure = "[...document.querySelectorAll('.glimpse')].find(f => f.textContent.includes('Precision over recall'))"
    drawn = browser.evaluate(f"{figure}.querySelector('path.line').getAttribute('d')")
    places = [tuple(map(float, point.split())) for point in drawn.removeprefix("M").split("L")]
    # 20 of 100 rows are of the class: half of them found without an error, then all with 20 errors, then with 80.
    wanted = [(0.5, 1.0), (1.0, 0.5), (1.0, 0.2)]
    left, right, top, bottom = 52.0, 506.0, 14.0, 220.0
    assert places == [
        pytest.approx((left + x * (right - left), bottom - y * (bottom - top)), abs=0.1) for x, y in wanted
    ]
    level = browser.evaluate(f"+{figure}.querySelector('.diagonal').getAttribute('y1')")
    assert level == pytest.approx(bottom - 0.2 * (bottom - top), abs=0.1)


def test_features_and_served_values_are_pictures_of_their_figures(root: Path, browser: Browser) -> None:
    view = "features/customer_activity"
    far = [measured("drift(orders_30d)", 0.6, 0.2, arguments={"column": "orders_30d"})]
    verdict(root, view, "warned", *far, measured("drift(gift_share)", 0.05, 0.2, arguments={"column": "gift_share"}))
    browser.open(render(root))
    squares = "[...document.querySelectorAll('.strip rect.moved, .strip rect.still')]"
    assert browser.evaluate(f"{squares}.map(r => [r.getAttribute('class'), r.textContent])") == [
        ["moved", "orders_30d: PSI 0.6, limit 0.2"],
        ["still", "gift_share: PSI 0.05, limit 0.2"],
    ]
    widths = browser.evaluate("[...document.querySelectorAll('.served rect[x]')].map(r => r.width.baseVal.value)")
    assert widths == pytest.approx([400 * 319 / 321, 400 * 2 / 321], abs=0.1)


def test_what_is_stale_is_said_first_with_its_time(root: Path) -> None:
    lock = {
        "stages": {"label": {"outs": [{"path": "data/labels"}], "params": {"params.yaml": {"tasks.fraud.seed": 1}}}}
    }
    write(root, "dvc.lock", lock)
    write(root, "params.yaml", {"tasks": {"fraud": {"seed": 2}}})
    first = overall(root).causes[0]
    assert first.title.startswith("`label` is stale: ")
    assert first.title.endswith("; it last ran at 2024-05-01 08:03 UTC.")
    assert "from an earlier run" in html(root)
