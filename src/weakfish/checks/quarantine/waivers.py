"""Bad rows that patches let in all the same: checks come in with all bad rows, and leave with those that count.

A waiver changes what follows from a check, not what it found: `Check.unexpected` stays, `Check.released` says how many
of these rows are let past, and `Check.rows` and the status are about the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.checks.check import Check, Rows, Status
from weakfish.checks.quarantine.find import no_such
from weakfish.checks.quarantine.patches import Patch, digest
from weakfish.checks.quarantine.repairs import StagedFiles
from weakfish.checks.rows import NAMELESS, hashes_of, names_of, sets_aside, together
from weakfish.errors import UserError
from weakfish.project import Project

Places = Mapping[str, Rows]
"""Rows by partition."""


@dataclass(frozen=True)
class Waived:
    """Checks after waivers, and an account of patches.

    ``released`` counts rows that no check sets aside any more, ``patches`` says what each patch did, in the form that
    the ledger has; rows 0 means that it touches none any more.
    """

    checks: list[Check]
    released: int
    repaired: int
    patches: list[dict[str, Any]]
    digest: str

    @property
    def notes(self) -> dict[str, Any]:
        """What goes with the mask, for `accept` to put into its ledger and to compare with the patches that it sees."""
        return {
            "released": self.released,
            "repaired": self.repaired,
            "patches": self.patches,
            "digest": self.digest,
        }

    @property
    def idle(self) -> list[str]:
        """Patches that touch no row any more."""
        return [patch["patch"] for patch in self.patches if not patch["rows"]]


def waive(project: Project, table: str, checks: Sequence[Check], files: StagedFiles) -> Waived:
    """Take out of each check the bad rows that a waiver lets past it.

    Raises
    ------
    UserError
        When a waiver names a check that does not exist, or that sets no rows aside.
    """
    patches = files.plan.patches
    by_name = {check.check: check for check in checks}
    free: dict[str, list[Places]] = {check.check: [] for check in checks}
    rows = dict(files.plan.rows)
    for patch in patches:
        found = []
        for rule in patch.rules:
            places = _released(project, patch, _row_check(patch, rule, by_name), files)
            free[rule].append(places)
            found.append(places)
        if patch.rules:
            rows[patch.name] = _count(_union(found))
    left = [_without(check, _union(free[check.check])) for check in checks]
    account = [{"patch": patch.name, "who": patch.who, "why": patch.why, "rows": rows[patch.name]} for patch in patches]
    return Waived(left, _let_in(left, free), files.plan.repaired, account, digest(project) if patches else "")


def _row_check(patch: Patch, rule: str, checks: Mapping[str, Check]) -> Check:
    if rule not in checks:
        raise no_such("check", rule, checks, f"the suite of {patch.table}, past which {patch.name} lets rows")
    check = checks[rule]
    if check.severity != "critical" or (check.unexpected is None and not check.error):
        raise UserError(
            f"{patch.name}: {rule} sets no rows aside, so it needs no waiver (only critical checks of rows do); "
            "take it out there."
        )
    return check


def _released(project: Project, patch: Patch, check: Check, files: StagedFiles) -> Places:
    """The bad rows of a check that a waiver lets past it."""
    if not sets_aside(check):
        return {}
    if patch.keys is None:
        only = patch.partitions or files
        return {partition: rows for partition, rows in check.rows.items() if partition in only}
    names = pa.array(patch.keys, pa.string())
    hashes = any(name.startswith(NAMELESS) for name in patch.keys)
    found = {}
    for partition, rows in check.rows.items():
        named = _bear(names_of(project, files[partition], rows), names)
        if hashes:
            named |= _bear(pa.array(hashes_of(files[partition], rows), pa.string()), names)
        if named.any():
            found[partition] = rows[named]
    return found


def _bear(of: pa.Array, names: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_in(of, names).to_numpy(zero_copy_only=False), np.bool_)


def _without(check: Check, released: Places) -> Check:
    count = _count(released)
    if not count:
        return check
    left = {part: np.setdiff1d(rows, released[part]) if part in released else rows for part, rows in check.rows.items()}
    left = {part: rows for part, rows in left.items() if len(rows)}
    return replace(check, rows=left, released=count, status=check.status if left else Status.PASSED)


def _let_in(left: Sequence[Check], free: Mapping[str, Sequence[Places]]) -> int:
    """Rows that were let past a check and that no other sets aside."""
    released = _union(places for of in free.values() for places in of)
    aside = _union(check.rows for check in left if sets_aside(check))
    return sum(len(np.setdiff1d(rows, aside.get(part, []))) for part, rows in released.items())


def _union(places: Iterable[Places]) -> dict[str, Rows]:
    of = list(places)
    return {part: together(found[part] for found in of if part in found) for part in sorted({p for f in of for p in f})}


def _count(places: Places) -> int:
    return sum(len(rows) for rows in places.values())
