"""`weakfish serve` beside `feast serve` on the same rows: the same answers, and honest ones where Feast's are wrong."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projects import BIN
from serving import BUYERS, NOW, ORDERS, SHOPS, Site, feast_serving, on_embedded_server, plain, quiet, serving, until

from weakfish.feast import server
from weakfish.project.paths import Project

TTL = timedelta(days=2)
HONEST = ("NOT_FOUND", "OUTSIDE_MAX_AGE")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A repository on its embedded server."""
    with on_embedded_server(tmp_path_factory.mktemp("serve") / "project") as found:
        yield found


@pytest.fixture(scope="module")
def ours(project: Project) -> Iterator[Site]:
    with serving(project, "--max-entities", "50") as site:
        yield site


@pytest.fixture(scope="module")
def theirs(project: Project) -> Iterator[Site]:
    with feast_serving(project.root) as site:
        yield site


buyers = st.sampled_from([*BUYERS, "", "no such", "ß", "b1\x00", "b" * 200])
shops = st.sampled_from([*SHOPS, 0, -(2**63), 2**63 - 1])
references = st.lists(
    st.sampled_from(
        [
            *(f"buyer_orders:{name}" for name in ORDERS),
            "buyer_visits:visits",
            "shop_sales:sales",
            "pair_orders:together",
        ]
    ),
    min_size=1,
    max_size=6,
    unique=True,
)


@st.composite
def questions(draw: st.DrawFn) -> dict[str, Any]:
    """What a client that keeps to the contract can ask."""
    rows = draw(st.integers(1, 5))

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=rows, max_size=rows))

    entities = {"buyer": column(buyers), "shop_id": column(shops)}
    question: dict[str, Any] = {"entities": entities}
    service = draw(st.sampled_from(["ten", "wide", "types", "priced", "compared", None]))
    if service is None:
        question["features"] = draw(references)
    else:
        question["feature_service"] = service
    if service == "types":
        del entities["buyer"]
    if service == "priced":
        entities["price"] = column(st.floats(0, 1e9))
        entities["items"] = column(st.integers(0, 100))
    if service == "compared":
        entities["friend"] = column(buyers)
    if draw(st.booleans()):
        entities["whatever"] = column(st.integers(-(2**63), 2**63 - 1))
    if service in ("wide", "compared") or draw(st.booleans()):
        question["full_feature_names"] = True
    if draw(st.booleans()):
        question["include_feature_view_version_metadata"] = draw(st.booleans())
    return question


@settings(max_examples=80, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=questions())
def test_answers_equal_those_of_feast_serve(ours: Site, theirs: Site, question: dict[str, Any]) -> None:
    answer, expected = ours.features(**question), theirs.features(**question)
    assert (answer.status, expected.status) == (200, 200), answer.body + expected.body
    assert answer.headers["content-type"] == expected.headers["content-type"]
    found, wanted = columns(answer.json), columns(expected.json)
    assert found.keys() == wanted.keys()
    for name, column in found.items():
        honest = wanted[name]
        for row, status in enumerate(column["statuses"]):
            if status in HONEST:
                honest["statuses"][row] = status
            if status == "OUTSIDE_MAX_AGE":
                honest["values"][row] = None
        assert json.dumps(column, sort_keys=True) == json.dumps(honest, sort_keys=True), name
    keys = [name for name in question["entities"] if name in found]
    assert answer.json["metadata"]["feature_names"][: len(keys)] == keys, "the keys come first"
    assert about(answer.json) == about(expected.json)


def columns(answer: Any) -> dict[str, Any]:
    return dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))


def about(answer: Any) -> Any:
    """All that an answer says beside its columns; Feast's order of views changes from process to process."""
    metadata = {name: value for name, value in answer["metadata"].items() if name != "feature_names"}
    versions = sorted(metadata.pop("feature_view_metadata", []), key=lambda view: view["name"])
    return sorted(answer), metadata, versions


