"""The label models of earlier months, from which features know labels: each is fitted once, wherever it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_process import own_modules
from projects import contents
from test_labels_reader import MONTHS, project

from weakfish.features.known_labels import write_known_labels
from weakfish.project.cache import Cache
from weakfish.project.paths import Project

NEVER = float("inf")


@pytest.fixture
def orders(tmp_path: Path) -> Iterator[Project]:
    """Three months of orders, the labels of two of which are known by Snorkel's model."""
    with own_modules():
        yield Project(project(tmp_path / "orders", "known: dev", *MONTHS))


def known(orders: Project, name: str, worth: float = NEVER) -> dict[str, bytes]:
    """The known labels, where fits that take so many seconds are worth processes."""
    write_known_labels(orders, "fraud", orders.root / name, worth)
    return contents(orders.root / name)


def fits(orders: Project) -> list[Path]:
    return sorted(file for file in (orders.root / ".weakfish/cache/known_fits").rglob("*") if file.is_file())


def test_processes_fit_the_models_that_one_fits(orders: Project) -> None:
    one, made = known(orders, "one"), fits(orders)
    assert len(made) == len(MONTHS) - 1
    content = [file.read_bytes() for file in made]
    shutil.rmtree(orders.root / ".weakfish/cache/known_fits")
    assert known(orders, "several", worth=0) == one
    assert [file.read_bytes() for file in fits(orders)] == content


def test_a_model_that_was_fitted_before_is_not_fitted_again(orders: Project) -> None:
    before, cache = known(orders, "before"), Cache(orders, "known_fits/fraud")
    for file in fits(orders):
        content = cache.get(file.name)
        assert content is not None
        model = json.loads(content.to_pybytes())
        cache.put(file.name, json.dumps(model | {"log_mu": model["log_mu"][::-1]}).encode())
    after = known(orders, "after")
    assert sorted(name for name in before if after[name] != before[name]) == [
        f"{month}.parquet" for month in MONTHS[1:]
    ]
