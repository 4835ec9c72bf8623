"""A period with more rows than fit into one partition lies in parts, and all that is made of it is as if it did not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from in_process import run_here
from made_projects import init, line, orders
from projects import contents, replace, write

from weakfish import open as open_project
from weakfish.checks.bad_rows import QuarantinedRows
from weakfish.checks.repairs import staged_files
from weakfish.contracts.tables import (
    TIME,
    Contract,
    open_partition,
    partition_span,
    partitions,
    period_of,
    read_table,
)
from weakfish.files import read_json
from weakfish.labeling.explain import explain
from weakfish.project.paths import Project
from weakfish.sources import parts
from weakfish.sources.parts import Period, Spill, row_bytes
from weakfish.sources.staging import without_copies

SCHEMA = pa.schema([("id", pa.string()), ("at", TIME), ("text", pa.string()), ("tags", pa.list_(pa.string()))])
CONTRACT = Contract("events", SCHEMA, "id", "at")
START = datetime(2024, 1, 1, tzinfo=UTC)


def rows(*keys: int, at: int | None = None) -> pa.Table:
    """Events, one an hour, or all at one time."""
    return pa.Table.from_pylist(
        [
            {
                "id": f"k{key:03}",
                "at": START + timedelta(hours=key if at is None else at),
                "text": "x" * key,
                "tags": [],
            }
            for key in keys
        ],
        SCHEMA,
    )


def spilled(folder: Path, *batches: pa.Table) -> list[parts.PartitionRows]:
    with TemporaryDirectory(dir=folder) as home, TemporaryDirectory(dir=folder) as scratch:
        spill = Spill(Path(home), CONTRACT)
        for batch in batches:
            spill.add(batch)
        periods = [Period(CONTRACT, name, [spill.file(name)], size) for name, size in sorted(spill.sizes.items())]
        found = [piece for period in periods for piece in period.pieces(Path(scratch))]
        assert list(Path(scratch).iterdir()) == []
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(parts, "ROWS_IN_A_PART", 10)
    monkeypatch.setattr(parts, "ROWS_IN_A_GROUP", 4)
    return monkeypatch


def test_rows_come_out_in_order_in_parts_and_row_groups_whatever_the_batches(
    tmp_path: Path, small: pytest.MonkeyPatch
) -> None:
    order = np.random.default_rng(1).permutation(25).tolist()
    found = spilled(tmp_path, *(rows(*order[start : start + 7]) for start in range(0, 25, 7)), rows(800))
    assert pa.concat_tables(piece.rows for piece in found)["id"].to_pylist() == [f"k{n:03}" for n in [*range(25), 800]]
    names = [f"2024-01~000{part}" for part in (1, 1, 1, 2, 2, 2, 3, 3)]
    assert [piece.partition for piece in found] == [*names, "2024-02"]
    assert [piece.rows.num_rows for piece in found] == [4, 4, 2, 4, 4, 2, 4, 1, 1]
    for one, other in zip(found, spilled(tmp_path, rows(*order), rows(800)), strict=True):
        assert (one.partition, one.goes_on) == (other.partition, other.goes_on)
        assert one.rows.equals(other.rows)
    assert partition_span("2024-01~0002", "month") == partition_span("2024-01", "month")


def test_a_part_has_so_many_bytes_or_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 3 * int(row_bytes(rows(100))[0])
    monkeypatch.setattr(parts, "BYTES_IN_A_PART", most)
    found = spilled(tmp_path, rows(*range(90, 100), 700))
    sizes = [int(row_bytes(piece.rows).sum()) for piece in found]
    assert [piece.rows.num_rows for piece in found] == [3, 3, 3, 1, 1]
    assert max(sizes[:4]) <= most < sizes[4]


def test_bytes_of_a_row_are_those_of_its_values_whatever_stands_beside_it() -> None:
    table = pa.Table.from_pylist([{"id": "é", "at": None, "text": None, "tags": ["a", "bc"]}, {"id": "ab"}], SCHEMA)
    both = row_bytes(table)
    assert both.tolist() == [int(row_bytes(table.slice(row, 1))[0]) for row in (0, 1)]
    assert both[0] > both[1] >= len("ab") + 8


def test_rows_of_one_time_and_key_stay_together_unless_a_part_cannot_hold_them(
    tmp_path: Path, small: pytest.MonkeyPatch
) -> None:
    alike = [rows(9, at=9)] * 3
    found = spilled(tmp_path, rows(*range(9)), *alike, rows(*range(10, 12)))
    second = next(piece for piece in found if piece.partition == "2024-01~0002")
    assert second.rows["id"].to_pylist() == ["k009", "k009", "k009", "k010"]
    assert not any(piece.goes_on for piece in found)
    found = spilled(tmp_path, rows(1), *[rows(9, at=9)] * 23)
    assert [piece.partition[-1] for piece in found] == ["1", "2", "2", "2", "3", "3", "3", "4"]
    assert [piece.rows.num_rows for piece in found] == [1, 4, 4, 2, 4, 4, 2, 3]
    assert [piece.goes_on for piece in found] == [False, False, *[True] * 6]


def test_copies_are_left_out_though_they_lie_in_several_parts(tmp_path: Path, small: pytest.MonkeyPatch) -> None:
    seen: set[bytes] = set()
    kept, copies = [], []
    for _, piece, goes_on in spilled(tmp_path, rows(1), *[rows(9, at=9)] * 23, rows(30)):
        seen = seen if goes_on else set()
        left, keys = without_copies(piece, "id", made=False, seen=seen)
        kept += left["id"].to_pylist()
        copies += keys
    assert (kept, copies) == (["k001", "k009", "k030"], ["k009"] * 22)


PATCHES = {
    "time": 'keys: [o70]\nset: {at: "2024-02-10T09:00:00Z"}',
    "amount": "keys: [o40]\nset: {amount: 41.0}",
}
TABLES = ("events", "labels/label", "features/customer_activity", "training/label")


def stages() -> Iterator[list[str]]:
    yield from (["fetch"], ["ingest"], ["validate", "events"], ["accept"], ["vote"], ["label"])
    yield from ([verb, "labels/label"] for verb in ("validate", "gate"))
    yield ["features"]
    yield from ([verb, "features/customer_activity"] for verb in ("validate", "gate"))
    yield ["training-set"]
    yield from ([verb, "training/label"] for verb in ("validate", "gate"))
    yield ["evaluate"]
    yield ["accept-baseline", "--through", "2024-05"]
    yield from (["validate", table] for table in TABLES)
    yield ["report"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A project on which all stages have run, with a file per month, and its copy, with about three."""
    folder = tmp_path_factory.mktemp("parts")
    orders(folder)
    again = [line(number) for number in (20, 50, 51)]
    undated = [f"o{number},,c1,{number}.5,\n" for number in range(300, 312)]
    with (folder / "orders.csv").open("a", encoding="utf-8") as file:
        file.writelines([*again, *undated])
    one, several = folder / "one", folder / "several"
    init(str(one), "--from", str(folder / "orders.csv"), "--id", "id", "--yes")
    replace(one / "params.yaml", "refit: always", "refit: monthly")
    for name, text in PATCHES.items():
        write(one / f"validation/patches/{name}.yaml", f"table: events\nwho: Ada\nwhy: Told by phone.\n{text}\n")
    shutil.copytree(one, several)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("labeling.label", "features.known_labels"):
            patch.setattr(f"weakfish.{module}.MIN_HISTORY", 20)
        run_here(one, *stages())
        patch.setattr(parts, "ROWS_IN_A_PART", 11)
        patch.setattr(parts, "ROWS_IN_A_GROUP", 4)
        run_here(several, *stages())
    return one, several


