"""Whether labels are worth anything, by gold: better than chance, than a constant answer, at any row of each class."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from weakfish.checks.rates import deviations, rounded
from weakfish.contracts.figures import counted, percent
from weakfish.contracts.gold import ROWS, ROWS_OF_CLASS, Confusion
from weakfish.contracts.reports import Empirical, LabelsReport, Metric, TaskMetrics, read_report
from weakfish.contracts.verdicts import Check, Kind, measured
from weakfish.project.paths import Project

SLIGHT = 0.2
"""Agreement beyond chance (kappa) up to which it is slight (Landis and Koch 1977)."""

EXPECTED = 5
"""Right votes that chance must bring before a labeling function is judged."""

CHANCE = "better_than_chance"
MAJORITY = "better_than_majority"
RECALL = "recall"
GOLD = "gold"

LABELS = "label_model"
"""The model whose probabilities become labels."""

COIN = 0.5
"""The AUC of chance."""


def checks_on_dev(project: Project, task: str) -> list[Check]:
    """What dev gold says of a task's labels and of each labeling function; nothing where no row has any."""
    found = read_report(project, LabelsReport).tasks[task]
    if found.dev is None or found.dev.confusion is None:
        return []
    chance = project.params.validation.labels.significance
    labels = Confusion.from_json(found.dev.confusion, found.classes)
    of_functions = [function_quality(of.name, of.dev, chance / len(found.functions)) for of in found.functions]
    return [*label_quality("labels", labels, "dev", chance), *filter(None, of_functions)]


def checks_on_test(project: Project, task: str, metrics: TaskMetrics) -> list[Check]:
    """What test gold says of a task's labels, by the metrics of `evaluate`; that nobody knows where no row has any."""
    rows, auc = metrics.test_rows or 0, metrics.models.get(LABELS, {}).get("auc", Metric())
    found = []
    if rows < ROWS:
        has = "No test row has a gold label"
        if rows:
            has = f"Only {counted(rows, 'test row')} {'has a gold label' if rows == 1 else 'have gold labels'}"
        found.append(
            measured(
                "evaluation",
                GOLD,
                "info",
                "Only labels that people gave can tell whether these labels are any good.",
                False,
                against_baseline=False,
                arguments={"rows": rows},
                observed=rows,
                threshold=ROWS,
                found=f"{has}, so nobody knows how good the labels of {task} are.",
                detects=f"Fewer than {ROWS} test rows with gold labels.",
            )
        )
    if auc.value is not None:
        value, (low, high) = auc.value, auc.interval or (auc.value, auc.value)
        low, high = (value if end is None else end for end in (low, high))
        found.append(
            measured(
                "evaluation",
                f"{CHANCE}(auc)",
                "warning",
                "Probabilities that rank rows no better than chance teach a model nothing, or the opposite.",
                high > COIN and (value > COIN or high > COIN + SLIGHT / 2),
                against_baseline=False,
                arguments={"rows": rows, "interval": list(auc.interval) if auc.interval else None},
                observed=value,
                threshold=COIN,
                found=f"The AUC of the labels is {value:.3f} on {rows:,} test rows ({low:.3f} to {high:.3f}); chance "
                "would reach 0.5.",
                detects="An AUC of 0.5 or less, where rows are enough to tell.",
            )
        )
    if metrics.confusion is not None:
        table = Confusion.from_json(metrics.confusion, project.task(task).classes)
        found += label_quality("evaluation", table, "test", project.params.validation.labels.significance)
    return found


