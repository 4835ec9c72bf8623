"""What `weakfish init` proposes of files: classes, a split of gold, extremes of all rows, settings of the source."""

from __future__ import annotations

import gzip
import json
import shutil
from itertools import pairwise
from pathlib import Path

import own_data
import pyarrow as pa
import pytest
from in_process import own_modules
from made_projects import HEADER, init, line, orders, refused, settings
from projects import write

from weakfish.contracts.ledgers import read_ledger
from weakfish.errors import UserError
from weakfish.project import params
from weakfish.project.paths import Project
from weakfish.scaffold.label_values import classes_of
from weakfish.scaffold.proposal import balance, split_day
from weakfish.scaffold.roles import Wishes, choose
from weakfish.scaffold.write import read_record
from weakfish.sources.fetching import fetch
from weakfish.sources.ingest import ingest
from weakfish.sources.tabular import TabularSource, infer
from weakfish.sources.tabular.raw_files import find


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return orders(tmp_path)


def test_globs_and_partitions_stay_patterns_so_that_new_files_match(here: Path) -> None:
    for year in (2023, 2024):
        rows = "".join(line(number + year) for number in range(100)).replace("2024-", f"{year}-")
        (here / f"in/year={year}").mkdir(parents=True)
        with gzip.open(here / f"in/year={year}/part.csv.gz", "wt") as file:
            file.write(HEADER + rows.replace(f"{year}-73", f"{year}-12"))
    init("shop", "--from", "in/*/*.csv.gz", "--yes", "--no-time")
    source = settings(here / "shop")["source"]
    assert source["path"] == "../in/*/*.csv.gz"
    assert source["columns"]["year"] == "integer"
    assert settings(here / "shop")["fetch"] == {"watch": "../in", "look": []}
    assert read_record(here / "shop").proposal.rows == 200


def test_without_key_time_and_labels_it_says_what_cannot_be_had_and_does_the_rest(here: Path) -> None:
    own_data.flats(here / "flats.csv")
    said = init("flats", "--from", "flats.csv", "--yes")
    assert "row_id is made" in said
    assert "no features of the past" in said
    assert "--classes TASK=a,b names the classes, --label COLUMN a column that holds them (" in said
    assert "Until then they are negative and positive." in said
    assert "Lines that cannot be read: 1" in said
    found = params.load(here / "flats")
    assert (found.events.key, found.events.time) == ("row_id", "event_time")
    assert found.tasks["example"].classes == ["negative", "positive"]
    assert found.views == []


def test_gold_is_split_by_time_and_classes_weigh_as_in_dev(here: Path) -> None:
    init("shop", "--from", "orders.csv", "--yes")
    found = params.load(here / "shop")
    split = found.gold.split
    assert split is not None
    rows = [line(number).strip().split(",") for number in range(200)]
    dev = [row[4] for row in rows if row[4] and row[1] < split.isoformat()]
    labelled = [row[4] for row in rows if row[4]]
    assert 0.65 < len(dev) / len(labelled) < 0.75
    shares = dict(zip(found.tasks["label"].classes, found.tasks["label"].label_model.class_balance, strict=True))
    assert shares == pytest.approx({name: dev.count(name) / len(dev) for name in ("fine", "fraud")}, abs=0.001)
    assert found.evaluate.positive == {"label": min(("fine", "fraud"), key=dev.count)}


def test_what_is_proposed_of_functions_and_checks_does_not_depend_on_gold(here: Path) -> None:
    write(here / "other/orders.csv", HEADER + "".join(line(n, ["fine", "fraud"][n % 3 == 0]) for n in range(200)))
    init("shop", "--from", "orders.csv", "--yes")
    init("other/shop", "--from", "other/orders.csv", "--yes")
    first, second = (read_record(here / name).proposal for name in ("shop", "other/shop"))
    assert (first.rules, first.suites, first.columns) == (second.rules, second.suites, second.columns)
    assert "label" not in [column.name for column in first.columns]


def test_values_that_are_no_names_become_classes_and_the_source_reads_them_so(here: Path) -> None:
    values = ["In Progress", "Done!", "2nd try", ""]
    rows = "".join(line(number, values[number % 4]) for number in range(200))
    write(here / "orders.csv", HEADER + rows)
    said = init("shop", "--from", "orders.csv", "--yes", "--label", "state=label")
    assert "'In Progress' is in_progress" in said
    found = params.load(here / "shop")
    assert found.tasks["state"].classes == ["label_2nd_try", "done", "in_progress"]
    source = TabularSource({**found.source.settings, "path": str(here / "orders.csv")})
    write(here / "raw/new.csv", HEADER + line(1, "Done!") + line(2, " In Progress ") + line(3, "Lost") + line(4, ""))
    read = pa.Table.from_batches(source.read(here / "raw"))
    assert read["label"].to_pylist() == ["done", "in_progress", None, None]
    assert [(r.line, r.column, r.text) for r in source.rejects.kept] == [(4, "label", "Lost")]


