"""The pretrained Hyper label model (Wu, Chen, Zhang and Chu, 2023, arXiv 2207.13545), in numpy.

A graph network reads the matrix of votes, once per class: a vote for the class is 1, another vote -1. What a layer
knows of a vote is mixed with its mean over the row, over the function, and over all votes. The last two are what a fit
finds; given them, a row's posterior depends on its own votes alone. Sums have one order, so that fits and posteriors
are the same bytes on every processor. ``pretrained/hyper.npz`` has the arrays of the checkpoint of ``hyperlm`` 0.0.5
(MIT licence, beside it), which was trained once on made-up votes and needs no gold.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.contracts.votes_file import Votes
from weakfish.engine.portable import exp, log, product
from weakfish.errors import LabelingFunctionError
from weakfish.labeling.label_model import Patterns, batches, covered

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SHA256 = "9f6866f3f6387d777d163a25ed7d05f842c21c2006e4a21752f4e7965eaed2c4"
"""Of ``pretrained/hyper.npz``."""

SIZES = (1, 8, 8, 8)
"""How many numbers each layer reads of a vote; their means are the fitted parameters."""

MOST, WORK = 1 << 20, 1 << 23
"""Votes that a fit looks at, and votes times passes: a sample of the patterns where there are more."""

CHUNK = 1 << 14
"""Votes that are scored together, so that they stay in the processor's cache."""

DOUBLINGS = 5
POWER = 2**DOUBLINGS
"""What the network's shares are raised to. It was trained to order classes: its shares lie close together, whatever
the votes (0.47 to 0.53 of two classes), and say little as probabilities; see docs/label-model.md."""

SLOPE = 0.01
"""Of the network's activation below zero."""


@dataclass(frozen=True)
class _Layer:
    """What a layer adds up: a vote times ``own``, its means over the row, the function and all votes times theirs.

    Each is (numbers that it makes, numbers that it reads).
    """

    own: Floats
    row: Floats
    function: Floats
    whole: Floats
    bias: Floats


@dataclass(frozen=True)
class _Network:
    layers: tuple[_Layer, ...]
    dense: tuple[tuple[Floats, Floats], ...]


