"""Files that nobody cleaned: `weakfish init` makes a project of each and accounts for all rows, or says why not.

Tables of odd names and values are written as CSV, JSON and Parquet, whole or spoiled, compressed or not. What `init`
accepts is fetched and ingested, and some of it judged. Messages go through the demo's reader of mail.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
from in_process import own_modules, run_here
from projects import REPOSITORY
from spoiling import SPICES, packed, spoiled

from weakfish.errors import CheckFailed, UserError, WeakfishError
from weakfish.project.paths import Project

MEGABYTES = 1500
"""How much more than before a small file may take."""

NAMES = ("id", "Id", "order id", "at", "date", "Zeit", "amount", "Summe €", "class", "from", "import", "None", "note")
NAMES += (
    "text",
    "client.ip",
    "a/b",
    'q"uote',
    "it's",
    "{{x}}",
    "${y}",
    "%s",
    "",
    " ",
    "é" * 70,
    "名前",
    "1st",
    "_",
    "row_id",
)
TEXTS = ("", " ", "a", "b", "spam", "ham", "hello world, this is text", "NA", "null", "None", "NaN", "-", "true", "no")
TEXTS += (
    "0",
    "007",
    "1,234.50",
    "1.234,50",
    "12%",
    "$5",
    "1e999",
    "9" * 30,
    "2024-01-05",
    "05/06/2024",
    "31.12.1999 23:59",
)
TEXTS += (
    "2024-01-05T10:00:00Z",
    "0000-00-00",
    "9999-12-31",
    "12:30",
    "[1, 2]",
    '{"a": 1}',
    "<b>x</b>",
    "\u202eabc",
    "ß\u2028",
)
TEXTS += ("x" * 5000, "=cmd()", "\\N", "a\nb", 'say "x"', "tab\there", "\x00", "\ufeff", "😀")

Case = Callable[[random.Random], str]
Table = dict[str, list[Any]]


@contextlib.contextmanager
def cases(folder: Path) -> Iterator[Case]:
    """Try one file."""
    sys.path.append(str(REPOSITORY))
    with own_modules(REPOSITORY):
        from sources.mail import MailSource
        from sources.mail_message import read_message

    def mail(draw: random.Random) -> str:
        raw = spoiled(_message(draw), draw)
        schema = pa.schema([field for field in MailSource.schema if field.name not in ("label", "message_id")])
        row = read_message(raw, "salt", 500)
        pa.RecordBatch.from_pylist([{name: row.get(name) for name in schema.names}], schema).validate(full=True)
        return "mail, read"

    def one(draw: random.Random) -> str:
        if draw.random() < 0.15:
            return mail(draw)
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        with _bounded_memory():
            return _try(place, draw)

    with contextlib.redirect_stdout(sys.stderr):
        yield one


def _try(folder: Path, draw: random.Random) -> str:
    kind = draw.choice(list(KINDS))
    rows = draw.choice((0, 2, 20, 30, 50, 50, 200, 200))
    table = _table(draw, rows)
    content = KINDS[kind](table, draw)
    whole = draw.random() < 0.4
    name, content = (f"a.{kind}", content) if whole else packed(f"a.{kind}", spoiled(content, draw), draw)
    (folder / name).write_bytes(content)
    root = folder / "project"
    arguments = ["init", str(root), "--from", str(folder / name), "--yes", *_flags(draw, list(table))]
    try:
        run_here(folder, arguments)
    except (WeakfishError, click.ClickException) as error:
        _check_sentence(error)
        print("refused:", error, file=sys.stderr)
        assert not root.exists() or not any(root.iterdir()), "a refused project left files"
        return f"{kind}, refused"
    run_here(root, ["fetch"], ["ingest"])
    ledger = json.loads((root / "reports/ledger/ingest.json").read_text())
    staged = _rows(Project(root).staged("events"))
    assert ledger["rows_out"] == staged, f"{staged} rows are staged, the ledger has {ledger}"
    assert ledger["rows_in"] == staged + (ledger["rejected"] or 0), f"rows are lost: {ledger}"
    if whole and kind == "parquet":
        assert ledger["rows_in"] == rows, f"{rows} rows were written: {ledger}"
    if draw.random() < 0.2:
        _judge(root, staged)
        return f"{kind}, judged"
    return f"{kind}, read"


def _judge(root: Path, staged: int) -> None:
    """Rows that were staged are kept or quarantined, unless the gate is shut."""
    run_here(root, ["validate", "events"])
    try:
        run_here(root, ["accept"])
    except CheckFailed as error:
        _check_sentence(error)
        return
    kept, aside = _rows(root / "data/events"), _rows(root / "data/quarantine/events")
    assert kept + aside == staged, f"{kept} rows kept and {aside} quarantined of {staged}"


def _rows(folder: Path) -> int:
    return sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet"))


def _check_sentence(error: Exception) -> None:
    code = getattr(error, "exit_code", 2)
    said = error.message if isinstance(error, click.ClickException) else str(error)
    assert code in (1, 2), f"exit code {code}: {said}"
    assert isinstance(error, UserError | CheckFailed | click.ClickException), f"{type(error).__name__}: {said}"
    assert re.fullmatch(r"[^\n]+[.?)]", said), f"no sentence: {said!r}"


@contextlib.contextmanager
def _bounded_memory() -> Iterator[None]:
    """Fail where the process's memory grows beyond `MEGABYTES`, for however short a time."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    yield
    assert (grown := _peak() - before) < MEGABYTES, f"took {grown:,} MB"


