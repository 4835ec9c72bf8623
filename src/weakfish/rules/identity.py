"""All that Python code depends on, found by following names: source, values, packages with their versions."""

from __future__ import annotations

import ast
import enum
import functools
import hashlib
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from itertools import chain
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.operations as ops
import numpy as np
import pandas as pd
import pyarrow as pa

from weakfish.files import sha256
from weakfish.project.paths import Project
from weakfish.rules.columnar import ColumnarLabelingFunction, content_digest
from weakfish.rules.loading import FOLDER
from weakfish.rules.snorkel_functions import LabelingFunction, has_preprocessors, wrapped

PLAIN = (str, bytes, int, float, complex, bool, type(None), type(...), range, Path, enum.Enum)
"""Values that their representation tells in full."""

DEPTH = 20
"""How deep objects may be nested before they count as not examined."""


class Dependencies:
    """Collects what code and values depend on, in the order in which it is found.

    Attributes
    ----------
    parts : list of str
        One text per piece of source, value or package; equal lists mean equal dependencies.
    certain : bool
        Whether everything could be examined.
    """

    def __init__(self, root: Path) -> None:
        self.parts: list[str] = []
        self.certain = True
        self._root = root
        self._seen: dict[int, Any] = {}

    def add(self, value: Any, depth: int = 0) -> None:
        """Add a value: code with all that it names, containers and objects with all that they hold."""
        if isinstance(value, PLAIN):
            self.parts.append(f"{type(value).__name__} {value!r}")
        elif id(value) in self._seen or depth > DEPTH:
            self.certain &= id(value) in self._seen
        else:
            self._seen[id(value)] = value  # kept, so that no other object gets its id
            self._add_new(value, depth + 1)

    def _add_new(self, value: Any, depth: int) -> None:
        if isinstance(value, types.ModuleType):
            self._add_module(value, depth)
        elif isinstance(value, (types.BuiltinFunctionType, types.MethodDescriptorType)) or not self._is_ours(value):
            self._add_foreign(value, depth)
        elif isinstance(value, types.FunctionType):
            self._add_function(value, depth)
        elif isinstance(value, type):
            self._add_class(value, depth)
        else:
            self._add_object(value, depth)

    def _add_module(self, module: types.ModuleType, depth: int) -> None:
        if not self._holds(module):
            self.parts.append(_package(module.__name__))
            return
        self.parts.append(inspect.getsource(module))
        for item in list(vars(module).values()):
            if isinstance(item, types.ModuleType) or self._holds(inspect.getmodule(item)):
                self.add(item, depth)

    def _add_function(self, function: types.FunctionType, depth: int) -> None:
        try:
            self.parts.append(inspect.getsource(function))
        except (OSError, TypeError):
            self.parts.append(repr(function.__code__.co_code))
        scope = inspect.getclosurevars(function)
        known = function.__globals__
        names = {name: known[name] for name in _names(function.__code__) if name in known} | dict(scope.nonlocals)
        for name in sorted(names):
            self.parts.append(name)
            self.add(names[name], depth)
        for default in (function.__defaults__, function.__kwdefaults__):
            self.add(default, depth)

    def _add_class(self, kind: type, depth: int) -> None:
        self.parts.append(f"class {kind.__qualname__}")
        for base in kind.__bases__:
            self.add(base, depth)
        for name, item in vars(kind).items():
            if not (name.startswith("__") and name.endswith("__")) or isinstance(item, types.FunctionType):
                self.parts.append(name)
                self.add(getattr(item, "__func__", item), depth)

    def _add_foreign(self, value: Any, depth: int) -> None:
        """What another package defines: its version tells code and classes; of objects, their contents count too."""
        kind = value if isinstance(value, type) else type(value)
        owner = getattr(value, "__module__", None)
        self.parts.append(
            f"{_package(str(owner or kind.__module__))} {getattr(value, '__qualname__', kind.__qualname__)}"
        )
        if not isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType)):
            self._add_object(value, depth)

    def _add_object(self, value: Any, depth: int) -> None:
        inner = _contents(value)
        if inner is None:
            self.certain = False
            return
        self.parts.append(f"{type(value).__module__}.{type(value).__qualname__}")
        if self._is_ours(type(value)):
            self.add(type(value), depth)
        for item in inner:
            self.add(item, depth)

    def _is_ours(self, value: Any) -> bool:
        return self._holds(inspect.getmodule(value if isinstance(value, (type, types.FunctionType)) else type(value)))

    def _holds(self, module: types.ModuleType | None) -> bool:
        """Whether the project owns a module: what is installed inside its folder, as in ``.venv``, is not its own."""
        file = getattr(module, "__file__", None)
        if not file:
            return False
        return Path(file).is_relative_to(self._root) and "site-packages" not in Path(file).parts


