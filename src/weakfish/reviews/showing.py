"""What a reviewer sees of a row: its columns, what voted what, why its label is so, and answered rows like it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from weakfish.contracts.gold import UNKNOWN
from weakfish.contracts.reports import LabelsReport, read_report
from weakfish.contracts.votes_file import ABSTAIN
from weakfish.labeling.explain import explain
from weakfish.reviews.answers import settle
from weakfish.reviews.session import AskedRow, ReviewSession

LONG = 120
"""Characters from which a value is shown as a text, not among the short ones."""

LIKE = 3
"""Rows like the one that is asked about that are shown."""

EXCERPT = 160
"""Characters of them."""


class Shown:
    """The rows of a session as a page shows them, as JSON."""

    def __init__(self, session: ReviewSession) -> None:
        self._session, self._labelled = session, session.labelled

    def row(self, asked: AskedRow) -> dict[str, Any]:
        """A row that is asked about: its ``texts`` and short ``values`` by column, and what is ``like`` it."""
        place = int(self._labelled.places([asked.key])[0])
        columns = self._columns(place)
        first = self._session.project.params.evaluate.text
        long = {name: columns[name] for name in first if name in columns}
        long |= {name: value for name, value in columns.items() if len(value) > LONG or "\n" in value}
        return {
            "key": asked.key,
            "purpose": asked.purpose,
            "why": asked.why,
            "said": dict(asked.said),
            "texts": long,
            "values": {name: value for name, value in columns.items() if name not in long},
            "like": self._like(place),
        }

    def why(self, asked: AskedRow) -> dict[str, Any]:
        """What the label is, how sure, and what each vote and word adds to it, the weightiest first."""
        found = explain(self._session.project, self._session.task, asked.key)
        probabilities = sorted(found["probabilities"].items(), key=lambda each: -each[1])
        label = found["label"] or probabilities[0][0]
        voted = [each for each in found["functions"] if each["vote"] is not None]
        votes = [
            {
                "name": each["name"],
                "vote": each["vote"],
                "doc": self._docs.get(each["name"]),
                "adds": _towards(each["log_odds"], label),
            }
            for each in voted
        ]
        words = [
            {"word": each["word"], "column": each["column"], "adds": _towards(each["log_odds"], label)}
            for each in (found["reader"] or {}).get("words", ())
        ]
        return {
            "key": asked.key,
            "label": found["label"],
            "about": label,
            "probabilities": [{"name": name, "share": share} for name, share in probabilities],
            "votes": sorted(votes, key=lambda each: -abs(each["adds"] or 0)),
            "silent": len(found["functions"]) - len(voted),
            "words": words,
        }

    @cached_property
    def _docs(self) -> Mapping[str, str | None]:
        """What each labeling function says of itself, as the last run has it."""
        functions = read_report(self._session.project, LabelsReport).tasks[self._session.task].functions
        return {function.name: function.doc for function in functions}

    def _columns(self, place: int) -> dict[str, str]:
        """The values of an event as text; missing ones are left out."""
        (event,) = self._labelled.events(np.array([place])).values()
        return {name: value for name, value in event.items() if value is not None}

    def _like(self, place: int) -> list[dict[str, str]]:
        """Rows with most of the same votes whose class somebody named, the most alike first."""
        found = {key: each.label for key, each in settle(self._session.answers).items() if each.label is not None}
        keys = list(found)
        places = self._labelled.places(keys)
        there = (places != UNKNOWN) & (places != place)
        votes, mine = self._labelled.votes[places[there]], self._labelled.votes[place]
        either = (votes != ABSTAIN) | (mine != ABSTAIN)
        same = ((votes == mine) & (mine != ABSTAIN)).sum(axis=1) / np.maximum(either.sum(axis=1), 1)
        best = [int(each) for each in np.argsort(-same, kind="stable")[:LIKE] if same[each] > 0]
        near = np.flatnonzero(there)[best]
        return [
            {"key": keys[each], "label": str(found[keys[each]]), "excerpt": self._excerpt(int(places[each]))}
            for each in near
        ]

    def _excerpt(self, place: int) -> str:
        longest = max(self._columns(place).values(), key=len, default="")
        text = " ".join(longest.split())
        return text if len(text) <= EXCERPT else f"{text[: EXCERPT - 1]}…"


def _towards(log_odds: dict[str, float] | None, label: str) -> float | None:
    """What adds to a class, in log odds against the first class; of the first class what takes from the next best."""
    if log_odds is None:
        return None
    return log_odds[label] if label in log_odds else -max(log_odds.values())
