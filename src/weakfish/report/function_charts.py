"""The pictures of labeling functions, as SVG: votes over time, the label model's loss, the form of each class.

Classes go by colour and, where dots are small, by form as well; of more classes than there are colours, all have one.
What a shade or a dot stands for is in its title.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from weakfish.report.charts import COLOURS, SQUARE, WIDE, colour, column_names
from weakfish.report.functions import Row
from weakfish.report.label_records import Partition
from weakfish.report.svg import el, line, linear, path, picture, rect, text, ticks
from weakfish.report.words import percent, shorten

CELL, GAP = 16.0, 36.0
SHADES = (0.01, 0.05, 0.2, 0.5, 1.0)
LETTERS = 32
"""Longer names are cut in pictures; titles have them whole."""

LETTER = 6.3
"""Width of a letter of a name, of 10.5 units of monospace."""


def votes_over_time(title: str, classes: Sequence[str], rows: Sequence[Row], parts: Sequence[Partition]) -> Markup:
    """A line per function, a cell per partition: shade is coverage, colour the class, split where there are several.

    The first line is the share that no function covers.
    """
    left, right, y = 216.0, WIDE - 26.0, 26.0
    step = (right - left) / max(len(parts), 1)
    names = [part.partition for part in parts]
    drawn = [*column_names(names, left, step, 14), *_uncovered(parts, left, step, y)]
    group: object = object()
    for row in rows:
        y += CELL if row.place == group else GAP
        if row.place != group:
            drawn.append(text(left, y - 5, _group(classes, row), "axis"))
            group = row.place
        drawn += _cells(classes, row, parts, left, step, y)
    return picture(title, WIDE, y + CELL + 4, *drawn, class_="chart heat")


def shades(classes: Sequence[str]) -> Markup:
    """What shades and colours of `votes_over_time` stand for."""
    classes = classes if len(classes) <= COLOURS else [f"any of {len(classes)} classes"]
    drawn: list[Markup] = [text(0, 13, "coverage", "axis")]
    for place, share in enumerate(SHADES):
        drawn.append(text(90 + 48.0 * place, 13, f"{share:.0%}", "axis", "middle"))
    for row, name in enumerate([*classes, "uncovered"]):
        y, fill = 20 + 18.0 * row, f"h{colour(row)}" if row < len(classes) else "void"
        drawn += [_cell(66 + 48.0 * place, y, 48, fill, share) for place, share in enumerate(SHADES)]
        drawn.append(text(314, y + 12, name, "axis"))
    width = 320 + 7.5 * max(map(len, [*classes, "uncovered"]))
    return picture("Shades of coverage, by class", width, 24 + 18 * (len(classes) + 1), *drawn, class_="key-of-shades")


def losses(title: str, points: Sequence[tuple[int, float]]) -> Markup:
    """The label model's loss over epochs."""
    left, right, top, bottom = 52.0, SQUARE - 14.0, 14.0, 150.0
    most = max(loss for _, loss in points)
    x, y = (
        linear(points[0][0], points[-1][0], left, right),
        linear(min(0.0, *(b for _, b in points)), most, bottom, top),
    )
    drawn = [line(left, bottom, right, bottom, "base"), path([(x(a), y(b)) for a, b in points], "line s7")]
    for tick in ticks(min(0.0, *(b for _, b in points)), most, 3):
        drawn += [line(left, y(tick), right, y(tick), "grid"), text(left - 8, y(tick) + 4, f"{tick:g}", "axis", "end")]
    for epoch, anchor in ((points[0][0], "start"), (points[-1][0], "end")):
        drawn.append(text(x(epoch), bottom + 18, f"{epoch:,}", "axis", anchor))
    drawn.append(text((left + right) / 2, bottom + 18, "epochs", "axis name", "middle"))
    return picture(title, SQUARE, 176, *drawn)


def mark(place: int | None, x: float, y: float, size: float, *children: object) -> Markup:
    """A class's form and colour: circle, square, diamond, triangle; a ring where a function votes for several."""
    if place is None:
        return el("circle", *children, cx=x, cy=y, r=size, class_="mark ring")
    class_, form = f"mark h{colour(place)}", place % 4
    if form == 0:
        return el("circle", *children, cx=x, cy=y, r=size, class_=class_)
    if form == 1:
        return el(
            "rect", *children, x=x - size * 0.9, y=y - size * 0.9, width=size * 1.8, height=size * 1.8, class_=class_
        )
    corners = (
        [(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)] if form == 2 else [(0.0, -1.2), (1.2, 0.9), (-1.2, 0.9)]
    )
    points = " ".join(f"{x + a * size:.1f},{y + b * size:.1f}" for a, b in corners)
    return el("polygon", *children, points=points, class_=class_)


def swatch(place: int) -> Markup:
    """A class's `mark`, for a legend."""
    return el("svg", mark(place, 7, 7, 5), viewBox="0 0 14 14", class_="form", aria_hidden="true")


def _group(classes: Sequence[str], row: Row) -> str:
    if row.place is None:
        return "votes for several classes" if row.function.polarity else "never votes"
    return f"votes {classes[row.place]}"


def _uncovered(parts: Sequence[Partition], left: float, step: float, y: float) -> list[Markup]:
    drawn = [text(left - 8, y + 12, "covered by none", "axis", "end"), _track(left, step * len(parts), y)]
    for place, part in enumerate(parts):
        share = 1 - part.covered / part.rows if part.rows else 0.0
        what = el("title", f"{part.partition}: {percent(share)} of {part.rows:,} rows are uncovered")
        drawn.append(_cell(left + step * place, y, step, "void", share, what))
    return drawn


def _cells(
    classes: Sequence[str], row: Row, parts: Sequence[Partition], left: float, step: float, y: float
) -> list[Markup]:
    name = row.function.name
    drawn = [text(left - 8, y + 12, shorten(name, LETTERS), "name", "end"), _track(left, step * len(parts), y, name)]
    for place, part in enumerate(parts):
        drawn += _split(classes, name, part, left + step * place, y, step)
    return drawn


def _split(classes: Sequence[str], name: str, part: Partition, x: float, y: float, step: float) -> list[Markup]:
    """The cell of a function in a partition: as wide for each class as it has votes."""
    votes = part.votes.get(name, [])
    if not part.rows or not (total := sum(votes)):
        return []
    says = ", ".join(f"{count:,} {called}" for called, count in zip(classes, votes, strict=False) if count)
    what = f"{name}, {part.partition}: {percent(total / part.rows)} of {part.rows:,} rows, {says}"
    drawn = []
    for number, count in enumerate(votes):
        width = step * count / total
        if count:
            hue = colour(number) if len(classes) <= COLOURS else 0
            drawn.append(_cell(x, y, width, f"h{hue}", total / part.rows, el("title", what)))
        x += width
    return drawn


def _cell(x: float, y: float, width: float, class_: str, share: float, *children: object) -> Markup:
    """Its shade goes with the root of the share, so that small shares are told apart."""
    opacity = f"{math.sqrt(min(max(share, 0.0), 1.0)):.2f}"
    attributes = {"x": x, "y": y, "width": max(width - 0.6, 0.2), "height": CELL - 1.5}
    return el("rect", *children, **attributes, class_=class_, fill_opacity=opacity)


def _track(left: float, width: float, y: float, name: str = "") -> Markup:
    return rect(left, y, width, CELL - 1.5, "ground", *([el("title", name)] if name else []))
