"""The settings in ``params.yaml`` as frozen, checked objects; a malformed file is one sentence."""

from __future__ import annotations

import difflib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails

from weakfish.contracts.reports import MODELS
from weakfish.contracts.storage import Setting, address
from weakfish.errors import ParamsError

FILE = "params.yaml"


def _plain_name(name: str) -> str:
    if not name.isidentifier():
        raise ValueError(
            "must consist of letters, digits and underscores, since columns and folders are named after it"
        )
    return name


Name = Annotated[str, AfterValidator(_plain_name)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of ``params.yaml``: frozen, and closed to settings that nothing reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EventsParams(Section):
    """The contract of the events table: which column is the key, which the event time.

    A ``partition`` is a day, month or year of event time, UTC: one file of the table and of all that has its rows.
    ``wrong_clocks`` says what becomes of rows later than now, or far beyond the rest: they are quarantined, a warning
    names them, or, where events of the future are meant, they are like any other.

    ``on_duplicate`` says what becomes of exact copies of a row: `ingest` keeps the first and counts the others, they
    are left to the suite, whose check of unique keys quarantines them all, or `ingest` refuses the data.
    """

    key: Name
    time: Name
    partition: Literal["day", "month", "year"] = "month"
    wrong_clocks: Literal["quarantine", "warn", "allow"] = "warn"
    on_duplicate: Literal["keep_first", "quarantine", "refuse"] = "quarantine"


class SourceParams(Section):
    """Which class reads the raw data; all other settings are the reader's own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    reader: str = Field(pattern=r"^[\w.]+:\w+$")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings without ``reader``."""
        return dict(self.model_extra or {})


class GoldParams(Section):
    """How gold labels are split into dev and test.

    With ``split``, dev lies before midnight UTC of this day and test from then on. Without it, as for events without
    times, the share ``test_share`` of them is test, chosen by their keys.
    """

    split: date | None = None
    test_share: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _one_way_to_split(self) -> GoldParams:
        if self.split is not None and self.test_share is not None:
            raise ValueError("split and test_share are two ways to split; remove one")
        return self

    @property
    def split_time(self) -> datetime | None:
        """The split as a time, UTC; None where time does not split."""
        day = self.split
        return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)

    @property
    def share_of_test(self) -> float:
        """The share of rows that are test where time does not split."""
        return 0.5 if self.test_share is None else self.test_share


class ChangeParams(Section):
    """Thresholds above which a change against the accepted baseline is reported; see docs/validation.md.

    ``psi`` is the population stability index above which a column has drifted. ``null_share`` is how much the share of
    nulls may rise, ``new_categories`` the share of rows that may have unseen values, ``out_of_range`` the share that
    may lie outside the accepted extremes. ``lost_rows`` and ``gained_rows`` are the shares of an accepted partition's
    rows that may disappear or be added. ``volume_factor`` is how many times more or fewer rows than usual a new
    partition may have, ``cardinality_factor`` the same for distinct values. ``growing`` are patterns of columns that
    naturally grow, such as all-time counts: their drift and range are info. ``drifted_columns`` is the share of a
    training set's columns that may drift.
    """

    psi: float = Field(default=0.2, gt=0)
    null_share: Share = 0.05
    new_categories: Share = 0.01
    out_of_range: Share = 0.01
    lost_rows: Share = 0.01
    gained_rows: Share = 0.01
    volume_factor: float = Field(default=3.0, gt=1)
    cardinality_factor: float = Field(default=3.0, gt=1)
    growing: list[str] = []
    drifted_columns: Share = 0.1


class LabelChecksParams(Section):
    """Thresholds of the checks on labels and labeling functions; docs/validation.md says how each is measured.

    ``significance`` is the chance of a false alarm over all comparisons of a kind. ``psi`` is that of the rows on which
    a function votes, or conflicts, against the others. ``class_balance`` and ``uncovered`` are differences of shares.
    A silent function is reported if at least ``expected_votes`` are expected of it, and so is one that votes on the
    share ``everywhere`` of rows. ``one_rule`` is the share of covered rows whose class a function settles alone,
    ``at_clamp`` that of functions with an estimate at its bound, ``disagreement`` that of covered rows on which label
    model and majority vote differ; ``rise`` is how much these three may rise above the baseline.
    ``calibration_error`` is the mean distance of probabilities from what reviewed labels say.
    """

    significance: Annotated[float, Field(gt=0, lt=1)] = 0.01
    psi: Annotated[float, Field(gt=0)] = 0.1
    class_balance: Share = 0.1
    uncovered: Share = 0.05
    expected_votes: int = Field(default=20, gt=0)
    everywhere: Share = 0.95
    one_rule: Share = 0.5
    at_clamp: Share = 0.5
    disagreement: Share = 0.25
    rise: Share = 0.1
    calibration_error: Share = 0.05


