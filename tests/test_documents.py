"""The documents do not drift: every command and every block of code in them runs, every link leads somewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import machine
import pytest
from projects import REPOSITORY, command, weakfish

DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])


@pytest.fixture(scope="module")
def checkout(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo's clone as `make demo` leaves it: with an environment in `.venv`, which is this one."""
    root = Path(shutil.copytree(demo, tmp_path_factory.mktemp("checkout") / "weakfish", symlinks=True))
    (root / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    (root / ".venv/.ready").touch()
    for file in ("requirements.lock", "pyproject.toml"):
        os.utime(root / file, (0, 0))
    yield root
    weakfish(root, "online", "stop")


def blocks(language: str) -> list[tuple[str, str]]:
    """The blocks of code of one language in all documents, with the name of the document."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(file.name, block) for file in DOCUMENTS for block in pattern.findall(file.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("document", "script"), blocks("sh"))
def test_commands_run_as_written(checkout: Path, document: str, script: str) -> None:
    if re.search(r"\bcurl ", script):
        machine.program("curl")
    script = re.sub(r"^make test\b", "make --dry-run test", script, flags=re.MULTILINE)  # this is that run
    result = command(checkout, "bash", "-eu", "-c", script)
    assert result.returncode == 0, f"{document}: {result.stdout}{result.stderr}"
    assert "Installing" not in result.stdout


EACH = """
import json, sys, traceback
from pathlib import Path
codes, errors = (Path(name) for name in sys.argv[1:])
found = []
for code in json.loads(codes.read_text(encoding="utf-8")):
    try:
        exec(compile(code, "<document>", "exec"), {"__name__": "__main__"})
        found.append(None)
    except BaseException:
        found.append(traceback.format_exc())
errors.write_text(json.dumps(found), encoding="utf-8")
"""
"""Runs blocks of code, each with names of its own, and writes the traceback of each, null where it ran."""


@pytest.fixture(scope="module")
def errors(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str | None]:
    """The traceback of each block of Python, None where it ran; one process imports the libraries for all of them."""
    folder = tmp_path_factory.mktemp("code")
    codes, errors = folder / "codes.json", folder / "errors.json"
    codes.write_text(json.dumps([code for _, code in blocks("python")]), encoding="utf-8")
    result = command(checkout, "python", "-c", EACH, str(codes), str(errors))
    assert result.returncode == 0, result.stderr
    found: list[str | None] = json.loads(errors.read_text(encoding="utf-8"))
    assert len(found) == len(blocks("python"))
    return found


@pytest.mark.parametrize(("number", "document"), [*enumerate(name for name, _ in blocks("python"))])
def test_code_runs_as_written(errors: list[str | None], number: int, document: str) -> None:
    assert errors[number] is None, f"{document}: {errors[number]}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_readme_names_every_command_target_and_document() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for page in (REPOSITORY / "docs").glob("*.md"):
        assert f"docs/{page.name}" in readme
    targets = re.findall(r"`make (\w+)`", readme)
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_figures_on_label_quality_are_those_of_the_run(demo: Path) -> None:
    metrics = json.loads((demo / "reports/metrics.json").read_text())["tasks"]["spam"]
    models = metrics["models"]
    page = (REPOSITORY / "docs/labels.md").read_text(encoding="utf-8")
    names = {
        "majority vote": "majority_vote",
        "label model": "label_model",
        "text, weak labels": "text_weak",
        "text, gold labels": "text_gold",
        "features, weak labels": "features_weak",
        "features, gold labels": "features_gold",
        "text and features, weak labels": "both_weak",
        "text and features, gold labels": "both_gold",
    }
    for title, name in names.items():
        row = re.search(rf"^\| {title} \|([^\n]*)\|$", page, re.MULTILINE)
        assert row, title
        found = models[name]
        expected = [found[measure]["value"] for measure in ("accuracy", "accuracy_covered", "f1", "auc")]
        expected += [*found["auc"]["interval"], found["auc"]["minimum"]]
        expected += [found[measure]["value"] for measure in ("brier", "average_precision", "balanced_accuracy")]
        expected += [
            of["value"] for measure in ("f1", "brier") if (of := metrics["uncorrected"].get(name, {}).get(measure))
        ]
        quoted = [float(figure) for figure in re.findall(r"\d\.\d+", row[1])]
        assert quoted == pytest.approx(expected, abs=0.005)  # another processor may round another way
