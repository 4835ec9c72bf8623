"""Labels are not features: what may not be registered to be served, or be written to the online store.

Feast's views and services come in; nothing goes out but a `UserError` for a label view, or for a feature view whose
source lies under ``data/labels`` or ``data/gold``, by whatever name its path goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from feast import FeatureStore
from feast.labeling.label_view import LabelView

from weakfish.errors import UserError
from weakfish.project import Project

FOLDERS = ("labels", "gold")
"""Folders below ``data/`` that no feature view may read."""

PAST = "features of past labels come from known_labels() in transforms.py"


def refuse_registry(store: FeatureStore, root: Path) -> None:
    """Refuse a registry in which a service, a view or an on-demand view would hand labels out as features.

    Raises
    ------
    UserError
        Names the first of them, what it reads, and what to do.
    """
    labels = {str(view.name) for view in store.list_label_views()}
    for view in (*store.list_all_feature_views(), *store.list_label_views()):
        refuse_view(view, root, every_file=True)
        for source in getattr(view, "source_feature_view_projections", {}).values():
            if source.name in labels:
                raise UserError(
                    f"On-demand feature view {view.name!r} is computed from the label view {source.name!r}, and labels "
                    f"are no features; {PAST}."
                )
    for service in store.list_feature_services():
        for projection in service.feature_view_projections:
            if projection.name in labels:
                raise UserError(
                    f"Feature service {service.name!r} holds the label view {projection.name!r}, and labels are no "
                    "features; take it out of the service, training reads data/labels itself."
                )


def refuse_view(view: Any, folder: Path | None, *, every_file: bool = False) -> None:
    """Refuse a view that is to be served and holds labels; ``folder`` is the Feast repository or the project's root.

    ``every_file`` looks for links out of a source's folder too.

    Raises
    ------
    UserError
        When the view is a label view that is served online, or a feature view that reads labels.
    """
    if isinstance(view, LabelView):
        if view.online:
            raise UserError(
                f"Label view {view.name!r} is to be served online, and labels are no features; set online=False."
            )
        return
    if folder is None:
        return
    root = _root(Path(folder))
    for path in _paths(view):
        lies = _lies_under(path, root, Path(folder), every_file)
        if lies:
            raise UserError(
                f"Feature view {view.name!r} reads {path}, which holds what lies under data/{lies}, and labels are no "
                f"features; {PAST}."
            )


def refuse_rows(view: Any, folder: Path | None) -> None:
    """Refuse to write a view's rows to the online store: of any label view, and of a view that reads labels.

    Raises
    ------
    UserError
        As `refuse_view`, and for a label view of any kind.
    """
    if isinstance(view, LabelView):
        raise UserError(f"{view.name!r} holds labels, and labels are never served; read them offline.")
    refuse_view(view, folder)


def refuse_mixture(views: Iterable[Any]) -> None:
    """Refuse to join labels and features in one request: a label would stand there as if known at its own event.

    Raises
    ------
    UserError
        When some of the views are label views and some are not.
    """
    asked = list(views)
    labels = [view for view in asked if isinstance(view, LabelView)]
    if labels and len(labels) < len(asked):
        raise UserError(
            f"Labels ({labels[0].name}) and features are asked for in one request, and labels are no features; ask for "
            "them one after the other, or use data/training."
        )


def _root(folder: Path) -> Path:
    """The project's root; the folder itself where there is no project."""
    try:
        return Project.find(folder).root
    except UserError:
        return folder


def _paths(view: Any) -> Iterator[str]:
    """Where a view's sources are, those of views that it is derived from included."""
    for name in ("batch_source", "stream_source", "data_source", "source"):
        source = getattr(view, name, None)
        for one in (source, getattr(source, "batch_source", None)):
            path = getattr(one, "path", None)
            if isinstance(path, str) and path:
                yield path
    for derived in getattr(view, "source_views", None) or ():
        yield from _paths(derived)


def _lies_under(path: str, root: Path, folder: Path, every_file: bool) -> str | None:
    """Which of the folders a path reads from; links, ``..``, wildcards and folders above them are seen through."""
    parsed = urlparse(path)
    if parsed.scheme not in ("", "file"):
        return None
    plain = unquote(parsed.path) if parsed.scheme else path
    fixed = Path(re.split(r"[*?\[]", plain)[0] if re.search(r"[*?\[]", plain) else plain)
    for name in FOLDERS:
        forbidden = (root / "data" / name).resolve()
        for base in {folder, root, Path.cwd()}:  # Feast's engines differ in what a relative path starts from
            place = (base / fixed).resolve()
            if place.is_relative_to(forbidden) or forbidden.is_relative_to(place):
                return name
            if every_file and _leads_into(place, forbidden):
                return name
    return None


def _leads_into(place: Path, forbidden: Path) -> bool:
    """Whether a file or folder below ``place`` is a link into the forbidden folder."""
    if not place.is_dir():
        return False
    links = (file for file in place.rglob("*") if file.is_symlink())
    return any(link.resolve().is_relative_to(forbidden) for link in links)
