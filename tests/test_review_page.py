"""The page that asks people about rows: what it asks, what it keeps, whom it answers, and how it is used."""

from __future__ import annotations

import http.client
import json
import os
import random
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from browser import Browser, browse
from in_process import own_modules
from projects import BIN
from told_orders import MONTHS, labels, learning, project

from weakfish.contracts.gold import UNKNOWN
from weakfish.errors import UnknownName, UserError
from weakfish.files import read_json
from weakfish.project.paths import Project
from weakfish.reviews.answers import draws, last_words, read_answers, settle
from weakfish.reviews.gathering import gather
from weakfish.reviews.measuring import reviewed_figures
from weakfish.reviews.review_server import HOST, TOKEN, ReviewServer
from weakfish.reviews.session import ReviewSession
from weakfish.reviews.sides import is_dev

KILLS = int(os.environ.get("WEAKFISH_KILLS", "3"))
"""Times that the process is killed; ``WEAKFISH_KILLS=50`` is what docs/reviews.md speaks of."""


@pytest.fixture(autouse=True)
def own_functions() -> Iterator[None]:
    with own_modules():
        yield


@pytest.fixture
def orders(tmp_path: Path) -> Project:
    root = learning(tmp_path / "orders")
    with (root / "params.yaml").open("a") as params:
        params.write("meanings:\n  fraud: {fine: paid as it should be, fraud: somebody else's money}\n")
    labels(root)
    return Project(root)


def asked(session: ReviewSession) -> str:
    assert session.current is not None
    return session.current.key


def answer_all(session: ReviewSession, rows: int, label: str = "fraud") -> list[str]:
    keys = []
    for _ in range(rows):
        keys.append(asked(session))
        session.answer(keys[-1], "class", label)
    return keys


# --- What is asked -------------------------------------------------------------------------------------------------


def test_estimate_asks_about_rows_of_the_test_side_and_freezes_how_they_were_drawn(orders: Project) -> None:
    session = ReviewSession(orders, "fraud", "estimate", "ada", questions=40)
    frame = read_json(orders.root / f"reviews/fraud/{session.name}.frame.json")
    assert session.questions == len(frame["questions"]) == 40
    keys = answer_all(session, 40)
    session.close()
    assert session.current is None
    assert not is_dev(keys).any()
    assert keys == [key for key, _ in frame["questions"]]
    for placed in read_answers(orders, "fraud").answers:
        stratum = next(each for each in frame["strata"] if each["stratum"] == placed.answer.stratum)
        assert placed.answer.probability == pytest.approx(stratum["asked"] / stratum["rows"])


def test_learn_asks_about_dev_rows_once_and_picks_anew_by_what_was_answered(orders: Project) -> None:
    session = ReviewSession(orders, "fraud", "learn", "ada")
    keys = answer_all(session, 25)
    session.close()
    assert is_dev(keys).all()
    assert len(set(keys)) == 25
    again = ReviewSession(orders, "fraud", "learn", "grace")
    assert asked(again) not in keys
    again.close()


def test_learn_never_asks_about_rows_with_test_gold(orders: Project) -> None:
    import pyarrow as pa

    from weakfish.contracts.tables import folder, write_partition

    every = [f"{MONTHS[0]}-{number:03}" for number in range(240)]
    dev = [key for key, side in zip(every, is_dev(every), strict=True) if side]
    gold = pa.table({"order_id": dev, "label": ["fine"] * len(dev)})
    write_partition(folder(orders, "fraud", "test"), MONTHS[0], gold)
    session = ReviewSession(orders, "fraud", "learn", "ada")
    assert all(key.startswith(MONTHS[1]) for key in answer_all(session, 30))
    session.close()


def test_when_every_row_is_answered_none_is_asked(orders: Project) -> None:
    session = ReviewSession(orders, "fraud", "learn", "ada")
    answer_all(session, len(np.flatnonzero(session.labelled.is_dev)))
    assert session.current is None
    with pytest.raises(UserError, match="not asked now"):
        session.answer("2024-01-000", "skip")
    session.undo()
    assert session.current is not None
    session.close()


def test_a_session_without_answers_leaves_no_file_of_them(orders: Project) -> None:
    session = ReviewSession(orders, "fraud", "learn", "ada")
    session.close()
    assert not session.file.exists()


def test_audit_asks_about_rows_that_one_function_decides(orders: Project) -> None:
    from weakfish.rules.loading import load_functions

    names = [function.name for function in load_functions(orders, "fraud")]
    name = names[0]
    session = ReviewSession(orders, "fraud", "audit", "ada", function=name)
    place = int(session.labelled.places([asked(session)])[0])
    assert session.labelled.votes[place, 0] != UNKNOWN
    session.answer(asked(session), "class", "fine")
    assert read_answers(orders, "fraud").answers[-1].answer.function == name
    session.close()
    with pytest.raises(UnknownName, match="labeling function"):
        ReviewSession(orders, "fraud", "audit", "ada", function="nobody")


