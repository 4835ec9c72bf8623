"""What people edited between two versions: settings, code, decisions and pins; what changes no meaning is no edit."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from weakfish.diffing.python_forms import STATEMENTS, definitions
from weakfish.project.laid_out import ProjectVersion
from weakfish.project.stages import read_yaml

Area = Literal[
    "data",
    "source",
    "gold",
    "reviews",
    "functions",
    "labels",
    "features",
    "checks",
    "patches",
    "training",
    "publish",
    "evaluate",
    "pipeline",
    "dependencies",
    "engine",
]
"""What part of a project an edit is about; the order in which edits are told that move equally much."""

FOLDERS: Mapping[str, Area] = {
    "sources": "source",
    "labeling_functions": "functions",
    "feature_repo/transforms.py": "features",
    "feature_repo": "publish",
    "validation/patches": "patches",
    "validation": "checks",
    "reviews": "reviews",
    "src/weakfish": "engine",
}
"""Where a team's files lie; the first that fits."""

SETTINGS: Mapping[str, Area] = {
    **{"events": "source", "fetch": "source", "source": "source", "storage": "source", "gold": "gold"},
    **{"validation": "checks", "tasks": "functions", "label_models": "labels", "views": "features"},
    **{"features": "features", "feature_services": "training", "publish": "publish", "evaluate": "evaluate"},
    "meanings": "reviews",
}
"""What the sections of params.yaml are about."""

PINS = ("requirements.txt", "requirements.lock")
BASELINE = "validation/baseline.json"
GONE = "(none)"


@dataclass(frozen=True)
class Edit:
    """Something that somebody edited.

    Attributes
    ----------
    what
        A clause that a sentence begins with: "`is_large` was edited".
    path
        The file.
    names
        What was edited in it: definitions, settings or packages.
    """

    area: Area
    what: str
    path: str
    names: tuple[str, ...] = ()


def edits(old: ProjectVersion, new: ProjectVersion) -> tuple[list[Edit], list[str]]:
    """All edits in the order of their areas, and the files in which only comments, layout or local names changed."""
    found, idle = [*_settings(old, new), *_pins(old, new), *_pipeline(old, new)], list[str]()
    before, now = (_files(side.project.root) for side in (old, new))
    engine, answers = list[str](), dict[str, int]()
    kept = _kept(before, now)
    for path in sorted({*before, *now}):
        one, other = (files[path].read_bytes() if path in files else None for files in (before, now))
        if one == other or path == BASELINE:
            continue
        edit = _of_file(path, one, other, kept)
        if edit and edit.area == "engine":
            engine.append(path)
        elif edit and edit.area == "reviews":
            answers[path] = (other or b"").count(b"\n") - (one or b"").count(b"\n") if path.endswith(".jsonl") else 0
        elif edit:
            found.append(edit)
        else:
            idle.append(path)
    if engine:
        more = f" and {len(engine) - 1} more files" if engine[1:] else ""
        found.append(
            Edit("engine", f"the engine's own code was edited (`{engine[0]}`{more})", "src/weakfish", tuple(engine))
        )
    if answers:
        found.append(_of_reviews(answers))
    for name in ("params.yaml", "dvc.yaml"):
        texts = [(side.project.root / name).read_bytes() for side in (old, new)]
        if texts[0] != texts[1] and not any(edit.path == name for edit in found):
            idle.append(name)
    return found, idle


def _files(root: Path) -> dict[str, Path]:
    """The files of a team, by path."""
    found = {}
    for folder in dict.fromkeys(name.partition("/")[0] for name in FOLDERS if name != "src/weakfish"):
        for file in (root / folder).rglob("*"):
            path = file.relative_to(root)
            if file.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.parts):
                found[path.as_posix()] = file
    for file in (root / "src/weakfish").rglob("*.py"):
        found[file.relative_to(root).as_posix()] = file
    return found


def _of_reviews(answers: Mapping[str, int]) -> Edit:
    """What people answered, by the lines that each file has more."""
    first, number = next((path for path in answers if answers[path]), next(iter(answers))), sum(answers.values())
    did = (
        f"{abs(number):,} answers of reviewers {'came' if number > 0 else 'went'}"
        if number
        else "answers of reviewers changed"
    )
    more = f" and {len(answers) - 1} more files" if answers.keys() - {first} else ""
    return Edit("reviews", f"{did} in `{first}`{more}", "reviews", tuple(answers))


def _area(path: str) -> Area:
    return next(area for folder, area in FOLDERS.items() if path == folder or path.startswith(f"{folder}/"))


def _kept(before: Mapping[str, Path], now: Mapping[str, Path]) -> set[tuple[str, str]]:
    """What modules of labeling functions define, by name and form, before and now, be it in another module."""
    sides = [
        {
            one
            for path, file in files.items()
            if path.endswith(".py") and _area(path) == "functions"
            for one in _definitions(file.read_bytes()).items()
        }
        for files in (before, now)
    ]
    return sides[0] & sides[1]


