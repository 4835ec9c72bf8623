"""What `weakfish init` proposes: all that the templates need, as one JSON object that `weakfish.lock` keeps.

`weakfish upgrade` renders a project anew from it, without looking at the data again. Records of earlier versions have
to stay readable: a field that is added needs a default, and one that is not used any more stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, JsonValue

from weakfish.contracts.tables import TIME
from weakfish.errors import UserError
from weakfish.project.params import MOST_CLASSES, Name, Section
from weakfish.scaffold.examples import DevRows, Example, examples
from weakfish.scaffold.label_values import DEFAULT, classes_of
from weakfish.scaffold.literals import counted
from weakfish.scaffold.roles import Partition, Roles, check_classes, settings
from weakfish.scaffold.survey import LATE, ColumnFacts, Gold, Place, Suite, Survey, measure, survey
from weakfish.sources.tabular import Inferred
from weakfish.sources.tabular.guess import NO_LABELS
from weakfish.sources.tabular.infer import described_later
from weakfish.sources.tabular.settings import MADE_KEY, MADE_TIME, plain


class TaskProposal(Section):
    """A labeling task: its classes in the order of votes, its gold column, the classes' shares in dev gold.

    ``has_dev`` says whether some rows have dev gold, which is evidence then.
    """

    classes: Annotated[tuple[Name, ...], Field(min_length=2, max_length=MOST_CLASSES)]
    gold: Name | None = None
    class_balance: tuple[float, ...] | None = None
    has_dev: bool = False


Host = Literal["github", "gitlab"]
"""Where a team's repository is, for the workflow that comments on changes."""


class Proposal(Section):
    """A whole project, before it is written.

    ``path`` is ``source.path``; ``source`` the section of ``params.yaml`` without ``reader``; ``columns`` are those of
    the events, in order, without gold and what is made. ``fetch_dep`` is the file or folder that the fetch stage has to
    watch, null where that cannot be, since it holds the project itself. ``identifiers`` are columns that tell rows
    apart beside the key; nothing is made of them. ``rules`` (by task) are the example functions. ``ci`` is
    where changes are proposed, if a workflow is to comment on them there.
    """

    name: Name
    path: str
    fetch_dep: str | None
    source: dict[str, JsonValue]
    key: Name | None
    time: Name | None
    time_zone: str = "UTC"
    entities: tuple[Name, ...] = ()
    texts: tuple[Name, ...] = ()
    columns: tuple[ColumnFacts, ...]
    rows: int
    partition: Partition = "month"
    identifiers: tuple[Name, ...] = ()
    tasks: Annotated[dict[Name, TaskProposal], Field(min_length=1)]
    gold_split: str | None = None
    rules: dict[str, tuple[Example, ...]]
    suites: Suite
    ci: Host | None = None

    @property
    def events_key(self) -> str:
        """The key of the events table; it is made where no column is one."""
        return self.key or MADE_KEY

    @property
    def events_time(self) -> str:
        """The event time of the events table; null in all rows where no column is one."""
        return self.time or MADE_TIME

    @property
    def views(self) -> tuple[str, ...]:
        """The feature views: one per entity; none without times."""
        return tuple(f"{entity}_activity" for entity in self.entities) if self.time else ()

    def column(self, name: str) -> ColumnFacts:
        """The facts of a column."""
        return next(column for column in self.columns if column.name == name)


Labels = Mapping[tuple[str, str, str | None, bool], int]
"""Rows with a label, by task, class, day (None where it is not known), and whether a split by keys makes them test."""

SHARE = 0.7
LEAST, MOST_BEFORE = 0.3, 0.95
"""The bounds of the share before the split; where no day lies within, time does not split."""