class FeatureChecksParams(Section):
    """Thresholds of the checks on features; docs/validation.md says how each is measured.

    ``max_age_hours`` is how old the newest row of a view may be when it is published; ``stale_after_hours`` is the age
    of its newest row at which an entity counts as stale, and ``max_stale_share`` how many entities may be (1 for all).
    """

    max_age_hours: float = Field(default=48, gt=0)
    stale_after_hours: float = Field(default=720, gt=0)
    max_stale_share: Share = 1.0


Measure = Literal["accuracy", "accuracy_covered", "auc", "average_precision", "balanced_accuracy", "coverage", "f1"]


class SliceParams(Section):
    """Limits of a slice of a task's events; docs/validation.md says how each is measured.

    ``coverage`` is the least share of rows with a vote, ``conflicts`` the largest share of rows on which functions vote
    for different classes. ``least`` has by model and measure the least figure on test. ``class_balance`` and
    ``uncovered`` replace those of `LabelChecksParams`. ``severity`` is that of a figure beyond a limit.
    """

    coverage: Share | None = None
    conflicts: Share | None = None
    least: dict[Name, dict[Measure, Share]] = {}
    class_balance: Share | None = None
    uncovered: Share | None = None
    severity: Literal["critical", "warning"] = "warning"

    @field_validator("least")
    @classmethod
    def _models_exist(cls, value: dict[str, Any]) -> dict[str, Any]:
        if strange := value.keys() - (MODELS.keys() - {"gold"}):
            raise ValueError(f"names {min(strange)!r}, which is no model; there are {', '.join(list(MODELS)[1:])}")
        return value


class ValidationParams(Section):
    """Limits of gates and checks.

    ``max_quarantined_share`` is the largest share of staged events that may be quarantined before their gate fails.
    ``slices`` has the limits of slices, by task.
    """

    max_quarantined_share: Share = 0.0
    change: ChangeParams = ChangeParams()
    labels: LabelChecksParams = LabelChecksParams()
    features: FeatureChecksParams = FeatureChecksParams()
    slices: dict[Name, dict[Name, SliceParams]] = {}


MOST_CLASSES = 128
"""A vote is a byte: the position of a class from 0 to 127, or -1."""


