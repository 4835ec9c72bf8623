"""Files of delimited text as programs write them: Excel, MySQL, exports with titles, comments, commas for points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tabular import put, read

from weakfish.errors import SourceError
from weakfish.sources.tabular import TabularSource, infer
from weakfish.sources.tabular.raw_files import READ

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


@pytest.mark.parametrize("place", range(-3, 3))
def test_a_pair_may_stand_across_what_is_read_at_once(tmp_path: Path, place: int) -> None:
    head = "id\tnote\n1\t"
    filler = "x" * (READ + place - len(head) - 1)
    put(tmp_path, "a.tsv", f"{head}{filler}\\\\\\\ty\n2\tz\n")
    rows, rejects = read(tmp_path, columns={"id": "string", "note": "string"}, time=None, escape="\\")
    assert ([row["note"] for row in rows], rejects) == ([f"{filler}\\\ty", "z"], [])


def test_quoted_fields_may_hold_escaped_quotes(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", 'id,note\n1,"{\\"a\\": 1, \\"b\\": \\"x\\\\\\"}"\n2,"say \\"no\\""\n')
    rows, rejects = read(tmp_path, columns={"id": "string", "note": "string"}, time=None, escape="\\")
    assert ([row["note"] for row in rows], rejects) == (['{"a": 1, "b": "x\\"}', 'say "no"'], [])


def understood(folder: Path, **said: Any) -> tuple[list[tuple[Any, ...]], dict[str, Any], list[str]]:
    """The rows of a folder as what is guessed of it reads them, their columns and types, and the settings."""
    found = infer(folder, said=said)
    reader = TabularSource(found.settings("."))
    rows = pa.Table.from_batches(reader.read(folder), reader.schema).select([c.name for c in found.columns]).to_pylist()
    assert {reject.kind for reject in reader.rejects.kept} <= {"file"}
    assert sum(tally.records for tally in reader.tallies.values()) == len(rows)
    return [tuple(row.values()) for row in rows], {c.name: c.kind for c in found.columns}, list(found.notes)


KINDS = {"id": "string", "kind": "string", "price": "number"}


@pytest.mark.parametrize(
    "content",
    [
        "id,kind,price\n" + LINES,
        "sep=;\nid;kind;price\n" + LINES.replace(",", ";"),
        "# id, exported, by\n# Bob\nid,kind,price\n" + LINES,
        "Orders of May,,\nid,kind,price\n" + LINES,
        "#id,kind,price\n" + LINES,
        "id,kind,price,,,\n" + LINES.replace("\n", ",,,\n"),
        "id,kind,price\n" + LINES.replace("\n", ",\n"),
        "id;kind;price\na1;new;1,5\na2;old;20\na3;new;1.234,25\n",
        "id\tkind\tprice\n" + LINES.replace(",", "\t"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_it_is_guessed_how_a_file_is_written(tmp_path: Path, content: str, encoding: str) -> None:
    put(tmp_path, "a.csv", content.encode(encoding))
    assert understood(tmp_path)[:2] == (ROWS, KINDS)


def test_a_header_that_is_none_is_noticed(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", LINES)
    rows, kinds, notes = understood(tmp_path)
    assert (rows, kinds) == (ROWS, {"column_1": "string", "column_2": "string", "column_3": "number"})
    assert any("--header A,B,... names them" in note for note in notes)
    assert understood(tmp_path, header=("id", "kind", "price"))[:2] == (ROWS, KINDS)
    assert understood(tmp_path, header="first")[0] == ROWS[1:]


def test_a_header_that_is_none_is_noticed_by_words_that_come_again(tmp_path: Path) -> None:
    put(tmp_path, "a.tsv", "".join(f"{('ham', 'spam')[n % 2]}\tsee you{n * '.'}\n" for n in range(9)))
    assert list(understood(tmp_path)[1]) == ["column_1", "column_2"]
    put(tmp_path, "a.tsv", "kind\tnote\n" + "".join(f"{('ham', 'spam')[n % 2]}\tsee you\n" for n in range(9)))
    assert list(understood(tmp_path)[1]) == ["kind", "note"]


def test_files_with_and_without_a_header_are_not_mixed(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "id,kind,price\n" + LINES)
    put(tmp_path, "b.csv", LINES)
    with pytest.raises(SourceError, match=r"b\.csv begins with values, and a\.csv with the names of its columns"):
        infer(tmp_path)


def test_files_with_different_delimiters_are_read_as_one_table(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "id,kind,price\n" + LINES)
    put(tmp_path, "b.csv", "id;kind;price\nb1;new;7.5\n")
    assert understood(tmp_path)[:2] == ([*ROWS, ("b1", "new", 7.5)], KINDS)
    assert "delimiter" not in infer(tmp_path).dialect


def test_dumps_of_mysql_are_known_by_their_escapes(tmp_path: Path) -> None:
    put(tmp_path, "a.tsv", "1\t\\N\ttwo \\\nlines\n2\tnew\tC:\\\\n and \\\t\n3\t\\N\tnone\n")
    rows, kinds, _ = understood(tmp_path, header=("n", "kind", "note"))
    assert rows == [("1", None, "two \nlines"), ("2", "new", "C:\\n and \t"), ("3", None, "none")]
    assert kinds == {"n": "integer", "kind": "string", "note": "string"}
    put(tmp_path, "a.tsv", "n\tfolder\n1\tC:\\Users\\new\n2\t\\N\n")
    assert "escape" not in infer(tmp_path).dialect


def test_quotes_are_text_where_they_are_around_nothing(tmp_path: Path) -> None:
    notes = ['"so she said', '"Great" offer', "see you", 'and "so" on', 'bye"', "call me"] * 50
    put(tmp_path, "a.tsv", "n\tnote\n" + "".join(f"{n}\t{note}\n" for n, note in enumerate(notes)))
    assert understood(tmp_path)[0] == [(str(n), note) for n, note in enumerate(notes)]
    assert infer(tmp_path).dialect["quote"] is None
    put(tmp_path, "a.tsv", "n\tnote\n" + "".join(f'{n}\t"a\t{n}"\n' for n in range(50)) + '50\t"x"y\n51\t"x"y\n')
    assert "quote" not in infer(tmp_path).dialect


def test_what_cannot_be_read_is_a_sentence_with_the_flag_that_helps(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", '"note","n"\n' + "".join(f'"{n}","x",{n}\n' for n in range(9)))
    with pytest.raises(SourceError, match=r"2 names for 3 fields; .* --skip 1 --header row,note,n\.$"):
        infer(tmp_path)
    rows, kinds, _ = understood(tmp_path, skip=1, header=("row", "note", "n"))
    assert (rows[8], kinds["n"]) == (("8", "x", 8), "integer")
    put(tmp_path, "a.csv", "a,b\n1,2,3\n1,2\n1,2,3,4\n"[:10])
    with pytest.raises(SourceError, match=r"a.csv, line 2, has 3 fields instead of 2; --delimiter, --quote, --header"):
        infer(tmp_path)
    put(tmp_path, "a.csv", "a,b\n")
    with pytest.raises(SourceError, match=r"^a.csv has a header and no rows; name files with rows\.$"):
        infer(tmp_path)
