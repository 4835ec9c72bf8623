"""The reader in the label stage: labels that rest on votes and rows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from feast import Entity, ValueType
from in_process import own_modules
from made_votes import revote
from projects import contents, replace
from told_orders import FUNCTIONS, MONTHS, ON, TOPICS, labels, manifest, project, rows, truth_of, write_month

from weakfish.cli.labels import print_explanation
from weakfish.contracts.tables import Part, folder, read_table, write_partition
from weakfish.contracts.votes_file import fingerprint, read_votes, write_votes
from weakfish.errors import ParamsError, TableError
from weakfish.evaluation import classifiers
from weakfish.evaluation.aligned import read_inputs
from weakfish.evaluation.classifiers import Classifiers
from weakfish.evaluation.evaluate import evaluate_task
from weakfish.feast.definitions import label_view
from weakfish.features.known_labels import write_known_labels
from weakfish.files import sha256
from weakfish.labeling import reading, row_texts
from weakfish.labeling.explain import explain
from weakfish.labeling.label import label
from weakfish.labeling.learning import word_counts
from weakfish.labeling.matrix import rows_at
from weakfish.labeling.reading import TaskReader
from weakfish.labeling.row_reader import FOLDS, RowReader, folds_of, hashes_of, normalized
from weakfish.project.paths import Project
from weakfish.training.sets import spine


@pytest.fixture(autouse=True)
def own_functions() -> Iterator[None]:
    """Each project imports the labeling functions of its own folder, not those of another that came before."""
    with own_modules():
        yield


def test_rows_without_votes_get_labels_that_rest_on_what_they_say(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", ON)
    labels(root)
    found = rows(root)
    truth = np.concatenate([truth_of(name, 240) for name in MONTHS[:2]])
    covered, read = found["covered"], np.arange(len(truth)) % 240 > 1  # the first two of a month say nothing
    expected = np.where(covered & read, "both", np.where(covered, "votes", np.where(read, "row", None)))
    assert found["rests_on"].tolist() == expected.tolist()
    assert set(expected) == {"votes", "row", "both", None}
    assert (found["label"] == None).tolist() == (expected == None).tolist()  # noqa: E711
    assert 0.3 < (~covered).mean() < 0.6
    right = found["label"] == np.array(["fine", "fraud"])[truth]
    assert right[~covered & read].mean() > 0.95
    plain = project(tmp_path / "plain", "")
    labels(plain)
    before = rows(plain)
    assert right[covered].mean() > (before["label"] == np.array(["fine", "fraud"])[truth])[covered].mean() + 0.03
    assert "rests_on" not in before


def test_without_a_reader_the_bytes_are_those_of_projects_that_know_no_readers(tmp_path: Path) -> None:
    plain = labels(project(tmp_path / "plain", ""))
    off = labels(project(tmp_path / "off", "reader: off, reads: [note]"))
    parquet = [name for name in plain if name.endswith(".parquet")]
    assert {name: plain[name] for name in parquet} == {name: off[name] for name in parquet}
    assert plain.keys() == off.keys()
    assert read_table(tmp_path / "plain/data/labels/fraud").column_names == [
        *("order_id", "placed_at", "p_fine", "p_fraud", "majority_fine", "majority_fraud", "covered", "n_votes"),
        "label",
    ]


def test_the_same_input_gives_the_same_bytes_anew_from_the_cache_and_with_any_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = labels(project(tmp_path / "first", ON))
    assert labels(tmp_path / "first") == first
    monkeypatch.setattr(reading, "AT_ONCE", 50)
    monkeypatch.setattr(reading, "CHARACTERS_AT_ONCE", 700)
    assert labels(project(tmp_path / "again", ON)) == first


def test_it_learns_from_rows_by_their_content_whatever_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the lowest hashes teach where there are too many, in the order of these."""
    monkeypatch.setattr(row_texts, "ROWS", 300)
    root, turned = project(tmp_path / "orders", ON), project(tmp_path / "turned", ON)
    for file in sorted((turned / "data/events").glob("*.parquet")):
        order = np.random.default_rng(1).permutation(240)
        events = read_table(turned / "data/events").filter(
            pc.starts_with(read_table(turned / "data/events")["order_id"], file.stem)
        )
        voted = turned / "data/votes/fraud" / file.name
        votes = {
            name: column.to_numpy()[order]
            for name, column in zip(FUNCTIONS, read_votes(voted, FUNCTIONS).columns, strict=True)
        }
        turned_events = events.take(pa.array(order))
        write_votes(voted, votes, fingerprint(turned_events["order_id"]))
        write_partition(turned / "data/events", file.stem, turned_events)
    labels(root), labels(turned)
    readers = [manifest(at)["models"][0]["reader"]["sha256"] for at in (root, turned)]
    assert readers[0] == readers[1]
    ours, theirs = rows(root), rows(turned)
    by_key = dict(zip(ours["order_id"], ours["p_fraud"], strict=True))
    assert [by_key[key] for key in theirs["order_id"]] == theirs["p_fraud"].tolist()


