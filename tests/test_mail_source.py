"""The reader of the mail corpus, on messages written by hand."""

from __future__ import annotations

import email.message
import hashlib
import io
import json
import tarfile
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sources import mail_text
from sources.mail import MailSource
from sources.mail_message import read_message
from sources.mail_text import HtmlText, decode_text, decode_words
from weakfish.errors import ParamsError, SourceError

SETTINGS: dict[str, Any] = {
    "package": {"name": "@example/mail", "version": "1.0.0", "sha256": "0" * 64},
    "salt": "pepper",
    "body_characters": 200,
}
MESSAGE = b"From: Ann <Ann@Example.org>\nSubject: lunch\n\nSee you at noon.\n"
HOP = b"Received: from mx.example.net (mx.example.net [8.8.4.4]) by in.example.org; Tue, 3 Sep 2002 10:00:00 +0200\n"


def row(raw: bytes, body_characters: int = 200) -> dict[str, Any]:
    return read_message(raw, "pepper", body_characters)


def html(text: str) -> dict[str, Any]:
    return row(b"Content-Type: text/html; charset=utf-8\n\n" + text.encode())


def multipart(kind: str, *parts: bytes) -> bytes:
    joined = b"".join(b"--cut\n" + part + b"\n" for part in parts)
    return b"Content-Type: multipart/" + kind.encode() + b'; boundary="cut"\n\n' + joined + b"--cut--\n"


def record(raw: bytes, group: str = "easy-ham-1", number: int = 1) -> tuple[str, bytes]:
    key = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    content = {
        "id": f"{number:05d}",
        "group": group,
        "checksum": {"type": "MD5", "value": key},
        "text": raw.decode("utf-8", "replace"),
    }
    return f"package/data/{group}/{number:05d}.{key}.json", json.dumps(content).encode()


def package(raw: Path, *files: tuple[str, bytes]) -> Path:
    tarball = raw / "example-mail-1.0.0.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return tarball


def rows_of(raw: Path) -> list[dict[str, Any]]:
    return [row for batch in MailSource(SETTINGS).read(raw) for row in batch.to_pylist()]


# Times


def test_received_at_is_the_date_of_the_topmost_received_header() -> None:
    older = HOP.replace(b"10:00", b"09:00")
    assert row(HOP + older + MESSAGE)["received_at"] == datetime(2002, 9, 3, 8, tzinfo=UTC)


def test_a_topmost_received_header_that_cannot_be_parsed_is_passed_over() -> None:
    assert row(b"Received: by alias; some day soon\n" + HOP + MESSAGE)["received_at"] == datetime(
        2002, 9, 3, 8, tzinfo=UTC
    )


def test_a_message_without_received_header_has_no_received_at() -> None:
    found = row(b"Date: Tue, 3 Sep 2002 10:00:00 +0200\n" + MESSAGE)
    assert (found["received_at"], found["relay_ip"], found["n_hops"]) == (None, None, None)


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Tue, 3 Sep 2002 10:00:00 -0700 (PDT)", datetime(2002, 9, 3, 17, tzinfo=UTC)),
        ("3 Sep 2002 10:00:00 EST", datetime(2002, 9, 3, 15, tzinfo=UTC)),
        ("Tue, 3 Sep 2002 10:00:00", datetime(2002, 9, 3, 10, tzinfo=UTC)),
        ("Mon, 31 Dec 2001 23:59:60 +0000", datetime(2001, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("Wed, 4 Oct 2028 16:05:01 +0000", datetime(2028, 10, 4, 16, 5, 1, tzinfo=UTC)),
    ],
)
def test_sent_at_is_what_the_sender_claims_in_utc(date: str, expected: datetime) -> None:
    assert row(f"Date: {date}\n\n".encode())["sent_at"] == expected


@pytest.mark.parametrize(
    "date",
    ["Tue, 3 Sep 0102 10:00:00 +0000", "Tue, 31 Feb 2002 10:00:00", "yesterday", "", "1 Jan 99999 0:0", "\xff;" * 9],
)
def test_a_date_that_no_calendar_has_is_null(date: str) -> None:
    assert row(f"Date: {date}\n\n".encode("latin-1"))["sent_at"] is None


# Who sent it, and through whom


def test_the_sender_is_a_salted_hash_that_does_not_depend_on_case() -> None:
    lower, upper = row(b"From: ann@example.org\n\n"), row(b"From: ANN@EXAMPLE.ORG\n\n")
    assert lower["sender"] == upper["sender"] == row(MESSAGE)["sender"] == "440b19ce628c68fb6a48f8a90b3ee49c"
    assert lower["sender"] != read_message(MESSAGE, "salt", 200)["sender"]


