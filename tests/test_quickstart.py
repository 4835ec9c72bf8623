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
from traitlets.config import Config

from weakfish.contracts.tables import schema_of
from weakfish.project.paths import Project

NOTEBOOK = REPOSITORY / "docs/quickstart.ipynb"

FACTS = """
import json

frames = {name: value for name, value in globals().items() if isinstance(value, pd.DataFrame)}
print(json.dumps({
    "columns": sorted({str(column) for frame in frames.values() for column in frame.columns}),
    "suspect": suspect,
    "key": why["key"],
    "label": why["label"],
    "on the row": spoken["vote"].to_dict(),
    "disputes": disputes.to_dict("index"),
    "judged": judged.to_dict("index"),
    "compared": compared,
    "by column": {str(value): share for value, share in by_column["share"].items()},
    "outcome": {way: {" ".join(name): float(value) for name, value in of.items()} for way, of in results.items()},
}, default=float))
"""

LEARNED, LAST, MODEL = "labels to learn from", "labels of the last month", "model in the last month"


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


def test_the_function_that_it_names_is_the_one_that_models_contradict_most(demo: Path, facts: dict[str, Any]) -> None:
    reported = json.loads((demo / "reports/labeling_functions.json").read_text())["tasks"]["spam"]["functions"]
    assert set(facts["disputes"]) == {function["name"] for function in reported}
    assert facts["suspect"] == max(facts["disputes"], key=lambda name: facts["disputes"][name]["contradicted"])
    assert facts["on the row"][facts["suspect"]] == facts["label"]


def test_wrong_labels_are_counted_as_labels_and_dev_gold_have_them(demo: Path, facts: dict[str, Any]) -> None:
    split = pd.Timestamp(Project(demo).params.gold.split_time)
    gold = pd.read_parquet(demo / "data/gold/dev/spam").set_index("message_id")["label"]
    labels = pd.read_parquet(demo / "data/labels/spam").query("covered").set_index("message_id")
    both = labels.join(gold.rename("gold"), how="inner").dropna(subset="gold")
    early = both["received_at"] < split - pd.DateOffset(months=1)
    wrong = (both["p_spam"] > 0.5) != (both["gold"] == "spam")
    found = facts["outcome"]["as it is"]
    assert (found[f"{LEARNED} wrong"], found[f"{LAST} wrong"]) == (wrong[early].sum(), wrong[~early].sum())
    assert found[f"{LAST} Brier"] == facts["compared"]["the labels themselves"]["Brier"]


def test_what_it_says_of_the_function_is_so(facts: dict[str, Any]) -> None:
    kept, out, narrowed = (facts["outcome"][way] for way in ("as it is", "taken out", "abstains on HTML"))
    assert out[f"{LEARNED} wrong"] < kept[f"{LEARNED} wrong"]
    assert out[f"{LAST} none"] > kept[f"{LAST} none"]
    assert out[f"{LAST} Brier"] > kept[f"{LAST} Brier"]
    assert facts["by column"]["True"] > 2 * facts["by column"]["False"]
    for part in (f"{LEARNED} wrong", f"{LAST} wrong", f"{LAST} Brier"):
        assert narrowed[part] < kept[part]
    suspect = facts["disputes"][facts["suspect"]]
    assert any(
        facts["disputes"][name]["share"] > suspect["share"] and judged["labels broken"] > judged["labels mended"]
        for name, judged in facts["judged"].items()
    )


def test_what_it_says_of_the_models_is_so(facts: dict[str, Any]) -> None:
    compared = {name: figures["AUC"] for name, figures in facts["compared"].items()}
    assert compared["the labels themselves"] == max(compared.values())
    aucs = [way[f"{MODEL} AUC"] for way in facts["outcome"].values()]
    assert max(aucs) - min(aucs) < 0.006
    assert min(aucs) > compared["model, on gold labels"] - 0.006
    briers = {name: way[f"{MODEL} Brier"] for name, way in facts["outcome"].items()}
    assert min(briers, key=lambda name: briers[name]) == "as it is"
