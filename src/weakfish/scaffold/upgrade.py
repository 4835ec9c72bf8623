"""A project brought to the installed version: its files rendered anew from `weakfish.lock`, compared, taken or left.

`plan` says what differs, `upgrade` shows it as a diff, asks, and writes. What the team edited stays unless they say so.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from weakfish import __version__
from weakfish.errors import UnknownName, UserError
from weakfish.project.paths import Project
from weakfish.project.runs import locked
from weakfish.scaffold.questions import on_terminal
from weakfish.scaffold.render import render
from weakfish.scaffold.write import FILE, Record, hash_of, put, read_record, write_record

TRANSFORMS = "feature_repo/transforms.py"


@dataclass(frozen=True)
class Change:
    """A file that differs from what this version makes; ``old`` or ``new`` is None where there is no file.

    ``edited`` says that the team changed it, deleted it, or wrote one of this name itself.
    """

    path: str
    old: str | None
    new: str | None
    edited: bool

    @property
    def diff(self) -> str:
        """The change as a unified diff, as `git apply` takes it."""
        old, new = (text.splitlines(keepends=True) if text else [] for text in (self.old, self.new))
        before = "/dev/null" if self.old is None else f"a/{self.path}"
        after = "/dev/null" if self.new is None else f"b/{self.path}"
        lines = difflib.unified_diff(old, new, before, after)
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)

    @property
    def why(self) -> str:
        """What the team did to the file."""
        if self.old is None:
            return "was deleted here"
        return "is not made any more, and was edited here" if self.new is None else "was edited here"


def upgrade(project: Project, *, only_diff: bool, yes: bool, take: Sequence[str] = ()) -> None:
    """Show what differs, and bring it to this version.

    Raises
    ------
    UserError
        When there is no record that can be used, a later version wrote it, or there is nobody to ask.
    UnknownName
        When ``take`` names no file that this version makes.
    """
    record = read_record(project.root)
    made = rendered(project, record)
    changes = plan(project.root, record, made, take)
    if not changes:
        if record.version != __version__ and not only_diff:
            write_record(project.root, Record(version=__version__, proposal=record.proposal, files=record.files))
        click.echo(f"Nothing to change: the project is as Weakfish {__version__} makes it, but for what you edited.")
        return
    click.echo("".join(change.diff for change in changes), nl=False)
    if only_diff:
        return
    chosen = _chosen(changes, yes, take)
    with locked(project, "run"):
        for change in chosen:
            _apply(project.root, change)
        write_record(project.root, _record_after(record, made, changes, chosen))
    _say(changes, chosen)


def rendered(project: Project, record: Record) -> dict[str, str]:
    """The files that this version makes, for the project's tasks and views as they are now."""
    tasks = {name: tuple(task.classes) for name, task in project.params.tasks.items()}
    return render(record.proposal, __version__, tasks=tasks, views=_views(project))


def plan(root: Path, record: Record, made: Mapping[str, str], take: Sequence[str] = ()) -> list[Change]:
    """What differs from what this version makes, by path, but for what the team edited and this version left alone."""
    for path in take:
        if path not in made:
            raise UnknownName("file", path, made, "what `weakfish init` makes")
    found = []
    for path in sorted({*made, *record.files}):
        new, was = made.get(path), record.files.get(path)
        old = _text(root / path)
        if new == old or (new is not None and hash_of(new) == was and path not in take):
            continue
        edited = was is not None if old is None else hash_of(old) != was
        found.append(Change(path, old, new, edited))
    return found


def _views(project: Project) -> tuple[str, ...]:
    from weakfish.features.views import load_transforms

    if not (project.root / TRANSFORMS).is_file():
        return ()
    return tuple(view.name for view in load_transforms(project))


def _text(file: Path) -> str | None:
    """A file's text; None where there is none. What is no text is one that nothing equals."""
    try:
        return file.read_bytes().decode("utf-8", "backslashreplace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); move it away, or make it a file.") from error


def _chosen(changes: Sequence[Change], yes: bool, take: Sequence[str]) -> list[Change]:
    """The changes to make: all of files that nobody edited, and those that somebody asked for."""
    plain = [change for change in changes if not change.edited]
    asked = [change for change in changes if change.edited and change.path in take]
    open_ = [change for change in changes if change.edited and change.path not in take]
    if yes:
        return [*plain, *asked]
    if not on_terminal():
        raise UserError("There is no terminal to ask on; add --yes, and --take PATH for edited files, or say --diff.")
    if plain and not click.confirm(f"Change {len(plain)} files that nobody edited?", default=True):
        plain = []
    asked += [change for change in open_ if click.confirm(f"{change.path} {change.why}; change it?", default=False)]
    return [*plain, *asked]


def _apply(root: Path, change: Change) -> None:
    file = root / change.path
    if change.new is not None:
        put(file, change.new)
        return
    file.unlink()
    for folder in file.relative_to(root).parents:
        if (root / folder) != root and not any((root / folder).iterdir()):
            (root / folder).rmdir()


def _record_after(
    record: Record, made: Mapping[str, str], changes: Sequence[Change], chosen: Sequence[Change]
) -> Record:
    """What is on disk as this version makes it; files that were left keep what the record said of them."""
    left = {change.path for change in changes} - {change.path for change in chosen}
    files = {path: hash_of(text) for path, text in made.items() if path not in left}
    files |= {path: was for path, was in record.files.items() if path in left}
    return Record(version=__version__, proposal=record.proposal, files=files)


def _say(changes: Sequence[Change], chosen: Sequence[Change]) -> None:
    for change in sorted(chosen, key=lambda change: change.path):
        verb = "Removed" if change.new is None else "Added" if change.old is None else "Changed"
        click.echo(f"{verb} {change.path}.")
    for change in changes:
        if change not in chosen:
            click.echo(f"Left {change.path}, which {change.why}." if change.edited else f"Left {change.path}.")
    if chosen:
        click.echo(f"The project is one of Weakfish {__version__} now; look at `git diff`, then commit it with {FILE}.")
