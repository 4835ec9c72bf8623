"""Labels, features and training sets into Delta and Iceberg tables, whose rows are then those of ours.

Our Parquet files are put beside the table and registered, not rewritten. What is registered is named by its hash, so a
partition that did not change is neither copied nor registered again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from weakfish.contracts.gate import partition_hashes, require_open, table_version
from weakfish.contracts.manifests import feature_tables
from weakfish.contracts.storage import holds_secret
from weakfish.contracts.tables import open_partition, partitions
from weakfish.errors import ServiceError, TableError, UnknownName, UserError, WeakfishError, is_down, reason
from weakfish.exports.placing import local_folder
from weakfish.project.git import git_output
from weakfish.project.paths import Project

Format = Literal["delta", "iceberg"]

VERSION, REVISION = "weakfish.data_version", "weakfish.git_revision"
"""What the commits of an exported table say: the hash of our table's files, and our revision."""


@dataclass(frozen=True)
class OurTable:
    """A table of the project: its files by the name that they get, its columns, and what is to be said of it."""

    name: str
    files: Mapping[str, Path]
    schema: pa.Schema
    properties: Mapping[str, str]

    @property
    def plain_name(self) -> str:
        """The name without a slash: ``labels_fraud``."""
        return self.name.replace("/", "_")


@dataclass(frozen=True)
class Exported:
    """What became of an export.

    Attributes
    ----------
    table, address
        Our table's name, and what the other is called: its folder or address, or its name in a catalog.
    version
        That of the other table, which holds our rows: Delta's number, the number of Iceberg's snapshot.
    added, removed
        Files that came into the table and that went out of it; none where it held our rows already.
    """

    table: str
    address: str
    version: int
    added: int
    removed: int
    data_version: str

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return asdict(self)

    def sentence(self) -> str:
        """The same for people."""
        if not self.added and not self.removed:
            return f"{self.table}: {self.address} holds these rows already, in version {self.version}."
        removed = f", {self.removed:,} out of it" if self.removed else ""
        files = f"{self.added:,} file{'s' * (self.added != 1)} came into"
        return f"{self.table}: {files} {self.address}{removed}; version {self.version}."


def export(project: Project, tables: Sequence[str], to: Format, address: str) -> list[Exported]:
    """Bring tables elsewhere up to date: afterwards each holds the rows of ours, in one commit.

    Parameters
    ----------
    tables
        ``labels``, ``features`` and ``training`` stand for all of their kind, ``labels/<task>`` for one.
    address
        A folder or an object store's URI, or ``catalog.namespace`` of a catalog that pyiceberg knows.

    Raises
    ------
    CheckFailed
        When the gate of one is shut; then none is exported.
    UnknownName, TableError
        When there is no such table.
    UserError
        When the other table cannot be written.
    ServiceError
        When what keeps it does not answer.
    """
    if not address.strip():
        raise UserError("The address to export to is empty; name a folder, an object store's URI, or a catalog.")
    if holds_secret(address):
        raise UserError(
            "The address to export to must hold neither a user or password nor a query, for messages repeat it; put "
            "credentials into the environment."
        )
    local_folder(address)  # which refuses what no format can use
    names = [name for table in tables for name in named(project, table)]
    require_open(project, names)
    write = import_module(f"weakfish.exports.to_{to}").write
    return [write(_ours(project, name), address) for name in dict.fromkeys(names)]


def named(project: Project, table: str) -> list[str]:
    """The tables that a name means; raises `UnknownName` or, where none was made yet, `TableError`."""
    kind, _, name = table.partition("/")
    known = {kind: [f"{kind}/{task}" for task in project.params.tasks] for kind in ("labels", "training")}
    views = project.params.views
    known["features"] = feature_tables(project) if views is None else [f"features/{view}" for view in views]
    if kind not in known or (name and table not in known[kind]):
        every = [*known, *(name for names in known.values() for name in names)]
        raise UnknownName("table to export", table, every, "this project")
    if not known[kind]:
        raise TableError(f"There are no {kind} in this project; params.yaml names none.")
    return [table] if name else known[kind]


def _ours(project: Project, name: str) -> OurTable:
    folder = project.table(name)
    hashes = partition_hashes(project, name)
    files = {f"{partition}-{hashes[partition][:16]}.parquet": file for partition, file in partitions(folder).items()}
    schema = open_partition(next(iter(files.values()))).schema_arrow.remove_metadata()
    properties = {VERSION: table_version(project, name), "weakfish.table": name}
    if revision := git_output(project.root, "rev-parse", "HEAD"):
        properties[REVISION] = revision.strip()
    return OurTable(name, files, schema, properties)


def not_ours(address: str) -> UserError:
    """That a table is there which no export made, whose rows would be lost."""
    return UserError(f"{address} is a table that Weakfish did not make, and stays as it is; name another address.")


def cannot(address: str, error: BaseException) -> WeakfishError:
    """That a table cannot be written, as one sentence: of a service that does not answer, another kind."""
    if is_down(error):
        return ServiceError(
            f"{address} cannot be written, for its service does not answer ({reason(error)}); see that it runs and can "
            "be reached, and run this again."
        )
    return UserError(
        f"{address} cannot be written ({reason(error)}); correct the address, its permissions, or name another."
    )
