"""The verdict on the last run, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from weakfish.contracts.verdicts import Verdict
from weakfish.report.causes import WORTH, GroupedCause, causes
from weakfish.report.check_tables import quarantines
from weakfish.report.feature_tables import audit_failure
from weakfish.report.inputs import RunRecords, read, validating
from weakfish.report.task_sections import METRICS, Task, nothing_measured, tasks
from weakfish.report.wording import clause, count, decimal, integer, listed, percent, when

SHOWN = 5
"""Causes that are told at once; the others fold on the page, and are counted in the terminal."""


@dataclass(frozen=True)
class Overall:
    """The verdict on everything.

    Attributes
    ----------
    verdict
        ``passed``, ``warned``, ``failed``, or ``empty`` when nothing has run. A pipeline at work is ``warned``.
    headline
        The verdict in a few words.
    sentence
        What it rests on, or how far the pipeline got.
    causes
        What is the matter, worst first.
    """

    verdict: str
    headline: str
    sentence: str = ""
    causes: tuple[GroupedCause, ...] = ()

    @property
    def what(self) -> tuple[str, ...]:
        """Sentences that say what is the matter, the verdict's own last."""
        said = [cause.sentences for cause in self.causes[:SHOWN]]
        return tuple(filter(None, [*said, self._more, self.sentence]))

    @property
    def todo(self) -> tuple[str, ...]:
        """Sentences that say what to do about it; words between backticks are commands or names."""
        return tuple(dict.fromkeys(cause.todo for cause in self.causes[:SHOWN] if cause.todo))

    @property
    def sentences(self) -> tuple[str, ...]:
        """How far the run got, then what is the matter, each with what to do about it."""
        told = [f"{cause.sentences} {cause.todo}".strip() for cause in self.causes[:SHOWN]]
        return tuple(filter(None, [self.sentence, *told, self._more]))

    @property
    def _more(self) -> str:
        left = len(self.causes) - SHOWN
        return f"{count(left, 'more cause')}; the page has {'it' if left == 1 else 'them'}." if left > 0 else ""


def overall(root: Path) -> Overall:
    """The verdict on whatever lies below ``root``."""
    return judge(read(root))


def judge(records: RunRecords) -> Overall:
    """`overall`, of records that are already read."""
    stop, overridden = records.stop, list(_overridden(records))
    found = (*_broken(records), *overridden, *_stale(records), *_too_many(records), *causes(records))
    if any(cause.state == "failed" for cause in found):
        # What failed first, in the order of time: what stopped a stage comes before what a gate found.
        found = tuple(sorted(found, key=lambda cause: cause.state != "failed"))
        return Overall("failed", f"Failed: {_failure(records)}", _reach(records), found)
    if stop:
        return Overall("warned", "Still running", _reach(records), found)
    if not (records.verdicts or records.ran or records.ledgers):
        begin = "Run `weakfish run` in the project's folder; it renders this page again at its end."
        return Overall("empty", "Nothing has run yet", begin)
    waiting = records.pending()
    so_far = " so far" if waiting else ""
    verdict, headline = ("warned", "Passed with warnings") if found else ("passed", "Passed")
    worthless = next((of.title for of in found for _, check in of.findings[:1] if check.expectation in WORTH), None)
    headline = clause(worthless) if worthless else headline
    verdict, headline = ("warned", "Gates were overridden") if overridden else (verdict, headline)
    more = f" Not run yet: {listed([f'`{name}`' for name in waiting])}." if waiting else ""
    return Overall(verdict, f"{headline}{so_far}", f"{_rests_on(records)}{more}", found)


def _failure(records: RunRecords) -> str:
    """What failed, in a few words."""
    stop, failed = records.stop, _failed(records)
    if stop and stop.state == "failed" and stop.run and not (failed and stop.run.exit_code == 1):
        return f"{stop.stage} stopped"
    if records.problems:
        return "not all of the last run can be read"
    return f"the {failed[0].table} table is not fit for use" if failed else "what is served is not what was computed"


