"""What Feast asks for, in our words: its views, references and entity rows in, a `Retrieval` and its metadata out."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.utils import compute_non_entity_date_range

from weakfish.errors import UserError
from weakfish.store.offline.asof import View, columns_of
from weakfish.store.offline.everyone import everyone
from weakfish.store.offline.query import columns_of_query, from_repository
from weakfish.store.offline.retrieve import Open, Retrieval
from weakfish.store.offline.session import Limits, explained, session
from weakfish.store.offline.spine import TIMESTAMP, file_spine, query_spine, table_spine, time_column
from weakfish.store.refusals import refuse_mixture

QUERY = re.compile(r"(\s|--[^\n]*\n|/\*.*?\*/)*(select|with|from|values|table|pivot|unpivot|\()[\s(*]", re.I | re.S)
"""How a query begins; any other text is a path."""


@dataclass(frozen=True)
class Heading:
    """The columns of a spine, the one of its times, and how it is opened in a session."""

    names: Sequence[str]
    time: str
    open: Open


class Metadata(RetrievalMetadata):
    """What Feast tells of a retrieval; the range of its times is looked up when it is asked for."""

    def __init__(self, features: Sequence[str], heading: Heading, limits: Limits) -> None:
        self.features = list(features)
        self.keys = [name for name in heading.names if name != heading.time]
        self._heading, self._limits = heading, limits

    @property
    def min_event_timestamp(self) -> datetime | None:
        """The first time of the spine, in UTC."""
        return self._range[0]

    @property
    def max_event_timestamp(self) -> datetime | None:
        """The last time of the spine, in UTC."""
        return self._range[1]

    @cached_property
    def _range(self) -> tuple[datetime | None, datetime | None]:
        with session(self._limits) as connection, explained("Reading the entity rows"):
            found = self._heading.open(connection).number(connection, [])
        to_us = 1000 if found.unit == "ns" else 1
        ends = [None if number is None else _time(number // to_us) for number in (found.first, found.last)]
        return ends[0], ends[1]


def plan(
    config: Any,
    views: Sequence[Any],
    references: Sequence[str],
    rows: Any,
    on_demand: Sequence[Any],
    *,
    full_names: bool,
    known: bool,
    start: datetime | None = None,
    end: datetime | None = None,
) -> tuple[Retrieval, RetrievalMetadata]:
    """How features are retrieved for entity rows.

    Parameters
    ----------
    views, on_demand
        Feast's views, and those of them that are computed on demand.
    references
        ``<view>:<feature>`` for every feature wanted, on-demand ones included.
    rows
        A pandas frame, an Arrow table, a query or a path of Parquet; None asks for every entity that has a row between
        ``start`` and ``end``, as of ``end``.
    known
        Whether rows count only from their created time on.

    Raises
    ------
    UserError
        When the rows lack a key or what an on-demand view asks for, or a column of theirs has a feature's name.
    TableError
        When their Parquet is missing.
    """
    refuse_mixture(views)
    limits = Limits.of(config)
    asked = [(_view(view, references, full_names=full_names, known=known), view.batch_source) for view in views]
    if rows is None:
        begin, until = compute_non_entity_date_range(list(views), start_date=start, end_date=end)
        names = [TIMESTAMP, *columns_of([view for view, _ in asked])]
        heading = Heading(names, TIMESTAMP, lambda connection: everyone(connection, asked, begin, until, limits.repo))
        metadata = RetrievalMetadata(list(references), names[1:], begin, until)
    else:
        heading = _heading(rows, limits)
        metadata = Metadata(references, heading, limits)
    _refuse_missing(heading, [view for view, _ in asked], on_demand)
    computed = [
        f"{view.projection.name_to_use()}__{field.name}" if full_names else field.name
        for view in on_demand
        for field in view.projection.features
        if f"{view.projection.name_to_use()}:{field.name}" in references
    ]
    _refuse_twins(heading, [*(name for view, _ in asked for name in view.features), *computed])
    return Retrieval(limits, heading.open, asked), metadata


def _view(view: Any, references: Sequence[str], *, full_names: bool, known: bool) -> View:
    source, projection = view.batch_source, view.projection
    if source is None:
        raise UserError(f"View {view.name!r} has no batch source to retrieve history from; give it one.")
    of, prefix = projection.name_to_use(), f"{projection.name_alias or view.name}__" if full_names else ""
    wanted = [reference.partition(":")[2] for reference in references if reference.partition(":")[0] == of]
    renamed = projection.join_key_map or {}
    return View(
        name=of,
        keys={key: renamed.get(key, key) for key in view.join_keys if key != DUMMY_ENTITY_ID},
        features={f"{prefix}{feature}": feature for feature in wanted},
        time=source.timestamp_field,
        created=source.created_timestamp_column or None,
        ttl=getattr(view, "ttl", None) or None,
        known=known,
        day=source.date_partition_column or None,
    )


def _heading(rows: Any, limits: Limits) -> Heading:
    if not isinstance(rows, str | os.PathLike):
        table = table_spine(rows)
        return Heading(table.names, table.time, lambda connection: table)
    text = str(rows)
    with session(limits) as connection:
        if isinstance(rows, str) and QUERY.match(text):
            query = from_repository(connection, text, limits.repo)
            types = columns_of_query(connection, query)
            time = time_column({name: kind.startswith("TIMESTAMP") for name, kind in types.items()})
            return Heading(list(types), time, lambda connection: query_spine(connection, query))
        spine = file_spine(connection, text, limits.repo)
        return Heading(spine.names, spine.time, lambda connection: file_spine(connection, text, limits.repo))


def _refuse_missing(heading: Heading, views: Sequence[View], on_demand: Sequence[Any]) -> None:
    needs = [(name, f"view {view.name!r}") for view in views for name in view.keys.values()]
    needs += [(name, f"view {view.name!r}") for view in on_demand for name in view.get_request_data_schema()]
    for name, who in needs:
        if name not in heading.names:
            raise UserError(f"The entity rows have no column {name!r}, which {who} needs; add it to them.")


def _refuse_twins(heading: Heading, features: Sequence[str]) -> None:
    """Raise `UserError` when two columns of the result would have one name."""
    for name, count in Counter(heading.names).items():
        if count > 1:
            raise UserError(f"The entity rows have {count} columns {name!r}; rename one of them.")
    counts = Counter(features)
    for name in counts:
        if name in heading.names:
            raise UserError(
                f"Column {name!r} of the entity rows has the name of a feature that is asked for; rename or drop it, "
                "or ask with full_feature_names=True."
            )
        if counts[name] > 1:
            raise UserError(f"{counts[name]} features are called {name!r}; ask with full_feature_names=True.")


def _time(number: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=number)
