"""A proposal as the files of a project: features, example functions and rows for their tests, and the templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from weakfish.rules.rule import literal as python
from weakfish.rules.rule import module_source
from weakfish.scaffold import literals
from weakfish.scaffold.examples import Example
from weakfish.scaffold.literals import slug, unused
from weakfish.scaffold.proposal import Host, Proposal, TaskProposal
from weakfish.scaffold.survey import ColumnFacts

MOST = 8
"""Columns of a kind that become features; a team adds others by hand."""

VALUES = 4
"""Values of a category that become a feature each."""

LONGEST_NAME = 40
"""Characters of a column's name: longer ones do not fit a line of code."""

RESERVED = frozenset({"event_timestamp", "created"})
"""Columns of feature tables, which no entity, and no column of a request, can be named."""

COUNTS = ("events_1d", "events_7d", "events_30d", "events_before", "active_days_30d")


@dataclass(frozen=True)
class ViewPlan:
    """A view of an entity: ``others`` are pairs of another entity and the feature that counts its values."""

    name: str
    variable: str
    entity: str
    value_type: str
    others: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class KnownPlan:
    """Features of past labels of a task: how many were known, and shares, as pairs of class and feature."""

    count: str
    shares: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PastPlan:
    """All views, and what each has: means of ``numbers``, shares of ``flags``, past labels by task."""

    views: tuple[ViewPlan, ...]
    numbers: tuple[str, ...]
    flags: tuple[str, ...]
    labels: Mapping[str, KnownPlan]

    def counts(self, view: ViewPlan) -> list[str]:
        """Features that count."""
        return [*COUNTS, *(feature for _, feature in view.others), *(known.count for known in self.labels.values())]

    def shares(self) -> list[str]:
        """Features that are shares."""
        known = [feature for each in self.labels.values() for _, feature in each.shares]
        return [f"{name}_share_30d" for name in self.flags] + known


@dataclass(frozen=True)
class Feature:
    """A feature of the event in hand: its name, Feast's type, and the code that computes it."""

    name: str
    kind: str
    code: str


def plan_past(proposal: Proposal) -> PastPlan:
    """Views of the entities; without times or entities there are none."""
    entities = proposal.entities if proposal.views else ()
    taken: set[str] = set()
    views = tuple(_view(proposal, entity, taken) for entity in entities)
    columns = [column for column in _ordinary(proposal) if column.name not in proposal.entities]
    numbers = [column.name for column in columns if column.kind in ("integer", "number") and _adds_up(column)]
    flags = [column.name for column in columns if column.kind == "boolean"]
    names = {*COUNTS, *(f"{name}_share_30d" for name in flags), *(f"{name}_values_30d" for name in entities)}
    labels = {
        name: _known(f"known_{name}" if len(proposal.tasks) > 1 else "known", task.classes, names)
        for name, task in proposal.tasks.items()
    }
    return PastPlan(views, tuple(numbers[:MOST]), tuple(flags[:MOST]), labels)


def plan_request(proposal: Proposal) -> tuple[dict[str, str], list[Feature]]:
    """What is asked of the event in hand, by name with Feast's types, and features made of it that are in no table."""
    entities = proposal.entities if proposal.views else ()
    columns = [column for column in _ordinary(proposal) if column.name not in (*entities, *RESERVED)]
    asked = {proposal.time: "UnixTimestamp"} if proposal.time else {}
    features = _of_time(bool(entities)) if proposal.time else []
    taken = {feature.name for feature in features}
    for kinds in (("integer", "number"), ("boolean",), ("string",), ("time",) if proposal.time else ()):
        for column in [column for column in columns if column.kind in kinds][:MOST]:
            asked[column.name] = _TYPES[column.kind]
            features += [replace(each, name=unused(each.name, taken)) for each in _of_column(column)]
    if not features:
        asked[proposal.events_key] = "String"
        features.append(_length("key_length", proposal.events_key))
    return asked, features


_TYPES = {"integer": "Int64", "number": "Float64", "boolean": "Bool", "string": "String", "time": "UnixTimestamp"}


