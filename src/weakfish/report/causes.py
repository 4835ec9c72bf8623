"""Why a run failed or warns: what did not hold, grouped by what it shares, each group with one action.

Checks share a cause when they are about the same column or labeling function, or about columns of one table that
changed in the same partition. What is computed from changed rows follows them, and is a group of its own at the end.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from weakfish.contracts.verdicts import Check, Verdict
from weakfish.report.histograms import Histogram, of_column, of_shares
from weakfish.report.inputs import BaselineTable, RunRecords, validating
from weakfish.report.wording import RULES, bad_above, beyond, clause, count, describe, listed, month, rule_of

Finding = tuple[Verdict, Check]
"""A check that did not hold, and its verdict."""

Key = tuple[str, ...]
"""What the checks of a cause share: its kind, then what tells it from others of the kind."""

ORDER = ("source", "error", "schema", "quality", "function", "labels", "rows", "nulls", "columns", "derived", "other")
"""Kinds of causes, in the order in which they are told, after those that failed."""

BAD = ("failed", "quarantined", "warned")
RULES_DID = {
    "rule_flipped": ("votes for another class than before", "vote for another class than before"),
    "rule_died": ("no longer votes", "no longer vote"),
    "rule_fires_everywhere": ("votes on nearly every row", "vote on nearly every row"),
    "rule_right": ("is right less often than chance", "are right less often than chance"),
}
"""What became of one or several labeling functions, by the check that found it; the worst first."""

WORTH = {
    "better_than_chance": "are no better than chance",
    "better_than_majority": "are no better than always answering the most frequent class",
    "recall": "never find one of the classes",
}
"""What gold says of labels that are worth little, by the check that found it; the worst first."""


SOURCE = {
    "missing_column": "Deliver these files with the column under its old name. If files may lack it, list it under "
    "`source.optional` in `params.yaml`.",
    "rejected": "`weakfish quarantine list` says which lines became no row, and why. Correct their source; if they may "
    "stay out, `weakfish accept-baseline events` makes that the norm.",
    "clock": "Correct the clock or the reader behind these rows; `events.wrong_clocks: quarantine` in `params.yaml` "
    "sets such rows aside.",
}
"""What to do about checks of what the source delivered, by what they ask."""


@dataclass(frozen=True)
class GroupedCause:
    """One thing that is the matter.

    Attributes
    ----------
    state
        ``failed``, ``quarantined`` or ``warned``.
    title, detail
        What is the matter, and the figures of the most telling check, as sentences; names stand between backticks.
    todo
        The one thing to do about it.
    findings
        The checks that it makes fail, the most telling first; none for what no check measures.
    picture
        What changed, before and now.
    """

    state: str
    title: str
    todo: str
    detail: str = ""
    findings: Sequence[Finding] = ()
    picture: Histogram | None = None

    @property
    def states(self) -> str:
        """How its checks ended: ``2 checks, 1 failed and 1 warned``."""
        ended = Counter(str(check.status) for _, check in self.findings)
        told = [f"{ended[state]} {state}" for state in BAD if ended[state]] if len(ended) > 1 else [self.state]
        return f"{count(len(self.findings), 'check')}, {listed(told)}"

    @property
    def sentences(self) -> str:
        """The cause in one line."""
        return f"{self.title} {self.detail}".strip()


def causes(records: RunRecords) -> list[GroupedCause]:
    """What the checks of this run say together, worst first."""
    groups: dict[Key, list[Finding]] = {}
    for table, verdict in records.verdicts.items():
        if not records.outdated(validating(table)):
            bad = [check for check in verdict.checks if check.status in BAD]
            for key, finding in _keyed(verdict, bad, records.accepted.get(table, BaselineTable())):
                groups.setdefault(key, []).append(finding)

    def importance(item: tuple[Key, list[Finding]]) -> tuple[bool, int, int]:
        kind, statuses = item[0][0], {check.status for _, check in item[1]}
        minor = kind == "rows" and statuses == {"warned"}
        return "failed" not in statuses, ORDER.index("other" if minor else kind), -len(item[1])

    told, changed = list[GroupedCause](), False
    for key, found in sorted(groups.items(), key=importance):
        told.append(_cause(records, key, sorted(found, key=_telling), changed))
        changed = changed or key[0] in ("labels", "nulls", "columns")
    return told


def _telling(finding: Finding) -> tuple[int, bool, bool, float, str]:
    """Failed before warned; all rows before a slice; the class balance before what it moves; then by distance."""
    check = finding[1]
    first = check.expectation in ("missing_column", "class_balance", "uncovered", "nulls", *WORTH)
    first, sliced = first or check.check == "drift", _slice(check) is not None
    if check.expectation in WORTH:
        return BAD.index(check.status), sliced, not first, [*WORTH].index(check.expectation) - len(WORTH), check.check
    return BAD.index(check.status), sliced, not first, -beyond(check), check.check


def _keyed(verdict: Verdict, checks: Sequence[Check], accepted: BaselineTable) -> list[tuple[Key, Finding]]:
    """Each check of a table with the key of its cause."""
    table, (area, _, _) = verdict.table, verdict.table.partition("/")
    missing = {column for check in checks if check.expectation == "nulls" and (column := _column(check))}
    lacking = {_column(check) for check in checks if check.expectation == "missing_column"}
    onset: dict[str | None, str] = {}
    for check in checks:
        since, column = _onset(check, accepted), _column(check)
        onset[column] = min(filter(None, (onset.get(column, ""), since)), default="")
    worst = {
        rule: did for did in reversed(RULES_DID) for of in checks if of.expectation == did and (rule := rule_of(of))
    }
    found = []
    for check in checks:
        column, rule = _column(check), rule_of(check)
        key: Key = ("other", table, check.expectation or check.check)
        if check.error:
            key = ("error", table, check.check)
        elif column in lacking:
            key = ("source", table, f"missing_column({column})")  # files lack it, so its rows are null
        elif check.kind == "source":
            key = ("source", table, check.check)
        elif check.kind == "expectation":
            key = ("rows", table, column or check.check)
        elif rule and check.expectation.startswith(RULES):
            key = ("function", table, worst.get(rule, check.expectation))
        elif (
            rule
            or check.expectation in ("class_balance", "uncovered")
            or (area == "labels" and (column or (_slice(check) and check.against_baseline)))
        ):
            key = ("labels", table)  # where classes have other shares, functions vote and are contradicted otherwise
        elif check.kind in ("labels", "evaluation"):
            key = ("quality", table.partition("/")[2])
        elif check.kind == "change" and area in ("features", "training") and (column or check.check == "drift"):
            key = ("derived",)
        elif check.kind == "change" and column:
            key = ("nulls" if column in missing else "columns", table, onset[column])
        elif check.expectation in ("schema", "volume"):
            key = ("schema", table, check.expectation)
        found.append((key, (verdict, check)))
    return found


def _column(check: Check) -> str | None:
    column = check.arguments.get("column")
    return column if isinstance(column, str) else None


def _slice(check: Check) -> str | None:
    name = check.arguments.get("slice")
    return name if isinstance(name, str) else None


def _onset(check: Check, accepted: BaselineTable) -> str:
    """The first partition after the accepted ones in which the check does not hold; empty where there is none."""
    if check.threshold is None or not check.against_baseline:
        return ""
    values = [(name, value) for name, value in check.by_partition.items() if value is not None]
    bad = [name for name, value in values if (value > check.threshold) == bad_above(check) and accepted.is_new(name)]
    return min(bad, default="")


def _cause(records: RunRecords, key: Key, found: Sequence[Finding], changed: bool) -> GroupedCause:
    """A group of checks in words; ``changed``: causes that changed rows were told already."""
    kind, (verdict, check) = key[0], found[0]
    table, task = verdict.table, verdict.table.partition("/")[2]
    columns = list(dict.fromkeys(f"`{column}`" for _, of in found if (column := _column(of))))
    rules = list(dict.fromkeys(f"`{rule}`" for _, of in found if (rule := rule_of(of))))
    since = f" since {month(key[2])}" if kind in ("nulls", "columns") and key[2] else ""
    have = "have" if columns[1:] else "has"
    alike = [of for _, of in found if (of.expectation, _slice(of)) == (check.expectation, _slice(check))]
    moved = f"{count(len(rules), 'labeling function')} vote{'' if rules[1:] else 's'} or {'are' if rules[1:] else 'is'}"
    votes = f"{moved} contradicted on more or fewer rows: {listed(rules)}." if rules else ""
    title, detail, picture = describe(check, verdict.verdict != "failed"), check.why, None
    if kind == "labels":
        of = "labels" if columns or "class" in check.arguments or not rules else "labeling functions"
        if all(one.expectation == "drift" and (_column(one) or "").startswith("p_") for _, one in found):
            of = "label probabilities"  # the shares of classes may well have stayed
        where = f" within `{_slice(check)}`" if _slice(check) else ""
        detail = votes or title.removeprefix(f"Within {_slice(check)}: ")
        title = f"The {of} of {task} have changed{where}."
        bars = [(rule_of(of) or "", *_shares(of)) for of in alike] if rule_of(check) else []
        bars = bars or _classes(records, task, check)
        picture = of_shares(f"{check.expectation.replace('_', ' ')}, share of rows", bars) or of_column(
            records, table, check
        )
    elif kind == "function":
        did = RULES_DID.get(check.expectation, ("changed", "changed"))[bool(rules[1:])]
        title, detail = f"{listed(rules)} {did}.", f"{f'`{rule_of(check)}` most: ' if rules[1:] else ''}{title}"
    elif kind == "nulls":
        being = f"{have} been" if since else "are" if columns[1:] else "is"
        title, detail = f"{listed(columns)} {being} missing more often{since}.", title
        picture = of_shares("share of rows without a value", [(str(_column(of)), *_shares(of)) for of in alike])
    elif kind == "columns":
        who = f"{count(len(columns), 'column')} of {table} {have} changed{since}, {columns[0]} most."
        title = who if columns[1:] else f"{columns[0]} of {table} {have} changed{since}."
        detail = f"The others: {listed(columns[1:], 5)}." if columns[1:] else title if not check.found else ""
        picture = of_column(records, table, check)
    elif kind == "derived":
        at, most = next((one for one in found if _column(one[1])), found[0])
        title = f"{count(len(columns), 'feature')} changed{' with them' if changed else ''}."
        detail = f"Most of all `{_column(most)}` of {at.table}." if columns else describe(most)
        picture = of_column(records, at.table, most)
    elif check.expectation in WORTH:
        title, detail = f"The labels of {task} {WORTH[check.expectation]}.", f"{clause(check.found or '')}."
    elif kind == "schema":
        title = f"{table}: {' '.join(describe(of) for _, of in found)}"
    elif kind != "rows" or check.unexpected is None:
        title = f"{table}: {title}"
    return GroupedCause(check.status, title, _todo(kind, table, check, rules, changed), detail, found, picture)


def _classes(records: RunRecords, task: str, check: Check) -> list[tuple[str, float, float]]:
    """The share of a class before and now; of two classes that of the other is what is left."""
    name, shares = check.arguments.get("class"), _shares(check)
    labels = records.labels.tasks.get(task)
    others = [of for of in labels.classes if of != name] if labels and len(labels.classes) == 2 else []
    rest = [(of, 1 - shares[0], 1 - shares[1]) for of in others]
    return [*rest, (str(name), *shares)] if name is not None else []


def _shares(check: Check) -> tuple[float, float]:
    """What was accepted, and what is."""
    then = check.arguments.get("accepted", check.arguments.get("accepted_share"))
    return float(then) if isinstance(then, int | float) else 0.0, check.value or 0.0


def _todo(kind: str, table: str, check: Check, rules: Sequence[str], changed: bool) -> str:
    """The one thing to do about a cause."""
    accept = f"`weakfish accept-baseline {table}` and commit `validation/baseline.json`"
    suite = f"`validation/{table}.py`"
    key = shlex.quote(str(check.keys[0])) if check.keys else "KEY"
    if check.status == "quarantined":
        rule = shlex.quote(check.check)
        return (
            f"Look at one with `weakfish quarantine show {key}`. Correct the source, or let the rows in with "
            f"`weakfish quarantine release --rule {rule} --why WHY`."
        )
    if check.expectation == "served_change":
        before = "`weakfish publish --rollback REV` serves what was published before"
        return f"Look at `publish.as_of` in `params.yaml` and at the last events; {before}."
    match kind:
        case "quality" if check.expectation in WORTH:
            return "Do not use them yet. `weakfish lf try FILE` shows how each labeling function does on dev gold."
        case "source":
            return SOURCE.get(check.expectation, "Look at what the source delivered.")
        case "error":
            return f"Correct what it says, or the check in {suite}."
        case "rows":
            return f"If the data is wrong, correct its source; if it is right, correct the expectation in {suite}."
        case "function":
            it = "it" if len(rules) == 1 else "them"
            return f"Correct {listed(rules)} or remove {it}; if the new votes are right, run {accept}."
        case "labels":
            return f"Look at some of the new labels. If they are right, run {accept}; otherwise correct the functions."
        case "nulls":
            return f"Find out why the source no longer has them. If it never will, run {accept}."
        case "columns" | "schema" if check.against_baseline:
            return f"Look at what changed in the source. If it is the new normal, run {accept}."
        case "derived":
            follow = (
                "They are computed from what changed above, so settle that first" if changed else "Look at these views"
            )
            return f"{follow}. If this is the new normal, run `weakfish accept-baseline` and commit the baseline."
    return {
        "serving": "Run `weakfish publish`: it rewrites what differs.",
        "features": "See whether the source still delivers, then run `dvc repro`.",
        "evaluation": "Compare the metrics with those of the last accepted revision before you use these labels.",
        "labels": "Look at the labeling functions before you use these labels.",
    }.get(check.kind, f"Look at it before you use {table}.")