def _failed(records: RunRecords) -> list[Verdict]:
    return [
        verdict
        for table, verdict in records.verdicts.items()
        if verdict.verdict == "failed" and not records.outdated(validating(table))
    ]


def _broken(records: RunRecords) -> Iterator[GroupedCause]:
    """What failed without a check: a stage, a file of records, the online store."""
    stop = records.stop
    if stop and stop.state == "failed" and stop.run and not (_failed(records) and stop.run.exit_code == 1):
        code, message = stop.run.exit_code, stop.run.message
        said = f": {clause(message)}." if message else ", without a message."
        ended = "began and never ended: it was killed." if code is None else f"ended with exit code {code}{said}"
        yield GroupedCause("failed", f"`{stop.stage}` {ended}", "Do what the message says, then run `weakfish run`.")
    for file, reason in records.problems.items():
        from_git = file.startswith(("dvc.", "validation/"))
        todo = f"Repair `{file}`, or restore it from git." if from_git else f"Delete `{file}` and run `dvc repro`."
        yield GroupedCause("failed", f"`{file}` cannot be read: {clause(reason)}.", todo)
    if online := audit_failure(records):
        yield GroupedCause("failed", online, "Run `weakfish publish`: it writes these rows again.")


def _overridden(records: RunRecords) -> Iterator[GroupedCause]:
    for stage, ledger in records.ledgers.items():
        if override := ledger.despite_gate:
            said = f"`{stage}` ran although a gate was shut, for this reason: {clause(override.reason)}."
            todo = "Run these stages again once the gates are open; until then nobody vouches for what they made."
            yield GroupedCause("warned", said, todo, " ".join(override.gates))


def _stale(records: RunRecords) -> Iterator[GroupedCause]:
    """Stages whose outs are about other data or settings than lie there now, and when they ran."""
    end = records.stop.position if records.stop else len(records.stages)
    # what comes after a stop did not run, which is said already
    if stale := {stage: why for stage, why in records.stale.items() if records.position(stage) < end}:
        stage, why = next(iter(stale.items()))
        run = records.runs.get(stage)
        last = f"; it last ran at {when(run.started_at)} UTC" if run else ""
        more = listed([f"`{name}`" for name in stale if name != stage])
        said = f"`{stage}` is stale: {clause(why)}{last}."
        todo = "Run `weakfish run`. Until then, whatever is marked as from an earlier run is about other data."
        yield GroupedCause("warned", said, todo, f"So {'are' if len(stale) > 2 else 'is'} {more}." if more else "")


def _too_many(records: RunRecords) -> Iterator[GroupedCause]:
    """Tables with more bad rows than may be, and those whose verdict says no more than that it failed."""
    for verdict in _failed(records):
        most, share = verdict.max_quarantined_share, verdict.bad_share
        if most is not None and share > most:
            aside = "quarantined or rejected" if verdict.rejected else "quarantined"
            said = f"{verdict.table}: {percent(share)} of the rows are bad; at most {percent(most)} may be {aside}."
            yield GroupedCause(
                "failed", said, "Correct the source, or raise `validation.max_quarantined_share` and say why."
            )
        elif not any(check.status == "failed" for check in verdict.checks):
            again = f"Run `weakfish validate {verdict.table}` again: a verdict that failed names a check."
            yield GroupedCause("failed", f"{verdict.table}: the verdict is failed, and names no check.", again)


def _reach(records: RunRecords) -> str:
    """How far the pipeline got, where it did not reach its end."""
    stop = records.stop
    if stop is None:
        return "The pipeline ran to its end."
    left = list(records.stages)[stop.position + 1 :]
    if stop.state == "running":
        after = f"{count(len(left), 'stage')} come{'s' if len(left) == 1 else ''} after it"
        return f"`{stop.stage}` was running when this page was made; {after}. No verdict stands until then."
    if not left:
        return f"The pipeline stopped at `{stop.stage}`, its last stage. `weakfish run` continues there."
    what = f"{listed([f'`{stage}`' for stage in left])} did not run"
    return f"The pipeline stopped at `{stop.stage}`; {what}. `weakfish run` continues there."


