"""Readers of texts as a whole: sentence embeddings, and labels that rest on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from in_process import own_modules
from projects import REPOSITORY, contents
from told_orders import MONTHS, labels, manifest, project, rows, truth_of

from weakfish.evaluation.aligned import read_inputs
from weakfish.labeling import embedding
from weakfish.labeling.embedding import SCALE, WIDTH, vectors_of
from weakfish.labeling.explain import explain
from weakfish.labeling.reading import WHOLE, TaskReader
from weakfish.labeling.row_texts import Texts
from weakfish.project.paths import Project
from weakfish.project.versioned import file_of

EMBEDS = "reader: on, embeds: [note]"


@pytest.fixture(autouse=True)
def own_functions() -> Iterator[None]:
    """Each project imports the labeling functions of its own folder, not those of another that came before."""
    with own_modules():
        yield


def test_the_numbers_are_those_that_the_models_authors_publish() -> None:
    """The first of "This is an example sentence", from the model's card, rounded to eight bits."""
    found = vectors_of(["This is an example sentence"])[0]
    assert found[:3].tolist() == [round(number * SCALE) for number in (0.0676569, 0.0634960, 0.0487131)]
    assert np.linalg.norm(found / SCALE) == pytest.approx(1, abs=0.01)


def test_texts_that_mean_the_same_are_near_each_other() -> None:
    cat, kitten, money = (
        each / SCALE
        for each in vectors_of(["The cat sat on the mat.", "A kitten rests on a rug.", "Quarterly revenue fell."])
    )
    assert cat @ kitten > 0.5
    assert cat @ money < 0.2


def test_the_embedding_of_a_text_depends_on_it_alone(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    words = ["bread", "market", "prize", "transfer", "the", "on", "of", "seventy", "Straße", "日本", "x"]
    texts = [" ".join(draw.choice(words, length)) for length in draw.integers(1, 90, 150)]
    found = vectors_of(texts)
    order = draw.permutation(len(texts))
    assert np.array_equal(vectors_of([texts[place] for place in order]), found[order])
    for place in order[:12]:
        assert np.array_equal(vectors_of([texts[place]])[0], found[place])
    assert np.array_equal(vectors_of([texts[3]] * 4), found[[3] * 4])
    assert len(np.unique(found, axis=0)) > 140


def test_any_text_has_an_embedding_and_an_empty_one_has_none() -> None:
    long, hostile = "voucher " * 131_072, ["a\0b", "lone \ud800 surrogate", "Ινδία नमस्ते 你好", "\u202eabc", "🎁" * 50]
    found = vectors_of(["", "   \n", long, long[: embedding.CHARACTERS], *hostile])
    assert not found[:2].any()
    assert np.array_equal(found[2], found[3])
    assert (np.abs(np.linalg.norm(found[2:] / SCALE, axis=1) - 1) < 0.01).all()
    assert len(np.unique(found[3:], axis=0)) == 1 + len(hostile)
    table = pa.table({"text": pa.array([None, "prize"]).dictionary_encode()})
    read = Texts.of(table, [], ["text"]).embedded().vectors
    assert read is not None
    assert not read[0].any()
    assert read[1].any()
    assert vectors_of([]).shape == (0, WIDTH)


def test_labels_rest_on_what_a_text_says_as_a_whole(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", EMBEDS)
    labels(root)
    found, made = rows(root), manifest(root)
    read = np.arange(480) % 240 > 1  # the first two notes of a month are empty
    covered = found["covered"]
    expected = np.where(covered & read, "both", np.where(covered, "votes", np.where(read, "row", None)))
    assert found["rests_on"].tolist() == expected.tolist()
    truth = np.concatenate([truth_of(name, 240) for name in MONTHS[:2]])
    right = found["label"] == np.array(["fine", "fraud"])[truth]
    assert right[~covered & read].mean() > 0.9
    reader = made["models"][0]["reader"]
    assert (reader["columns"], reader["embeds"]) == ([], ["note"])
    assert made["why"][-1].startswith("The reader of note as a whole knows ")
    assert set(embedding.PACKAGES) <= set(made["versions"])
    inputs = read_inputs(Project(root), "fraud")
    assert inputs.read is not None
    vectors = inputs.read.loaded().vectors
    assert vectors is not None
    assert vectors.shape == (480, WIDTH)


def test_the_same_rows_give_the_same_bytes_from_the_cache_or_anew(tmp_path: Path) -> None:
    settings = "reader: on, reads: [note, amount], embeds: [note]"
    root = project(tmp_path / "orders", settings)
    before = labels(root)
    pieces = root / ".weakfish/cache/embeddings/fraud"
    kept = contents(pieces)
    assert len(kept) == 2  # one for each month
    assert labels(root) == before
    assert contents(pieces) == kept
    assert labels(project(tmp_path / "again", settings)) == before
    (root / "data/events" / f"{MONTHS[1]}.parquet").unlink()
    (root / f"data/votes/fraud/{MONTHS[1]}.parquet").unlink()
    labels(root)
    assert set(contents(pieces)) < set(kept)  # what is gone is swept, what stays is not computed again


def test_embeddings_that_were_altered_are_computed_anew(tmp_path: Path) -> None:
    root = project(tmp_path / "orders", EMBEDS, MONTHS[0])
    before = labels(root)
    for file in (root / ".weakfish/cache").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-3] + b"abc")
    assert labels(root) == before


