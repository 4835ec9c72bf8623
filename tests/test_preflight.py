"""Errors of configuration are found before the first stage, and misuse of a command leaves the pipeline as it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from in_process import run_here
from projects import replace, tiny, weakfish, write

from weakfish.cli import pipeline
from weakfish.contracts.ledgers import read_run, read_runs
from weakfish.errors import ParamsError, UnknownName, UserError
from weakfish.project.paths import Project
from weakfish.project.preflight import check_configuration

DEFINITIONS = """
    from feast import FeatureService

    fraud_v1 = FeatureService(name="fraud_v1", features=[])
    """
LATER = ("features", "training_set", "evaluate")
TRANSFORMS = """
    from weakfish.features.views import transform

    @transform(entity="buyer")
    def buyer_activity(past):
        return {}
    """


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """The tiny project, with a Feast repository."""
    root = tiny(tmp_path / "orders")
    write(root / "feature_repo/definitions.py", DEFINITIONS)
    write(root / "feature_repo/transforms.py", TRANSFORMS)
    pipeline = (root / "dvc.yaml").read_text(encoding="utf-8")
    write(root / "dvc.yaml", pipeline + "".join(f"  {stage}: {{cmd: weakfish}}\n" for stage in LATER))
    return root


def test_a_project_whose_parts_fit_together_passes_and_nothing_is_imported(orders: Path) -> None:
    before = set(sys.modules)
    check_configuration(Project(orders))
    assert not {name for name in set(sys.modules) - before if name.startswith(("feast", "feature_repo", "sources."))}


def with_a_task(root: Path) -> None:
    replace(root / "params.yaml", "label_models:", "  waits:\n    classes: [short, long]\nlabel_models:")


def test_a_new_task_without_a_feature_service_stops_before_the_first_stage(orders: Path) -> None:
    with_a_task(orders)
    with pytest.raises(UnknownName, match=r"no feature service .*feature_services.waits.* 'waits_v1' in feature_repo"):
        pipeline.run(Project(orders), ())
    assert read_runs(Project(orders)) == {}
    assert not (orders / "data").exists()


def test_stages_before_the_training_set_run_without_its_feature_service(orders: Path) -> None:
    with_a_task(orders)
    check_configuration(Project(orders), ["label"])
    for stages in ([], ["label", "evaluate"], ["training_set"]):
        with pytest.raises(UnknownName, match="waits_v1"):
            check_configuration(Project(orders), stages)


@pytest.mark.parametrize(
    "definitions",
    [
        'further_tasks(here, entity, features, FeatureService(name="fraud_v1"))\n',
        'services = [FeatureService(name=f"{task}_v1", features=[]) for task in tasks]\n',
        'a, b = FeatureService(name="fraud_v1", features=[]), FeatureService(name="waits_v1", features=[])\n',
    ],
)
def test_services_that_are_made_in_other_ways_are_no_error(orders: Path, definitions: str) -> None:
    with_a_task(orders)
    write(orders / "feature_repo/definitions.py", definitions)
    check_configuration(Project(orders))


def test_a_service_that_params_name_and_nobody_defines_is_an_error(orders: Path) -> None:
    replace(orders / "params.yaml", "label_models:", "feature_services: {fraud: fraud_v2}\nlabel_models:")
    with pytest.raises(UnknownName, match=r"'fraud_v2' in feature_repo/definitions.py; did you mean 'fraud_v1'"):
        check_configuration(Project(orders))


def test_a_view_that_no_code_makes_a_reader_without_a_file_and_code_that_is_no_python_are_named(orders: Path) -> None:
    settings = (orders / "params.yaml").read_text(encoding="utf-8")
    write(orders / "params.yaml", settings + "views: [buyer_activity]\n")
    check_configuration(Project(orders))
    write(orders / "params.yaml", settings + "views: [buyer_activty]\n")
    with pytest.raises(UnknownName, match=r"'buyer_activty' in .*transforms.py; did you mean 'buyer_activity'"):
        check_configuration(Project(orders))
    write(orders / "params.yaml", settings.replace("sources.orders:Orders", "sources.order:Orders"))
    with pytest.raises(ParamsError, match=r"source.reader names the module sources.order, and there is no"):
        check_configuration(Project(orders))
    write(orders / "params.yaml", settings)
    write(orders / "validation/events.py", "EXPECTATIONS = [\n")
    with pytest.raises(UserError, match=r"validation/events.py, line 1 is not Python: '\[' was never closed"):
        check_configuration(Project(orders))


def test_a_labeling_function_that_a_task_lists_and_nobody_wrote_is_named(orders: Path) -> None:
    replace(orders / "params.yaml", "functions: all", "functions: [is_large, is_smal]")
    with pytest.raises(UnknownName, match=r"tasks.fraud.functions\) 'is_smal' in labeling_functions/; did you mean"):
        check_configuration(Project(orders))
    replace(orders / "params.yaml", "is_smal]", "is_small]")
    check_configuration(Project(orders))


def test_under_dvc_the_first_stage_says_so_and_its_record_is_one_of_a_failure(orders: Path) -> None:
    with_a_task(orders)
    done = weakfish(orders, "ingest", DVC_STAGE="ingest", WEAKFISH_FORK_SERVER="0")
    assert done.returncode == 2
    assert "There is no feature service" in done.stderr
    record = read_run(Project(orders), "ingest")
    assert record is not None
    assert record.exit_code == 2
    assert not (orders / "data").exists()
    assert weakfish(orders, "ingest").returncode == 0, "by hand, a stage needs only what it uses"


def failing(root: Path, *arguments: str) -> str:
    with pytest.raises(UserError) as raised:
        run_here(root, arguments)
    return str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "stage"),
    [
        (["validate", "labels/nosuch"], "validate_labels@nosuch"),
        (["gate", "labels/nosuch"], "gate_labels@nosuch"),
    ],
)
def test_misuse_of_a_command_leaves_the_record_of_the_stage_as_it_was(
    orders: Path, arguments: list[str], stage: str
) -> None:
    project = Project(orders)
    run_here(orders, ["ingest"], ["validate", "events"])
    assert "nosuch" in failing(orders, *arguments)
    assert read_run(project, stage) is None
    record = {"stage": stage, "started_at": "2024-05-01T08:00:00+00:00", "exit_code": 0, "seconds": 3.0}
    write(orders / f".weakfish/runs/{stage.replace('/', '%2F')}.json", json.dumps(record))
    failing(orders, *arguments)
    found = read_run(project, stage)
    assert found is not None
    assert (found.exit_code, found.seconds) == (0, 3.0)
