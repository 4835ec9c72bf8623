"""``requirements.txt`` of a project: Weakfish from where it came, and all it stands on in the installed versions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from weakfish import __version__

WHEELS = "wheels"
WHOLE = "weakfish[pipeline]"
HEAD = """\
# Weakfish, and what it stands on in the versions that it was installed with; `weakfish upgrade` renews them.
"""


@dataclass(frozen=True)
class Requirements:
    """The text of the file, and the wheel of Weakfish that it names, to be copied into the project."""

    text: str
    wheel: Path | None = None

    def copy_wheel(self, root: Path) -> None:
        """Put the wheel into the project, in place of an earlier one; without a wheel, nothing."""
        if self.wheel is None:
            return
        folder = root / WHEELS
        folder.mkdir(exist_ok=True)
        for old in folder.glob("weakfish-*.whl"):
            if old.name != self.wheel.name:
                old.unlink()
        shutil.copyfile(self.wheel, folder / self.wheel.name)


def installed() -> Requirements:
    """What this environment holds of Weakfish's requirements."""
    weakfish = distribution("weakfish")
    line, wheel = _origin(json.loads(weakfish.read_text("direct_url.json") or "{}"))
    pins = [f"{name}=={version}\n" for name, version in sorted(_closure(weakfish).items())]
    return Requirements(HEAD + line + "".join(pins), wheel)


def _origin(url: dict[str, Any]) -> tuple[str, Path | None]:
    """The line that installs Weakfish from where it came (PEP 610), and the wheel that goes with it."""
    place = str(url.get("url", ""))
    if vcs := url.get("vcs_info"):
        return f"{WHOLE} @ {vcs['vcs']}+{place}@{vcs['commit_id']}\n", None
    file = Path(unquote(urlsplit(place).path))
    if place.startswith("file:") and file.suffix == ".whl" and file.is_file():
        return f"./{WHEELS}/{file.name}[pipeline]\n", file
    if "archive_info" in url and not place.startswith("file:"):
        return f"{WHOLE} @ {place}\n", None
    note = "# It was installed from files that are gone or were no wheel: this version has to be in your index.\n"
    return f"{note if place else ''}{WHOLE}=={__version__}\n", None


def _closure(weakfish: Distribution) -> dict[str, str]:
    """The installed distributions that Weakfish needs, by name; builds of one version (``+cpu``) are not told apart."""
    found: dict[str, str] = {}
    seen, waiting = set[tuple[str, str]](), list(_needs(weakfish, {"", "pipeline"}))
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            one = distribution(name)
        except PackageNotFoundError:  # of an extra that is not installed
            continue
        found[name] = Version(one.version).public
        waiting += _needs(one, {extra})
    return found


def _needs(one: Distribution, extras: set[str]) -> Iterator[tuple[str, str]]:
    for text in one.requires or ():
        needed = Requirement(text)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            for extra in ("", *needed.extras):
                yield canonicalize_name(needed.name), extra
