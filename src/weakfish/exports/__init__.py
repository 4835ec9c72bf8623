"""Our tables as tables that others keep: Delta and Iceberg."""
