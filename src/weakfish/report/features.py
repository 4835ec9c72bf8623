"""What the page says of features: their tables, what of them is published and how fresh it is, what training took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from weakfish.report.feature_records import FeatureTable, Published, PublishedView, TrainingSet
from weakfish.report.inputs import Inputs
from weakfish.report.stages import Stop, outdated
from weakfish.report.versions import Version, versions


@dataclass(frozen=True)
class View:
    """One table of features.

    Attributes
    ----------
    name
        Of the view, which is that of its table.
    published
        What the online store got of it; None while nothing is published.
    behind
        Whether what is published is another version than the table.
    age
        Of the newest published row, at the time that the online store answers for.
    unknown
        The share of rows in training sets of which the view knows nothing; None without a training set.
    stale
        Whether the table is from an earlier run.
    """

    name: str
    table: FeatureTable
    published: PublishedView | None
    behind: bool
    age: timedelta | None
    unknown: float | None
    stale: bool

    @property
    def extent(self) -> str | None:
        """The first and the last partition."""
        names = sorted(self.table.partitions)
        return None if not names else names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


@dataclass(frozen=True)
class Column:
    """A feature of a training set, and the share of rows in which it is null."""

    name: str
    kind: str
    unknown: float | None


@dataclass(frozen=True)
class Training:
    """A training set.

    Attributes
    ----------
    behind
        Tables of which it holds another version than the one that lies there.
    out
        The version of all training sets in ``dvc.lock``; None without one.
    """

    name: str
    made: TrainingSet
    behind: list[str]
    out: Version | None
    stale: bool

    @property
    def settings(self) -> str:
        """The settings of the label model, in words."""
        flat = {name: value for name, value in self.made.label_model.items() if isinstance(value, str | int | float)}
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sorted(flat.items()))

    @property
    def columns(self) -> list[Column]:
        """Its features, by name."""
        return [Column(name, kind, _share(self.made, name)) for name, kind in self.made.columns.items()]


def views(inputs: Inputs, stop: Stop | None) -> list[View]:
    """The tables of features, by name."""
    stale = outdated(inputs, stop, "features")
    return [_view(inputs, name, table, stale) for name, table in sorted(inputs.features.items())]


def published(inputs: Inputs, stop: Stop | None) -> tuple[Published, bool] | None:
    """What is published, and whether that is from an earlier run; None while nothing is."""
    return (inputs.published, outdated(inputs, stop, "publish")) if inputs.published else None


def trainings(inputs: Inputs, stop: Stop | None) -> list[Training]:
    """The training sets, by task."""
    stale = outdated(inputs, stop, "training_set")
    out = next((out for out in versions(inputs) if out.path == "data/training"), None)
    return [Training(name, made, _behind(inputs, made), out, stale) for name, made in sorted(inputs.training.items())]


def duration(age: timedelta | None) -> str:
    """A duration to the hour, or to the day where it is longer than two."""
    if age is None:
        return "–"
    hours = age / timedelta(hours=1)
    return f"{hours / 24:,.0f} days" if hours >= 48 else f"{hours:.0f} hours"


def _view(inputs: Inputs, name: str, table: FeatureTable, stale: bool) -> View:
    found = inputs.published.views.get(name) if inputs.published else None
    as_of = inputs.published.as_of if inputs.published else None
    age = as_of - found.last_row_at if found and found.last_row_at and as_of else None
    behind = bool(found and found.data_version and found.data_version != table.data_version)
    return View(name, table, found, behind, age, _unknown(inputs, name), stale)


def _unknown(inputs: Inputs, view: str) -> float | None:
    """Of the features of a view the one that is known most often says where nothing is known."""
    shares = [
        _share(made, column)
        for made in inputs.training.values()
        for column in made.columns
        if column.startswith(f"{view}__")
    ]
    return min((share for share in shares if share is not None), default=None)


def _share(made: TrainingSet, column: str) -> float | None:
    return made.nulls.get(column, 0) / made.rows if made.rows else None


def _behind(inputs: Inputs, made: TrainingSet) -> list[str]:
    now = {f"features/{name}": table.data_version for name, table in inputs.features.items()}
    now |= {name: verdict.data_version for name, verdict in inputs.verdicts.items() if name.startswith("labels/")}
    return [name for name, version in sorted(made.data.items()) if now.get(name) and now[name] != version]
