"""Which method makes the labels, why, and the manifest that says so."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.contracts.figures import percent
from weakfish.contracts.manifests import LabelsManifest
from weakfish.contracts.tables import period_of
from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.engine.portable import log
from weakfish.errors import TableError
from weakfish.labeling import dawid_skene, hyper, naive_bayes
from weakfish.labeling.hyper import HyperModel
from weakfish.labeling.kinship import ENOUGH, Kinship
from weakfish.labeling.known import MIN_KNOWN, KnownVotes, accuracies, clearly_more, gains, weighed
from weakfish.labeling.label_model import (
    MIN_FUNCTIONS,
    FittedModel,
    Patterns,
    Probabilities,
    Sums,
    covered,
    decide,
    fit,
    kept,
    majority,
    once,
    refuse_no_votes,
    winners,
)
from weakfish.labeling.row_reader import FOLDS, joined
from weakfish.labeling.signals import Copy, FitSignals, copies, held_out, signals, unexplained_where_both
from weakfish.labeling.tally import VoteTally
from weakfish.labeling.vote_pairs import Counts
from weakfish.project.cache import Cache, key_of
from weakfish.project.params import TaskParams

Floats = npt.NDArray[np.float64]

MAJORITY, SNORKEL, HYPER, DAWID_SKENE, NAIVE_BAYES = "majority", "snorkel", "hyper", "dawid-skene", "naive-bayes"

Model = FittedModel | HyperModel
"""What a fit finds; a majority vote needs none, and has that of `HYPER` beside it."""

MIN_VOTING = 4
"""Functions from which pairs overdetermine Dawid and Skene's model."""

UNEXPLAINED = 0.01
"""How much of what functions have in common Dawid and Skene's model may leave unexplained for `auto` to take it."""

BEHIND = 0.01
"""By how much the pretrained model may be behind the majority vote in naming held-out votes for `auto` to take it."""

AHEAD = 0.01
"""By how much naive Bayes must be ahead of the pretrained model in naming them, since it trusts functions to judge on
their own."""


@dataclass(frozen=True)
class Chosen:
    """A fitted model, the method whose probabilities become labels, why, and what functions have in common.

    With known labels ``balance`` is what a row without votes has, by them, in place of the model's class balance, and
    ``without`` are the same for each part of the rows, made without the known rows of that part.
    """

    model: Model
    method: str
    why: list[str]
    kinship: Kinship
    judge: Callable[[], FitSignals]
    balance: Floats | None = None
    without: tuple[Chosen, ...] = ()

    def apart(self, part: int) -> Chosen:
        """What labels known rows of a part, of which it has seen none."""
        return self.without[part] if self.without else self

    @cached_property
    def signals(self) -> FitSignals:
        """The signals behind the model, computed when someone reads them."""
        return self.judge()

    def probabilities(self, votes: Votes) -> Probabilities:
        """The probabilities that become labels, (rows, classes); a row without votes has the class balance."""
        return probabilities_by(self.method, self.model, votes, self.balance)

    def by_part(self, votes: Votes) -> Probabilities:
        """The same for known rows of each part, (parts, rows, classes)."""
        return np.stack([self.apart(part).probabilities(votes) for part in range(FOLDS)])


def probabilities_by(method: str, model: Model, votes: Votes, balance: Floats | None = None) -> Probabilities:
    """The probabilities that a method makes of votes, (rows, classes).

    A row without votes has ``balance``, the model's class balance unless given.
    """
    votes = once(votes, model.as_one)
    by_votes = method != MAJORITY
    found = model.probabilities(votes) if by_votes else majority(votes, len(model.class_balance))
    if not by_votes or balance is not None:
        found[~covered(votes)] = model.class_balance if balance is None else balance
    return found