def test_a_second_reviewer_answers_the_rows_of_a_session_and_what_they_disagree_on_is_resolved(orders: Project) -> None:
    first = ReviewSession(orders, "fraud", "learn", "ada")
    keys = answer_all(first, 6)
    first.close()
    second = ReviewSession(orders, "fraud", "learn", "grace", name=first.name)
    assert answer_all(second, 2, "fine") + answer_all(second, 4, "fraud") == keys
    assert second.current is None
    second.close()
    gather(orders)
    said = read_json(orders.root / "reports/reviews.json")["tasks"]["fraud"]
    assert said["agreement"]["rows"] == 6
    assert sorted(said["disputed"]["keys"]) == sorted(keys[:2])
    third = ReviewSession(orders, "fraud", "resolve", "linus")
    assert third.current is not None
    assert third.current.said == {"ada": "fraud", "grace": "fine"}
    assert sorted(answer_all(third, 2, "fine")) == sorted(keys[:2])
    third.close()
    gather(orders)
    assert read_json(orders.root / "reports/reviews.json")["tasks"]["fraud"]["disputed"]["rows"] == 0
    with pytest.raises(UserError, match="reviewers disagree on no row"):
        ReviewSession(orders, "fraud", "resolve", "linus")


# --- What is kept --------------------------------------------------------------------------------------------------


def test_undo_takes_the_last_answers_back_one_by_one_and_asks_again(orders: Project) -> None:
    session = ReviewSession(orders, "fraud", "learn", "ada")
    first, second = answer_all(session, 2)
    third = asked(session)
    session.undo()
    session.undo()
    assert asked(session) == first
    with pytest.raises(UserError, match="no answer to undo"):
        session.undo()
    session.answer(first, "class", "fine")
    assert asked(session) == second
    session.answer(second, "skip")
    assert asked(session) == third
    session.close()
    found = settle(read_answers(orders, "fraud").answers)
    assert {key: each.label for key, each in found.items()} == {first: "fine"}


def test_a_session_goes_on_where_it_was_left(orders: Project) -> None:
    session = ReviewSession(orders, "fraud", "estimate", "ada", questions=20)
    keys = answer_all(session, 5)
    rest = asked(session)
    session.close()
    again = ReviewSession(orders, "fraud", "estimate", "ada", name=session.name)
    assert (again.given, asked(again)) == (5, rest)
    assert rest not in keys
    again.close()


def test_what_was_answered_for_an_estimate_counts_in_the_next_without_being_asked(orders: Project) -> None:
    session = ReviewSession(orders, "fraud", "estimate", "ada", questions=220)
    answer_all(session, session.questions or 0)
    session.close()
    again = ReviewSession(orders, "fraud", "estimate", "ada", questions=220)
    carried = again.given
    assert carried >= 180
    answer_all(again, (again.questions or 0) - carried)
    again.close()
    assert len([placed for placed in read_answers(orders, "fraud").answers if placed.session == again.name]) == 220
    drawn = draws(read_answers(orders, "fraud").answers)
    assert {name: sum(each[0] == name for each in drawn) for name in (session.name, again.name)} == {
        session.name: 220,
        again.name: 220,
    }
    with pytest.raises(UserError, match="ada has answered every row of it"):
        ReviewSession(orders, "fraud", "estimate", "ada", name=again.name)


def test_the_estimate_of_all_rows_is_the_accuracy_by_those_answers(orders: Project) -> None:
    session = ReviewSession(orders, "fraud", "estimate", "ada", questions=1000)
    for _ in range(session.questions or 0):
        session.answer(asked(session), "class", "fraud")
    session.close()
    gather(orders)
    found = reviewed_figures(orders, "fraud", {"all": np.ones(480, bool)})
    assert found is not None
    labelled = session.labelled
    decided = ~labelled.is_dev & (labelled.labels != UNKNOWN)
    right = (labelled.labels[decided] == 1).mean()
    accuracy = found["estimates"]["accuracy"]
    assert accuracy["low"] == accuracy["high"] == pytest.approx(right, abs=1e-4)
    assert found["slices"]["all"] == found["estimates"]


# --- Whom it answers -----------------------------------------------------------------------------------------------


@contextmanager
def served(session: ReviewSession) -> Iterator[ReviewServer]:
    server = ReviewServer(session)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()
        session.close()


