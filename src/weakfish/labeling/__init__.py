"""Events into votes, votes into a label model, a label model into probabilistic labels."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weakfish.labeling.builders import keywords, lookup, patterns, threshold
    from weakfish.labeling.functions import ColumnarLabelingFunction, votes
    from weakfish.labeling.load import load_functions
    from weakfish.labeling.votes_file import ABSTAIN

__all__ = [
    "ABSTAIN",
    "ColumnarLabelingFunction",
    "keywords",
    "load_functions",
    "lookup",
    "patterns",
    "threshold",
    "votes",
]

_HOMES = {
    "ABSTAIN": "votes_file",
    "ColumnarLabelingFunction": "functions",
    "keywords": "builders",
    "load_functions": "load",
    "lookup": "builders",
    "patterns": "builders",
    "threshold": "builders",
    "votes": "functions",
}


def __getattr__(name: str) -> object:
    """Import a name when it is first asked for: Snorkel brings torch, which commands that only print do without."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
