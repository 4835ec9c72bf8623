"""The side of a row for reviews: by a hash of its key alone, so that new rows are on both sides from the first day.

Answers about dev rows may teach, those about test rows judge. Gold may be split by time (see
`weakfish.contracts.tables.in_test`), and then every new row would be test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import mmh3
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Keys: TypeAlias = pa.ChunkedArray | pa.Array | Sequence[str]

SALT = 0x72657669
"""Of the hash, so that the side says nothing of how gold is split by a hash of the same key."""

HALF = 1 << 31
"""Of the hashes that there are."""


def is_dev(keys: Keys) -> npt.NDArray[np.bool_]:
    """Whether each row is on the dev side, (rows,); the others are on the test side.

    It depends on nothing but the key, so a row keeps its side whatever else changes.

    Examples
    --------
    >>> is_dev(["a", "b", "c"]).tolist()
    [True, False, False]
    """
    if isinstance(keys, pa.Array | pa.ChunkedArray):
        keys = keys.cast(pa.string()).to_pylist()
    return np.fromiter((mmh3.hash(key, SALT, signed=False) < HALF for key in keys), np.bool_, len(keys))
