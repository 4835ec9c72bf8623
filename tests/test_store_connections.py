"""Which Redis is asked: by environment or feature_store.yaml, over TLS, with a login, in a numbered database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from listening import free_port
from projects import contents, replace
from servers import (
    Certificates,
    Server,
    assert_written_read_and_torn_down,
    certificates,
    opened,
    read_shop,
    server,
    write_shop,
)
from stores import shop

from weakfish.errors import StoreError, UserError
from weakfish.feast import layout as keys
from weakfish.feast.clients import Address, configured, explained, external, from_feast
from weakfish.feast.server import named, resolve
from weakfish.project.paths import Project

REDIS = "WEAKFISH_REDIS"
RIGHTS = next(
    line.split("weakfish on >PASSWORD ")[1].split()
    for line in (Path(__file__).parent.parent / "docs/store.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("ACL SETUSER")
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("redis"), "--save", "") as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def two(tmp_path: Path) -> tuple[Project, Project]:
    """Projects whose names end alike."""
    return shop(tmp_path / "one"), shop(tmp_path / "other", "workshop")


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Sets variables; none of ours is set before."""
    for name in ("", "_USER", "_PASSWORD", "_TLS", "_TLS_CERT", "_TLS_KEY", "_SENTINEL_USER", "_SENTINEL_PASSWORD"):
        monkeypatch.delenv(f"{REDIS}{name}", raising=False)
    monkeypatch.delenv(f"{REDIS}_SENTINEL_TLS", raising=False)
    return monkeypatch


def online_store(project: Project, **settings: object) -> None:
    """Set what feature_store.yaml says of the online store."""
    file = project.root / "feature_repo/feature_store.yaml"
    content = yaml.safe_load(file.read_text())
    content["online_store"] |= settings
    file.write_text(yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("h", Address("h", 6379)),
        ("h:1", Address("h", 1)),
        ("h:1/0", Address("h", 1)),
        ("h/15", Address("h", 6379, db=15)),
        ("[::1]:7000/2", Address("::1", 7000, db=2)),
        ("cluster:7000", Address("cluster", 7000)),
        ("sentinel:7000/1", Address("sentinel", 7000, db=1)),
        ("cluster:a:1", Address("a", 1, kind="cluster")),
        ("cluster:a,b:2,[::1]:3", Address("a", 6379, kind="cluster", others=(("b", 2), ("::1", 3)))),
        ("sentinel:weak@a", Address("a", 26379, kind="sentinel", primary="weak")),
        ("sentinel:my-m.1@a:1,b/3", Address("a", 1, kind="sentinel", others=(("b", 26379),), primary="my-m.1", db=3)),
    ],
)
def test_a_server_a_cluster_and_sentinels_are_named_in_one_variable(
    value: str, expected: Address, setting: pytest.MonkeyPatch
) -> None:
    setting.setenv(REDIS, value)
    assert external() == expected
    setting.setenv(REDIS, str(expected))
    assert external() == expected, "an address prints as it is named"


@pytest.mark.parametrize(
    "value",
    ["redis://h:1", "h:p", "h:70000", "h:0", "user@h:1", "a b:1", "h:6379:1", "h:1/", "h:1/x", "h:1/-1", "a:1,b:2",
     "cluster:/", "cluster:a:1,", "cluster:user@a:1", "sentinel:a:1,b:2", "sentinel:weak@", "sentinel:@a:1", "h/1/2",
     "cluster:a b", "sentinel:we@ak@a"],
)  # fmt: skip
def test_a_malformed_address_is_refused_without_repeating_it(value: str, setting: pytest.MonkeyPatch) -> None:
    setting.setenv(REDIS, value)
    with pytest.raises(UserError, match="WEAKFISH_REDIS is not of the form host:port") as error:
        external()
    assert value not in str(error.value)


def test_a_cluster_has_no_numbered_databases(setting: pytest.MonkeyPatch) -> None:
    setting.setenv(REDIS, "cluster:a:1,b:2/3")
    with pytest.raises(UserError, match="WEAKFISH_REDIS names a database of a cluster, which has none but 0"):
        external()
    setting.setenv(REDIS, "cluster:a:1,b:2/0")
    assert str(external()) == "cluster:a:1,b:2"


