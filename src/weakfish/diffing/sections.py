"""What differs as sections of sentences and tables, the same for a terminal, a comment and a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from typing import Any

from weakfish.diffing.edits import code
from weakfish.report.wording import MINUS, NONE, count, figure, percent


@dataclass(frozen=True)
class PartTable:
    """Rows of cells below the names of columns; those in ``right`` are numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[str] = ()


@dataclass(frozen=True)
class ReportPart:
    """A part of a report; names in its sentences and cells stand between backticks."""

    title: str
    lines: Sequence[str] = ()
    tables: Sequence[PartTable] = field(default_factory=list)


MOST = 20
"""Rows of a table; JSON has all."""

KINDS = {
    "events": "the events",
    "reviews": "an answer of a reviewer",
    "known": "a known label",
    "reader": "the reader, which learned anew",
    "several": "several edits together",
    "refit": "the label model, which was fitted anew",
}
"""What moved labels, in words."""


def sections(found: Mapping[str, Any]) -> Iterator[ReportPart]:
    """The parts that differ, in the order of the flow."""
    if len(found["causes"]) > 1:
        yield _causes(found["causes"])
    if found["data"]:
        yield _data(found["data"])
    for task, functions in found["functions"].items():
        yield _functions(task, functions)
    for task, labels in found["labels"].items():
        yield _labels(task, labels)
    for task, metrics in found["metrics"].items():
        yield _metrics(task, metrics)
    for view, change in found["features"].items():
        yield _features(view, change)
    for task, change in found["training"].items():
        yield _training(task, change)
    if found["served"]:
        yield _served(found["served"])
    if found["idle"] and not found["nothing"]:
        named = ", ".join(map(code, found["idle"]))
        yield ReportPart("Not counted", [f"Only comments, layout or names of locals changed in {named}."])


def _causes(causes: Sequence[Mapping[str, Any]]) -> ReportPart:
    rows = [
        (f"{each['what']}", f"{each['labels']:,}" if each["labels"] else NONE, "yes" if each["effective"] else "no")
        for each in causes
    ]
    return ReportPart("Edits", [], [_table(("edit", "labels moved by it alone", "its tables differ"), rows)])


def _data(data: Mapping[str, Any]) -> ReportPart:
    lines = list[str]()
    change = data.get("staged") or data.get("events")
    if change:
        lines += [f"{change['rows'][1]:,} events, {change['rows'][0]:,} before; {_moves(change, 'event')}."]
        lines += _periods(change["partitions"])
        lines += _columns(change)
        lines += [
            f"{code(name)} moved in {count(number, 'event')}." for name, number in list(change["values"].items())[:MOST]
        ]
        lines += _examples(change)
    if counts := data.get("counts"):
        names = {"rows_in": "read", "rejected": "rejected", "quarantined": "quarantined", "rows_out": "accepted"}
        old, new = counts["old"], counts["new"]
        rows = [
            (called, _number(old[name]), _number(new[name])) for name, called in names.items() if old[name] != new[name]
        ]
        if rows:
            return ReportPart("Data", lines, [_table(("rows", "before", "now"), rows, 1)])
    return ReportPart("Data", lines)


def _moves(change: Mapping[str, Any], noun: str) -> str:
    parts = [("added", "came"), ("removed", "went"), ("moved", "have other values")]
    said = [f"{count(change[name], noun)} {verb}" for name, verb in parts if change[name]]
    return ", ".join(said) or "no row came, went or moved"


def _periods(partitions: Mapping[str, Sequence[str]]) -> list[str]:
    said = [
        f"{kind} {', '.join(names[:6])}{f' and {len(names) - 6} more' if names[6:] else ''}"
        for kind, names in partitions.items()
    ]
    return [f"Partitions: {'; '.join(said)}."] if said else []


