"""Every figure can be measured: a smoke run of each, small, on texts made up here; and what the amplifier promises."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from projects import REPOSITORY, command

from benchmarks.amplify import amplify
from benchmarks.figures import PAGE, RESULTS, TABLE, Figure, keep, quoted
from benchmarks.label_figures import FIGURES
from benchmarks.texts import Texts
from sources.mail import MailSource
from weakfish.contracts.tables import TIME

WORDS = (
    *("click here", "free offer", "python", "I think", "order now", "wrote:", "debian", "money back", "the", "list"),
    *("$100,000", "meeting", "toll free", "kernel", "> quoted", "risk free", "you", "and", "sendmail", "!!!", "Straße"),
)


def corpus(folder: Path, rows: int = 400) -> Path:
    """Events as the repository's source makes them, with texts of lines of words, in one partition."""
    rng = np.random.default_rng(7)
    schema = MailSource.schema
    columns: dict[str, pa.Array] = {}
    for field in schema:
        numbers = rng.integers(3, size=rows)
        if pa.types.is_timestamp(field.type):
            columns[field.name] = pa.array(numbers.astype("datetime64[D]") + np.arange(rows), TIME)
        elif pa.types.is_string(field.type):
            columns[field.name] = pa.array([None if n == 0 else f"{field.name} {n}" for n in numbers], pa.string())
        else:
            columns[field.name] = pa.array(numbers).cast(field.type)
    columns["message_id"] = pa.array([f"{row:032x}" for row in range(rows)])
    columns["body"] = pa.array([text(rng) for _ in range(rows)])
    columns["subject"] = pa.array([" ".join(rng.choice(WORDS, 3)) for _ in range(rows)])
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns, schema=schema), folder / "2002-08.parquet")
    return folder


def text(rng: np.random.Generator) -> str:
    """Three to twelve lines of five words."""
    return "\n".join(" ".join(rng.choice(WORDS, 5)) for _ in range(rng.integers(3, 12)))


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("corpus") / "events")


