"""The settings in ``params.yaml`` as frozen, checked objects; a malformed file is one sentence."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

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
    """The contract of the events table: which column is the key, which the event time."""

    key: Name
    time: Name


class SourceParams(Section):
    """Which class reads the raw data; all other settings are the reader's own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    reader: str = Field(pattern=r"^[\w.]+:\w+$")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings without ``reader``."""
        return dict(self.model_extra or {})


class GoldParams(Section):
    """Where gold labels are split: dev lies before midnight UTC of this day, test from then on."""

    split: date

    @property
    def split_time(self) -> datetime:
        """The split as a time, UTC."""
        return datetime(self.split.year, self.split.month, self.split.day, tzinfo=UTC)


class ChangeParams(Section):
    """From where on a change against the accepted baseline is told of; docs/validation.md says how each is measured."""


class LabelChecksParams(Section):
    """From where on labels and labeling functions are told of; docs/validation.md says how each is measured."""


class FeatureChecksParams(Section):
    """From where on features are told of; docs/validation.md says how each is measured."""


class ValidationParams(Section):
    """Limits of gates and checks.

    ``max_quarantined_share`` is the largest share of staged events that may be set aside before their gate fails.
    """

    max_quarantined_share: Share = 0.0
    change: ChangeParams = ChangeParams()
    labels: LabelChecksParams = LabelChecksParams()
    features: FeatureChecksParams = FeatureChecksParams()


class LabelModelParams(Section):
    """Settings of Snorkel's ``LabelModel``.

    ``class_balance`` is the share of each class before any vote, in the order of the task's classes. ``method`` says
    whose probabilities become labels, ``refit`` when the model is fitted anew, and ``fitted_through``, which goes with
    ``never``, the last partition that it may see.
    """

    class_balance: list[Annotated[float, Field(gt=0, lt=1)]]
    n_epochs: int = Field(gt=0)
    lr: float = Field(gt=0)
    l2: float = Field(ge=0)
    seed: int = Field(ge=0, lt=1 << 32)
    method: Literal["snorkel", "majority", "auto"] = "snorkel"
    refit: Literal["always", "monthly", "never"] = "always"
    fitted_through: str | None = None

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
    ``feature_service`` names the Feast service of its training set; ``<task>_v1`` where it is not set.
    """

    classes: list[Name] = Field(min_length=2)
    functions: Literal["all"] | list[str] = "all"
    max_faults: int = Field(default=0, ge=0)
    label_model: LabelModelParams
    feature_service: Name | None = None

    @model_validator(mode="after")
    def _balance_fits_classes(self) -> TaskParams:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ from each other")
        balance = self.label_model.class_balance
        if len(balance) != len(self.classes):
            raise ValueError(f"label_model.class_balance has {len(balance)} numbers for {len(self.classes)} classes")
        if abs(sum(balance) - 1) > 1e-9:
            raise ValueError(f"label_model.class_balance must add up to 1, it adds up to {sum(balance):g}")
        return self


class VotesParams(Section):
    """How much of computed votes is kept in ``.weakfish/votes``."""

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
    """What the online store answers for: the ``last`` accepted event, ``now``, or a time (UTC where it has no zone)."""

    as_of: Literal["last", "now"] | datetime = "last"


class EvaluateParams(Section):
    """What evaluation trains on and how often it repeats."""

    text: list[Name] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    bootstrap: int = Field(gt=0)


class Params(Section):
    """All of ``params.yaml``."""

    events: EventsParams
    source: SourceParams
    gold: GoldParams
    validation: ValidationParams = ValidationParams()
    tasks: dict[Name, TaskParams] = Field(min_length=1)
    votes: VotesParams = VotesParams()
    features: FeaturesParams = FeaturesParams()
    publish: PublishParams = PublishParams()
    evaluate: EvaluateParams


def load(root: Path) -> Params:
    """Read and check ``params.yaml`` in ``root``.

    Raises
    ------
    ParamsError
        When the file is missing or malformed; names the line or the setting.
    """
    file = root / FILE
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ParamsError(
            f"There is no {FILE} in {root}; restore it, `git checkout {FILE}` brings back the last one."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not UTF-8 text"
        raise ParamsError(f"{FILE}{place} is not YAML: {problem}; correct it there.") from error
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(_first_problem(error)) from error


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    setting = ".".join(str(part) for part in first["loc"] if part not in ("function-after[_plain_name(), str]",))
    if first["type"] == "extra_forbidden":
        problem = "is not a setting that anything reads; remove it or correct its name"
    elif first["type"] == "missing":
        problem = "is missing; add it"
    else:
        problem = f"cannot be used: {first['msg'].removeprefix('Value error, ')}; got {str(first['input'])[:80]!r}"
    more = f" ({error.error_count() - 1} more settings are wrong too)" if error.error_count() > 1 else ""
    return f"{FILE}: {setting or 'the file'} {problem}{more}."
