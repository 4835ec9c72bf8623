"""What moved labels between a git revision and the work tree, and which edit each group of them is put down to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_process import run_here
from labelled import FEBRUARY, JANUARY, commit, edit, labelled, repro, write_orders
from projects import command, contents, git, replace, weakfish, write

from weakfish.contracts.tables import partitions, read_partition, write_partition
from weakfish.errors import UserError
from weakfish.files import write_json
from weakfish.labeling.choice import Maker
from weakfish.labeling.flips import EXAMPLES, Cause, Edits, causes, diff
from weakfish.labeling.label_model import FittedModel
from weakfish.project.paths import Project

NOBODY, FINE, FRAUD = -1, 0, 1


def maker(names: Sequence[str], accuracies: Sequence[float], method: str = "snorkel") -> Maker:
    """Functions that are right that often, for either class."""
    mu = [[[right, 1 - right], [1 - right, right]] for right in accuracies]
    model = FittedModel(np.array(mu, np.float32).reshape(-1, 2), np.array([0.5, 0.5]), list(accuracies), rows=100)
    return Maker(model, list(names), method, ["all"], seed=1)


def causes_of(old: Maker, new: Maker, before: Any, after: Any, labels: list[int], **edits: list[str]) -> list[Cause]:
    keys = pa.chunked_array([[f"k{row}" for row in range(len(labels))]])
    named = Edits(edits.get("changed", []), edits.get("added", []), edits.get("removed", []))
    votes = (np.array(before, np.int8), np.array(after, np.int8))
    return causes(old, new, votes, keys, np.array(labels), named)


def test_a_label_is_put_down_to_the_one_function_whose_new_votes_give_it() -> None:
    made = maker("abc", [0.9, 0.6, 0.6])
    before = [[0, -1, -1], [-1, 0, -1], [0, 0, -1]]
    after = [[1, 1, -1], [-1, -1, -1], [-1, -1, -1]]
    found = causes_of(made, made, before, after, [FRAUD, NOBODY, NOBODY], changed=["a", "b"])
    assert found == [Cause("function", ("a",)), Cause("function", ("b",)), Cause("several")]


def test_functions_that_would_each_have_done_it_are_all_named() -> None:
    made = maker("abc", [0.8, 0.8, 0.8])
    found = causes_of(made, made, [[-1, -1, -1]], [[1, 1, -1]], [FRAUD], changed=["a", "b"])
    assert found == [Cause("any", ("a", "b"))]


def test_added_and_removed_functions_are_causes_too() -> None:
    old, new = maker("abc", [0.7, 0.7, 0.7]), maker("bcd", [0.7, 0.7, 0.95])
    before = [[-1, 0, -1], [1, -1, -1]]
    after = [[0, -1, 1], [-1, -1, -1]]
    found = causes_of(old, new, before, after, [FRAUD, NOBODY], added=["d"], removed=["a"])
    assert found == [Cause("function", ("d",)), Cause("function", ("a",))]


def test_new_votes_of_functions_that_nobody_edited_are_the_events_doing() -> None:
    made = maker("abc", [0.7, 0.7, 0.7])
    found = causes_of(made, made, [[-1, 0, -1]], [[-1, 1, 1]], [FRAUD], changed=["a"])
    assert found == [Cause("events")]


def test_what_the_old_model_does_not_do_with_any_of_the_new_votes_is_the_refit() -> None:
    old, new = maker("abc", [0.9, 0.6, 0.6]), maker("abc", [0.6, 0.9, 0.6])
    found = causes_of(old, new, [[0, 1, -1]], [[0, 1, -1]], [FRAUD], changed=["c"])
    assert found == [Cause("refit")]


def test_the_method_that_made_the_old_labels_judges() -> None:
    old, new = maker("abc", [0.99, 0.6, 0.6], "majority"), maker("abc", [0.99, 0.6, 0.6])
    found = causes_of(old, new, [[0, -1, 1]], [[0, 1, 1]], [FRAUD], changed=["b"])
    assert found == [Cause("function", ("b",))]


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labelled commits, the second with the edits."""
    root = labelled(tmp_path_factory.mktemp("edited") / "orders")
    edit(root)
    repro(root)
    return root


