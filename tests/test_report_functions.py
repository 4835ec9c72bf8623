"""The labeling-function section of the report: its figures are those of the files, its pictures show them."""

from __future__ import annotations

import copy
import itertools
import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from browser import Browser

from reports import unfold
from weakfish.contracts.record import parse
from weakfish.contracts.reports import (
    CopiesReport,
    FaultsReport,
    FunctionReport,
    PartitionReport,
    SignalsReport,
    SlicePart,
    TaskLabels,
)
from weakfish.project.params import TaskParams
from weakfish.report.page import render
from weakfish.report.wording import decimal, integer, percent

CLASSES = ["good", "bad"]
MONTHS = [f"2024-{month:02}" for month in range(1, 13)]
ROWS = 1000
HOSTILE = (
    "</style></title><script>document.title='owned'</script>"
    """<img src=x onerror="document.title='owned'">'"`&{{ 7*7 }}"""
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with 42 functions of all kinds."""
    save(tmp_path, labels(42), gold(42))
    return tmp_path


def save(root: Path, labels: dict[str, Any] | None, gold: dict[str, Any] | None, faults: Any = None) -> None:
    files = {
        "labeling_functions": labels and {"tasks": {"fraud": labels}},
        "metrics": gold and {"tasks": {"fraud": {"functions": gold}}},
        "votes": faults and {"tasks": {"fraud": {"faults": faults}}},
    }
    (root / "reports").mkdir(exist_ok=True)
    for name, content in files.items():
        if content:
            (root / f"reports/{name}.json").write_text(json.dumps(content))


def name(number: int) -> str:
    return f"function_number_{number:02}_looks_here"


def labels(functions: int, months: list[str] = MONTHS) -> dict[str, Any]:
    """Functions of which the first 15 vote good and the others bad; each with another coverage and weight."""
    made = [
        {
            "name": name(n),
            "module": f"functions.part_{n % 3}",
            "kind": "row" if n % 5 == 0 else "columnar",
            "doc": f"Reason number {n}: people who mean harm leave this trace.",
            "polarity": [CLASSES[n >= 15]],
            "coverage": (n + 1) / 100,
            "overlaps": (n + 1) / 150,
            "conflicts": (n + 1) / 400,
            "weight": 0.55 + n / 200,
            "faults": 0,
        }
        for n in range(functions)
    ]
    parts = [
        {
            "partition": month,
            "rows": ROWS,
            "covered": ROWS - 20 * place,
            "mean": {"good": 0.7, "bad": 0.3},
            "votes": {name(n): _votes(n, place) for n in range(functions)},
        }
        for place, month in enumerate(months)
    ]
    signals = {
        "disagreement": 0.0312,
        "sensitivity": 0.0456,
        "unexplained": 0.1234,
        "unstable": 0.0078,
        "shift": 0.0211,
        "converged": True,
        "losses": [[0, 4.5], [10, 1.25], [499, 0.375]],
        "copies": [
            {"functions": [name(3), name(7)], "residual": 0.6},
            {"functions": [name(20), name(2)], "residual": 0.9},
        ],
        "at_clamp": 2,
    }
    whole = {"rows": ROWS * len(months), "covered": sum(ROWS - 20 * place for place in range(len(months)))}
    return {
        "classes": CLASSES,
        "class_balance": {"good": 0.5, "bad": 0.5},
        **whole,
        "method": "snorkel",
        "why": ["Nothing speaks against the label model."],
        "signals": signals,
        "functions": made,
        "by_partition": parts,
    }


def _votes(number: int, place: int) -> list[int]:
    count = 10 * (number + 1) + place
    return [count, 0] if number < 15 else [0, count]


def gold(functions: int) -> dict[str, Any]:
    """On dev each is 0.2 better than learned, but number 5, which is 0.2 worse; on test the first ten do not vote."""

    def dev(n: int) -> float:
        return round((0.35 if n == 5 else 0.75) + n / 200, 4)

    def test(n: int) -> dict[str, Any]:
        return {"votes": 0, "accuracy": None} if n < 10 else {"votes": 30 + n, "accuracy": 0.8}

    return {name(n): {"dev": {"votes": 100 + n, "accuracy": dev(n)}, "test": test(n)} for n in range(functions)}


def html(root: Path) -> str:
    return render(root).read_text(encoding="utf-8")


def table(browser: Browser, selector: str) -> list[list[str]]:
    unfold(browser)
    rows = f"[...document.querySelectorAll('{selector} tbody tr')]"
    found: list[list[str]] = browser.evaluate(f"{rows}.map(r => [...r.children].map(c => c.innerText.trim()))")
    return found


def titles(browser: Browser, selector: str) -> list[str]:
    found: list[str] = browser.evaluate(f"[...document.querySelectorAll('{selector} > title')].map(t => t.textContent)")
    return found


def section(browser: Browser) -> str:
    unfold(browser)
    text = browser.evaluate("document.querySelector('#functions-1')?.innerText ?? ''")
    assert isinstance(text, str)
    return text


def test_every_function_stands_in_the_table_with_the_figures_of_the_files(root: Path, browser: Browser) -> None:
    browser.open(render(root))
    made, measured = {one["name"]: one for one in labels(42)["functions"]}, gold(42)
    rows = table(browser, ".functions")
    assert len(rows) == 42
    for row in rows:
        called, *_ = row[0].splitlines()
        one, seen = made[called], measured[called]
        assert row[0].splitlines()[1:] == [one["doc"], f"{one['module']}, {one['kind']}"]
        assert row[1] == one["polarity"][0]
        shares = [percent(one[key]) for key in ("coverage", "overlaps", "conflicts")]
        assert row[2:6] == [*shares, decimal(one["weight"])]
        for cell, part in zip(row[6:8], ("dev", "test"), strict=True):
            accuracy, votes = seen[part]["accuracy"], seen[part]["votes"]
            assert cell.split() == (
                ["–"] if accuracy is None else [*percent(accuracy).split(), integer(votes), "votes"]
            )
        assert row[8] == "0"


def test_functions_are_sorted_by_class_then_coverage_in_both_tables_alike(root: Path, browser: Browser) -> None:
    browser.open(render(root))
    unfold(browser)
    expected = [name(n) for n in (*range(14, -1, -1), *range(41, 14, -1))]
    assert [row[0].splitlines()[0] for row in table(browser, ".functions")] == expected
    assert [row[0] for row in table(browser, ".dense")] == ["covered by none", *expected]


def test_votes_over_time_have_a_cell_each_and_shades_grow_with_their_share(root: Path, browser: Browser) -> None:
    browser.open(render(root))
    cells = "[...document.querySelectorAll('.dense .cell')]"
    of_cell = "[c.title, c.closest('tr').querySelector('code').textContent, c.classList[2], +c.style.getPropertyValue"
    found = browser.evaluate(f"{cells}.map(c => {of_cell}('--share')])")
    assert len(found) == 42 * 12
    for title, called, hue, shade in found:
        said = re.fullmatch(r"([\d-]+): ([\d.]+ %) of ([\d,]+) rows, ([\d,]+) (\w+)", title)
        assert said
        month, share, rows, votes, kind = said.groups()
        number, place = int(called.split("_")[2]), MONTHS.index(month)
        count = 10 * (number + 1) + place
        assert (share, rows, votes) == (percent(count / ROWS), "1,000", integer(count))
        assert (kind, hue) == (("good", "h0") if number < 15 else ("bad", "h1"))
        assert shade == pytest.approx((count / ROWS) ** 0.5, abs=0.006)


def test_the_uncovered_share_of_each_partition_is_told(root: Path, browser: Browser) -> None:
    browser.open(render(root))
    unfold(browser)
    shares = [percent(20 * place / ROWS).removesuffix(" %") for place in range(12)]
    assert table(browser, ".dense")[0] == ["covered by none", *shares]


def test_a_cell_of_several_classes_has_the_colour_of_most_votes_and_names_all(root: Path, browser: Browser) -> None:
    made = labels(3, MONTHS[:1])
    made["functions"][0]["polarity"] = CLASSES
    made["by_partition"][0]["votes"][name(0)] = [10, 30]
    save(root, made, None)
    browser.open(render(root))
    (hue,) = browser.evaluate(
        "[...document.querySelectorAll('.dense .cell')].filter(c => c.title.includes('10 good, 30 bad'))"
        ".map(c => c.classList[2])"
    )
    assert hue == "h1"


def test_dots_lie_where_coverage_and_accuracy_are(root: Path, browser: Browser) -> None:
    measured, figure = gold(42), "document.querySelector('#pictures figure')"
    browser.open(render(root))
    marks = f"[...{figure}.querySelectorAll('svg.chart .mark')].map(m => [m.textContent, m.getBBox()])"
    found: list[Any] = browser.evaluate(f"{marks}.map(([t, b]) => [t, b.x + b.width / 2, b.y + b.height / 2])")
    assert len(found) == 42
    places: dict[float, float] = {}
    for title, x, y in found:
        called = title.split(":")[0]
        number = int(called.split("_")[2])
        coverage, accuracy = (number + 1) / 100, measured[called]["dev"]["accuracy"]
        votes = f"{100 + number} votes"
        assert title == f"{called}: votes on {percent(coverage)} of rows, right on {percent(accuracy)} of {votes}"
        places[coverage], places[1000 + accuracy] = x, y
    lefts = [places[(number + 1) / 100] for number in range(42)]
    steps = [other - one for one, other in itertools.pairwise(lefts)]
    assert min(steps) == pytest.approx(max(steps), abs=0.3)
    heights = sorted((key - 1000, y) for key, y in places.items() if key >= 1000)
    (low, bottom), *_, (high, top) = heights
    assert all(y == pytest.approx(bottom + (at - low) / (high - low) * (top - bottom), abs=0.3) for at, y in heights)
    assert top < bottom


def test_without_gold_dots_lie_where_the_label_model_has_them(root: Path, browser: Browser) -> None:
    (root / "reports/metrics.json").unlink()
    browser.open(render(root))
    assert "share right, as learned" in browser.evaluate("document.querySelector('#pictures figure').textContent")


def test_those_that_are_wrong_most_are_named(root: Path, browser: Browser) -> None:
    browser.open(render(root))
    said = browser.evaluate("document.querySelector('#pictures figure .soft').textContent")
    assert said == f"Least often right: {name(5)}, {name(0)}, {name(1)}"


def test_the_choice_of_the_model_is_told_with_its_signals(root: Path, browser: Browser) -> None:
    browser.open(render(root))
    text = section(browser)
    assert "Labels are those of Snorkel's label model" in text
    assert "Nothing speaks against the label model." in text
    figures = browser.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.signals > div')]"
        ".map(d => [d.querySelector('dt').textContent, d.querySelector('b').textContent]))"
    )
    assert figures == {
        "disagreement": "3.1 %",
        "sensitivity": "4.6 %",
        "unexplained": "12.3 %",
        "unstable": "0.8 %",
        "shift": "2.1 %",
        "near-duplicates": "2",
        "functions at the clamp": "2",
        "loss": "converged",
    }
    assert "Loss of the label model, 4.500 at first and 0.375 after 499 epochs." in text
    made = labels(42)
    made["method"], made["signals"]["converged"] = "majority", False
    save(root, made, None)
    browser.open(render(root))
    assert "Labels are those of majority vote" in section(browser)
    assert "still falling" in section(browser)


def test_near_duplicates_are_told_closest_first_and_many_fold(root: Path, browser: Browser) -> None:
    browser.open(render(root))
    rows = table(browser, ".copies")
    assert [row[0].splitlines() for row in rows] == [[name(20), name(2)], [name(3), name(7)]]
    assert [row[1] for row in rows] == ["0.900", "0.600"]
    assert rows[0][3].splitlines() == ["21.0 %", "3.0 %"]
    assert "drop the one that is right less often" in section(browser)
    made = labels(42)
    made["signals"]["copies"] = [{"functions": [name(n), name(n + 1)], "residual": 0.9 - n / 100} for n in range(20)]
    save(root, made, None)
    assert "<summary>12 more pairs</summary>" in html(root)
    made["signals"]["copies"] = []
    save(root, made, None)
    assert "None: no two functions agree" in html(root)


def test_faults_are_named_with_keys_and_without_what_the_exception_said(root: Path, browser: Browser) -> None:
    fault = {"count": 3, "exception": "ValueError: invalid literal for int(): 'Dear sir'", "rows": ["o-17", "o-18"]}
    save(root, None, None, faults={name(4): fault})
    browser.open(render(root))
    ((called, count, kind, keys),) = table(browser, ".faults")
    assert (called, count, kind, keys.split()) == (name(4), "3", "ValueError", ["o-17", "o-18"])
    assert next(row for row in table(browser, ".functions") if row[0].startswith(name(4)))[8] == "3"
    assert "Dear sir" not in html(root)


def test_faults_that_only_the_summary_counts_are_shown(root: Path) -> None:
    made = labels(42)
    made["functions"][6]["faults"] = 1
    save(root, made, None)
    faults = html(root).split('<table class="faults">')[1].split("</table>")[0]
    assert re.sub(r"<[^>]*>", " ", faults.replace("<wbr>", "")).split("First keys")[1].split()[:2] == [name(6), "1"]


def test_functions_that_failed_before_there_were_labels_are_shown(tmp_path: Path, browser: Browser) -> None:
    save(tmp_path, None, None, faults={"reads_badly": {"count": 9, "exception": "KeyError", "rows": ["o-1"]}})
    browser.open(render(tmp_path))
    assert table(browser, ".faults") == [["reads_badly", "9", "KeyError", "o-1"]]
    assert "never vote" not in section(browser)


def test_a_summary_of_an_older_version_still_makes_a_section(root: Path, browser: Browser) -> None:
    made = labels(42)
    for key in ("method", "why", "signals"):
        del made[key]
    for one in made["functions"]:
        del one["faults"]
    for part in made["by_partition"]:
        del part["votes"]
    save(root, made, None)
    browser.open(render(root))
    assert len(table(browser, ".functions")) == 42
    text = section(browser)
    for absent in ("Votes over time", "Near-duplicates", "Label model or majority vote", "None", "nan"):
        assert absent not in text


def test_without_gold_there_are_no_accuracies(root: Path, browser: Browser) -> None:
    (root / "reports/metrics.json").unlink()
    browser.open(render(root))
    assert {len(row) for row in table(browser, ".functions")} == {7}
    assert len(table(browser, ".copies")[0]) == 5


def test_two_functions_make_no_picture(root: Path) -> None:
    save(root, labels(2), gold(2))
    assert "How often each function" not in html(root)


@pytest.mark.parametrize("width", [1300, 1100, 420, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forty_functions_and_seventy_partitions_fit_the_window(
    root: Path, browser: Browser, width: int, scheme: Any
) -> None:
    made = labels(42, [f"{2018 + n // 12}-{n % 12 + 1:02}" for n in range(70)])
    text = json.dumps(made).replace(name(41), "a_name_that_nothing_breaks_" * 6)
    save(root, json.loads(text), gold(42), faults={name(2): {"count": 2, "exception": "E" * 300, "rows": ["k" * 300]}})
    browser.open(render(root), width=width, scheme=scheme)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert "the last 60 of 70 partitions" in section(browser)
    outside = browser.evaluate(
        "[...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width).flatMap(s => "
        "[...s.querySelectorAll('text')].filter(t => { const b = t.getBBox(), v = s.viewBox.baseVal;"
        " return t.getClientRects().length && !t.hasAttribute('transform')"
        " && (b.x < -1 || b.x + b.width > v.width + 1 || b.y < -4 || b.y + b.height > v.height + 4); }))"
        ".map(t => t.textContent)"
    )
    assert outside == []


def test_pictures_are_svg_with_names_and_links_lead_somewhere(root: Path, browser: Browser) -> None:
    browser.open(render(root))
    pictures = "[...document.querySelectorAll('svg:not([aria-hidden=true])')]"
    assert browser.evaluate(f"{pictures}.length") == 3  # labels over time, the functions, the loss of the label model
    assert browser.evaluate(
        f"{pictures}.every(s => s.role == 'img' && s.ariaLabel == s.querySelector('title').textContent)"
    )
    assert browser.evaluate("[...document.querySelectorAll('a')].every(a => document.querySelector(a.hash))")
    assert browser.evaluate("document.querySelector('a[href=\"#functions-1\"]').textContent") == "All 42"
    assert browser.evaluate("document.querySelectorAll('script, img, iframe, object').length") == 1  # our own script
    assert browser.evaluate("[...document.querySelectorAll('table')].every(t => t.caption?.textContent.trim())")
    assert (browser.requested(), browser.complaints()) == ([(root / "reports/index.html").as_uri()], [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_classes_differ_in_form_and_stand_out_from_the_page(root: Path, browser: Browser, scheme: Any) -> None:
    made = labels(42)
    made["classes"] = [f"class {n}" for n in range(9)]
    for n, one in enumerate(made["functions"]):
        one["polarity"] = [f"class {n % 9}"]
    save(root, made, gold(42))
    browser.open(render(root), scheme=scheme)
    forms = browser.evaluate(
        "[...document.querySelectorAll('#pictures .form .mark')].map(m => m.tagName + m.getAttribute('points'))"
    )
    assert len(set(forms[:4])) == 4  # a circle and three polygons
    polygons = browser.evaluate("[...document.querySelectorAll('#pictures .form polygon')].map(p => p.points.length)")
    assert polygons[:3] == [4, 4, 3]
    colours = browser.evaluate(
        "[...Array(9).keys()].map(n => getComputedStyle(document.querySelector(`.mark.h${n}`)).fill)"
    )
    page = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert len(set(colours)) == 9
    assert all(contrast(colour, page) >= 3 for colour in colours)  # WCAG 2.2, 1.4.11


def contrast(one: str, other: str) -> float:
    """As WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        shares = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_hostile_names_of_functions_classes_and_reasons_stay_text(root: Path, browser: Browser) -> None:
    made = json.loads(
        json.dumps(labels(5)).replace(name(1), "@").replace('"bad"', '"@@"').replace("Reason number 2", "@")
    )
    made["functions"][0]["polarity"] = ["@@"]
    made["why"] = ["@"]
    text = json.dumps(made).replace("@@", "@").replace("@", json.dumps(HOSTILE)[1:-1])
    fault = {"count": 1, "exception": HOSTILE, "rows": [HOSTILE]}
    save(root, json.loads(text), gold(5), faults={HOSTILE: fault})
    browser.open(render(root))
    assert browser.evaluate("document.title") != "owned"
    assert browser.evaluate("document.querySelectorAll('script, img, iframe, object').length") == 1  # our own script
    assert browser.evaluate("document.body.textContent").count("document.title='owned'") > 10
    assert browser.complaints() == []


def test_labels_of_an_earlier_run_are_tagged(root: Path, browser: Browser) -> None:
    (root / "dvc.yaml").write_text(
        json.dumps({"stages": {"vote": {"cmd": "v"}, "label": {"cmd": "l"}, "evaluate": {"cmd": "e"}}})
    )
    runs = root / ".weakfish/runs"
    runs.mkdir(parents=True)
    stopped = {"started_at": "2024-05-01T08:00:00+00:00", "finished_at": "2024-05-01T08:00:09+00:00", "exit_code": 2}
    (runs / "vote.json").write_text(json.dumps({"stage": "vote", "seconds": 9.0, "message": "It raised.", **stopped}))
    browser.open(render(root))
    assert "from an earlier run" in browser.evaluate("document.querySelector('#functions-1 summary').innerText")
    assert "there are 10 or more, and is from an earlier run" in section(browser)


def test_partitions_without_rows_and_files_without_order_change_nothing(root: Path) -> None:
    made = labels(42)
    page = html(root)
    shuffled = copy.deepcopy(made)
    shuffled["functions"].reverse()
    shuffled["signals"]["copies"].reverse()
    save(root, shuffled, None)
    assert html(root) == page
    made["by_partition"].append(
        {"partition": "2025-01", "rows": 0, "covered": 0, "mean": {}, "votes": {name(0): [0, 0]}}
    )
    save(root, made, None)
    assert 'title="2025-01: 0.0 % of 0 rows"' in html(root)


def test_all_that_the_label_and_vote_stages_write_is_read() -> None:
    import numpy as np
    from snorkel.labeling import LabelingFunction

    from weakfish.contracts import votes_file
    from weakfish.labeling.choice import alone, choose
    from weakfish.labeling.dev_gold import DevCounts
    from weakfish.labeling.label_summary import VoteCounts, summary
    from weakfish.labeling.slice_counts import SliceCounts
    from weakfish.labeling.tally import VoteTally

    settings = {"class_balance": [0.5, 0.5], "n_epochs": 200, "lr": 0.01, "l2": 0.0, "seed": 1}
    task = TaskParams.model_validate({"classes": CLASSES, "label_model": settings})
    dice = np.random.default_rng(1)
    truth = dice.integers(0, 2, (2000, 1))
    votes = np.where(dice.random((2000, 5)) < 0.7, truth, 1 - truth).astype(np.int8)
    votes[dice.random((2000, 5)) < 0.3] = -1
    votes[:, 3] = votes[:, 0]
    tally = VoteTally.of(votes, 2)
    functions = [LabelingFunction(name(n), lambda row: -1) for n in range(5)]
    counts = {"rows": 2000, "covered": 1990, "mean": {"good": 0.5, "bad": 0.5}}
    dev = DevCounts.of(truth[:, 0], votes[:, 0].astype(np.int64), votes, CLASSES)
    chosen = choose(tally.sums, tally.patterns, task)
    settled = alone(chosen, tally.patterns)
    parts: Any = {"2024-01": SimpleNamespace(counts=counts, dev=dev, settled=settled)}
    found = summary(task, functions, tally, {"2024-01": VoteCounts.of(tally)}, [0, 0, 2, 0, 0], parts, chosen)
    written = json.loads(json.dumps(found))
    read = parse(TaskLabels, written, "a test")
    assert [function.faults.count for function in read.functions] == [0, 0, 2, 0, 0]
    assert read.signals is not None
    assert (name(0), name(3)) in [pair.functions for pair in read.signals.copies]
    of_slice = SliceCounts.none(5, CLASSES).to_json([name(n) for n in range(5)], CLASSES)
    shapes = (
        (
            TaskLabels,
            written | {"labelled": 1990, "slices": {}, "known": {}},
        ),  # which the stage adds, once labels are written
        (SlicePart, {"partition": "2024-01", **of_slice}),
        (SignalsReport, written["signals"]),
        (FunctionReport, written["functions"][0]),
        (PartitionReport, written["by_partition"][0]),
        (CopiesReport, written["signals"]["copies"][0]),
        (FaultsReport, asdict(votes_file.Faults())),
    )
    for shape, content in shapes:
        assert {field.name for field in fields(shape)} <= set(content)
