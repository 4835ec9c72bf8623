"""Labeling functions are taken away, `weakfish lf suggest` is asked, and what it says is pasted unseen.

    python -m benchmarks.lf_suggest --project PATH [--others 5] [--random 3] [--seed 11] [--rounds 2]

A copy of the project's events, votes and dev gold is made below TMPDIR; its test gold is not copied. Four functions go:
first the four whose loss uncovers most rows, then the next worst that share at most two with any before, then random
fours. One line of JSON per four and round: how much of the lost coverage came back, at which estimated precision, and
what dev gold says of it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from weakfish.contracts.tables import read_table
from weakfish.labeling.matrix import read_label_matrix
from weakfish.labeling.trial import DevGold
from weakfish.project.paths import Project

REMOVED = 4
"""How many functions are taken away."""

FOLDERS = ("labeling_functions", "sources", "feature_repo", "data/events", "data/votes")
PASTED = "labeling_functions/suggested_{}.py"


def worst(votes: np.ndarray, apart_from: Sequence[tuple[int, ...]] = ()) -> tuple[int, ...] | None:
    """The functions, `REMOVED` of them, without which most rows have no vote; None where no rows would lose theirs.

    Those in ``apart_from`` share half of their functions with it at most.
    """
    fires = votes >= 0
    few = fires[(fires.sum(axis=1) > 0) & (fires.sum(axis=1) <= REMOVED)]
    patterns = Counter(tuple(np.flatnonzero(row)) for row in few)
    sets = np.array(list(combinations(range(votes.shape[1]), REMOVED)))
    inside = np.zeros((len(sets), votes.shape[1]), np.bool_)
    inside[np.arange(len(sets))[:, None], sets] = True
    lost = np.zeros(len(sets), np.int64)
    for pattern, rows in patterns.items():
        lost += rows * inside[:, list(pattern)].all(axis=1)
    for other in apart_from:
        lost[inside[:, list(other)].sum(axis=1) > REMOVED // 2] = 0
    return tuple(int(place) for place in sets[lost.argmax()]) if lost.any() else None


def fours(votes: np.ndarray, others: int, random: int, seed: int) -> list[tuple[str, tuple[int, ...]]]:
    """The choices of functions to take away, each with what it is."""
    found: list[tuple[str, tuple[int, ...]]] = []
    for number in range(others + 1):
        four = worst(votes, [each for _, each in found])
        if four is None:
            break
        found.append((f"worst but {number}" if number else "worst", four))
    chance = np.random.default_rng(seed)
    for number in range(1, random + 1):
        chosen = chance.choice(votes.shape[1], REMOVED, replace=False)
        found.append((f"random {number}", tuple(sorted(chosen.tolist()))))
    return found


def copied(project: Path, to: Path) -> Path:
    """What suggestions need of a project."""
    gold = [str(folder.relative_to(project)) for folder in project.glob("data/gold/dev/*")]
    for name in (*FOLDERS, *gold, ".weakfish/cache/votes"):
        if (project / name).is_dir():
            shutil.copytree(project / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    (to / "labeling_functions/__init__.py").touch()  # a package of that name elsewhere on the path would go first
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(project / name, to / name)
    (to / "data/features").mkdir()
    for file in (project / "data/features").glob("*.manifest.json"):
        shutil.copy(file, to / "data/features")
    return to


def measure(root: Path, task: str, functions: list[str], rounds: int, before: np.ndarray) -> Iterator[dict[str, Any]]:
    """Label with ``functions`` alone, then paste suggestions, round by round; ``before``: rows that all cover."""
    vote(root, task, functions)
    without = labels(root, task)
    for number in range(1, rounds + 1):
        found = apart(_suggested, root, task)
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
    apart(_voted, root)


def labels(root: Path, task: str) -> dict[str, np.ndarray]:
    """The labels as positions of classes, whether rows have one, and dev gold."""
    project = Project(root)
    classes, key = project.task(task).classes, project.params.events.key
    rows = read_table(project.table(f"labels/{task}"), [key, "covered", "label"])
    gold, _ = DevGold(project, task).of(rows[key])
    named = rows["label"].to_pylist()
    label = np.array([classes.index(name) if name in classes else -1 for name in named])
    return {"covered": rows["covered"].to_numpy(), "label": label, "gold": gold}


def apart(work: Callable[..., Any], *arguments: object) -> Any:
    """What ``work`` returns in a process of its own, which has imported no project's functions before."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["weakfish.labeling.vote", "weakfish.labeling.label"])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(work, *arguments).result()


def _voted(root: Path) -> None:
    from weakfish.labeling.label import label
    from weakfish.labeling.vote import vote

    with contextlib.redirect_stdout(io.StringIO()):
        vote(Project(root))
        label(Project(root))


def _suggested(root: Path, task: str) -> dict[str, Any]:
    from weakfish.cli.lf import to_json
    from weakfish.labeling.suggest import suggest

    return to_json(suggest(Project(root), task))


def main() -> None:
    """Print one line per four functions and round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--task", help="without it all")
    parser.add_argument("--others", type=int, default=5, help="how many fours that share two functions at most")
    parser.add_argument("--random", type=int, default=3, help="how many random fours")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    project = Project(given.project.resolve())
    for task in [given.task] if given.task else list(project.params.tasks):
        matrix = read_label_matrix(project, task)
        before = np.asarray((matrix.votes >= 0).any(axis=1))
        for which, four in fours(matrix.votes, given.others, given.random, given.seed):
            kept = [name for place, name in enumerate(matrix.names) if place not in four]
            head = {"task": task, "four": which, "removed": [matrix.names[place] for place in four]}
            with tempfile.TemporaryDirectory() as folder:
                root = copied(project.root, Path(folder) / "project")
                for line in measure(root, task, kept, given.rounds, before):
                    print(json.dumps({**head, "rows": len(before), **line}), flush=True)


if __name__ == "__main__":
    main()