@pytest.mark.parametrize(
    ("header", "domain"),
    [
        ('"not@this.example" <ann@Example.ORG.>', "example.org"),
        ("ann@[192.0.2.1]", "192.0.2.1"),
        ("ann@bücher.example", "xn--bcher-kva.example"),
        ("ann@..", None),
        ('"" <>', None),
        ("Ann", None),
    ],
)
def test_the_domain_of_a_sender_is_a_host_name_or_null(header: str, domain: str | None) -> None:
    assert row(f"From: {header}\n\n".encode())["sender_domain"] == domain


def test_reply_to_message_id_mailer_and_priority_are_read() -> None:
    found = row(
        b"Reply-To: <list@Reply.example>\nMessage-ID: <1@id.example>\n"
        b"X-Mailer: Pigeon Post 5.01 (x)\nX-Priority: 1 (High)\n\n"
    )
    assert found["reply_to_domain"] == "reply.example"
    assert found["message_id_domain"] == "id.example"
    assert (found["mailer"], found["priority"]) == ("pigeon post", 1)


def test_the_relay_is_the_last_public_host_before_the_receivers_own() -> None:
    local = b"Received: from localhost (localhost [127.0.0.1]) by in; Tue, 3 Sep 2002 10:00:00 +0200\n"
    fetched = b"Received: from pop.example.com [9.9.9.9]\n\tby localhost with POP3 (fetchmail-5.9.0); Tue, 3 Sep 2002\n"
    private = b"Received: from gw (gw [10.1.2.3]) by pop.example.com; Tue, 3 Sep 2002 10:00:00 +0200\n"
    own = b"Received: from webnote.net (mail.webnote.net [193.120.211.219]) by in; Tue, 3 Sep 2002 10:00:00 +0200\n"
    claimed = b"Received: from bank.example ([1.1.1.1]) by mx.example.net; Tue, 3 Sep 2002 10:00:00 +0200\n"
    found = row(local + fetched + private + own + HOP + claimed + MESSAGE)
    assert (found["relay_ip"], found["n_hops"]) == ("8.8.4.4", 1)


def test_the_relay_is_the_address_that_was_seen_and_not_the_name_it_gave() -> None:
    assert row(b"Received: from 1.1.1.1 (HELO 1.1.1.1) (8.8.8.8)\n by in with SMTP; x\n\n")["relay_ip"] == "8.8.8.8"


@pytest.mark.parametrize(
    ("headers", "list_id"),
    [
        ("List-Id: Talk about fish <Talk.Example.org>\nList-Post: <mailto:no@other.example>", "talk.example.org"),
        ("List-Id: talk.example.org", "talk.example.org"),
        ("X-Mailing-List: <talk@example.org> archive/latest/7", "talk.example.org"),
        ("List-Post: <mailto:talk@example.org>", "talk.example.org"),
        ("Mailing-List: list talk@example.org; contact talk-owner@example.org", "talk.example.org"),
        ("List-Post: NO\nX-BeenThere: talk@example.org", "talk.example.org"),
        ("Precedence: list", None),
    ],
)
def test_a_list_is_known_by_its_identifier_whichever_header_names_it(headers: str, list_id: str | None) -> None:
    assert row(f"{headers}\n\n".encode())["list_id"] == list_id


def test_recipients_are_the_distinct_addresses_of_to_and_cc() -> None:
    found = row(b'To: a@x.example, "b@x.example" <B@x.example>,\n\tc@x.example\nCc: A@x.example, d@x.example\n\n')
    assert found["n_recipients"] == 4
    assert row(b"To: undisclosed-recipients:;\n\n")["n_recipients"] == 0


# Subjects


@pytest.mark.parametrize(
    ("header", "subject"),
    [
        ("=?iso-8859-1?Q?Gr=FC=DFe?= aus  =?UTF-8?B?S8O2bG4=?=", "Grüße aus Köln"),
        ("=?utf-8?B?S8M=?=\n =?utf-8?B?tmxu?=", "Köln"),
        ("=?no-such-charset?Q?caf=E9_now?=", "café now"),
        ("=?utf-8*en?q?ok?=", "ok"),
        ("=?utf-8?B?b2s*g=?=!", "ok !"),
        ("=?broken?= =?utf-8?X?y?=", "=?broken?= =?utf-8?X?y?="),
        ("two\n\tlines", "two lines"),
    ],
)
def test_subjects_are_decoded_and_folded(header: str, subject: str) -> None:
    assert row(f"Subject: {header}\n\n".encode())["subject"] == subject


