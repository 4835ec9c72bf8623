"""A shut gate holds whoever asks: every engine function that consumes a judged table, by hand and by Feast."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from in_process import own_modules
from projects import contents, tiny, weakfish
from verdicts import FAILED, PASSED
from verdicts import write as write_judged

from weakfish.checks import gates
from weakfish.checks.validate import validate
from weakfish.cli.main import cli
from weakfish.contracts import hashes
from weakfish.contracts.gate import data_version, require_open, table_version
from weakfish.contracts.hashes import FolderMemory, hashes_of
from weakfish.contracts.ledgers import despite, ledger_file, read_ledger, write_ledger
from weakfish.contracts.manifests import FeaturesManifest, write_manifest
from weakfish.contracts.tables import read_partition, write_partition
from weakfish.contracts.verdicts import verdict_file
from weakfish.errors import CheckFailed
from weakfish.files import whole_folder, write_json
from weakfish.project.paths import Project
from weakfish.report.overall import overall
from weakfish.sources.ingest import ingest

EVENTS, LABELS, FEATURES, TRAINING = "events", "labels/fraud", "features/customer", "training/fraud"
TABLES = (EVENTS, LABELS, FEATURES, TRAINING)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The orders with a table of each kind, all of them judged as good."""
    project = Project(tiny(tmp_path / "orders"))
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("WEAKFISH_REDIS", "127.0.0.1:1")  # nobody: no embedded server is to start
    for table in TABLES:
        write_partition(project.table(table), "2024-01", pa.table({"order_id": ["a", "b"]}))
        suite = project.root / "validation" / f"{table}.py"
        suite.parent.mkdir(parents=True, exist_ok=True)
        suite.write_text("EXPECTATIONS = []\n")
        judge(project, table)
    columns = {"customer": "string"}
    manifest = FeaturesManifest("customer", columns, [], data_version(project.table(FEATURES)))
    write_manifest(project.table("features"), "customer", manifest)
    (project.root / "feature_repo/feature_store.yaml").write_text("project: orders\nregistry: registry.db\n")
    return project


def judge(project: Project, table: str, *checks: Any) -> None:
    """A verdict on what lies there; the events that lie there are accepted."""
    version = data_version(project.table(table))
    write_judged(project, table, *(checks or (PASSED,)), version=version)
    if table == EVENTS:
        accepted = {"staged": version, "events": version}
        write_ledger(project, "accept", rows_in=2, rows_out=2, accepted=accepted)


def vote(project: Project) -> None:
    from weakfish.labeling.vote import vote

    vote(project)


def label(project: Project) -> None:
    from weakfish.labeling.label import label

    label(project)


def features(project: Project) -> None:
    from weakfish.features.build import build_features

    build_features(project)


def publish(project: Project) -> None:
    from weakfish.feast.publish import publish

    publish(project)


def training_set(project: Project) -> None:
    from weakfish.training.sets import build_training_sets

    build_training_sets(project)


def evaluate(project: Project) -> None:
    from weakfish.evaluation.evaluate import evaluate

    evaluate(project)


def materialize(project: Project) -> None:
    """As plain Feast's engine reads a view through our offline store."""
    from feast import FileSource

    from weakfish.feast.offline import AsOfOfflineStore

    source = FileSource(path=str(project.table(FEATURES)), timestamp_field="event_timestamp")
    config = type("Config", (), {"repo_path": project.root / "feature_repo"})
    AsOfOfflineStore.pull_latest_from_table_or_query(config, source, ["order_id"], [], "event_timestamp", None)


CONSUMERS = [
    (vote, (EVENTS,)),
    (label, (EVENTS,)),
    (features, (EVENTS,)),
    (publish, (FEATURES, LABELS)),
    (training_set, (EVENTS, FEATURES, LABELS)),
    (evaluate, (EVENTS, LABELS, TRAINING)),
    (materialize, (FEATURES,)),
]
EACH = [pytest.param(work, table, id=f"{work.__name__}-{table}") for work, tables in CONSUMERS for table in tables]


def made(project: Project) -> dict[str, bytes]:
    return contents(project.data) | contents(project.reports)


@pytest.mark.parametrize(("work", "table"), EACH)
def test_what_consumes_a_table_stops_at_its_shut_gate(
    project: Project, work: Callable[[Project], None], table: str
) -> None:
    judge(project, table, FAILED)
    before = made(project)
    with pytest.raises(CheckFailed, match=rf"The gate of {table} is shut: unique\(order_id\) failed on 2 rows"):
        work(project)
    assert made(project) == before


@pytest.mark.parametrize(("work", "table"), EACH)
def test_a_verdict_on_other_data_does_not_open_the_gate(
    project: Project, work: Callable[[Project], None], table: str
) -> None:
    write_partition(project.table(table), "2024-01", pa.table({"order_id": ["a", "c"]}))
    before = made(project)
    with pytest.raises(CheckFailed, match="weakfish accept" if table == EVENTS else f"weakfish validate {table}"):
        work(project)
    assert made(project) == before


@pytest.mark.parametrize("verb", ["vote", "label", "features", "publish", "training-set", "evaluate"])
def test_each_verb_ends_with_exit_code_1_or_goes_on_for_a_reason(project: Project, verb: str) -> None:
    for table in TABLES:
        judge(project, table, FAILED)
    result = CliRunner().invoke(cli, [verb])
    assert isinstance(result.exception, CheckFailed)
    assert result.exception.exit_code == 1
    result = CliRunner().invoke(cli, [verb, "--despite-gate", "The order desk waits."])
    assert not isinstance(result.exception, CheckFailed)
    assert "Going on although a gate is shut (The order desk waits.): The gate of" in result.stderr
    assert CliRunner().invoke(cli, [verb, "--despite-gate", " "], standalone_mode=True).exit_code == 2


