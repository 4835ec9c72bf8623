"""What labeling and evaluation report: labeling_functions.json, votes.json and metrics.json below ``reports/``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator

from weakfish.contracts.record import Number, Rooted, parse, read
from weakfish.files import write_json

MODELS = {
    "gold": "Gold labels",
    "majority_vote": "Majority vote",
    "label_model": "Label model",
    "text_weak": "Classifier on text, weak labels",
    "features_weak": "Classifier on features, weak labels",
    "both_weak": "Classifier on text and features, weak labels",
    "text_gold": "Classifier on text, gold labels (ceiling)",
    "features_gold": "Classifier on features, gold labels (ceiling)",
    "both_gold": "Classifier on text and features, gold labels (ceiling)",
    "majority_class": "Always the most frequent class",
}


def _counted(value: Any) -> Any:
    return {"count": value} if isinstance(value, int) else value or {}


def _in_order(models: Mapping[str, Any]) -> Mapping[str, Any]:
    """Models as people expect them: first the labels, then what learned from them, then the ceiling."""
    known = [name for name in MODELS if name in models]
    return {name: models[name] for name in (*known, *sorted(set(models) - set(known)))}


@dataclass(frozen=True)
class FaultsReport:
    """How often a labeling function failed, as what, and the keys of the first rows."""

    count: int = 0
    exception: str | None = None
    rows: Sequence[Any] = ()

    @property
    def kind(self) -> str | None:
        """The class of the exception; its message might quote a row."""
        found = re.match(r"[\w.]+(?=$|:|\()", self.exception or "")
        return found.group() if found else None


@dataclass(frozen=True)
class Empirical:
    """How often a labeling function is right where it votes, and on how many rows it would be by chance."""

    votes: int | None = None
    correct: int | None = None
    accuracy: Number = None
    by_chance: Number = None


@dataclass(frozen=True)
class FunctionReport:
    """One labeling function of a task; ``weight`` is the accuracy that the label model learned for it."""

    name: str
    module: str | None = None
    kind: str | None = None
    doc: str | None = None
    polarity: Sequence[str] = ()
    coverage: Number = None
    overlaps: Number = None
    conflicts: Number = None
    weight: Number = None
    faults: Annotated[FaultsReport, BeforeValidator(_counted)] = field(default_factory=FaultsReport)
    dev: Empirical | None = None


@dataclass(frozen=True)
class DevReport:
    """Labels against dev gold: rows that have some, and figures, None where rows are too few.

    ``confusion`` is what `weakfish.contracts.gold.Confusion.to_json` made. Of two classes F1 is that of ``positive``;
    earlier versions name none and meant the last.
    """

    rows: int
    confusion: Any = None
    positive: str | None = None
    accuracy: Number = None
    f1: Number = None
    coverage: Number = None


@dataclass(frozen=True)
class PartitionReport:
    """What labeling counted in one partition; what versions before 0.2 did not count is missing there.

    Attributes
    ----------
    mean
        The mean probability per class of the covered rows.
    votes
        The votes of each function per class.
    conflicts
        Rows on which each function and another vote for different classes.
    others
        By function its own vote (abstaining last) and the one majority of the others, as
        `weakfish.contracts.votes_file.table_json` has it.
    settled, weighed, differing
        What `weakfish.labeling.signals` found: rows that each function's vote settles alone, the rows that were looked
        at, and those of them to which the majority vote gives another class.
    """

    partition: str
    rows: int
    covered: int
    mean: Mapping[str, Number] = field(default_factory=dict)
    votes: Mapping[str, list[int]] = field(default_factory=dict)
    conflicts: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)
    settled: Mapping[str, int] | None = None
    weighed: int | None = None
    differing: int | None = None


@dataclass(frozen=True)
class SlicePart:
    """What labeling counted of a slice in one partition, as in `PartitionReport`.

    ``conflicting`` are rows on which functions vote for different classes.
    """

    partition: str
    rows: int
    covered: int
    conflicting: int
    mean: Mapping[str, Number]
    votes: Mapping[str, list[int]]
    conflicts: Mapping[str, int]


@dataclass(frozen=True)
class SliceReport:
    """A slice of the events: what it is, and what labeling counted of it."""

    rows: int
    covered: int
    conflicting: int
    module: str = ""
    doc: str = ""
    dev: DevReport | None = None
    by_partition: Sequence[SlicePart] = ()


@dataclass(frozen=True)
class CopiesReport:
    """A pair of functions that agree more than two that judge on their own."""

    functions: tuple[str, str]
    residual: Number = None


@dataclass(frozen=True)
class SignalsReport:
    """What tells, without gold labels, whether to trust the label model or majority vote."""

    disagreement: Number = None
    unexplained: Number = None
    unstable: Number = None
    shift: Number = None
    sensitivity: Number = None
    converged: bool | None = None
    losses: Sequence[tuple[int, Number]] = ()
    copies: Sequence[CopiesReport] = ()
    at_clamp: int | None = None
    voting: int | None = None


@dataclass(frozen=True)
class TaskLabels:
    """One task of ``reports/labeling_functions.json``.

    ``labelled`` are rows with a label, earlier those covered; ``known`` those of each class whose label is known and
    was evidence, None in a task without.
    """

    classes: Sequence[str] = ()
    class_balance: Mapping[str, Number] = field(default_factory=dict)
    rows: int | None = None
    covered: int | None = None
    labelled: int | None = None
    known: Mapping[str, int] | None = None
    method: Literal["majority", "snorkel", "hyper", "naive-bayes", "dawid-skene"] | None = None
    why: Sequence[str] = ()
    signals: SignalsReport | None = None
    dev: DevReport | None = None
    functions: Sequence[FunctionReport] = ()
    by_partition: Sequence[PartitionReport] = ()
    slices: Mapping[str, SliceReport] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelsReport:
    """``reports/labeling_functions.json``."""

    tasks: dict[str, TaskLabels]


@dataclass(frozen=True)
class TaskVotes:
    """One task of ``reports/votes.json``; faults by function, of those that failed."""

    faults: Mapping[str, Annotated[FaultsReport, BeforeValidator(_counted)]] = field(default_factory=dict)


@dataclass(frozen=True)
class VotesReport:
    """``reports/votes.json``."""

    tasks: Mapping[str, TaskVotes] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A metric: its value, the worst over the seeds, and its bootstrap interval; no value for a ``reason``.

    The worst is the ``minimum``, or the ``maximum`` where less is better. A mean over classes says over how many.
    """

    value: Number = None
    minimum: Number = None
    maximum: Number = None
    interval: tuple[Number, Number] | None = None
    reason: str | None = None
    classes: int | None = None


