"""What answers have bought so far: the interval of the accuracy, shares of classes, labels that would change."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from weakfish.contracts.gold import UNKNOWN, Ints
from weakfish.files import read_json
from weakfish.labeling.choice import choose
from weakfish.labeling.dev_gold import decided
from weakfish.labeling.known import KnownVotes
from weakfish.labeling.label_model import covered
from weakfish.labeling.row_reader import FOLDS
from weakfish.labeling.tally import VoteTally
from weakfish.reviews.answers import draws, frame_file, settle
from weakfish.reviews.estimating import ReviewEstimates
from weakfish.reviews.measuring import Gauge, answered, frame_of
from weakfish.reviews.session import ReviewSession


class Gained:
    """What the answers about a task have bought, those of a session included, as they are given."""

    def __init__(self, session: ReviewSession) -> None:
        self._session, self._labelled = session, session.labelled
        self._frames: dict[str, Any] = {}

    @cached_property
    def _gauge(self) -> Gauge:
        return Gauge(self._labelled)

    def estimates(self) -> ReviewEstimates | None:
        """What all answers to *estimate* say of today's labels; None without any."""
        session = self._session
        drawn = draws(session.answers)
        for name in {each[0] for each in drawn} - self._frames.keys():
            file = frame_file(session.project, session.task, name)
            self._frames[name] = frame_of(read_json(file), file.name)
        named = {name for name, *_ in drawn}
        frames = {name: frame for name, frame in self._frames.items() if name in named}
        return self._gauge.measure(answered(frames, drawn, session.classes)) if drawn else None

    def changing(self) -> dict[str, int]:
        """Of answers that may teach: ``answered`` rows, those whose label is ``other`` than the answer, and ``moved``.

        The last are rows whose label by the votes alone would be another if the label model knew all these answers: a
        reader may still say otherwise, and without ``known: dev`` it does not know them.
        """
        of, classes = self._labelled, self._session.classes
        found = settle(self._session.answers)
        taught = {
            key: each.label for key, each in found.items() if each.label is not None and each.purpose != "estimate"
        }
        places = of.places(list(taught))
        there = places != UNKNOWN
        rows, labels = places[there], np.array([classes.index(label) for label in taught.values()], np.int64)[there]
        other = int((of.labels[rows] != labels).sum())
        return {"answered": len(rows), "other": other, "moved": self._moved(rows, labels) if len(rows) else 0}

    @cached_property
    def _tally(self) -> VoteTally:
        return VoteTally.of(self._labelled.votes, len(self._session.classes))

    def _decided(self, known: Ints) -> Ints:
        """What the label model decides of each pattern of votes, given the known class of each row, or `UNKNOWN`."""
        rows = np.flatnonzero(known != UNKNOWN)
        of_rows = KnownVotes(self._labelled.votes[rows], known[rows], np.arange(len(rows)) % FOLDS)
        task, tally = self._session.project.task(self._session.task), self._tally
        chosen = choose(tally.sums, tally.patterns, task, known=of_rows, apart=False)
        return decided(chosen.probabilities(tally.patterns.votes), covered(tally.patterns.votes))

    @cached_property
    def _known(self) -> Ints:
        """The class of each row that is known already."""
        found: Ints = np.where(self._labelled.is_known, self._labelled.labels, UNKNOWN)
        return found

    @cached_property
    def _before(self) -> Ints:
        return self._decided(self._known)

    def _moved(self, rows: Ints, labels: Ints) -> int:
        known = self._known.copy()
        known[rows] = labels
        return int(self._tally.patterns.counts[self._decided(known) != self._before].sum())
