"""A figure is one line of JSON; the lines of the last full run are kept in ``benchmarks/results.jsonl``.

The tables in ``docs/benchmarks.md`` are made of them, whenever a line is kept; a comment above each names its figures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.process import REPOSITORY

RESULTS = REPOSITORY / "benchmarks/results.jsonl"
PAGE = REPOSITORY / "docs/benchmarks.md"
TABLE = re.compile(r"(?P<head><!-- figures:(?P<names>[\w\s]*)-->\n).*?(?=<!-- end -->)", re.DOTALL)
SHRINKING = ("s", "ms")
"""Units of which less is better."""


@dataclass(frozen=True)
class Figure:
    """Ours against theirs.

    Attributes
    ----------
    ours, theirs : float
        In ``unit``: a rate such as ``votes/s``, or a time, ``s`` or ``ms``; theirs is None where nothing compares.
    equal : bool
        Whether both gave the same result, compared in full.
    rows : int
        Rows that our side worked on.
    ours_mb, theirs_mb : float or None
        Peak of memory, the sum over all processes of a side, in MB (2**20); None where a side did not run here.
    sizes : dict
        What else matters to judge the figure.
    """

    name: str
    ours: float
    theirs: float | None
    unit: str
    equal: bool
    rows: int
    ours_mb: float
    theirs_mb: float | None
    sizes: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times better ours is: rates grow, times shrink."""
        if self.theirs is None:
            return None
        return self.theirs / self.ours if self.unit in SHRINKING else self.ours / self.theirs

    def line(self) -> str:
        """The figure as one line of JSON."""
        content = {
            "name": self.name,
            "ours": _rounded(self.ours),
            "theirs": _rounded(self.theirs),
            "unit": self.unit,
            "ratio": _rounded(self.ratio),
            "equal": self.equal,
            "rows": self.rows,
            "peak_rss_mb": {"ours": self.ours_mb, "theirs": self.theirs_mb},
        }
        return json.dumps(content | self.sizes)


def keep(figures: Sequence[Figure]) -> None:
    """Put lines in the place of those of the same name in `RESULTS`; new ones go to the end."""
    old = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    lines = {json.loads(line)["name"]: line for line in old} | {figure.name: figure.line() for figure in figures}
    RESULTS.write_text("\n".join(lines.values()) + "\n", encoding="utf-8")
    PAGE.write_text(quoted(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def quoted(page: str) -> str:
    """A page with its tables made anew of the kept lines."""
    return TABLE.sub(lambda found: found["head"] + table(found["names"].split()), page)


def table(names: Sequence[str]) -> str:
    """The kept lines of these figures, in this order, as a table in Markdown."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    kept = {line["name"]: line for line in map(json.loads, lines)}
    rows = ["| name | ours | theirs | ratio | rows | MB ours | MB theirs |", "|---|---|---|---|---|---|---|"]
    for line in (kept[name] for name in names if name in kept):
        cells = [f"`{line['name']}`", *(_spelled(line[side], f" {line['unit']}") for side in ("ours", "theirs"))]
        cells += ["-" if line["ratio"] is None else f"{line['ratio']:.3g}", _spelled(line["rows"])]
        cells += [_spelled(line["peak_rss_mb"][side]) for side in ("ours", "theirs")]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n" if rows[2:] else ""


def _spelled(number: float | None, unit: str = "") -> str:
    if number is None:
        return "-"
    return (f"{number:,.0f}" if number >= 100 else f"{number:g}") + unit


def _rounded(number: float | None) -> float | None:
    """Four digits that count."""
    return None if number is None else float(f"{number:.4g}")
