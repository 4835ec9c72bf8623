"""A git revision's definitions and feature tables, laid out as a project, to be published in the place of today's.

A revision goes in; its files come from git and from DVC's cache and are kept below ``.weakfish/rollback/``, since the
registry that is published names the tables there: historical features come from them until the next publication.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from weakfish.errors import UserError
from weakfish.feast import probe
from weakfish.feast.contents import Contents
from weakfish.files import whole_folder
from weakfish.project.params import PublishParams
from weakfish.project.paths import Project
from weakfish.project.revisions import Revision

DEFINED = ("feature_repo/*.py", "feature_repo/*.yaml", "params.yaml", "dvc.yaml")
"""What git has of a revision that decides what is published."""


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
    revision = Revision(project, name)
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


def tidy(project: Project, commit: str | None) -> None:
    """Delete the tables of all revisions but the one that is published."""
    for home in folder(project).glob("*"):
        if home.name != commit:
            shutil.rmtree(home, ignore_errors=True)


def _lay_out(revision: Revision, home: Path) -> None:
    """Write a revision's definitions, settings, feature tables and label manifests into an empty folder."""
    for pattern in DEFINED:
        for path, content in revision.sources(pattern).items():
            _write(home / path, content)
    if not (home / "feature_repo").is_dir():
        raise UserError(f"At {revision.name} there was no feature_repo; name a later revision.")
    for path in revision.files("features"):
        _write(home / "data" / path, revision.bytes(path))
    try:
        manifests = [path for path in revision.files("labels") if path.endswith(".manifest.json")]
    except UserError:
        manifests = []  # of a revision that had no labels
    for path in manifests:
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
    if isinstance(setting, datetime):
        return setting.replace(tzinfo=setting.tzinfo or UTC).astimezone(UTC)
    return datetime.now(UTC) if setting == "now" else probe.last_known(source)