class LabelModelParams(Section):
    """Settings of the model that turns votes into labels.

    ``class_balance`` is the share of each class before any vote, in the order of the task's classes; all alike unless
    given. ``n_epochs``, ``lr``, ``l2`` and ``seed`` are those of Snorkel's ``LabelModel``; the seed decides ties with
    every method. ``method`` says whose probabilities become labels, ``refit`` when the model is refitted, and
    ``fitted_through``, which goes with ``never``, the last partition that it may see. ``reader`` says whether labels
    rest on the row itself as well, ``reads`` which columns of the events are then read word by word, and ``embeds``
    which are read as a whole, by sentence embeddings; ``auto`` decides whether that helps. ``known`` says which known
    labels are evidence: those of the ``dev`` part of gold, or ``none``.
    """

    class_balance: list[Annotated[float, Field(gt=0, lt=1)]] = []
    n_epochs: int = Field(default=500, gt=0)
    lr: float = Field(default=0.01, gt=0)
    l2: float = Field(default=1.0, ge=0)
    seed: int = Field(default=1, ge=0, lt=1 << 32)
    method: Literal["majority", "snorkel", "hyper", "naive-bayes", "dawid-skene", "auto"] = "snorkel"
    refit: Literal["always", "monthly", "never"] = "always"
    fitted_through: str | None = None
    reader: Literal["off", "auto", "on"] = "off"
    reads: list[Name] = []
    embeds: list[Name] = []
    known: Literal["none", "dev"] = "none"

    @property
    def origins(self) -> list[str]:
        """The columns of labels that say where each is from."""
        knows = ["known"] if self.known != "none" else []
        return ["rests_on", *knows] if self.reader != "off" or knows else []

    @field_validator("known", mode="before")
    @classmethod
    def _yaml_takes_null_for_none(cls, value: Any) -> Any:
        return "none" if value is None else value

    @model_serializer(mode="wrap")
    def _without_what_is_not_set_as_before_it_could_be(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        for name, unset in (("known", "none"), ("embeds", [])):
            if getattr(self, name) == unset:
                found.pop(name, None)
        return found

    @field_validator("reader", mode="before")
    @classmethod
    def _yaml_takes_off_and_on_for_booleans(cls, value: Any) -> Any:
        return {False: "off", True: "on"}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _a_reader_reads_columns(self) -> LabelModelParams:
        if self.reader != "off" and not (self.reads or self.embeds):
            raise ValueError(f"reader: {self.reader} needs reads, the columns of the events that it reads; add them")
        for name, columns in (("reads", self.reads), ("embeds", self.embeds)):
            if len(set(columns)) != len(columns):
                raise ValueError(f"{name} must name each column once")
        return self

    @model_validator(mode="after")
    def _fitted_through_goes_with_never(self) -> LabelModelParams:
        if self.refit == "never" and self.fitted_through is None:
            raise ValueError("refit: never needs fitted_through, the last partition that the model may see; add it")
        if self.refit != "never" and self.fitted_through is not None:
            raise ValueError("fitted_through is read only with refit: never; remove it or set refit")
        return self


class TaskParams(Section):
    """One labeling task over the events.

    ``max_faults`` is the number of rows on which each labeling function may raise before the vote stage fails.
    ``label_model`` and ``feature_service`` come from the sections ``label_models`` and ``feature_services``, so that
    the votes stay fresh when they change; projects of version 0.1 have them here.
    """

    classes: list[Name] = Field(min_length=2, max_length=MOST_CLASSES)
    functions: Literal["all"] | list[str] = "all"
    max_faults: int = Field(default=0, ge=0)
    label_model: LabelModelParams = LabelModelParams()
    feature_service: Name | None = None

    @model_validator(mode="after")
    def _classes_differ(self) -> TaskParams:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ from each other")
        return self

    def _with(self, model: LabelModelParams, service: str | None) -> TaskParams:
        """The task with its label model, whose class balance is complete, and its feature service."""
        classes = len(self.classes)
        balance = model.class_balance or [1 / classes] * classes
        if len(balance) != classes:
            raise ValueError(f"class_balance has {len(balance)} numbers for {classes} classes")
        if abs(sum(balance) - 1) > 1e-9:
            raise ValueError(f"class_balance must add up to 1, it adds up to {sum(balance):g}")
        model = model.model_copy(update={"class_balance": balance})
        return self.model_copy(update={"label_model": model, "feature_service": service})


class FetchParams(Section):
    """When the fetch stage runs again: when ``watch``, a file or folder, changes.

    ``look`` is empty, or holds one name: then a stage lists the source's files on every run, and ``watch`` is its list.
    """

    watch: str = "sources"
    look: list[Name] = Field(default=[], max_length=1)


class VotesParams(Section):
    """How much of computed votes is kept in ``.weakfish/cache/votes``."""

    max_cache_megabytes: int = Field(default=1024, ge=0)


class FeaturesParams(Section):
    """When feature rows stand and when labels are known."""

    boundary_hours: int = Field(default=1, gt=0)
    labeling_delay_hours: int = Field(default=24, ge=0)

    @property
    def boundary(self) -> timedelta:
        """The distance between the times at which feature rows may stand."""
        return timedelta(hours=self.boundary_hours)

    @property
    def labeling_delay(self) -> timedelta:
        """How long after its event a label is known."""
        return timedelta(hours=self.labeling_delay_hours)


class PublishParams(Section):
    """What the online store answers for: the ``last`` plausible event that was accepted, ``now``, or a time.

    A time without a zone is UTC.
    """

    as_of: Literal["last", "now"] | datetime = "last"

    @field_validator("as_of", mode="wrap")
    @classmethod
    def _is_a_time(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(value)
        except ValidationError:
            raise ValueError("must be last, now or a time such as 2026-01-31T00:00:00Z") from None


class EvaluateParams(Section):
    """What evaluation trains on and how often it repeats; ``text`` names columns of text, if there are any.

    ``positive`` names, by task, the class of two that figures are about; the rarer one of dev gold unless given.
    """

    text: list[Name] = []
    positive: dict[Name, Name] = {}
    seeds: list[int] = Field(min_length=1)
    bootstrap: int = Field(gt=0)


class StorageParams(Section):
    """Where tables lie that many machines share, and how much of them this machine keeps in ``.weakfish/objects``.

    No stage depends on it: the same tables have the same bytes anywhere.
    """

    uri: str
    max_cache_megabytes: int = Field(default=Setting.max_cache_megabytes, ge=0)


class Params(Section):
    """All of ``params.yaml``; ``views`` is None in projects that do not list them, ``meanings`` is for reviewers."""

    events: EventsParams
    fetch: FetchParams = FetchParams()
    source: SourceParams
    gold: GoldParams = GoldParams()
    validation: ValidationParams = ValidationParams()
    tasks: dict[Name, TaskParams] = Field(min_length=1)
    label_models: dict[Name, LabelModelParams] = {}
    feature_services: dict[Name, Name] = {}
    meanings: dict[Name, dict[Name, str]] = {}
    views: list[Name] | None = None
    votes: VotesParams = VotesParams()
    features: FeaturesParams = FeaturesParams()
    publish: PublishParams = PublishParams()
    evaluate: EvaluateParams
    storage: StorageParams | None = None

    @field_validator("storage", mode="before")
    @classmethod
    def _is_an_address(cls, value: Any) -> Any:
        given = value if isinstance(value, dict) else {"uri": value}
        return value and {**given, "uri": address(str(given.get("uri")), f"{FILE}: storage")}

    @model_validator(mode="after")
    def _tasks_are_whole(self) -> Params:
        sections = {name: getattr(self, name) for name in ("label_models", "feature_services", "meanings")}
        for section, of in {**sections, "validation.slices": self.validation.slices}.items():
            if strange := of.keys() - self.tasks.keys():
                raise ValueError(f"{section} names {min(strange)!r}, which is not one of the tasks")
        for name, meanings in self.meanings.items():
            if others := meanings.keys() - set(known := self.tasks[name].classes):
                raise ValueError(f"meanings.{name} names {min(others)!r}, which is no class ({', '.join(known)})")
        for name, positive in self.evaluate.positive.items():
            classes = self.tasks[name].classes if name in self.tasks else None
            if classes is None:
                raise ValueError(f"evaluate.positive names {name!r}, which is not one of the tasks")
            if len(classes) != 2:
                raise ValueError(
                    f"evaluate.positive names {name}, whose figures are means over {len(classes)} classes; remove it"
                )
            if positive not in classes:
                raise ValueError(
                    f"evaluate.positive says {positive!r}, which is no class of {name} ({', '.join(classes)})"
                )
        if self.views is not None and len(set(self.views)) != len(self.views):
            raise ValueError("views must differ from each other")
        for name, task in self.tasks.items():
            model = self.label_models.get(name, task.label_model)
            try:
                self.tasks[name] = task._with(model, self.feature_services.get(name, task.feature_service))
            except ValueError as error:
                raise ValueError(f"label model of task {name}: {error}") from error
        return self

    @property
    def tables(self) -> tuple[str, ...]:
        """All tables that the pipeline validates, in its order."""
        kinds = {"labels": self.tasks, "features": self.views or (), "training": self.tasks}
        return ("events", *(f"{kind}/{name}" for kind, names in kinds.items() for name in names))


def read_settings(file: Path) -> Any:
    """What a YAML file of the project's root holds; raises `ParamsError` when it is missing or malformed."""
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ParamsError(
            f"There is no {file.name} in {file.parent}; restore it, `git checkout {file.name}` brings back the last "
            "one."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not UTF-8 text"
        raise ParamsError(f"{file.name}{place} is not YAML: {problem}; correct it there.") from error


def load(root: Path) -> Params:
    """Read and check ``params.yaml`` in ``root``.

    Raises
    ------
    ParamsError
        When the file is missing or malformed; names the line or the setting.
    """
    content = read_settings(root / FILE)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(_first_problem(error)) from error


def _first_problem(error: ValidationError) -> str:
    """The first problem in words; of misspelt names first, since what they stand for is then missing too."""
    problems: dict[str, ErrorDetails] = {}
    for found in sorted(error.errors(), key=lambda found: found["type"] != "extra_forbidden"):
        # A part with a bracket is pydantic's own word, for a branch of a union or for a key, and no name of a setting.
        parts = [str(part) for part in found["loc"] if "[" not in str(part)]
        problems.setdefault(".".join(parts), found)
    setting, first = next(iter(problems.items()))
    if first["type"] == "extra_forbidden":
        known = {name for section in Section.__subclasses__() for name in section.model_fields}
        near = difflib.get_close_matches(setting.rpartition(".")[2], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "remove it or correct its name."
        return f"{FILE}: {setting} is not a setting that anything reads; {hint}"
    if first["type"] == "missing":
        problem = "is missing; add it"
    else:
        problem = f"cannot be used: {first['msg'].removeprefix('Value error, ')}"
        if not isinstance(first["input"], dict):  # of a whole section the message says what is wrong in it
            problem += f"; got {str(first['input'])[:80]!r}"
    more = len(problems) - 1
    others = f" ({more} more setting{'s are' if more > 1 else ' is'} wrong too)" if more else ""
    return f"{FILE}: {setting or 'the file'} {problem}{others}."
