"""A request and its plan to what Redis is asked, and to what stands before the features in the response.

The entity columns of a request come in; an `Asked` goes out: keys, each once, and which of them every row of the
response is about. `by_hand` does it for plain requests, `by_feast` for all others, through Feast's own preparation,
which refuses what it always refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feast import utils
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.type_map import python_values_to_proto_values

from weakfish.store.online.exchange import Row, Want, Wants
from weakfish.store.online.read_plan import Layout, ReadPlan
from weakfish.store.online.request import KeyColumn, height, key_column

Order = list[int] | None


@dataclass(slots=True)
class Asked:
    """A request, ready to be read.

    ``columns`` are those of the request, as `Value` bytes, ``head`` the beginning of the response message; ``orders``
    has for every want which of its rows each row of the response is about (None: they are the same), ``places`` for
    every view which want reads it, where its features begin and where its time stands.
    """

    columns: Sequence[tuple[str, Sequence[bytes]]]
    join_keys: Sequence[str]
    wants: Wants
    orders: Sequence[Order]
    places: Sequence[tuple[int, int, int]]
    head: bytes

    def expanded(self, fetched: Sequence[list[Row]]) -> list[list[Row]]:
        """The rows of each want, one for every row of the response."""
        pairs = zip(fetched, self.orders, strict=True)
        return [rows if order is None else [rows[position] for position in order] for rows, order in pairs]


def by_hand(plan: ReadPlan, columns: Mapping[str, Any]) -> Asked | None:
    """A request whose columns are what the plan expects; None for any other."""
    rows = height(columns)
    layout = plan.layout(tuple(columns)) if rows else None
    if rows is None or layout is None:
        return None
    found: dict[str, KeyColumn] = {}
    for name, kind in layout.keys:
        column = key_column(columns[name], kind)
        if column is None:
            return None
        found[name] = column
    shown: list[tuple[str, Sequence[bytes]]] = [(name, column.values) for name, column in found.items()]
    if layout.request:
        said = _request_columns(layout, columns)
        if said is None:
            return None
        shown += said
    for name, kind, value in layout.constants:
        constant = key_column([value], kind)
        if constant is None:
            return None
        found[name] = KeyColumn(constant.parts * rows, constant.values * rows)
    wants, orders = _wants(layout, found)
    return Asked(shown, [name for name, _ in layout.keys], wants, orders, layout.places, layout.head)


def _request_columns(layout: Layout, columns: Mapping[str, Any]) -> list[tuple[str, Sequence[bytes]]] | None:
    """What the request says of itself, as Feast writes it; None when Feast refuses it, so that it says so itself."""
    try:
        return [
            (name, [value.SerializeToString() for value in python_values_to_proto_values(columns[name], kind)])
            for name, kind in layout.request
        ]
    except Exception:
        return None


def _wants(layout: Layout, found: Mapping[str, KeyColumn]) -> tuple[Wants, list[Order]]:
    wants: list[tuple[Want, Sequence[bytes]]] = []
    orders: list[Order] = []
    for group in layout.groups:
        prefix, suffix = group.prefix, group.suffix
        parts = [found[name].parts for name in group.join_keys]
        values = parts[0] if len(parts) == 1 else [b"".join(row) for row in zip(*parts, strict=True)]
        keys = [prefix + value + suffix for value in values]
        each = dict.fromkeys(keys)
        if len(each) == len(keys):
            orders.append(None)
        else:
            position = {key: number for number, key in enumerate(each)}
            orders.append([position[key] for key in keys])
            keys = list(each)
        wants.append((group.want, keys))
    return wants, orders


def by_feast(
    plan: ReadPlan, config: Any, registry: Any, project: str, features: Any, columns: Mapping[str, Any]
) -> Asked:
    """A request as Feast prepares it; raises what Feast raises."""
    join_key_values, _, _, _, _, _, response = utils._prepare_entities_to_read_from_online_store(
        registry=registry,
        project=project,
        features=features,
        entity_values=columns,
        full_feature_names=plan.full_names,
        native_entity_values=True,
    )
    names = list(response.metadata.feature_names.val)
    shown = [
        (name, [value.SerializeToString() for value in result.values])
        for name, result in zip(names, response.results, strict=True)
    ]
    wants: list[tuple[Want, Sequence[bytes]]] = []
    orders: list[Order] = []
    version, suffix = config.entity_key_serialization_version, config.project.encode()
    for view in plan.views:
        entities, rows, height = utils._get_unique_entities(view.table, join_key_values, plan.join_key_of)
        keys = [
            serialize_entity_key(key, entity_key_serialization_version=version) + suffix
            for key in utils._get_entity_key_protos(entities)
        ]
        order = [0] * height
        for number, positions in enumerate(rows):
            for position in positions:
                order[position] = number
        wants.append((Want(view.fields), keys))
        orders.append(order)
    places = [(number, 0, len(view.features)) for number, view in enumerate(plan.views)]
    join_keys = [name for name in join_key_values if name != DUMMY_ENTITY_ID or name in names]
    return Asked(shown, join_keys, wants, orders, places, plan.metadata((*names, *plan.features)))