def split_day(labels: Labels) -> str | None:
    """The first day (ISO) of the test part; None where no day leaves labels of each task on both sides.

    Days that leave all classes of all tasks on both sides come first, then those next to the share.
    """
    dated = Counter[tuple[str, str, str]]()
    days_of: dict[tuple[str, ...], set[str]] = {}
    for (task, name, day, _), rows in labels.items():
        if day is not None:
            dated[task, name, day] += rows
            for group in ((task,), (task, name)):
                days_of.setdefault(group, set()).add(day)

    def missing(day: str, *, classes: bool) -> int:
        """How many sides of classes, or of tasks, have no label."""
        ends = [(min(days), max(days)) for group, days in days_of.items() if (len(group) == 2) == classes]
        return sum((first >= day) + (last < day) for first, last in ends)

    before, total = 0, sum(dated.values())
    rows_of = Counter[str]()
    for (_, _, day), rows in dated.items():
        rows_of[day] += rows
    found: list[tuple[int, float, str]] = []
    for last, day in pairwise(sorted(rows_of)):
        before += rows_of[last]
        if LEAST <= before / total <= MOST_BEFORE and not missing(day, classes=False):
            found.append((missing(day, classes=True), abs(before / total - SHARE), day))
    return min(found)[-1] if found else None


