"""`weakfish upgrade`: the diff first, what nobody edited is brought along, what the team edited is theirs."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from made_projects import init, orders, run
from projects import contents, git, replace, write

import weakfish
from weakfish.errors import CheckFailed, UnknownName, UserError
from weakfish.project.stages import stages_of
from weakfish.scaffold import upgrade
from weakfish.scaffold import write as record
from weakfish.scaffold.proposal import Proposal
from weakfish.scaffold.render import render
from weakfish.scaffold.write import read_record

LATER = "0.9.0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = orders(tmp_path_factory.mktemp("made"))
    init(str(folder / "shop"), "--from", str(folder / "orders.csv"), "--yes")
    return folder / "shop"


@pytest.fixture
def shop(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project as this version makes it, the working directory."""
    for path, content in contents(made).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in ("feature_repo", "labeling_functions", "sources", "validation"):
            del sys.modules[name]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> str:
    """A later version is installed, which changes three files, makes one more and another no more."""

    def rendered(proposal: Proposal, requirements: str) -> dict[str, str]:
        files = render(proposal, requirements)
        del files["reports/README.md"]
        changed = {".gitignore": f"{files['.gitignore']}*.tmp\n", "requirements.txt": f"weakfish=={LATER}\n"}
        changed["dvc.yaml"] = files["dvc.yaml"].replace("desc: Labeling functions vote", "desc: The functions vote")
        return {**files, **changed, "docs/new.md": "New.\n"}

    for module in (record, upgrade):
        monkeypatch.setattr(module, "__version__", LATER)
    monkeypatch.setattr(upgrade, "render", rendered)
    return LATER


def unchanged(root: Path) -> dict[str, bytes]:
    """All files but those that running leaves."""
    return {
        path: content
        for path, content in contents(root).items()
        if "__pycache__" not in path and not path.startswith((".weakfish/", ".git/"))
    }


def differing(root: Path, before: dict[str, bytes]) -> set[str]:
    """The files of the team that are not as they were before."""
    now = unchanged(root)
    found = {path for path in {*now, *before} if now.get(path) != before.get(path)}
    return {path for path in found if not path.startswith(".weakfish-base/")}


def test_a_project_of_this_version_has_nothing_to_change(shop: Path) -> None:
    before = unchanged(shop)
    assert "Nothing to change" in run("upgrade")
    write(shop / "README.md", "Ours.\n")
    (shop / "reports/README.md").unlink()
    assert "Nothing to change" in run("upgrade", "--yes")
    assert differing(shop, before) == {"README.md", "reports/README.md"}


def test_what_nobody_edited_is_brought_along_and_the_diff_is_one_that_git_takes(shop: Path, later: str) -> None:
    write(shop / "data/events/2024-01.parquet", "not ours to touch\n")
    before = unchanged(shop)
    shown = run("upgrade", "--diff")
    assert git(shop, "status", "--short") == ""
    said = run("upgrade", "--yes")
    assert said.startswith(shown)
    expected = {".gitignore", "docs/new.md", "dvc.yaml", "reports/README.md", "requirements.txt"}
    assert differing(shop, before) == {*expected, "weakfish.lock"}
    assert (shop / "requirements.txt").read_text(encoding="utf-8").strip() == f"weakfish=={later}"
    assert not (shop / "reports/README.md").exists()
    assert read_record(shop).version == later
    assert (shop / ".weakfish-base/docs/new.md.txt").read_text(encoding="utf-8") == "New.\n"
    after = unchanged(shop)
    assert "Nothing to change" in run("upgrade", "--yes")
    assert unchanged(shop) == after
    git(shop, "stash", "--include-untracked", "--quiet")
    write(shop.parent / "shown.patch", shown)
    git(shop, "apply", str(shop.parent / "shown.patch"))
    assert {path: (shop / path).read_bytes() for path in expected if (shop / path).exists()} == {
        path: after[path] for path in expected if path in after
    }


OWN = """
  ours:
    cmd: cp data/labels/label.manifest.json ours.json
    deps: [data/labels]
    outs: [ours.json]
"""


@pytest.mark.parametrize("arguments", [("--yes",), ("--yes", "--take", "dvc.yaml")])
def test_a_stage_of_the_teams_own_and_what_changed_are_both_in_the_merged_pipeline(
    shop: Path, later: str, arguments: tuple[str, ...]
) -> None:
    pipeline = shop / "dvc.yaml"
    pipeline.write_text(pipeline.read_text(encoding="utf-8") + OWN, encoding="utf-8")
    assert "Changed dvc.yaml." in run("upgrade", *arguments)
    text = pipeline.read_text(encoding="utf-8")
    assert "desc: The functions vote" in text
    assert text.endswith(OWN)
    assert "Nothing to change" in run("upgrade", "--yes")
    assert pipeline.read_text(encoding="utf-8") == text


