"""A trace: the events behind a value, picked by their times alone, make the value that is served and trained on."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_process import own_modules, run_here
from projects import replace, tiny, weakfish, write
from told_orders import MONTHS
from told_orders import labels as make_labels
from told_orders import project as made_project

from weakfish.cli.trace import print_feature, print_label
from weakfish.contracts.tables import folder, partitions, read_table, write_partition
from weakfish.errors import TableError, UnknownName, UserError
from weakfish.features.views import View, declared_views
from weakfish.labeling.explain import explain
from weakfish.project.paths import Project
from weakfish.reviews.gathering import gather
from weakfish.reviews.sides import is_dev
from weakfish.sources.tabular.source import TabularSource
from weakfish.tracing.feature_trace import trace_feature
from weakfish.tracing.label_trace import added_up, trace_label
from weakfish.tracing.past import EntityAt
from weakfish.tracing.recompute import recomputed

MANY = 1_000
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def project(demo: Path) -> Iterator[Project]:
    with own_modules(demo):
        yield Project(demo)


@pytest.fixture(scope="module")
def views(project: Project) -> dict[str, View]:
    return declared_views(project)


def drawn(items: list[Any], seed: int) -> list[Any]:
    return random.Random(seed).sample(items, min(MANY, len(items)))  # noqa: S311  a test's choice


@pytest.mark.filterwarnings("ignore")
def test_a_thousand_served_values_are_made_again_by_their_events(project: Project, views: dict[str, View]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from feast import FeatureStore

        store = FeatureStore(repo_path=str(project.root / "feature_repo"))
    publication = json.loads((project.reports / "publish.json").read_text())
    boundary = datetime.fromisoformat(publication["as_of"]).replace(minute=0, second=0, microsecond=0)
    known = {
        view: sorted(set(read_table(project.table(f"features/{view}"))[of.entity].to_pylist()))
        for view, of in views.items()
    }
    values = [(view, entity, name) for view, of in views.items() for entity in known[view] for name in of.features]
    asked, compared = drawn(values, 1), 0
    for name, view in views.items():
        mine = [(entity, feature) for of, entity, feature in asked if of == name]
        entities = sorted({entity for entity, _ in mine})
        references = [f"{name}:{feature}" for feature in view.features]
        served = store.get_online_features(references, {view.entity: entities}).to_dict()
        made = recomputed(project, view, [EntityAt(entity, boundary) for entity in entities])
        for entity, feature in mine:
            place = entities.index(entity)
            assert served[feature][place] == seconds(made[place][feature]), (name, entity, feature)
            compared += 1
    assert compared == MANY


def seconds(value: Any) -> Any:
    """A value as it is online: times to the second."""
    return value.replace(microsecond=0) if isinstance(value, datetime) else value


def test_a_thousand_rows_that_training_joined_are_made_again_at_the_times_of_their_events(
    project: Project, views: dict[str, View]
) -> None:
    training, events = read_table(project.table("training/spam")), read_table(project.table("events"))
    keys = {key: place for place, key in enumerate(events["message_id"].to_pylist())}
    for name, view in views.items():
        rows = drawn(
            training.select(["message_id", "received_at", *(f"{name}__{each}" for each in view.features)]).to_pylist(),
            2,
        )
        entities = events[view.entity].take([keys[row["message_id"]] for row in rows]).to_pylist()
        there = [(entity, row) for entity, row in zip(entities, rows, strict=True) if entity is not None]
        questions = [
            EntityAt(entity, row["received_at"].replace(minute=0, second=0, microsecond=0)) for entity, row in there
        ]
        for (entity, row), made in zip(there, recomputed(project, view, questions), strict=True):
            if row[f"{name}__{first_of(view)}"] is None:  # nothing was known of it yet
                assert made["mails_before"] == 0
                continue
            assert {f"{name}__{each}": value for each, value in made.items()}.items() <= row.items(), (name, entity)


def first_of(view: View) -> str:
    return next(iter(view.features))


def test_a_trace_names_the_events_of_the_window_and_no_others(project: Project) -> None:
    found = trace_feature(project, "sender_domain", "yahoo.com", "sender_activity__mails_7d", at("2002-08-20T12:34"))
    events = read_table(project.table("events"), ["message_id", "sender_domain", "received_at"]).to_pylist()
    boundary = datetime.fromisoformat(found["row"]["at"])
    inside = [
        row
        for row in events
        if row["sender_domain"] == "yahoo.com" and boundary - timedelta(days=7) <= row["received_at"] < boundary
    ]
    assert boundary <= at("2002-08-20T12:34")
    assert [each["key"] for each in found["events"]] == [row["message_id"] for row in inside]
    assert found["value"] == found["recomputed"] == len(inside) > 0
    assert found["equal"]
    assert not found["differs"]
    for each in found["events"]:
        rows = pq.read_table(project.root / each["file"], columns=["message_id"])
        assert rows["message_id"][each["row"] - 1].as_py() == each["key"]
        assert each["raw"][0]["file"].endswith(f".{each['key']}.json")
    assert found["transform"]["file"] == "feature_repo/transforms.py"
    source = (project.root / "feature_repo/transforms.py").read_text().splitlines()
    assert source[found["transform"]["line"] - 1].startswith("def sender_activity(")
    assert found["versions"]["partition"]["name"] == boundary.strftime("%Y-%m")
    assert found["versions"]["training_sets"] == {"spam": True}
    assert found["versions"]["publication"]["same_table"]


def test_a_trace_of_past_labels_names_them_with_the_functions_that_voted(project: Project) -> None:
    time = at("2002-09-12T10:20")
    found = trace_feature(project, "sender_domain", "yahoo.com", "sender_activity__spam_share_7d", time)
    labels = found["labels"]["spam"]
    assert found["equal"]
    assert not found["events"]
    assert all(each["known_at"] < found["row"]["at"] for each in labels)
    mean = sum(round(each["probabilities"]["spam"] * 1e6) for each in labels) / len(labels) / 1e6
    assert found["value"] == pytest.approx(mean, abs=1e-12)
    for function in found["functions"]["spam"]:
        line = (project.root / function["file"]).read_text().splitlines()[function["line"] - 1]
        assert function["name"] in line
        assert sum(function["votes"].values()) <= len(labels)


def test_without_a_time_it_is_what_the_store_serves_now(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    found = trace_feature(project, "sender_domain", "yahoo.com", "sender_activity__first_seen_at")
    assert found["online"]["value"] == found["value"]
    assert found["equal"]
    print_feature(found)
    assert "by the online store, version" in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(5))
def test_the_parts_of_a_label_add_up_to_it_again(
    project: Project, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = read_table(project.table("labels/spam"), ["message_id"])["message_id"].to_pylist()
    found = trace_label(project, "spam", drawn(keys, seed)[0])
    assert found["equal"]
    assert found["recomputed"] == pytest.approx(found["probabilities"], abs=1e-12)
    assert found["made_of"]["training_set"]
    rows = pq.read_table(project.root / found["event"]["file"], columns=["message_id"])
    assert rows["message_id"][found["event"]["row"] - 1].as_py() == found["key"]
    test_gold = read_table(project.data / "gold/test/spam")["message_id"].to_pylist()
    assert found["gold"] is None or found["key"] not in test_gold
    print_label(found)
    printed = capsys.readouterr().out
    for function in found["functions"]:
        if function["vote"] is not None:
            assert f"{function['name']} {function['file']}:{function['line']}" in printed


def test_what_reviewers_said_of_a_label_is_told_with_its_line(
    orders: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    file = orders.root / "reviews/fraud/ada-learn-20260501T120000-00aa.jsonl"
    key = next(key for key in ("o20", "o21", "o22", "o23") if is_dev([key])[0])
    assert trace_label(orders, "fraud", key)["review"] is None
    line = {"key": key, "said": "unsure", "purpose": "learn", "time": "2026-05-01T12:00:00Z"}
    later = line | {"said": "class", "label": "fraud", "time": "2026-05-01T12:00:01Z"}
    write(file, f"{json.dumps(line)}\n{json.dumps(later)}\n")
    found = trace_label(orders, "fraud", key)
    assert found["review"]["label"] == "fraud"
    assert (found["review"]["answers"][-1]["line"], found["review"]["answers"][-1]["reviewer"]) == (2, "ada")
    print_label(found)
    printed = capsys.readouterr().out
    assert "fraud by ada (learn), reviews/fraud/ada-learn-20260501T120000-00aa.jsonl:2" in printed
    assert "of which counts: fraud" in printed
    gold = pa.table({"order_id": [key], "label": ["fine"]})
    write_partition(folder(orders, "fraud", "dev"), Path(found["event"]["file"]).stem, gold)
    gather(orders)
    found = trace_label(orders, "fraud", key)
    assert (found["gold"]["label"], found["review"]["label"]) == ("fine", "fraud")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


STAGES = (["fetch"], ["ingest"], ["validate", "events"], ["accept"], ["vote"], ["label"], ["features"])


@pytest.fixture(scope="module")
def made_orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny(tmp_path_factory.mktemp("traced") / "orders")
    run_here(root, *STAGES)
    return root


@pytest.fixture
def orders(made_orders: Path, tmp_path: Path) -> Iterator[Project]:
    root = Path(shutil.copytree(made_orders, tmp_path / "orders", symlinks=True))
    with own_modules(root):
        yield Project(root)


FEATURE = "kind_activity__orders_7d"


def test_a_source_that_does_not_tell_leaves_file_and_line_unknown(orders: Project) -> None:
    found = trace_feature(orders, "note", "book", FEATURE)
    assert found["equal"]
    assert found["events"]
    assert all(not each["raw"] for each in found["events"])
    assert "sources.orders:Orders does not tell where rows stand" in found["raw_unknown"]


def test_a_row_that_its_events_do_not_make_is_told(orders: Project) -> None:
    file = [*partitions(orders.table("features/kind_activity")).values()][-1]
    table = pq.read_table(file)
    counts = [value + 1 for value in table["orders_7d"].to_pylist()]
    place = table.column_names.index("orders_7d")
    pq.write_table(table.set_column(place, "orders_7d", pa.array(counts, pa.int64())), file)
    found = trace_feature(orders, "note", "book", FEATURE)
    assert not found["equal"]
    assert found["value"] == found["recomputed"] + 1
    assert found["differs"] == [f"The row says {found['value']}, and its events make {found['recomputed']}."]


def test_a_row_that_is_missing_is_told(orders: Project) -> None:
    file = [*partitions(orders.table("features/kind_activity")).values()][-1]
    table = pq.read_table(file)
    books = [row for row in table.to_pylist() if row["note"] == "book"]
    assert books[-1]["orders_7d"] != books[-2]["orders_7d"]
    pq.write_table(pa.Table.from_pylist([row for row in table.to_pylist() if row != books[-1]], table.schema), file)
    found = trace_feature(orders, "note", "book", FEATURE)
    assert not found["equal"]
    assert "no row is newer than" in found["differs"][0]


def test_an_edited_transform_is_told(orders: Project) -> None:
    replace(orders.root / "feature_repo/transforms.py", "What was known", "All that was known")
    assert trace_feature(orders, "note", "book", FEATURE)["transform"]["edited_since"]


def test_only_partitions_and_row_groups_within_the_window_are_read(orders: Project) -> None:
    view = declared_views(orders)["kind_activity"]
    asked = [EntityAt("book", at("2024-02-20"))]
    whole = recomputed(orders, view, asked, ["orders_7d", "amount_mean_7d"])
    february = orders.table("events") / "2024-02.parquet"
    pq.write_table(pq.read_table(february), february, row_group_size=2)
    (orders.table("events") / "2024-01.parquet").write_bytes(b"damaged")
    assert recomputed(orders, view, asked, ["orders_7d", "amount_mean_7d"]) == whole
    with pytest.raises(TableError, match="is not readable Parquet"):
        recomputed(orders, view, asked, ["last_seen_at"])
    content, first = bytearray(february.read_bytes()), pq.read_metadata(february).row_group(0)
    for place in (first.column(number).data_page_offset for number in range(first.num_columns)):
        content[place : place + 8] = b"damaged!"
    february.write_bytes(content)  # the first days of the month, before the window
    assert recomputed(orders, view, asked, ["orders_7d", "amount_mean_7d"]) == whole
    with pytest.raises(TableError, match=r"2024-02\.parquet is not readable Parquet"):
        recomputed(orders, view, [EntityAt("book", at("2024-02-09"))], ["orders_7d"])


METHODS = ("snorkel", "hyper", "naive-bayes", "dawid-skene", "majority")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reader", ["off", "on"])
def test_labels_of_every_method_are_the_sum_of_their_parts(tmp_path: Path, method: str, reader: str) -> None:
    root = made_project(tmp_path / "orders", f"reader: {reader}, reads: [note], known: dev", *MONTHS[:2])
    replace(root / "params.yaml", "method: snorkel", f"method: {method}")
    with own_modules():
        make_labels(root)
        for key in read_table(root / "data/labels/fraud")["order_id"].to_pylist()[:400:40]:
            found = explain(Project(root), "fraud", key)
            assert added_up(found) == pytest.approx(found["probabilities"], abs=1e-9)


def test_bad_questions_are_a_sentence_each(orders: Project) -> None:
    with pytest.raises(UserError, match="There is no note 'bok' in data/features/kind_activity; no event before"):
        trace_feature(orders, "note", "bok", FEATURE)
    with pytest.raises(UnknownName, match=r"no feature 'orders_8d' in view 'kind_activity' .*did you mean 'orders_7d'"):
        trace_feature(orders, "note", "book", "kind_activity__orders_8d")
    with pytest.raises(UnknownName, match=r"no view 'kind' in feature_repo/transforms\.py"):
        trace_feature(orders, "note", "book", "kind__orders_7d")
    with pytest.raises(UserError, match=f"{FEATURE} is about a note, not a amount; write note=VALUE"):
        trace_feature(orders, "amount", "3", FEATURE)
    with pytest.raises(
        UserError, match=r"has no row in .* at or before 2023-01-01 00:00:00 UTC; its first is of 2024-"
    ):
        trace_feature(orders, "note", "book", FEATURE, at("2023-01-01"))
    with pytest.raises(UserError, match="There is no event 'o99' in data/labels/fraud"):
        trace_label(orders, "fraud", "o99")


def test_events_that_are_gone_are_told_for_features_and_labels(orders: Project) -> None:
    file = orders.table("events") / "2024-02.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    with pytest.raises(TableError, match=r"was made of other events .* so what is behind its values is gone"):
        trace_feature(orders, "note", "book", FEATURE)
    with pytest.raises(TableError, match=r"was made of other events than data/events/2024-02\.parquet holds now"):
        trace_label(orders, "fraud", "o20")


@pytest.mark.parametrize("missing", ["events", "features", "known_labels"])
def test_a_stage_that_never_ran_is_told(orders: Project, missing: str) -> None:
    (orders.data / missing).rename(orders.data / f"no_{missing}")
    feature = "kind_activity__fraud_share" if missing == "known_labels" else FEATURE
    with pytest.raises(TableError, match="run `dvc repro"):
        trace_feature(orders, "note", "book", feature)


def test_the_command_says_what_is_wrong_with_its_words_and_exits_with_2(orders: Project) -> None:
    for words, said in (
        (("note", FEATURE), "'note' is not of the form ENTITY=VALUE"),
        (("note=", FEATURE), "'note=' is not of the form ENTITY=VALUE"),
        (("note=book", FEATURE, "--at", "noon"), "--at 'noon' is not a time"),
        (("label", "o20", "--at", "2024-01-01"), "--at is for features"),
    ):
        done = weakfish(orders.root, "trace", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_json_is_what_is_printed(orders: Project, capsys: pytest.CaptureFixture[str]) -> None:
    run_here(orders.root, ["trace", "note=book", FEATURE, "--json"], ["trace", "note=book", FEATURE])
    printed = capsys.readouterr().out
    found, end = json.JSONDecoder().raw_decode(printed)
    text = printed[end:]
    assert f"{FEATURE} of note=book is {found['value']}\n" in text
    assert all(f"{each['key']}  {each['file']} row {each['row']}" in text for each in found["events"])


SETTINGS = {"path": "raw", "columns": {"order": "string", "placed": "time", "amount": "integer"}, "time": "placed"}


def raw(folder: Path) -> Path:
    """The same rows as CSV with a line break in a field, JSON Lines and Parquet."""
    write(
        folder / "one.csv",
        'order,placed,amount,note\na1,2024-01-01T00:00:00,3,"two\nlines"\na2,2024-01-02T00:00:00,4,\n',
    )
    write(folder / "two.jsonl", '{"order": "b1", "amount": 1}\n\n{"order": "b2", "placed": "2024-01-01T00:00:00"}\n')
    pq.write_table(pa.table({"order": ["c1", "a2"], "amount": [1, 2]}), folder / "three.parquet")
    return folder


def test_files_tell_the_line_of_each_row_by_its_key(tmp_path: Path) -> None:
    source = TabularSource({**SETTINGS, "key": "order"})
    found = source.places(raw(tmp_path), ["a1", "a2", "b2", "c1", "zz"])
    places = {key: [(place.file, place.line) for place in of] for key, of in found.items()}
    assert places == {
        "a1": [("one.csv", 2)],
        "a2": [("one.csv", 4), ("three.parquet", 2)],
        "b2": [("two.jsonl", 3)],
        "c1": [("three.parquet", 1)],
    }


def test_made_keys_tell_the_line_too_also_of_equal_rows(tmp_path: Path) -> None:
    write(
        tmp_path / "one.csv",
        "order,placed,amount\n" + "\n".join(["x,2024-01-01T00:00:00,1", "y,2024-01-01T00:00:00,1"] * 2),
    )
    source = TabularSource(SETTINGS)
    keys = [key for batch in source.read(tmp_path) for key in batch["row_id"].to_pylist()]
    found = source.places(tmp_path, keys)
    assert [found[key][0].line for key in keys] == [2, 3, 4, 5]
    assert len(set(keys)) == 4
