"""The source of a project, as its params.yaml names it, and the contract of the events that come from it."""

from __future__ import annotations

import pyarrow as pa

from weakfish.contracts.tables import Contract
from weakfish.errors import ParamsError
from weakfish.project.paths import Project
from weakfish.sources import Source


def source(project: Project) -> Source:
    """The project's source, made with its settings."""
    return _reader(project)(project.params.source.settings)


def events_contract(project: Project) -> Contract:
    """The contract of the events table: the source's columns without gold."""
    reader = _reader(project)
    about_gold = {*reader.gold.values(), *reader.gold_known_at.values()}
    columns = pa.schema([field for field in reader.schema if field.name not in about_gold])
    events = project.params.events
    return Contract("events", columns, events.key, events.time, events.partition)


def _reader(project: Project) -> type[Source]:
    name = project.params.source.reader
    reader = project.import_object(name, "source.reader")
    if not (isinstance(reader, type) and issubclass(reader, Source)):
        raise ParamsError(
            f"params.yaml: source.reader names {name!r}, which is not a source; derive it from weakfish.sources.Source."
        )
    return reader
