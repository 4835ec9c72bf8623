"""Suites of expectations on the engine: metrics are computed here, Great Expectations judges them."""

from __future__ import annotations

from weakfish.checks.expectations.outcome import Outcome, plain, run

__all__ = ["Outcome", "plain", "run"]
