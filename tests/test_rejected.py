"""Lines that are no rows count like any other: rows read = kept + quarantined + rejected, wherever rows are counted."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from made_projects import HEADER, init, line
from projects import weakfish, write

import weakfish as weakfish_api
from weakfish.contracts.ledgers import read_ledger
from weakfish.contracts.verdicts import read_verdict
from weakfish.project.paths import Project
from weakfish.report.overall import overall
from weakfish.report.page import render
from weakfish.report.summary import print_summary

BROKEN = "o900,one field too few\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 good orders in one file, of which a row has no key; three lines of a second file are no rows."""
    folder = tmp_path_factory.mktemp("shop")
    write(folder / "in/first.csv", HEADER + "".join(line(number) for number in range(180)))
    init(str(folder / "made"), "--from", str(folder / "in"), "--label", "label", "--entity", "customer", "--yes")
    rows = [line(number) for number in range(180, 200)]
    rows[3:3] = [BROKEN, BROKEN, '"o901",too,many,of,these,fields\n']
    rows[7] = rows[7].replace("o184", "")
    write(folder / "in/second.csv", HEADER + "".join(rows))
    to_accept(folder / "made")
    return folder / "made"


def to_accept(root: Path) -> None:
    for verb in (["fetch"], ["ingest"], ["validate", "events"], ["accept"]):
        done = weakfish(root, *verb)
        assert done.returncode == 0, done.stderr


def test_ledger_and_verdict_count_them(shop: Path) -> None:
    ledger, verdict = read_ledger(Project(shop), "ingest"), read_verdict(Project(shop), "events")
    assert (ledger.rows_in, ledger.rows_out, ledger.quarantined, ledger.rejected) == (203, 200, None, 3)
    assert (verdict.rows_read, verdict.kept, verdict.quarantined, verdict.rejected) == (203, 199, 1, 3)
    written = json.loads((shop / "reports/validation/events.json").read_text())
    assert written["rows_read"] == written["kept"] + written["quarantined"] + written["rejected"] == 203
    assert ledger.reading
    found = [(of.file, of.line, of.rows) for of in ledger.reading.rejected]
    assert found == [("second.csv", 5, 2), ("second.csv", 7, 1)]


def test_list_and_status_say_how_many_and_why(shop: Path) -> None:
    printed = weakfish(shop, "quarantine", "list").stdout
    assert "events: 203 rows read = 199 kept + 1 quarantined + 3 rejected (2.0 % bad; at most 5.0 % may be)" in printed
    assert "has 2 fields instead of 5" in printed
    assert "second.csv, line 5" in printed
    assert "rejected lines, by file and reason" in printed
    assert "in Python: weakfish.open('.').rejects.pandas()" in printed
    assert weakfish_api.open(shop).rejects.pandas()["line"].tolist() == [5, 6, 7]
    told = json.loads(weakfish(shop, "quarantine", "list", "--json").stdout)
    assert (told["rows_read"], told["rejected"]) == (203, 3)
    assert told["rejects"][0] == {"file": "second.csv", "reason": "has 2 fields instead of 5", "rows": 2, "line": 5}
    text = io.StringIO()
    print_summary(shop, file=text)
    (ingested,) = (row.split() for row in text.getvalue().splitlines() if row.split()[:1] == ["ingest"])
    assert ingested[1:4] == ["203", "200", "3"]


def test_new_ones_come_first_on_the_page(shop: Path) -> None:
    found = overall(shop)
    assert found.verdict == "warned"
    assert found.what[0].startswith(
        "events: 3 of 203 lines read became no row (1.5 %), 2 of them in second.csv, first line 5, which has 2 "
        "fields instead of 5."
    )
    render(shop)
    page = (shop / "reports/index.html").read_text(encoding="utf-8")
    assert "<b>203</b> rows read = <b>199</b> kept" in page
    assert "199 kept, 1 quarantined, 3 rejected" in page


def test_once_accepted_they_are_as_usual_until_there_are_more(shop: Path) -> None:
    assert weakfish(shop, "accept-baseline", "events").returncode == 0
    assert weakfish(shop, "validate", "events").returncode == 0
    (check,) = (of for of in read_verdict(Project(shop), "events").checks if of.check == "rejected")
    assert (check.status, check.observed, check.threshold) == ("passed", 3, 3)
    second = shop.parent / "in/second.csv"
    text = second.read_text(encoding="utf-8")
    second.write_text(text + BROKEN, encoding="utf-8")
    to_accept(shop)
    (check,) = (of for of in read_verdict(Project(shop), "events").checks if of.check == "rejected")
    assert check.status == "warned"
    assert "4 of 204 lines read became no row (2.0 %), 1 more than in the accepted baseline" in str(check.found)
    assert overall(shop).what[0].startswith("events: 4 of 204 lines read became no row")
    second.write_text(text + 40 * BROKEN, encoding="utf-8")
    for verb in (["fetch"], ["ingest"], ["validate", "events"]):
        assert weakfish(shop, *verb).returncode == 0
    refused = weakfish(shop, "accept")
    assert refused.returncode == 1
    assert "(44 of 243 rows are bad, at most 5.0 % may be)" in refused.stderr
