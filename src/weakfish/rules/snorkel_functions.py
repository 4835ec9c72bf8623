"""Snorkel's labeling function without the rest of ``snorkel.labeling``, and what of it Snorkel keeps private.

``snorkel.labeling`` imports scikit-learn for its analyses: a second of CPU time that voting has no use for. So the
package stands in ``sys.modules`` with its contents still to come: its labeling functions are there, and its own code
runs when someone asks it for anything else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any, cast

import snorkel

PACKAGE = "snorkel.labeling"
FUNCTIONS = ("LabelingFunction", "labeling_function")


class _Later(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name in FUNCTIONS:
            return getattr(import_module(f"{PACKAGE}.lf"), name)
        if name.startswith("__") and name != "__all__":  # what Python's own machinery asks of any module
            raise AttributeError(f"module {PACKAGE!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        cast(Any, self.__spec__).loader.exec_module(self)
        return getattr(self, name)


def _placed() -> None:
    spec = find_spec(PACKAGE)
    if PACKAGE in sys.modules or spec is None:
        return
    module = module_from_spec(spec)
    module.__class__ = _Later
    sys.modules[PACKAGE] = snorkel.labeling = module


_placed()

from snorkel.labeling.lf import LabelingFunction  # noqa: E402  after its package was put in place

__all__ = ["LabelingFunction", "has_preprocessors", "resources_of", "wrapped"]


def wrapped(function: LabelingFunction) -> Callable[..., Any]:
    """The Python function that a labeling function was made of."""
    found: Callable[..., Any] = function._f
    return found


def has_preprocessors(function: LabelingFunction) -> bool:
    """Whether the data point is changed before the function sees it."""
    return bool(function._pre)


def resources_of(function: LabelingFunction) -> Mapping[str, Any]:
    """Named arguments that the function is called with beside the data point."""
    found: Mapping[str, Any] = function._resources
    return found