def test_tables_made_of_parts_are_those_made_of_one_partition(both: tuple[Path, Path]) -> None:
    one, several = both
    names = list(partitions(several / "data/events"))
    assert names[:4] == ["2024-01~0001", "2024-01~0002", "2024-01~0003", "2024-02~0001"]
    assert list(partitions(one / "data/events")) == sorted({*map(period_of, names)})
    rows = [open_partition(file).metadata.num_rows for file in partitions(several / "data/events").values()]
    assert max(rows) == 12  # eleven, and the one that was moved there
    for table in (*TABLES, "known_labels/label", "gold/dev/label", "gold/test/label", "quarantine/events"):
        ours, theirs = (read_table(root / "data" / table) for root in (several, one))
        assert ours.num_rows
        assert ours.equals(theirs), table
    assert contents(several / "data/features/customer_activity") == contents(one / "data/features/customer_activity")


def said(root: Path) -> dict[str, Any]:
    """All reports, floats to nine digits, without hashes of data."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(of) for name, of in value.items() if name not in ("data_version", "accepted")}
        if isinstance(value, list):
            return [plain(of) for of in value]
        return float(f"{value:.9g}") if isinstance(value, float) else value

    files = [*(root / "reports").rglob("*.json"), *(root / "data/profiles").rglob("*.json")]
    found = {
        str(file.relative_to(root)): plain(read_json(file)) for file in [*files, root / "validation/baseline.json"]
    }
    return found | {"models": plain(read_json(root / "data/labels/label.manifest.json"))["models"]}


def test_what_is_said_of_parts_is_what_is_said_of_one_partition(both: tuple[Path, Path]) -> None:
    one, several = map(said, both)
    assert len(one) > 15
    assert several == one
    assert "~" not in json.dumps(one)
    assert "~000" not in (both[1] / "reports/index.html").read_text(encoding="utf-8")


def undated(root: Path) -> dict[str, Any]:
    """What is set aside of rows without a time."""
    project = Project(root)
    aside = QuarantinedRows.read(project, "events")
    with staged_files(project, "events") as files:
        return aside.summary(None, "undated", 20, files)


def test_people_ask_for_a_period_and_get_all_its_parts(both: tuple[Path, Path]) -> None:
    one, several = (open_project(root) for root in both)
    assert several.events.partitions == one.events.partitions
    assert several.events.arrow(partition="2024-03").equals(one.events.arrow(partition="2024-03"))
    ours, theirs = map(undated, both)
    assert ours == theirs
    assert {row["partition"] for row in ours["newest"]} == {"undated"}
    theirs, ours = (explain(Project(root), "label", "o100") for root in both)
    assert ours["votes"] == theirs["votes"]
    assert ours["events"]["partition"] == "2024-04~0002"
