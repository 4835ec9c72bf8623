"""Running `weakfish serve`: tokens, limits, a Redis that is lost, registries that change, metrics, a good end."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import listening
import pytest
from feast import FeatureService
from projects import weakfish
from serving import TEN, Answer, Site, Store, apply, own_redis, plain, quiet, served_from, serving, until

from weakfish.project.paths import Project

TOKEN = "a-token-of-sufficient-length"
SLOW = 3.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with own_redis(tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, store: Store) -> Iterator[Project]:
    with served_from(store, tmp_path_factory.mktemp("serve") / "project") as found:
        yield found


@pytest.fixture(scope="module")
def site(project: Project) -> Iterator[Site]:
    """A server with a token and narrow limits."""
    with serving(
        project, "--max-entities", "3", "--max-body", "500", "--store-timeout", "0.5", WEAKFISH_SERVE_TOKEN=TOKEN
    ) as found:
        yield found


def ask(site: Site, path: str = "/get-online-features", body: Any = TEN, **headers: str) -> Answer:
    return site.ask(
        path, body if path == "/get-online-features" else None, {"Authorization": f"Bearer {TOKEN}", **headers}
    )


def test_all_but_health_needs_the_token(site: Site) -> None:
    for path in ("/get-online-features", "/metrics", "/openapi.json", "/nothing"):
        for shown in ("", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ", f"Basic {TOKEN}"):
            answer = ask(site, path, Authorization=shown)
            assert (answer.status, answer.detail) == (401, "The token is missing or wrong."), (path, shown)
            assert answer.headers["www-authenticate"] == "Bearer"
        assert ask(site, path).status == (404 if path == "/nothing" else 200)
    assert site.ask("/health").status == 200
    assert TOKEN not in site.said()
    assert TOKEN not in Path(f"/proc/{site.process.pid}/cmdline").read_text()


@pytest.mark.parametrize("value", ["", "short", f" {TOKEN}", f"{TOKEN}\u00e9"])
def test_a_token_that_protects_nothing_is_refused(project: Project, value: str) -> None:
    result = weakfish(project.root, "serve", "--port", "0", WEAKFISH_SERVE_TOKEN=value)
    assert result.returncode == 2
    assert "WEAKFISH_SERVE_TOKEN is set, but not to 16 or more ASCII characters" in result.stderr
    assert not value or value not in result.stderr


def test_requests_beyond_the_limits_are_refused(site: Site) -> None:
    answer = ask(site, body={**TEN, "entities": {"buyer": ["b1"] * 4}})
    assert (answer.status, answer.detail) == (
        422,
        "The request asks for 4 entities, of which at most 3 are served at once.",
    )
    assert ask(site, body={**TEN, "entities": {"buyer": ["b1"] * 3}}).status == 200
    answer = ask(site, body={**TEN, "entities": {"buyer": ["b" * 500]}})
    assert (answer.status, answer.detail) == (413, "The body is larger than 500 bytes; ask for fewer entities at once.")


def test_a_body_in_pieces_is_limited_too(site: Site) -> None:
    def chunked(*parts: bytes) -> bytes:
        head = (
            b"POST /get-online-features HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        )
        head += b"Transfer-Encoding: chunked\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
        with socket.create_connection(("127.0.0.1", site.port), timeout=20) as connection:
            connection.sendall(head)
            for part in parts:
                time.sleep(0.05)
                connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
            connection.sendall(b"0\r\n\r\n")
            found = b""
            while data := connection.recv(65536):
                found += data
            return found

    assert chunked(b'{"feature_service": "ten", ', b'"entities": {"buyer": ["b1"]}}').startswith(b"HTTP/1.1 200")
    assert chunked(b" " * 400, b" " * 400).startswith(b"HTTP/1.1 413")


def test_a_client_that_hangs_up_leaves_nothing_behind(site: Site) -> None:
    head = b"POST /get-online-features HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 400\r\n"
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", site.port), timeout=20) as connection:
            connection.sendall(head + b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n{")
    assert ask(site).status == 200
    assert "Traceback" not in site.said()


def test_a_killed_redis_gets_503_until_it_is_back(store: Store, site: Site) -> None:
    assert ask(site).status == 200
    store.kill()
    try:
        answer = ask(site)
        assert (answer.status, answer.detail) == (503, "The online store does not answer; try again in a moment.")
        until(lambda: site.ask("/health").status == 503, site)
        assert ask(site).status == 503
        assert ask(site, "/metrics").status == 200
    finally:
        store.start()
    until(lambda: site.ask("/health").status == 200, site)
    assert ask(site).status == 200
    said = site.said()
    assert f"The online store at 127.0.0.1:{store.port} does not answer" in said
    assert f"The online store at 127.0.0.1:{store.port} is back." in said
    assert "Traceback" not in said


def test_a_redis_that_is_stuck_holds_nobody_up_for_long(store: Store, site: Site) -> None:
    with store.stuck():
        assert ask(site).status == 503
        until(lambda: site.ask("/health").status == 503, site)
        assert ask(site).status == 503
    until(lambda: ask(site).status == 200, site)


def test_a_server_can_begin_without_its_redis(project: Project) -> None:
    nowhere = listening.free_port()
    with serving(project, wait=503, WEAKFISH_REDIS=f"127.0.0.1:{nowhere}") as found:
        assert found.features(**TEN).status == 503
        later = Store(project.root / "redis", nowhere)
        try:
            until(lambda: found.ask("/health").status == 200, found)
            assert found.features(**TEN).json["results"][1]["statuses"] == ["NOT_FOUND"]
        finally:
            later.kill()


def test_a_new_registry_is_served_and_requests_under_way_keep_the_old(project: Project, site: Site) -> None:
    eleven = {**TEN, "feature_service": "eleven"}
    assert ask(site, body=eleven).status == 404
    slow = later(lambda: ask(site, body=trying(SLOW)))
    time.sleep(SLOW / 3)
    orders = plain(project.root).get_feature_view("buyer_orders")
    apply(project.root, FeatureService(name="eleven", features=[orders]))
    without_trying(project.root)
    until(lambda: ask(site, body=eleven).status == 200, site)
    assert slow().json["metadata"]["feature_names"] == ["buyer", "f0", "slow"]
    until(lambda: ask(site, body=trying(0.0)).status == 404, site)
    assert "A new registry is served: compared, eleven, priced" in site.said()

    file = project.root / "data/registry/registry.db"
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b""):
        file.write_bytes(damaged)
        before = site.said().count("The registry that was there before is served on.")
        until(lambda: site.said().count("The registry that was there before is served on.") > before, site)  # noqa: B023
        assert ask(site, body=eleven).status == 200
    file.unlink()
    apply(project.root)
    until(lambda: ask(site, body=eleven).status == 404, site)
    assert ask(site).status == 200
    assert ask(site, body=trying(0.0)).status == 200


def trying(seconds: float) -> dict[str, Any]:
    return {"feature_service": "trying", "entities": {"buyer": ["b1"], "price": [seconds], "items": [1]}}


def without_trying(root: Path) -> None:
    store = plain(root)
    with quiet():
        store.delete_feature_service("trying")


def later(work: Callable[[], Answer]) -> Callable[[], Answer]:
    """Begin work in a thread; the function returned waits for its result."""
    found: list[Answer] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()

    def wait() -> Answer:
        thread.join()
        return found[0]

    return wait


def test_metrics_tell_what_was_served(site: Site) -> None:
    before = counts(ask(site, "/metrics"))
    bodies = serve_some(lambda body: ask(site, body=body))
    found = counts(ask(site, "/metrics"))
    check_counts({name: value - before.get(name, 0) for name, value in found.items()}, bodies)


def test_two_processes_count_as_one_and_end_when_they_have_answered(project: Project) -> None:
    with serving(project, "--workers", "2") as found:
        bodies = serve_some(lambda body: found.ask("/get-online-features", body))
        check_counts(counts(found.ask("/metrics")), bodies)
        end(found, lambda body: found.ask("/get-online-features", body))


def test_a_server_that_is_told_to_end_answers_first(site: Site) -> None:
    end(site, lambda body: ask(site, body=body))  # the last of this file that asks it


def end(site: Site, asked: Callable[[Any], Answer]) -> None:
    slow = later(lambda: asked(trying(SLOW)))
    time.sleep(SLOW / 3)
    site.process.send_signal(signal.SIGTERM)
    assert slow().status == 200
    assert site.process.wait(timeout=30) == 0
    assert "Traceback" not in site.said()
    with pytest.raises(OSError, match="refused"):
        site.ask("/health")


def serve_some(asked: Callable[[Any], Answer]) -> int:
    """Ask, 10 times, for features of a service, for features by name, and for what there is not."""
    times = 10
    entities = {"buyer": ["b1", "b4", "x"], "shop_id": [1] * 3}
    for _ in range(times):
        wide = {"feature_service": "wide", "full_feature_names": True, "entities": entities}
        assert asked(wide).status == 200
        assert asked({"features": ["buyer_orders:f0"], "entities": {"buyer": ["b1"]}}).status == 200
        assert asked({**TEN, "feature_service": "unknown-by-all"}).status == 404
    return times


def counts(answer: Answer) -> dict[str, float]:
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "unknown-by-all" not in answer.body.decode()
    lines = (line.rsplit(" ", 1) for line in answer.body.decode().splitlines() if not line.startswith("#"))
    found = {name: float(value) for name, value in lines}
    assert all(name.startswith("weakfish_serve_") for name in found)
    return found


def check_counts(found: dict[str, float], times: int) -> None:
    def value(name: str, **labels: str) -> float:
        told = ",".join(f'{label}="{text}"' for label, text in sorted(labels.items()))
        return found[f"weakfish_serve_{name}" + (f"{{{told}}}" if told else "")]

    assert value("requests_total", path="/get-online-features", status="200") == 2 * times
    assert value("requests_total", path="/get-online-features", status="404") == times
    assert value("request_seconds_count", feature_service="wide") == times
    assert value("request_seconds_count", feature_service="") == times
    assert 0 < value("request_seconds_sum", feature_service="wide") < 60
    assert value("entities_total", feature_view="buyer_visits") == 3 * times
    assert value("not_found_total", feature_view="buyer_visits") == times
    assert value("outside_max_age_total", feature_view="buyer_visits") == times
    assert value("outside_max_age_total", feature_view="buyer_orders") == 0
    age = value("feature_age_seconds_sum", feature_view="buyer_visits") / times
    assert 72 * 3600 <= age < 73 * 3600, "the oldest row of each request"
    assert value("registry_reloads_total") == 0


def test_what_keeps_a_server_from_beginning_is_told(project: Project, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = weakfish(project.root, "serve", "--port", port)
        assert (result.returncode, result.stdout) == (2, "")
        assert f"Port {port} of 127.0.0.1 cannot be listened on (Address already in use)" in result.stderr
    result = weakfish(project.root, "serve", "--host", "no.such.host.invalid", "--port", "0")
    assert result.returncode == 2
    assert "no.such.host.invalid is no address of this machine" in result.stderr
    empty = tmp_path / "project"
    shutil.copytree(project.root, empty, ignore=shutil.ignore_patterns("data", "*.log"))
    file = empty / "feature_repo/feature_store.yaml"
    file.write_text(file.read_text().replace(str(project.root), str(empty)))
    result = weakfish(empty, "serve", "--port", "0")
    assert result.returncode == 3
    assert "nothing was published yet; run `weakfish publish`." in result.stderr
    assert "Traceback" not in result.stderr


def test_its_command_line_imports_neither_feast_nor_a_server() -> None:
    code = "import sys; from weakfish.cli.main import cli; print({'feast', 'uvicorn', 'pydantic'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_the_access_log_has_a_line_with_time_client_path_and_status_per_request(project: Project) -> None:
    with serving(project, "--access-log") as found:
        assert found.features(**TEN).status == 200
        assert found.ask("/no%0Awhere").status == 404
        line = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ weakfish serve: 127\.0\.0\.1 "
        until(lambda: "404" in found.log.read_text(encoding="utf-8"), found)
        said = found.log.read_text(encoding="utf-8")
        assert re.search(line + r"POST /get-online-features 200 \d+\.\d ms\n", said)
        assert re.search(line + r"GET /no%0Awhere 404 \d+\.\d ms\n", said)
