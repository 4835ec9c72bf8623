"""`weakfish diff`: what changed between two versions of a project, and which edit did it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from projects import contents, git, weakfish

from benchmarks import diff_project
from benchmarks.diff_causes import edited, untouched
from benchmarks.diff_edits import EDITS, FUNCTIONS, NOTHING
from benchmarks.diff_project import commit, run
from weakfish.diffing.comparison import diff
from weakfish.errors import UserError
from weakfish.project.paths import Project

HANDFUL = (
    "rule_bound",
    "class_balance",
    "window",
    "column_renamed",
    "shifted_clock",
    "duplicated_file",
    "gold_changed",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made project, run and committed."""
    root = tmp_path_factory.mktemp("diff") / "base"
    diff_project.make(root)
    return root


@pytest.fixture
def project(base: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(base, tmp_path / "payments", symlinks=True))


@pytest.fixture(scope="module")
def changed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which one bound was edited, and that has run."""
    root = Path(shutil.copytree(base, tmp_path_factory.mktemp("changed") / "payments", symlinks=True))
    file = root / FUNCTIONS
    file.write_text(file.read_text().replace("above=400", "above=250"))
    run(root)
    return root


@pytest.mark.parametrize("kind", HANDFUL)
def test_the_first_cause_is_the_edit(base: Path, kind: str) -> None:
    found = edited(base, kind, (1, list(EDITS).index(kind)))
    assert found["right"], found


@pytest.mark.parametrize("kind", ["comment_inside", "order", "renamed_local", "yaml_layout"])
def test_an_edit_that_changes_no_meaning_is_nothing(base: Path, kind: str) -> None:
    found = untouched(base, kind, (1, list(NOTHING).index(kind)))
    assert found["right"], found
    assert "only comments, layout or names of locals changed" in found["sentence"]


def test_a_sentence_first_then_what_each_part_of_the_project_makes_of_it(changed: Path) -> None:
    result = weakfish(changed, "diff", "HEAD")
    assert result.returncode == 0, result.stderr
    first = result.stdout.split("\n\n")[0]
    assert " ".join(first.split()).startswith("is_large was edited in labeling_functions/payments.py: of the labels of")
    titles = (
        "Labeling functions of fraud",
        "Labels of fraud",
        "Features of customer_activity",
        "Training set of fraud",
    )
    assert [title in result.stdout for title in titles] == [True] * 4


def test_what_differs_is_counted_as_it_is(changed: Path) -> None:
    found = diff(Project(changed), "HEAD")
    (cause,) = found["causes"]
    assert (cause["area"], cause["names"], cause["effective"]) == ("functions", ("is_large",), True)
    assert found["data"] == {}
    (function,) = found["functions"]["fraud"]
    sums = [sum(1 for month in diff_project.MONTHS for row in rows(changed, month) if amount(row) > 400)]
    sums.append(sum(1 for month in diff_project.MONTHS for row in rows(changed, month) if amount(row) > 250))
    assert (function["name"], function["change"], function["moved"]) == ("is_large", "edited", sums[1] - sums[0])
    assert function["votes"]["new"]["fraud"] - function["votes"]["old"]["fraud"] == sums[1] - sums[0]
    labels = found["labels"]["fraud"]
    assert labels["flipped"] + labels["appeared"] + labels["vanished"] == sum(
        each["count"] for each in labels["groups"]
    )
    assert all(len(group["examples"]) <= 10 for group in labels["groups"])


def rows(root: Path, month: str) -> list[dict[str, str]]:
    return diff_project.read_rows(root / f"raw/{month}.csv")


def amount(row: dict[str, str]) -> float:
    return float(row["amount"])


def test_programs_get_json_and_nothing_is_changed(changed: Path) -> None:
    before = contents(changed / "data"), git(changed, "status", "--porcelain"), (changed / "dvc.lock").read_bytes()
    result = weakfish(changed, "diff", "HEAD", "--format", "json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(json.dumps(diff(Project(changed), "HEAD"), default=str))
    after = contents(changed / "data"), git(changed, "status", "--porcelain"), (changed / "dvc.lock").read_bytes()
    assert before == after
    assert not list((changed / ".weakfish/tmp").glob("revision-*"))


def test_two_revisions_are_compared_without_the_work_tree(changed: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(changed, tmp_path / "payments", symlinks=True))
    expected = diff(Project(root), "HEAD")
    diff_project.call(root, str(diff_project.BIN / "dvc"), "commit", "--quiet", "--force")
    commit(root, "edited")
    shutil.rmtree(root / "data")
    found = diff(Project(root), "HEAD~1", "HEAD")
    assert found.pop("to")["name"] == "HEAD"
    assert found.pop("sentence") == expected.pop("sentence")
    assert {**found, "from": None} == {**{of: expected[of] for of in found}, "from": None} | {
        "labels": {"fraud": {**expected["labels"]["fraud"], "revision": "HEAD~1"}}
    }


def test_answers_of_reviewers_are_named_as_what_moved_the_labels_that_they_are_about(project: Path) -> None:
    EDITS["reviewed"](project, np.random.default_rng(5))
    (file,) = (project / "reviews/fraud").iterdir()
    asked = {json.loads(line)["key"] for line in file.read_text().splitlines()}
    run(project)
    found = diff(Project(project), "HEAD")
    assert found["sentence"].startswith(
        f"{len(asked)} answers of reviewers came in `reviews/fraud/{file.name}`: of the labels"
    )
    told = [group for group in found["labels"]["fraud"]["groups"] if group["cause"]["kind"] == "reviews"]
    assert {key for group in told for key in group["examples"]} <= asked
    assert 0 < found["causes"][0]["labels"] == sum(group["count"] for group in told)


def test_data_that_only_grew_come_after_what_people_edited(project: Path) -> None:
    EDITS["new_month"](project, np.random.default_rng(1))
    EDITS["rule_bound"](project, np.random.default_rng(1))
    run(project)
    found = diff(Project(project), "HEAD")
    assert [cause["area"] for cause in found["causes"]] == ["functions", "data"]
    assert found["data"]["staged"]["partitions"] == {"added": ["2024-05"]}


def test_the_same_version_is_nothing(base: Path) -> None:
    found = diff(Project(base), "HEAD")
    assert found["nothing"]
    assert found["sentence"].startswith("Nothing changed from HEAD")


@pytest.mark.parametrize("revision", ["nowhere", "HEAD~9", "--help", "HEAD:dvc.lock"])
def test_a_revision_that_git_does_not_know_is_one_sentence(base: Path, revision: str) -> None:
    with pytest.raises(UserError, match=r"Git does not know the revision '.*' in .*that there are\.$"):
        diff(Project(base), revision)


def refused(root: Path, *arguments: str) -> str:
    """The sentence with which the command refuses."""
    result = weakfish(root, "diff", *arguments)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


def test_what_the_cache_lost_is_one_sentence_and_what_is_there_stays(project: Path) -> None:
    shutil.rmtree(project / ".dvc/cache")
    before = contents(project / "data")
    assert "DVC's cache no longer holds data/" in refused(project, "HEAD")
    assert contents(project / "data") == before


def test_a_revision_whose_outs_leave_the_project_is_refused(project: Path, tmp_path: Path) -> None:
    lock = (project / "dvc.lock").read_text()
    (project / "dvc.lock").write_text(
        lock.replace("path: data/quarantine/events", "path: data/quarantine/../../../left")
    )
    git(project, "commit", "--quiet", "--all", "--message", "Leave")
    before = contents(project / ".weakfish")
    assert "left/2024-01.parquet, which is not in the project; do not trust it." in refused(project, "HEAD")
    assert contents(project / ".weakfish") == before
    assert not list(tmp_path.rglob("left"))


def test_a_project_that_never_ran_is_one_sentence(project: Path) -> None:
    shutil.rmtree(project / "data")
    assert "There are no events in the work tree: the pipeline has not run there" in refused(project, "HEAD")
    git(project, "rm", "--quiet", "--cached", "dvc.lock")
    commit_without_lock(project)
    assert "At HEAD dvc.lock has no data/events" in refused(project, "HEAD")


def commit_without_lock(root: Path) -> None:
    (root / "dvc.lock").unlink()
    commit(root, "without")


def test_without_git_or_an_accepted_version_it_says_what_to_do(project: Path) -> None:
    assert "No commit has accepted a baseline yet, so say what to compare with: `weakfish diff HEAD`" in refused(
        project
    )
    shutil.rmtree(project / ".git")
    assert "is in no git repository" in refused(project)
    assert "is in no git repository" in refused(project, "HEAD")


def test_an_edit_that_has_not_run_yet_is_said_to_have_moved_nothing(project: Path) -> None:
    EDITS["rule_words"](project, np.random.default_rng(1))
    found = diff(Project(project), "HEAD")
    assert not found["causes"][0]["effective"]
    assert found["sentence"].endswith("if the pipeline has not run since, `weakfish run` does that.")


def test_the_last_accepted_version_is_what_a_project_is_compared_with(project: Path) -> None:
    from in_process import run_here

    run_here(project, ["accept-baseline"])
    commit(project, "accepted")
    (project / "README.md").write_text("Later.\n")
    commit(project, "later")
    found = diff(Project(project))
    assert found["from"]["commit"] == git(project, "rev-parse", "HEAD~1").strip()
