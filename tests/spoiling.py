"""Faults put into the bytes of files, drawn from a generator of random numbers."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random

SPICES = [
    *(b'"', b"'", b",", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\xff\xfe", b"\t", b";"),
    *(b'""', b'"\n', b',"', b'",', b"{", b"}", b"[", b"]", b'{"id":', b"null", b"NaN", b"1e999", b"\\ud800", b"\\"),
    *(
        b"\n\n",
        b"\r\r",
        b'\n"',
        b"1,234",
        b"9" * 25,
        b"[" * 500,
        b"x" * 3000,
        b"\xe2\x80\xa8",
        b"\x1a",
        b"NA",
        b'{"id":1}',
    ),
]


def spoiled(content: bytes, draw: random.Random) -> bytes:
    """A file with a few faults: bytes put in, taken out, changed, moved, cut off."""
    for _ in range(draw.randrange(1, 6)):
        place = draw.randrange(len(content) + 1)
        match draw.randrange(6):
            case 0 | 1:
                content = content[:place] + draw.choice(SPICES) + content[place:]
            case 2:
                content = content[:place] + content[place + draw.randrange(1, 20) :]
            case 3:
                content = content[:place] + bytes([draw.randrange(256)]) + content[place + 1 :]
            case 4:
                content = content[:place] if draw.random() < 0.3 else content
            case 5:
                other = draw.randrange(len(content) + 1)
                content = content[:place] + content[other : other + 40] + content[place:]
    return content


def packed(name: str, content: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Some of the files compressed, and some of those spoiled thereafter."""
    pack = {".gz": lambda data: gzip.compress(data, mtime=0), ".bz2": bz2.compress, ".xz": lzma.compress}
    suffix = draw.choice([*pack, *[""] * 12])
    if not suffix or name.endswith("parquet"):
        return name, content
    content = pack[suffix](content)
    return name + suffix, spoiled(content, draw) if draw.random() < 0.6 else content
