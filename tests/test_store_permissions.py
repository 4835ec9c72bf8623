"""All kinds of Feast's objects are published, and `weakfish serve` enforces permissions as `feast serve` does."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import redis
from cryptography.hazmat.primitives.asymmetric import rsa
from feast import FeatureStore
from feast.feast_object import ALL_RESOURCE_TYPES
from label_tables import label_table
from projects import REPOSITORY, replace, weakfish
from serving import Site, feast_serving, serving
from stores import AS_OF, COLUMNS, port, shop, table

from weakfish.errors import UserError
from weakfish.feast.publish import publish
from weakfish.project.paths import Project

READERS = """
from feast import FeatureService, FeatureView
from feast.permissions.action import AuthzedAction
from feast.permissions.permission import Permission
from feast.permissions.policy import RoleBasedPolicy

services = Permission(
    name="services", types=[FeatureService], name_patterns=["spam_v1"], actions=[AuthzedAction.READ_ONLINE],
    policy=RoleBasedPolicy(roles=["reader"]),
)
views = Permission(
    name="views", types=[FeatureView], name_patterns=["sender_.*"], actions=[AuthzedAction.READ_ONLINE],
    policy=RoleBasedPolicy(roles=["reader"]),
)
"""

EVERYTHING = """
from feast import Field, FileSource, Project, PushSource, RequestSource
from feast.batch_feature_view import BatchFeatureView
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.labeling.label_view import LabelView
from feast.on_demand_feature_view import on_demand_feature_view
from feast.permissions.permission import Permission
from feast.permissions.policy import RoleBasedPolicy
from feast.saved_dataset import SavedDataset
from feast.stream_feature_view import StreamFeatureView
from feast.types import Int64, String

rows = FileSource(name="rows", path=str(here.table("features") / "buyer_orders"), timestamp_field="event_timestamp")
schema = [Field(name="buyer", dtype=String), Field(name="orders_7d", dtype=Int64)]
project = Project(name="shop", description="of the team")
permission = Permission(name="everyone", policy=RoleBasedPolicy(roles=["reader"]))
batch = BatchFeatureView(name="batch", entities=[buyer], schema=schema, source=rows, online=False)
pushed = PushSource(name="pushed", batch_source=rows)
stream = StreamFeatureView(name="stream", entities=[buyer], schema=schema, source=pushed)
verdicts = LabelView(name="verdicts", entities=[buyer], schema=[Field(name="bad", dtype=Int64)], source=rows,
                     online=False)
basket = RequestSource(name="basket", schema=[Field(name="items", dtype=Int64)])
dataset = SavedDataset("dataset", ["buyer_orders:orders_7d"], ["buyer"], SavedDatasetFileStorage("dataset.parquet"))

@on_demand_feature_view(name="computed", sources=[basket], schema=[Field(name="twice", dtype=Int64)])
def computed(inputs):
    return inputs.assign(twice=2 * inputs["items"])
