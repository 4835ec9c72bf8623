"""Drives headless Chromium over its debugging pipe: opens a page, network off, at a width and in a colour scheme.

``python tests/browser.py reports/index.html picture.png`` takes a picture; see ``--help``.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import machine

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--proxy-server=127.0.0.1:9", "--remote-debugging-pipe", "--hide-scrollbars"),
)
START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
"""Chromium reads commands from file descriptor 3 and answers on 4."""

TIMEOUT = 60.0
"""Seconds to wait for any answer; a cold start on a busy machine takes several."""


class BrowserFailed(Exception):
    """Chromium does not do what it should."""


class Browser:
    """One Chromium with one page in it; use `browse`."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing
        self.buffer, self.number = b"", 0
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)

    def open(
        self, file: Path, width: int = 1280, height: int = 900, scheme: Literal["light", "dark"] = "light"
    ) -> None:
        """Load a local file and wait until it is complete."""
        self._load(file.resolve().as_uri(), width, height, scheme)

    def visit(
        self, address: str, width: int = 1280, height: int = 900, scheme: Literal["light", "dark"] = "light"
    ) -> None:
        """Load a page of a server on this machine; no other is reached."""
        self.call(
            "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
        self._load(address, width, height, scheme)

    def _load(self, address: str, width: int, height: int, scheme: str) -> None:
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=address)
        self._wait(lambda message: message.get("method") == "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserFailed(f"{expression} raised {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def requested(self) -> list[str]:
        """Every address that the page asked for, itself first."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What the page's console says: errors, blocked content."""
        return [event["params"]["entry"]["text"] for event in self.events if event.get("method") == "Log.entryAdded"]

    def picture(self, file: Path, whole: bool = True) -> None:
        """Save the page as PNG; ``whole``: all of it, not only the window."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters} | (
            {"sessionId": self.session} if self.session else {}
        )
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda answer, number=self.number: answer.get("id") == number)
        if "error" in answer:
            raise BrowserFailed(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _wait(self, wanted: Any) -> dict[str, Any]:
        if found := next((event for event in self.events if wanted(event)), None):
            return found
        while not wanted(message := self._receive()):
            self.events.append(message)
        self.events.append(message)
        return message

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + TIMEOUT
        while b"\0" not in self.buffer:
            if not select.select([self.reading], [], [], max(0.0, end - time.monotonic()))[0]:
                raise BrowserFailed(f"Chromium did not answer within {TIMEOUT:g} seconds.")
            part = os.read(self.reading, 1 << 20)
            if not part:
                raise BrowserFailed("Chromium ended.")
            self.buffer += part
        text, _, self.buffer = self.buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


@contextmanager
def browse() -> Iterator[Browser]:
    """A browser without network, which ends with the block."""
    program = machine.program(*NAMES)
    (from_us, to_browser), (from_browser, to_us) = _pipe(), _pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [sys.executable, "-c", START, str(from_us), str(to_us), program, *FLAGS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            command,
            pass_fds=(from_us, to_us),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(from_us)
        os.close(to_us)
        try:
            yield Browser(from_browser, to_browser)
        finally:
            os.close(to_browser)
            os.close(from_browser)
            _end(process)


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are numbered above those that Chromium takes."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=5)  # it ends by itself once its pipe is closed
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    """Take a picture of a page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--window", action="store_true", help="only what fits the window")
    given = parser.parse_args()
    with browse() as browser:
        browser.open(given.page, given.width, given.height, given.scheme)
        browser.picture(given.picture, whole=not given.window)


if __name__ == "__main__":
    main()
