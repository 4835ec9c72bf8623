"""Where things are: paths, settings, revisions, records of runs."""