@cache
def network() -> _Network:
    """The pretrained network; two linear steps in a row, as each of its layers has them, are one here.

    Raises
    ------
    LabelingFunctionError
        When the file is not the one that belongs to this version.
    """
    content = (files("weakfish.labeling") / "pretrained" / "hyper.npz").read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise LabelingFunctionError(
            "weakfish/labeling/pretrained/hyper.npz is not the file of this version; install weakfish again."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        arrays = {name: stored[name].astype(np.float64) for name in stored.files}
    layers = []
    for number, size in enumerate(SIZES):
        name = f"matrix_net.{number}.linear"
        parts = np.split(arrays[f"{name}.weight"].T, range(size, 4 * size, size))
        kinds = ("self", "row", "col", "global")  # in the order in which the checkpoint stacks them
        named = [(f"{name}_{kind}", part) for kind, part in zip(kinds, parts, strict=True)]
        own, row, function, whole = (product(arrays[f"{each}.weight"].T, part).T for each, part in named)
        bias = sum(product(arrays[f"{each}.bias"][None], part)[0] for each, part in named)
        layers.append(_Layer(own, row, function, whole, (arrays[f"{name}.bias"] + bias)[:, None]))
    dense = [(arrays[f"classify.{number}.weight"], arrays[f"classify.{number}.bias"][:, None]) for number in (0, 2, 4)]
    return _Network(tuple(layers), tuple(dense))


@dataclass(frozen=True)
class _Entries:
    """The votes of some rows, each of which has one, row by row.

    ``rows``, ``classes`` and ``functions`` (entries,) say who votes what on which row; ``lengths`` (rows,) how many
    votes a row has, and ``starts`` (rows,) where its first is. What layers make lies in ``room`` by turns: to ask for
    megabytes again and again takes longer than to fill them.
    """

    rows: Ints
    classes: npt.NDArray[np.int8]
    functions: Ints
    lengths: Ints
    starts: Ints
    room: list[Floats]

    @staticmethod
    def of(votes: Votes) -> _Entries:
        rows, functions = np.nonzero(votes >= 0)
        lengths = np.bincount(rows, minlength=len(votes))
        widest = max(len(layer.own) for layer in network().layers)
        room = [np.empty((widest, len(rows))) for _ in range(3)]
        return _Entries(rows, votes[rows, functions], functions, lengths, np.cumsum(lengths) - lengths, room)

    def values(self, label: int) -> Floats:
        """What the network reads of the votes in the pass of a class, (1, entries)."""
        return np.where(self.classes == label, 1.0, -1.0)[None]

    def averages(self, found: Floats) -> Floats:
        """The means over the votes of each row, (numbers, rows)."""
        if not len(self.starts):
            return np.empty((len(found), 0))
        sums: Floats = np.add.reduceat(found, self.starts, axis=1)
        return sums / self.lengths

    def after(self, layer: _Layer, found: Floats, means: Floats) -> Floats:
        """What a layer makes of what it reads of the votes, given the means of `HyperModel.means`."""
        by_function = _times(layer.function, means[:-1].T)
        by_function += _times(layer.whole, means[-1:].T) + layer.bias
        by_row = _times(layer.row, self.averages(found))
        made, spare = (each[: len(layer.own)] for each in self.room[:2])
        self.room[:] = self.room[2], self.room[1], self.room[0]  # ``found`` may lie in the one that was made last
        _times(layer.own, found, made, spare)
        made += np.take(by_row, self.rows, axis=1, out=spare, mode="clip")
        made += np.take(by_function, self.functions, axis=1, out=spare, mode="clip")
        return _leaky(made, spare)


def _times(weights: Floats, found: Floats, total: Floats | None = None, each: Floats | None = None) -> Floats:
    """``weights @ found``, (numbers, numbers) by (numbers, entries), added in the order of the numbers."""
    first, *others = weights.T[:, :, None]
    total = np.multiply(first, found[0], out=total)
    each = np.empty_like(total) if each is None else each
    for weight, row in zip(others, found[1:], strict=True):
        total += np.multiply(weight, row, out=each)
    return total


def _leaky(values: Floats, spare: Floats | None = None) -> Floats:
    found: Floats = np.maximum(values, np.multiply(SLOPE, values, out=spare), out=values)
    return found


def _chunks(votes: Votes) -> Iterator[slice]:
    rows = max(1, CHUNK // max(1, votes.shape[1]))
    return (slice(start, start + rows) for start in range(0, len(votes), rows))


def passes(classes: int) -> Sequence[int]:
    """The classes that have a pass of the network each; of two classes one says all."""
    return [1] if classes == 2 else range(classes)


@dataclass(frozen=True, eq=False)
class HyperModel:
    """The Hyper label model, fitted: it labels any votes of the same functions.

    Attributes
    ----------
    means : numpy.ndarray, float32, (passes, functions + 1, numbers)
        What enters each layer of the network (`SIZES`, side by side), its mean over the votes of each function, and at
        last over all votes. A function that never voted has the mean of all.
    class_balance : numpy.ndarray, float64, (classes,)
        What a row without votes has.
    weights : list of float
        How often the votes of each function are right by the model itself; 1 for one that never votes.
    rows : int
        Rows that it was fitted on.
    fitted_through : str
        The last partition that it was fitted on.
    as_one : tuple of tuple of int
        Sets of functions of which each has one vote a row, see `label_model.once`.
    """

    means: npt.NDArray[np.float32]
    class_balance: Floats
    weights: list[float]
    rows: int = 0
    fitted_through: str = ""
    as_one: tuple[tuple[int, ...], ...] = ()

    @property
    def losses(self) -> list[tuple[int, float]]:
        """None: the network was trained before."""
        return []

    def probabilities(self, votes: Votes) -> Floats:
        """The posterior of each class, (rows, classes); computed once per distinct pattern of a batch."""
        found = np.empty((len(votes), len(self.class_balance)))
        for rows, patterns in batches(votes):
            np.take(self.posterior(patterns.votes), patterns.inverse, axis=0, out=found[rows])
        return found

    def posterior(self, votes: Votes) -> Floats:
        """As `probabilities`, row by row."""
        found, voted = np.tile(self.class_balance, (len(votes), 1)), covered(votes)
        logs = POWER * log(self.shares(votes[voted]))
        joint = exp(logs - logs.max(axis=1, keepdims=True, initial=-np.inf))
        found[voted] = joint / joint.sum(axis=1, keepdims=True)
        return found

    def shares(self, votes: Votes) -> Floats:
        """The shares of the classes as the network gives them, ``predict_prob`` of ``hyperlm``, of rows with votes."""
        found, ends = np.empty((len(votes), len(self.class_balance))), np.cumsum(SIZES)[:-1]
        means = [np.split(own, ends, axis=1) for own in self.means.astype(np.float64)]
        for chunk in _chunks(votes):
            entries = _Entries.of(votes[chunk])
            scores = [_score(entries, label, own) for label, own in zip(passes(found.shape[1]), means, strict=True)]
            found[chunk] = np.stack([1 - scores[0], scores[0]] if len(scores) == 1 else scores, axis=1)
        shares: Floats = found / found.sum(axis=1, keepdims=True)
        return shares

    def taking(self, functions: Sequence[int]) -> HyperModel:
        """The model of these functions (numbers of this one's, which may stand several times)."""
        weights = [self.weights[number] for number in functions]
        return replace(self, means=self.means[:, [*functions, -1]], weights=weights)

    def extended(self, other: object, functions: Sequence[int]) -> HyperModel:
        """This model with functions of another one added: as that one has them, if it is of the same kind."""
        added = np.repeat(self.means[:, -1:], len(functions), axis=1)
        if isinstance(other, HyperModel):
            added = other.means[:, list(functions)]
        means = np.concatenate([self.means[:, :-1], added, self.means[:, -1:]], axis=1)
        return replace(self, means=means, weights=[*self.weights, *[1.0] * len(functions)])

    def through(self, partition: str) -> HyperModel:
        """This model, known as fitted through ``partition``."""
        return replace(self, fitted_through=partition)

    def to_json(self) -> dict[str, Any]:
        """As JSON, exactly; ``means`` as the base64 of little-endian numbers."""
        return {
            "means": base64.b64encode(self.means.astype("<f4").tobytes()).decode(),
            "class_balance": [float(value) for value in self.class_balance],
            "weights": self.weights,
            "rows": self.rows,
            "fitted_through": self.fitted_through,
            "as_one": [list(own) for own in self.as_one],
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> HyperModel:
        """The model that `to_json` wrote; other keys are ignored."""
        balance, stored = np.array(content["class_balance"]), base64.b64decode(content["means"])
        means = np.frombuffer(stored, "<f4").reshape(len(passes(len(balance))), -1, sum(SIZES)).astype(np.float32)
        as_one = tuple(map(tuple, content["as_one"]))
        return HyperModel(means, balance, list(content["weights"]), content["rows"], content["fitted_through"], as_one)


def _score(entries: _Entries, label: int, means: Sequence[Floats]) -> Floats:
    """What the network says of a class, between 0 and 1, (rows,)."""
    found = entries.values(label)
    for layer, mean in zip(network().layers, means, strict=True):
        found = entries.after(layer, found, mean)
    found = entries.averages(found)
    *hidden, (weight, bias) = network().dense
    for inner, inner_bias in hidden:
        found = _leaky(_times(inner, found) + inner_bias)
    score: Floats = 1 / (1 + exp(-(_times(weight, found) + bias)[0]))
    return score


def fit(patterns: Patterns, balance: Floats, rows: int) -> HyperModel:
    """The Hyper label model of patterns and how many rows have each; ``balance`` is that of rows without votes."""
    labels, voted = passes(len(balance)), Patterns(*patterns.in_order().covered())
    votes, counts = voted.sampled((voted.votes >= 0).sum(axis=1), min(MOST, WORK // len(labels)))
    entries, functions, ends = _Entries.of(votes), votes.shape[1], np.cumsum((0, *SIZES))
    of_entry = np.repeat(counts, entries.lengths)

    def by_function(values: Floats) -> Floats:
        return np.bincount(entries.functions, values * of_entry, functions).astype(np.float64)

    weight = by_function(np.ones(len(of_entry)))
    means = np.zeros((len(labels), functions + 1, ends[-1]), np.float32)
    for own, label in zip(means, labels, strict=True):
        found = entries.values(label)
        for layer, (start, end) in zip(network().layers, pairwise(ends), strict=True):
            total = np.stack([by_function(values) for values in found], axis=1)
            whole = total.sum(axis=0) / weight.sum()
            own[:-1, start:end] = np.where(weight[:, None] > 0, total / np.maximum(weight, 1)[:, None], whole)
            own[-1, start:end] = whole
            if end < ends[-1]:
                found = entries.after(layer, found, own[:, start:end].astype(np.float64))
    model = HyperModel(means, np.asarray(balance, np.float64), [], rows)
    return replace(model, weights=_weights(model.posterior(votes), votes, counts))


def _weights(posterior: Floats, votes: Votes, counts: Floats) -> list[float]:
    found = []
    for of_one in votes.T:
        at = np.flatnonzero(of_one >= 0)
        right = (counts[at] * posterior[at, of_one[at]]).sum()
        found.append(float(right / counts[at].sum()) if len(at) else 1.0)
    return found
