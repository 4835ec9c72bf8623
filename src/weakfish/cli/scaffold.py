"""`weakfish init`, which makes a project from files, and `weakfish upgrade`, which brings it up to date."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weakfish.errors import ParamsError, UserError
from weakfish.project.paths import Project

if TYPE_CHECKING:
    from weakfish.scaffold.proposal import Host, Proposal
    from weakfish.scaffold.roles import Roles, Wishes
    from weakfish.scaffold.write import State
    from weakfish.sources.tabular import Inferred


CI = click.option(
    "--ci",
    type=click.Choice(["github", "gitlab"]),
    help="Add a workflow that comments on changes with `weakfish diff`.",
)


@click.command()
@click.argument("folder", metavar="DIR")
@click.argument("more", nargs=-1, metavar="")
@click.option(
    "--from", "files", required=True, metavar="FILE_OR_GLOB", help="CSV, JSON Lines or Parquet; a glob in quotes."
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    help="The format, where file suffixes do not tell.",
)
@click.option("--encoding", help="The encoding of files that are not UTF-8, such as cp1251 or shift_jis.")
@click.option("--delimiter", metavar="CHARACTER", help="What stands between fields of CSV: a character, or `tab`.")
@click.option("--quote", metavar="CHARACTER", help="What stands around fields; `none` where quotes are text.")
@click.option("--escape", type=click.Choice(["backslash", "none"]), help="What escapes quotes, as in MySQL's dumps.")
@click.option("--decimal", type=click.Choice([".", ","]), help="The mark before the decimals of numbers.")
@click.option("--thousands", type=click.Choice([",", "'", "space"]), help="The mark between thousands: 1,234.50.")
@click.option("--header", metavar="A,B,...", help="The names of all fields; `first` line has them, or `none` does.")
@click.option("--skip", type=click.IntRange(0), metavar="LINES", help="Lines at the start of each file to leave out.")
@click.option("--records", metavar="KEY", help="The key of JSON whose list holds the rows: data, or result.rows.")
@click.option("--name", help="The project's name, by default that of DIR.")
@click.option("--id", "key", metavar="COLUMN", help="The column that identifies a row.")
@click.option("--no-id", is_flag=True, help="No column does; row_id is made from the values of a row.")
@click.option("--time", metavar="COLUMN", help="The column with the time of each event.")
@click.option("--no-time", is_flag=True, help="No column holds it; there will be no features of the past.")
@click.option("--time-zone", default="UTC", show_default=True, help="The zone of times that name none.")
@click.option("--entity", "entities", multiple=True, metavar="COLUMN", help="What events are about; it gets features.")
@click.option("--no-entity", is_flag=True, help="No column names one; there will be no features of the past.")
@click.option("--text", "texts", multiple=True, metavar="COLUMN", help="Running text.")
@click.option("--no-text", is_flag=True, help="No column holds running text.")
@click.option(
    "--label", "labels", multiple=True, metavar="[TASK=]COLUMN", help="A column with gold labels, of some rows or all."
)
@click.option("--no-label", is_flag=True, help="No column holds gold labels.")
@click.option("--classes", multiple=True, metavar="[TASK=]A,B,...", help="A task's classes, in their order.")
@click.option("--type", "kinds", multiple=True, metavar="COLUMN=TYPE", help="A type, where the guess is wrong.")
@click.option(
    "--time-format",
    "time_formats",
    multiple=True,
    metavar="[COLUMN=]FORMAT",
    help="Of times that are not ISO 8601: as %d.%m.%Y %H:%M, or s, ms, us, ns since 1970.",
)
@click.option(
    "--partition", type=click.Choice(["day", "month", "year"]), help="What one file of events holds; by their span."
)
@click.option(
    "--null", "nulls", multiple=True, metavar="[COLUMN=]TEXT", help="A text that means null, instead of the guess."
)
@click.option("--leave-out", "without", multiple=True, metavar="COLUMN", help="A column to ignore.")
@CI
@click.option("--yes", is_flag=True, help="Accept every proposal and ask nothing.")
def init(
    folder: str, more: tuple[str, ...], files: str, name: str | None, ci: Host | None, yes: bool, **said: Any
) -> None:
    """Make a complete project in DIR from files of events: CSV, JSON Lines or Parquet, compressed or not.

    It looks at the files, proposes what each column is for, and asks; flags answer beforehand, and --yes takes what is
    proposed. DIR must be empty or not exist yet. --entity, --text, --label, --classes, --type, --time-format, --null
    and --leave-out may stand more than once.
    """
    from weakfish.scaffold.proposal import propose
    from weakfish.scaffold.roles import project_name
    from weakfish.scaffold.survey import place
    from weakfish.scaffold.write import check_free, write
    from weakfish.sources.tabular import infer

    if more:
        raise UserError(
            f"There is more than one file after --from ({more[0]} and so on); write the pattern in quotes, so that it "
            "is the project that looks for files, and finds those that come later."
        )
    root = Path(os.path.abspath(folder))  # noqa: PTH100  a link stays what it is
    check_free(root)
    named = project_name(name or root.name)
    where = place(files, root)
    wishes = _wishes(said)
    inferred = infer(where.given, Path("/"), said["kind"], _dialect(said))
    roles = _roles(inferred, wishes, yes)
    proposal, said_of_it = propose(named, inferred, roles, where)
    proposal = proposal.model_copy(update={"ci": ci})
    click.echo("\n".join(said_of_it))
    state = write(root, proposal)
    click.echo(_account(root, folder, proposal, state))


@click.command()
@click.option("--diff", "only_diff", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@click.option("--take", multiple=True, metavar="PATH", help="Where both changed a line of this file, take Weakfish's.")
@CI
def upgrade(only_diff: bool, yes: bool, take: tuple[str, ...], ci: Host | None) -> None:
    """Bring a project that `weakfish init` made to the installed version.

    Each file is merged as git merges: what the team wrote stays, and what Weakfish changed arrives. The diff is shown
    first. Where both changed the same lines, the file has conflict markers, and the exit code is 1.
    """
    from weakfish.scaffold.upgrade import upgrade as work

    work(Project.find(), only_diff=only_diff, yes=yes, take=take, ci=ci)


_CHARACTERS = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " ", "none": None}


def _dialect(said: dict[str, Any]) -> dict[str, Any]:
    """The settings that say how files of text are written, of those flags that were given.

    Raises
    ------
    UserError
        When one cannot be used.
    """
    from weakfish.sources.tabular.settings import read_settings

    names = ("encoding", "delimiter", "quote", "escape", "decimal", "thousands", "skip", "records")
    found = {name: said[name] for name in names if said[name] is not None}
    for name in {"delimiter", "quote", "thousands"} & set(found):
        found[name] = _CHARACTERS.get(found[name], found[name])
    if "escape" in found:
        found["escape"] = "\\" if found["escape"] == "backslash" else None
    try:
        settings = read_settings({"path": ".", "columns": {"any": "string"}, **found})
    except ParamsError as error:
        raise UserError(f"--{error.setting or 'delimiter'}: {error.reason}.") from None
    header = said["header"]
    if header is not None and header not in ("first", "none"):
        header = tuple(name.strip() for name in header.split(","))
    return {name: getattr(settings, name) for name in found} | ({"header": header} if header else {})


def _wishes(said: dict[str, Any]) -> Wishes:
    from weakfish.scaffold.roles import Wishes

    plain = ("classes", "kinds", "nulls", "without", "time_zone", "time_formats", "partition")
    found = {name: said[name] for name in plain}
    for part, flag in (("key", "id"), ("time", "time")):
        found[part] = "" if _none(said, part, flag) else said[part]
    for part, flag in (("entities", "entity"), ("texts", "text"), ("labels", "label")):
        found[part] = () if _none(said, part, flag) else said[part] or None
    return Wishes(**found)


def _none(said: dict[str, Any], part: str, flag: str) -> bool:
    """Whether nothing of a part is wanted."""
    if said[f"no_{flag}"] and said[part]:
        raise UserError(f"--{flag} and --no-{flag} exclude each other; say one.")
    return bool(said[f"no_{flag}"])


def _roles(inferred: Inferred, wishes: Wishes, yes: bool) -> Roles:
    """The parts of columns: asked for on a terminal, as said and proposed elsewhere."""
    from weakfish.scaffold.asking import ask, on_terminal, table
    from weakfish.scaffold.roles import choose

    if not yes and wishes.open and on_terminal():
        return ask(inferred, wishes)
    roles = choose(inferred, wishes)
    if wishes.open and not yes:
        raise UserError(
            "There is no terminal to ask on; add --yes to take what is proposed "
            f"({_proposed(roles)}), or say {', '.join(wishes.open)}."
        )
    click.echo(table(inferred, roles))
    return roles


def _proposed(roles: Roles) -> str:
    labels = [column if task == column else f"{task}={column}" for task, column in roles.labels.items()]
    parts = {"id": [roles.key], "time": [roles.time], "entity": roles.entities, "text": roles.texts, "label": labels}
    return " ".join(
        " ".join(f"--{part} {column}" for column in columns) if any(columns) else f"--no-{part}"
        for part, columns in parts.items()
    )


def _account(root: Path, folder: str, proposal: Proposal, state: State) -> str:
    """What was made, and what to do next."""
    from weakfish.scaffold.literals import counted

    git = {
        "committed": "a git repository with one commit, DVC initialised",
        "staged": "a git repository, its files staged (git does not know who commits), DVC initialised",
        "outer": f"DVC initialised; of git's, nothing is staged: `git add {folder}`",
    }[state]
    rules = sum(len(rules) for rules in proposal.rules.values())
    made = f"{counted(rules, 'example function')}, {counted(len(proposal.views), 'feature view')}"
    return f"\nMade {root}: {made}; {git}.\nNext:\n  cd {folder}\n  dvc repro\n  weakfish status"
