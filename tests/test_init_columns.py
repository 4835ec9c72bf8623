"""What `weakfish init` does with columns that a sample does not show whole, ids, leaks, times and missing labels."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_process import own_modules
from made_projects import init, refused, settings

from weakfish.project import params
from weakfish.project.paths import Project
from weakfish.scaffold.write import read_record
from weakfish.sources.fetching import fetch
from weakfish.sources.ingest import ingest
from weakfish.sources.tabular import TabularSource
from weakfish.sources.tabular.raw_files import find

START = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(file: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def visits(rows: int, hours: int = 5) -> list[dict[str, object]]:
    return [
        {
            "id": f"v{n}",
            "at": (START + timedelta(hours=hours * n)).isoformat(),
            "client": {"ip": f"10.0.0.{n % 30}", "agent": {"name": ["curl", "firefox"][n % 2]}},
            "bytes": n * 37 % 1000,
            "path": ["/", "/login", "/cart"][n % 3],
        }
        for n in range(rows)
    ]


def test_nested_json_becomes_columns_of_a_project_that_reads_them(here: Path) -> None:
    (here / "visits.jsonl").write_text("".join(json.dumps(visit) + "\n" for visit in visits(300)), encoding="utf-8")
    init("site", "--from", "visits.jsonl", "--classes", "bot,person", "--yes")
    found = settings(here / "site")["source"]
    assert found["columns"] == {
        "id": "string",
        "at": "time",
        "client_ip": "string",
        "client_agent_name": "string",
        "bytes": "integer",
        "path": "string",
    }
    proposal = read_record(here / "site").proposal
    assert proposal.entities == ("client_ip",)
    reader = TabularSource({**params.load(here / "site").source.settings, "path": str(here / "visits.jsonl")})
    (here / "raw").mkdir()
    shutil.copy(here / "visits.jsonl", here / "raw")
    rows = pa.Table.from_batches(reader.read(here / "raw")).to_pylist()
    assert rows[1] == {
        "id": "v1",
        "at": datetime(2024, 3, 1, 5, tzinfo=UTC),
        "client_ip": "10.0.0.1",
        "client_agent_name": "firefox",
        "bytes": 37,
        "path": "/login",
    }


def test_keys_and_columns_that_come_late_are_kept_and_named(here: Path) -> None:
    records = [{"id": f"v{n}", "at": f"2024-0{1 + n % 6}-01T10:00:00Z", "n": n % 7} for n in range(25_000)]
    for n, record in enumerate(records[24_000:]):
        record["campaign"] = ["spring", "NA"][n % 2]
        record["cost"] = [n / 8, None][n % 2]
    (here / "v.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    said = init("site", "--from", "v.jsonl", "--classes", "bot,person", "--yes")
    assert "Column campaign is not in the rows looked at first; it is kept, as string (from v.jsonl on)." in said
    found = read_record(here / "site").proposal
    facts = {column.name: column for column in found.columns}
    assert (facts["campaign"].kind, facts["campaign"].nulls) == ("string", 24_000)
    assert (facts["cost"].kind, facts["cost"].greatest) == ("number", 124.75)


def test_a_column_of_a_later_file_is_kept_unless_it_was_left_out(here: Path) -> None:
    for number in range(60):  # more files than are looked at
        more = ["extra", "secret"] if number == 5 else []
        rows = [[f"o{number}-{n}", f"2024-0{1 + n % 6}-03", n, *["x"] * len(more)] for n in range(20)]
        lines(here / f"{number:02}.csv", ["id", "day", "n", *more], rows)
    said = init("site", "--from", "*.csv", "--classes", "a,b", "--yes")
    assert "Column extra is not in the rows looked at first; it is kept, as string (from 05.csv on)." in said
    assert list(settings(here / "site")["source"]["columns"]) == ["id", "day", "n", "extra", "secret"]
    lines(here / "00.csv", ["id", "day", "n", "secret"], [["a", "2024-01-01", 1, "y"], ["b", "2024-01-02", 2, "z"]])
    said = init("other", "--from", "*.csv", "--classes", "a,b", "--leave-out", "secret", "--yes")
    assert list(settings(here / "other")["source"]["columns"]) == ["id", "day", "n", "extra"]
    assert "secret is not" not in said


def test_zeros_and_digits_that_come_late_make_a_column_text(here: Path) -> None:
    rows = [[f"o{n}", n % 900 + 100, 5] for n in range(21_000)]
    rows += [["last", "007", "98765432109876543210"]]
    lines(here / "o.csv", ["id", "code", "big"], rows)
    said = init("site", "--from", "o.csv", "--classes", "a,b", "--yes")
    assert "Column code is text: it has values such as '007', which a number would change." in said
    assert "Column big is text: it has values such as '98765432109876543210'" in said
    columns = settings(here / "site")["source"]["columns"]
    assert columns == {"id": "string", "code": "string", "big": "string"}
    said = init("asked", "--from", "o.csv", "--classes", "a,b", "--yes", "--type", "code=integer")
    told = "Column code: it has values such as '007', which integer columns change; --type code=string keeps them."
    assert told in said.splitlines()
    assert settings(here / "asked")["source"]["columns"]["code"] == "integer"


def test_a_unique_column_is_the_id_wherever_it_stands_and_others_are_no_features(here: Path) -> None:
    rows = [[n % 7, ["a", "b"][n % 2], f"{n * 7919 % 1000003:07x}", 5_000_000_000 + n * 37] for n in range(300)]
    lines(here / "o.csv", ["size", "kind", "hash", "serial"], rows)
    init("site", "--from", "o.csv", "--classes", "x,y", "--yes")
    proposal = read_record(here / "site").proposal
    assert (proposal.key, proposal.identifiers) == ("hash", ("serial",))
    made = (here / "site/feature_repo/definitions.py").read_text(encoding="utf-8")
    assert "size_value" in made
    assert "serial" not in made
    assert "hash_" not in made
    assert not [rule for rules in proposal.rules.values() for rule in rules if rule.column in ("hash", "serial")]


def test_a_guessed_id_that_stands_again_beyond_the_sample_is_none(here: Path) -> None:
    rows = [[n % 7, f"{n % 20_500:07x}"] for n in range(21_000)]
    lines(here / "o.csv", ["size", "hash"], rows)
    said = init("site", "--from", "o.csv", "--classes", "x,y", "--yes")
    assert "Column hash is no id: on 500 rows its value stands again." in said
    assert read_record(here / "site").proposal.key is None


def test_a_column_filled_from_the_label_is_named_as_a_leak(here: Path) -> None:
    header = ["id", "amount", "charged_back_on", "code", "checked_by", "colour", "label"]
    rows = []
    for n in range(400):
        label = ["", "fraud", "fine", "fine"][n % 4]
        known = bool(label)
        when = f"2024-01-{n % 28 + 1:02}" if label == "fraud" else ""
        code = {"fraud": "F", "fine": ["P", "Q"][n // 4 % 2], "": "Q"}[label]
        rows.append([f"o{n}", n % 50, when, code, "ann" if known else "", ["red", "blue"][n // 7 % 2], label])
    lines(here / "o.csv", header, rows)
    said = init("site", "--from", "o.csv", "--yes")
    leaks = [line for line in said.splitlines() if "looks like a leak" in line]
    assert [line.split()[1] for line in leaks] == ["charged_back_on", "code", "checked_by"]
    assert "it has values where label is fraud, and nowhere else" in leaks[0]
    assert "its value tells label on 300 of 300 rows" in leaks[1]
    assert "it has values where label is known, and nowhere else" in leaks[2]
    assert "--leave-out charged_back_on" in leaks[0]


def test_without_labels_it_asks_what_to_label(here: Path) -> None:
    lines(here / "o.csv", ["id", "colour", "n"], [[f"o{n}", ["red", "blue", "green"][n % 3], n % 9] for n in range(90)])
    said = init("site", "--from", "o.csv", "--yes")
    sentence = next(line for line in said.splitlines() if "say what to label" in line)
    assert "--classes TASK=a,b" in sentence
    assert "--label COLUMN a column that holds them (colour" in sentence


@pytest.mark.parametrize(
    ("hours", "partition"), [(0.7, "day"), (24, "month"), (24 * 60, "year")], ids=["nine days", "a year", "fifty years"]
)
def test_what_a_file_of_events_holds_follows_from_their_span(here: Path, hours: float, partition: str) -> None:
    start = datetime(1970 if hours > 100 else 2024, 3, 1, tzinfo=UTC)
    rows = [[f"o{n}", (start + timedelta(hours=hours * n)).isoformat(), f"c{n % 20}"] for n in range(310)]
    rows.append(["late", "2035-01-01T00:00:00Z", "c1"])  # one wrong clock does not tell
    lines(here / "o.csv", ["id", "at", "customer"], rows)
    init("site", "--from", "o.csv", "--classes", "a,b", "--yes")
    assert params.load(here / "site").events.partition == partition
    init("said", "--from", "o.csv", "--classes", "a,b", "--yes", "--partition", "year")
    assert params.load(here / "said").events.partition == "year"


def test_a_device_of_a_wrong_clock_does_not_tell_what_a_file_of_events_holds(here: Path) -> None:
    times = [START + timedelta(hours=4 * n) - timedelta(days=365 * 54 * (n % 25 == 7)) for n in range(500)]
    lines(
        here / "o.csv", ["id", "at", "device"], [[f"o{n}", at.isoformat(), f"d{n % 25}"] for n, at in enumerate(times)]
    )
    init("site", "--from", "o.csv", "--classes", "a,b", "--yes")
    assert params.load(here / "site").events.partition == "month"


def test_times_of_another_format_are_read_all_through(here: Path) -> None:
    rows = [[f"o{n}", f"{n % 12 + 1}/{n % 28 + 1}/2015 {n % 24}:35", f"c{n % 20}"] for n in range(300)]
    lines(here / "o.csv", ["id", "date", "customer"], rows)
    init("site", "--from", "o.csv", "--classes", "a,b", "--yes")
    source = settings(here / "site")["source"]
    assert (source["time"], source["time_formats"]) == ("date", {"date": "%m/%d/%Y %H:%M"})
    facts = read_record(here / "site").proposal.column("date")
    assert (facts.nulls, facts.least) == (0, "2015-01-01T00:35:00+00:00")


def test_day_and_month_that_nothing_tells_apart_are_asked_for(here: Path) -> None:
    rows = [[f"o{n}", f"{n % 12 + 1:02}/{n // 12 % 12 + 1:02}/2021", f"c{n % 20}"] for n in range(300)]
    lines(here / "o.csv", ["id", "day", "customer"], rows)
    said = ["--from", "o.csv", "--classes", "a,b", "--yes"]
    assert refused("site", *said) == (
        "Column 'day' has times such as 01/01/2021, and no value tells day from month; "
        "say --time-format 'day=%d/%m/%Y' or --time-format 'day=%m/%d/%Y'."
    )
    for name, form, last in [("a", "day=%d/%m/%Y", "2021-12-12"), ("b", "%m/%d/%Y", "2021-12-12")]:
        init(name, *said, "--time-format", form)
        reader = TabularSource({**params.load(here / name).source.settings, "path": str(here / "o.csv")})
        (here / "raw").mkdir(exist_ok=True)
        (here / "raw/o.csv").write_bytes((here / "o.csv").read_bytes())
        read = pa.Table.from_batches(reader.read(here / "raw"))["day"].to_pylist()
        assert str(max(read).date()) == last
        assert read[1] == datetime(2021, *((1, 2) if name == "a" else (2, 1)), tzinfo=UTC)
    init("text", *said, "--type", "day=string", "--no-time")
    assert settings(here / "text")["source"]["columns"]["day"] == "string"


def test_a_file_with_day_and_month_the_other_way_round_is_told_of(here: Path) -> None:
    rows = [[f"o{n}", f"{n % 28 + 1:02}/{n % 12 + 1:02}/2021", f"c{n % 20}"] for n in range(3000)]
    lines(here / "a.csv", ["id", "day", "customer"], rows)
    lines(here / "b.csv", ["id", "day", "customer"], [["p1", "04/05/2021", "c1"], ["p2", "04/26/2021", "c1"]])
    said = init("site", "--from", "*.csv", "--classes", "a,b", "--yes")
    assert "Column day has times such as '04/26/2021', with day and month the other way round" in said
    reader = TabularSource({**params.load(here / "site").source.settings, "path": str(here / "*.csv")})
    list(reader.read_files(find(str(here / "*.csv"), here)))
    assert reader.remarks() == [
        "b.csv has times such as '04/26/2021' in column 'day', with day and month the other way round: others of it "
        "may be read wrong, so make the files alike.",
        "1 value became null (day 1); data/quarantine/raw says which and why.",
    ]


def test_with_dots_the_day_is_first_and_it_says_so(here: Path) -> None:
    rows = [[f"o{n}", f"0{n % 9 + 1}.05.2021 09:00", f"c{n % 20}"] for n in range(300)]
    lines(here / "o.csv", ["id", "at", "customer"], rows)
    said = init("site", "--from", "o.csv", "--classes", "a,b", "--yes")
    assert settings(here / "site")["source"]["time_formats"] == {"at": "%d.%m.%Y %H:%M"}
    assert "at (time as %d.%m.%Y %H:%M)" in said
    assert read_record(here / "site").proposal.column("at").greatest == "2021-05-09T09:00:00+00:00"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--time-format", "at=%Q"), "--time-format at=%Q cannot be used: %Q is not a part"),
        (("--time-format", "nope=%d.%m.%Y"), "There is no column 'nope'"),
        (("--null", "nope"), None),
        (("--null", "n=5"), None),
    ],
)
def test_formats_and_null_words_may_be_said_of_a_column(
    here: Path, arguments: tuple[str, ...], sentence: str | None
) -> None:
    lines(here / "o.csv", ["id", "at", "n"], [[f"o{n}", f"2024-0{n % 9 + 1}-01", n % 7] for n in range(60)])
    said = ["site", "--from", "o.csv", "--classes", "a,b", "--yes", *arguments]
    if sentence:
        assert sentence in refused(*said)
        return
    init(*said)
    expected = {"nope": ["", "nope"], "n=5": {"n": ["", "5"]}}[arguments[1]]
    assert settings(here / "site")["source"]["null_values"] == expected


def test_what_a_later_file_adds_or_lacks_is_said_when_it_is_read(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(here / "1.csv", ["id", "n"], [[f"o{n}", n % 7] for n in range(60)])
    init("site", "--from", "*.csv", "--classes", "a,b", "--yes")
    lines(here / "2.csv", ["id", "amount"], [["p1", 5]])
    lines(here / "3.csv", ["id", "n"], [["p2", "x"], ["p3"], ["p4", "07"]])
    project = Project(here / "site")
    with own_modules():
        fetch(project)
        ingest(project)
    assert capsys.readouterr().err.splitlines() == [
        "ingest: 2.csv has no column 'n'; it is null in all its rows.",
        "ingest: 2.csv has a column 'amount' that is not in source.columns; it is left out.",
        "ingest: 3.csv has values that begin with a zero, such as '07', in column 'n'; as a number it is lost, so make "
        "the column a string.",
        "ingest: 1 line became no row, 1 value became null (n 1); data/quarantine/raw says which and why.",
    ]


def test_files_of_which_one_shares_no_column_are_refused(here: Path) -> None:
    lines(here / "a.csv", ["id", "kind"], [["1", "x"], ["2", "y"]])
    lines(here / "b.csv", ["name", "size"], [["3", "x"], ["4", "y"]])
    said = refused("site", "--from", "*.csv", "--classes", "a,b", "--yes")
    assert said.startswith("a.csv has the columns 'id', 'kind', none of which another file has ('name', 'size')")


def test_what_a_kind_changes_is_said_before_it_is_chosen(here: Path) -> None:
    rows = [[f"o{n}", ["1.1", "1.10", "2.0"][n % 3], [n, "-"][n % 5 == 0], n % 4] for n in range(60)]
    lines(here / "o.csv", ["id", "version", "copay", "kind"], rows)
    said = init("site", "--from", "o.csv", "--classes", "a,b", "--yes")
    assert "In column version '1.1' and '1.10' become the same number; --type version=string keeps them apart." in said
    assert "In column copay '-' means null." in said
    said = init("apart", "--from", "o.csv", "--classes", "a,b", "--yes", "--type", "version=string")
    assert settings(here / "apart")["source"]["columns"]["version"] == "string"


def test_bytes_that_are_no_text_are_proposed_for_nothing(here: Path) -> None:
    blobs = [bytes([200 + n % 50, 255, n]) for n in range(60)]
    table = {
        "id": [f"o{n}" for n in range(60)],
        "blob": pa.array(blobs, pa.binary()),
        "kind": [n % 4 for n in range(60)],
    }
    pq.write_table(pa.table(table), here / "o.parquet")
    said = init("site", "--from", "o.parquet", "--classes", "a,b", "--yes")
    assert "Column blob has 60 values that are no text; they become null (--leave-out blob)." in said
    assert "entity  blob" not in said


def test_times_that_are_kept_as_others_are_told_of_at_once_and_when_they_are_read(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[f"o{n}", (START + timedelta(hours=17 * n)).strftime("%Y-%m-%d %H:%M:%S"), n % 4] for n in range(400)]
    rows += [["nano", "2024-03-02T10:00:00.123456789Z", 1], ["twice", "2024-10-27 02:30:00", 1]]
    rows += [["skipped", "2024-03-31 02:30:00", 1], ["none", "", 1]]
    lines(here / "o.csv", ["id", "at", "kind"], rows)
    said = init("site", "--from", "o.csv", "--classes", "a,b", "--time-zone", "Europe/Berlin", "--yes").splitlines()
    changed = [
        "Column at: digits beyond microseconds are cut, in 1 row (first '2024-03-02T10:00:00.123456789Z').",
        "Column at: clocks in Europe/Berlin showed this time twice, and the first is taken, in 1 row "
        "(first '2024-10-27 02:30:00').",
    ]
    assert [line for line in said if line.startswith("Column at: ")] == changed
    (time,) = (line for line in said if line.startswith("  time "))
    assert "all rows but 1 have one" in time
    assert "100" not in time
    project = Project(here / "site")
    with own_modules():
        fetch(project)
        ingest(project)
    assert capsys.readouterr().err.splitlines() == [
        *(f"ingest: {sentence}" for sentence in changed),
        "ingest: 1 value became null (at 1); data/quarantine/raw says which and why.",
    ]


def test_what_ingest_says_of_values_that_became_null_names_the_worst_columns(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"n{place}" for place in range(7)]
    lines(here / "1.csv", ["id", *names], [[f"o{n}", *(n % 5 + place for place in range(7))] for n in range(60)])
    init("site", "--from", "*.csv", "--classes", "a,b", "--yes")
    bad = [[f"p{n}", *("x" if n < place else 1 for place in range(7))] for n in range(6)]
    lines(here / "2.csv", ["id", *names], bad)
    project = Project(here / "site")
    with own_modules():
        fetch(project)
        ingest(project)
    assert capsys.readouterr().err.splitlines() == [
        "ingest: 21 values became null (n6 6, n5 5, n4 4, n3 3, n2 2 and 1 more column); data/quarantine/raw says "
        "which and why."
    ]


def test_a_column_whose_name_is_no_key_of_yaml_is_left_out_and_told(here: Path) -> None:
    lines(here / "a.csv", ["id", "kind", "é" * 501], [[f"o{n}", "xy"[n % 2], n] for n in range(60)])
    said = init("site", "--from", "a.csv", "--classes", "a,b", "--yes")
    assert "is left out: its name has 501 characters, and a name of a column has 500 at most" in said
    assert list(settings(here / "site")["source"]["columns"]) == ["id", "kind"]