@dataclass(frozen=True)
class ClassMetrics:
    """A class of three or more: its rows with gold labels, and by model and measure what rows can support."""

    test_rows: int | None = None
    dev_rows: int | None = None
    models: Annotated[Mapping[str, Mapping[str, Metric]], AfterValidator(_in_order)] = field(default_factory=dict)


@dataclass(frozen=True)
class SliceMetrics:
    """A slice: its rows with gold labels, and by model and measure what they can support."""

    test_rows: int
    models: Annotated[Mapping[str, Mapping[str, Metric]], AfterValidator(_in_order)] = field(default_factory=dict)


@dataclass(frozen=True)
class ShareReport:
    """The shares of classes among test rows, by the votes, and whether classifiers were corrected for them.

    ``trained`` are those that were learned from; ``nearer`` of the ``asked`` vote rates moved as ``new`` predicts.
    """

    sentence: str
    corrected: bool = False
    trained: Mapping[str, Number] = field(default_factory=dict)
    new: Mapping[str, Number] = field(default_factory=dict)
    rows: int | None = None
    asked: int | None = None
    nearer: int | None = None


@dataclass(frozen=True)
class ReviewFigures:
    """What answers of reviewers say of labels, see `weakfish.reviews.measuring`; they are those of no other figure."""

    estimates: Mapping[str, Any] | None = None
    slices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gold: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskMetrics:
    """One task of ``reports/metrics.json``; ``left_out`` says by plot why it cannot be had.

    Attributes
    ----------
    positive, positive_why
        The class of two that figures are about, and why; versions before 0.2 named none and meant the last.
    uncorrected
        Figures of classifiers as learned, where those in ``models`` are corrected, see ``share``.
    no_better
        By model, a sentence if it decides no better than always answering one class.
    slices
        The same models on the test rows of each slice.
    reviews
        What answers of reviewers say; None where there are none.
    confusion
        Of the labels on test, what `weakfish.contracts.gold.Confusion.to_json` made.
    """

    positive: str | None = None
    positive_why: str | None = None
    share: ShareReport | None = None
    uncorrected: Annotated[Mapping[str, Mapping[str, Metric]], AfterValidator(_in_order)] = field(default_factory=dict)
    no_better: Mapping[str, str] = field(default_factory=dict)

    test_rows: int | None = None
    dev_rows: int | None = None
    classes: Mapping[str, ClassMetrics] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    models: Annotated[Mapping[str, Mapping[str, Metric]], AfterValidator(_in_order)] = field(default_factory=dict)
    functions: Mapping[str, dict[str, Empirical]] = field(default_factory=dict)
    slices: Mapping[str, SliceMetrics] = field(default_factory=dict)
    confusion: Any = None
    reviews: ReviewFigures | None = None


