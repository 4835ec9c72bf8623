"""``weakfish vote --explain-plan``: which searches of text are lifted into one scan, which are not, and why."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from weakfish import compute
from weakfish.labeling.functions import ColumnarLabelingFunction
from weakfish.labeling.load import load_functions
from weakfish.labeling.voting.plan import Search, compile_plan
from weakfish.project import Project
from weakfish.tables import schema_of

WIDEST = 60


def explain_plan(project: Project) -> None:
    """Print the searches of each task's columnar functions, and name the functions that run row by row.

    Raises
    ------
    TableError
        When there are no events, whose columns the functions are compiled for.
    """
    schema = schema_of(project.table("events"))
    console = Console()
    for task in project.params.tasks:
        functions = load_functions(project, task)
        columnar = [function for function in functions if isinstance(function, ColumnarLabelingFunction)]
        searches = compile_plan(compute.connect(), columnar, schema).searches if columnar else []
        console.print(_table(task, searches))
        console.print(_summary(len(functions), len(columnar), searches), soft_wrap=True)


def _table(task: str, searches: list[Search]) -> Table:
    table = Table(title=f"{task}: searches of text", title_justify="left", box=box.SIMPLE, highlight=False)
    for name in ("function", "column", "pattern", "where", "why"):
        table.add_column(name, overflow="fold")
    for search in searches:
        where = "scan, then engine" if search.rechecked else "scan" if search.lifted else "engine"
        pattern = search.pattern if len(search.pattern) <= WIDEST else search.pattern[: WIDEST - 3] + "..."
        table.add_row(search.function, search.column, repr(pattern)[1:-1], where, search.why)
    return table


def _summary(functions: int, columnar: int, searches: list[Search]) -> str:
    lifted = sum(search.lifted for search in searches)
    return (
        f"{lifted} of {len(searches)} searches are done in one scan per column of text; {columnar} of {functions} "
        f"labeling functions are columnar, {functions - columnar} run row by row."
    )
