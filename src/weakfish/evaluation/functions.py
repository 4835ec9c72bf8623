"""How often each labeling function is right where it votes: votes and gold labels in, counts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from weakfish.evaluation.inputs import UNKNOWN
from weakfish.evaluation.measures import Ints
from weakfish.evaluation.spread import rounded
from weakfish.labeling.votes_file import ABSTAIN, Votes


def empirical(names: Sequence[str], votes: Votes, gold: Mapping[str, Ints]) -> dict[str, dict[str, dict[str, Any]]]:
    """By function, then by part of gold: ``votes`` on rows with a gold label, ``correct`` ones, ``accuracy``.

    ``accuracy`` is null where the function does not vote. Shapes: votes (rows, functions), gold (rows,).
    """
    return {
        name: {part: _counts(votes[:, column], labels) for part, labels in gold.items()}
        for column, name in enumerate(names)
    }


def _counts(votes: Votes, gold: Ints) -> dict[str, Any]:
    voted = (votes != ABSTAIN) & (gold != UNKNOWN)
    correct = int((votes[voted] == gold[voted]).sum())
    number = int(voted.sum())
    return {"votes": number, "correct": correct, "accuracy": rounded(correct / number) if number else None}