def _ordinary(proposal: Proposal) -> list[ColumnFacts]:
    """Columns that are neither key nor event time nor tell rows apart, have values, and whose names fit."""
    role = (proposal.key, proposal.time, *proposal.identifiers)
    return [
        column
        for column in proposal.columns
        if column.name not in role and column.nulls < column.rows and len(column.name) <= LONGEST_NAME
    ]


def _view(proposal: Proposal, entity: str, taken: set[str]) -> ViewPlan:
    others = tuple((other, f"{other}_values_30d") for other in proposal.entities if other != entity)
    kind = "INT64" if proposal.column(entity).kind == "integer" else "STRING"
    return ViewPlan(f"{entity}_activity", unused(f"{slug(entity, 'entity')}_activity", taken), entity, kind, others)


def _adds_up(column: ColumnFacts) -> bool:
    """Whether sums of the column stay within 64 bits; those of fractions are in millionths."""
    ends = [abs(end) for end in (column.least, column.greatest) if isinstance(end, int | float)]
    unit = 1 if column.kind == "integer" else 1_000_000
    return bool(ends) and max(ends) * unit * max(column.rows, 1) * 100 < 1 << 63


def _known(start: str, classes: Sequence[str], taken: set[str]) -> KnownPlan:
    """Classes whose share is a feature: of two the second, whose share tells that of the first; else each."""
    shown = classes[1:] if len(classes) == 2 else classes
    count = unused(f"{start}_labels_30d", taken)
    return KnownPlan(count, tuple((name, unused(f"{start}_{name}_share_30d", taken)) for name in shown))


def _of_time(of_entity: bool) -> list[Feature]:
    found = [
        Feature("hour_of_day", "Int64", '(at // 3600 % 24).astype("Int64")'),
        Feature("day_of_week", "Int64", '((at // 86400 + 3) % 7).astype("Int64")  # Monday is 0'),
    ]
    if of_entity:
        found += [
            Feature(f"hours_since_{end}_seen", "Float64", f'(at - seconds(inputs["{end}_seen_at"])) / 3600')
            for end in ("first", "last")
        ]
    return found


def _of_column(column: ColumnFacts) -> Iterable[Feature]:
    given, name = f"inputs[{python(column.name)}]", slug(column.name, "column")
    if column.kind == "time":
        return [Feature(f"hours_since_{name}", "Float64", f"(at - seconds({given})) / 3600")]
    if column.kind == "integer":
        return [Feature(f"{name}_value", "Int64", f'{given}.astype("Int64")')]
    if column.kind == "number":
        return [Feature(f"{name}_value", "Float64", f'{given}.astype("float64")')]
    if column.kind == "boolean":
        return [Feature(f"{name}_holds", "Bool", given)]
    frequent = [value for value, _ in column.frequent if len(value) <= LONGEST_NAME][:VALUES]
    if column.distinct > 10 * VALUES or not frequent:
        return [_length(f"{name}_length", column.name)]
    return [Feature(f"{name}_is_{slug(value)}", "Bool", f"{given} == {python(value)}") for value in frequent]


def _length(name: str, column: str) -> Feature:
    return Feature(name, "Int64", f'inputs[{python(column)}].fillna("").str.len().astype("Int64")')


SOME = {
    "integer": "1",
    "number": "1.5",
    "boolean": "True",
    "time": "datetime(2024, 1, 8, 12, tzinfo=UTC)",
    "date": "date(2024, 1, 8)",
    "string": '"some text"',
}
"""Code of a value of each kind."""

ABSTAIN = -1

FUNCTIONS = """\
Functions that vote on {task}: examples to try, mend and replace.

Each fires on some of the events and not on all.
For which class it votes {gold}.
Weakfish's docs/labeling.md says what else a function can be.
"""


