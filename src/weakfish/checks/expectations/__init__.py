"""Suites of Great Expectations expectations on the engine: metrics are computed here, Great Expectations judges them.

Only this package knows that library's objects. It imports the library when a suite runs, which takes seconds.
"""

from __future__ import annotations

from weakfish.checks.expectations.outcome import Outcome, plain
from weakfish.checks.expectations.run import run

__all__ = ["Outcome", "plain", "run"]
