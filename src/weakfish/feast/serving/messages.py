"""What a client may ask and what it gets: the JSON of Feast's `/get-online-features`, checked, written and described.

A request's body becomes a `FeatureRequest`; whatever is wrong with it becomes a refusal, a status and one sentence.
Feast's response becomes the body of the answer. The OpenAPI document is made from the same models and from what the
feature services in the registry need.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter, methodcaller
from typing import Annotated, Any, Literal

from weakfish.feast.adapter import value_to_json

import orjson
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.type_map import NULL_TIMESTAMP_INT_VALUE, python_values_to_proto_values
from feast.value_type import ValueType
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from weakfish import __version__
from weakfish.feast.read_plan import ReadPlan, RequestInputs
from weakfish.feast.response import FeatureResponse

JSON = "application/json"
LONGEST_REASON = 300
MOST_FEATURES, MOST_COLUMNS = 10_000, 1_000
"""Features that a request may name, and lists that its entities may have."""

MOST_INNER = 250_000
"""Lists and objects that a body may hold: of millions, Python's collector takes seconds."""

_TEXT_IN_JSON = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)

LONGEST_TEXT = 128
"""Characters of a text that is to become a number, a time or a UUID: reading digits takes the square of their number.
"""

Columns = Mapping[str, list[Any]]


def _columns(found: dict[str, Any]) -> dict[str, Any]:
    """Entities, each of which is a list: Pydantic would make an error of every one that is not."""
    if len(found) > MOST_COLUMNS:
        raise ValueError(f"The entities have {len(found):,} lists, of which at most {MOST_COLUMNS:,} are taken.")
    for name, values in found.items():
        if not isinstance(values, list):
            raise ValueError(f"{UNLIKE}, at entities.{name}: Input should be a valid array.")
    return found


UNLIKE = "The request is not what /openapi.json describes"


class FeatureRequest(BaseModel):
    """Which features of which entities. A feature_service goes before features."""

    model_config = ConfigDict(strict=True, frozen=True)

    entities: Annotated[dict[str, Any], AfterValidator(_columns)] = Field(
        description="A list per join key, and per value that on-demand views need; all of one length.",
        json_schema_extra={"maxProperties": MOST_COLUMNS},
    )
    feature_service: str | None = None
    features: Annotated[list[str], FailFast()] = Field(
        default=[], max_length=MOST_FEATURES, description="As view:feature."
    )
    full_feature_names: bool = Field(default=False, description="Name features view__feature.")
    include_feature_view_version_metadata: bool = False

    @model_validator(mode="after")
    def _asks_for_something(self, info: ValidationInfo) -> FeatureRequest:
        if not self.feature_service and not self.features:
            raise ValueError("The request names neither a feature_service nor features; name one of them.")
        lengths = {name: len(values) for name, values in self.entities.items()}
        if not lengths or not all(lengths.values()):
            raise ValueError("The request has no entities; give each key a list with a value per entity.")
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ValueError(f"The lists in entities differ in length ({told}); give each a value per entity.")
        asked, most = max(lengths.values()), int(info.context or 0)
        if asked > most:
            raise ValueError(f"The request asks for {asked:,} entities, of which at most {most:,} are served at once.")
        return self


class FeatureVersion(BaseModel):
    name: str
    version: int = 0


class FeatureMetadata(BaseModel):
    feature_names: list[str]
    feature_view_metadata: list[FeatureVersion] = []


