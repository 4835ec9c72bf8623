"""Example functions of a new project: three per task, on its own columns, each on some rows and not on all."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scaffolded import KINDS, proposed, written

from weakfish.engine import duckdb as compute
from weakfish.rules.columnar import ColumnarLabelingFunction
from weakfish.rules.loading import load_functions
from weakfish.scaffold.examples import FEWEST, MOST, DevRows, Example, examples, fired, stems
from weakfish.scaffold.proposal import propose
from weakfish.scaffold.render import render
from weakfish.scaffold.roles import Wishes, choose
from weakfish.scaffold.survey import place
from weakfish.sources.tabular import infer

TIME = pa.timestamp("us", tz="UTC")
YES_NO = {"task": ["no", "yes"]}


def table(**columns: pa.Array) -> pa.Table:
    rows = len(next(iter(columns.values())))
    return pa.table({"id": [f"k{number:04}" for number in range(rows)], **columns})


def chosen(sample: pa.Table, classes: list[str] | None = None, **roles: object) -> list[Example]:
    found = examples(sample, {"task": classes or ["no", "yes"]}, key="id", **roles)  # type: ignore[arg-type]
    return list(found["task"])


@pytest.mark.parametrize("kind", KINDS)
def test_functions_as_they_are_written_vote_on_the_rows_that_they_were_chosen_for(kind: str, tmp_path: Path) -> None:
    proposal, sample = proposed(kind)
    with written(tmp_path, render(proposal, "1.2.3")) as project:
        for task, rules in proposal.rules.items():
            functions = {function.name: function for function in load_functions(project, task)}
            for rule in rules:
                function = functions[rule.name]
                assert isinstance(function, ColumnarLabelingFunction)
                assert function.label == rule.label
                votes = compute.connect().prepare(sample.schema, lambda rows, f=function: rows.select(v=f.votes(rows)))
                counts = Counter(votes(sample)["v"].to_pylist())
                assert set(counts) == {-1, rule.label}
                assert counts[rule.label] / sample.num_rows == rule.share
                assert FEWEST <= rule.share <= MOST


@pytest.mark.parametrize("kind", KINDS)
def test_names_differ_over_all_tasks_and_rules_are_no_repetitions(kind: str) -> None:
    rules = [rule for each in proposed(kind)[0].rules.values() for rule in each]
    assert len({rule.name for rule in rules}) == len(rules)
    assert len({(rule.column, rule.form, rule.value, rule.words) for rule in rules}) == len(rules)


def test_the_second_task_looks_at_something_else_than_the_first() -> None:
    first, second = proposed("two_tasks")[0].rules.values()
    assert not {(rule.column, rule.form) for rule in first} & {(rule.column, rule.form) for rule in second}


def test_a_word_that_is_a_classs_own_name_votes_for_that_class() -> None:
    proposal, _ = proposed("tickets")
    task = proposal.tasks["kind"]
    for rule in proposal.rules["kind"]:
        assert rule.named
        assert rule.words[0][:4] in task.classes[rule.label]
    assert len({rule.label for rule in proposal.rules["kind"]}) == 3


def test_a_value_that_is_a_classs_own_name_votes_for_that_class() -> None:
    states = pa.array(["paid", "cancelled by customer", "sent", "returned", "lost"] * 20)
    rules = chosen(table(state=states, price=pa.array(range(100))), ["kept", "cancelled"])
    assert [(rule.value, rule.label) for rule in rules if rule.named] == [("cancelled by customer", 1)]


def test_classes_without_a_name_in_the_data_take_turns() -> None:
    for kind in ("flats", "keys_alone"):  # orders have gold, which decides
        for rules in proposed(kind)[0].rules.values():
            assert [rule.label for rule in rules] == [0, 1, 0]


def test_parts_of_names_that_classes_share_say_nothing() -> None:
    assert stems(["card_lost", "card_stolen", "other"]) == [("lost",), ("stolen",), ()]
    assert stems(["billingRequest", "bugRequest"]) == [("bill",), ("bug",)]


def test_every_kind_of_column_can_carry_functions_alone() -> None:
    draw = random.Random(1)  # noqa: S311
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = [start + timedelta(minutes=draw.randrange(60 * 24 * 60)) for _ in range(300)]
    words = ["red", "green", "blue", "large", "small", "rusty", "shiny"]
    columns = {
        "at": pa.array(times, TIME),
        "day": pa.array([time.date() for time in times]),
        "flag": pa.array([draw.random() < 0.3 for _ in times]),
        "level": pa.array([draw.randrange(9) for _ in times]),
        "weight": pa.array([draw.random() if draw.random() < 0.9 else None for _ in times]),
        "text": pa.array([" ".join(draw.choices(words, k=5)) for _ in times]),
        "kind": pa.array([draw.choice("abcdef") for _ in times]),
    }
    for name, column in columns.items():
        rules = chosen(table(**{name: column}))
        assert len(rules) == 3
        assert rules[0].column == name


def test_the_key_serves_only_where_nothing_else_does() -> None:
    constant = table(a=pa.array(["same"] * 100), b=pa.nulls(100, pa.int64()), c=pa.array([1.0] * 100))
    assert [(rule.column, rule.form) for rule in chosen(constant)] == [("id", "sorts_last")] * 3
    varied = table(a=pa.array(["x", "y", "z", "v"] * 25))
    assert {rule.column for rule in chosen(varied)} == {"a"}


def test_names_of_customers_are_no_rules_and_their_bounds_are_not_either() -> None:
    customers = pa.array([f"c{number % 5}" for number in range(200)])
    other = pa.array([number % 7 for number in range(200)])
    rules = chosen(table(customer=customers, other=other), entities=("customer",))
    assert not [rule for rule in rules if rule.column == "customer" and rule.form == "equals"]


def test_words_of_every_text_and_of_hardly_any_are_no_keywords() -> None:
    texts = [f"please order {'urgent' if number % 5 == 0 else 'quietly'} number{number}" for number in range(100)]
    words = [word for rule in chosen(table(note=pa.array(texts))) for word in rule.words]
    assert words == ["urgent"]


def test_nan_lies_beyond_no_bound() -> None:
    sample = table(v=pa.array([float("nan"), None, *range(98)], pa.float64()))
    high, low = (Example(name=form, label=0, column="v", form=form, value=50.0) for form in ("at_least", "at_most"))
    assert fired(sample, [high, low]) == [0.48, 0.51]


def test_the_same_sample_gives_the_same_rules() -> None:
    proposal, sample = proposed("orders")
    classes = {name: task.classes for name, task in proposal.tasks.items()}
    roles = {"key": "order_id", "time": "placed_at", "entities": proposal.entities}
    found = examples(sample, classes, **roles)  # type: ignore[arg-type]
    assert examples(sample, classes, **roles) == found  # type: ignore[arg-type]
    assert proposed.__wrapped__("orders")[0].rules == proposal.rules != found  # gold has a say in what is proposed


values = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-(1 << 62), 1 << 62)), min_size=8, max_size=40),
    st.lists(st.one_of(st.none(), st.floats()), min_size=8, max_size=40),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=8, max_size=40),
    st.lists(st.one_of(st.none(), st.text(max_size=20)), min_size=8, max_size=40),
)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_there_are_three_functions_in_range_whatever_a_column_holds(data: st.DataObject) -> None:
    given_values = data.draw(values)
    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    kind = next((kinds[type(value)] for value in given_values if value is not None), pa.string())
    sample = table(v=pa.array(given_values, kind))
    rules = chosen(sample)
    assert len(rules) == 3
    assert fired(sample, rules) == [rule.share for rule in rules]
    assert all(FEWEST <= rule.share <= MOST for rule in rules)
    assert pc.count(sample["id"]).as_py() == sample.num_rows


def test_bounds_that_several_shares_lead_to_count_once() -> None:
    rules = chosen(table(v=pa.array([None, None, None, None, None, 0, 0, 1], pa.int64())))
    assert len(rules) == 3
    assert len({(rule.column, rule.form, rule.value) for rule in rules}) == 3


def payments(rows: int = 4000, told: float = 0.05) -> tuple[pa.Table, DevRows]:
    """Payments of which one in twenty is fraud: at night, of large amounts; and dev gold of a part of them."""
    draw = np.random.default_rng(3)
    fraud = draw.random(rows) < 0.05
    sample = table(
        amount=pa.array(np.where(fraud, 900.0, 60.0) * draw.lognormal(0, 0.6, rows)),
        hour=pa.array(np.where(fraud, draw.integers(0, 6, rows), draw.integers(6, 24, rows))),
        shop=pa.array(draw.choice(["books", "tools", "shoes"], rows)),
    ).set_column(0, "id", pa.array([f"k{number:05}" for number in range(rows)]))
    chosen = np.flatnonzero(draw.random(rows) < told)
    return sample, DevRows(sample.take(pa.array(chosen)), fraud[chosen].astype(np.int64))


def test_example_functions_vote_for_the_class_that_dev_gold_supports() -> None:
    sample, dev = payments()
    found = examples(sample, {"task": ["ok", "fraud"]}, key="id", dev={"task": dev})["task"]
    supported = [rule for rule in found if rule.told]
    assert len(supported) >= 2
    assert {rule.label for rule in supported} == {0, 1}
    for rule in supported:
        assert rule.told is not None
        fires, right = rule.told
        base = (dev.classes == rule.label).mean()
        assert right / fires > base
        assert dev.by_class([rule], 2)[0].tolist()[rule.label] == right
    # the other way round, so would the functions
    turned = examples(sample, {"task": ["ok", "fraud"]}, key="id", dev={"task": replace(dev, classes=1 - dev.classes)})
    assert [(rule.name, 1 - rule.label) for rule in turned["task"] if rule.told] == [
        (rule.name, rule.label) for rule in supported
    ]


def test_what_dev_gold_says_too_little_of_stays_a_guess() -> None:
    sample, dev = payments()
    few = DevRows(dev.rows.slice(0, 4), dev.classes[:4])
    for rows in (few, replace(dev, classes=np.zeros_like(dev.classes))):
        found = examples(sample, {"task": ["ok", "fraud"]}, key="id", dev={"task": rows})
        assert [rule.told for rule in found["task"]] == [None] * 3


def test_init_sees_dev_gold_alone_and_lets_it_be_evidence(tmp_path: Path) -> None:
    sample, dev = payments()
    start = datetime(2024, 1, 1, tzinfo=UTC)
    truth = dict(zip(dev.rows["id"].to_pylist(), dev.classes.tolist(), strict=True))

    def proposal(turned: bool) -> Any:
        lines = ["id,at,amount,hour,shop,verdict"]
        for number, row in enumerate(sample.to_pylist()):
            known = truth.get(row["id"])
            if known is not None and turned and number >= 3200:
                known = 1 - known
            verdict = "" if known is None else ["ok", "fraud"][known]
            at = (start + timedelta(minutes=15 * number)).isoformat()
            lines.append(f"{row['id']},{at},{row['amount']:.2f},{row['hour']},{row['shop']},{verdict}")
        file = tmp_path / f"payments{int(turned)}.csv"
        file.write_text("\n".join(lines) + "\n")
        inferred = infer(file)
        wishes = Wishes(labels=("verdict",), key="id", time="at")
        return propose("payments", inferred, choose(inferred, wishes), place(str(file), tmp_path / "project"))[0]

    plain, turned = proposal(False), proposal(True)
    assert plain.gold_split is not None
    assert start + timedelta(minutes=15 * 3200) >= datetime.fromisoformat(plain.gold_split).replace(tzinfo=UTC)
    assert plain.rules == turned.rules
    (rules,) = plain.rules.values()
    assert any(rule.told for rule in rules)
    (task,) = plain.tasks.values()
    files = render(plain, "1.2.3")
    assert task.has_dev
    assert "\n    known: dev " in files["params.yaml"]
    (functions,) = (text for name, text in files.items() if name.startswith("labeling_functions/verdict"))
    assert "rows of dev gold. Try it" in functions
    assert "For which class it votes is what dev gold supports" in functions