def made_rows(proposal: Proposal) -> list[dict[str, Any]]:
    """Two calls of a test for each function: on a value, as code, that it votes on, and on one that it does not."""
    kinds = {column.name: column.kind for column in proposal.columns}
    return [
        {"task": task, "function": rule.name, "column": rule.column, "value": value, "vote": vote}
        for task, rules in proposal.rules.items()
        for rule in rules
        for value, vote in zip(_values(rule, kinds.get(rule.column, "string")), (rule.label, ABSTAIN), strict=True)
    ]


def _values(rule: Example, kind: str) -> tuple[str, str]:
    """Code of a value that the rule votes on, and of one that it does not."""
    value: Any = rule.value
    match rule.form:
        case "keywords":
            return python(f"so {rule.words[0]} is"), python("0")
        case "at_least":
            return python(value), python(value - abs(value) - 1)
        case "at_most":
            return python(value), python(value + abs(value) + 1)
        case "longer" | "shorter":
            return f'"x" * {value}', f'"x" * {value - 1 if rule.form == "longer" else value + 1}'
        case "from_hour" | "until_hour":
            beyond = value - 1 if rule.form == "from_hour" else value + 1
            return f"datetime(2024, 1, 8, {value}, tzinfo=UTC)", f"datetime(2024, 1, 8, {beyond}, tzinfo=UTC)"
        case "weekend":
            return SOME[kind].replace("8", "6", 1), SOME[kind]  # the 8th is a Monday
        case "equals":
            return python(value), python(f"{value}?")
        case "sorts_last":
            return python(value), python("")
        case "holds" | "holds_not":
            return ("True", "False") if rule.form == "holds" else ("False", "True")
        case _:
            return ("None", SOME[kind]) if rule.form == "missing" else (SOME[kind], "None")


TYPES = {
    "string": ["str", "object"],
    "integer": ["int64", "float64"],
    "number": ["float64"],
    "boolean": ["bool"],
    "date": ["date"],
}
"""What Great Expectations finds in a column of each kind, with nulls and without; it lists no times with a zone."""


def types_of(proposal: Proposal) -> dict[str, list[str]]:
    """The types of the events' columns but times, as pandas names them; nulls make numbers of whole numbers."""
    kinds = {proposal.events_key: "string"} | {column.name: str(column.kind) for column in proposal.columns}
    return {name: TYPES[kind] for name, kind in kinds.items() if kind in TYPES}


ALWAYS = {
    ".dvc/.gitignore": "dvc_gitignore.j2",
    ".dvc/config": "dvc_config.j2",
    ".dvcignore": "dvcignore.j2",
    ".gitignore": "gitignore.j2",
    "README.md": "readme.md.j2",
    "data/README.md": "data.md.j2",
    "dvc.yaml": "pipeline.yaml",
    "feature_repo/definitions.py": "definitions.py.j2",
    "feature_repo/feature_store.yaml": "feature_store.yaml.j2",
    "labeling_functions/__init__.py": "labeling_functions.py.j2",
    "params.yaml": "params.yaml.j2",
    "pyproject.toml": "pyproject.toml.j2",
    "reports/README.md": "reports.md.j2",
    "reports/gates/features/.gitkeep": "folder_kept.j2",
    "requirements.txt": "requirements.txt.j2",
    "reviews/README.md": "reviews.md.j2",
    "sources/__init__.py": "sources.py.j2",
    "sources/events.py": "events_source.py.j2",
    "tests/test_labeling_functions.py": "tests.py.j2",
    "validation/__init__.py": "validation.py.j2",
    "validation/baseline.json": "baseline.json.j2",
    "validation/patches/README.md": "patches.md.j2",
}
"""Files that every project has, and the template of each."""

WORKFLOWS: Mapping[Host, tuple[str, str]] = {
    "github": (".github/workflows/weakfish-diff.yml", "github.yml.j2"),
    "gitlab": (".gitlab-ci.yml", "gitlab.yml.j2"),
}
"""The file that comments on changes, by where they are proposed, and its template."""


