"""The side of a row for reviews."""

from __future__ import annotations

import mmh3
import numpy as np
import pyarrow as pa

from weakfish.reviews.sides import is_dev

KEYS = [f"message-{number}" for number in range(20_000)]


def test_half_of_the_rows_are_on_either_side() -> None:
    assert abs(is_dev(KEYS).mean() - 0.5) < 0.015


def test_a_row_keeps_its_side_whatever_stands_beside_it() -> None:
    alone = [bool(is_dev([key])[0]) for key in KEYS[:200]]
    chunks = pa.chunked_array([pa.array(KEYS[:50]), pa.array(KEYS[50:200])])
    assert alone == is_dev(KEYS)[:200].tolist() == is_dev(chunks).tolist()


def test_the_sides_of_published_keys_never_move() -> None:
    assert is_dev(["a", "b", "c", "ü", ""]).tolist() == [True, False, False, True, True]


def test_the_side_says_nothing_of_how_gold_is_split_by_the_same_key() -> None:
    gold = np.array([mmh3.hash(key, signed=False) < 1 << 31 for key in KEYS])
    assert abs((gold == is_dev(KEYS)).mean() - 0.5) < 0.015
