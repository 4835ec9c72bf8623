"""A columnar labeling function votes on one row as in a column: on the real corpus and on rows made to differ."""

from __future__ import annotations

import importlib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from snorkel.labeling import LabelingFunction

from sources.mail import MailSource
from weakfish.engine import duckdb as compute
from weakfish.labeling.workers import Applied
from weakfish.rules import ABSTAIN, ColumnarLabelingFunction
from weakfish.rules.loading import Classes

FOLDER = Path(__file__).resolve().parent.parent / "labeling_functions"
SCHEMA = pa.schema([field for field in MailSource.schema if field.name not in MailSource.gold.values()])
CLASSES = ("ham", "spam")
SAMPLED = 4
"""Real rows per vote of a function."""

LONG = 100_000
TEXTS = (
    None,
    "",
    " ",
    "\n\r\n\t",
    "free viagra",
    "FREE VIAGRA NOW!!!",
    "ſex and caſh, ſafe income",
    "250 \u212a (kelvin), \u212aernel, \u212aMail",
    "İNSURANCE İN İSTANBUL, ı and I",
    "STRAẞE straße GROẞ",
    "прошу купить 12345",
    "ａｄｖ: ｆｒｅｅ",
    "word \u0301 combining, e\u0301 and é",
    "nothing\u00a0but\u00a0odd\u2003spaces\u3000click\u00a0here",
    "🐟 $1,000,000 🐟",
    "a\x00b remove me",
    "%_%' OR 1=1 -- \\ \\d [a-z]",
    "> quoted\r\nAnna wrote:\r\n> more",
    "line\u2028break> x\u0085wrote:",
    "x" * LONG,
    "free " * (LONG // 5),
    "!" * LONG,
    "Re: Re: [list] subject 98765",
    "click\nhere\nto be\nremoved",
)


def functions() -> list[LabelingFunction]:
    modules = [f"labeling_functions.{file.stem}" for file in sorted(FOLDER.glob("[!_]*.py"))]
    members = [member for name in modules for member in vars(importlib.import_module(name)).values()]
    return [member for member in members if isinstance(member, LabelingFunction)]


COLUMNAR = [function for function in functions() if isinstance(function, ColumnarLabelingFunction)]
ROW = [function for function in functions() if not isinstance(function, ColumnarLabelingFunction)]


def edge_rows() -> pa.Table:
    """A row of nulls, and one per text in which every column of text holds it and the other columns are extreme."""
    far = [datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC), None]
    now = datetime(2002, 9, 1, tzinfo=UTC)
    rows: list[dict[str, object]] = [dict.fromkeys(SCHEMA.names) | {"message_id": "nulls"}]
    for number, text in enumerate(TEXTS):
        row: dict[str, object] = {}
        for field in SCHEMA:
            if pa.types.is_string(field.type):
                row[field.name] = text
            elif pa.types.is_boolean(field.type):
                row[field.name] = (True, False, None)[number % 3]
            elif pa.types.is_integer(field.type):
                row[field.name] = (0, 2**31 - 1, -(2**31), None)[number % 4]
        times = {"received_at": now if number % 5 else None, "sent_at": (*far, now)[number % 4]}
        rows.append(row | times | {"message_id": f"edge {number}"})
    return pa.Table.from_pylist(rows, SCHEMA)