def test_secrets_are_in_no_text_of_an_address(setting: pytest.MonkeyPatch) -> None:
    setting.setenv(REDIS, "sentinel:weak@h:1")
    setting.setenv(f"{REDIS}_PASSWORD", "s3cret-one")
    setting.setenv(f"{REDIS}_SENTINEL_PASSWORD", "s3cret-two")
    found = external()
    assert found is not None
    assert (found.password, found.sentinel_password) == ("s3cret-one", "s3cret-two")
    assert "s3cret" not in f"{found} {found!r} {found.client()!r} {found.client().connection_pool!r}"


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, None),
        ({"connection_string": "h:1"}, Address("h", 1)),
        ({"connection_string": "h:1,db=2,username=u,password=007"}, Address("h", 1, "u", "007", db=2)),
        ({"connection_string": "h:1,ssl=true"}, Address("h", 1, tls="", sentinel_tls="")),
        ({"connection_string": "h:1,socket_timeout=2.5"}, Address("h", 1, more={"socket_timeout": 2.5})),
        (
            {"connection_string": "a:1,b:2,skip_full_coverage_check=true", "redis_type": "redis_cluster"},
            Address("a", 1, kind="cluster", others=(("b", 2),)),
        ),
        (
            {"connection_string": "a:1,db=1,password=x", "redis_type": "redis_sentinel"},
            Address("a", 1, password="x", kind="sentinel", primary="mymaster", db=1),
        ),
        (
            {
                "connection_string": 'a:1,sentinel_kwargs={"password":"x"}',
                "redis_type": "redis_sentinel",
                "sentinel_master": "weak",
            },
            Address("a", 1, kind="sentinel", primary="weak", sentinel_password="x"),
        ),
    ],
)
def test_the_settings_of_feasts_own_store_are_understood(
    section: dict[str, str], expected: Address | None, setting: pytest.MonkeyPatch
) -> None:
    assert from_feast(section) == expected


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"connection_string": "redis://h:1"}, "is not of Feast's form host:port,name=value"),
        ({"connection_string": "a:1,b:2"}, r"is not of Feast's form .*more hosts with redis_type"),
        ({"connection_string": "ssl=true"}, "is not of Feast's form"),
        ({"connection_string": "${NOWHERE_SET}:1"}, "names the variable NOWHERE_SET, which is not set"),
        ({"connection_string": "h:1", "redis_type": "redis_ring"}, "redis_type .* is none of redis, redis_cluster"),
        ({"connection_string": "h:1,colour=red"}, "has the parameter 'colour', which cannot be set"),
        ({"connection_string": "h:1,decode_responses=true"}, "has the parameter 'decode_responses'"),
        ({"connection_string": "h:1,db=first"}, "has a db that is not a number"),
        ({"connection_string": "a:1,db=1", "redis_type": "redis_cluster"}, "names a database of a cluster"),
        ({"connection_string": "h:1,ssl_certfile=/no/such.pem"}, "names no file: '/no/such.pem'"),
    ],
)
def test_settings_that_cannot_be_used_are_one_sentence(
    section: dict[str, str], sentence: str, setting: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=sentence):
        from_feast(section)


def test_the_environment_goes_before_the_file_and_the_file_before_the_embedded_server(
    two: tuple[Project, Project], setting: pytest.MonkeyPatch
) -> None:
    one, _ = two
    assert named(one) is None
    setting.setenv("SOME_HOST", "file.example")
    online_store(one, connection_string="${SOME_HOST}:1,db=3,username=reader")
    assert named(one) == Address("file.example", 1, "reader", db=3)
    setting.setenv(f"{REDIS}_USER", "other")
    setting.setenv(f"{REDIS}_PASSWORD", "s3cret")
    assert named(one) == Address("file.example", 1, "other", "s3cret", db=3)
    setting.setenv(REDIS, "env.example:2")
    assert named(one) == Address("env.example", 2, "other", "s3cret")


def test_a_password_in_the_file_is_refused_and_not_repeated(
    two: tuple[Project, Project], setting: pytest.MonkeyPatch
) -> None:
    one, _ = two
    setting.setenv("ITS_PASSWORD", "from-outside")
    online_store(one, connection_string="h:1,password=${ITS_PASSWORD}")
    found = configured(one)
    assert found is not None
    assert found.password == "from-outside"
    for text in ("h:1,password=pl4in", 'h:1,sentinel_kwargs={"password":"pl4in"}'):
        online_store(one, connection_string=text)
        with pytest.raises(UserError, match=r"feature_store\.yaml holds a password; take it out") as error:
            resolve(one)
        assert "pl4in" not in str(error.value)


def test_a_store_named_in_the_file_is_written_read_and_torn_down(
    two: tuple[Project, Project], plain: Server, setting: pytest.MonkeyPatch
) -> None:
    for project in two:
        online_store(project, connection_string=f"127.0.0.1:{plain.port},db=4")
    assert_written_read_and_torn_down(*two)
    assert not (two[0].data / "online").exists(), "no embedded server was started"


def test_a_database_number_keeps_to_its_database(
    two: tuple[Project, Project], plain: Server, setting: pytest.MonkeyPatch
) -> None:
    setting.setenv(REDIS, f"127.0.0.1:{plain.port}/2")
    store = opened(two[0])
    write_shop(store, "s", 7)
    with contextlib.closing(plain.client()) as zero, contextlib.closing(plain.client(db=2)) as second:
        assert (zero.dbsize(), second.dbsize()) == (0, 1)
        setting.setenv(REDIS, f"127.0.0.1:{plain.port}/99")
        with pytest.raises(StoreError, match="has no database 99; correct the number after the slash"):
            _ping()
    setting.setenv(REDIS, f"127.0.0.1:{plain.port}/2")
    assert_written_read_and_torn_down(*two)


