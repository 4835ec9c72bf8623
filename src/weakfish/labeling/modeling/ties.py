"""Which class a row gets: the most probable one; among equals, one that the row's key and the model's seed decide."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

TOLERANCE = 1e-5
"""Probabilities that differ by less are tied, as in Snorkel's ``probs_to_preds``."""

Classes = npt.NDArray[np.int64]


def winners(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which classes are most probable, (rows, classes); several where they tie."""
    found: npt.NDArray[np.bool_] = probabilities.max(axis=1, keepdims=True) - probabilities < TOLERANCE
    return found


def decide(
    probabilities: npt.NDArray[np.float64],
    keys: pa.Array | pa.ChunkedArray,
    seed: int,
    inverse: npt.NDArray[np.integer] | None = None,
) -> Classes:
    """The class of each row as a position; a tie goes to the class that `draws` names.

    ``inverse`` gives the row of ``probabilities`` for each key, where several keys share one. The answer for a key does
    not depend on its place, nor on other rows, nor on the run.
    """
    won = winners(probabilities)
    order = np.argsort(~won, axis=1, kind="stable")
    number = won.sum(axis=1)
    if inverse is not None:
        order, number = order[inverse], number[inverse]
    tied = np.flatnonzero(number > 1)
    chosen: Classes = order[:, 0].astype(np.int64)
    if len(tied):
        draw = draws(keys.take(pa.array(tied)), seed) % number[tied].astype(np.uint64)
        chosen[tied] = order[tied, draw.astype(np.int64)]
    return chosen


def draws(keys: pa.Array | pa.ChunkedArray, seed: int) -> npt.NDArray[np.uint64]:
    """A number per key: the SipHash-2-4 of its text, the secret being made from ``seed``."""
    from pandas.util import hash_array

    secret = hashlib.blake2b(str(seed).encode(), digest_size=8).hexdigest()
    texts = pc.fill_null(keys.cast(pa.large_string()), "").to_numpy(zero_copy_only=False)
    found: npt.NDArray[np.uint64] = hash_array(texts.astype(object), hash_key=secret, categorize=False)
    return found
