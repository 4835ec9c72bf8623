"""Thirty orders of 2024, one every other day; the first has no time, the sixth no amount."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from weakfish.sources import Source

START = datetime(2024, 1, 1, tzinfo=UTC)


class Orders(Source):
    """Makes its orders up: there is no raw data."""

    schema = pa.schema(
        [
            ("order_id", pa.string()),
            ("placed_at", pa.timestamp("us", tz="UTC")),
            ("amount", pa.int64()),
            ("note", pa.string()),
            ("label", pa.string()),
        ]
    )
    gold: ClassVar = {"fraud": "label"}

    def read(self, raw: Path) -> Iterator[pa.RecordBatch]:
        """Yield batches of seven."""
        rows = [order(number) for number in range(30)]
        for start in range(0, 30, 7):
            yield pa.RecordBatch.from_pylist(rows[start : start + 7], schema=self.schema)


def order(number: int) -> dict[str, Any]:
    """One order."""
    return {
        "order_id": f"o{number:02}",
        "placed_at": START + timedelta(days=2 * number) if number else None,
        "amount": None if number == 5 else number * 10,
        "note": "gift card" if number % 3 == 0 else "book",
        "label": ["fine", "fraud", None][number % 3],
    }
