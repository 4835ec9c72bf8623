"""What moves when a table is accepted: its rows, the columns that differ most from before, checks that changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from weakfish.checks.baseline import Baseline, Entry, rounded
from weakfish.checks.change import bins_of
from weakfish.checks.label_checks import through as rules_through
from weakfish.checks.rates import shift
from weakfish.checks.repairs import staged_files
from weakfish.checks.reported import data_version as version_of_metrics
from weakfish.checks.reported import metrics_of
from weakfish.contracts.ledgers import read_runs
from weakfish.contracts.tables import UNDATED
from weakfish.contracts.verdicts import Status, verdict_file
from weakfish.engine.profile import Profile, read_profile
from weakfish.errors import CheckFailed, TableError, UnknownName, UserError, WeakfishError
from weakfish.files import read_json
from weakfish.project.paths import Project
from weakfish.project.runs import locked
from weakfish.project.stages import gates

COLUMNS_SHOWN, CHECKS_SHOWN = 5, 8
"""How many are told to people; JSON has all."""

MOVED = 0.01
"""PSI of a column from where on it is said to have moved."""


@dataclass(frozen=True)
class Move:
    """What became of one table's entry.

    Attributes
    ----------
    state
        ``new``, ``moved``, ``same``, or ``left``: then the entry stays as it was, for a reason.
    columns
        PSI between what is accepted now and what was, the largest first.
    checks
        Status before (None: there was no such check) and now (None: there is none any more).
    """

    table: str
    state: str
    through: str | None = None
    rows: int | None = None
    rows_before: int | None = None
    columns: Sequence[tuple[str, float]] = ()
    checks: Sequence[tuple[str, str | None, str | None]] = ()
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The move as JSON."""
        columns = [{"column": column, "psi": psi} for column, psi in self.columns]
        checks = [{"check": check, "before": before, "now": now} for check, before, now in self.checks]
        return {**asdict(self), "columns": columns, "checks": checks}


def moved(table: str, before: Entry | None, now: Entry | None, reason: str | None) -> Move:
    """Compare a table's entry with the one before; without a new one, the reason says why."""
    if now is None:
        return Move(table, "left", reason=reason)
    state = "new" if before is None else "same" if before.as_json() == now.as_json() else "moved"
    rows = sum(now.rows.values()) if now.rows else None
    rows_before = sum(before.rows.values()) if before and before.rows else None
    columns, checks = _columns(before, now), list(_checks(before, now))
    return Move(table, state, now.through, rows, rows_before, columns, checks)


def _columns(before: Entry | None, now: Entry) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, column in now.columns.items():
        earlier = before.columns.get(name) if before else None
        bins = bins_of(column, earlier) if earlier and earlier.type == column.type else None
        psi = shift(bins.now, bins.accepted).psi if bins else 0.0
        if psi >= MOVED:
            found.append((name, rounded(psi)))
    return sorted(found, key=lambda item: (-item[1], item[0]))


def _checks(before: Entry | None, now: Entry) -> Iterator[tuple[str, str | None, str | None]]:
    if before is None:
        return
    for name in sorted({*before.checks, *now.checks}):
        statuses = [entry.checks[name]["status"] if name in entry.checks else None for entry in (before, now)]
        if statuses[0] != statuses[1]:
            yield name, statuses[0], statuses[1]


def sentences(moves: Sequence[Move]) -> Iterator[str]:
    """The moves as lines for people."""
    for move in moves:
        yield _headline(move)
        if move.columns:
            columns = [f"{column} (PSI {psi:.2g})" for column, psi in move.columns]
            yield f"  moved most: {_listed(columns, COLUMNS_SHOWN)}"
        changed = [f"{check} {now or 'gone'} (was {was or 'not there'})" for check, was, now in move.checks]
        if changed:
            yield f"  checks: {_listed(changed, CHECKS_SHOWN)}"


def _headline(move: Move) -> str:
    if move.state == "left":
        return f"{move.table}: unchanged: {move.reason}."
    if move.state == "same":
        return f"{move.table}: the same as before."
    until = f" through {move.through}" if move.through else ""
    if move.rows is None:
        return f"{move.table}: accepted."
    was = "" if move.rows_before is None else f", {move.rows_before:,} before"
    return f"{move.table}: accepted{until}, {move.rows:,} rows{was}."


def _listed(items: Sequence[str], shown: int) -> str:
    more = f"; {len(items) - shown} more" if len(items) > shown else ""
    return "; ".join(items[:shown]) + more


EVALUATION = "evaluation/"
"""Tables of metrics: they have neither rows nor a profile."""

NOT_HELD = (Status.FAILED, Status.WARNED, Status.QUARANTINED)

NOTHING_ACCEPTED = "baseline"
"""The check that says so is gone as soon as something is."""


@dataclass(frozen=True)
class _Checked:
    """A table with a verdict on what lies there."""

    verdict: Mapping[str, Any]
    profile: Profile | None
    more: Mapping[str, Any]