def balance(rows: Mapping[str, int], classes: Iterable[str], least: int) -> tuple[float, ...] | None:
    """The share of each class, none below half a percent, adding up to 1; None below ``least`` labels."""
    names = list(classes)
    counts = [rows.get(name, 0) for name in names]
    total = sum(counts)
    if total < least:
        return None
    floor = min(5, 1000 // (2 * len(names)))
    shares = [max(floor, round(1000 * count / total)) for count in counts]
    largest = shares.index(max(shares))
    shares[largest] += 1000 - sum(shares)
    return tuple(share / 1000 for share in shares)


def dev_rows(labels: Labels, day: str | None) -> dict[str, Counter[str]]:
    """Labels of the dev part by task and class; without a day, keys split."""
    found: dict[str, Counter[str]] = {}
    for (task, name, known, late), rows in labels.items():
        if (known is not None and known < day) if day else not late:
            found.setdefault(task, Counter())[name] += rows
    return found


def sentences(
    proposal: Proposal,
    found: Survey,
    labels: Gold,
    meant: Mapping[str, Mapping[str, str] | None],
    roles: Roles,
) -> list[str]:
    """What the proposal cannot do, or does in a way that a person may want otherwise.

    ``meant`` are values of gold columns as classes.
    """
    said = []
    if proposal.key is None:
        said.append("No column is an id: row_id is made from what a row says; a row that changes is another one.")
    if proposal.time is None:
        said.append(
            "No column holds event times: there are no features of the past, no training sets as of a time, nothing "
            "to serve online, and no months; labels, checks, evaluation and training sets remain."
        )
    elif not proposal.entities:
        why = "All events lie within one hour" if roles.entities else "No column is an entity"
        said.append(f"{why}: there are no features of the past, and nothing to serve online.")
    if proposal.time is not None and proposal.partition != "month":
        said.append(f"One file of events holds a {proposal.partition} of them, by their span (events.partition).")
    said += [_of_task(name, task, labels, roles.maybe) for name, task in proposal.tasks.items()]
    said += found.leaks
    for name, values in meant.items():
        other = [f"{value!r} is {as_class}" for value, as_class in (values or {}).items() if value != as_class]
        if other:
            more = f" and {len(other) - 3} more" if len(other) > 3 else ""
            said.append(f"Values of {name} become classes by plain names: {', '.join(other[:3])}{more} (source.gold).")
    if proposal.gold_split:
        said.append(f"Gold from {proposal.gold_split} on is the test part, which only `weakfish evaluate` reads.")
    elif labels:
        said.append("Half of the gold, chosen by keys, is the test part, which only `weakfish evaluate` reads.")
    said += [
        f"Column {column} has times such as {text[:40]!r}, with day and month the other way round: others may be read "
        "wrong; make the files alike."
        for column, text in found.swapped.items()
    ]
    said += found.changed
    if found.rejected:
        said.append(f"Lines that cannot be read: {found.rejected:,}; data/quarantine/raw will have them, with reasons.")
    if found.copies:
        said.append(
            f"Rows equal to an earlier one: {found.copies:,} of {found.rows:,}; they are counted and left out. "
            "events.on_duplicate: quarantine in params.yaml keeps them all."
        )
    said += [f"Some files have no column {column}: it is null in their rows." for column in found.optional]
    pairs = {frozenset((plain(str(of.likely)), of.column)): of for of in found.renamed}
    said += [
        f"Column {of.likely} of {of.file} seems to be {of.column} under another name; if it is, rename it there."
        for of in pairs.values()
    ]
    said += [
        f"Values of {column} that become null: {count:,}, for each {reason}. data/quarantine/raw will tell which."
        for (column, reason), count in sorted(found.bad.items())
    ]
    return said


def _of_task(name: str, task: TaskProposal, labels: Gold, maybe: Sequence[str]) -> str:
    rows = sum(count for (named, *_), count in labels.items() if named == name)
    if rows:
        return f"Task {name}: {rows:,} rows have a label; classes {', '.join(task.classes)}."
    where = f"{task.gold} holds no label yet" if task.gold else "no column holds labels"
    if task.classes != DEFAULT:
        return f"Task {name}: {where}; classes {', '.join(task.classes)}."
    columns = f" ({', '.join(maybe[:3])} may)" if maybe else ""
    return (
        f"Task {name}: {where}, so say what to label: --classes TASK=a,b names the classes, --label COLUMN a column "
        f"that holds them{columns}. Until then they are {' and '.join(task.classes)}."
    )


BALANCED = 50
"""From how many dev labels on the class balance is taken from them."""


def propose(name: str, inferred: Inferred, roles: Roles, place: Place) -> tuple[Proposal, list[str]]:
    """Read all rows and propose a project.

    Raises
    ------
    ParamsError, SourceError
        When the files cannot be read so.
    UserError
        When a column does not hold what its part needs: times, or two to 128 classes; when rows are too few.
    """
    section, found, roles, corrected = _read(inferred, roles, place)
    facts = {column.name: column for column in found.facts}
    _check_filled(found, roles)
    classes, meant = _classes(found, roles)
    labels: Gold = Counter()  # by class instead of value
    for (task, value, day, late), rows in found.gold.items():
        labels[task, (meant[task] or {}).get(value, value), day, late] += rows
    split = split_day(labels) if roles.time else None
    dev = dev_rows(labels, split)
    # feature rows stand at full hours between events: there are none where all events lie in one
    hours = {str(end)[:13] for end in (facts[roles.time].least, facts[roles.time].greatest)} if roles.time else set()
    entities = roles.entities if len(hours) > 1 else ()
    telling = found.sample.drop_columns([name for name in roles.identifiers if name in found.sample.column_names])
    told = {
        task: known
        for task, column in roles.labels.items()
        if (known := _dev_gold(found, column, meant[task] or {}, classes[task], roles.time, split)) is not None
    }
    rules = examples(telling, classes, key=roles.key or MADE_KEY, time=roles.time, entities=entities, dev=told)
    if not all(rules.values()):
        raise UserError(
            f"{place.path} has {counted(found.rows, 'row')}, too few or too much alike for a function that votes on "
            "some of them; bring more rows."
        )
    gold: dict[str, JsonValue] = {
        task: {"column": column, "values": dict(values)} if (values := meant[task]) else column
        for task, column in roles.labels.items()
    }
    proposal = Proposal(
        name=name,
        path=place.path,
        fetch_dep=place.fetch_dep,
        source={**section, "gold": gold} if gold else section,
        key=roles.key,
        time=roles.time,
        time_zone=roles.time_zone,
        entities=entities,
        texts=roles.texts,
        columns=found.facts,
        rows=found.rows,
        partition=roles.partition or _partition(found, roles.time),
        identifiers=roles.identifiers,
        tasks={
            task: TaskProposal(
                classes=names,
                gold=roles.labels.get(task),
                class_balance=balance(dev.get(task, {}), names, BALANCED),
                has_dev=any(dev.get(task, {}).values()),
            )
            for task, names in classes.items()
        },
        gold_split=split,
        rules=rules,
        suites=measure(
            found.sample,
            key=roles.key or MADE_KEY,
            time=roles.time,
            facts=found.facts,
            key_repeats=found.key_repeats,
            rejected=found.rejected,
        ),
    )
    return proposal, [*corrected, *sentences(proposal, found, labels, meant, roles)]


def _dev_gold(
    found: Survey, column: str, meant: Mapping[str, str], classes: Sequence[str], time: str | None, day: str | None
) -> DevRows | None:
    """The rows of dev gold of a column, as far as they were kept; None where there are none."""
    if column not in found.told.column_names:
        return None
    values = pc.utf8_trim_whitespace(found.told[column]).to_pylist()
    labels = np.array([classes.index(name) if (name := meant.get(value, value)) in classes else -1 for value in values])
    known = pa.chunked_array([pa.array(labels >= 0)])
    if day is not None and time is not None:
        early = pc.less(found.told[time], pa.scalar(datetime.fromisoformat(day).replace(tzinfo=UTC), TIME))
    else:
        early = pc.invert(found.told[LATE])
    chosen = pc.and_(known, early).fill_null(False).to_numpy()
    rows = found.told.select(found.sample.column_names).filter(pa.array(chosen))
    return DevRows(rows, labels[chosen]) if chosen.any() else None


MOST_LATE = 50
"""The most columns beyond the sample that are taken."""


def _read(inferred: Inferred, roles: Roles, place: Place) -> tuple[dict[str, JsonValue], Survey, Roles, list[str]]:
    """Read all rows; again with other settings where they show that the sample did not tell all of them.

    Returns the section of the source, what all rows are, the parts as they are now, and sentences about what changed.
    """
    section = settings(inferred, roles, place.path)
    found = survey(section, place.given)
    corrected, said = _corrected(inferred, roles, place, found)
    if corrected != roles:
        section = settings(inferred, corrected, place.path)
        found = survey(section, place.given)
    if found.optional:
        section["optional"] = list(found.optional)
    left_out = sorted(header for header in found.unknown if plain(header) not in roles.without)
    if left_out:
        names = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5:,} more" if len(left_out) > 5 else "")
        said.append(f"Columns left out: {names}; there are too many that few rows have.")
    return section, found, corrected, said


