"""The verdict on the last run, with what to do about it, and the figures beside it at the top of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from weakfish.contracts.verdicts import Check, Status, Verdict
from weakfish.report.check_tables import SEVERITIES, CheckRow, quarantines
from weakfish.report.feature_tables import audit_failure
from weakfish.report.inputs import RunRecords, count_checks, read, validating
from weakfish.report.task_sections import tasks
from weakfish.report.wording import (
    Finding,
    beyond,
    clause,
    count,
    describe,
    for_all,
    kind_order,
    listed,
    model_name,
    percent,
    subject,
)

SHOWN = 8
"""Checks that the verdict names; the table of checks has them all."""

ALIKE = 2
"""Up to so many measured checks of one kind have a sentence each; more of them share one."""

MANY = {
    "drift": "columns drifted from the accepted baseline",
    "nulls": "columns have more nulls than the baseline",
    "range": "columns have values outside the baseline's range",
    "categories": "columns have new values, or lack accepted ones",
    "cardinality": "columns have far more or fewer distinct values than the baseline",
    "coverage": "labeling functions vote more or less often than in the baseline",
    "conflicts": "labeling functions are contradicted more or less often than in the baseline",
    "rule_died": "labeling functions fell silent",
}
"""What many such checks say together."""


@dataclass(frozen=True)
class Overall:
    """The verdict on everything.

    Attributes
    ----------
    verdict
        ``passed``, ``warned``, ``failed``, or ``empty`` when nothing has run. A pipeline at work is ``warned``.
    headline
        The verdict in a few words.
    what
        Sentences that say what failed or warned.
    todo
        Sentences that say what to do about it; words between backticks are commands or names.
    """

    verdict: str
    headline: str
    what: tuple[str, ...] = ()
    todo: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is the matter, then what to do."""
        return (*self.what, *self.todo)


def overall(root: Path) -> Overall:
    """The verdict on whatever lies below ``root``."""
    return judge(read(root))


def judge(records: RunRecords) -> Overall:
    """`overall`, of records that are already read."""
    found = _judge(records)
    despite = [
        f"`{stage}` ran although a gate was shut, for this reason: {clause(override.reason)}. "
        + " ".join(override.gates)
        for stage, ledger in records.ledgers.items()
        if (override := ledger.despite_gate)
    ]
    if not despite:
        return found
    todo = "Run these stages again once the gates are open; until then nobody vouches for what they made."
    found = replace(found, what=(*despite, *found.what), todo=(*found.todo, todo))
    return found if found.verdict == "failed" else replace(found, verdict="warned", headline="Gates were overridden")


def _judge(records: RunRecords) -> Overall:
    stop = records.stop
    failed = [
        verdict
        for table, verdict in records.verdicts.items()
        if verdict.verdict == "failed" and not records.outdated(validating(table))
    ]
    online = audit_failure(records)
    if records.problems or failed or online or (stop and stop.state == "failed"):
        return _failed(records, failed, online)
    if stop:
        left = count(len(records.stages) - stop.position - 1, "stage")
        what = f"`{stop.stage}` was running when this page was made; {left} come after it."
        todo = "Wait: this page is made again at the end. No verdict stands until then."
        return Overall("warned", "Still running", (what,), (todo,))
    if not (records.verdicts or records.runs or records.ledgers):
        todo = "Run `dvc repro` in the project's folder; this page is made again at its end."
        return Overall("empty", "Nothing has run yet", todo=(todo,))
    waiting = records.pending()
    more = (f"Not run yet: {', '.join(waiting)}.",) if waiting else ()
    found = _warned(records) or _passed(records)
    return replace(found, headline=f"{found.headline}{' so far' if waiting else ''}", what=(*found.what, *more))


def _failed(records: RunRecords, failed: Sequence[Verdict], online: str | None) -> Overall:
    stop = records.stop
    headlines, what, todo = [], [], []
    for file, reason in records.problems.items():
        what.append(f"`{file}` cannot be read: {clause(reason)}.")
        from_git = file.startswith(("dvc.", "validation/"))
        todo.append(
            f"Repair `{file}`, or restore it from git." if from_git else f"Delete `{file}` and run `dvc repro`."
        )
    if records.problems:
        headlines.append("Failed: not all of the last run can be read")
    for verdict in failed:
        headlines.append(f"Failed: {verdict.table} is not fit for use")
        bad = _of(verdict, "failed")
        what += _failures(verdict, bad)
        again = f"Run `weakfish validate {verdict.table}` again: a verdict that failed names a check."
        todo += for_all([(verdict, check) for check in bad]) or [again]
    if online:
        headlines.append("Failed: what is served is not what was computed")
        what.append(online)
        todo.append("Run `weakfish publish`: it writes these rows again.")
    if stop and stop.state == "failed":
        if stop.run and not (failed and stop.run.exit_code == 1):
            headlines.insert(0, f"Failed: {stop.stage} stopped")
            code, message = stop.run.exit_code, stop.run.message
            said = f": {clause(message)}." if message else ", without a message."
            ended = "began and never ended: it was killed." if code is None else f"ended with exit code {code}{said}"
            what.insert(0, f"`{stop.stage}` {ended}")
            todo.append("Do what the message says.")
        left = list(records.stages)[stop.position + 1 :]
        what += [f"Not run: {', '.join(left)}."] if left else []
        todo.append("Then run `dvc repro`: it goes on from there.")
    return Overall("failed", headlines[0], tuple(what), tuple(dict.fromkeys(todo)))