def test_tls_with_a_client_certificate_is_spoken(
    two: tuple[Project, Project], files: Certificates, tmp_path: Path, setting: pytest.MonkeyPatch
) -> None:
    with server(tmp_path / "redis", "--save", "", tls=files) as found:
        setting.setenv(REDIS, f"localhost:{found.port}")
        with pytest.raises(StoreError):
            _ping()
        setting.setenv(f"{REDIS}_TLS", "1")
        with pytest.raises(StoreError, match="certificate"):
            _ping()
        setting.setenv(f"{REDIS}_TLS", str(files.authority))
        with pytest.raises(StoreError, match="does not answer"):
            _ping()  # the server wants to know who asks
        setting.setenv(f"{REDIS}_TLS_CERT", str(files.client))
        setting.setenv(f"{REDIS}_TLS_KEY", str(files.key))
        assert _ping()
        assert_written_read_and_torn_down(*two)


def test_a_user_with_the_documented_rights_alone_writes_reads_and_tears_down(
    two: tuple[Project, Project], plain: Server, setting: pytest.MonkeyPatch
) -> None:
    secret = "s3cr3t-Pa55,word=1"
    with contextlib.closing(plain.client()) as admin:
        admin.execute_command("ACL", "SETUSER", "weakfish", "reset", "on", f">{secret}", *RIGHTS)
    setting.setenv(REDIS, f"127.0.0.1:{plain.port}")
    setting.setenv(f"{REDIS}_USER", "weakfish")
    setting.setenv(f"{REDIS}_PASSWORD", secret + "x")
    with pytest.raises(StoreError, match="refuses the login") as error:
        _ping()
    assert secret not in str(error.value)
    setting.setenv(f"{REDIS}_PASSWORD", secret)
    assert_written_read_and_torn_down(*two)
    for project in two:
        assert all(secret.encode() not in content for content in contents(project.root).values())


def test_removing_a_view_takes_its_own_fields_alone(
    two: tuple[Project, Project], plain: Server, setting: pytest.MonkeyPatch
) -> None:
    setting.setenv(REDIS, f"127.0.0.1:{plain.port}/5")
    one, other = two
    for project in two:
        replace(
            project.root / "feature_repo/definitions.py",
            'name="buyer_refunds", entities=[buyer]',
            'name="shop_refunds", entities=[shop]',
        )
    ours, theirs = opened(one), opened(other)
    for store in (ours, theirs):
        write_shop(store, "s", 1)
    with contextlib.closing(plain.client(db=5)) as client:
        key = next(found for found in keys.of_project(client, "shop"))
        beside = set(keys.fields("shop_refunds", ["orders_7d"]))
        client.hset(key, mapping=dict.fromkeys(beside, b"kept"))
        client.hset(key, keys.created_field("shop_orders"), b"x" * 16)
        view = ours.get_feature_view("shop_orders")
        ours._get_provider().online_store.update(ours.config, [view], [], [], [], False)
        assert set(client.hkeys(key)) == beside, "a view of the same entity stays"
        assert read_shop(theirs, "s") == 1
        client.flushdb()


def test_a_server_of_another_kind_than_named_is_told(plain: Server, setting: pytest.MonkeyPatch) -> None:
    setting.setenv(REDIS, f"cluster:127.0.0.1:{plain.port}")
    with pytest.raises(StoreError, match="is no cluster; leave out cluster: in WEAKFISH_REDIS"):
        _ping()
    setting.setenv(REDIS, f"cluster:127.0.0.1:{free_port()}")
    with pytest.raises(StoreError, match="does not answer; start it, or correct WEAKFISH_REDIS"):
        _ping()
    setting.setenv(REDIS, f"sentinel:weak@127.0.0.1:{free_port()}")
    with pytest.raises(StoreError, match="has no primary: its Sentinels do not answer, do not know weak"):
        _ping()


def _ping() -> bool:
    address = external()
    assert address is not None
    with explained(address), contextlib.closing(address.client()) as client:
        return bool(client.ping())


def test_reading_names_what_is_wrong(two: tuple[Project, Project], plain: Server, setting: pytest.MonkeyPatch) -> None:
    setting.setenv(REDIS, f"127.0.0.1:{plain.port}/6")
    store = opened(two[0])
    assert read_shop(store, "s") is None
    setting.setenv(REDIS, f"127.0.0.1:{free_port()}")
    address = external()
    assert address is not None
    again = opened(two[0])
    with pytest.raises(StoreError, match="does not answer"), explained(address):
        read_shop(again, "s")
    assert read_shop(store, "s") is None, "a store that is open keeps its server"
