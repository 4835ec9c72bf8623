"""Sketches and statistics: exact counts that add, PSI and what chance makes of it, the smallest shift that is seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from weakfish.checks.rates import bins_of, moved_mean, shares_apart, shift
from weakfish.engine.profile import ColumnProfile
from weakfish.engine.sketch import BUCKETS, Sketch


def column(numbers: np.ndarray, nulls: int = 0) -> ColumnProfile:
    sketch = Sketch.of(numbers.astype(np.float64))
    low, high = (float(numbers.min()), float(numbers.max())) if len(numbers) else (None, None)
    return ColumnProfile("double", "number", len(numbers) + nulls, nulls, low=low, high=high, sketch=sketch)


def categories(**counts: int) -> ColumnProfile:
    rows = sum(counts.values())
    return ColumnProfile("string", "text", rows, 0, sketch=Sketch.of(np.ones(rows)), categories=counts)


def psi(now: ColumnProfile, accepted: ColumnProfile) -> float:
    bins = bins_of(now, accepted)
    assert bins is not None
    return shift(bins.now, bins.accepted).psi


@pytest.mark.parametrize("seed", range(5))
def test_merged_sketches_equal_the_sketch_of_all_whatever_the_order_and_the_split(seed: int) -> None:
    draw = np.random.default_rng(seed)
    numbers = draw.choice([-1.0, 1.0], 5000) * draw.lognormal(0, 3, 5000)
    whole = Sketch.of(numbers).text()
    cuts = np.sort(draw.integers(0, 5000, 7))
    parts = [Sketch.of(part) for part in np.split(draw.permutation(numbers), cuts)]
    assert Sketch.merged(parts).text() == whole
    assert Sketch.merged([Sketch.merged(parts[3:]), *parts[:3]]).text() == whole
    assert Sketch.parse(whole).text() == whole
    assert len(Sketch.of(numbers).codes) <= BUCKETS


def test_buckets_stand_in_the_order_of_the_numbers_and_hold_them() -> None:
    numbers = np.array([-np.inf, -1e9, -2.5, -1e-300, -0.0, 0.0, 1e-300, 0.75, 2.5, 1e9, np.inf])
    sketch = Sketch.of(numbers)
    assert sketch.total == len(numbers)
    assert sketch.counts.tolist() == [1, 1, 1, 1, 2, 1, 1, 1, 1, 1]
    assert [Sketch.of(np.array([number])).codes[0] for number in numbers] == sorted(
        [*sketch.codes.tolist(), sketch.codes[4]]
    )


def test_few_whole_numbers_are_counted_one_by_one() -> None:
    sketch = Sketch.of(np.repeat(np.arange(2000.0, 2100.0), 3))
    assert sketch.counts.tolist() == [3] * 100


def test_psi_of_shares_is_what_the_formula_says() -> None:
    found = shift([100_000, 300_000], [200_000, 200_000])
    by_hand = (0.25 - 0.5) * math.log(0.25 / 0.5) + (0.75 - 0.5) * math.log(0.75 / 0.5)
    assert found.psi == pytest.approx(by_hand, rel=1e-4)
    assert shift([1, 0], [0, 1]).distance == pytest.approx(1)
    assert shift([50, 50], [50, 50]).psi == 0


def test_a_shift_of_the_mean_has_the_psi_of_its_square() -> None:
    draw = np.random.default_rng(1)
    accepted, now = draw.normal(10, 2, 200_000), draw.normal(11, 2, 200_000)
    assert psi(column(now), column(accepted)) == pytest.approx(0.25, rel=0.15)


@pytest.mark.parametrize(
    ("accepted", "now"),
    [
        (np.zeros(500), np.ones(500)),
        (np.repeat([0.0, 1.0], 500), np.full(500, 0.5)),
        (np.repeat([0.0, 1.0], 500), np.full(500, 2.0)),
        (np.arange(1000.0), np.full(500, -1.0)),
        (np.full(500, 300.0), np.full(500, 301.0)),
    ],
    ids=["another constant", "between", "above", "below", "close to a large constant"],
)
def test_values_that_were_never_accepted_are_far_away(accepted: np.ndarray, now: np.ndarray) -> None:
    assert psi(column(now), column(accepted)) > 1
    assert psi(column(accepted), column(accepted)) == 0


def test_nulls_are_a_bin_of_their_own() -> None:
    numbers = np.random.default_rng(1).normal(size=1000)
    assert psi(column(numbers[:500], nulls=500), column(numbers)) > 1


def test_new_categories_are_a_bin_and_rare_ones_count_together() -> None:
    accepted = categories(a=600, b=390, **{f"rare{number}": 1 for number in range(10)})
    bins = bins_of(categories(a=500, b=400, c=100), accepted)
    assert bins is not None
    assert bins.of == "categories"
    assert bins.now.tolist() == [500, 400, 0, 100, 0]
    assert bins.accepted.tolist() == [600, 390, 10, 0, 0]


DISTRIBUTIONS = {
    "normal": lambda draw, rows: draw.normal(5, 3, rows),
    "lognormal": lambda draw, rows: draw.lognormal(0, 2, rows),
    "counts": lambda draw, rows: draw.poisson(2, rows),
    "mostly zero": lambda draw, rows: draw.poisson(0.2, rows) * draw.lognormal(0, 1, rows),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize(("rows", "accepted"), [(40, 400), (300, 300), (2000, 200)])
def test_chance_alone_fires_in_less_than_one_case_of_a_hundred(name: str, rows: int, accepted: int) -> None:
    draw = np.random.default_rng(7)
    fired = 0
    for _ in range(300):
        now, before = (column(DISTRIBUTIONS[name](draw, size)) for size in (rows, accepted))
        bins = bins_of(now, before)
        assert bins is not None
        fired += shift(bins.now, bins.accepted).exceeds(0.0)  # nothing but chance holds it back
    assert fired < 3


@pytest.mark.parametrize(("rows", "accepted"), [(60, 600), (300, 300), (2000, 8000)])
@pytest.mark.parametrize("threshold", [0.05, 0.2])
def test_the_smallest_shift_of_numbers_that_a_check_claims_to_see_is_seen(
    rows: int, accepted: int, threshold: float
) -> None:
    draw = np.random.default_rng(3)
    seen = unseen = 0
    for _ in range(150):
        before = column(draw.normal(0, 1, accepted))
        quiet = bins_of(column(draw.normal(0, 1, rows)), before)
        assert quiet is not None
        told = shift(quiet.now, quiet.accepted)
        moved = moved_mean(told.shares, told.detectable(threshold))
        for by, count in ((moved, 1), (moved / 4, 0)):
            bins = bins_of(column(draw.normal(by, 1, rows)), before)
            assert bins is not None
            fired = shift(bins.now, bins.accepted).exceeds(threshold)
            seen += fired and count
            unseen += fired and not count
    assert seen >= 0.85 * 150
    assert unseen <= 0.5 * 150


@pytest.mark.parametrize(("rows", "accepted", "share"), [(100, 1000, 0.5), (500, 500, 0.1), (3000, 3000, 0.9)])
def test_the_smallest_shift_of_a_share_that_a_check_claims_to_see_is_seen(
    rows: int, accepted: int, share: float
) -> None:
    draw = np.random.default_rng(4)
    told = shift(
        [round(rows * share), round(rows * (1 - share))], [round(accepted * share), round(accepted * (1 - share))]
    )
    smallest = told.detectable(0.1)
    for moved in shares_apart(share, smallest):
        if not 0.01 < moved < 0.99:  # where too few rows are expected the approximation says little
            continue
        hits = draw.binomial(rows, moved, 300)
        before = draw.binomial(accepted, share, 300)
        fired = [shift([n, rows - n], [m, accepted - m]).exceeds(0.1) for n, m in zip(hits, before, strict=True)]
        assert sum(fired) >= 0.85 * 300


def test_the_smallest_shift_shrinks_with_the_rows() -> None:
    shares = np.full(10, 0.1)
    psis = [shift(np.full(10, n), np.full(10, 10_000)).detectable(0.001) for n in (10, 100, 1000, 100_000)]
    assert psis == sorted(psis, reverse=True)
    moved = moved_mean(shares, psis[-1])
    cuts = ndtri(np.linspace(0.1, 0.9, 9))
    there = np.diff(ndtr(cuts - moved), prepend=0, append=1)
    assert float(((there - shares) * np.log(there / shares)).sum()) == pytest.approx(psis[-1])


def test_a_refit_that_moves_no_probability_by_more_than_a_little_is_no_drift() -> None:
    """Most probabilities are near 0, where a move by 0.0003 is one by many powers of ten; others lie at one."""
    draw = np.random.default_rng(7)
    before = np.concatenate([10 ** draw.uniform(-12, -4, 4000), draw.uniform(0.3, 0.9, 600), np.ones(1400)])
    now = before.copy()
    now[:4000] = 10 ** draw.uniform(-9, -3.6, 4000)
    now[4000:4600] += draw.uniform(-0.0003, 0.0003, 600)
    now[4600:] -= draw.uniform(0, 0.0003, 1400)
    assert np.abs(now - before).max() < 0.0003
    accepted, refitted = column(before), column(now)
    bins = bins_of(refitted, accepted)
    assert bins is not None
    assert shift(bins.now, bins.accepted).psi < 0.02
    assert bins.now.sum() == bins.accepted.sum() == 6000


def test_values_on_the_edges_of_bins_that_move_by_a_little_are_no_drift() -> None:
    values = np.array([0.125, 0.25, 0.5, 0.75, 0.875]).repeat(400)
    bins = bins_of(column(values - 0.0003), column(values))
    assert bins is not None
    assert shift(bins.now, bins.accepted).psi == 0


@pytest.mark.parametrize("by", [0.01, 0.05])
def test_probabilities_that_move_by_more_drift(by: float) -> None:
    values = np.array([0.125, 0.25, 0.5, 0.75, 0.875]).repeat(400)
    bins = bins_of(column(values - by), column(values))
    assert bins is not None
    assert shift(bins.now, bins.accepted).exceeds(0.2)


def test_numbers_that_are_no_shares_are_compared_to_the_bucket() -> None:
    values = np.array([125.0, 250.0, 500.0, 750.0, 875.0]).repeat(400)
    bins = bins_of(column(values - 0.3), column(values))
    assert bins is not None
    assert shift(bins.now, bins.accepted).exceeds(0.2)
