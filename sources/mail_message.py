"""One raw message to one row: what a receiver knows about it at the moment that it arrives.

Only the headers in `HEADERS` are read. Headers that a receiver or a person added afterwards, and headers that
give the answer away in this corpus, therefore reach no column; docs/mail-corpus.md lists them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from email.message import Message
from email.parser import HeaderParser, Parser
from email.policy import Compat32
from typing import Any

from sources import mail_headers as headers_of
from sources.mail_text import HtmlText, decode_text, decode_transfer, decode_words, fold

LIST_HEADERS = ("list-id", "x-beenthere", "x-mailing-list", "list-post", "mailing-list")
HEADERS = frozenset(
    {
        *LIST_HEADERS,
        *("from", "to", "cc", "reply-to", "subject", "date", "message-id", "received"),
        *("content-type", "user-agent", "x-mailer", "x-priority"),
    }
)
DEEPEST_PART = 20

LONGEST_PARAMETERS = 4096
"""Characters that are read of ``Content-Type``: the standard parser takes the square of their number."""


class _Bounded(Compat32):
    """The policy of the standard parser, for a ``Content-Type`` of any length."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        """Cut the header that the parser itself takes apart."""
        name, value = super().header_source_parse(sourcelines)
        return name, value[:LONGEST_PARAMETERS] if name.lower() == "content-type" else value


_POLICY = _Bounded()

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:+-]{1,40})", re.IGNORECASE | re.ASCII)
_FILE_NAME = re.compile(r"\b(?:file)?name\*?[\d*]*\s*=", re.IGNORECASE)
_HTML = re.compile(r"\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_URL = re.compile(r"\b(?:https?://|www\.)[\w-]", re.IGNORECASE)
_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)


@dataclass(frozen=True)
class Part:
    """A readable part of a message: its text, and what its HTML, if it is HTML, holds besides."""

    text: str
    charset: str | None
    is_html: bool
    n_links: int
    n_images: int


def read_message(raw: bytes, salt: str, body_characters: int) -> dict[str, Any]:
    """The columns of a message, without its key and its label.

    Parameters
    ----------
    raw
        The message as it lies in a mailbox; anything at all is accepted.
    salt
        Keys the hash of the sender's address.
    body_characters
        The length to which the body is cut.
    """
    text = raw.decode("latin-1")  # one character a byte: the parser keeps them, and decoding is left to us
    try:
        return _row(Parser(policy=_POLICY).parsestr(text), salt, body_characters)
    except (RecursionError, LookupError, ValueError, TypeError, AttributeError):
        # The standard parser gives up on some broken or endlessly nested structures: the rest is read as one text.
        return _row(HeaderParser(policy=_POLICY).parsestr(text), salt, body_characters)


def _row(message: Message, salt: str, body_characters: int) -> dict[str, Any]:
    parts = _readable(message)
    charset = next((part.charset for part in parts if part.charset), None)
    headers = _headers(message, charset)

    def first(*names: str) -> str:
        return next((headers[name][0] for name in names if headers.get(name)), "")

    sender = headers_of.author(first("from"))
    relay_ip, n_hops = headers_of.relay(headers.get("received", []))
    leaves = [part for part in message.walk() if not part.is_multipart()]
    body = "\n".join(part.text for part in parts).strip()
    return {
        "received_at": headers_of.received_at(headers.get("received", [])),
        "sent_at": headers_of.parse_date(first("date")),
        "sender": _hashed(sender, salt) if sender else None,
        "sender_domain": headers_of.domain(sender),
        "reply_to_domain": headers_of.domain(headers_of.author(first("reply-to"))),
        "message_id_domain": headers_of.domain(headers_of.author(first("message-id"))),
        "relay_ip": relay_ip,
        "n_hops": n_hops,
        "list_id": headers_of.list_id(value for name in LIST_HEADERS for value in headers.get(name, [])),
        "mailer": headers_of.mailer(first("x-mailer", "user-agent")),
        "priority": headers_of.priority(first("x-priority")),
        "n_recipients": len(headers_of.addresses(", ".join(headers.get("to", []) + headers.get("cc", [])))),
        "subject": fold(decode_words(headers["subject"][0])) if "subject" in headers else None,
        "body": body[:body_characters],
        "is_html": any(part.is_html for part in parts),
        "n_links": sum(part.n_links for part in parts),
        "n_images": sum(part.n_images for part in parts),
        "has_attachment": any(_is_attachment(leaf) for leaf in leaves),
        "size_bytes": sum(len(_payload(leaf)) for leaf in leaves),
        "charset": charset,
        "content_type": _content_type(message),
    }


def _hashed(address: str, salt: str) -> str:
    key = hashlib.sha256(salt.encode()).digest()
    return hashlib.blake2b(address.encode("utf-8", "replace"), key=key, digest_size=16).hexdigest()


def _headers(message: Message, charset: str | None) -> dict[str, list[str]]:
    """The headers that are read, lower-case name to values; raw 8-bit values are taken to be in the body's charset."""
    headers: dict[str, list[str]] = {}
    for name, value in message.raw_items():
        if name.lower() in HEADERS:
            data = str(value).encode("latin-1")
            headers.setdefault(name.lower(), []).append(decode_text(data, charset))
    return headers


def _readable(part: Message, depth: int = 0) -> list[Part]:
    """The parts that a reader sees, in order."""
    if part.is_multipart() and depth < DEEPEST_PART:
        children = [_readable(child, depth + 1) for child in part.get_payload() if isinstance(child, Message)]
        if part.get_content_type() == "multipart/alternative":
            return _alternative([readable for child in children for readable in child])
        return [readable for child in children for readable in child]
    # A multipart without its boundary has not been split: what it holds is read as text.
    if part.get_content_maintype() in ("text", "multipart") and not part.is_multipart() and not _is_attachment(part):
        return [_text_part(part)]
    return []


def _alternative(choices: list[Part]) -> list[Part]:
    """One of several forms of a text: the first plain one that says anything, with the links that any form holds."""
    saying = [part for part in choices if part.text.strip()]
    if not saying:
        return choices[:1]
    best = next((part for part in saying if not part.is_html), saying[-1])
    return [
        replace(
            best,
            is_html=any(part.is_html for part in choices),
            n_links=max(part.n_links for part in choices),
            n_images=max(part.n_images for part in choices),
        )
    ]


def _text_part(part: Message) -> Part:
    declared = _CHARSET.search(part.get("content-type", ""))
    charset = declared[1].lower() if declared else None
    text = decode_text(decode_transfer(_payload(part), part.get("content-transfer-encoding", "")), charset)
    if part.get_content_subtype() == "html" or _HTML.match(text):
        html = HtmlText(text)
        return Part(html.text, charset, True, html.n_links, html.n_images)
    return Part(text, charset, False, len(_URL.findall(text)), 0)


def _payload(part: Message) -> bytes:
    """What a part without parts holds, as it was sent."""
    payload = part.get_payload()
    return payload.encode("latin-1") if isinstance(payload, str) else b""


def _is_attachment(part: Message) -> bool:
    """Whether a part is meant to be saved rather than read: text needs to say so, other content to have a file name."""
    disposition = part.get("content-disposition", "")
    if part.get_content_maintype() == "text":
        return disposition.strip().lower().startswith("attachment")
    return bool(_FILE_NAME.search(disposition + ";" + part.get("content-type", "")))


def _content_type(message: Message) -> str:
    declared = _TYPE.fullmatch(message.get_content_type())
    return declared[0] if declared else message.get_default_type()
