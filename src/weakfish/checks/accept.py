"""What moves when a table is accepted: its rows, the columns that differ most from before, checks that changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from weakfish.checks.baseline import AcceptedCheck, Baseline, Entry
from weakfish.checks.label_totals import through as rules_through
from weakfish.checks.rates import bins_of, rounded, shift
from weakfish.checks.repairs import staged_files
from weakfish.checks.reported import data_version as version_of_metrics
from weakfish.checks.reported import metrics_of
from weakfish.contracts.ledgers import read_runs
from weakfish.contracts.tables import UNDATED
from weakfish.contracts.verdicts import Check, Status, Verdict, read_verdict, verdict_file
from weakfish.engine.profile import Profile, read_profile
from weakfish.errors import CheckFailed, TableError, UnknownName, UserError, WeakfishError
from weakfish.project.paths import Project
from weakfish.project.runs import locked, require_no_dvc
from weakfish.project.stages import gates

COLUMNS_SHOWN, CHECKS_SHOWN = 5, 8
"""How many are told to people; JSON has all."""

MOVED = 0.01
"""The least PSI at which a column counts as moved."""

EVALUATION = "evaluation/"
"""Tables of metrics: they have neither rows nor a profile."""

NOTHING_ACCEPTED = "baseline"
"""The check that says so is gone as soon as something is."""


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

    @property
    def headline(self) -> str:
        """The move in a line for people."""
        if self.state == "left":
            return f"{self.table}: unchanged: {self.reason}."
        if self.state == "same":
            return f"{self.table}: the same as before."
        if self.rows is None:
            return f"{self.table}: accepted."
        until = f" through {self.through}" if self.through else ""
        was = "" if self.rows_before is None else f", {self.rows_before:,} before"
        return f"{self.table}: accepted{until}, {self.rows:,} rows{was}."


def sentences(moves: Sequence[Move]) -> Iterator[str]:
    """The moves as lines for people."""
    for move in moves:
        yield move.headline
        columns = [f"{column} (PSI {psi:.2g})" for column, psi in move.columns]
        checks = [f"{check} {now or 'gone'} (was {was or 'not there'})" for check, was, now in move.checks]
        for what, items, shown in (("moved most", columns, COLUMNS_SHOWN), ("checks", checks, CHECKS_SHOWN)):
            more = f"; {len(items) - shown} more" if len(items) > shown else ""
            if items:
                yield f"  {what}: {'; '.join(items[:shown])}{more}"


def _moved(table: str, before: Entry | None, now: Entry) -> Move:
    """Compare a table's entry with the one before."""
    state = "new" if before is None else "same" if before.as_json() == now.as_json() else "moved"
    columns: list[tuple[str, float]] = []
    for name, column in now.columns.items():
        earlier = before.columns.get(name) if before else None
        bins = bins_of(column, earlier) if earlier and earlier.type == column.type else None
        psi = shift(bins.now, bins.accepted).psi if bins else 0.0
        if psi >= MOVED:
            columns.append((name, rounded(psi)))
    known: Mapping[str, AcceptedCheck] = before.checks if before else now.checks
    checks: list[tuple[str, str | None, str | None]] = []
    for name in sorted({*known, *now.checks}):
        was, is_now = (of[name].status if name in of else None for of in (known, now.checks))
        if was != is_now:
            checks.append((name, was, is_now))
    rows, rows_before = (sum(entry.rows.values()) if entry and entry.rows else None for entry in (now, before))
    return Move(
        table,
        state,
        now.through,
        rows,
        rows_before,
        sorted(columns, key=lambda item: (-item[1], item[0])),
        checks,
    )


