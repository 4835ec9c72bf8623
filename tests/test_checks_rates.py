"""Shares against accepted shares: what counts as a difference, and the bounds that say so beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakfish.checks.rates import Limit, Rate, distance, psi

LIMITS = [Limit(0.001, psi=0.1), Limit(0.001, difference=0.1), Limit(0.01)]


@pytest.mark.parametrize("limit", LIMITS)
@given(share=st.integers(0, 100), rows=st.integers(1, 100_000), accepted=st.integers(0, 1000))
def test_bounds_are_where_telling_begins(limit: Limit, share: int, rows: int, accepted: int) -> None:
    before, now = Rate(accepted, 1000), Rate(share / 100 * rows, rows)
    bounds = limit.bounds(rows, before)
    outside = (bounds.low is not None and now.share <= bounds.low) or (
        bounds.high is not None and now.share >= bounds.high
    )
    near = any(bound is not None and abs(now.share - bound) < 1e-5 for bound in (bounds.low, bounds.high))
    assert near or limit.tells(now, before) == outside


def test_equal_shares_are_told_of_as_seldom_as_the_chance_says() -> None:
    random = np.random.default_rng(1)
    for share in (0.02, 0.3):
        pairs = random.binomial(1000, share, (20_000, 2))
        told = np.mean([Limit(0.01).tells(Rate(int(now), 1000), Rate(int(then), 1000)) for now, then in pairs])
        assert 0.002 < told < 0.013


def test_no_rows_are_no_difference() -> None:
    assert not Limit(0.01).tells(Rate(0, 0), Rate(50, 100))
    assert not Limit(0.01).tells(Rate(50, 100), Rate(0, 0))
    assert Limit(0.01).bounds(0, Rate(50, 100)).text() == ""


def test_psi_is_that_of_the_rows_with_and_without() -> None:
    shares, accepted = np.array([0.1, 0.9]), np.array([0.2, 0.8])
    assert psi(0.1, 0.2) == pytest.approx(((shares - accepted) * np.log(shares / accepted)).sum())
    assert psi(0.2, 0.2) == 0
    assert psi(0.0, 0.2) > 0.5


def test_few_rows_at_the_edge_are_not_taken_for_certainty() -> None:
    assert abs(distance(Rate(0, 5), Rate(300, 1000))) < 2
    assert distance(Rate(0, 500), Rate(300, 1000)) < -10