def label_quality(kind: Kind, found: Confusion, part: str, significance: float) -> Iterator[Check]:
    """The checks of labels against rows with gold; what they are too few for is not asked.

    Parameters
    ----------
    kind
        Whose checks they are.
    part
        Which gold it is: ``dev`` or ``test``.
    significance
        The chance of a false alarm that the labels are no better than chance.
    """
    check = partial(measured, kind, severity="warning", against_baseline=False)
    places = range(len(found.classes))
    there = [found.of_class(place)[1] for place in places]
    asked = [place for place in places if there[place] >= ROWS_OF_CLASS]
    if found.rows < ROWS:
        return
    for place in asked:
        hits, rows, _ = found.of_class(place)
        name = found.classes[place]
        yield check(
            f"{RECALL}({name})",
            why="A class that the labels never find is lost to whatever learns from them.",
            holds=hits > 0,
            arguments={"class": name, "rows": rows},
            observed=rounded(hits / rows),
            threshold=0.0,
            found=f"The labels find {hits:,} of {rows:,} {part} rows of {name}.",
            detects=f"That none of {rows:,} rows of {name} is found.",
        )
    decided = found.rows - found.undecided
    if decided < ROWS or len(asked) < 2:
        return
    of_gold = [rows - found.counts[place][-1] for place, rows in enumerate(there)]
    of_labels = [found.of_class(place)[2] for place in places]
    agree = found.right / decided
    by_chance = sum(gold * said for gold, said in zip(of_gold, of_labels, strict=True)) / decided**2
    kappa = (agree - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0
    # Of two independent answers kappa has this standard error (Cohen 1960).
    error = math.sqrt(by_chance / (1 - by_chance) / decided) if by_chance < 1 else 0.0
    sure = deviations(2 * significance) * error
    worse = " They say the opposite of the gold labels." if kappa < -sure else ""
    yield check(
        CHANCE,
        why="Labels that agree with people no more often than chance would teach a model nothing.",
        holds=kappa > sure or (kappa > 0 and kappa + sure > SLIGHT),
        arguments={"rows": decided, "agree": rounded(agree), "by_chance": rounded(by_chance)},
        observed=rounded(kappa),
        threshold=rounded(sure),
        found=f"The labels are right on {percent(agree)} of {decided:,} {part} rows that they decide; chance would be "
        f"right on {percent(by_chance)}.{worse}",
        detects=f"Agreement beyond chance (kappa) of {sure:.2g} or less, where rows suffice to exclude {SLIGHT:g}.",
    )
    share, most = max((rows / decided, name) for rows, name in zip(of_gold, found.classes, strict=True))
    yield check(
        MAJORITY,
        why="Where always giving one answer is right as often, the labels add nothing to the shares of the classes.",
        holds=agree > share or any(_beats_constant(found, place) for place in asked),
        arguments={"rows": decided, "class": most},
        observed=rounded(agree),
        threshold=rounded(share),
        found=f"The labels are right on {percent(agree)} of {decided:,} {part} rows that they decide; always answering "
        f"{most} would be right on {percent(share)}.",
        detects="No better accuracy than always answering one class, and no class with a better F1 than that.",
    )


def _beats_constant(found: Confusion, place: int) -> bool:
    """Whether F1 of a class on decided rows is better than that of answering it always.

    Labels of a rare class may be right less often than the answer that it never occurs, and still find it.
    """
    hits, there, said = found.of_class(place)
    gold = there - found.counts[place][-1]
    decided = found.rows - found.undecided
    return gold > 0 and 2 * hits / (gold + said) > 2 * gold / (gold + decided)


def function_quality(rule: str, dev: Empirical | None, significance: float) -> Check | None:
    """Whether a labeling function is right more often than chance, by its votes on dev gold (see `Empirical`).

    None where chance would be right too seldom to tell.
    """
    from scipy.special import bdtr  # type: ignore[import-untyped]

    if dev is None or not dev.votes or (dev.by_chance or 0) < EXPECTED:
        return None
    votes, correct, chance = dev.votes, dev.correct or 0, dev.by_chance or 0.0
    unlikely = float(bdtr(correct, votes, min(1.0, chance / votes)))
    right = f"{correct:,}" if correct else "none"
    return measured(
        "labels",
        f"rule_right({rule})",
        "warning",
        "A labeling function that is right less often than chance votes for the wrong class.",
        unlikely >= significance,
        against_baseline=False,
        arguments={"rule": rule, "votes": votes, "correct": correct, "by_chance": rounded(chance)},
        observed=rounded(correct / votes),
        threshold=rounded(chance / votes),
        found=f"It is right on {right} of the {votes:,} dev rows on which it votes; chance would be right on "
        f"{chance:,.0f}.",
        detects="So few right votes that luck does not explain them.",
    )