def render(proposal: Proposal, requirements: str) -> dict[str, str]:
    """The files of a project, by path; ``requirements`` is the text of requirements.txt."""
    past = plan_past(proposal)
    asked, features = plan_request(proposal)
    taken = {f"{view.variable}_v1" for view in past.views}
    services = [{"name": task, "variable": unused(slug(task, "task"), taken)} for task in proposal.tasks]
    values = {
        "proposal": proposal,
        "requirements": requirements,
        "past": past,
        "views": past.views,
        "request": {"asked": asked.items(), "features": features, "times": proposal.time is not None},
        "types": sorted({*asked.values(), *(feature.kind for feature in features)}),
        "tasks": {name: _task(task) for name, task in proposal.tasks.items()},
        "positive": {name: rarer for name, task in proposal.tasks.items() if (rarer := _rarer(task))},
        "services": services,
        "labelled": unused("labelled_event", {"event", *proposal.entities}),
        "made_rows": made_rows(proposal),
        "first_rule": next((rule.name for rules in proposal.rules.values() for rule in rules), "NAME"),
    }
    files = {path: _made(template, **values) for path, template in ALWAYS.items()}
    files["feature_repo/transforms.py"] = _made("transforms.py.j2", **vars(past))
    files["validation/events.py"] = _made("events_suite.py.j2", proposal=proposal, types=types_of(proposal))
    files["validation/features/__init__.py"] = _made("features_suite.py.j2")
    for view in past.views:
        files[f"validation/features/{view.name}.py"] = _made("view_suite.py.j2", view=view, past=past)
    for folder, what in (("labels", "labels"), ("training", "training sets")):
        files[f"validation/{folder}/__init__.py"] = _made("folder.py.j2", what=what)
    for name, task in proposal.tasks.items():
        suite = {"name": name, "classes": task.classes, "proposal": proposal, "views": past.views}
        for folder in ("labels", "training"):
            files[f"validation/{folder}/{name}.py"] = _made(f"{folder}_suite.py.j2", **suite)
        files[f"labeling_functions/{name}.py"] = _functions(name, task.classes, proposal.rules.get(name, ()))
    if proposal.ci:
        path, template = WORKFLOWS[proposal.ci]
        files[path] = _made(template)
    return dict(sorted(files.items()))


def _task(task: TaskProposal) -> dict[str, Any]:
    return {
        "classes": task.classes,
        "class_balance": list(task.class_balance or [1 / len(task.classes)] * len(task.classes)),
        "known_balance": task.class_balance is not None,
        "has_dev": task.has_dev,
        "about": f"Labels that people gave are in column `{task.gold}`."
        if task.gold
        else "No column holds labels yet.",
    }


def _rarer(task: TaskProposal) -> str | None:
    """The rarer of two classes by dev gold, the last where they are equally frequent; None where that is not known."""
    if task.class_balance is None or len(task.classes) != 2:
        return None
    first, last = task.class_balance
    return task.classes[int(first >= last)]


def _functions(task: str, classes: Sequence[str], rules: Sequence[Example]) -> str:
    def why(rule: Example) -> str:
        if rule.told:
            fires, right = rule.told
            return f"Right on {right:,} of {fires:,} rows of dev gold."
        if rule.named:
            return "A guess by the name of a class."
        return "A guess: dev gold does not tell." if told else "A guess, made without gold."

    told, every = any(rule.told for rule in rules), all(rule.told for rule in rules)
    tried = [rule.model_copy(update={"why": f"{why(rule)} Try it: weakfish lf try {rule.name}"}) for rule in rules]
    gold = "is what dev gold supports" if told else "is a guess: nobody looked at gold"
    gold += "" if every or not told else ", or a guess where it says so"
    return module_source(tried, classes, about=FUNCTIONS.format(task=task, gold=gold))


def _made(template: str, **values: Any) -> str:
    text: str = _environment().get_template(template).render(**values)
    return text.rstrip("\n") + "\n" if text.strip() else ""


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
        "py": python,
        "pylist": literals.listed,
        "pyflow": literals.flow,
        "yaml": literals.yaml_value,
        "yaml_block": literals.yaml_block,
        "in_code": lambda text: text.replace("`", "'"),
    }
    return environment
