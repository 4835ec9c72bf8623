"""The plan of columnar votes: one scan per column of text, what the engine computes, and which function is at fault."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import pairwise
from operator import or_

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rich import box
from rich.console import Console
from rich.table import Table

from weakfish import engine as compute
from weakfish.contracts.tables import schema_of
from weakfish.contracts.votes_file import ABSTAIN
from weakfish.engine import Engine
from weakfish.errors import LabelingFunctionError, WeakfishError
from weakfish.labeling.regex import (
    TWINS_NEEDLE,
    Lifted,
    Needle,
    Search,
    Unlifted,
    kind_of,
    lift,
    named,
    rewritten,
    searches_in,
)
from weakfish.project.paths import Project
from weakfish.rules.columnar import ColumnarLabelingFunction
from weakfish.rules.loading import Voter, load_voters

Booleans = npt.NDArray[np.bool_]
Scanner = tuple[Callable[[bytes | memoryview], object], list[int]]


KNOWN_PATTERN = (
    r"(?i)\bI[\t\n\f\r ]+(think|guess|suppose|wonder|tried|believe|mean|don't|can't|haven't|didn't|was|thought)\b"
)
KNOWN_TEXT = b" wttw   wtww \n\t \t  \t\t\n\n \n \n\nI was x x x x x x x"
"""A match that Vectorscan 5.4.12 misses, which several packages of this automaton have carried."""


@cache
def is_usable() -> bool:
    """Whether the library is there and finds what it must; without it all searches stay with the engine."""
    try:
        scan, found = _scanner({0: Needle(KNOWN_PATTERN)})
    except ImportError:
        problem = "pyperscan is not installed"
    else:
        scan(KNOWN_TEXT)
        problem = "" if found else "the installed pyperscan misses a match that it must find"
    if problem:
        print(
            f"weakfish: {problem}, so every pattern reads the text anew; votes are the same, only slower.",
            file=sys.stderr,
        )
    return not problem


class Automaton:
    """Needles compiled together.

    Parameters
    ----------
    needles
        What to look for; those that no text can match are allowed.

    Attributes
    ----------
    needles
        Those that are looked for, each with its form that the library accepts: itself, or a doubtful one.
    refused
        Those that are not, and why.
    """

    def __init__(self, needles: Iterable[Needle]) -> None:
        self.needles: Mapping[Needle, Needle] = {needle: needle for needle in needles}
        self.refused: Mapping[Needle, str] = {}
        try:
            self._scanner = _compiled(list(self.needles))
        except _Refusal:
            self._settle_one_by_one()

    def _settle_one_by_one(self) -> None:
        accepted, refused = {}, {}
        for needle in self.needles:
            try:
                accepted[needle] = _settled(needle)
            except Unlifted as reason:
                refused[needle] = str(reason)
        self.needles, self.refused = accepted, refused
        self._scanner = _compiled(list(accepted.values()))

    def hits(self, texts: pa.ChunkedArray) -> Booleans:
        """Whether each of ``needles`` (first axis) is in each text (second axis); for nulls it says nothing."""
        chunks = [self._chunk_hits(chunk) for chunk in texts.chunks]
        return np.concatenate(chunks, axis=1) if chunks else np.zeros((len(self.needles), 0), bool)

    def _chunk_hits(self, texts: pa.Array) -> Booleans:
        if pa.types.is_dictionary(texts.type):
            each = self._chunk_hits(texts.dictionary)
            known = texts.indices.fill_null(len(texts.dictionary)).to_numpy(zero_copy_only=False)
            return np.pad(each, ((0, 0), (0, 1)))[:, known]
        if not pa.types.is_string(texts.type) and not pa.types.is_large_string(texts.type):
            texts = texts.cast(pa.large_string())
        found = np.zeros((len(self.needles), len(texts)), bool)
        needles, rows = self._scan(texts)
        found[needles, rows] = True
        return found

    def _scan(self, texts: pa.Array) -> tuple[list[int], list[int]]:
        """The needle and the row of each hit, straight from the bytes of the column."""
        _, ends, characters = texts.buffers()
        if self._scanner is None or characters is None or not characters.size:
            return [], []
        width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
        offsets = np.frombuffer(ends, width)[texts.offset : texts.offset + len(texts) + 1].tolist()
        text, (scan, hits) = memoryview(characters), self._scanner
        rows: list[int] = []
        for row, (start, end) in enumerate(pairwise(offsets)):
            if start < end:
                scan(text[start:end])
                if len(hits) > len(rows):
                    rows += [row] * (len(hits) - len(rows))
        needles = hits.copy()
        hits.clear()
        return needles, rows


class _Refusal(Exception):
    """The library does not compile a pattern."""


def _settled(needle: Needle) -> Needle:
    """``needle`` as the library accepts it: as it is, or else as a doubtful one, which finds too much at most."""
    reasons = []
    for candidate in (needle, needle.doubted()):
        try:
            _compiled([candidate])
        except _Refusal as reason:
            reasons.append(str(reason).rstrip("."))
        else:
            return candidate
    raise Unlifted(f"is refused by the automaton: {reasons[0]}")


def _compiled(needles: Sequence[Needle]) -> Scanner | None:
    """A scanner for needles, numbered by their position; None where there is nothing to look for."""
    written = {number: needle for number, needle in enumerate(needles) if needle.written is not None}
    return _scanner(written) if written else None


def _scanner(needles: Mapping[int, Needle]) -> Scanner:
    """A scan of one text, and the list to which it adds the number of each needle that it finds there, once."""
    from pyperscan import BlockDatabase, Flag, Pattern, Scan

    def note(found: list[int], number: int, _start: int, _end: int) -> Scan:
        found.append(number)
        return Scan.Continue

    def pattern(number: int, needle: Needle) -> Pattern:
        extra = [Flag.UTF8] * needle.utf8 + [Flag.PREFILTER] * needle.doubtful
        return Pattern(str(needle.written).encode(), Flag.SINGLEMATCH, *extra, tag=number)

    hits: list[int] = []
    try:
        database = BlockDatabase(*(pattern(number, needle) for number, needle in needles.items()))
    except Exception as reason:  # HyperscanCompileError, which the library does not export
        raise _Refusal(str(reason.args[0])) from reason
    return database.build(hits, note).scan, hits


ROW = "weakfish_row"


class Recheck:
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

    def answers(self, batch: pa.Table, hits: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        """The searches' answers on a batch, by name; ``hits`` are the automaton's."""
        rows = np.flatnonzero(reduce(or_, (_true(hits[name]) for name in self._doubts)))
        if not len(rows):
            return {name: hits[hit] for name, hit in self._hits.items()}
        found = self._query(pa.table({self._column: batch[self._column].take(rows), ROW: rows}))
        judged = found[ROW].to_numpy()
        return {name: _corrected(hits[hit], judged, found[name]) for name, hit in self._hits.items()}


def _true(answers: pa.Array) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = answers.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _corrected(hits: pa.Array, rows: npt.NDArray[np.int64], answers: pa.ChunkedArray) -> pa.Array:
    """``hits`` with ``answers`` at ``rows``, none of which is null: a text that is null is in no doubt."""
    values = _true(hits).copy()
    values[rows] = answers.to_numpy()
    missing = hits.is_null().to_numpy(zero_copy_only=False) if hits.null_count else None
    return pa.array(values, mask=missing)


class Reading:
    """What to look for in which text column; the same needle in the same column is looked for once."""

    def __init__(self, wanted: Iterable[Lifted]) -> None:
        needles: dict[str, dict[Needle, None]] = {}
        for lifted in wanted:
            needles.setdefault(lifted.column, {})[lifted.needle] = None
            if lifted.needle.twins:
                needles[lifted.column][TWINS_NEEDLE] = None
        self._automata = {column: Automaton(these) for column, these in needles.items()}
        self._names = {
            column: {needle: f"weakfish_{column}_{number}" for number, needle in enumerate(automaton.needles)}
            for column, automaton in self._automata.items()
        }

    @property
    def names(self) -> list[str]:
        """The names of the columns that `answers` makes."""
        return [name for names in self._names.values() for name in names.values()]

    def name(self, column: str, needle: Needle) -> str:
        """The boolean column that answers; raises `Unlifted` where the automaton refuses the needle."""
        if needle not in self._names[column]:
            raise Unlifted(self._automata[column].refused[needle])
        return self._names[column][needle]

    def is_doubtful(self, column: str, needle: Needle) -> bool:
        """Whether the answer may be yes where it should be no."""
        return self._automata[column].needles[needle].doubtful

    def answers(self, batch: pa.Table) -> dict[str, pa.Array]:
        """The boolean columns, null where the text is."""
        found: dict[str, pa.Array] = {}
        for column, automaton in self._automata.items():
            texts = batch[column]
            missing = np.asarray(texts.is_null()) if texts.null_count else None
            for name, hits in zip(self._names[column].values(), automaton.hits(texts), strict=True):
                found[name] = pa.array(hits, mask=missing)
        return found


class Lifting:
    """What becomes of the searches in ``votes`` (by function) on ``events``.

    Attributes
    ----------
    hits
        By lifted search: the boolean column that answers it.
    searches
        All searches, each once per function, in the order of the functions.
    """

    def __init__(self, engine: Engine, votes: Mapping[str, ir.Value], events: ir.Table) -> None:
        found = {function: searches_in(vote) for function, vote in votes.items()}
        self._why: dict[ops.Node, str] = {}
        wanted = self._wanted([search for searches in found.values() for search in searches], events.op())
        self._reading = Reading(wanted.values())
        self.hits: dict[ops.Node, str] = {}
        self._doubted: dict[ops.Node, tuple[str, tuple[str, ...]]] = {}
        for search, lifted in wanted.items():
            self._why[search] = self._decided(search, lifted)
        self.searches = [self._account(function, search) for function, these in found.items() for search in these]
        self._rechecks = self._settled(engine, events)

    @property
    def names(self) -> list[str]:
        """The columns that `answers` makes."""
        return list(dict.fromkeys(self.hits.values()))

    def answers(self, batch: pa.Table) -> dict[str, pa.Array]:
        """The answers to all lifted searches on a batch; null where the text is."""
        found = self._reading.answers(batch)
        for recheck in self._rechecks:
            found |= recheck.answers(batch, found)
        return {name: found[name] for name in self.names}

    def _settled(self, engine: Engine, events: ir.Table) -> list[Recheck]:
        """Give searches in doubt columns of their own, one recheck for those that are in doubt on the same rows."""
        groups: dict[tuple[str, tuple[str, ...]], dict[str, tuple[ops.Node, str]]] = defaultdict(dict)
        for number, (search, doubt) in enumerate(self._doubted.items()):
            hit = self.hits[search]
            self.hits[search] = name = f"{hit}_rechecked_{number}"
            groups[doubt][name] = (search, hit)
        return [Recheck(engine, events, column, doubts, group) for (column, doubts), group in groups.items()]

    def _wanted(self, searches: list[ops.Node], events: ops.Node) -> dict[ops.Node, Lifted]:
        wanted = {}
        for search in searches:
            try:
                wanted[search] = lift(search, events)
                if not is_usable():
                    raise Unlifted("waits for a pyperscan that finds what it must")
            except Unlifted as reason:
                self._why[search] = str(reason)
        return {search: lifted for search, lifted in wanted.items() if search not in self._why}

    def _decided(self, search: ops.Node, lifted: Lifted) -> str:
        """Why the search, or some rows of it, are the engine's."""
        why, doubts = [], []
        try:
            self.hits[search] = hit = self._reading.name(lifted.column, lifted.needle)
        except Unlifted as reason:
            return str(reason)
        if self._reading.is_doubtful(lifted.column, lifted.needle):
            doubts.append(hit)
            why.append("hits, for the automaton knows the pattern only roughly")
        if lifted.needle.twins:
            doubts.append(self._reading.name(lifted.column, TWINS_NEEDLE))
            why.append("texts with İ, ı, ſ or K")
        if doubts:
            self._doubted[search] = (lifted.column, tuple(doubts))
        return "the engine judges " + " and ".join(why) if why else ""

    def _account(self, function: str, search: ops.Node) -> Search:
        column, pattern = named(search)
        hit = self.hits.get(search)
        rechecked = hit in self._doubted.get(search, ("", ()))[1]
        return Search(function, column, pattern, kind_of(search), hit is not None, rechecked, self._why[search])


