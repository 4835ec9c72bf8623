"""The story of docs/data-scientists.md and docs/dataops.md: a person answers in a browser, and the next run follows."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import browse
from projects import BIN, git, made, weakfish
from test_review_page import SAID, press, until

from weakfish.contracts.ledgers import read_runs
from weakfish.files import read_json
from weakfish.project.paths import Project


@pytest.fixture(scope="module")
def checkout(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo after a run that is committed."""
    root = made(tmp_path_factory.mktemp("story") / "weakfish")
    run(root)
    git(root, "commit", "--quiet", "--allow-empty", "--message", "Run the pipeline", "--", "dvc.lock")
    yield root
    weakfish(root, "online", "stop")


def run(root: Path) -> set[str]:
    """Bring the pipeline up to date; the stages that ran."""
    before = {stage: found.started_at for stage, found in read_runs(Project(root)).items()}
    done = weakfish(root, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return {stage for stage, found in read_runs(Project(root)).items() if found.started_at != before.get(stage)}


@contextmanager
def reviewing(root: Path, purpose: str) -> Iterator[str]:
    """`weakfish review` at work, by its address; it is interrupted when the block ends."""
    command = [BIN / "weakfish", "review", "--no-open", "--purpose", purpose, "--reviewer", "ada", "--rows", "40"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = process.stdout.readline().strip()
        assert address, process.stderr and process.stderr.read()
        try:
            yield address
        finally:
            process.terminate()
        assert "Commit reviews/spam" in process.stdout.read()


def answer(root: Path, purpose: str, keys: str) -> None:
    """A person presses keys, each when the page has said that the one before is kept."""
    with reviewing(root, purpose) as address, browse() as browser:
        browser.visit(address)
        until(browser, "document.querySelectorAll('#classes button:not(:disabled)').length === 2")
        for number, key in enumerate(keys, 1):
            press(browser, key)
            until(browser, f"document.getElementById('progress').textContent.startsWith('{number} ')")
            until(browser, f"{SAID}.startsWith('Kept')")


def test_answers_teach_the_labels_and_measure_them_and_no_stage_runs_that_needs_not(checkout: Path) -> None:
    answer(checkout, "learn", "12121")
    ran = run(checkout)
    assert {"gather_reviews", "label", "features", "evaluate"} <= ran
    assert not {"ingest", "validate_events", "accept", "vote"} & ran
    assert "reviews" in weakfish(checkout, "diff", "HEAD").stdout.partition("\n")[0]
    answer(checkout, "estimate", "1?21s2")
    ran = run(checkout)
    assert {"gather_reviews", "evaluate"} <= ran
    assert not {"vote", "label", "features", "training_set"} & ran
    said = read_json(checkout / "reports/metrics.json")["tasks"]["spam"]["reviews"]
    assert (said["estimates"]["answers"], said["estimates"]["unanswered"]) == (4, 2)
    page = (checkout / "reports/index.html").read_text()
    assert "Reviews of spam" in page
    assert "ada named the class of 9 rows (4 to estimate, 5 to learn)." in page
