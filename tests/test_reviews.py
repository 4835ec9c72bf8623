"""What people answered: files that only grow, which answer counts, and what becomes of it in the pipeline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from in_process import own_modules
from projects import contents, write
from told_orders import MONTHS, labels, learning, rows, truth_of

from weakfish.contracts.ledgers import read_ledger
from weakfish.contracts.reports import ReviewsReport, read_report
from weakfish.contracts.tables import folder, read_table, write_partition
from weakfish.errors import TableError, UserError
from weakfish.evaluation.aligned import read_inputs
from weakfish.labeling.dev_gold import dev_labels, known_labels
from weakfish.project.paths import Project
from weakfish.reviews.answers import Answer, AnswersFile, file_of, new_session, read_answers, settle
from weakfish.reviews.gathering import gather
from weakfish.reviews.sides import is_dev

CLASSES = ("fine", "fraud")
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LEARN, ESTIMATE = "learn-20260501T120000-00aa", "estimate-20260501T120000-00aa"


@pytest.fixture(autouse=True)
def own_functions() -> Iterator[None]:
    with own_modules():
        yield


@pytest.fixture
def orders(tmp_path: Path) -> Project:
    return Project(learning(tmp_path / "orders"))


def keys(dev: bool, month: str = MONTHS[0]) -> list[str]:
    """The orders of a month that are on a side."""
    every = [f"{month}-{number:03}" for number in range(240)]
    return [key for key, side in zip(every, is_dev(every), strict=True) if side == dev]


def learned(key: str, label: str | None = "fraud", **how: Any) -> Answer:
    return Answer(**{"key": key, "said": "class", "label": label, "purpose": "learn", "time": NOW, **how})


def estimated(key: str, label: str = "fraud", **how: Any) -> Answer:
    return learned(key, label, purpose="estimate", probability=0.5, stratum="fraud", **how)


def say(at: Project, *answers: Answer, reviewer: str = "ada", session: str = LEARN) -> Path:
    file = file_of(at, "fraud", reviewer, session)
    opened = AnswersFile(file)
    for answer in answers:
        opened.append(answer)
    opened.close()
    return file


def test_an_answer_comes_back_as_it_was_given(orders: Project) -> None:
    first, second = keys(dev=True)[:2]
    given = [
        learned(first, shown={"labels": "ab12", "events": "cd34"}, note="überwiesen\nam 3."),
        learned(second, None, said="unsure", time=NOW + timedelta(seconds=1)),
    ]
    say(orders, *given)
    found = read_answers(orders, "fraud").answers
    assert [placed.answer for placed in found] == given
    assert [placed.where for placed in found] == [f"reviews/fraud/ada-{LEARN}.jsonl:{line}" for line in (1, 2)]


def test_the_last_word_of_a_reviewer_counts_and_an_undone_one_does_not(orders: Project) -> None:
    first, second, third = keys(dev=True)[:3]
    say(
        orders,
        *(learned(key) for key in (first, second, third)),
        learned(first, "fine", time=NOW + timedelta(minutes=1)),
        learned(second, None, said="undone", time=NOW + timedelta(minutes=1)),
        learned(third, None, said="skip", time=NOW + timedelta(minutes=1)),
    )
    found = settle(read_answers(orders, "fraud").answers)
    assert {key: settled.label for key, settled in found.items()} == {first: "fine"}
    assert gather(orders) == ["fraud: 2 rows were answered again by who had answered them; the last word counts."]


def test_reviewers_who_disagree_settle_nothing_until_a_resolution_does(orders: Project) -> None:
    key = keys(dev=True)[0]
    say(orders, learned(key, "fraud"))
    say(orders, learned(key, "fine"), reviewer="grace")
    assert settle(read_answers(orders, "fraud").answers)[key].is_disputed
    assert any("disagree on 1 rows" in line for line in gather(orders))
    assert read_report(orders, ReviewsReport).tasks["fraud"].disputed.keys == [key]
    assert not (orders.root / "data/reviews/dev/fraud").exists()
    say(orders, learned(key, "fine", resolves=True, time=NOW + timedelta(hours=1)), reviewer="linus")
    settled = settle(read_answers(orders, "fraud").answers)[key]
    assert (settled.label, settled.resolved, settled.is_disputed) == ("fine", True, False)
    assert settled.by_reviewer == {"ada": "fraud", "grace": "fine"}


def test_dev_answers_are_evidence_since_they_were_given_and_test_answers_never(orders: Project) -> None:
    dev, test = keys(dev=True)[0], keys(dev=False)[0]
    say(orders, learned(dev))
    say(orders, estimated(test), session=ESTIMATE)
    write(orders.root / f"reviews/fraud/{ESTIMATE}.frame.json", "{}\n")
    gather(orders)
    every = pa.chunked_array([pa.array([dev, test])])
    times = pa.chunked_array([pa.array([datetime(2024, 1, 5, tzinfo=UTC)] * 2, pa.timestamp("us", tz="UTC"))])
    classes, since = known_labels(orders, "fraud", MONTHS[0], every, times)
    assert classes.tolist() == [1, -1]
    assert since[0] == NOW.timestamp() * 1e6
    assert read_table(orders.root / "data/reviews/test/fraud")["order_id"].to_pylist() == [test]
    ledger = read_ledger(orders, "gather_reviews")
    assert (ledger.rows_in, ledger.rows_out, ledger.rejected) == (2, 2, 0)


def test_answers_to_estimate_change_no_byte_of_labels_whatever_they_say(orders: Project) -> None:
    say(orders, *(learned(key, CLASSES[number % 2]) for number, key in enumerate(keys(dev=True)[:40])))
    gather(orders)
    labels(orders.root)
    before = contents(orders.data / "labels")
    say(orders, *(estimated(key) for key in keys(dev=False)[:40]), session=ESTIMATE)
    write(orders.root / f"reviews/fraud/{ESTIMATE}.frame.json", "{}\n")
    gather(orders)
    labels(orders.root)
    assert contents(orders.data / "labels") == before
    (orders.root / f"reviews/fraud/ada-{LEARN}.jsonl").unlink()
    gather(orders)
    labels(orders.root)
    assert contents(orders.data / "labels") != before


def test_a_review_counts_instead_of_gold_but_adds_no_row_to_what_is_measured(orders: Project) -> None:
    first, second = keys(dev=True)[:2]
    gold = pa.table({"order_id": [first], "label": ["fine"]})
    write_partition(folder(orders, "fraud", "dev"), MONTHS[0], gold)
    say(orders, learned(first), learned(second))
    gather(orders)
    every = pa.chunked_array([pa.array([first, second])])
    assert dev_labels(orders, "fraud", MONTHS[0], every).tolist() == [1, -1]
    labels(orders.root)
    known = dict(zip(rows(orders.root)["order_id"], rows(orders.root)["known"], strict=True))
    assert (known[first], known[second]) == ("fraud", "fraud")
    inputs = read_inputs(orders, "fraud")
    assert (inputs.dev >= 0).sum() == 1
    assert inputs.dev[inputs.dev >= 0].tolist() == [1]


def test_a_row_that_teaches_measures_nothing_though_it_has_test_gold(orders: Project) -> None:
    first, second = keys(dev=True)[:2]
    gold = pa.table({"order_id": [first, second], "label": ["fine", "fine"]})
    write_partition(folder(orders, "fraud", "test"), MONTHS[0], gold)
    say(orders, learned(first))
    gather(orders)
    labels(orders.root)
    test = read_inputs(orders, "fraud").test
    assert (test >= 0).sum() == 1
    assert rows(orders.root)["order_id"][test >= 0].tolist() == [second]


def test_half_a_line_is_told_and_the_next_answer_stands_on_a_line_of_its_own(orders: Project) -> None:
    first, second = keys(dev=True)[:2]
    file = say(orders, learned(first), learned(second))
    file.write_bytes(file.read_bytes()[:-20])
    say(orders, learned(second, "fine"))
    found = read_answers(orders, "fraud")
    assert [(placed.answer.key, placed.answer.label) for placed in found.answers] == [
        (first, "fraud"),
        (second, "fine"),
    ]
    assert found.halves == [f"reviews/fraud/{file.name}:2"]
    assert gather(orders) == [
        f"reviews/fraud/{file.name}:2: half a line, of an answer that was never acknowledged; it is not read."
    ]


def test_a_row_that_is_no_event_is_told_and_does_not_count(orders: Project) -> None:
    strange = next(key for key in (f"gone-{number}" for number in range(9)) if is_dev([key])[0])
    say(orders, learned(strange), learned(keys(dev=True)[0]))
    assert gather(orders) == [f"fraud: 1 reviewed rows are no accepted events ({strange!r}); they do not count."]
    ledger = read_ledger(orders, "gather_reviews")
    assert (ledger.rows_in, ledger.rows_out, ledger.rejected) == (2, 1, 1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"key":"KEY","said":"class","label":"frog","purpose":"learn","time":"2026-05-01T12:00:00Z"}', "no class of"),
        ('{"key":"KEY","said":"class","purpose":"learn","time":"2026-05-01T12:00:00Z"}', "names a class where"),
        ('{"key":"KEY","said":"class","label":"fraud","purpose":"learn","time":"May"}', "time"),
        ('{"key":"KEY","said":"class","label":"fraud","purpose":"estimate","time":"2026-05-01T12:00:00Z"}', "probab"),
        ("fraud,KEY}", "not a line of JSON"),
        ("[1]", "is no answer"),
    ],
)
def test_a_line_that_is_no_answer_is_named_with_its_place(orders: Project, line: str, said: str) -> None:
    file = say(orders, learned(keys(dev=True)[0]))
    with file.open("a") as more:
        more.write(line.replace("KEY", keys(dev=True)[1]) + "\n")
    with pytest.raises(TableError, match=said) as error:
        gather(orders)
    assert str(error.value).startswith(f"reviews/fraud/{file.name}:2 ")
    assert not (orders.root / "data/reviews").exists()


def test_no_answer_of_one_side_serves_the_other(orders: Project) -> None:
    say(orders, learned(keys(dev=False)[0]))
    with pytest.raises(TableError, match="to learn about a row of the test side"):
        read_answers(orders, "fraud")


def test_a_missing_frame_and_a_wrong_name_are_told(orders: Project) -> None:
    file = say(orders, estimated(keys(dev=False)[0]), session=ESTIMATE)
    with pytest.raises(TableError, match=r"frame\.json is missing"):
        gather(orders)
    file.rename(file.with_name("mine.jsonl"))
    with pytest.raises(TableError, match=r"mine\.jsonl is not named"):
        gather(orders)
    with pytest.raises(UserError, match="cannot be a reviewer's name"):
        file_of(orders, "fraud", "../ada", LEARN)


def test_two_sessions_never_have_the_same_name() -> None:
    assert len({new_session("learn", NOW) for _ in range(50)}) > 45
    assert new_session("audit", NOW).startswith("audit-20260501T120000-")


KILLED = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from weakfish.reviews.answers import Answer, AnswersFile

file = AnswersFile(Path(sys.argv[1]))
for number in range(10 ** 6):
    file.append(Answer(f"row-{number}", "skip", "learn", datetime.now(UTC), note="n" * 5000))
    print(number, flush=True)
"""


def test_an_answer_that_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    for wait in (0.0, 0.01, 0.05):
        with subprocess.Popen([sys.executable, "-c", KILLED, str(file)], stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(wait)
            os.kill(process.pid, signal.SIGKILL)
            acknowledged = process.stdout.read().count(b"\n") + 1
        whole = [line for line in file.read_bytes().split(b"\n") if line.endswith(b"}")]
        assert len(whole) >= acknowledged
        file.unlink()


def test_reviews_of_a_month_are_truth_that_labels_follow(orders: Project) -> None:
    wrong = keys(dev=True)[:1]
    say(orders, learned(wrong[0], CLASSES[1 - truth_of(MONTHS[0], 240)[int(wrong[0][-3:])]]))
    gather(orders)
    labels(orders.root)
    found = rows(orders.root)
    place = int(np.flatnonzero(found["order_id"] == wrong[0])[0])
    assert found["label"][place] == found["known"][place]
