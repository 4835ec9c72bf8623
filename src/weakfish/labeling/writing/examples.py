"""Rows that show what a function does: some where it votes, some where it is contradicted; spread over the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from weakfish.labeling.votes_file import ABSTAIN
from weakfish.labeling.writing.figures import UNKNOWN, Bools, Compared
from weakfish.labeling.writing.sample import Places, evenly


def firing(compared: Compared, number: int) -> Places:
    """``number`` rows where it votes."""
    return _some(compared.fires, number)


def disagreeing(compared: Compared, number: int) -> Places:
    """``number`` rows where it is contradicted: half by dev gold, half by the others' majority alone, if there are."""
    wrong, against = compared.wrong, compared.against_majority & ~compared.wrong
    by_gold = min(int(wrong.sum()), max(number - number // 2, number - int(against.sum())))
    return np.sort(np.concatenate([_some(wrong, by_gold), _some(against, number - by_gold)]))


def account(compared: Compared, keys: pa.ChunkedArray, row: int) -> dict[str, Any]:
    """What is said of a row: its key, the vote, how many others vote for each class, its dev gold label."""
    classes, others = compared.classes, compared.others[row]
    counts = {name: int((others == label).sum()) for label, name in enumerate(classes)}
    vote, gold = int(compared.votes[row]), int(compared.gold[row])
    key = keys[row].as_py()
    return {
        "key": key if isinstance(key, str | int) else str(key),
        "vote": None if vote == ABSTAIN else classes[vote],
        "others": {name: count for name, count in counts.items() if count},
        "gold": None if gold == UNKNOWN else classes[gold],
    }


def _some(rows: Bools, number: int) -> Places:
    found = np.flatnonzero(rows).astype(np.int64)
    return found[evenly(len(found), number)]
