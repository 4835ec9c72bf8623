"""A project with its tables in a storage, on Spark: executors see none of its folders, and make the same tables."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fleets import require_java
from in_process import run_here
from made_projects import init, line
from projects import command, contents, write

from weakfish.contracts.pointers import SUFFIX
from weakfish.contracts.storage import storage_of
from weakfish.project.paths import Project
from weakfish.training.joins import JoinLimits
from weakfish.training.sets import build_training_sets

SPARK = {"WEAKFISH_ENGINE": "spark", "SPARK_MASTER": "local[2]", "SPARK_LOCAL_IP": "127.0.0.1"}
"""Two executors in one JVM, whose Python processes have folders of their own where there is a storage."""

SMALL = {"batch": 20, "stretch": 30, "bucket": 60}
"""JoinLimits by which three months of orders are joined in buckets."""

STAGES = (
    ["fetch"],
    ["ingest"],
    ["validate", "events"],
    ["accept"],
    ["vote"],
    ["label"],
    ["validate", "labels/label"],
    ["features"],
    ["validate", "features/customer_activity"],
)

RUN = """
import os, shutil
from pathlib import Path

from in_process import run_here
from test_fleet_storage import SMALL, STAGES
from weakfish.project.paths import Project
from weakfish.training.joins import JoinLimits
from weakfish.training.sets import build_training_sets

root = Path.cwd()
for stage in STAGES:
    here = stage[0] == "validate" and stage[1] != "events"  # once is enough
    os.environ["WEAKFISH_ENGINE"] = "local" if here else "spark"
    shutil.rmtree(root / ".weakfish/fleet", ignore_errors=True)
    run_here(root, stage)
    assert (root / ".weakfish/fleet").exists() or stage[0] not in ("vote", "features"), stage
build_training_sets(Project(root), JoinLimits(**SMALL))
"""


def test_spark_and_a_storage_make_the_pointers_and_profiles_of_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_java()
    write(tmp_path / "orders.csv", "id,at,customer,amount,label\n" + "".join(line(number) for number in range(84)))
    monkeypatch.chdir(tmp_path)
    roots = tmp_path / "here", tmp_path / "there"
    for root in roots:
        init(str(root), "--from", "orders.csv", "--yes", "--name", "orders")
        with (root / "params.yaml").open("a") as params:
            params.write(f"storage: file://{tmp_path / 'bucket' / root.name}\n")
    here, there = roots
    run_here(here, *STAGES)
    build_training_sets(Project(here), JoinLimits(**SMALL))

    path = str(Path(__file__).parent)
    ended = command(there, sys.executable, "-c", RUN, PYTHONPATH=path, **SPARK)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for folder in ("data", "reports/validation", "reports/ledger"):
        mine, theirs = contents(there / folder), contents(here / folder)
        assert [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)] == []
    made = [name.partition("/")[0] for name in contents(there / "data") if name.endswith(SUFFIX)]
    assert {"events", "votes", "labels", "features", "training"} <= {*made}
    storage = storage_of(there)
    assert storage
    assert not list(storage.listing("fleet"))
