"""The table and the picture of `docs/scale.md`, of the lines that `benchmarks.growth` keeps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.process import REPOSITORY

PAGE, PICTURE = REPOSITORY / "docs/scale.md", REPOSITORY / "docs/growth.svg"
TABLE = re.compile(r"(?P<head><!-- growth: (?P<name>\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)

MOST_MB = 2048
DRAWN = {
    "ingest": "#8a6d1d",
    "validate events": "#2f7d4f",
    "vote": "#3f7fbf",
    "label": "#6b4fa0",
    "features": "#b3402e",
    "training-set": "#1f8a8a",
    "evaluate": "#5b6472",
}
"""The stages in the picture, and the colour of each."""

WIDTH, HEIGHT, LEFT, TOP = 480, 300, 62, 66
"""Of a panel, and where its frame begins within it."""

STYLE = """<style>
  text { font: 11px -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1b2330; }
  .head { font-size: 14px; font-weight: 600; } .end { text-anchor: end; } .middle { text-anchor: middle; }
  .frame { fill: none; stroke: #c9ced6; } .grid { stroke: #e6e8ec; } .limit { stroke: #b3402e; stroke-dasharray: 5 4; }
  .line { fill: none; stroke-width: 2; } .page { fill: #fff; stroke: #d4d8de; }
</style>"""

Line = Mapping[str, Any]


def write_page(lines: Sequence[Line]) -> None:
    """Make the tables of the page anew, and the picture."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), lines), encoding="utf-8")
    PICTURE.write_text(picture(lines), encoding="utf-8")


def with_tables(page: str, lines: Sequence[Line]) -> str:
    """A page with its tables made anew."""
    return TABLE.sub(lambda found: found["head"] + table(found["name"], lines), page)


def table(name: str, lines: Sequence[Line]) -> str:
    """The lines of a name: a row for each stage, and for each size seconds, seconds of processors, MB and bytes."""
    mine = [line for line in lines if line["name"] == name]
    sizes = sorted({line["size"] for line in mine})
    by_place = {(line["stage"], line["size"]): line for line in mine}
    heads = [f"{size:,}: {unit}" for size in sizes for unit in ("s", "CPU s", "MB", "bytes a row")]
    rows = [f"| stage | {' | '.join(heads)} |", f"|---{'|---' * len(heads)}|"]
    for stage in dict.fromkeys(line["stage"] for line in mine):
        cells = [cell for size in sizes for cell in _cells(by_place.get((stage, size)))]
        rows.append(f"| `{stage}` | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n" if mine else ""


def _cells(line: Line | None) -> list[str]:
    if line is None:
        return ["-"] * 4
    over = ">" if line["ended"] == "limit" else ""
    size = "-" if line["bytes_per_row"] is None else f"{line['bytes_per_row']:g}"
    return [f"{over}{line['seconds']:g}", f"{line['cpu_seconds']:g}", f"{line['pss_mb']:,}", size]


def picture(lines: Iterable[Line]) -> str:
    """Seconds and memory of the stages of the whole pipeline, by the number of events, both axes logarithmic."""
    mine = [line for line in lines if line["name"] == "pipeline" and line["stage"] in DRAWN and line["ended"] == 0]
    panels = [
        _panel(0, "seconds of processors", mine, "cpu_seconds", (0.5, 2000), None),
        _panel(WIDTH, "peak memory, MB", mine, "pss_mb", (50, 4000), MOST_MB),
    ]
    width, height = 2 * WIDTH, HEIGHT + 60
    legend = "".join(
        f'<rect x="{20 + 130 * place}" y="{height - 22}" width="12" height="4" fill="{colour}"/>'
        f'<text x="{37 + 130 * place}" y="{height - 16}">{escape(stage)}</text>'
        for place, (stage, colour) in enumerate(DRAWN.items())
    )
    box = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="Seconds and memory, by events">\n'
        f'{STYLE}\n<rect class="page" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>\n'
        + "\n".join(panels)
        + f"\n{legend}\n</svg>\n"
    )


def _panel(
    at: int, title: str, lines: Sequence[Line], unit: str, ends: tuple[float, float], limit: float | None
) -> str:
    sizes = sorted({line["size"] for line in lines}) or [1, 10]
    wide, high = WIDTH - LEFT - 24, HEIGHT - TOP - 10
    x = _scale((sizes[0] / 1.3, sizes[-1] * 1.3), at + LEFT, wide)
    y = _scale(ends, TOP + high, -high)
    parts = [
        f'<text class="head" x="{at + 20}" y="30">{title}</text>',
        f'<rect class="frame" x="{at + LEFT}" y="{TOP}" width="{wide}" height="{high}"/>',
        *(f'<text class="middle" x="{x(size):.0f}" y="{TOP + high + 18}">{size:,}</text>' for size in sizes),
    ]
    for power in range(math.ceil(math.log10(ends[0])), math.floor(math.log10(ends[1])) + 1):
        place = y(10**power)
        parts.append(f'<line class="grid" x1="{at + LEFT}" x2="{at + LEFT + wide}" y1="{place:.0f}" y2="{place:.0f}"/>')
        parts.append(f'<text class="end" x="{at + LEFT - 6}" y="{place + 4:.0f}">{10**power:,}</text>')
    if limit:
        parts.append(
            f'<line class="limit" x1="{at + LEFT}" x2="{at + LEFT + wide}" y1="{y(limit):.0f}" y2="{y(limit):.0f}"/>'
            f'<text x="{at + LEFT + 6}" y="{y(limit) - 5:.0f}">2 GB</text>'
        )
    for stage, colour in DRAWN.items():
        own = sorted((line["size"], line[unit]) for line in lines if line["stage"] == stage)
        points = [(x(size), y(max(value, ends[0]))) for size, value in own]
        path = " ".join(f"{across:.1f},{up:.1f}" for across, up in points)
        parts.append(f'<polyline class="line" stroke="{colour}" points="{path}"/>')
        parts += [f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3" fill="{colour}"/>' for across, up in points]
    return "\n".join(parts)


def _scale(ends: tuple[float, float], start: float, length: float) -> Any:
    """Where a value lies on a logarithmic axis."""
    low, high = map(math.log, ends)
    return lambda value: start + (math.log(value) - low) / (high - low) * length
