"""What is kept of benchmarks/review_value.py is what the documents say of it, and intervals held."""

from __future__ import annotations

import json

from projects import REPOSITORY

LINES = [json.loads(line) for line in (REPOSITORY / "benchmarks/review_value.jsonl").read_text("utf-8").splitlines()]
DOCUMENT = (REPOSITORY / "docs/reviews.md").read_text("utf-8")


def test_every_interval_covered_the_truth_as_often_as_it_has_to() -> None:
    intervals = [line for line in LINES if line["figure"] == "interval"]
    assert {line["set"] for line in intervals} == {"hausa", "trec", "youtube"}
    assert {line["questions"] for line in intervals} == {60, 120, 250, 500}
    assert min(line["covered"] for line in intervals) >= 93.5


def test_the_table_of_what_answers_are_worth_is_that_of_the_run() -> None:
    found = {(line["set"], line["answers"], line["way"]): line for line in LINES if line["figure"] == "labels"}
    for (name, answers, way), chosen in found.items():
        if way == "chosen":
            random = found[name, answers, "random"]
            cells = [f"{of['all_rows']:.1f} ± {of['sd']['all_rows']:.1f}, {of['test']:.1f}" for of in (random, chosen)]
            row = f"| {name} | {answers} | {' | '.join(cells)} | {chosen['seeds']} |"
            assert row in DOCUMENT, row
