"""The report's search and filters, by keyboard and by link, in a real browser; and the page without any script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browser import Browser

from reports import HOSTILE, check, good_run, measured, shown, verdict
from weakfish.report.page import render

SECTIONS = "[...document.querySelectorAll('#details > section')].filter(s => s.offsetHeight).map(s => s.id)"
MONTHS = {"2024-01": 0.01, "2024-02": 0.5}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page with checks of all kinds, functions and stages."""
    root = good_run(tmp_path)
    bad = check("not_null(placed_at)", status="quarantined", unexpected=30, keys=[f"o-{n}" for n in range(20)])
    drifted = [measured(f"drift(amount_{n})", n / 10, 0.2, by_partition=MONTHS) for n in range(10)]
    verdict(root, "events", "warned", bad, *drifted, check("unique(order_id)"))
    verdict(root, "labels/fraud", "warned", measured("coverage(large_amount)", 0.41, 0.2, kind="labels"))
    return render(root)


def press(browser: Browser, key: str, modifiers: int = 0) -> None:
    """Press a key as a person does."""
    text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
    codes = {"Tab": 9, "Enter": 13, "Escape": 27}
    about = {"key": key, "modifiers": modifiers, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
    browser.call("Input.dispatchKeyEvent", type="keyDown", **about, **text)
    browser.call("Input.dispatchKeyEvent", type="keyUp", **about)


def search(browser: Browser, text: str) -> None:
    press(browser, "/")
    browser.call("Input.insertText", text=text)


def choose(browser: Browser, name: str, value: str) -> None:
    browser.evaluate(f"document.getElementById('{name}').value = {json.dumps(value)}")
    browser.evaluate(f"document.getElementById('{name}').dispatchEvent(new Event('input', {{bubbles: true}}))")


def go(browser: Browser, place: str) -> None:
    """Follow a link within the page; the event comes at once, where the browser's own would come later."""
    browser.evaluate(f"location.hash = {json.dumps(place)}; dispatchEvent(new Event('hashchange'))")


def visible(browser: Browser, selector: str) -> list[str]:
    """The first words of the elements that can be seen."""
    found: list[str] = browser.evaluate(
        f"[...document.querySelectorAll({json.dumps(selector)})].filter(e => e.offsetHeight)"
        ".map(e => e.querySelector('code').textContent)"
    )
    return found


def focused(browser: Browser) -> str:
    element: str = browser.evaluate(
        "(e => e.id || e.hash || e.textContent.trim().slice(0, 20))(document.activeElement)"
    )
    return element


def test_a_search_shows_what_holds_all_its_words_opens_it_and_says_how_many(page: Path, browser: Browser) -> None:
    browser.open(page)
    search(browser, "amount_1 Drift")
    assert visible(browser, "#checks tbody tr") == ["drift(amount_1)"]
    assert browser.evaluate("document.querySelector('#checks .group').open")
    assert shown(browser, "#found") == "1 of 13 checks"
    assert browser.evaluate(SECTIONS) == ["checks"]


def test_a_search_finds_columns_functions_stages_and_keys_of_bad_rows(page: Path, browser: Browser) -> None:
    browser.open(page)
    search(browser, "large_amount")
    assert browser.evaluate(SECTIONS) == ["checks", "functions-1"]
    assert visible(browser, ".functions tbody tr") == ["large_amount"]
    assert "1 of 13 checks" in shown(browser, "#found")
    assert "1 of 2 functions" in shown(browser, "#found")
    press(browser, "Escape")
    browser.call("Input.insertText", text="o-17")
    assert visible(browser, "tr.check") == ["not_null(placed_at)"]
    assert "o-17" in shown(browser, "tr.check:not(.miss) .keys")
    assert shown(browser, "#found") == "1 of 13 checks"


def test_what_was_searched_stands_out_where_names_may_break_too(page: Path, browser: Browser) -> None:
    browser.open(page)
    search(browser, "large_amount")
    marked = browser.evaluate("[...CSS.highlights.get('found')].map(range => range.toString())")
    assert set(marked) == {"large_amount"}
    assert browser.evaluate(
        "[...CSS.highlights.get('found')].some(range => range.startContainer.parentElement.closest('tr.check'))"
    )
    press(browser, "Escape")
    assert browser.evaluate("CSS.highlights.get('found').size") == 0


def test_what_matches_nothing_is_said(page: Path, browser: Browser) -> None:
    browser.open(page)
    search(browser, "no such thing")
    assert shown(browser, "#found") == "Nothing on this page matches."
    assert browser.evaluate(SECTIONS) == []
    assert browser.evaluate("document.getElementById('found').getAttribute('aria-live')") == "polite"


def test_filters_by_severity_status_and_table_work_together(page: Path, browser: Browser) -> None:
    browser.open(page)
    choose(browser, "severity", "warning")
    assert "11 of 13 checks" in shown(browser, "#found")
    choose(browser, "status", "warned")
    assert "8 of 13 checks" in shown(browser, "#found")
    choose(browser, "table", "labels/fraud")
    assert visible(browser, "tr.check") == ["coverage(large_amount)"]
    choose(browser, "table", "")
    choose(browser, "status", "quarantined")
    assert shown(browser, "#found") == "Nothing on this page matches."


def test_clearing_brings_back_the_page_as_it_was(page: Path, browser: Browser) -> None:
    browser.open(page)
    count = "[...document.querySelectorAll('main *')].filter(e => e.offsetHeight).length"
    before = browser.evaluate(count)
    search(browser, "amount_1")
    assert browser.evaluate(count) != before
    browser.evaluate("document.querySelector('#search button').click()")
    assert (browser.evaluate(count), shown(browser, "#found"), focused(browser)) == (before, "", "q")
    search(browser, "amount_1")
    press(browser, "Escape")
    assert (browser.evaluate(count), browser.evaluate("location.hash")) == (before, "")


def test_the_address_keeps_the_search_and_a_link_brings_it_back(page: Path, browser: Browser) -> None:
    browser.open(page)
    search(browser, "amount_1 & more=x")
    choose(browser, "severity", "warning")
    kept = browser.evaluate("location.hash")
    assert kept == "#q=amount_1+%26+more%3Dx&severity=warning"
    browser.open(page)
    browser.evaluate(
        f"location.hash = {json.dumps(kept.replace('+%26+more%3Dx', ''))}; dispatchEvent(new Event('hashchange'))"
    )
    assert browser.evaluate("document.getElementById('q').value") == "amount_1"
    assert visible(browser, "#checks tbody tr") == ["drift(amount_1)"]


def test_a_link_to_what_is_folded_or_filtered_away_shows_it(page: Path, browser: Browser) -> None:
    browser.open(page)
    folded = browser.evaluate("document.querySelector('#checks tr.check').id")
    assert not browser.evaluate(f"document.getElementById('{folded}').checkVisibility()")
    go(browser, folded)
    assert browser.evaluate(f"document.getElementById('{folded}').checkVisibility()")
    search(browser, "unique")
    go(browser, folded)
    assert browser.evaluate(f"document.getElementById('{folded}').checkVisibility()")
    assert shown(browser, "#found") == ""


def test_a_hostile_address_does_nothing(page: Path, browser: Browser) -> None:
    browser.open(page)
    go(browser, f"q={quote(HOSTILE)}")
    assert browser.evaluate("document.getElementById('q').value") == HOSTILE
    assert browser.evaluate("document.title").startswith("Passed with warnings · ")
    assert (len(browser.requested()), browser.complaints()) == (1, [])


def test_the_keyboard_leads_from_the_top_through_sections_search_and_what_scrolls(page: Path, browser: Browser) -> None:
    browser.open(page)
    reached = []
    for _ in range(32):
        press(browser, "Tab")
        reached.append(focused(browser))
    causes, search = reached[1 : reached.index("q")], reached[reached.index("q") :]
    assert reached[0] == "#details"
    assert {place for place in causes if place.startswith("#check-")} <= set(
        browser.evaluate("[...document.querySelectorAll('#causes a')].map(a => a.hash)")
    )
    assert search[:5] == ["q", "severity", "status", "table", "Clear"]
    assert [place.split()[0] for place in search[5:8]] == ["Stages", "Checks", "Quarantine"]
    outlines = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outlines != "none"


def test_a_slash_within_a_field_is_a_slash(page: Path, browser: Browser) -> None:
    browser.open(page)
    press(browser, "/")
    assert focused(browser) == "q"
    press(browser, "/")
    assert browser.evaluate("document.getElementById('q').value") == "/"


def test_without_scripts_all_is_there_and_nothing_that_needs_one(page: Path, browser: Browser) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert browser.evaluate("document.getElementById('search').checkVisibility()") is False
        assert browser.evaluate(SECTIONS)[:3] == ["stages", "checks", "quarantine"]
        assert "not_null(placed_at)" in shown(browser, "#checks")
        assert browser.evaluate("document.querySelectorAll('.miss').length") == 0
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("width", [390, 320])
def test_on_a_phone_nothing_scrolls_sideways_and_fields_are_large_enough_to_touch(
    page: Path, browser: Browser, width: int
) -> None:
    browser.open(page, width=width)
    browser.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    heights = browser.evaluate(
        "[...document.querySelectorAll('#search input, #search select')].map(e => e.offsetHeight)"
    )
    assert min(heights) >= 40
    assert browser.evaluate("parseFloat(getComputedStyle(document.getElementById('q')).fontSize)") >= 16  # no zoom


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_lies_behind_it(page: Path, browser: Browser, scheme: Any) -> None:
    browser.open(page, scheme=scheme)
    browser.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    poor = browser.evaluate(CONTRASTS)
    assert poor == []  # WCAG 2.2, 1.4.3


CONTRASTS = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, a] = rgba(getComputedStyle(e).backgroundColor);
      if (a === 255) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  for (const element of document.querySelectorAll("body *:not(option)")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest("script, style")) continue;
    const style = getComputedStyle(element), colour = element.closest("svg") ? style.fill : style.color;
    const [one, other] = [light(rgba(colour).slice(0, 3)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) poor.add(`${element.tagName}.${element.getAttribute("class")} ${ratio.toFixed(2)}`);
  }
  return [...poor];
})()"""
"""The kinds of elements whose own text has less contrast than 4.5 with the nearest ground that hides all behind it."""
