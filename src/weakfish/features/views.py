"""The past of an entity, as a transform sees it: windows over events and over labels that were known by then.

Each statistic asked of a window is recorded as a `Measure` and answered with a placeholder column, an ordinary Ibis
value to calculate with; `weakfish.features.build` replaces placeholders by what it computed for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa

from weakfish.contracts.pointers import listed
from weakfish.contracts.record import CREATED, EVENT_TIMESTAMP
from weakfish.contracts.tables import TIME, schema_of
from weakfish.errors import FeatureError, UnknownName, reason
from weakfish.project.paths import Project
from weakfish.sources.declared import events_contract

MICRO = 1_000_000
"""Numbers with a fraction are summed as integers of a millionth: such sums do not depend on the order of rows."""

Kind = Literal["sum", "distinct", "first", "last"]


@dataclass(frozen=True)
class Measure:
    """One statistic of one window.

    Attributes
    ----------
    name : str
        The name of its placeholder, unique in the view.
    kind : {"sum", "distinct", "first", "last"}
        What is done with ``value`` over the rows in the window.
    task : str or None
        The task whose known labels it is about; None for events.
    value : ibis.expr.types.Value
        A column of the events or of the known labels; an int64 for sums.
    hours : int or None
        The length of the window; None for all of the past.
    """

    name: str
    kind: Kind
    task: str | None
    value: ir.Value
    hours: int | None

    @property
    def placeholder(self) -> ir.Table:
        """The table of its placeholder, on which features stand until it is computed."""
        dtype: Any = self.value.type() if self.kind in ("first", "last") else "int64"
        return ibis.table({self.name: dtype}, name=f"measure_{self.name}")


@dataclass(frozen=True)
class Past:
    """What a transform may know: ``events`` for its columns, and windows that end before the boundary.

    Attributes
    ----------
    events : ibis.expr.types.Table
        The columns of the events; statistics take expressions of them, row by row.
    """

    view: str
    events: ir.Table
    time: str
    boundary_hours: int
    labels: Mapping[str, tuple[ir.Table, Sequence[str]]]
    measures: dict[object, Measure] = field(default_factory=dict)

    def last(self, *, days: int = 0, hours: int = 0) -> Window:
        """The window that holds ``b - length <= time < b`` at a boundary b.

        Raises
        ------
        FeatureError
            When the length is no positive multiple of ``features.boundary_hours``.
        """
        length = days * 24 + hours
        if length <= 0 or length % self.boundary_hours:
            raise FeatureError(
                f"View {self.view!r} has a window of {length} hours, which is no positive multiple of the "
                f"{self.boundary_hours} of features.boundary_hours in params.yaml; correct one of them."
            )
        return Window(self, length)

    @property
    def ever(self) -> Window:
        """All of the past: ``time < b``."""
        return Window(self, None)

    def first_seen(self) -> ir.TimestampValue:
        """The time of the entity's first event."""
        return cast(ir.TimestampValue, self._ask("first", None, self.events[self.time], None))

    def last_seen(self) -> ir.TimestampValue:
        """The time of the entity's latest event."""
        return cast(ir.TimestampValue, self._ask("last", None, self.events[self.time], None))

    def _ask(self, kind: Kind, task: str | None, value: ir.Value, hours: int | None) -> ir.Value:
        source = self.events if task is None else self.labels[task][0]
        check_row_by_row(value, [source], f"View {self.view!r} asks for {kind} of a value that")
        if kind == "sum":
            value = value.cast("int64")
        found = self.measures.setdefault(
            (kind, task, value.op(), hours), Measure(f"m{len(self.measures)}", kind, task, value, hours)
        )
        return found.placeholder[found.name]

    def _number(self, value: ir.NumericValue) -> ir.IntegerValue:
        """A number as a whole one, in millionths if it has a fraction; raises `FeatureError` for other values."""
        self._column(value)
        if isinstance(value, ir.BooleanValue) or not isinstance(value, ir.NumericValue):
            raise FeatureError(
                f"View {self.view!r} sums values of type {value.type()}; use numbers, or share or count."
            )
        return value if isinstance(value, ir.IntegerValue) else millionths(value)

    def _boolean(self, value: ir.BooleanValue) -> ir.BooleanValue:
        if not isinstance(self._column(value), ir.BooleanValue):
            raise FeatureError(f"View {self.view!r} counts where a value of type {value.type()} holds; use a boolean.")
        return value

    def _column(self, value: ir.Value) -> ir.Value:
        if not isinstance(value, ir.Value):
            raise FeatureError(
                f"View {self.view!r} asks a window about {value!r}, which is no Ibis column; use columns of "
                "past.events."
            )
        return value


