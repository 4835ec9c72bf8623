"""The views of a project: `transform` functions in ``feature_repo/transforms.py``, loaded, called and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from weakfish.errors import FeatureError, UnknownName
from weakfish.features.past import Measure, Past, check_row_by_row
from weakfish.project import Project
from weakfish.tables import TIME

MODULE = "feature_repo.transforms"
TIMESTAMP, CREATED = "event_timestamp", "created"

Function = Callable[[Past], Mapping[str, ir.Value]]


@dataclass(frozen=True)
class Transform:
    """A view as its author wrote it: its name, the column of the events that is its entity, and its function."""

    name: str
    entity: str
    function: Function


@dataclass(frozen=True)
class View:
    """A view that was checked: features over the placeholders of measures.

    Attributes
    ----------
    features : dict of str to ibis.expr.types.Value
        By name, in the author's order.
    schema : pyarrow.Schema
        Entity, ``event_timestamp``, ``created`` (both UTC, microseconds), then the features: int64, float64, bool,
        string, or a time.
    """

    name: str
    entity: str
    features: dict[str, ir.Value]
    measures: list[Measure]
    schema: pa.Schema


def transform(*, entity: str, name: str | None = None) -> Callable[[Function], Transform]:
    """Make a view of a function from the past to features; it is named after the function unless ``name`` says else.

    >>> @transform(entity="customer")
    ... def customer_activity(past):
    ...     month = past.last(days=30)
    ...     return {"orders_30d": month.count(), "amount_30d": month.mean(past.events.amount)}
    """

    def wrap(function: Function) -> Transform:
        return Transform(name or function.__name__, entity, function)

    return wrap


def load_transforms(project: Project) -> list[Transform]:
    """The views that ``feature_repo/transforms.py`` defines, in its order.

    Raises
    ------
    FeatureError
        When there are none, two share a name, or a name cannot be the name of a folder.
    """
    found: dict[str, Transform] = {}
    for item in vars(project.import_module(MODULE)).values():
        if not isinstance(item, Transform) or item is found.get(item.name):
            continue
        if not item.name.isidentifier():
            raise FeatureError(
                f"View {item.name!r} in feature_repo/transforms.py cannot be stored under its name; "
                "use letters, digits and underscores."
            )
        if item.name in found:
            raise FeatureError(f"View {item.name!r} is defined twice in feature_repo/transforms.py; rename one.")
        found[item.name] = item
    if not found:
        raise FeatureError("feature_repo/transforms.py defines no views; add one, see docs/features.md.")
    return list(found.values())


def check_view(made: Transform, past: Past) -> View:
    """Call a transform and check what it returns; raises `FeatureError` with the names of view and column."""
    if made.entity not in past.events.columns:
        raise FeatureError(
            f"View {made.name!r} is about {made.entity!r}, which is no column of the events; "
            f"correct its entity, there are: {', '.join(past.events.columns)}."
        )
    try:
        returned = made.function(past)
    except (FeatureError, UnknownName):
        raise
    except Exception as error:
        raise FeatureError(
            f"View {made.name!r} raised {type(error).__name__}: {error}; correct it in feature_repo/transforms.py."
        ) from error
    if not isinstance(returned, Mapping) or not returned:
        raise FeatureError(
            f"View {made.name!r} returned {type(returned).__name__} instead of a dict from names to features; "
            "see docs/features.md."
        )
    measures = list(past.measures.values())
    for name, value in returned.items():
        _check_feature(made, measures, name, value)
    kinds = {name: _arrow_type(made.name, name, value) for name, value in returned.items()}
    entity = past.events[made.entity].type().to_pyarrow()
    schema = pa.schema([(made.entity, entity), (TIMESTAMP, TIME), (CREATED, TIME), *kinds.items()])
    return View(made.name, made.entity, dict(returned), measures, schema)


def _check_feature(made: Transform, measures: list[Measure], name: Any, value: Any) -> None:
    which = f"Column {name!r} of view {made.name!r}"
    if not isinstance(name, str) or not name.isidentifier() or name in (made.entity, TIMESTAMP, CREATED):
        raise FeatureError(
            f"{which} cannot have that name; use letters, digits and underscores, and not the name of the entity, "
            f"{TIMESTAMP} or {CREATED}."
        )
    if not isinstance(value, ir.Value):
        raise FeatureError(
            f"{which} is {type(value).__name__}, not an Ibis expression; use statistics such as "
            "past.last(days=7).count()."
        )
    check_row_by_row(value, placeholders(measures), which)


def placeholders(measures: list[Measure]) -> list[ir.Table]:
    """The tables on which features stand until their measures are computed."""
    return [ibis.table({m.name: _dtype(m)}, name=f"measure_{m.name}") for m in measures]


def _dtype(measure: Measure) -> Any:
    return measure.value.type() if measure.kind in ("first", "last") else "int64"


def _arrow_type(view: str, name: str, value: ir.Value) -> pa.DataType:
    kinds = {
        ir.BooleanValue: pa.bool_(),
        ir.IntegerValue: pa.int64(),
        ir.FloatingValue: pa.float64(),
        ir.TimestampValue: TIME,
        ir.StringValue: pa.string(),
    }
    for kind, arrow in kinds.items():
        if isinstance(value, kind):
            return arrow
    raise FeatureError(
        f"Column {name!r} of view {view!r} is of type {value.type()}; features are whole numbers, float64, booleans, "
        "strings or times."
    )