def test_raw_8_bit_in_a_header_is_read_as_utf8_or_in_the_charset_of_the_body() -> None:
    body = b"Content-Type: text/plain; charset=koi8-r\n\n"
    assert row(b"Subject: " + "Köln".encode() + b"\n\n")["subject"] == "Köln"
    assert row(b"Subject: " + "мир".encode("koi8-r") + b"\n" + body)["subject"] == "мир"


def test_a_message_without_subject_has_a_null_subject() -> None:
    assert row(b"From: a@b.example\n\nhi")["subject"] is None


# Bodies


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("us-ascii", "Grüße".encode(), "Grüße"),
        ("us-ascii", "Grüße".encode("latin-1"), "Grüße"),
        ("iso-8859-1", "5 € “net”".encode("cp1252"), "5 € “net”"),
        ("iso-8859-1", "bad \ufffd bytes".encode(), "bad \ufffd bytes"),
        ("default", "Grüße".encode("latin-1"), "Grüße"),
        ("gb2312", "机会".encode("gbk") + b"\xff!", "机会\ufffd!"),
        ("unicode_escape", rb"\d\ud800", r"\d\ud800"),
        ("hex", b"beef", "beef"),
        ("a\0b", b"a\0b\r\nc", "ab\nc"),
        (None, b"\x80\x81", "€\ufffd"),
    ],
)
def test_text_is_decoded_whatever_its_charset_claims(charset: str | None, data: bytes, text: str) -> None:
    assert decode_text(data, charset) == text


def test_a_base64_body_is_decoded_as_far_as_it_goes() -> None:
    head = b"Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: BASE64\n\n"
    assert row(head + b64encode("Grüße, Ann".encode()))["body"] == "Grüße, Ann"
    assert row(head + b"R3LD\n!!vMOfZSw")["body"] == "Grüße,"
    assert row(head + b"R3LDvMOfZSwgA")["charset"] == "utf-8"


def test_a_quoted_printable_body_is_decoded() -> None:
    found = row(
        b"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=\n=DFe =ZZ"
    )
    assert found["body"] == "Grüße =ZZ"


def test_html_is_read_as_text_without_scripts_and_styles() -> None:
    found = html(
        "<title>Hi</title><style>p {}</style><p>Via<b>gra</b><!-- no -->ble &amp; <br>more</p>ok<script>x<y</script>"
        "<a href=x>one</a> <a name=y>two</a><img src=z><![if !x]>end"
    )
    assert found["body"] == "Hi\nViagrable &\nmore\nokone twoend"
    assert (found["is_html"], found["n_links"], found["n_images"]) == (True, 1, 1)


def test_html_that_claims_to_be_plain_is_read_as_html() -> None:
    assert row(b"\n \n<HTML><body>hi</body>")["body"] == "hi"
    assert not row(b"\nthe tag <html> opens a page")["is_html"]


def test_links_in_plain_text_are_counted() -> None:
    assert row(b"\nsee http://a.example/ and www.b.example")["n_links"] == 2


def test_of_alternatives_the_plain_one_is_the_body_if_it_says_anything() -> None:
    page = b"Content-Type: text/html\n\n<p>page <a href=x>y</a>"
    found = row(multipart("alternative", b"Content-Type: text/plain\n\nplain", page))
    assert (found["body"], found["is_html"], found["n_links"]) == ("plain", True, 1)
    assert row(multipart("alternative", b"Content-Type: text/plain\n\n  ", page))["body"] == "page y"


def test_attachments_are_noticed_and_not_read() -> None:
    saved = b"Content-Type: text/plain\nContent-Disposition: attachment\n\nsecret"
    image = b"Content-Type: image/gif; name=a.gif\nContent-Transfer-Encoding: base64\n\nR0lGOD=="
    text = b"Content-Type: text/plain; name=note.txt\n\nhi"
    found = row(multipart("mixed", text, saved))
    assert (found["body"], found["has_attachment"], found["content_type"]) == ("hi", True, "multipart/mixed")
    assert row(multipart("mixed", text, image))["has_attachment"]
    assert not row(multipart("mixed", text))["has_attachment"]


