"""Rows to ask about as records of Argilla, and the records that it gives back.

The format is what ``dataset.records.to_json`` writes and ``dataset.records.from_json`` reads (Argilla 2, "Add, update,
and delete records" and "Import and export datasets" in its documentation): fields, metadata, suggestions and responses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from weakfish.files import write_json
from weakfish.reviews.other_tools import Incoming, Outgoing, marks_among, read_list

QUESTION = "label"
"""The name of the question that the answer is given to."""

AGENT = "weakfish"


def write(file: Path, rows: Sequence[Outgoing], classes: Sequence[str]) -> list[Path]:
    """Write records with suggestions; what has to come back lies in their metadata."""
    write_json(file, [_record(row) for row in rows])
    return [file]


def _record(row: Outgoing) -> dict[str, Any]:
    suggestion = {"value": row.label, "score": row.share, "agent": AGENT}
    return {
        "id": row.marks["key"],
        "fields": dict(row.columns),
        "metadata": row.named_marks,
        "suggestions": {QUESTION: suggestion} if row.label is not None else {},
        "responses": {},
        "vectors": {},
        "status": "pending",
        "_server_id": None,
    }


def read(file: Path) -> Iterator[Incoming]:
    """The answers of records: one for each response to the question ``label``, and one without for each record without.

    Argilla does not say when a response was given, so it counts as given when it is imported.

    Raises
    ------
    UserError
        When the file cannot be read, or is not a whole list of records.
    """
    for number, record in enumerate(read_list(file, "a list of Argilla records"), 1):
        where = f"{file.name} record {number}"
        if not isinstance(record, dict) or not isinstance(record.get("metadata"), dict):
            yield Incoming(where, wrong="is no record with metadata; write records with `dataset.records.to_json`")
            continue
        marks = marks_among(record["metadata"])
        marks.setdefault("key", str(record.get("id") or ""))
        responses = (record.get("responses") or {}).get(QUESTION) or []
        if not responses:
            yield Incoming(where, None, marks)
        for response in responses:
            if not isinstance(response, dict):
                yield Incoming(where, wrong="has a response that is none")
                continue
            value, user = response.get("value"), response.get("user_id")
            who = None if user is None else f"argilla.{str(user)[:8]}"
            yield Incoming(where, None if value is None else str(value), marks, who)
