"""The report of `weakfish diff` as Markdown that fits a comment, and as a page for a desk and a phone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browser import Browser

from weakfish.diffing.edits import code
from weakfish.diffing.html import html
from weakfish.diffing.markdown import LONGEST, MARK, markdown

HOSTILE = "<img src=x onerror=alert(1)>|`@everyone`\n# [a](http://x.example)"


def found(keys: int = 3, groups: int = 2, name: str = "is_large") -> dict[str, Any]:
    """A comparison in which labels moved."""
    group = {"change": "flipped", "from": "fine", "to": "fraud", "count": 7}
    cause = {"kind": "function", "functions": [name]}
    return {
        "from": {"name": "main", "commit": "0123456789abcdef"},
        "to": {"name": "the work tree", "commit": None},
        "sentence": f"{code(name)} was edited: of the labels of fraud 7 flipped.",
        "nothing": False,
        "causes": [{"area": "functions", "what": f"{code(name)} was edited", "labels": 7, "effective": True}],
        "data": {},
        "functions": {
            f"task{number}": [
                {
                    "name": name,
                    "module": "m",
                    "change": "edited",
                    "moved": 7,
                    "votes": {"old": {"fraud": 3}, "new": {"fraud": 10}},
                    "stopped": False,
                }
            ]
            for number in range(groups)
        },
        "labels": {
            f"task{number}": {
                "flipped": 7,
                "appeared": 0,
                "vanished": 0,
                "rows": {"old": 9, "new": 9},
                "causes_unknown": None,
                "groups": [{**group, "cause": cause, "examples": [f"{name}{key}" for key in range(keys)]}],
                "shares": {"old": {"fine": 9}, "new": {"fine": 2, "fraud": 7}},
                "probabilities": 7,
            }
            for number in range(groups)
        },
        **{part: {} for part in ("metrics", "training", "features", "served")},
        "idle": [],
    }


def test_the_comment_begins_with_its_mark_and_the_sentence() -> None:
    text = markdown(found())
    assert text.splitlines()[:2] == [MARK, "**`is_large` was edited: of the labels of fraud 7 flipped.**"]
    assert "From main \\(0123456\\) to the work tree." in text


@pytest.mark.parametrize("longest", [LONGEST, 3000, 300])
def test_however_much_differs_the_comment_fits_and_says_what_it_leaves_out(longest: int) -> None:
    text = markdown(found(keys=10, groups=400), longest)
    assert len(text) <= longest
    assert text.startswith(MARK)
    assert text.rstrip().endswith("`weakfish diff` shows the rest.")
    assert text.count("<details>") == text.count("</details>")


def test_names_and_keys_are_never_markup() -> None:
    text = markdown(found(name=HOSTILE))
    assert "<img" not in re.sub(r"`[^`]*`", "", text)
    assert "@everyone" not in re.sub(r"`[^`]*`", "", text)
    row = next(line for line in text.splitlines() if line.startswith("| 7 |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 6


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a comparison with long and hostile names."""
    file = tmp_path_factory.mktemp("page") / "diff.html"
    file.write_text(html(found(keys=10, name=f"{'a_name_that_nothing_breaks_' * 6}{HOSTILE}")), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_the_window_and_asks_for_nothing(page: Path, browser: Browser, width: int, scheme: Any) -> None:
    browser.open(page, width=width, scheme=scheme)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate("document.querySelectorAll('img, script').length") == 0
    assert browser.complaints() == []


def test_the_page_is_light_or_dark_and_its_parts_can_be_reached(page: Path, browser: Browser) -> None:
    colours = []
    schemes: tuple[Any, Any] = ("light", "dark")
    for scheme in schemes:
        browser.open(page, scheme=scheme)
        colours.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]
    links = "[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.getAttribute('href')))"
    assert browser.evaluate(links)
    assert browser.evaluate("document.querySelectorAll('h1').length") == 1
