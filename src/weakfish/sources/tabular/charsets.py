"""Which encoding the bytes of a text file speak for: UTF-8 unless most of what is beyond ASCII is not, else a guess."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

ENCODINGS = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "koi8_r", "cp932", "euc_jp", "cp949", "gb18030", "big5")
"""What a file that is not UTF-8 may be in; the first one where nothing speaks for another."""

WEAK = 4
"""Fewer bytes that are not UTF-8, and in no word, are damage; fewer characters that are, a chance."""

TELLING = 1 << 16
"""How many bytes of lines that are not UTF-8 are looked at for a guess."""

_REPLACED = "\ufffd"
_IN_WORD = re.compile(rb"[A-Za-z][\x80-\xfe]|[\x80-\xfe][A-Za-z]")


@dataclass
class CharacterCount:
    """Of a text: how many characters beyond ASCII are UTF-8, how many bytes are not, and the first lines with such."""

    right: int = 0
    wrong: int = 0
    telling: list[bytes] = field(default_factory=list)
    _held: int = 0

    def add(self, text: bytes, decoder: codecs.IncrementalDecoder) -> None:
        """Count in what follows."""
        if text.isascii() and not decoder.getstate()[0]:
            return
        decoded = decoder.decode(text)
        beyond = len(decoded) - len(decoded.encode("ascii", "ignore"))
        wrong = max(decoded.count(_REPLACED) - text.count(_REPLACED.encode()), 0)  # some may be in the file itself
        self.right, self.wrong = self.right + beyond - wrong, self.wrong + wrong
        if wrong and self._held < TELLING:
            lines = [line for line in text.splitlines() if not is_utf8(line)]
            self.telling += lines
            self._held += sum(map(len, lines))

    @property
    def is_utf8(self) -> bool:
        """Whether the text is UTF-8, but for some damaged characters perhaps."""
        damage = self.wrong < WEAK and not any(map(_IN_WORD.search, self.telling))
        return self.wrong <= self.right or damage


def weigh(parts: Iterable[bytes]) -> CharacterCount:
    """The evidence of a text in parts that may cut characters."""
    found, decoder = CharacterCount(), codecs.getincrementaldecoder("utf-8")("replace")
    for part in parts:
        found.add(part, decoder)
    return found


_USUAL = {"cp932": "shift_jis", "cp949": "euc_kr", "gb18030": "gb2312"}
"""The characters that texts in an encoding are written with: with the others, it takes nearly any bytes."""


_LETTERS = {
    "cp1252": ("äöüßàâæçéèêëîïôùûœ", "áéíóúüñ¿¡ãõâêôçàèìòùªº", "åäöæøéü", "áðéíóúýþæö"),
    "cp1250": ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîşţ", "čćđšž"),
    "cp1254": ("çğıİöşüâîû",),
}
"""The letters beyond ASCII of languages, by the encoding for them: one byte is a letter in each, in few languages."""


def guess(lines: Iterable[bytes]) -> str:
    """The encoding that lines that are not UTF-8 are most likely in.

    Without evidence of a language it is the usual one of Western Europe, which several others agree with on its words.
    """
    from charset_normalizer import from_bytes

    text = b"\n".join(lines)
    if len(text) > TELLING:  # a character cut in two would speak against its encoding
        text = text[:TELLING].rpartition(b"\n")[0] or text[:TELLING]
    found = [match for match in from_bytes(text, cp_isolation=list(ENCODINGS)) if _holds(match.encoding, text)]
    best = next(iter(found), None)
    west = [match for match in found if ENCODINGS[0] in match.could_be_from_charset]
    if best is None or best.encoding in _LETTERS or (west and (not best.coherence or best in west)):
        return max(_LETTERS, key=lambda encoding: _fitting(text, encoding))  # the first of those that fit alike
    return best.encoding


def _fitting(text: bytes, encoding: str) -> int:
    """How many characters beyond ASCII are letters of the one language that they fit best."""
    decoded = Counter(filter(lambda letter: not letter.isascii(), text.decode(encoding, "replace")))
    return max(sum(decoded[letter] for letter in {*letters, *letters.upper()}) for letters in _LETTERS[encoding])


def _holds(encoding: str, text: bytes) -> bool:
    """Whether a text is in an encoding, but for a few characters."""
    decoded = text.decode(_USUAL.get(encoding, encoding), "replace")
    beyond = len(decoded) - len(decoded.encode("ascii", "ignore"))
    return decoded.count(_REPLACED) <= 0.05 * beyond


def is_wide(start: bytes) -> str | None:
    """UTF-16 without a byte order mark: every second byte of ASCII characters is 0, and none of the others."""
    pairs = len(start) // 2
    low, high = start[1 : 2 * pairs : 2].count(0), start[0 : 2 * pairs : 2].count(0)
    if max(low, high) < max(WEAK, 0.15 * pairs, 20 * min(low, high)):
        return None
    return "utf-16-le" if low > high else "utf-16-be"


def is_utf8(block: bytes) -> bool:
    """Whether a block is UTF-8 throughout."""
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
