"""One contract for all engines: the same receipts and files, errors as they are raised, workers that may be lost."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import told_orders
from fleets import CLUSTER, LOCAL, connect_server, require_java
from in_process import own_modules
from projects import command, contents, write
from test_known_labels import give
from told_orders import MONTHS

from weakfish.contracts.pointers import settle
from weakfish.contracts.storage import VARIABLE, storage_of
from weakfish.engine import fleet, spark
from weakfish.engine.carried import Carrier
from weakfish.engine.worker import Job
from weakfish.errors import UserError, WeakfishError
from weakfish.project.paths import Project

WORK = """
import multiprocessing, os, signal, sys
from pathlib import Path

from sources.said import WORD
from weakfish.engine import fleet
from weakfish.errors import LabelingFunctionError
from weakfish.files import whole_file


def prepare(project):
    return {"calls": 0}


def squares(project, item):
    with whole_file(project.root / item["to"]) as part:
        part.write_text(str(item["number"] ** 2))
    kept = fleet.prepared(prepare, project)
    kept["calls"] += 1
    return {"square": item["number"] ** 2, "word": WORD, "of": item["names"], "first": kept["calls"] == 1}


def refuses(project, item):
    if item["number"] >= 3:
        raise LabelingFunctionError(f"Function 'odd' raised on row {item['number']}; make it return -1.")
    return {}


def dies_once(project, item):
    mark = project.root / "data" / item["mark"]
    mine = multiprocessing.parent_process() is not None if item["who"] == "process" else item["number"] == 5
    if mine and not mark.exists():
        mark.write_text("")
        if item["who"] == "executor":  # the process above Python's own, with all that it has
            import psutil

            above = psutil.Process().parents()
            java = next(each for each in above if each.name() == "java")
            java.kill()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"square": item["number"] ** 2}
"""

CARRIED = """
def total(project, item):
    found = sum(int(file.read_text()) for file in sorted((project.root / item["of"]).iterdir()))
    (project.root / item["to"]).write_text(str(found))
    (project.root / ".weakfish/cache").mkdir(exist_ok=True)
    (project.root / ".weakfish/cache/kept").write_text("kept")
    return {"sum": found}
"""

CALLS = """
import json, sys
from pathlib import Path

from weakfish.engine import fleet, local
from weakfish.errors import UserError, WeakfishError
from weakfish.project.paths import Project
from weakfish.project.paths import Project


def call(work, items, seconds=None):
    try:
        return fleet.receipts(project, f"sources.working:{work}", items, "squares", seconds)
    except WeakfishError as error:
        return [type(error).__name__, str(error)]


if __name__ == "__main__":
    project = Project(Path.cwd())
    local.os.cpu_count = lambda: 3
    calls = json.loads(sys.argv[1])
    found = []
    for work, items, word in calls:
        (project.root / "sources/said.py").write_text(f"WORD = {word!r}")
        found.append(call(work, items))
    one = (lambda here: 0.0)
    found.append(call("squares", calls[0][1], one) if "alone" in sys.argv else None)
    print(json.dumps(found))
"""

LABELS = """
import sys
from pathlib import Path

from weakfish.engine import local
from weakfish.labeling.label import label
from weakfish.project.paths import Project

if __name__ == "__main__":
    local.WORTH_A_PROCESS, local.os.cpu_count = float(sys.argv[1]), lambda: 3
    label(Project(Path.cwd()), worth=float(sys.argv[1]))
"""

SETTINGS = "refit: monthly, known: dev, reader: on, reads: [note], embeds: [note]"

NUMBERS = range(12)


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment that names a Spark Connect server."""
    with connect_server(tmp_path_factory.mktemp("connect")) as environment:
        yield environment


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path / "params.yaml", "")
    write(tmp_path / "dvc.yaml", "")
    write(tmp_path / "sources/working.py", WORK)
    write(tmp_path / "calls.py", CALLS)
    (tmp_path / "data").mkdir()
    (tmp_path / "reports").mkdir()
    return tmp_path


