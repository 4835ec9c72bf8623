"""Five walks from an empty folder with nothing but `weakfish`, what it prints, and the Python API."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import walked
from wheels import Environment, install

LOG = "client,ident,user,at,zone,request,status,size,referer,agent"
"""The fields of a line of the combined log format, whose time falls into two."""

COUNTS = "import json, weakfish; print(json.dumps(weakfish.open('.').{}))"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return install(tmp_path_factory.mktemp("walks"))


@pytest.fixture
def walk(environment: Environment, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Run `weakfish` in the folder of the walk, or in the project once that is there; what it prints."""

    def command(*arguments: str, code: int = 0) -> str:
        folder = tmp_path if arguments[0] == "init" else tmp_path / "mine"
        done = environment.run(folder, "weakfish", *arguments)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "Traceback" not in said
        return " ".join(said.split())

    yield command
    if (tmp_path / "mine").is_dir():
        environment.run(tmp_path / "mine", "weakfish", "online", "stop")


@pytest.fixture
def ask(environment: Environment, tmp_path: Path) -> Callable[[str], object]:
    """Ask the Python API, `weakfish.open(".").<question>`, for what goes into JSON."""
    return lambda question: json.loads(environment.must(tmp_path / "mine", "python", "-c", COUNTS.format(question)))


def test_payments_are_judged_by_their_gold_and_a_renamed_column_is_named(
    walk: Callable[..., str], ask: Callable[[str], object], tmp_path: Path
) -> None:
    walked.payments(tmp_path / "cards", (1, 2, 3))
    said = walk("init", "mine", "--from", "cards/*.csv", "--label", "fraud=is_fraud", "--entity", "card", "--yes")
    assert "6 files (csv), 7 columns, 2,400 rows" in said
    said = walk("run")
    assert re.search(r"the labels of fraud have an F1 of 0\.[5-9]", said)  # one in fifty is a fraud, and dev gold tells
    assert "no better than chance" not in said
    assert "Nothing to do" not in said
    assert ask("events.pandas()['country'].eq('NA').sum().item()") > 500  # type: ignore[operator]
    tried = walk("lf", "try", "labeling_functions/fraud.py")
    assert all(word in tried for word in ("lift", "precision", "recall", "amount_is_high", "country_is_na"))
    assert walk("online", "get", "card=c0001").count("card_activity") >= 1

    walked.payments(tmp_path / "cards", (4,), amount="amount_kzt")
    said = walk("run", code=1)
    first = said.partition("Failed: ")[2]
    assert "2025-04-a.csv and 1 more file have no column amount, amount_kzt seems to be it under a new name" in first
    assert "have no column amount" in walk("status")
    walked.payments(tmp_path / "cards", (4,))
    assert "is not fit for use" not in walk("run")
    assert ask("events.__len__()") == 3200


def test_tweets_keep_their_ids_and_nested_users_are_columns(
    walk: Callable[..., str], ask: Callable[[str], object], tmp_path: Path
) -> None:
    walked.tweets(tmp_path / "tweets.jsonl")
    roles = ("--entity", "user_screen_name", "--text", "text", "--classes", "mood=sad,glad")
    said = walk("init", "mine", "--from", "tweets.jsonl", *roles, "--yes")
    assert "1 file (jsonl), 7 columns, 900 rows" in said
    assert "created_at" in said
    walk("run")
    ids = ask("events.pandas(['id'])['id'].astype(str).tolist()")
    assert sorted(ids) == sorted(str(567_900_433_542_488_064 + 7 * number) for number in range(900))  # type: ignore[call-overload]
    assert set(ask("events.columns")) >= {"user_screen_name", "user_followers", "user_verified"}  # type: ignore[call-overload]
    assert "nobody knows" in walk("status") or "no gold" in walk("status")
    assert "567900433542488064" in walk("explain", "567900433542488064")


def test_a_servers_log_is_read_with_flags_that_the_first_try_names(
    walk: Callable[..., str], ask: Callable[[str], object], tmp_path: Path
) -> None:
    walked.access_log(tmp_path / "access.log")
    assert "--format" in walk("init", "mine", "--from", "access.log", "--yes", code=2)
    how = ("--format", "csv", "--delimiter", " ", "--header", LOG, "--time-format", "at=[%d/%b/%Y:%H:%M:%S")
    without = [word for name in ("ident", "user", "zone") for word in ("--leave-out", name)]
    roles = ("--time", "at", "--entity", "client", "--text", "request", "--classes", "probe=visit,probe")
    said = walk("init", "mine", "--from", "access.log", *how, *without, *roles, "--yes")
    assert "1 file (csv), 10 columns, 1,200 rows" in said
    assert "is empty" not in walk("run")  # DVC warns of each folder of gold labels
    assert ask("events.__len__()") == 1200
    assert ask("events.pandas()['request'].str.startswith('GET /').all().item()") is True
    assert ask("events.pandas(['at'])['at'].min().isoformat()") == "2025-01-01T00:00:00+00:00"
    assert "10.0.0.7" in walk("online", "get", "client=10.0.0.7")


def test_tickets_of_an_office_program_keep_accents_dates_and_amounts(
    walk: Callable[..., str], ask: Callable[[str], object], tmp_path: Path
) -> None:
    walked.tickets(tmp_path / "tickets.csv")
    roles = ("--label", "art=art", "--entity", "kunde", "--text", "text")
    said = walk("init", "mine", "--from", "tickets.csv", *roles, "--yes")
    assert "cp1252 is a guess" in said
    assert "decimal comma" in said
    walk("run")
    rows = list(csv.DictReader((tmp_path / "tickets.csv").read_text(encoding="cp1252").splitlines(), delimiter=";"))
    expected = round(sum(float(row["Betrag"].replace(",", ".")) for row in rows), 2)
    assert ask("events.pandas(['betrag'])['betrag'].sum().round(2).item()") == expected
    assert ask("events.pandas(['text'])['text'].str.contains('Straße|Größe').sum().item()") == sum(
        "Straße" in row["Text"] or "Größe" in row["Text"] for row in rows
    )
    assert ask("events.pandas()['eröffnet'].max().isoformat()").startswith("2025-03-25")  # type: ignore[attr-defined]
    assert "dev: accuracy" in walk("run", "--force", "label")


def test_a_table_without_times_says_what_it_cannot_have_and_counts_copies_once(
    walk: Callable[..., str], ask: Callable[[str], object], tmp_path: Path
) -> None:
    walked.flats(tmp_path / "flats.tsv")
    said = walk("init", "mine", "--from", "flats.tsv", "--classes", "price=cheap,dear", "--yes")
    assert "No column holds event times" in said
    said = walk("run")
    assert ask("events.__len__()") == 500
    assert "3 " in walk("quarantine", "list")
    assert ask("training().__len__()") == 500
