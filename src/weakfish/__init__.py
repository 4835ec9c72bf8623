"""Weakfish: events in; labels nobody typed, features that train and serve the same, and the evidence for both out."""

__version__ = "0.1.0"
