"""The command line: one thin command per verb."""

from weakfish.cli.main import main

__all__ = ["main"]
