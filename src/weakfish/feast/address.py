"""Which Redis a project talks to: the one that the environment names, else the one that feature_store.yaml names.

``WEAKFISH_REDIS`` and its companions, or Feast's own ``connection_string``, ``redis_type`` and ``sentinel_master`` come
in; an `Address` goes out, or None where neither says anything and the project's embedded server is meant.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import redis

from weakfish.errors import UserError
from weakfish.feast.clients import VARIABLE, Address
from weakfish.project.paths import Project

FILE = "feature_store.yaml"
PORTS = {"server": 6379, "cluster": 6379, "sentinel": 26379}
FORMS = "host:port, host:port/database, cluster:host:port,host:port or sentinel:name@host:port,host:port"
NODE = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[\w.-]+))(?::(?P<port>\d{1,5}))?")
Kind = Literal["server", "cluster", "sentinel"]
KINDS: dict[str, Kind] = {"redis": "server", "redis_cluster": "cluster", "redis_sentinel": "sentinel"}
"""Feast's ``redis_type``."""
TAKEN = ("username", "password", "db", "ssl", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "sentinel_kwargs")
"""Feast's parameters that have a place of their own in an `Address`."""
OURS = ("host", "port", "retry", "decode_responses", "encoding", "connection_pool", "unix_socket_path")
"""Parameters of the client that are not for settings to change."""


def external() -> Address | None:
    """The Redis that ``WEAKFISH_REDIS`` and its companions name; None when it is unset or empty.

    Raises
    ------
    UserError
        When a variable cannot be used.
    """
    value, slash, db = os.environ.get(VARIABLE, "").strip().partition("/")
    if not value:
        return None
    kind: Kind = "server"
    primary, listed = None, value
    if not NODE.fullmatch(value):  # a server may well be called cluster, so this comes first
        match = re.fullmatch(r"(cluster|sentinel):(?:([\w.-]+)@)?(.+)", value)
        if match is None or (match[1] == "sentinel") != bool(match[2]):
            raise _malformed()
        kind = "cluster" if match[1] == "cluster" else "sentinel"
        primary, listed = match[2], match[3]
    nodes = [_node(text, kind) for text in listed.split(",")]
    if None in nodes or (slash and not re.fullmatch(r"\d{1,5}", db)):
        raise _malformed()
    return _address(kind, [node for node in nodes if node], int(db or 0), primary, {}, VARIABLE)


def configured(project: Project) -> Address | None:
    """The Redis that ``online_store`` in feature_store.yaml names in Feast's own form; None when it names none.

    Variables in it are filled in as Feast does. What the environment says of login and TLS goes before what stands
    there.

    Raises
    ------
    UserError
        When it cannot be used, or holds a password in plain text.
    """
    import yaml

    file = project.root / "feature_repo" / FILE
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        section = content.get("online_store") or {}
        text = section.get("connection_string") or ""
    except (OSError, yaml.YAMLError, AttributeError, UnicodeDecodeError):
        return None  # whoever reads the whole file says so
    for name, value in _parameters(str(text)).items():
        if "password" in f"{name} {value}".lower() and not re.search(r"\$\{?\w", value):
            raise UserError(
                f"online_store.connection_string in {file} holds a password; take it out and set {VARIABLE}_PASSWORD, "
                f"or {VARIABLE}_SENTINEL_PASSWORD."
            )
    return from_feast({**section, "connection_string": os.path.expandvars(str(text))})


def from_feast(section: Mapping[str, Any]) -> Address | None:
    """The Redis of Feast's settings ``connection_string``, ``redis_type`` and ``sentinel_master``; None without it.

    Raises
    ------
    UserError
        When they cannot be used.
    """
    text = str(section.get("connection_string") or "").strip()
    if not text:
        return None
    where = f"online_store.connection_string in {FILE}"
    if match := re.search(r"\$\{?(\w+)", text):
        raise UserError(f"{where} names the variable {match[1]}, which is not set; set it.")
    named = getattr(section.get("redis_type"), "value", section.get("redis_type")) or "redis"
    if named not in KINDS:
        raise UserError(f"online_store.redis_type in {FILE} is none of {', '.join(KINDS)}; correct it.")
    kind = KINDS[named]
    nodes = [_node(part.strip(), kind) for part in text.split(",") if "=" not in part]
    if not nodes or None in nodes or (kind == "server" and len(nodes) > 1):
        raise UserError(
            f"{where} is not of Feast's form host:port,name=value (more hosts with redis_type); correct it."
        )
    parameters = {name: _value(name, value) for name, value in _parameters(text).items()}
    db = parameters.get("db", 0)
    if not isinstance(db, int):
        raise UserError(f"{where} has a db that is no number; correct it.")
    primary = str(section.get("sentinel_master") or "mymaster") if kind == "sentinel" else None
    return _address(kind, [node for node in nodes if node], db, primary, parameters, where)


