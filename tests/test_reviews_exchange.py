"""Answers by way of other tools: what goes out comes back with its purpose; what cannot be taken is told by line."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from in_process import own_modules, run_here
from told_orders import MONTHS, labels, project

from weakfish.contracts.tables import read_table
from weakfish.errors import Busy, UserError
from weakfish.files import read_json
from weakfish.project.paths import Project
from weakfish.project.runs import locked
from weakfish.reviews.answers import Answer, Kind, frame_file, read_answers
from weakfish.reviews.gathering import gather
from weakfish.reviews.other_tools import Imported, export_rows, import_answers
from weakfish.reviews.session import ReviewSession
from weakfish.reviews.sides import is_dev

FORMATS = {"label_studio": ".json", "argilla_records": ".json", "answers_csv": ".csv"}
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def own_functions() -> Iterator[None]:
    with own_modules():
        yield


@pytest.fixture
def orders(tmp_path: Path) -> Project:
    root = project(tmp_path / "orders", "known: dev", *MONTHS[:2])
    labels(root)
    return Project(root)


def exported(orders: Project, file: Path, module: str, kind: Kind = "learn", rows: int = 12) -> str:
    session = ReviewSession(orders, "fraud", kind, "nobody", None, rows, "one" if kind == "audit" else None)
    return export_rows(session, rows, file, import_module(f"weakfish.reviews.{module}").write).session


def imported(orders: Project, file: Path, module: str, **how: Any) -> Imported:
    rows = import_module(f"weakfish.reviews.{module}").read(file)
    return import_answers(orders, "fraud", rows, now=NOW, **how)


def answer_label_studio(file: Path, answers: list[str]) -> list[str]:
    """What Label Studio exports of its tasks when a user gave these answers; see its task format."""
    tasks = read_json(file)
    for number, (task, answer) in enumerate(zip(tasks, answers, strict=True), 1):
        region = {"from_name": "label", "to_name": "order_id", "type": "choices", "value": {"choices": [answer]}}
        annotation = {
            "id": number,
            "completed_by": {"id": 7, "email": "Ada.L@example.org", "first_name": "", "last_name": ""},
            "result": [] if answer == "(skip)" else [region],
            "was_cancelled": answer == "(skip)",
            "created_at": "2026-04-30T10:00:00.123456Z",
            "updated_at": "2026-04-30T10:00:01.123456Z",
            "lead_time": 3.2,
        }
        task |= {"id": 100 + number, "annotations": [annotation], "meta": {}, "project": 3}
    file.write_text(json.dumps(tasks))
    return [task["data"]["weakfish_key"] for task in tasks]


def answer_argilla(file: Path, answers: list[str]) -> list[str]:
    """What Argilla writes of its records when a user gave these answers."""
    records = read_json(file)
    for record, answer in zip(records, answers, strict=True):
        record["responses"] = {"label": [{"value": answer, "user_id": "1a2b3c4d-0000-4000-8000-000000000000"}]}
        record |= {"status": "completed", "_server_id": "00000000-0000-4000-8000-000000000001"}
    file.write_text(json.dumps(records))
    return [record["metadata"]["weakfish_key"] for record in records]


def answer_csv(file: Path, answers: list[str]) -> list[str]:
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row, answer in zip(rows, answers, strict=True):
        row |= {"answer": answer, "reviewer": "Ada L", "time": "2026-04-30T10:00:01Z", "note": 'so, "so"'}
    with file.open("w", newline="", encoding="utf-8-sig") as stream:
        lines = csv.DictWriter(stream, rows[0].keys(), delimiter=";")
        lines.writeheader()
        lines.writerows(rows)
    return [row["key"] for row in rows]


ANSWER = {"label_studio": answer_label_studio, "argilla_records": answer_argilla, "answers_csv": answer_csv}
SAID = ["fraud", "fine", "(unsure)", "fine", "(skip)"]


def last(orders: Project) -> list[Answer]:
    return [placed.answer for placed in read_answers(orders, "fraud").answers]


@pytest.mark.parametrize("module", FORMATS)
@pytest.mark.parametrize("kind", ["estimate", "learn", "audit"])
def test_answers_come_back_with_what_their_rows_were_asked_for(
    orders: Project, tmp_path: Path, module: str, kind: Kind
) -> None:
    file = tmp_path / f"rows{FORMATS[module]}"
    session = exported(orders, file, module, kind, rows=len(SAID))
    assert not list(orders.root.glob("reviews/fraud/*.jsonl"))
    said = [answer for answer in SAID if not (module == "argilla_records" and answer == "(skip)")] + ["fine"]
    keys = ANSWER[module](file, said[: len(SAID)])
    found = imported(orders, file, module)
    assert (found.read, found.taken, found.rejected) == (len(SAID), len(SAID), [])
    answers = {answer.key: answer for answer in last(orders)}
    assert list(answers) == keys or set(answers) == set(keys)
    words = {"(unsure)": ("unsure", None), "(skip)": ("skip", None)}
    expected = [words.get(answer, ("class", answer)) for answer in said[: len(SAID)]]
    assert [(answers[key].said, answers[key].label) for key in keys] == expected
    assert {answer.purpose for answer in answers.values()} == {kind}
    assert {placed.session for placed in read_answers(orders, "fraud").answers} == {session}
    assert {is_dev([key])[0] for key in keys} == {kind != "estimate"}
    assert {bool(answer.shown) for answer in answers.values()} == {True}
    if kind == "estimate":
        strata = {
            each["stratum"]: each["probability"] for each in read_json(frame_file(orders, "fraud", session))["strata"]
        }
        assert all(answer.probability == strata[str(answer.stratum)] for answer in answers.values())
    assert {answer.function for answer in answers.values()} == {"one" if kind == "audit" else None}
    gather(orders)
    side = "test" if kind == "estimate" else "dev"
    kept = read_table(orders.data / "reviews" / side / "fraud")
    assert sorted(kept["order_id"].to_pylist()) == sorted(
        key for key, (what, _) in zip(keys, expected, strict=True) if what == "class"
    )


def test_who_and_when_are_as_the_tools_have_them(orders: Project, tmp_path: Path) -> None:
    names, times = {}, {}
    for module, suffix in FORMATS.items():
        file = tmp_path / f"{module}{suffix}"
        exported(orders, file, module, rows=3)
        ANSWER[module](file, ["fine"] * 3)
        (path,) = imported(orders, file, module).files
        names[module] = Path(path).name.partition("-")[0]
        times[module] = {placed.answer.time for placed in read_answers(orders, "fraud").answers if placed.file == path}
    assert names == {"label_studio": "ada.l_example.org", "argilla_records": "argilla.1a2b3c4d", "answers_csv": "ada_l"}
    assert times["argilla_records"] == {NOW}
    assert times["answers_csv"] == {datetime(2026, 4, 30, 10, 0, 1, tzinfo=UTC)}
    assert times["label_studio"] == {datetime(2026, 4, 30, 10, 0, 1, 123000, tzinfo=UTC)}


def test_taking_a_file_twice_adds_nothing_and_a_changed_mind_is_a_later_line(orders: Project, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    exported(orders, file, "answers_csv", rows=3)
    answer_csv(file, ["fine", "fraud", ""])
    first = imported(orders, file, "answers_csv")
    assert (first.read, first.taken, first.unanswered) == (3, 2, 1)
    again = imported(orders, file, "answers_csv")
    assert (again.read, again.taken, again.unanswered, again.known, again.files) == (3, 0, 1, 2, [])
    file.write_text(file.read_text(encoding="utf-8-sig").replace("fraud;Ada", "fine;Ada"))
    assert imported(orders, file, "answers_csv").taken == 1
    assert [answer.label for answer in last(orders)] == ["fine", "fraud", "fine"]


def test_what_cannot_be_taken_is_a_sentence_with_its_line_and_the_rest_is_taken(
    orders: Project, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    session = exported(orders, file, "answers_csv", rows=4)
    keys = answer_csv(file, ["fine"] * 4)
    tested = next(f"{MONTHS[0]}-{n:03}" for n in range(240) if not is_dev([f"{MONTHS[0]}-{n:03}"])[0])
    lines = [
        "key,session,answer,reviewer,time",
        f"{keys[0]},{session},fine,ada,",
        f"nobody,{session},fine,ada,",
        f"{keys[1]},{session},frod,ada,",
        f"{keys[2]},{session},fi",
        f"{tested},{session},fine,ada,",
        f"{keys[2]},{session},fine,,",
        f"{keys[2]},{session},fine,ada,noon",
        f"{keys[2]},learn-today,fine,ada,",
        f"{keys[2]},,fine,ada,",
        f"{keys[2]},estimate-20260501T120000-00aa,fine,ada,",
        f"{tested},estimate-20260501T120000-00aa,fine,ada,",
        f"{keys[2]},audit-20260501T120000-00aa,fine,ada,",
        f'{keys[3]},{session},"fine,ada,',
    ]
    file.write_text("\n".join(lines))
    found = imported(orders, file, "answers_csv")
    assert (found.read, found.taken) == (13, 1)
    expected = [
        "line 3 is about 'nobody', which is no event in data/labels/fraud",
        "line 4 answers 'frod', which is no class of fraud (fine, fraud)",
        "line 5 has 3 of 5 fields, as half a line has",
        f"line 6 answers to learn about '{tested}', a row of the side that only measures",
        "line 7 does not say who answered; give --reviewer",
        "line 8 has the time 'noon', which is not one; write it as 2024-05-31T14:00:00Z",
        "line 9 names the session 'learn-today', which `weakfish review export` does not make",
        "line 10 names no session; say with --purpose learn what such answers are for",
        f"line 11 answers to estimate about '{keys[2]}', a row of the side that may teach",
        "line 12 cannot be taken: reviews/fraud/estimate-20260501T120000-00aa.frame.json is missing",
        "line 13 is of an audit and names no function",
        "line 14 is half a line or no CSV",
    ]
    assert len(found.rejected) == len(expected)
    for sentence, start in zip(found.rejected, expected, strict=True):
        assert sentence.startswith(f"rows.csv {start}")
    assert [answer.key for answer in last(orders)] == [keys[0]]


def test_a_probability_that_is_not_the_frames_is_refused(orders: Project, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    exported(orders, file, "answers_csv", "estimate", rows=3)
    keys = answer_csv(file, ["fine"] * 3)
    text = file.read_text(encoding="utf-8-sig").splitlines()
    probability = text[1].split(";")[3]
    text[1] = text[1].replace(f";{probability};", ";0.999;")
    file.write_text("\n".join(text))
    found = imported(orders, file, "answers_csv")
    assert found.taken == 2
    assert "has the probability 0.999, and the frame of estimate-" in found.rejected[0]
    assert keys[0] not in {answer.key for answer in last(orders)}


def test_answers_of_ones_own_rows_say_what_they_are_for(orders: Project, tmp_path: Path) -> None:
    key = next(f"{MONTHS[0]}-{n:03}" for n in range(240) if is_dev([f"{MONTHS[0]}-{n:03}"])[0])
    (tmp_path / "own.csv").write_text(f"key,answer\n{key},fine\n")
    found = imported(orders, tmp_path / "own.csv", "answers_csv", reviewer="ada", purpose="learn")
    assert found.taken == 1
    assert [(answer.key, answer.purpose) for answer in last(orders)] == [(key, "learn")]


def test_files_that_are_not_whole_leave_nothing(orders: Project, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    exported(orders, file, "label_studio", rows=3)
    answer_label_studio(file, ["fine"] * 3)
    file.write_text(file.read_text()[:-40])
    with pytest.raises(UserError, match=r"is not whole JSON .* so nothing of it is taken"):
        imported(orders, file, "label_studio")
    (tmp_path / "min.json").write_text('[{"id": 1, "label": "fine"}]')
    assert imported(orders, tmp_path / "min.json", "label_studio").rejected == [
        "min.json task 1 has no data; export as JSON, not as JSON-MIN or CSV."
    ]
    (tmp_path / "no.csv").write_text("key,label\na,b\n")
    with pytest.raises(UserError, match=r"no\.csv has no column answer; it has key, label"):
        imported(orders, tmp_path / "no.csv", "answers_csv")
    assert not last(orders)


def test_one_name_for_several_people_is_refused(orders: Project, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    exported(orders, file, "answers_csv", rows=2)
    answer_csv(file, ["fine", "fraud"])
    file.write_text(file.read_text(encoding="utf-8-sig").replace("fraud;Ada L", "fraud;Bob"))
    with pytest.raises(UserError, match=r"are of 2 people \(Ada L, Bob\); leave out --reviewer"):
        imported(orders, file, "answers_csv", reviewer="ada")
    assert len(imported(orders, file, "answers_csv").files) == 2


def test_a_page_that_has_the_file_open_is_waited_for(orders: Project, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    session = exported(orders, file, "answers_csv", rows=2)
    answer_csv(file, ["fine", "fraud"])
    with locked(orders, f"review ada_l-{session}"), pytest.raises(Busy, match="is already running here"):
        imported(orders, file, "answers_csv")
    assert not last(orders)


def test_what_goes_out_has_every_column_a_suggestion_and_a_configuration(orders: Project, tmp_path: Path) -> None:
    exported(orders, tmp_path / "rows.json", "label_studio", rows=5)
    tasks = read_json(tmp_path / "rows.json")
    columns = read_table(orders.table("events")).column_names
    config = ElementTree.parse(tmp_path / "rows.xml").getroot()  # noqa: S314  written here
    assert [each.get("value") for each in config.iter("Text")] == [f"${name}" for name in columns]
    assert [each.get("value") for each in config.iter("Choice")] == ["fine", "fraud", "(unsure)"]
    control = config.find("Choices")
    assert control is not None
    by_key = {row["order_id"]: row for row in read_table(orders.table("labels/fraud")).to_pylist()}
    for task in tasks:
        assert set(columns) <= set(task["data"])
        row = by_key[task["data"]["weakfish_key"]]
        for prediction in task["predictions"]:
            (region,) = prediction["result"]
            assert (region["from_name"], region["to_name"]) == (control.get("name"), control.get("toName"))
            assert region["value"]["choices"] == [row["label"]]
            assert prediction["score"] == max(row["p_fine"], row["p_fraud"])
        assert bool(task["predictions"]) == (row["label"] is not None)


def test_a_text_that_a_spreadsheet_would_run_is_quoted(tmp_path: Path) -> None:
    from weakfish.reviews.answers_csv import write
    from weakfish.reviews.other_tools import Outgoing

    marks = {"key": "=a", "session": "learn-20260501T120000-00aa"}
    write(tmp_path / "rows.csv", [Outgoing(marks, {"note": "=HYPERLINK(1)"}, None, None)], ["fine"])
    with (tmp_path / "rows.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["key"], row["event.note"]) == ("=a", "'=HYPERLINK(1)")


def test_the_commands_say_what_they_did(orders: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.csv"
    run_here(orders.root, ["review", "export", str(file), "--purpose", "learn", "--rows", "3"])
    assert "3 rows of session learn-" in capsys.readouterr().out
    answer_csv(file, ["fine", "", "nothing"])
    run_here(orders.root, ["review", "import", str(file)])
    printed = capsys.readouterr()
    assert "3 rows read = 1 taken + 2 rejected (1 without an answer)." in printed.out
    assert printed.err == "rows.csv line 4 answers 'nothing', which is no class of fraud (fine, fraud).\n"
    with pytest.raises(UserError, match="is there already, and may hold answers"):
        run_here(orders.root, ["review", "export", str(file), "--purpose", "learn"])