def _definitions(text: bytes | None) -> dict[str, str]:
    return definitions((text or b"").decode("utf-8", "replace"))


def _of_file(path: str, old: bytes | None, new: bytes | None, kept: Collection[tuple[str, str]]) -> Edit | None:
    """The edit of a file; None where it changes no meaning.

    An import that comes or goes changes none by itself, nor does a definition that is ``kept`` in another.
    """
    area = _area(path)
    if path.endswith((".yaml", ".yml")) and old and new and _yaml(old) == _yaml(new):
        return None
    if path.endswith((".md", ".gitignore")):
        return None
    if not path.endswith(".py"):
        return Edit(area, f"{_code(path)} {_did(old is not None, new is not None)}", path)
    before, now = map(_definitions, (old, new))
    names = [
        name
        for name in dict.fromkeys([*now, *before])
        if before.get(name) != now.get(name)
        and not (name.startswith("import of ") and not (name in before and name in now))
        and not {(name, form) for side in (before, now) if (form := side.get(name))} & {*kept}
    ]
    defined = [name for name in names if name != STATEMENTS and not name.startswith("import of ")] or names
    if not names:
        return None
    parts = [f"{_code(name)} {_did(name in before, name in now)}" for name in defined[:3]]
    more = f" and {len(defined) - 3} more" if defined[3:] else ""
    return Edit(area, f"{_and(parts)}{more} in `{path}`", path, tuple(defined))


def _did(before: bool, now: bool) -> str:
    return "was edited" if before and now else "was added" if now else "was removed"


def _code(name: str) -> str:
    return f"the {name.strip('()')}" if name == STATEMENTS or name.startswith("import of ") else code(name)


def code(text: object) -> str:
    """A name, a key or a value as code in a sentence, on one line, whatever it holds."""
    shown = "".join(sign if sign.isprintable() else " " for sign in str(text).replace("`", "'"))
    return f"`{shown.strip() or ' '}`"


def _and(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def _yaml(text: bytes) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _settings(old: ProjectVersion, new: ProjectVersion) -> Iterator[Edit]:
    """The edits of params.yaml, one for each section of each task or so: settings that somebody sets together."""
    before, now = (dict(_flat(read_yaml(side.project.root / "params.yaml"))) for side in (old, new))
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys([*now, *before]):
        if before.get(name, GONE) != now.get(name, GONE):
            groups.setdefault(name.partition(".")[0], []).append(name)
    for section, names in groups.items():
        parts = [_setting(name, before.get(name, GONE), now.get(name, GONE)) for name in names[:2]]
        more = f" and {len(names) - 2} more settings changed" if names[2:] else ""
        yield Edit(SETTINGS.get(section, "pipeline"), f"{_and(parts)}{more}", "params.yaml", tuple(names))


def _setting(name: str, before: Any, now: Any) -> str:
    if before == GONE:
        return f"setting `{name}` was added ({_short(now)})"
    if now == GONE:
        return f"setting `{name}` was removed (it was {_short(before)})"
    return f"setting `{name}` went from {_short(before)} to {_short(now)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _flat(found: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(found, dict) and found:
        for key, value in found.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, found


def _pins(old: ProjectVersion, new: ProjectVersion) -> Iterator[Edit]:
    for file in PINS:
        before, now = (_pinned(side.project.root / file) for side in (old, new))
        names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        if names:
            parts = [f"`{name}` went from {before.get(name, 'none')} to {now.get(name, 'none')}" for name in names[:3]]
            more = f" and {len(names) - 3} more packages changed" if names[3:] else ""
            yield Edit("dependencies", f"{_and(parts)}{more} in `{file}`", file, tuple(names))


def _pinned(file: Path) -> dict[str, str]:
    """Packages and what is asked of each, by the lines of a file of requirements."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    stated = (line.partition(" #")[0].strip() for line in lines)
    parts = [re.split(r"\s*(?===|>=|<=|~=|@|<|>)", line, maxsplit=1) for line in stated if line and line[0] not in "#-"]
    return {name[0].lower(): (name[1] if name[1:] else "any").removeprefix("==") for name in parts}


def _pipeline(old: ProjectVersion, new: ProjectVersion) -> Iterator[Edit]:
    before, now = (read_yaml(side.project.root / "dvc.yaml").get("stages") or {} for side in (old, new))
    names = [name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name)]
    if names:
        parts = [f"stage `{name}` {_did(name in before, name in now)}" for name in names[:3]]
        yield Edit("pipeline", f"{_and(parts)} in dvc.yaml", "dvc.yaml", tuple(names))
