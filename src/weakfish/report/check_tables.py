"""Checks, quarantined rows and drift as the page shows them: what did not hold first, with trends and since when."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from weakfish.contracts.ledgers import Ledger
from weakfish.contracts.verdicts import Check, Verdict
from weakfish.report.charts import Trend, over_partitions, over_revisions, since
from weakfish.report.inputs import Inputs, Stop, accepting, outdated, position, validating
from weakfish.report.wording import beyond, for_check, found, headline, is_psi, kind_order, limit, subject

if TYPE_CHECKING:
    from weakfish.checks.baseline import Accepted


BADNESS = ("failed", "warned", "quarantined", "noted", "passed")
SEVERITIES = ("critical", "warning", "info")
SHOWN, MANY = 1, 3
"""Of so many measured checks that ask the same of a table, or more, the first are shown at once."""

NO_BASELINE = "baseline"
"""The check that stands for all comparisons while nothing was accepted; the drift section says it once for all."""


@dataclass(frozen=True)
class Table:
    """The verdict on one table; ``stale``: it is from an earlier run."""

    verdict: Verdict
    gate_open: bool
    stale: bool

    @property
    def held(self) -> int:
        """How many of its checks hold."""
        return sum(check.status == "passed" for check in self.verdict.checks)


@dataclass(frozen=True)
class CheckRow:
    """One check of a table, with what was accepted of it."""

    table: Table
    check: Check
    history: Sequence[Accepted] = ()

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.verdict.table

    @property
    def held(self) -> bool:
        """Whether the check passed."""
        return self.check.status == "passed"

    @property
    def anchor(self) -> str:
        """An id for the check that is the same in every run."""
        return "check-" + hashlib.sha256(f"{self.name} {self.check.check}".encode(errors="replace")).hexdigest()[:10]

    @property
    def found(self) -> str:
        """What was found."""
        return found(self.check)

    @property
    def headline(self) -> str | None:
        """What was found as a number, where `found` is a sentence."""
        return headline(self.check)

    @property
    def limit(self) -> str | None:
        """What would have held."""
        return limit(self.check)

    @property
    def subject(self) -> str:
        """The column or function that it is about."""
        return subject(self.check)

    @property
    def todo(self) -> str:
        """What to do about it."""
        return for_check(self.name, self.check)

    @cached_property
    def by_partition(self) -> Trend | None:
        """Its trend over partitions."""
        return over_partitions(self.check)

    @cached_property
    def by_revision(self) -> Trend | None:
        """Its trend over accepted revisions."""
        return over_revisions(self.name, self.check, self.history)

    @property
    def since(self) -> list[str]:
        """Since when it does not hold."""
        return since(self.name, self.check, self.history)


@dataclass(frozen=True)
class Alike:
    """Checks that ask the same of a table: of many, the first are shown, and the others fold."""

    table: str
    asked: str
    rows: list[CheckRow]

    @property
    def folds(self) -> bool:
        """Whether some fold."""
        return len(self.rows) >= MANY and self.rows[0].check.kind != "expectation"

    @property
    def shown(self) -> list[CheckRow]:
        """Those that are shown at once."""
        return self.rows[:SHOWN] if self.folds else self.rows

    @property
    def folded(self) -> list[CheckRow]:
        """The others."""
        return self.rows[len(self.shown) :]


def tables(inputs: Inputs, stop: Stop | None) -> list[Table]:
    """The tables that have a verdict, current ones first, failed before warned before passed."""
    found = [_table(inputs, stop, name, verdict) for name, verdict in inputs.verdicts.items()]
    return sorted(found, key=lambda table: (table.stale, BADNESS.index(table.verdict.verdict), table.verdict.table))


def check_rows(tables: Iterable[Table], history: Sequence[Accepted] = ()) -> list[CheckRow]:
    """All checks, worst first."""
    rows = [CheckRow(table, check, history) for table in tables for check in table.verdict.checks]
    return sorted(rows, key=lambda row: (row.table.stale, _badness(row.check)))


def by_severity(rows: Iterable[CheckRow]) -> list[tuple[str, list[Alike]]]:
    """The checks that did not hold, by severity, worst first, those that ask the same of a table together."""
    found: dict[str, dict[tuple[str, str], list[CheckRow]]] = {severity: {} for severity in SEVERITIES}
    for row in rows:
        if not row.held and row.check.check != NO_BASELINE:
            asked = row.check.expectation or row.check.check
            found[row.check.severity].setdefault((row.name, asked), []).append(row)
    return [
        (severity, _telling([Alike(*key, of) for key, of in alike.items()]))
        for severity, alike in found.items()
        if alike
    ]


def by_rule(rows: Iterable[CheckRow]) -> dict[tuple[str, str], list[CheckRow]]:
    """Checks by the table and the labeling function that they are about, where they are about one."""
    found: dict[tuple[str, str], list[CheckRow]] = {}
    for row in rows:
        rule = row.check.arguments.get("rule")
        if isinstance(rule, str):
            found.setdefault((row.name, rule), []).append(row)
    return found


def _telling(found: list[Alike]) -> list[Alike]:
    """By kind, and what stands alone before what many say alike."""
    return sorted(found, key=lambda alike: (kind_order(alike.rows[0].check), len(alike.rows)))


def _badness(check: Check) -> tuple[int, int, int, float]:
    far = -beyond(check) if check.kind != "expectation" else 0.0
    return SEVERITIES.index(check.severity), BADNESS.index(check.status), kind_order(check), far


def _table(inputs: Inputs, stop: Stop | None, name: str, verdict: Verdict) -> Table:
    stale = outdated(inputs, stop, validating(name))
    return Table(verdict, name in inputs.gates, stale)


@dataclass(frozen=True)
class Rule:
    """A check that rows failed; ``row`` is what is known of it, None where its verdict is gone."""

    name: str
    rows: int
    share: float | None
    row: CheckRow | None

    @property
    def released(self) -> int:
        """Its bad rows that a patch lets in."""
        return self.row.check.released if self.row else 0

    @property
    def keys(self) -> list[str]:
        """The first rows that are set aside for it, by name."""
        return [str(key) for key in (self.row.check.keys or [])] if self.row and self.rows else []


@dataclass(frozen=True)
class Quarantine:
    """What one stage set aside; ``stale``: in an earlier run."""

    stage: str
    ledger: Ledger
    rules: list[Rule]
    stale: bool

    @property
    def adds_up(self) -> bool:
        """Whether no row was lost: those that came in went on, or were set aside."""
        ledger = self.ledger
        return ledger.rows_in == (ledger.rows_out or 0) + (ledger.quarantined or 0)

    @property
    def example(self) -> str | None:
        """The name of a row that is set aside."""
        return next((key for rule in self.rules for key in rule.keys), None)


def quarantines(inputs: Inputs, stop: Stop | None, rows: Sequence[CheckRow]) -> list[Quarantine]:
    """The stages that set rows aside, or could have."""
    of_rows = {row.check.check: row for row in rows if row.table.verdict.max_quarantined_share is not None}
    return [
        Quarantine(stage, ledger, _rules(ledger, of_rows), outdated(inputs, stop, stage))
        for stage, ledger in inputs.ledgers.items()
        if ledger.quarantined is not None or ledger.reasons
    ]


def _rules(ledger: Ledger, rows: dict[str, CheckRow]) -> list[Rule]:
    released = {name: 0 for name, row in rows.items() if row.check.released}
    counts = sorted({**released, **ledger.reasons}.items(), key=lambda item: (-item[1], item[0]))
    return [
        Rule(name, count, count / ledger.quarantined if ledger.quarantined else None, rows.get(name))
        for name, count in counts
    ]


COLUMNS_SHOWN = 8
"""Columns of a table that are shown at once; the others fold."""


@dataclass(frozen=True)
class TableDrift:
    """A table against what was accepted of it.

    Attributes
    ----------
    accepted
        What was accepted, in words; None when nothing was.
    columns
        The measured distances of columns that are shown at once; ``folded`` has the others.
    others
        Comparisons of other kinds that do not hold; ``held`` counts those that do.
    """

    table: Table
    accepted: str | None
    columns: list[CheckRow]
    folded: list[CheckRow]
    others: list[CheckRow]
    held: int

    @property
    def measured(self) -> list[CheckRow]:
        """All columns that were measured."""
        return [*self.columns, *self.folded]

    @property
    def beyond(self) -> int:
        """How many columns are beyond their limit."""
        return sum(not row.held for row in self.measured)

    @property
    def scale(self) -> float:
        """The largest distance that a bar shows."""
        return max([row.check.value or 0.0 for row in self.measured], default=0.0)


def drifts(inputs: Inputs, rows: Sequence[CheckRow], history: Sequence[Accepted]) -> list[TableDrift]:
    """The tables that were compared with what was accepted, in the order in which the pipeline makes them."""
    compared = [row for row in rows if row.check.against_baseline and row.check.check != NO_BASELINE]
    tables = list({row.name: row.table for row in compared}.values())
    found = [_of(inputs, table, [row for row in compared if row.table is table], history) for table in tables]
    return sorted(found, key=lambda one: position(inputs, validating(one.table.verdict.table)))


def unaccepted(inputs: Inputs) -> list[str]:
    """The tables with a verdict of which nothing was accepted."""
    return [name for name in inputs.verdicts if name not in inputs.accepted.tables]


def _of(inputs: Inputs, table: Table, rows: list[CheckRow], history: Sequence[Accepted]) -> TableDrift:
    measured = [row for row in rows if is_psi(row.check)]
    measured.sort(key=lambda row: (row.held, -beyond(row.check), row.check.check))
    others = [row for row in rows if row not in measured]
    return TableDrift(
        table,
        _accepted(inputs, table.verdict.table, history),
        measured[:COLUMNS_SHOWN],
        measured[COLUMNS_SHOWN:],
        [row for row in others if not row.held],
        sum(row.held for row in others),
    )


def _accepted(inputs: Inputs, table: str, history: Sequence[Accepted]) -> str | None:
    entry = inputs.accepted.tables.get(table)
    if entry is None:
        return None
    through = f"accepted through {entry.through}" if entry.through else "accepted with all its partitions"
    revision = accepting(table, history)
    if revision is None or revision.tables[table].data_version != entry.data_version:
        return f"{through}, in no git revision yet"
    return f"{through} at revision `{revision.commit}` of {revision.date[:10]}"
