"""A comparison as Markdown that fits a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weakfish.diffing.sections import PartTable, ReportPart, sections

LONGEST = 65_536
"""Characters of a comment on GitHub; GitLab takes more."""

CUT = "\nMore differs than fits here; `weakfish diff` shows the rest.\n"

MARK = "<!-- weakfish diff -->"
"""Begins a comment, so that the next run finds it."""

_CODE = re.compile(r"(`[^`]*`)")
_SPECIAL = re.compile(r"([\\*_{}\[\]()#+!|<>~@&$])")


def markdown(found: Mapping[str, Any], longest: int = LONGEST) -> str:
    """The report: the sentence, then a part that folds for each thing that differs, as many as fit."""
    sides = [
        of["name"] if of["commit"] is None else f"{of['name']} ({of['commit'][:7]})"
        for of in (found["from"], found["to"])
    ]
    head = f"{MARK}\n**{_text(found['sentence'])}**\n\nFrom {_text(sides[0])} to {_text(sides[1])}.\n"
    text = head[:longest]
    for part in map(_section, sections(found)):
        if len(text) + len(part) + len(CUT) > longest:
            return text + (CUT if len(text) + len(CUT) <= longest else "")
        text += part
    return text


def _section(section: ReportPart) -> str:
    body = "\n".join([*_lines(section.lines[1:]), *(line for table in section.tables for line in _table(table))])
    return f"\n<details><summary>{_summary(section)}</summary>\n\n{body}\n\n</details>\n"


def _summary(section: ReportPart) -> str:
    first = f": {section.lines[0]}" if section.lines else ""
    plain = f"{section.title}{first}".replace("`", "")
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")


def _lines(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield f"- {_text(line)}"
    if lines:
        yield ""


def _table(table: PartTable) -> Iterator[str]:
    yield _row(table.columns)
    yield _rule(table)
    for row in table.rows:
        yield _row(row)
    yield ""


def _rule(table: PartTable) -> str:
    return "|" + "|".join("---:" if column in table.right else "---" for column in table.columns) + "|"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_text, cells)) + " |"


def _text(text: str) -> str:
    """A text that means nothing to Markdown but what stands between backticks."""
    line = " ".join(text.split())
    return "".join(_span(part) if _CODE.fullmatch(part) else _SPECIAL.sub(r"\\\1", part) for part in _CODE.split(line))


def _span(part: str) -> str:
    """Code; a bar would end a table's cell even there."""
    return part.replace("|", r"\|")
