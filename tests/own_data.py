"""Data that a stranger might bring: orders without text, support tickets of six kinds, and a list without times."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2025, 1, 1, tzinfo=UTC)

PRODUCTS = ("book", "lamp", "phone", "gift card", "chair")
CHANNELS = ("shop", "web", "app")

KINDS = {
    "billing": ("invoice", "charged twice", "refund", "payment card"),
    "delivery": ("parcel", "delivery", "courier", "tracking number"),
    "login": ("password", "login", "locked out", "two factor"),
    "bug": ("error message", "crash", "does not work", "bug"),
    "feature": ("would be nice", "please add", "feature", "wish"),
    "cancel": ("cancel", "close my account", "unsubscribe", "terminate"),
}
FILLERS = ("hello", "since yesterday", "again", "thank you", "can you help", "my order", "on the phone", "please")


def orders(file: Path, months: Sequence[int] = (1, 2, 3), each: int = 400, labelled: float = 0.5) -> None:
    """Orders of customers by month, half of them known to be sent back or kept; numbers and categories, no text."""
    draw = random.Random(7 * months[0])  # noqa: S311
    header = ["order_id", "placed_at", "customer_id", "product", "channel", "amount", "items", "outcome"]
    rows = []
    for month in months:
        for number in range(each):
            placed = datetime(2025, month, 1, tzinfo=UTC) + timedelta(minutes=draw.randrange(28 * 24 * 60))
            product, items = draw.choice(PRODUCTS), draw.randint(1, 6)
            amount = round(items * draw.lognormvariate(3, 0.7), 2)
            back = draw.random() < (0.6 if product == "phone" or amount > 150 else 0.15)
            outcome = ("returned" if back else "kept") if draw.random() < labelled else ""
            customer = f"c{draw.randrange(60):03}"
            row = [
                f"o{month:02}{number:05}",
                placed.isoformat(),
                customer,
                product,
                draw.choice(CHANNELS),
                amount,
                items,
            ]
            rows.append([*row, outcome])
    _write(file, [header, *sorted(rows, key=lambda row: row[1])])


def tickets(file: Path, rows: int = 900) -> None:
    """Support tickets of six kinds, two fifths of them with their kind, whose names do not go as names of columns."""
    draw = random.Random(3)  # noqa: S311
    lines: list[list[object]] = [["Ticket No", "Opened", "Account", "Subject", "Message", "Category"]]
    for number in range(rows):
        kind = draw.choice(list(KINDS))
        said = draw.sample(FILLERS, 3) + draw.sample(KINDS[kind], 2)
        if draw.random() < 0.1:
            said.append(draw.choice(KINDS[draw.choice(list(KINDS))]))
        draw.shuffle(said)
        opened = START + timedelta(minutes=97 * number + draw.randrange(60))
        known = f"{kind.capitalize()} request" if draw.random() < 0.4 else ""
        lines.append(
            [f"T-{number:05}", f"{opened:%Y-%m-%d %H:%M:%S}", f"a{draw.randrange(40)}", said[0], ", ".join(said), known]
        )
    _write(file, lines)


def flats(file: Path, rows: int = 400) -> None:
    """Flats on offer, without key, time and labels; some stand twice, and one line is broken."""
    draw = random.Random(5)  # noqa: S311
    lines: list[list[object]] = [["rooms", "rent", "city", "has_lift", "note"]]
    for _ in range(rows):
        rooms = draw.randint(1, 6)
        rent = round(rooms * 220 * draw.lognormvariate(0, 0.3))
        note = draw.choice(("quiet", "bright and quiet", "near the station", "needs work", ""))
        lines.append([rooms, rent, draw.choice(("Kiel", "Bonn", "Ulm")), draw.choice(("yes", "no")), note])
    lines += [lines[1], lines[2], ["3", "one field too few"]]
    _write(file, lines)


def _write(file: Path, lines: Iterator[Sequence[object]] | Sequence[Sequence[object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(lines)