@pytest.mark.parametrize(
    ("values", "wanted", "classes", "meant"),
    [
        (["spam", "ham"], (), ("ham", "spam"), None),
        (["Spam", "spam", "HAM"], (), ("ham", "spam"), {"HAM": "ham", "Spam": "spam", "spam": "spam"}),
        (["0", "1"], (), ("not_spam", "spam"), {"0": "not_spam", "1": "spam"}),
        (["0.0", "1.0"], ("fine", "bad"), ("fine", "bad"), {"0.0": "fine", "1.0": "bad"}),
        (["1", "2.0", "10"], (), ("is_spam_1", "is_spam_2", "is_spam_10"), ...),
        (["A+", "A-", "A"], (), ("a", "a_2", "a_3"), ...),
        (["yes", "no", "maybe"], (), ("is_spam_maybe", "is_spam_no", "is_spam_yes"), ...),
        (["?", "²", "class"], (), ("is_spam_2", "value", "class"), ...),
        (["b", "a"], ("b", "a", "c"), ("b", "a", "c"), None),
        (["In Progress", "new"], ("new", "in_progress"), ("new", "in_progress"), ...),
        ([], (), ("negative", "positive"), None),
    ],
)
def test_values_are_classes_by_plain_names(
    values: list[str], wanted: tuple[str, ...], classes: tuple[str, ...], meant: object
) -> None:
    found, named = classes_of(values, "is_spam", wanted)
    assert sorted(found) == sorted(classes)
    assert wanted == () or found == wanted
    assert all(name.isidentifier() for name in found)
    if meant is ...:
        assert named is not None
        assert set(named) == set(values)
        assert set(named.values()) <= set(found)
    else:
        assert named == meant


def test_a_column_may_be_named_as_no_task_can(here: Path) -> None:
    text = (here / "orders.csv").read_text(encoding="utf-8")
    write(here / "orders.csv", text.replace(",label\n", ",class\n", 1))
    init("shop", "--from", "orders.csv", "--yes")
    assert read_record(here / "shop").proposal.tasks["task_class"].gold == "class"


@pytest.mark.parametrize(("known", "task"), [("true", "example"), ("", "is_express")])
def test_a_question_is_a_label_only_where_not_all_rows_know_the_answer(here: Path, known: str, task: str) -> None:
    values = ["false", "true", known]
    write(here / "orders.csv", "id,is_express\n" + "".join(f"o{n},{values[n % 3]}\n" for n in range(90)))
    said = init("shop", "--from", "orders.csv", "--yes")
    assert list(params.load(here / "shop").tasks) == [task]
    assert ("is_express may (--label)" in said) == (task == "example")


def test_one_value_is_no_task(here: Path) -> None:
    write(here / "orders.csv", HEADER + "".join(line(number, "fine") for number in range(200)))
    assert "has one value, 'fine'" in refused("shop", "--from", "orders.csv", "--yes", "--label", "label")
    init("shop", "--from", "orders.csv", "--yes", "--label", "label", "--classes", "fine,fraud")
    assert params.load(here / "shop").tasks["label"].classes == ["fine", "fraud"]


def test_the_split_leaves_each_class_on_both_sides_where_it_can() -> None:
    days = [f"2024-01-{day:02}" for day in range(1, 11)]
    labels = {("t", "a", day, False): 10 for day in days}
    assert split_day(labels) == "2024-01-08"
    assert split_day(labels | {("t", "rare", days[4], False): 1, ("t", "rare", days[5], False): 1}) == "2024-01-06"
    assert split_day(labels | {("other", "x", days[9], False): 1}) is None
    assert split_day({("t", "a", days[0], False): 10}) is None
    assert split_day({("t", "a", None, False): 10}) is None


@pytest.mark.parametrize("rows", [{"a": 700, "b": 300}, {"a": 9999}, {f"c{n}": n for n in range(50)}, {"a": 1}])
def test_the_balance_adds_up_and_leaves_no_class_out(rows: dict[str, int]) -> None:
    names = [*rows, "none"][:50]
    found = balance(rows, names, 50)
    if sum(rows.values()) < 50:
        assert found is None
    else:
        assert found is not None
        assert sum(found) == pytest.approx(1, abs=1e-12)
        assert min(found) > 0


