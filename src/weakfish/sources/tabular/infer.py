"""What files of rows hold, from a bounded sample of them: a mapping to propose, with a reason for each choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakfish.sources.tabular import guesses
from weakfish.sources.tabular.guesses import Choice, Column, take
from weakfish.sources.tabular.settings import Format


@dataclass(frozen=True)
class Inferred:
    """What a sample of ``rows`` rows, from ``looked_at`` of ``files`` files, says.

    ``columns`` are in the order of the files. ``texts``, ``entities`` and ``labels`` are candidates, the best first.
    ``notes`` are sentences about what a person should know.
    """

    files: int
    looked_at: int
    rows: int
    format: str
    delimiter: str | None
    encoding: str | None
    null_values: tuple[str, ...]
    columns: tuple[Column, ...]
    key: Choice | None
    time: Choice | None
    texts: tuple[Choice, ...]
    entities: tuple[Choice, ...]
    labels: tuple[Choice, ...]
    notes: tuple[str, ...]

    def settings(self, path: str, gold: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The ``source`` section that reads the files so; a key and gold are text, an event date is a time."""
        kinds: dict[str, str] = {column.name: column.kind for column in self.columns}
        kinds |= {choice.column: "string" for choice in [self.key] if choice}
        kinds |= {choice.column: "time" for choice in [self.time] if choice}
        kinds |= dict.fromkeys((gold or {}).values(), "string")
        found: dict[str, Any] = {"path": path, "format": self.format, "columns": kinds}
        found |= {"key": self.key.column if self.key else None, "time": self.time.column if self.time else None}
        found |= {name: value for name in ("delimiter", "encoding") if (value := getattr(self, name)) is not None}
        found |= {"gold": dict(gold)} if gold else {}
        return found | {"null_values": list(self.null_values)}


def infer(paths: str | Path | Sequence[str | Path], root: Path | None = None, kind: Format | None = None) -> Inferred:
    """Look at files, directories or globs, from ``root`` (default: the working directory).

    ``kind`` is the format of the files, which their suffixes tell otherwise.
    The sample is the first rows of up to fifty files spread over all, `sample.ROWS` rows altogether; it,
    and what is said of it, are the same whenever the files are.

    Raises
    ------
    ParamsError
        When a path cannot be used.
    SourceError
        When there are no files, or of several formats, or they cannot be read.
    """
    named = [paths] if isinstance(paths, str | Path) else paths
    sample = take(named, root or Path.cwd(), kind)
    columns = [
        guesses.describe(name, header, sample.rows[name].combine_chunks()) for name, header in sample.headers.items()
    ]
    key, time = guesses.key(columns), guesses.time(columns)
    taken = {choice.column for choice in (key, time) if choice}
    texts = guesses.texts(columns, taken)
    taken |= {choice.column for choice in texts}
    nulls, kept = _nulls(columns, sample.rows.to_pydict() if any(c.null_values for c in columns) else {})
    notes = [f"Column {header!r} is left out: another has the same plain name." for header in sample.left_out]
    notes += [f"{text!r} stands for null in some columns and is text in others; it stays as it is." for text in kept]
    notes += [f"{reject}." for reject in sample.rejects[:5]]
    if sample.encoding:
        notes.append(
            f"The files are not UTF-8; {sample.encoding} is a guess, correct source.encoding if it is another."
        )
    return Inferred(
        sample.files,
        sample.looked_at,
        sample.rows.num_rows,
        sample.format,
        sample.delimiter,
        sample.encoding,
        ("", *nulls),
        tuple(columns),
        key,
        time,
        texts,
        guesses.entities(columns, taken),
        guesses.labels(columns, taken),
        tuple(notes),
    )


def _nulls(columns: list[Column], values: dict[str, list[str | None]]) -> tuple[list[str], list[str]]:
    """Texts that stand for null in some column, and those of them that are text in another."""
    wanted = [text for text in guesses.NULLS if any(text in column.null_values for column in columns)]
    strings = {value for column in columns if column.kind == "string" for value in values.get(column.name, [])}
    return [text for text in wanted if text not in strings], [text for text in wanted if text in strings]
