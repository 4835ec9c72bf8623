"""An environment as a user has it: Weakfish from its wheel, and the libraries that it needs, away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from projects import REPOSITORY


@dataclass(frozen=True)
class Environment:
    """A virtual environment in the folder ``root``."""

    root: Path

    def run(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in ``folder``."""
        return subprocess.run(
            list(arguments), cwd=folder, env=self._variables(), capture_output=True, text=True, check=False
        )

    def start(self, folder: Path, *arguments: str) -> subprocess.Popen[str]:
        """Start a program of the environment in ``folder``; what it says is thrown away."""
        nowhere = subprocess.DEVNULL
        return subprocess.Popen(
            list(arguments), cwd=folder, env=self._variables(), text=True, stdout=nowhere, stderr=nowhere
        )

    def _variables(self) -> dict[str, str]:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return env | {"PATH": os.pathsep.join([str(self.root / "bin"), os.environ["PATH"]]), "COLUMNS": "100"}

    def must(self, folder: Path, *arguments: str) -> str:
        """Run a program that has to succeed; what it prints."""
        done = self.run(folder, *arguments)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout


def install(folder: Path) -> Environment:
    """Build the wheel from a copy of the sources and install it beside nothing but the pinned libraries.

    The libraries are those of this environment, named by a path file, whose own path files (and with them the checkout,
    which is installed in place) are not followed.
    """
    return _installed(folder, Path(sysconfig.get_path("purelib")))


def install_bare(folder: Path) -> Environment:
    """As `install`, with the libraries alone that ``pip install weakfish`` brings: those without any extra."""
    libraries = folder / "libraries"
    libraries.mkdir()
    for library in bare():
        for name in {file.parts[0] for file in library.files or ()} - {"..", "__pycache__"}:
            if not (libraries / name).exists():
                (libraries / name).symlink_to(Path(str(library.locate_file(name))))
    return _installed(folder, libraries)


def bare() -> list[Distribution]:
    """What ``pip install weakfish`` brings of this environment, beside Weakfish itself."""
    found: dict[str, Distribution] = {}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    left = [(requirement, "") for requirement in project["dependencies"]]
    seen = set()
    while left:
        text, extra = left.pop()
        requirement = Requirement(text)
        if (text, extra) in seen or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        seen.add((text, extra))
        found[requirement.name.lower()] = library = distribution(requirement.name)
        left += [(needed, extra) for needed in library.requires or () for extra in ("", *requirement.extras)]
    return list(found.values())


def _installed(folder: Path, libraries: Path) -> Environment:
    wheel = _wheel(folder)
    root = folder / "environment"
    venv.create(root, symlinks=True)
    environment = Environment(root)
    paths = {"base": str(root), "platbase": str(root)}
    site = Path(sysconfig.get_path("purelib", vars=paths))
    (site / "libraries.pth").write_text(f"{libraries}\n", encoding="utf-8")
    _pip("--python", str(root / "bin/python"), "install", "--no-deps", "--no-index", str(wheel))
    shutil.copy(Path(sys.executable).parent / "dvc", root / "bin/dvc")  # the libraries' own program, under this Python
    _name_interpreter(root / "bin/dvc", root / "bin/python")
    found = environment.must(folder, "python", "-c", "import weakfish; print(weakfish.__file__)").strip()
    assert Path(found).is_relative_to(site), found
    return environment


def _name_interpreter(program: Path, interpreter: Path) -> None:
    _, _, rest = program.read_text(encoding="utf-8").partition("\n")
    program.write_text(f"#!{interpreter}\n{rest}", encoding="utf-8")


def _wheel(folder: Path) -> Path:
    sources = folder / "sources"
    shutil.copytree(REPOSITORY / "src", sources / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, sources / name)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(sources))
    return next(folder.glob("weakfish-*.whl"))


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