"""

PUBLISHED = {
    "Project": ("list_projects", "shop"),
    "FeatureView": ("list_feature_views", "buyer_orders"),
    "OnDemandFeatureView": ("list_on_demand_feature_views", "computed"),
    "BatchFeatureView": ("list_feature_views", "batch"),
    "StreamFeatureView": ("list_stream_feature_views", "stream"),
    "LabelView": ("list_label_views", "verdicts"),
    "Entity": ("list_entities", "buyer"),
    "FeatureService": ("list_feature_services", "fraud_v1"),
    "DataSource": ("list_data_sources", "pushed"),
    "SavedDataset": ("list_saved_datasets", "dataset"),
    "Permission": ("list_permissions", "everyone"),
}
"""How the registry lists each kind of object, and the name of one that `EVERYTHING` defines."""


@pytest.fixture(autouse=True)
def _named(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    server.flushall()
    monkeypatch.setenv("WEAKFISH_REDIS", f"127.0.0.1:{port(server)}")
    monkeypatch.delenv("WEAKFISH_SERVE_TOKEN", raising=False)


def define(project: Project, text: str, file: str = "definitions.py") -> None:
    """Add definitions to a module of the repository."""
    place = project.root / "feature_repo" / file
    place.parent.mkdir(exist_ok=True)
    place.write_text((place.read_text(encoding="utf-8") if place.exists() else "") + text, encoding="utf-8")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Stream feature views", "ignore:Batch feature views")
def test_every_kind_of_object_that_feast_has_is_published(tmp_path: Path) -> None:
    kinds = {kind.__name__ for kind in ALL_RESOURCE_TYPES}
    assert set(PUBLISHED) == kinds - {"ValidationReference"}, "Feast has another kind of object"
    project = shop(tmp_path / "shop")
    define(project, EVERYTHING)
    assert publish(project)
    registry = FeatureStore(repo_path=str(project.root / "feature_repo")).registry
    for kind, (method, name) in PUBLISHED.items():
        of = () if kind == "Project" else ("shop",)
        assert name in {one.name for one in getattr(registry, method)(*of)}, kind
    assert registry.get_project("shop").description == "of the team"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_object_that_feast_cannot_register_is_refused_and_not_dropped(tmp_path: Path) -> None:
    project = shop(tmp_path / "shop")
    text = (
        "from feast.saved_dataset import ValidationReference\nreference = ValidationReference('reference', 'dataset')\n"
    )
    define(project, text, "references.py")
    with pytest.raises(UserError, match=r"Feast does not accept feature_repo .*great_expectations.dataset"):
        publish(project)  # Feast writes it with a Great Expectations below 1


def test_modules_in_subfolders_are_published_as_feast_applies_them(tmp_path: Path) -> None:
    project = shop(tmp_path / "shop")
    publish(project)
    define(project, READERS, "security/permissions.py")
    assert publish(project), "a new module is a change"
    define(project, "raise RuntimeError\n", "drafts/half.py")
    define(project, "drafts\n", ".feastignore")
    assert publish(project), "what .feastignore names is not read"
    assert not publish(project)
    define(project, "security\n", ".feastignore")
    assert publish(project), "and decides what is published"
    assert not FeatureStore(repo_path=str(project.root / "feature_repo")).list_permissions()
    replace(project.root / "feature_repo/.feastignore", "security\n", "")
    assert publish(project)
    registry = FeatureStore(repo_path=str(project.root / "feature_repo")).registry
    assert {one.name for one in registry.list_permissions("shop")} == {"services", "views"}


@dataclass
class Issuer:
    """A server that says by which key its tokens are signed, and the tokens."""

    key: rsa.RSAPrivateKey
    address: str
    answers: threading.Event

    def token(
        self, name: str, *roles: str, key: rsa.RSAPrivateKey | None = None, ends: float = 600, kid: str = "one"
    ) -> dict[str, str]:
        claims = {"preferred_username": name, "resource_access": {"shop": {"roles": list(roles)}}, "sub": name}
        signed = jwt.encode({**claims, "exp": time.time() + ends}, key or self.key, "RS256", headers={"kid": kid})
        return {"Authorization": f"Bearer {signed}"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": "one", "use": "sig"}

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ends = {
                name: f"{found.address}/{name}" for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
            }
            if self.path == "/jwks_uri":
                found.answers.wait(60)
            body = json.dumps({"keys": [public]} if self.path == "/jwks_uri" else ends).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        found = Issuer(key, f"http://127.0.0.1:{server.server_address[1]}", threading.Event())
        found.answers.set()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


@pytest.fixture
def project(tmp_path: Path, issuer: Issuer) -> Project:
    """This repository's own definitions over small tables, which readers alone may read."""
    found = shop(tmp_path / "shop")
    for file in ("feature_repo/definitions.py", "feature_repo/feature_store.yaml", "params.yaml"):
        shutil.copy(REPOSITORY / file, found.root / file)
    label_table(found, "spam", ["m1", "m2"])
    shutil.rmtree(found.table("features"))
    for view, key in KEYS.items():
        table(found.root, view, key, ["one", "two"], [*COLUMNS, "last_seen_at"])
    auth = f"auth: {{type: oidc, auth_discovery_url: {issuer.address}/about, client_id: shop}}\n"
    define(found, auth, "feature_store.yaml")
    define(found, READERS, "permissions.py")
    assert publish(found)
    return found


KEYS = {"sender_activity": "sender_domain", "relay_activity": "relay_ip", "list_activity": "list_id"}
MESSAGE: dict[str, list[Any]] = {key: ["one"] for key in KEYS.values()}
MESSAGE |= {"n_links": [3], "n_images": [0], "n_recipients": [2], "size_bytes": [5000], "is_html": [True]}
MESSAGE |= {"has_attachment": [False], "content_type": ["text/html"], "charset": [None], "sent_at": [None]}
MESSAGE["received_at"] = [int(AS_OF.timestamp())]
SERVICE = {"feature_service": "spam_v1", "full_feature_names": True, "entities": MESSAGE}
ASKED = {
    "service": SERVICE,
    "view": {"features": ["sender_activity:orders_7d"], "entities": {"sender_domain": ["one"]}},
    "hidden": {"features": ["relay_activity:orders_7d"], "entities": {"relay_ip": ["one"]}},
    "both": {
        "features": ["sender_activity:orders_7d", "relay_activity:mean_30d"],
        "entities": {"sender_domain": ["one"], "relay_ip": ["one"]},
    },
    "computed": {"features": ["request_features:hour_of_day"], "entities": MESSAGE},
}


