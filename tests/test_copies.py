"""Exact copies of a row: kept once and counted, left to the suite, or refused, as `events.on_duplicate` says."""

from __future__ import annotations

from pathlib import Path

import own_data
import pytest
from made_projects import HEADER, init, line, settings
from projects import replace, weakfish, write

from weakfish.contracts.ledgers import read_ledger
from weakfish.contracts.tables import read_table
from weakfish.contracts.verdicts import read_verdict
from weakfish.project.paths import Project


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 orders, of which a second file repeats 20; in two of them the amount is another."""
    folder = tmp_path_factory.mktemp("shop")
    write(folder / "in/first.csv", HEADER + "".join(line(number) for number in range(200)))
    init(str(folder / "made"), "--from", str(folder / "in"), "--label", "label", "--entity", "customer", "--yes")
    rows = [line(number) for number in range(20)]
    rows[3], rows[4] = rows[3].replace("3.5", "99.5"), rows[4].replace("4.5", "99.5")
    write(folder / "in/second.csv", HEADER + "".join([*rows, rows[0]]))
    return folder / "made"


def to_accept(root: Path) -> tuple[Project, str]:
    """The project, and what `ingest` said."""
    said = ""
    for verb in (["fetch"], ["ingest"], ["validate", "events"], ["accept"]):
        done = weakfish(root, *verb)
        assert done.returncode == 0, done.stderr
        said += done.stderr if verb == ["ingest"] else ""
    return Project(root), said


def test_a_generated_project_keeps_the_first_and_counts_the_others(shop: Path) -> None:
    assert settings(shop)["events"]["on_duplicate"] == "keep_first"
    project, ingested = to_accept(shop)
    assert "ingest: 19 rows, exact copies of others, were left out.\n" in ingested
    ledger, verdict = read_ledger(project, "ingest"), read_verdict(project, "events")
    assert (ledger.rows_in, ledger.rows_out, ledger.rejected, ledger.copies) == (221, 202, 19, 19)
    assert (verdict.rows_read, verdict.kept, verdict.quarantined, verdict.rejected) == (221, 198, 4, 19)
    assert verdict.bad == 4, "a copy is no bad row"
    checks = {check.check: check for check in verdict.checks}
    assert checks["copies"].status == "noted"
    assert checks["copies"].found == (
        "19 rows are exact copies of another, and left out; the first of each is kept (events.on_duplicate)."
    )
    assert checks["rejected"].status == "passed"
    keys = read_table(project.table("events"))["id"].to_pylist()
    assert sorted(keys) == sorted(f"o{number}" for number in range(200) if number not in (3, 4))
    gold = sum(read_table(file).num_rows for file in (project.data / "gold").glob("*/label"))
    assert gold == sum(number % 2 == 0 for number in range(200)) + 1, "o4 stands twice with different amounts"
    said = weakfish(shop, "quarantine", "list").stdout
    assert "221 rows read = 198 kept + 4 quarantined + 19 rejected, 19 of them exact copies" in said


UNIQUE = "column_values_to_be_unique(id)"


@pytest.mark.parametrize("asked", [("--rule", UNIQUE), ("o3",), ("o3", "o4", "--rule", UNIQUE)])
def test_a_release_that_would_shut_a_later_gate_is_refused_at_once(shop: Path, asked: tuple[str, ...]) -> None:
    done = weakfish(shop, "quarantine", "release", *asked, "--who", "me", "--why", "Both are right.")
    assert done.returncode == 2
    rows = 2 if asked == ("o3",) else 4
    assert (
        f"Letting in {rows} rows would shut the gate of labels/label: {UNIQUE} would not hold for {rows} rows of them; "
        "repair them with --set, or release others."
    ) in done.stderr
    assert not list((shop / "validation/patches").glob("*.yaml"))


def test_a_row_without_a_time_would_shut_the_gate_of_training(shop: Path) -> None:
    write(shop.parent / "in/third.csv", HEADER + "o700,,c1,3.5,\no701,2024-02-03T10:00:00Z,c1,9999.5,\n")
    to_accept(shop)
    (shop.parent / "in/third.csv").unlink()
    release = ("quarantine", "release", "o700", "--who", "me", "--why", "It is right.")
    done = weakfish(shop, *release)
    assert done.returncode == 2
    assert "would shut the gate of training/label: column_values_to_not_be_null(at) would not hold" in done.stderr
    done = weakfish(shop, *release, "--set", "at=2024-02-03T10:00:00Z")
    assert done.returncode == 0, done.stderr
    (patch,) = (shop / "validation/patches").glob("*.yaml")
    patch.unlink()


def test_they_can_be_left_to_the_suite_or_refused(shop: Path) -> None:
    replace(shop / "params.yaml", "on_duplicate: keep_first", "on_duplicate: refuse")
    for_good = (shop / "reports/ledger/ingest.json").read_bytes()
    refused = weakfish(shop, "ingest")
    assert refused.returncode == 1
    assert "19 rows are exact copies of others, the first of 'o0'" in refused.stderr
    assert (shop / "reports/ledger/ingest.json").read_bytes() == for_good
    assert read_table(shop / "data/staged").num_rows == 204, "as it was"
    replace(shop / "params.yaml", "on_duplicate: refuse", "on_duplicate: quarantine")
    replace(shop / "params.yaml", "max_quarantined_share: 0.05", "max_quarantined_share: 0.3")
    project, _ = to_accept(shop)
    verdict = read_verdict(project, "events")
    assert (verdict.rows_read, verdict.kept, verdict.quarantined, verdict.rejected) == (221, 180, 41, 0)
    assert "copies" not in {check.check for check in verdict.checks}


def test_rows_without_a_key_are_copies_when_all_of_them_is_equal(tmp_path: Path) -> None:
    own_data.flats(tmp_path / "flats.csv")
    init(str(tmp_path / "made"), "--from", str(tmp_path / "flats.csv"), "--classes", "price=cheap,dear", "--yes")
    project, _ = to_accept(tmp_path / "made")
    lines = (tmp_path / "flats.csv").read_text(encoding="utf-8").splitlines()[1:-1]
    ledger = read_ledger(project, "ingest")
    assert (ledger.rows_in, ledger.rows_out) == (403, len(set(lines)))
    assert (ledger.rejected, ledger.copies) == (403 - len(set(lines)), 402 - len(set(lines)))
    keys = read_table(project.staged("events"))["row_id"].to_pylist()
    assert len(set(keys)) == len(set(lines))
    assert not any("-" in key for key in keys)
