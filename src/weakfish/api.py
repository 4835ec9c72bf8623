"""A project from Python: ``weakfish.open(path)`` gives tables, metrics, explanations and features of the past.

Everything is read when it is asked for, from the files that the last run left; nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from weakfish.contracts.figures import counted
from weakfish.contracts.pointers import listed
from weakfish.contracts.record import EVENT_TIMESTAMP
from weakfish.contracts.reports import Metrics, read_report
from weakfish.contracts.tables import (
    by_period,
    folder,
    open_partition,
    partitions,
    read_partition,
    row_count,
    schema_of,
)
from weakfish.errors import TableError, UnknownName, UserError
from weakfish.project.paths import Project

if TYPE_CHECKING:
    import pandas as pd


FIRST, COLUMNS_SHOWN = 5, 12
"""Rows and columns of a table that a notebook shows."""


@dataclass(frozen=True, repr=False)
class StoredTable:
    """A table of the project, in Parquet files by partition; reading starts with `pandas`, `arrow` or `batches`.

    Attributes
    ----------
    name
        ``events``, ``labels/<task>``, ``training/<task>`` or ``gold/<task>``; of rows that are no events, ``staged``,
        ``quarantined`` or ``rejects``.
    folder
        Where the files are.
    may_be_empty
        Whether no file at all means no row, once the folder is there.
    """

    name: str
    folder: Path
    may_be_empty: bool = False

    def __repr__(self) -> str:
        """Name, rows, columns, partitions and folder, or that the table was not made yet."""
        try:
            files = self._files()
            columns = counted(len(self.columns), "column") if files else "no column"
            named = self.partitions
            extent = f", {' to '.join(dict.fromkeys((named[0], named[-1])))}" if named else ""
            return f"<{self.name}: {counted(len(self), 'row')}, {columns}{extent}, in {self.folder}>"
        except TableError as error:
            return f"<{self.name}: {error}>"

    def _repr_html_(self) -> str:
        """The same for notebooks, with the first rows."""
        said = f"<p>{escape(repr(self))}</p>"
        try:
            file = next(iter(self._files().values()))
            first = next(open_partition(file).iter_batches(batch_size=FIRST))
        except (TableError, StopIteration):
            return said
        shown: str = first.to_pandas().to_html(index=False, border=0, max_cols=COLUMNS_SHOWN)
        return said + shown

    def _files(self) -> dict[str, Path]:
        """The partitions' files by name; none of a table that may be empty and is."""
        if self.may_be_empty and self.folder.is_dir() and not any(listed(self.folder)):
            return {}
        return partitions(self.folder)

    @property
    def schema(self) -> pa.Schema:
        """Columns and types; raises `TableError` when the table was not made yet."""
        return schema_of(self.folder) if self._files() else pa.schema([])

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.schema.names)

    @property
    def partitions(self) -> list[str]:
        """The names of the partitions, such as ``2002-08``, in order; one that lies in several files is one."""
        return list(by_period(self._files()))

    def __len__(self) -> int:
        """The number of rows, from the files' metadata."""
        return sum(row_count(file) for file in self._files().values())

    def batches(self, columns: Sequence[str] | None = None, partition: str | None = None) -> Iterator[pa.Table]:
        """The rows one file after the other, so that the whole never has to fit into memory.

        A file holds a partition, or of one with very many rows a part.

        Parameters
        ----------
        columns
            Names of the columns to read; by default all.
        partition
            The only partition to read; by default all.

        Raises
        ------
        TableError
            When the table was not made yet, a file is cut off, or a column does not exist.
        UnknownName
            When there is no such partition.
        """
        parts = by_period(self._files())
        if partition is not None and partition not in parts:
            raise UnknownName("partition", partition, parts, self.name)
        for name in parts if partition is None else [partition]:
            yield from (read_partition(file, columns) for file in parts[name])

    def arrow(self, columns: Sequence[str] | None = None, partition: str | None = None) -> pa.Table:
        """The rows as an Arrow table, in the order of time and key; parameters and errors as in `batches`."""
        found = list(self.batches(columns, partition))
        return pa.concat_tables(found) if found else pa.table({})

    def pandas(self, columns: Sequence[str] | None = None, partition: str | None = None) -> pd.DataFrame:
        """The rows as a data frame, times in UTC; parameters and errors as in `batches`."""
        frame: pd.DataFrame = self.arrow(columns, partition).to_pandas()
        return frame


