"""What bad input gets: one clear sentence on stderr, the right exit code, no traceback, nothing half-written."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from forks import ended, forked
from in_process import run_here
from projects import BIN, contents, replace, tiny, weakfish, write

from weakfish.errors import WeakfishError, of_system


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project with all stages up to its labels done."""
    root = tiny(tmp_path_factory.mktemp("built") / "orders")
    run_here(root, ["ingest"], ["validate", "events"], ["accept"], ["vote"], ["label"])
    return root


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "orders"))


def refused(root: Path, *arguments: str, code: int = 2) -> str:
    """The one sentence with which a command is refused; ``data/`` stays as it was."""
    before = contents(root / "data")
    result = weakfish(root, *arguments)
    assert result.returncode == code, result.stderr
    assert contents(root / "data") == before
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("weakfish: ")
    assert lines[0].endswith((".", "?"))
    return lines[0]


def test_a_command_outside_of_a_project_says_so(tmp_path: Path) -> None:
    assert "is not in a Weakfish project" in refused(tmp_path, "vote")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("events:\n  key", "events: [\n  key", "params.yaml, line "),
        ("seed: 1", "seed: one", "label_models.fraud.seed cannot be used"),
        ("    classes: [fine, fraud]\n", "", "tasks.fraud.classes is missing"),
        ("[0.5, 0.5]", "[0.5, 0.6]", "label model of task fraud: class_balance must add up to 1"),
        ("bootstrap: 50", "bootstrap: 50\n  bootstrp: 3", "evaluate.bootstrp is not a setting that anything reads"),
        (
            "bootstrap: 50",
            "bootstrap: 50\n  positive: {frau: fraud}",
            "positive names 'frau', which is not one of the tasks",
        ),
        ("bootstrap: 50", "bootstrap: 50\n  positive: {fraud: fin}", "'fin', which is no class of fraud (fine, fraud)"),
        ("[0.5, 0.5]", "[0.5, 0.4]", "must add up to 1, it adds up to 0.9"),
        ("[fine, fraud]", "[fine, fraud, odd]", "has 2 numbers for 3 classes"),
        ("key: order_id", "key: ../../x", "events.key cannot be used"),
        ("tasks:\n  fraud:", "tasks:\n  fr-aud:", "params.yaml: tasks.fr-aud cannot be used: must consist of letters"),
        ("tasks:\n", "taskz:\n", "taskz is not a setting that anything reads; did you mean 'tasks'?"),
        (
            "events:\n",
            "publish:\n  as_of: yesterday\nevents:\n",
            "publish.as_of cannot be used: must be last, now or a time such as",
        ),
    ],
)
def test_malformed_params_name_the_line_or_the_setting(project: Path, old: str, new: str, expected: str) -> None:
    replace(project / "params.yaml", old, new)
    for verb in ("label", "status"):
        sentence = refused(project, verb)
        assert "params.yaml" in sentence
        assert expected in sentence


