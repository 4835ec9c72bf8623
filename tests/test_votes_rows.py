"""Row functions vote as in Snorkel's ``PandasLFApplier``, in any number of processes; what they raise is kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_process import run_here
from projects import command, replace, tiny, weakfish, write
from snorkel.labeling import LabelingFunction, PandasLFApplier, labeling_function
from snorkel.preprocess import preprocessor

from weakfish.labeling.workers import Batch, row_votes
from weakfish.rules.loading import Classes

CLASSES = Classes("task", ("no", "yes", "maybe"))


def table(rows: int = 60) -> pa.Table:
    """Rows of every usual type, each with nulls."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    numbers = list(range(rows))
    columns: dict[str, pa.Array] = {
        "key": pa.array([f"k{number}" for number in numbers]),
        "text": pa.array([None if number % 7 == 0 else f"Text {number} \u017f" for number in numbers]),
        "count": pa.array([None if number % 5 == 0 else number for number in numbers], pa.int32()),
        "big": pa.array([2**53 + number for number in numbers], pa.int64()),
        "share": pa.array([None if number % 3 == 0 else number / 7 for number in numbers]),
        "flag": pa.array([(True, False, None)[number % 3] for number in numbers]),
        "time": pa.array(
            [None if number % 4 == 0 else start + timedelta(hours=number) for number in numbers],
            pa.timestamp("us", tz="UTC"),
        ),
        "size": pa.array([number % 3 for number in numbers], pa.int64()),
        "name": pa.array(["a", "b", "c"][number % 3] for number in numbers),
        "two words": pa.array(numbers, pa.int64()),
    }
    return pa.table(columns)


@labeling_function()
def by_text(x: Any) -> int:
    return 1 if x.text is not None and "1" in x.text.lower() else -1


@labeling_function()
def by_missing_values(x: Any) -> int:
    return 2 if x.count_is_none else -1


@labeling_function()
def by_null_types(x: Any) -> int:
    return 0 if x["count"] is None else 1 if pd.isna(x.share) or x.time is pd.NaT else -1


@labeling_function()
def by_exact_number(x: Any) -> int:
    return int(x.big % 3)


@labeling_function()
def by_time(x: Any) -> int:
    return -1 if pd.isna(x.time) else x.time.dayofweek % 3


@labeling_function()
def by_what_a_series_answers_itself(x: Any) -> int:
    return 1 if x.size == 10 and x["size"] < 2 and x.name == x["two words"] else 0


@labeling_function()
def by_the_api_of_a_series(x: Any) -> int:
    return (int(x.isna().sum()) + len(x) + len(list(x)) + ("flag" in x) + len(x.to_dict())) % 3


@labeling_function()
def by_operations_of_a_series(x: Any) -> int:
    return 1 if (x == "b").any() else -1


@labeling_function()
def by_get(x: Any) -> int:
    return 1 if x.get("flag") and x.get("no such", 5) == 5 else 0


@preprocessor()
def lowered(x: Any) -> Any:
    x.text = (x.text or "none").lower()
    x.length = len(x.text)
    return x


@labeling_function(pre=[lowered])
def by_preprocessed_text(x: Any) -> int:
    return x.length % 3


@labeling_function(resources={"words": {"text 3 \u017f", "none"}}, pre=[lowered])
def by_resources(x: Any, words: set[str]) -> int:
    return 1 if x.text in words else -1


class Threshold(LabelingFunction):
    """A function with a state and a class of its own."""