def test_a_multipart_message_without_its_boundary_is_read_as_text() -> None:
    assert row(b"Content-Type: multipart/mixed; boundary=here\n\nthere")["body"] == "there"
    assert row(b"Content-Type: multipart/mixed\n\nthere")["body"] == "there"


def test_parts_nested_without_end_are_no_error() -> None:
    nest = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (depth, depth) for depth in range(2000))
    assert row(nest)["content_type"] == "multipart/mixed"


def test_a_message_without_content_type_is_plain_text() -> None:
    found = row(MESSAGE)
    assert (found["body"], found["content_type"], found["charset"]) == ("See you at noon.", "text/plain", None)


def test_the_body_is_cut_to_the_characters_asked_for() -> None:
    assert row(b"\n" + "äöü".encode() * 9, body_characters=4)["body"] == "äöüä"


def test_the_size_is_that_of_the_body_as_it_was_sent() -> None:
    assert row(MESSAGE)["size_bytes"] == len(b"See you at noon.\n")


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_are_an_error(raw: bytes) -> None:
    for head in (b"", b"Subject: ", b"From: ", b"Content-Type: text/html; charset=", b"Received: from "):
        found = row(head + raw)
        assert not any("\0" in value for value in found.values() if isinstance(value, str))
        pa.RecordBatch.from_pylist([found | {"message_id": "", "label": None}], schema=MailSource.schema)


@settings(deadline=None)
@given(st.text())
def test_no_subject_is_an_error(text: str) -> None:
    decode_words(text).encode()


LEAKS = [
    b"X-Keywords: Seen\n",
    b"Delivery-Date: Tue, 3 Sep 2002 10:00:00 +0200\n",
    b"X-MailScanner-SpamCheck: spam\n",
    b"X-Spam-Status: Yes, hits=9.9\n",
    b"X-Spam: spam\n",
    b"In-Reply-To: <1@id.example>\n",
    b"References: <1@id.example>\n\t<2@id.example>\n",
    b"Status: RO\nX-Status: A\n",
    b"Old-Subject: fish\n",
    b"Delivered-To: zed@in.example.org\n",
]


@pytest.mark.parametrize("leak", LEAKS)
def test_headers_that_give_the_answer_away_change_no_column(leak: bytes) -> None:
    message = HOP + MESSAGE
    assert row(leak + message) == row(message)
    assert row(b"From ann@example.org  Tue Sep  3 10:00:00 2002\n" + HOP + leak + MESSAGE) == row(message)


# The package


def test_messages_come_in_the_order_of_their_keys_with_gold_labels_from_their_group(tmp_path: Path) -> None:
    files = [record(MESSAGE + b"%d" % n, "spam-2" if n % 2 else "hard-ham-1", n) for n in range(7)]
    package(tmp_path, ("package/data/data.js", b"no message"), *files)
    rows = rows_of(tmp_path)
    keys = [row["message_id"] for row in rows]
    assert keys == sorted(json.loads(content)["checksum"]["value"] for _, content in files)
    assert sorted(row["label"] for row in rows) == ["ham"] * 4 + ["spam"] * 3


def test_batches_have_the_schema_and_do_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    files = [record(MESSAGE + b"%d" % n, number=n) for n in range(5)]
    package(tmp_path, *files)
    first = list(MailSource(SETTINGS).read(tmp_path))
    package(tmp_path, *reversed(files))
    assert first == list(MailSource(SETTINGS).read(tmp_path))
    assert [batch.schema for batch in first] == [MailSource.schema]
    assert MailSource.gold["spam"] in MailSource.schema.names


def test_a_group_that_names_no_class_has_no_label(tmp_path: Path) -> None:
    package(tmp_path, record(MESSAGE, "new"))
    assert [row["label"] for row in rows_of(tmp_path)] == [None]


def test_where_json_lost_characters_the_original_bytes_are_read(tmp_path: Path) -> None:
    raw = b"Content-Type: text/plain; charset=koi8-r\n\n" + "мир".encode("koi8-r")
    name, content = record(raw)
    package(tmp_path, (name, content))
    assert "\ufffd" in rows_of(tmp_path)[0]["body"]
    for files in ([(name, content), (name[:-4] + "txt", raw)], [(name[:-4] + "txt", raw), (name, content)]):
        package(tmp_path, *files)
        assert [row["body"] for row in rows_of(tmp_path)] == ["мир"]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"group": "spam-1"}', b'{"group": 1, "checksum": 2, "text": 3}'])
