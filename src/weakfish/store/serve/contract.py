"""What a client may ask: the JSON of Feast's `/get-online-features`, checked before anything is read.

The body of a request becomes a `Question`; whatever is wrong with it becomes a `Refusal`, a status and one sentence.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

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
