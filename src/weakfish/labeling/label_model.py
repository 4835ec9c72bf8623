"""Label models: the sums that a fit needs, the fit, posteriors, the majority vote, and which class wins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.engine.portable import exp, log
from weakfish.errors import LabelingFunctionError
from weakfish.labeling.vote_pairs import Counts, VotePairs
from weakfish.project.cache import Cache, key_of
from weakfish.project.params import TaskParams

if TYPE_CHECKING:
    from scipy.sparse import csr_array  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Sums:
    """Sums over the rows of a label matrix.

    Attributes
    ----------
    rows : int
    voted : VotePairs
        How often functions vote, each and in pairs.
    covered : int
        Rows on which any function votes.
    """

    rows: int
    voted: VotePairs
    covered: int

    @staticmethod
    def of(votes: Votes, cardinality: int) -> Sums:
        """The sums of a label matrix (rows, functions), int8, block by block."""
        voted, covered = VotePairs.of(votes, cardinality)
        return Sums(len(votes), voted, covered)

    @staticmethod
    def none(functions: int, cardinality: int) -> Sums:
        """The sums of no row."""
        return Sums(0, VotePairs.none(functions, cardinality), 0)

    @property
    def pairs(self) -> Counts:
        """Snorkel's ``L_ind.T @ L_ind``, int64, (functions * classes, functions * classes).

        At ``[i * classes + a, j * classes + b]`` the rows on which function i votes a and function j votes b.
        """
        return self.voted.dense()

    @property
    def votes(self) -> Counts:
        """How often each function votes each class, flat, (functions * classes,)."""
        found = np.zeros(self.voted.functions * self.voted.classes, np.int64)
        found[self.voted.columns] = self.voted.votes
        return found

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.rows + other.rows, self.voted + other.voted, self.covered + other.covered)


def indicators(votes: Votes, cardinality: int) -> csr_array:
    """``L_ind``, (rows, functions * classes): 1 where the function of a column votes its class, else 0."""
    from scipy.sparse import csr_array

    rows, functions = np.nonzero(votes >= 0)
    places = functions * cardinality + votes[rows, functions]
    return csr_array((np.ones(len(rows)), (rows, places)), shape=(len(votes), votes.shape[1] * cardinality))


BATCH = 1 << 18
"""Rows that are looked at together: arrays of this length stay small, and calls on them few."""

PROBE = 1 << 13
"""Rows of a batch that are tried first: where most of them differ from each other, patterns do not collapse."""

LIMIT = 1 << 16
"""Patterns that are kept of a whole table; with more, a sample of them."""


@dataclass(frozen=True)
class Patterns:
    """Vote patterns and how many rows have each.

    Attributes
    ----------
    votes : numpy.ndarray, int8, (patterns, functions)
    counts : numpy.ndarray, int64, (patterns,)
    inverse : numpy.ndarray, integers, (rows,)
        The pattern of each row of the batch; empty where patterns came from several.
    """

    votes: Votes
    counts: Counts
    inverse: npt.NDArray[np.integer] = field(default_factory=lambda: np.zeros(0, np.int64))

    @staticmethod
    def none(functions: int) -> Patterns:
        """Those of no row."""
        return Patterns(np.empty((0, functions), np.int8), np.zeros(0, np.int64))

    @staticmethod
    def of(votes: Votes) -> Patterns:
        """The distinct patterns of a batch by their first rows; all rows as they are where patterns do not collapse."""
        if not len(votes) or not _collapses(votes):
            return Patterns(votes, np.ones(len(votes), np.int64), np.arange(len(votes)))
        inverse = _numbers(votes)
        rows = np.arange(len(votes))
        first = np.empty(inverse.max() + 1, np.int64)
        first[inverse[::-1]] = rows[::-1]
        return Patterns(np.asarray(votes[first]), np.bincount(inverse).astype(np.int64), inverse)

    def in_order(self) -> Patterns:
        """The same patterns in an order that does not depend on where they came from."""
        order = np.lexsort(self.votes.T[::-1])
        return Patterns(self.votes[order], self.counts[order])

    def hashes(self) -> npt.NDArray[np.uint64]:
        """A number per pattern that depends on its votes alone."""
        found = np.zeros(len(self.counts), np.uint64)
        for column in self.votes.T:
            found = (found ^ (column - ABSTAIN).astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            found ^= found >> np.uint64(29)
        return found

    def covered(self) -> tuple[Votes, Counts]:
        """The patterns with a vote, and how many rows have each."""
        voted = covered(self.votes)
        return self.votes[voted], self.counts[voted]

    def sampled(self, costs: Counts, most: int) -> tuple[Votes, npt.NDArray[np.float64]]:
        """Patterns, and how many rows each stands for; a sample of them where their ``costs`` add up to above ``most``.

        A priority sample (Duffield, Lund and Thorup, 2007): common patterns are all in it, a rare one stands for
        others. What is drawn depends on the patterns alone, and at least one is.
        """
        if costs.sum() <= most:
            return self.votes, self.counts.astype(np.float64)
        priority = self.counts / ((self.hashes() + 1.0) / 2.0**64)
        order = np.argsort(-priority, kind="stable")
        number = max(1, int((np.cumsum(costs[order]) <= most).sum()))
        kept = np.sort(order[:number])
        return self.votes[kept], np.maximum(self.counts[kept], priority[order[min(number, len(order) - 1)]])

    def __add__(self, other: Patterns) -> Patterns:
        """The patterns of both; above `LIMIT` a sample of them that does not depend on the order of adding."""
        votes = np.concatenate([self.votes, other.votes])
        counts = np.concatenate([self.counts, other.counts])
        inverse = _numbers(votes) if len(votes) else np.zeros(0, np.int32)
        first = np.zeros(inverse.max(initial=-1) + 1, np.int64)
        first[inverse[::-1]] = np.arange(len(votes))[::-1]
        total = np.zeros(len(first), np.int64)
        np.add.at(total, inverse, counts)
        return _thinned(Patterns(votes[first], total))


def _collapses(votes: Votes) -> bool:
    probe = votes[:PROBE]
    return len(probe) < PROBE or int(_numbers(probe).max()) + 1 <= len(probe) // 2


def _numbers(votes: Votes) -> npt.NDArray[np.int32]:
    """The number of each row's pattern, by first appearance; read as digits of a code for as long as it fits."""
    base = int(votes.max()) + 2
    codes, room = np.zeros(len(votes), np.uint64), 1
    for column in votes.T:
        if room * base >= 1 << 64:
            codes = _ranks(codes).astype(np.uint64)
            room = int(codes.max()) + 1
        codes *= np.uint64(base)
        codes += (column - ABSTAIN).astype(np.uint64)
        room *= base
    return _ranks(codes)


