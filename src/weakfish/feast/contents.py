"""What is to be published, or was: tables and definitions of the work tree, or of a revision."""

from __future__ import annotations

import re
import shutil
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import pyarrow.compute as pc
import yaml
from feast import FeatureStore, FeatureView

from weakfish.contracts.manifests import FeaturesManifest, read_manifest
from weakfish.contracts.pointers import SUFFIX as POINTER
from weakfish.contracts.pointers import named
from weakfish.contracts.publications import Marker
from weakfish.contracts.record import EVENT_TIMESTAMP, utc
from weakfish.contracts.tables import partitions, read_partition
from weakfish.errors import UserError
from weakfish.feast import probe
from weakfish.feast.encoding import view_name
from weakfish.files import whole_folder
from weakfish.project.dvc import Revision
from weakfish.project.params import PublishParams
from weakfish.project.paths import Project


@dataclass(frozen=True)
class Contents:
    """What is to be published, or was.

    Attributes
    ----------
    project
        The project whose registry and online store it is for.
    source
        The project that tables and definitions are read from: the same, or a revision of it somewhere else.
    version
        The hash of all that decides what is published.
    as_of
        The time that the store is to answer for.
    revision
        ``name`` and ``commit`` of what is gone back to; None for the work tree.
    """

    project: Project
    source: Project
    version: str
    as_of: datetime
    revision: dict[str, str] | None = None

    @classmethod
    def of_work_tree(cls, project: Project) -> Contents:
        """What lies in the work tree."""
        return cls(project, project, probe.expected_version(project), probe.as_of(project))

    @classmethod
    def of_marker(cls, project: Project, marker: Marker) -> Contents:
        """What is published, so that it can be compared; its version differs where tables or settings changed since."""
        as_of, revision = datetime.fromisoformat(marker.as_of), marker.revision
        if revision is None:
            return cls(project, project, probe.expected_version(project), as_of)
        return replace(at_revision(project, revision["commit"], revision["name"]), as_of=as_of, revision=revision)


def description(contents: Contents, store: FeatureStore, view: FeatureView) -> tuple[dict[str, Any], datetime | None]:
    """What the marker and the report say of a view, and the time of the first of its rows that is left for later.

    The description's ``version`` changes when the view's rows or its fields do. Rows ``until`` that time are the
    table's, which knows events or has a row so far; what is online with a later one was pushed by a service, and is
    not the publication's to change. Raises `TableError` when the table is missing or cut off.
    """
    table, as_of = str(view.batch_source.name), contents.as_of
    known = read_manifest(contents.source, FeaturesManifest, f"features/{table}")
    rows, ends = 0, list[tuple[datetime | None, datetime | None]]([(None, None)])
    for file in partitions(Path(view.batch_source.path)).values():
        times = read_partition(file, [EVENT_TIMESTAMP])[EVENT_TIMESTAMP]
        past, later = times.filter(pc.less_equal(times, as_of)), times.filter(pc.greater(times, as_of))
        rows += len(past)
        ends.append((pc.max(past).as_py(), pc.min(later).as_py()))
    last, first_later = ([utc(time) for time in times if time] for times in zip(*ends, strict=True))
    last_row = max(last, default=None)
    until = min(as_of, known.as_of) if known.as_of else as_of
    content: dict[str, Any] = {
        "table": table,
        "join_keys": sorted(view.join_keys),
        "features": [feature.name for feature in view.features],
        "types": {feature.name: str(feature.dtype) for feature in view.features},
        "data_version": known.data_version,
        "last_row_at": last_row.isoformat() if last_row else None,
        "rows": rows,
        "until": utc(max(until, last_row) if last_row else until).isoformat(),
    }
    if (name := view_name(view, store.config)) != view.name:
        content["online_name"] = name
    entities = [str(field.dtype) for field in view.entity_columns]
    content["version"] = probe.digest([probe.FORMAT, view.name, entities, content])
    return content, min(first_later, default=None)


def is_of_table(source: Project, view: FeatureView) -> bool:
    """Whether a view is over a feature table of the project, and not over Parquet of the team's own."""
    path, table = getattr(view.batch_source, "path", None), source.table("features") / str(view.batch_source.name)
    return isinstance(path, str) and (probe.repository(source) / path).resolve() == table.resolve()


DEFINED = re.compile(r"feature_repo/.*|params\.yaml|dvc\.yaml")
"""Files of a revision that decide what is published, as git has them."""


def folder(project: Project) -> Path:
    """Where the tables of revisions that were gone back to are."""
    return project.root / ".weakfish" / "rollback"


def at_revision(project: Project, name: str, called: str | None = None) -> Contents:
    """What the project would have published at a revision, as of the time that it said then.

    Parameters
    ----------
    called
        What people called the revision, where ``name`` is its commit.

    Raises
    ------
    UserError
        When git does not know the revision, DVC's cache no longer has its feature tables, or they cannot be published.
    """
    with closing(Revision(project, name)) as revision:
        home = folder(project) / revision.commit
        if not home.is_dir():
            with whole_folder(home) as part:
                _lay_out(revision, part)
        source = Project(home)
        today, then = (probe.settings(each)["project"] for each in (project, source))
        if today != then:
            raise UserError(f"At {revision.name} the Feast project was {then}, not {today}; name a later revision.")
        named = {"name": called or revision.name, "commit": revision.commit}
        version = probe.digest(["rollback", revision.commit, probe.FORMAT])
        return Contents(project, source, version, _as_of(source, revision), named)


def tidy(project: Project, marker: Marker) -> None:
    """Delete the tables of all revisions but the one that is published."""
    commit = marker.revision["commit"] if marker.revision else None
    for home in folder(project).glob("*"):
        if home.name != commit:
            shutil.rmtree(home, ignore_errors=True)


def _lay_out(revision: Revision, home: Path) -> None:
    """Write a revision's definitions, settings, feature tables and label manifests into an empty folder."""
    sources = {**revision.sources("*.py"), **revision.sources("*.yaml"), **revision.sources(".feastignore")}
    found = {path: content for path, content in sources.items() if DEFINED.fullmatch(path)}
    if not any(path.startswith("feature_repo/") for path in found):
        raise UserError(f"At {revision.name} there was no feature_repo; name a later revision.")
    paths = list(revision.files("features"))
    with suppress(UserError):  # a revision that had no labels
        paths += [path for path in revision.files("labels") if path.endswith(".manifest.json")]
    for path, content in found.items():
        _write(home / path, content)
    for path in paths:
        if path.endswith(POINTER):
            (home / "data" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(revision.fetched(path), named(home / "data" / path))
        else:
            _write(home / "data" / path, revision.bytes(path))


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _as_of(source: Project, revision: Revision) -> datetime:
    """The time that the revision's own settings say, whatever else stands in them that is not understood any more."""
    try:
        settings: Any = yaml.safe_load((source.root / "params.yaml").read_text(encoding="utf-8"))
        setting = PublishParams.model_validate(settings.get("publish") or {}).as_of
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise UserError(
            f"publish.as_of in params.yaml cannot be read at {revision.name} ({type(error).__name__}); name a later "
            "revision."
        ) from error
    return probe.as_of(source, setting)
