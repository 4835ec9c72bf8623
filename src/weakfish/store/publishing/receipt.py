"""What this machine remembers of the last audit of a publication: its result, and some rows for the probe to look up.

One JSON file per Feast project below ``.weakfish/published/``; whoever lacks it loses nothing but time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from weakfish.errors import TableError
from weakfish.files import read_json, write_json
from weakfish.project import Project


@dataclass(frozen=True)
class Receipt:
    """An audit of what was published as ``version``: whether it ``passed``, its result, keys of rows by view.

    ``marker`` is the digest of all that the store said of itself.
    """

    version: str
    marker: str
    audit: dict[str, Any]
    sample: Mapping[str, Sequence[bytes]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether all rows were as the feature tables have them."""
        return bool(self.audit.get("passed"))


def folder(project: Project) -> Path:
    """Where receipts are."""
    return project.root / ".weakfish" / "published"


def read(project: Project, name: str, marker: str) -> Receipt | None:
    """The receipt for what a Feast project published; None when there is none, or one for something else."""
    try:
        found = read_json(_file(project, name))
        sample = {view: [bytes.fromhex(key) for key in found_keys] for view, found_keys in found["sample"].items()}
        receipt = Receipt(found["version"], found["marker"], dict(found["audit"]), sample)
    except (TableError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return receipt if receipt.marker == marker else None


def write(project: Project, name: str, receipt: Receipt) -> None:
    """Remember an audit in the place of the last one."""
    sample = {view: [key.hex() for key in found] for view, found in receipt.sample.items()}
    content = {"version": receipt.version, "marker": receipt.marker, "audit": receipt.audit, "sample": sample}
    write_json(_file(project, name), content)


def _file(project: Project, name: str) -> Path:
    return folder(project) / f"{quote(name, safe='')}.json"