def _peak() -> int:
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) // 1024


def _flags(draw: random.Random, names: Sequence[str]) -> list[str]:
    flags = ["--classes", "task=a,b"] if draw.random() < 0.8 else []
    for flag, chance in (("entity", 0.15), ("label", 0.15), ("text", 0.05), ("id", 0.05), ("time", 0.05)):
        if draw.random() < chance and names:
            flags += [f"--{flag}", draw.choice(names)]
    flags += draw.choice((*[[]] * 9, ["--no-time"], ["--no-id"], ["--no-entity"], ["--no-label"], ["--no-text"]))
    return flags


def _table(draw: random.Random, rows: int) -> Table:
    """Columns of odd names, each of values of one sort or of several."""
    names = draw.sample(NAMES, draw.randrange(1, 8))
    return {name: _column(draw, rows) for name in names}


def _column(draw: random.Random, rows: int) -> list[Any]:
    few = draw.sample(TEXTS, draw.randrange(1, 5))
    start = datetime(2024, 1, 1, tzinfo=UTC)
    sorts: list[Callable[[int], Any]] = [
        lambda n: f"o{n}",
        lambda n: n,
        lambda _: draw.choice(TEXTS),
        lambda _: draw.choice(few),
        lambda _: draw.random() * 1000,
        lambda _: draw.choice(("a", "b")),
        lambda n: (start + timedelta(hours=7 * n)).isoformat(),
        lambda n: 1_700_000_000 + n * 3600,
        lambda _: draw.random() < 0.5,
        lambda _: " ".join(draw.choice(("buy", "now", "see", "you", "at", "noon")) for _ in range(8)),
    ]
    made = draw.choice(sorts)
    gaps = draw.choice((0, 0, 0.1, 0.9, 1))
    return [None if draw.random() < gaps else made(number) for number in range(rows)]


def _csv(table: Table, draw: random.Random) -> bytes:
    stream = io.StringIO()
    delimiter = draw.choice(",,,;\t|")
    quoting = draw.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC))
    end = draw.choice(("\n", "\n", "\r\n", "\r"))
    lines = csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator=end)
    if draw.random() < 0.9:
        lines.writerow(table)
    lines.writerows(zip(*table.values(), strict=True))
    encoding = draw.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252", "cp1251", "shift_jis"))
    return stream.getvalue().encode(encoding, "replace")


def _records(table: Table) -> list[Mapping[str, Any]]:
    return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]


def _jsonl(table: Table, draw: random.Random) -> bytes:
    lines = []
    for record in _records(table):
        found = {name: value for name, value in record.items() if value is not None or draw.random() < 0.5}
        lines.append(json.dumps(_nested(found, draw), ensure_ascii=draw.random() < 0.5))
    return "\n".join(lines).encode("utf-8", "replace")


def _json(table: Table, draw: random.Random) -> bytes:
    records = [_nested(record, draw) for record in _records(table)]
    document: Any = draw.choice((records, {"data": records}, {"page": 1, "data": {"rows": records}}))
    return json.dumps(document, indent=draw.choice((None, 1))).encode()


def _nested(record: Mapping[str, Any], draw: random.Random) -> Any:
    """Sometimes with values that are lists and objects."""
    if draw.random() < 0.8:
        return record
    inner = draw.choice(([1, "a", None], {}, [], {"x": {"y": {"z": 1}}}, {draw.choice(NAMES): draw.choice(TEXTS)}))
    return {**record, draw.choice(NAMES): inner}


