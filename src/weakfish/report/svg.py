"""SVG as escaped markup: elements, scales, ticks. Pure; colours and sizes of text are left to CSS classes."""

from __future__ import annotations

import math
from collections.abc import Callable

from markupsafe import Markup, escape

Scale = Callable[[float], float]


def el(tag: str, *children: object, **attributes: object) -> Markup:
    """One element; a trailing underscore of an attribute's name is dropped, others become hyphens; all is escaped."""
    written = Markup("").join(
        Markup(' {}="{}"').format(_name(name), _text(value)) for name, value in attributes.items() if value is not None
    )
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), written, inside)  # noqa: S704  tags are literals of this package


def picture(title: str, width: float, height: float, *children: object, class_: str = "chart") -> Markup:
    """A whole picture that scales with its box; ``title`` is what a screen reader says."""
    box = f"0 0 {width:g} {height:g}"
    return el(
        "svg",
        el("title", title),
        *children,
        viewBox=box,
        role="img",
        aria_label=title,
        class_=class_,
        width=width,
        height=height,
    )


def text(x: float, y: float, content: object, class_: str = "", anchor: str = "start") -> Markup:
    """A line of text; ``y`` is its baseline."""
    return el("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, *children: object) -> Markup:
    """A rectangle; never of negative size."""
    return el("rect", *children, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=class_)


def path(points: list[tuple[float, float]], class_: str) -> Markup:
    """An open line through points."""
    drawn = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) if points else ""
    return el("path", d=drawn, class_=class_)


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Maps ``low..high`` to ``start..end``; values outside are drawn at the edge."""
    span = (high - low) or 1.0
    return lambda value: start + (min(max(value, low), high) - low) / span * (end - start)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within ``low..high``."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _name(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _text(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
