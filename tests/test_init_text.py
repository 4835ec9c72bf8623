"""What `weakfish init` makes of texts that are no words: amounts, ids, lists, and lines above a header."""

from __future__ import annotations

import json
import random
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_projects import init, refused, settings
from tabular import put

from weakfish.sources.tabular import Inferred, TabularSource, infer


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(folder: Path, columns: dict[str, list[str]], name: str = "a.csv") -> Path:
    """A file of rows without delimiters in their values."""
    rows = zip(*columns.values(), strict=True)
    return put(folder, name, "\n".join(map(";".join, [tuple(columns), *rows])) + "\n")


def kinds(found: Inferred) -> dict[str, str]:
    return {column.name: column.kind for column in found.columns}


def about(found: Inferred, column: str) -> list[str]:
    return [note for note in found.notes if note.startswith(f"Column {column} ")]


def values(found: Inferred, folder: Path, column: str) -> list[object]:
    reader = TabularSource(found.settings("."))
    rows = pa.Table.from_batches(reader.read(folder), reader.schema)
    assert [reject for reject in reader.rejects.kept if reject.kind == "value"] == []
    return list(rows[column].to_pylist())


@pytest.mark.parametrize(
    ("mark", "flag", "texts", "numbers"),
    [
        (",", "--thousands ,", ["1,234.50", "950", "-1,234,567.25"], [1234.5, 950.0, -1234567.25]),
        ("'", '--thousands "\'"', ["1'234.50", "950.5", "12'345"], [1234.5, 950.5, 12345.0]),
        (" ", "--thousands space", ["1 234.50", "950.5", "12\u00a0345"], [1234.5, 950.5, 12345.0]),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_numbers_with_separators_are_hinted_at_and_read_where_the_mark_is_said(
    tmp_path: Path, mark: str, flag: str, texts: list[str], numbers: list[float], suffix: str
) -> None:
    if suffix == "csv":
        table(tmp_path, {"id": [f"o{n}" for n in range(60)], "price": texts * 20})
    else:
        put(tmp_path, "a.jsonl", "".join(json.dumps({"id": f"o{n}", "price": texts[n % 3]}) + "\n" for n in range(60)))
    found = infer(tmp_path)
    assert kinds(found) == {"id": "string", "price": "string"}
    sentence = f"Column price has numbers with separators, such as {texts[0]!r}; {flag} reads them as numbers."
    assert about(found, "price") == [sentence]
    found = infer(tmp_path, said={"thousands": mark})
    assert (kinds(found)["price"], about(found, "price")) == ("number", [])
    assert values(found, tmp_path, "price") == numbers * 20


def test_what_is_not_grouped_in_threes_stays_bad(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", 'n,m\n"1,234","1,234.5"\n"1,23","1,2345"\n"1,234,5","12,34,567"\n')
    reader = TabularSource({"path": ".", "columns": {"n": "integer", "m": "number"}, "thousands": ","})
    rows = pa.Table.from_batches(reader.read(tmp_path)).to_pylist()
    assert [(row["n"], row["m"]) for row in rows] == [(1234, 1234.5), (None, None), (None, None)]
    assert len(reader.rejects.kept) == 4


def test_the_mark_between_thousands_is_a_flag_and_a_setting(here: Path) -> None:
    table(here, {"id": [f"o{n}" for n in range(60)], "price": [f"{n},234.50" for n in range(1, 61)]})
    init("shop", "--from", "a.csv", "--classes", "a,b", "--thousands", ",", "--yes")
    source = settings(here / "shop")["source"]
    assert (source["thousands"], source["columns"]["price"]) == (",", "number")
    said = refused("other", "--from", "a.csv", "--classes", "a,b", "--thousands", ",", "--decimal", ",", "--yes")
    assert said == "--thousands: must differ from decimal."


@pytest.mark.parametrize("text", ["12.5%", "12 %", "$1,234.50", "-$5", "EUR 12.50", "1.234,50 €", "12 USD", "12,5 %"])
def test_percentages_and_amounts_of_money_stay_text_with_a_word(tmp_path: Path, text: str) -> None:
    texts = [text, text.replace("1", "2").replace("5", "6"), "7"]
    table(tmp_path, {"id": [f"o{n}" for n in range(60)], "share": texts * 20})
    (sentence,) = about(infer(tmp_path), "share")
    digits = "re_replace('[^0-9,-]', '').replace(',', '.')" if ",5" in text else "re_replace('[^0-9.-]', '')"
    assert sentence == (
        f"Column share stays text, for values such as {text!r} are no plain numbers; take their signs off in the "
        f"files, or in functions: events.share.{digits}.try_cast('float64')."
    )
    number = {"12.5%": 12.5, "12 %": 12, "-$5": -5, "EUR 12.50": 12.5, "12 USD": 12, "12,5 %": 12.5}.get(text, 1234.5)
    events = ibis.memtable({"share": [text]})  # what the sentence says to write gives the number
    found = eval(sentence.partition("functions: ")[2].removesuffix("."), {"events": events})  # noqa: S307
    assert found.execute().tolist() == [number]


def test_japanese_comments_are_running_text_and_characters_that_names_cannot_have_are_told_plainly(here: Path) -> None:
    words = ["商品がとても良かったです", "配送が遅い", "普通です、でも価格が高いと思います"]
    comments = [f"{words[n % 3]}{n}" for n in range(90)]
    shops = [("渋谷", "新宿", "大阪", "札幌")[n % 4] for n in range(90)]
    table(
        here,
        {"id": [f"o{n}" for n in range(90)], "ご意見": comments, "店舗": shops, "Fläche m²": list(map(str, range(90)))},
    )
    init("survey", "--from", "a.csv", "--classes", "a,b", "--yes")
    assert settings(here / "survey")["source"]["columns"]["fläche_m2"] == "integer"
    found = infer(here / "a.csv")
    assert [choice.column for choice in found.texts] == ["ご意見"]
    assert "ご意見" not in [choice.column for choice in found.entities]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "b.parquet"])
def test_what_the_files_call_text_stays_text_though_it_looks_like_numbers(here: Path, name: str) -> None:
    rows = {"id": [f"o{n}" for n in range(60)], "version": ["1.1", "1.10", "2.0"] * 20, "store": ["7", "12", "30"] * 20}
    rows["at"] = [f"2024-01-{n % 28 + 1:02}T10:00:00Z" for n in range(60)]
    if name == "a.jsonl":
        each = [dict(zip(rows, row, strict=True)) | {"n": n} for n, row in enumerate(zip(*rows.values(), strict=True))]
        put(here, name, "".join(json.dumps(row) + "\n" for row in each))
    else:
        columns = {key: pa.array(texts) for key, texts in rows.items()} | {"n": pa.array(range(60))}
        columns["store"] = columns["store"].dictionary_encode() if name[0] == "b" else columns["store"]
        pq.write_table(pa.table(columns), here / name)
    said = init("shop", "--from", name, "--classes", "a,b", "--yes")
    expected = {"id": "string", "version": "string", "store": "string", "at": "time", "n": "integer"}
    assert settings(here / "shop")["source"]["columns"] == expected
    for column, sample, kind in (("version", "1.1", "number"), ("store", "7", "integer")):
        sentence = (
            f"Note: Column {column} is text in the files and stays text, as {sample!r}; --type {column}={kind} reads "
            "numbers."
        )
        assert sentence in said.splitlines()
    init("told", "--from", name, "--classes", "a,b", "--type", "store=integer", "--yes")
    assert settings(here / "told")["source"]["columns"]["store"] == "integer"


def test_texts_that_are_no_words_are_proposed_for_nothing(tmp_path: Path) -> None:
    draw = random.Random(1)  # noqa: S311
    rows = [
        {
            "n": n % 7,
            "user": f"u{n % 40}",
            "tags": ["red", "green", f"blue {n % 200}"],
            "shape": {f"k{place}": n % 3 for place in range(51)},
            "digits": f"{n % 200 + 1000} {n % 200 + 2000} {n % 200 + 3000}",
            "code": f"00{n % 30}",
            "rate": f"{n % 30}.5%",
            "reply": f"we have received your message number {n % 30} and will write to you as soon as we can",
            "note": " ".join(draw.choices(["sun", "rain", "snow", "wind", "fog", "hail"], k=6)) + f" {n}",
        }
        for n in range(600)
    ]
    put(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    found = infer(tmp_path)
    assert [choice.column for choice in found.texts] == ["note"]
    assert [choice.column for choice in found.entities] == ["user"]
    assert [choice.column for choice in found.labels] == ["user"]


def test_sentences_that_come_back_are_text_and_names_of_several_words_are_not(tmp_path: Path) -> None:
    comments = [f"the parcel number {n % 59} came late again" for n in range(300)]
    shops = [f"Shop number {n % 60}" for n in range(300)]
    table(tmp_path, {"n": [str(n % 7) for n in range(300)], "said": comments, "shop": shops})
    found = infer(tmp_path)
    assert [choice.column for choice in found.texts] == ["said"]
    assert [choice.column for choice in found.entities] == ["shop"]


def test_digits_are_an_entity_where_the_name_of_the_column_says_so(tmp_path: Path) -> None:
    table(tmp_path, {"n": [str(n % 7) for n in range(300)], "customer": [f"00{n % 30}" for n in range(300)]})
    assert [choice.column for choice in infer(tmp_path).entities] == ["customer"]


LINES = "".join(f"o{n},2024-01-{n % 28 + 1:02},{n * 1.5}\n" for n in range(60))


@pytest.mark.parametrize(
    ("head", "note"),
    [
        ("Report of 2024\n", "a.csv has its header in line 2; what stands before it is left out."),
        ("# a, b\n\nReport\n", "a.csv has its header in line 4; what stands before it is left out."),
        (
            "Report,May,2024\n",
            "a.csv: line 2 seems to hold the names of columns rather than 'Report', 'May', '2024'; --skip 1 takes it.",
        ),
        (
            '\n"Sales,\nall",from,May\n',
            "a.csv: line 4 seems to hold the names of columns rather than 'Sales,\\nall', 'from', 'May'; --skip 3 "
            "takes it.",
        ),
        ("", None),
    ],
)
def test_lines_above_the_header_are_told_of_with_the_flag_that_helps(
    tmp_path: Path, head: str, note: str | None
) -> None:
    put(tmp_path, "a.csv", f"{head}id,at,amount\n{LINES}")
    found = infer(tmp_path)
    assert list(found.notes) == ([note] if note else [])
    if note and "--skip" in note:
        found = infer(tmp_path, said={"skip": int(note.split("--skip ")[1][0])})
    assert kinds(found) == {"id": "string", "at": "date", "amount": "number"}
