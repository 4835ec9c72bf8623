"""The webhook: told of a failure once, in names and numbers; whatever it answers, the result of the run stands."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from projects import command, contents, git, replace, weakfish
from verdicts import BROKEN, FAILED, TEXT, WARNED, complaints, judged, labels, run

from weakfish.checks import outputs
from weakfish.errors import CheckFailed, UnknownName
from weakfish.project.paths import Project

CLOSED = 9
"""A port on which nobody listens: that of "discard"; one that is free by chance would name the test differently."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return judged(tmp_path, monkeypatch)


class Hook(ThreadingHTTPServer):
    """A server that keeps what it is sent, and answers as it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.calls: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.status, self.wait = 204, threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks/T0P-SECRET?token=S3CRET"


class Answer(BaseHTTPRequestHandler):
    """Takes one request."""

    server: Hook
    headers: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append({"path": self.path, "type": self.headers["Content-Type"], "json": json.loads(body)})
        if self.server.status == 0:
            self.server.wait.wait(60)
            return
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv(outputs.URL, server.url)
        yield server
        server.wait.set()
        server.shutdown()
        thread.join()


def test_the_webhook_is_told_what_failed_a_gate_and_nothing_of_any_row(project: Project, hook: Hook) -> None:
    labels(project, FAILED, BROKEN, WARNED)
    git(project.root, "init", "--quiet")
    git(project.root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "m", "--allow-empty")
    assert isinstance(run("gate", "labels/fraud").exception, CheckFailed)
    (call,) = hook.calls
    assert (call["path"], call["type"]) == ("/hooks/T0P-SECRET?token=S3CRET", "application/json")
    told = call["json"]
    assert complaints("webhook", told) == []
    assert told == {
        "project": "orders",
        "revision": git(project.root, "rev-parse", "HEAD").strip(),
        "verdict": "failed",
        "stage": "gate_labels@fraud",
        "exit_code": 1,
        "checks": [
            {
                "table": "labels/fraud",
                "check": "unique(order_id)",
                "severity": "critical",
                "status": "failed",
                "unexpected": 2,
                "value": 0.01,
                "threshold": None,
            },
            {
                "table": "labels/fraud",
                "check": "of_type(note)",
                "severity": "warning",
                "status": "failed",
                "unexpected": None,
                "value": None,
                "threshold": None,
            },
        ],
    }
    assert not re.search(r"Dear|order.{0,9}-1[78]|S3CRET", json.dumps(told))


def test_the_webhook_is_told_of_a_stage_that_fails_without_its_message_and_not_of_a_mistyped_name(
    project: Project, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(run("validate", "labels/T0P").exception, UnknownName)
    assert hook.calls == []
    monkeypatch.setenv("DVC_STAGE", "validate_labels@T0P")
    assert isinstance(run("validate", "labels/T0P").exception, UnknownName)
    (call,) = hook.calls
    assert complaints("webhook", call["json"]) == []
    assert (call["json"]["stage"], call["json"]["exit_code"]) == ("validate_labels@T0P", 2)
    assert (call["json"]["revision"], call["json"]["checks"]) == (None, [])


def test_the_webhook_is_told_of_a_gate_by_hand(project: Project, hook: Hook) -> None:
    assert run("gate").exit_code == 0
    assert hook.calls == []
    run("gate", "--fail-on", "warning")
    (call,) = hook.calls
    assert complaints("webhook", call["json"]) == []
    assert (call["json"]["stage"], call["json"]["verdict"], len(call["json"]["checks"])) == ("gate", "warned", 2)


@pytest.mark.parametrize(
    ("status", "said"),
    [(500, "it answered 500"), (302, "it answered 302"), (0, "it did not answer within 0.5 seconds")],
)
def test_a_webhook_that_fails_is_one_sentence_and_changes_nothing(
    project: Project, hook: Hook, status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels(project, FAILED, BROKEN, WARNED)
    monkeypatch.setattr(outputs, "TIMEOUT", 0.5)
    hook.status, hook.headers = status, {"Location": hook.url}
    result = run("gate", "labels/fraud")
    assert isinstance(result.exception, CheckFailed)
    assert len(hook.calls) == 1  # a redirect is not followed
    assert result.stderr == f"weakfish: could not notify the webhook of the failure: {said}; check WEAKFISH_WEBHOOK.\n"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"http://127.0.0.1:{CLOSED}/S3CRET", "it could not be reached"),
        ("file:///etc/S3CRET", "its URL is neither http nor https"),
        ("S3CRET", "its URL is neither http nor https"),
        ("http://user:S3CRET@[::", "it could not be reached"),
        ("http://127.0.0.1:S3CRET/", "it could not be reached"),
        ("http://127.0.0.1/S3 CRET\n", "it could not be reached"),
    ],
)
def test_the_url_is_in_no_message(project: Project, monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    labels(project, FAILED, BROKEN, WARNED)
    monkeypatch.setenv(outputs.URL, url)
    result = run("gate", "labels/fraud")
    assert isinstance(result.exception, CheckFailed)
    assert said in result.stderr
    everything = result.output + str(result.exception) + str(contents(project.root))
    assert not re.search("S3.?CRET", everything)


def test_without_a_url_nobody_is_told(project: Project, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    labels(project, FAILED, BROKEN, WARNED)
    for url in (None, "", " "):
        monkeypatch.delenv(outputs.URL) if url is None else monkeypatch.setenv(outputs.URL, url)
        result = run("gate", "labels/fraud")
        assert isinstance(result.exception, CheckFailed)
        assert result.stderr == ""
    assert hook.calls == []


def test_a_failed_run_tells_the_webhook_once(project: Project, hook: Hook) -> None:
    root = project.root
    replace(root / "sources/orders.py", "rows = [", f"raise ValueError({TEXT!r})\n        rows = [")
    git(root, "init", "--quiet")
    assert command(root, "dvc", "init", "--quiet").returncode == 0
    result = weakfish(root, "run")
    assert result.returncode == 3
    assert len(hook.calls) == 1
    told = hook.calls[0]["json"]
    assert complaints("webhook", told) == []
    assert (told["stage"], told["exit_code"]) == ("ingest", 3)
    assert TEXT in result.stderr
    assert TEXT not in json.dumps(told)
    assert "S3CRET" not in result.stdout + result.stderr
