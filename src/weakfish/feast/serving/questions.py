"""What a client may ask: the JSON of Feast's `/get-online-features`, checked before anything is read, and described.

A request's body becomes a `FeatureRequest`; whatever is wrong with it becomes a `Refusal`, a status and one sentence.
The OpenAPI document is made from the same models and from what the feature services in the registry need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import orjson
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import models_json_schema

from weakfish import __version__
from weakfish.feast.read_plan import RequestInputs
from weakfish.feast.serving.application import JSON, Refusal

LONGEST_REASON = 300
Columns = Mapping[str, list[Any]]


class FeatureRequest(BaseModel):
    """Which features of which entities. A feature_service goes before features."""

    model_config = ConfigDict(strict=True, frozen=True)

    entities: dict[str, list[Any]] = Field(
        description="A list per join key, and per value that on-demand views need; all of one length."
    )
    feature_service: str | None = None
    features: list[str] = Field(default=[], description="As view:feature.")
    full_feature_names: bool = Field(default=False, description="Name features view__feature.")
    include_feature_view_version_metadata: bool = False


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


def parse(body: bytes, max_entities: int) -> FeatureRequest:
    """A request's question, well-formed and within limits.

    Raises
    ------
    Refusal
        422, when the body is no such JSON, asks for nothing, has columns of different lengths or too many entities.
    """
    try:
        question = FeatureRequest.model_validate_json(body)
    except ValidationError as error:
        raise Refusal(422, _sentence(error)) from None
    if not question.feature_service and not question.features:
        raise Refusal(422, "The request names neither a feature_service nor features; name one of them.")
    _check_rows(question.entities, max_entities)
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


INTEGERS = {ValueType.INT32: 1 << 31, ValueType.INT64: 1 << 63}
REALS = (ValueType.FLOAT, ValueType.DOUBLE)
NOT_JSON = (ValueType.BYTES, ValueType.PDF_BYTES, ValueType.IMAGE_BYTES)


def checked(inputs: RequestInputs, entities: Columns) -> Columns:
    """The columns that count.

    Raises
    ------
    Refusal
        422, when one is missing, or holds what its type cannot be.
    """
    found = {name: values for name, values in entities.items() if name in inputs.names}
    given = {inputs.names[name] for name in found}
    for key, view in inputs.join_keys.items():
        if key not in given:
            raise Refusal(422, f"The entities lack the join key {key!r}, which view {view} needs; add it.")
    for name in inputs.request:
        if name not in given:
            raise Refusal(422, f"The entities lack {name!r}, which an on-demand view needs; add it.")
    for name, values in found.items():
        if name in inputs.request:
            found[name] = _request(name, values, inputs.request[name])
        elif not _is_plain(values, inputs.keys[name]):
            _check_keys(name, values, inputs.keys[name], inputs.names[name] in inputs.join_keys)
    return found


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
    schema = _content({"type": "object"})
    paths: dict[str, Any] = {
        "/get-online-features": {
            "post": {
                "summary": "Features of entities, as of now",
                "operationId": "get_online_features",
                "requestBody": {"required": True, **_content(_model("FeatureRequest"))},
                "responses": {
                    "200": {"description": "The features.", **_content(_model("FeatureAnswer"))},
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
        ("/openapi.json", "This document", "This document.", schema),
    ):
        responses = {"200": {"description": sentence, **content}, **_problems(refused)}
        paths[path] = {"get": {"summary": summary, "responses": responses, **closed}}
    components: dict[str, Any] = {"schemas": schemas}
    if with_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    about = {"title": "weakfish serve", "version": __version__, "description": "Online features as Feast serves them."}
    return orjson.dumps({"openapi": "3.1.0", "info": about, "paths": paths, "components": components})


PROBLEMS = {
    "404": "No such feature service, view or feature.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is not declared as JSON.",
    "422": "The request cannot be answered as it is.",
    "500": "An on-demand view failed.",
    "503": "The online store, or its registry, is lost.",
}


def _problems(sentences: Mapping[str, str]) -> dict[str, Any]:
    content = _content(_model("ErrorDetail"))
    return {status: {"description": sentence, **content} for status, sentence in sorted(sentences.items())}


def _content(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": {JSON: {"schema": schema}}}


def _model(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _service(name: str, inputs: RequestInputs | None, column: dict[str, Any]) -> dict[str, Any]:
    """What a request for a feature service looks like."""
    found: dict[str, Any] = {"title": name, "required": ["entities", "feature_service"]}
    found["properties"] = {"feature_service": {"const": name}}
    if inputs is not None:
        items = {key: _key_values(inputs.keys[key]) for key in inputs.join_keys}
        items |= {key: _request_values(kind) for key, kind in inputs.request.items()}
        columns = {key: {**column, "items": item} for key, item in items.items()}
        found["properties"]["entities"] = {"required": sorted(items), "properties": columns}
    return found


def _key_values(kind: ValueType) -> dict[str, Any]:
    """What of JSON can be a key: as in Feast, numbers are taken as texts, and texts of whole numbers as numbers."""
    if kind in INTEGERS:
        return {"type": ["integer", "string"]}
    return {"type": ["string", "number"] if kind == ValueType.STRING else ["string", "number", "boolean"]}


def _request_values(kind: ValueType) -> dict[str, Any]:
    """What of JSON can be a value that an on-demand view inputs."""
    if kind in INTEGERS:
        return {"type": ["integer", "null"], "minimum": -INTEGERS[kind], "maximum": INTEGERS[kind] - 1}
    if kind in REALS:
        return {"type": ["number", "null"]}
    if kind == ValueType.BOOL:
        return {"enum": [True, False, 0, 1, None]}
    types = {ValueType.STRING: ["string", "null"], ValueType.UNIX_TIMESTAMP: ["string", "number", "null"]}
    return {"type": types[kind]} if kind in types else {}
