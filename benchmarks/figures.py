"""A figure is one line of JSON; the lines of the last full run are kept in ``benchmarks/results.jsonl``.

The table in ``docs/benchmarks.md`` is made of them, whenever a line is kept.
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
TABLE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Figure:
    """Ours against theirs.

    Attributes
    ----------
    ours, theirs : float
        In ``unit``: a rate such as ``votes/s``, or seconds, ``s``.
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
    theirs: float
    unit: str
    equal: bool
    rows: int
    ours_mb: float
    theirs_mb: float | None
    sizes: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """How many times better ours is: rates grow, seconds shrink."""
        return self.theirs / self.ours if self.unit == "s" else self.ours / self.theirs

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
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda _: table(), page), encoding="utf-8")


def table() -> str:
    """The kept lines as a table in Markdown."""
    rows = ["| name | ours | theirs | ratio | rows | MB ours | MB theirs |", "|---|---|---|---|---|---|---|"]
    for line in map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines()):
        cells = [f"`{line['name']}`", *(f"{_spelled(line[side])} {line['unit']}" for side in ("ours", "theirs"))]
        cells += [f"{line['ratio']:.3g}", _spelled(line["rows"])]
        cells += [_spelled(line["peak_rss_mb"][side]) for side in ("ours", "theirs")]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _spelled(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 100 else f"{number:g}"


def _rounded(number: float) -> float:
    """Four digits that count."""
    return float(f"{number:.4g}")
