"""As-of joins of views with all events, by workers of the fleet: bucket by bucket of a view's entities."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from weakfish.contracts.pointers import named
from weakfish.contracts.tables import partitions, row_count
from weakfish.engine import fleet
from weakfish.project.paths import Project
from weakfish.training.asked import bounded, explained, refuse_ties

WORKS = {"scatter": "rows into buckets", "join": "buckets"}
"""What workers do, for people."""


@dataclass(frozen=True)
class JoinLimits:
    """How much is worked on at a time; no result depends on it.

    Attributes
    ----------
    batch : int
        Rows of which features are held at once, beside those of a stretch.
    stretch : int
        Events that are put together with their features at a time, unless one partition has more.
    bucket : int
        Rows of events and of a view together that are joined at a time, about.
    """

    batch: int = 1 << 16
    stretch: int = 1 << 19
    bucket: int = 1 << 22

    @classmethod
    def of(cls, project: Project) -> JoinLimits:
        """Those for where work runs: one machine gains nothing by buckets while DuckDB need not spill much."""
        return cls() if fleet.is_elsewhere(project) else cls(bucket=1 << 26)


@dataclass(frozen=True)
class EventStretch:
    """Partitions of the events that follow each other.

    Attributes
    ----------
    files : dict of str to pathlib.Path
        By the name of the partition.
    starts : list of int
        The numbers of the first rows of each, among all events.
    end : int
        The number after the last row.
    """

    files: Mapping[str, Path]
    starts: Sequence[int]
    end: int

    @property
    def rows(self) -> int:
        """How many events it has."""
        return self.end - self.starts[0]


def stretches(files: Mapping[str, Path], most: int) -> Iterator[EventStretch]:
    """All partitions as stretches of at most so many rows, or of one partition."""
    held: dict[str, Path] = {}
    starts, end = list[int](), 0
    for name, file in files.items():
        rows = row_count(file)
        if held and end - starts[0] + rows > most:
            yield EventStretch(held, starts, end)
            held, starts = {}, []
        held[name] = file
        starts.append(end)
        end += rows
    yield EventStretch(held, starts, end)


class Joins:
    """The features of views at all events, those of each view joined once, whichever tasks ask for them."""

    def __init__(self, project: Project, scratch: Path, limits: JoinLimits) -> None:
        self.project, self.scratch, self.limits = project, scratch, limits
        self.files = partitions(project.table("events"))
        self.stretches = list(stretches(self.files, limits.stretch))
        self._done: dict[str, list[list[str]]] = {}

    def features(self, view: Any, source: Any, table: str, service: str) -> list[list[str]]:
        """For each stretch the files, by their paths in the project, with ``row`` and features of those of its rows.

        Parameters
        ----------
        view : weakfish.feast.asof.ViewColumns
        source : feast.FileSource
        table : str
            What the view reads.
        service : str
            Who asks for it, for messages.

        Raises
        ------
        TrainingError
            When keys cannot be compared, the table holds rows of the same keys and times, or DuckDB fails.
        """
        from weakfish.feast.source_files import as_they_lie, names_of

        with explained(service):
            stored, repo = names_of(source), self.project.root / "feature_repo"
            rows = [named(file) for file in as_they_lie(source.path, repo, f"source {source.name!r}")]
        of = {**asdict(view), "ttl": view.ttl and view.ttl // timedelta(microseconds=1), "stored": stored}
        shared = {"view": of, "table": table, "service": service, "time": self.project.params.events.time}
        digest = json.dumps([of, table])
        if digest not in self._done:
            folder = self.scratch / f"view_{len(self._done)}"
            self._done[digest] = _OfView(self, shared, rows, folder).joined()
        return self._done[digest]

    def name(self, file: Path) -> str:
        """A file as items name it: in the project if it lies there."""
        for root in (self.project.root, self.project.root.resolve()):
            if file.is_relative_to(root):
                return file.relative_to(root).as_posix()
        return str(file)


class _OfView:
    """The joins of one view; ``shared`` is what all items have."""

    def __init__(self, joins: Joins, shared: Mapping[str, Any], rows: Sequence[Path], folder: Path) -> None:
        self.joins, self.shared, self.rows, self.folder = joins, shared, rows, folder
        self.stretches, self.most = joins.stretches, joins.limits.bucket

    @cached_property
    def buckets(self) -> int:
        """How many there are: one where a worker holds all, so that no row has to be put into buckets before."""
        every = self.stretches[-1].end + sum(map(row_count, self.rows))
        return max(1, -(-every // self.most))

    def joined(self) -> list[list[str]]:
        found: list[list[str]] = [[] for _ in self.stretches]
        items = list(self._whole() if self.buckets == 1 else self._in_buckets())
        for item in items:
            for stretch, file in item["to"].items():
                found[int(stretch)].append(file["file"])
        self._run("join", items)
        return found

    def _whole(self) -> Iterator[dict[str, Any]]:
        """All events beside all rows of the view."""
        of_events = {"files": self._names(self.joins.files.values()), "starts": self._starts, "unit": None}
        yield self._item(of_events, self._names(self.rows), range(len(self.stretches)), 0, 0)

    def _in_buckets(self) -> Iterator[dict[str, Any]]:
        """Bucket by bucket; where one has very many events, some stretches of them at a time."""
        sides: list[dict[str, Any]] = [
            {"events": self._names(stretch.files.values()), "starts": stretch.starts} for stretch in self.stretches
        ]
        sides += [{"rows": self._name(file)} for file in self.rows]
        kind = {"first": self._name(self.rows[0]), "buckets": self.buckets, "batch": self.joins.limits.batch}
        tos = [self._name(self.folder / f"side_{number}") for number in range(len(sides))]
        items = [{**self.shared, **kind, **side, "to": to} for side, to in zip(sides, tos, strict=True)]
        receipts, of_rows = self._run("scatter", items), tos[len(self.stretches) :]
        events = receipts[: len(self.stretches)]
        for bucket in range(self.buckets):
            for place, run in enumerate(self._runs([side["counts"][bucket] for side in events])):
                files = [_bucket(tos[number], bucket) for number in run]
                of_events = {"files": files, "starts": None, "unit": events[0]["unit"]}
                yield self._item(of_events, [_bucket(to, bucket) for to in of_rows], run, bucket, place)

    def _runs(self, counts: Sequence[int]) -> Iterator[list[int]]:
        """All stretches, as many together as do not have too many events of a bucket."""
        run, held = list[int](), 0
        for number, count in enumerate(counts):
            if run and held + count > self.most:
                yield run
                run, held = [], 0
            run.append(number)
            held += count
        yield run

    def _item(
        self, events: Mapping[str, Any], rows: Sequence[str], run: Sequence[int], bucket: int, place: int
    ) -> dict[str, Any]:
        ends = {number: self.stretches[number].end for number in run}
        file = self.folder / "joined"
        to = {
            str(number): {"end": end, "file": self._name(file / str(number) / f"{bucket}-{place}.parquet")}
            for number, end in ends.items()
        }
        batch, first = self.joins.limits.batch, not place
        return {**self.shared, "events": events, "rows": rows, "to": to, "batch": batch, "first": first}

    @property
    def _starts(self) -> list[int]:
        return [start for stretch in self.stretches for start in stretch.starts]

    def _run(self, work: str, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        def seconds(_: Project) -> float:
            return 0.0  # one process of DuckDB has all of this machine's processors at work

        what = f"training-set: {WORKS[work]} of {self.shared['view']['name']}"
        return fleet.receipts(self.joins.project, f"{__name__}:{work}", items, what, seconds)

    def _names(self, files: Any) -> list[str]:
        return [self._name(file) for file in files]

    def _name(self, file: Path) -> str:
        return self.joins.name(file)


def _bucket(folder: str, number: int) -> str:
    return f"{folder}/{number}.parquet"


# --- What workers do -------------------------------------------------------------------------------------------------


def scatter(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Put rows of one side into buckets; the receipt says how many each has, and the unit of the events' times."""
    from weakfish.feast import buckets
    from weakfish.feast.source_files import open_listed

    view = _view(item)
    files = [project.root / item["to"] / f"{number}.parquet" for number in range(item["buckets"])]
    with _opened(project, item) as opened:
        if "rows" in item:
            source = open_listed(opened, [project.root / item["rows"]], _what(item), item["view"]["stored"])
            return {"counts": buckets.scatter_rows(opened, view, source, files, item["batch"])}
        first = open_listed(opened, [project.root / item["first"]], _what(item), item["view"]["stored"])
        kinds = {key: first.type(key) for key in view.keys}
        spine = _events(opened, project, item["events"], item["starts"], item)
        counts = buckets.scatter_spine(opened, view, spine, kinds, files, item["batch"])
        return {"counts": counts, "unit": spine.unit}


