"""The notebook `docs/quickstart.ipynb` runs as it is stored, and what its text says is so.

It is executed once, in the demo's own folder, by a kernel behind a socket file; one more cell, which is not stored,
prints what the others found.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pyarrow as pa
import pytest
from nbclient import NotebookClient
from projects import REPOSITORY
from sklearn.metrics import roc_auc_score
from traitlets.config import Config

from weakfish.contracts import tables as gold_labels
from weakfish.contracts.tables import schema_of
from weakfish.project.paths import Project

NOTEBOOK = REPOSITORY / "docs/quickstart.ipynb"

FACTS = """
import json

frames = {name: value for name, value in globals().items() if isinstance(value, pd.DataFrame)}
print(json.dumps({
    "columns": sorted({str(column) for frame in frames.values() for column in frame.columns}),
    "months": {str(label): int(number) for label, number in counts.sum().items()},
    "dev": dev,
    "disputed": compared.set_index("message_id")["dispute"].to_dict(),
    "boxes": int(grid.to_numpy().sum()),
    "key": why["key"],
    "label": why["label"],
    "votes": votes.set_index("name")["vote"].to_dict(),
}, default=float))
"""


@pytest.fixture(scope="module")
def stored() -> Any:
    """The notebook as it lies in the repository."""
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def before(demo: Path) -> dict[str, tuple[int, int]]:
    """The demo's files before the notebook ran."""
    return files(demo)


@pytest.fixture(scope="module")
def executed(demo: Path, before: dict[str, tuple[int, int]]) -> Any:
    """The notebook with its outputs, started in the folder where it lies; a cell that raises stops it."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(FACTS))
    with tempfile.TemporaryDirectory() as short, pytest.MonkeyPatch.context() as patch:
        for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
            patch.setenv(name, short)  # nothing of this account's settings, nothing written there
        settings = Config({"KernelManager": {"transport": "ipc", "ip": f"{short}/kernel"}})
        where = {"metadata": {"path": str(demo / NOTEBOOK.parent.name)}}
        client = NotebookClient(notebook, config=settings, kernel_name="python3", timeout=600, resources=where)
        return client.execute(env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})


@pytest.fixture(scope="module")
def facts(executed: Any) -> dict[str, Any]:
    """What the cells found."""
    found: dict[str, Any] = json.loads(executed.cells[-1].outputs[0].text)
    return found


def files(root: Path) -> dict[str, tuple[int, int]]:
    """When each file of a project was written, and its size; what the server keeps is its own business."""
    folders = [root / name for name in ("data", "docs", "feature_repo", "labeling_functions", "reports")]
    found = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    kept = [file for file in found if not {"online", "__pycache__"} & set(file.relative_to(root).parts)]
    return {str(file.relative_to(root)): (file.stat().st_mtime_ns, file.stat().st_size) for file in kept}


def printed(executed: Any) -> str:
    """All that a reader of the executed notebook sees below its cells."""
    shown = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(
        output.text if output.output_type == "stream" else "\n".join(map(str, output.data.values())) for output in shown
    )


def test_it_is_stored_without_outputs_and_with_names_for_its_cells(stored: Any) -> None:
    nbformat.validate(stored)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert all(re.fullmatch(r"[a-z-]+", cell.id) for cell in stored.cells)


def test_its_links_lead_somewhere(stored: Any) -> None:
    links = re.findall(r"\]\(([^)]+)\)", "".join(cell.source for cell in stored.cells))
    assert links
    assert all((NOTEBOOK.parent / link).exists() for link in links)


def test_its_text_holds_no_figure_that_could_be_out_of_date(stored: Any) -> None:
    text = [cell.source for cell in stored.cells if cell.cell_type == "markdown"]
    assert not re.search(r"\d", "".join(text))


def test_every_cell_runs_and_says_nothing_on_stderr(executed: Any) -> None:
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output.text for cell in code for output in cell.outputs if output.get("name") == "stderr"]


def test_it_writes_nothing_into_the_project(demo: Path, before: dict[str, tuple[int, int]], executed: Any) -> None:
    assert files(demo) == before


def test_it_shows_nothing_that_people_wrote(executed: Any, facts: dict[str, Any], events: pa.Table) -> None:
    assert not {"subject", "body"} & set(facts["columns"])
    shown = printed(executed)
    texts = {text[:40] for column in ("subject", "body") for text in events[column].to_pylist() if text}
    assert not [text for text in texts if len(text) >= 20 and text in shown]


def test_feast_returns_the_training_set(demo: Path, executed: Any, events: pa.Table) -> None:
    features = [name for name in schema_of(demo / "data/training/spam").names if "__" in name]
    assert f"{len(features)} features of {events.num_rows:,} messages: equal." in printed(executed)


def test_it_draws_four_pictures_that_need_no_network(executed: Any) -> None:
    shown = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    tables = [output.data["text/html"] for output in shown if output.output_type == "execute_result"]
    drawn = [table for table in tables if "linear-gradient(" in table or "background: rgba(" in table]
    assert len(drawn) == 4
    assert not [table for table in tables if "<script" in table or "http" in table]


def test_months_and_disputes_are_those_of_the_labels(demo: Path, facts: dict[str, Any]) -> None:
    labels = pd.read_parquet(demo / "data/labels/spam")
    assert sum(facts["months"].values()) == len(labels)
    assert facts["months"]["spam"] == (labels["label"].eq("spam") & labels["covered"]).sum()
    assert facts["boxes"] == len(facts["disputed"]) == labels["covered"].sum()


def test_the_label_that_it_explains_is_the_one_that_the_model_disputes_most(facts: dict[str, Any]) -> None:
    assert facts["disputed"][facts["key"]] == max(facts["disputed"].values())
    assert facts["label"] in facts["votes"].values()


def test_what_it_says_of_labels_and_model_is_so(demo: Path, facts: dict[str, Any]) -> None:
    gold = pd.read_parquet(gold_labels.folder(Project(demo), "spam", "dev")).set_index("message_id")["label"]
    labels = pd.read_parquet(demo / "data/labels/spam").set_index("message_id")["p_spam"]
    known = labels.index.intersection(gold.index)
    assert facts["dev"]["labels"] == pytest.approx(roc_auc_score(gold[known] == "spam", labels[known]))
    assert facts["dev"]["model"] > 0.9
