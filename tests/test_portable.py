"""Exponentials, logarithms and products that round the same everywhere: how exact they are, and their edges."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakfish.engine import portable
from weakfish.engine.portable import Floats, exp, log, power_of_two, product, rounded, sums_by_row

NUMBERS = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40)
NORMAL = float(np.finfo(np.float64).tiny)


def units(found: float, exact: mpmath.mpf) -> float:
    """How far a value is off, in units in its last place."""
    return float(abs(mpmath.mpf(found) - exact) / math.ulp(float(exact)))


@given(st.lists(st.floats(-708, 709.7), min_size=1, max_size=40))
def test_exponentials_are_within_one_unit_in_the_last_place(values: list[float]) -> None:
    with mpmath.workprec(200):
        for value, found in zip(values, exp(values).tolist(), strict=True):
            assert units(found, mpmath.exp(mpmath.mpf(value))) < 1


@given(st.lists(st.floats(5e-324, exclude_min=False, allow_infinity=False), min_size=1, max_size=40))
def test_logarithms_are_within_one_unit_in_the_last_place(values: list[float]) -> None:
    with mpmath.workprec(200):
        for value, found in zip(values, log(values).tolist(), strict=True):
            exact = mpmath.log(mpmath.mpf(value))
            assert found == exact == 0 or units(found, exact) < 1


def test_edges_are_as_in_numpy() -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -745.2, -800.0, 710.0, 5e-324, NORMAL])
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(exp(values), np.exp(values), rtol=3e-16, atol=5e-324)
        np.testing.assert_allclose(log(values), np.log(values), rtol=3e-16)
    assert exp(0.0) == 1
    assert log(1.0) == 0
    assert exp(np.zeros((0, 3))).shape == (0, 3)


@given(NUMBERS, st.integers(1, 5))
def test_a_value_does_not_depend_on_its_neighbours_nor_on_the_block(values: list[float], block: int) -> None:
    whole = np.array(values)
    for function in (exp, log):
        expected = np.array([function(value) for value in values])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(portable, "BLOCK", block)
            assert function(whole).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("rows", "numbers", "columns"), [(0, 3, 2), (1, 1, 1), (70, 9, 4), (3, 0, 2)])
def test_a_product_is_the_sum_in_the_order_of_the_numbers(
    rows: int, numbers: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(1)
    left, right = draw.normal(size=(rows, numbers)), draw.normal(size=(numbers, columns))
    expected = [[sum_of(left[row] * right[:, column]) for column in range(columns)] for row in range(rows)]
    for block in (1, portable.BLOCK):
        monkeypatch.setattr(portable, "BLOCK", block)
        assert product(left, right).tobytes() == np.array(expected).reshape(rows, columns).tobytes()


def sum_of(values: Floats) -> float:
    total = 0.0
    for value in values.tolist():
        total += value
    return total


def test_sums_by_row_are_in_the_order_of_the_values_and_rows_may_be_empty() -> None:
    values = np.random.default_rng(2).normal(size=(900, 2))
    ends = np.array([0, 3, 3, 700, 900])
    expected = [[sum_of(values[a:b, column]) for column in range(2)] for a, b in pairwise(ends)]
    assert sums_by_row(values, ends).tobytes() == np.array(expected).tobytes()
    assert sums_by_row(values[:, 0], ends).tobytes() == np.array(expected)[:, 0].tobytes()


def test_powers_of_two_are_products() -> None:
    values = np.array([0.3, 0.7])
    assert power_of_two(values, 2).tolist() == ((values * values) * (values * values)).tolist()
    assert power_of_two(values, 0).tolist() == values.tolist()


@given(NUMBERS, NUMBERS)
def test_products_of_rounded_values_are_exact(some: list[float], others: list[float]) -> None:
    left, right = (np.clip(of, -1e100, 1e100) for of in (some, others))
    left, right = (np.where(np.abs(of) < 1e-100, 0.0, of) for of in (left, right))
    short, long = rounded(left, 24), rounded(right, 29)
    assert (np.abs(short - left) <= np.abs(left) * 2.0**-24).all()
    assert (np.abs(long - right) <= np.abs(right) * 2.0**-29).all()
    for one in short.tolist():
        for other in long.tolist():
            assert Fraction(one) * Fraction(other) == Fraction(one * other)