def items(**more: Any) -> list[dict[str, Any]]:
    return [{"number": number, "to": f"data/{number}.txt", "names": ["a", "\u017f"], **more} for number in NUMBERS]


def calls(project: Path, engine: Mapping[str, str], *wanted: list[Any], alone: bool = False) -> list[Any]:
    more = ["alone"] if alone else []
    ended = command(project, "python", "calls.py", json.dumps(wanted), *more, **engine)
    assert ended.returncode == 0, ended.stderr
    found: list[Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def test_processes_keep_the_contract(project: Path) -> None:
    done, refused, lost, _ = calls(
        project,
        LOCAL,
        ["squares", items(), "before"],
        ["refuses", items(), "before"],
        ["dies_once", items(who="process", mark="process"), "before"],
    )
    all_is_done(project, done)
    is_refused(refused)
    assert lost[0] == "WeakfishError"
    assert lost[1].startswith("A worker process ended before its work")


@pytest.mark.parametrize("engine", ["cluster", "connect"])
def test_spark_keeps_the_contract(project: Path, engine: str, request: pytest.FixtureRequest) -> None:
    require_java()
    done, refused, after, *lost, _ = calls(
        project,
        CLUSTER if engine == "cluster" else request.getfixturevalue("connected"),
        ["squares", items(), "before"],
        ["refuses", items(), "before"],
        ["squares", items()[:2], "after"],  # the team's code has changed since
        *(["dies_once", items(who=who, mark=who), "after"] for who in ("worker", "executor")),
    )
    all_is_done(project, done)
    is_refused(refused)
    assert {receipt["word"] for receipt in after} == {"after"}
    for who, found in zip(("worker", "executor"), lost, strict=True):
        assert (project / "data" / who).exists()
        assert [receipt["square"] for receipt in found] == [number**2 for number in NUMBERS]
    assert not list((project / ".weakfish").glob("fleet/*"))


def all_is_done(project: Path, found: list[Any]) -> None:
    assert [receipt["square"] for receipt in found] == [number**2 for number in NUMBERS]
    assert {(receipt["word"], *receipt["of"]) for receipt in found} == {("before", "a", "\u017f")}
    assert [(project / f"data/{number}.txt").read_text() for number in NUMBERS] == [str(n**2) for n in NUMBERS]
    assert not list((project / "data").glob(".*"))


def is_refused(found: list[str]) -> None:
    assert found[0] == "LabelingFunctionError"
    assert found[1].startswith("Function 'odd' raised on row ")
    assert found[1].endswith("; make it return -1.")


def test_little_work_is_done_in_one_process(project: Path) -> None:
    *_, found = calls(project, LOCAL, ["squares", items(), "here"], alone=True)
    assert [receipt["first"] for receipt in found] == [True] + [False] * (len(NUMBERS) - 1)


def on_executor(project: Path, **changes: Any) -> str:
    """What an executor says of a job for which it is not made."""
    packed = spark.archive(project)
    given = {"code": packed, "packages": spark.packages(), "items": ("{}",)} | changes
    with pytest.raises(WeakfishError) as raised:
        spark.answered(spark.SparkJob(Job("sources.working:squares", changes.get("root", project)), **given), 0)
    return str(raised.value)


def test_executors_that_differ_or_do_not_see_the_tables_say_so(project: Path) -> None:
    said = on_executor(project, packages={**spark.packages(), "pyarrow": "1.0", "Python": "2.7"})
    assert "differ from this machine" in said
    assert "pyarrow is " in said
    assert "Python is 3." in said
    assert "2.7 here" in said
    assert f"do not see {project}" in on_executor(project)


def test_the_teams_folders_travel_and_tables_do_not(project: Path) -> None:
    for name in (
        "data/events/x.parquet",
        ".git/config",
        ".venv/pyvenv.cfg",
        "sources/__pycache__/a.pyc",
        "env/pyvenv.cfg",
    ):
        write(project / name, "x")
    packed = spark.archive(project)
    with zipfile.ZipFile(io.BytesIO(packed)) as found:
        assert sorted(found.namelist()) == ["calls.py", "dvc.yaml", "params.yaml", "sources/working.py"]
    assert hashlib.sha256(spark.archive(project)).digest() == hashlib.sha256(packed).digest()


def test_files_travel_by_the_storage_where_executors_do_not_see_the_project(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project / "params.yaml", f"storage: file://{tmp_path / 'bucket'}\n")
    write(project / "sources/working.py", CARRIED)
    write(project / ".weakfish/tmp/given/a.txt", "3")
    write(project / ".weakfish/tmp/given/b.txt", "4")
    item = json.dumps({"of": ".weakfish/tmp/given", "to": ".weakfish/tmp/sum.txt", "other": "data/none.parquet"})
    storage = storage_of(project)
    assert storage
    monkeypatch.setenv(VARIABLE, storage.uri)  # which executors set for themselves
    job = Job("sources.working:total", project)
    carrier = Carrier(storage, job.id)
    there = spark.SparkJob(
        replace(job, root=tmp_path / "nowhere"),
        (item,),
        spark.archive(project),
        spark.packages(),
        storage.uri,
        carrier.send(project, [item]),
    )
    with own_modules():
        answers = [json.loads(spark.answered(there, 0)) for _ in range(2)]  # an item may be tried twice
    assert answers[0] == answers[1]
    assert json.loads(answers[0]["receipt"]) == {"sum": 7}
    assert sorted(answers[0]["files"]) == [".weakfish/cache/kept", ".weakfish/tmp/sum.txt"]
    carrier.fetch(project, answers[0]["files"])
    assert (project / ".weakfish/tmp/sum.txt").read_text() == "7"
    assert (project / ".weakfish/cache/kept").read_text() == "kept"
    carrier.end()
    assert not list(storage.listing("fleet"))
    for name in ("../x", "/tmp/x", "sources/x.py"):  # noqa: S108
        with pytest.raises(WeakfishError, match="not a project's"):
            carrier.fetch(project, {name: "fleet/x"})


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Orders in a storage; known labels, words and embeddings of notes make labels month by month."""
    folder = tmp_path_factory.mktemp("orders")
    root = told_orders.project(folder / "orders", SETTINGS, *MONTHS[:3], rows=100)
    give(root, MONTHS[0], of=slice(0, 40), rows=100)
    with (root / "params.yaml").open("a") as file:
        file.write(f"storage: file://{folder / 'bucket'}\n")
    for table in ("events", "votes", "gold"):
        settle(root, root / "data" / table)
    write(root / "calls.py", LABELS)
    return root


def labelled(orders: Path, root: Path, worth: float, engine: Mapping[str, str]) -> dict[str, bytes]:
    """The labels, for which workers do what takes them so many seconds."""
    shutil.copytree(orders, root)
    ended = command(root, "python", "calls.py", str(worth), **engine)
    assert ended.returncode == 0, ended.stderr
    assert not list((root / ".weakfish/tmp").iterdir())
    return contents(root / "data/labels")


def test_processes_and_executors_that_do_not_see_the_project_label_with_the_same_bytes(
    orders: Path, tmp_path: Path, connected: Mapping[str, str]
) -> None:
    alone = labelled(orders, tmp_path / "alone", float("inf"), LOCAL)
    assert len([name for name in alone if name.startswith("fraud/")]) == 3
    assert len([name for name in alone if name.startswith("fraud.fits/")]) == 4
    assert len([name for name in alone if name.startswith("fraud.embeddings/")]) == 3
    assert labelled(orders, tmp_path / "several", 0, LOCAL) == alone
    assert labelled(orders, tmp_path / "spark", 0, connected) == alone
    assert (tmp_path / "spark/.weakfish/fleet").is_dir()
    assert not list(storage_of(tmp_path / "spark").listing("fleet"))


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"WEAKFISH_ENGINE": "flink"},
            "The environment variable WEAKFISH_ENGINE is 'flink'; set it to local or spark.",
        ),
        ({"WEAKFISH_ENGINE": "spark"}, "The engine is spark, but no cluster is named; set SPARK_REMOTE"),
        (
            {"WEAKFISH_ENGINE": "spark", "SPARK_REMOTE": "sc://127.0.0.1:9/;token=secret"},
            "The Spark cluster at sc://127.0.0.1:9/ cannot be used: ",
        ),
        (
            {"WEAKFISH_ENGINE": "spark", "SPARK_MASTER": "nowhere;token=secret"},
            "nowhere is not the address of a Spark master; give one such as spark://host:7077",
        ),
        (
            {"WEAKFISH_ENGINE": "spark", "SPARK_MASTER": "spark://me:secret@127.0.0.1:9"},
            "No Spark master answers at spark://127.0.0.1:9 (ConnectionRefusedError: ",
        ),
        (
            {"WEAKFISH_ENGINE": "spark", "SPARK_REMOTE": "http://host;token=secret"},
            "http://host is not the address of a Spark Connect server; it begins with sc://",
        ),
    ],
)
def test_an_engine_that_cannot_be_used_is_one_sentence(project: Path, environment: dict[str, str], said: str) -> None:
    ended: subprocess.CompletedProcess[str] = command(
        project, "python", "calls.py", json.dumps([["squares", items(), ""]]), **environment
    )
    (kind, message), _ = json.loads(ended.stdout.splitlines()[-1])
    assert kind in ("UserError", "WeakfishError")
    assert message.startswith(said)
    assert "secret" not in message + ended.stderr


def test_the_engine_is_named_in_a_file_that_git_ignores(project: Path) -> None:
    write(project / ".weakfish/engine.yaml", "engine: spark\n")
    ((kind, message), _) = calls(project, {}, ["squares", items(), ""])
    assert kind == "UserError"
    assert "no cluster is named" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("engine: [", "cannot be read"),
        ("- spark", "has no settings; let it say `engine: spark`"),
        ("", "has no settings; let it say `engine: spark`"),
        ("master: spark://a:7077", "engine is missing; correct it there"),
        ("{engine: spark, foo: 1}", "foo is no setting, there are engine, remote, master and conf"),
        ("{engine: spark, master: 7}", "master has to be a text"),
        ("{engine: spark, conf: x}", "conf has to have settings of Spark by name"),
        ("{engine: spark, conf: {a.b: [1]}}", "conf.a.b has to be a text"),
        ("engine: ray", "engine has to be local or spark"),
    ],
)
def test_a_malformed_file_of_the_engine_is_one_sentence(project: Path, content: str, said: str) -> None:
    write(project / ".weakfish/engine.yaml", content)
    with pytest.raises(UserError, match=re.escape(said)) as raised:
        list(fleet.run(Project(project), "sources.working:squares", [], "nothing"))  # although there is nothing to do
    assert "engine.yaml" in str(raised.value)


def test_a_python_that_executors_do_not_have_is_named(project: Path) -> None:
    require_java()
    write(project / ".weakfish/engine.yaml", "engine: spark\nconf: {spark.pyspark.python: /nowhere/python}\n")
    ((kind, message), _) = calls(project, {**CLUSTER, "SPARK_MASTER": "local[1]"}, ["squares", items(), ""])
    assert (kind, message[:36]) == ("UserError", "Executors have no /nowhere/python; l")


def test_the_environment_chooses_where_the_file_names_settings_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project / ".weakfish/engine.yaml", "conf: {spark.executor.cores: 4}\n")
    monkeypatch.setenv("WEAKFISH_ENGINE", "spark")
    assert fleet.chosen(Project(project)).conf == {"spark.executor.cores": 4}
