"""Tables that others keep, read as they were at one moment: Delta, Iceberg, and those of a database."""

from weakfish.sources.lake.snapshot import TableAt, TableSnapshot, open_table, save

__all__ = ["TableAt", "TableSnapshot", "open_table", "save"]
