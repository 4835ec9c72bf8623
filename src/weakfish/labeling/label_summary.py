"""What is reported of a task's labels and labeling functions, from what was counted and written by partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from weakfish.contracts.gold import Confusion
from weakfish.contracts.tables import totals
from weakfish.contracts.votes_file import table_json
from weakfish.labeling.choice import Alone, Chosen
from weakfish.labeling.dev_gold import DevCounts, figures_of
from weakfish.labeling.slice_counts import SliceCounts
from weakfish.labeling.tally import VoteTally
from weakfish.labeling.vote_pairs import Counts
from weakfish.project.params import TaskParams
from weakfish.rules.columnar import ColumnarLabelingFunction
from weakfish.rules.loading import module_of
from weakfish.rules.snorkel_functions import LabelingFunction, wrapped


@dataclass(frozen=True)
class WrittenPart:
    """What was written of a partition, or of all parts of a period.

    ``counts`` are ``rows``, ``covered``, and ``mean``: the mean probability of each class over covered rows, None
    without any; ``labels`` are rows by label; ``slices`` are in their order; ``settled`` is what votes settle alone.
    """

    counts: dict[str, Any]
    labels: Counter[str]
    dev: DevCounts
    slices: list[SliceCounts]
    settled: Alone

    def __add__(self, other: WrittenPart) -> WrittenPart:
        """What was written of both."""
        both = [self.counts, other.counts]
        counts: dict[str, Any] = {name: sum(of[name] for of in both) for name in ("rows", "covered")}
        counts["mean"] = {
            name: sum(of["covered"] * (of["mean"][name] or 0.0) for of in both) / counts["covered"]
            if counts["covered"]
            else None
            for name in self.counts["mean"]
        }
        slices = [one + more for one, more in zip(self.slices, other.slices, strict=True)]
        settled = self.settled + other.settled
        return WrittenPart(counts, self.labels + other.labels, self.dev + other.dev, slices, settled)

    def to_json(self) -> dict[str, Any]:
        """As JSON, exactly; for whoever puts partitions together."""
        slices = [_plain(each) for each in self.slices]
        own = {"dev": _plain(self.dev), "slices": slices, "settled": _plain(self.settled)}
        return {"counts": self.counts, "labels": dict(self.labels), **own}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> WrittenPart:
        """What `to_json` made."""
        dev, settled = DevCounts(**_counted(content["dev"])), Alone(**_counted(content["settled"]))
        slices = [SliceCounts(**_counted(each)) for each in content["slices"]]
        return WrittenPart(content["counts"], Counter(content["labels"]), dev, slices, settled)


def _plain(counts: DevCounts | SliceCounts | Alone) -> dict[str, Any]:
    """The fields of counts: arrays as lists, a `Confusion` as its own fields."""
    fields = vars(counts).items()
    return {
        name: each.tolist() if isinstance(each, np.ndarray) else vars(each) if isinstance(each, Confusion) else each
        for name, each in fields
    }


def _counted(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What `_plain` made of, for the constructor."""
    return {
        name: np.array(each) if isinstance(each, list) else Confusion(**each) if isinstance(each, dict) else each
        for name, each in plain.items()
    }


@dataclass(frozen=True)
class VoteCounts:
    """What is reported of the votes on a period: the part of its `VoteTally` that is small.

    Attributes
    ----------
    votes : numpy.ndarray, int64, (functions, classes)
    conflicts, others
        As of `VoteTally`.
    """

    votes: Counts
    conflicts: Counts
    others: Counts

    @staticmethod
    def of(tally: VoteTally) -> VoteCounts:
        """Those of a tally."""
        return VoteCounts(tally.sums.votes.reshape(len(tally.conflicts), -1), tally.conflicts, tally.others)

    def __add__(self, other: VoteCounts) -> VoteCounts:
        return VoteCounts(self.votes + other.votes, self.conflicts + other.conflicts, self.others + other.others)


def summary(
    task: TaskParams,
    functions: Sequence[LabelingFunction],
    whole: VoteTally,
    counted: Mapping[str, VoteCounts],
    faults: Sequence[int],
    parts: Mapping[str, WrittenPart],
    chosen: Chosen,
) -> dict[str, Any]:
    """The figures of a task.

    ``whole`` is the tally of all rows; what was ``counted`` goes by period, what was written in ``parts`` by
    partition; ``faults`` counts failed rows of each function; ``chosen`` is the model of the last partition. Coverage,
    overlaps and conflicts are shares of all rows, as Snorkel's ``LFAnalysis`` has them; ``agreement`` is the share of
    the rows on which a function votes and the others have one majority, on which it votes as that, None without any;
    ``settles`` is the share of covered rows of `alone`.
    ``by_partition``, which goes by period, has the same as counts of rows; ``others`` is that of `VoteTally`, in the
    form of `table_json`.
    ``dev`` is what dev gold says of the labels and of each function (see `DevCounts`), None where no row has any.
    """
    parts = totals(parts)
    names, rows = [function.name for function in functions], max(1, whole.sums.rows)
    weighed = max(1, sum(part.settled.rows for part in parts.values()))
    counts = whole.sums.votes.reshape(len(functions), -1).tolist()

    dev = reduce(add, (part.dev for part in parts.values()))
    on_dev = dev.of_functions() if dev.labels.rows else [None] * len(functions)

    def by_function(columns: Iterable[Any]) -> dict[str, Any]:
        return dict(zip(names, columns, strict=True))

    return {
        "classes": task.classes,
        "class_balance": dict(zip(task.classes, task.label_model.class_balance, strict=True)),
        "rows": whole.sums.rows,
        "covered": whole.sums.covered,
        "method": chosen.method,
        "why": chosen.why,
        "signals": chosen.signals.to_json(names, chosen.model.losses, chosen.kinship),
        "dev": figures_of(dev.labels) if dev.labels.rows else None,
        "related": chosen.kinship.to_json(names),
        "functions": [
            {
                "name": function.name,
                "module": module_of(function),
                "kind": "columnar" if isinstance(function, ColumnarLabelingFunction) else "row",
                "doc": " ".join((wrapped(function).__doc__ or "").split()),
                "polarity": [name for name, count in zip(task.classes, counts[number], strict=True) if count],
                "coverage": sum(counts[number]) / rows,
                "overlaps": int(whole.overlaps[number]) / rows,
                "conflicts": int(whole.conflicts[number]) / rows,
                "agreement": _agreement(whole.others[number]),
                "settles": sum(int(part.settled.settled[number]) for part in parts.values()) / weighed,
                "weight": chosen.model.weights[number],
                "faults": faults[number],
                "dev": on_dev[number],
            }
            for number, function in enumerate(functions)
        ],
        "by_partition": [
            {
                "partition": name,
                **part.counts,
                "votes": by_function(counted[name].votes.tolist()),
                "conflicts": by_function(counted[name].conflicts.tolist()),
                "others": by_function(map(table_json, counted[name].others.tolist())),
                "settled": by_function(part.settled.settled.tolist()),
                "weighed": part.settled.rows,
                "differing": part.settled.differing,
            }
            for name, part in parts.items()
        ],
    }


def _agreement(others: Counts) -> float | None:
    voted = others[:-1]
    return int(voted.trace()) / int(voted.sum()) if voted.any() else None
