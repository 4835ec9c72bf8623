"""What a client may ask: the JSON of Feast's `/get-online-features`, checked before anything is read.

The body of a request becomes a `Question`; whatever is wrong with it becomes a `Refusal`, a status and one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

from feast.feature_view import DUMMY_ENTITY_ID
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from pydantic import BaseModel, ConfigDict, ValidationError

from weakfish.feast.read_plan import ReadPlan

LONGEST_REASON = 300


class Refusal(Exception):
    """An answer other than 200: the HTTP status, and the sentence that the client gets as ``{"detail": ...}``."""

    def __init__(self, status: int, sentence: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers


class Question(BaseModel):
    """The body of a request, as Feast's server takes it; a feature service goes before a list of features."""

    model_config = ConfigDict(strict=True, frozen=True)

    entities: dict[str, list[Any]]
    feature_service: str | None = None
    features: list[str] = []
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False


def parse(body: bytes, most_entities: int) -> Question:
    """A request's question, well-formed and within limits.

    Raises
    ------
    Refusal
        422, when the body is no such JSON, asks for nothing, has columns of different lengths or too many entities.
    """
    try:
        question = Question.model_validate_json(body)
    except ValidationError as error:
        raise Refusal(422, _sentence(error)) from None
    if not question.feature_service and not question.features:
        raise Refusal(422, "The request names neither a feature_service nor features; name one of them.")
    _check_rows(question.entities, most_entities)
    return question


def _check_rows(entities: dict[str, list[Any]], most: int) -> None:
    lengths = {name: len(values) for name, values in entities.items()}
    if not lengths or not all(lengths.values()):
        raise Refusal(422, "The request has no entities; give each key a list with a value per entity.")
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise Refusal(422, shortened(f"The lists in entities differ in length ({told}); give each a value per entity."))
    asked = max(lengths.values())
    if asked > most:
        raise Refusal(422, f"The request asks for {asked:,} entities, of which at most {most:,} are served at once.")


def shortened(text: str) -> str:
    """A sentence that quotes a client, at a length that fits a line of a log."""
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "…"


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        reason = first["msg"].removeprefix("Invalid JSON: ")
        return shortened(f"The body is not valid JSON: {reason}.")
    place = ".".join(map(str, first["loc"])) or "the body"
    return shortened(f"The request is not what /openapi.json describes, at {place}: {first['msg']}.")


Columns = Mapping[str, list[Any]]

INTEGERS = {ValueType.INT32: 1 << 31, ValueType.INT64: 1 << 63}
REALS = (ValueType.FLOAT, ValueType.DOUBLE)
NOT_JSON = (ValueType.BYTES, ValueType.PDF_BYTES, ValueType.IMAGE_BYTES)


@dataclass(frozen=True, slots=True)
class Needs:
    """Of a plan: the view that needs each join key, the types of keys and of request data, what goes by which name.

    ``names`` maps every column that counts to the join key that it is, or to itself for request data.
    """

    join_keys: dict[str, str]
    keys: dict[str, ValueType]
    request: dict[str, ValueType]
    names: dict[str, str]

    @classmethod
    def of(cls, plan: ReadPlan) -> Needs:
        """What the entities of a request for a plan's features must hold."""
        join_keys: dict[str, str] = {}
        for view in plan.views:
            aliases = view.table.projection.join_key_map
            for key in view.table.join_keys:
                if key != DUMMY_ENTITY_ID:
                    join_keys.setdefault(aliases.get(key, key), view.name)
        request = {name: kind for view in plan.on_demand for name, kind in view.get_request_data_schema().items()}
        named = {**plan.join_key_of, **{name: name for name in (*plan._join_keys, *request)}}
        named.pop(DUMMY_ENTITY_ID, None)
        return cls(join_keys, {name: plan._kind(key) for name, key in named.items()}, request, named)

    def columns(self, entities: Columns) -> Columns:
        """The columns that count.

        Raises
        ------
        Refusal
            422, when one is missing, or holds what its type cannot be.
        """
        found = {name: values for name, values in entities.items() if name in self.names}
        given = {self.names[name] for name in found}
        for key, view in self.join_keys.items():
            if key not in given:
                raise Refusal(422, f"The entities lack the join key {key!r}, which view {view} needs; add it.")
        for name in self.request:
            if name not in given:
                raise Refusal(422, f"The entities lack {name!r}, which an on-demand view needs; add it.")
        return {name: self._checked(name, values) for name, values in found.items()}

    def _checked(self, name: str, values: list[Any]) -> list[Any]:
        if name in self.request:
            return _request(name, values, self.request[name])
        kind = self.keys[name]
        if not _is_plain(values, kind):
            _check_keys(name, values, kind, self.names[name] in self.join_keys)
        return values


def _is_plain(values: list[Any], kind: ValueType) -> bool:
    """Texts for a text key, whole numbers in range for one of these: nearly all there is, so nothing else is asked."""
    types = set(map(type, values))
    if kind in INTEGERS:
        return types == {int} and -INTEGERS[kind] <= min(values) and max(values) < INTEGERS[kind]
    return types == {str} and kind == ValueType.STRING


def _check_keys(name: str, values: list[Any], kind: ValueType, needed: bool) -> None:
    for row, value in enumerate(values):
        if value is None and needed:
            raise Refusal(422, f"The join key {name!r} is null in row {row}; every entity needs one.")
        if isinstance(value, _NOT_TAKEN.get(kind, (list, dict))) or (kind in INTEGERS and _has_fraction(value)):
            raise _wrong(name, row, kind)
    _try(name, values, kind)


def _has_fraction(value: Any) -> bool:
    return isinstance(value, float) and value % 1 != 0


def _request(name: str, values: list[Any], kind: ValueType) -> list[Any]:
    fits = _FITS.get(kind)
    if fits is not None:
        for row, value in enumerate(values):
            if value is not None and not fits(value):
                raise _wrong(name, row, kind)
        if kind in REALS and any(isinstance(value, float) for value in values):
            values = [float(value) if isinstance(value, int) else value for value in values]  # else Feast truncates
    _try(name, values, ValueType.UNKNOWN)
    return values


def _try(name: str, values: list[Any], kind: ValueType) -> None:
    """Let Feast turn values into its own, as it will when it is asked."""
    try:
        python_values_to_proto_values(values, kind)
    except Exception:
        told = "of one type" if kind == ValueType.UNKNOWN else f"values of type {kind.name}"
        raise Refusal(422, shortened(f"The values of {name!r} in entities cannot be used; send {told}.")) from None


def _wrong(name: str, row: int, kind: ValueType) -> Refusal:
    return Refusal(422, f"The value of {name!r} in row {row} is no {kind.name}, which it must be; correct it.")


def _is_integer(bits: int) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and value % 1 == 0 and -bits <= value < bits


_NOT_TAKEN = dict.fromkeys((ValueType.STRING, *INTEGERS), (list, dict, bool))
"""By type, what Feast makes a key of that nobody meant."""

_FITS: dict[ValueType, Callable[[Any], bool]] = {
    **{kind: _is_integer(bits) for kind, bits in INTEGERS.items()},
    **{kind: lambda value: type(value) in (int, float) for kind in REALS},
    ValueType.STRING: lambda value: isinstance(value, str),
    ValueType.BOOL: lambda value: value in (True, False),
    ValueType.UNIX_TIMESTAMP: lambda value: type(value) in (int, float, str),
    **{kind: lambda value: False for kind in NOT_JSON},
}
"""By type, what of JSON can be request data of it."""
