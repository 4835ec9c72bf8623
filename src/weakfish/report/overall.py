"""The few figures at the top of the page, of the last run only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from weakfish.contracts.verdicts import Check, Verdict
from weakfish.report.check_tables import CheckRow, Quarantine, quarantines
from weakfish.report.feature_tables import audit_failure
from weakfish.report.inputs import Inputs, Problem, Stop, count_checks, find_stop, outdated, pending, read, validating
from weakfish.report.task_sections import Task, tasks
from weakfish.report.wording import beyond, clause, count, describe, for_all, kind_order, model_name, percent, subject


@dataclass(frozen=True)
class Fact:
    """A figure for the top of the page."""

    name: str
    value: str
    note: str


def facts(inputs: Inputs, stop: Stop | None, rows: Sequence[CheckRow]) -> list[Fact]:
    """The few figures that tell most, of the last run only."""
    found = [_rows_fact(quarantine) for quarantine in quarantines(inputs, stop, rows) if not quarantine.stale]
    checks = [row for row in rows if not row.table.stale]
    if checks:
        held = sum(row.check.status in ("passed", "noted") for row in checks)
        found.append(
            Fact(
                "checks hold",
                f"{held} of {len(checks)}",
                f"{sum(row.check.status == 'failed' for row in checks)} failed",
            )
        )
    for task in tasks(inputs, stop):
        if task.labels and not task.labels_stale and task.labels.rows:
            share = (task.labels.covered or 0) / task.labels.rows
            found.append(
                Fact(f"of {task.name} labels covered", percent(share), f"{len(task.labels.functions)} functions vote")
            )
        if task.metrics and not task.metrics_stale:
            found += _auc_fact(task)
    return found


def _rows_fact(quarantine: Quarantine) -> Fact:
    ledger = quarantine.ledger
    aside = f"{ledger.quarantined or 0:,} of {ledger.rows_in or 0:,} set aside"
    let_in = (ledger.released or 0) + (ledger.repaired or 0)
    aside += f", {let_in:,} let in by patches" if let_in else ""
    return Fact("rows accepted", f"{ledger.rows_out or 0:,}", aside)


def _auc_fact(task: Task) -> list[Fact]:
    models = task.metrics.models if task.metrics else {}
    name = next(
        (
            name
            for name in ("both_weak", "text_weak", "label_model", *models)
            if name in models and "auc" in models[name]
        ),
        None,
    )
    value = models[name]["auc"].value if name else None
    return [Fact(f"AUC of {task.name}", f"{value:.3f}", model_name(name).lower())] if name and value is not None else []


SHOWN = 8
"""Failed checks that the verdict names; the table of checks has them all."""

WARNED = ("warned", "quarantined")
GRAVITY = ("critical", "warning", "info")

ALIKE, NAMED = 2, 3
"""Measured checks that ask the same and are told one by one; of more, one sentence names so many."""

MANY = {
    "drift": "columns drifted from what was accepted",
    "nulls": "columns lack more values than accepted",
    "range": "columns hold values outside of those accepted",
    "categories": "columns have new values, or lack accepted ones",
    "cardinality": "columns have far more or fewer different values than accepted",
    "coverage": "labeling functions vote more or less often than accepted",
    "conflicts": "labeling functions are contradicted more or less often than accepted",
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


def judge(inputs: Inputs) -> Overall:
    """`overall`, of inputs that are already read."""
    found, despite = _judge(inputs), _despite_gates(inputs)
    if not despite:
        return found
    todo = ("Run these stages again once the gates are open; until then nobody vouches for what they made.",)
    found = replace(found, what=(*despite, *found.what), todo=(*found.todo, *todo))
    return found if found.verdict == "failed" else replace(found, verdict="warned", headline="Gates were overridden")


def _despite_gates(inputs: Inputs) -> tuple[str, ...]:
    """A sentence per stage whose last run went on although gates were shut."""
    return tuple(
        f"`{stage}` ran although a gate was shut, for this reason: {clause(override.reason)}. "
        + " ".join(override.gates)
        for stage, ledger in inputs.ledgers.items()
        if (override := ledger.despite_gate)
    )


def _judge(inputs: Inputs) -> Overall:
    stop = find_stop(inputs)
    failed = _failed_verdicts(inputs, stop)
    online = audit_failure(inputs, stop)
    if inputs.problems or failed or online or (stop and stop.state == "failed"):
        return _failed(inputs, stop, failed, online)
    if stop:
        return _running(inputs, stop)
    if not (inputs.verdicts or inputs.runs or inputs.ledgers):
        return Overall(
            "empty",
            "Nothing has run yet",
            todo=("Run `dvc repro` in the project's folder; this page is made again at its end.",),
        )
    waiting = pending(inputs)
    more = (f"Not run yet: {', '.join(waiting)}.",) if waiting else ()
    found = _warned(inputs) or _passed(inputs)
    return replace(found, headline=f"{found.headline}{' so far' if waiting else ''}", what=(*found.what, *more))


def current_verdicts(inputs: Inputs, stop: Stop | None) -> list[Verdict]:
    """The verdicts that the last run reached."""
    return [verdict for table, verdict in inputs.verdicts.items() if not outdated(inputs, stop, validating(table))]


def _failed(inputs: Inputs, stop: Stop | None, failed: list[Verdict], online: str | None) -> Overall:
    what = [f"`{problem.file}` cannot be read: {clause(problem.reason)}." for problem in inputs.problems]
    todo = [_repair(problem) for problem in inputs.problems]
    headlines = ["Failed: not all of the last run can be read"] if inputs.problems else []
    for verdict in failed:
        headlines.append(f"Failed: {verdict.table} is not fit for use")
        what += _about(verdict)
        todo += for_all([(verdict, check) for check in _of(verdict, "failed")]) or [_look(verdict)]
    if online:
        headlines.append("Failed: what is served is not what was computed")
        what.append(online)
        todo.append("Run `weakfish publish`: it writes these rows again.")
    if stop and stop.state == "failed":
        if stop.run and not (failed and stop.run.exit_code == 1):
            headlines.insert(0, f"Failed: {stop.stage} stopped")
            what.insert(0, _ending(stop))
            todo.append("Do what the message says.")
        left = list(inputs.stages)[stop.position + 1 :]
        what += [f"Not run: {', '.join(left)}."] if left else []
        todo.append("Then run `dvc repro`: it goes on from there.")
    return Overall("failed", headlines[0], tuple(what), tuple(dict.fromkeys(todo)))


def _ending(stop: Stop) -> str:
    code = stop.run.exit_code if stop.run else None
    if code is None:
        return f"`{stop.stage}` began and never ended: it was killed."
    message = stop.run.message if stop.run else None
    return f"`{stop.stage}` ended with exit code {code}" + (
        f": {clause(message)}." if message else ", without a message."
    )


def _about(verdict: Verdict) -> list[str]:
    bad = _of(verdict, "failed")
    lines = [f"{verdict.table}: {describe(check, why=True)}" for check in bad[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(f"{verdict.table}: {count(len(bad) - SHOWN, 'more check')} failed; see the table of checks.")
    limit, share = verdict.max_quarantined_share, verdict.quarantined_share
    if limit is not None and share is not None and share > limit:
        lines.append(
            f"{verdict.table}: {percent(share)} of the rows are bad; at most {percent(limit)} may be set aside."
        )
    return lines or [f"{verdict.table}: the verdict is failed, and names no check."]


def _look(verdict: Verdict) -> str:
    return f"Run `weakfish validate {verdict.table}` again: a verdict that failed names a check."


def _repair(problem: Problem) -> str:
    if problem.file.startswith(("dvc.", "validation/")):
        return f"Repair `{problem.file}`, or take it from git."
    return f"Delete `{problem.file}` and run `dvc repro`."


def _running(inputs: Inputs, stop: Stop) -> Overall:
    left = len(inputs.stages) - stop.position - 1
    what = (f"`{stop.stage}` was at work when this page was made; {count(left, 'stage')} come after it.",)
    return Overall(
        "warned", "Still running", what, ("Wait: this page is made again at the end. No verdict stands until then.",)
    )


def _warned(inputs: Inputs) -> Overall | None:
    found = [(verdict, check) for verdict in inputs.verdicts.values() for check in _of(verdict, *WARNED)]
    if not found:
        return None
    found.sort(key=lambda pair: _importance([(pair[0].table, pair[1])]))
    said = _sentences(found)
    left = len(said) - SHOWN
    more = (f"{left:,} more warnings; see Checks.",) if left > 1 else tuple(said[SHOWN:])
    what = (*said[:SHOWN], *more, *_let_in(inputs), f"{_tally(inputs).removesuffix('.')}; nothing is stopped.")
    return Overall("warned", "Passed with warnings", what, tuple(for_all(found)))


def _sentences(found: list[tuple[Verdict, Check]]) -> list[str]:
    """A sentence per check; one on all measured ones that ask the same, when they are many."""
    alike: dict[str, list[tuple[str, Check]]] = {}
    for verdict, check in found:
        alike.setdefault(check.expectation or check.check, []).append((verdict.table, check))
    said = []
    for asked, checks in sorted(alike.items(), key=lambda item: _importance(item[1])):
        many = len(checks) > ALIKE and checks[0][1].kind != "expectation"
        said += [_all_of(asked, checks)] if many else [f"{table}: {describe(check)}" for table, check in checks]
    return said


def _importance(checks: list[tuple[str, Check]]) -> tuple[int, int, int]:
    """By severity, then by kind; what stands alone before what many say alike."""
    first = checks[0][1]
    return GRAVITY.index(first.severity), kind_order(first), len(checks)


def _all_of(asked: str, checks: list[tuple[str, Check]]) -> str:
    number = f"{len(checks)} {MANY.get(asked, f'checks `{asked}` do not hold')}"
    tables = Counter(table for table, _ in checks)
    if len(tables) > 1:
        return f"{number}: {', '.join(f'{rows} of {table}' for table, rows in tables.most_common())}."
    first = sorted((check for _, check in checks), key=lambda check: (-beyond(check), check.check))[:NAMED]
    named = [f"`{subject(check)}`" for check in first]
    named += [f"{len(checks) - NAMED} more"] if len(checks) > NAMED else []
    return f"{checks[0][0]}: {number}: {', '.join(named[:-1])} and {named[-1]}."


def _let_in(inputs: Inputs) -> list[str]:
    """What patches did to rows, of each stage that says so."""
    ways = [
        (stage, [(ledger.released, "released"), (ledger.repaired, "repaired")])
        for stage, ledger in inputs.ledgers.items()
    ]
    told = [(stage, [f"{count(rows, 'row')} {how}" for rows, how in found if rows]) for stage, found in ways]
    return [f"`{stage}` let in by patches: {' and '.join(said)}." for stage, said in told if said]


def _passed(inputs: Inputs) -> Overall:
    said = _tally(inputs) or f"{count(len(inputs.runs), 'stage')} ran to the end; there are no verdicts."
    return Overall("passed", "Passed", (said, *_let_in(inputs)), ("Nothing to do.",))


def _tally(inputs: Inputs) -> str:
    counts = [count_checks(verdict) for verdict in inputs.verdicts.values()]
    if not counts:
        return ""
    passed, total = sum(count[0] for count in counts), sum(map(sum, counts))
    part = "All" if passed == total else f"{passed:,} of"
    return f"{part} {count(total, 'check')} on {count(len(counts), 'table')} passed."


def _failed_verdicts(inputs: Inputs, stop: Stop | None) -> list[Verdict]:
    return [verdict for verdict in current_verdicts(inputs, stop) if verdict.verdict == "failed"]


def _of(verdict: Verdict, *statuses: str) -> list[Check]:
    return [check for check in verdict.checks if check.status in statuses]
