"""Defects of each kind, put into the real corpus: the right check notices, with the right severity, and no other does
that would stop the pipeline; on the clean corpus none does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from corpus import (
    CACHE,
    EVENTS,
    LABELS,
    OF_EVENTS,
    OF_LABELS,
    THROUGH,
    Clean,
    accepted,
    checks,
    copied,
    copy,
    fired,
)
from defects import (
    DEFECTS,
    NEW_MONTHS,
    NO_KEY,
    NO_TIME,
    OUT_OF_RANGE,
    RULE_DEFECTS,
    TWICE,
    Defect,
    RuleDefect,
    change,
    change_votes,
    copies,
    future,
    new_month,
    spam_share,
)
from in_process import own_modules

from weakfish.contracts.ledgers import despite
from weakfish.contracts.tables import partitions, read_partition
from weakfish.contracts.verdicts import mask_file, verdict_file
from weakfish.labeling.label import label

STOPS = ("failed", "quarantined")
SEVERITY = {"failed": "critical", "quarantined": "critical", "warned": "warning", "noted": "info"}
BASELINES = pytest.mark.parametrize("through", [None, THROUGH], ids=["all accepted", f"accepted through {THROUGH}"])


@pytest.fixture(scope="module")
def clean(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clean]:
    root = tmp_path_factory.mktemp("clean")
    with own_modules(root):
        yield accepted(demo, root)


def stopping(found: dict[str, str]) -> dict[str, str]:
    return {name: status for name, status in found.items() if status in STOPS}


@BASELINES
@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
def test_the_right_check_notices_a_defect_of_the_events(
    clean: Clean, tmp_path: Path, defect: Defect, through: str | None
) -> None:
    project = copied(clean, tmp_path, EVENTS, through)
    change(project.staged(EVENTS), defect.rows, *defect.months)
    found = checks(project, EVENTS)
    told = fired(found, clean.checks[through][EVENTS])
    assert stopping(told) == defect.stops
    assert {name: told.get(name) for name in defect.warns} == dict.fromkeys(defect.warns, "warned")
    assert {name: found[name]["severity"] for name in told} == {name: SEVERITY[told[name]] for name in told}


def test_the_rows_that_a_defect_spoiled_and_no_others_are_set_aside(clean: Clean, tmp_path: Path) -> None:
    """Three defects at once, and who counts the rows anew is this test."""
    project = copied(clean, tmp_path, EVENTS, None)
    staged = project.staged(EVENTS)
    for month, defect in (("2002-08", copies), ("2002-09", DEFECTS["keys that are null"].rows), ("2002-10", future)):
        change(staged, defect, month)
    parts = {name: read_partition(file, ["message_id", "received_at"]) for name, file in partitions(staged).items()}
    seen = Counter(key for part in parts.values() for key in part["message_id"].to_pylist())
    spoiled: dict[str, set[tuple[str, int]]] = {TWICE: set(), NO_KEY: set(), NO_TIME: set(), OUT_OF_RANGE: set()}
    for name, part in parts.items():
        for row, (key, time) in enumerate(
            zip(*(part[column].to_pylist() for column in part.column_names), strict=True)
        ):
            spoiled[NO_KEY] |= {(name, row)} if key is None else set()
            spoiled[TWICE] |= {(name, row)} if key is not None and seen[key] > 1 else set()
            spoiled[NO_TIME] |= {(name, row)} if time is None else set()
            spoiled[OUT_OF_RANGE] |= {(name, row)} if time is not None and time.year > 2002 else set()
    found = checks(project, EVENTS)
    mask: dict[str, set[tuple[str, int]]] = {name: set() for name in spoiled}
    for line in pq.read_table(mask_file(project, EVENTS)).to_pylist():
        mask[line["check"]].add((line["partition"], line["row"]))
    assert mask == spoiled
    assert {name: found[name]["unexpected"] for name in spoiled} == {name: len(of) for name, of in spoiled.items()}
    assert min(len(of) for of in spoiled.values()) > 0


@BASELINES
def test_on_the_clean_corpus_no_check_stops_the_pipeline_and_only_rows_without_a_time_are_set_aside(
    clean: Clean, through: str | None
) -> None:
    for table, found in clean.checks[through].items():
        told = {name: check["status"] for name, check in found.items()}
        assert stopping(told) == ({NO_TIME: "quarantined"} if table == EVENTS else {}), table
        assert {name for name, check in found.items() if check["severity"] == "critical"}, table


def test_no_table_of_the_demo_fails_a_check(demo: Path) -> None:
    files = sorted((demo / "reports/validation").rglob("*.json"))
    assert len(files) == 7
    for file in files:
        told = {check["check"]: check["status"] for check in json.loads(file.read_text())["checks"]}
        assert stopping(told) == ({NO_TIME: "quarantined"} if file.name == "events.json" else {}), file


@pytest.mark.parametrize("through", [None, THROUGH], ids=["in all months", "in new months"])
@pytest.mark.parametrize("defect", RULE_DEFECTS.values(), ids=RULE_DEFECTS)
def test_the_right_check_notices_a_defect_of_a_rule(
    clean: Clean, tmp_path: Path, defect: RuleDefect, through: str | None
) -> None:
    project = copied(clean, tmp_path, LABELS, through)
    change_votes(project, defect.function, defect.votes, *(NEW_MONTHS if through else ()))
    with despite("the events are made by the test"):
        label(project)
    found = checks(project, LABELS)
    told = fired(found, clean.checks[through][LABELS])
    name, status = f"{defect.check}({defect.function})", defect.in_new_months if through else defect.everywhere
    assert told.get(name) == status
    assert stopping(told) == ({name: status} if status in STOPS else {})
    assert {name: found[name]["severity"] for name in told} == {name: SEVERITY[told[name]] for name in told}


def test_of_rules_that_seem_to_flip_together_the_one_that_turned_round_stops_and_the_others_point_to_it(
    clean: Clean, tmp_path: Path
) -> None:
    """It votes where it abstained, that is on most rows, and so is the majority that others are compared with."""
    project = copied(clean, tmp_path, LABELS, THROUGH)
    change_votes(project, "offers_removal", lambda votes: np.where(votes == 1, -1, 1).astype(np.int8), *NEW_MONTHS)
    with despite("the events are made by the test"):
        label(project)
    found = checks(project, LABELS)
    told = fired(found, clean.checks[THROUGH][LABELS])
    assert stopping(told) == {"rule_flipped(offers_removal)": "failed"}
    others = [name for name in told if name.startswith("rule_flipped") and told[name] == "warned"]
    assert others
    assert all("rule_flipped(offers_removal)" in found[name]["found"] for name in others)


@pytest.mark.parametrize("spam", [0.9, None], ids=["mostly of one class", "like those before it"])
def test_a_new_month_whose_classes_have_other_shares_is_a_warning(
    clean: Clean, tmp_path: Path, spam: float | None
) -> None:
    project = copied(clean, tmp_path, LABELS, None)
    new_month(project, "2003-01", rows=600, spam=spam)
    with despite("the events are made by the test"):
        label(project)
    found = checks(project, LABELS)
    told = fired(found, clean.checks[None][LABELS])
    assert told.get("class_balance(spam)") == (None if spam is None else "warned")
    assert stopping(told) == {}


def test_the_corpus_own_fall_of_the_share_of_spam_is_a_warning_no_more_and_no_less(demo: Path, clean: Clean) -> None:
    before, after = (spam_share(demo / "data/gold" / part / "spam") for part in ("dev", "test"))
    assert (round(before, 2), round(after, 2)) == (0.43, 0.15)
    known, drifted = (clean.checks[through][LABELS]["class_balance(spam)"] for through in (None, THROUGH))
    assert known["status"] == "passed"
    assert (drifted["status"], drifted["severity"], drifted["against_baseline"]) == ("warned", "warning", True)
    assert drifted["observed"] < 0.2 < 0.4 < drifted["arguments"]["accepted"]


@BASELINES
def test_the_same_data_give_the_same_bytes_whatever_is_cached(
    clean: Clean, tmp_path: Path, through: str | None
) -> None:
    made = []
    for name, cached in (("one", [CACHE]), ("two", [])):
        project = copy(clean.root, tmp_path / name, *OF_EVENTS, *OF_LABELS, *cached)
        project.baseline.write_bytes(clean.baselines[through])
        change(project.staged(EVENTS), copies, "2002-10")
        for table in (EVENTS, LABELS):
            checks(project, table)
        kinds = (partial(verdict_file, project), partial(mask_file, project), project.profile)
        files = [of(table) for table in (EVENTS, LABELS) for of in kinds]
        made.append([file.read_bytes() for file in files])
    assert made[0] == made[1]
