"""A source of a user's own, as docs/sources.md shows it, at work in a project."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from projects import REPOSITORY, replace, tiny, weakfish

from weakfish.contracts.tables import partitions, read_table
from weakfish.project.paths import Project

PAGE = (REPOSITORY / "docs/sources.md").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The project about orders with the page's source, whose settings name a database of 100 tickets."""
    root = tiny(tmp_path / "tickets")
    (root / "sources/tickets.py").write_text(block(), encoding="utf-8")
    replace(
        root / "params.yaml", "sources.orders:Orders", f"sources.tickets:Tickets\n  database: {tmp_path}/tickets.db"
    )
    replace(root / "params.yaml", "order_id", "ticket_id")
    replace(root / "params.yaml", "placed_at", "opened_at")
    replace(root / "params.yaml", "  fraud:\n    classes: [fine, fraud]", "  urgency:\n    classes: [low, high]")
    replace(root / "params.yaml", "label_models:\n  fraud:", "label_models:\n  urgency:")
    with duckdb.connect(tmp_path / "tickets.db") as database:
        database.execute("SET TimeZone = 'America/New_York'")  # times are instants, whatever the session's zone
        database.execute(
            "CREATE TABLE tickets AS SELECT 't' || lpad(i::VARCHAR, 3, '0') AS ticket_id, "
            "TIMESTAMPTZ '2024-01-15 12:00:00Z' + i * INTERVAL 12 HOUR AS opened_at, 'no. ' || i AS subject, "
            "CASE i % 3 WHEN 0 THEN 'high' WHEN 1 THEN 'low' END AS status, i AS private FROM range(100) t(i)"
        )
    return Project(root)


def block() -> str:
    """The page's block of Python."""
    found = re.search(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_a_source_of_twenty_lines_reads_a_database(project: Project) -> None:
    for verb in ("fetch", "ingest"):
        done = weakfish(project.root, verb)
        assert done.returncode == 0, done.stderr
    rows = read_table(project.staged("events"))
    assert list(partitions(project.staged("events"))) == ["2024-01", "2024-02", "2024-03"]
    assert rows.column_names == ["ticket_id", "opened_at", "subject"]
    assert rows["ticket_id"].to_pylist() == [f"t{number:03}" for number in range(100)]
    assert rows["opened_at"][0].as_py() == datetime(2024, 1, 15, 12, tzinfo=UTC)
    gold = {part: read_table(project.table(f"gold/{part}/urgency")).num_rows for part in ("dev", "test")}
    assert gold == {"dev": 22, "test": 45}, "of the 33 before February every third has no label"


def test_the_class_on_the_page_is_some_twenty_lines() -> None:
    code = block()
    assert len(code[code.index("class ") :].strip().splitlines()) <= 20