def test_what_is_not_there_and_what_is_too_old_is_told(ours: Site) -> None:
    answer = ours.features(
        feature_service="priced", entities={"buyer": ["b1", "b4", "nobody"], "price": [1.0] * 3, "items": [1] * 3}
    )
    found = columns(answer.json)
    old = (NOW - timedelta(hours=72)).strftime("%Y-%m-%dT%H:%M:%SZ")
    new = (NOW - timedelta(hours=18)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found["visits"] == {
        "values": [1, None, None],
        "statuses": ["PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"],
        "event_timestamps": [new, old, "1970-01-01T00:00:00Z"],
    }
    assert found["per_item"]["values"] == [1.0, 1.0, 1.0]


def test_numbers_beside_fractions_are_not_cut_off(ours: Site) -> None:
    entities = {"buyer": ["b1", "b1"], "price": [1, 2.5], "items": [1, 1]}
    assert columns(ours.features(feature_service="priced", entities=entities).json)["per_item"]["values"] == [1.0, 2.5]


BUYER = {"buyer": ["b1"]}
PRICED = {"feature_service": "priced"}
WRONG: list[tuple[Any, int, str]] = [
    (b"{", 422, "The body is not valid JSON: EOF while parsing"),
    (b"\xff", 422, "The body is not valid JSON"),
    (b"[" * 100_000, 422, "The body is not valid JSON"),
    ([], 422, "at the body: Input should be an object."),
    ({}, 422, "at entities: Field required."),
    ({"entities": {"buyer": "b1"}, "feature_service": "ten"}, 422, "at entities.buyer: Input should be a valid array."),
    ({"entities": BUYER, "features": None}, 422, "at features: Input should be a valid array."),
    ({"entities": BUYER, "feature_service": "ten", "full_feature_names": "yes"}, 422, "at full_feature_names"),
    ({"entities": BUYER}, 422, "The request names neither a feature_service nor features; name one of them."),
    ({"entities": {}, "feature_service": "ten"}, 422, "The request has no entities"),
    ({"entities": {"buyer": []}, "feature_service": "ten"}, 422, "The request has no entities"),
    ({"entities": {"buyer": ["b1"], "x": [1, 2]}, "feature_service": "ten"}, 422, "(buyer has 1, x has 2)"),
    (
        {"entities": BUYER, "feature_service": "tan"},
        404,
        "no feature service 'tan' in the registry; did you mean 'ten'?",
    ),
    ({"entities": BUYER, "features": ["nothing:f0"]}, 404, "Feature view nothing does not exist in project shop."),
    ({"entities": BUYER, "features": ["buyer_orders:f77"]}, 404, "Feature f77 not found in projection buyer_orders."),
    (
        {"entities": BUYER, "features": ["labels:p"]},
        422,
        "labels holds labels, which are never served; read them offline.",
    ),
    ({"entities": BUYER, "features": ["buyer_orders"]}, 422, "Invalid feature reference 'buyer_orders'."),
    (
        {"entities": BUYER, "features": ["buyer_orders:f0", "buyer_orders:f0"]},
        422,
        "Duplicate features named f0 found.",
    ),
    (
        {"entities": {"shop_id": [1]}, "feature_service": "ten"},
        422,
        "lack the join key 'buyer', which view buyer_orders",
    ),
    (
        {"entities": BUYER, "features": ["pair_orders:together"]},
        422,
        "lack the join key 'shop_id', which view pair_orders",
    ),
    ({"entities": {"buyer": ["b1", None]}, "feature_service": "ten"}, 422, "The join key 'buyer' is null in row 1"),
    ({"entities": {"buyer": [["b1"]]}, "feature_service": "ten"}, 422, "'buyer' in row 0 is no STRING"),
    ({"entities": {"buyer": ["b1", math.nan]}, "feature_service": "ten"}, 422, "'buyer' in row 1 is no STRING"),
    ({"entities": {"buyer": [math.inf]}, "feature_service": "ten"}, 422, "'buyer' in row 0 is no STRING"),
    ({"entities": {"shop_id": [math.nan]}, "feature_service": "types"}, 422, "'shop_id' in row 0 is no INT64"),
    ({"entities": {"shop_id": [-math.inf]}, "feature_service": "types"}, 422, "'shop_id' in row 0 is no INT64"),
    ({"entities": {**BUYER, "price": [1.0], "items": [math.nan]}, **PRICED}, 422, "'items' in row 0 is no INT64"),
    ({"entities": {"shop_id": [10**400]}, "feature_service": "types"}, 422, "'shop_id' in row 0 is no INT64"),
    ({"entities": {"buyer": ["b1", 10**400]}, "feature_service": "ten"}, 422, "'buyer' in row 1 is no STRING"),
    ({"entities": {**BUYER, "price": [10**400], "items": [1]}, **PRICED}, 422, "'price' in row 0 is no DOUBLE"),
    ({"entities": {"shop_id": [1.5]}, "feature_service": "types"}, 422, "'shop_id' in row 0 is no INT64"),
    ({"entities": {"shop_id": [1, True]}, "feature_service": "types"}, 422, "'shop_id' in row 1 is no INT64"),
    ({"entities": {"buyer": [True]}, "feature_service": "ten"}, 422, "'buyer' in row 0 is no STRING"),
    (
        {"entities": {"shop_id": [2**63]}, "feature_service": "types"},
        422,
        "values of 'shop_id' in entities cannot be used",
    ),
    (
        {"entities": {"shop_id": ["one"]}, "feature_service": "types"},
        422,
        "values of 'shop_id' in entities cannot be used",
    ),
    ({"entities": {**BUYER, "price": [1.0]}, **PRICED}, 422, "lack 'items', which an on-demand view needs"),
    ({"entities": {**BUYER, "price": ["1"], "items": [1]}, **PRICED}, 422, "'price' in row 0 is no DOUBLE"),
    ({"entities": {**BUYER, "price": [1.0], "items": [1.5]}, **PRICED}, 422, "'items' in row 0 is no INT64"),
    ({"entities": {**BUYER, "price": [1.0], "items": [2**64]}, **PRICED}, 422, "'items' in row 0 is no INT64"),
]


@pytest.mark.parametrize(("body", "status", "sentence"), WRONG, ids=lambda value: str(value)[:50])
def test_a_wrong_request_is_refused_with_a_sentence(ours: Site, body: Any, status: int, sentence: str) -> None:
    answer = ours.ask("/get-online-features", body)
    assert answer.status == status, answer.body
    assert sentence in answer.detail
    assert answer.detail.endswith((".", "?"))
    assert len(answer.detail) < 400
    assert answer.headers["content-type"] == "application/json"


def test_a_failing_on_demand_view_is_told_without_its_secrets(ours: Site) -> None:
    entities = {"buyer": ["b1"], "price": [1000.0], "items": [1]}
    answer = ours.features(feature_service="trying", entities=entities)
    assert answer.status == 500
    assert answer.detail == "The on-demand views (trying) could not be computed: ValueError."
    assert "secret" not in ours.said()
    assert "Traceback" not in ours.said()
    assert "on-demand views (trying)" in ours.said()
    assert ours.features(feature_service="ten", entities=BUYER).status == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "sentence"),
    [
        ("GET", "/", {}, 404, "There is nothing here; there are /get-online-features, /health"),
        ("POST", "/push", {}, 404, "There is nothing here"),
        ("GET", "/get-online-features", {}, 405, "This path takes POST alone."),
        ("DELETE", "/health", {}, 405, "This path takes GET alone."),
        ("POST", "/get-online-features", {"Content-Type": "text/plain"}, 415, "The body must be declared as JSON"),
    ],
)
def test_what_the_server_does_not_do_is_told(
    ours: Site, method: str, path: str, headers: dict[str, str], status: int, sentence: str
) -> None:
    answer = ours.ask(path, b"{}" if method == "POST" else None, headers, method)
    assert answer.status == status
    assert sentence in answer.detail
    if status == 405:
        assert answer.headers["allow"] == ("POST" if "features" in path else "GET")