CHANGES_BY_ITSELF = (ops.Impure, ops.TimestampNow, ops.DateNow)
LOOKS_AT_OTHER_ROWS = (ops.Reduction, ops.Analytic, ops.WindowFunction, ops.Relation)


@dataclass(frozen=True)
class Originals:
    """Labeling functions with their votes on ``events``, an unbound table of ``schema``."""

    engine: Engine
    functions: Sequence[ColumnarLabelingFunction]
    events: ir.Table
    schema: pa.Schema
    votes: Sequence[ir.Value]

    @classmethod
    def of(cls, engine: Engine, functions: Sequence[ColumnarLabelingFunction], schema: pa.Schema) -> Originals:
        """Ask the functions for their votes; raises `LabelingFunctionError` as they do, and where a vote may change."""
        events = ibis.table(ibis.Schema.from_pyarrow(schema), name="weakfish_events")
        votes = [function.votes(events) for function in functions]
        for function, vote in zip(functions, votes, strict=True):
            _refuse_what_may_change(function, vote.op(), events.op())
        return cls(engine, functions, events, schema, votes)

    @property
    def columns(self) -> list[str]:
        """The columns that the votes refer to, in the order of the schema."""
        used = columns_of(self.votes, self.events)
        return [name for name in self.schema.names if name in used]

    def check(self) -> None:
        """Raise `LabelingFunctionError` with the name of a function that the engine cannot run on no rows at all."""
        nothing = self._numbered(self.schema.empty_table().select(self.columns))
        try:
            self._query(nothing.schema, self.votes)(nothing)
        except WeakfishError as error:
            raise self.culprit(nothing, error) from error

    def culprit(self, batch: pa.Table, error: WeakfishError) -> WeakfishError:
        """``error`` with the name of the function that the engine cannot run on ``batch``."""
        rows = self._numbered(batch)
        for function, vote in zip(self.functions, self.votes, strict=True):
            try:
                self._query(rows.schema, [vote])(rows)
            except WeakfishError as own:
                return LabelingFunctionError(
                    f"Labeling function {function.name!r} ({function.__module__}) cannot be computed: {own} "
                    "Correct its condition."
                )
        return error

    @staticmethod
    def _numbered(batch: pa.Table) -> pa.Table:
        """The batch with a column more: functions may read none, but the engine wants one."""
        return batch if ROW in batch.column_names else batch.append_column(ROW, pa.array(np.arange(batch.num_rows)))

    def _query(self, schema: pa.Schema, votes: Sequence[ir.Value]) -> Callable[[pa.Table], pa.Table]:
        def build(table: ir.Table) -> ir.Table:
            placed = [vote.op().replace({self.events.op(): table.op()}).to_expr() for vote in votes]
            return table.select(**{f"vote_{number}": vote for number, vote in enumerate(placed)})

        return self.engine.prepare(schema, build)


