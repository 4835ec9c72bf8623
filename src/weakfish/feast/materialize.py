"""Materialization: a view's last rows, read, encoded and written to the online store by whole columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from weakfish.feast.adapter import ComputeEngine

import pyarrow as pa
from feast import FeatureView, RepoConfig
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.backends.pandas_backend import PandasBackend
from feast.infra.compute_engines.dag.context import ColumnInfo, ExecutionContext
from feast.infra.compute_engines.local.arrow_table_value import ArrowTableValue
from feast.infra.compute_engines.local.feature_builder import LocalFeatureBuilder
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.compute_engines.local.local_node import LocalNode
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel

from weakfish.contracts.record import CREATED
from weakfish.contracts.record import EVENT_TIMESTAMP as EVENT_TIME
from weakfish.feast.definitions import keeps_out
from weakfish.feast.encoding import Encoded, encode
from weakfish.feast.offline import AsOfOfflineStore, require_open_source
from weakfish.feast.online import ProjectRedisOnlineStore
from weakfish.feast.retrieval import latest
from weakfish.project.runs import Progress

ROWS = 10_000
"""Rows that are encoded at once."""

COMPUTED = ("feature_transformation", "aggregations", "source_views", "filter", "enable_validation", "offline")
"""Attributes of views whose rows are more than what stands in their source, or are to go elsewhere too."""


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


class ColumnarComputeEngine(ComputeEngine):
    """Feast's local engine, with rows read, encoded and written by whole columns."""

    def materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **options: Any
    ) -> LocalMaterializationJob:
        """Write a view's last rows in the task's time; a failure is in the job, and Feast raises it."""
        if not isinstance(self.online_store, ProjectRedisOnlineStore):
            return super().materialize_one(registry, task, **options)
        job = f"{task.feature_view.name}-{task.start_time}-{task.end_time}"
        try:
            self._write(self.online_store, registry, task)
        except Exception as error:
            return LocalMaterializationJob(job, MaterializationJobStatus.ERROR, error)
        return LocalMaterializationJob(job, MaterializationJobStatus.SUCCEEDED)

    def _write(self, online: ProjectRedisOnlineStore, registry: BaseRegistry, task: MaterializationTask) -> None:
        view = task.feature_view
        if keeps_out(view, self.repo_config.repo_path):
            return
        require_open_source(view.batch_source, self.repo_config.repo_path)
        builder = _Builder(registry, task, self.backend or PandasBackend())
        is_computed = any(getattr(view, name, None) for name in COMPUTED)
        if is_computed or view.batch_source is None or not task.only_latest:
            builder.build().execute(self.get_execution_context(registry, task))
        elif view.online:
            _write_rows(online, self.repo_config, view, self._last_rows(builder, task))

    def _last_rows(self, builder: _Builder, task: MaterializationTask) -> Iterator[pa.RecordBatch]:
        """The last row of each entity in a task's time, with the view's names, ``event_timestamp`` and ``created``."""
        view = task.feature_view
        if isinstance(self.offline_store, AsOfOfflineStore):
            with latest(view, task.end_time, self.repo_config, start=task.start_time, known=False) as reader:
                yield from reader
            return
        columns = builder.get_column_info(view)
        job = self.offline_store.pull_latest_from_table_or_query(
            config=self.repo_config,
            data_source=view.batch_source,
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


class _Builder(LocalFeatureBuilder):
    """Feast's builder of plans, but for the last step."""

    def build_output_nodes(self, view: Any, input_node: Any) -> _Output:
        """The step that writes a view's rows."""
        node = _Output(self.dag_root.view, self.get_column_info(self.dag_root.view), [input_node])
        self.nodes.append(node)
        return node


class _Output(LocalNode):
    """Writes what was computed to the online store, by columns, and to the offline store, where a view asks for it."""

    def __init__(self, view: Any, columns: ColumnInfo, inputs: list[Any]) -> None:
        super().__init__("output", inputs=inputs)
        self.view, self.columns = view, columns

    def execute(self, context: ExecutionContext) -> ArrowTableValue:
        """Write the rows, and hand them on."""
        table = self.get_single_table(context).data
        if table.num_rows and self.view.online:
            times = (self.columns.timestamp_column, self.columns.created_timestamp_column)
            _write_rows(context.online_store, context.repo_config, self.view, table.to_batches(), *times)
        if table.num_rows and self.view.offline:
            context.offline_store.offline_write_batch(
                config=context.repo_config, feature_view=self.view, table=table, progress=lambda count: None
            )
        output = ArrowTableValue(data=table)
        context.node_outputs[self.name] = output
        return output


def _write_rows(
    online: ProjectRedisOnlineStore,
    config: RepoConfig,
    view: FeatureView,
    rows: Iterable[pa.RecordBatch],
    event_time: str = EVENT_TIME,
    created: str | None = CREATED,
) -> None:
    """Write rows of a view where they are newer than what the store has, and say on stderr how far that is.

    ``rows`` have the view's join keys and features by their names, and the two times. Rows of batches before one that
    fails are in then.
    """

    def encoded() -> Iterator[Encoded]:
        for batch in rows:
            for start in range(0, batch.num_rows, ROWS):
                yield encode(view, config, batch.slice(start, ROWS), event_time=event_time, created=created)

    online.write_columns(config, view, encoded(), Progress(f"materialize {view.name}, rows").add)