def choose(
    sums: Sums,
    patterns: Patterns,
    task: TaskParams,
    seed: int | None = None,
    through: str = "",
    cache: Cache | None = None,
    names: Sequence[str] = (),
    known: KnownVotes | None = None,
    apart: bool = True,
) -> Chosen:
    """Fit a label model on the rows behind ``sums`` and ``patterns``, of the method that the task's settings say.

    With ``auto`` functions that say the same count as one, see `Kinship`; ``names`` are those of the functions, for the
    reasons. ``known`` rows say what a row without votes has, and weigh votes where the method is ``auto`` or
    ``naive-bayes`` and rows of other parts show that they are better weighed so. ``apart`` says whether anyone asks for
    what labels these rows, of which it has seen none; it takes as long as the rest for each part.

    Raises
    ------
    LabelingFunctionError
        When no function votes at all, or when Snorkel's model is asked for and does not fit in memory.
    """
    refuse_no_votes(sums)
    classes, asked = len(task.classes), task.label_model.method
    kinship = Kinship.of(sums, classes)
    names = names or [f"function {number}" for number in range(1, sums.voted.functions + 1)]
    if asked != "auto":
        kinship = kinship.apart()
    own = _Fits(kinship.sums_of_sets(sums, classes), kinship.patterns_of_sets(patterns), task, seed, cache)
    base, told = own.by(asked), kinship.told(names, asked == "auto")

    def chosen(rows: KnownVotes | None) -> Chosen:
        informs = rows is not None and asked in ("auto", NAIVE_BAYES)
        found, method, why = own.informed(*base, rows) if rows is not None and informs else base

        def judge() -> FitSignals:
            judged = signals(found, own.sums, own.patterns, method == SNORKEL)
            if method == SNORKEL:
                return judged
            return replace(judged, copies=tuple(Copy(each.first, each.second, each.share) for each in kinship.copies))

        model = replace(found.through(through).taking(kinship.set_of), as_one=kinship.as_one)
        balance = None if rows is None else rows.balance(classes)
        return Chosen(model, method, [*why, *told], kinship, functools.cache(judge), balance)

    if known is None:
        return chosen(None)
    of_sets = replace(known, votes=kinship.votes_of_sets(known.votes))
    without = tuple(chosen(of_sets.without(part)) for part in range(FOLDS if apart else 0))
    return replace(chosen(of_sets), without=without)


def learn(votes: Votes, task: TaskParams, seed: int | None = None, known: KnownVotes | None = None) -> Chosen:
    """`choose` on a label matrix (rows, functions)."""
    tally = VoteTally.of(votes, len(task.classes))
    return choose(tally.sums, tally.patterns, task, seed, known=known)


