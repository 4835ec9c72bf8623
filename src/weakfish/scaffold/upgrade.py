"""A project brought to the installed version.

Each file as it was generated, as the team left it and as it is generated now are merged like three versions in git:
what the team wrote stays, what Weakfish changed arrives. A project of version 0.1 had the stages of each task and view
in ``dvc.yaml``, label models inside of tasks, and hashes of the generated texts instead of the texts: its files are
first brought to today's names and shapes.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir

import click

from weakfish import __version__
from weakfish.contracts.ledgers import read_runs, run_file, write_run
from weakfish.errors import CheckFailed, UnknownName, UserError
from weakfish.project.paths import Project
from weakfish.project.runs import lock_file, locked, require_no_dvc, temporary_folder
from weakfish.project.stages import named_stage, stages_of
from weakfish.scaffold.asking import on_terminal
from weakfish.scaffold.literals import yaml_value
from weakfish.scaffold.proposal import Host
from weakfish.scaffold.render import render
from weakfish.scaffold.write import (
    BASE,
    FILE,
    ProjectRecord,
    installed,
    put,
    read_base,
    read_record,
    write_base,
    write_record,
)

PIPELINE, PARAMS = "dvc.yaml", "params.yaml"
CODE = ("feature_repo", "labeling_functions", "sources", "tests", "validation")
REQUIREMENTS = "requirements.txt"
BASELINE = "validation/baseline.json"  # written by `weakfish accept-baseline`, so there is nothing to merge
MARK = "<<<<<<< yours\n"


@dataclass(frozen=True)
class FileChange:
    """What becomes of a file: its text before and after, None where there is none; ``note`` says what to look at.

    ``open`` says that somebody has to finish it by hand.
    """

    path: str
    old: str | None
    new: str | None
    note: str = ""
    open: bool = False

    @property
    def diff(self) -> str:
        """The change as a unified diff, as `git apply` takes it."""
        old, new = (text.splitlines(keepends=True) if text else [] for text in (self.old, self.new))
        before = "/dev/null" if self.old is None else f"a/{self.path}"
        after = "/dev/null" if self.new is None else f"b/{self.path}"
        lines = difflib.unified_diff(old, new, before, after)
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def upgrade(project: Project, *, only_diff: bool, yes: bool, take: Sequence[str] = (), ci: Host | None = None) -> None:
    """Show what differs, and bring it to this version.

    ``take`` are files in which this version's lines win where the team changed the same ones. With ``ci`` the project
    gets the workflow that comments on changes there.

    Raises
    ------
    CheckFailed
        When some of it has to be finished by hand: conflicts, or files whose generated text is not known.
    UserError
        When there is no record that can be used, a later version wrote it, or there is nobody to ask.
    UnknownName
        When ``take`` names no file that this version makes.
    """
    record = read_record(project.root)
    base = read_base(project.root, record)
    requirements = installed()
    proposal = record.proposal.model_copy(update={"ci": ci}) if ci else record.proposal
    made = render(proposal, requirements.text)
    if record.version == __version__ and (project.root / BASE).is_dir():
        made[REQUIREMENTS] = base[REQUIREMENTS] or ""  # pins change with the version, not with the environment
    if strange := [path for path in take if path not in made]:
        raise UnknownName("file", strange[0], made, "what `weakfish init` makes")
    migration = None if (project.root / BASE).is_dir() else Migration.of(project, made)
    changes = plan(project.root, base, made, take, migration)
    moved = [change for change in changes if change.old != change.new]
    if not changes and migration is None and record.version == __version__:
        click.echo(f"Nothing to change: the project is as Weakfish {__version__} makes it, but for what you edited.")
        return
    click.echo("".join(change.diff for change in moved), nl=False)
    if only_diff:
        return
    if not yes and not on_terminal():
        raise UserError("There is no terminal to ask on; add --yes, or --diff to see what would change.")
    if not yes and moved and not click.confirm(f"Change these {len(moved)} files?", default=True):
        raise click.Abort
    with locked(project, "run"):
        require_no_dvc(project)
        for change in moved:
            _apply(project.root, change)
        if made[REQUIREMENTS] == requirements.text:
            requirements.copy_wheel(project.root)
        write_base(project.root, made)
        write_record(project.root, ProjectRecord(version=__version__, proposal=proposal))
        if migration:
            migration.finish()
    _say(changes, migration.notes if migration else [])


def plan(
    root: Path,
    base: Mapping[str, str | None],
    made: Mapping[str, str],
    take: Sequence[str] = (),
    migration: Migration | None = None,
) -> list[FileChange]:
    """What becomes of each file, by path; files that stay as they are appear only where somebody should look at them.

    Parameters
    ----------
    base
        The generated text of each file as of the last upgrade; None where only its hash is known.
    made
        The generated text as of now.
    """
    paths = {*made, *base, *(migration.others if migration else ())} - {BASELINE}
    found = [_change(root, path, base, made, path in take, migration) for path in sorted(paths)]
    return [change for change in found if change and (change.old != change.new or change.note)]


def _change(
    root: Path,
    path: str,
    base: Mapping[str, str | None],
    made: Mapping[str, str],
    take: bool,
    migration: Migration | None,
) -> FileChange | None:
    now, was, new = _text(root / path), base.get(path), made.get(path)
    ours = now
    if now and MARK in now:
        return FileChange(path, now, now, "has conflict markers; edit it", open=True)
    if migration and now is not None:
        ours, was = migration.brought(path, now, was)
    if path not in made and path not in base:  # the team's own, in which only names changed
        return FileChange(path, now, ours)
    if now is None:
        if path not in base or take:
            return FileChange(path, None, new)
        return FileChange(path, None, None, "" if was == new else "was deleted here") if new is not None else None
    if ours in (was, new) or (take and (path not in base or was is None or new is None)):
        return FileChange(path, now, new)
    if new is None:
        return FileChange(path, now, ours, "is not made any more, and was edited here")
    if path not in base:
        return FileChange(path, now, ours, f"is yours; this version makes one of that name, see {BASE}/{path}.txt")
    if was is None:
        note = f"was edited here, and its generated text is not known: merge {BASE}/{path}.txt by hand"
        return FileChange(path, now, ours, note, open=True)
    merged, conflicts = merge(str(ours), was, new, take=take)
    note = "has conflicts: the same lines were edited here, and changed by this version" if conflicts else ""
    return FileChange(path, now, merged, note, open=conflicts)


def merge(ours: str, base: str, theirs: str, *, take: bool = False) -> tuple[str, bool]:
    """Merge as `git merge-file` does; whether there are conflicts, which ``take`` decides in favour of ``theirs``."""
    with temporary_folder(Path(gettempdir()), "weakfish-merge") as folder:
        names = {"yours": ours, "generated": base, f"weakfish {__version__}": theirs}
        for name, text in names.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        labels = [part for name in names for part in ("-L", name)]
        command = ["git", "merge-file", "-p", "--diff3", *(["--theirs"] if take else []), *labels, *names]
        done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    if not 0 <= done.returncode < 128:
        raise UserError(f"`git merge-file` failed: {done.stderr.strip()}; is git installed?")
    return done.stdout, done.returncode > 0


def _text(file: Path) -> str | None:
    """A file's text; None where there is none. What is no text is one that nothing equals."""
    try:
        return file.read_bytes().decode("utf-8", "backslashreplace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); move it away, or make it a file.") from error