def columns_of(votes: Sequence[ir.Value], table: ir.Table) -> set[str]:
    """The columns of ``table`` that ``votes`` refer to."""
    return {field.name for vote in votes for field in vote.op().find(ops.Field) if field.rel == table.op()}


def _refuse_what_may_change(function: ColumnarLabelingFunction, vote: ops.Node, events: ops.Node) -> None:
    if vote.find(CHANGES_BY_ITSELF):
        raise LabelingFunctionError(
            f"Labeling function {function.name!r} ({function.__module__}) uses the clock or chance, so its votes "
            "cannot be repeated; compare with a column instead."
        )
    others = [node for node in vote.find(LOOKS_AT_OTHER_ROWS) if node != events and _contains(node, events)]
    if others:
        raise LabelingFunctionError(
            f"Labeling function {function.name!r} ({function.__module__}) compares rows with each other "
            f"({type(others[0]).__name__}), but events are voted on in batches; make a feature of it instead."
        )


def _contains(node: ops.Node, events: ops.Node) -> bool:
    return any(found == events for found in node.find(ops.UnboundTable))


@dataclass(frozen=True)
class VotePlan:
    """What `compile_plan` makes of labeling functions.

    Attributes
    ----------
    columns
        The columns of the events that the functions read, in the order of the schema.
    searches
        The searches of text in the functions, in their order, each once per function.
    """

    columns: list[str]
    searches: list[Search]
    _originals: Originals
    _lifting: Lifting
    _searching: Mapping[str, tuple[str, int]]
    _read_by_engine: list[str]
    _query: Callable[[pa.Table], pa.Table]

    def votes(self, batch: pa.Table) -> dict[str, npt.NDArray[np.int8]]:
        """The votes of each function by name, in the order of the batch's rows.

        Parameters
        ----------
        batch
            Events with at least ``columns``, of the types that the plan was compiled for.

        Raises
        ------
        LabelingFunctionError
            When a function cannot be computed; names it.
        """
        columns = {name: batch[name] for name in self._read_by_engine}
        try:
            answers = self._lifting.answers(batch)
            found = self._query(pa.table({**columns, **answers, ROW: np.arange(batch.num_rows)}))
        except WeakfishError as error:
            raise self._originals.culprit(batch.select(self.columns), error) from error
        if found.num_rows != batch.num_rows:
            raise LabelingFunctionError(
                f"A columnar labeling function made {found.num_rows} votes of {batch.num_rows} rows; "
                "conditions keep the rows of their table."
            )
        order = np.argsort(found[ROW].to_numpy())
        votes = {name: found[name].to_numpy()[order] for name in found.column_names if name != ROW}
        return votes | {name: _where(answers[hit], label) for name, (hit, label) in self._searching.items()}