def _ranks(codes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
    return np.asarray(pa.array(codes).dictionary_encode().indices.to_numpy())


def _thinned(patterns: Patterns) -> Patterns:
    """At most `LIMIT` patterns: those with the smallest hashes, whatever the order in which they came."""
    if len(patterns.counts) <= LIMIT:
        return patterns
    kept = np.sort(np.argsort(patterns.hashes(), kind="stable")[:LIMIT])
    return Patterns(patterns.votes[kept], patterns.counts[kept])


Floats = npt.NDArray[np.float64]

TOLERANCE = 1e-5
"""Probabilities that differ by less are tied, as in Snorkel's ``probs_to_preds``."""

Classes = npt.NDArray[np.int64]


def winners(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which classes are most probable, (rows, classes); several where they tie."""
    return np.asarray(probabilities.max(axis=1, keepdims=True) - probabilities < TOLERANCE)


def decide(
    probabilities: npt.NDArray[np.float64],
    keys: pa.Array | pa.ChunkedArray,
    seed: int,
    inverse: npt.NDArray[np.integer] | None = None,
) -> Classes:
    """The class of each row as a position; a tie goes to the class that `draws` names.

    ``inverse`` gives the row of ``probabilities`` for each key, where several keys share one. The answer for a key does
    not depend on its place, nor on other rows, nor on the run.
    """
    won = winners(probabilities)
    order = np.argsort(~won, axis=1, kind="stable")
    number = won.sum(axis=1)
    if inverse is not None:
        order, number = order[inverse], number[inverse]
    tied = np.flatnonzero(number > 1)
    chosen: Classes = order[:, 0].astype(np.int64)
    if len(tied):
        draw = draws(keys.take(pa.array(tied)), seed) % number[tied].astype(np.uint64)
        chosen[tied] = order[tied, draw.astype(np.int64)]
    return chosen


def draws(keys: pa.Array | pa.ChunkedArray, seed: int) -> npt.NDArray[np.uint64]:
    """A number per key: the SipHash-2-4 of its text, the secret being made from ``seed``."""
    from pandas.util import hash_array

    secret = hashlib.blake2b(str(seed).encode(), digest_size=8).hexdigest()
    texts = pc.fill_null(keys.cast(pa.large_string()), "").to_numpy(zero_copy_only=False)
    found: npt.NDArray[np.uint64] = hash_array(texts.astype(object), hash_key=secret, categorize=False)
    return found


SMALL, EPSILON = float(np.finfo(np.float64).tiny), float(np.finfo(np.float64).eps)
"""The least float of full precision, and the precision."""

Probabilities = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

MIN_FUNCTIONS = 3
"""Snorkel's label model tells functions apart by how pairs agree; with fewer than three it cannot."""


@dataclass(frozen=True, eq=False)
class FittedModel:
    """What a fit of Snorkel's ``LabelModel`` found; predicts without torch.

    Attributes
    ----------
    mu : numpy.ndarray, float32, (functions * classes, classes)
        At ``[i * classes + a, y]`` the probability that function i votes a on a row of class y.
    class_balance : numpy.ndarray, float64, (classes,)
        Snorkel's ``p``, the share of each class before any vote.
    weights : list of float
        Snorkel's ``get_weights()``: the estimated accuracy of each function where it votes.
    losses : list of (epoch, loss)
        About fifty of the fit, the first and the last among them.
    rows : int
        Rows that it was fitted on.
    fitted_through : str
        The last partition that it was fitted on.
    as_one : tuple of tuple of int
        Sets of functions of which each has one vote a row, see `once`.
    rounded : numpy.ndarray, float32, like ``mu``, or None
        The logarithms of ``mu`` as Snorkel's prediction rounds them. ``np.log`` rounds single floats by the processor,
        so these are part of the fit; None of a model that is not Snorkel's.
    """

    mu: Singles
    class_balance: Probabilities
    weights: list[float]
    losses: list[tuple[int, float]] = field(default_factory=list)
    rows: int = 0
    fitted_through: str = ""
    as_one: tuple[tuple[int, ...], ...] = ()
    rounded: Singles | None = None

    @cached_property
    def logs(self) -> Probabilities:
        """Logarithms of the estimates, by which it predicts, (functions, votes, classes)."""
        classes = len(self.class_balance)
        found = log(self.mu) if self.rounded is None else self.rounded.astype(np.float64)
        return found.reshape(-1, classes, classes)

    def at_bound(self) -> npt.NDArray[np.bool_]:
        """Which votes have an estimate that Snorkel holds at its bound, (functions, classes).

        The bound, ``mu_eps``, is 10^-ceil(log10(rows)) and at most 0.01: an estimate beyond it would be one over less
        than one row.
        """
        eps = np.float32(min(0.01, 1 / 10 ** len(str(max(1, self.rows - 1)))))
        held = (self.mu <= eps) | (self.mu >= 1 - eps)
        found: npt.NDArray[np.bool_] = held.any(axis=1).reshape(-1, len(self.class_balance))
        return found

    def probabilities(self, votes: Votes) -> Probabilities:
        """The posterior of each class, (rows, classes), within 1e-12 of ``LabelModel.predict_proba``.

        Once per distinct pattern of a batch, the same bytes everywhere. A row without votes has the class balance.
        """
        found = np.empty((len(votes), len(self.class_balance)))
        for rows, patterns in batches(votes):
            np.take(self.posterior(patterns.votes), patterns.inverse, axis=0, out=found[rows])
        return found

    def posterior(self, votes: Votes, balance: Probabilities | None = None) -> Probabilities:
        """As `probabilities`, row by row; ``balance`` takes the place of the class balance.

        Adds the logarithms function by function, as the matrix product in ``predict_proba`` does. Where a product of
        small probabilities leaves the range of floats, and Snorkel's result is no number or has lost digits, the
        logarithms are put back into it first.
        """
        classes = len(self.class_balance)
        total = np.zeros((len(votes), classes))
        for votes_of_one, own in zip(votes.T, self.logs, strict=True):
            total += np.concatenate([own, np.zeros((1, classes))])[votes_of_one]
        total += log(self.class_balance if balance is None else balance)
        joint = exp(total)
        small = (joint.max(axis=1) < SMALL / EPSILON) & (joint < SMALL).any(axis=1)
        if small.any():
            joint[small] = exp(total[small] - total[small].max(axis=1, keepdims=True))
        shares: Probabilities = joint / joint.sum(axis=1).reshape(-1, 1)
        return shares

    def taking(self, functions: Sequence[int]) -> FittedModel:
        """The model of these functions (numbers of this one's, which may stand several times)."""
        classes = len(self.class_balance)
        rows = (np.array(functions, np.int64)[:, None] * classes + np.arange(classes)).ravel()
        mu, rounded = self.mu[rows], None if self.rounded is None else self.rounded[rows]
        return replace(self, mu=mu, rounded=rounded, weights=[self.weights[number] for number in functions])

    def extended(self, other: object, functions: Sequence[int]) -> FittedModel:
        """This model with functions of another one added, whose votes add nothing if that one is of another kind."""
        classes = len(self.class_balance)
        taken = replace(self, mu=np.ones((len(functions) * classes, classes), np.float32), rounded=None)
        if isinstance(other, FittedModel):
            taken = other.taking(functions)
        logs = taken.logs.reshape(-1, classes).astype(np.float32)
        rounded = None if self.rounded is None else np.concatenate([self.rounded, logs])
        mu, weights = np.concatenate([self.mu, taken.mu]), [*self.weights, *[0.0] * len(functions)]
        return replace(self, mu=mu, rounded=rounded, weights=weights)

    def to_json(self) -> dict[str, Any]:
        """As JSON, exactly."""
        as_one = {"as_one": [list(own) for own in self.as_one]} if self.as_one else {}
        rounded = {} if self.rounded is None else {"log_mu": self.rounded.astype(np.float64).tolist()}
        return (
            as_one
            | rounded
            | {
                "mu": [[float(value) for value in row] for row in self.mu],
                "class_balance": [float(value) for value in self.class_balance],
                "weights": self.weights,
                "losses": [list(pair) for pair in self.losses],
                "rows": self.rows,
                "fitted_through": self.fitted_through,
            }
        )

    @staticmethod
    def from_json(content: dict[str, Any]) -> FittedModel:
        """The model that `to_json` wrote; other keys are ignored."""
        return FittedModel(
            np.array(content["mu"], np.float32),
            np.array(content["class_balance"]),
            list(content["weights"]),
            [(epoch, loss) for epoch, loss in content["losses"]],
            content["rows"],
            content["fitted_through"],
            tuple(map(tuple, content.get("as_one", ()))),
            np.array(content["log_mu"], np.float32) if "log_mu" in content else None,
        )

    def through(self, partition: str) -> FittedModel:
        """This model, known as fitted through ``partition``."""
        return replace(self, fitted_through=partition)


PACKAGES = ("numpy", "snorkel", "torch")
"""Packages on whose versions a fit depends."""

LARGEST = 1 << 13
"""Functions times classes of which Snorkel's square matrices are made; they take about 2 GB."""


def refuse_no_votes(sums: Sums) -> None:
    """Raise `LabelingFunctionError` when no function votes at all."""
    if not sums.covered:
        raise LabelingFunctionError(
            "No labeling function votes on any row, so there is nothing to label; see reports/labeling_functions.json."
        )


def fit(sums: Sums, task: TaskParams, seed: int | None = None, cache: Cache | None = None) -> FittedModel:
    """Fit Snorkel's ``LabelModel`` on the rows behind ``sums``, its parameters to the bit as on their label matrix.

    ``seed`` overrides the task's. Snorkel's own default seed differs from process to process, so one is always passed.
    A fit that lies in ``cache`` is not made again, and torch not imported.

    Raises
    ------
    LabelingFunctionError
        With fewer than three functions, when no function votes at all, or when there are so many votes of functions
        and classes that Snorkel's matrices would not fit in memory.
    """
    classes, functions = len(task.classes), sums.voted.functions
    if functions < MIN_FUNCTIONS:
        raise LabelingFunctionError(
            f"The label model needs at least {MIN_FUNCTIONS} labeling functions, there are {functions}; add some."
        )
    refuse_no_votes(sums)
    if sums.voted.counts is None or functions * classes > LARGEST:
        raise LabelingFunctionError(
            f"Snorkel's label model of {functions} labeling functions and {classes} classes does not fit in memory; "
            "set label_models.<task>.method to auto, hyper or dawid-skene in params.yaml."
        )
    settings = task.label_model.model_copy(update={"seed": task.label_model.seed if seed is None else seed})
    versions = [version(package) for package in PACKAGES]
    pairs = sums.pairs
    counts = hashlib.sha256(pairs.tobytes()).hexdigest()
    own = settings.model_dump(mode="json", exclude={"method", "reader", "reads", "embeds", "known"})
    key = key_of(sums.rows, counts, classes, own, versions)

    def found() -> FittedModel:
        from weakfish.labeling.snorkel_model import LabelModelFromSums

        model = LabelModelFromSums(sums.rows, pairs, classes)
        model.train_on(settings)
        with np.errstate(divide="ignore"):  # a function that never votes has coverage 0, and weight 1
            weights = [float(weight) for weight in model.get_weights()]
        mu = model.mu.detach().numpy().copy()
        return FittedModel(mu, np.array(model.p), weights, model.losses, sums.rows, rounded=np.log(mu))

    return kept(cache, key, found, FittedModel.from_json)


class _Fitted(Protocol):
    def to_json(self) -> dict[str, Any]: ...


_Model = TypeVar("_Model", bound=_Fitted)


def kept(cache: Cache | None, key: str, make: Callable[[], _Model], read: Callable[[dict[str, Any]], _Model]) -> _Model:
    """What ``make`` fits, or what ``read`` makes of the JSON that lies in ``cache`` of an equal fit."""
    known = cache.get(key) if cache else None
    if known is not None:
        return read(json.loads(known.to_pybytes()))
    found = make()
    if cache:
        cache.put(key, json.dumps(found.to_json()).encode())
    return found


def batches(votes: Votes) -> Iterator[tuple[slice, Patterns]]:
    """The rows of each batch of a label matrix, and its patterns."""
    for start in range(0, len(votes), BATCH):
        rows = slice(start, min(start + BATCH, len(votes)))
        yield rows, Patterns.of(votes[rows])


def once(votes: Votes, sets: Sequence[Sequence[int]]) -> Votes:
    """Votes of which each set of functions (columns) has one a row: of those that vote, the first; others abstain."""
    found = votes.copy() if sets else votes
    for first, *others in sets:
        voted = found[:, first] != ABSTAIN
        for other in others:
            found[voted, other] = ABSTAIN
            voted |= found[:, other] != ABSTAIN
    return found


def majority(votes: Votes, cardinality: int) -> Probabilities:
    """Snorkel's majority vote, (rows, classes): ties share equally, a row without votes is uniform."""
    counts = np.stack([(votes == label).sum(axis=1) for label in range(cardinality)], axis=1)
    winners = counts == counts.max(axis=1, keepdims=True)
    shares: Probabilities = winners / winners.sum(axis=1, keepdims=True)
    return shares


def covered(votes: Votes) -> npt.NDArray[np.bool_]:
    """Whether any function votes on a row."""
    return np.asarray((votes != ABSTAIN).any(axis=1))