def join(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Join some events with all rows of a view that may be theirs."""
    from weakfish.feast import buckets
    from weakfish.feast.source_files import open_listed

    view, events = _view(item), item["events"]
    files = {to["end"]: project.root / to["file"] for to in item["to"].values()}
    with _opened(project, item) as opened:
        rows = [project.root / file for file in item["rows"]]
        source = open_listed(opened, rows, _what(item), item["view"]["stored"])
        if item["first"]:
            refuse_ties(opened, source, view.name, item["table"], list(view.keys))
        if events["unit"]:
            there = [project.root / file for file in events["files"]]
            spine = buckets.spine_of_bucket(opened, there, events["unit"], list(view.keys.values()))
        else:
            spine = _events(opened, project, events["files"], events["starts"], item)
        buckets.join(opened, view, source, spine, files, item["batch"])
    return {}


def _events(opened: Any, project: Project, files: Sequence[str], starts: Sequence[int], item: fleet.Item) -> Any:
    from weakfish.feast.buckets import spine_of_events

    there, keys = [project.root / file for file in files], list(item["view"]["keys"].values())
    return spine_of_events(opened, there, starts, item["time"], keys)


@contextmanager
def _opened(project: Project, item: fleet.Item) -> Iterator[Any]:
    """A session of DuckDB; what goes wrong in it is said of the feature service."""
    from weakfish.feast.source_files import session

    with explained(item["service"]), session(fleet.prepared(_config, project)) as opened:
        yield opened


def _config(project: Project) -> Any:
    from weakfish.feast.registry import offline_config

    return bounded(offline_config(project))


def _view(item: fleet.Item) -> Any:
    from weakfish.feast.asof import ViewColumns

    of = {name: value for name, value in item["view"].items() if name != "stored"}
    return ViewColumns(**{**of, "ttl": of["ttl"] and timedelta(microseconds=of["ttl"])})


def _what(item: fleet.Item) -> str:
    return f"view {item['view']['name']!r}"
