"""Features on the page: each view offline and online, what the audit of the online store found, training sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from weakfish.contracts.manifests import FeaturesManifest, TrainingManifest
from weakfish.contracts.publications import AuditCounts, AuditedView, PublishedView
from weakfish.report.inputs import RunRecords, Version
from weakfish.report.wording import beyond, count, figure, is_psi, subject

BAD = ("missing", "stale", "different", "unexpected")
KINDS = ("equal", *BAD, "newer")


def is_bad(audited: AuditedView) -> bool:
    """Whether anything online differs from the feature table."""
    return bool(_bad(audited.rows) or audited.sample.different)


def worst_first(features: Mapping[str, AuditCounts]) -> list[tuple[str, AuditCounts]]:
    """The features by name, those that are not all equal first."""
    return sorted(features.items(), key=lambda item: (not _bad(item[1]), item[0]))


def first_entities(audited: AuditedView) -> list[tuple[str, list[str]]]:
    """The first entities of each kind that is not equal, as texts."""
    found = [(kind, audited.first.get(kind, [])) for kind in (*BAD, "newer")]
    found.append(("read differently by plain Feast", list(audited.sample.first)))
    return [
        (kind, [", ".join(f"{key}={value}" for key, value in entity.items()) for entity in first])
        for kind, first in found
        if first
    ]


def audit_failure(records: RunRecords) -> str | None:
    """What the audit found in the last run, as a sentence; None when all is well, or the stage itself says so."""
    audit = records.published.audit if records.published else None
    if audit is None or audit.passed or records.outdated("publish"):
        return None
    said = []
    for name, view in sorted(audit.views.items()):
        if is_bad(view):
            kinds = [f"{number:,} {kind}" for kind in BAD if (number := getattr(view.rows, kind))]
            other = view.sample.different
            kinds += [f"{count(other, 'row')} read differently by plain Feast"] if other else []
            said.append(f"{name}: {', '.join(kinds)}")
    return f"The online store does not hold what the feature tables say ({'; '.join(said)})."


def _bad(counts: AuditCounts) -> int:
    return sum(getattr(counts, kind) for kind in BAD)


@dataclass(frozen=True)
class ViewRow:
    """One table of features.

    Attributes
    ----------
    published
        What the online store got of it; None while nothing is published.
    behind
        Whether what is published is another version than the table.
    age
        Of the newest published row, at the time that the online store answers for.
    unknown
        The share of rows in training sets of which the view knows nothing; None without a training set.
    """

    name: str
    table: FeaturesManifest
    published: PublishedView | None
    behind: bool
    age: timedelta | None
    unknown: float | None


def views(records: RunRecords) -> list[ViewRow]:
    """The tables of features, by name."""
    found = []
    for name, table in sorted(records.features.items()):
        online = records.published.views.get(name) if records.published else None
        as_of = records.published.as_of if records.published else None
        # The feature of a view that is known most often says where nothing is known.
        nulls = [
            made.nulls.get(column, 0) / made.rows
            for made in records.training.values()
            for column in made.columns
            if made.rows and column.startswith(f"{name}__")
        ]
        found.append(
            ViewRow(
                name,
                table,
                online,
                behind=bool(online and online.data_version and online.data_version != table.data_version),
                age=as_of - online.last_row_at if online and online.last_row_at and as_of else None,
                unknown=min(nulls, default=None),
            )
        )
    return found


def moves(records: RunRecords, view: str) -> list[tuple[str, float, str]]:
    """The features of a view that were compared with the baseline: how far each moved, 1 being its limit, in words too.

    Those that moved most come first.
    """
    verdict = records.verdicts.get(f"features/{view}")
    psi = [check for check in verdict.checks if is_psi(check)] if verdict else []
    found = [
        (subject(check), beyond(check), f"{subject(check)}: PSI {figure(check.value)}, limit {figure(check.threshold)}")
        for check in psi
    ]
    return sorted(found, key=lambda feature: (-feature[1], feature[0]))


@dataclass(frozen=True)
class TrainingSet:
    """A training set: its manifest, the settings of its label model in words, and the version of all in ``dvc.lock``.

    ``behind`` are the tables of which it holds another version than the one that lies there.
    """

    name: str
    made: TrainingManifest
    settings: str
    behind: list[str]
    out: Version | None


def trainings(records: RunRecords) -> list[TrainingSet]:
    """The training sets, by task."""
    now: dict[str, str | None] = {f"features/{name}": table.data_version for name, table in records.features.items()}
    now |= {name: verdict.data_version for name, verdict in records.verdicts.items() if name.startswith("labels/")}
    out = next((out for out in records.versions() if out.path == "data/training"), None)
    found = []
    for task, made in sorted(records.training.items()):
        model = {name: value for name, value in made.label_model.items() if isinstance(value, str | int | float)}
        settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sorted(model.items()))
        behind = [name for name, version in sorted(made.data.items()) if now.get(name) and now[name] != version]
        found.append(TrainingSet(task, made, settings, behind, out))
    return found
