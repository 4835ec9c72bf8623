"""How the pipeline grows is measured stage by stage, and docs/scale.md says what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from projects import REPOSITORY

from benchmarks.growth import KEPT
from benchmarks.growth_payments import Shape, make
from benchmarks.growth_picture import PAGE, PICTURE, TABLE, picture, with_tables
from benchmarks.growth_stages import measure


def test_each_stage_is_a_line_with_its_size(tmp_path: Path) -> None:
    arguments = ["--only", "functions", "--sizes", "3", "--work", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", *arguments], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = {line["stage"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert list(lines) == ["fetch", "ingest", "validate events", "accept", "vote", "label"]
    for line in lines.values():
        assert (line["name"], line["size"], line["ended"]) == ("functions", 3, 0)
        assert line["seconds"] > 0
        assert line["pss_mb"] > 20
    assert lines["ingest"]["bytes_per_row"] > 5
    assert not list(tmp_path.iterdir())


def test_a_stage_that_takes_too_long_is_ended_and_says_so(tmp_path: Path) -> None:
    root = tmp_path / "project"
    make(root, Shape(1200))
    assert measure(root, ["fetch"], 0.0).ended == "limit"
    assert measure(root, ["no-such-stage"], 60.0).ended == 2


def test_the_page_shows_the_lines_that_are_kept() -> None:
    lines = [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()]
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page, lines)
    assert {line["name"] for line in lines} <= {found["name"] for found in TABLE.finditer(page)}
    assert PICTURE.read_text(encoding="utf-8") == picture(lines)
