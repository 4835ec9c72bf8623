"""Proposals for data that a stranger might bring, and what is rendered of them, made in this process."""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import own_data
import pyarrow as pa

from weakfish.checks.gx import quiet
from weakfish.project.paths import Project
from weakfish.scaffold.proposal import Proposal, propose
from weakfish.scaffold.roles import Wishes, choose
from weakfish.scaffold.survey import place, survey
from weakfish.sources.tabular import infer

ODD = ('a"b', "it's", "x\\y", "both '\"", "null", "12:30", "{{ x }}", "${y}", "%d", "# no comment", "é\u2028ü")
"""Values that break out of careless templates."""

LONG = "a_name_as_long_as_a_name_may_reasonably_be"


def odd(file: Path) -> None:
    """Columns and values with names that mean something to Python, Ibis, YAML or a template."""
    draw = random.Random(2)  # noqa: S311
    with file.open("w", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream)
        lines.writerow(["class", "count", "größe", "from", "null", "schema", "day", LONG, "True"])
        for number in range(400):
            when = f"2024-0{1 + number % 6}-1{number % 9} 0{number % 9}:00"
            kind = [draw.choice(ODD), draw.choice(("on", "off")), draw.random() * 10 - 5, draw.choice((7, 8))]
            kind += [f"2024-01-{1 + number % 28:02}", number % 11 == 0, draw.choice(("if", "class"))]
            lines.writerow([f"k{number}", when, *kind])


def keys_alone(file: Path) -> None:
    """One column, of keys."""
    file.write_text("id\n" + "".join(f"k{number:03}\n" for number in range(200)), encoding="utf-8")


KINDS: dict[str, tuple[Callable[[Path], None], Wishes]] = {
    "orders": (own_data.orders, Wishes(labels=("outcome",))),
    "two_tasks": (own_data.orders, Wishes(labels=("outcome",), classes=("worth=high,low",))),
    "tickets": (own_data.tickets, Wishes(labels=("kind=category",), entities=("account",))),
    "flats": (own_data.flats, Wishes(labels=(), classes=("deal=good,bad",))),
    "odd": (odd, Wishes(key="class", time="count", labels=("task=true",), entities=("größe", "from"))),
    "keys_alone": (keys_alone, Wishes(labels=(), classes=("a,b",))),
}


@cache
def proposed(kind: str) -> tuple[Proposal, pa.Table]:
    """A proposal for data of a kind, and the sample that it rests on."""
    make, wishes = KINDS[kind]
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{kind}.csv"
        make(file)
        inferred = infer(file)
        where = place(str(file), Path(folder) / kind)
        proposal, _ = propose(kind, inferred, choose(inferred, wishes), where)
        return proposal, survey(proposal.source, str(file)).sample


@contextmanager
def written(root: Path, files: Mapping[str, str]) -> Iterator[Project]:
    """A project of rendered files, whose modules are imported from it until the block ends."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    with quiet():
        import great_expectations.expectations  # noqa: F401  before a suite does, for its deprecations
    others = _modules()
    for name in others:
        del sys.modules[name]
    sys.path.insert(0, str(root))
    try:
        yield Project(root)
    finally:
        sys.path.remove(str(root))
        for name in _modules():
            del sys.modules[name]
        sys.modules.update(others)


def _modules() -> dict[str, ModuleType]:
    folders = ("feature_repo", "labeling_functions", "sources", "validation")
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in folders}
