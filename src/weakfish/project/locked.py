"""The files that ``dvc.lock`` names, where DVC's cache holds them; read without DVC, whose index takes seconds."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from weakfish.project.stages import read_yaml


def locked_files(root: Path, folder: str) -> dict[str, Path]:
    """The files of a folder within an out, by name, as the project's ``dvc.lock`` has them and DVC's cache holds them.

    Nothing where there is no such out, or no cache.
    """
    wanted, stages = PurePosixPath(folder), read_yaml(root / "dvc.lock").get("stages") or {}
    outs = [out for stage in stages.values() for out in stage.get("outs") or ()]
    holding = [out for out in outs if wanted.is_relative_to(out["path"]) and str(out.get("md5", "")).endswith(".dir")]
    cache = cache_of(root) if holding else None
    if cache is None:
        return {}
    found: dict[str, Path] = {}
    for out in holding:
        try:
            listed = json.loads(cached(cache, out["md5"]).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        files = [(PurePosixPath(out["path"]) / each["relpath"], each["md5"]) for each in listed]
        found |= {path.name: cached(cache, md5) for path, md5 in files if path.parent == wanted}
    return found


def cached(cache: Path, md5: str) -> Path:
    """Where DVC's cache has, or would have, the file with an MD5."""
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def cache_of(root: Path) -> Path | None:
    """The folder of DVC's cache; None in no repository of DVC."""
    from dvc.config import Config

    home = next((each / ".dvc" for each in (root, *root.parents) if (each / ".dvc").is_dir()), None)
    return None if home is None else Path(Config(str(home))["cache"].get("dir") or home / "cache")