def test_a_pipeline_file_that_is_not_yaml_is_told_before_the_run(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages:\n<<<<<<< ours\n  vote:\n    cmd: weakfish vote\n")
    assert "dvc.yaml, line " in refused(project, "run")


def test_a_key_that_is_no_column_is_refused_by_ingest(project: Path) -> None:
    replace(project / "params.yaml", "key: order_id", "key: order")
    assert "which is not among its columns" in refused(project, "ingest")
    assert "has no column order; it has order_id" in refused(project, "vote")


def test_an_unknown_table_is_refused_with_the_nearest_name(project: Path) -> None:
    assert "did you mean 'events'?" in refused(project, "validate", "event")


def test_an_unknown_stage_is_refused_with_the_nearest_name(project: Path) -> None:
    assert "There is no stage 'vot' in dvc.yaml; did you mean 'vote'?" in refused(project, "run", "vot")


def test_an_unknown_labeling_function_is_refused_with_the_nearest_name(project: Path) -> None:
    replace(project / "params.yaml", "functions: all", "functions: [is_large, is_smal]")
    assert "no labeling function 'is_smal'" in refused(project, "vote")
    assert "did you mean 'is_small'?" in refused(project, "vote")


def test_an_unknown_command_is_wrong_use(project: Path) -> None:
    result = weakfish(project, "lable")
    assert result.returncode == 2
    assert "No such command" in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("order.amount > 200", "order.amont > 200", "'is_large' (labeling_functions.orders) raised AttributeError"),
        (
            "order.amount > 200",
            "order.amount + 200",
            "'is_large' (labeling_functions.orders) returned int64, which is not a vote",
        ),
        ("order.amount > 200", "None", "returned NoneType, which is not a vote"),
        (
            "order.amount > 200",
            "order.note.cast('int64') > 200",
            "'is_large' (labeling_functions.orders) cannot be computed",
        ),
        ("0 if order.note", "None if order.note", "'is_a_book' returned None (labeling_functions.orders, row 'o01')"),
        ("0 if order.note", "2 if order.note", "'is_a_book' returned 2"),
        ("0 if order.note", "0.0 if order.note", "'is_a_book' returned 0.0"),
        (
            "0 if order.note",
            "1 / 0 if order.note",
            "'is_a_book' (labeling_functions.orders) raised ZeroDivisionError: division by zero on",
        ),
        ("@votes(0)", "@votes(7)", "'is_small' returned 7"),
        ("def is_small", "def is_large", "is_large"),
    ],
)
def test_a_labeling_function_at_fault_is_named_with_its_row(project: Path, old: str, new: str, expected: str) -> None:
    replace(project / "labeling_functions/orders.py", old, new)
    if "def " in new:
        write(
            project / "labeling_functions/more.py",
            "from weakfish.rules import votes\n\n@votes(1)\ndef is_large(o):\n    return o.amount > 1\n",
        )
        assert "is defined in labeling_functions.more and in labeling_functions.orders" in refused(project, "vote")
    else:
        assert expected in refused(project, "vote")


def test_a_package_that_is_not_installed_is_named(project: Path) -> None:
    replace(project / "labeling_functions/orders.py", "from weakfish", "import no_such_package\nfrom weakfish")
    assert "a package that is not installed (no_such_package)" in refused(project, "vote")


def test_a_module_with_a_syntax_error_is_named(project: Path) -> None:
    replace(project / "labeling_functions/orders.py", "def is_large(order: ir.Table)", "def is_large(order: ir.Table")
    assert "labeling_functions.orders cannot be imported: SyntaxError" in refused(project, "vote")


@pytest.mark.parametrize("stage", [["label"], ["validate", "labels/fraud"]])
def test_a_truncated_parquet_file_is_named(project: Path, stage: list[str]) -> None:
    table = {"label": "votes/fraud", "validate": "labels/fraud"}[stage[0]]
    file = project / "data" / table / "2024-02.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    sentence = refused(project, *stage)
    assert f"{table}/2024-02.parquet is not readable Parquet" in sentence


def test_a_truncated_file_of_the_events_is_not_what_was_accepted(project: Path) -> None:
    file = project / "data/events/2024-02.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    assert "data/events is not what `weakfish accept` made" in refused(project, "vote", code=1)


def test_a_missing_table_says_what_makes_it(project: Path) -> None:
    shutil.rmtree(project / "data/votes/fraud")
    assert "votes/fraud/2024-01.parquet does not exist; run `dvc repro`" in refused(project, "label")


def test_votes_on_other_events_are_refused(project: Path) -> None:
    votes = project / "data/votes/fraud"
    shutil.copy(votes / "2024-01.parquet", votes / "2024-02.parquet")
    assert "holds votes on other events" in refused(project, "label")


def test_a_verdict_on_other_data_opens_no_gate(project: Path) -> None:
    (project / "data/staged/2024-02.parquet").unlink()
    assert "about different data" in refused(project, "accept", code=1)


def test_a_source_that_breaks_its_schema_is_refused(project: Path) -> None:
    replace(project / "sources/orders.py", '("amount", pa.int64())', '("amount", pa.string())')
    result = weakfish(project, "ingest")
    assert result.returncode in (2, 3)
    assert "Traceback" not in result.stderr


def test_a_source_that_sets_rows_aside_and_does_not_say_how_is_refused(project: Path) -> None:
    replace(project / "sources/orders.py", "    gold: ClassVar", "    sets_aside = True\n    gold: ClassVar")
    assert "Orders says that it sets rows aside, and has no set_aside" in refused(project, "ingest")


