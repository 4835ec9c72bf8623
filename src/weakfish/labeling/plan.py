"""The plan of columnar votes: one scan per column of text, what the engine computes, and which function is at fault."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from operator import or_
from typing import Any, cast

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weakfish.contracts.votes_file import ABSTAIN, Votes
from weakfish.engine.duckdb import Engine
from weakfish.errors import LabelingFunctionError, WeakfishError
from weakfish.labeling.automaton import Automaton, Booleans, is_usable
from weakfish.labeling.regex import TWINS_NEEDLE, Case, Needle, Unlifted, needle_of
from weakfish.rules.columnar import ColumnarLabelingFunction

Rows = npt.NDArray[np.int64]

CHANGES_BY_ITSELF = (ops.Impure, ops.TimestampNow, ops.DateNow)
LOOKS_AT_OTHER_ROWS = (ops.Reduction, ops.Analytic, ops.WindowFunction, ops.Relation)

ROW = "weakfish_row"

HELD_BYTES = 32 << 20
"""Of columns that the engine reads: above it a query is run."""


class VotePlan:
    """The votes of columnar labeling functions, which have different names, on events of a schema.

    Attributes
    ----------
    columns
        The columns of the events that the functions read, in the order of the schema.
    searches
        The searches of text in the functions, in their order, each once per function.

    Raises
    ------
    LabelingFunctionError
        When a function cannot be computed, or might not vote the same on the same row again; names it.
    """

    def __init__(self, engine: Engine, functions: Sequence[ColumnarLabelingFunction], schema: pa.Schema) -> None:
        self._engine, self._functions = engine, functions
        self._events = events = ibis.table(ibis.Schema.from_pyarrow(schema), name="weakfish_events")
        self._written = {function.name: function.votes(events) for function in functions}
        for function in functions:
            _refuse_what_may_change(function, self._written[function.name].op(), events.op())
        used = _columns_of(self._written.values(), events)
        self.columns = [name for name in schema.names if name in used]
        nothing = schema.empty_table().select(self.columns)
        try:
            self._run(nothing, self._written.values())
        except WeakfishError as error:
            raise self._culprit(lambda: [nothing], error) from error
        self._lifting = lifting = _Lifting(engine, self._written, events)
        self.searches = lifting.searches
        self._searching: dict[str, tuple[str, int]] = {}  # functions that are a lifted search and no more
        for function in functions:
            (label, condition), *others = function.conditions(events).items()
            if not others and condition.op() in lifting.hits:
                self._searching[function.name] = (lifting.hits[condition.op()], label)
        computed = {name: vote for name, vote in self._written.items() if name not in self._searching}
        answers = [pa.field(name, pa.bool_()) for name in lifting.names]
        wide = pa.schema([*schema, *answers, pa.field(ROW, pa.int64())])
        table = ibis.table(ibis.Schema.from_pyarrow(wide), name="weakfish_wide")

        def placed(given: ir.Table) -> dict[str, ir.Value]:
            return {name: _rewritten(vote, events.op(), given, lifting.hits) for name, vote in computed.items()}

        used = _columns_of(placed(table).values(), table)
        narrow = pa.schema([field for field in wide if field.name in used or field.name == ROW or field in answers])
        self._query = engine.prepare(narrow, lambda given: given.select(given[ROW], **placed(given)))
        self._read_by_engine = [name for name in self.columns if name in used]

    def votes(self, batch: pa.Table) -> dict[str, Votes]:
        """`votes_on` a single batch."""
        return self.votes_on(lambda: [batch])

    def votes_on(self, read: Callable[[], Iterable[pa.Table]]) -> dict[str, Votes]:
        """The votes of each function by name, in the order of rows.

        Parameters
        ----------
        read
            Reads events batch by batch, with at least ``columns``, of the types that the plan was made for. A text that
            only the automaton reads is let go with its batch: small ones fit into the processor's caches.

        Raises
        ------
        LabelingFunctionError
            When a function cannot be computed; names it.
        """
        parts, scanned, size = [], list[_Scanned](), 0
        try:
            for batch in read():
                scanned.append(self._lifting.scan(batch, self._read_by_engine))
                size += sum(column.nbytes for column in scanned[-1].columns.values())
                if size > HELD_BYTES:
                    parts.append(self._voted(scanned))
                    scanned, size = [], 0
            parts += [self._voted(scanned)] if scanned else []
        except WeakfishError as error:
            raise self._culprit(read, error) from error
        nothing = [np.zeros(0, np.int8)]
        return {each.name: np.concatenate([part[each.name] for part in parts] or nothing) for each in self._functions}

    def _voted(self, scanned: Sequence[_Scanned]) -> dict[str, Votes]:
        rows, answers = sum(each.rows for each in scanned), self._lifting.answers(scanned)
        columns = {name: _chained(each.columns[name] for each in scanned) for name in self._read_by_engine}
        found = self._query(pa.table({**columns, **answers, ROW: np.arange(rows)}))
        if found.num_rows != rows:
            raise LabelingFunctionError(
                f"A columnar labeling function made {found.num_rows} votes of {rows} rows; "
                "conditions keep the rows of their table."
            )
        order = np.argsort(found[ROW].to_numpy())
        votes = {name: found[name].to_numpy()[order] for name in found.column_names if name != ROW}
        for name, (hit, label) in self._searching.items():
            votes[name] = np.where(_true(answers[hit]), np.int8(label), np.int8(ABSTAIN))
        return votes

    def _culprit(self, read: Callable[[], Iterable[pa.Table]], error: WeakfishError) -> WeakfishError:
        """``error`` with the name of the function that the engine cannot run on what ``read`` reads."""
        for function in self._functions:
            try:
                for batch in read():
                    self._run(batch.select(self.columns), [self._written[function.name]])
            except WeakfishError as own:
                return LabelingFunctionError(
                    f"Labeling function {function.name!r} ({function.__module__}) cannot be computed: {own} "
                    "Correct its condition."
                )
        return error

    def _run(self, batch: pa.Table, votes: Iterable[ir.Value]) -> None:
        """Compute votes as they are written."""

        def build(table: ir.Table) -> ir.Table:
            placed = [vote.op().replace({self._events.op(): table.op()}).to_expr() for vote in votes]
            return table.select(**{f"vote_{number}": vote for number, vote in enumerate(placed)})

        if ROW not in batch.column_names:  # functions may read no column, but the engine wants one
            batch = batch.append_column(ROW, pa.array(np.arange(batch.num_rows)))
        self._engine.prepare(batch.schema, build)(batch)


def _columns_of(votes: Iterable[ir.Value], table: ir.Table) -> set[str]:
    """The columns of ``table`` that ``votes`` refer to."""
    return {field.name for vote in votes for field in vote.op().find(ops.Field) if field.rel == table.op()}


def _refuse_what_may_change(function: ColumnarLabelingFunction, vote: ops.Node, events: ops.Node) -> None:
    if vote.find(CHANGES_BY_ITSELF):
        raise LabelingFunctionError(
            f"Labeling function {function.name!r} ({function.__module__}) uses the clock or chance, so its votes "
            "cannot be repeated; compare with a column instead."
        )
    found = (node for node in vote.find(LOOKS_AT_OTHER_ROWS) if node != events)
    others = [node for node in found if events in node.find(ops.UnboundTable)]
    if others:
        raise LabelingFunctionError(
            f"Labeling function {function.name!r} ({function.__module__}) compares rows with each other "
            f"({type(others[0]).__name__}), but events are voted on in batches; make a feature of it instead."
        )


def _rewritten(expression: ir.Value, events: ops.Node, table: ir.Table, hits: Mapping[ops.Node, str]) -> ir.Value:
    """``expression`` over ``table`` in place of ``events``; ``hits`` are the columns that answer searches."""

    def change(node: ops.Node, arguments: Mapping[str, Any]) -> ops.Node:
        if node == events:
            return table.op()
        if node in hits:
            return table[hits[node]].op()
        if isinstance(node, ops.Field) and node.rel == events and node.name not in table.columns:
            return node  # only lifted searches refer to it, and they go
        return node.__recreate__(arguments) if arguments else node

    return cast(ir.Value, expression.op().replace(change).to_expr())


KINDS: dict[type[ops.Node], str] = {
    ops.RegexSearch: "regex",
    ops.StringContains: "contains",
    ops.StringSQLLike: "like",
    ops.StringSQLILike: "ilike",
    ops.StartsWith: "startswith",
    ops.EndsWith: "endswith",
}


@dataclass(frozen=True)
class Search:
    """A search of text in a labeling function, and who answers it.

    Attributes
    ----------
    function, column, pattern, kind
        Where it stands, what it searches (``lower(column)`` where the case is changed first), for what, and how
        (``regex``, ``contains``, ``like``, ``ilike``, ``startswith``, ``endswith``).
    lifted
        Whether the automaton answers it.
    rechecked
        Whether the engine judges the automaton's hits again.
    why
        What keeps it with the engine, or which rows the engine judges; empty where there is nothing to say.
    """

    function: str
    column: str
    pattern: str
    kind: str
    lifted: bool
    rechecked: bool
    why: str


def _lift(search: Any, events: ops.Node) -> tuple[str, Needle]:
    """The column, and what the automaton is to look for in it in place of ``search``.

    Raises
    ------
    Unlifted
        When the search is not of a column of ``events`` for a literal pattern, or `needle_of` knows no equal pattern.
    """
    column, case, pattern = _parts(search)
    if type(search) not in (ops.RegexSearch, ops.StringContains):
        raise Unlifted("is quick enough in the engine")
    if column is None or column.rel != events or not column.dtype.is_string():
        raise Unlifted("does not search a plain column of the events")
    if not isinstance(pattern, ops.Literal) or not isinstance(pattern.value, str):
        raise Unlifted("has no literal pattern")
    if "\0" in pattern.value:
        raise Unlifted("has a NUL in its pattern")
    return column.name, needle_of(pattern.value, case, is_regex=isinstance(search, ops.RegexSearch))


def _parts(search: Any) -> tuple[ops.Field | None, Case, ops.Node]:
    """The column, the case into which it is brought before it is searched, and for what it is searched."""
    haystack = search.haystack if isinstance(search, ops.StringContains) else search.arg
    found = {ops.StringContains: "needle", ops.StartsWith: "start", ops.EndsWith: "end"}.get(type(search), "pattern")
    case: Case = "as it is"
    if isinstance(haystack, ops.Lowercase | ops.Uppercase):
        case = "lower" if isinstance(haystack, ops.Lowercase) else "upper"
        haystack = haystack.arg
    return (haystack if isinstance(haystack, ops.Field) else None), case, getattr(search, found)


class _Lifting:
    """What becomes of the searches in ``votes`` (by function) on ``events``.

    Attributes
    ----------
    hits
        By lifted search: the boolean column that answers it.
    searches
        All searches, each once per function, in the order of the functions.
    """

    def __init__(self, engine: Engine, votes: Mapping[str, ir.Value], events: ir.Table) -> None:
        found = {
            function: [node for node in vote.op().find(tuple(KINDS)) if type(node) in KINDS]
            for function, vote in votes.items()
        }
        wanted: dict[ops.Node, tuple[str, Needle]] = {}
        why: dict[ops.Node, str] = {}
        needles: dict[str, dict[Needle, None]] = defaultdict(dict)
        for search in dict.fromkeys(chain.from_iterable(found.values())):
            try:
                column, needle = _lift(search, events.op())
                if not is_usable():
                    raise Unlifted("needs a pyperscan that passes the check at start")
            except Unlifted as reason:
                why[search] = str(reason)
                continue
            wanted[search] = column, needle
            needles[column] |= dict.fromkeys([needle, *([TWINS_NEEDLE] if needle.twins else [])])
        self._automata = {column: Automaton(these, column) for column, these in needles.items()}
        self.hits: dict[ops.Node, str] = {}
        rechecked = set()
        # Searches in doubt on the same rows of a column are rechecked together.
        groups: dict[tuple[str, tuple[str, ...]], dict[str, tuple[ops.Node, str]]] = defaultdict(dict)
        for search, (column, needle) in wanted.items():
            automaton = self._automata[column]
            if needle in automaton.refused:
                why[search] = automaton.refused[needle]
                continue
            self.hits[search] = hit = automaton.names[needle]
            doubts = {}
            if automaton.needles[needle].doubtful:
                doubts[hit] = "hits, since the automaton matches the pattern only roughly"
                rechecked.add(search)
            if needle.twins:
                doubts[automaton.names[TWINS_NEEDLE]] = "texts with İ, ı, ſ or K"
            why[search] = f"the engine judges {' and '.join(doubts.values())}" if doubts else ""
            if doubts:
                self.hits[search] = name = f"{hit}_rechecked_{len(self.hits)}"
                groups[column, tuple(doubts)][name] = (search, hit)
        self._rechecks = [_Recheck(engine, events, *doubt, group) for doubt, group in groups.items()]
        self.searches = []
        for function, search in ((function, search) for function, these in found.items() for search in these):
            field, case, pattern = _parts(search)
            where = "an expression" if field is None else field.name if case == "as it is" else f"{case}({field.name})"
            sought = str(pattern.value) if isinstance(pattern, ops.Literal) else "an expression"
            kind, lifted = KINDS[type(search)], search in self.hits
            self.searches.append(Search(function, where, sought, kind, lifted, search in rechecked, why[search]))

    @property
    def names(self) -> list[str]:
        """The columns that `answers` makes."""
        return list(dict.fromkeys(self.hits.values()))

    def scan(self, batch: pa.Table, columns: Sequence[str]) -> _Scanned:
        """What the automata find in a batch; ``columns`` are kept."""
        hits: dict[str, pa.Array] = {}
        for column, automaton in self._automata.items():
            hits |= automaton.answers(batch[column])
        doubtful = [recheck.doubtful(batch, hits) for recheck in self._rechecks]
        return _Scanned(batch.num_rows, {name: batch[name] for name in columns}, hits, doubtful)

    def answers(self, scanned: Sequence[_Scanned]) -> dict[str, pa.Array]:
        """The answers to all lifted searches on batches that follow each other; null where the text is."""
        found = {name: _chained(each.hits[name] for each in scanned).combine_chunks() for name in scanned[0].hits}
        starts = np.cumsum([0, *(each.rows for each in scanned)])
        for number, recheck in enumerate(self._rechecks):
            parts = [each.doubtful[number] for each in scanned]
            rows = np.concatenate([start + here for start, (here, _) in zip(starts, parts, strict=False)])
            found |= recheck.answers(rows, _chained(texts for _, texts in parts), found)
        return {name: found[name] for name in self.names}


@dataclass(frozen=True)
class _Scanned:
    """A batch after the automata read it.

    Attributes
    ----------
    columns
        Those that the engine reads too.
    hits
        The automata's answers, by name.
    doubtful
        For each `_Recheck` the rows that the engine has to judge, and their texts.
    """

    rows: int
    columns: dict[str, pa.ChunkedArray]
    hits: dict[str, pa.Array]
    doubtful: list[tuple[Rows, pa.ChunkedArray]]


def _chained(columns: Iterable[pa.Array | pa.ChunkedArray]) -> pa.ChunkedArray:
    parts = [part if isinstance(part, pa.ChunkedArray) else pa.chunked_array([part]) for part in columns]
    return pa.chunked_array(chain.from_iterable(part.chunks for part in parts), parts[0].type)


class _Recheck:
    """Searches of one column that are in doubt on the same rows.

    Parameters
    ----------
    events
        The table that the searches refer to.
    column
        The column that they search.
    doubts
        The automaton's answers that cast doubt: the engine judges a row where any of them is yes.
    searches
        By the name of the column that is to hold the answers: the search, and the name of the automaton's answer.
    """

    def __init__(
        self,
        engine: Engine,
        events: ir.Table,
        column: str,
        doubts: Sequence[str],
        searches: Mapping[str, tuple[ops.Node, str]],
    ) -> None:
        self._column, self._doubts = column, doubts
        self._hits = {name: hit for name, (_, hit) in searches.items()}

        def build(given: ir.Table) -> ir.Table:
            placed = {
                name: search.replace({events.op(): given.op()}).to_expr() for name, (search, _) in searches.items()
            }
            return given.select(given[ROW], **placed)

        schema = events.select(column).schema().to_pyarrow().append(pa.field(ROW, pa.int64()))
        self._query: Callable[[pa.Table], pa.Table] = engine.prepare(schema, build)

    def doubtful(self, batch: pa.Table, hits: Mapping[str, pa.Array]) -> tuple[Rows, pa.ChunkedArray]:
        """The rows of a batch that are in doubt, and their texts; ``hits`` are the automaton's answers."""
        rows = np.flatnonzero(reduce(or_, (_true(hits[name]) for name in self._doubts)))
        return rows, batch[self._column].take(rows)

    def answers(self, rows: Rows, texts: pa.ChunkedArray, hits: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        """The searches' answers by name: those of ``hits``, but on ``rows``, which have ``texts``, the engine's."""
        if not len(rows):
            return {name: hits[hit] for name, hit in self._hits.items()}
        judged = self._query(pa.table({self._column: texts, ROW: rows}))
        answers = {}
        for name, hit in self._hits.items():
            values = _true(hits[hit]).copy()
            values[judged[ROW].to_numpy()] = judged[name].to_numpy()  # none is null: such a text is in no doubt
            missing = hits[hit].is_null().to_numpy(zero_copy_only=False) if hits[hit].null_count else None
            answers[name] = pa.array(values, mask=missing)
        return answers


def _true(answers: pa.Array) -> Booleans:
    found: Booleans = answers.fill_null(False).to_numpy(zero_copy_only=False)
    return found