class FeatureColumn(BaseModel):
    values: list[Any]
    statuses: list[Literal["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "INVALID"]]
    event_timestamps: list[datetime]


class FeatureAnswer(BaseModel):
    """The features of each entity."""

    metadata: FeatureMetadata
    results: list[FeatureColumn] = Field(
        description="A column per name in metadata.feature_names, a value per entity in each."
    )


class ErrorDetail(BaseModel):
    """Why there is no answer."""

    detail: str = Field(description="What is wrong, in a sentence.")


def refusal(status: int, sentence: str, headers: dict[str, str] | None = None) -> HTTPException:
    """An answer other than 200; a sentence that quotes a client gets a length that fits a line of a log."""
    text = sentence if len(sentence) <= LONGEST_REASON else sentence[:LONGEST_REASON] + "…"
    return HTTPException(status, text, headers)


def _brackets(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def parse(body: bytes, max_entities: int) -> FeatureRequest:
    """A request's question, well-formed and within limits.

    Raises
    ------
    HTTPException
        422, when the body is no such JSON, asks for nothing, has columns of different lengths, too many entities or too
        many lists in them.
    """
    if _brackets(body) > MOST_INNER and _brackets(_TEXT_IN_JSON.sub(b"", body)) > MOST_INNER:
        raise refusal(422, f"The body has more than {MOST_INNER:,} lists and objects.")
    try:
        return FeatureRequest.model_validate_json(body, context=max_entities)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "value_error":
        raise refusal(422, first["msg"].removeprefix("Value error, "))
    if first["type"] == "json_invalid":
        raise refusal(422, f"The body is not valid JSON: {first['msg'].removeprefix('Invalid JSON: ')}.")
    place = ".".join(map(str, first["loc"])) or "the body"
    raise refusal(422, f"{UNLIKE}, at {place}: {first['msg']}.")


@dataclass(frozen=True)
class JsonValues:
    """What of JSON can be a value of a type, as a schema and as a test; null is another matter."""

    schema: dict[str, Any] = field(default_factory=dict)
    fits: Callable[[Any], bool] = lambda value: True


HUGE = 10**308
"""Whole numbers from here on are beyond what a float holds, and so can be no value of any type."""


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < HUGE)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return _is_finite(value) and value % 1 == 0


def _whole_of(bits: int) -> JsonValues:
    schema = {"type": ["integer", "null"], "minimum": -(1 << bits), "maximum": (1 << bits) - 1}
    return JsonValues(schema, lambda value: _whole(value) and -(1 << bits) <= value < 1 << bits)


INTEGERS = {ValueType.INT32: 1 << 31, ValueType.INT64: 1 << 63}
REALS = (ValueType.FLOAT, ValueType.DOUBLE)
REAL = JsonValues({"type": ["number", "null"]}, _is_number)
TEXT_OR_WHOLE = JsonValues({"type": ["integer", "string"]}, lambda value: isinstance(value, str) or _whole(value))

KEYS = {
    ValueType.INT32: TEXT_OR_WHOLE,
    ValueType.INT64: TEXT_OR_WHOLE,
    ValueType.STRING: JsonValues(
        {"type": ["string", "number"]}, lambda value: isinstance(value, str) or _is_finite(value)
    ),
}
"""Join keys by type: as in Feast, numbers are taken as texts, and texts of whole numbers as numbers."""

ANY_KEY = JsonValues(
    {"type": ["string", "number", "boolean"]}, lambda value: isinstance(value, str | bool) or _is_finite(value)
)

REQUEST_DATA = {
    ValueType.INT32: _whole_of(31),
    ValueType.INT64: _whole_of(63),
    ValueType.FLOAT: REAL,
    ValueType.DOUBLE: REAL,
    ValueType.STRING: JsonValues({"type": ["string", "null"]}, lambda value: isinstance(value, str)),
    ValueType.BOOL: JsonValues({"enum": [True, False, 0, 1, None]}, lambda value: value in (True, False)),
    ValueType.UNIX_TIMESTAMP: JsonValues(
        {"type": ["string", "number", "null"]}, lambda value: isinstance(value, str) or _is_finite(value)
    ),
    **dict.fromkeys((ValueType.BYTES, ValueType.PDF_BYTES, ValueType.IMAGE_BYTES), JsonValues({}, lambda value: False)),
}
"""Values that on-demand views take, by type; those of other types may be anything."""


def checked(inputs: RequestInputs, entities: Columns) -> Columns:
    """The columns that count.

    Raises
    ------
    HTTPException
        422, when one is missing, or holds what its type cannot be.
    """
    found = {name: values for name, values in entities.items() if name in inputs.names}
    given = {inputs.names[name] for name in found}
    for key, view in inputs.join_keys.items():
        if key not in given:
            raise refusal(422, f"The entities lack the join key {key!r}, which view {view} needs; add it.")
    for name in inputs.request:
        if name not in given:
            raise refusal(422, f"The entities lack {name!r}, which an on-demand view needs; add it.")
    for name, values in found.items():
        if name in inputs.request:
            found[name] = _request_data(name, values, inputs.request[name])
        elif not _is_plain(values, inputs.keys[name]):
            kind, is_needed = inputs.keys[name], inputs.names[name] in inputs.join_keys
            if is_needed and None in values:
                row = values.index(None)
                raise refusal(422, f"The join key {name!r} is null in row {row}; every entity needs one.")
            _check(name, values, kind, KEYS.get(kind, ANY_KEY))
            _try(name, values, kind)
    return found


def _is_plain(values: list[Any], kind: ValueType) -> bool:
    """Texts for a text key, whole numbers in range for one of these: nearly all there is, so nothing else is asked."""
    types = set(map(type, values))
    if kind in INTEGERS:
        return types == {int} and -INTEGERS[kind] <= min(values) and max(values) < INTEGERS[kind]
    return types == {str} and kind == ValueType.STRING


def _request_data(name: str, values: list[Any], kind: ValueType) -> list[Any]:
    _check(name, values, kind, REQUEST_DATA.get(kind, JsonValues()))
    if kind in REALS and any(isinstance(value, float) for value in values):
        values = [float(value) if isinstance(value, int) else value for value in values]  # else Feast truncates
    _try(name, values, ValueType.UNKNOWN)
    return values


LONG = ("STRING", "BYTES", "JSON", "MAP", "STRUCT", "PDF_BYTES", "IMAGE_BYTES", "SCALAR_MAP", "VALUE", "UNKNOWN")
"""Types whose texts may be of any length, also in lists and sets."""


def _check(name: str, values: list[Any], kind: ValueType, accepted: JsonValues) -> None:
    is_short = kind.name.removesuffix("_LIST").removesuffix("_SET") not in LONG
    for row, value in enumerate(values):
        if value is not None and not accepted.fits(value):
            raise refusal(422, f"The value of {name!r} in row {row} is no {kind.name}, which it must be; correct it.")
        if is_short and type(value) in (str, list) and any(len(text) > LONGEST_TEXT for text in _texts(value)):
            told = f"has a text of more than {LONGEST_TEXT} characters, which can be no {kind.name}; correct it."
            raise refusal(422, f"The value of {name!r} in row {row} {told}")


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value; the parser bounds how deep lists are."""
    if type(value) is str:
        yield value
    elif type(value) is list:
        for one in value:
            yield from _texts(one)


def _try(name: str, values: list[Any], kind: ValueType) -> None:
    """Let Feast turn values into its own, as it will when it is asked."""
    try:
        python_values_to_proto_values(values, kind)
    except Exception:
        told = "of one type" if kind == ValueType.UNKNOWN else f"values of type {kind.name}"
        raise refusal(422, f"The values of {name!r} in entities cannot be used; send {told}.") from None


NAMES: dict[int, str] = {number: name for name, number in FieldStatus.items()}


Seen = dict[str, tuple[list[str], list[tuple[int, int]]]]
"""By view, the statuses of the entities' rows, and their times as (seconds, nanoseconds)."""


def rendered(plan: ReadPlan, response: FeatureResponse) -> tuple[bytes, Seen]:
    """The body of an answer, and what it says of each view's rows."""
    metadata, results = response.proto.metadata, []
    owners = {column: number for number, view in enumerate(plan.views) for column in view.columns}
    seen: dict[int, tuple[list[str], list[tuple[int, int]]]] = {}
    for name, result in zip(metadata.feature_names.val, response.proto.results, strict=True):
        owner = owners.get(name)
        # Columns of one view share what they say of its rows, but for values that could not be read.
        if owner not in seen or owner is None or response.unreadable:
            statuses = [NAMES[status] for status in result.statuses]
            moments = [(moment.seconds, moment.nanos) for moment in result.event_timestamps]
            times = list(map(rfc3339, moments))
            if owner is not None:
                seen[owner] = statuses, moments
        results.append({"values": natives(result.values), "statuses": statuses, "event_timestamps": times})
    about: dict[str, Any] = {"feature_names": list(metadata.feature_names.val)}
    if metadata.feature_view_metadata:
        about["feature_view_metadata"] = [
            {"name": view.name, "version": view.version} if view.version else {"name": view.name}
            for view in metadata.feature_view_metadata
        ]
    return orjson.dumps({"results": results, "metadata": about}), {
        plan.views[number].name: said for number, said in seen.items()
    }


PLAIN = {"int64_val", "int32_val", "string_val", "bool_val", "unix_timestamp_val"}
"""Kinds of values that are the same in JSON."""


def natives(values: Any) -> list[Any]:
    """A column of values as Feast's server writes them; one of plain values of one kind is read at once."""
    cells = list(values)
    kind, *others = set(map(methodcaller("WhichOneof", "val"), cells)) or {None}
    if not others and (kind in PLAIN or kind == "double_val"):
        found = list(map(attrgetter(kind), cells))
        if kind == "unix_timestamp_val" and NULL_TIMESTAMP_INT_VALUE in found:
            return [None if value == NULL_TIMESTAMP_INT_VALUE else value for value in found]
        if kind in PLAIN or all(map(math.isfinite, found)):
            return found
    return list(map(native, cells))


def native(value: Any) -> Any:
    """A value as Feast's server writes it, which writes a null among times as a number, where this is null.

    What is not a plain number or text is left to Feast.
    """
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    found = getattr(value, kind) if kind in PLAIN else value_to_json(value)
    if kind.startswith("unix_timestamp"):
        if isinstance(found, list):
            return [None if each == NULL_TIMESTAMP_INT_VALUE else each for each in found]
        return None if found == NULL_TIMESTAMP_INT_VALUE else found
    return found


@lru_cache(maxsize=10_000)
def rfc3339(time: tuple[int, int]) -> str:
    """Seconds and nanoseconds as JSON has a time: in UTC, with as many decimals as it needs (none, 3, 6 or 9)."""
    seconds, nanos = time
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if not nanos:
        return text + "Z"
    for digits, unit in ((3, 1_000_000), (6, 1_000)):
        if nanos % unit == 0:
            return f"{text}.{nanos // unit:0{digits}d}Z"
    return f"{text}.{nanos:09d}Z"


def document(services: Mapping[str, RequestInputs | None], max_entities: int, with_token: bool) -> bytes:
    """OpenAPI 3.1 of the server, as JSON; ``services`` are those of the registry (None: one that cannot be served)."""
    _, made = models_json_schema(
        [(FeatureRequest, "validation"), (FeatureAnswer, "validation"), (ErrorDetail, "validation")],
        ref_template="#/components/schemas/{model}",
    )
    schemas = made["$defs"]
    column = {"type": "array", "minItems": 1, "maxItems": max_entities}
    schemas["FeatureRequest"]["properties"]["entities"] |= {"additionalProperties": column, "minProperties": 1}
    schemas["FeatureRequest"]["anyOf"] = [
        *(_service(name, inputs, column) for name, inputs in sorted(services.items())),
        {
            "title": "features by name",
            "required": ["entities", "features"],
            "properties": {
                "feature_service": {"enum": ["", None]},
                "features": {"minItems": 1, "items": {"type": "string", "pattern": "^[^:]+:[^:]+$"}},
            },
        },
    ]
    refused = {"401": "The token is missing or wrong."} if with_token else {}
    closed: dict[str, Any] = {"security": [{"token": []}]} if with_token else {}
    paths: dict[str, Any] = {
        "/get-online-features": {
            "post": {
                "summary": "Features of entities, as of now",
                "operationId": "get_online_features",
                "requestBody": {"required": True, **_content("FeatureRequest")},
                "responses": {
                    "200": {"description": "The features.", **_content("FeatureAnswer")},
                    **_problems({**PROBLEMS, **refused}),
                },
                **closed,
            }
        },
        "/health": {
            "get": {
                "summary": "Is the server able to answer?",
                "responses": {
                    "200": {"description": "It is."},
                    "503": {"description": "The online store is lost."},
                },
            }
        },
    }
    for path, summary, sentence, content in (
        ("/metrics", "Counts", "Counts, for Prometheus.", {"content": {"text/plain": {"schema": {"type": "string"}}}}),
        ("/openapi.json", "This document", "This document.", {"content": {JSON: {"schema": {"type": "object"}}}}),
    ):
        responses = {"200": {"description": sentence, **content}, **_problems(refused)}
        paths[path] = {"get": {"summary": summary, "responses": responses, **closed}}
    components: dict[str, Any] = {"schemas": schemas}
    if with_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    about = {"title": "weakfish serve", "version": __version__, "description": "Online features as Feast serves them."}
    return orjson.dumps({"openapi": "3.1.0", "info": about, "paths": paths, "components": components})


PROBLEMS = {
    "403": "Feast's permissions do not let this user read it.",
    "404": "No such feature service, view or feature.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is not declared as JSON.",
    "422": "The request cannot be answered as it is.",
    "500": "An on-demand view failed.",
    "503": "The online store, or its registry, is lost.",
}


def _problems(sentences: Mapping[str, str]) -> dict[str, Any]:
    return {
        status: {"description": sentence, **_content("ErrorDetail")} for status, sentence in sorted(sentences.items())
    }


def _content(model: str) -> dict[str, Any]:
    return {"content": {JSON: {"schema": {"$ref": f"#/components/schemas/{model}"}}}}


def _service(name: str, inputs: RequestInputs | None, column: dict[str, Any]) -> dict[str, Any]:
    """What a request for a feature service looks like."""
    found: dict[str, Any] = {"title": name, "required": ["entities", "feature_service"]}
    found["properties"] = {"feature_service": {"const": name}}
    if inputs is not None:
        items = {key: KEYS.get(inputs.keys[key], ANY_KEY).schema for key in inputs.join_keys}
        items |= {key: REQUEST_DATA.get(kind, JsonValues()).schema for key, kind in inputs.request.items()}
        columns = {key: {**column, "items": item} for key, item in items.items()}
        found["properties"]["entities"] = {"required": sorted(items), "properties": columns}
    return found