@dataclass(frozen=True)
class Metrics:
    """``reports/metrics.json``."""

    tasks: dict[str, TaskMetrics]


@dataclass(frozen=True)
class SomeRows:
    """How many rows something is so of, and the keys of the first."""

    rows: int = 0
    keys: Sequence[str] = ()


@dataclass(frozen=True)
class TaskReviews:
    """One task of ``reports/reviews.json``.

    Attributes
    ----------
    answers, rows
        Lines of all files, and the rows of which a class counts, ``by_purpose`` and ``by_class``.
    skipped, unsure
        Last words of a reviewer that name no class.
    disputed, unknown
        Rows on which reviewers disagree without a resolution, and rows that are no accepted events: they do not count.
    answered_again
        Rows that a reviewer answered again without taking the first answer back; the last counts.
    half_lines
        Lines that a kill cut off.
    agreement
        What `weakfish.reviews.agreement` says of rows that several reviewers answered; None where there are none.
    """

    answers: int = 0
    rows: int = 0
    reviewers: Sequence[str] = ()
    by_purpose: Mapping[str, int] = field(default_factory=dict)
    by_class: Mapping[str, int] = field(default_factory=dict)
    skipped: int = 0
    unsure: int = 0
    resolved: int = 0
    disputed: SomeRows = field(default_factory=SomeRows)
    unknown: SomeRows = field(default_factory=SomeRows)
    answered_again: int = 0
    half_lines: Sequence[str] = ()
    agreement: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ReviewsReport:
    """``reports/reviews.json``."""

    tasks: Mapping[str, TaskReviews] = field(default_factory=dict)


R = TypeVar("R", LabelsReport, VotesReport, Metrics, ReviewsReport)

_FILES: dict[Any, str] = {
    LabelsReport: "labeling_functions",
    VotesReport: "votes",
    Metrics: "metrics",
    ReviewsReport: "reviews",
}


def report_file(project: Rooted, kind: Any) -> Path:
    """The file of a kind of report."""
    return project.root / "reports" / f"{_FILES[kind]}.json"


def read_report(project: Rooted, kind: type[R]) -> R:
    """What a stage reported; raises `TableError` when it is missing, cut off or something else."""
    return read(kind, report_file(project, kind))


def write_report(project: Rooted, kind: Any, tasks: Mapping[str, Any]) -> None:
    """Write what a stage reports of its tasks, as JSON; raises `TableError` where that is no such report."""
    file = report_file(project, kind)
    parse(kind, {"tasks": tasks}, file)
    write_json(file, {"tasks": tasks})