@pytest.fixture(scope="module")
def lines(events: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What a smoke run of all figures prints, by name."""
    work = tmp_path_factory.mktemp("work")
    options = ("--scale", "0.0002", "--epochs", "20", "--events", str(events), "--work", str(work))
    before = kept_results()
    with ThreadPoolExecutor() as pool:  # two runs side by side: most of the time goes into imports
        names = list(FIGURES)
        run = lambda half: command(REPOSITORY, "python", "-m", "benchmarks.labels", *half, *options)  # noqa: E731
        results = list(pool.map(run, (names[::2], names[1::2])))
    for result in results:
        assert result.returncode == 0, result.stderr
    assert not list(work.iterdir()), "the folder to work in is left as it was"
    assert kept_results() == before, "small runs are not kept"
    return {line["name"]: line for result in results for line in map(json.loads, result.stdout.splitlines())}


def kept_results() -> list[bytes]:
    return [file.read_bytes() for file in (RESULTS, PAGE) if file.exists()]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_one_line_with_equal_results(lines: dict[str, dict[str, object]], name: str) -> None:
    line = lines[name]
    assert line["equal"] is True
    assert {"ours", "theirs", "unit", "ratio", "rows", "peak_rss_mb"} <= set(line)
    assert line["scale"] == 0.0002


def test_unknown_figures_are_refused_by_name() -> None:
    result = command(REPOSITORY, "python", "-m", "benchmarks.labels", "votes_colunmar")
    assert result.returncode == 2
    assert "votes_colunmar" in result.stderr


def test_amplified_events_have_the_columns_keys_and_times_that_a_partition_needs(events: Path, tmp_path: Path) -> None:
    made = amplify(str(events), str(tmp_path), rows=3001, months=2, processes=1)
    parts = [pq.ParquetFile(file).read() for file in sorted(tmp_path.glob("*.parquet"))]
    assert [part.num_rows for part in parts] == [1501, 1500]
    both = pa.concat_tables(parts)
    assert both.schema.equals(MailSource.schema)
    assert pc.count_distinct(both["message_id"]).as_py() == 3001
    assert set(pc.strftime(parts[1]["received_at"], "%Y-%m").to_pylist()) == {"2002-02"}
    assert both["received_at"].to_pylist() == sorted(both["received_at"].to_pylist())
    assert made["repeated_texts"] <= 0.01
    assert abs(made["text_length"]["mean"] / made["corpus_text_length"]["mean"] - 1) < 0.15


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others(events: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        amplify(str(events), str(tmp_path / name), rows=200, months=1, seed=seed, processes=1)
    a, b, c = ((tmp_path / name / "2002-01.parquet").read_bytes() for name in "abc")
    assert a == b != c


def test_a_new_text_is_the_head_of_one_and_the_tail_of_another() -> None:
    old = [f"{name}1\n{name}2\n{name}3\n{name}4" for name in "ABCDEFGH"]
    texts = Texts.of(old)
    source, made = texts.make(np.arange(texts.combinations), seed=1)
    for row, new in zip(source, made.to_pylist(), strict=True):
        head, tail = re.fullmatch(r"((?:\w\d\n)+?)((\w)\d(?:\n\3\d)*)", new).groups()[:2]  # type: ignore[union-attr]
        assert old[row].startswith(head[:3])
        assert any(text.endswith(tail) for text in old)
        assert len(new) == len(old[0])


def test_combinations_of_distinct_texts_do_not_repeat() -> None:
    rng = np.random.default_rng(3)
    texts = Texts.of([f"{number}\n" + text(rng) + f"\n{number}" for number in range(40)])
    made = texts.make(np.arange(texts.combinations), seed=1)[1]
    assert pc.count_distinct(made).as_py() > 0.95 * len(made)


def test_a_corpus_that_is_too_small_is_refused(events: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has texts for"):
        amplify(str(events), str(tmp_path), rows=10**9, months=1, processes=1)


def test_kept_lines_are_replaced_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.figures.RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setattr("benchmarks.figures.PAGE", tmp_path / "page.md")
    marks = "<!-- figures: b\na -->\nold\n<!-- end -->\n\nMore:\n<!-- figures: c -->\n<!-- end -->"
    (tmp_path / "page.md").write_text(f"Figures:\n\n{marks}\n\nEnd.\n")
    slow = Figure("a", 10.0, 20.0, "s", True, 5, 1.0, None)
    keep([slow, Figure("b", 30.0, 10.0, "rows/s", True, 5, 1.0, 2.0)])
    keep([Figure("a", 5.0, 20.0, "s", True, 5, 1.0, None), Figure("c", 2.0, None, "ms", True, 5, 1.0, None)])
    kept = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(line["name"], line["ratio"]) for line in kept] == [("a", 4.0), ("b", 3.0), ("c", None)]
    page = (tmp_path / "page.md").read_text()
    assert "| `a` | 5 s | 20 s | 4 | 5 | 1 | - |\n<!-- end -->\n\nMore" in page
    assert "| `c` | 2 ms | - | - | 5 | 1 | - |\n<!-- end -->\n\nEnd" in page
    assert page.index("`b`") < page.index("`a`")
    assert "old" not in page
    assert page.startswith("Figures:")
    assert page.endswith("<!-- end -->\n\nEnd.\n")


def test_the_page_quotes_all_kept_lines() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == quoted(page)
    kept = {json.loads(line)["name"] for line in RESULTS.read_text(encoding="utf-8").splitlines()}
    assert kept <= {name for found in TABLE.finditer(page) for name in found["names"].split()}


def test_a_month_in_parts_is_measured_in_a_line_for_each_stage(tmp_path: Path) -> None:
    small = ["--rows", "2000", "--bytes", "200000", "--folder", str(tmp_path)]
    command_line = [sys.executable, "-m", "benchmarks.growth_parts", *small]
    done = subprocess.run(command_line, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["name"], line["parts"]) for line in lines] == [("ingest", 2), ("validate", 2), ("accept", 2)]
    assert all(line["seconds"] > 0 and line["peak_rss_mb"] > 0 for line in lines)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("growth_label", {"functions": 6, "classes": 3, "partitions": 2, "rows": 200}),
        ("growth_keys", {"keys": 20_000}),
    ],
)
def test_growth_is_measured_in_lines_with_their_sizes(name: str, sizes: dict[str, int]) -> None:
    asked = [text for size, number in sizes.items() for text in (f"--{size}", str(number))]
    command_line = [sys.executable, "-m", f"benchmarks.{name}", *asked]
    done = subprocess.run(command_line, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(line["name"] == name and line["seconds"] > 0 and line["peak_rss_mb"] > 0 for line in lines)
    assert sizes.items() <= lines[-1].items()
    assert [line["found"] for line in lines if "found" in line] == ([2, 20] if name == "growth_keys" else [])


def test_the_growth_of_features_is_measured_with_equal_bytes_of_a_new_month(tmp_path: Path) -> None:
    command_line = [sys.executable, "-m", "benchmarks.growth_features", "2400", "--work", str(tmp_path)]
    done = subprocess.run(command_line, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["name"], line["equal"]) for line in lines] == [
        ("features_2400", True),
        ("features_new_month_2400", True),
        ("training_set_2400", True),
    ]
    assert all(line["feature_rows"] > 2400 for line in lines)
    assert not list(tmp_path.iterdir())


def test_the_label_stage_with_a_reader_is_measured_in_one_line(tmp_path: Path) -> None:
    command_line = [
        sys.executable,
        "-m",
        "benchmarks.label_reader",
        "--rows",
        "4000",
        "--folder",
        str(tmp_path / "made"),
    ]
    done = subprocess.run(command_line, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    line = json.loads(done.stdout.splitlines()[-1])
    assert (line["name"], line["rows"], line["labelled"]) == ("label_reader", 4000, 4000)
    assert line["gain"] > 0.02
    assert line["seconds"] > 0
    assert line["peak_rss_mb"] > 0
