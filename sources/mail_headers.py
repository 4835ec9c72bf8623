"""Facts from header lines: dates, addresses, lists, and the relay that handed a message over.

Header values come in unfolded or not, decoded to text; facts or None go out. Nothing here raises.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_tz

from sources.mail_text import fold

OWN_RELAYS = frozenset({"193.120.211.219", "213.105.180.140", "212.17.35.15"})
"""Mail exchangers and gateways of the corpus's receivers (what SpamAssassin calls trusted networks): a host that hands
over to one of these, not the exchanger itself, is the relay."""

_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"\\@]{1,255}@(?:\[[0-9.]+\]|[^\s<>()\[\],;:\"\\@]+)")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_IP = re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w.-])")
_FROM = re.compile(r"from\b(.*?)(?:\sby\s|;|$)", re.IGNORECASE)
_FETCHED = re.compile(r"\(fetchmail|\bwith\s+(?:imap|pop3)\b", re.IGNORECASE)


def parse_date(text: str) -> datetime | None:
    """The moment that a date header names, in UTC (a date without a zone is read as UTC).

    None where it cannot be parsed or lies outside 1970 to 2099: mailers with the bug of the year 2000 wrote "0102".
    """
    try:
        parts = parsedate_tz(text)
        if parts is None or not 1970 <= parts[0] < 2100:
            return None
        seconds = min(parts[5], 59)
        return datetime(*parts[:5], seconds, tzinfo=UTC) - timedelta(seconds=parts[9] or 0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def received_at(received: Iterable[str]) -> datetime | None:
    """The date of the topmost ``Received`` header that has one that can be parsed: the receiver's own clock."""
    dates = (parse_date(fold(value.rpartition(";")[2])) for value in received)
    return next((date for date in dates if date), None)


def relay(received: Sequence[str]) -> tuple[str | None, int | None]:
    """The host that handed the message to the receivers, and the number of hops that it reports before that.

    Walks down from the topmost ``Received`` header past what belongs to the receivers: local delivery, hosts with
    private addresses, mail fetched from a mailbox, and `OWN_RELAYS`. The first public address after those is the last
    one that a receiver's machine wrote down itself; everything below it is the sender's claim.
    """
    for position, value in enumerate(received):
        line = fold(value)
        handed_over = _FROM.match(line)
        if not handed_over or _FETCHED.search(line):
            continue
        public = [ip for ip in _IP.findall(handed_over[1]) if _is_public(ip)]
        if public and public[-1] not in OWN_RELAYS:
            return public[-1], len(received) - position - 1
    return None, None


def _is_public(ip: str) -> bool:
    try:
        return ipaddress.IPv4Address(ip).is_global
    except ValueError:
        return False


def addresses(text: str) -> list[str]:
    """The addresses in a header, lower-case, each once, in order; groups and display names are passed over."""
    return list(dict.fromkeys(found.lower() for found in _ADDRESS.findall(text)))


def author(text: str) -> str | None:
    """The address of a ``From`` or ``Reply-To`` header: the first in angle brackets, else the first there is."""
    bracketed = re.search(r"<([^<>@]*@[^<>]*)>", text)
    found = addresses(bracketed[1]) if bracketed else []
    return next(iter(found or addresses(text)), None)


def domain(address: str | None) -> str | None:
    """The host part of an address or message id, lower-case, international names in their ASCII form."""
    host = (address or "").rpartition("@")[2].strip("[]<>. \t").lower()
    if len(host) > 255:
        return None  # before it is encoded, which takes the square of its length
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    return host if len(host) <= 255 and _HOST.fullmatch(host) else None


def list_id(values: Iterable[str]) -> str | None:
    """The identifier of a mailing list, such as ``talk.example.org``, from the headers that may name it, best first.

    ``List-Id`` brackets it (RFC 2919); other headers give the list's address, whose ``@`` becomes a dot.
    """
    for value in values:
        bracketed = re.findall(r"<([^<>]*)>", value)
        name = (bracketed[-1] if bracketed else value).lower().removeprefix("mailto:")
        found = addresses(name)
        host = domain((found[0] if found else name.strip()).replace("@", "."))
        if host and "." in host:
            return host
    return None


def mailer(text: str) -> str | None:
    """The name of a mail program without its version, lower-case."""
    name = re.split(r"\bversion\b|\bv?\d|[\[(/<,;]", fold(text).lower(), maxsplit=1)[0].strip(" -:.")
    return name[:60].strip() or None


def priority(text: str) -> int | None:
    """``X-Priority``: 1 is the highest, 3 normal, 5 the lowest."""
    found = re.match(r"\s*([1-5])\b", text)
    return int(found[1]) if found else None
