"""Functions that need Python: they count letters and words, and take addresses and lines apart."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from snorkel.labeling import labeling_function

from labeling_functions import HAM, SPAM
from weakfish.rules import ABSTAIN

WORD = re.compile(r"[a-z']+")
URL = re.compile(r"https?://[^\s\"'<>)\]]+", re.IGNORECASE)
NUMBERED_HOST = re.compile(r"\d{1,3}(\.\d{1,3}){3}|\d{8,}")
USUAL_PORTS = (None, 80, 443, 8080)
NOISE = re.compile(
    r"[b-df-hj-np-tv-xz]{4,}|[B-DF-HJ-NP-TV-XZ]{4,}|\w*[a-z][A-Z]{4,}|[A-Za-z]*[b-df-hj-np-tv-xz]{5,}[A-Za-z]*"
)


@labeling_function()
def text_shouts(mail: Any) -> int:
    """A fifth of all letters in capitals: the whole text shouts, not just a heading."""
    letters = [character for character in mail.body or "" if character.isalpha()]
    if len(letters) < 100:
        return ABSTAIN
    return SPAM if sum(letter.isupper() for letter in letters) / len(letters) > 0.2 else ABSTAIN


@labeling_function()
def text_is_not_latin(mail: Any) -> int:
    """A tenth of the text lies outside of ASCII: not the language that these readers write in."""
    text = (mail.subject or "") + (mail.body or "")
    outside = sum(ord(character) > 127 for character in text)
    return SPAM if outside > 20 and outside / len(text) > 0.1 else ABSTAIN


@labeling_function()
def talks_about_you(mail: Any) -> int:
    """One word in 25 is "you" or "your": copy writers address the reader, correspondents talk about things."""
    words = WORD.findall((mail.body or "").lower())
    you = sum(word in ("you", "your", "yours") for word in words)
    return SPAM if len(words) >= 20 and you / len(words) > 0.04 else ABSTAIN


@labeling_function()
def links_to_unnamed_host(mail: Any) -> int:
    """Links to a bare number, with a user name or to an odd port: sites that must move often have no name."""
    return SPAM if any(_is_odd(url) for url in URL.findall(mail.body or "")) else ABSTAIN


def _is_odd(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return True
    return bool(NUMBERED_HOST.fullmatch(host)) or "@" in parts.netloc or port not in USUAL_PORTS


@labeling_function()
def subject_ends_in_noise(mail: Any) -> int:
    """A last word without vowels, or with capitals glued to it: random letters make each copy differ."""
    words = (mail.subject or "").split()
    if len(words) < 2 or words[0].lower() == "re:":
        return ABSTAIN
    return SPAM if NOISE.fullmatch(words[-1].strip("[]()-.!*")) else ABSTAIN


@labeling_function()
def wraps_lines_by_hand(mail: Any) -> int:
    """Several lines filled to about 70 columns, none longer, nothing exclaimed: typed in an editor, not laid out."""
    lines = [line for line in (mail.body or "").splitlines() if line.strip()]
    filled = sum(55 <= len(line) <= 79 for line in lines)
    longest = max(map(len, lines), default=0)
    return HAM if filled >= 3 and longest <= 82 and "!" not in (mail.body or "") else ABSTAIN