class _Judged(NamedTuple):
    """A table with a verdict on what lies there; ``more`` is what its entry holds besides the profile."""

    verdict: Verdict
    profile: Profile | None
    more: Mapping[str, Any]

    def entry(self, through: str | None) -> Entry:
        """The entry of the baseline, of the partitions up to ``through``."""
        more = dict(self.more)
        if more.get("rules") is not None:
            more["rules"] = rules_through(more["rules"], through)
        of = (check for check in self.verdict.checks if check.check != NOTHING_ACCEPTED)
        more |= {
            "data_version": self.verdict.data_version,
            "verdict": self.verdict.verdict,
            "checks": {check.check: AcceptedCheck(str(check.status), check.value) for check in of},
        }
        return Entry(**more) if self.profile is None else Entry.of(self.profile, through, **more)


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
        require_no_dvc(project)
        of_metrics = (f"{EVALUATION}{task}" for task in project.params.tasks)
        judged_ones = (of for of in (*project.params.tables, *of_metrics) if verdict_file(project, of).exists())
        known = sorted({*project.suites(), *judged_ones})
        for table in tables:
            if table not in known:
                raise UnknownName("table with a suite", table, known, "validation/")
        verdicts = {table: read_verdict(project, table) for table in known if verdict_file(project, table).exists()}
        may_leave = _require_good(project, known, verdicts) and not tables
        before = Baseline.read(project)
        judged: dict[str, _Judged] = {}
        left: dict[str, str] = {}
        for table in tables or known:
            try:
                judged[table] = _current(project, table, verdicts.get(table))
            except WeakfishError as error:
                if not may_leave:
                    raise
                left[table] = str(error).split(";")[0].rstrip(".")
        partitions = {name for found in judged.values() if found.profile for name in found.profile.partitions}
        if through is not None and through not in partitions - {UNDATED}:
            raise UnknownName("partition", through, partitions - {UNDATED}, "the tables to accept")
        new = {table: found.entry(through) for table, found in judged.items()}
        for table in [table for table, entry in new.items() if judged[table].profile is not None and not entry.rows]:
            left[table] = f"it has no partition up to {through}"
            del new[table]
        Baseline(dict(sorted({**before.tables, **new}.items()))).write(project)
        moves = [_moved(table, before.table(table), entry) for table, entry in new.items()]
        moves += [Move(table, "left", reason=reason) for table, reason in left.items()]
        return sorted(moves, key=lambda move: move.table)


def _require_good(project: Project, known: Sequence[str], verdicts: Mapping[str, Verdict]) -> bool:
    """Whether a gate is shut by differences from the baseline alone; whatever else failed is refused."""
    for table, verdict in verdicts.items():
        failed = [check.check for check in _failed(verdict) if not _by_baseline(check)]
        if failed:
            raise CheckFailed(
                f"The verdict on {table} failed for reasons other than the baseline: {'; '.join(failed)}; "
                "nothing is accepted until this is fixed; then run `weakfish run` again."
            )
    gated, shut = gates(known), False
    for stage, run in read_runs(project).items():
        if run.exit_code == 0:
            continue
        found = verdicts.get(gated.get(stage, ""))
        # What keeps a gate shut: failed checks, or without any, those that warned.
        not_held = (Status.WARNED, Status.QUARANTINED)
        worst = found and (_failed(found) or [check for check in found.checks if check.status in not_held])
        if run.exit_code != CheckFailed.exit_code or not worst or not all(map(_by_baseline, worst)):
            state = "has not ended" if run.exit_code is None else "failed"
            raise CheckFailed(
                f"Stage {stage} {state}; a baseline comes from a good run: fix it and run `weakfish run`."
            )
        shut = True
    return shut


def _failed(verdict: Verdict) -> list[Check]:
    return [check for check in verdict.checks if check.status is Status.FAILED]


def _by_baseline(check: Check) -> bool:
    return check.against_baseline and not check.error


def _current(project: Project, table: str, verdict: Verdict | None) -> _Judged:
    """A table with its verdict, which must be about what lies there."""
    if verdict is None:
        raise UserError(f"There is no verdict on {table} yet; run `weakfish run`, which makes it.")
    if table.startswith(EVALUATION):
        _require_same(table, verdict.data_version, version_of_metrics(project), "verdict")
        return _Judged(verdict, None, {"metrics": metrics_of(project, table.removeprefix(EVALUATION))})
    with staged_files(project, table) as files:
        _require_same(table, verdict.data_version, files.version, "verdict")
    profile = read_profile(project, table)
    _require_same(table, profile["data_version"], verdict.data_version, "profile")
    try:
        return _Judged(verdict, Profile.parse(profile["profile"]), {of: profile.get(of) for of in ("rules", "code")})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TableError(f"{project.profile(table)} is not a profile; run `weakfish validate {table}`.") from error


def _require_same(table: str, found: str | None, version: str | None, what: str) -> None:
    if found != version:
        raise CheckFailed(
            f"The {what} of {table} is about different data than the table holds now; run `weakfish run`, "
            "which validates it again."
        )
