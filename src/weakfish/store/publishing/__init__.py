"""Feature tables into the online store as versions: written by what changed, audited, undone."""