@dataclass(frozen=True)
class Window:
    """A stretch of the past; its statistics count events of the entity in it. Null values are left out."""

    past: Past
    hours: int | None

    def count(self, where: ir.BooleanValue | None = None) -> ir.IntegerValue:
        """How many events, or how many of those ``where`` holds; 0 for none."""
        return self._sum(ibis.literal(1) if where is None else self.past._boolean(where).ifelse(1, 0))

    def sum(self, value: ir.NumericValue) -> ir.NumericValue:
        """The sum of a number, 0 for none; of a number with a fraction, each rounded to a millionth."""
        total = self._sum(self.past._number(value))
        return total if isinstance(value, ir.IntegerValue) else cast(ir.NumericValue, total.cast("float64") / MICRO)

    def mean(self, value: ir.NumericValue) -> ir.FloatingValue:
        """The mean of a number; null when no event has it."""
        known = self.past._number(value).notnull().ifelse(1, 0)
        return cast(ir.FloatingValue, self.sum(value) / self._sum(known).nullif(0))

    def share(self, condition: ir.BooleanValue) -> ir.FloatingValue:
        """The share of events for which ``condition`` holds, of those where it is not null; null when there is none."""
        known = self._sum(self.past._boolean(condition).notnull().ifelse(1, 0))
        return cast(ir.FloatingValue, self.count(condition) / known.nullif(0))

    def distinct(self, value: ir.Value) -> ir.IntegerValue:
        """How many different values, null aside."""
        return cast(ir.IntegerValue, self.past._ask("distinct", None, self.past._column(value), self.hours))

    def active_days(self) -> ir.IntegerValue:
        """On how many days (UTC) there were events."""
        time = cast(ir.TimestampValue, self.past.events[self.past.time])
        return self.distinct(time.date())

    def known_labels(self, task: str) -> Known:
        """The labels of ``task`` that became known in this window; raises `UnknownName`."""
        if task not in self.past.labels:
            raise UnknownName("task", task, self.past.labels, f"params.yaml, for view {self.past.view!r}")
        return Known(self, task)

    def _sum(self, value: ir.Value, task: str | None = None) -> ir.IntegerValue:
        return cast(ir.IntegerValue, self.past._ask("sum", task, value.fill_null(0), self.hours))


@dataclass(frozen=True)
class Known:
    """Labels of past events of the entity that became known in a window: ``b - length <= known_at < b``."""

    window: Window
    task: str

    def count(self) -> ir.IntegerValue:
        """How many labels; 0 for none."""
        return self.window._sum(ibis.literal(1), self.task)

    def share(self, name: str) -> ir.FloatingValue:
        """The mean probability of a class, each rounded to a millionth; null when no label is known.

        Raises
        ------
        UnknownName
            When the task has no such class.
        """
        table, classes = self.window.past.labels[self.task]
        if name not in classes:
            where = f"tasks.{self.task}.classes of params.yaml, for view {self.window.past.view!r}"
            raise UnknownName("class", name, classes, where)
        total = self.window._sum(millionths(cast(ir.NumericValue, table[f"p_{name}"])), self.task)
        return cast(ir.FloatingValue, total / (self.count() * MICRO).nullif(0))


def check_row_by_row(value: ir.Value, allowed: Sequence[ir.Table], which: str) -> None:
    """Raise `FeatureError` if ``value`` reads tables that are not ``allowed``, other rows than its own, or a clock."""
    op = value.op()
    if op.find((ops.Reduction, ops.Analytic, ops.WindowFunction, ops.Subquery)):
        raise FeatureError(
            f"{which} looks at other rows, the future among them; use the statistics of a window, such as "
            "past.last(days=30).mean(...)."
        )
    if op.find(ops.Impure):
        raise FeatureError(f"{which} reads a clock or chance; use columns of the events alone.")
    if not op.relations <= {table.op() for table in allowed}:
        raise FeatureError(f"{which} belongs to another table; use columns of past.events and statistics of windows.")


def finite(value: ir.Value) -> ir.FloatingValue:
    """A number as float64, null where it is NaN or infinite."""
    number = cast(ir.FloatingValue, value.cast("float64"))
    return cast(ir.FloatingValue, ibis.ifelse(number.isnan() | number.isinf(), ibis.null("float64"), number))


