"""Batches of a view's rows, encoded, into the online store; stderr is told how far that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import pyarrow as pa
from feast import FeatureView, RepoConfig
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.backends.pandas_backend import PandasBackend
from feast.infra.compute_engines.dag.context import ColumnInfo, ExecutionContext
from feast.infra.compute_engines.local.arrow_table_value import ArrowTableValue
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.feature_builder import LocalFeatureBuilder
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.compute_engines.local.local_node import LocalNode
from feast.infra.offline_stores.offline_store import OfflineStore
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel

from weakfish.feast.asof import latest
from weakfish.feast.definitions import CREATED, EVENT_TIME, refuse_rows
from weakfish.feast.encoding import Encoded, encode
from weakfish.feast.offline import AsOfOfflineStore, require_open_source
from weakfish.feast.online import ColumnarWrites
from weakfish.feast.writer import Written
from weakfish.project.runs import Progress

ROWS = 10_000
"""Rows that are encoded at once."""


def write_ahead(
    online: ColumnarWrites,
    config: RepoConfig,
    view: FeatureView,
    rows: Iterable[pa.RecordBatch],
    event_time: str = EVENT_TIME,
    created: str | None = CREATED,
) -> Written:
    """Write rows of a view where they are newer than what the store has, and say on stderr how far that is.

    ``rows`` have the view's join keys and features by their names, and the two times. Raises what
    `ColumnarWrites.write_columns` and `encode` raise; rows of batches before the one that failed are in then.
    """
    progress = Progress(f"materialize {view.name}, rows")
    return online.write_columns(config, view, _encoded(config, view, rows, event_time, created), progress.add)


def _encoded(
    config: RepoConfig, view: FeatureView, rows: Iterable[pa.RecordBatch], event_time: str, created: str | None
) -> Iterator[Encoded]:
    for batch in rows:
        for start in range(0, batch.num_rows, ROWS):
            yield encode(view, config, batch.slice(start, ROWS), event_time=event_time, created=created)


COMPUTED = ("feature_transformation", "aggregations", "source_views", "filter", "enable_validation", "offline")
"""Attributes of views whose rows are more than what stands in their source, or are to go elsewhere too."""


def is_plain(task: MaterializationTask) -> bool:
    """True when a view's last rows in its source are what is to be written, and nothing else is to be done."""
    view = task.feature_view
    return (
        task.only_latest and view.batch_source is not None and not any(getattr(view, name, None) for name in COMPUTED)
    )


class ColumnarFeatureBuilder(LocalFeatureBuilder):
    """Feast's builder of plans, but for the last step."""

    def build_output_nodes(self, view: Any, input_node: Any) -> ColumnarOutput:
        """The step that writes a view's rows."""
        node = ColumnarOutput(self.dag_root.view, self.get_column_info(self.dag_root.view), [input_node])
        self.nodes.append(node)
        return node


class ColumnarOutput(LocalNode):
    """Writes what was computed to the online store, by columns, and to the offline store, where a view asks for it."""

    def __init__(self, view: Any, columns: ColumnInfo, inputs: list[Any]) -> None:
        super().__init__("output", inputs=inputs)
        self.view, self.columns = view, columns

    def execute(self, context: ExecutionContext) -> ArrowTableValue:
        """Write the rows, and hand them on."""
        table = self.get_single_table(context).data
        if table.num_rows and self.view.online:
            times = (self.columns.timestamp_column, self.columns.created_timestamp_column)
            write_ahead(context.online_store, context.repo_config, self.view, table.to_batches(), *times)
        if table.num_rows and self.view.offline:
            context.offline_store.offline_write_batch(
                config=context.repo_config, feature_view=self.view, table=table, progress=lambda count: None
            )
        output = ArrowTableValue(data=table)
        context.node_outputs[self.name] = output
        return output


class ColumnarComputeEngineConfig(FeastConfigBaseModel):
    """The settings below ``batch_engine`` in ``feature_store.yaml``.

    Attributes
    ----------
    backend : str or None
        What Feast's local engine computes transformed views with: ``pandas`` or ``polars``.
    """

    type: Literal["weakfish.feast.materialize.ColumnarComputeEngine"] = (
        "weakfish.feast.materialize.ColumnarComputeEngine"
    )
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
        require_open_source(view.batch_source, self.repo_config.repo_path)
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
