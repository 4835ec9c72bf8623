"""Materialization column by column: a view's last rows from the offline store, encoded, and set where they are newer.

Feast asks for it by ``materialize`` and ``materialize_incremental``. While one batch is on its way to the server, the
next is read and encoded by another thread. Views that Feast has to compute (transformations, aggregations, views of
views) go through Feast's local engine up to its last step, which writes columns too; so do historical features, whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pyarrow as pa
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.backends.pandas_backend import PandasBackend
from feast.infra.compute_engines.dag.context import ExecutionContext
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.offline_stores.offline_store import OfflineStore
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel

from weakfish.store.engine.plan import ColumnarFeatureBuilder, is_plain
from weakfish.store.engine.writing import write_ahead
from weakfish.store.offline import AsOfOfflineStore, latest
from weakfish.store.online.writes import ColumnarWrites
from weakfish.store.refusals import refuse_rows
from weakfish.store.views import CREATED, EVENT_TIME


class ColumnarComputeEngineConfig(FeastConfigBaseModel):
    """The settings below ``batch_engine`` in ``feature_store.yaml``.

    Attributes
    ----------
    backend : str or None
        What Feast's local engine computes transformed views with: ``pandas`` or ``polars``.
    """

    type: Literal["weakfish.store.engine.ColumnarComputeEngine"] = "weakfish.store.engine.ColumnarComputeEngine"
    backend: str | None = None


class ColumnarComputeEngine(LocalComputeEngine):
    """Feast's local engine, with rows read, encoded and written by whole columns."""

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        if not isinstance(self.online_store, ColumnarWrites):
            return super()._materialize_one(registry, task, **kwargs)
        job = f"{task.feature_view.name}-{task.start_time}-{task.end_time}"
        try:
            self._materialize(self.online_store, registry, task)
        except Exception as error:  # Feast raises it where it asked for the job
            return LocalMaterializationJob(job, MaterializationJobStatus.ERROR, error)
        return LocalMaterializationJob(job, MaterializationJobStatus.SUCCEEDED)

    def _materialize(self, online: ColumnarWrites, registry: BaseRegistry, task: MaterializationTask) -> None:
        view = task.feature_view
        refuse_rows(view, self.repo_config.repo_path)
        context = self.get_execution_context(registry, task)
        builder = ColumnarFeatureBuilder(registry, task, self._backend or PandasBackend())
        if not is_plain(task):
            builder.build().execute(context)
        elif view.online:
            rows = last_rows(self.offline_store, builder, context, task)
            write_ahead(online, self.repo_config, view, rows)


def last_rows(
    offline: OfflineStore, builder: ColumnarFeatureBuilder, context: ExecutionContext, task: MaterializationTask
) -> Iterator[pa.RecordBatch]:
    """The last row of each entity in a task's time, with the view's names, ``event_timestamp`` and ``created``."""
    if isinstance(offline, AsOfOfflineStore):
        with latest(task.feature_view, task.end_time, context.repo_config, start=task.start_time) as reader:
            yield from reader
        return
    columns = builder.get_column_info(task.feature_view)
    job = offline.pull_latest_from_table_or_query(
        config=context.repo_config,
        data_source=task.feature_view.batch_source,
        join_key_columns=columns.join_keys,
        feature_name_columns=columns.feature_cols,
        timestamp_field=columns.ts_col,
        created_timestamp_column=columns.created_ts_col,
        start_date=task.start_time,
        end_date=task.end_time,
    )
    names = {**(columns.field_mapping or {}), columns.ts_col: EVENT_TIME}
    if columns.created_ts_col:
        names[columns.created_ts_col] = CREATED
    table = job.to_arrow()
    yield from table.rename_columns([names.get(name, name) for name in table.column_names]).to_batches()