FUNCTIONS: list[LabelingFunction] = [
    by_text,
    by_null_types,
    by_exact_number,
    by_time,
    by_what_a_series_answers_itself,
    by_the_api_of_a_series,
    by_operations_of_a_series,
    by_get,
    by_preprocessed_text,
    by_resources,
    Threshold("above", lambda x, least: 1 if x.big > least else -1, resources={"least": 2**53 + 30}),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_votes_are_those_of_the_pandas_applier(function: LabelingFunction) -> None:
    rows = table()
    frame = rows.to_pandas(integer_object_nulls=True)
    expected = PandasLFApplier([function]).apply(frame, progress_bar=False)[:, 0]
    keys = rows["key"].to_pylist()
    classes = {function.name: CLASSES}
    first, last = (row_votes([function], Batch(part, at), keys[at : at + 30], classes) for part, at in halves(rows))
    votes = np.concatenate([first[function.name][0], last[function.name][0]])
    assert votes.tolist() == expected.tolist()
    assert first[function.name][1].count == last[function.name][1].count == 0


def halves(rows: pa.Table) -> list[tuple[pa.Table, int]]:
    return [(rows.slice(0, 30), 0), (rows.slice(30), 30)]


def test_a_function_that_raises_is_no_abstain() -> None:
    rows = table()
    keys, classes = rows["key"].to_pylist(), {"by_missing_values": CLASSES}
    found, faults = row_votes([by_missing_values], Batch(rows), keys, classes)["by_missing_values"]
    assert set(found.tolist()) == {-128}
    assert faults.count == 60
    assert faults.exception == "AttributeError: 'Series' object has no attribute 'count_is_none'"
    assert faults.rows == ["k0", "k1", "k2", "k3", "k4"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny(tmp_path_factory.mktemp("rows") / "orders")
    run_here(root, ["ingest"], ["validate", "events"], ["accept"])
    write(
        root / "labeling_functions/more.py",
        """
        from snorkel.labeling import labeling_function


        @labeling_function()
        def is_odd(order):
            return 1 if int(order.order_id[1:]) % 2 else -1


        @labeling_function()
        def divides(order):
            return 1 if 7 / (int(order.order_id[1:]) % 10) > 2 else -1
        """,
    )
    return root


def test_faults_within_the_budget_are_told_and_stay_apart_from_abstains(made: Path) -> None:
    result = weakfish(made, "vote")
    assert result.returncode == 2
    assert "'divides' (labeling_functions.more) raised ZeroDivisionError: division by zero on 2 rows" in result.stderr
    assert "'o10', 'o20'" in result.stderr
    assert "tasks.fraud.max_faults in params.yaml is 0" in result.stderr
    assert not (made / "data/votes").exists()
    replace(made / "params.yaml", "functions: all", "functions: all\n    max_faults: 2")
    result = weakfish(made, "vote")
    assert result.returncode == 0, result.stderr
    faults = json.loads((made / "reports/votes.json").read_text())["tasks"]["fraud"]["faults"]
    assert faults["divides"]["count"] == 2
    assert faults["divides"]["exception"] == "ZeroDivisionError: division by zero"
    votes = pq.read_table(made / "data/votes/fraud", columns=["divides"])["divides"]
    assert votes.null_count == 2


BOTH = """
import sys
from pathlib import Path

import pyarrow.parquet as pq

from weakfish.engine import local
from weakfish.labeling import workers
from weakfish.project.paths import Project

if __name__ == "__main__":
    file = Path(sys.argv[1])
    names = ("is_large", "is_a_book", "is_odd", "buys_gift_cards")
    groups = pq.read_metadata(file).num_row_groups
    units = [workers.Unit(file, group, names) for group in range(groups)]
    project = Project(Path.cwd())
    alone = {unit.group: outcome for unit, outcome in workers.run(project, units)}
    local.WORTH_A_PROCESS = 0.0
    local.os.cpu_count = lambda: 3
    together = {unit.group: outcome for unit, outcome in workers.run(project, units)}
    assert sorted(together) == sorted(alone) == list(range(groups)) and groups == 6
    for group, outcome in alone.items():
        for name in names:
            assert (outcome[name][0] == together[group][name][0]).all()
    print(sum(len(outcome["is_odd"][0]) for outcome in together.values()))
"""


def test_processes_give_the_votes_of_one(made: Path, tmp_path: Path) -> None:
    files = sorted((made / "data/events").glob("*.parquet"))
    rows = pa.concat_tables([pq.read_table(file) for file in files])
    big = pa.concat_tables([rows] * 20)
    file = made / ".weakfish/big.parquet"
    pq.write_table(big, file, row_group_size=100)
    write(tmp_path / "both.py", BOTH)
    result = command(made, "python", str(tmp_path / "both.py"), str(file))
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == big.num_rows
