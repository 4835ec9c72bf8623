"""What `weakfish publish` and `weakfish audit` print: outcomes and audits in, lines for people or JSON out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from weakfish.feast.audit import entity

if TYPE_CHECKING:
    from weakfish.feast.probe import Receipt
    from weakfish.feast.publish import Outcome


def of_publication(outcome: Outcome | None, as_json: bool) -> str:
    """A publication: what was written, or that nothing had to be.

    As JSON: ``changed``, and if so ``version``, ``as_of``, ``revision`` (``name``, ``commit``, or null) and ``rows``:
    per view those ``written``, ``unchanged``, ``removed``, and ``left`` as a service pushed them.
    """
    if as_json:
        said = {"changed": False} if outcome is None else {"changed": True, **outcome.as_json()}
        return json.dumps(said, indent=2, sort_keys=True)
    if outcome is None:
        return "Nothing changed: the online store holds what is to be published."
    marker = outcome.marker
    lines = [f"Published version {marker.version[:12]} as of {marker.as_of}, all rows audited"]
    for view, rows in outcome.counts.items():
        left = f", {rows.left:,} left that a service pushed" if rows.left else ""
        lines.append(
            f"  {view}: {rows.written:,} written, {rows.unchanged:,} unchanged, {rows.removed:,} removed{left}"
        )
    if marker.revision:
        name, commit = marker.revision["name"], marker.revision["commit"]
        lines.append(
            f"This is {name} (commit {commit[:7]}); the next `weakfish publish` brings back what lies in the work tree."
        )
    return "\n".join(lines)


def of_audit(receipt: Receipt, as_json: bool) -> str:
    """An audit: rows by kind for every view. JSON is what reports/publish.json says of it, with the ``version``."""
    if as_json:
        return json.dumps({"version": receipt.version, **receipt.audit}, indent=2, sort_keys=True, ensure_ascii=False)
    lines = [f"Version {receipt.version[:12]}, every entity and feature online and in the feature tables"]
    for view, found in receipt.audit["views"].items():
        counts = ", ".join(f"{count:,} {kind}" for kind, count in found["rows"].items() if count or kind == "equal")
        sample = found["sample"]
        lines.append(
            f"  {view}: {counts}; {sample['rows'] - sample['different']:,} of {sample['rows']:,} by plain Feast"
        )
        for kind, first in found["first"].items():
            lines.append(f"    {kind}: {'; '.join(map(entity, first))}")
    return "\n".join(lines)