def _apply(root: Path, change: FileChange) -> None:
    file = root / change.path
    if change.new is not None:
        put(file, change.new)
        return
    file.unlink()
    for folder in file.relative_to(root).parents:
        if (root / folder) != root and not any((root / folder).iterdir()):
            (root / folder).rmdir()


def _say(changes: Sequence[FileChange], notes: Sequence[str]) -> None:
    for change in changes:
        if change.old != change.new:
            verb = "Removed" if change.new is None else "Added" if change.old is None else "Changed"
            click.echo(f"{verb} {change.path}.")
        elif not change.open:
            click.echo(f"Left {change.path}, which {change.note}.")
    for note in notes:
        click.echo(note)
    if unfinished := [f"{change.path} {change.note}" for change in changes if change.open]:
        raise CheckFailed(
            f"These have to be finished by hand: {'; '.join(unfinished)}. Correct them, or take Weakfish's own with "
            f"`weakfish upgrade --take FILE`; then look at `git diff` and commit it with {FILE}."
        )
    click.echo(f"The project is one of Weakfish {__version__} now; look at `git diff`, then commit it with {FILE}.")


_MADE = re.compile(
    r"(fetch|ingest|validate_events|accept|vote|label|features|publish|training_set|evaluate|report"
    r"|(validate|gate)_(labels|features|training|evaluation)_\w+)"
)
"""The stages that version 0.1 wrote."""

