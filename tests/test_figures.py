"""Shares and counts in sentences: nothing that exists is rounded to none, and nothing that is missing to all."""

from __future__ import annotations

import pytest

from weakfish.contracts.figures import counted, percent, short_percent


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "0.0 %"),
        (0.0004, "0.040 %"),
        (0.00012, "0.012 %"),
        (0.001, "0.1 %"),
        (0.5, "50.0 %"),
        (0.9994, "99.940 %"),
        (0.99988, "99.988 %"),
        (1.0, "100.0 %"),
    ],
)
def test_a_share_near_none_or_all_has_the_digits_that_tell_it_from_them(share: float, said: str) -> None:
    assert percent(share) == said
    assert short_percent(share) == said.replace(".0 %", " %")


def test_one_thing_is_singular() -> None:
    assert [counted(number, "row") for number in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
