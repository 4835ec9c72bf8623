"""When labels change: `label_model.refit`, and labels that depend on votes and settings alone."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_process import own_modules
from projects import contents, replace, tiny

from weakfish.contracts.tables import TIME, read_table, write_partition
from weakfish.contracts.votes_file import fingerprint, write_votes
from weakfish.errors import ParamsError, TableError
from weakfish.files import write_json
from weakfish.labeling import label as label_stage
from weakfish.labeling.label import label
from weakfish.labeling.label_model import FittedModel, Sums, fit
from weakfish.labeling.label_summary import VoteCounts
from weakfish.labeling.matrix import read_label_matrix
from weakfish.labeling.tally import VoteTally
from weakfish.project.paths import Project

FUNCTIONS = ("buys_gift_cards", "is_large", "is_small", "is_a_book")
MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04")
SEED = "seed: 1"


@pytest.fixture(autouse=True)
def own_functions() -> Iterator[None]:
    """Each project imports the labeling functions of its own folder, not those of another that came before."""
    with own_modules():
        yield


def write_month(root: Path, name: str, rows: int = 70) -> None:
    """Events of a month, or without a time, and votes on them that are mostly right."""
    random = np.random.default_rng(int.from_bytes(name.encode()[-4:]))
    keys = pa.array([f"{name}-{number}" for number in range(rows)])
    start = None if name == "undated" else datetime.fromisoformat(f"{name}-01").replace(tzinfo=UTC)
    times = [start and start + timedelta(hours=number) for number in range(rows)]
    events = {"order_id": keys, "placed_at": pa.array(times, TIME), "amount": pa.array([100.0] * rows)}
    write_partition(root / "data/events", name, pa.table(events | {"note": pa.array(["book"] * rows)}))
    gold = random.integers(2, size=rows)
    by_function = {}
    for column, function in enumerate(FUNCTIONS):
        votes = np.where(random.random(rows) < 0.9 - 0.1 * column, gold, 1 - gold)
        by_function[function] = np.where(random.random(rows) < 0.6, votes, -1).astype(np.int8)
    write_votes(root / f"data/votes/fraud/{name}.parquet", by_function, fingerprint(pa.chunked_array([keys])))
    made = {function: {"module": "labeling_functions.orders", "identity": "ab"} for function in FUNCTIONS}
    write_json(root / "data/votes/fraud.manifest.json", {"task": "fraud", "functions": made})


def project(root: Path, settings: str, *months: str) -> Path:
    """The tiny project with votes on some months."""
    tiny(root)
    (root / "validation/events.py").unlink()  # nobody judges these events
    replace(root / "params.yaml", SEED, f"{SEED}, {settings}")
    for name in months:
        write_month(root, name)
    return root


def labels(root: Path) -> dict[str, bytes]:
    label(Project(root))
    return contents(root / "data/labels/fraud")


def models(root: Path) -> dict[str, list[str]]:
    """The partitions that each model labels, by the last that it was fitted on."""
    manifest = json.loads((root / "data/labels/fraud.manifest.json").read_text())
    return {model["fitted_through"]: model["partitions"] for model in manifest["models"]}


@pytest.mark.parametrize(
    "settings",
    ["refit: monthly", 'refit: never, fitted_through: "2024-02"', "refit: monthly, method: auto"],
)
def test_a_new_month_leaves_the_bytes_of_old_labels(settings: str, tmp_path: Path) -> None:
    root = project(tmp_path / "orders", settings, *MONTHS[:3], "undated")
    before = labels(root)
    write_month(root, MONTHS[3])
    after = labels(root)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"2024-04.parquet"}


def test_always_gives_old_months_new_labels(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", "refit: always", *MONTHS[:3])
    before = labels(root)
    write_month(root, MONTHS[3])
    after = labels(root)
    assert all(after[name] != before[name] for name in before)
    assert models(root) == {"2024-04": list(MONTHS)}


def test_monthly_models_see_the_past_and_the_first_labels_what_came_before_it(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", "refit: monthly", *MONTHS, "undated")
    labels(root)
    assert models(root) == {
        "2024-02": ["2024-01", "2024-02", "undated"],
        "2024-03": ["2024-03"],
        "2024-04": ["2024-04"],
    }


@pytest.mark.parametrize("refit", ["always", "monthly", 'never, fitted_through: "2024-03"'])
def test_each_model_equals_a_fit_on_the_votes_that_it_may_see(refit: str, tmp_path: Path) -> None:
    root = project(tmp_path / "orders", f"refit: {refit}", *MONTHS)
    labels(root)
    found = Project(root)
    matrix = read_label_matrix(found, "fraud")
    months = np.array([key[:7] for key in matrix.keys.to_pylist()])
    stored = read_table(root / "data/labels/fraud")["p_fraud"].to_numpy()
    for content in json.loads((root / "data/labels/fraud.manifest.json").read_text())["models"]:
        seen = matrix.votes[months <= content["fitted_through"]]
        expected = fit(Sums.of(seen, 2), found.task("fraud"))
        model = FittedModel.from_json(content)
        assert model.to_json() == expected.through(content["fitted_through"]).to_json()
        own = np.isin(months, content["partitions"])
        assert np.array_equal(model.probabilities(matrix.votes[own])[:, 1], stored[own])


def test_never_labels_months_before_and_after_with_one_model(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", 'refit: never, fitted_through: "2024-02"', *MONTHS)
    labels(root)
    assert models(root) == {"2024-02": list(MONTHS)}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("refit: never", "needs fitted_through"),
        ('refit: never, fitted_through: "2023-12"', "'2023-12', which is not a partition of the events"),
        ('refit: never, fitted_through: "undated"', "not a partition"),
        ('refit: monthly, fitted_through: "2024-01"', "read only with refit: never"),
        ("refit: weekly", "refit cannot be used"),
    ],
)
def test_settings_that_cannot_be_are_said_so_and_old_labels_stay(settings: str, says: str, tmp_path: Path) -> None:
    root = project(tmp_path / "orders", "refit: always", *MONTHS[:2])
    before = labels(root)
    replace(root / "params.yaml", "refit: always", settings)
    with pytest.raises(ParamsError, match=says):
        label(Project(root))
    assert contents(root / "data/labels/fraud") == before


@pytest.mark.parametrize("refit", ["always", "monthly"])
def test_the_votes_of_partitions_are_added_up_and_let_go(
    refit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    months = [f"{year}-{month:02}" for year in (2023, 2024) for month in range(1, 13)]
    root = project(tmp_path / "orders", f"refit: {refit}, method: majority", *months)
    held: list[int] = []

    class Counts(VoteCounts):
        @staticmethod
        def of(tally: VoteTally) -> VoteCounts:
            held.append(sum(type(each) is VoteTally for each in gc.get_objects()))
            return VoteCounts.of(tally)

    monkeypatch.setattr(label_stage, "VoteCounts", Counts)
    labels(root)
    assert len(held) == len(months)
    assert max(held) < 10  # the sum, and those of partitions that are being read


def test_uncovered_rows_have_no_label_and_count_for_no_class(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", "method: majority", *MONTHS[:2])
    labels(root)
    rows = read_table(root / "data/labels/fraud").to_pylist()
    uncovered = [row for row in rows if not row["covered"]]
    assert uncovered
    assert {(row["label"], row["n_votes"], row["p_fraud"]) for row in uncovered} == {(None, 0, 0.5)}
    found = json.loads((root / "reports/labeling_functions.json").read_text())["tasks"]["fraud"]
    seen = [row for row in rows if row["covered"]]
    assert (found["rows"], found["covered"], found["method"]) == (len(rows), len(seen), "majority")
    for part in found["by_partition"]:
        own = [row["p_fraud"] for row in seen if row["order_id"].startswith(part["partition"])]
        assert part["mean"]["fraud"] == pytest.approx(np.mean(own), abs=1e-12)
        assert part["covered"] == len(own)


def test_ties_get_the_same_label_wherever_the_row_stands(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", "method: majority", *MONTHS[:2])
    labels(root)
    before = {row["order_id"]: row for row in read_table(root / "data/labels/fraud").to_pylist()}
    ties = {key: row["label"] for key, row in before.items() if row["covered"] and row["majority_fraud"] == 0.5}
    assert set(ties.values()) == {"fine", "fraud"}
    turned = Project(root)
    matrix = read_label_matrix(turned, "fraud")
    shutil.rmtree(root / "data/events")
    events = pa.table({"order_id": matrix.keys, "placed_at": matrix.times}).take(list(range(len(matrix.votes)))[::-1])
    columns = {"amount": pa.array([1.0] * len(events)), "note": pa.array(["book"] * len(events))}
    for name, column in columns.items():
        events = events.append_column(name, column)
    write_partition(root / "data/events", "2024-01", events)
    shutil.rmtree(root / "data/votes/fraud")
    votes = dict(zip(FUNCTIONS, matrix.votes[::-1].T, strict=True))
    write_votes(root / "data/votes/fraud/2024-01.parquet", votes, fingerprint(events["order_id"]))
    labels(root)
    after = {row["order_id"]: row["label"] for row in read_table(root / "data/labels/fraud").to_pylist()}
    assert {key: after[key] for key in ties} == ties


def test_votes_on_other_events_than_those_that_lie_there_are_an_error(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", "refit: always", *MONTHS[:2])
    votes = root / "data/votes/fraud"
    shutil.copy(votes / "2024-01.parquet", votes / "2024-02.parquet")  # as many rows
    says = r"fraud/2024-02.parquet holds votes on other events than data/events/2024-02.parquet"
    with pytest.raises(TableError, match=says):
        read_label_matrix(Project(root), "fraud")
    with pytest.raises(TableError, match=says):
        label(Project(root))


def test_a_votes_file_without_a_function_names_it(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", "refit: always", *MONTHS[:2])
    file = root / "data/votes/fraud/2024-02.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["is_small"]), file)
    with pytest.raises(TableError, match=r"2024-02.parquet has no votes of is_small; run `dvc repro vote`"):
        label(Project(root))