def _parquet(table: Table, draw: random.Random) -> bytes:
    """Some columns are of a type of Parquet's own instead, with names that may be anything."""
    rows = len(next(iter(table.values())))
    arrays = {}
    for name, values in table.items():
        kind = draw.choice([None, None, *TYPES])
        if kind is not None:
            few = [TYPES[kind](draw) for _ in range(draw.choice((1, 5, 50)))]
            values = [draw.choice([None, *few]) for _ in range(rows)]
        try:
            arrays[name] = pa.array(values, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            arrays[name] = pa.array([None if value is None else str(value) for value in values])
    stream = io.BytesIO()
    pq.write_table(
        pa.table(arrays),
        stream,
        compression=draw.choice(("none", "snappy", "zstd", "gzip", "brotli", "lz4")),
        use_dictionary=draw.random() < 0.7,
        row_group_size=draw.choice((7, 1000)),
        data_page_version=draw.choice(("1.0", "2.0")),
        write_page_checksum=draw.random() < 0.5,
        store_schema=draw.random() < 0.7,
    )
    return stream.getvalue()


def _moment(draw: random.Random) -> datetime:
    return datetime(1, 1, 1) + timedelta(seconds=draw.randrange(9998 * 365 * 86400))


def _text(draw: random.Random) -> str:
    return draw.choice(TEXTS)


TYPES: dict[pa.DataType, Callable[[random.Random], Any]] = {
    pa.null(): lambda _: None,
    pa.bool_(): lambda draw: draw.random() < 0.5,
    pa.int8(): lambda draw: draw.randrange(-128, 128),
    pa.uint64(): lambda draw: draw.choice((0, 1, 2**63, 2**64 - 1)),
    pa.int64(): lambda draw: draw.choice((-(2**63), 2**63 - 1, 0, 2**53 + 1)),
    pa.float16(): lambda draw: draw.choice((0.0, 1.5, float("nan"), float("inf"))),
    pa.float32(): lambda draw: draw.choice((0.1, -0.0, float("nan"), float("-inf"))),
    pa.float64(): lambda draw: draw.choice((5e-324, 1e308, float("nan"), float("inf"), 1 / 3)),
    pa.decimal128(38, 9): lambda draw: Decimal(draw.randrange(-(10**20), 10**20)) / 7,
    pa.decimal256(60, 0): lambda draw: Decimal(draw.randrange(10**18)),
    pa.string(): _text,
    pa.large_string(): _text,
    pa.string_view(): _text,
    pa.binary(): lambda draw: draw.choice(SPICES),
    pa.binary(4): lambda draw: draw.randbytes(4),
    pa.date32(): lambda draw: _moment(draw).date(),
    pa.date64(): lambda draw: _moment(draw).date(),
    pa.time32("s"): lambda draw: time(draw.randrange(24), 5),
    pa.time64("us"): lambda draw: time(draw.randrange(24), 5, 7),
    pa.timestamp("s"): _moment,
    pa.timestamp("us", "Asia/Almaty"): lambda draw: _moment(draw).replace(tzinfo=UTC),
    pa.timestamp("ns", "UTC"): lambda draw: datetime(1970 + draw.randrange(200), 1, 2, tzinfo=UTC),
    pa.duration("us"): lambda draw: timedelta(seconds=draw.randrange(10**6)),
    pa.list_(pa.int64()): lambda draw: [1] * draw.randrange(4),
    pa.list_(pa.list_(pa.string())): lambda draw: [[_text(draw)], None],
    pa.list_(pa.float32(), 2): lambda draw: [draw.random(), 1.0],
    pa.struct({"a": pa.int64(), "b c": pa.string()}): lambda draw: {"a": 1, "b c": _text(draw)},
    pa.struct({"x": pa.struct({"y": pa.list_(pa.date32())})}): lambda _: {"x": {"y": [date(2024, 1, 1)]}},
    pa.map_(pa.string(), pa.int64()): lambda draw: [(_text(draw), 1)],
    pa.list_(pa.struct({"n": pa.string()})): lambda draw: [{"n": _text(draw)}],
    pa.dictionary(pa.int32(), pa.string()): _text,
}
KINDS: dict[str, Callable[[Table, random.Random], bytes]] = {
    "csv": _csv,
    "tsv": _csv,
    "jsonl": _jsonl,
    "json": _json,
    "parquet": _parquet,
}


def _message(draw: random.Random) -> bytes:
    """A mail of parts, in odd encodings, with HTML that does not end."""
    subject = draw.choice((b"lunch", b"=?utf-8?B?w6k=?=", b"=?x?Q?=ZZ?=", b"\xff\xfe", b"=?utf-8?Q?" + b"=C3" * 50))
    head = b"From: Ann <ann@example.org>\nSubject: " + subject + b"\nDate: Tue, 3 Sep 2002 10:00:00 +0200\n"
    head += b"Received: from mx (mx [8.8.4.4]) by in; Tue, 3 Sep 2002 10:00:00 +0200\n" * draw.randrange(3)
    texts = (
        b"See you at noon.",
        b"<p>hi <b>there",
        b"<a " * 300,
        b"<!--" * 200,
        b"&#" * 300,
        b"<x y='" * 99,
        b"a" * 9000,
    )
    kinds = (b"text/plain", b"text/html; charset=utf-8", b"text/html; charset=no-such", b"image/gif", b"x")
    coding = draw.choice(
        (b"", b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: quoted-printable\n")
    )

    def part() -> bytes:
        return b"Content-Type: " + draw.choice(kinds) + b"\n" + coding + b"\n" + draw.choice(texts) + b"\n"

    if draw.random() < 0.5:
        return head + part()
    parts = b"".join(b"--cut\n" + part() for _ in range(draw.randrange(5)))
    return head + b'Content-Type: multipart/mixed; boundary="cut"\n\n' + parts + draw.choice((b"--cut--\n", b""))
