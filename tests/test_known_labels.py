"""Known labels as evidence: what they weigh, what is out of fold, and what no label may see that was known later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from in_process import own_modules
from projects import contents, replace
from test_labels_reader import MONTHS, labels, manifest, project, rows, truth_of

from weakfish.cli.labels import print_explanation
from weakfish.contracts.gold import UNKNOWN
from weakfish.contracts.tables import TIME, Part, folder, partition_span, read_table, write_partition
from weakfish.contracts.votes_file import Votes
from weakfish.errors import ParamsError, TableError
from weakfish.evaluation.aligned import read_inputs
from weakfish.evaluation.classifiers import Classifiers
from weakfish.features.known_labels import write_known_labels
from weakfish.files import read_json
from weakfish.labeling.choice import MAJORITY, NAIVE_BAYES, Chosen, learn
from weakfish.labeling.dev_gold import known_labels
from weakfish.labeling.explain import explain
from weakfish.labeling.known import MIN_KNOWN, KnownVotes, weighed, weight
from weakfish.labeling.row_reader import FOLDS
from weakfish.project.params import LabelModelParams, TaskParams
from weakfish.project.paths import Project
from weakfish.report.page import render
from weakfish.sources import Source
from weakfish.sources.declared import events_contract
from weakfish.sources.ingest import ingest
from weakfish.sources.tabular.settings import read_settings
from weakfish.training.sets import spine

CLASSES = ("fine", "fraud")
EVERY = slice(None)
AUTO, READS = "known: dev", "known: dev, reader: on, reads: [note]"

Ints = npt.NDArray[np.int64]


@pytest.fixture(autouse=True)
def own_functions() -> Iterator[None]:
    """Each project imports the labeling functions of its own folder, not those of another that came before."""
    with own_modules():
        yield


def give(
    root: Path,
    month: str,
    *,
    of: slice = EVERY,
    part: Part = "dev",
    turned: Ints | None = None,
    since: datetime | list[datetime | None] | None = None,
    rows: int = 240,
) -> None:
    """Gold of some orders of a month, where ``turned`` the wrong one; ``since`` is when it is known, by order."""
    numbers = np.arange(rows)[of]
    classes = truth_of(month, rows)[of]
    if turned is not None:
        classes = np.where(np.isin(numbers, turned), 1 - classes, classes)
    table = {"order_id": [f"{month}-{number:03}" for number in numbers], "label": [CLASSES[kind] for kind in classes]}
    if since is not None:
        times = since if isinstance(since, list) else [since] * len(numbers)
        table["known_at"] = pa.array(times, TIME)
    write_partition(folder(Project(root), "fraud", part), month, pa.table(table))


def orders(root: Path, settings: str = AUTO, *months: str, **how: Any) -> Path:
    """Orders whose labels `auto` makes, and which know their gold."""
    made = project(root, settings, *(months or MONTHS[:2]), **how)
    replace(made / "params.yaml", "method: snorkel", "method: auto")
    return made


def shares(found: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    return np.stack([found[f"p_{name}"] for name in CLASSES], axis=1)


def test_a_known_label_is_the_label_of_its_row_and_its_probabilities_know_nothing_of_it(tmp_path: Path) -> None:
    root = orders(tmp_path / "orders", READS)
    give(root, MONTHS[0], of=slice(0, 60))
    labels(root)
    before = rows(root)
    known = np.arange(480) < 60
    assert (before["known"] != None).tolist() == known.tolist()  # noqa: E711
    assert before["label"][known].tolist() == before["known"][known].tolist()
    assert before["known"][:60].tolist() == [CLASSES[kind] for kind in truth_of(MONTHS[0], 240)[:60]]
    assert set(before["rests_on"][known]) == {"known"}
    assert "known" not in before["rests_on"][~known].tolist()
    wrong = np.array([7])  # the opposite of what all its votes and words say
    give(root, MONTHS[0], of=slice(0, 60), turned=wrong)
    labels(root)
    after = rows(root)
    assert after["label"][7] == after["known"][7] != before["known"][7]
    assert shares(after)[7].tolist() == shares(before)[7].tolist()
    assert (shares(after) != shares(before)).any()


@pytest.mark.parametrize("settings", [AUTO, READS])
def test_no_known_row_of_a_part_has_a_say_in_the_probabilities_of_the_known_rows_of_that_part(
    tmp_path: Path, settings: str
) -> None:
    root = orders(tmp_path / "orders", settings)
    give(root, MONTHS[0])
    labels(root)
    before = shares(rows(root))
    times = pa.chunked_array([pa.array([None] * 240, TIME)])
    keys = pa.chunked_array([pa.array([f"{MONTHS[0]}-{number:03}" for number in range(240)])])
    from weakfish.labeling.reading import parts_of

    at = Project(root)
    assert (known_labels(at, "fraud", MONTHS[0], keys, times)[0] == truth_of(MONTHS[0], 240)).all()
    parts = parts_of(at, at.task("fraud").label_model, MONTHS[0], keys, np.arange(240))
    assert set(parts) == set(range(FOLDS))
    give(root, MONTHS[0], turned=np.flatnonzero(parts == 2))
    labels(root)
    after = shares(rows(root))
    same = (after == before).all(axis=1)
    assert same[:240][parts == 2].all()
    assert not same[:240][parts != 2].all()
    assert not same[240:].all()


@pytest.mark.parametrize("settings", [AUTO, READS])
def test_test_gold_changes_no_byte_of_labels_features_and_training_sets(tmp_path: Path, settings: str) -> None:
    root = orders(tmp_path / "orders", settings)
    give(root, MONTHS[0])

    def made() -> tuple[Any, ...]:
        found = labels(root)
        write_known_labels(Project(root), "fraud", root / "data/known_labels/fraud")
        parts = [part.labels for part in spine(Project(root), "fraud", [])]
        return (
            found,
            contents(root / "data/known_labels"),
            parts,
            (root / "reports/labeling_functions.json").read_bytes(),
        )

    before = made()
    give(root, MONTHS[1], part="test")
    assert made() == before
    give(root, MONTHS[1], part="test", turned=np.arange(240))
    assert made() == before


def test_training_sets_take_the_known_label_for_certain_and_say_which_it_is(tmp_path: Path) -> None:
    root = orders(tmp_path / "orders", READS)
    give(root, MONTHS[0], of=slice(0, 60))
    labels(root)
    table = pa.concat_tables([part.labels for part in spine(Project(root), "fraud", [])])
    truth = truth_of(MONTHS[0], 240)[:60]
    assert np.array(table["p_fraud"])[:60].tolist() == truth.tolist()
    assert np.array(table["p_fine"])[:60].tolist() == (1 - truth).tolist()
    assert table["p_fraud"][60:].equals(read_table(root / "data/labels/fraud")["p_fraud"][60:])
    assert table["known"].to_pylist() == [CLASSES[kind] for kind in truth] + [None] * 420
    assert table["rests_on"].to_pylist()[:60] == ["known"] * 60
    expected = {"fine": int((truth == 0).sum()), "fraud": int(truth.sum())}
    assert manifest(root)["known"] == expected
    report = read_json(root / "reports/labeling_functions.json")["tasks"]["fraud"]
    assert report["known"] == expected


def test_without_known_labels_nothing_is_different_from_before_there_were_any(tmp_path: Path) -> None:
    root = orders(tmp_path / "orders", "reader: on, reads: [note]")
    give(root, MONTHS[0])
    before = labels(root)
    assert "known" not in read_table(root / "data/labels/fraud").column_names
    assert "known" not in manifest(root)
    assert "known" not in manifest(root)["settings"]["label_model"]
    replace(root / "params.yaml", "method: auto", "method: auto, known: none")
    assert labels(root) == before


def test_figures_on_dev_are_those_of_probabilities_out_of_fold(tmp_path: Path) -> None:
    root = orders(tmp_path / "orders", READS)
    give(root, MONTHS[0])
    labels(root)
    found, truth = rows(root), truth_of(MONTHS[0], 240)
    dev = read_json(root / "reports/labeling_functions.json")["tasks"]["fraud"]["dev"]
    decided = shares(found)[:240].argmax(axis=1)
    assert dev["rows"] == 240
    assert dev["accuracy"] == pytest.approx((decided == truth).mean(), abs=0.01)
    assert dev["accuracy"] < 1 == (found["label"][:240] == np.array(CLASSES)[truth]).mean()


@pytest.mark.parametrize("settings", [AUTO, READS])
def test_what_is_explained_adds_up_and_says_that_the_label_is_known(tmp_path: Path, settings: str) -> None:
    root = orders(tmp_path / "orders", settings)
    give(root, MONTHS[0], turned=np.arange(240))
    labels(root)
    table = read_table(root / "data/labels/fraud").to_pylist()
    for row in [*table[:6], *table[240:246]]:
        found = explain(Project(root), "fraud", row["order_id"])
        assert (found["known"], found["label"], found["rests_on"]) == (row["known"], row["label"], row["rests_on"])
        read = found["reader"]["log_odds"]["fraud"] if found["reader"] else 0
        votes = found["together"] or {"fraud": sum(each["log_odds"]["fraud"] for each in found["functions"])}
        total = found["prior"]["fraud"] + votes["fraud"] + read
        assert 1 / (1 + np.exp(-total)) == pytest.approx(row["p_fraud"])
        told = StringIO()
        print_explanation(found, told)
        assert ("a known label, which is evidence for other rows" in told.getvalue()) == (row["known"] is not None)


def late(root: Path, month: str) -> datetime:
    """When the month after begins."""
    return partition_span(month, Project(root).params.events.partition)[1]


@pytest.mark.parametrize("explicit", [False, True])
def test_gold_known_later_changes_no_label_that_features_see_before(tmp_path: Path, explicit: bool) -> None:
    root = orders(tmp_path / "orders", AUTO, *MONTHS)
    delay = timedelta(hours=24)
    start = datetime.fromisoformat(f"{MONTHS[0]}-01").replace(tzinfo=UTC)
    known = [start + timedelta(hours=number) + delay for number in range(240)]
    if explicit:
        known = [time + timedelta(days=30) for time in known]
    boundary = known[150]

    def seen(turned: Ints) -> list[dict[str, Any]]:
        give(root, MONTHS[0], turned=turned, since=known if explicit else None)
        at = Project(root)
        write_known_labels(at, "fraud", root / "data/known_labels/fraud")
        return read_table(root / "data/known_labels/fraud").to_pylist()

    before = seen(np.arange(240))  # gold that contradicts the votes, so that it does weigh them
    assert len(before) > 300
    after = seen(np.arange(150))
    for old, new in zip(before, after, strict=True):
        if old["known_at"] <= boundary:
            assert old == new
    assert before != after  # later months learn from it


def test_gold_that_comes_with_the_event_is_certain_and_what_comes_later_only_teaches_models(tmp_path: Path) -> None:
    root = orders(tmp_path / "orders", AUTO, *MONTHS)
    start = datetime.fromisoformat(f"{MONTHS[2]}-01").replace(tzinfo=UTC)
    times: list[datetime | None] = [start + timedelta(hours=number) for number in range(240)]
    times[120:] = [start + timedelta(days=90)] * 120
    give(root, MONTHS[2], since=times)
    write_known_labels(Project(root), "fraud", root / "data/known_labels/fraud")
    found = read_table(root / "data/known_labels/fraud").to_pylist()
    truth = {f"{MONTHS[2]}-{number:03}": kind for number, kind in enumerate(truth_of(MONTHS[2], 240))}
    mine = [row for row in found if row["order_id"] in truth]
    early = [row for row in mine if row["order_id"] < f"{MONTHS[2]}-120"]
    assert early
    assert all(row["p_fraud"] == truth[row["order_id"]] for row in early)
    assert all(0 < row["p_fraud"] < 1 for row in mine if row not in early)


def test_walk_forward_fits_know_what_was_known_by_their_last_partition(tmp_path: Path) -> None:
    root = orders(tmp_path / "orders", f"{READS}, refit: monthly", *MONTHS)
    give(root, MONTHS[0], since=late(root, MONTHS[1]) + timedelta(hours=1))
    labels(root)
    before = shares(rows(root))
    give(root, MONTHS[0], since=late(root, MONTHS[1]) + timedelta(hours=1), turned=np.arange(240))
    labels(root)
    same = (shares(rows(root)) == before).all(axis=1).reshape(4, 240)
    assert same[:2].all()
    assert not same[2].all()
    assert not same[3].all()


def test_since_when_a_label_is_known(tmp_path: Path) -> None:
    root = orders(tmp_path / "orders")
    at, start = Project(root), datetime(2024, 1, 1, tzinfo=UTC)
    keys = pa.chunked_array([pa.array([f"{MONTHS[0]}-{number:03}" for number in range(4)])])
    times = pa.chunked_array([pa.array([start] * 3 + [None], TIME)])
    give(root, MONTHS[0], of=slice(0, 4))
    hour = 3_600_000_000
    zero = int(start.timestamp() * 1e6)
    _, since = known_labels(at, "fraud", MONTHS[0], keys, times)
    assert since[:3].tolist() == [zero + 24 * hour] * 3
    assert since[3] > zero * 1000
    given = [start + timedelta(hours=5), start - timedelta(hours=5), None, start]
    give(root, MONTHS[0], of=slice(0, 4), since=given)
    _, since = known_labels(at, "fraud", MONTHS[0], keys, times)
    assert since.tolist() == [zero + 5 * hour, zero, zero + 24 * hour, zero]  # not before the event


def test_known_at_that_is_no_time_is_named(tmp_path: Path) -> None:
    root = orders(tmp_path / "orders")
    table = pa.table({"order_id": [f"{MONTHS[0]}-000"], "label": ["fine"], "known_at": ["yesterday"]})
    write_partition(folder(Project(root), "fraud", "dev"), MONTHS[0], table)
    with pytest.raises(TableError, match=r"Column known_at of .*gold/dev/fraud is string, not timestamp\[us, tz=UTC\]"):
        labels(root)


def test_a_setting_that_is_none_of_the_two_is_named(tmp_path: Path) -> None:
    root = orders(tmp_path / "orders", "known: test")
    with pytest.raises(ParamsError, match=r"known"):
        labels(root)


def task(classes: int, method: str = "auto") -> TaskParams:
    names = [f"class_{number}" for number in range(classes)]
    return TaskParams(classes=names)._with(LabelModelParams(method=method, known="dev"), None)  # type: ignore[arg-type]


def made(
    rows: int = 2000, functions: int = 6, accuracy: tuple[float, ...] = (0.8,), seed: int = 0
) -> tuple[Votes, Ints]:
    """Votes of functions on two classes, each right as often as ``accuracy`` says in turn, and the truth."""
    draw = np.random.default_rng(0)
    truth = draw.integers(2, size=rows)
    right = np.array([accuracy[number % len(accuracy)] for number in range(functions)])
    votes = np.where(draw.random((rows, functions)) < right, truth[:, None], 1 - truth[:, None])
    return np.where(draw.random((rows, functions)) < 0.5, votes, -1).astype(np.int8), truth


def known(votes: Votes, truth: Ints, chosen: npt.ArrayLike) -> KnownVotes:
    places = np.asarray(chosen)
    return KnownVotes(votes[places], truth[places], places % FOLDS)


def right(chosen: Chosen, votes: Votes, truth: Ints) -> float:
    told = (votes >= 0).any(axis=1)
    return float((chosen.probabilities(votes)[told].argmax(axis=1) == truth[told]).mean())


def test_known_labels_turn_what_most_functions_get_wrong() -> None:
    votes, truth = made(accuracy=(0.3, 0.3, 0.9))  # four are wrong together, two are right
    chosen = learn(votes, task(2), None, known(votes, truth, np.arange(200)))
    assert (chosen.method, "weigh the votes, clearly better" in chosen.why[0]) == (NAIVE_BAYES, True)
    assert right(chosen, votes[200:], truth[200:]) > 0.85
    assert right(learn(votes, task(2)), votes[200:], truth[200:]) < 0.5


def test_known_labels_say_which_of_two_functions_is_right() -> None:
    votes, truth = made(functions=2, accuracy=(0.95, 0.55))
    assert learn(votes, task(2)).method == MAJORITY
    chosen = learn(votes, task(2), None, known(votes, truth, np.arange(300)))
    assert chosen.method == NAIVE_BAYES
    both = (votes >= 0).all(axis=1) & (votes[:, 0] != votes[:, 1])
    assert (chosen.probabilities(votes[both]).argmax(axis=1) == votes[both, 0]).all()


@pytest.mark.parametrize("number", [0, 1, MIN_KNOWN - 1])
def test_few_known_labels_weigh_no_votes_and_the_reason_says_so(number: int) -> None:
    votes, truth = made()
    told = np.flatnonzero((votes >= 0).any(axis=1))[:number]
    chosen, plain = learn(votes, task(2), None, known(votes, truth, told)), learn(votes, task(2))
    voted = (votes >= 0).any(axis=1)
    assert chosen.method == plain.method
    assert (chosen.probabilities(votes)[voted] == plain.probabilities(votes)[voted]).all()
    assert f"Known labels of rows with votes: {number}, fewer than" in " ".join(chosen.why)


@pytest.mark.parametrize("method", ["majority", "snorkel", "hyper", "dawid-skene"])
def test_other_methods_weigh_votes_as_they_do_without_known_labels(method: str) -> None:
    votes, truth = made()
    voted = (votes >= 0).any(axis=1)
    chosen, plain = (learn(votes, task(2, method), None, of) for of in (known(votes, truth, np.arange(100)), None))
    assert (chosen.probabilities(votes)[voted] == plain.probabilities(votes)[voted]).all()


def test_known_rows_that_bear_nothing_out_change_nothing_and_the_reason_says_so() -> None:
    votes, truth = made()
    drawn = np.random.default_rng(1).integers(2, size=len(truth))  # labels that have nothing to do with the votes
    chosen, plain = learn(votes, task(2), None, known(votes, drawn, np.arange(20))), learn(votes, task(2))
    assert chosen.method == plain.method
    assert "do not clearly weigh votes better" in " ".join(chosen.why)


def test_all_known_rows_of_one_class_and_a_class_that_is_never_known_leave_probabilities() -> None:
    votes, truth = made()
    fine = np.flatnonzero(truth == 0)[:200]
    chosen = learn(votes, task(2), None, known(votes, truth, fine))
    found = chosen.probabilities(votes)
    assert np.isfinite(found).all()
    assert found.sum(axis=1) == pytest.approx(1)
    assert right(chosen, votes, truth) > 0.7
    wide = learn(votes, task(5), None, known(votes, truth, np.arange(200))).probabilities(votes)
    assert np.isfinite(wide).all()
    assert wide.sum(axis=1) == pytest.approx(1)


def test_a_function_that_never_meets_a_known_row_keeps_the_weight_it_had() -> None:
    votes, truth = made()
    told = np.flatnonzero(votes[:, 5] < 0)[:150]
    of = known(votes, truth, told)
    prior = learn(votes, task(2, "naive-bayes")).model
    from weakfish.labeling.label_model import FittedModel

    assert isinstance(prior, FittedModel)
    found = weighed(prior, of).mu.reshape(6, 2, 2)
    plain = weighed(prior, known(votes, truth, told[:0])).mu.reshape(6, 2, 2)
    assert (found[5] == plain[5]).all()
    assert (found[:5] != plain[:5]).all()


def test_rows_without_votes_have_the_roots_of_the_shares_of_known_classes() -> None:
    votes, truth = made()
    votes[:200] = -1
    rare = np.where(np.arange(len(truth)) % 10, 0, 1)
    chosen = learn(votes, task(2), None, known(votes, rare, np.arange(200)))
    expected = np.sqrt([181 / 202, 21 / 202])
    assert chosen.probabilities(votes[:1])[0] == pytest.approx(expected / expected.sum())
    assert learn(votes, task(2)).probabilities(votes[:1])[0].tolist() == [0.5, 0.5]


def test_known_rows_teach_more_than_others_within_bounds() -> None:
    assert weight(50, 1500) == pytest.approx(9)
    assert weight(1, 100_000) == 30
    assert weight(5000, 100) == weight(0, 0) == 1


class Orders(Source):
    """Orders with gold, of which it is known when it was given."""

    schema = pa.schema(
        [("order_id", pa.string()), ("placed_at", TIME), ("note", pa.string()), ("verdict", pa.string()), ("at", TIME)]
    )
    gold: ClassVar[Mapping[str, str]] = {"fraud": "verdict"}
    gold_known_at: ClassVar[Mapping[str, str]] = {"fraud": "at"}

    def read(self, raw: Path) -> Iterator[pa.RecordBatch]:
        start = datetime(2024, 1, 1, tzinfo=UTC)
        yield pa.RecordBatch.from_pylist(
            [
                {"order_id": "a", "placed_at": start, "note": "x", "verdict": "fraud", "at": start + timedelta(days=3)},
                {"order_id": "b", "placed_at": start, "note": "y", "verdict": None, "at": start},
                {"order_id": "c", "placed_at": start, "note": "z", "verdict": "fine", "at": None},
            ],
            schema=self.schema,
        )


def sourced(root: Path, source: str = "Orders") -> Project:
    made = project(root, AUTO, MONTHS[0])
    replace(made / "params.yaml", "sources.orders:Orders", f"test_known_labels:{source}")
    return Project(made)


def test_when_gold_was_given_goes_with_it_and_never_into_the_events(tmp_path: Path) -> None:
    at = sourced(tmp_path / "orders")
    ingest(at)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    assert read_table(folder(at, "fraud", "dev")).to_pylist() == [
        {"order_id": "a", "label": "fraud", "known_at": start + timedelta(days=3)},
        {"order_id": "c", "label": "fine", "known_at": None},
    ]
    assert events_contract(at).schema.names == ["order_id", "placed_at", "note"]
    assert read_table(at.staged("events")).column_names == ["order_id", "placed_at", "note"]


class Untimed(Orders):
    """Says when gold was given in a column of text."""

    gold_known_at: ClassVar[Mapping[str, str]] = {"fraud": "note"}


def test_a_source_whose_column_of_times_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="since when gold of task fraud is known, which is not a column of times"):
        ingest(sourced(tmp_path / "orders", "Untimed"))


def test_a_table_says_when_gold_was_given(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"path": "x.csv", "columns": {"id": "string", "kind": "string", "told": "time"}}
    found = read_settings(settings | {"key": "id", "gold": {"fraud": {"column": "kind", "known_at": "told"}}})
    assert (found.gold_columns, found.gold_known_at) == ({"fraud": "kind"}, {"fraud": "told"})
    with pytest.raises(ParamsError, match=r"gold\.fraud\.known_at names 'id', which must be a time"):
        read_settings(settings | {"key": "id", "gold": {"fraud": {"column": "kind", "known_at": "id"}}})


def test_classifiers_learn_known_rows_as_they_are_and_more_than_others(tmp_path: Path) -> None:
    root = orders(tmp_path / "orders", READS)
    give(root, MONTHS[0], of=slice(0, 60), turned=np.arange(60))
    give(root, MONTHS[1], part="test")
    at = Project(root)
    labels(root)
    inputs = read_inputs(at, "fraud")
    assert inputs.known is not None
    assert (inputs.known.classes != UNKNOWN).nonzero()[0].tolist() == list(range(60))
    classifiers = Classifiers(inputs, 1)
    taught = classifiers.soft_labels(at.task("fraud"), [1], classifiers.stretches[0])
    assert taught is not None
    soft = taught.taught[1][:60]
    expected = weight(60, len(taught.taught[1]) - 60) * np.eye(2)[1 - truth_of(MONTHS[0], 240)[:60]]
    assert soft == pytest.approx(expected)
    assert taught.taught[1][60:].sum(axis=1) == pytest.approx(1)


def test_naive_bayes_says_as_much_as_known_rows_do_even_where_these_are_few() -> None:
    votes, truth = made()
    told = np.flatnonzero((votes >= 0).any(axis=1))[:3]
    chosen, plain = (learn(votes, task(2, "naive-bayes"), None, of) for of in (known(votes, truth, told), None))
    certain, unsure = (each.probabilities(votes).max(axis=1).mean() for each in (chosen, plain))
    assert unsure < 0.6 < 0.75 < certain
    assert right(chosen, votes, truth) > right(plain, votes, truth) - 0.02


def test_the_page_counts_known_labels(tmp_path: Path) -> None:
    root = orders(tmp_path / "orders", AUTO)
    give(root, MONTHS[0], of=slice(0, 60))
    labels(root)
    of_fraud = int(truth_of(MONTHS[0], 240)[:60].sum())
    page = " ".join(render(root).read_text().split())
    assert f"are evidence for the others: {60 - of_fraud} fine, {of_fraud} fraud." in page
    assert "4 labeling functions, 60 known labels" in page


@pytest.mark.parametrize("which", ["one", "one_class", "uncovered", "every"])
def test_however_few_or_one_sided_known_rows_are_labels_are_made(tmp_path: Path, which: str) -> None:
    root = orders(tmp_path / "orders", READS)
    truth = truth_of(MONTHS[0], 240)
    if which == "one_class":
        give(root, MONTHS[0], turned=np.flatnonzero(truth == 1))
    else:
        give(root, MONTHS[0], of={"one": slice(5, 6), "uncovered": slice(0, 1), "every": EVERY}[which])
    if which == "every":
        give(root, MONTHS[1])
    labels(root)
    found = rows(root)
    number = {"one": 1, "one_class": 240, "uncovered": 1, "every": 480}[which]
    assert (found["known"] != None).sum() == number  # noqa: E711
    assert np.isfinite(shares(found)).all()
    assert shares(found).sum(axis=1) == pytest.approx(1)
    if which == "uncovered":  # no vote, and nothing to read: its label is the known one, and nobody says more
        assert (found["covered"][0], found["rests_on"][0], found["label"][0]) == (False, "known", CLASSES[truth[0]])