@pytest.fixture(autouse=True)
def _schema(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in COLUMNAR:
        monkeypatch.setattr(function, "schema", SCHEMA)


@pytest.fixture(scope="module")
def real(events: pa.Table) -> tuple[pa.Table, dict[str, np.ndarray]]:
    """The events of the corpus, and the votes of every columnar function on all of them."""
    return events, column_votes(events)


def column_votes(rows: pa.Table) -> dict[str, np.ndarray]:
    classes = {function.name: Classes("spam", CLASSES) for function in COLUMNAR}
    applied = Applied(compute.connect(), COLUMNAR, rows.schema.remove_metadata(), "message_id", classes)
    return {name: votes for name, (votes, _) in applied.to(lambda: [rows]).items()}


@pytest.mark.parametrize("function", COLUMNAR, ids=lambda function: function.name)
def test_a_columnar_function_votes_on_one_row_as_on_the_column(
    function: ColumnarLabelingFunction, real: tuple[pa.Table, dict[str, np.ndarray]]
) -> None:
    rows, votes = real[0], real[1][function.name]
    generator = np.random.default_rng(1)
    strata = [np.flatnonzero(votes == vote) for vote in np.unique(votes)]
    sample = np.concatenate([generator.permutation(stratum)[:SAMPLED] for stratum in strata])
    one_by_one = [function(row) for row in rows.take(sample).to_pylist()]
    assert one_by_one == votes[sample].tolist()


def test_columnar_functions_agree_with_themselves_on_edge_rows() -> None:
    rows = edge_rows()
    one_by_one = {function.name: [function(row) for row in rows.to_pylist()] for function in COLUMNAR}
    assert one_by_one == {name: votes.tolist() for name, votes in column_votes(rows).items()}


@pytest.mark.parametrize("function", ROW, ids=lambda function: function.name)
def test_a_row_function_votes_on_edge_rows_without_raising(function: LabelingFunction) -> None:
    votes = {function(pd.Series(row, dtype=object)) for row in edge_rows().to_pylist()}
    assert votes <= {ABSTAIN, *range(len(CLASSES))}


def test_a_row_of_nulls_gets_no_vote_for_spam() -> None:
    nulls = edge_rows().slice(0, 1).to_pylist()[0]
    assert {function.name for function in COLUMNAR if function(nulls) != ABSTAIN} == set()
    assert {function.name for function in ROW if function(SimpleNamespace(**nulls)) != ABSTAIN} == set()


@pytest.mark.parametrize(
    ("name", "subject", "body", "vote"),
    [
        ("subject_ends_in_noise", "Cheap toner qxzjw", "", 1),
        ("subject_ends_in_noise", "Re: question about tcpd", "", ABSTAIN),
        ("links_to_unnamed_host", "", "Look at http://10.1.2.3/offer", 1),
        ("links_to_unnamed_host", "", "Look at http://example.org:80/a", ABSTAIN),
        ("links_to_unnamed_host", "", "Broken: http://[::1 and http://example.org:port/", 1),
        ("talks_about_you", "", "You and your home. " * 6, 1),
        ("text_shouts", "", "BUY THIS FINE HOUSE " * 8, 1),
        ("text_is_not_latin", "", "купите сейчас " * 5, 1),
        ("wraps_lines_by_hand", "", ("a line that someone filled to about seventy columns in an editor\n") * 4, 0),
    ],
)
def test_a_row_function_finds_what_it_is_named_after(name: str, subject: str, body: str, vote: int) -> None:
    function = next(function for function in ROW if function.name == name)
    assert function(SimpleNamespace(subject=subject, body=body)) == vote


def test_every_function_says_why_it_should_work_and_has_a_name_of_its_own() -> None:
    assert len(COLUMNAR) >= 16
    assert len(ROW) >= 2
    for function in functions():
        doc = function.__doc__ if isinstance(function, ColumnarLabelingFunction) else function._f.__doc__
        assert doc, function.name
    assert max(Counter(function.name for function in functions()).values()) == 1


def test_no_function_looks_at_the_identity_of_a_message(real: tuple[pa.Table, dict[str, np.ndarray]]) -> None:
    rows = real[0].slice(0, 500)
    names = ["message_id", "sender", "relay_ip"]
    hidden = rows
    for name in names:
        hidden = hidden.set_column(hidden.column_names.index(name), name, pa.nulls(rows.num_rows, pa.string()))
    before, after = column_votes(rows), column_votes(hidden)
    assert all((before[name] == after[name]).all() for name in before)