def test_by_hand_a_shut_gate_is_one_sentence_and_exit_code_1(project: Project) -> None:
    judge(project, EVENTS, FAILED)
    result = weakfish(project.root, "vote")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "unique(order_id) failed on 2 rows" in result.stderr


def test_a_verdict_that_names_no_failed_check_shuts_its_gate_all_the_same(project: Project) -> None:
    file = verdict_file(project, LABELS)
    write_json(file, {**json.loads(file.read_text()), "verdict": "failed"})
    with pytest.raises(CheckFailed, match="The gate of labels/fraud is shut: its verdict is failed"):
        require_open(project, [LABELS])


def test_a_table_with_a_suite_must_have_been_judged(project: Project) -> None:
    judge(project, FEATURES, FAILED)
    (project.root / f"validation/{FEATURES}.py").unlink()
    with pytest.raises(CheckFailed, match="The gate of features/customer is shut"):
        require_open(project, [FEATURES])
    verdict_file(project, LABELS).unlink()
    with pytest.raises(CheckFailed, match="has not been validated; run `weakfish validate labels/fraud`"):
        require_open(project, [LABELS])
    (project.root / "validation/labels/fraud.py").unlink()
    require_open(project, [LABELS])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Great Expectations' own
def test_events_are_judged_as_staged_and_used_as_accepted(tmp_path: Path) -> None:
    project = Project(tiny(tmp_path / "orders"))
    with own_modules(project.root):
        ingest(project)
        validate(project, EVENTS)
    with pytest.raises(CheckFailed, match="run `weakfish accept`"):
        require_open(project, [EVENTS])
    gates.accept(project)
    assert read_ledger(project, "accept").quarantined == 1
    assert data_version(project.table("staged")) != data_version(project.table(EVENTS))
    require_open(project, [EVENTS])

    write_judged(project, EVENTS, PASSED)
    with pytest.raises(CheckFailed, match="about different data than was accepted"):
        require_open(project, [EVENTS])
    with own_modules(project.root):
        validate(project, EVENTS)
    require_open(project, [EVENTS])

    file = next(iter(sorted(project.table(EVENTS).glob("*.parquet"))))
    write_partition(project.table(EVENTS), file.stem, read_partition(file).slice(1))
    with pytest.raises(CheckFailed, match="data/events is not what `weakfish accept` made"):
        require_open(project, [EVENTS])


def test_an_override_stands_in_the_ledger_and_on_the_page_until_the_next_clean_run(project: Project) -> None:
    judge(project, LABELS, FAILED)
    with despite("The order desk waits"):
        require_open(project, [LABELS, FEATURES])
        write_ledger(project, "publish", rows_in=2, rows_out=2)
    override = read_ledger(project, "publish").despite_gate
    assert override is not None
    assert override.reason == "The order desk waits"
    assert len(override.gates) == 1
    judge(project, LABELS)
    said = overall(project.root)
    assert said.verdict == "warned"
    assert "for this reason: The order desk waits. The gate of labels/fraud is shut" in said.what[0]
    with despite(None):
        require_open(project, [LABELS, FEATURES])
        write_ledger(project, "publish", rows_in=2, rows_out=2)
    assert "despite_gate" not in json.loads(ledger_file(project, "publish").read_text())
    assert not any("for this reason" in sentence for sentence in overall(project.root).what)


def test_hashes_are_remembered_until_a_file_changes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = project.root / ".weakfish/hashes/labels/fraud.json"
    version = table_version(project, LABELS)
    assert json.loads(memory.read_text() if memory.exists() else "{}") == {}, "a file this young may change unseen"

    for name in ("SETTLED", "SETTLED_FINE"):
        monkeypatch.setattr(hashes, name, -(10**18))
    assert table_version(project, LABELS) == version
    known = json.loads(memory.read_text())
    memory.write_text(json.dumps({name: {**of, "sha256": "0" * 64} for name, of in known.items()}))
    assert table_version(project, LABELS) != version, "the remembered hash was not asked"
    for other in ("cut off {", json.dumps({"2024-01.parquet": [1, 2, 3, 4, "0" * 64], "gone.parquet": [1]})):
        memory.write_text(other)
        assert table_version(project, LABELS) == version

    file = project.table(LABELS) / "2024-01.parquet"
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    again = table_version(project, LABELS)
    memory.unlink()
    assert again == data_version(project.table(LABELS)) != version


def test_what_is_hashed_as_it_is_written_is_remembered_where_it_comes_to_lie(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "SETTLED_FINE", -(10**18))
    monkeypatch.setattr(hashes, "SETTLED", -(10**18))
    with whole_folder(project.table("events").parent / "made") as folder:
        (folder / "a.parquet").write_bytes(b"a")
        version = hashes_of({"a": folder / "a.parquet"})
    assert [file.name for file in (project.root / ".weakfish/hashes").iterdir()] == ["made.json"]
    monkeypatch.setattr(hashes, "sha256_of", lambda files: dict.fromkeys(files, "read again"))
    assert hashes_of({"a": project.data / "made/a.parquet"}) == version


def test_times_of_a_coarse_clock_take_longer_to_tell_a_change(project: Project) -> None:
    file, memory = project.table(LABELS) / "2024-01.parquet", project.root / ".weakfish/hashes/labels/fraud.json"
    second = time.time_ns() // 10**9 * 10**9 - 10**9  # one to two seconds ago
    for at, is_kept in ((second, False), (second + 123_456, True)):
        os.utime(file, ns=(at, at))
        known = FolderMemory(file.parent)
        known.of(file)["sha256"] = "found"
        known._known[file.name]["marks"][2] = at  # the time of the change of the marks themselves cannot be set
        known.save()
        assert memory.exists() == is_kept
