"""The stages of ``dvc.yaml`` by name: one for each item of a ``foreach``, which DVC names ``<stage>@<item>``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from weakfish.errors import UnknownName

FILE = "dvc.yaml"

UNDER_RUN = "WEAKFISH_RUN"
"""Set for stages under `weakfish run`, which looks for errors of configuration and prints the summary itself."""

QUIET = "WEAKFISH_QUIET"
"""Set by `weakfish --quiet`, for the stages that it starts too: no progress, no summary."""

VERBOSE = "WEAKFISH_VERBOSE"
"""Set by `weakfish --verbose`, likewise: libraries log, and DVC says more."""


def stage_of(verb: str, table: str) -> str:
    """The stage in which a verb works on a table: ``validate_events``, ``gate_labels@fraud``."""
    kind, _, name = table.partition("/")
    return f"{verb}_{kind}@{name}" if name else f"{verb}_{kind}"


def gates(tables: Iterable[str]) -> dict[str, str]:
    """The table behind each stage that is a gate."""
    return {"accept": "events"} | {stage_of("gate", table): table for table in tables}


def stages_of(root: Path) -> dict[str, str | None]:
    """What each stage says of itself (its ``desc``), in the order of the file; nothing of a file that is malformed."""
    pipeline, params = (read_yaml(root / name) for name in (FILE, "params.yaml"))
    stages = pipeline.get("stages")
    found: dict[str, str | None] = {}
    for name, stage in stages.items() if isinstance(stages, dict) else ():
        if isinstance(stage, dict) and "foreach" in stage:
            description = _description(stage.get("do"))
            for item in _items(stage["foreach"], params):
                found[f"{name}@{item}"] = description and re.sub(r"\$\{(key|item)\}", item, description)
        else:
            found[str(name)] = _description(stage)
    return found


def named_stage(root: Path, name: str) -> str:
    """The stage, or all of a ``foreach``, that a name means; names of version 0.1 mean those that they became.

    Raises
    ------
    UnknownName
        When it means none of them, or several.
    """
    known = list(stages_of(root))
    if not known or name in known or any(stage.startswith(f"{name}@") for stage in known):
        return name  # of a malformed file DVC says what is wrong
    if (whole := name.partition("@")[0]) in known:
        return whole
    became = [stage for stage in known if re.sub(r"[@/]", "_", stage) == name]
    if len(became) != 1:
        raise UnknownName("stage", name, known, FILE)
    return became[0]


def _description(stage: Any) -> str | None:
    found = stage.get("desc") if isinstance(stage, dict) else None
    return found if isinstance(found, str) else None


def _items(given: Any, params: Mapping[str, Any]) -> Iterator[str]:
    """The names of a ``foreach``: the keys of a mapping, the items of a list; ``${a.b}`` stands for a setting."""
    if isinstance(given, str):
        found: Any = params
        for part in given.strip().removeprefix("${").removesuffix("}").split("."):
            found = found.get(part) if isinstance(found, dict) else None
        given = found
    for item in given if isinstance(given, list | dict) else ():
        yield str(item)


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; nothing where it is missing or malformed."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
