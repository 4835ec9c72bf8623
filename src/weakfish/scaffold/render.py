"""A proposal as the files of a project: pure, so that the same proposal gives the same files.

`render` makes all that is in git but ``weakfish.lock``; `dvc_yaml` makes the pipeline alone. What comes from data
reaches a file only as a literal of its language, through the filters of `literals`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from weakfish.scaffold import literals
from weakfish.scaffold.expected import Expectation, of_events, of_labels, of_training, types_of
from weakfish.scaffold.feature_plan import PastPlan, plan_past, plan_request
from weakfish.scaffold.made_rows import condition_code, made_rows
from weakfish.scaffold.proposal import Proposal
from weakfish.scaffold.rules import Rule

ALWAYS = {
    ".dvc/.gitignore": "dvc_gitignore.j2",
    ".dvc/config": "dvc_config.j2",
    ".dvcignore": "dvcignore.j2",
    ".gitignore": "gitignore.j2",
    "README.md": "readme.md.j2",
    "data/README.md": "data.md.j2",
    "feature_repo/definitions.py": "definitions.py.j2",
    "feature_repo/feature_store.yaml": "feature_store.yaml.j2",
    "labeling_functions/__init__.py": "labeling_functions.py.j2",
    "params.yaml": "params.yaml.j2",
    "pyproject.toml": "pyproject.toml.j2",
    "reports/README.md": "reports.md.j2",
    "requirements.txt": "requirements.txt.j2",
    "sources/__init__.py": "sources.py.j2",
    "sources/events.py": "events_source.py.j2",
    "tests/test_labeling_functions.py": "tests.py.j2",
    "validation/__init__.py": "validation.py.j2",
    "validation/baseline.json": "baseline.json.j2",
    "validation/patches/README.md": "patches.md.j2",
}
"""Files that every project has, and the template of each."""


def render(
    proposal: Proposal,
    version: str,
    *,
    tasks: Mapping[str, Sequence[str]] | None = None,
    views: Sequence[str] | None = None,
) -> dict[str, str]:
    """The files of a project, by path.

    Parameters
    ----------
    version
        Of Weakfish, which requirements.txt pins.
    tasks, views
        Tasks with their classes, and views, as the project has them now; those of the proposal where None. A task or
        view that is not the proposal's gets its stages and a suite of what holds of any.
    """
    past, request = plan_past(proposal), plan_request(proposal)
    tasks = {name: task.classes for name, task in proposal.tasks.items()} if tasks is None else tasks
    views = tuple(view.name for view in past.views) if views is None else views
    shared = {"proposal": proposal, "version": version, "past": past, "request": request}
    files = {path: _made(template, **shared, **_more(proposal, past, request)) for path, template in ALWAYS.items()}
    files["dvc.yaml"] = dvc_yaml(list(tasks), views, proposal.fetch_dep)
    for name, rules in proposal.rules.items():
        files[f"labeling_functions/{name}.py"] = _functions(name, proposal.tasks[name].classes, rules)
    if past.views:
        files["feature_repo/transforms.py"] = _made("transforms.py.j2", **vars(past))
    return dict(sorted((files | _suites(proposal, past, tasks, views)).items()))


def dvc_yaml(tasks: Sequence[str], views: Sequence[str], fetch_dep: str | None) -> str:
    """The pipeline: stages of tasks and views; without views neither features nor anything published.

    ``fetch_dep`` is the file or folder whose change makes `fetch` run again; None lets it run every time.
    """

    def of(task: str) -> str:
        return f" of {task}" if len(tasks) > 1 else ""

    return _made("dvc.yaml.j2", tasks=tasks, views=views, fetch_dep=fetch_dep, of=of)


def _more(proposal: Proposal, past: PastPlan, request: Any) -> dict[str, Any]:
    """What single templates need."""
    taken = {f"{view.variable}_v1" for view in past.views}
    names = ("event", *proposal.entities)
    return {
        "tasks": {name: _task(task) for name, task in proposal.tasks.items()},
        "views": past.views,
        "types": sorted({kind for _, kind in request.asked} | {feature.kind for feature in request.features}),
        "services": [
            {"name": task, "variable": literals.unused(literals.slug(task, "task"), taken)} for task in proposal.tasks
        ],
        "labelled": literals.unused("labelled_event", set(names)),
        "made_rows": made_rows(proposal),
        "first_rule": next((rule.name for rules in proposal.rules.values() for rule in rules), "NAME"),
    }


def _task(task: Any) -> dict[str, Any]:
    share = 1 / len(task.classes)
    balance = task.class_balance or [share] * len(task.classes)
    about = f"Labels that people gave are in column `{task.gold}`." if task.gold else "No column holds labels yet."
    known = task.class_balance is not None
    return {"classes": task.classes, "class_balance": list(balance), "known_balance": known, "about": about}


def _functions(task: str, classes: Sequence[str], rules: Sequence[Rule]) -> str:
    forms = {rule.form for rule in rules}
    short = {"keywords": "keywords", "at_least": "threshold", "at_most": "threshold"}
    return _made(
        "functions.py.j2",
        task=task,
        rules=rules,
        constants=literals.constants(classes),
        forms=sorted({short.get(form, "votes") for form in forms}),
        conditions=bool(forms - set(short)),
    )


def _suites(
    proposal: Proposal, past: PastPlan, tasks: Mapping[str, Sequence[str]], views: Sequence[str]
) -> dict[str, str]:
    files = {"validation/events.py": _suite("the staged events", of_events(proposal), types_of(proposal))}
    for folder, what in (("labels", "labels"), ("training", "training sets"), ("features", "feature rows")):
        if views or folder != "features":
            template = "features_suite.py.j2" if folder == "features" else "folder.py.j2"
            files[f"validation/{folder}/__init__.py"] = _made(template, what=what)
    for task, classes in tasks.items():
        files[f"validation/labels/{task}.py"] = _suite(f"the labels of {task}", of_labels(proposal, classes))
        sets = of_training(proposal, classes, [view.name for view in past.views if view.name in views])
        files[f"validation/training/{task}.py"] = _suite(f"the training set of {task}", sets)
    planned = {view.name: view for view in past.views}
    for name in views:
        files[f"validation/features/{name}.py"] = _made(
            "view_suite.py.j2", name=name, view=planned.get(name), past=past
        )
    return files


def _suite(about: str, expectations: Sequence[Expectation], types: Mapping[str, Sequence[str]] | None = None) -> str:
    return _made("suite.py.j2", about=about, expectations=expectations, types=types or {})


def _made(template: str, **values: Any) -> str:
    text: str = _environment().get_template(template).render(**values)
    return text.rstrip("\n") + "\n" if text.strip() else ""


def _dvc_path(path: str) -> str:
    """A path in dvc.yaml, where ``${`` would begin a reference to a setting."""
    return literals.yaml_value(path.replace("${", "\\${"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("weakfish", "scaffold/templates"),
        autoescape=False,  # noqa: S701  what is made is Python, YAML and Markdown, none of it HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "py": literals.python,
        "pylist": literals.listed,
        "pyflow": literals.flow,
        "yaml": literals.yaml_value,
        "yaml_block": literals.yaml_block,
        "dvc_path": _dvc_path,
        "in_code": lambda text: text.replace("`", "'"),
        "condition_code": condition_code,
    }
    return environment
