"""Raw files made by tests of the tabular reader, read back, and their lines counted independently of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from weakfish.sources.tabular import Reject, TabularSource

COLUMNS = {"id": "string", "at": "time", "amount": "number", "count": "integer", "ok": "boolean", "note": "string"}
HEADER = b"id,at,amount,count,ok,note\n"


def source(**settings: Any) -> TabularSource:
    """A source of `COLUMNS` with some settings changed."""
    return TabularSource({"path": ".", "columns": COLUMNS, "key": "id", "time": "at", **settings})


def read(
    folder: Path, reader: TabularSource | None = None, **settings: Any
) -> tuple[list[dict[str, Any]], list[Reject]]:
    """The rows of all files in a folder, and the rejects; every line is accounted for."""
    reader = reader or source(**settings)
    batches = list(reader.read(folder))
    assert all(batch.schema.equals(reader.schema) for batch in batches)
    rows = pa.Table.from_batches(batches, reader.schema).to_pylist()
    accounted(reader, folder, len(rows))
    return rows, reader.rejects.kept


def accounted(reader: TabularSource, folder: Path, rows: int) -> None:
    """Lines read = rows yielded + rejects, for every file; its lines are counted here by themselves."""
    assert sum(tally.rows for tally in reader.tallies.values()) == rows
    for name, tally in reader.tallies.items():
        if name.endswith(".jsonl"):
            assert tally.lines == tally.rows + tally.rejected + tally.blank
        whole = [reject for reject in reader.rejects.kept if reject.file == name and reject.kind == "line"]
        assert reader.rejects.counts[name, "line", ""] == len(whole)
        if name.endswith(".parquet"):
            assert sum(reject.lines for reject in whole) == tally.rejected
        else:
            assert len(whole) == tally.rejected
        content = (folder / name).read_bytes()
        if name.endswith((".csv", ".jsonl", ".tsv")) and not content.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16
            assert tally.lines == lines_of(content), name


def lines_of(content: bytes) -> int:
    """How many lines a text has: what stands between LF, CRLF or CR."""
    ends = len(re.findall(rb"\r\n|\n|\r", content))
    return ends + (bool(content) and not content.endswith((b"\n", b"\r")))


def put(folder: Path, name: str, content: bytes | str) -> Path:
    """Write a file, folders included."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def line(number: int, **changed: str) -> bytes:
    """A good line of CSV."""
    values = {
        "id": f"o{number}",
        "at": f"2024-01-{number % 28 + 1:02}T10:00:00Z",
        "amount": f"{number}.5",
        "count": str(number),
        "ok": "true" if number % 2 else "false",
        "note": f"note {number}",
    }
    return (",".join((values | changed).values()) + "\n").encode()
