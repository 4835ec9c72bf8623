"""Readers of this project's raw data, each written against ``weakfish.sources.Source``."""
