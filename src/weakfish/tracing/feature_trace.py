"""One value of a feature, traced: the row that holds it, the events and labels behind it, and what these make of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from weakfish.contracts.gate import partition_hashes, version_of
from weakfish.contracts.hashes import hashes_of
from weakfish.contracts.manifests import (
    TRAINING,
    FeaturesManifest,
    VotesManifest,
    read_manifest,
)
from weakfish.contracts.publications import PUBLICATIONS
from weakfish.contracts.record import EPOCH, utc
from weakfish.contracts.tables import KNOWN_AT, partitions, read_partition
from weakfish.contracts.votes_file import ABSTAIN, fingerprint, read_votes, votes_file
from weakfish.errors import TableError, UnknownName, UserError
from weakfish.features.views import MODULE, Measure, View, declared_views, load_transforms
from weakfish.files import sha256
from weakfish.project.paths import Project
from weakfish.tracing.made_by import code_place, raw_data, revision
from weakfish.tracing.past import PARTITION, POSITION, QUESTION, WHEN, EntityAt, PastRows, measured, pick
from weakfish.tracing.recompute import from_rows
from weakfish.tracing.served import FeatureRow, ServedRow, entity_value, online, published_as_of, row_at

SEPARATOR = "__"
"""Between the names of a view and of a feature, as Feast writes them in full."""


def trace_feature(project: Project, entity: str, text: str, feature: str, at: datetime | None = None) -> dict[str, Any]:
    """A value of ``feature`` (``<view>__<feature>``) and what made it, as `weakfish trace --json` prints it.

    Parameters
    ----------
    entity, text
        The column that the view is about, and the entity in it.
    at
        The time at which the value is asked for, UTC: what training joins to an event of then. Without it, what is
        served now.

    Raises
    ------
    UnknownName
        When there is no such feature.
    UserError
        When the view is about something else, or there is no such entity or no row at that time.
    TableError
        When a stage never ran, or the events behind the value are gone.
    """
    view, name = _named(project, feature)
    if entity != view.entity:
        raise UserError(f"{feature} is about a {view.entity}, not a {entity}; write {view.entity}=VALUE.")
    manifest = read_manifest(project, FeaturesManifest, f"features/{view.name}")
    if name not in manifest.features:
        raise TableError(f"data/features/{view.name} was made without {name!r}; run `weakfish run features`.")
    _require_history(project, view, manifest)
    value = entity_value(view, text)
    answered = online(project, view, text) if at is None else None
    asked = at or (datetime.fromisoformat(answered.as_of) if answered else published_as_of(project, view))
    if answered and answered.at and answered.at > asked:
        raise UserError(
            f"What is served of {view.entity} {text!r} was pushed by a service ({answered.at.isoformat()}), after the "
            f"publication as of {answered.as_of}; the events behind it are not in this project."
        )
    row = row_at(project, view, value, asked)
    return _Trace(project, view, name, value, row, _last_boundary(project, manifest, asked), answered, at).found()


def _named(project: Project, feature: str) -> tuple[View, str]:
    """The view and the name of a feature."""
    views, where = declared_views(project), f"{MODULE.replace('.', '/')}.py"
    named = [view for view in views.values() if feature.startswith(f"{view.name}{SEPARATOR}")]
    if not named:
        raise UnknownName(
            "view", feature.partition(SEPARATOR)[0], views, f"{where} (what is computed on request has no past)"
        )
    view = max(named, key=lambda each: len(each.name))
    name = feature.removeprefix(f"{view.name}{SEPARATOR}")
    if name not in view.features:
        raise UnknownName("feature", name, view.features, f"view {view.name!r} of {where}")
    return view, name


def _require_history(project: Project, view: View, manifest: FeaturesManifest) -> None:
    """Raise `TableError` unless the events and known labels that made a view are those that lie there."""
    here = {"events": version_of(partitions(project.table("events")))}
    for task in dict.fromkeys(measure.task for measure in view.measures if measure.task):
        here[task] = version_of(partitions(project.data / "known_labels" / task))
    made = {"events": manifest.sources.get("events"), **manifest.sources.get("known_labels", {})}
    for name, version in here.items():
        if made.get(name) != version:
            what = "events" if name == "events" else f"known labels of {name}"
            raise TableError(
                f"data/features/{view.name} was made of other {what} (version {str(made.get(name))[:12]}) than lie "
                f"there now ({version[:12]}), so what is behind its values is gone; run `weakfish run features`, or "
                "check out the version that it was made of."
            )


def _last_boundary(project: Project, manifest: FeaturesManifest, asked: datetime) -> datetime:
    """The last boundary that is not after a time, and that features know."""
    step = timedelta(hours=project.params.features.boundary_hours)
    return EPOCH + (min(asked, manifest.as_of or asked) - EPOCH) // step * step


class _Trace:
    """What there is to say of a value, put together."""

    def __init__(
        self,
        project: Project,
        view: View,
        name: str,
        entity: Any,
        row: FeatureRow,
        until: datetime,
        answered: ServedRow | None,
        at: datetime | None,
    ) -> None:
        self.project, self.view, self.name, self.entity = project, view, name, entity
        self.row, self.until, self.online, self.at = row, max(until, row.at), answered, at
        self.measures = measured(view, [name])
        questions = [EntityAt(entity, row.at), EntityAt(entity, self.until)]
        picked = pick(project, view, self.measures, questions)
        made = from_rows(view, picked, len(questions), [name])
        self.recomputed, self.later = (each[name] for each in made)
        self.picked = {task: PastRows(of.rows.filter(_first(of.rows)), of.time) for task, of in picked.items()}

    def found(self) -> dict[str, Any]:
        stored = self.row.values[self.name]
        differs = self._differs(stored)
        return {
            "feature": f"{self.view.name}{SEPARATOR}{self.name}",
            "view": self.view.name,
            "entity": {self.view.entity: plain(self.entity)},
            "asked_at": plain(self.at),
            "value": plain(stored),
            "row": {"at": plain(self.row.at), "file": f"data/features/{self.view.name}/{self.row.partition}.parquet"},
            "recomputed": plain(self.recomputed),
            "holds_until": plain(self.until),
            "equal": not differs,
            "differs": differs,
            "online": self._online(),
            "windows": list({(each.task, each.hours): self._window(each) for each in self.measures}.values()),
            "transform": self._transform(),
            "functions": {task: self._functions(task) for task in self.picked if task},
            **self._rows(),
            "versions": self._versions(),
        }

    def _online(self) -> dict[str, Any] | None:
        if self.online is None:
            return None
        said = {name: value for name, value in asdict(self.online).items() if name != "values"}
        return {**said, "at": plain(self.online.at), "value": self.online.values.get(self.name)}

    def _differs(self, stored: Any) -> list[str]:
        """How what was recomputed, stored and served differ, a sentence each."""
        said = []
        if self.recomputed != stored:
            said.append(f"The row says {plain(stored)}, and its events make {plain(self.recomputed)}.")
        elif self.later != stored:
            said.append(
                f"The events make {plain(self.later)} at {plain(self.until)}, and no row is newer than "
                f"{plain(self.row.at)}."
            )
        if self.online is not None:
            served = self.online.values.get(self.name)
            if self.online.at is None:
                said.append(f"The online store has no such {self.view.entity} ({self.online.status}).")
            elif self.online.at != self.row.at or served != plain(_as_served(stored)):
                said.append(
                    f"The online store serves {served} of {plain(self.online.at)}, and the table says "
                    f"{plain(stored)} of {plain(self.row.at)}; {_why_other(self.online)}"
                )
        return said

    def _window(self, measure: Measure) -> dict[str, Any]:
        """A window that the feature looks at, and how many rows are in it."""
        when = self.picked[measure.task].rows[WHEN].to_numpy()
        start = None if measure.hours is None else self.row.at - timedelta(hours=measure.hours)
        inside = when if start is None else when[when >= (start - EPOCH) // timedelta(microseconds=1)]
        return {
            "of": "events" if measure.task is None else f"known labels of {measure.task}",
            "time": self.picked[measure.task].time,
            "hours": measure.hours,
            "since": plain(start),
            "until": plain(self.row.at),
            "rows": len(inside),
        }

    def _transform(self) -> dict[str, Any]:
        """Where the view is written, and whether that was edited since its rows were made."""
        function = next(each.function for each in load_transforms(self.project) if each.name == self.view.name)
        place = code_place(self.project.root, function.__module__, function.__name__)
        made = read_manifest(self.project, FeaturesManifest, f"features/{self.view.name}").sources
        edited = made.get("transforms_sha256") != sha256(self.project.root / "feature_repo/transforms.py")
        return {**place, "edited_since": edited}

    def _functions(self, task: str) -> list[dict[str, Any]]:
        """The labeling functions that voted on the events of labels, with how often for what."""
        made = read_manifest(self.project, VotesManifest, f"votes/{task}").functions
        names, classes = sorted(made), self.project.task(task).classes
        counts: dict[str, Counter[str]] = {name: Counter() for name in names}
        rows, key = self.picked[task].rows, self.project.params.events.key
        for partition in sorted(set(rows[PARTITION].to_pylist())):
            keys = read_partition(self.project.table("events") / f"{partition}.parquet", [key])[key]
            votes = read_votes(votes_file(self.project, task, partition), names, fingerprint(keys))
            here = np.array([each == partition for each in rows[PARTITION].to_pylist()])
            mine = votes.take(rows[POSITION].to_numpy()[here])
            for name in names:
                counts[name].update(classes[v] for v in mine[name].to_pylist() if v is not None and v != ABSTAIN)
        return [
            {**code_place(self.project.root, made[name].module, name), "votes": dict(sorted(counts[name].items()))}
            for name in names
            if counts[name]
        ]

    def _rows(self) -> dict[str, Any]:
        """The events and labels behind the value, with their places."""
        key = self.project.params.events.key
        keys = {value for of in self.picked.values() for value in of.rows[key].to_pylist()}
        raw = raw_data(self.project, keys)
        found: dict[str, Any] = {"events": [], "labels": {}, "raw_unknown": raw.unknown}
        for task, of in self.picked.items():
            rows = [
                {
                    "key": row[key],
                    "time": plain(row[self.project.params.events.time]),
                    "file": f"data/events/{row[PARTITION]}.parquet",
                    "row": row[POSITION] + 1,
                    "raw": raw.of(row[key]),
                    **_label(row),
                }
                for row in of.rows.sort_by([(WHEN, "ascending"), (key, "ascending")]).to_pylist()
            ]
            if task is None:
                found["events"] = rows
            else:
                found["labels"][task] = rows
        return found

    def _versions(self) -> dict[str, Any]:
        """Of code, tables and partitions."""
        table = f"features/{self.view.name}"
        partition = self.row.partition
        trained = {task: TRAINING.read(self.project, task).data.get(table) for task in TRAINING.files(self.project)}
        manifest = read_manifest(self.project, FeaturesManifest, table)
        files = partitions(self.project.table(table))
        used = sorted({each for of in self.picked.values() for each in of.rows[PARTITION].to_pylist()})
        events = partition_hashes(self.project, "events")
        return {
            "revision": revision(self.project),
            "table": {"version": manifest.data_version, "as_of": plain(manifest.as_of)},
            "partition": {"name": partition, "sha256": hashes_of({partition: files[partition]})[partition]},
            "events": {"version": manifest.sources.get("events"), "partitions": {name: events[name] for name in used}},
            "known_labels": {task: manifest.sources["known_labels"][task] for task in self.picked if task},
            "publication": self._publication(manifest.data_version),
            "training_sets": {task: it == manifest.data_version for task, it in trained.items() if it is not None},
        }

    def _publication(self, version: str) -> dict[str, Any] | None:
        """What was published last, and whether that was this table; None where nothing was."""
        if not PUBLICATIONS.file(self.project, "publish").is_file():
            return None
        last = PUBLICATIONS.read(self.project, "publish")
        of_view = last.views.get(self.view.name)
        same = of_view is not None and of_view.data_version == version
        return {"version": last.version, "as_of": plain(last.as_of), "same_table": same}


def _first(rows: pa.Table) -> pa.Array:
    """Which rows were picked for the first question."""
    return pa.array(rows[QUESTION].to_numpy() == 0)


def _label(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a known label says, of a row that is one."""
    if KNOWN_AT not in row:
        return {}
    shares = {name.removeprefix("p_"): share for name, share in row.items() if name.startswith("p_")}
    return {"known_at": plain(row[KNOWN_AT]), "probabilities": shares, "fitted_through": row["fitted_through"]}


def _why_other(online: ServedRow) -> str:
    """Why the online store may say something else than the table."""
    if online.revision:
        return f"it was rolled back to {online.revision.get('name')}."
    return "`weakfish audit` compares all rows, `weakfish publish` brings it up to date."


def _as_served(value: Any) -> Any:
    """A value as the online store can hold it: times to the second."""
    return value.replace(microsecond=0) if isinstance(value, datetime) else value


def plain(value: Any) -> Any:
    """A value of what JSON has: times as ISO, UTC, and as text what has no kind of its own there."""
    if isinstance(value, datetime):
        return utc(value).astimezone(UTC).isoformat()
    return value if isinstance(value, bool | int | float | str | None) else str(value)
