"""The door to Feast: a cheap import of it, and every name that Feast keeps private and Weakfish needs.

Modules that use Feast import this one before it (isort's settings in pyproject.toml order them so). pyproject.toml
also bounds Feast to the versions that these names were tried with; `tests/test_feast_adapter.py` notices when one goes.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from importlib.util import LazyLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

_importing = threading.Lock()


def import_feast() -> None:
    """Import Feast for a fifth of the CPU time; what was imported before is left alone.

    Feast checks the types of its classes' arguments with ``typeguard.typechecked``, which parses and compiles every
    decorated class anew (4 CPU seconds), and it imports torch wherever that is installed (2 seconds) for
    ``to_tensor`` alone. While Feast is imported, the decorator does nothing and torch is hidden; both are as before
    when this returns or raises, and ``to_tensor`` imports torch when somebody calls it. Feast's own servers, with the
    logins that they check, are read when somebody starts one.
    """
    with _importing:
        if "feast" in sys.modules:
            return
        with _unchecked(), _hidden("torch") as hidden, _postponed("feast.feature_server", "feast.ui_server"):
            importlib.import_module("feast")
        if hidden:
            _import_torch_on_demand()


@contextmanager
def _unchecked() -> Iterator[None]:
    import typeguard

    checked = typeguard.typechecked
    typeguard.typechecked = _unchanged
    try:
        yield
    finally:
        typeguard.typechecked = checked


def _unchanged(target: Any = None, **_: Any) -> Any:
    """The decorator ``typechecked``, with or without arguments, without its effect."""
    return _unchanged if target is None else target


@contextmanager
def _hidden(name: str) -> Iterator[bool]:
    """Make ``import name`` fail, unless it was imported before; tells whether it does."""
    hides = name not in sys.modules
    if hides:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield hides
    finally:
        if hides:
            del sys.modules[name]


@contextmanager
def _postponed(*names: str) -> Iterator[None]:
    """Run these modules when somebody first uses them; until then an import of them reads nothing."""

    class Finder(MetaPathFinder):
        def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
            spec = PathFinder.find_spec(name, path) if name in names else None
            if spec is not None and spec.loader is not None:
                spec.loader = LazyLoader(spec.loader)
            return spec

    finder = Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def _import_torch_on_demand() -> None:
    """Let Feast's ``get_torch``, which found none, look again when it is called."""
    from feast import torch_wrapper

    said_missing = torch_wrapper.get_torch

    def get_torch() -> Any:
        if not torch_wrapper.TORCH_AVAILABLE:
            torch_wrapper._import_torch()
        return said_missing()

    for name, module in list(sys.modules.items()):
        is_loaded = type(module) is ModuleType  # to look into one that is postponed would load it
        if is_loaded and name.startswith("feast.") and getattr(module, "get_torch", None) is said_missing:
            module.get_torch = get_torch  # type: ignore[attr-defined]


import_feast()

import numpy as np
import yaml
from feast import FeatureService, FeatureStore, RepoConfig, feature_server_utils, type_map, utils
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.value_type import ValueType

from weakfish.errors import StoreError

request_context = utils._get_online_request_context
"""What a request asks for, as Feast resolves it: nine things, of which `weakfish.feast.read_plan` names each."""

requested_views = utils._get_feature_views_to_use
"""The views, and the views computed on demand, whose permissions decide on a request that names features."""

table_entity_columns = utils._get_table_entity_values
"""The columns of a request that hold a view's join keys, under its aliases."""

prepared_entities = utils._prepare_entities_to_read_from_online_store
unique_entities = utils._get_unique_entities
entity_key_messages = utils._get_entity_key_protos
add_on_demand_features = utils._augment_response_with_on_demand_transforms
drop_columns = utils._drop_unneeded_columns
check_vectors = utils._validate_vector_field_lengths
"""Raises ``ValueError`` for vectors of another length than their view declares."""

feature_types = OnlineStore._build_feature_types
value_to_json = feature_server_utils._value_to_native
"""A ``Value`` as Feast's feature server writes it."""


ARRAYS = (list, tuple, set, frozenset, np.ndarray)
NESTED = (ValueType.VALUE_LIST, ValueType.VALUE_SET)
HOLD_NULLS = (ValueType.UNIX_TIMESTAMP_LIST, ValueType.UNIX_TIMESTAMP_SET, ValueType.JSON_LIST)
"""Types of arrays whose nulls come back as nulls."""

_converted = type_map._python_value_to_proto_value


