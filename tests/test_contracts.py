"""Records that parts agree on: they read what they wrote and what older versions wrote; the one cache."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from verdicts import ASIDE, FAILED, PASSED, WARNED

from weakfish.checks.gates import verdict_of
from weakfish.contracts.ledgers import Run, read_ledger, read_runs, run_file, write_ledger, write_run
from weakfish.contracts.manifests import FeaturesManifest, read_manifest, write_manifest
from weakfish.contracts.publications import PUBLICATIONS, Marker, parse_marker, write_publication
from weakfish.contracts.record import parse
from weakfish.contracts.verdicts import Status, Verdict, read_verdict, verdict_file, write_verdict
from weakfish.contracts.votes_file import read_votes
from weakfish.errors import TableError
from weakfish.files import write_json
from weakfish.project.cache import Cache, key_of
from weakfish.project.paths import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_verdict_is_read_as_it_was_written(project: Project) -> None:
    verdict = verdict_of("events", "0" * 64, 200, [PASSED, WARNED, ASIDE, FAILED], 0.5)
    write_verdict(project, verdict)
    first = verdict_file(project, "events").read_bytes()
    write_verdict(project, read_verdict(project, "events"))
    assert verdict_file(project, "events").read_bytes() == first
    assert json.loads(first)["counts"] == {"passed": 1, "noted": 0, "warned": 2, "failed": 1}


def test_older_verdicts_lack_fields_and_newer_ones_have_more() -> None:
    older = {"check": "a", "status": "failed", "by_partition": None, "why": None, "observed": float("nan")}
    newer = {"check": "b", "status": "warned", "unexpected_share": 0.5, "of_tomorrow": 1}
    found = parse(Verdict, {"table": "t", "verdict": "failed", "checks": [older, newer], "more": 1}, "t.json")
    assert [check.status for check in found.checks] == [Status.FAILED, Status.WARNED]
    assert (found.checks[0].severity, found.checks[0].by_partition, found.checks[1].value) == ("critical", {}, 0.5)


@pytest.mark.parametrize("content", [[], {"table": "t"}, {"table": "t", "verdict": "green"}, {"table": 1}])
def test_what_is_no_verdict_is_named_with_its_file(project: Project, content: object) -> None:
    write_json(verdict_file(project, "t"), content)
    with pytest.raises(TableError, match=r"t\.json cannot be read: .*; delete it and run `dvc repro`"):
        read_verdict(project, "t")


def test_ledgers_runs_manifests_and_publications_are_read_as_they_were_written(project: Project) -> None:
    patch = {"patch": "a.yaml", "who": "A", "why": "because", "rows": 3}
    write_ledger(project, "accept", rows_in=5, rows_out=4, quarantined=1, reasons={"x": 1}, patches=[patch])
    ledger = read_ledger(project, "accept")
    assert (ledger.rows_in, ledger.reasons, ledger.patches[0].rows, ledger.despite_gate) == (5, {"x": 1}, 3, None)

    began = datetime(2024, 1, 1, 12, 0, 0, 123_000, tzinfo=UTC)
    write_run(project, Run("gate_labels@a/b", began, None, 1, "shut", 0.5))
    assert json.loads(run_file(project, "gate_labels@a/b").read_text())["started_at"] == "2024-01-01T12:00:00.123+00:00"
    assert run_file(project, "gate_labels@a/b").parent == run_file(project, "label").parent
    assert read_runs(project)["gate_labels@a/b"] == Run("gate_labels@a/b", began, None, 1, "shut", 0.5)

    manifest = FeaturesManifest("customer", {"customer": "string"}, ["n"], "0" * 64, as_of=began)
    write_manifest(project.table("features"), "habits", manifest)
    assert read_manifest(project, FeaturesManifest, "features/habits") == manifest

    view = {"table": "habits", "join_keys": ["customer"], "features": ["n"], "until": began.isoformat()}
    marker = Marker("v1", began.isoformat(), views={"habits": {**view, "rows": 5, "entities": 2, "version": "x"}})
    assert parse_marker(marker.text()) == marker
    write_publication(project, "shop", marker, {"passed": True, "views": {"habits": {"rows": {"equal": 2}}}})
    published = PUBLICATIONS.read(project, "publish")
    assert published.as_of == began
    assert published.views["habits"].entities == 2
    assert published.audit is not None
    assert published.audit.views["habits"].rows.equal == 2


def test_the_cache_gives_back_what_was_put_and_nothing_that_was_damaged(project: Project) -> None:
    cache = Cache(project, "facts/labels/fraud")
    key = key_of("expectation", ("a", 1), 0.5)
    assert key == key_of("expectation", ["a", 1], 0.5) != key_of("expectation", ("a", 2), 0.5)
    assert cache.get(key) is None
    cache.put(key, b"a fact")
    found = cache.get(key)
    assert found is not None
    assert found.to_pybytes() == b"a fact"
    file = cache.file(key)
    for content in (file.read_bytes()[:-1], b"", b"x" + file.read_bytes()[1:]):
        file.write_bytes(content)
        assert cache.get(key) is None


def test_the_cache_forgets_what_was_not_used_longest_or_by_nobody(project: Project) -> None:
    cache = Cache(project, "votes")
    for number in range(3):
        cache.put(key_of(number), bytes(600_000))
        os.utime(cache.file(key_of(number)), (number, number))
    assert cache.get(key_of(0)) is not None
    cache.bound(megabytes=1)
    kept = [number for number in range(3) if cache.file(key_of(number)).exists()]
    assert kept == [0], "the one that was used last"

    other = Cache(project, "votes")
    other.put(key_of(7), b"seven")
    other.drop_unused()
    assert [file.read_bytes()[32:] for file in other.folder.glob("??/*")] == [b"seven"]


VIEW = {
    "table": "t",
    "join_keys": ["k"],
    "features": ["n"],
    "entities": 1,
    "until": "2024-01-01T00:00:00Z",
    "version": "x",
}
STATED: dict[str, Any] = {"version": "v", "as_of": "", "views": {"t": VIEW}, "under_way": None}


@pytest.mark.parametrize(
    "other",
    [
        "{",
        "[]",
        "7",
        json.dumps({}),
        json.dumps({"views": {"t": {}}}),
        json.dumps(STATED | {"views": {"t": {name: value for name, value in VIEW.items() if name != "features"}}}),
        json.dumps(STATED | {"views": {"t": VIEW | {"entities": "many"}}}),
        json.dumps(STATED | {"views": {"t": VIEW | {"until": "later"}}}),
        json.dumps(STATED | {"under_way": {"until": ["t"]}}),
        json.dumps(STATED | {"color": "green"}),
        json.dumps(STATED | {"revision": "HEAD"}),
        json.dumps(STATED | {"revision": {"name": "HEAD"}}),
        json.dumps(STATED | {"due": "soon"}),
        "\ud800",
    ],
)
def test_a_marker_of_another_shape_says_nothing(other: str) -> None:
    assert parse_marker(json.dumps(STATED)) is not None
    assert parse_marker(other) is None


def test_votes_of_an_earlier_version_are_called_that(tmp_path: Path) -> None:
    folder = tmp_path / "data/votes/fraud"
    (folder / "is_large").mkdir(parents=True)
    with pytest.raises(
        TableError, match=r"a folder for each labeling function.*run `weakfish upgrade`, then `dvc repro`"
    ):
        read_votes(folder / "2024-01.parquet", ["is_large"])
