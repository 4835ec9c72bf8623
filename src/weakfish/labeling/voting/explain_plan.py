"""``weakfish vote --explain-plan``: which searches of text are lifted into one scan, which are not, and why."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from weakfish import compute
from weakfish.labeling.functions import ColumnarLabelingFunction
from weakfish.labeling.load import Voter, load_voters
from weakfish.labeling.voting.plan import Search, compile_plan
from weakfish.project import Project
from weakfish.tables import schema_of

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
