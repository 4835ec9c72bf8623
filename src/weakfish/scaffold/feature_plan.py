"""Which features a generated project starts with: of the past of each entity, and of the event in hand.

A proposal in; names, kinds and code out, which the templates of ``feature_repo/`` and ``validation/`` write down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from weakfish.rules.rule import literal as python
from weakfish.scaffold.literals import slug, unused
from weakfish.scaffold.proposal import Proposal
from weakfish.scaffold.survey import ColumnFacts

MOST = 8
"""Columns of a kind that become features; a team adds others by hand."""

VALUES = 4
"""Values of a category that become a feature each."""

LONGEST_NAME = 40
"""Characters of a column's name: longer ones do not fit a line of code."""

RESERVED = frozenset({"event_timestamp", "created"})
"""Columns of feature tables, which no entity, and no column of a request, can be named."""

COUNTS = ("events_1d", "events_7d", "events_30d", "events_before", "active_days_30d")


@dataclass(frozen=True)
class ViewPlan:
    """A view of an entity: ``others`` are pairs of another entity and the feature that counts its values."""

    name: str
    variable: str
    entity: str
    value_type: str
    others: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class KnownPlan:
    """Features of past labels of a task: how many were known, and shares, as pairs of class and feature."""

    count: str
    shares: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PastPlan:
    """All views, and what each has: means of ``numbers``, shares of ``flags``, past labels by task."""

    views: tuple[ViewPlan, ...]
    numbers: tuple[str, ...]
    flags: tuple[str, ...]
    labels: Mapping[str, KnownPlan]

    def counts(self, view: ViewPlan) -> list[str]:
        """Features that count."""
        return [*COUNTS, *(feature for _, feature in view.others), *(known.count for known in self.labels.values())]

    def shares(self) -> list[str]:
        """Features that are shares."""
        known = [feature for each in self.labels.values() for _, feature in each.shares]
        return [f"{name}_share_30d" for name in self.flags] + known


@dataclass(frozen=True)
class Feature:
    """A feature of the event in hand: its name, Feast's type, and the code that computes it."""

    name: str
    kind: str
    code: str


@dataclass(frozen=True)
class RequestPlan:
    """What is asked of the event in hand, as names and Feast's types, and the features made of it."""

    asked: tuple[tuple[str, str], ...]
    features: tuple[Feature, ...]
    times: bool


def plan_past(proposal: Proposal) -> PastPlan:
    """Views of the entities; without times or entities there are none."""
    entities = proposal.entities if proposal.views else ()
    taken: set[str] = set()
    views = tuple(_view(proposal, entity, taken) for entity in entities)
    columns = [column for column in _ordinary(proposal) if column.name not in proposal.entities]
    numbers = [column.name for column in columns if column.kind in ("integer", "number") and _adds_up(column)]
    flags = [column.name for column in columns if column.kind == "boolean"]
    names = {*COUNTS, *(f"{name}_share_30d" for name in flags), *(f"{name}_values_30d" for name in entities)}
    labels = {
        name: _known(f"known_{name}" if len(proposal.tasks) > 1 else "known", task.classes, names)
        for name, task in proposal.tasks.items()
    }
    return PastPlan(views, tuple(numbers[:MOST]), tuple(flags[:MOST]), labels)


def plan_request(proposal: Proposal) -> RequestPlan:
    """Features that are in no table: what the event itself says."""
    entities = proposal.entities if proposal.views else ()
    columns = [column for column in _ordinary(proposal) if column.name not in (*entities, *RESERVED)]
    asked: dict[str, str] = {}
    features: list[Feature] = []
    if proposal.time is not None:
        asked[proposal.time] = "UnixTimestamp"
        features += _of_time(bool(entities))
    taken = {feature.name for feature in features}
    for kinds in (("integer", "number"), ("boolean",), ("string",), ("time",) if proposal.time else ()):
        for column in [column for column in columns if column.kind in kinds][:MOST]:
            asked[column.name] = _TYPES[column.kind]
            features += [_named(feature, taken) for feature in _of_column(column)]
    if not features:
        asked[proposal.events_key] = "String"
        features.append(_length("key_length", proposal.events_key))
    return RequestPlan(tuple(asked.items()), tuple(features), proposal.time is not None)


_TYPES = {"integer": "Int64", "number": "Float64", "boolean": "Bool", "string": "String", "time": "UnixTimestamp"}


def _ordinary(proposal: Proposal) -> list[ColumnFacts]:
    """Columns that are neither key nor event time, have values, and whose names fit."""
    role = (proposal.key, proposal.time)
    return [
        column
        for column in proposal.columns
        if column.name not in role and column.nulls < column.rows and len(column.name) <= LONGEST_NAME
    ]


def _view(proposal: Proposal, entity: str, taken: set[str]) -> ViewPlan:
    others = tuple((other, f"{other}_values_30d") for other in proposal.entities if other != entity)
    kind = "INT64" if proposal.column(entity).kind == "integer" else "STRING"
    return ViewPlan(f"{entity}_activity", unused(f"{slug(entity, 'entity')}_activity", taken), entity, kind, others)


def _adds_up(column: ColumnFacts) -> bool:
    """Whether sums of the column stay within 64 bits; those of fractions are in millionths."""
    ends = [abs(end) for end in (column.least, column.greatest) if isinstance(end, int | float)]
    unit = 1 if column.kind == "integer" else 1_000_000
    return bool(ends) and max(ends) * unit * max(column.rows, 1) * 100 < 1 << 63


def _known(start: str, classes: Sequence[str], taken: set[str]) -> KnownPlan:
    """Classes whose share is a feature: of two the second, whose share tells that of the first; else each."""
    shown = classes[1:] if len(classes) == 2 else classes
    count = unused(f"{start}_labels_30d", taken)
    return KnownPlan(count, tuple((name, unused(f"{start}_{name}_share_30d", taken)) for name in shown))


def _of_time(of_entity: bool) -> list[Feature]:
    found = [
        Feature("hour_of_day", "Int64", '(at // 3600 % 24).astype("Int64")'),
        Feature("day_of_week", "Int64", '((at // 86400 + 3) % 7).astype("Int64")  # Monday is 0'),
    ]
    if of_entity:
        found += [
            Feature(f"hours_since_{end}_seen", "Float64", f'(at - seconds(inputs["{end}_seen_at"])) / 3600')
            for end in ("first", "last")
        ]
    return found


def _of_column(column: ColumnFacts) -> Iterable[Feature]:
    given, name = f"inputs[{python(column.name)}]", slug(column.name, "column")
    if column.kind == "time":
        return [Feature(f"hours_since_{name}", "Float64", f"(at - seconds({given})) / 3600")]
    if column.kind == "integer":
        return [Feature(f"{name}_value", "Int64", f'{given}.astype("Int64")')]
    if column.kind == "number":
        return [Feature(f"{name}_value", "Float64", f'{given}.astype("float64")')]
    if column.kind == "boolean":
        return [Feature(f"{name}_holds", "Bool", given)]
    frequent = [value for value, _ in column.frequent if len(value) <= LONGEST_NAME][:VALUES]
    if column.distinct > 10 * VALUES or not frequent:
        return [_length(f"{name}_length", column.name)]
    return [Feature(f"{name}_is_{slug(value)}", "Bool", f"{given} == {python(value)}") for value in frequent]


def _length(name: str, column: str) -> Feature:
    return Feature(name, "Int64", f'inputs[{python(column)}].fillna("").str.len().astype("Int64")')


def _named(feature: Feature, taken: set[str]) -> Feature:
    return Feature(unused(feature.name, taken), feature.kind, feature.code)
