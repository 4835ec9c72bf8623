"""The failing path, through DVC: a shut gate stops what comes after it, leaves a red page, and the next run repairs."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from projects import command, contents, git, replace, tiny, weakfish

from weakfish.report.overall import overall


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny(tmp_path_factory.mktemp("gates") / "orders")
    (root / ".gitignore").write_text("data/\nreports/\n.weakfish/\n")
    (root / ".dvcignore").write_text("__pycache__\n")
    git(root, "init", "--quiet")
    assert command(root, "dvc", "init", "--quiet").returncode == 0
    assert command(root, "dvc", "config", "core.analytics", "false").returncode == 0
    result = weakfish(root, "run")
    assert result.returncode == 0, result.stderr
    return root


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "orders", symlinks=True))


def page(root: Path) -> str:
    return (root / "reports/index.html").read_text(encoding="utf-8").replace("<wbr>", "")


def test_a_run_ends_with_the_stages_and_what_to_do_next(project: Path) -> None:
    result = weakfish(project, "run")
    assert result.returncode == 0
    assert "Nothing changed" in result.stdout
    for stage in ("ingest", "validate_events", "accept", "vote", "label", "gate_labels@fraud"):
        assert stage in result.stdout
    assert "cached" in result.stdout
    assert "Next:" in result.stdout


def test_too_many_bad_rows_shut_the_gate_of_the_events(project: Path) -> None:
    replace(project / "params.yaml", "max_quarantined_share: 0.25", "max_quarantined_share: 0.01")
    votes = contents(project / "data/votes")
    result = weakfish(project, "run")
    assert result.returncode == 1
    assert "The gate of events is shut: column_values_to_not_be_null(placed_at) failed on 1 row" in result.stderr
    assert "1 of 30 rows are bad, at most 1.0 % may be" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (project / "data/events").exists()
    assert contents(project / "data/votes") == votes
    assert overall(project).verdict == "failed"
    assert "column_values_to_not_be_null(placed_at)" in page(project)

    replace(project / "params.yaml", "max_quarantined_share: 0.01", "max_quarantined_share: 0.25")
    assert weakfish(project, "run").returncode == 0
    assert overall(project).verdict == "warned"


def test_a_critical_check_of_the_table_shuts_the_gate_whatever_the_limit(project: Path) -> None:
    replace(
        project / "validation/events.py",
        "EXPECTATIONS = [",
        'EXPECTATIONS = [\n    gxe.ExpectTableRowCountToEqual(value=31, severity="critical"),',
    )
    result = weakfish(project, "run")
    assert result.returncode == 1
    assert "table_row_count_to_equal() failed, observed 30" in result.stderr
    assert overall(project).verdict == "failed"


def test_the_gate_of_the_labels_stops_what_comes_after_it(project: Path) -> None:
    replace(project / "validation/labels/fraud.py", "min_value=0.5", "min_value=1.1")
    result = weakfish(project, "run")
    assert result.returncode == 1
    assert "The gate of labels/fraud is shut: column_mean_to_be_between(covered) failed" in result.stderr
    assert not (project / "reports/gates/labels/fraud.json").exists()
    assert overall(project).verdict == "failed"
    replace(project / "validation/labels/fraud.py", "min_value=1.1", "min_value=0.5")
    assert weakfish(project, "run").returncode == 0
    assert (project / "reports/gates/labels/fraud.json").exists()
    assert overall(project).verdict == "warned"


def test_a_check_that_cannot_be_run_shuts_the_gate_even_as_a_warning(project: Path) -> None:
    replace(
        project / "validation/events.py", 'column="amount", severity="warning"', 'column="amont", severity="warning"'
    )
    result = weakfish(project, "run")
    assert result.returncode == 1
    assert "column_values_to_not_be_null(amont) could not be run" in result.stderr


def test_a_stage_that_fails_leaves_a_red_page_too(project: Path) -> None:
    replace(project / "labeling_functions/orders.py", "order.amount > 200", "order.amont > 200")
    result = weakfish(project, "run")
    assert result.returncode == 2
    assert "Stage vote failed: Labeling function 'is_large'" in result.stderr
    assert result.stderr.count("Labeling function 'is_large'") == 1
    assert overall(project).verdict == "failed"
    assert "is_large" in page(project)


def test_an_edited_function_reruns_only_what_depends_on_it(project: Path) -> None:
    replace(project / "labeling_functions/orders.py", "order.amount > 200", "order.amount > 210")
    before = contents(project / "data/votes")
    result = weakfish(project, "run")
    assert result.returncode == 0, result.stderr
    states = {line.split()[0]: line for line in result.stdout.splitlines() if line.split()}
    assert "cached" in states["ingest"]
    assert "cached" in states["accept"]
    assert "run" in states["vote"]
    after = contents(project / "data/votes")
    files = [f"fraud/2024-0{month}.parquet" for month in (1, 2)]
    assert {name for name in before if before[name] != after[name]} <= {"fraud.manifest.json", *files}
    for file in files:
        then, now = (pq.read_table(io.BytesIO(of[file])) for of in (before, after))
        assert then.drop_columns(["is_large"]).equals(now.drop_columns(["is_large"]))


def test_status_says_what_is_stale_and_why(project: Path) -> None:
    replace(project / "params.yaml", "seed: 1", "seed: 2")
    result = weakfish(project, "status", "--json")
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)
    assert content["verdict"] == "warned"
    assert content["stale"]["label"] == ["params.yaml label_models modified"]
    assert "vote" not in content["stale"]
    assert "Stale: label (params.yaml label_models modified)" in weakfish(project, "status").stdout


def test_dvc_repro_says_so_when_another_one_is_at_work(project: Path) -> None:
    import subprocess
    import time

    from projects import BIN

    go = project / "go"
    slow = f"import os, time\nwhile not os.path.exists({str(go)!r}):\n    time.sleep(0.05)\n"
    (project / "labeling_functions/slow.py").write_text(slow)
    first = subprocess.Popen(
        [BIN / "weakfish", "run"], cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        record = project / ".weakfish/locks/vote.lock"
        deadline = time.monotonic() + 60
        stamp = record.stat().st_mtime
        while record.stat().st_mtime == stamp and time.monotonic() < deadline:
            time.sleep(0.1)
        ours = weakfish(project, "run")
        theirs = command(project, "dvc", "repro")
    finally:
        go.touch()
        first.communicate(timeout=120)
    assert first.returncode == 0
    assert ours.returncode == 2
    assert "`weakfish run` is already running here" in ours.stderr
    assert theirs.returncode != 0
    assert "busy" in theirs.stderr
    assert "Traceback" not in theirs.stderr


def test_what_dvc_says_of_its_own_files_is_shown_by_verbose_alone(project: Path) -> None:
    replace(project / "labeling_functions/orders.py", "order.amount > 200", "order.amount > 201")
    shown = weakfish(project, "run", "vote").stdout
    assert "Running stage 'vote'" in shown
    assert not re.search(r"lock file|skipping|^> |git add|dvc push", shown, re.MULTILINE)
    verbose = weakfish(project, "-v", "run", "--force", "--single-item", "vote").stdout
    assert re.search("^> .*weakfish vote", verbose, re.MULTILINE)


def test_records_that_cannot_be_read_are_told_on_the_terminal_each_in_a_sentence(project: Path) -> None:
    (project / "reports/labeling_functions.json").write_text('{"tasks": 3}')
    (project / "reports/validation/events.json").write_text('{"table": ')
    told = [line for line in weakfish(project, "report").stderr.splitlines() if "cannot be read" in line]
    assert [line.partition(": it ")[0] for line in told] == [
        f"weakfish: {file} cannot be read, so the page lacks what it holds"
        for file in ("reports/validation/events.json", "reports/labeling_functions.json")
    ]
