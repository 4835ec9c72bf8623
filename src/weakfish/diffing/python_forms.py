"""What a Python file defines, in a form that comments, layout, docstrings, order and names of locals do not change."""

from __future__ import annotations

import ast
from typing import Any

STATEMENTS = "(statements)"
"""The name of what a file does beside defining."""


def definitions(source: str) -> dict[str, str]:
    """What a file defines at its top, by name, each in its normal form; a file that is no Python is one definition."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return {STATEMENTS: source}
    found: dict[str, list[str]] = {}
    for node in _without_docstring(body):
        for name, form in _named(node):
            found.setdefault(name, []).append(form)
    return {name: "\n".join(forms) for name, forms in found.items()}


def _named(node: ast.stmt) -> list[tuple[str, str]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        where = f"{'.' * node.level}{node.module or ''}" if isinstance(node, ast.ImportFrom) else ""
        return [
            (f"import of {each.asname or each.name}", f"{where} {each.name}")
            for each in node.names
            if where != "__future__"
        ]
    form = ast.dump(_Renamed().visit(node))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [(node.name, form)]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return [(name, form) for name in names] or [(STATEMENTS, form)]


def _without_docstring(body: list[Any]) -> list[Any]:
    first = body[0] if body else None
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] if is_text else body


class _Renamed(ast.NodeTransformer):
    """Gives the locals of outermost functions numbers for names, in their order, and drops docstrings."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = _without_docstring(node.body) or [ast.Pass()]
        return self.generic_visit(node)

    def _function(self, node: Any) -> ast.AST:
        if not self.depth:
            self.names = {name: f"·{place}" for place, name in enumerate(_locals(node))}
        elif node.name in self.names:
            node.name = self.names[node.name]
        self.depth += 1
        node.body = _without_docstring(node.body) or [ast.Pass()]
        self.generic_visit(node)
        self.depth -= 1
        if not self.depth:
            self.names = {}
        return node  # type: ignore[no-any-return]

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self.names.get(node.arg, node.arg)
        return self.generic_visit(node)


def _locals(function: ast.AST) -> list[str]:
    """The names that a function binds, in the order in which they stand; not those that it declares to be others'."""
    found, others = dict[str, None](), set[str]()
    for node in ast.walk(function):
        if isinstance(node, ast.Global | ast.Nonlocal):
            others.update(node.names)
        elif isinstance(node, ast.arg):
            found[node.arg] = None
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found[node.id] = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node is not function:
            found[node.name] = None
    return [name for name in found if name not in others]
