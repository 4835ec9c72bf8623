"""Labeling functions and slices: conditions on columns, plain Python functions and short forms."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weakfish.contracts.votes_file import ABSTAIN
    from weakfish.rules.builders import keywords, lookup, patterns, threshold
    from weakfish.rules.columnar import ColumnarLabelingFunction, votes
    from weakfish.rules.loading import load_functions
    from weakfish.rules.slices import slice

__all__ = [
    "ABSTAIN",
    "ColumnarLabelingFunction",
    "keywords",
    "load_functions",
    "lookup",
    "patterns",
    "slice",
    "threshold",
    "votes",
]

_HOMES = dict.fromkeys(("keywords", "lookup", "patterns", "threshold"), "weakfish.rules.builders")
_HOMES |= dict.fromkeys(("ColumnarLabelingFunction", "votes"), "weakfish.rules.columnar")
_HOMES |= {"ABSTAIN": "weakfish.contracts.votes_file", "load_functions": "weakfish.rules.loading"}
_HOMES |= {"slice": "weakfish.rules.slices"}


def __getattr__(name: str) -> object:
    """Import a name when it is first asked for: Snorkel brings torch, which commands that only print do without."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