def _failures(verdict: Verdict, bad: Sequence[Check]) -> Iterator[str]:
    for check in bad[:SHOWN]:
        yield f"{verdict.table}: {describe(check, why=True)}"
    if len(bad) > SHOWN:
        yield f"{verdict.table}: {count(len(bad) - SHOWN, 'more check')} failed; see the table of checks."
    most, share = verdict.max_quarantined_share, verdict.quarantined_share
    if most is not None and share > most:
        yield f"{verdict.table}: {percent(share)} of the rows are bad; at most {percent(most)} may be quarantined."
    elif not bad:
        yield f"{verdict.table}: the verdict is failed, and names no check."


def _warned(records: RunRecords) -> Overall | None:
    found = [
        (verdict, check) for verdict in records.verdicts.values() for check in _of(verdict, "warned", "quarantined")
    ]
    if not found:
        return None

    def importance(alike: Sequence[Finding]) -> tuple[int, int, int]:
        """By severity, then by kind; what stands alone before what many say alike."""
        first = alike[0][1]
        return SEVERITIES.index(first.severity), kind_order(first), len(alike)

    found.sort(key=lambda one: importance([one]))
    groups: dict[str, list[Finding]] = {}
    for one in found:
        groups.setdefault(one[1].expectation or one[1].check, []).append(one)
    said: list[str] = []
    for asked, alike in sorted(groups.items(), key=lambda item: importance(item[1])):
        together = len(alike) > ALIKE and alike[0][1].kind != "expectation"
        said += [_all_of(asked, alike)] if together else [f"{v.table}: {describe(check)}" for v, check in alike]
    if len(said) > SHOWN + 1:
        said[SHOWN:] = [f"{len(said) - SHOWN:,} more warnings; see Checks."]
    what = (*said, *_let_in(records), f"{_tally(records).removesuffix('.')}; nothing is stopped.")
    return Overall("warned", "Passed with warnings", what, tuple(for_all(found)))


def _all_of(asked: str, alike: Sequence[Finding]) -> str:
    """One sentence on all measured checks that ask the same."""
    number = f"{len(alike)} {MANY.get(asked, f'checks `{asked}` do not hold')}"
    tables = Counter(verdict.table for verdict, _ in alike)
    if len(tables) > 1:
        return f"{number}: {', '.join(f'{rows} of {table}' for table, rows in tables.most_common())}."
    first = sorted((check for _, check in alike), key=lambda check: (-beyond(check), check.check))
    return f"{alike[0][0].table}: {number}: {listed([f'`{subject(check)}`' for check in first])}."


def _let_in(records: RunRecords) -> list[str]:
    """What patches did to rows, of each stage that says so."""
    said = []
    for stage, ledger in records.ledgers.items():
        ways = {"released": ledger.released, "repaired": ledger.repaired}
        if rows := [f"{count(number, 'row')} {how}" for how, number in ways.items() if number]:
            said.append(f"`{stage}` let in by patches: {' and '.join(rows)}.")
    return said


def _passed(records: RunRecords) -> Overall:
    said = _tally(records) or f"{count(len(records.runs), 'stage')} ran to the end; there are no verdicts."
    return Overall("passed", "Passed", (said, *_let_in(records)), ("Nothing to do.",))


def _tally(records: RunRecords) -> str:
    counts = [count_checks(verdict) for verdict in records.verdicts.values()]
    if not counts:
        return ""
    passed, total = sum(count[0] for count in counts), sum(map(sum, counts))
    part = "All" if passed == total else f"{passed:,} of"
    return f"{part} {count(total, 'check')} on {count(len(counts), 'table')} passed."


def _of(verdict: Verdict, *statuses: str) -> list[Check]:
    return [check for check in verdict.checks if check.status in statuses]


def facts(records: RunRecords, rows: Sequence[CheckRow]) -> Iterator[tuple[str, str, str]]:
    """The few figures that tell most, of the last run only: their names, values and notes."""
    for quarantine in quarantines(records, rows):
        if not quarantine.stale:
            ledger = quarantine.ledger
            let_in = (ledger.released or 0) + (ledger.repaired or 0)
            aside = f"{ledger.quarantined or 0:,} of {ledger.rows_in or 0:,} quarantined"
            yield (
                "rows accepted",
                f"{ledger.rows_out or 0:,}",
                f"{aside}, {let_in:,} let in by patches" if let_in else aside,
            )
    statuses = Counter(row.check.status for row in rows if not row.table.stale)
    if total := statuses.total():
        held = statuses[Status.PASSED] + statuses[Status.NOTED]
        yield "checks hold", f"{held} of {total}", f"{statuses[Status.FAILED]} failed"
    for task in tasks(records):
        labels, models = task.labels, task.metrics.models if task.metrics else {}
        if labels and not task.labels_stale and labels.rows:
            share = percent((labels.covered or 0) / labels.rows)
            yield f"of {task.name} labels covered", share, f"{len(labels.functions)} functions vote"
        order = [name for name in ("both_weak", "text_weak", "label_model", *models) if "auc" in models.get(name, ())]
        if order and not task.metrics_stale and (value := models[order[0]]["auc"].value) is not None:
            yield f"AUC of {task.name}", f"{value:.3f}", model_name(order[0]).lower()