def convert_values(kind: ValueType, values: Any) -> Any:
    """Values as Feast's messages, where none of them would come back as another.

    Feast stores 0, '' or False for a null inside an array, and null for an empty array inside an array. NaN is null in
    an array of numbers, as it is everywhere in Feast.

    Raises
    ------
    StoreError
        When an array holds such a thing.
    """
    if kind in NESTED or (kind.name.endswith(("_LIST", "_SET")) and kind not in HOLD_NULLS):
        for value in values:
            if lost := _lost(value, kind in NESTED) if isinstance(value, ARRAYS) else "":
                raise StoreError(
                    f"{lost} inside an array has no value of Feast's type {kind.name} and would come back as another; "
                    "remove or replace it."
                )
    return _converted(kind, values)


type_map._python_value_to_proto_value = convert_values


def _lost(array: Any, has_arrays: bool, is_inner: bool = False) -> str:
    """What Feast would change of an array; empty where nothing."""
    if has_arrays:
        inner = [one for one in array if isinstance(one, ARRAYS)]
        if any(len(one) == 0 for one in inner):
            return "An empty array"
        found = (_lost(one, any(isinstance(each, ARRAYS) for each in one), is_inner=True) for one in inner)
        return next(filter(None, found), "")
    if isinstance(array, np.ndarray) and array.dtype != object:  # whole numbers beside a null come as floats
        return "A null" if is_inner and array.dtype.kind == "f" and np.isnan(array).any() else ""
    return "A null" if any(one is None for one in array) else ""


def online_store(store: FeatureStore) -> OnlineStore:
    """The online store that a feature store reads from and writes to."""
    return store._get_provider().online_store


def config_without_offline_store(repository: Path) -> RepoConfig:
    """What feature_store.yaml says, but for the offline store: Feast checks only settings that are a dictionary."""
    text = (repository / "feature_store.yaml").read_text(encoding="utf-8")
    config = RepoConfig(**{**yaml.safe_load(os.path.expandvars(text)), "offline_store": "unused"})
    config.repo_path = repository
    return config


def has_unresolved_features(service: FeatureService) -> bool:
    """Whether a service was made from references that Feast resolves when it is applied."""
    return bool(getattr(service, "_pending_feature_refs", None))


def registry_check(registry: Any) -> Callable[[str], Any] | None:
    """What makes a registry read its file or database again if its time is up; None for a registry without cache."""
    look = getattr(registry, "_get_registry_proto", None)
    if look is not None:  # a registry in a file
        return lambda project: look(project=project, allow_cache=True)
    refresh = getattr(registry, "_refresh_cached_registry_if_necessary", None)
    return None if refresh is None else lambda _: refresh()


def registry_file(registry: Any) -> Path | None:
    """The local file that a registry is kept in, if it is."""
    file = getattr(registry, "_file_path", None)
    return file if isinstance(file, Path) else None


def connect_in_utc(store: ModuleType) -> None:
    """Let Feast's DuckDB store, a module, connect in UTC, the zone of the times that its monitoring compares with."""
    library = store.duckdb

    def connect(*arguments: Any, **named: Any) -> Any:
        connection = library.connect(*arguments, **named)
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        return connection

    store.duckdb = SimpleNamespace(connect=connect)  # type: ignore[attr-defined]


def counts_reads() -> bool:
    """Whether `feast serve`, which imports Feast's metrics, has switched on those of online reads."""
    metrics = sys.modules.get("feast.metrics")
    config = getattr(metrics, "_config", None)  # another thread may be importing the module just now
    return config is not None and bool(config.online_features)


class RedisStore(RedisOnlineStore):
    """Feast's store on Redis; `client` says which connections it uses."""

    @abstractmethod
    def client(self, config: Any) -> Any:
        """A client, given the settings below ``online_store``."""

    def _get_client(self, online_store_config: Any) -> Any:
        return self.client(online_store_config)


def plain_store(client: Any) -> RedisOnlineStore:
    """Feast's own online store on a client of ours: its own way to connect knows one server, in plain text."""
    store = RedisOnlineStore()
    store._client = client
    return store


class ComputeEngine(LocalComputeEngine):
    """Feast's local engine; `materialize_one` is what it does for each view."""

    def materialize_one(self, registry: Any, task: Any, **options: Any) -> LocalMaterializationJob:
        """Materialize a view the way that Feast does."""
        return super()._materialize_one(registry, task, **options)

    @property
    def backend(self) -> Any:
        """What transformed views are computed with; None for Feast's choice."""
        return self._backend

    def _materialize_one(self, registry: Any, task: Any, **kwargs: Any) -> LocalMaterializationJob:
        return self.materialize_one(registry, task, **kwargs)
