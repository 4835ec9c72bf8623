"""The server described for machines: OpenAPI 3.1 of what it answers with the registry that it has now.

Feature services come in with what their entities must hold, so that the document says which keys each one needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import weakfish.feast.adapter  # noqa: F401 - first: it makes the import of Feast cheap

import orjson
from feast.value_type import ValueType

from weakfish import __version__
from weakfish.feast.serving.requests import INTEGERS, REALS, Needs

STATUSES = ("PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "INVALID")
JSON = "application/json"


def document(services: Mapping[str, Needs | None], most_entities: int, with_token: bool) -> bytes:
    """The schema as JSON; ``services`` are those that may be asked for (None: what one needs cannot be told)."""
    content: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "weakfish serve",
            "version": __version__,
            "description": "Online features as Feast serves them.",
        },
        "paths": {
            "/get-online-features": {"post": _features(with_token)},
            "/health": {
                "get": _plain("Is the server able to answer?", {"200": "It is.", "503": "The online store is lost."})
            },
            "/metrics": {"get": _metrics(with_token)},
            "/openapi.json": {"get": _schema(with_token)},
        },
        "components": {"schemas": {"Question": _question(services, most_entities), **_ANSWERS}},
    }
    if with_token:
        content["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return orjson.dumps(content)


def _question(services: Mapping[str, Needs | None], most_entities: int) -> dict[str, Any]:
    column = {"type": "array", "minItems": 1, "maxItems": most_entities}
    by_name = {
        "title": "features by name",
        "required": ["entities", "features"],
        "properties": {
            "feature_service": {"enum": ["", None]},
            "features": {"minItems": 1, "items": {"type": "string", "pattern": "^[^:]+:[^:]+$"}},
        },
    }
    return {
        "type": "object",
        "description": "Which features of which entities. A feature_service goes before features.",
        "required": ["entities"],
        "properties": {
            "entities": {
                "type": "object",
                "description": "A list per join key, and per value that on-demand views need; all of one length.",
                "additionalProperties": column,
                "minProperties": 1,
            },
            "feature_service": {"type": ["string", "null"]},
            "features": {"type": "array", "items": {"type": "string"}, "description": "As view:feature."},
            "full_feature_names": {"type": "boolean", "default": False, "description": "Name features view__feature."},
            "include_feature_view_version_metadata": {"type": "boolean", "default": False},
        },
        "anyOf": [*(_service(name, needs, column) for name, needs in sorted(services.items())), by_name],
    }


def _service(name: str, needs: Needs | None, column: dict[str, Any]) -> dict[str, Any]:
    """What a request for a feature service looks like."""
    found: dict[str, Any] = {"title": name, "required": ["entities", "feature_service"]}
    found["properties"] = {"feature_service": {"const": name}}
    if needs is not None:
        items = {key: _key(needs.keys[key]) for key in needs.join_keys}
        items |= {key: _request(kind) for key, kind in needs.request.items()}
        columns = {key: {**column, "items": item} for key, item in items.items()}
        found["properties"]["entities"] = {"required": sorted(items), "properties": columns}
    return found


def _key(kind: ValueType) -> dict[str, Any]:
    """What of JSON can be a key: as in Feast, numbers are taken as texts, and texts of whole numbers as numbers."""
    if kind in INTEGERS:
        return {"type": ["integer", "string"]}
    return {"type": ["string", "number"] if kind == ValueType.STRING else ["string", "number", "boolean"]}


def _request(kind: ValueType) -> dict[str, Any]:
    """What of JSON can be a value that an on-demand view needs."""
    if kind in INTEGERS:
        return {"type": ["integer", "null"], "minimum": -INTEGERS[kind], "maximum": INTEGERS[kind] - 1}
    if kind in REALS:
        return {"type": ["number", "null"]}
    if kind == ValueType.BOOL:
        return {"enum": [True, False, 0, 1, None]}
    types = {ValueType.STRING: ["string", "null"], ValueType.UNIX_TIMESTAMP: ["string", "number", "null"]}
    return {"type": types[kind]} if kind in types else {}


_ANSWERS: dict[str, Any] = {
    "Answer": {
        "type": "object",
        "required": ["metadata", "results"],
        "properties": {
            "metadata": {
                "type": "object",
                "required": ["feature_names"],
                "properties": {
                    "feature_names": {"type": "array", "items": {"type": "string"}},
                    "feature_view_metadata": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"name": {"type": "string"}, "version": {"type": "integer"}},
                        },
                    },
                },
            },
            "results": {
                "type": "array",
                "description": "A column per name in metadata.feature_names, a value per entity in each.",
                "items": {
                    "type": "object",
                    "required": ["values", "statuses", "event_timestamps"],
                    "properties": {
                        "values": {"type": "array", "items": {}},
                        "statuses": {"type": "array", "items": {"type": "string", "enum": list(STATUSES)}},
                        "event_timestamps": {"type": "array", "items": {"type": "string", "format": "date-time"}},
                    },
                },
            },
        },
    },
    "Problem": {
        "type": "object",
        "required": ["detail"],
        "properties": {"detail": {"type": "string", "description": "What is wrong, in a sentence."}},
    },
}


def _features(with_token: bool) -> dict[str, Any]:
    problems = {
        "404": "No such feature service, view or feature.",
        "408": "The body did not arrive in time.",
        "413": "The body is too large.",
        "415": "The body is not declared as JSON.",
        "422": "The request cannot be answered as it is.",
        "500": "An on-demand view failed.",
        "503": "The online store, or its registry, is lost.",
    }
    return {
        "summary": "Features of entities, as of now",
        "operationId": "get_online_features",
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/Question"}}},
        },
        "responses": {
            "200": {
                "description": "The features.",
                "content": {JSON: {"schema": {"$ref": "#/components/schemas/Answer"}}},
            },
            **_problems(problems, with_token),
        },
        **_secured(with_token),
    }


def _metrics(with_token: bool) -> dict[str, Any]:
    answer = {"description": "Counts, for Prometheus.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {"summary": "Counts", "responses": {"200": answer, **_problems({}, with_token)}, **_secured(with_token)}


def _schema(with_token: bool) -> dict[str, Any]:
    answer = {"description": "This document.", "content": {JSON: {"schema": {"type": "object"}}}}
    return {
        "summary": "This document",
        "responses": {"200": answer, **_problems({}, with_token)},
        **_secured(with_token),
    }


def _plain(summary: str, answers: dict[str, str]) -> dict[str, Any]:
    return {"summary": summary, "responses": {status: {"description": told} for status, told in answers.items()}}


def _problems(sentences: dict[str, str], with_token: bool) -> dict[str, Any]:
    told = {**sentences, **({"401": "The token is missing or wrong."} if with_token else {})}
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": sentence, "content": content} for status, sentence in sorted(told.items())}


def _secured(with_token: bool) -> dict[str, Any]:
    return {"security": [{"token": []}]} if with_token else {}