def test_what_is_published_is_votes_times_what_the_reader_of_others_says(tmp_path: Path) -> None:
    root, plain = project(tmp_path / "orders", ON), project(tmp_path / "plain", "")
    labels(root), labels(plain)
    made = manifest(root)["models"][0]["reader"]
    file = root / "data/labels" / made["file"]
    assert made["sha256"] == sha256(file)
    assert (made["columns"], made["used"]) == (["note"], True)
    reader = RowReader.from_bytes(file.read_bytes())
    assert made["power"] == pytest.approx(reader.power.tolist()[0])
    assert made["share"] == pytest.approx(reader.share[0].tolist())
    assert made["gain"] == reader.gain
    notes = read_table(root / "data/events")["note"].to_pylist()
    said = reader.log_odds(word_counts([notes]), folds_of(hashes_of([notes])))
    by_votes = np.stack([rows(plain)[f"p_{name}"] for name in ("fine", "fraud")], axis=1)
    both = normalized(np.log(by_votes) + said)
    read = np.array(notes) != ""
    assert np.abs(rows(root)["p_fraud"] - both[:, 1])[read].max() < 1e-12
    assert np.array_equal(rows(root)["p_fraud"][~read], by_votes[~read][:, 1])


def test_no_row_is_judged_by_what_learned_from_its_own_votes(tmp_path: Path) -> None:
    """Votes on a part of the contents turn around, and the model that reads that part stays as it was."""
    root, turned = project(tmp_path / "orders", ON), project(tmp_path / "turned", ON)
    notes = read_table(root / "data/events")["note"].to_pylist()
    mine = folds_of(hashes_of([notes])) == 0
    for place, name in enumerate(MONTHS[:2]):
        file, own = turned / f"data/votes/fraud/{name}.parquet", mine[place * 240 :][:240]
        votes = {
            name: column.to_numpy() for name, column in zip(FUNCTIONS, read_votes(file, FUNCTIONS).columns, strict=True)
        }
        revote(file, {name: np.where(own & (of >= 0), 1 - of, of).astype(np.int8) for name, of in votes.items()})
    for at in (root, turned):
        replace(at / "params.yaml", "method: snorkel", "method: majority")  # whose posteriors need no fit
        labels(at)
    ours, theirs = (
        RowReader.from_bytes((at / "data/labels" / manifest(at)["models"][0]["reader"]["file"]).read_bytes())
        for at in (root, turned)
    )
    assert np.array_equal(ours.models[0].weights, theirs.models[0].weights)
    assert not np.array_equal(ours.models[1].weights, theirs.models[1].weights)
    assert len(ours.models) == FOLDS


