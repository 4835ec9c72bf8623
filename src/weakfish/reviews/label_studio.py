"""Rows to ask about as tasks of Label Studio, and its JSON export.

The format is that of "Label Studio JSON format of annotated tasks" in its documentation (guide/task_format), and
predictions that of "Import pre-annotated data" (guide/predictions). What has to come back lies in ``data``, which Label
Studio returns as it was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from weakfish.files import whole_file, write_json
from weakfish.reviews.other_tools import OURS, WORDS, Incoming, Outgoing, as_time, marks_among, read_list

CHOICES = "label"
"""The name of the control tag that the answer is given by."""


def write(file: Path, rows: Sequence[Outgoing], classes: Sequence[str]) -> list[Path]:
    """Write tasks with predictions, and beside them (``.xml``) the labeling configuration that they go by."""
    names = list(rows[0].columns) if rows else []
    tasks = [_task(row, names[0]) for row in rows]
    write_json(file, tasks)
    config = file.with_suffix(".xml")
    with whole_file(config) as part:
        part.write_text(configuration(names, classes), encoding="utf-8")
    return [file, config]


def configuration(columns: Sequence[str], classes: Sequence[str]) -> str:
    """The labeling configuration: each column as a text, and one choice among the classes."""
    texts = "".join(
        f"  <Header value={quoteattr(name)}/>\n  <Text name={quoteattr(name)} value={quoteattr('$' + name)}/>\n"
        for name in columns
    )
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in (*classes, next(iter(WORDS))))
    about = quoteattr(columns[0] if columns else "")
    head = f'  <Choices name="{CHOICES}" toName={about} choice="single" required="true">\n'
    return f"<View>\n{texts}{head}{choices}  </Choices>\n</View>\n"


def _task(row: Outgoing, about: str) -> dict[str, Any]:
    data = {**row.columns, **row.named_marks}
    if row.label is None:
        return {"data": data, "predictions": []}
    region = {"from_name": CHOICES, "to_name": about, "type": "choices", "value": {"choices": [row.label]}}
    version = f"weakfish {row.marks['labels']}"
    return {"data": data, "predictions": [{"model_version": version, "score": row.share, "result": [region]}]}


def read(file: Path) -> Iterator[Incoming]:
    """The answers of a JSON export: one for each annotation, and one without an answer for each task that has none.

    Raises
    ------
    UserError
        When the file cannot be read, or is not a whole list of tasks.
    """
    for number, task in enumerate(read_list(file, "a Label Studio export (JSON)"), 1):
        where = f"{file.name} task {number}"
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            yield Incoming(where, wrong="has no data; export as JSON, not as JSON-MIN or CSV")
            continue
        marks = marks_among(task["data"])
        if "key" not in marks:
            yield Incoming(where, wrong=f"has no {OURS}key in its data; only rows that were exported here come back")
            continue
        annotations = task.get("annotations") or []
        if not annotations:
            yield Incoming(where, None, marks)
        for annotation in annotations:
            yield _incoming(where, marks, annotation)


def _incoming(where: str, marks: Mapping[str, str], annotation: Any) -> Incoming:
    if not isinstance(annotation, dict):
        return Incoming(where, wrong="has an annotation that is none")
    time = as_time(annotation.get("updated_at") or annotation.get("created_at"))
    who = _who(annotation.get("completed_by"))
    if annotation.get("was_cancelled"):
        return Incoming(where, "(skip)", marks, who, time)
    regions = [each for each in annotation.get("result") or [] if isinstance(each, dict)]
    values = [each.get("value") for each in regions if each.get("from_name") == CHOICES]
    chosen = [name for value in values if isinstance(value, dict) for name in value.get("choices") or []]
    if len(chosen) > 1:
        return Incoming(where, wrong=f"answers with {len(chosen)} classes at once")
    return Incoming(where, str(chosen[0]) if chosen else None, marks, who, time)


def _who(completed_by: Any) -> str | None:
    """A reviewer: the address of a user, or the number of one, by what the export was asked for."""
    if isinstance(completed_by, dict):
        address = (value for value in completed_by.values() if isinstance(value, str) and "@" in value)
        completed_by = next(address, completed_by.get("id"))
    if completed_by is None:
        return None
    return f"label_studio.{completed_by}" if isinstance(completed_by, int) else str(completed_by)
