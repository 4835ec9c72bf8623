"""`weakfish gc`: what no revision names goes, and nothing that anybody may still read, or is about to name."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from buckets import commit_made, done, stored_orders, tables
from projects import git, replace, weakfish

from weakfish.contracts import storage as of_storage
from weakfish.contracts.pointers import listed, local, pointer_of, settle
from weakfish.contracts.storage import ENDED, FLEET, NOTES, RUNNING, Storage, storage_of
from weakfish.contracts.tables import partitions, read_table, write_partition
from weakfish.errors import Busy, StorageError, UserError
from weakfish.labeling.flips import diff
from weakfish.project.garbage import Collected, collect
from weakfish.project.paths import Project

FUNCTIONS = "labeling_functions/orders.py"

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project about orders on a folder of objects, at two commits: between them one function was edited."""
    home = tmp_path_factory.mktemp("gc")
    root = stored_orders(home / "orders", f"file://{home}/shared")
    commit_made(root)
    replace(root / FUNCTIONS, 'contains("gift")', 'contains("book")')
    commit_made(root)
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it and of its storage, whose objects were put days ago."""
    shutil.copytree(made.parent, tmp_path, dirs_exist_ok=True, symlinks=True)
    root = tmp_path / "orders"
    monkeypatch.setenv(of_storage.VARIABLE, f"file://{tmp_path}/shared")
    age(root)
    return root


def age(root: Path) -> None:
    for file in (root.parent / "shared").rglob("*"):
        os.utime(file, (time.time() - 3 * 86_400,) * 2)


def storage(root: Path) -> Storage:
    found = storage_of(root)
    assert found is not None
    return found


def objects(root: Path) -> set[str]:
    return {file.name for file in (root.parent / "shared/objects").rglob("*") if file.is_file()}


def named(root: Path) -> set[str]:
    """The objects that the work tree names."""
    folders = [path for path in (root / "data").rglob("*") if path.is_dir()]
    return {of.sha256 for folder in folders for file in listed(folder) if (of := pointer_of(file))}


def gone(root: Path, *revisions: str, older: timedelta = HOUR) -> Collected:
    return collect(Project(root), revisions, older, dry_run=False)


def test_while_all_revisions_count_nothing_that_one_of_them_names_goes(project: Path) -> None:
    before = objects(project)
    found = gone(project)
    assert (found.objects, found.bytes, found.named) == (0, 0, len(before))
    assert objects(project) == before


def test_what_only_other_revisions_name_goes_and_what_counts_stays_readable(project: Path) -> None:
    only_old = objects(project) - named(project)
    size = sum(file.stat().st_size for file in (project.parent / "shared").rglob("*") if file.name in only_old)
    before = tables(project)
    dry = json.loads(done(project, "weakfish", "gc", "--rev", "HEAD", "--dry-run", "--json"))
    assert (dry["objects"], dry["bytes"], dry["dry_run"]) == (len(only_old), size, True)
    assert only_old <= objects(project)

    said = done(project, "weakfish", "gc", "--rev", "HEAD")
    assert said.startswith(
        f"Deleted {len(only_old)} objects ({size / 1e6:.1f} MB) from file://{project.parent}/shared;"
    )
    assert objects(project) == named(project)
    shutil.rmtree(project / ".weakfish/objects")
    assert tables(project) == before
    with pytest.raises(StorageError, match="does not exist, though a pointer names it"):
        diff(Project(project), "fraud", "HEAD~1")


def test_a_shallow_clone_deletes_nothing(project: Path) -> None:
    shallow = project.parent / "shallow"
    done(project.parent, "git", "clone", "--quiet", "--depth", "1", project.as_uri(), str(shallow))
    before = objects(project)
    with pytest.raises(UserError, match="this clone is shallow"):
        gone(shallow)
    assert objects(project) == before


def test_objects_of_another_project_in_the_same_place_are_spared(project: Path, tmp_path: Path) -> None:
    gone(project)
    other = stored_orders(tmp_path / "other", f"file://{project.parent}/shared")
    replace(other / FUNCTIONS, 'contains("gift")', 'contains("toy")')
    commit_made(other)
    done(other, "weakfish", "ingest")
    age(project)
    before = objects(project)
    for root, others in ((project, "other"), (other, "orders")):
        with pytest.raises(UserError, match=f"Nothing was deleted: the project '{others}' keeps tables in file://"):
            gone(root)
    assert objects(project) == before
    copy = Path(shutil.copytree(project, tmp_path / "copy"))
    for mark in (project.parent / "shared/projects").iterdir():
        if "other" in mark.read_text():
            mark.unlink()
    assert gone(copy).named, "a clone is the same project"


def test_without_git_or_dvc_nothing_is_deleted_and_one_sentence_says_why(project: Path) -> None:
    before = objects(project)
    (project / ".dvc").rename(project.parent / "dvc")
    with pytest.raises(UserError, match=r"is in no repository of DVC; run `dvc init`"):
        gone(project)
    (project / ".git").rename(project.parent / "git")
    for revisions in ((), ("HEAD",)):
        with pytest.raises(UserError, match="is in no git repository with commits, which would say what counts"):
            gone(project, *revisions)
    assert objects(project) == before


def test_what_killed_jobs_of_a_cluster_left_goes_when_it_is_old(project: Path) -> None:
    storage(project).put(f"{FLEET}/old/file", b"old")
    age(project)
    storage(project).put(f"{FLEET}/new/file", b"new")
    gone(project)
    assert [found.path for found in storage(project).listing(FLEET)] == [f"{FLEET}/new/file"]


def test_branches_count_and_when_they_are_gone_they_do_not(project: Path) -> None:
    git(project, "checkout", "--quiet", "-b", "aside")
    replace(project / FUNCTIONS, "order.amount > 200", "order.amount > 150")
    commit_made(project)
    git(project, "checkout", "--quiet", "-")
    done(project, "dvc", "checkout", "--quiet")
    age(project)
    before = objects(project)
    assert gone(project).objects == 0
    git(project, "branch", "--quiet", "-D", "aside")
    assert gone(project).objects == len(before - objects(project)) > 0


def test_the_work_tree_counts_though_nobody_committed_it(project: Path) -> None:
    write_partition(project / "data/other", "2024-01", pa.table({"a": [1]}))
    settle(project, project / "data/other")
    age(project)
    assert gone(project, "HEAD").objects > 0
    assert named(project) == objects(project)


def test_what_is_young_or_was_exported_is_spared(project: Path) -> None:
    old = sorted(objects(project) - named(project))
    storage(project).export("delta/orders", old[:1])
    file = next(file for file in (project.parent / "shared").rglob("*") if file.name == old[1])
    os.utime(file)
    found = gone(project, "HEAD")
    assert (found.objects, found.young) == (len(old) - 2, 1)
    assert objects(project) - named(project) == set(old[:2])
    storage(project).delete(["exports/delta/orders.json"])
    assert gone(project, "HEAD", older=timedelta(seconds=-1)).objects == 2


def test_where_dvcs_cache_lacks_what_a_revision_names_nothing_goes(project: Path) -> None:
    git(project, "checkout", "--quiet", "HEAD~1")
    done(project, "dvc", "checkout", "--quiet")
    done(project, "dvc", "gc", "--quiet", "--force", "--workspace")  # as on a machine that pulled this revision only
    branch = git(project, "for-each-ref", "--format=%(refname:short)", "refs/heads").strip()
    before = objects(project)
    result = weakfish(project, "gc")
    assert result.returncode == 2
    assert "Nothing was deleted: what data/" in result.stderr
    assert f"at {git(project, 'rev-parse', branch).strip()[:7]} is not in this machine's DVC cache" in result.stderr
    assert objects(project) == before
    assert gone(project, "HEAD").objects > 0
    assert objects(project) == named(project)


def test_revisions_that_git_does_not_know_are_refused_and_so_is_a_project_without_storage(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="Git does not know the revision 'nowhere'"):
        gone(project, "nowhere")
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params[: params.index("storage:")])
    monkeypatch.delenv(of_storage.VARIABLE)
    with pytest.raises(UserError, match=r"^storage is not set in params\.yaml, so all tables lie in data/; use"):
        gone(project)


def test_only_one_collection_works_at_a_time_and_a_killed_one_is_taken_over(project: Path) -> None:
    storage(project).put(RUNNING, b"")
    with pytest.raises(Busy, match="Another `weakfish gc` is at work in file://"):
        gone(project, "HEAD")
    assert objects(project) > named(project)
    age(project)
    assert gone(project, "HEAD").objects > 0
    assert storage(project).look(RUNNING) is None


def test_notes_on_votes_go_with_what_they_are_about(project: Path) -> None:
    assert len(list(storage(project).listing(NOTES))) == 2  # each about the newest votes of a partition
    gone(project, "HEAD")
    assert len(list(storage(project).listing(NOTES))) == 2
    git(project, "checkout", "--quiet", "HEAD~1")
    done(project, "dvc", "checkout", "--quiet")
    gone(project, "HEAD")
    assert not list(storage(project).listing(NOTES))


def test_who_puts_an_object_that_a_collection_deletes_meanwhile_puts_it_again(project: Path) -> None:
    """The collection saw an object as old; the writer saw that it is there, and names it."""
    store = storage(project)
    (file,) = list(partitions(project / "data/events").values())[:1]
    pointer, content = pointer_of(file), local(file)
    assert pointer is not None
    store.put(RUNNING, b"")
    writer = threading.Thread(target=store.keep, args=({pointer.sha256: content},))
    writer.start()
    writer.join(0.3)
    assert writer.is_alive()  # it waits until nothing can be deleted any more
    store.delete([store.object(pointer.sha256)])
    store.put(ENDED, b"another")
    store.delete([RUNNING])
    writer.join(30)
    assert not writer.is_alive()
    assert store.look(store.object(pointer.sha256)) is not None


def test_an_object_that_lies_there_for_long_is_put_again_before_a_pointer_names_it(project: Path) -> None:
    digest = sorted(objects(project) - named(project))[0]
    content = project.parent / "content"
    storage(project).fetch(digest, content)
    storage(project).keep({digest: content})
    assert gone(project, "HEAD").young == 1
    assert digest in objects(project)


def test_a_killed_writer_leaves_objects_that_no_pointer_names_and_gc_deletes_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    write_partition(project / "data/other", "2024-01", pa.table({"a": [1]}))
    with monkeypatch.context() as patched:
        patched.setattr(of_storage.Storage, "_await_collection", killed)
        with pytest.raises(KeyboardInterrupt):
            settle(project, project / "data/other")
    assert read_table(project / "data/other").num_rows == 1
    assert pointer_of(project / "data/other/2024-01.parquet") is None
    assert len(objects(project) - named(project)) > 1
    age(project)
    gone(project, "HEAD")
    assert objects(project) == named(project)