def test_monthly_readers_see_no_later_month(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", f"refit: monthly, {ON}", *MONTHS)
    before, old = labels(root), [model["reader"]["file"] for model in manifest(root)["models"]]
    write_month(root, MONTHS[3], covered=0.9, told=False)
    after, new = labels(root), [model["reader"]["file"] for model in manifest(root)["models"]]
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert {name for name in changed if ".fits/" not in name} == {"fraud/2024-04.parquet", "fraud.manifest.json"}
    assert changed & {*old, *new} == {old[3], new[3]}
    assert old[:3] == new[:3]
    assert set(new) <= set(after)


def test_a_month_without_votes_is_labeled_by_reading(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", f"refit: monthly, {ON}", *MONTHS[:2])
    write_month(root, MONTHS[2], covered=0)
    labels(root)
    found = {name: column[-240:] for name, column in rows(root).items()}
    assert not found["covered"].any()
    assert set(found["rests_on"][2:]) == {"row"}
    right = found["label"] == np.array(["fine", "fraud"])[truth_of(MONTHS[2], 240)]
    assert right[2:].mean() > 0.9


def test_auto_takes_a_reader_that_knows_votes_and_leaves_one_that_does_not(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", "reader: auto, reads: [note]")
    labels(root)
    made = manifest(root)
    assert made["models"][0]["reader"]["used"]
    assert made["models"][0]["reader"]["why"] == made["why"][-1]
    assert "so labels rest on it as well (power " in made["why"][-1]
    report = json.loads((root / "reports/labeling_functions.json").read_text())
    assert report["tasks"]["fraud"]["why"] == made["why"]
    blind = project(tmp_path / "blind", "reader: auto, reads: [note]", told=False)
    labels(blind)
    made = manifest(blind)
    assert not made["models"][0]["reader"]["used"]
    assert made["why"][-1].endswith("less than 2.0 %, so the labels are those of the votes alone.")
    plain = project(tmp_path / "plain", "", told=False)
    labels(plain)
    assert np.array_equal(rows(plain)["p_fraud"], rows(blind)["p_fraud"])
    assert set(rows(blind)["rests_on"]) == {"votes", None}


def test_where_there_is_nothing_to_learn_votes_stand_alone(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", "reader: on, reads: [order_id]", MONTHS[0], rows=2, covered=1.0)
    labels(root)
    made = manifest(root)
    assert made["models"][0]["reader"] == {"used": False, "why": made["why"][-1], "columns": ["order_id"]}
    assert made["why"][-1].startswith("The reader of order_id is left out, so the labels are those of the votes alone.")
    assert not list((root / "data/labels").glob("*.npz"))


def test_numbers_and_booleans_are_read_as_one_word(tmp_path: Path) -> None:
    values = pa.array([0.0, 1.0, 1.3, 1.5, -1.0, None, float("nan"), float("-inf"), 2.0**-1074])
    table = pa.table({"n": values, "b": pa.array([True, False, None, *[True] * 6]), "i": pa.array(range(9))})
    numbers, booleans, whole = reading.Texts.of(table, ["n", "b", "i"]).columns
    assert numbers == ["zero", "plus3000", "plus3000", "plus3001", "minus3000", "", "", "minusinfinite", "plus852"]
    assert booleans[:3] == ["true", "false", ""]
    assert (whole[0], whole[1], whole[4], whole[8]) == ("zero", "plus3000", "plus3004", "plus3006")
    root = project(tmp_path / "orders", "reader: auto, reads: [amount, paid]", told=False)
    labels(root)
    found = rows(root)
    truth = np.concatenate([truth_of(name, 240) for name in MONTHS[:2]])
    right = found["label"] == np.array(["fine", "fraud"])[truth]
    assert right[~found["covered"]].mean() > 0.95


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("reader: auto", "reader: auto needs reads, the columns of the events that it reads; add them"),
        ("reader: on, reads: []", "reader: on needs reads"),
        ("reader: maybe, reads: [note]", "reader cannot be used"),
        ("reader: on, reads: [note, note]", "reads must name each column once"),
        ("reader: on, reads: [text]", "label_models.fraud.reads names 'text', which is not a column of the events"),
        (
            "reader: on, reads: [state]",
            "names 'state', which is struct.*a reader reads text, numbers, booleans, dates,",
        ),
        ("reader: on, embeds: [amount]", "fraud.embeds names 'amount', which is double; only text has sentence embedd"),
        ("reader: on, embeds: [note, note]", "embeds must name each column once"),
    ],
)
def test_settings_that_cannot_be_are_said_so_and_old_labels_stay(settings: str, says: str, tmp_path: Path) -> None:
    root = project(tmp_path / "orders", "reader: off")
    before = labels(root)
    replace(root / "params.yaml", "reader: off", settings)
    with pytest.raises(ParamsError, match=says):
        label(Project(root))
    assert contents(root / "data/labels") == before


def test_labels_that_features_see_know_no_reader(tmp_path: Path) -> None:
    known: dict[str, Mapping[str, bytes]] = {}
    for name, settings in (("plain", ""), ("read", ON)):
        root = project(tmp_path / name, settings, *MONTHS[:3])
        labels(root)
        assert write_known_labels(Project(root), "fraud", root / "known") > 200
        known[name] = contents(root / "known")
    assert known["plain"] == known["read"]


@pytest.mark.parametrize("method", ["snorkel", "hyper", "majority", "dawid-skene", "naive-bayes"])
def test_an_explanation_adds_up_to_the_published_probability(method: str, tmp_path: Path) -> None:
    root = project(tmp_path / "orders", ON)
    replace(root / "params.yaml", "method: snorkel", f"method: {method}")
    labels(root)
    found = rows(root)
    for kind in ("both", "row", "votes"):
        place = found["rests_on"].tolist().index(kind)
        told = explain(Project(root), "fraud", found["order_id"][place])
        parts = [function["log_odds"] for function in told["functions"]]
        parts = [told["together"]] if told["together"] else parts
        total = sum(part["fraud"] for part in [told["prior"], told["reader"]["log_odds"], *parts])
        assert 1 / (1 + np.exp(-total)) == pytest.approx(
            found["p_fraud"][place], abs=2e-9
        )  # what is impossible counts as 1e-9
        assert (told["reader"]["log_odds"]["fraud"] == 0) == (kind == "votes")
        assert (told["rests_on"], told["label"]) == (kind, found["label"][place])


def test_an_explanation_names_the_words_that_carried_it(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", ON)
    labels(root)
    found = rows(root)
    place = found["rests_on"].tolist().index("row")
    told = explain(Project(root), "fraud", found["order_id"][place])
    topic = TOPICS[1] if found["label"][place] == "fraud" else TOPICS[0]
    sign = 1 if found["label"][place] == "fraud" else -1
    heaviest = told["reader"]["words"][0]
    assert heaviest["word"] in topic
    assert sign * heaviest["log_odds"]["fraud"] > 0
    text = StringIO()
    print_explanation(told, text)
    shown = " ".join(text.getvalue().split())
    assert "no labeling function votes on it, the label rests on what it says" in shown
    assert "(the reader of the row)" in shown
    assert f"Words that the reader goes by, for fraud against fine: {heaviest['word']!r} in note (" in shown
    reader = root / "data/labels" / told["reader"]["file"]
    reader.write_bytes(reader.read_bytes() + b" ")
    with pytest.raises(TableError, match="is not the reader that the manifest of the labels names"):
        explain(Project(root), "fraud", found["order_id"][place])


def test_what_words_add_and_what_every_row_gets_is_what_the_reader_says(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", "reader: on, reads: [note, amount]")
    labels(root)
    made = manifest(root)["models"][0]["reader"]
    reader = reading.reader_of(Project(root), made)
    for row in range(2, 30):
        texts = reading.read_rows(Project(root), MONTHS[0], made["columns"], [], np.array([row]))
        told = reading.Told.of(reader, made, texts)
        model = reader.models[int(folds_of(texts.hashes)[0])]
        always = reader.power[0] * (model.intercepts - np.log(reader.share[0]))
        both = always + sum(own for _, _, own in told.words)
        assert both - both[0] == pytest.approx(told.added - told.added[0], abs=1e-9)
        assert len(told.words) > 5


def test_evaluation_judges_and_learns_from_what_is_published(tmp_path: Path) -> None:
    """Figures are of all labels, and classifiers learn from rows without votes too, by readers of earlier rows."""
    root = project(tmp_path / "orders", ON)
    at = Project(root)
    parts: dict[str, Part] = {MONTHS[0]: "dev", MONTHS[1]: "test"}
    for name, part in parts.items():
        keys = pa.array([f"{name}-{number:03}" for number in range(240)])
        kinds = pa.array(["fine", "fraud"]).take(pa.array(truth_of(name, 240)))
        write_partition(folder(at, "fraud", part), name, pa.table({"order_id": keys, "label": kinds}))
    labels(root)
    found = rows(root)
    inputs = read_inputs(at, "fraud")
    labelled = np.array([label is not None for label in found["label"]])
    report = json.loads((root / "reports/labeling_functions.json").read_text())["tasks"]["fraud"]
    assert report["labelled"] == labelled.sum() > report["covered"] == found["covered"].sum()
    assert report["dev"]["coverage"] == pytest.approx(labelled[:240].mean(), abs=1e-6)
    assert np.array_equal(inputs.published.covered, labelled)
    model = evaluate_task(at, "fraud").metrics["models"]
    assert model["label_model"]["coverage"]["value"] == pytest.approx(labelled[240:].mean(), abs=1e-6)
    right = found["label"] == np.array(["fine", "fraud"])[np.concatenate([truth_of(name, 240) for name in parts])]
    assert model["label_model"]["accuracy"]["value"] == pytest.approx(right[240:].mean(), abs=1e-6)
    weak = Classifiers(inputs, 1)
    known = weak.soft_labels(at.task("fraud"), [1], weak.stretches[0])
    assert known is not None
    assert np.array_equal(known.taught[1].any(axis=1), labelled[:240])
    assert len(known.votes[0]) == found["covered"][:240].sum() < labelled[:240].sum()
    later = np.flatnonzero(~inputs.earlier)
    inputs.votes[later] = -1
    assert inputs.read is not None
    told = inputs.read.loaded()
    for column in told.columns:
        column[240:] = ["other"] * 240
    everything = dataclasses.replace(inputs.published, covered=np.ones_like(inputs.published.covered))
    changed = Classifiers(dataclasses.replace(inputs, published=everything, read=told), 1)
    again = changed.soft_labels(at.task("fraud"), [1], weak.stretches[0])
    assert again is not None
    assert np.array_equal(again.taught[1], known.taught[1])


def test_training_sets_and_feast_have_what_labels_rest_on(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", ON)
    labels(root)
    parts = list(spine(Project(root), "fraud", ["order_id"]))
    assert [part.labels.column_names[-1] for part in parts] == ["rests_on"] * 2
    assert parts[0].labels["rests_on"].to_pylist() == rows(root)["rests_on"][:240].tolist()
    entity = Entity(name="order", join_keys=["order_id"], value_type=ValueType.STRING)
    assert "rests_on" in {field.name for field in label_view(Project(root), "fraud", entity).schema}
    plain = project(tmp_path / "plain", "")
    labels(plain)
    assert "rests_on" not in next(iter(spine(Project(plain), "fraud", ["order_id"]))).labels.column_names


def test_evaluation_says_the_same_of_texts_in_memory_and_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Project(project(tmp_path / "orders", ON, *MONTHS[:3]))
    label(root)
    inputs = read_inputs(root, "fraud")
    taught = []
    for held in (1000, 0):
        monkeypatch.setattr(classifiers, "HELD", held)
        made = Classifiers(inputs, 1)
        found = made.soft_labels(root.task("fraud"), [1], made.stretches[-1])
        assert found is not None
        taught.append(found.taught[1].tobytes())
    assert taught[0] == taught[1]


def test_texts_stay_where_they_lie_until_rows_of_them_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Project(project(tmp_path / "orders", ON, *MONTHS[:3]))
    reader = TaskReader(root, "fraud")
    whole, stored = reader.whole().loaded(), reader.whole()
    assert np.array_equal(stored.hashes, whole.hashes)
    assert stored.lengths().tolist() == whole.lengths().tolist()
    assert len(stored) == len(whole) == 720
    rows = np.array([700, 3, 250, 4, 699])
    some = stored.at(np.flatnonzero(np.arange(720) % 2 == 0)).at(np.array([350, 2, 125]))
    read = list[str]()
    monkeypatch.setattr(reading, "rows_at", lambda file, *of: read.append(file.stem) or rows_at(file, *of))
    assert some.loaded().columns == whole.at(np.array([700, 4, 250])).columns
    assert read == list(MONTHS[:3])
    assert stored.at(rows).loaded().columns == whole.at(rows).columns
    read.clear()
    assert stored.at(rows[:1]).loaded().hashes.tolist() == whole.hashes[rows[:1]].tolist()
    assert read == [MONTHS[2]]
