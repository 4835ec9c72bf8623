"""What is inferred of files: types, key, time, text, entities and labels, each with a reason, the same every time."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tabular import put

from weakfish.errors import SourceError
from weakfish.sources.tabular import Inferred, TabularSource, infer
from weakfish.sources.tabular.charsets import TELLING, guess

WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "old", "ships", "sail")


def tickets(rows: int, start: int = 0) -> str:
    """Support tickets: text, a class on half of them, customers that come back."""
    draw = random.Random(start)  # noqa: S311
    lines = ["Ticket ID,opened_at,customer_id,subject,urgent,hours,zip,rating,category"]
    for number in range(start, start + rows):
        text = " ".join(draw.choices(WORDS, k=8))
        lines.append(
            f't{number},2024-01-{number % 28 + 1:02} 10:00:00,c{number % 40},"{text}, {number}",'
            f"{draw.choice(['yes', 'no'])},"
            f"{number / 7:.2f},0{number % 90 + 1000},{draw.choice(['1', '5', 'NA'])},{draw.choice(['bug', 'bill', ''])}"
        )
    return "\n".join(lines) + "\n"


def of(inferred: Inferred) -> dict[str, str]:
    return {column.name: column.kind for column in inferred.columns}


def test_tickets_are_understood_and_their_settings_read_them(tmp_path: Path) -> None:
    put(tmp_path, "in/a.csv", tickets(400))
    put(tmp_path, "in/b.csv", tickets(400, 400))
    found = infer("in/*.csv", tmp_path)
    assert of(found) == {
        "ticket_id": "string",
        "opened_at": "time",
        "customer_id": "string",
        "subject": "string",
        "urgent": "boolean",
        "hours": "number",
        "zip": "string",
        "rating": "integer",
        "category": "string",
    }
    assert (found.files, found.rows, found.dialect["delimiter"]) == (2, 800, ",")
    assert found.settings("in/*.csv")["null_values"] == {"rating": ["", "NA"]}
    assert found.key is not None
    assert found.key.column == "ticket_id"
    assert found.time is not None
    assert found.time.column == "opened_at"
    assert [choice.column for choice in found.texts] == ["subject"]
    assert found.entities[0].column == "customer_id"
    assert found.labels[0].column == "category"
    assert all(choice.reason for choice in (*found.texts, *found.entities, *found.labels, found.key, found.time))
    assert infer("in/*.csv", tmp_path) == found
    reader = TabularSource(found.settings("in/*.csv", gold={"kind": "category"}))
    rows = pa.Table.from_batches(reader.read(tmp_path / "in"), reader.schema)
    assert rows.num_rows == 800
    assert reader.rejects.kept == []
    assert rows["rating"].null_count == sum(column.nulls for column in found.columns if column.name == "rating")


def test_all_files_are_looked_at_up_to_a_bound(tmp_path: Path) -> None:
    for number in range(120):
        put(tmp_path, f"{number:03}.jsonl", json.dumps({"id": number, "n": 1 if number < 119 else "x y"}) + "\n")
    found = infer(tmp_path)
    assert (found.files, found.looked_at, found.rows) == (120, 50, 50)
    assert of(found) == {"id": "integer", "n": "string"}


def test_large_files_are_sampled(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "id,n\n" + "".join(f"{n},{n % 3}\n" for n in range(100_000)))
    assert infer(tmp_path / "a.csv").rows == 20_000


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_the_delimiter_is_told_from_the_lines(tmp_path: Path, mark: str) -> None:
    put(tmp_path, "a.csv", f"id{mark}note\n" + "".join(f"{n}{mark}a, b\n" for n in range(20)))
    found = infer(tmp_path / "a.csv")
    assert (found.dialect["delimiter"], list(of(found))) == (mark, ["id", "note"])


def test_numbers_and_categories_without_key_time_or_text(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"amount": [n % 7 / 2 for n in range(100)], "kind": ["a", "b"] * 50, "empty": pa.nulls(100)}),
        tmp_path / "a.parquet",
    )
    found = infer(tmp_path / "a.parquet")
    assert of(found) == {"amount": "number", "kind": "string", "empty": "string"}
    assert (found.key, found.time, found.texts) == (None, None, ())
    assert [choice.column for choice in found.labels] == ["kind"]
    reader = TabularSource(found.settings("a.parquet"))
    assert reader.schema.names == ["row_id", "event_time", "amount", "kind", "empty"]
    assert sum(batch.num_rows for batch in reader.read(tmp_path)) == 100


def test_what_stands_in_bad_lines_does_not_stop_it(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", b'id,n,name\n1,2,J\xf6rg\n2,"x"y,z\n3,4\n4,5,b\n')
    found = infer(tmp_path / "a.csv")
    assert found.dialect["encoding"] == "cp1252"
    assert of(found) == {"id": "integer", "n": "integer", "name": "string"}
    assert any("line 3" in note for note in found.notes)


def test_a_date_may_be_the_event_time_and_epochs_are_times(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "day,created_at,n\n2024-01-01,1704067200,1704067200\n2024-01-02,1704153600,5\n")
    found = infer(tmp_path / "a.csv")
    assert of(found) == {"day": "date", "created_at": "time", "n": "integer"}
    put(tmp_path, "b.csv", "day,n\n2024-01-01,1\n2024-01-02,2\n")
    found = infer(tmp_path / "b.csv")
    assert found.time is not None
    assert found.time.column == "day"
    assert found.settings("b.csv")["columns"]["day"] == "time"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz"])
def test_files_without_columns_are_refused(tmp_path: Path, name: str) -> None:
    put(tmp_path, name, "")
    with pytest.raises(SourceError):
        infer(tmp_path / name)


def test_files_of_several_formats_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "id\n1\n")
    put(tmp_path, "b.jsonl", "{}\n")
    with pytest.raises(SourceError, match="several formats"):
        infer(tmp_path)


SENTENCES = {
    "cp1252": "Müller aus Köln, größer",
    "cp1251": "Привет мир, как дела сегодня",
    "koi8_r": "Привет мир, как дела сегодня",
    "cp1253": "Καλημέρα κόσμε, τι κάνεις",
    "cp1254": "İstanbul güneşli, çok güzel şehir",
    "cp932": "こんにちは世界、東京都",
    "gb18030": "你好世界，北京市",
}


@pytest.mark.parametrize("encoding", SENTENCES)
def test_an_encoding_is_guessed_from_the_language(tmp_path: Path, encoding: str) -> None:
    rows = "".join(f'{number},"{SENTENCES[encoding]} {number}"\n' for number in range(300))
    put(tmp_path, "a.csv", f"id,note\n{rows}".encode(encoding))
    found = infer(tmp_path / "a.csv")
    assert found.dialect["encoding"] == encoding
    assert any(encoding in note for note in found.notes)


def test_short_texts_of_a_script_are_not_taken_for_western_ones(tmp_path: Path) -> None:
    texts = ("商品が届きません", "返金をお願いします")
    content = "id,note\n" + "".join(f"{n},{texts[n % 2]} {n}\n" for n in range(30))
    put(tmp_path, "a.csv", content.encode("cp932"))
    assert infer(tmp_path).dialect["encoding"] == "cp932"
    head = "番号,日時,顧客,メモ,時間,種類"  # without sentences it could be rare Korean
    put(tmp_path, "a.csv", (head + "\n" + "1,2024-01-01,c1,x,2,y\n" * 9).encode("cp932"))
    assert infer(tmp_path).dialect["encoding"] == "cp932"


OF_LATIN_LETTERS = {
    "cp1252": ("Dübel Ø8; Größe", "très en retard, où est le café", "¿Dónde está la estación?", "Göteborg på Åland"),
    "cp1250": ("Zażółć gęślą jaźń", "Příliš žluťoučký kůň", "Árvíztűrő tükörfúrógép", "şi în oraşul ăsta, ţară"),
    "cp1254": ("Çok güzel bir mağaza", "İstanbul güneşli, çok şişe"),
}


@pytest.mark.parametrize(
    ("encoding", "text"), [(encoding, text) for encoding, texts in OF_LATIN_LETTERS.items() for text in texts]
)
def test_the_letters_of_a_language_tell_its_encoding(encoding: str, text: str) -> None:
    for rows in (3, 300):
        lines = [f"{number};{text};{number % 7}".encode(encoding) for number in range(rows)]
        assert [line.decode(guess(lines)) for line in lines] == [line.decode(encoding) for line in lines]


@pytest.mark.parametrize("encoding", ["cp932", "euc_jp", "gb18030"])
def test_where_what_is_looked_at_ends_tells_nothing_of_the_encoding(encoding: str) -> None:
    text = SENTENCES["gb18030" if encoding == "gb18030" else "cp932"]
    for shift in range(4):
        lines = [
            f"{'x' * shift}{text}".encode(encoding),
            *(f"{n} {text}".encode(encoding) for n in range(TELLING // 20)),
        ]
        assert guess(lines) == encoding


def test_a_few_damaged_bytes_do_not_make_another_encoding(tmp_path: Path) -> None:
    rows = "".join(f"{number},Müller {number}\n" for number in range(100)).encode()
    put(tmp_path, "a.csv", b"id,note\n" + rows + b"100,M\xfcller\n")
    assert "encoding" not in infer(tmp_path / "a.csv").dialect


def test_each_file_is_read_in_its_own_encoding(tmp_path: Path) -> None:
    put(tmp_path, "0.csv", "id,note\n" + "".join(f"a{n},Köln {n}\n" for n in range(50)))
    put(tmp_path, "1.csv", "id,note\nb,Köln 1\n".encode("cp1252"))
    found = infer(tmp_path)
    assert "encoding" not in found.dialect
    assert any("read by a guess: 1.csv as cp1252" in note for note in found.notes)
    reader = TabularSource(found.settings("."))
    rows = pa.Table.from_batches(reader.read(tmp_path), reader.schema).to_pylist()
    assert [row["note"] for row in rows] == [*(f"Köln {n}" for n in range(50)), "Köln 1"]
    assert [(r.file, r.kind) for r in reader.rejects.kept] == [("1.csv", "file")]
    assert (
        "is not UTF-8 (1 of 1 characters beyond ASCII are not) and is read as cp1252" in reader.rejects.kept[0].reason
    )


def test_files_that_are_all_of_another_encoding_are_guessed_at_together(tmp_path: Path) -> None:
    for number in range(50):
        put(tmp_path, f"{number}.csv", f'id,note\n{number},"{SENTENCES["cp1251"][number % 10 :]}"\n'.encode("cp1251"))
    assert infer(tmp_path).dialect["encoding"] == "cp1251"
