"""Feast's own plan for views that it has to compute, with a last step that writes columns instead of rows."""

from __future__ import annotations

from typing import Any

from feast.infra.common.materialization_job import MaterializationTask
from feast.infra.compute_engines.dag.context import ColumnInfo, ExecutionContext
from feast.infra.compute_engines.local.arrow_table_value import ArrowTableValue
from feast.infra.compute_engines.local.feature_builder import LocalFeatureBuilder
from feast.infra.compute_engines.local.local_node import LocalNode

from weakfish.store.engine.writing import write_ahead

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
