"""From a file to labels in a fresh folder, with Weakfish from its wheel: `init`, `dvc repro`, what is there then."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import own_data
import psutil
import pyarrow.compute as pc
import pytest
from projects import REPOSITORY
from wheels import Environment, install

from weakfish.contracts.tables import partitions, read_table


@dataclass(frozen=True)
class Made:
    """A generated project, its pipeline run once."""

    root: Path
    environment: Environment

    def json(self, name: str) -> Any:
        return json.loads((self.root / "reports" / name).read_text(encoding="utf-8"))

    def ledger(self, stage: str) -> dict[str, int]:
        found: dict[str, int] = self.json(f"ledger/{stage}.json")
        return found

    def run(self, *arguments: str) -> str:
        return self.environment.must(self.root, *arguments)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def orders(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Three months of orders, made a project and run by the commands of the README; served until the tests end."""
    folder = tmp_path_factory.mktemp("orders")
    own_data.orders(folder / "orders/first.csv", (1, 2))
    own_data.orders(folder / "orders/second.csv", (3,))
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```bash\n(weakfish init .*?)^```", readme, re.MULTILINE | re.DOTALL)
    environment.must(folder, "bash", "-eu", "-c", script)
    project = Made(folder / "shop", environment)
    yield project
    project.run("weakfish", "online", "stop")


