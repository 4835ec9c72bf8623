"""A proposal as files: formatted, imported, accepted by the engine, and the same pipeline as the demo's."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from projects import REPOSITORY
from scaffolded import KINDS, proposed, written

from weakfish.checks.validate import suite
from weakfish.errors import FeatureError, UnknownName
from weakfish.features.views import Past, check_view, load_transforms
from weakfish.project.params import LabelModelParams
from weakfish.project.stages import stages_of
from weakfish.rules.loading import load_functions
from weakfish.rules.rule import constants, literal
from weakfish.scaffold import literals
from weakfish.scaffold.proposal import Proposal, TaskProposal
from weakfish.scaffold.render import plan_past, render
from weakfish.sources.declared import events_contract
from weakfish.sources.tabular import TabularSettings

SETTINGS = REPOSITORY / "pyproject.toml"


def rendered(kind: str, **more: Any) -> dict[str, str]:
    return render(proposed(kind)[0], "1.2.3", **more)


def stages(text: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)["stages"]
    return found


def paths(items: list[Any], item: str) -> list[str]:
    """Outs and deps by path, whatever is said of them besides, for an item of a ``foreach``."""
    plain = [next(iter(each)) if isinstance(each, dict) else each for each in items]
    return [path.replace("${key}", item).replace("${item}", item) for path in plain]


@pytest.mark.parametrize("kind", KINDS)
def test_each_stage_reads_files_that_are_there_or_that_an_earlier_stage_makes(kind: str) -> None:
    files = rendered(kind)
    params = yaml.safe_load(files["params.yaml"])
    there = [*files, params["fetch"]["watch"]]
    for name, stage in stages(files["dvc.yaml"]).items():
        done = stage.get("do", stage)
        for item in params[stage["foreach"][2:-1]] if "foreach" in stage and name != "look" else [""]:
            for dep in paths(done.get("deps", []), item):
                dep = dep.replace("${fetch.watch}", params["fetch"]["watch"])
                assert any(path == dep or path.startswith(f"{dep}/") or dep.startswith(f"{path}/") for path in there), (
                    f"{name} reads {dep}"
                )
            there += paths([*done.get("outs", []), *done.get("metrics", []), *done.get("plots", [])], item)
            for setting in done.get("params", []):
                here = params
                for part in setting.replace("${key}", item).split("."):
                    here = here[part]


@pytest.mark.parametrize("kind", ["flats", "odd", "keys_alone"])
def test_without_times_or_entities_nothing_is_computed_of_the_past(kind: str, tmp_path: Path) -> None:
    proposal = proposed(kind)[0].model_copy(update={"entities": ()})
    files = render(proposal, "1.2.3")
    assert "view_schema" not in files["feature_repo/definitions.py"]
    assert [path for path in files if path.startswith("validation/features")] == ["validation/features/__init__.py"]
    with written(tmp_path, files) as project:
        assert project.params.views == []
        assert load_transforms(project) == []


def test_the_same_proposal_gives_the_same_files_also_when_it_comes_from_the_lock() -> None:
    for kind in KINDS:
        proposal, _ = proposed(kind)
        again = Proposal.model_validate_json(proposal.model_dump_json())
        assert again == proposal
        assert render(again, "1.2.3") == render(proposal, "1.2.3")


def test_what_is_rendered_is_formatted_and_without_findings(tmp_path: Path) -> None:
    for kind in KINDS:
        for path, text in rendered(kind).items():
            assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), path
            (tmp_path / kind / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / kind / path).write_text(text, encoding="utf-8")
        (tmp_path / kind / "pyproject.toml").unlink()  # the demo's settings count, which are stricter
    given = [str(SETTINGS), 'lint.isort.known-third-party=["weakfish"]']
    given += ['lint.extend-per-file-ignores={"**/tests/*"=["S101"]}']
    for command in (["check", "--extend-ignore", "N999"], ["format", "--check", "--diff"]):  # modules may be größe.py
        options = [part for setting in given for part in ("--config", setting)]
        found = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", *options, "."],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_reads_settings_source_functions_and_suites_of_a_rendered_project(kind: str, tmp_path: Path) -> None:
    proposal, sample = proposed(kind)
    files = rendered(kind)
    with written(tmp_path, files) as project:
        assert TabularSettings.model_validate(project.params.source.settings).path == proposal.path
        assert project.params.source.settings == proposal.source
        contract = events_contract(project)
        assert contract.schema.equals(sample.schema)
        for task, rules in proposal.rules.items():
            names = [function.name for function in load_functions(project, task)]
            assert sorted(names) == sorted(rule.name for rule in rules)
            assert len(names) == 3
        assert {f"labels/{task}" for task in proposal.tasks} <= set(project.suites())
        for table in project.suites():
            assert suite(project, table)


@pytest.mark.parametrize("kind", ["orders", "two_tasks", "tickets", "odd"])
def test_views_are_accepted_and_suites_are_about_their_columns(kind: str, tmp_path: Path) -> None:
    proposal, sample = proposed(kind)
    past = plan_past(proposal)
    with written(tmp_path, rendered(kind)) as project:
        import ibis

        labels = {
            task: (ibis.table({f"p_{name}": "float64" for name in of.classes}, name=task), of.classes)
            for task, of in proposal.tasks.items()
        }
        events = ibis.table(ibis.Schema.from_pyarrow(sample.schema), name="events")
        made = {
            item.name: check_view(item, Past(item.name, events, proposal.events_time, 1, labels))
            for item in load_transforms(project)
        }
        assert tuple(made) == proposal.views
        for plan in past.views:
            schema = made[plan.name].schema
            assert {*past.counts(plan), *past.shares()} <= set(schema.names)
            assert all(schema.field(name).type == pa.int64() for name in past.counts(plan))


@pytest.mark.parametrize("kind", KINDS)
def test_the_generated_tests_pass_at_once(kind: str, tmp_path: Path) -> None:
    files = rendered(kind)
    with written(tmp_path, files) as project:
        space: dict[str, Any] = {"__file__": str(project.root / "tests/test_labeling_functions.py"), "__name__": "made"}
        exec(compile(files["tests/test_labeling_functions.py"], "made", "exec"), space)  # noqa: S102  just rendered
        assert len(space["ROWS"]) == 6 * len(proposed(kind)[0].tasks)
        for row in space["ROWS"]:
            space["test_a_function_votes_where_it_should"](*row)


def test_a_task_and_a_view_that_came_since_are_judged_without_a_suite_of_their_own(tmp_path: Path) -> None:
    files = rendered("orders")
    settings = yaml.safe_load(files["params.yaml"])
    settings["tasks"]["late"] = {"classes": ["no", "yes"]}
    settings["views"].append("shop_pace")
    with written(tmp_path, files | {"params.yaml": yaml.safe_dump(settings)}) as project:
        for table in ("labels/late", "training/late", "features/shop_pace"):
            assert suite(project, table) == []
        with pytest.raises(UnknownName, match="table with a suite"):
            suite(project, "labels/early")
        assert project.task("late").label_model.class_balance == [0.5, 0.5]
        with pytest.raises(FeatureError, match=r"lists view 'shop_pace', and .* no function of this name"):
            load_transforms(project)


VIEW = """

