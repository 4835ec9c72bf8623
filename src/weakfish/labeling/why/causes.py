"""Which edit moved a label: the old votes with one function's column replaced at a time, labelled by the old model.

A function whose new votes alone give the new label is its cause. An added function brings the estimates that the new
model has of it, since the old one has none; a removed one abstains. Votes that changed though their function did not
are the events' doing. What only the edits together give, or edits and events, is "several"; the rest is the "refit".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.labeling.votes_file import ABSTAIN, Votes
from weakfish.labeling.why.manifest import Maker

Labels = npt.NDArray[np.int64]
Kind = Literal["function", "any", "events", "several", "refit"]


@dataclass(frozen=True, order=True)
class Cause:
    """Why labels moved: the kind, and the functions of which one (``function``) or each (``any``) explains it alone."""

    kind: Kind
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edits:
    """How the functions of two manifests differ, each list in alphabetical order."""

    changed: list[str]
    added: list[str]
    removed: list[str]

    @staticmethod
    def between(old: dict[str, dict[str, str]], new: dict[str, dict[str, str]]) -> Edits:
        """The edits from one manifest's functions to another's: same name and other identity means changed."""
        changed = [name for name in sorted(old) if name in new and old[name]["identity"] != new[name]["identity"]]
        return Edits(changed, sorted(set(new) - set(old)), sorted(set(old) - set(new)))


def causes(
    old: Maker, new: Maker, votes: tuple[Votes, Votes], keys: pa.ChunkedArray, labels: Labels, edits: Edits
) -> list[Cause]:
    """The cause of each row's new label.

    Parameters
    ----------
    old, new
        What made the labels before and after.
    votes
        Old and new votes on the rows, (rows, functions of ``old``) and (rows, functions of ``new``).
    keys
        The rows' keys, which decide ties.
    labels
        The new labels, positions or `ABSTAIN`.
    """
    maker, before, after = _side_by_side(old, new, votes, edits.added)

    def gives(names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Where the new votes of ``names`` among the old votes of the others give the new label."""
        mixed = before.copy()
        columns = [maker.names.index(name) for name in names]
        mixed[:, columns] = after[:, columns]
        found: npt.NDArray[np.bool_] = maker.labels(mixed, keys) == labels
        return found

    edited = [*edits.changed, *edits.added, *edits.removed]
    others = [name for name in maker.names if name not in edited]
    alone = {name: gives([name]) for name in sorted(edited)}
    return _judge(alone, gives(others), gives(edited) | gives(maker.names), len(labels))


def _side_by_side(
    old: Maker, new: Maker, votes: tuple[Votes, Votes], added: Sequence[str]
) -> tuple[Maker, Votes, Votes]:
    """The old maker that also knows the added functions, and both sides' votes in the order of its functions."""
    classes = len(old.model.class_balance)
    blocks = new.model.mu.reshape(-1, classes, classes)
    mu = [old.model.mu, *(blocks[new.names.index(name)] for name in added)]
    maker = replace(old, model=replace(old.model, mu=np.concatenate(mu)), names=[*old.names, *added])
    before = np.full((len(votes[0]), len(maker.names)), ABSTAIN, np.int8)
    before[:, : len(old.names)] = votes[0]
    after = np.full_like(before, ABSTAIN)
    for place, name in enumerate(maker.names):
        if name in new.names:
            after[:, place] = votes[1][:, new.names.index(name)]
    return maker, before, after


def _judge(
    alone: dict[str, npt.NDArray[np.bool_]],
    by_events: npt.NDArray[np.bool_],
    together: npt.NDArray[np.bool_],
    rows: int,
) -> list[Cause]:
    found = []
    for row in range(rows):
        names = tuple(name for name, holds in alone.items() if holds[row])
        if names:
            found.append(Cause("function" if len(names) == 1 else "any", names))
        elif by_events[row]:
            found.append(Cause("events"))
        else:
            found.append(Cause("several" if together[row] else "refit"))
    return found
