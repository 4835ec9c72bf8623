"""The plan of columnar votes: what the automaton answers, what the engine computes, and which function is at fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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
from weakfish.labeling.automaton import ROW, Lifting
from weakfish.labeling.regex import Search, rewritten
from weakfish.project.paths import Project
from weakfish.rules.columnar import ColumnarLabelingFunction
from weakfish.rules.loading import Voter, load_voters

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
