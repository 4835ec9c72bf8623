"""Queries that people give as entity rows: checked, and their relative paths made to start at the Feast repository.

DuckDB would look in the working directory; so the query is parsed, what names a file is resolved, and it is written
out again. A query comes in and goes out as text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb

from weakfish.errors import UserError
from weakfish.store.offline.session import first_line, literal

SUFFIXES = (".parquet", ".parq", ".pq", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".gz", ".zst")


def from_repository(connection: duckdb.DuckDBPyConnection, query: str, repo: Path | None) -> str:
    """The query with paths that are relative starting at ``repo``; raises `UserError` unless it is one that reads."""
    parsed = json.loads(connection.execute(f"SELECT json_serialize_sql({literal(query)})").fetchall()[0][0])
    if parsed["error"] or len(parsed["statements"]) != 1:
        said = parsed.get("error_message", "there is more than one statement")
        raise UserError(f"The query of the entity rows is no SELECT that DuckDB reads ({said}); correct it.")
    _resolve(parsed, (repo or Path()).absolute())
    text = literal(json.dumps(parsed))
    written: str = connection.execute(f"SELECT json_deserialize_sql({text})").fetchall()[0][0]
    return written


def columns_of_query(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    """The columns of a query and DuckDB's types of them; raises `UserError` when it cannot be run."""
    try:
        described = connection.execute(f"DESCRIBE {query}").fetchall()
    except duckdb.Error as error:
        raise UserError(f"The query of the entity rows cannot be run: {first_line(error)}; correct it.") from error
    return {str(name): str(kind) for name, kind, *_ in described}


def _resolve(node: Any, repo: Path) -> None:
    """Rewrite the names of files in a parsed query, wherever they stand."""
    if isinstance(node, list):
        for part in node:
            _resolve(part, repo)
    elif isinstance(node, dict):
        if node.get("type") == "BASE_TABLE" and node["table_name"].lower().endswith(SUFFIXES):
            node["table_name"] = _absolute(node["table_name"], repo)
            node["qualified_name"]["path"] = [node["table_name"]]
        elif node.get("type") == "TABLE_FUNCTION":
            for argument in node["function"]["arguments"][:1]:
                _resolve_texts(argument["expression"], repo)
        for part in node.values():
            _resolve(part, repo)


def _resolve_texts(node: Any, repo: Path) -> None:
    if isinstance(node, list):
        for part in node:
            _resolve_texts(part, repo)
    elif isinstance(node, dict):
        if node.get("kind") == "STRING" and node["text"].lower().endswith(SUFFIXES):
            node["text"] = _absolute(node["text"], repo)
        for part in node.values():
            _resolve_texts(part, repo)


def _absolute(path: str, repo: Path) -> str:
    return path if "://" in path else str(repo / path)
