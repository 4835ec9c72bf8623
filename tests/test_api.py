"""`weakfish.open`: what a project holds, from Python, and that asking for nothing costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

import weakfish
from weakfish.contracts.tables import read_table
from weakfish.errors import TableError, UnknownName, UserError


def test_importing_it_loads_neither_pandas_nor_the_engine() -> None:
    said = (
        "import sys, weakfish; print([name for name in ('pandas', 'pyarrow', 'feast', 'click') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_any_folder_of_a_project_opens_it_and_others_are_refused(demo: Path, tmp_path: Path) -> None:
    assert weakfish.open(demo / "data" / "events").root == demo
    assert weakfish.open(str(demo)).tasks == ["spam"]
    assert weakfish.open(demo).classes() == ["ham", "spam"]
    with pytest.raises(UserError, match="is not in a Weakfish project"):
        weakfish.open(tmp_path)


def test_tables_are_read_whole_by_column_and_by_partition(demo: Path, events: pa.Table) -> None:
    project = weakfish.open(demo)
    assert len(project.events) == events.num_rows
    assert project.events.columns == events.column_names
    assert project.events.arrow().equals(events)
    month = project.labels().arrow(["message_id", "p_spam"], partition="2002-08")
    assert month.column_names == ["message_id", "p_spam"]
    whole = read_table(demo / "data/labels/spam")
    assert project.labels("spam").pandas().equals(whole.to_pandas())
    assert sum(batch.num_rows for batch in project.training().batches(["covered"])) == len(project.training())
    assert project.gold().columns == ["message_id", "label"]


def test_names_that_do_not_exist_are_told_with_those_that_do(demo: Path) -> None:
    project = weakfish.open(demo)
    with pytest.raises(UnknownName, match=r"no task 'spma' in params\.yaml; did you mean 'spam'"):
        project.labels("spma")
    with pytest.raises(UnknownName, match="no partition '2002-13' in labels/spam"):
        project.labels().arrow(partition="2002-13")
    with pytest.raises(TableError, match="has no column p_spma"):
        project.labels().pandas(["p_spma"])


def test_metrics_are_those_of_the_report(demo: Path) -> None:
    found = weakfish.open(demo).metrics
    stored = json.loads((demo / "reports/metrics.json").read_text())["tasks"]["spam"]["models"]
    assert set(found["model"]) == set(stored)
    assert list(found.columns) == ["task", "model", "metric", "value", "low", "high"]
    auc = found.query("model == 'label_model' and metric == 'auc'").iloc[0]
    assert auc["value"] == stored["label_model"]["auc"]["value"]
    assert auc["low"] < auc["value"] < auc["high"]


def test_a_label_is_explained_by_its_votes(demo: Path) -> None:
    project = weakfish.open(demo)
    key = project.labels().arrow(["message_id"])["message_id"][0].as_py()
    why = project.explain(key)
    assert why["key"] == key
    assert sum(why["probabilities"].values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["pandas", "arrow"])
def test_features_of_a_frame_are_those_of_the_training_set(demo: Path, events: pa.Table, kind: str) -> None:
    project = weakfish.open(demo)
    expected = project.training().pandas().set_index("message_id").tail(20)
    features = [name for name in expected if "__" in name]
    asked = events.to_pandas().set_index("message_id").loc[expected.index[::-1]].reset_index()
    asked["event_timestamp"] = asked["received_at"]
    frame = asked if kind == "pandas" else pa.Table.from_pandas(asked)
    found = project.features(frame)
    assert found["message_id"].tolist() == expected.index[::-1].tolist()
    pd.testing.assert_frame_equal(
        found.set_index("message_id").loc[expected.index, features], expected[features], check_dtype=False
    )


def test_a_frame_that_lacks_a_column_is_refused(demo: Path) -> None:
    with pytest.raises(UserError, match=r"The frame has no column .*event_timestamp; the features of spam are asked"):
        weakfish.open(demo).features(pd.DataFrame({"sender_domain": ["a.org"]}))


def test_all_rows_that_were_read_are_reachable_the_quarantined_ones_with_their_reasons(demo: Path) -> None:
    project = weakfish.open(demo)
    assert len(project.staged) == len(project.events) + len(project.quarantined)
    reasons = project.quarantined.arrow()["reasons"].combine_chunks().flatten().to_pylist()
    assert {reason.partition(": ")[0] for reason in reasons} == {"column_values_to_not_be_null(received_at)"}
    assert (len(project.rejects), project.rejects.partitions, project.rejects.pandas().empty) == (0, [], True)


def test_a_table_says_what_it_holds_and_where_and_shows_a_notebook_its_first_rows(demo: Path, tmp_path: Path) -> None:
    project = weakfish.open(demo)
    events = project.events
    said = f"{len(events):,} rows, {len(events.columns)} columns, 2001-06 to 2002-12, in {demo / 'data/events'}"
    assert repr(events) == f"<events: {said}>"
    shown = events._repr_html_()
    assert said in shown
    assert shown.count("<tr") == 6
    assert repr(project.rejects) == f"<rejects: 0 rows, no column, in {demo / 'data/quarantine/raw'}>"
    (tmp_path / "params.yaml").write_text((demo / "params.yaml").read_text())
    (tmp_path / "dvc.yaml").write_text((demo / "dvc.yaml").read_text())
    nothing = weakfish.open(tmp_path).quarantined
    assert repr(nothing).startswith("<quarantined: Table ")
    assert "run `dvc repro`, which makes it" in nothing._repr_html_()
    with pytest.raises(TableError, match="holds no partition"):
        len(nothing)
