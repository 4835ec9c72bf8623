"""Whether `weakfish diff` names the edit that did it: `python -m benchmarks.diff_causes [--edits 100] [--idle 20]`.

Seeded edits of a small project, each run and compared with the accepted version: the first cause of the report has to
be the edit. Edits of comments, layout and names have to be reported as nothing. One line of JSON, which stands in
``benchmarks/diff_causes.jsonl``: the seed, the score, and what was named in place of the truth.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import diff_project
from benchmarks.diff_edits import EDITS, NOTHING
from weakfish.diffing.comparison import diff
from weakfish.errors import CheckFailed
from weakfish.project.paths import Project

SEED = 20


def main(arguments: Sequence[str] | None = None) -> None:
    """Make all edits, and print how often the report names them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diff_causes", description=__doc__.split("\n")[0])
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--idle", type=int, default=20)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--kinds", nargs="*", help="Only these kinds of edits.")
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="diff-causes-") as folder:
        base = Path(folder) / "base"
        diff_project.make(base)
        kinds = [name for name in EDITS if not asked.kinds or name in asked.kinds]
        idle = [name for name in NOTHING if not asked.kinds or name in asked.kinds]
        tried = [edited(base, kinds[number % len(kinds)], (asked.seed, number)) for number in range(asked.edits)]
        quiet = [untouched(base, idle[number % len(idle)], (asked.seed, number)) for number in range(asked.idle)]
    told = {
        "name": "diff_causes",
        "seed": asked.seed,
        "edits": len(tried),
        "kinds": len({each["kind"] for each in tried}),
        "named": sum(each["right"] for each in tried),
        "idle": len(quiet),
        "nothing": sum(each["right"] for each in quiet),
        "seconds": round(time.monotonic() - began),
        "wrong": [each for each in (*tried, *quiet) if not each["right"]],
    }
    print(json.dumps(told))


def edited(base: Path, kind: str, seed: tuple[int, int]) -> dict[str, Any]:
    """Make an edit, run, and compare its truth with the first cause."""
    root = _copy(base)
    try:
        truth = EDITS[kind](root, np.random.default_rng(seed))
        found = _run(root)
        first: dict[str, Any] = found["causes"][0] if found["causes"] else {"area": None, "what": "", "names": ()}
        said = " ".join([first["what"], first.get("path", ""), *first["names"]])
        right = first["area"] == truth.area and truth.named in said
        return _told(kind, seed, right, found["sentence"], truth.named)
    finally:
        shutil.rmtree(root.parent)


def untouched(base: Path, kind: str, seed: tuple[int, int]) -> dict[str, Any]:
    """Make an edit that changes nothing, run, and see whether the report says so."""
    root = _copy(base)
    try:
        NOTHING[kind](root, np.random.default_rng(seed))
        found = _run(root)
        return _told(kind, seed, found["nothing"], found["sentence"])
    finally:
        shutil.rmtree(root.parent)


def _told(kind: str, seed: tuple[int, int], right: bool, sentence: str, truth: str = "nothing") -> dict[str, Any]:
    print(f"{'right' if right else 'WRONG'} {kind} {seed}: {sentence}", file=sys.stderr, flush=True)
    return {"kind": kind, "seed": list(seed), "right": right, "truth": truth, "sentence": sentence}


def _copy(base: Path) -> Path:
    return Path(shutil.copytree(base, Path(tempfile.mkdtemp(dir=base.parent)) / "project", symlinks=True))


def _run(root: Path) -> dict[str, Any]:
    with contextlib.suppress(CheckFailed):  # a shut gate ends the run, and is no end of the comparison
        diff_project.run(root)
    return diff(Project(root), "HEAD")


if __name__ == "__main__":
    main()