@dataclass(frozen=True)
class _Fits:
    """The fits of the rows behind ``sums`` and ``patterns``; each is made once for the same votes."""

    sums: Sums
    patterns: Patterns
    task: TaskParams
    seed: int | None
    cache: Cache | None

    def by(self, asked: str) -> tuple[Model, str, list[str]]:
        """The model of a method, the method (which ``auto`` chooses), and why it is that one, in sentences."""
        functions = self.sums.voted.functions
        if functions < MIN_FUNCTIONS:
            return self.hyper(), MAJORITY, [_too_few(functions, "labeling function")]
        if asked == "auto":
            return self._chosen()
        made: dict[str, Callable[[], Model]] = {
            SNORKEL: lambda: fit(self.sums, self.task, self.seed, self.cache),
            DAWID_SKENE: self.dawid_skene,
            NAIVE_BAYES: lambda: naive_bayes.fit(self.hyper(), self.patterns),
        }
        model = made.get(asked, self.hyper)()
        return model, asked, [f"params.yaml asks for it: label_model.method is {asked}."]

    def informed(self, found: Model, method: str, why: list[str], known: KnownVotes) -> tuple[Model, str, list[str]]:
        """The same with what known rows say of the votes, if others of them bear it out."""
        voted, prior = known.voted(), naive_bayes.fit(self.hyper(), self.patterns)

        def corrected(by: KnownVotes) -> FittedModel:
            model = weighed(prior, by)
            return replace(model, weights=accuracies(model, self.sums.votes))

        # naive Bayes' probabilities lie close together: beside known rows others would teach nothing
        plain = corrected(voted.none()) if method == NAIVE_BAYES else found
        rows = f"{len(voted)} known labels of rows with votes"
        if len(voted) < MIN_KNOWN:
            said = f"Known labels of rows with votes: {len(voted)}, fewer than the {MIN_KNOWN} that weigh votes."
            return plain, method, [*why, said]
        before, after = gains(lambda votes: probabilities_by(method, found, votes), prior, voted)
        compared = f"log loss {-before.mean():.2f} without, {-after.mean():.2f} with them, each on rows not seen"
        if not clearly_more(after - before):
            return plain, method, [*why, f"{rows} do not clearly weigh votes better than {method} ({compared})."]
        return corrected(voted), NAIVE_BAYES, [f"{rows} weigh the votes, clearly better than {method} ({compared})."]

    def hyper(self) -> HyperModel:
        """The pretrained model."""
        return kept(
            self.cache,
            self._key(HYPER, hyper.SHA256),
            lambda: hyper.fit(self.patterns, self._balance, self.sums.rows),
            HyperModel.from_json,
        )

    def dawid_skene(self) -> FittedModel:
        """Dawid and Skene's model."""
        return kept(
            self.cache,
            self._key(DAWID_SKENE),
            lambda: dawid_skene.fit(self.patterns, self._balance, self.sums.rows),
            FittedModel.from_json,
        )

    @property
    def _balance(self) -> Floats:
        return np.array(self.task.label_model.class_balance)

    def _key(self, *method: str) -> str:
        patterns, digest = self.patterns.in_order(), hashlib.sha256()
        digest.update(patterns.votes.tobytes())
        digest.update(patterns.counts.tobytes())
        return key_of(*method, digest.hexdigest(), self.sums.rows, self._balance.tolist(), _versions())

    def _chosen(self) -> tuple[Model, str, list[str]]:
        """What ``auto`` takes.

        Dawid and Skene's model where functions vote for several classes each, and it explains what they have in common:
        then it knows how good each is. Else the pretrained model, or naive Bayes from its shares where that names
        held-out votes clearly better, unless a majority vote does.
        Snorkel's model is not tried: it assumes what Dawid and Skene's does, and was nowhere better.
        """
        functions = self.sums.voted.functions
        voting = int(self.sums.votes.reshape(functions, -1).any(axis=1).sum())
        pretrained, classes = self.hyper(), len(self._balance)
        if voting < MIN_FUNCTIONS:
            return pretrained, MAJORITY, [_too_few(voting, "different labeling function")]
        if voting >= MIN_VOTING:
            found = self.dawid_skene()
            left = unexplained_where_both(found, self.sums)
            if left is not None and left <= UNEXPLAINED:
                return (
                    found,
                    DAWID_SKENE,
                    [
                        f"Dawid and Skene's model explains what the {voting} functions have in common where two vote "
                        f"({percent(left)} left over), so it knows how good each of them is."
                    ],
                )
        counted = held_out(lambda votes: majority(votes, classes), self.patterns, classes)
        if counted is None:
            return pretrained, MAJORITY, ["No two functions vote on one row, so there is nothing to learn from."]
        weighed = naive_bayes.fit(pretrained, self.patterns)
        named, of_each = (held_out(model.posterior, self.patterns, classes) or 0.0 for model in (pretrained, weighed))
        told = (
            f"Of votes that are held out, the pretrained label model names {percent(named)} from the other votes of "
            f"their rows, naive Bayes from its shares {percent(of_each)}, a majority vote {percent(counted)}."
        )
        if named < counted - BEHIND:
            return pretrained, MAJORITY, [told, "So the labels are those of the majority vote."]
        why = [
            "How functions agree where two vote says too little of how good each is, or Dawid and Skene's model does "
            "not explain it.",
            told,
        ]
        votes = self.sums.votes.reshape(functions, -1).sum(axis=1)
        alike = [each for each in copies(weighed, self.sums) if min(votes[[each.first, each.second]]) >= ENOUGH]
        if alike:
            return (
                pretrained,
                HYPER,
                [
                    *why,
                    f"Pairs of functions that nearly copy each other: {len(alike)}; naive Bayes would count both.",
                ],
            )
        if of_each < named + AHEAD:
            return pretrained, HYPER, why
        return weighed, NAIVE_BAYES, why


