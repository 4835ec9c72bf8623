"""A task in ``reports/labeling_functions.json``: each function, each partition, and what speaks for which model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snorkel.labeling import LabelingFunction

from weakfish.checks.labels import crossed
from weakfish.labeling.functions import ColumnarLabelingFunction
from weakfish.labeling.load import module_of
from weakfish.labeling.modeling.alone import Alone, alone
from weakfish.labeling.modeling.choice import Chosen
from weakfish.labeling.modeling.patterns import Counts
from weakfish.labeling.modeling.tally import Tally
from weakfish.params import TaskParams


def summary(
    task: TaskParams,
    functions: Sequence[LabelingFunction],
    tallies: Mapping[str, Tally],
    faults: Sequence[int],
    parts: Mapping[str, dict[str, Any]],
    chosen: Chosen,
) -> dict[str, Any]:
    """The figures of a task.

    ``tallies``, and what ``write_labels`` returned in ``parts``, go by partition; ``faults`` counts failed rows of each
    function; ``chosen`` is the model of the last partition. Coverage, overlaps and conflicts are shares of all rows, as
    Snorkel's ``LFAnalysis`` has them; ``agreement`` is the share of the rows on which a function votes and the others
    have one majority, on which it votes as that, None without any; ``settles`` is the share of covered rows of `alone`.
    By partition, the same are counts of rows; ``others`` is that of `Tally`, in the form of `crossed`.
    """
    whole = Tally.total(tallies.values(), len(functions), len(task.classes))
    names = [function.name for function in functions]
    by_partition = {name: alone(chosen, tally.patterns) for name, tally in tallies.items()}
    return {
        "classes": task.classes,
        "class_balance": dict(zip(task.classes, task.label_model.class_balance, strict=True)),
        "rows": whole.sums.rows,
        "covered": whole.sums.covered,
        "method": chosen.method,
        "why": chosen.why,
        "signals": chosen.signals.to_json(names, chosen.model.losses),
        "functions": _functions(task, functions, whole, list(by_partition.values()), faults, chosen),
        "by_partition": [
            {"partition": name} | parts[name] | _counts(names, tally, by_partition[name])
            for name, tally in tallies.items()
        ],
    }


def _functions(
    task: TaskParams,
    functions: Sequence[LabelingFunction],
    whole: Tally,
    settled: Sequence[Alone],
    faults: Sequence[int],
    chosen: Chosen,
) -> list[dict[str, Any]]:
    votes, rows = _votes(whole, len(functions)), max(1, whole.sums.rows)
    weighed = max(1, sum(part.rows for part in settled))
    return [
        {
            "name": function.name,
            "module": module_of(function),
            "kind": "columnar" if isinstance(function, ColumnarLabelingFunction) else "row",
            "doc": " ".join((function._f.__doc__ or "").split()),
            "polarity": [name for name, count in zip(task.classes, votes[number], strict=True) if count],
            "coverage": sum(votes[number]) / rows,
            "overlaps": int(whole.overlaps[number]) / rows,
            "conflicts": int(whole.conflicts[number]) / rows,
            "agreement": _agreement(whole.others[number]),
            "settles": sum(int(part.settled[number]) for part in settled) / weighed,
            "weight": chosen.model.weights[number],
            "faults": faults[number],
        }
        for number, function in enumerate(functions)
    ]


def _counts(names: Sequence[str], tally: Tally, settled: Alone) -> dict[str, Any]:
    counts = {
        "votes": _votes(tally, len(names)),
        "conflicts": tally.conflicts.tolist(),
        "others": [crossed.written(table) for table in tally.others.tolist()],
        "settled": settled.settled.tolist(),
    }
    by_function = {what: dict(zip(names, of, strict=True)) for what, of in counts.items()}
    return by_function | {"weighed": settled.rows, "differing": settled.differing}


def _agreement(others: Counts) -> float | None:
    voted = others[:-1]
    return int(voted.trace()) / int(voted.sum()) if voted.any() else None


def _votes(tally: Tally, functions: int) -> list[list[int]]:
    found: list[list[int]] = tally.sums.votes.reshape(functions, -1).tolist()
    return found