def statuses(site: Site, issuer: Issuer) -> dict[tuple[str, str], int]:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    shown = {
        "nobody": {},
        "no token": {"Authorization": "Bearer nonsense"},
        "forged": issuer.token("anna", "reader", key=stranger),
        "expired": issuer.token("anna", "reader", ends=-600),
        "intruder": issuer.token("eve", "writer"),
        "reader": issuer.token("anna", "reader"),
    }
    return {
        (who, what): site.ask("/get-online-features", body, headers).status
        for who, headers in shown.items()
        for what, body in ASKED.items()
    }


def test_an_intruder_is_refused_as_feast_serve_refuses_him(project: Project, issuer: Issuer) -> None:
    expected = {("reader", what): 200 if what in ("service", "view") else 403 for what in ASKED}
    expected |= {("intruder", what): 403 for what in ASKED}
    expected |= {(who, what): 401 for who in ("nobody", "no token", "forged", "expired") for what in ASKED}
    with feast_serving(project.root, "feature_repo") as theirs:
        assert statuses(theirs, issuer) == expected
    with serving(project) as ours:
        assert statuses(ours, issuer) == expected
        told = ours.ask("/get-online-features", SERVICE, issuer.token("eve", "writer")).detail
        assert "Permission services denied execution of ['READ_ONLINE'] to FeatureService:spam_v1" in told
        for path in ("/metrics", "/openapi.json"):
            assert ours.ask(path).status == 401
            assert ours.ask(path, headers=issuer.token("eve")).status == 200
        replace(project.root / "feature_repo/permissions.py", '["reader"]', '["writer"]')
        assert publish(project)
        deadline = time.monotonic() + 30
        while ours.ask("/get-online-features", SERVICE, issuer.token("anna", "reader")).status != 403:
            assert time.monotonic() < deadline, "permissions are those of the registry that is served"
            time.sleep(0.1)
        assert "eyJ" not in ours.said(), "tokens are not written down"


def test_an_issuer_that_hangs_does_not_keep_health(project: Project, issuer: Issuer) -> None:
    with serving(project) as site:
        refused: list[int] = []

        def ask() -> None:
            refused.append(site.ask("/metrics", headers=issuer.token("eve", kid="unknown")).status)

        asking = [threading.Thread(target=ask) for _ in range(3)]
        issuer.answers.clear()
        try:
            for client in asking:
                client.start()
            for _ in range(20):
                assert site.ask("/health").status == 200
            assert refused == []
            for client in asking:
                client.join()
        finally:
            issuer.answers.set()
        assert set(refused) <= {401, 503}
        assert site.ask("/metrics", headers={"Authorization": "Bearer nonsense"}).status == 401
        assert "A token could not be accepted: " in site.said()
        assert "Traceback" not in site.said()


@pytest.mark.parametrize(
    ("auth", "environment", "sentence"),
    [
        ("kubernetes", {}, "auth of type kubernetes in feature_store.yaml cannot be used"),
        ("oidc", {"WEAKFISH_SERVE_TOKEN": "a-token-of-sufficient-length"}, "a request has one Authorization header"),
    ],
)
def test_a_server_that_could_not_enforce_auth_does_not_begin(
    project: Project, auth: str, environment: dict[str, str], sentence: str
) -> None:
    replace(project.root / "feature_repo/feature_store.yaml", "type: oidc", f"type: {auth}")
    result = weakfish(project.root, "serve", "--port", "0", **environment)
    assert result.returncode == 3
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_permissions_that_nothing_enforces_are_told(tmp_path: Path) -> None:
    project = shop(tmp_path / "shop")
    define(project, READERS, "permissions.py")
    define(project, "auth: {type: no_auth}\n", "feature_store.yaml")
    publish(project)
    with serving(project, "--host", "0.0.0.0") as site:  # noqa: S104 - what it says of that is what is tested
        assert "Anyone who reaches 0.0.0.0" in site.said()
        assert site.features(features=["buyer_orders:orders_7d"], entities={"buyer": ["b1"]}).status == 200
        assert (
            "The registry has 2 permissions, but they are not enforced, since feature_store.yaml has no auth"
            in site.said()
        )