def request(
    server: ReviewServer, method: str, path: str, content: Any = None, token: str | None = None, host: str | None = None
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    headers = {TOKEN: server.token if token is None else token, "Host": host or f"{HOST}:{server.port}"}
    connection.request(method, path, None if content is None else json.dumps(content), headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, json.loads(body) if answer.headers["Content-Type"] == "application/json" else body.decode()


def test_only_who_has_the_token_at_this_machines_name_is_answered(orders: Project) -> None:
    with served(ReviewSession(orders, "fraud", "learn", "ada")) as server:
        key = asked(server.session)
        given = {"key": key, "said": "class", "label": "fraud"}
        for how in ({"token": ""}, {"token": "x" * 32}, {"host": "evil.example:80"}):
            assert request(server, "GET", "/state", **how)[0] == 403
            assert request(server, "POST", "/answer", given, **how)[0] == 403
        assert request(server, "GET", "/", token="")[0] == 403
        assert request(server, "GET", "/?token=wrong")[0] == 403
        status, page = request(server, "GET", f"/?token={server.token}")
        assert status == 200
        assert "somebody else&#39;s money" in page or "somebody else\\u0027s money" in page
        assert not read_answers(orders, "fraud").answers
        assert request(server, "POST", "/answer", given)[0] == 200
        assert [placed.answer.key for placed in read_answers(orders, "fraud").answers] == [key]
        assert request(server, "GET", "/etc")[0] == 404


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"said": "class", "label": "frog"}, "frog"),
        ({"said": "class", "label": None}, "None"),
        ({"said": "undone"}, "a class, unsure or skip"),
        ({"key": "another", "said": "skip"}, "is not asked now"),
        ({"said": "skip", "note": 3}, "a class, unsure or skip"),
        ([1], "JSON object"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_nothing_is_kept(orders: Project, content: Any, said: str) -> None:
    with served(ReviewSession(orders, "fraud", "learn", "ada")) as server:
        whole = {"key": asked(server.session)} | content if isinstance(content, dict) else content
        status, found = request(server, "POST", "/answer", whole)
        assert status == 409
        assert said in found["error"]
        assert not read_answers(orders, "fraud").answers


def test_a_browser_that_goes_away_and_a_port_that_is_taken_harm_nothing(orders: Project) -> None:
    import socket

    with served(ReviewSession(orders, "fraud", "learn", "ada")) as server:
        for _ in range(3):
            with socket.create_connection((HOST, server.port)) as gone:
                gone.sendall(b"POST /answer HTTP/1.1\r\nContent-Length: 500\r\n")
        assert request(server, "GET", "/state")[0] == 200
        other = ReviewSession(orders, "fraud", "learn", "grace")
        with pytest.raises(UserError, match="cannot be used"):
            ReviewServer(other, server.port)
        other.close()


# --- How it is used ------------------------------------------------------------------------------------------------


def until(browser: Browser, expression: str) -> None:
    deadline = time.monotonic() + 60
    while not browser.evaluate(expression):
        assert time.monotonic() < deadline, expression
        time.sleep(0.05)


def press(browser: Browser, key: str) -> None:
    browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key if len(key) == 1 else "\r")
    browser.call("Input.dispatchKeyEvent", type="keyUp", key=key)


SAID = "document.getElementById('said').textContent"
ROW = "document.getElementById('which').textContent"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_person_answers_with_the_keys_alone(orders: Project, width: int, scheme: Any) -> None:
    with served(ReviewSession(orders, "fraud", "learn", "ada")) as server, browse() as browser:
        browser.visit(server.address, width, 800, scheme)
        until(browser, "document.getElementById('why-body').textContent.includes('labeling functions abstain')")
        first = browser.evaluate(ROW)
        assert first == asked(server.session)
        press(browser, "n")
        for letter in "odd 2":
            browser.call("Input.insertText", text=letter)
        press(browser, "Escape")
        press(browser, "2")
        until(browser, f"{SAID} === 'Kept: fraud.'")
        second = browser.evaluate(ROW)
        press(browser, "s")
        until(browser, f"{SAID} === 'Kept: skipped.'")
        press(browser, "u")
        until(browser, f"{SAID} === 'Taken back.'")
        assert browser.evaluate(ROW) == second
        press(browser, "?")
        until(browser, f"{SAID} === 'Kept: unsure.'")
        until(browser, "document.getElementById('bought-body').textContent.includes('Answers that teach: 1')")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.complaints() == []
        assert {urlsplit(address).netloc for address in browser.requested()} == {f"{HOST}:{server.port}"}
        found = [placed.answer for placed in read_answers(orders, "fraud").answers]
    assert [(each.key, each.said, each.label) for each in found] == [
        (first, "class", "fraud"),
        (second, "skip", None),
        (second, "undone", None),
        (second, "unsure", None),
    ]
    assert found[0].note == "odd 2"


