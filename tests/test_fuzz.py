"""`make fuzz`: what raises, dies or hangs is found, with the case that repeats it, and the cases after it are tried."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fuzz
import pytest
from projects import write

KIND = """
    import contextlib, os, sys, time

    @contextlib.contextmanager
    def cases(folder):
        assert folder.is_dir()
        def one(draw):
            print("what a command prints")
            number = draw.randrange(10)
            {body}
            return "odd" if number % 2 else "even"
        yield one
"""


def found(
    folder: Path, monkeypatch: pytest.MonkeyPatch, body: str, case: int | None = None, seconds: float = 1
) -> fuzz.Found:
    write(folder / "fuzz_made.py", KIND.format(body=body))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return fuzz.fuzz("made", "s", seconds, case, silence=5)


def test_cases_are_counted_and_the_same_from_the_same_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(found(tmp_path, monkeypatch, "pass").tried) == {"odd", "even"}
    one = [found(tmp_path, monkeypatch, "raise ValueError(number)", case=7).findings for _ in range(2)]
    assert one[0] == one[1]
    assert [cases for _, cases in one[0].values()] == [[7]]


def test_cases_that_raise_alike_are_one_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = found(tmp_path, monkeypatch, "if number > 4: raise ValueError(f'no {number}')")
    ((said, cases),) = raised.findings.values()
    assert said.startswith("ValueError: no ")
    assert len(cases) > 1
    assert raised.tried.total() > 1


def test_a_process_that_dies_or_hangs_is_a_finding_and_the_next_case_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = found(tmp_path, monkeypatch, "print('words', file=sys.stderr); number > 4 and os.abort()", seconds=6)
    ((said, cases),) = died.findings.values()
    assert said.startswith("its process ended with -6; its last words:\n")
    assert (len(cases) > 1, died.tried.total() > 1) == (True, True)
    ((said, _),) = found(tmp_path, monkeypatch, "time.sleep(60)").findings.values()
    assert said.startswith("does not end within 5 s")


def test_a_kind_that_cannot_begin_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((said, cases),) = found(tmp_path, monkeypatch, "\n        x y").findings.values()
    assert "SyntaxError" in said
    assert cases == [-1]


def test_hostile_files_end_in_projects_or_sentences() -> None:
    command = [sys.executable, fuzz.__file__, "--seconds", "5", "--seed", "tests", "--kind", "files"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("SEED=tests\nfiles: ")