def accept_baseline(project: Project, tables: Sequence[str] = (), through: str | None = None) -> list[Move]:
    """Accept tables, by default all, and say what moved.

    Parameters
    ----------
    through
        The last partition to accept; later ones stay new.

    Raises
    ------
    UnknownName
        For a table without a suite, or a partition that no table has.
    CheckFailed
        When a verdict failed for other reasons than the baseline, when one is about other data than lies there, or
        when a stage of the last run failed.
    UserError
        When a verdict is missing, or the baseline is malformed.
    Busy
        While the pipeline is at work.
    """
    with locked(project, "run"):
        known = _known(project)
        unknown = next((table for table in tables if table not in known), None)
        if unknown is not None:
            raise UnknownName("table with a suite", unknown, known, "validation/")
        verdicts = {
            table: read_json(verdict_file(project, table)) for table in known if verdict_file(project, table).exists()
        }
        shut = _require_good(project, known, verdicts)
        before = Baseline.read(project)
        checked, left = _checked(project, tables or known, verdicts, may_leave=shut and not tables)
        _require_partition(through, checked)
        after = dict(before.tables)
        for table, found in checked.items():
            entry = _entry(found, through)
            if found.profile is not None and not entry.rows:
                left[table] = f"it has no partition up to {through}"
            else:
                after[table] = entry
        Baseline(dict(sorted(after.items()))).write(project)
        new = {table: after[table] for table in checked if table not in left}
        return [
            moved(table, before.table(table), new.get(table), left.get(table)) for table in sorted({*checked, *left})
        ]


def _known(project: Project) -> list[str]:
    """The tables that have a suite or a verdict, and the metrics that have a verdict."""
    metrics = (f"{EVALUATION}{task}" for task in project.params.tasks)
    judged = (table for table in (*project.params.tables, *metrics) if verdict_file(project, table).exists())
    return sorted({*project.suites(), *judged})


def _require_good(project: Project, known: Sequence[str], verdicts: Mapping[str, Any]) -> bool:
    """Whether a gate is shut by differences from the baseline alone; whatever else failed is refused."""
    for table, verdict in verdicts.items():
        failed = [
            check["check"] for check in verdict["checks"] if _is(check, Status.FAILED) and not _by_baseline(check)
        ]
        if failed:
            raise CheckFailed(
                f"The verdict on {table} failed for reasons other than the baseline: {'; '.join(failed)}; "
                "nothing is accepted until this is fixed; then run `weakfish run` again."
            )
    gated = gates(known)
    shut = False
    for stage, run in read_runs(project).items():
        if run.exit_code == 0:
            continue
        if run.exit_code != CheckFailed.exit_code or not _shut_by_baseline(verdicts.get(gated.get(stage, ""))):
            state = "has not ended" if run.exit_code is None else "failed"
            raise CheckFailed(
                f"Stage {stage} {state}; a baseline comes from a good run: fix it and run `weakfish run`."
            )
        shut = True
    return shut


def _shut_by_baseline(verdict: Mapping[str, Any] | None) -> bool:
    """Whether all that keeps a gate shut is the baseline: failed checks, or without any, those that warned."""
    checks = verdict["checks"] if verdict else []
    worst = [check for check in checks if _is(check, Status.FAILED)] or [c for c in checks if _is(c, *NOT_HELD)]
    return bool(worst) and all(_by_baseline(check) for check in worst)


def _is(check: Mapping[str, Any], *statuses: Status) -> bool:
    return check["status"] in statuses


def _by_baseline(check: Mapping[str, Any]) -> bool:
    return bool(check["against_baseline"]) and not check["error"]


def _checked(
    project: Project, tables: Sequence[str], verdicts: Mapping[str, Any], may_leave: bool
) -> tuple[dict[str, _Checked], dict[str, str]]:
    """The tables with a verdict on what lies there; and why the others have none, where they may be left alone."""
    found: dict[str, _Checked] = {}
    left: dict[str, str] = {}
    for table in tables:
        try:
            found[table] = _current(project, table, verdicts.get(table))
        except WeakfishError as error:
            if not may_leave:
                raise
            left[table] = str(error).split(";")[0].rstrip(".")
    return found, left


def _current(project: Project, table: str, verdict: Mapping[str, Any] | None) -> _Checked:
    if verdict is None:
        raise UserError(f"There is no verdict on {table} yet; run `weakfish run`, which makes it.")
    if table.startswith(EVALUATION):
        _require_same(table, verdict, version_of_metrics(project), "verdict")
        return _Checked(verdict, None, {"metrics": metrics_of(project, table.removeprefix(EVALUATION))})
    with staged_files(project, table) as files:
        _require_same(table, verdict, files.version, "verdict")
    profile = read_profile(project, table)
    _require_same(table, profile, verdict["data_version"], "profile")
    try:
        return _Checked(verdict, Profile.parse(profile["profile"]), {"rules": profile.get("rules")})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TableError(f"{project.profile(table)} is not a profile; run `weakfish validate {table}`.") from error


def _require_same(table: str, content: Mapping[str, Any], version: str, what: str) -> None:
    if content["data_version"] != version:
        raise CheckFailed(
            f"The {what} of {table} is about different data than the table holds now; run `weakfish run`, "
            "which validates it again."
        )


def _require_partition(through: str | None, checked: Mapping[str, _Checked]) -> None:
    known = {name for found in checked.values() if found.profile for name in found.profile.partitions} - {UNDATED}
    if through is not None and through not in known:
        raise UnknownName("partition", through, known, "the tables to accept")


def _entry(found: _Checked, through: str | None) -> Entry:
    verdict, more = found.verdict, dict(found.more)
    if more.get("rules") is not None:
        more["rules"] = rules_through(more["rules"], through)
    checks = {
        check["check"]: {"status": check["status"], "value": check["value"]}
        for check in verdict["checks"]
        if check["check"] != NOTHING_ACCEPTED
    }
    same = {"data_version": verdict["data_version"], "verdict": verdict["verdict"], "checks": checks}
    return Entry(**same, **more) if found.profile is None else Entry.of(found.profile, through, **same, **more)
