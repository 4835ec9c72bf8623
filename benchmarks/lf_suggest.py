"""Labeling functions are taken away, `weakfish lf suggest` is asked, and what it says is pasted unseen.

    python -m benchmarks.lf_suggest --project PATH [--random 6] [--seed 11] [--rounds 2]

A copy of the project's events, votes and dev gold is made below TMPDIR; its test gold is not copied. Four functions go:
first the four whose loss uncovers most rows, then the worst of the others, then random fours. One line of JSON per four
and round: how much of the lost coverage came back, at which estimated precision, and what dev gold says of it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from weakfish.labeling.matrix import read_label_matrix
from weakfish.labeling.writing.beside import dev_gold
from weakfish.project import Project
from weakfish.tables import read_table

REMOVED = 4
"""How many functions are taken away."""

FOLDERS = (
    "labeling_functions",
    "sources",
    "feature_repo",
    "validation",
    "data/events",
    "data/gold/spam/dev",
    "data/votes",
)
PASTED = "labeling_functions/suggested_{}.py"


def worst(votes: np.ndarray, but: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The functions, `REMOVED` of them and none of ``but``, without which most rows have no vote."""
    fires = votes >= 0
    few = fires[(fires.sum(axis=1) > 0) & (fires.sum(axis=1) <= REMOVED)]
    patterns = Counter(tuple(np.flatnonzero(row)) for row in few)
    sets = np.array(list(combinations([place for place in range(votes.shape[1]) if place not in but], REMOVED)))
    inside = np.zeros((len(sets), votes.shape[1]), np.bool_)
    inside[np.arange(len(sets))[:, None], sets] = True
    lost = np.zeros(len(sets), np.int64)
    for pattern, rows in patterns.items():
        lost += rows * inside[:, list(pattern)].all(axis=1)
    return tuple(int(place) for place in sets[lost.argmax()])


def copied(project: Path, to: Path) -> Path:
    """What suggestions need of a project."""
    for name in FOLDERS:
        shutil.copytree(project / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", "requirements.lock"):
        shutil.copy(project / name, to / name)
    if (project / ".weakfish/votes").is_dir():
        shutil.copytree(project / ".weakfish/votes", to / ".weakfish/votes")
    (to / "data/features").mkdir()
    for file in (project / "data/features").glob("*.manifest.json"):
        shutil.copy(file, to / "data/features")
    return to


def measure(root: Path, task: str, functions: list[str], rounds: int, before: np.ndarray) -> Iterator[dict[str, Any]]:
    """Label with ``functions`` alone, then paste suggestions, round by round; ``before``: rows that all cover."""
    vote(root, task, functions)
    without = labels(root, task)
    for number in range(1, rounds + 1):
        found = json.loads(weakfish(root, "lf", "suggest", "--task", task, "--json"))
        mine = [each for each in found["suggestions"] if each["for"] == "uncovered"]
        if found["code"] is None or not mine:
            yield {"round": number, "suggested": 0, **_compared(before, without, without, mine, found)}
            return
        (root / PASTED.format(number)).write_text(found["code"], encoding="utf-8")
        functions = [*functions, *(each["name"] for each in mine)]
        vote(root, task, functions)
        yield {"round": number, "suggested": len(mine), **_compared(before, without, labels(root, task), mine, found)}


def _compared(
    before: np.ndarray,
    without: dict[str, np.ndarray],
    now: dict[str, np.ndarray],
    mine: list[dict[str, Any]],
    found: dict[str, Any],
) -> dict[str, Any]:
    lost = before & ~without["covered"]
    back = lost & now["covered"]
    known, adds = back & (now["gold"] >= 0), sum(each["adds"] for each in mine)
    both = without["covered"] & (now["gold"] >= 0)
    together = found["together"].get("uncovered", {})
    return {
        "uncovered": int((~without["covered"]).sum()),
        "lost": int(lost.sum()),
        "regained": int(back.sum()),
        "share": round(float(back.sum() / lost.sum()), 3) if lost.any() else None,
        "estimate": round(sum(each["estimate"] * each["adds"] for each in mine) / adds, 3) if adds else None,
        "low": min((round(each["low"], 3) for each in mine), default=None),
        "dev_gold": [together.get("correct_added", 0), together.get("gold_added", 0)],
        "dev_gold_of_labels": [int((now["label"] == now["gold"])[known].sum()), int(known.sum())],
        "dev_gold_of_other_labels": [int((each["label"] == each["gold"])[both].sum()) for each in (without, now)]
        + [int(both.sum())],
        "words": sum(len(each["values"]) for each in mine),
    }


def vote(root: Path, task: str, functions: list[str]) -> None:
    """Vote with ``functions`` and label."""
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    params["tasks"][task]["functions"] = functions
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    weakfish(root, "vote")
    weakfish(root, "label")


def labels(root: Path, task: str) -> dict[str, np.ndarray]:
    """The labels as positions of classes, whether rows have one, and dev gold."""
    project = Project(root)
    classes, key = project.task(task).classes, project.params.events.key
    rows = read_table(project.table(f"labels/{task}"), [key, "covered", "label"])
    gold, _ = dev_gold(project, task, rows[key])
    named = rows["label"].to_pylist()
    label = np.array([classes.index(name) if name in classes else -1 for name in named])
    return {"covered": rows["covered"].to_numpy(), "label": label, "gold": gold}


def weakfish(root: Path, *arguments: str) -> str:
    """Run a command there; what it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["weakfish", *arguments],
        cwd=root,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def main() -> None:
    """Print one line per four functions and round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--random", type=int, default=6, help="how many random fours")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    project = Project(given.project.resolve())
    for task in project.params.tasks:
        matrix = read_label_matrix(project, task)
        random = np.random.default_rng(given.seed)
        places = range(len(matrix.names))
        first = worst(matrix.votes)
        fours = [("worst", first), ("worst of the others", worst(matrix.votes, but=first))]
        fours += [
            (f"random {number}", tuple(sorted(random.choice(places, REMOVED, replace=False).tolist())))
            for number in range(1, given.random + 1)
        ]
        before = np.asarray((matrix.votes >= 0).any(axis=1))
        for which, four in fours:
            kept = [name for place, name in enumerate(matrix.names) if place not in four]
            head = {"task": task, "four": which, "removed": [matrix.names[place] for place in four]}
            with tempfile.TemporaryDirectory() as folder:
                root = copied(project.root, Path(folder) / "project")
                for line in measure(root, task, kept, given.rounds, before):
                    print(json.dumps({**head, "rows": len(before), **line}), flush=True)


if __name__ == "__main__":
    main()
