"""What a labeling function depends on, as one hash: functions with equal identities vote alike on equal columns.

A columnar function is its expression in canonical form. A row function is its source and, transitively, what that uses:
the project's own code, globals, resources, and the versions of other packages.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import ibis
import ibis.expr.operations as ops
import pyarrow as pa
from snorkel.labeling import LabelingFunction

from weakfish.errors import LabelingFunctionError
from weakfish.labeling.dependencies import Dependencies
from weakfish.labeling.functions import ColumnarLabelingFunction
from weakfish.project import Project

UNREPEATABLE = (ops.RandomScalar, ops.RandomUUID, ops.TimestampNow, ops.DateNow)
"""What gives another answer at another time, so that nothing made of it can be trusted twice."""


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
        When a columnar function is no condition on these columns, or would not repeat itself.
    """
    if isinstance(function, ColumnarLabelingFunction):
        return _columnar(function, project, schema)
    found = Dependencies(project.root)
    found.add(function)
    parts = [*found.parts, *_data_beside(project)]
    return Identity(_digest(parts), columns_read(function, schema.names), found.certain)


def _columnar(function: ColumnarLabelingFunction, project: Project, schema: pa.Schema) -> Identity:
    events = ibis.table(ibis.Schema.from_pyarrow(schema), name="events")
    votes = function.votes(events)
    operation = votes.op()
    for kind in UNREPEATABLE:
        if operation.find(kind):
            raise LabelingFunctionError(
                f"Labeling function {function.name!r} ({function.__module__}) uses {kind.__name__}, which answers "
                "otherwise each time; use the columns of the events instead."
            )
    used = {node.name for node in operation.find(ops.Field) if node.rel == events.op()}
    columns = [name for name in schema.names if name in used]
    text = ibis.to_sql(events.select(vote=votes), dialect="duckdb")
    for table in operation.find(ops.InMemoryTable):
        text = text.replace(table.name, _content(table))
    found = Dependencies(project.root)
    for node in operation.find((ops.ScalarUDF, ops.AggUDF)):
        found.add(node.__func__)
    parts = [text, *(f"{name} {schema.field(name).type}" for name in columns), *found.parts]
    return Identity(_digest(parts), columns, found.certain)


def _content(table: ops.InMemoryTable) -> str:
    rows = table.data.to_pyarrow(table.schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()


def columns_read(function: LabelingFunction, columns: list[str]) -> list[str]:
    """The columns that a row function may read: those that its source names, or all where that cannot be told.

    It can be told of a function without preprocessors that uses its data point only as ``x.column`` or ``x["column"]``.
    """
    named = None if function._pre else _names_read(function._f)
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


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _data_beside(project: Project) -> Iterator[str]:
    """Files beside the functions that are no code: a function may read them when it is called."""
    yield from _files(str(project.root / "labeling_functions"))


@cache
def _files(folder: str) -> tuple[str, ...]:
    from pathlib import Path

    files = sorted(file for file in Path(folder).rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc"))
    return tuple(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files)


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