def _corrected(inferred: Inferred, roles: Roles, place: Place, found: Survey) -> tuple[Roles, list[str]]:
    """The parts as all rows show them to be, and sentences about what changed."""
    kinds, formats, key, said = dict(roles.kinds), dict(roles.formats), roles.key, []
    nulls = roles.nulls
    for column, text in found.unfit.items():
        shown = f"it has values such as {text[:60]!r}"
        if column in roles.fixed:
            keep = f"--type {column}=string keeps them"
            said.append(f"Column {column}: {shown}, which {kinds[column]} columns change; {keep}.")
        else:
            kinds[column] = "string"
            said.append(f"Column {column} is text: {shown}, which a number would change.")
    for task, column in roles.labels.items():
        words = Counter({word: rows for word, rows in _values_of(found, task).items() if word in NO_LABELS})
        wanted = {plain(name) for name in roles.classes.get(task, ())}
        if unlabelled := {word: rows for word, rows in words.items() if plain(word) not in wanted}:
            nulls = _with_nulls(nulls, kinds, column, unlabelled)
            said.append(
                f"Column {column}: {', '.join(map(repr, unlabelled))} is no class but says that a row has no label, on "
                f"{sum(unlabelled.values()):,} rows; --classes makes it one if it is among the names."
            )
    late = {plain(header): header for header in found.unknown if plain(header) not in (*kinds, *roles.without)}
    for new in described_later(inferred, place.given, dict(list(late.items())[:MOST_LATE])):
        usable = new.format is None or new.format.other is None or new.format.usual
        kinds[new.name] = new.kind if usable else "string"
        if new.format is not None and usable:
            formats[new.name] = new.format.form
        if new.null_values and (isinstance(nulls, Mapping) or nulls == ("",)):  # else a person said which
            nulls = _with_nulls(nulls, kinds, new.name, new.null_values)
        said.append(
            f"Column {new.name} is not in the rows looked at first; it is kept, as {kinds[new.name]} "
            f"(from {found.unknown[new.header]} on)."
        )
    if roles.guessed_key and found.key_repeats:
        kinds[str(key)] = next(column.kind for column in inferred.columns if column.name == key)
        said.append(f"Column {key} is no id: on {found.key_repeats:,} rows its value stands again.")
        key = None
    return replace(roles, kinds=kinds, formats=formats, nulls=nulls, key=key), said