def compile_plan(engine: Engine, functions: Sequence[ColumnarLabelingFunction], schema: pa.Schema) -> VotePlan:
    """Compile the votes of ``functions``, which have different names, on events of ``schema``.

    Raises
    ------
    LabelingFunctionError
        When a function cannot be computed, or might not vote the same on the same row again; names it.
    """
    originals = Originals.of(engine, functions, schema)
    originals.check()
    votes = {function.name: vote for function, vote in zip(functions, originals.votes, strict=True)}
    lifting = Lifting(engine, votes, originals.events)
    searching = _nothing_but_a_search(originals, lifting)
    computed = {name: vote for name, vote in votes.items() if name not in searching}
    answers = [pa.field(name, pa.bool_()) for name in lifting.names]
    wide = pa.schema([*schema, *answers, pa.field(ROW, pa.int64())])
    table = ibis.table(ibis.Schema.from_pyarrow(wide), name="weakfish_wide")

    def placed(given: ir.Table) -> dict[str, ir.Value]:
        return {name: rewritten(vote, originals.events.op(), given, lifting.hits) for name, vote in computed.items()}

    used = columns_of(list(placed(table).values()), table)
    narrow = pa.schema([field for field in wide if field.name in used or field.name == ROW or field in answers])
    query = engine.prepare(narrow, lambda given: given.select(given[ROW], **placed(given)))
    read_by_engine = [name for name in originals.columns if name in used]
    return VotePlan(originals.columns, lifting.searches, originals, lifting, searching, read_by_engine, query)