def test_each_group_of_labels_is_put_down_to_the_edit_that_moved_it(edited: Path) -> None:
    found = diff(Project(edited), "fraud", "HEAD~1")
    groups = [
        (group["change"], group["from"], group["to"], group["cause"]["kind"], group["cause"]["functions"])
        for group in found["groups"]
    ]
    examples = [sorted(group["examples"]) for group in found["groups"]]
    assert list(zip(groups, examples, strict=True)) == [
        (("appeared", None, "fraud", "function", ["is_large"]), ["large", "larger"]),
        (("appeared", None, "fine", "events", []), ["coming"]),
        (("appeared", None, "fine", "function", ["is_a_toy"]), ["toy"]),
        (("appeared", None, "fraud", "events", []), ["changing"]),
        (("vanished", "fine", None, "events", []), ["leaving"]),
        (("vanished", "fine", None, "function", ["is_a_book"]), ["book"]),
    ]
    assert [group["count"] for group in found["groups"]] == [2, 1, 1, 1, 1, 1]
    assert (found["flipped"], found["appeared"], found["vanished"]) == (0, 5, 2)
    assert found["rows"] == {"old": 31, "new": 31}
    assert found["functions"] == {"changed": ["is_large"], "added": ["is_a_toy"], "removed": ["is_a_book"]}
    assert found["commit"] == git(edited, "rev-parse", "HEAD~1").strip()
    assert found["causes_unknown"] is None