@functools.cache
def _versions() -> list[str]:
    """The packages on which fits depend; asking for one reads its metadata, which takes milliseconds."""
    return [version(package) for package in ("numpy", "scipy", "weakfish")]


def _too_few(number: int, what: str) -> str:
    there = f"There is {number} {what}" if number == 1 else f"There are {number} {what}s"
    return (
        f"{there}; with fewer than {MIN_FUNCTIONS} nothing shows which is right, so the labels are those of the "
        "majority vote."
    )


ROOM = 1 << 22
"""Numbers, one per vote and class, that are weighed at once, so that memory stays small with many functions."""

CLOSE = 1e-9
"""Part of a weight by which two sums of the same weights may differ."""


@dataclass(frozen=True)
class Alone:
    """Counts over covered rows.

    Attributes
    ----------
    rows : int
        Covered rows behind the counts: all, or those of a sample of patterns where there are very many.
    settled : numpy.ndarray, int64, (functions,)
        Rows whose class the function's vote settles alone.
    differing : int
        Rows whose most probable class by the model is not among the majority's.
    """

    rows: int
    settled: Counts
    differing: int

    def __add__(self, other: Alone) -> Alone:
        return Alone(self.rows + other.rows, self.settled + other.settled, self.differing + other.differing)


def alone(chosen: Chosen | Maker, patterns: Patterns) -> Alone:
    """Weigh the votes of each pattern by the model that makes the labels, log-odds or one vote each.

    The pretrained model weighs votes all together, so each counts one there too.
    """
    (votes, counts), classes = patterns.covered(), len(chosen.model.class_balance)
    votes = once(votes, chosen.model.as_one)
    # what a vote (functions, votes, classes) and the class balance add to each class
    if isinstance(chosen.model, FittedModel) and chosen.method != MAJORITY:
        logs, prior = chosen.model.logs, log(chosen.model.class_balance)
    else:
        logs, prior = np.tile(np.eye(classes), (votes.shape[1], 1, 1)), np.zeros(classes)
    settled, step = np.zeros(votes.shape[1], np.int64), max(1, ROOM // logs[..., 0].size)
    for start in range(0, len(votes), step):
        of, functions = np.nonzero(votes[start : start + step] >= 0)
        added = logs[functions, votes[start + of, functions]]
        wins = _settles(added, of, prior)
        np.add.at(settled, functions[wins], counts[start + of[wins]])
    won = winners(chosen.model.posterior(votes)) & winners(majority(votes, len(prior)))
    return Alone(int(counts.sum()), settled, int(counts[~won.any(axis=1)].sum()))


def _settles(added: Floats, patterns: Counts, prior: Floats) -> npt.NDArray[np.bool_]:
    """Whether each vote outweighs all else in its pattern for one class, against every other class; (votes,).

    ``added`` is what each vote adds to each class, (votes, classes); ``patterns`` are those of votes, in order.
    """
    found, first = np.zeros(len(added), np.bool_), np.diff(patterns, prepend=-1) > 0
    starts, pattern = np.flatnonzero(first), np.cumsum(first) - 1
    for label in range(len(prior)):
        ahead = added[:, [label]] - np.delete(added, label, axis=1)
        all_of_it = np.add.reduceat(np.abs(ahead), starts) + np.abs(prior[label] - np.delete(prior, label))
        found |= (2 * ahead > all_of_it[pattern] * (1 + CLOSE)).all(axis=1)
    return found


@dataclass(frozen=True)
class Maker:
    """A fitted model and the method that make the labels of some periods.

    Attributes
    ----------
    model : FittedModel
    names : list of str
        The labeling functions in the order of the model's parameters.
    method : str
        ``snorkel``, ``hyper``, ``naive-bayes``, ``dawid-skene`` or ``majority``.
    partitions : list of str
        The periods that it labels.
    seed : int
        Decides ties.
    reader : dict
        What the manifest says of the reader that labels rest on as well; empty where there is none.
    balance, without
        As of `Chosen`.
    """

    model: Model
    names: list[str]
    method: str
    partitions: list[str]
    seed: int
    reader: dict[str, Any] = field(default_factory=dict)
    balance: Floats | None = None
    without: tuple[Maker, ...] = ()

    @staticmethod
    def of(chosen: Chosen, names: list[str], partitions: list[str], seed: int) -> Maker:
        """What makes labels as ``chosen`` says."""
        without = tuple(Maker.of(each, names, [], seed) for each in chosen.without)
        return Maker(chosen.model, names, chosen.method, partitions, seed, {}, chosen.balance, without)

    def apart(self, part: int) -> Maker:
        """What labels known rows of a part, of which it has seen none."""
        return replace(self.without[part], reader=self.reader) if self.without else self

    def probabilities(self, votes: Votes) -> Probabilities:
        """The probabilities that votes (rows, functions) get, (rows, classes)."""
        return probabilities_by(self.method, self.model, votes, self.balance)

    def labels(
        self, votes: Votes, keys: pa.ChunkedArray, said: tuple[Floats, npt.NDArray[np.bool_]] | None = None
    ) -> npt.NDArray[np.int64]:
        """The class of each row as a position, `ABSTAIN` where nothing is known.

        ``said`` is what a reader adds (rows, classes), and of which rows it knows anything; without it, votes decide.
        """
        probabilities, known = self.probabilities(votes), covered(votes)
        if said is not None:
            probabilities, known = joined(probabilities, said[0]), known | said[1]
        chosen = decide(probabilities, keys, self.seed)
        chosen[~known] = ABSTAIN
        return chosen

    def to_json(self) -> dict[str, Any]:
        """As the manifest of labels has it."""
        found = self.model.to_json() | {"functions": self.names, "method": self.method, "partitions": self.partitions}
        if self.balance is not None:
            found |= {"unvoted": self.balance.tolist(), "without_part": [each.to_json() for each in self.without]}
        return found

    @staticmethod
    def from_json(entry: Mapping[str, Any], method: str, seed: int) -> Maker:
        """What `to_json` wrote; ``method`` is that of manifests in which models have none."""
        return Maker(
            (HyperModel if "means" in entry else FittedModel).from_json(dict(entry)),
            list(entry["functions"]),
            entry.get("method", method),
            list(entry["partitions"]),
            seed,
            entry["reader"] if entry.get("reader", {}).get("used") else {},
            np.array(entry["unvoted"]) if "unvoted" in entry else None,
            tuple(Maker.from_json(each, method, seed) for each in entry.get("without_part", ())),
        )


def makers_of(manifest: LabelsManifest) -> list[Maker]:
    """What made labels; nothing of a manifest of the older form, without models and the order of their functions."""
    seed = manifest.settings["label_model"]["seed"]
    return [Maker.from_json(entry, manifest.method, seed) for entry in manifest.models if "functions" in entry]


def maker_of(manifest: LabelsManifest, partition: str) -> Maker:
    """What labelled a partition; raises `TableError` where the manifest has no model for it."""
    for maker in makers_of(manifest):
        if period_of(partition) in maker.partitions:
            return maker
    raise TableError(f"The manifest of the labels has no model for partition {partition}; run `dvc repro label`.")