def _address(
    kind: Kind, nodes: Sequence[tuple[str, int]], db: int, primary: str | None, given: Mapping[str, Any], where: str
) -> Address:
    """An address from its parts and Feast's parameters, where the environment has nothing to say of them."""
    if kind == "cluster" and db:
        raise UserError(f"{where} names a database of a cluster, which has none but 0; leave the number out.")
    asked = given.get("sentinel_kwargs") or {}
    if not isinstance(asked, dict):
        raise UserError(f"{where} has sentinel_kwargs that are no JSON object; use {VARIABLE}_SENTINEL_PASSWORD.")
    tls = _tls("TLS", (given.get("ssl_ca_certs") or "") if given.get("ssl") else None)
    certificate = _file("TLS_CERT", given.get("ssl_certfile"))
    (host, port), *others = nodes
    return Address(
        host=host,
        port=port,
        user=_variable("USER") or given.get("username"),
        password=_variable("PASSWORD") or given.get("password"),
        tls=tls,
        db=db,
        kind=kind,
        others=tuple(others),
        primary=primary,
        certificate=certificate,
        key=_file("TLS_KEY", given.get("ssl_keyfile")) or certificate,
        sentinel_user=_variable("SENTINEL_USER") or asked.get("username"),
        sentinel_password=_variable("SENTINEL_PASSWORD") or asked.get("password"),
        sentinel_tls=_tls("SENTINEL_TLS", tls),
        more=_more(given, where),
    )


def _node(text: str, kind: Kind) -> tuple[str, int] | None:
    """Host and port of ``host:port``; None when it is none."""
    match = NODE.fullmatch(text)
    port = int(match["port"] or PORTS[kind]) if match else 0
    return (match["v6"] or match["name"], port) if match and 0 < port < 65536 else None


def _malformed() -> UserError:
    """Which does not repeat the value, since some write a password into it."""
    return UserError(
        f"{VARIABLE} is not of the form {FORMS}; user and password go into {VARIABLE}_USER and {VARIABLE}_PASSWORD."
    )


def _parameters(text: str) -> dict[str, str]:
    """The ``name=value`` parts of Feast's connection string, as they stand there."""
    parts = (part.partition("=") for part in text.split(",") if "=" in part)
    return {name.strip(): value.strip() for name, _, value in parts}


def _value(name: str, text: str) -> Any:
    """A parameter as Feast reads it: JSON where it is; but a login is text, whatever it looks like."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = {"true": True, "false": False}.get(text.lower(), text)
    return text if name in ("username", "password") and not isinstance(value, str) else value


def _more(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Parameters that go to the client as they are; raises `UserError` for one that it does not know."""
    more = {name: value for name, value in given.items() if name not in TAKEN}
    more.pop("skip_full_coverage_check", None)  # clients of today check just what they need
    unknown = sorted(name for name in more if name in OURS or name not in inspect.signature(redis.Redis).parameters)
    if unknown:
        raise UserError(f"{where} has the parameter {unknown[0]!r}, which cannot be set; take it out.")
    return more


def _variable(name: str) -> str | None:
    return os.environ.get(f"{VARIABLE}_{name}") or None


def _file(name: str, given: Any) -> str | None:
    path = _variable(name) or given
    if path and not Path(str(path)).is_file():
        raise UserError(f"{VARIABLE}_{name} names no file: {str(path)!r}; correct it.")
    return str(path) if path else None


def _tls(name: str, given: str | None) -> str | None:
    """None for no TLS, else the file of authorities; ``given`` where the variable is unset."""
    value = _variable(name)
    if value is None:
        return given
    if value.lower() in ("0", "no", "false", "off"):
        return None
    if value.lower() in ("1", "yes", "true", "on"):
        return given or ""
    if not Path(value).is_file():
        raise UserError(
            f"{VARIABLE}_{name} is neither 1 nor 0 nor a file of certificate authorities: {value!r}; correct it."
        )
    return value
