"""What a long piece of work says of itself."""

from __future__ import annotations

from itertools import count

import pytest

from weakfish.project import runs


def test_slow_work_ends_its_progress_at_the_total_and_fast_work_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = runs.Progress("rows", 800)
    for _ in range(8):
        fast.add(100)
    assert capsys.readouterr().err == ""
    halves = count(0, 0.5)
    monkeypatch.setattr(runs.time, "monotonic", lambda: next(halves))
    slow = runs.Progress("rows", 500)
    for _ in range(5):
        slow.add(100)
    assert capsys.readouterr().err.splitlines() == ["rows: 200 of 500", "rows: 400 of 500", "rows: 500 of 500"]
