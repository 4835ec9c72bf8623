"""A project of two months of orders that votes and labels under git and DVC, and edits to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from projects import ORDERS, command, git, write

from weakfish.contracts.tables import TIME, write_partition

PIPELINE = """
    stages:
      vote:
        cmd: weakfish vote
        deps: [data/events, labeling_functions]
        outs: [data/votes]
      label:
        cmd: weakfish label
        deps: [data/events, data/votes]
        params: [tasks]
        outs: [data/labels]
    """

FUNCTIONS = """
    from weakfish.rules import keywords, threshold

    buys_gift_cards = keywords("buys_gift_cards", 1, "note", ["gift card"], why="They cannot be taken back.")
    is_large = threshold("is_large", 1, "amount", above=200, why="Large orders are worth the trouble.")
    is_small = threshold("is_small", 0, "amount", below=100, why="Small orders are not.")
    is_a_book = keywords("is_a_book", 0, "note", ["book"], why="Books are hard to sell on.")
    """

EDITED = """
    from weakfish.rules import keywords, threshold

    buys_gift_cards = keywords("buys_gift_cards", 1, "note", ["gift card"], why="They cannot be taken back.")
    is_large = threshold("is_large", 1, "amount", above=120, why="Large orders are worth the trouble.")
    is_small = threshold("is_small", 0, "amount", below=100, why="Small orders are not.")
    is_a_toy = keywords("is_a_toy", 0, "note", ["toy"], why="Toys are for children.")
    """

Order = tuple[int, str]

JANUARY: dict[str, Order] = {
    "uncovered": (110, "tea"),
    "large": (150, "tea"),
    "larger": (160, "tea"),
    "book": (110, "book"),
    "toy": (115, "toy"),
    "changing": (105, "tea"),
    "leaving": (50, "tea"),
}
"""Orders that an edit moves, each named after what happens to it or makes it move."""

FEBRUARY: dict[str, Order] = {
    f"f{number:02}": (300 if number % 4 < 2 else 50, "gift card" if number % 4 < 2 else "book") for number in range(24)
}


def labelled(root: Path) -> Path:
    """The project at its first commit, labelled, in the new folder ``root``."""
    write(root / "params.yaml", ORDERS)
    write(root / "dvc.yaml", PIPELINE)
    write(root / "labeling_functions/orders.py", FUNCTIONS)
    write(root / ".gitignore", "/data\n/reports\n/.weakfish\n__pycache__\n")
    write_orders(root, JANUARY, FEBRUARY)
    git(root, "init", "--quiet")
    assert command(root, "dvc", "init", "--quiet").returncode == 0
    assert command(root, "dvc", "config", "core.analytics", "false").returncode == 0
    repro(root)
    return root


def edit(root: Path) -> None:
    """One function edited, one added, one removed; one order changed, one gone, one new. Not labelled yet."""
    write(root / "labeling_functions/orders.py", EDITED)
    january = {**JANUARY, "changing": (105, "gift card"), "coming": (60, "tea")}
    del january["leaving"]
    write_orders(root, january, FEBRUARY)


def repro(root: Path) -> None:
    """Label, and commit what made the labels."""
    result = command(root, "dvc", "repro", "--quiet")
    assert result.returncode == 0, result.stdout + result.stderr
    commit(root)


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "labels")


def write_orders(root: Path, *months: dict[str, Order]) -> None:
    for number, orders in enumerate(months, 1):
        start = datetime(2024, number, 1, tzinfo=UTC)
        times = [start + timedelta(hours=hour) for hour in range(len(orders))]
        amounts, notes = zip(*orders.values(), strict=True)
        table = pa.table(
            {"order_id": list(orders), "placed_at": pa.array(times, TIME), "amount": amounts, "note": notes}
        )
        write_partition(root / "data/events", f"2024-{number:02}", table)