def test_a_member_that_is_no_message_is_named(tmp_path: Path, content: bytes) -> None:
    package(tmp_path, ("package/data/spam-1/00007.abc.json", content))
    with pytest.raises(SourceError, match=r"package/data/spam-1/00007\.abc\.json"):
        rows_of(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_package_is_named(tmp_path: Path, kept: float) -> None:
    noise = [record(MESSAGE + hashlib.sha512(b"%d" % n).hexdigest().encode() * 40, number=n) for n in range(20)]
    tarball = package(tmp_path, *noise)
    whole = tarball.read_bytes()
    tarball.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(SourceError, match=r"example-mail-1\.0\.0\.tgz is cut off or damaged"):
        rows_of(tmp_path)


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"example-mail-1\.0\.0\.tgz is missing"):
        rows_of(tmp_path)


def test_a_package_without_messages_is_an_error(tmp_path: Path) -> None:
    package(tmp_path, ("package/README.md", b"hello"))
    with pytest.raises(SourceError, match="holds no messages"):
        rows_of(tmp_path)


# Settings


def test_the_environment_goes_before_the_salt_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, record(MESSAGE))
    plain = rows_of(tmp_path)[0]["sender"]
    monkeypatch.setenv("WEAKFISH_SALT", "of the sea")
    salted = rows_of(tmp_path)[0]["sender"]
    assert plain == row(MESSAGE)["sender"]
    assert salted == read_message(MESSAGE, "of the sea", 200)["sender"] != plain


@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        ({"package": SETTINGS["package"], "salt": "x"}, "source.body_characters is missing"),
        (SETTINGS | {"body_characters": "4000"}, "source.body_characters must be a int"),
        (SETTINGS | {"body_characters": True}, "source.body_characters must be a int"),
        (SETTINGS | {"body_characters": 0}, "source.body_characters must be 1 or more"),
        (SETTINGS | {"salt": ""}, "source.salt must be a str"),
        (SETTINGS | {"colour": "red"}, "source.colour is not a setting"),
        (SETTINGS | {"package": "mail"}, "source.package must be a dict"),
        (SETTINGS | {"package": {"name": "mail", "version": "1.0.0"}}, "source.package.sha256 is missing"),
        (SETTINGS | {"package": SETTINGS["package"] | {"version": 1.0}}, "source.package.version must be a str"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(chosen: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ParamsError, match=f"params.yaml: {complaint}"):
        MailSource(chosen)


@pytest.mark.parametrize(
    "unit", ["<a ", "<a b='", '<a b="c" ', "<!--", "<![x", "<!x", "</", "</a ", "<?x", "&", "<b>", "<i", "< "]
)
@pytest.mark.parametrize("begin", ["", "<script>", "<style>x</style"])
def test_html_twice_as_long_is_twice_the_work(begin: str, unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is what is left of the text each time that the parser looks for the end of something."""
    looked: list[int] = []

    def counted(look: Callable[[HtmlText, int], int]) -> Callable[[HtmlText, int], int]:
        def measured(self: HtmlText, at: int, *more: int) -> int:
            end = look(self, at, *more)
            looked.append((len(self.rawdata) if end < 0 else end) - at)
            return end

        return measured

    monkeypatch.setattr(mail_text, "UNFINISHED_WORK", 20_000)
    for name in ("starttag", "endtag", "comment", "html_declaration", "bogus_comment", "pi"):
        monkeypatch.setattr(HtmlText, f"parse_{name}", counted(getattr(HtmlText, f"parse_{name}")))

    def work(times: int) -> int:
        looked.clear()
        HtmlText(begin + unit * times)
        return sum(looked)

    assert work(2000) <= 2.5 * work(1000) + 1000


def test_text_after_a_comment_that_does_not_end_is_read() -> None:
    html = HtmlText("<p>one<!-- two" + "<p>three <a href='x'>link</a>" * 200)
    assert html.n_links == html.text.count("three link") == 200


def test_a_header_with_parameters_twice_as_long_is_twice_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard parser looks from each semicolon back to the start."""
    looked: list[int] = []
    parse = email.message._parseparam

    def measured(text: str) -> list[str]:
        looked.append(len(text) * text.count(";"))
        return parse(text)

    monkeypatch.setattr(email.message, "_parseparam", measured)

    def work(times: int) -> int:
        looked.clear()
        row(f'Content-Type: multipart/mixed; x="{";" * times}\n\n<a href=x>\n'.encode())
        return sum(looked)

    assert 0 < work(40_000) <= 2.5 * work(20_000)