def test_extremes_are_those_of_all_rows_and_the_sample_is_spread_over_them(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [line(number % 200).replace(f"o{number % 200},", f"o{number},", 1) for number in range(5000)]
    rows[4321] = rows[4321].replace(".5,", "999.5,")
    rows[77] = rows[76]
    write(here / "orders.csv", HEADER + "".join(rows))
    monkeypatch.setattr("weakfish.scaffold.survey.ROWS", 300)
    from weakfish.scaffold.survey import survey
    from weakfish.sources.tabular import infer

    found = survey(infer("orders.csv").settings("x", {"label": "label"}), str(here / "orders.csv"))
    assert found.rows == 5000
    assert found.key_repeats == 1
    amounts = [float(row.split(",")[3]) for row in rows]
    facts = {column.name: column for column in found.facts}
    assert (facts["amount"].least, facts["amount"].greatest) == (min(amounts), max(amounts))
    assert (facts["id"].shortest, facts["id"].longest) == (2, 5)
    kept = [int(key[1:]) for key in found.sample["id"].to_pylist()]
    assert 150 <= len(kept) <= 300
    assert len({after - before for before, after in pairwise(kept)}) == 1
    assert kept[-1] > 4900
    assert "label" not in found.sample.column_names


def test_how_files_are_written_can_be_said(here: Path) -> None:
    rows = "".join(f"t{n}|2024-01-{n % 28 + 1:02} 10:00|c{n % 9}|'не \\' так|'|{n},5\n" for n in range(200))
    (here / "a.txt").write_bytes(("Отчёт\n" + rows).encode("cp1251"))
    flags = ["--format", "csv", "--encoding", "cp1251", "--delimiter", "pipe", "--quote", "'", "--escape", "backslash"]
    init(
        "shop", "--from", "a.txt", *flags, "--decimal", ",", "--header", "id,at,who,note,amount", "--skip", "1", "--yes"
    )
    source = settings(here / "shop")["source"]
    assert source["columns"] == {"id": "string", "at": "time", "who": "string", "note": "string", "amount": "number"}
    names = ("encoding", "delimiter", "quote", "escape", "decimal", "header", "skip")
    assert [source[name] for name in names] == ["cp1251", "|", "'", "\\", ",", ["id", "at", "who", "note", "amount"], 1]
    reader = TabularSource({name: value for name, value in source.items() if name != "reader"})
    (batch,) = reader.read_files(find(str(here / "a.txt"), here))
    assert (batch.num_rows, reader.rejects.kept) == (200, [])
    assert batch.slice(7, 1).to_pylist()[0] | {"at": None} == {
        "id": "t7",
        "at": None,
        "who": "c7",
        "note": "не ' так|",
        "amount": 7.5,
    }


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--encoding", "hex"), "--encoding: must be the name of a text encoding, such as utf-8 or cp1252."),
        (("--delimiter", "ab"), "--delimiter: must be one ASCII character that is not a line end."),
        (("--delimiter", "tab", "--quote", "tab"), "--delimiter: delimiter and quote must differ."),
        (("--header", "a,b"), "--header has 2 names, and rows of orders.csv 5 fields; name them all."),
    ],
)
def test_what_cannot_be_said_of_files_is_one_sentence(here: Path, flags: tuple[str, ...], sentence: str) -> None:
    assert refused("shop", "--from", "orders.csv", *flags, "--yes") == sentence


@pytest.mark.parametrize(
    ("encoding", "head", "note"),
    [
        ("cp932", "番号,日時,顧客,メモ", "商品が届きません 返金をお願いします 住所を変更したい ありがとうございました"),
        ("cp1251", "id,at,who,note", "карта не принята банком клиент просит вернуть деньги"),
    ],
)
def test_files_of_other_scripts_become_projects(here: Path, encoding: str, head: str, note: str) -> None:
    rows = "".join(f"{n},2024-01-{n % 28 + 1:02} 10:00,c{n % 9},{note.split(' ')[n % 4]} {n}\n" for n in range(200))
    (here / "a.csv").write_bytes(f"{head}\n{rows}".encode(encoding))
    init("shop", "--from", "a.csv", "--yes")
    source = settings(here / "shop")["source"]
    assert (source["encoding"], list(source["columns"])) == (encoding, head.split(","))


def test_nulls_and_formats_can_be_said(here: Path) -> None:
    shutil.move(here / "orders.csv", here / "orders.txt")
    assert "none of the suffixes" in refused("shop", "--from", "orders.txt", "--yes")
    init("shop", "--from", "orders.txt", "--format", "csv", "--null", "", "--null", "\\N", "--yes")
    source = settings(here / "shop")["source"]
    assert (source["format"], source["null_values"]) == ("csv", ["", "\\N"])