def _columns(change: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, (before, now) in list(change["columns"].items())[:MOST]:
        if before is None or now is None:
            lines.append(f"Column {code(name)} {f'came ({now})' if before is None else f'went ({before})'}.")
        else:
            lines.append(f"Column {code(name)} is {now}, it was {before}.")
    return lines


def _examples(change: Mapping[str, Any]) -> list[str]:
    called = {"added": "That came", "removed": "That went", "moved": "With other values"}
    return [
        f"{called[kind]}, for example: {', '.join(map(code, keys))}."
        for kind, keys in change["examples"].items()
        if keys
    ]


def _functions(task: str, functions: Sequence[Mapping[str, Any]]) -> ReportPart:
    rows = []
    for each in functions[:MOST]:
        sums = [sum(each["votes"][side].values()) for side in ("old", "new")]
        change = "stopped voting" if each["stopped"] else each["change"] or "same code"
        rows.append((code(each["name"]), change, f"{each['moved']:,}", *(f"{total:,}" for total in sums)))
    lines = [f"{len(functions) - MOST} more moved less."] if functions[MOST:] else []
    titles = ("function", "change", "votes that moved", "votes before", "votes now")
    return ReportPart(f"Labeling functions of {task}", lines, [_table(titles, rows, 2)])


def _labels(task: str, labels: Mapping[str, Any]) -> ReportPart:
    if "only" in labels:
        return ReportPart(
            f"Labels of {task}", [f"There are labels {'now' if labels['only'] == 'new' else 'before'} only."]
        )
    lines = [
        f"{labels['flipped']:,} flipped, {labels['appeared']:,} appeared, {labels['vanished']:,} vanished; "
        f"{labels['rows']['new']:,} events, {labels['rows']['old']:,} before."
    ]
    if not labels["groups"]:
        lines = [f"No label moved; the probabilities of {count(labels['probabilities'], 'event')} did."]
    if labels["causes_unknown"]:
        lines.append(labels["causes_unknown"])
    rows = [
        (
            f"{group['count']:,}",
            group["from"] or NONE,
            group["to"] or NONE,
            _because(group["cause"]),
            " ".join(map(code, group["examples"])),
        )
        for group in sorted(labels["groups"], key=lambda group: -group["count"])[:MOST]
    ]
    tables = [_table(("labels", "from", "to", "because of", "for example"), rows)] if rows else []
    classes = sorted({*labels["shares"]["old"], *labels["shares"]["new"]})
    totals = [sum(labels["shares"][side].values()) for side in ("old", "new")]
    shares = [
        (
            name,
            *(
                f"{(of := labels['shares'][side].get(name, 0)):,} ({percent(of / total if total else 0)})"
                for side, total in zip(("old", "new"), totals, strict=True)
            ),
        )
        for name in classes
    ]
    tables += [_table(("class", "labels before", "labels now"), shares[:MOST], 1)] if shares else []
    return ReportPart(f"Labels of {task}", lines, tables)


def _because(cause: Mapping[str, Any] | None) -> str:
    if cause is None:
        return "not known"
    return KINDS.get(cause["kind"]) or " or ".join(map(code, cause["functions"]))


def _metrics(task: str, metrics: Mapping[str, Any]) -> ReportPart:
    old, new = metrics["old"] or {}, metrics["new"] or {}
    names = {"rows": "rows with gold", "accuracy": "accuracy", "f1": "F1", "coverage": "coverage"}
    rows = [
        (called, _figure(old.get(name)), _figure(new.get(name)), _change(old.get(name), new.get(name)))
        for name, called in names.items()
        if old.get(name) is not None or new.get(name) is not None
    ]
    line = _verdict(metrics["fixed"], metrics["broken"])
    return ReportPart(
        f"Metrics of {task} on dev",
        [line],
        [_table(("measure", "before", "now", "change"), rows, 1)],
    )


CHANCE = 0.05
"""How often chance alone may turn so many more rows one way than the other, for the labels to count as better."""


def _verdict(fixed: int, broken: int) -> str:
    """Whether labels are better, by a sign test on the rows of dev gold that turned."""
    said = f"Of the rows with gold {fixed:,} became right and {broken:,} became wrong"
    number, less = fixed + broken, min(fixed, broken)
    chance = min(1.0, 2 * sum(comb(number, rows) for rows in range(less + 1)) / 2**number) if number else 1.0
    if chance > CHANCE:
        return f"{said}: that does not tell better from worse." if number else f"{said}."
    return f"{said}: the labels are {'better' if fixed > broken else 'worse'}."


def _features(view: str, change: Mapping[str, Any]) -> ReportPart:
    before, now = change["entity"]
    lines = [f"Its entity is {code(now)}; it was {code(before)}."] if before and now and before != now else []
    lines += [f"{change['rows'][1]:,} rows, {change['rows'][0]:,} before; {_moves(change, 'row')}."]
    lines += _periods(change["partitions"]) + _columns(change) + _examples(change)
    rows = []
    for name, sides in change["distributions"].items():
        old, new = sides["old"] or {}, sides["new"] or {}
        spread = [
            f"{_figure(of.get('p10'))} / {_figure(of.get('median'))} / {_figure(of.get('p90'))}"
            if "mean" in of
            else NONE
            for of in (old, new)
        ]
        means = [_figure(of.get("mean")) for of in (old, new)]
        rows.append((code(name), f"{change['values'].get(name, 0):,}", *means, *spread))
    titles = ("feature", "values that moved", "mean before", "mean now", "10 / 50 / 90 % before", "10 / 50 / 90 % now")
    return ReportPart(f"Features of {view}", lines, [_table(titles, rows, 1)] if rows else [])


def _training(task: str, change: Mapping[str, Any]) -> ReportPart:
    lines = [f"{change['rows'][1]:,} rows, {change['rows'][0]:,} before; {_moves(change, 'row')}."]
    rows = [(code(name), f"{number:,}") for name, number in list(change["values"].items())[:MOST]]
    tables = [_table(("column", "values that moved"), rows, 1)] if rows else []
    return ReportPart(f"Training set of {task}", [*lines, *_columns(change)], tables)


def _served(served: Mapping[str, Any]) -> ReportPart:
    rows = [
        (
            code(view),
            f"{of['moved']:,} of {of['entities'][1]:,}",
            f"{of['added']:,}",
            f"{of['removed']:,}",
            " ".join(map(code, of["examples"])),
        )
        for view, of in served.items()
    ]
    titles = ("view", "entities with other values", "new", "gone", "for example")
    return ReportPart("What would be served otherwise", [], [_table(titles, rows)])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: int | None = None) -> PartTable:
    return PartTable(columns, rows, columns[right:] if right is not None else ())


def _number(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def _figure(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else figure(value)


def _change(old: float | None, new: float | None) -> str:
    if old is None or new is None:
        return NONE
    by = new - old
    return (
        f"{'+' if by > 0 else MINUS if by < 0 else ''}{_figure(abs(by)) if isinstance(by, int) else f'{abs(by):.3g}'}"
    )
