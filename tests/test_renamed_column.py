"""A column that a new file lacks shuts the gate; the first sentence names it, and the column that it was renamed to."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import own_data
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from made_projects import HEADER, init, line, settings
from projects import weakfish, write

from weakfish.contracts.ledgers import ingested
from weakfish.contracts.verdicts import read_verdict
from weakfish.project.paths import Project
from weakfish.report.overall import overall
from weakfish.sources.tabular import TabularSource

COLUMNS = {"order_id": "string", "placed_at": "time", "customer_id": "string", "amount": "number", "items": "integer"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Orders of 200 days; a second file calls the amount `amount_kzt`, and has no column of labels yet."""
    folder = tmp_path_factory.mktemp("shop")
    write(folder / "in/first.csv", HEADER + "".join(line(number) for number in range(200)))
    init(str(folder / "made"), "--from", str(folder / "in"), "--label", "label", "--entity", "customer", "--yes")
    rows = [line(number).rpartition(",")[0] for number in range(200, 210)]
    write(folder / "in/second.csv", "id,at,customer,amount_kzt\n" + "".join(f"{row}\n" for row in rows))
    judge(folder / "made")
    return folder / "made"


def judge(root: Path) -> None:
    for verb in (["fetch"], ["ingest"], ["validate", "events"]):
        done = weakfish(root, *verb)
        assert done.returncode == 0, done.stderr


def test_the_gate_is_shut_and_the_first_sentence_says_why(shop: Path) -> None:
    verdict = read_verdict(Project(shop), "events")
    assert verdict.verdict == "failed"
    first = verdict.checks[0]
    assert (first.check, first.severity, first.status) == ("missing_column(amount)", "critical", "failed")
    told = "second.csv has no column amount, amount_kzt seems to be it under a new name; it is null in all its rows."
    assert first.found == told
    refused = weakfish(shop, "accept")
    assert refused.returncode == 1
    assert told.rstrip(".") in refused.stderr
    assert not (shop / "data/events").exists()
    said = overall(shop)
    assert said.what[0].startswith(f"events: {told}")
    assert said.todo[0].startswith("Deliver these files with the column under its old name.")
    assert len([sentence for sentence in said.what if "amount" in sentence]) == 1, "its nulls follow, and are no cause"


def test_labels_that_are_not_known_yet_only_warn(shop: Path) -> None:
    checks = {check.check: check for check in read_verdict(Project(shop), "events").checks}
    assert checks["missing_column(label)"].status == "warned"


def test_columns_that_files_may_lack_are_listed_and_pass(shop: Path, tmp_path: Path) -> None:
    params = settings(shop)
    params["source"]["optional"] = ["amount", "label"]
    (shop / "params.yaml").write_text(json.dumps(params), encoding="utf-8")  # JSON is YAML
    judge(shop)
    reading = ingested(Project(shop)).reading
    assert reading
    assert not reading.missing
    assert read_verdict(Project(shop), "events").verdict != "failed"
    again = tmp_path / "again"  # `init` sees both files
    init(str(again), "--from", str(shop.parent / "in"), "--label", "label", "--entity", "customer", "--yes")
    assert set(settings(again)["source"]["optional"]) == {"amount", "amount_kzt", "label"}


def as_jsonl(file: Path) -> None:
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [json.dumps(row) for row in csv.DictReader(lines)]
    file.with_suffix(".jsonl").write_text("\n".join(rows), encoding="utf-8")
    file.unlink()


def as_parquet(file: Path) -> None:
    pq.write_table(pyarrow.csv.read_csv(file), file.with_suffix(".parquet"))
    file.unlink()


@pytest.mark.parametrize("to", [None, as_jsonl, as_parquet])
@pytest.mark.parametrize(
    ("old", "new", "likely"),
    [
        ("amount", "amount_kzt", "amount_kzt"),  # its numbers are others
        ("amount", "Total", "Total"),  # by its numbers alone
        ("customer_id", "client", "client"),
        ("items", "pieces", "pieces"),
        ("placed_at", "ordered_on", "ordered_on"),
    ],
)
def test_the_new_name_is_found_by_name_and_values(
    tmp_path: Path, to: Callable[[Path], None] | None, old: str, new: str, likely: str
) -> None:
    own_data.orders(tmp_path / "a.csv", (1,))
    own_data.orders(tmp_path / "b.csv", (2,))
    lines = [row.split(",") for row in (tmp_path / "b.csv").read_text(encoding="utf-8").splitlines()]
    place = lines[0].index(old)
    lines[0][place] = new
    for row in lines[1:] if new == "amount_kzt" else ():
        row[place] = str(round(500 * float(row[place]), 2))
    (tmp_path / "b.csv").write_text("\n".join(",".join(row) for row in lines), encoding="utf-8")
    for file in ("a.csv", "b.csv") if to else ():
        to(tmp_path / file)  # type: ignore[misc]
    assert missing(tmp_path) == [(old, likely)]


def test_no_name_is_given_where_none_is_alike(tmp_path: Path) -> None:
    own_data.orders(tmp_path / "a.csv", (1,))
    own_data.orders(tmp_path / "b.csv", (2,))
    lines = [row.split(",") for row in (tmp_path / "b.csv").read_text(encoding="utf-8").splitlines()]
    lines = [[*row[:5], *row[6:], f"note {place}" if place else "remark"] for place, row in enumerate(lines)]
    (tmp_path / "b.csv").write_text("\n".join(",".join(row) for row in lines), encoding="utf-8")
    assert missing(tmp_path) == [("amount", None)]


def missing(folder: Path) -> list[tuple[str, str | None]]:
    reader = TabularSource({"path": ".", "columns": COLUMNS, "key": "order_id", "time": "placed_at"})
    assert pa.Table.from_batches(reader.read(folder)).num_rows == 800
    return [(of.column, of.likely) for of in reader.reading().missing]
