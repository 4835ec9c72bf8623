"""A project brought to the installed version: each file as it was generated, as the team left it and as it is now are
merged like three versions in git, so that what the team wrote stays and what Weakfish changed arrives."""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from weakfish import __version__
from weakfish.errors import CheckFailed, UnknownName, UserError
from weakfish.project.paths import Project
from weakfish.project.runs import locked
from weakfish.scaffold.migrate import Migration
from weakfish.scaffold.render import render
from weakfish.scaffold.requirements import installed
from weakfish.scaffold.roles import on_terminal
from weakfish.scaffold.write import BASE, FILE, Record, put, read_base, read_record, write_base, write_record

REQUIREMENTS = "requirements.txt"
BASELINE = "validation/baseline.json"  # written by `weakfish accept-baseline`, so there is nothing to merge


@dataclass(frozen=True)
class Change:
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


def upgrade(project: Project, *, only_diff: bool, yes: bool, take: Sequence[str] = ()) -> None:
    """Show what differs, and bring it to this version.

    ``take`` are files in which this version's lines win where the team changed the same ones.

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
    made = render(record.proposal, requirements.text)
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
        for change in moved:
            _apply(project.root, change)
        if made[REQUIREMENTS] == requirements.text:
            requirements.copy_wheel(project.root)
        write_base(project.root, made)
        write_record(project.root, Record(version=__version__, proposal=record.proposal))
        if migration:
            migration.finish()
    _say(changes, migration.notes if migration else [])


def plan(
    root: Path,
    base: Mapping[str, str | None],
    made: Mapping[str, str],
    take: Sequence[str] = (),
    migration: Migration | None = None,
) -> list[Change]:
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
) -> Change | None:
    now, was, new = _text(root / path), base.get(path), made.get(path)
    ours = now
    if migration and now is not None:
        ours, was = migration.brought(path, now, was)
    if path not in made and path not in base:  # the team's own, in which only names changed
        return Change(path, now, ours)
    if now is None:
        if path not in base or take:
            return Change(path, None, new)
        return Change(path, None, None, "" if was == new else "was deleted here") if new is not None else None
    if ours in (was, new) or (take and (path not in base or was is None or new is None)):
        return Change(path, now, new)
    if new is None:
        return Change(path, now, ours, "is not made any more, and was edited here")
    if path not in base:
        return Change(path, now, ours, f"is yours; this version makes one of that name, see {BASE}/{path}.txt")
    if was is None:
        note = f"was edited here, and its generated text is not known: merge {BASE}/{path}.txt by hand"
        return Change(path, now, ours, note, open=True)
    merged, conflicts = merge(str(ours), was, new, take=take)
    note = "has conflicts: the same lines were edited here, and changed by this version" if conflicts else ""
    return Change(path, now, merged, note, open=conflicts)


def merge(ours: str, base: str, theirs: str, *, take: bool = False) -> tuple[str, bool]:
    """Merge as `git merge-file` does; whether there are conflicts, which ``take`` decides in favour of ``theirs``."""
    with TemporaryDirectory() as folder:
        names = {"yours": ours, "generated": base, f"weakfish {__version__}": theirs}
        for name, text in names.items():
            (Path(folder) / name).write_text(text, encoding="utf-8", newline="\n")
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


def _apply(root: Path, change: Change) -> None:
    file = root / change.path
    if change.new is not None:
        put(file, change.new)
        return
    file.unlink()
    for folder in file.relative_to(root).parents:
        if (root / folder) != root and not any((root / folder).iterdir()):
            (root / folder).rmdir()


def _say(changes: Sequence[Change], notes: Sequence[str]) -> None:
    for change in changes:
        if change.old != change.new:
            verb = "Removed" if change.new is None else "Added" if change.old is None else "Changed"
            click.echo(f"{verb} {change.path}.")
        elif not change.open:
            click.echo(f"Left {change.path}, which {change.note}.")
    for note in notes:
        click.echo(note)
    click.echo(f"The project is one of Weakfish {__version__} now; look at `git diff`, then commit it with {FILE}.")
    if unfinished := [f"{change.path} {change.note}" for change in changes if change.open]:
        raise CheckFailed(f"These have to be finished by hand: {'; '.join(unfinished)}.")
