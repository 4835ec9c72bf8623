"""What Feast asks for, in our words: its views, references and entity rows in, a `Retrieval` and its metadata out."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import pyarrow as pa
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.utils import compute_non_entity_date_range
from pydantic import StrictStr

from weakfish.contracts.gate import require_open
from weakfish.errors import UserError
from weakfish.feast.definitions import refuse_mixture
from weakfish.project.paths import Project

try:
    from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig

    from weakfish.feast.asof import Pull, View, all_stored, columns_of, latest_stored
    from weakfish.feast.parquet import Limits, append, append_logs, explained, session
    from weakfish.feast.retrieval import ArrowJob, Open, Retrieval, everyone
    from weakfish.feast.spine import (
        TIMESTAMP,
        columns_of_query,
        file_spine,
        from_repository,
        query_spine,
        table_spine,
        time_column,
    )
except ModuleNotFoundError as error:
    if error.name not in {"duckdb", "ibis"}:
        raise
    # Where Weakfish is installed for reading online alone, Feast loads this module all the same, for the settings.
    from feast.infra.offline_stores.offline_store import OfflineStore as DuckDBOfflineStore
    from feast.repo_config import FeastConfigBaseModel as DuckDBOfflineStoreConfig

    def _not_installed(*_: Any, **__: Any) -> Any:
        raise UserError("Features are read from tables by DuckDB; `pip install 'weakfish[pipeline]'` adds it.")

    class Limits:  # type: ignore[no-redef]
        of = staticmethod(_not_installed)

    Pull = append = append_logs = _not_installed  # type: ignore[misc, assignment]

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


class AsOfOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """The settings below ``offline_store`` in ``feature_store.yaml``.

    Attributes
    ----------
    memory_limit : str or None
        What a retrieval may hold in DuckDB, such as ``2GB`` or ``50%`` of the machine's memory; more is spilled to
        disk. DuckDB's own default, 80 %, if not set.
    threads : int or None
        How many threads it uses; as many as there are processors if not set.
    temp_directory : str or None
        The folder of spill files, from the Feast repository if relative; the system's for temporary files if not set.
    """

    type: StrictStr = "weakfish.feast.offline.AsOfOfflineStore"
    memory_limit: StrictStr | None = None
    threads: int | None = None
    temp_directory: StrictStr | None = None


def require_open_source(source: Any, repository: Path | None) -> None:
    """Raise `CheckFailed` when a source is a table of a Weakfish project whose gate is shut."""
    path = getattr(source, "path", None)
    if not isinstance(path, str) or "://" in path.removeprefix("file://"):
        return
    place = Path(repository or Path.cwd(), path.removeprefix("file://").split("*")[0]).resolve()
    try:
        project = Project.find(place)
    except UserError:  # the source lies in no project
        return
    folder, data = place.parent if place.is_file() else place, project.data.resolve()
    if folder != data and folder.is_relative_to(data):
        require_open(project, [folder.relative_to(data).as_posix()])


class AsOfOfflineStore(DuckDBOfflineStore):
    """Point-in-time joins that return every entity row once, in order, with the types that were stored."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: Any,
        feature_views: list[Any],
        feature_refs: list[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> ArrowJob:
        """See Feast's ``OfflineStore`` and `weakfish.feast.offline.plan`."""
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        retrieval, metadata = plan(
            config,
            feature_views,
            feature_refs,
            entity_df,
            on_demand,
            full_names=full_feature_names,
            known=filter_by_created_timestamp,
            start=start_date,
            end=end_date,
        )
        return ArrowJob(
            retrieval.reader,
            repo=retrieval.limits.repo,
            metadata=metadata,
            on_demand=on_demand,
            full_feature_names=full_feature_names,
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: Any,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> ArrowJob:
        """See Feast's ``OfflineStore`` and `weakfish.feast.asof.latest_stored`; `CheckFailed` when a gate is shut."""
        require_open_source(data_source, config.repo_path)
        pull = Pull(
            data_source,
            config,
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column or None,
            start_date,
            end_date,
        )
        return ArrowJob(partial(latest_stored, pull), repo=config.repo_path)

    @staticmethod
    def pull_all_from_table_or_query(
        config: Any,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> ArrowJob:
        """See Feast's ``OfflineStore`` and `weakfish.feast.asof.all_stored`; `CheckFailed` when a gate is shut."""
        require_open_source(data_source, config.repo_path)
        pull = Pull(
            data_source,
            config,
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column or None,
            start_date,
            end_date,
        )
        return ArrowJob(partial(all_stored, pull), repo=config.repo_path)

    @staticmethod
    def offline_write_batch(
        config: Any, feature_view: Any, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Add rows to the Parquet of a view; see `weakfish.feast.parquet.append`."""
        if feature_view.batch_source is None:
            raise UserError(f"View {feature_view.name!r} has no batch source to write to; give it one.")
        append(feature_view.batch_source, table, config.repo_path)
        if progress is not None:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: Any, data: pa.Table | Path, source: Any, logging_config: Any, registry: Any
    ) -> None:
        """Add logged features to their folder; see `weakfish.feast.parquet.append_logs`."""
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise UserError(f"Logs go to a FileLoggingDestination here, not to a {type(destination).__name__}.")
        append_logs(destination, data, config.repo_path)
