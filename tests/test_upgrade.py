"""`weakfish upgrade`: the diff first, what nobody edited is brought along, what the team edited is theirs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_projects import init, orders, run
from projects import contents, git, replace, write

import weakfish
from weakfish.errors import UnknownName, UserError
from weakfish.scaffold import upgrade
from weakfish.scaffold import write as record
from weakfish.scaffold.proposal import Proposal
from weakfish.scaffold.render import render
from weakfish.scaffold.write import hash_of, read_record

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
    """A later version is installed, which makes .gitignore and requirements.txt otherwise, and a file more."""

    def rendered(proposal: Proposal, version: str, **now: Any) -> dict[str, str]:
        files = render(proposal, weakfish.__version__, **now)
        del files["reports/README.md"]
        changed = {".gitignore": f"{files['.gitignore']}*.tmp\n", "requirements.txt": f"weakfish=={version}\n"}
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


def test_a_project_of_this_version_has_nothing_to_change(shop: Path) -> None:
    before = unchanged(shop)
    assert "Nothing to change" in run("upgrade")
    write(shop / "README.md", "Ours.\n")
    (shop / "reports/README.md").unlink()
    assert "Nothing to change" in run("upgrade", "--yes")
    assert {path for path, content in unchanged(shop).items() if before[path] != content} == {"README.md"}


def test_what_nobody_edited_is_brought_along_and_the_diff_is_one_that_git_takes(shop: Path, later: str) -> None:
    write(shop / "data/events/2024-01.parquet", "not ours to touch\n")
    shown = run("upgrade", "--diff")
    assert git(shop, "status", "--short") == ""
    said = run("upgrade", "--yes")
    assert said.startswith(shown)
    assert git(shop, "diff", "--name-only").split() == [
        ".gitignore",
        "reports/README.md",
        "requirements.txt",
        "weakfish.lock",
    ]
    assert (shop / "requirements.txt").read_text(encoding="utf-8").strip() == f"weakfish=={later}"
    assert (shop / "docs/new.md").read_text(encoding="utf-8") == "New.\n"
    assert not (shop / "reports/README.md").exists()
    assert read_record(shop).version == later
    assert read_record(shop).files["docs/new.md"] == hash_of("New.\n")
    after = unchanged(shop)
    assert "Nothing to change" in run("upgrade", "--yes")
    assert unchanged(shop) == after
    git(shop, "stash", "--include-untracked", "--quiet")
    write(shop.parent / "shown.patch", shown)
    git(shop, "apply", str(shop.parent / "shown.patch"))
    git(shop, "add", "--all")
    changed = set(git(shop, "diff", "--cached", "--name-only").split())
    assert changed == {".gitignore", "docs/new.md", "reports/README.md", "requirements.txt"}
    assert {path: (shop / path).read_bytes() for path in changed if (shop / path).exists()} == {
        path: after[path] for path in changed if path in after
    }


def test_what_the_team_edited_is_left_unless_it_is_named(shop: Path, later: str) -> None:
    write(shop / ".gitignore", "ours\n")
    write(shop / "docs/new.md", "Ours.\n")
    write(shop / "reports/README.md", "Ours.\n")
    (shop / "requirements.txt").unlink()
    before = unchanged(shop)
    said = run("upgrade", "--yes")
    assert "Left .gitignore, which was edited here." in said
    assert "Left requirements.txt, which was deleted here." in said
    assert "Left reports/README.md, which is not made any more, and was edited here." in said
    assert "+*.tmp" in said
    assert {path for path, content in unchanged(shop).items() if before[path] != content} <= {"weakfish.lock"}
    run("upgrade", "--yes", "--take", ".gitignore", "--take", "requirements.txt")
    assert "*.tmp" in (shop / ".gitignore").read_text(encoding="utf-8")
    assert (shop / "requirements.txt").exists()
    assert (shop / "docs/new.md").read_text(encoding="utf-8") == "Ours.\n"
    assert "Left .gitignore" not in run("upgrade", "--yes")
    with pytest.raises(UnknownName, match=r"did you mean 'params\.yaml'"):
        run("upgrade", "--yes", "--take", "param.yaml")


def test_on_a_terminal_it_asks_once_for_plain_files_and_for_each_edited_one(
    shop: Path, later: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(shop / ".gitignore", "ours\n")
    (shop / "docs").mkdir()
    write(shop / "docs/new.md", "Ours.\n")
    asked: list[str] = []

    def confirm(question: str, default: bool) -> bool:
        asked.append(question)
        return ".gitignore" in question

    monkeypatch.setattr(upgrade, "on_terminal", lambda: True)
    monkeypatch.setattr("click.confirm", confirm)
    said = run("upgrade")
    assert asked == [
        "Change 2 files that nobody edited?",
        ".gitignore was edited here; change it?",
        "docs/new.md was edited here; change it?",
    ]
    assert "*.tmp" in (shop / ".gitignore").read_text(encoding="utf-8")
    assert "Left requirements.txt." in said
    assert (shop / "reports/README.md").exists()


def test_without_a_terminal_it_shows_and_then_refuses(shop: Path, later: str) -> None:
    with pytest.raises(UserError, match="no terminal to ask on; add --yes"):
        run("upgrade")
    assert git(shop, "status", "--short") == ""


def test_a_task_and_a_view_that_came_get_their_stages(shop: Path) -> None:
    settings = yaml.safe_load((shop / "params.yaml").read_text(encoding="utf-8"))
    settings["tasks"]["late"] = settings["tasks"]["label"] | {"classes": ["late", "soon"]}
    write(shop / "params.yaml", yaml.safe_dump(settings))
    transforms = shop / "feature_repo/transforms.py"
    text = transforms.read_text(encoding="utf-8")
    name = "customer_activity"
    copied = text[text.index("@transform") :].replace(f"def {name}(", "def more_of_customers(", 1)
    transforms.write_text(f"{text}\n\n{copied}", encoding="utf-8")
    run("upgrade", "--yes")
    stages = yaml.safe_load((shop / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert {
        "validate_labels_late",
        "gate_labels_late",
        "validate_training_late",
        "validate_evaluation_late",
        "validate_features_more_of_customers",
        "gate_features_more_of_customers",
    } <= set(stages)
    assert (shop / "validation/labels/late.py").exists()
    assert (shop / "validation/features/more_of_customers.py").exists()
    assert transforms.read_text(encoding="utf-8") == f"{text}\n\n{copied}"
    assert "Nothing to change" in run("upgrade", "--yes")
    del settings["tasks"]["late"]
    write(shop / "params.yaml", yaml.safe_dump(settings))
    run("upgrade", "--yes")
    assert not (shop / "validation/labels/late.py").exists()
    assert (shop / "validation/labels/label.py").exists()


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
    content["files"][f"../{victim.name}"] = hash_of("Here.\n")
    write(shop / "weakfish.lock", json.dumps(content))
    with pytest.raises(UserError, match="lies outside of the project"):
        run("upgrade", "--yes")
    assert victim.exists()