def test_lines_that_both_changed_are_a_conflict_and_never_called_up_to_date(shop: Path, later: str) -> None:
    before = unchanged(shop)
    replace(shop / "dvc.yaml", "desc: Labeling functions vote", "desc: Our functions vote")
    with pytest.raises(CheckFailed, match=r"finished by hand: dvc.yaml has conflicts: .* changed by this version"):
        run("upgrade", "--yes")
    text = (shop / "dvc.yaml").read_text(encoding="utf-8")
    assert "<<<<<<< yours\n    desc: Our functions vote" in text
    assert f"desc: The functions vote on every event\n>>>>>>> weakfish {later}" in text
    assert "requirements.txt" in differing(shop, before)
    with pytest.raises(CheckFailed, match=r"dvc.yaml has conflict markers; edit it"):
        run("upgrade", "--yes")


def test_where_both_changed_a_line_take_prefers_weakfishs(shop: Path, later: str) -> None:
    replace(shop / "dvc.yaml", "desc: Labeling functions vote", "desc: Our functions vote")
    pipeline = shop / "dvc.yaml"
    pipeline.write_text(pipeline.read_text(encoding="utf-8") + OWN, encoding="utf-8")
    run("upgrade", "--yes", "--take", "dvc.yaml")
    text = pipeline.read_text(encoding="utf-8")
    assert "desc: The functions vote on every event\n" in text
    assert text.endswith(OWN)


def test_what_the_team_deleted_or_wrote_itself_is_left_unless_it_is_named(shop: Path, later: str) -> None:
    write(shop / "docs/new.md", "Ours.\n")
    write(shop / "reports/README.md", "Ours.\n")
    (shop / "requirements.txt").unlink()
    before = unchanged(shop)
    said = run("upgrade", "--yes")
    assert "Left docs/new.md, which is yours; this version makes one of that name" in said
    assert "Left requirements.txt, which was deleted here." in said
    assert "Left reports/README.md, which is not made any more, and was edited here." in said
    assert differing(shop, before) == {".gitignore", "dvc.yaml", "weakfish.lock"}
    run("upgrade", "--yes", "--take", "docs/new.md", "--take", "requirements.txt")
    assert (shop / "requirements.txt").read_text(encoding="utf-8").strip() == f"weakfish=={later}"
    with pytest.raises(UnknownName, match=r"did you mean '\.gitignore'"):
        run("upgrade", "--take", ".gitignor")


def test_without_a_terminal_it_shows_and_then_refuses(shop: Path, later: str) -> None:
    with pytest.raises(UserError, match="no terminal to ask on; add --yes"):
        run("upgrade")
    assert git(shop, "status", "--short") == ""


def test_on_a_terminal_it_asks_once(shop: Path, later: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def confirm(question: str, default: bool) -> bool:
        asked.append(question)
        return True

    monkeypatch.setattr(upgrade, "on_terminal", lambda: True)
    monkeypatch.setattr("click.confirm", confirm)
    run("upgrade")
    assert asked == ["Change these 5 files?"]
    assert "Nothing to change" in run("upgrade")


def test_a_task_and_a_view_that_came_need_no_upgrade(shop: Path) -> None:
    settings = yaml.safe_load((shop / "params.yaml").read_text(encoding="utf-8"))
    settings["tasks"]["late"] = {"classes": ["late", "soon"]}
    settings["views"].append("more_of_customers")
    write(shop / "params.yaml", yaml.safe_dump(settings))
    known = set(stages_of(shop))
    assert {"validate_labels@late", "gate_training@late", "gate_features@more_of_customers"} <= known
    assert "Nothing to change" in run("upgrade", "--yes")


def test_a_project_that_init_did_not_make_is_refused(shop: Path) -> None:
    (shop / "weakfish.lock").unlink()
    with pytest.raises(UserError, match="`weakfish init` did not make this project"):
        run("upgrade")


def test_a_record_of_a_later_version_is_refused(shop: Path) -> None:
    replace(shop / "weakfish.lock", f'"version": "{weakfish.__version__}"', '"version": "99.0"')
    replace(shop / "weakfish.lock", '"proposal": {', '"proposal": {"unknown": 1,')
    with pytest.raises(UserError, match=r"written by Weakfish 99.0, which is later than"):
        run("upgrade")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": "no"}', '{"version": "0.1.0", "files": {}}', "<<<<<<< HEAD"]
)
def test_a_record_that_is_broken_is_one_sentence(shop: Path, text: str) -> None:
    write(shop / "weakfish.lock", text)
    with pytest.raises(UserError, match=r"weakfish.lock is no record of Weakfish \(.*git checkout"):
        run("upgrade")


def test_a_record_that_names_files_elsewhere_is_refused(shop: Path, later: str) -> None:
    victim = shop.parent / f"{shop.name}-elsewhere.txt"
    write(victim, "Here.\n")
    content = json.loads((shop / "weakfish.lock").read_text(encoding="utf-8"))
    content["files"] = {f"../{victim.name}": hashlib.sha256(b"Here.\n").hexdigest()}
    write(shop / "weakfish.lock", json.dumps(content))
    with pytest.raises(UserError, match="lies outside of the project"):
        run("upgrade", "--yes")
    assert victim.exists()