_STAGE = re.compile(r"^  (?P<name>[\w@/-]+):[^\n]*\n(?:(?:   +[^\n]*|[ \t]*)\n)*", re.MULTILINE)
_SECTION = re.compile(r"^(?:#[^\n]*\n)*(?P<name>[\w-]+):[^\n]*\n(?:(?:[ \t]+[^\n]*|)\n)*", re.MULTILINE)
_SETTING = re.compile(r"^(    (?:label_model:[^\n]*\n(?:      +[^\n]*\n)*|feature_service:[^\n]*\n))", re.MULTILINE)

NEW = ("fetch", "label_models", "feature_services", "views")
"""Sections of settings that version 0.1 did not have."""


@dataclass
class Migration:
    """How the files of a project of version 0.1 become those that this version can merge with its own.

    ``others`` are files of the team in which names changed; ``notes`` say what was moved, and what was not.
    """

    project: Project
    made: Mapping[str, str]
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, project: Project, made: Mapping[str, str]) -> Migration:
        """Of a project; ``made`` are the files that this version generates."""
        found = cls(project, made)
        for folder in CODE:
            for file in sorted((project.root / folder).rglob("*.py")):
                path, text = file.relative_to(project.root).as_posix(), file.read_text(encoding="utf-8")
                if path not in made and renamed(text) != text:
                    found.others.append(path)
                found.notes += [f"{path} imports {name}, which is no more; correct it." for name in _lost(text)]
        return found

    def brought(self, path: str, ours: str, was: str | None) -> tuple[str, str | None]:
        """A file as the team has it, and as it was generated, with names and shapes as they are now."""
        if path == PIPELINE:
            return self._pipeline(ours, was), self.made[path]
        if path == PARAMS:
            views = _views(self.project.root / "feature_repo/transforms.py")
            return params(ours, self.made[path], views), self.made[path]
        return renamed(ours), None if was is None else renamed(was)

    def _pipeline(self, ours: str, was: str | None) -> str:
        """This version's pipeline, and the team's own stages behind it."""
        generated = _blocks(was or "")
        own = []
        for name, block in _blocks(ours).items():
            if not _MADE.fullmatch(name):
                own.append(f"\n{block.rstrip()}\n")
            elif name in generated and block.split() != generated[name].split():
                self.notes.append(f"Stage {name} of {PIPELINE} was edited here; `git diff` shows what to carry over.")
        if was is None:
            self.notes.append(f"The generated text of {PIPELINE} is not known; `git diff` shows what was replaced.")
        return self.made[PIPELINE] + "".join(own)

    def finish(self) -> None:
        """Bring records, locks and ``dvc.lock`` to the stages' new names."""
        root = self.project.root
        known = stages_of(root)
        for name, run in read_runs(self.project).items():
            if name not in known:
                if new := _became(root, name):
                    write_run(self.project, replace(run, stage=new))
                run_file(self.project, name).unlink()
                lock_file(self.project, name).unlink(missing_ok=True)
        lock = root / "dvc.lock"
        if lock.is_file():
            text = lock.read_text(encoding="utf-8")
            text = re.sub(r"^  (\w+):$", lambda found: f"  {_became(root, found[1]) or found[1]}:", text, flags=re.M)
            lock.write_text(text, encoding="utf-8")


def params(text: str, made: str, views: Iterable[str]) -> str:
    """Settings of version 0.1 in their new shape: models and services beside the tasks, and the sections that are new.

    ``made`` are the generated settings, which say what a new section looks like; ``views`` are the project's own.
    """
    ours, new = _sections(text), _sections(made)
    moved: dict[str, list[str]] = {"label_model": [], "feature_service": []}
    kept, task = [], ""
    for piece in _SETTING.split(ours["tasks"]):
        setting, _, value = piece.strip().partition(":")
        if setting in moved:
            moved[setting].append(f"  {task}:{re.sub('^  ', '', value, flags=re.MULTILINE)}\n")
        else:
            kept.append(piece)
            task = (re.findall(r"^  ([^\s#:]+):", piece, flags=re.MULTILINE) or [task])[-1]
    ours["tasks"] = "".join(kept)
    for setting, lines in moved.items():
        if lines:
            new[f"{setting}s"] = _titled(new, f"{setting}s", "\n" + "".join(lines))
    new["views"] = _titled(new, "views", f" {yaml_value(list(views))}\n")
    whole: dict[str, str] = {}
    for name in [*new, *ours]:
        if name in ours or name in NEW:
            whole[name] = ours.get(name) or new[name]
    return "\n".join(block.rstrip() + "\n" for block in whole.values())


