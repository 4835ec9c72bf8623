"""One wrong clock: its row is named and set aside, and does not move the time that the online store answers for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from made_projects import HEADER, init, line, settings
from projects import replace, weakfish, write

from weakfish.contracts.manifests import FeaturesManifest, read_manifest
from weakfish.contracts.tables import TIME, read_table
from weakfish.contracts.verdicts import Check, read_verdict
from weakfish.engine.clock import last_plausible
from weakfish.engine.duckdb import connect
from weakfish.project.paths import Project
from weakfish.report.overall import overall

CLOCK = "clock(at)"
LAST = datetime(2024, 8, 4, 10, tzinfo=UTC)
"""The time of the last of 200 orders."""

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def plausible(*times: datetime, now: datetime = NOW) -> datetime | None:
    engine = connect()
    return last_plausible(engine, engine.from_arrow(pa.table({"at": pa.array(times, TIME)})), "at", now)


def daily(days: int, start: datetime = datetime(2024, 1, 1, tzinfo=UTC)) -> list[datetime]:
    return [start + timedelta(days=number, hours=number % 7) for number in range(days)]


@pytest.mark.parametrize(
    "wrong",
    [
        [datetime(2035, 1, 1, tzinfo=UTC)],
        [datetime(2098, 6, 1, tzinfo=UTC), datetime(2035, 1, 1, tzinfo=UTC)],
        [NOW + timedelta(minutes=6)],
        [datetime(2024, 11, 20, tzinfo=UTC)],  # no later than now, but alone
        [datetime(2035, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), datetime(2024, 11, 20, tzinfo=UTC)],
    ],
)
def test_a_wrong_clock_does_not_move_the_last_time(wrong: list[datetime]) -> None:
    times = daily(100)
    assert plausible(*times, *wrong) == times[-1]


def test_what_may_well_be_is_plausible() -> None:
    times = daily(100)
    assert plausible(*times, NOW - timedelta(minutes=1), now=NOW) != NOW, "one row a year later is not"
    later = [times[-1] + timedelta(days=90) + timedelta(hours=number) for number in range(5)]
    assert plausible(*times, *later) == later[-1], "five of a hundred are more than a few"
    assert plausible(*times, times[-1] + timedelta(days=20)) == times[-1] + timedelta(days=20), "a pause of three weeks"
    bursts = [time for start in (0, 50, 100) for time in daily(12, times[0] + timedelta(days=start))]
    assert plausible(*bursts, bursts[-1] + timedelta(days=100)) == bursts[-1] + timedelta(days=100), "gaps are usual"
    ages = [datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=100 * number) for number in range(60)]
    assert plausible(*ages, ages[-1] + timedelta(days=1500)) == ages[-1] + timedelta(days=1500), "a long past"
    assert plausible(*daily(10), datetime(2024, 9, 1, tzinfo=UTC)) == datetime(2024, 9, 1, tzinfo=UTC), "too few rows"
    assert plausible(datetime(2035, 1, 1, tzinfo=UTC)) is None


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 orders of 2024, then a file with one of 2035; the pipeline has run up to the features."""
    folder = tmp_path_factory.mktemp("shop")
    write(folder / "in/first.csv", HEADER + "".join(line(number) for number in range(200)))
    init(str(folder / "made"), "--from", str(folder / "in"), "--label", "label", "--entity", "customer", "--yes")
    write(folder / "in/second.csv", HEADER + "o900,2035-01-01T00:00:00Z,c1,3.5,\n")
    return to_features(folder / "made")


def to_features(root: Path) -> Path:
    for verb in (["fetch"], ["ingest"], ["validate", "events"], ["accept"], ["vote"], ["label"], ["features"]):
        done = weakfish(root, *verb)
        assert done.returncode == 0, done.stderr
    return root


def clock(root: Path) -> Check:
    (found,) = (check for check in read_verdict(Project(root), "events").checks if check.check == CLOCK)
    return found


def as_of(root: Path) -> datetime | None:
    return read_manifest(Project(root), FeaturesManifest, "features/customer_activity").as_of


def test_a_generated_project_sets_the_row_aside_and_names_it(shop: Path) -> None:
    assert settings(shop)["events"]["wrong_clocks"] == "quarantine"
    check = clock(shop)
    assert (check.status, check.severity, check.unexpected, list(check.keys)) == (
        "quarantined",
        "critical",
        1,
        ["o900"],
    )
    assert check.found == (
        "1 row is later than now, or far beyond the rest: o900 (2035-01-01 00:00 UTC); the last plausible at is "
        "2024-08-04 10:00 UTC."
    )
    assert read_table(shop / "data/quarantine/events")["id"].to_pylist() == ["o900"]
    assert as_of(shop) == LAST
    said = overall(shop)
    assert said.what[0].startswith("events: 1 row is later than now, or far beyond the rest: o900 (2035-01-01 00:00")
    assert said.todo[0].startswith("Look at one with `weakfish quarantine show o900`.")


def test_a_row_that_was_let_in_all_the_same_does_not_move_as_of(shop: Path) -> None:
    done = weakfish(shop, "quarantine", "release", "o900", "--rule", CLOCK, "--why", "It is a test.", "--who", "me")
    assert done.returncode == 0, done.stderr
    to_features(shop)
    assert "o900" in read_table(shop / "data/events")["id"].to_pylist()
    assert as_of(shop) == LAST
    for file in (shop / "validation/patches").glob("*.yaml"):
        file.unlink()


def test_where_nothing_is_set_a_warning_names_it_and_as_of_stays(shop: Path) -> None:
    text = (shop / "params.yaml").read_text(encoding="utf-8")
    lines = [of for of in text.splitlines(keepends=True) if "wrong_clocks" not in of]
    (shop / "params.yaml").write_text("".join(lines), encoding="utf-8")
    to_features(shop)
    assert (clock(shop).status, clock(shop).severity, list(clock(shop).keys)) == ("warned", "warning", ["o900"])
    assert as_of(shop) == LAST
    replace(shop / "params.yaml", "  on_duplicate: ", "  wrong_clocks: allow\n  on_duplicate: ")
    for verb in (["validate", "events"], ["accept"], ["features"]):
        assert weakfish(shop, *verb).returncode == 0
    assert CLOCK not in {check.check for check in read_verdict(Project(shop), "events").checks}
    assert as_of(shop) == datetime(2035, 1, 1, tzinfo=UTC)


def test_events_of_the_future_are_meant_where_many_are(tmp_path: Path) -> None:
    ahead = datetime.now(UTC) + timedelta(days=40)
    rows = [line(number).replace("2024-", f"{ahead.year + number % 2}-") for number in range(200)]
    write(tmp_path / "in/first.csv", HEADER + "".join(rows))
    init(str(tmp_path / "made"), "--from", str(tmp_path / "in"), "--label", "label", "--entity", "customer", "--yes")
    assert settings(tmp_path / "made")["events"]["wrong_clocks"] == "allow"
