"""What the tests of vote plans share: the engine's own votes, to hold the plan's against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from weakfish.engine import duckdb as compute
from weakfish.labeling.plan import VotePlan
from weakfish.rules.columnar import ColumnarLabelingFunction


def engines_votes(
    engine: compute.Engine, functions: Sequence[ColumnarLabelingFunction], rows: pa.Table
) -> dict[str, list[int]]:
    """The votes of the functions as they are written, by name, in the order of ``rows``."""
    table = engine.from_arrow(rows.append_column("position", pa.array(np.arange(rows.num_rows))))
    columns = {function.name: function.votes(table) for function in functions}
    found = engine.run(table.select(table.position, **columns)).sort_by("position")
    return {function.name: found[function.name].to_pylist() for function in functions}


def plan_that_agrees(functions: Sequence[ColumnarLabelingFunction], rows: pa.Table) -> VotePlan:
    """The compiled plan, once its votes on ``rows`` are found equal to the engine's own."""
    engine = compute.connect()
    plan = VotePlan(engine, functions, rows.schema)
    found = {name: column.tolist() for name, column in plan.votes(rows).items()}
    assert found == engines_votes(engine, functions, rows)
    return plan