def _sections(text: str) -> dict[str, str]:
    """The sections of settings, each with what stands above it."""
    found, end = {}, 0
    for section in _SECTION.finditer(text):
        found[section["name"]] = text[end : section.end()].lstrip("\n")
        end = section.end()
    return found


def _titled(sections: Mapping[str, str], name: str, value: str) -> str:
    """A section of the generated settings with another value."""
    return re.sub(rf"^{name}:.*", lambda _: f"{name}:{value}", sections[name], flags=re.MULTILINE | re.DOTALL)


def _blocks(text: str) -> dict[str, str]:
    """The stages of a pipeline by name, as they are written."""
    return {stage["name"]: stage[0] for stage in _STAGE.finditer(text.partition("\nstages:\n")[2])}


def _became(root: Path, name: str) -> str | None:
    """The stage that one of version 0.1 became; None where it is none any more."""
    try:
        return named_stage(root, name)
    except UnknownName:
        return None


def _views(transforms: Path) -> list[str]:
    """The names of the views in a module of transforms, which need not be importable yet."""
    found: list[str] = []
    for node in ast.parse(transforms.read_text(encoding="utf-8")).body if transforms.is_file() else []:
        if isinstance(node, ast.FunctionDef):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == "transform":
                    given = [ast.literal_eval(word.value) for word in call.keywords if word.arg == "name"]
                    found += given or [node.name]
    return found


@cache
def _moves() -> dict[str, str]:
    """Where modules are, and names that are not in the module that became theirs (``module:name``)."""
    file = Path(__file__).parent / "templates" / "moved.json"
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _home(module: str, name: str) -> tuple[str, str]:
    """The module that has a name now, and what it is called there."""
    there = _moves().get(f"{module}:{name}")
    if there:
        new, _, called = there.partition(":")
        return new, called
    return _moves().get(module, module), name


def renamed(text: str) -> str:
    """A file that imports from the engine, or names its classes by path, with the names that hold now."""
    nodes = _imports(text)
    if not nodes:
        return re.sub(r"weakfish(?:\.\w+)+", lambda found: ".".join(_home(*found[0].rpartition(".")[::2])), text)
    lines = text.splitlines(keepends=True)
    for node in sorted(nodes, key=lambda node: -node.lineno):
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        lines[first:last] = _import(node, "".join(lines[first:last]))
    return "".join(lines)


def _import(node: ast.Import | ast.ImportFrom, code: str) -> list[str]:
    """An import statement with the modules that hold now."""
    if isinstance(node, ast.Import):
        homes = {alias.name: _moves().get(alias.name, alias.name) for alias in node.names}
        return [re.sub(r"weakfish(?:\.\w+)*", lambda found: homes.get(found[0], found[0]), code)]
    module = node.module or ""
    homes_of = [(*_home(module, alias.name), alias) for alias in node.names]
    if all((new, called) == (module, alias.name) for new, called, alias in homes_of):
        return [code]
    if len({new for new, _, _ in homes_of}) == 1 and all(called == alias.name for _, called, alias in homes_of):
        return [code.replace(module, homes_of[0][0], 1)]
    indent = code[: len(code) - len(code.lstrip())]
    by_module: dict[str, list[str]] = {}
    for new, called, alias in homes_of:
        known = alias.asname or (alias.name if called != alias.name else None)
        by_module.setdefault(new, []).append(f"{called} as {known}" if known else called)
    return [f"{indent}from {new} import {', '.join(names)}\n" for new, names in sorted(by_module.items())]


def _imports(text: str) -> list[ast.Import | ast.ImportFrom]:
    """The statements that import from the engine; none of a text that is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):
        return []
    return [
        node
        for node in nodes
        if (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "weakfish")
        or (isinstance(node, ast.Import) and any(alias.name.startswith("weakfish.") for alias in node.names))
    ]


def _lost(text: str) -> Iterator[str]:
    """The modules that a file imports from the engine and that are not there, under any name."""
    for node in _imports(renamed(text)):
        for name in [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]:
            try:
                if name.startswith("weakfish") and find_spec(name) is None:
                    yield name
            except ModuleNotFoundError:
                yield name