@pytest.mark.parametrize("settings", [EMBEDS, "reader: on, reads: [note, amount], embeds: [note]"])
def test_an_explanation_shows_an_embedding_as_one_term_and_adds_up(settings: str, tmp_path: Path) -> None:
    root = project(tmp_path / "orders", settings)
    labels(root)
    found = rows(root)
    for kind in ("both", "row"):
        place = found["rests_on"].tolist().index(kind, 2)  # the first two notes are empty
        told = explain(Project(root), "fraud", found["order_id"][place])
        parts = [told["prior"], told["reader"]["log_odds"], *(each["log_odds"] for each in told["functions"])]
        total = sum(part["fraud"] for part in parts)
        assert 1 / (1 + np.exp(-total)) == pytest.approx(found["p_fraud"][place], abs=2e-9)
        assert told["reader"]["embeds"] == ["note"]
        assert [each["word"] for each in told["reader"]["words"]].count(WHOLE) == 1


def test_large_months_are_embedded_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path / "orders", EMBEDS, MONTHS[0])
    reader = TaskReader(Project(root), "fraud")
    whole = reader.whole().loaded()
    monkeypatch.setattr("weakfish.labeling.reading.AT_ONCE", 50)
    again = TaskReader(Project(root), "fraud")
    parts = list(again.texts(MONTHS[0]))
    assert len(parts) == 5
    assert np.array_equal(again.whole().loaded().vectors, whole.vectors)


def test_without_the_extra_a_sentence_says_what_installs_it(tmp_path: Path) -> None:
    """In an environment of all packages but those of the extra."""
    root, site = project(tmp_path / "orders", EMBEDS, MONTHS[0]), tmp_path / "site"
    site.mkdir()
    for file in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not file.name.startswith(("all_minilm", "tokenizers", "safetensors", "__editable__")):
            (site / file.name).symlink_to(file)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(REPOSITORY / "src")])}
    code = "from weakfish.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, "label"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "weakfish: params.yaml: label_models.fraud.embeds asks for sentence embeddings, and all_minilm_l6_v2 is not "
        "installed; `pip install 'weakfish[embeddings]'` adds it."
    )
    assert not (root / "data/labels").exists()


def test_embeddings_that_were_pulled_are_used_and_explained(tmp_path: Path) -> None:
    """Those of another processor differ by a step here and there."""
    root = project(tmp_path / "orders", EMBEDS, MONTHS[0])
    labels(root)
    before = rows(root)["p_fraud"]
    (file,) = (root / "data/labels/fraud.embeddings").iterdir()
    theirs = np.frombuffer(file.read_bytes(), np.int8) // 2
    file.unlink()
    name = file_of(file.name.partition("-")[0], theirs.tobytes())
    file.with_name(name).write_bytes(theirs.tobytes())
    shutil.rmtree(root / ".weakfish")
    labels(root)
    after = rows(root)
    assert (after["p_fraud"] != before).any()
    assert [each.name for each in file.parent.iterdir()] == [name]
    place = int(np.flatnonzero(after["rests_on"] == "both")[0])
    told = explain(Project(root), "fraud", after["order_id"][place])
    assert told["probabilities"]["fraud"] == after["p_fraud"][place]