def millionths(value: ir.NumericValue) -> ir.IntegerValue:
    """A number as a whole number of millionths, whose sums do not depend on the order of rows."""
    return cast(ir.IntegerValue, (finite(value) * MICRO).round().cast("int64"))


MODULE = "feature_repo.transforms"

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
        When two share a name, a name cannot be that of a folder, or they are not the views that params.yaml lists.
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
    listed = project.params.views
    if listed is None and not found:
        raise FeatureError("feature_repo/transforms.py defines no views; add one, see docs/features.md.")
    for name in found:
        if listed is not None and name not in listed:
            raise FeatureError(
                f"View {name!r} in feature_repo/transforms.py is not among the views of params.yaml, so no gate "
                "would judge it; add it there."
            )
    for name in listed or ():
        if name not in found:
            raise FeatureError(
                f"params.yaml lists view {name!r}, and feature_repo/transforms.py has no function of this name; "
                "write it, or take it off the list."
            )
    return list(found.values())


def declared_views(project: Project) -> dict[str, View]:
    """The project's views by name, checked against the columns of the events; no row is read or computed.

    Columns are those of the accepted events, and while there are none, as in a fresh clone, those that the source has.

    Raises
    ------
    FeatureError
        When a transform is wrong; names view and column.
    """
    transforms, events = load_transforms(project), project.table("events")
    made = any(listed(events))
    schema = ibis.Schema.from_pyarrow(schema_of(events) if made else events_contract(project).schema)
    params = project.params
    labels = {
        task: (ibis.table({f"p_{name}": "float64" for name in settings.classes}, name=task), settings.classes)
        for task, settings in params.tasks.items()
    }
    hours = params.features.boundary_hours
    return {
        item.name: check_view(
            item, Past(item.name, ibis.table(schema, name="events"), params.events.time, hours, labels)
        )
        for item in transforms
    }


def check_view(made: Transform, past: Past) -> View:
    """Call a transform and check what it returns; raises `FeatureError` with the names of view and column."""
    if made.entity not in past.events.columns:
        raise FeatureError(
            f"View {made.name!r} is about {made.entity!r}, which is not a column of the events; "
            f"correct its entity, there are: {', '.join(past.events.columns)}."
        )
    try:
        returned = made.function(past)
    except (FeatureError, UnknownName):
        raise
    except Exception as error:
        raise FeatureError(
            f"View {made.name!r} raised {reason(error)}; correct it in feature_repo/transforms.py."
        ) from error
    if not isinstance(returned, Mapping) or not returned:
        raise FeatureError(
            f"View {made.name!r} returned {type(returned).__name__} instead of a dict from names to features; "
            "see docs/features.md."
        )
    measures = list(past.measures.values())
    entity = past.events[made.entity].type().to_pyarrow()
    columns = [(made.entity, entity), (EVENT_TIMESTAMP, TIME), (CREATED, TIME)]
    columns += [(name, _feature_type(made, measures, name, value)) for name, value in returned.items()]
    return View(made.name, made.entity, dict(returned), measures, pa.schema(columns))


FEATURES = {
    ir.BooleanValue: pa.bool_(),
    ir.IntegerValue: pa.int64(),
    ir.FloatingValue: pa.float64(),
    ir.TimestampValue: TIME,
    ir.StringValue: pa.string(),
}
"""What a feature may be, and how it is stored."""


def _feature_type(made: Transform, measures: list[Measure], name: Any, value: Any) -> pa.DataType:
    """The type in which a feature is stored; raises `FeatureError` for what is none."""
    which = f"Column {name!r} of view {made.name!r}"
    if not isinstance(name, str) or not name.isidentifier() or name in (made.entity, EVENT_TIMESTAMP, CREATED):
        raise FeatureError(
            f"{which} cannot have that name; use letters, digits and underscores, and not the name of the entity, "
            f"{EVENT_TIMESTAMP} or {CREATED}."
        )
    if not isinstance(value, ir.Value):
        raise FeatureError(
            f"{which} is {type(value).__name__}, not an Ibis expression; use statistics such as "
            "past.last(days=7).count()."
        )
    check_row_by_row(value, [measure.placeholder for measure in measures], which)
    for kind, stored in FEATURES.items():
        if isinstance(value, kind):
            return stored
    raise FeatureError(
        f"{which} is of type {value.type()}; features are whole numbers, float64, booleans, strings or times."
    )
