"""`weakfish init`: what it asks, refuses and writes; a folder gets all of a project or nothing."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo
from made_projects import HEADER, init, orders, refused, settings
from projects import BIN, contents, git, write

from weakfish.errors import UnknownName, UserError
from weakfish.project import params
from weakfish.project.paths import Project
from weakfish.scaffold.survey import place
from weakfish.scaffold.write import read_base, read_record


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return orders(tmp_path)


def test_a_project_has_all_its_parts_under_git_and_dvc(here: Path) -> None:
    said = init("shop", "--from", "orders.csv", "--yes")
    root = here / "shop"
    base = read_base(root, read_record(root))
    tracked = set(git(root, "ls-files").splitlines())
    kept = {f".weakfish-base/{path}.txt" for path in base}
    assert tracked == {*base, *kept, "weakfish.lock"} == set(contents(root)) - set(in_git(root))
    assert {path: (root / path).read_text(encoding="utf-8") for path in base} == base
    assert {"params.yaml", "dvc.yaml", "README.md", ".gitignore", "weakfish.lock"} <= tracked
    assert {path.split("/")[0] for path in tracked if "/" in path} >= {
        "sources",
        "labeling_functions",
        "feature_repo",
        "validation",
        "tests",
    }
    assert git(root, "status", "--short") == ""
    assert git(root, "log", "--format=%s").splitlines() == ["Begin shop with weakfish init"]
    stages = {stage.name for stage in Repo(str(root)).index.stages}
    assert {"fetch", "ingest", "vote", "label", "features", "publish", "training_set", "evaluate"} <= stages
    assert params.load(root).events == params.EventsParams(
        key="id", time="at", wrong_clocks="quarantine", on_duplicate="keep_first"
    )
    assert settings(root)["source"]["gold"] == {"label": "label"}
    assert "cd shop\n  dvc repro\n" in said


def in_git(root: Path) -> list[str]:
    return [path for path in contents(root) if path.startswith(".git/")]


def test_the_same_data_give_the_same_files(here: Path) -> None:
    for name in ("one", "two"):
        init(name, "--from", "orders.csv", "--yes", "--name", "shop")
    first, second = (contents(here / name) for name in ("one", "two"))
    assert {path: text for path, text in first.items() if not path.startswith(".git/")} == {
        path: text for path, text in second.items() if not path.startswith(".git/")
    }


@pytest.mark.parametrize("yes", [True, False])
def test_every_part_can_be_said_in_flags(here: Path, yes: bool) -> None:
    said = ["--id", "id", "--time", "at", "--no-entity", "--no-text", "--no-label", "--classes", "size=small,large"]
    init("shop", "--from", "orders.csv", *said, *(["--yes"] if yes else []))
    project = Project(here / "shop")
    assert {name: task.classes for name, task in project.params.tasks.items()} == {"size": ["small", "large"]}
    proposal = read_record(project.root).proposal
    assert (proposal.key, proposal.time, proposal.entities, proposal.texts) == ("id", "at", (), ())
    assert "label" in [column.name for column in proposal.columns]


def test_without_a_terminal_it_says_which_flags_to_give(here: Path) -> None:
    message = refused("shop", "--from", "orders.csv", "--id", "id")
    assert "--yes" in message
    assert "--id id --time at --entity customer --no-text --label label" in message
    assert "say --time or --no-time, --entity or --no-entity, --text or --no-text, --label or --no-label." in message
    assert sorted(path.name for path in here.iterdir()) == ["orders.csv"]


def typed(answers: list[str], *arguments: str) -> str:
    """What `weakfish init` shows on a terminal where somebody types these answers."""
    terminal, end = pty.openpty()
    process = subprocess.Popen([str(BIN / "weakfish"), "init", *arguments], stdin=end, stdout=end, stderr=end)
    os.close(end)
    os.write(terminal, "".join(f"{answer}\n" for answer in answers).encode())
    shown = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # the other end was closed
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    assert process.wait() == 0, shown.decode()
    return shown.decode()


def test_on_a_terminal_it_shows_its_proposal_and_takes_another(here: Path) -> None:
    shown = typed(["c", "", "", "-", "", "kind=label", "y"], "shop", "--from", "orders.csv")
    assert "its values are times" in shown
    proposal = read_record(here / "shop").proposal
    assert (list(proposal.tasks), proposal.entities) == (["kind"], ())


def test_on_a_terminal_it_asks_for_the_order_of_dates_and_for_what_to_label(here: Path) -> None:
    rows = "".join(f"o{n},{n % 12 + 1}/{n // 12 % 12 + 1}/2021,c{n % 9}\n" for n in range(150))
    write(here / "visits.csv", f"id,day,customer\n{rows}")
    shown = typed(["m", "y", "one", "good,bad"], "shop", "--from", "visits.csv")
    assert "Column day: what comes first in 1/1/2021, [d]ay or [m]onth?" in shown
    assert "What are events to be labeled as?" in shown
    assert "2 to 128 classes, not 1" in shown
    assert settings(here / "shop")["source"]["time_formats"] == {"day": "%m/%d/%Y"}
    proposal = read_record(here / "shop").proposal
    assert proposal.tasks["example"].classes == ("good", "bad")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--id", "no_such"), "There is no column 'no_such' in the files"),
        (("--id", "id", "--no-id"), "--id and --no-id exclude each other"),
        (("--entity", "at"), "'at' cannot be entity and event time at once"),
        (("--label", "a=label", "--label", "b=label"), "cannot be label of b and label of a at once"),
        (("--label", "2nd=label"), "A task cannot be named '2nd'"),
        (("--classes", "fine,not so fine"), "A class cannot be named 'not so fine'"),
        (("--classes", "fine,Fine"), "do not differ, or only in case"),
        (("--classes", "fine"), "2 to 128 classes, not 1"),
        (("--classes", "fine,late"), "values that are none of --classes fine,late: 'fraud'"),
        (("--label", "amount", "--type", "amount=string"), "'amount' has 200 values, and a task has at most 128"),
        (("--type", "amount=money"), "--type amount=money names no type"),
        (("--time", "customer"), "'customer' holds no time"),
        (("--time-zone", "Mars"), "--time-zone Mars is not a time zone"),
        (("more.csv",), "write the pattern in quotes"),
    ],
)
def test_a_wish_that_cannot_be_is_one_sentence(here: Path, arguments: tuple[str, ...], sentence: str) -> None:
    message = refused("shop", "--from", "orders.csv", *arguments, "--yes")
    assert sentence in message
    assert message.endswith((".", "?"))
    assert sorted(path.name for path in here.iterdir()) == ["orders.csv"]


def test_a_folder_that_is_not_empty_is_left_as_it_is(here: Path) -> None:
    write(here / "shop/notes.txt", "mine\n")
    assert "is not empty" in refused("shop", "--from", "orders.csv", "--yes")
    assert contents(here / "shop") == {"notes.txt": b"mine\n"}
    assert "is a file or a link" in refused("orders.csv", "--from", "orders.csv", "--yes")


def test_an_empty_folder_stays_the_same_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = here / "shop"
    folder.mkdir()
    before = folder.stat().st_ino
    monkeypatch.chdir(folder)
    init(".", "--from", "../orders.csv", "--yes")
    assert folder.stat().st_ino == before
    assert settings(Path())["source"]["path"] == "../orders.csv"
    assert git(folder, "status", "--short") == ""
    assert not list(folder.glob(".*part*"))


def test_nothing_is_left_behind_where_writing_fails(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("weakfish.scaffold.write.begin", broken)
    (here / "empty").mkdir()
    for name in ("empty", "new/folder"):
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            init(name, "--from", "orders.csv", "--yes")
    assert sorted(path.name for path in here.rglob("*")) == ["empty", "orders.csv"]


def test_a_project_in_a_project_is_refused(here: Path) -> None:
    init("shop", "--from", "orders.csv", "--yes")
    assert f"would lie in the project {here / 'shop'}" in refused("shop/inner", "--from", "orders.csv", "--yes")


def test_in_a_repository_of_others_nothing_is_staged_and_dvc_has_a_root_of_its_own(here: Path) -> None:
    git(here, "init", "--quiet")
    said = init("shop", "--from", "orders.csv", "--yes")
    assert "`git add shop`" in said
    assert git(here, "diff", "--cached", "--name-only") == ""
    assert not (here / "shop/.git").exists()
    repository = Repo(str(here / "shop"))
    assert (repository.root_dir, repository.scm.root_dir) == (str(here / "shop"), str(here))
    write(here / ".gitignore", "/own\n")
    init("own", "--from", "orders.csv", "--yes")
    assert (here / "own/.git").is_dir()


def test_without_an_identity_files_are_staged(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    for name in ("GIT_AUTHOR_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    said = init("shop", "--from", "orders.csv", "--yes")
    assert "git does not know who commits" in said
    assert set(git(here / "shop", "diff", "--cached", "--name-only").splitlines()) >= {"params.yaml", "weakfish.lock"}


def test_the_repository_is_the_project_s_own_though_git_s_environment_names_another(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(here / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(here / "elsewhere-index"))
    init("shop", "--from", "orders.csv", "--yes")
    assert (here / "shop/.git/HEAD").is_file()
    assert sorted(path.name for path in here.iterdir()) == ["orders.csv", "shop"]


def test_data_beside_the_project_are_named_from_it_and_others_absolutely(tmp_path: Path) -> None:
    for name in ("data/2024/a.csv", "b.csv", "deep/c.csv", "deep/[x]/d.csv"):
        write(tmp_path / name, HEADER)
    project = tmp_path / "deep/shop"
    for given, path, dep in [
        (tmp_path / "deep/c.csv", "../c.csv", "../c.csv"),
        (tmp_path / "deep/*.csv", "../*.csv", None),
        (tmp_path / "b.csv", str(tmp_path / "b.csv"), str(tmp_path / "b.csv")),
        (tmp_path / "data/*/*.csv", str(tmp_path / "data/*/*.csv"), str(tmp_path / "data")),
        (tmp_path / "data", str(tmp_path / "data"), str(tmp_path / "data")),
        (tmp_path / "deep/[x]/d.csv", "../[x]/d.csv", "../[x]/d.csv"),
    ]:
        found = place(str(given), project)
        assert (found.path, found.fetch_dep) == (path, dep)
    for given in (tmp_path / "deep", tmp_path / "**/*.csv"):
        with pytest.raises(UserError, match="would lie among the data"):
            place(str(given), project)
    with pytest.raises(UserError, match="There is no file"):
        place(str(tmp_path / "none*.csv"), project)


def test_a_name_that_is_nearly_right_is_suggested(here: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'customer'"):
        init("shop", "--from", "orders.csv", "--yes", "--entity", "costumer")
