"""The store's figures can be measured: a smoke run of each, small; and what compares both sides notices differences."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import redis
from projects import REPOSITORY, command

from benchmarks import http_load, store_checks, store_data
from benchmarks.figures import PAGE, RESULTS
from benchmarks.process import SideFailed
from benchmarks.servers import redis_server
from benchmarks.session import ask
from benchmarks.store_figures import BY_NAME, FIGURES
from weakfish.feast.layout import created_field

SCALE = "0.002"
NAMES = [*FIGURES, *BY_NAME]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What a smoke run of all figures prints, by name."""
    work = tmp_path_factory.mktemp("work")
    before = [file.read_bytes() for file in (RESULTS, PAGE)]
    options = ("--scale", SCALE, "--work", str(work))
    result = command(REPOSITORY, sys.executable, "-m", "benchmarks.store", *NAMES, *options)
    assert result.returncode == 0, result.stderr
    assert not list(work.iterdir()), "the folder to work in is left as it was"
    assert [file.read_bytes() for file in (RESULTS, PAGE)] == before, "small runs are not kept"
    return {line["name"]: line for line in map(json.loads, result.stdout.splitlines())}


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_one_line_with_equal_results(lines: dict[str, dict[str, object]], name: str) -> None:
    line = lines[name]
    assert line["equal"] is True
    assert {"ours", "theirs", "unit", "ratio", "rows", "peak_rss_mb", "wanted", "ttl_days"} <= set(line)
    assert line["scale"] == float(SCALE)


def test_unknown_figures_are_refused_by_name() -> None:
    result = command(REPOSITORY, sys.executable, "-m", "benchmarks.store", "pit_join_shrot")
    assert result.returncode == 2
    assert "pit_join_shrot" in result.stderr


def test_the_page_says_what_every_figure_of_the_store_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in NAMES)


def write(file: Path, **columns: object) -> str:
    pq.write_table(pa.table(columns), file)
    return str(file)


@pytest.mark.parametrize(
    ("values", "rows", "equal"),
    [
        ([2.0, None, -0.0], [2, 1, 0], True),
        ([2.0, None, 0.0], [2, 1, 0], False),
        ([2.0, 0.5, -0.0], [2, 1, 0], False),
        ([None, None, -0.0], [2, 1, 0], False),
        ([2.0, None], [2, 1], False),
        ([2.0, None, -0.0], [2, 0, 1], False),
    ],
)
def test_frames_are_compared_by_row_to_the_bit(
    tmp_path: Path, values: list[float | None], rows: list[int], equal: bool
) -> None:
    ours = write(tmp_path / "ours.parquet", row=[0, 1, 2], value=[-0.0, None, 2.0])
    theirs = write(tmp_path / "theirs.parquet", value=values, row=rows)
    assert store_checks.frames(ours, theirs, by="row")["equal"] is equal


def test_servers_are_compared_key_by_key_but_for_our_own_field(tmp_path: Path) -> None:
    with redis_server(tmp_path / "ours") as ours, redis_server(tmp_path / "theirs") as theirs:
        clients = [redis.Redis(port=server.port) for server in (ours, theirs)]
        for client in clients:
            client.hset("a", mapping={"x": "1", "y": "2"})
        clients[0].hset("a", created_field("view"), "0123")
        clients[0].set("marker", "no entity")
        compared = {"ours": ours.port, "theirs": theirs.port}
        assert store_checks.servers(**compared)["equal"]
        clients[1].hset("a", "y", "3")
        assert not store_checks.servers(**compared)["equal"]
        clients[1].hset("a", "y", "2")
        clients[0].hset("b", "x", "1")
        assert not store_checks.servers(**compared)["equal"]


def test_answers_are_compared_by_feature_whatever_their_order() -> None:
    def answer(*features: tuple[str, float]) -> bytes:
        content = {"metadata": {"feature_names": [name for name, _ in features]}}
        return json.dumps(content | {"results": [{"values": [value]} for _, value in features]}).encode()

    one = http_load.digest([answer(("a", 1), ("b", 2))])
    assert one == http_load.digest([answer(("b", 2), ("a", 1))])
    assert one != http_load.digest([answer(("b", 1), ("a", 2))])


def test_a_side_that_fails_fails_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SideFailed, match="store_checks:frames"):
        ask("store_checks:frames", light=True, ours=str(tmp_path / "none"), theirs=str(tmp_path / "none"), by="row")
    assert "FileNotFoundError" in capfd.readouterr().err


def test_histories_hold_what_a_join_can_get_wrong(tmp_path: Path) -> None:
    store_data.histories(tmp_path / "table", accounts=40, hours=100)
    store_data.spine(tmp_path / "spine.parquet", accounts=40, hours=100, rows=1_000)
    rows = pq.read_table(tmp_path / "table")
    groups = rows.group_by([store_data.KEY, "event_timestamp"]).aggregate([("created", "count")])
    assert pc.max(groups["created_count"]).as_py() == 2, "corrections"
    assert rows["stat_0"].null_count
    per_account = rows.group_by(store_data.KEY).aggregate([("event_timestamp", "max")])["event_timestamp_max"]
    assert len(per_account.unique()) == 2, "accounts that ended"
    spine = pq.read_table(tmp_path / "spine.parquet")
    assert set(spine[store_data.KEY].to_pylist()) > set(rows[store_data.KEY].to_pylist()), "unknown accounts"
    assert pc.min(spine["event_timestamp"]).as_py() < pc.min(rows["event_timestamp"]).as_py()
