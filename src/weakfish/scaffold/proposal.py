"""What `weakfish init` proposes: all that the templates need, as one JSON object that `weakfish.lock` keeps.

`weakfish upgrade` renders a project anew from it, without looking at the data again. Records of earlier versions have
to stay readable: a field that is added needs a default, and one that is not used any more stays.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from weakfish.params import Name, Section
from weakfish.scaffold.examples import Rule
from weakfish.scaffold.facts import ColumnFacts
from weakfish.scaffold.suites import Suite
from weakfish.sources.tabular.settings import MADE_KEY, MADE_TIME


class TaskProposal(Section):
    """A labeling task: its classes in the order of votes, its gold column, the classes' shares in dev gold."""

    classes: Annotated[tuple[Name, ...], Field(min_length=2, max_length=50)]
    gold: Name | None = None
    class_balance: tuple[float, ...] | None = None


class Proposal(Section):
    """A whole project, before it is written.

    ``path`` is ``source.path``; ``source`` the section of ``params.yaml`` without ``reader``; ``columns`` are those of
    the events, in order, without gold and what is made. ``fetch_dep`` is the file or folder that the fetch stage has to
    watch, null where that cannot be, since it holds the project itself. ``rules`` (by task) are the example functions.
    """

    name: Name
    path: str
    fetch_dep: str | None
    source: dict[str, JsonValue]
    key: Name | None
    time: Name | None
    time_zone: str = "UTC"
    entities: tuple[Name, ...] = ()
    texts: tuple[Name, ...] = ()
    columns: tuple[ColumnFacts, ...]
    rows: int
    tasks: Annotated[dict[Name, TaskProposal], Field(min_length=1)]
    gold_split: str | None = None
    rules: dict[str, tuple[Rule, ...]]
    suites: Suite

    @property
    def events_key(self) -> str:
        """The key of the events table; it is made where no column is one."""
        return self.key or MADE_KEY

    @property
    def events_time(self) -> str:
        """The event time of the events table; null in all rows where no column is one."""
        return self.time or MADE_TIME

    @property
    def views(self) -> tuple[str, ...]:
        """The feature views: one per entity; none without times."""
        return tuple(f"{entity}_activity" for entity in self.entities) if self.time else ()

    def column(self, name: str) -> ColumnFacts:
        """The facts of a column."""
        return next(column for column in self.columns if column.name == name)
