"""Feast's offline store on DuckDB: every hook that Feast calls, each in terms of this package's other modules.

Feast loads it by class path from ``offline_store.type`` in ``feature_store.yaml``; sources are ``FileSource``s of
Parquet. What Feast's own DuckDB store does well (monitoring of features) is inherited from it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.on_demand_feature_view import OnDemandFeatureView
from pydantic import StrictStr

from weakfish.errors import UserError
from weakfish.store.offline.job import ArrowJob
from weakfish.store.offline.latest import Pull, all_stored, latest_stored
from weakfish.store.offline.plan import plan
from weakfish.store.offline.write import append, append_logs


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

    type: StrictStr = "weakfish.store.offline.AsOfOfflineStore"
    memory_limit: StrictStr | None = None
    threads: int | None = None
    temp_directory: StrictStr | None = None


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
        """See Feast's ``OfflineStore`` and `weakfish.store.offline.plan.plan`."""
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
        """See Feast's ``OfflineStore`` and `weakfish.store.offline.latest.latest_stored`."""
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
        """See Feast's ``OfflineStore`` and `weakfish.store.offline.latest.all_stored`."""
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
        """Add rows to the Parquet of a view; see `weakfish.store.offline.write.append`."""
        if feature_view.batch_source is None:
            raise UserError(f"View {feature_view.name!r} has no batch source to write to; give it one.")
        append(feature_view.batch_source, table, config.repo_path)
        if progress is not None:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: Any, data: pa.Table | Path, source: Any, logging_config: Any, registry: Any
    ) -> None:
        """Add logged features to their folder; see `weakfish.store.offline.write.append_logs`."""
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise UserError(f"Logs go to a FileLoggingDestination here, not to a {type(destination).__name__}.")
        append_logs(destination, data, config.repo_path)