@transform(entity="product")
def product_pace(past: Past) -> dict[str, ir.Value]:
    return {"events_1d": past.last(days=1).count()}
"""


def test_a_new_view_takes_a_line_of_params_and_a_function_of_transforms(tmp_path: Path) -> None:
    files = rendered("orders")
    files["params.yaml"] = files["params.yaml"].replace(
        "[customer_id_activity]", "[customer_id_activity, product_pace]"
    )
    files["feature_repo/transforms.py"] += VIEW
    with written(tmp_path, files) as project:
        definitions = vars(project.import_module("feature_repo.definitions"))
        assert definitions["product_pace"].entities == ["product"]
        assert definitions["product_entity"].join_key == "product"
        assert {field.name for field in definitions["product_pace"].schema} == {"product", "events_1d"}
        served = [each.name for each in definitions["outcome_v1"].feature_view_projections]
        assert served == ["customer_id_activity", "product_pace", "request_features"]
        assert {"validate_features@product_pace", "gate_features@product_pace"} <= set(stages_of(project.root))


def test_a_view_that_params_do_not_list_is_refused(tmp_path: Path) -> None:
    files = rendered("orders")
    with (
        written(
            tmp_path, files | {"params.yaml": files["params.yaml"].replace("[customer_id_activity]", "[]")}
        ) as project,
        pytest.raises(FeatureError, match=r"'customer_id_activity' .* is not among the views of params.yaml"),
    ):
        load_transforms(project)


@pytest.mark.parametrize(
    ("classes", "balance", "expected"),
    [
        (("fraud", "ok"), (0.02, 0.98), {"deal": "fraud"}),
        (("ok", "fraud"), (0.98, 0.02), {"deal": "fraud"}),
        (("a", "b"), (0.5, 0.5), {"deal": "b"}),
        (("a", "b", "c"), (0.2, 0.3, 0.5), {}),
    ],
)
def test_the_rarer_class_of_dev_gold_is_proposed_as_the_positive_one(
    classes: tuple[str, ...], balance: tuple[float, ...], expected: dict[str, str]
) -> None:
    task = TaskProposal(classes=classes, gold="label", class_balance=balance)
    files = render(proposed("flats")[0].model_copy(update={"tasks": {"deal": task}}), "1.2.3")
    assert yaml.safe_load(files["params.yaml"])["evaluate"]["positive"] == expected


@pytest.mark.parametrize("classes", [2, 3, 7, 49, 50])
def test_a_class_balance_that_nobody_knows_is_even_and_adds_up(classes: int) -> None:
    proposal, _ = proposed("flats")
    task = TaskProposal(classes=tuple(f"c{number}" for number in range(classes)))
    files = render(proposal.model_copy(update={"tasks": {"deal": task}}), "1.2.3")
    settings = yaml.safe_load(files["params.yaml"])
    assert settings["evaluate"]["positive"] == {}
    balance = settings["label_models"]["deal"]["class_balance"]
    assert LabelModelParams(class_balance=balance).class_balance == [1 / classes] * classes
    assert abs(sum(balance) - 1) < 1e-9


def test_a_stage_lists_the_files_on_each_run_where_what_fetch_reads_cannot_be_watched() -> None:
    proposal = proposed("flats")[0]
    for dep, expected in (
        (None, {"watch": "data/files.json", "look": ["files"]}),
        ("../in: # ${x}", {"watch": "../in: # ${x}", "look": []}),
    ):
        files = render(proposal.model_copy(update={"fetch_dep": dep}), "1.2.3")
        assert yaml.safe_load(files["params.yaml"])["fetch"] == expected


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@given(texts)
def test_any_text_comes_back_from_python_and_yaml_as_it_was(text: str) -> None:
    code = literal(text)
    assert ast.literal_eval(code) == text
    assert "\n" not in code
    line = literals.yaml_value(text)
    assert yaml.safe_load(line) == text
    assert "\n" not in line
    nested = {"a": [text, 1, None, True], text: {"b": text}}
    assert yaml.safe_load(f"x:\n  y: {literals.yaml_value(nested)}  # text\n") == {"x": {"y": nested}}
    assert yaml.safe_load(f"x:\n{literals.yaml_block(nested, 2)}\n") == {"x": nested}


def test_names_in_code_are_plain_and_differ() -> None:
    assert [literals.slug(text) for text in ("Größe", "1st", "class", "日本", "a b")] == [
        "gr_e",
        "value_1st",
        "value_class",
        "value",
        "a_b",
    ]
    taken: set[str] = set()
    assert [literals.unused("x", taken) for _ in range(3)] == ["x", "x_2", "x_3"]
    assert constants(["fine", "Fine", "größe", "if", "_x"]) == [
        "CLASS_0",
        "CLASS_1",
        "CLASS_2",
        "IF",
        "_X",
    ]


def test_sums_that_would_not_fit_are_no_features() -> None:
    proposal, _ = proposed("orders")
    wide = [c.model_copy(update={"greatest": 1e15}) if c.name == "amount" else c for c in proposal.columns]
    assert plan_past(proposal).numbers == ("amount", "items")
    assert plan_past(proposal.model_copy(update={"columns": tuple(wide)})).numbers == ("items",)


def test_features_of_past_labels_have_names_of_their_own() -> None:
    proposal, _ = proposed("orders")
    assert plan_past(proposal).labels["outcome"].shares == (("returned", "known_returned_share_30d"),)
    tasks = {"a": TaskProposal(classes=("x", "b_c")), "a_b": TaskProposal(classes=("x", "c"))}
    both = plan_past(proposal.model_copy(update={"tasks": tasks})).labels
    assert [known.count for known in both.values()] == ["known_a_labels_30d", "known_a_b_labels_30d"]
    names = [feature for known in both.values() for _, feature in known.shares]
    assert names == ["known_a_b_c_share_30d", "known_a_b_c_share_30d_2"]


@pytest.mark.parametrize(("texts", "reader"), [(("note",), "auto"), ((), "off")])
def test_labels_rest_on_text_as_well_where_there_is_any(texts: tuple[str, ...], reader: str) -> None:
    proposal = proposed("flats")[0].model_copy(
        update={"texts": texts, "tasks": {"deal": TaskProposal(classes=("a", "b"))}}
    )
    settings = yaml.safe_load(render(proposal, "1.2.3")["params.yaml"])["label_models"]["deal"]
    found = LabelModelParams(**settings | {"class_balance": [0.5, 0.5]})
    assert (found.reader, found.reads) == (reader, list(texts))
