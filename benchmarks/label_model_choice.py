"""Majority vote, label models, and `auto` among them, on vote matrices of many kinds whose truth is known.

    python benchmarks/label_model_choice.py [--project PATH] [--rows 20000] [--seeds 31 32 33]

One line of JSON per matrix and seed: accuracy on covered rows of each, a tie counting its share, which `auto` chose,
and why. With ``--project``, subsets of that project's labeling functions on its dev gold
labels follow; ``data/events``, ``data/votes`` and ``data/gold/dev/<task>`` must be there. The thresholds of `auto` were
set on seeds 11 and 12; the lines in ``label_model_choice.jsonl`` are of others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.contracts.votes_file import Votes
from weakfish.labeling.choice import Chosen, choose
from weakfish.labeling.label_model import covered, winners
from weakfish.labeling.tally import VoteTally
from weakfish.project.params import TaskParams

TUNED = (11, 12)
"""Seeds on which the thresholds of `auto` were set."""

REPORTED = (31, 32, 33)
"""Seeds of the committed lines."""

Labels = npt.NDArray[np.int64]
Generator = np.random.Generator


@dataclass(frozen=True)
class Matrix:
    """Votes (rows, functions), the true class of each row, and the class balance that the model is told."""

    votes: Votes
    truth: Labels
    balance: list[float]


def truth(random: Generator, rows: int, balance: list[float]) -> Labels:
    """True classes, drawn."""
    return random.choice(len(balance), size=rows, p=balance)


def voter(random: Generator, gold: Labels, classes: int, coverage: float, accuracy: float) -> Votes:
    """A function that votes on a share of rows, right on a share of those, whatever the others do."""
    wrong = (gold + random.integers(1, classes, len(gold))) % classes
    votes = np.where(random.random(len(gold)) < accuracy, gold, wrong)
    return np.where(random.random(len(gold)) < coverage, votes, -1).astype(np.int8)


def unipolar(random: Generator, gold: Labels, label: int, recall: float, false: float) -> Votes:
    """A function that votes one class: on a share of its rows, and on a share of the others."""
    chance = np.where(gold == label, recall, false)
    return np.where(random.random(len(gold)) < chance, label, -1).astype(np.int8)


def copy(random: Generator, votes: Votes, share: float, classes: int) -> Votes:
    """A copy of a function that differs from it on a share of the rows on which it votes."""
    other = np.where(votes >= 0, (votes + 1) % classes, votes)
    return np.where(random.random(len(votes)) < share, other, votes).astype(np.int8)


def independent(
    random: Generator, rows: int, balance: list[float], functions: list[tuple[float, float]], told: list[float] | None
) -> Matrix:
    """Functions of given (coverage, accuracy)."""
    gold = truth(random, rows, balance)
    votes = [voter(random, gold, len(balance), coverage, accuracy) for coverage, accuracy in functions]
    return Matrix(np.stack(votes, axis=1), gold, told or balance)


EVEN = [0.5, 0.5]


def equal_accuracies(random: Generator, rows: int) -> Matrix:
    return independent(random, rows, EVEN, [(0.6, 0.75)] * 10, None)


def different_accuracies(random: Generator, rows: int) -> Matrix:
    return independent(random, rows, EVEN, [(0.7, a) for a in (0.95, 0.9, 0.6, 0.58, 0.56, 0.55, 0.55, 0.54)], None)


def copies(random: Generator, rows: int) -> Matrix:
    """Five independent functions, and four copies of a sixth, weak one."""
    gold = truth(random, rows, EVEN)
    votes = [voter(random, gold, 2, 0.7, 0.8) for _ in range(5)]
    weak = voter(random, gold, 2, 0.7, 0.6)
    votes += [copy(random, weak, 0.03, 2) for _ in range(4)]
    return Matrix(np.stack(votes, axis=1), gold, EVEN)


def correlated_clique(random: Generator, rows: int) -> Matrix:
    """Six independent functions, and four that often follow a hidden cause other than the class."""
    gold = truth(random, rows, EVEN)
    hidden = np.where(random.random(rows) < 0.6, gold, 1 - gold)
    votes = [voter(random, gold, 2, 0.6, 0.75) for _ in range(6)]
    votes += [voter(random, hidden, 2, 0.6, 0.85) for _ in range(4)]
    return Matrix(np.stack(votes, axis=1), gold, EVEN)


def rare_class(random: Generator, rows: int) -> Matrix:
    """A class of 5 %, which the model is told."""
    return _rare(random, rows, [0.95, 0.05])


def rare_class_untold(random: Generator, rows: int) -> Matrix:
    """A class of 5 %, while the model takes both for equal."""
    return _rare(random, rows, EVEN)


def _rare(random: Generator, rows: int, told: list[float]) -> Matrix:
    gold = truth(random, rows, [0.95, 0.05])
    votes = [unipolar(random, gold, 1, 0.5, 0.02) for _ in range(5)]
    votes += [unipolar(random, gold, 0, 0.5, 0.1) for _ in range(5)]
    return Matrix(np.stack(votes, axis=1), gold, told)


def low_coverage(random: Generator, rows: int) -> Matrix:
    return independent(random, rows, EVEN, [(0.05, a) for a in np.linspace(0.6, 0.9, 15)], None)


def worse_than_chance(random: Generator, rows: int) -> Matrix:
    return independent(random, rows, EVEN, [(0.8, a) for a in (0.85, 0.8, 0.8, 0.75, 0.75, 0.7, 0.25)], None)


def three_classes(random: Generator, rows: int) -> Matrix:
    functions = [(0.6, a) for a in (0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.5, 0.5)]
    return independent(random, rows, [0.5, 0.3, 0.2], functions, None)


def many_weak(random: Generator, rows: int) -> Matrix:
    return independent(random, rows, EVEN, [(0.3, a) for a in np.linspace(0.52, 0.68, 40)], None)


def few_functions(random: Generator, rows: int) -> Matrix:
    return independent(random, rows, EVEN, [(0.8, 0.9), (0.8, 0.7), (0.8, 0.65)], None)


def unipolar_functions(random: Generator, rows: int) -> Matrix:
    """Keyword-like functions, each for one class, of very different precision, classes at 30 and 70 %."""
    gold = truth(random, rows, [0.7, 0.3])
    votes = [unipolar(random, gold, 1, r, f) for r, f in ((0.5, 0.02), (0.3, 0.05), (0.2, 0.01), (0.4, 0.15))]
    votes += [unipolar(random, gold, 0, r, f) for r, f in ((0.6, 0.1), (0.4, 0.05), (0.3, 0.2), (0.2, 0.02))]
    return Matrix(np.stack(votes, axis=1), gold, EVEN)


MATRICES: dict[str, Callable[[Generator, int], Matrix]] = {
    function.__name__: function
    for function in (
        equal_accuracies,
        different_accuracies,
        copies,
        correlated_clique,
        rare_class,
        rare_class_untold,
        low_coverage,
        worse_than_chance,
        three_classes,
        many_weak,
        few_functions,
        unipolar_functions,
    )
}


def task(balance: list[float], l2: float = 0.0) -> TaskParams:
    """A task with this class balance, whose method is `auto`."""
    classes = [f"class_{label}" for label in range(len(balance))]
    model = {"class_balance": balance, "n_epochs": 500, "lr": 0.01, "l2": l2, "seed": 1, "method": "auto"}
    return TaskParams.model_validate({"classes": classes, "label_model": model})


METHODS = ("majority", "snorkel", "hyper", "naive-bayes", "dawid-skene")


def with_method(settings: TaskParams, method: str) -> TaskParams:
    """The task with another method."""
    return settings.model_copy(update={"label_model": settings.label_model.model_copy(update={"method": method})})


def line(name: str, seed: int, matrix: Matrix, l2: float = 0.0) -> dict[str, Any]:
    """The accuracies of all methods on the covered rows of a matrix."""
    settings = task(matrix.balance, l2)
    tally = VoteTally.of(matrix.votes, len(matrix.balance))
    rows = np.flatnonzero(covered(matrix.votes) & (matrix.truth >= 0))

    def accuracy(chosen: Chosen) -> float:
        won = winners(chosen.probabilities(matrix.votes[rows]))
        return round(float(np.mean(won[np.arange(len(rows)), matrix.truth[rows]] / won.sum(axis=1))), 5)

    chosen = choose(tally.sums, tally.patterns, settings)
    made = {method: choose(tally.sums, tally.patterns, with_method(settings, method)) for method in METHODS}
    found = {method: accuracy(each) for method, each in made.items()} | {"auto": accuracy(chosen)}
    return {
        "matrix": name,
        "seed": seed,
        "l2": l2,
        "rows": len(matrix.votes),
        "judged": len(rows),
        "functions": matrix.votes.shape[1],
        **found,
        "chose": chosen.method,
        "behind_majority": round(found["majority"] - found["auto"], 5),
        "why": chosen.why,
    }


def synthetic(rows: int, seeds: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """The lines of all synthetic matrices."""
    for name, make in MATRICES.items():
        for seed in seeds:
            yield line(name, seed, make(np.random.default_rng([seed, len(name)]), rows))


def of_project(root: Path, seeds: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """The lines of subsets of a project's functions: all of them, and some drawn, with and without its l2."""
    from weakfish.contracts.gold import gold_labels
    from weakfish.contracts.tables import folder
    from weakfish.labeling.matrix import read_label_matrix
    from weakfish.project.paths import Project

    project = Project.find(root)
    for name, settings in project.params.tasks.items():
        matrix = read_label_matrix(project, name)
        gold = gold_labels(folder(project, name, "dev"), project.params.events.key, matrix.keys, settings.classes)
        whole = Matrix(matrix.votes, gold, settings.label_model.class_balance)
        for l2 in sorted({0.0, settings.label_model.l2}):
            yield line(f"{name}_all", 0, whole, l2)
            for size in (5, 10, 15, 20, 30):
                for seed in seeds:
                    columns = np.random.default_rng([seed, size]).permutation(matrix.votes.shape[1])[:size]
                    yield line(f"{name}_{size}", seed, replace(whole, votes=matrix.votes[:, np.sort(columns)]), l2)


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(REPORTED))
    given = parser.parse_args()
    for found in synthetic(given.rows, tuple(given.seeds)):
        print(json.dumps(found), flush=True)
    if given.project:
        for found in of_project(given.project, tuple(given.seeds)):
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
