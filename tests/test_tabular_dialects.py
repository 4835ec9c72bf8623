"""Files of delimited text as programs write them: Excel, MySQL, exports with titles, comments, commas for points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tabular import put, read

COLUMNS = {"id": "string", "kind": "string", "price": "number"}
ROWS = [("a1", "new", 1.5), ("a2", "old", 20.0), ("a3", "new", 1234.25)]
LINES = "a1,new,1.5\na2,old,20\na3,new,1234.25\n"


def rows_of(folder: Path, content: str, **settings: Any) -> tuple[list[tuple[Any, ...]], list[str]]:
    """The rows of one file, and what is said of it as a whole."""
    put(folder, "a.csv", content)
    rows, rejects = read(folder, columns=COLUMNS, key="id", time=None, **settings)
    assert {reject.kind for reject in rejects} <= {"file"}
    return [(row["id"], row["kind"], row["price"]) for row in rows], [reject.reason for reject in rejects]


@pytest.mark.parametrize(
    "content",
    [
        "id,kind,price\n" + LINES,
        "sep=;\nid;kind;price\n" + LINES.replace(",", ";"),
        '"sep=|"\r\nid|kind|price\r\n' + LINES.replace(",", "|").replace("\n", "\r\n"),
        "id\tkind\tprice\n" + LINES.replace(",", "\t"),
        "id,kind,price,,,\n" + LINES.replace("\n", ",,,\n"),
        "id,kind,price,\n" + LINES.replace("\n", ",\n"),
        "id,kind,price\n" + LINES.replace("\n", ",\n"),
        "id,kind,price,,\n" + LINES,
    ],
)
def test_files_are_read_as_they_are_written(tmp_path: Path, content: str) -> None:
    assert rows_of(tmp_path, content) == (ROWS, [])


@pytest.mark.parametrize(
    ("lead", "line"),
    [
        ("# exported by Bob\n", 2),
        ("# id, exported, by\n#\n\n", 4),
        ("Orders of May,,\n,,\n", 3),
        ("Orders\nfrom,to\n2024-05-01,2024-05-31\n\n", 5),
    ],
)
def test_what_stands_before_the_header_is_left_out_and_told_of(tmp_path: Path, lead: str, line: int) -> None:
    rows, said = rows_of(tmp_path, f"{lead}id,kind,price\n{LINES}")
    assert (rows, said) == (ROWS, [f"has its header in line {line}; what stands before it is left out"])


def test_a_header_may_begin_as_a_comment_does(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "#id,kind,price\n" + LINES) == (ROWS, [])


def test_names_can_be_given_to_files_without_a_header_and_lines_skipped(tmp_path: Path) -> None:
    assert rows_of(tmp_path, LINES, header=["id", "kind", "price"]) == (ROWS, [])
    assert rows_of(tmp_path, "x,y\nid,kind,price\n" + LINES, header=["id", "kind", "price"], skip=2) == (ROWS, [])
    assert rows_of(tmp_path, "id,kind,price\nid,kind,price\n" + LINES, skip=1) == (ROWS, [])


def test_fields_without_a_name_that_hold_something_are_told_of(tmp_path: Path) -> None:
    content = ",id,kind,price\n" + "".join(f"{n},{line}\n" for n, line in enumerate(LINES.splitlines()))
    assert rows_of(tmp_path, content) == (ROWS, ["has fields without a name (1); they are left out"])


def test_each_file_has_its_own_delimiter(tmp_path: Path) -> None:
    put(tmp_path, "b.csv", "id;kind;price\nb1;new;7\n")
    rows, said = rows_of(tmp_path, "id,kind,price\n" + LINES)
    assert (rows, said) == ([*ROWS, ("b1", "new", 7.0)], [])
    rows, said = rows_of(tmp_path, "id,kind,price\n" + LINES, delimiter=",")
    assert rows == [*ROWS, ("b1", "new", 7.0)]
    assert said == ["is delimited by ';' and is read so, although source.delimiter is ','"]


def test_decimals_may_stand_behind_a_comma(tmp_path: Path) -> None:
    content = "id;kind;price\na1;new;1,5\na2;old;20\na3;new;1.234,25\n"
    assert rows_of(tmp_path, content, decimal=",") == (ROWS, [])
    put(tmp_path, "a.csv", "id;count;price\na;1.000;1 000,5\nb;2,00;-,5\n")
    columns = {"id": "string", "count": "integer", "price": "number"}
    rows, rejects = read(tmp_path, columns=columns, time=None, decimal=",")
    assert [(row["count"], row["price"]) for row in rows] == [(1000, 1000.5), (2, None)]
    assert [(r.line, r.column, r.text) for r in rejects] == [(3, "price", "-,5")]


def test_backslashes_escape_where_they_are_said_to(tmp_path: Path) -> None:
    put(
        tmp_path,
        "a.tsv",
        'id\tkind\tnote\n1\t\\N\ttab \\\tand \\\nline\n2\tnew\tC:\\\\new, \\\\N and \\n\n3\told\n4\t\\"q\\"\t"x\n',
    )
    columns = {"id": "string", "kind": "string", "note": "string"}
    for quote, last in ((None, [("4", '"q"', '"x')]), ('"', [])):
        rows, rejects = read(tmp_path, columns=columns, time=None, escape="\\", quote=quote)
        assert [(row["id"], row["kind"], row["note"]) for row in rows] == [
            ("1", None, "tab \tand \nline"),
            ("2", "new", "C:\\new, \\N and \n"),
            *last,
        ]
        assert [r.line for r in rejects] == ([5] if last else [5, 6])


def test_quoted_fields_may_hold_escaped_quotes(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", 'id,note\n1,"{\\"a\\": 1, \\"b\\": \\"x\\\\\\"}"\n2,"say \\"no\\""\n')
    rows, rejects = read(tmp_path, columns={"id": "string", "note": "string"}, time=None, escape="\\")
    assert ([row["note"] for row in rows], rejects) == (['{"a": 1, "b": "x\\"}', 'say "no"'], [])
