"""Values of a column of gold labels as classes: plain names, no two of which differ in case or spaces alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from weakfish.errors import UserError
from weakfish.project.params import MOST_CLASSES
from weakfish.scaffold.literals import unused
from weakfish.sources.tabular.settings import plain

LONGEST = 100
"""Characters of a value that can stand for a class; also escaped, it is short enough for a key of YAML."""

DEFAULT = ("negative", "positive")
"""The classes of a task without labels, until someone names them."""

_FALSE, _TRUE = ("false", "f", "no", "n", "0"), ("true", "t", "yes", "y", "1")
_NO_STRINGS = {"true", "false", "yes", "no", "on", "off", "null"}
"""What YAML takes for something else than a text, unless it is quoted."""

_SAYS_NOTHING = {"label", "class", "category", "target", "outcome", "verdict", "gold", "truth", "y"}
_QUESTION = re.compile(r"^(is|has|was|did)_(?=\w)")


def classes_of(
    values: Iterable[str], column: str, wanted: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[str, str] | None]:
    """The classes, and the class of each value where the values themselves are none.

    Values that differ only in case and spaces are one class. ``wanted`` gives the classes and their order: as values
    stand in the column, or by their plain names; two of them name the false and the true of a column of such.

    Raises
    ------
    UserError
        When there are fewer than two or more than `MOST_CLASSES`, or values that are too long or none of ``wanted``.
    """
    found = sorted(set(values), key=_order)
    if not found:
        return tuple(wanted) or DEFAULT, None
    if (longest := max(map(len, found))) > LONGEST:
        raise UserError(
            f"Column {column!r} has a value of {longest:,} characters, and one that stands for a class has at most "
            f"{LONGEST}; name another column with --label."
        )
    named = _named(found, column)
    if wanted:
        named = _renamed(named, wanted, column)
    classes = tuple(wanted) or tuple(dict.fromkeys(named.values()))
    if len(classes) < 2:
        raise UserError(
            f"Column {column!r} has one value, {found[0]!r}, and a task needs two classes or more; "
            "name them with --classes, or another column with --label."
        )
    if len(classes) > MOST_CLASSES:
        raise UserError(
            f"Column {column!r} has {len(classes)} values, and a task has at most {MOST_CLASSES} classes; "
            "name another column with --label, or bring them together before."
        )
    return classes, None if all(value == name for value, name in named.items()) else named


def _order(value: str) -> tuple[bool, int, str, str]:
    number = re.fullmatch(r"([+-]?\d{1,18})(\.0+)?", value)
    return number is None, int(number[1]) if number else 0, value.casefold(), value


def _named(values: list[str], column: str) -> dict[str, str]:
    """A plain name for each value."""
    sides = {value: _alike(value) in _TRUE for value in values if _alike(value) in (*_FALSE, *_TRUE)}
    if len(sides) == len(values) and len(set(sides.values())) == 2:
        what = _QUESTION.sub("", column)
        no, yes = DEFAULT if what in _SAYS_NOTHING else (f"not_{what}", what)
        return {value: yes if sides[value] else no for value in sorted(values, key=lambda value: sides[value])}
    alike = dict.fromkeys(map(_alike, values))
    quoted = any(value.casefold() in _NO_STRINGS for value in values)
    if len(alike) == len(values) and all(value.isidentifier() for value in values) and not quoted:
        return {value: value for value in values}
    taken: set[str] = set()
    names = {key: unused(_plain(key, column, prefixed=quoted), taken) for key in alike}
    return {value: names[_alike(value)] for value in values}


def _alike(value: str) -> str:
    """What values of one class have in common: `1.0` is 1, as a whole number is where another value is missing."""
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", re.sub(r"\s+", " ", value.casefold()))


def _plain(value: str, column: str, *, prefixed: bool) -> str:
    if re.fullmatch(r"[+-]?\d+", value):
        return f"{column}_{value.lstrip('+').replace('-', 'minus_')}"
    name = plain(value) if re.search(r"\w", value) else "value"
    return f"{column}{name}" if name.startswith("_") else f"{column}_{name}" if prefixed else name


def _renamed(named: dict[str, str], wanted: Sequence[str], column: str) -> dict[str, str]:
    """The wanted class of each value."""
    by_name = {**{_alike(name): name for name in wanted}, **{name: name for name in wanted}}
    truths = all(_alike(value) in (*_FALSE, *_TRUE) for value in named)
    if len(wanted) == 2 and truths and not any(_alike(value) in by_name for value in named):
        return {value: wanted[_alike(value) in _TRUE] for value in named}
    found = {value: by_name.get(_alike(value)) or by_name.get(name) for value, name in named.items()}
    strange = [value for value, name in found.items() if name is None]
    if strange:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise UserError(
            f"Column {column!r} has values that are none of --classes {','.join(wanted)}: "
            f"{', '.join(map(repr, strange[:3]))}{more}; name all of its classes."
        )
    return {value: name for value, name in found.items() if name is not None}