def test_nothing_in_the_work_tree_changes_and_programs_get_json(edited: Path) -> None:
    before = contents(edited / "data"), git(edited, "status", "--porcelain"), (edited / "dvc.lock").read_bytes()
    result = weakfish(edited, "labels", "diff", "HEAD~1", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == diff(Project(edited), "fraud", "HEAD~1")
    after = contents(edited / "data"), git(edited, "status", "--porcelain"), (edited / "dvc.lock").read_bytes()
    assert before == after


def test_people_get_a_sentence_and_a_table(edited: Path) -> None:
    result = weakfish(edited, "labels", "diff", "HEAD~1")
    assert result.returncode == 0, result.stderr
    assert "0 flipped, 5 appeared, 2 vanished; 31 events then, 31 now." in " ".join(result.stdout.split())
    assert "Labeling functions changed: is_large." in result.stdout
    assert "the events changed" in result.stdout


def test_the_same_revision_differs_in_nothing(edited: Path) -> None:
    found = diff(Project(edited), "fraud", "HEAD")
    assert (found["groups"], found["flipped"], found["rows"]) == ([], 0, {"old": 31, "new": 31})


def test_months_that_lie_in_parts_now_are_compared_with_the_whole_ones_of_the_revision(
    edited: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(edited, tmp_path / "orders"))
    expected = diff(Project(root), "fraud", "HEAD~1")
    for name, file in partitions(root / "data/events").items():
        rows = read_partition(file)
        for part, start in enumerate(range(0, rows.num_rows, 5), 1):
            write_partition(root / "data/events", f"{name}~{part:04}", rows.slice(start, 5))
        file.unlink()
    run_here(root, ["vote"], ["label"])
    found = diff(Project(root), "fraud", "HEAD~1")
    assert found == expected
    assert {group["change"] for group in found["groups"]} == {"appeared", "vanished"}


@pytest.mark.parametrize("revision", ["nowhere", "HEAD~9", "--help", "HEAD:dvc.lock"])
def test_a_revision_that_git_does_not_know_is_one_sentence(edited: Path, revision: str) -> None:
    with pytest.raises(
        UserError, match=r"Git does not know the revision '.*' in .*; `git log` lists those that there are\.$"
    ):
        diff(Project(edited), "fraud", revision)


def test_a_revision_that_the_cache_lost_is_one_sentence_and_exit_code_2(edited: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(edited, tmp_path / "orders"))
    shutil.rmtree(root / ".dvc/cache")
    result = weakfish(root, "labels", "diff", "HEAD~1")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "DVC's cache no longer holds data/" in result.stderr
    assert "Traceback" not in result.stderr


def test_what_the_cache_lost_comes_from_a_remote_even_one_younger_than_the_revision(
    edited: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(edited, tmp_path / "orders"))
    expected = diff(Project(root), "fraud", "HEAD~1")
    shutil.copytree(root / ".dvc/cache", tmp_path / "remote")
    shutil.rmtree(root / ".dvc/cache")
    assert (
        command(root, "dvc", "remote", "add", "--quiet", "--default", "here", str(tmp_path / "remote")).returncode == 0
    )
    assert diff(Project(root), "fraud", "HEAD~1") == expected


def test_a_project_may_be_a_folder_of_a_larger_repository(edited: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(edited, tmp_path / "company/shop"))
    shutil.rmtree(root / ".git")
    git(tmp_path / "company", "init", "--quiet")
    commit(tmp_path / "company")
    found = diff(Project(root), "fraud", "HEAD")
    assert (found["groups"], found["rows"]) == ([], {"old": 31, "new": 31})


def test_a_revision_before_the_pipeline_is_one_sentence(edited: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(edited, tmp_path / "orders"))
    git(root, "checkout", "--quiet", "--orphan", "early")
    git(root, "rm", "--quiet", "--cached", "-r", ".dvc", "dvc.lock")
    commit_of(root, "early")
    git(root, "checkout", "--quiet", "--force", "master") if "master" in git(root, "branch") else git(
        root, "checkout", "--quiet", "--force", "main"
    )
    with pytest.raises(UserError, match="At early "):
        diff(Project(root), "fraud", "early")


def commit_of(root: Path, message: str) -> None:
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", message)


def test_votes_of_a_revision_that_has_a_folder_per_function_tell_causes_too(edited: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(edited, tmp_path / "orders"))
    git(root, "checkout", "--quiet", "-b", "older", "HEAD~1")
    assert command(root, "dvc", "checkout", "--quiet").returncode == 0
    for file in sorted((root / "data/votes/fraud").glob("*.parquet")):
        together = pq.read_table(file)
        file.unlink()
        for name in together.column_names:
            apart = together.select([name]).rename_columns(["vote"])
            (root / "data/votes/fraud" / name).mkdir(exist_ok=True)
            pq.write_table(apart.replace_schema_metadata(together.schema.metadata), file.parent / name / file.name)
    result = command(root, "dvc", "commit", "--quiet", "--force")
    assert result.returncode == 0, result.stderr
    commit(root)
    git(root, "checkout", "--quiet", "-")
    assert command(root, "dvc", "checkout", "--quiet").returncode == 0
    assert list((root / "data/votes/fraud").glob("*.parquet"))
    assert diff(Project(root), "fraud", "older")["groups"] == diff(Project(root), "fraud", "HEAD~1")["groups"] != []


def test_flips_of_labels_in_the_older_form_are_counted_without_causes(edited: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(edited, tmp_path / "orders"))
    labels = pa.table(
        {
            "order_id": ["large", "book", "uncovered"],
            "p_fine": [0.9, 0.8, 0.5],
            "p_fraud": [0.1, 0.2, 0.5],
            "covered": [True, True, False],
        }
    )
    shutil.rmtree(root / "data/labels")
    write_partition(root / "data/labels/fraud", "2024-01", labels)
    settings = {"classes": ["fine", "fraud"], "label_model": {"seed": 1}}
    older = {"settings": settings, "functions": {}, "events": {}, "versions": {}}
    write_json(root / "data/labels/fraud.manifest.json", older)
    write(root / "dvc.yaml", "stages: {label: {cmd: 'true', outs: [data/labels]}}")
    result = command(root, "dvc", "commit", "--quiet", "--force")
    assert result.returncode == 0, result.stderr
    commit(root)
    git(root, "checkout", "--quiet", "HEAD~1", "--", "dvc.yaml", "dvc.lock")
    assert command(root, "dvc", "checkout", "--quiet", "data/labels").returncode == 0
    found = diff(Project(root), "fraud", "HEAD")
    moved = {(group["change"], group["from"], group["to"]): group for group in found["groups"]}
    assert moved["flipped", "fine", "fraud"]["examples"] == ["large"]
    assert moved["vanished", "fine", None]["examples"] == ["book"]
    assert moved["flipped", "fine", "fraud"]["cause"] is None
    assert found["flipped"] == 1
    assert "are in an older format" in found["causes_unknown"]
    assert len(moved["appeared", None, "fraud"]["examples"]) == EXAMPLES < moved["appeared", None, "fraud"]["count"]


def test_what_the_new_reader_makes_of_old_votes_is_the_readers_doing() -> None:
    made, nothing = maker("abc", [0.7, 0.7, 0.7]), np.zeros((3, 2))
    none, said = np.zeros(3, bool), np.array([[0.0, 3.0]] * 3)
    keys, votes = pa.chunked_array([["k0", "k1", "k2"]]), np.array([[0, -1, -1], [-1] * 3, [0, -1, -1]], np.int8)
    now = votes.copy()
    now[2, 0] = 1
    edits, labels = Edits(["a"], [], []), np.array([FRAUD, FRAUD, FRAUD])
    found = causes(made, made, (votes, now), keys, labels, edits, ((nothing, none), (said, ~none)))
    assert found == [Cause("reader"), Cause("reader"), Cause("function", ("a",))]
    found = causes(made, made, (votes, votes), keys, np.array([FINE, NOBODY, FINE]), edits, ((said, ~none), None))
    assert found == [Cause("reader")] * 3


def test_a_reader_that_is_new_or_has_learned_anew_is_named(tmp_path: Path) -> None:
    root = labelled(tmp_path / "orders")
    write_orders(root, {**JANUARY, "uncovered": (110, "booking")}, FEBRUARY)  # no function votes, letters tell
    repro(root)
    params = root / "params.yaml"
    params.write_text(
        params.read_text().replace("method: snorkel", "method: snorkel, reader: on, reads: [note, order_id]")
    )
    repro(root)
    found = diff(Project(root), "fraud", "HEAD~1")
    assert found["settings"] == {"reader": ["off", "on"], "reads": [[], ["note", "order_id"]]}
    appeared = {key: group for group in found["groups"] for key in group["examples"]}["uncovered"]
    assert (appeared["change"], appeared["cause"]) == ("appeared", {"kind": "reader", "functions": []})
    params.write_text(params.read_text().replace("reader: on", "reader: off"))
    repro(root)
    back = diff(Project(root), "fraud", "HEAD~1")
    vanished = {key: group for group in back["groups"] for key in group["examples"]}["uncovered"]
    assert (vanished["change"], vanished["cause"]["kind"]) == ("vanished", "reader")
    assert "the reader, which learned anew" in weakfish(root, "labels", "diff", "HEAD~1").stdout


def test_known_labels_that_came_are_named_and_counted(edited: Path, tmp_path: Path) -> None:
    root = tmp_path / "orders"
    shutil.copytree(edited, root, symlinks=True)
    gold = pa.table({"order_id": ["uncovered", "large"], "label": ["fraud", "fine"]})
    write_partition(root / "data/gold/dev/fraud", "2024-01", gold)
    replace(root / "params.yaml", "method: snorkel", "method: snorkel, known: dev")
    result = weakfish(root, "label")
    assert result.returncode == 0, result.stderr
    found = diff(Project(root), "fraud", "HEAD")
    groups = {(group["change"], group["to"], group["cause"]["kind"]): group["examples"] for group in found["groups"]}
    assert groups == {("appeared", "fraud", "known"): ["uncovered"], ("flipped", "fine", "known"): ["large"]}
    assert found["known"] == [{}, {"fine": 1, "fraud": 1}]
    said = " ".join(weakfish(root, "labels", "diff", "HEAD").stdout.split())
    assert "Known labels were none and are 1 fine, 1 fraud;" in said
    assert "a known label that came, left or changed" in said