Nulls = tuple[str, ...] | Mapping[str, tuple[str, ...]]


def _with_nulls(nulls: Nulls, columns: Iterable[str], column: str, words: Iterable[str]) -> Nulls:
    """Texts that mean null, and in a column some more."""
    if not isinstance(nulls, Mapping):
        nulls = {} if nulls == ("",) else dict.fromkeys(columns, nulls)
    return {**nulls, column: tuple(dict.fromkeys((*nulls.get(column, ("",)), *words)))}


def _values_of(found: Survey, task: str) -> Counter[str]:
    """How many rows have each value of a task's gold column."""
    values = Counter[str]()
    for (named, value, *_), rows in found.gold.items():
        values[value] += rows if named == task else 0
    return +values


DAYS, YEARS = 45, 20
"""Below so many days one file of events holds a day, from so many years on a year: windows need several, not many."""

ASTRAY = 0.05
"""The share of the first and of the last events that may have wrong clocks."""


def _partition(found: Survey, time: str | None) -> Partition:
    """What one file of events holds: by the span of most of them, since devices of wrong clocks must not tell."""
    times = found.sample[time].drop_null() if time else None
    if times is None or not len(times):
        return "month"
    first, last = pc.quantile(pc.cast(times, pa.int64()), [ASTRAY, 1 - ASTRAY], interpolation="nearest").to_pylist()
    days = (last - first) / (1 - 2 * ASTRAY) / 86_400_000_000
    return "day" if days < DAYS else "year" if days >= YEARS * 365.25 else "month"


def _check_filled(found: Survey, roles: Roles) -> None:
    empty = [facts.name for facts in found.facts if facts.nulls == found.rows]
    for column in (roles.key, *roles.entities, *roles.texts):
        if column in empty:
            raise UserError(f"Column {column!r} is empty in all rows; give its part to another, or to none.")
    if roles.time in empty:
        raise UserError(
            f"Column {roles.time!r} holds no time as 2024-05-31T12:00:00Z in any row; name another with --time, "
            "or say --no-time."
        )


def _classes(found: Survey, roles: Roles) -> tuple[dict[str, tuple[str, ...]], dict[str, dict[str, str] | None]]:
    """The classes of each task, and the class of each value of its gold column where they differ."""
    classes: dict[str, tuple[str, ...]] = {}
    meant: dict[str, dict[str, str] | None] = {}
    for task in roles.tasks:
        wanted = roles.classes.get(task, ())
        column = roles.labels.get(task)
        if column is None:
            classes[task] = wanted or DEFAULT
            continue
        values = _values_of(found, task)
        classes[task], meant[task] = classes_of(values, column, wanted)
        check_classes(classes[task])
    return classes, meant