def test_typing_narrows_many_classes(orders: Project) -> None:
    with served(ReviewSession(orders, "fraud", "learn", "ada")) as server, browse() as browser:
        names = ["fine", "fraud", *(f"kind {number}" for number in range(75))]
        server.session.classes = names
        browser.visit(server.address, 390, 800)
        until(browser, "document.querySelectorAll('#classes button').length === 77")
        press(browser, "f")
        until(browser, "document.activeElement.id === 'filter'")
        for letter in "ra":
            browser.call("Input.insertText", text=letter)
        until(browser, "document.querySelectorAll('#classes button').length === 1")
        press(browser, "Enter")
        until(browser, f"{SAID} === 'Kept: fraud.'")
        assert [placed.answer.label for placed in read_answers(orders, "fraud").answers] == ["fraud"]


def test_every_control_has_a_name_that_a_screen_reader_says(orders: Project) -> None:
    with served(ReviewSession(orders, "fraud", "learn", "ada")) as server, browse() as browser:
        browser.visit(server.address, 1280, 800)
        until(browser, "document.querySelectorAll('#classes button').length === 2")
        browser.call("Accessibility.enable")
        nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
        controls = [node for node in nodes if node.get("role", {}).get("value") in ("button", "textbox")]
        assert len(controls) >= 6
        assert all(node["name"]["value"].strip() for node in controls)


# --- The command ---------------------------------------------------------------------------------------------------


def started(root: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """`weakfish review` at work, and the address that it prints."""
    command = [BIN / "weakfish", "review", "--no-open", *arguments]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    address = process.stdout.readline().strip()
    assert address, process.stderr and process.stderr.read()
    return process, address


def ask(address: str, method: str, path: str, content: Any = None) -> Any:
    url = urlsplit(address)
    headers = {TOKEN: parse_qs(url.query)["token"][0]}
    with closing(http.client.HTTPConnection(HOST, url.port or 0, timeout=30)) as connection:
        connection.request(method, path, None if content is None else json.dumps(content), headers)
        return json.loads(connection.getresponse().read())


def test_no_acknowledged_answer_is_lost_when_the_process_is_killed(orders: Project) -> None:
    acknowledged: dict[tuple[str, str], str] = {}
    seed = secrets.randbelow(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311
    for number in range(KILLS):
        reviewer = f"ada{number}"
        process, address = started(orders.root, "--purpose", "estimate", "--reviewer", reviewer)
        killer = threading.Timer(chance.random() * 0.4, process.kill)
        state = ask(address, "GET", "/state")
        killer.start()
        with process, suppress(OSError, http.client.HTTPException, ValueError):
            while state["asked"]:
                key, label = state["asked"]["key"], chance.choice(["fine", "fraud"])
                state = ask(
                    address, "POST", "/answer", {"key": key, "said": "class", "label": label, "note": "n" * 999}
                )
                acknowledged[key, reviewer] = label
        killer.join()
        found = last_words(read_answers(orders, "fraud").answers)
        assert acknowledged.items() <= {place: each.answer.label for place, each in found.items()}.items()
    assert acknowledged


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_page_and_says_what_to_do(orders: Project, number: signal.Signals) -> None:
    process, address = started(orders.root, "--purpose", "estimate", "--rows", "10", "--reviewer", "ada")
    state = ask(address, "GET", "/state")
    ask(address, "POST", "/answer", {"key": state["asked"]["key"], "said": "unsure"})
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "1 rows answered. Commit reviews/fraud, then `weakfish run`." in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Say what the answers are for"),
        (["--purpose", "audit"], "--function goes with --purpose audit"),
        (["--purpose", "learn", "--task", "frod"], "frod"),
        (["--session", "monday"], "names no session"),
        (["--session", "estimate-20260501T120000-00aa"], "frame.json is missing"),
        (["--purpose", "learn", "--reviewer", "../ada"], "cannot be a reviewer's name"),
        (["--disputed"], "reviewers disagree on no row"),
    ],
)
def test_misuse_is_one_sentence(orders: Project, arguments: list[str], said: str) -> None:
    command = [BIN / "weakfish", "review", "--no-open", *arguments]
    done = subprocess.run(command, cwd=orders.root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((orders.root / "reviews").rglob("*.jsonl")) if (orders.root / "reviews").exists() else True


def test_without_labels_it_says_what_makes_them(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", "known: dev", *MONTHS[:1])
    command = [BIN / "weakfish", "review", "--no-open", "--purpose", "learn"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "dvc repro" in done.stderr
