"""The quarantine section: rows that a stage set aside, by rule, and those that patches let in all the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weakfish.report.checks import CheckRow
from weakfish.report.inputs import Inputs
from weakfish.report.records import Ledger
from weakfish.report.stages import Stop, outdated


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