def test_the_record_holds_no_values_of_columns_that_are_no_categories(here: Path) -> None:
    init("shop", "--from", "orders.csv", "--yes")
    columns = json.loads((here / "shop/weakfish.lock").read_text(encoding="utf-8"))["proposal"]["columns"]
    assert [column["name"] for column in columns if column["frequent"]] == ["customer"]


@pytest.mark.parametrize("late", [False, True], ids=["in the sample", "beyond the sample"])
def test_nulls_in_a_column_of_labels_are_rows_without_a_label(here: Path, late: bool) -> None:
    words = [["fine", "fraud", word] for word in ("NULL", "null", "NA", "n/a", "-", "  ")]
    rows = [line(n, words[n % 6][n // 6 % 3]) for n in range(360)]
    head = [line(n, ["fine", "fraud"][n % 2]) for n in range(21_000)] if late else []
    write(here / "orders.csv", HEADER + "".join([*head, *rows]))
    said = init("shop", "--from", "orders.csv", "--no-id", "--yes")
    found = params.load(here / "shop")
    assert found.tasks["label"].classes == ["fine", "fraud"]
    assert found.source.settings["gold"] == {"label": "label"}
    assert "is no class but says that a row has no label, on 100 rows; --classes makes it one" in said
    source = TabularSource({**found.source.settings, "path": str(here / "orders.csv")})
    labels = pa.Table.from_batches(source.read_files(find(str(here / "orders.csv"), here)))["label"]
    assert (set(labels.drop_null().to_pylist()), labels.null_count) == ({"fine", "fraud"}, 120)
    assert source.rejects.kept == []


def test_a_word_for_null_is_a_class_where_it_is_named_or_may_be_one(here: Path) -> None:
    write(here / "orders.csv", HEADER + "".join(line(n, ["fine", "fraud", "NA", "none"][n % 4]) for n in range(200)))
    init("shop", "--from", "orders.csv", "--yes", "--classes", "fine,fraud,na,none")
    assert params.load(here / "shop").tasks["label"].classes == ["fine", "fraud", "na", "none"]
    init("other", "--from", "orders.csv", "--yes")
    assert params.load(here / "other").tasks["label"].classes == ["fine", "fraud", "none"]


def test_equal_rows_without_an_id_are_counted_and_the_setting_that_keeps_them_is_named(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{n % 5},{['x', 'y', 'z'][n % 3]},{['a', 'b'][n % 2]}\n" for n in range(90)]  # thirty different ones
    rows.append("0,x,\n")  # its label is another
    write(here / "sold.csv", "size,colour,label\n" + "".join(rows))
    said = init("shop", "--from", "sold.csv", "--no-id", "--no-time", "--yes")
    sentence = (
        "Rows equal to an earlier one: 60 of 91; they are counted and left out. events.on_duplicate: quarantine in "
        "params.yaml keeps them all."
    )
    assert sentence in said.splitlines()
    project = Project(here / "shop")
    text = (project.root / "params.yaml").read_text(encoding="utf-8")
    for rule, kept, copies in (("keep_first", 31, 60), ("quarantine", 91, None)):
        write(project.root / "params.yaml", text.replace("on_duplicate: keep_first", f"on_duplicate: {rule}"))
        with own_modules():
            fetch(Project(project.root))
            ingest(Project(project.root))
        ledger = read_ledger(Project(project.root), "ingest")
        assert (ledger.rows_in, ledger.rows_out, ledger.copies) == (91, kept, copies)
    init("keyed", "--from", "orders.csv", "--yes")
    assert "Rows equal to" not in said.replace(sentence, "")


def test_a_column_that_is_renamed_between_files_is_named(here: Path) -> None:
    for number, (amount, extra) in enumerate([("amount", ""), ("amount", ""), ("amount_kzt", ",city")]):
        rows = [f"o{number}{n:03},c{n % 9},{n * 37 % 500 + 20}.5{extra and ',Bonn'}\n" for n in range(90)]
        write(here / f"in/{number}.csv", f"id,customer,{amount}{extra}\n{''.join(rows)}")
    said = init("shop", "--from", "in/*.csv", "--classes", "a,b", "--yes").splitlines()
    found = [line for line in said if "under another name" in line]
    assert found == ["Column amount_kzt of 2.csv seems to be amount under another name; if it is, rename it there."]


def test_labels_alone_are_refused_and_so_is_a_value_that_is_too_long_for_a_class(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("outcome\n" + "won\nlost\n" * 30, encoding="utf-8")
    with pytest.raises(UserError, match="All columns are labels"):
        choose(infer(tmp_path / "a.csv"), Wishes(labels=("outcome",)))
    with pytest.raises(
        UserError, match="has a value of 101 characters, and one that stands for a class has at most 100"
    ):
        classes_of(["a", "x" * 101], "outcome")
