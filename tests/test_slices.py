"""Slices: who is in one, what is counted and measured within it, and the limits that a slice has of its own."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made_votes import own_functions
from projects import replace, write

from reports import html
from weakfish.checks.label_checks import label_checks
from weakfish.checks.label_totals import rules_of, through
from weakfish.checks.reported import metrics_of, validate_evaluation
from weakfish.contracts.reports import LabelsReport, Metrics, SliceReport, read_report
from weakfish.contracts.tables import TIME, folder, read_table, write_partition
from weakfish.contracts.verdicts import Check
from weakfish.errors import LabelingFunctionError, ParamsError, UnknownName
from weakfish.evaluation.evaluate import evaluate
from weakfish.files import read_json, write_json
from weakfish.labeling.drafts import drafts_of
from weakfish.labeling.label import label
from weakfish.labeling.matrix import read_label_matrix
from weakfish.labeling.slice_counts import Slices
from weakfish.labeling.vote import vote
from weakfish.project.paths import Project
from weakfish.rules import slice

PARAMS = """
    events: {key: ticket_id, time: opened_at}
    source: {reader: "sources.tickets:Tickets"}
    gold: {split: "2024-03-01"}
    tasks:
      late: {classes: ["no", "yes"], functions: all}
    label_models:
      late: {method: majority}
    evaluate: {text: [], seeds: [1], bootstrap: 50}
    validation:
      slices: {}
    """
FUNCTIONS = """
    from snorkel.labeling import labeling_function

    from weakfish.rules import keywords, slice, threshold

    is_large = threshold("is_large", 1, "size", above=60, why="Large ones take time.")
    is_small = threshold("is_small", 0, "size", below=50, why="Small ones do not.")
    says_now = keywords("says_now", 0, "note", ["now"], why="Who says so is served at once.")


    @slice
    def by_phone(ticket):
        '''Tickets of the telephone, which nobody writes notes for.'''
        return ticket.channel == "phone"


    says_please = slice(keywords("says_please", 1, "note", ["please"], why="Polite ones."))


    @slice
    @labeling_function()
    def is_round(ticket):
        return 0 if ticket["size"] % 10 == 0 else -1
    """
ROWS = 300
MONTHS = ("2024-01", "2024-02", "2024-03")


@pytest.fixture
def at(tmp_path: Path) -> Project:
    write(tmp_path / "params.yaml", PARAMS)
    write(tmp_path / "dvc.yaml", "stages: {}\n")
    write(tmp_path / "labeling_functions/tickets.py", FUNCTIONS)
    for number, month in enumerate(MONTHS):
        events(Project(tmp_path), month, np.random.default_rng(number))
    return Project(tmp_path)


def events(at: Project, month: str, random: np.random.Generator, silent: str | None = None) -> None:
    """Tickets of a month: late if large; those of the ``silent`` channel have a size on which nobody votes."""
    channel = random.choice(["phone", "mail"], ROWS)
    size = random.integers(0, 100, ROWS)
    size = np.where(channel == (silent or ""), 55, size)
    note = random.choice(["please", "now", "now please", "a note"], ROWS)
    start = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
    keys = pa.array([f"{month}-{row}" for row in range(ROWS)])
    times = pa.array([start + timedelta(hours=row) for row in range(ROWS)], TIME)
    table = {"ticket_id": keys, "opened_at": times, "size": size, "note": note, "channel": channel}
    write_partition(at.table("events"), month, pa.table(table))
    truth = np.where((size > 55) ^ ((channel == "phone") & (random.random(ROWS) < 0.4)), "yes", "no")
    part = "test" if month == MONTHS[-1] else "dev"
    write_partition(folder(at, "late", part), month, pa.table({"ticket_id": keys, "label": truth}))


def made(at: Project) -> Project:
    with own_functions():
        vote(at)
        label(at)
        evaluate(at)
    return at


def members(at: Project) -> dict[str, np.ndarray]:
    with own_functions():
        return Slices(at).everywhere()


def test_slices_hold_the_rows_of_their_conditions_and_vote_in_no_task(at: Project) -> None:
    found = members(made(at))
    rows = read_table(at.table("events"), ["channel", "note", "size"])
    assert list(found) == ["by_phone", "says_please", "is_round"]
    assert found["by_phone"].tolist() == [channel == "phone" for channel in rows["channel"].to_pylist()]
    assert found["says_please"].tolist() == ["please" in note for note in rows["note"].to_pylist()]
    assert found["is_round"].tolist() == [size % 10 == 0 for size in rows["size"].to_pylist()]
    with own_functions():
        assert read_label_matrix(at, "late").names == ["is_large", "is_small", "says_now"]
    assert sorted(path.name for path in (at.data / "votes").iterdir() if path.is_dir()) == ["@slices", "late"]


def test_without_slices_nothing_is_written_of_them(at: Project) -> None:
    file = at.root / "labeling_functions/tickets.py"
    write(file, FUNCTIONS[: FUNCTIONS.index("    @slice")])
    made(at)
    assert not (at.data / "votes/@slices").exists()
    assert "slices" not in read_json(at.reports / "labeling_functions.json")["tasks"]["late"]
    assert "slices" not in read_json(at.reports / "metrics.json")["tasks"]["late"]


def test_labeling_counts_within_a_slice_what_it_counts_of_all_rows(at: Project) -> None:
    inside = members(made(at))["by_phone"]
    with own_functions():
        matrix = read_label_matrix(at, "late")
    votes, labels = matrix.votes[inside], read_table(at.table("labels/late")).filter(pa.array(inside))
    found: SliceReport = read_report(at, LabelsReport).tasks["late"].slices["by_phone"]
    disagree = [len({vote for vote in row if vote >= 0}) > 1 for row in votes.tolist()]
    assert found.doc == "Tickets of the telephone, which nobody writes notes for."
    assert (found.rows, found.covered) == (len(votes), int((votes >= 0).any(axis=1).sum()))
    assert found.conflicting == sum(disagree) > 0
    for place, name in enumerate(matrix.names):
        voted = votes[:, place] >= 0
        counts = np.sum([part.votes[name] for part in found.by_partition], axis=0).tolist()
        assert counts == [int((votes[:, place] == each).sum()) for each in (0, 1)]
        assert sum(part.conflicts[name] for part in found.by_partition) == int((voted & disagree).sum())
    seen = labels["covered"].to_numpy()
    mean = sum(part.covered * (part.mean["yes"] or 0) for part in found.by_partition) / found.covered
    assert mean == pytest.approx(labels["p_yes"].to_numpy()[seen].mean())
    assert found.dev
    assert found.dev.rows == int(inside[: 2 * ROWS].sum())


def test_every_model_is_measured_on_the_test_rows_of_a_slice(at: Project) -> None:
    inside = members(made(at))["by_phone"][2 * ROWS :]
    labels = read_table(at.table("labels/late")).slice(2 * ROWS)
    gold = read_table(folder(at, "late", "test"))["label"].to_numpy()
    found = read_report(at, Metrics).tasks["late"]
    right = labels["label"].to_numpy(zero_copy_only=False)[inside] == gold[inside]
    sliced = found.slices["by_phone"]
    assert sliced.test_rows == int(inside.sum())
    # A row without a label, or tied, counts as its probabilities say.
    assert sliced.models["label_model"]["accuracy"].value == pytest.approx(right.mean(), abs=0.1)
    assert list(sliced.models) == [name for name in found.models if name != "majority_class"]
    whole, worse = (of.models["label_model"]["auc"].value for of in (found, sliced))
    assert whole is not None
    assert worse is not None
    assert worse < whole - 0.1


def test_a_slice_with_too_few_test_rows_says_so(at: Project) -> None:
    replace(at.root / "labeling_functions/tickets.py", 'ticket.channel == "phone"', "ticket.size == 7")
    made(at)
    metric = read_report(at, Metrics).tasks["late"].slices["by_phone"].models["label_model"]["f1"]
    assert metric.value is None
    assert metric.reason
    assert metric.reason.startswith("Only ")


def limits(at: Project, text: str) -> None:
    replace(at.root / "params.yaml", "slices: {}", f"slices: {text}")


def checks(at: Project, accepted: Any = None) -> dict[str, Check]:
    return {check.check: check for check in label_checks(Project(at.root), "late", accepted)}


def test_coverage_and_conflicts_have_limits_within_a_slice(at: Project) -> None:
    limits(at, "{late: {by_phone: {coverage: 0.99, conflicts: 0.9}, is_round: {conflicts: 0.01, severity: critical}}}")
    found = checks(made(Project(at.root)))
    assert found["slice_coverage(by_phone)"].status == "warned"
    assert found["slice_conflicts(by_phone)"].status == "passed"
    assert found["slice_conflicts(is_round)"].status == "failed"
    assert "slice_coverage(says_please)" not in found
    assert "rows of by_phone" in str(found["slice_coverage(by_phone)"].found)


def test_figures_have_least_values_within_a_slice(at: Project) -> None:
    limits(at, "{late: {by_phone: {least: {label_model: {auc: 0.99, accuracy: 0.1}, text_weak: {f1: 0.5}}}}}")
    made(Project(at.root))
    found = {check.check: check for check in validate_evaluation(Project(at.root), "late").checks}
    assert found["floor(label_model, auc, by_phone)"].status == "warned"
    assert found["floor(label_model, accuracy, by_phone)"].status == "passed"
    assert found["floor(text_weak, f1, by_phone)"].status == "noted"
    assert "It was not measured" in str(found["floor(text_weak, f1, by_phone)"].found)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("{late: {by_fone: {coverage: 0.5}}}", UnknownName, "There is no slice 'by_fone'.*did you mean 'by_phone'"),
        ("{soon: {by_phone: {coverage: 0.5}}}", ParamsError, "names 'soon', which is not one of the tasks"),
        ("{late: {by_phone: {least: {labels: {f1: 0.5}}}}}", ParamsError, "names 'labels', which is no model"),
        ("{late: {by_phone: {least: {label_model: {f2: 0.5}}}}}", ParamsError, "slices.late.by_phone.least"),
    ],
)
def test_limits_of_what_is_not_there_are_refused(at: Project, text: str, kind: type[Exception], says: str) -> None:
    made(at)
    limits(at, text)
    with pytest.raises(kind, match=says):
        checks(at)


def test_drift_within_a_slice_is_told_although_all_rows_together_look_alike(at: Project) -> None:
    accepted = through(rules_of(made(at), "late"), None)
    write_json(at.root / "accepted.json", accepted)  # as a baseline keeps it
    assert all(check.status == "passed" for name, check in checks(at, accepted).items() if "by_phone" in name)
    events(at, MONTHS[1], np.random.default_rng(1), silent="phone")
    found = checks(made(at), read_json(at.root / "accepted.json"))
    assert found["uncovered(by_phone)"].status == "warned"
    assert "Within by_phone: No function votes on" in str(found["uncovered(by_phone)"].found)
    assert found["functions(by_phone)"].status == "warned"
    assert "is_small votes on" in str(found["functions(by_phone)"].found)
    assert found["uncovered(says_please)"].observed is not None
    limits(at, "{late: {by_phone: {uncovered: 0.9}}}")
    assert checks(at, accepted)["uncovered(by_phone)"].status == "passed"


def test_metrics_within_a_slice_are_compared_with_the_accepted_ones(at: Project) -> None:
    made(at)
    accepted = metrics_of(at, "late")
    accepted["slices"]["by_phone"]["models"]["label_model"]["auc"] = {"value": 0.99, "interval": [0.98, 1.0]}
    entry = {"data_version": "0", "through": None, "verdict": "passed", "metrics": accepted, "checks": {}}
    write_json(at.baseline, {"tables": {"evaluation/late": entry}})
    found = {check.check: check.status for check in validate_evaluation(at, "late").checks}
    assert found["metric(label_model, auc, by_phone)"] == "warned"
    assert found["metric(label_model, auc, says_please)"] == "passed"
    assert found["metric(label_model, auc)"] == "passed"


def test_a_slice_that_raises_stops_the_stage_in_a_sentence(at: Project) -> None:
    replace(at.root / "labeling_functions/tickets.py", 'ticket["size"] % 10', '1 / ticket["size"]')
    with pytest.raises(LabelingFunctionError, match=r"^Slice 'is_round' .*raised ZeroDivisionError.*return -1 where"):
        made(at)


def test_a_labeling_function_that_stays_one_needs_another_name_as_a_slice(at: Project) -> None:
    file = at.root / "labeling_functions/tickets.py"
    write(file, file.read_text(encoding="utf-8") + "\nmine = slice(is_large)\n")
    with pytest.raises(LabelingFunctionError, match=r"'is_large' is defined in .* rename one"):
        made(at)


def test_the_page_shows_slices_by_their_rows_and_figures(at: Project) -> None:
    made(at)
    page = " ".join(re.sub(r"<[^>]+>", " ", html(at.root)).split())
    rows = read_report(at, LabelsReport).tasks["late"]
    phone = rows.slices["by_phone"]
    metrics = read_report(at, Metrics).tasks["late"].slices["by_phone"]
    assert f"by_phone Tickets of the telephone, which nobody writes notes for. {phone.rows:,}" in page
    f1 = metrics.models["label_model"]["f1"].value
    assert f"{metrics.test_rows:,} {f1:.3f}" in page
    assert "Every model within says_please" in page
    replace(at.root / "labeling_functions/tickets.py", "Tickets of the telephone", "<b>Tickets</b> of")
    with own_functions():
        label(at)
    assert "&lt;b&gt;Tickets&lt;/b&gt; of" in html(at.root)


def test_what_is_no_function_is_no_slice() -> None:
    with pytest.raises(LabelingFunctionError, match="slice takes a condition or a labeling function, not int"):
        slice(5)  # type: ignore[arg-type]


def test_a_file_of_functions_is_tried_without_its_slices(at: Project) -> None:
    with own_functions():
        found, _, _ = drafts_of(at, "labeling_functions/tickets.py")
    assert set(found) == {"is_large", "is_small", "says_now"}
