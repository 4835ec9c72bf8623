"""The door to Feast: a cheap import of it, and every name that Feast keeps private and Weakfish needs.

Modules that use Feast import this one before it (isort's settings in pyproject.toml order them so). pyproject.toml
also bounds Feast to the versions that these names were tried with; `tests/test_feast_adapter.py` notices when one goes.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_importing = threading.Lock()


def import_feast() -> None:
    """Import Feast for a fifth of the CPU time; what was imported before is left alone.

    Feast checks the types of its classes' arguments with ``typeguard.typechecked``, which parses and compiles every
    decorated class anew (4 CPU seconds), and it imports torch wherever that is installed (2 seconds) for
    ``to_tensor`` alone. While Feast is imported, the decorator does nothing and torch is hidden; both are as before
    when this returns or raises, and ``to_tensor`` imports torch when somebody calls it.
    """
    with _importing:
        if "feast" in sys.modules:
            return
        with _unchecked(), _hidden("torch") as hidden:
            importlib.import_module("feast")
        if hidden:
            _import_torch_on_demand()


@contextmanager
def _unchecked() -> Iterator[None]:
    import typeguard

    checked = typeguard.typechecked
    typeguard.typechecked = _unchanged  # type: ignore[assignment]
    try:
        yield
    finally:
        typeguard.typechecked = checked


def _unchanged(target: Any = None, **_: Any) -> Any:
    """The decorator ``typechecked``, with or without arguments, without its effect."""
    return _unchanged if target is None else target


@contextmanager
def _hidden(name: str) -> Iterator[bool]:
    """Make ``import name`` fail, unless it was imported before; tells whether it does."""
    hides = name not in sys.modules
    if hides:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield hides
    finally:
        if hides:
            del sys.modules[name]


def _import_torch_on_demand() -> None:
    """Let Feast's ``get_torch``, which found none, look again when it is called."""
    from feast import torch_wrapper

    said_missing = torch_wrapper.get_torch

    def get_torch() -> Any:
        if not torch_wrapper.TORCH_AVAILABLE:
            torch_wrapper._import_torch()
        return said_missing()

    for name, module in list(sys.modules.items()):
        if name.startswith("feast.") and getattr(module, "get_torch", None) is said_missing:
            module.get_torch = get_torch  # type: ignore[attr-defined]


import_feast()