@dataclass(frozen=True, repr=False)
class OpenProject:
    """A project, open for reading; `weakfish.open` makes it."""

    _project: Project

    @classmethod
    def at(cls, path: Path) -> OpenProject:
        """The project that holds ``path``; raises `UserError` where there is none."""
        return cls(Project.find(path))

    def __repr__(self) -> str:
        return f"weakfish.open({str(self.root)!r})"

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self._project.root

    @property
    def tasks(self) -> list[str]:
        """The labeling tasks of ``params.yaml``."""
        return list(self._project.params.tasks)

    def classes(self, task: str | None = None) -> list[str]:
        """The classes of a task, in the order of their columns ``p_<class>``; the task as in `labels`."""
        return list(self._project.task(self._task(task)).classes)

    @property
    def events(self) -> StoredTable:
        """The accepted events; one row per event."""
        return self._table("events")

    @property
    def staged(self) -> StoredTable:
        """The rows as they were read, before the checks: those of `events` and the quarantined ones."""
        return StoredTable("staged", self._project.staged("events"))

    @property
    def quarantined(self) -> StoredTable:
        """The rows that failed a critical check: the events' columns, and ``reasons``, each a check and its why."""
        return StoredTable("quarantined", self._project.table("quarantine/events"), may_be_empty=True)

    @property
    def rejects(self) -> StoredTable:
        """The raw lines that became no row, with file, line, reason and text; ``ingest`` writes them."""
        return StoredTable("rejects", self._project.table("quarantine/raw"), may_be_empty=True)

    def labels(self, task: str | None = None) -> StoredTable:
        """The labels of a task; one row per event.

        Columns: the events' key and time, ``p_<class>`` (they add up to 1), ``label`` (null where no class leads),
        ``covered`` (whether a labeling function voted) and ``n_votes``; with a reader ``rests_on`` (``votes``, ``row``
        or ``both``, null where there is no label). With known labels ``rests_on`` is ``known`` where there is one,
        ``label`` is that class, which ``known`` repeats (null elsewhere), and ``p_<class>`` what would be said without
        it.

        Raises
        ------
        UserError
            When ``task`` is left out and there are several.
        UnknownName
            When there is no such task.
        """
        return self._table(f"labels/{self._task(task)}")

    def training(self, task: str | None = None) -> StoredTable:
        """The training set of a task: labels beside ``<view>__<feature>`` as known at each event's time.

        The task as in `labels`.
        """
        return self._table(f"training/{self._task(task)}")

    def gold(self, task: str | None = None) -> StoredTable:
        """The dev part of a task's gold labels: the events' key and ``label``; the test part is `evaluate`'s alone.

        The task as in `labels`.
        """
        name = self._task(task)
        return StoredTable(f"gold/{name}", folder(self._project, name, "dev"))

    @property
    def metrics(self) -> pd.DataFrame:
        """How good the labels are, and what a classifier learns from them, measured on the test part of gold.

        Returns
        -------
        pandas.DataFrame
            Columns ``task``, ``model``, ``metric``, ``value``, ``low`` and ``high`` (the ends of the 95 % interval,
            null where there is none).

        Raises
        ------
        TableError
            When nothing was evaluated yet.
        """
        import pandas as pd

        found = read_report(self, Metrics)
        rows = [
            (task, model, name, metric.value, *(metric.interval or (None, None)))
            for task, of_task in found.tasks.items()
            for model, metrics in of_task.models.items()
            for name, metric in metrics.items()
        ]
        return pd.DataFrame(rows, columns=["task", "model", "metric", "value", "low", "high"])

    def explain(self, key: str, task: str | None = None) -> dict[str, Any]:
        """Why the event ``key`` has its label: what each vote adds to the log odds, and the model behind it.

        The fields are those of `weakfish explain --json`. The task as in `labels`; raises as
        `weakfish.labeling.explain.explain`.
        """
        from weakfish.labeling.explain import explain

        return explain(self._project, self._task(task), str(key))

    def features(self, frame: pd.DataFrame | pa.Table, task: str | None = None) -> pd.DataFrame:
        """The features of your own rows as they were known at the time of each: those that a model trains on.

        Parameters
        ----------
        frame
            One row per question: ``event_timestamp`` (UTC where it has no zone) and the entity columns that the
            task's feature service asks for; other columns are kept.
        task
            As in `labels`.

        Returns
        -------
        pandas.DataFrame
            ``frame``, its rows in their order, and one column ``<view>__<feature>`` per feature; null where nothing
            was known yet.

        Raises
        ------
        UserError
            When the frame lacks a column.
        TrainingError
            When Feast fails, or the definitions do not fit the tables.
        """
        import pandas as pd

        from weakfish.feast.registry import historical_store
        from weakfish.training.asked import describe, retrieve

        given = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
        name = self._task(task)
        with historical_store(self._project) as store:
            asked = describe(store, self._project, name)
            needed = [*asked.columns, EVENT_TIMESTAMP]
            missing = [column for column in needed if column not in given.column_names]
            if missing:
                raise UserError(
                    f"The frame has no column {', '.join(missing)}; the features of {name} are asked for by "
                    f"{', '.join(needed)}."
                )
            found = retrieve(store, asked, given.select(needed)).to_pandas()
        kept = given.to_pandas() if isinstance(frame, pa.Table) else frame
        found.index = kept.index
        joined: pd.DataFrame = pd.concat([kept, found], axis=1)
        return joined

    def _table(self, name: str) -> StoredTable:
        return StoredTable(name, self._project.table(name))

    def _task(self, name: str | None) -> str:
        known = self.tasks
        if name is None and len(known) > 1:
            raise UserError(f"There are several tasks ({', '.join(known)}); say which.")
        self._project.task(name or known[0])
        return name or known[0]