def test_json_is_taken_however_it_is_declared(ours: Site) -> None:
    body = json.dumps({"feature_service": "ten", "entities": BUYER}).encode()
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"):
        assert ours.ask("/get-online-features", body, {"Content-Type": kind}).status == 200


def test_a_lost_embedded_server_is_taken_up_again(project: Project, ours: Site) -> None:
    assert server.stop(project)
    until(lambda: ours.ask("/health").status == 503, ours)
    answer = ours.features(feature_service="ten", entities=BUYER)
    assert (answer.status, answer.detail) == (503, "The online store does not answer; try again in a moment.")
    assert answer.headers["retry-after"] == "1"
    server.start(project)
    until(lambda: ours.ask("/health").status == 200, ours)
    assert columns(ours.features(feature_service="ten", entities=BUYER).json)["n1"]["values"] == [-1]


def test_the_schema_says_what_each_feature_service_needs(ours: Site) -> None:
    document = ours.ask("/openapi.json").json
    asked = {kind["title"]: kind["properties"] for kind in document["components"]["schemas"]["FeatureRequest"]["anyOf"]}
    assert set(asked) == {"ten", "wide", "types", "priced", "compared", "trying", "features by name"}
    assert asked["wide"]["entities"]["required"] == ["buyer", "shop_id"]
    assert asked["compared"]["entities"]["required"] == ["buyer", "friend"]
    assert asked["priced"]["entities"]["required"] == ["buyer", "items", "price"]
    assert asked["priced"]["entities"]["properties"]["price"]["items"] == {"type": ["number", "null"]}


def test_the_schema_is_true(project: Project, ours: Site, tmp_path: Path) -> None:
    with quiet():
        plain(project.root).delete_feature_service("trying")  # made-up prices would have it sleep for years
    until(lambda: b"trying" not in ours.ask("/openapi.json").body, ours)
    arguments = [str(BIN / "schemathesis"), "run", f"http://127.0.0.1:{ours.port}/openapi.json", "--no-color"]
    arguments += ["--max-examples", "50", "--seed", "1", "--checks", "all"]
    arguments += ["--exclude-checks", "positive_data_acceptance"]  # a schema cannot say that lists are of one length
    result = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "3 selected / 3 total" in result.stdout
    assert "Traceback" not in ours.said()
