"""What tests need of the machine that pip does not bring, and what becomes of tests where it is missing."""

from __future__ import annotations

import os
import shutil
from collections import Counter

import pytest
from _pytest.terminal import TerminalReporter

NEEDS = "needs "


def program(package: str, *names: str) -> str:
    """The path of a program of Debian's ``package``, called like it or one of ``names``.

    Where it is missing the test is left out, which `left_out` says at the end; with CI set it fails.
    """
    found = next((path for name in (package, *names) if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{package} is not installed, and in CI no test may be left out: apt-get install {package}")
        pytest.skip(NEEDS + package)
    return found


def left_out(reporter: TerminalReporter) -> None:
    """Say which groups of tests were left out for want of a program, and what adds them."""
    reasons = [report.longrepr[2] for report in reporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    groups = Counter(reason.split(NEEDS, 1)[1] for reason in reasons if NEEDS in reason)
    if not groups:
        return
    reporter.section("left out")
    for package, number in sorted(groups.items()):
        reporter.write_line(f"{number} tests that need {package}")
    reporter.write_line(
        f"To add them: apt-get install {' '.join(sorted(groups))} (as root; `make test` then does so itself)"
    )
