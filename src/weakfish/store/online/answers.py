"""What a read answers, in each of the forms that are asked for, from the rows of its views.

A plan, its request and the judged rows come in. Out go Feast's response, with on-demand views computed by Feast's own
function, columns of JSON values, or the entries of Feast's reading of one view; and what Feast's metrics count.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from feast import utils
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value

from weakfish.store.online import response as build
from weakfish.store.online.clock import EPOCH
from weakfish.store.online.decode import native
from weakfish.store.online.exchange import Row
from weakfish.store.online.prepare import Asked
from weakfish.store.online.read_plan import ReadPlan, ViewRead
from weakfish.store.online.response import Answer, Column, ViewRows

Entry = tuple[datetime | None, dict[str, Value] | None]


def response(plan: ReadPlan, asked: Asked, views: Sequence[ViewRows]) -> OnlineResponse:
    """Feast's response; raises `google.protobuf.message.DecodeError` for values that are damaged."""
    parts = [asked.head, *(build.request_result(values) for _, values in asked.columns)]
    for view in views:
        parts += build.view_results(view)
    message = GetOnlineFeaturesResponse.FromString(b"".join(parts))
    if plan.on_demand:
        utils._augment_response_with_on_demand_transforms(
            message, plan.refs, plan.on_demand, plan.full_names, feature_types=plan.types
        )
        utils._drop_unneeded_columns(message, plan.kept(asked.join_keys))
    return OnlineResponse(message, feature_types=plan.types)


def answer(plan: ReadPlan, asked: Asked, views: Sequence[ViewRows]) -> Answer:
    """The response as columns of what JSON says; raises as `response` does."""
    versions = list(plan.versions.items())
    if plan.on_demand:
        return Answer(_columns_of(response(plan, asked, views).proto, plan), versions)
    columns = [build.request_column(name, [native(data) for data in values]) for name, values in asked.columns]
    for view, rows in zip(plan.views, views, strict=True):
        columns += build.view_columns(rows, view.columns, view.name)
    return Answer(columns, versions)


def _columns_of(message: Any, plan: ReadPlan) -> list[Column]:
    """The columns of a response that only Feast could make."""
    owners = {column: view.name for view in plan.views for column in view.columns}
    return [
        Column(
            name,
            [native(value.SerializeToString()) for value in result.values],
            list(result.statuses),
            [(moment.seconds, moment.nanos) for moment in result.event_timestamps],
            owners.get(name),
        )
        for name, result in zip(message.metadata.feature_names.val, message.results, strict=True)
    ]


def entries(view: ViewRead, rows: Sequence[Row], oldest: int | None) -> list[Entry]:
    """The rows of one view as Feast hands them around: without statuses."""
    judged = build.judged(rows, 0, len(view.features), oldest)
    found: list[Entry] = []
    for status, moment, *values in zip(judged.statuses, judged.moments(), *judged.columns(), strict=True):
        if status == build.NOT_FOUND:
            found.append((None, None))
        else:
            messages = (Value.FromString(value or b"") for value in values)
            found.append((_datetime(*moment), dict(zip(view.features, messages, strict=True))))
    return found


def _datetime(seconds: int, nanos: int) -> datetime:
    return EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1_000)


def measure(begun: float, plan: ReadPlan, views: Sequence[ViewRows]) -> None:
    """Tell Feast's own metrics, where `feast serve` has switched them on."""
    metrics = sys.modules.get("feast.metrics")
    if metrics is None or not metrics._config.online_features:
        return
    metrics.track_online_store_read(time.monotonic() - begun)
    for view, rows in zip(plan.views, views, strict=True):
        cells = len(view.features)
        metrics.track_feature_statuses(view.name, cells * rows.present, cells * (len(rows.rows) - rows.present))