def test_a_traceback_is_shown_only_on_request(project: Path) -> None:
    replace(project / "params.yaml", "seed: 1", "seed: one")
    assert "Traceback" in weakfish(project, "--debug", "label").stderr


def test_the_second_of_two_commands_at_once_is_refused_and_the_first_unharmed(project: Path) -> None:
    write(project / "labeling_functions/slow.py", "import time\ntime.sleep(6)\n")
    before = contents(project / "data/votes")
    first = subprocess.Popen([BIN / "weakfish", "vote"], cwd=project, stderr=subprocess.PIPE)
    try:
        lock = project / ".weakfish/locks/vote.lock"
        deadline = time.monotonic() + 30
        while str(first.pid) not in (lock.read_text() if lock.exists() else "") and time.monotonic() < deadline:
            time.sleep(0.05)
        second = weakfish(project, "vote")
    finally:
        first.communicate(timeout=60)
    assert first.returncode == 0
    assert second.returncode == 2
    assert re.search(
        r"`weakfish vote` is already running here, in process \d+ since [-0-9: ]+ UTC; wait", second.stderr
    )
    assert contents(project / "data/votes") == before


SLOW = """
    import time

    from snorkel.labeling import labeling_function


    @labeling_function()
    def is_slow(order):
        time.sleep(60)
        return -1
"""


def test_a_killed_stage_leaves_the_old_table_and_the_next_run_cleans_up(project: Path) -> None:
    write(project / "labeling_functions/slow.py", SLOW)
    before = contents(project / "data/votes")
    killed = subprocess.Popen([BIN / "weakfish", "vote"], cwd=project)
    deadline = time.monotonic() + 30
    while not list((project / "data").glob(".votes.part-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    assert list((project / "data").glob(".votes.part-*"))
    assert contents(project / "data/votes") == before
    (project / "labeling_functions/slow.py").unlink()
    assert weakfish(project, "vote").returncode == 0
    assert not list((project / "data").glob(".votes.part-*"))
    assert contents(project / "data/votes") == before


def test_what_the_system_refuses_is_a_sentence_with_the_path(project: Path) -> None:
    """A limit on the size of files, as a full disk is none that a test can make."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    done = subprocess.run(
        [BIN / "weakfish", "vote"], cwd=project, preexec_fn=limited, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == WeakfishError.exit_code
    assert "unexpected" not in done.stderr
    assert "the file would be larger than this process may write; put that right and run this again." in done.stderr


def test_init_names_the_folder_whose_disk_refuses_and_leaves_nothing_there(tmp_path: Path) -> None:
    lines = [f"o{n},2024-01-{n % 28 + 1:02},{n % 9},{'ab'[n % 2]}" for n in range(60)]
    write(tmp_path / "a.csv", "\n".join(["id,at,amount,kind", *lines, ""]))

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    command = [BIN / "weakfish", "init", "new/shop", "--from", "a.csv", "--yes", "--classes", "task=a,b"]
    done = subprocess.run(command, cwd=tmp_path, preexec_fn=limited, capture_output=True, text=True, timeout=120)
    assert done.returncode == WeakfishError.exit_code, done.stderr
    said = (
        "cannot be written to: the file would be larger than this process may write; put that right and run this again."
    )
    assert f"weakfish: {tmp_path / 'new/shop'} {said}" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has a device that is always full")
def test_a_full_disk_says_what_is_free(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as full, Path("/dev/full").open("wb", buffering=0) as stream:
        stream.write(b"x")
    said = str(of_system(full.value, tmp_path))
    assert re.fullmatch(rf"{tmp_path} cannot be written to: the disk is full \([\d,]+ MB are free\); put .*", said)


def test_a_file_that_is_somebody_elses_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0)

    def as_nobody() -> None:
        if os.getuid() == 0:
            os.setuid(65534)
        with pytest.raises(PermissionError) as denied:
            secret.read_text()
        said = str(of_system(denied.value, tmp_path))
        assert said.startswith(f"{secret} cannot be used: this user lacks the permission")

    assert ended(forked(as_nobody)) == 0
