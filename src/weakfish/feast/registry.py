"""Feast's registry, made anew from the definitions beside the old one; it replaces the old one when all is published.

It is derived: a registry that is missing, damaged or of another version of Feast needs no care.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from weakfish.feast.adapter import config_without_offline_store

from feast import FeatureStore, FeatureView
from feast.feast_object import FeastObject
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig, load_repo_config
from feast.repo_operations import get_repo_files
from feast.saved_dataset import SavedDataset

from weakfish.errors import StoreError, UserError, WeakfishError, reason
from weakfish.feast.definitions import refuse_registry
from weakfish.feast.probe import repository, settings, stamp_file
from weakfish.files import sha256, whole_file, write_json
from weakfish.project.paths import Project
from weakfish.project.runs import temporary_folder

KINDS = get_args(FeastObject)
"""All kinds of objects that Feast has. A kind missing here is dropped, and a dropped permission lets everyone in."""


@contextmanager
def new_registry(source: Project, project: Project) -> Iterator[FeatureStore]:
    """A Feast store on a registry of its own that holds just what the definitions say; gone after the block.

    Parameters
    ----------
    source
        The project whose definitions and settings are read.
    project
        The project beside whose registry the new one lies.

    Raises
    ------
    UserError
        When a definition cannot be imported, Feast does not accept it, or it hands labels out as features.
    """
    file: Path = settings(project)["registry_file"]
    part = file.with_name(f".{file.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    try:
        yield _applied(source, part)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def historical_store(project: Project) -> Iterator[FeatureStore]:
    """A Feast store that knows the project's definitions and has no online store; raises as `new_registry`."""
    with temporary_folder(project.temporary, "registry") as folder, quiet():
        yield _applied(project, folder / "registry.db", online=False)


def offline_config(project: Project) -> RepoConfig:
    """Feast's settings for reading history: those of the project, without an online store."""
    repo = repository(project)
    config = load_repo_config(repo, repo / "feature_store.yaml")
    return RepoConfig(
        project=config.project,
        provider=config.provider,
        registry=str(config.registry.path),
        offline_store=config.offline_config,
        online_store=None,
        entity_key_serialization_version=config.entity_key_serialization_version,
        repo_path=repo,
    )


def store_on(project: Project, registry: Path) -> FeatureStore:
    """The Feast store of `historical_store` in another process, on the registry that it made."""
    _import_from(project)  # for what functions of on-demand views import
    with quiet():
        config = offline_config(project)
        config.registry.path = str(registry)
        return FeatureStore(config=config)


def open_store(project: Project, *, online_only: bool = False) -> FeatureStore:
    """Feast on the registry that was published; raises `StoreError` when there is none that it can read.

    With ``online_only`` it has no offline store, which takes a second to import, and reads the registry once.
    """
    file: Path = settings(project)["registry_file"]
    if not file.exists():
        raise StoreError(f"{file} does not exist, so nothing was published yet; run `weakfish publish`.")
    try:
        if not file.stat().st_size:
            raise ValueError("it is empty")
        with quiet():
            if online_only:
                config = config_without_offline_store(repository(project))
                config.registry.path = str(file)
                config.registry.cache_ttl_seconds, config.registry.cache_mode = 0, "thread"  # it is never read again
                store = FeatureStore(config=config)
            else:
                store = FeatureStore(repo_path=str(repository(project)))
            store.registry.list_feature_views(store.project, allow_cache=online_only)
    except WeakfishError:
        raise
    except Exception as error:
        raise StoreError(
            f"{file} is no registry that Feast can read ({reason(error)}); run `weakfish publish`."
        ) from error
    return store


@contextmanager
def replaced(project: Project, store: FeatureStore, version: str) -> Iterator[None]:
    """Put a new registry in the place of the old one for a block, and the old one back if the block fails."""
    file: Path = settings(project)["registry_file"]
    try:
        old = file.read_bytes() if file.exists() else None
    except OSError as error:
        why = error.strerror or "it cannot be opened"
        raise StoreError(f"{file} cannot be replaced ({why}); move it away and run `weakfish publish`.") from error
    part = Path(store.config.registry.path)
    digest = sha256(part)
    part.replace(file)
    try:
        yield
    except BaseException:
        if old is None:
            file.unlink(missing_ok=True)
        else:
            with whole_file(file) as whole:
                whole.write_bytes(old)
        raise
    write_json(stamp_file(project), {"version": version, "sha256": digest})


def _applied(source: Project, registry: Path, *, online: bool = True) -> FeatureStore:
    """Feast on a new registry in a file, with all definitions of a project."""
    objects, repo = definitions(source), repository(source)
    with quiet():
        try:
            config = load_repo_config(repo, repo / "feature_store.yaml") if online else offline_config(source)
            config.registry.path = str(registry)
            store = FeatureStore(config=config)
            store.apply(objects)
            for dataset in (each for each in objects if isinstance(each, SavedDataset)):  # which `apply` leaves out
                store.registry.apply_saved_dataset(dataset, store.project)
            refuse_registry(store, source.root)
        except WeakfishError:
            raise
        except Exception as error:
            raise UserError(
                f"Feast does not accept feature_repo ({reason(error)}); correct definitions.py or feature_store.yaml "
                "there."
            ) from error
    return store


def definitions(project: Project) -> list[Any]:
    """All Feast objects in the modules that `feast apply` reads, those in subfolders included, each once."""
    _import_from(project)
    found: dict[int, Any] = {}
    for file in get_repo_files(repository(project)):
        for value in vars(_load(project, file)).values():
            if isinstance(value, KINDS):
                found[id(value)] = value
    if not any(isinstance(value, FeatureView | OnDemandFeatureView) for value in found.values()):
        raise UserError(f"No module in {repository(project)} defines a feature view; add one to definitions.py.")
    return list(found.values())


def views(store: FeatureStore) -> list[FeatureView]:
    """The views that are served online, by name."""
    found = [view for view in store.list_feature_views() if getattr(view, "online", False)]
    return sorted(found, key=lambda view: str(view.name))


def _import_from(project: Project) -> None:
    """Let definitions import the modules beside them, and not those of another project or revision."""
    root = str(project.root)
    if root in sys.path:
        sys.path.remove(root)
    sys.path.insert(0, root)
    for name in [name for name in sys.modules if name.split(".")[0] == "feature_repo"]:
        module = sys.modules[name]
        places = [*getattr(module, "__path__", ()), getattr(module, "__file__", None)]
        if not any(str(place).startswith(f"{root}{os.sep}") for place in places):
            del sys.modules[name]


def _load(project: Project, file: Path) -> ModuleType:
    """Run a module of the repository anew, whatever was imported before."""
    parts = file.relative_to(repository(project).resolve()).with_suffix("").parts
    spec = importlib.util.spec_from_file_location(".".join(("feature_repo", *parts)), file)
    if spec is None or spec.loader is None:
        raise UserError(f"{file} cannot be imported; correct it there.")
    module = importlib.util.module_from_spec(spec)
    try:
        with quiet():
            spec.loader.exec_module(module)
    except WeakfishError:
        raise
    except Exception as error:
        raise UserError(f"{file} cannot be imported: {reason(error)}; correct it there.") from error
    return module


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Feast's prints off stdout, where results go, and drop the warnings that say nothing about this project."""
    logging.getLogger("feast").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(sys.stderr if "--debug" in sys.argv else io.StringIO()):
        warnings.filterwarnings("ignore", message="On demand feature view is an experimental feature")
        warnings.filterwarnings("ignore", message="fetch_arrow_table", category=DeprecationWarning)
        yield