def _nothing_but_a_search(originals: Originals, lifting: Lifting) -> dict[str, tuple[str, int]]:
    """The functions whose condition is a lifted search and no more: the column that answers it, and their vote."""
    found = {}
    for function in originals.functions:
        conditions = function.conditions(originals.events)
        (label, condition), *others = conditions.items()
        if not others and condition.op() in lifting.hits:
            found[function.name] = (lifting.hits[condition.op()], label)
    return found


def _where(answers: pa.Array, label: int) -> npt.NDArray[np.int8]:
    """``label`` where the answer is yes, else `ABSTAIN`."""
    yes = pc.fill_null(answers, False).to_numpy(zero_copy_only=False)
    return np.where(yes, np.int8(label), np.int8(ABSTAIN))


WIDEST = 60


def explain_plan(project: Project) -> None:
    """Print the searches of the columnar functions of all tasks, which are one plan, and count those that run by row.

    Raises
    ------
    TableError
        When there are no events, whose columns the functions are compiled for.
    """
    schema = schema_of(project.table("events"))
    console, voters = Console(), load_voters(project)
    functions = [voter.function for voter in voters.values()]
    columnar = [function for function in functions if isinstance(function, ColumnarLabelingFunction)]
    searches = compile_plan(compute.connect(), columnar, schema).searches if columnar else []
    console.print(_table(list(project.params.tasks), voters, searches))
    console.print(_summary(len(functions), len(columnar), searches), soft_wrap=True)
    several = sum(len(voter.tasks) > 1 for voter in voters.values())
    if several:
        console.print(f"{several} of them vote in several tasks, once for all of these.", soft_wrap=True)


def _table(tasks: list[str], voters: Mapping[str, Voter], searches: list[Search]) -> Table:
    title = f"{', '.join(tasks)}: searches of text"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, highlight=False)
    for name in (*(["tasks"] if len(tasks) > 1 else []), "function", "column", "pattern", "where", "why"):
        table.add_column(name, overflow="fold")
    for search in searches:
        where = "scan, then engine" if search.rechecked else "scan" if search.lifted else "engine"
        pattern = search.pattern if len(search.pattern) <= WIDEST else search.pattern[: WIDEST - 3] + "..."
        of = [", ".join(voters[search.function].tasks)] if len(tasks) > 1 else []
        table.add_row(*of, search.function, search.column, repr(pattern)[1:-1], where, search.why)
    return table


def _summary(functions: int, columnar: int, searches: list[Search]) -> str:
    lifted = sum(search.lifted for search in searches)
    return (
        f"{lifted} of {len(searches)} searches are done in one scan per column of text; {columnar} of {functions} "
        f"labeling functions are columnar, {functions - columnar} run row by row."
    )
