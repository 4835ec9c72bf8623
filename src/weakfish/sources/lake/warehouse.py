"""Tables of databases, by Ibis: DuckDB, PostgreSQL, and what else Ibis connects to by a URL.

One query reads all rows, so they are those of one moment, in the order of key and time and then of all other columns.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote_plus, urlsplit

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa

from weakfish.engine.duckdb import quiet
from weakfish.errors import ParamsError, SourceError, UserError
from weakfish.sources.lake.snapshot import TableAt, TableSnapshot, library, refused

ROWS = 1 << 14
"""How many rows are fetched at once."""

EXTRAS = {"postgres": "psycopg", "postgresql": "psycopg"}
"""The library behind a scheme, which the extra `postgres` brings."""

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_AS_TEXT = (dt.Decimal, dt.UUID, dt.JSON, dt.Time, dt.Interval, dt.INET, dt.MACADDR)
"""What is read as its text: exactly as it stands there, as readers of Parquet take decimals."""

_PLAIN = (dt.String, dt.Integer, dt.Floating, dt.Boolean, dt.Timestamp, dt.Date)


def snapshot(at: TableAt) -> TableSnapshot:
    """The table as it is now: databases have no versions."""
    backend, secrets = _connected(at)
    try:
        rows, left_out = _chosen(backend, at, secrets)
    except BaseException:
        backend.disconnect()
        raise
    schema = rows.schema().to_pyarrow()
    return TableSnapshot({"table": f"{at.path} {at.table}"}, schema, partial(_read, backend, rows, secrets), left_out)


def _chosen(backend: Any, at: TableAt, secrets: list[str]) -> tuple[ir.Table, list[str]]:
    """The rows to read, and columns that are not wanted."""
    name, *above = reversed(str(at.table).split("."))
    try:
        with quiet():
            table = backend.table(name, database=tuple(reversed(above)) or None)
    except Exception as error:  # each database's library has its own
        raise refused(f"Table {at.table} of {at.path}", _hidden(error, secrets), "correct source.table") from None
    wanted = [column for column in table.columns if at.is_wanted(column)]
    if not wanted:
        raise SourceError(
            f"Table {at.table} of {at.path} has none of source.columns, it has {', '.join(table.columns[:20])}; "
            "correct source.columns in params.yaml."
        )
    rows = table.select([_readable(table[column], at) for column in wanted])
    first = [name for column in at.order for name in wanted if name == column]
    rows = rows.order_by([*first, *(name for name in wanted if name not in first)])
    return rows, [column for column in table.columns if column not in wanted]


def _connected(at: TableAt) -> tuple[Any, list[str]]:
    """The database, and what no message may hold."""
    scheme, _, rest = at.path.partition("://")
    if not rest:
        raise ParamsError(
            f"params.yaml: source.path {at.path!r} is no database; give a URL as duckdb://file or postgres://host/name."
        )
    url, secrets = _expanded(at.path, os.environ)
    if scheme in EXTRAS:
        library(EXTRAS[scheme], "postgres")
    try:
        if scheme == "duckdb":
            file = at.root / rest
            if not file.is_file():
                raise SourceError(f"There is no file {rest} for source.path; correct it in params.yaml.")
            return ibis.duckdb.connect(file, read_only=True), secrets
        return ibis.connect(url), secrets
    except (UserError, SourceError):
        raise
    except Exception as error:  # each database's library has its own
        raise refused(
            at.path, _hidden(error, secrets), "check source.path, the server, and the password in the environment"
        ) from None


def _expanded(url: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """A URL with the values of variables of the environment, and these; raises `ParamsError`."""
    names = _VARIABLE.findall(url)
    if missing := [name for name in names if name not in environment]:
        raise ParamsError(f"params.yaml: source.path needs {missing[0]} in the environment; set it there.")
    with suppress(ValueError):
        password = urlsplit(url).password
        if password and not _VARIABLE.fullmatch(password):
            raise ParamsError(
                "params.yaml: source.path holds a password; write ${NAME} there, and set NAME in the environment."
            )
    values = [environment[name] for name in names]
    filled = _VARIABLE.sub(lambda found: quote_plus(environment[found[1]]), url)
    return filled, [*values, *map(quote_plus, values)]


def _hidden(error: Exception, secrets: list[str]) -> Exception:
    """An error without the values of variables."""
    said = str(error)
    for secret in filter(None, secrets):
        said = said.replace(secret, "***")
    named: type[Exception] = type(type(error).__name__, (Exception,), {})
    return named(said)


def _readable(column: ir.Value, at: TableAt) -> ir.Value:
    """A column as Arrow holds it without a change; raises `SourceError` where it cannot."""
    kind, name = column.type(), column.get_name()
    if isinstance(kind, _AS_TEXT):
        return column.cast("string").name(name)
    if not isinstance(kind, _PLAIN):
        raise SourceError(
            f"Column {name} of table {at.table} is {kind}, which cannot be read as it is; make a view that turns it "
            "into text or plain columns, and name that in source.table."
        )
    return column


def _read(backend: Any, rows: ir.Table, secrets: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        if backend.name == "duckdb":  # Ibis 12 calls a method that DuckDB 2 no longer has
            yield from backend.con.sql(backend.compile(rows)).to_arrow_reader(ROWS)
        else:
            yield from rows.to_pyarrow_batches(chunk_size=ROWS)
    except (pa.ArrowException, OSError, ValueError):
        raise
    except Exception as error:  # each database's library has its own
        raise refused("The table", _hidden(error, secrets), "check the server, and run this again") from None
    finally:
        backend.disconnect()
