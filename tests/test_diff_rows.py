"""What `weakfish diff` counts as an edit, and as a row that came, went or moved."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakfish.contracts.tables import TIME, write_partition
from weakfish.diffing.python_forms import definitions
from weakfish.diffing.rows import TableChange, compare, differing

SAME = [
    ("x = 1  # one", "x = 1"),
    ("def f(a):\n    b = a + 1\n    return b", "def f(one):\n    two = one + 1\n    return two"),
    ('def f(a):\n    """Says."""\n    return a', "def f(a):\n    return a"),
    ("def f(a):\n    return a\n\ndef g(a):\n    return -a", "def g(b):\n    return -b\n\ndef f(a):\n    return a"),
    ("def f(xs):\n    return [x for x in xs if x]", "def f(ys):\n    return [y for y in ys if y]"),
    ("import a\nimport b", "import b\nimport a"),
    ('x = "a"', "x = ('a')"),
]
OTHER = [
    ("x = 1", "x = 2"),
    ("def f(a):\n    return a.b", "def f(a):\n    return a.c"),
    ("LIMIT = 1\ndef f(a):\n    return a > LIMIT", "LIMITS = 1\ndef f(a):\n    return a > LIMITS"),
    ("def f(a, b):\n    return a - b", "def f(b, a):\n    return a - b"),
    ("@votes(1)\ndef f(a):\n    return a", "@votes(0)\ndef f(a):\n    return a"),
    ("def f(a):\n    return g(a)", "def f(a):\n    return h(a)"),
    ("def f(a):\n    global n\n    n = a", "def f(a):\n    global m\n    m = a"),
    ('x = "a"', "x = b'a'"),
    ("x = 1", "x = = 1"),
]


@pytest.mark.parametrize(("old", "new"), SAME)
def test_layout_comments_order_and_names_of_locals_are_no_edit(old: str, new: str) -> None:
    assert definitions(old) == definitions(new)


@pytest.mark.parametrize(("old", "new"), OTHER)
def test_what_a_caller_could_notice_is_an_edit(old: str, new: str) -> None:
    assert definitions(old) != definitions(new)


Row = tuple[str | None, float | None, str]


def change(folder: Path, old: dict[str, list[Row]], new: dict[str, list[Row]], **more: bool) -> TableChange:
    """How two tables of rows (key, number, text) by partition differ."""
    for name, side in (("old", old), ("new", new)):
        for partition, rows in side.items():
            keys, numbers, texts = zip(*rows, strict=True)
            columns = {"key": pa.array(keys, pa.string()), "n": pa.array(numbers, pa.float64()), "text": list(texts)}
            write_partition(folder / name, partition, pa.table(columns))
    found = differing(folder / "old", folder / "new")
    assert found is not None
    return compare(found, ["key"], **more)


def test_rows_that_come_go_and_move_are_counted_by_key(tmp_path: Path) -> None:
    old: dict[str, list[Row]] = {
        "2024-01": [("a", 1, "x"), ("b", 2, "x"), ("c", None, "x")],
        "2024-02": [("d", 4, "x")],
    }
    new: dict[str, list[Row]] = {
        "2024-01": [("a", 1, "x"), ("c", 3, "y")],
        "2024-02": [("d", 4, "x")],
        "2024-03": [("e", 5, "x")],
    }
    found = change(tmp_path, old, new)
    assert (found.rows, found.added, found.removed, found.moved) == ((4, 4), 1, 1, 1)
    assert found.values == {"n": 1, "text": 1}
    assert found.examples == {"added": ["e"], "removed": ["b"], "moved": ["c"]}
    assert found.partitions == {"added": ["2024-03"], "changed": ["2024-01"]}


def test_a_row_that_only_changed_its_partition_neither_comes_nor_goes(tmp_path: Path) -> None:
    found = change(
        tmp_path, {"2024-01": [("a", 1, "x"), ("b", 1, "x")]}, {"2024-01": [("a", 1, "x")], "2024-02": [("b", 1, "x")]}
    )
    assert not found


def test_rows_that_share_a_key_are_compared_one_by_one(tmp_path: Path) -> None:
    found = change(
        tmp_path,
        {"2024-01": [("a", 1, "x"), ("a", 2, "x")]},
        {"2024-01": [("a", 1, "x"), ("a", 2, "x"), ("a", 3, "x")]},
    )
    assert (found.added, found.removed, found.moved) == (1, 0, 0)


def test_noise_of_fits_is_no_move_and_of_raw_data_it_is(tmp_path: Path) -> None:
    rows: tuple[list[Row], list[Row]] = [("a", 0.5, "x"), ("b", 0.5, "x")], [("a", 0.5 + 1e-7, "x"), ("b", 0.6, "x")]
    assert change(tmp_path / "fitted", {"all": rows[0]}, {"all": rows[1]}, fitted=True).moved == 1
    assert change(tmp_path / "raw", {"all": rows[0]}, {"all": rows[1]}).moved == 2


def test_a_column_of_another_type_with_the_same_values_moves_no_row(tmp_path: Path) -> None:
    for name, kind in (("old", pa.int64()), ("new", pa.float64())):
        columns = {
            "key": ["a", "b"],
            "n": pa.array([1, 2], kind),
            "at": pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 2, TIME),
        }
        write_partition(tmp_path / name, "2024-01", pa.table(columns))
    files = differing(tmp_path / "old", tmp_path / "new")
    assert files is not None
    found = compare(files, ["key"])
    assert (found.columns, found.moved) == ({"n": ("int64", "double")}, 0)


ROWS = st.dictionaries(
    st.sampled_from("abcdef"), st.tuples(st.sampled_from([None, 0.0, 1.5]), st.sampled_from(["", "x"]))
)


@settings(max_examples=30, deadline=None)
@given(old=ROWS, new=ROWS)
def test_any_two_tables_are_compared_as_dictionaries_are(
    old: dict[str, tuple[float | None, str]],
    new: dict[str, tuple[float | None, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    sides = [{"all": [(key, *rest) for key, rest in side.items()] + [("same", 1.0, "x")]} for side in (old, new)]
    found = change(tmp_path_factory.mktemp("any"), sides[0], sides[1])
    moved = [key for key in {*old} & {*new} if old[key] != new[key]]
    assert (found.added, found.removed, found.moved) == (len({*new} - {*old}), len({*old} - {*new}), len(moved))
