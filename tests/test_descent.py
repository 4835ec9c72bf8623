"""The least value of a convex function is found, and from the same start on the same way."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize

from weakfish.engine.descent import Floats, least


def logistic(seed: int, rows: int = 60, columns: int = 12) -> tuple[Floats, Floats]:
    """Rows of numbers of very different sizes, and what is to be learned of them."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(rows, columns)) * 10.0 ** draw.uniform(-2, 1, columns), draw.random(rows)


def loss(rows: Floats, wanted: Floats, at: Floats) -> tuple[float, Floats]:
    said = rows @ at
    value = (np.logaddexp(0, said) - wanted * said).sum() + (at**2).sum() / 2
    return float(value), rows.T @ (1 / (1 + np.exp(-said)) - wanted) + at


@pytest.mark.parametrize("seed", range(20))
def test_it_ends_where_scipy_ends(seed: int) -> None:
    rows, wanted = logistic(seed)
    found = least(lambda at: loss(rows, wanted, at), np.zeros(12), 1e-9, 500)
    theirs = minimize(lambda at: loss(rows, wanted, at), np.zeros(12), jac=True, method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(found, theirs.x, atol=1e-6)


def test_it_ends_after_so_many_steps_each_of_which_lessens_the_value() -> None:
    rows, wanted = logistic(1)
    values = [loss(rows, wanted, least(lambda at: loss(rows, wanted, at), np.zeros(12), 0.0, n))[0] for n in range(30)]
    assert all(after <= before for before, after in pairwise(values))
    assert values[0] > values[10] > values[29]
    assert least(lambda at: loss(rows, wanted, at), np.zeros(12), 0.0, 0).tolist() == [0.0] * 12


def test_where_no_step_lessens_the_value_it_stays() -> None:
    start = np.array([3.0, 4.0])
    assert least(lambda at: (1.0, np.array([1.0, 1.0])), start, 1e-9, 50).tolist() == start.tolist()


@pytest.mark.filterwarnings("error")
def test_a_value_that_is_no_number_is_not_stepped_to() -> None:
    def well(at: Floats) -> tuple[float, Floats]:
        return (float("nan"), at * np.nan) if at[0] < 1 else (float(at[0]), np.ones(1))

    assert 1 <= least(well, np.array([8.0]), 1e-9, 50)[0] < 1.1