def _names(code: types.CodeType) -> Iterator[str]:
    """The globals and attributes that code and the functions inside it name."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


_CONTENTS: list[tuple[Any, Callable[[Any], list[Any]]]] = [
    (re.Pattern, lambda value: [value.pattern, value.flags]),
    ((set, frozenset), lambda value: sorted(value, key=repr)),
    (Mapping, lambda value: list(chain.from_iterable(value.items()))),
    ((list, tuple), list),
    (functools.partial, lambda value: [value.func, value.args, value.keywords]),
    (types.MethodType, lambda value: [value.__func__, value.__self__]),
    ((pd.Series, pd.DataFrame, pd.Index), lambda value: [_sha256(pd.util.hash_pandas_object(value).to_numpy())]),
    ((staticmethod, classmethod), lambda value: [value.__func__]),
    (property, lambda value: [value.fget]),
]


def _contents(value: Any) -> list[Any] | None:
    """What an object holds, in a fixed order; None where that cannot be told."""
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        return [str(value.dtype), value.shape, _sha256(value)]
    for kinds, contents in _CONTENTS:
        if isinstance(value, kinds):
            return contents(value)
    held = getattr(value, "__dict__", None)
    return None if held is None else list(chain.from_iterable(sorted(held.items())))


def _sha256(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _package(module: str) -> str:
    """The distribution that a module belongs to, with its version; the standard library goes with Python's own."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == "builtins":
        return module
    try:
        return " ".join(f"{name}=={version(name)}" for name in sorted(set(_distributions().get(top, [])))) or module
    except PackageNotFoundError:
        return module


_distributions = cache(packages_distributions)


@dataclass(frozen=True)
class Identity:
    """What a function's votes depend on.

    Attributes
    ----------
    digest : str
        A SHA-256 of the function and all that it uses, but for the events.
    columns : list of str
        The columns of the events that it may read.
    certain : bool
        Whether all that it uses could be examined; where not, equal digests do not promise equal votes.
    """

    digest: str
    columns: list[str]
    certain: bool = True


def examine(function: LabelingFunction, project: Project, schema: pa.Schema) -> Identity:
    """The identity of a function on events of ``schema``.

    Raises
    ------
    LabelingFunctionError
        When a columnar function is no condition on these columns.
    """
    found = Dependencies(project.root)
    if isinstance(function, ColumnarLabelingFunction):
        events = ibis.table(ibis.Schema.from_pyarrow(schema), name="events")
        votes = function.votes(events)
        operation, text = votes.op(), ibis.to_sql(events.select(vote=votes), dialect="duckdb")
        used = {node.name for node in operation.find(ops.Field) if node.rel == events.op()}
        columns = [name for name in schema.names if name in used]
        for table in operation.find(ops.InMemoryTable):
            text = text.replace(table.name, content_digest(table.data.to_pyarrow(table.schema)))
        for node in operation.find((ops.ScalarUDF, ops.AggUDF)):
            found.add(node.__func__)
        parts = [text, *(f"{name} {schema.field(name).type}" for name in columns), *found.parts]
    else:
        found.add(function)
        columns, parts = columns_read(function, schema.names), [*found.parts, *_data_beside(project.root)]
    return Identity(hashlib.sha256("\0".join(parts).encode()).hexdigest(), columns, found.certain)


def columns_read(function: LabelingFunction, columns: list[str]) -> list[str]:
    """The columns that a row function may read: those that its source names, or all where that cannot be told.

    It can be told of a function without preprocessors that uses its data point only as ``x.column`` or ``x["column"]``.
    """
    named = None if has_preprocessors(function) else _names_read(wrapped(function))
    return columns if named is None or not named <= set(columns) else [name for name in columns if name in named]


def _names_read(function: Any) -> set[str] | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError):
        return None
    if not isinstance(tree, ast.FunctionDef) or not tree.args.args:
        return None
    point, found, seen = tree.args.args[0].arg, set(), 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is(node.value, point) and isinstance(node.ctx, ast.Load):
            found.add(node.attr)
        elif isinstance(node, ast.Subscript) and _is(node.value, point) and isinstance(node.slice, ast.Constant):
            found.add(str(node.slice.value))
        elif isinstance(node, ast.Name) and node.id == point:
            seen += 1
            continue
        else:
            continue
        seen -= 1
    return found if seen == 0 else None


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


@cache
def _data_beside(project: Path) -> tuple[str, ...]:
    """Files beside the functions that are no code: a function may read them when it is called."""
    files = sorted(file for file in (project / FOLDER).rglob("*") if file.is_file())
    return tuple(f"{file.name} {sha256(file)}" for file in files if file.suffix not in (".py", ".pyc"))