@pytest.fixture(scope="module")
def tickets(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("tickets")
    own_data.tickets(folder / "tickets.csv")
    return made(environment, folder, "--from", "tickets.csv", "--label", "kind=category", "--no-entity")


@pytest.fixture(scope="module")
def flats(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("flats")
    own_data.flats(folder / "flats.csv")
    tasks = ("--classes", "price=cheap,fair,dear", "--classes", "size=small,large")
    return made(environment, folder, "--from", "flats.csv", *tasks)


def made(environment: Environment, folder: Path, *arguments: str) -> Made:
    environment.must(folder, "weakfish", "init", "project", *arguments, "--yes")
    found = Made(folder / "project", environment)
    found.run("python", "-m", "dvc", "repro", "--quiet")
    return found


@pytest.mark.parametrize("name", ["orders", "tickets", "flats"])
def test_a_generated_project_passes_at_once(name: str, request: pytest.FixtureRequest) -> None:
    project: Made = request.getfixturevalue(name)
    status = json.loads(project.run("weakfish", "status", "--json"))
    assert status["stale"] == {}
    assert status["verdict"] in ("passed", "warned"), status
    assert (project.root / "reports/index.html").stat().st_size > 10_000
    assert {line[3:] for line in project.run("git", "status", "--short").splitlines()} == {"dvc.lock"}
    project.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider")


@pytest.mark.parametrize("name", ["orders", "tickets", "flats"])
def test_every_row_is_accounted_for(name: str, request: pytest.FixtureRequest) -> None:
    project: Made = request.getfixturevalue(name)
    ingested, accepted = project.ledger("ingest"), project.ledger("accept")
    assert ingested["rows_in"] == ingested["rows_out"] + ingested["rejected"]
    assert accepted["rows_in"] == accepted["rows_out"] + accepted["quarantined"] == ingested["rows_out"]
    assert ingested["rows_in"] == {"orders": 1200, "tickets": 900, "flats": 403}[name]


@pytest.mark.parametrize("name", ["orders", "tickets", "flats"])
def test_the_examples_fire_on_some_rows_and_not_on_most(name: str, request: pytest.FixtureRequest) -> None:
    project: Made = request.getfixturevalue(name)
    tasks = project.json("labeling_functions.json")["tasks"]
    assert len(tasks) == (2 if name == "flats" else 1)
    for task in tasks:
        votes = read_table(project.root / "data/votes" / task)
        assert votes.num_columns == 3
        for function in votes.column_names:
            share = pc.mean(pc.not_equal(votes[function], -1)).as_py()
            assert 0.01 <= share <= 0.6, function


def test_six_classes_whose_names_are_no_plain_names_become_some(tickets: Made) -> None:
    labels = read_table(tickets.root / "data/labels/kind")
    classes = [f"{kind}_request" for kind in own_data.KINDS]
    assert sorted(name for name in labels.column_names if name.startswith("p_")) == sorted(f"p_{c}" for c in classes)
    gold = read_table(tickets.root / "data/gold/dev/kind")
    assert set(gold["label"].to_pylist()) == set(classes)


def test_what_gold_knows_is_measured_and_nothing_else_is_claimed(tickets: Made, flats: Made) -> None:
    metrics = tickets.json("metrics.json")["tasks"]["kind"]
    assert metrics["test_rows"] > 50
    assert metrics["models"]["label_model"]["accuracy"]["value"] is not None
    for task in flats.json("metrics.json")["tasks"].values():
        assert (task["dev_rows"], task["test_rows"]) == (0, 0)
        assert set(figures(task["models"])) == {None}
        assert "No test row has a gold label." in json.dumps(task["models"])


def figures(found: Any) -> Iterator[float | None]:
    """Every figure in a report's JSON: what stands under ``value``."""
    if isinstance(found, dict):
        if "value" in found:
            yield found["value"]
        for part in found.values():
            yield from figures(part)


def test_features_of_an_entity_are_joined_as_of_each_event_and_served(orders: Made) -> None:
    training = read_table(orders.root / "data/training/outcome")
    counts = [name for name in training.column_names if name.startswith("customer_id_activity__")]
    assert counts
    assert any(training[name].null_count < training.num_rows for name in counts)
    assert orders.json("publish.json")
    assert "customer_id_activity" in orders.run("weakfish", "online", "get", "customer_id=c001")


def test_options_of_dvc_are_passed_on_and_quiet_says_nothing(orders: Made) -> None:
    assert orders.run("weakfish", "-q", "run") == ""
    assert "Running stage 'features" in orders.run("weakfish", "run", "--dry", "--force", "features")
    wrong = orders.environment.run(orders.root, "weakfish", "run", "--backwards")
    assert wrong.returncode == 2
    assert "`dvc repro` does not take these options" in wrong.stderr


def test_a_run_that_was_killed_takes_dvc_and_its_stage_along_and_the_next_goes_on(orders: Made) -> None:
    record = orders.root / ".weakfish/runs/validate_events.json"
    before = record.stat().st_mtime_ns
    killed = orders.environment.start(orders.root, "weakfish", "run", "--force", "features")
    while record.stat().st_mtime_ns == before:  # until a stage runs, and others are to come
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    orders.run("weakfish", "run")
    assert not [process for process in psutil.process_iter() if is_at_work(process, orders.root)]
    assert json.loads(orders.run("weakfish", "status", "--json"))["stale"] == {}


def test_a_run_that_is_told_to_end_takes_its_stage_along_and_the_next_goes_on(orders: Made) -> None:
    record = orders.root / ".weakfish/runs/features.json"
    before = record.stat().st_mtime_ns
    ended = orders.environment.start(orders.root, "weakfish", "run", "--force", "features")
    while record.stat().st_mtime_ns == before:
        assert ended.poll() is None
        time.sleep(0.05)
    ended.send_signal(signal.SIGTERM)
    assert ended.wait(timeout=60) == 128 + signal.SIGTERM
    assert json.loads(record.read_text())["exit_code"] in (0, 130)  # it may have been done by then
    assert not [process for process in psutil.process_iter() if is_at_work(process, orders.root)]
    locks = orders.root / ".dvc/tmp/rwlock"
    for left in ("", json.dumps({"write": {"x": {"pid": os.getpid(), "cmd": "dvc"}}, "read": {}})):
        locks.write_text(left)  # a DVC that was killed while it wrote, and one whose number this process has now
        os.utime(locks, (0, 0))
        part = orders.root / f"reports/.metrics.json.part-{os.getpid()}"
        part.write_text("{")
        os.utime(part, (0, 0))
        orders.run("weakfish", "run")
        assert not part.exists()


def is_at_work(process: psutil.Process, root: Path) -> bool:
    """Whether it is DVC or a stage in the project; the warm process of the stages ends a moment later."""
    with suppress(psutil.Error):
        return process.cwd() == str(root) and bool({"weakfish.cli.dvc_process", "features"} & set(process.cmdline()))
    return False


def test_dvc_shows_the_headline_metrics_in_one_narrow_table(orders: Made) -> None:
    shown = json.loads(orders.run("python", "-m", "dvc", "metrics", "show", "--json"))[""]["data"]
    assert list(shown) == ["reports/headline.json"]
    (task,) = shown["reports/headline.json"]["data"].values()
    metrics = orders.json("metrics.json")["tasks"]["outcome"]["models"]
    assert task["label_model"]["auc"] == metrics["label_model"]["auc"]["value"]
    assert {name for values in task.values() for name in values} <= {
        "auc",
        "average_precision",
        "balanced_accuracy",
        "f1",
        "coverage",
    }


def test_a_view_or_a_task_more_is_two_files_a_function_or_an_expectation_one(orders: Made, tmp_path: Path) -> None:
    """As docs/architecture.md promises: no line of YAML beside params.yaml, no definition, no suite is asked for."""
    shutil.copytree(orders.root.parent, tmp_path / "grown", ignore=shutil.ignore_patterns(".weakfish"))
    project = Made(tmp_path / "grown/shop", orders.environment)
    project.run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-aqm", "As it was")
    change(project.root / "params.yaml", r"^views: \[(.*)\]$", r"views: [\1, channel_activity]")
    change(project.root / "params.yaml", r"(    functions:) all$", r"\1 [outcome.*]")
    dear = "tasks:\n  dear:\n    classes: [fine, dear]\n    functions: [dear.*]"
    change(project.root / "params.yaml", r"^tasks:$", dear)
    append(project.root / "feature_repo/transforms.py", CHANNEL_ACTIVITY)
    append(project.root / "labeling_functions/dear.py", DEAR)
    append(project.root / "labeling_functions/outcome.py", OF_MANY_ITEMS)
    append(project.root / "validation/events.py", AMOUNT_EXISTS)
    project.run("python", "-m", "dvc", "repro", "--quiet")
    changed = {line[3:] for line in project.run("git", "status", "--short").splitlines()} - {"dvc.lock"}
    assert changed == {
        "params.yaml",
        "feature_repo/transforms.py",
        "labeling_functions/dear.py",
        "labeling_functions/outcome.py",
        "validation/events.py",
    }
    asked = project.run("weakfish", "online", "get", "--json", "channel=web")
    project.run("weakfish", "online", "stop")
    assert json.loads(asked)["views"]["channel_activity"]["values"]["channel_events"] > 0
    training = read_table(project.root / "data/training/dear")
    assert "channel_activity__channel_events" in training.column_names
    assert training.num_rows == project.ledger("accept")["rows_out"]
    assert "of_many_items" in read_table(project.root / "data/votes/outcome").column_names
    checks = project.json("validation/events.json")["checks"]
    assert any(check["check"] == "column_to_exist(amount)" for check in checks), checks


CHANNEL_ACTIVITY = """

@transform(entity="channel")
def channel_activity(past: Past) -> dict[str, ir.Value]:
    return {"channel_events": past.ever.count()}
"""
DEAR = """
from weakfish.rules import threshold

costs_more = threshold("costs_more", 1, "amount", at_least=100.0, why="It is dear.")
costs_less = threshold("costs_less", 0, "amount", at_most=60.0, why="It is not dear.")
is_cheap = threshold("is_cheap", 0, "amount", at_most=20.0, why="It is cheap.")
"""
OF_MANY_ITEMS = """

of_many_items = threshold("of_many_items", 1, "items", at_least=6, why="Many of them come back.")
"""
AMOUNT_EXISTS = """
EXPECTATIONS += [gxe.ExpectColumnToExist(column="amount")]
"""


def change(file: Path, pattern: str, by: str) -> None:
    text, times = re.subn(pattern, by, file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert times == 1, f"{pattern} stands {times} times in {file}"
    file.write_text(text, encoding="utf-8")


def append(file: Path, text: str) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(text)


def test_without_times_there_are_labels_and_training_sets_but_no_past(flats: Made) -> None:
    assert list(partitions(flats.root / "data/events")) == ["undated"]
    assert list((flats.root / "data/features").iterdir()) == []
    assert flats.json("publish.json")["views"] == {}
    assert read_table(flats.root / "data/training/price").num_rows == flats.ledger("accept")["rows_out"]


def test_a_file_that_comes_later_is_a_new_partition_and_leaves_the_others_as_they_were(orders: Made) -> None:
    before = {name: file.read_bytes() for name, file in partitions(orders.root / "data/events").items()}
    own_data.orders(orders.root.parent / "orders/third.csv", (4,))
    orders.run("python", "-m", "dvc", "repro", "--quiet", "vote")
    after = {name: file.read_bytes() for name, file in partitions(orders.root / "data/events").items()}
    assert sorted(set(after) - set(before)) == ["2025-04"]
    assert {name: after[name] for name in before} == before
    assert list(partitions(orders.root / "data/votes/outcome")) == sorted(after)


def test_the_events_of_the_demo_as_csv_get_the_demos_votes(
    environment: Environment, demo: Path, tmp_path: Path
) -> None:
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        events = engine.read_parquet(str(demo / "data/events/*.parquet"))
        events.query("events", f"COPY events TO '{tmp_path}/events.csv' (HEADER, NULLSTR '\\N')")
    roles = ("--id", "message_id", "--time", "received_at", "--classes", "spam=ham,spam", "--null", "\\N")
    environment.must(tmp_path, "weakfish", "init", "project", "--from", "events.csv", *roles, "--yes")
    project = tmp_path / "project"
    shutil.rmtree(project / "labeling_functions")
    shutil.copytree(demo / "labeling_functions", project / "labeling_functions")
    environment.must(project, "python", "-m", "dvc", "repro", "--quiet", "vote")
    functions = read_table(demo / "data/votes/spam").column_names
    assert len(functions) > 20
    assert read_table(project / "data/votes/spam").column_names == functions
    of_demo, of_project = keys(demo), keys(project)
    assert sorted(of_demo) == sorted(of_project)
    for function in functions:
        assert votes(project, function, of_project) == votes(demo, function, of_demo), function


def keys(root: Path) -> list[str]:
    found: list[str] = read_table(root / "data/events", ["message_id"])["message_id"].to_pylist()
    return found


def votes(root: Path, function: str, of: list[str]) -> dict[str, int]:
    """The votes of a function by key."""
    voted = read_table(root / "data/votes/spam", [function])
    return dict(zip(of, voted[function].to_pylist(), strict=True))
