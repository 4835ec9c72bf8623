"""Label tables as the label stage leaves them, small and hand-made, for projects that have no pipeline behind them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pyarrow as pa
from stores import BEGIN

from weakfish.contracts.tables import TIME, write_partition
from weakfish.files import write_json
from weakfish.project.paths import Project


def label_table(project: Project, task: str, keys: Sequence[str]) -> None:
    """Make ``data/labels/<task>`` and its manifest: an event a day, the first with the last class."""
    classes = project.task(task).classes
    share = [number % 10 / 10 for number in range(len(keys))]
    table = pa.table(
        {
            project.params.events.key: list(keys),
            project.params.events.time: pa.array([BEGIN + timedelta(days=day) for day in range(len(keys))], TIME),
            **{f"p_{name}": share if number else [1 - one for one in share] for number, name in enumerate(classes)},
            **{f"majority_{name}": [1 / len(classes)] * len(keys) for name in classes},
            "covered": [True] * len(keys),
            "n_votes": pa.array([2] * len(keys), pa.int32()),
            "label": [classes[one > 0.5] for one in share],
        }
    )
    folder = project.table("labels")
    write_partition(folder / task, BEGIN.strftime("%Y-%m"), table)
    manifest = {
        "task": task,
        "method": "snorkel",
        "functions": {"is_large": {"identity": "0" * 64, "module": "labeling_functions.orders"}},
        "models": [{"functions": ["is_large"], "fitted_through": "2024-01"}],
    }
    write_json(folder / f"{task}.manifest.json", manifest)