def _rests_on(records: RunRecords) -> str:
    """What a verdict that lets go on rests on: the checks, and what gold says of the labels."""
    tables, passed, total = records.tally
    said = f"{count(len(records.ran), 'stage')} ran to the end; there are no verdicts"
    if total:
        part = f"All {count(total, 'check')}" if passed == total else f"{passed:,} of {count(total, 'check')}"
        said = f"{part} on {count(tables, 'table')} passed"
    worth = [_worth(task) for task in tasks(records) if not task.labels_stale]
    return f"{'; '.join([said, *worth[:2]])}.{_let_in(records)}"


def _worth(task: Task) -> str:
    """What the labels of a task are worth, by gold, as a clause."""
    if task.metrics and not task.metrics_stale and (useless := task.metrics.no_better.get("label_model")):
        return f"the labels of {task.name}: {clause(useless[:1].lower() + useless[1:])}"
    f1 = task.metrics.models.get("label_model", {}).get("f1") if task.metrics and not task.metrics_stale else None
    if f1 and task.metrics and f1.value is not None:
        rows = integer(task.metrics.test_rows)
        said = f"F1 of {decimal(f1.value)}{_for(task.metrics.positive)}"
        return f"the labels of {task.name} have an {said} on {rows} test rows"
    dev = task.labels.dev if task.labels else None
    if dev and dev.f1 is not None:
        rows = integer(dev.rows)
        said = f"F1 of {decimal(dev.f1)}{_for(dev.positive)}"
        return f"the labels of {task.name} have an {said} on {rows} dev rows"
    why = nothing_measured(task.metrics) if task.metrics else None
    why = why or (f1.reason if f1 else None) or "There is no gold"
    return f"nobody knows how good the labels of {task.name} are: {clause(why[:1].lower() + why[1:])}"


def _for(positive: str | None) -> str:
    return f" for {positive}" if positive else ""


def _let_in(records: RunRecords) -> str:
    """What patches did to rows, of each stage that says so."""
    said = []
    for stage, ledger in records.ledgers.items():
        ways: Sequence[tuple[str, int | None]] = (("released", ledger.released), ("repaired", ledger.repaired))
        if rows := [f"{count(number, 'row')} {how}" for how, number in ways if number]:
            said.append(f" `{stage}` let in by patches: {' and '.join(rows)}.")
    return "".join(said)


def figures(records: RunRecords) -> Iterator[tuple[str, str, str]]:
    """The few figures that tell most, of this run only: their names, values and notes."""
    for of in quarantines(records):
        if not of.stale:
            kept, aside = of.ledger.rows_out or 0, of.ledger.quarantined or 0
            yield "rows read", f"{of.rows_read:,}", f"{kept:,} kept, {aside:,} quarantined, {of.rejected:,} rejected"
    for task in tasks(records)[:2]:
        labels, models = task.labels, task.metrics.models if task.metrics else {}
        if labels and not task.labels_stale and labels.rows:
            labelled = labels.covered if labels.labelled is None else labels.labelled
            share = percent((labelled or 0) / labels.rows)
            votes = f"{count(len(labels.functions), 'labeling function')}"
            votes += f", {count(sum(labels.known.values()), 'known label')}" if labels.known else ""
            yield f"of rows have a label of {task.name}", share, votes
        of_labels = models.get("label_model", {}) if not task.metrics_stale else {}
        known = [
            (METRICS[metric], decimal(of_labels[metric].value))
            for metric in ("average_precision", "f1", "auc")
            if metric in of_labels and of_labels[metric].value is not None
        ]
        if known:
            (metric, value), *others = known
            more = "".join(f"{name} {of}, " for name, of in others)
            yield f"{metric} of the labels of {task.name}", value, f"{more}on the test part of gold"
    if records.published and records.published.views and not records.outdated("publish"):
        views = records.published.views.values()
        served = sum(view.entities or 0 for view in views)
        yield "entities are served", f"{served:,}", f"from {count(len(views), 'view')}"
