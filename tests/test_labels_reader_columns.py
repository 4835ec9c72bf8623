"""What readers make of columns by their type: categories, times, dates, lists of text, numbers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from in_process import own_modules
from told_orders import MONTHS, labels, manifest, project, rows, truth_of

from weakfish.contracts.tables import read_partition, write_partition
from weakfish.labeling.explain import explain
from weakfish.labeling.learning import words_of
from weakfish.labeling.reading import reader_of
from weakfish.labeling.row_texts import Texts
from weakfish.project.paths import Project


@pytest.fixture(autouse=True)
def own_functions() -> Iterator[None]:
    """Each project imports the labeling functions of its own folder, not those of another that came before."""
    with own_modules():
        yield


def words(values: pa.Array) -> list[list[str]]:
    read = Texts.of(pa.table({"column": values}), ["column"])
    assert read.apart == [True]
    return [words_of(text, True) for text in read.columns[0]]


def test_a_time_is_its_weekday_and_hour_and_a_date_its_weekday() -> None:
    times = [datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC), None, datetime(1969, 12, 31, 0, 0, tzinfo=UTC)]
    said = [["Thursday", "23 h"], [], ["Wednesday", "00 h"]]
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("s", "UTC"), pa.timestamp("ns", "UTC"), pa.timestamp("us")):
        assert words(pa.array(times).cast(kind)) == said
    for kind in (pa.date32(), pa.date64()):
        assert words(pa.array([date(2024, 2, 29), None], kind)) == [["Thursday"], []]


def test_of_a_list_each_text_is_a_word() -> None:
    lists = pa.array([["New York", "b", ""], [], None, [None, "b"]], pa.list_(pa.string()))
    assert words(lists) == [["New York", "b"], [], [], ["b"]]


def test_rows_with_other_times_or_lists_have_other_contents() -> None:
    lists = pa.array([["a b"], ["a", "b"], ["a", "b"]])
    times = pa.array([datetime(2024, 1, 1), datetime(2024, 1, 1, 0, 0, 1), None])
    for column in (lists, times):
        hashes = Texts.of(pa.table({"column": column}), ["column"]).hashes
        assert hashes[0] != hashes[1]
    assert (
        Texts.of(pa.table({"column": lists}), ["column"]).hashes[1:].tolist()
        == [Texts.of(pa.table({"column": lists[1:2]}), ["column"]).hashes[0]] * 2
    )


@pytest.mark.parametrize(
    ("values", "is_category"),
    [
        (["card", "bank transfer", ""] * 40, True),
        ([f"v{number % 100}" for number in range(2000)], True),
        ([f"v{number % 100}" for number in range(1999)], False),  # fewer than 20 rows a value
        ([f"v{number % 101}" for number in range(4040)], False),  # more than 100 values
        (["x" * 65, "y"] * 40, False),  # longer than 64 characters
        (["x" * 64, "y"] * 40, True),
        ([""] * 100, False),
        ([], False),
    ],
)
def test_a_column_of_few_short_values_is_a_category(values: list[str], is_category: bool) -> None:
    read = Texts.of(pa.table({"column": pa.array(values, pa.string())}), ["column"])
    assert read.apart == [False]
    assert read.categories() == [is_category]


def with_columns(root: Path, **made: Any) -> None:
    """Give the events of each month more columns, which are made of their classes."""
    for file in sorted((root / "data/events").glob("*.parquet")):
        rows = read_partition(file)
        for name, make in made.items():
            rows = rows.append_column(name, make(truth_of(file.stem, rows.num_rows)))
        write_partition(root / "data/events", file.stem, rows)


def test_a_value_of_a_category_is_one_word_in_every_month(tmp_path: Path) -> None:
    """Values that share all their characters; the second month has some that the first has not."""

    def way(truth: Any) -> pa.Array:
        return pa.array([("Bar zahlen", "zahlen Bar")[kind] for kind in truth])

    settings = "reader: on, reads: [way, chance], refit: never, fitted_through: '2024-01'"
    root = project(tmp_path / "orders", settings)
    # rows of one content are in one part, so a category alone would be read by models that do not know its values
    with_columns(root, way=way, chance=lambda truth: pa.array(1 + np.random.default_rng(1).random(len(truth)) / 3))
    file = root / "data/events" / f"{MONTHS[1]}.parquet"
    later = read_partition(file)
    values = [*later["way"].to_pylist()[:-9], *["bar zahlen"] * 9]
    write_partition(
        root / "data/events", MONTHS[1], later.set_column(later.column_names.index("way"), "way", pa.array(values))
    )
    labels(root)
    found, truth = rows(root), np.concatenate([truth_of(name, 240) for name in MONTHS[:2]])
    read = found["rests_on"] == "row"
    assert read.sum() > 100
    unseen = np.arange(len(truth)) >= len(truth) - 9
    assert (found["label"] == np.array(["fine", "fraud"])[truth])[read & ~unseen].all()
    odds = np.log(found["p_fraud"][read & unseen] / found["p_fine"][read & unseen])
    assert (np.abs(odds) < 0.5).all()  # its words are those of one that it has seen, and it is another value
    reader = reader_of(Project(root), manifest(root)["models"][0]["reader"])
    assert reader.apart == [True, True]
    assert [len(kept) for kept in reader.features.kept] == [2, 0, 1, 0]
    told = explain(Project(root), "fraud", found["order_id"][np.flatnonzero(read)[0]])
    assert told["reader"]["words"][0]["word"] == way([truth[np.flatnonzero(read)[0]]])[0].as_py()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        (
            "at",
            lambda truth: pa.array([datetime(2024, 1, 1 + 7 * (n % 4), 9 + 5 * kind) for n, kind in enumerate(truth)]),
        ),
        ("day", lambda truth: pa.array([date(2024, 1, 1 + 7 * (n % 4) + kind) for n, kind in enumerate(truth)])),
        ("tags", lambda truth: pa.array([[f"t{n % 7}", f"kind {kind}"] for n, kind in enumerate(truth)])),
    ],
)
def test_labels_rest_on_times_dates_and_lists(name: str, make: Any, tmp_path: Path) -> None:
    root = project(tmp_path / "orders", f"reader: auto, reads: [{name}]")
    with_columns(root, **{name: make})
    labels(root)
    found, truth = rows(root), np.concatenate([truth_of(month, 240) for month in MONTHS[:2]])
    right = found["label"] == np.array(["fine", "fraud"])[truth]
    assert set(found["rests_on"]) == {"row", "both"}
    assert right[~found["covered"]].mean() > 0.99
