"""Hostile work from a seed, for as long as one likes: files, requests, values in Redis, kills (`make fuzz`).

Each kind of work is a module ``fuzz_<kind>`` whose ``cases(folder)`` yields a function that tries one case, drawn from
random numbers, and returns a few words on what it was, or None when nothing is left to try. A case that raises is a
finding, and so is one that ends its process, or does not end. Seed and number reproduce it:
``python tests/fuzz.py --seed S --kind K --case N``.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import random
import re
import secrets
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

SHARES = {"files": 0.3, "requests": 0.15, "values": 0.2, "kills": 0.35}
"""What part of the time each kind gets."""

SILENCE = 120
"""Seconds after which a case that has not ended is a finding."""


TO_BEGIN = 600
"""Seconds that a kind may take for what it needs before its first case: a whole project that is run, on a busy machine.
"""

_PARTICULARS = re.compile(r"\[[^\]]*\]|'[^']*'|\"[^\"]*\"|[\d.]+")


@dataclass
class Found:
    """What a kind of work came to."""

    tried: Counter[str] = field(default_factory=Counter)
    findings: dict[str, tuple[str, list[int]]] = field(default_factory=dict)
    """What was found and in which cases; findings that differ in numbers, lists and quoted texts alone are one."""

    def note(self, finding: str, case: int) -> None:
        """Keep a finding."""
        first, *_, last = [*finding.split("\n", 1)[:1], *finding.rsplit("\n", 1)]
        self.findings.setdefault(_PARTICULARS.sub("?", f"{first} {last}"), (finding, []))[1].append(case)


def fuzz(
    kind: str,
    seed: str,
    seconds: float,
    case: int | None = None,
    silence: float = SILENCE,
    options: Mapping[str, Any] | None = None,
) -> Found:
    """Try cases of a kind, at least one, each process going on behind the case with which the one before it ended.

    ``options`` are further arguments of the kind's ``cases``.
    """
    found, number = Found(), case or 0
    while True:
        with tempfile.TemporaryDirectory(prefix="weakfish-fuzz-") as folder:
            begun = time.monotonic()
            last, fault = _watch(_started(kind, seed, number, seconds, case, Path(folder), options), silence, found)
            seconds -= time.monotonic() - begun
        if fault is None:
            return found
        found.note(fault, last)
        number = last + 1
        if last < 0 or case is not None or seconds < 0:
            return found


def _started(
    kind: str,
    seed: str,
    first: int,
    seconds: float,
    case: int | None,
    folder: Path,
    options: Mapping[str, Any] | None,
) -> tuple[subprocess.Popen[bytes], Path]:
    count = 0 if case is None else 1
    arguments = [kind, seed, str(first), str(seconds), str(count), str(folder / "work"), json.dumps(options or {})]
    log = folder / "log"
    with log.open("wb") as stream:
        command = [sys.executable, __file__, "--work", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream), log


def _watch(started: tuple[subprocess.Popen[bytes], Path], silence: float, found: Found) -> tuple[int, str | None]:
    """The number of the last case of a process, and what ended it, where that is a finding."""
    process, log = started
    number, fault = -1, None
    try:
        for said in _said(process, silence):
            if "begin" in said:
                number = said["begin"]
            elif "tried" in said:
                found.tried[said["tried"]] += 1
            else:
                found.note(said["found"], number)
    except TimeoutError:
        fault = f"does not end within {silence:g} s; its last words:\n{_last_words(log)}"
    finally:
        _end(process)
        code = process.wait()
    if fault is None and code:
        fault = f"its process ended with {code}; its last words:\n{_last_words(log)}"
    return number, fault


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, unless it has ended, and all that it started."""
    assert process.stdout is not None
    process.stdout.close()
    with suppress(psutil.NoSuchProcess):
        own = psutil.Process(process.pid)
        for each in (*own.children(recursive=True), own):
            with suppress(psutil.NoSuchProcess):
                each.kill()


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-800:] or "none"


def _said(process: subprocess.Popen[bytes], silence: float) -> Iterator[dict[str, Any]]:
    """The lines that a process prints; raises `TimeoutError` when it says nothing for too long."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        waits = itertools.chain([max(silence, TO_BEGIN)], itertools.repeat(silence))
        while selector.select(next(waits)):
            line = process.stdout.readline()
            if not line:
                process.wait(silence)
                return
            yield json.loads(line)
    raise TimeoutError


def work(
    kind: str, seed: str, first: int, seconds: float, count: int, folder: Path, options: Mapping[str, Any]
) -> None:
    """Try cases for some seconds, at least one; print what becomes of each."""
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what commands print is no line for the process that watches

    def say(**words: Any) -> None:
        stdout.write(json.dumps(words) + "\n")
        stdout.flush()

    folder.mkdir()
    with importlib.import_module(f"fuzz_{kind}").cases(folder, **options) as case:
        end = time.monotonic() + seconds  # what is needed to begin does not count
        for number in itertools.count(first):
            say(begin=number)
            try:
                tried = case(random.Random(f"{seed} {kind} {number}"))  # noqa: S311  to be repeated
            except Exception as error:
                traceback.print_exc()
                say(found=_told(error))
            else:
                if tried is None:
                    return
                say(tried=tried)
            if time.monotonic() > end or number + 1 == first + count:
                return


def _told(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:1500]} ({Path(last.filename).name}:{last.lineno})"


def main() -> int:
    """Print what was tried and found; 1 when anything was found."""
    parser = argparse.ArgumentParser(description="Try hostile files, requests, values and kills, from a seed.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", default=None, help="any text; a random one unless given, printed in any case")
    parser.add_argument("--kind", choices=list(SHARES), action="append", help="only this kind, may be repeated")
    parser.add_argument("--case", type=int, help="only this case of the kind")
    parser.add_argument("--stage", action="append", help="kill only this stage, may be repeated")
    parser.add_argument("--kills", type=int, default=0, help="kill each stage this often, within the seconds")
    asked = parser.parse_args()
    of_kills = {"only": asked.stage or [], "kills": asked.kills}
    seed = asked.seed or secrets.token_hex(4)
    kinds = asked.kind or list(SHARES)
    print(f"SEED={seed}", flush=True)
    count = 0
    for kind in kinds:
        seconds = asked.seconds * SHARES[kind] / sum(SHARES[each] for each in kinds)
        found = fuzz(kind, seed, seconds, asked.case, options=of_kills if kind == "kills" else None)
        print(f"{kind}: {found.tried.total():,} cases found nothing", flush=True)
        for what, times in sorted(found.tried.items()):
            print(f"  {times:6,} {what}", flush=True)
        for finding, numbers in found.findings.values():
            print(f"  FOUND in {len(numbers):,} cases: {finding}", flush=True)
            stages = "".join(f" --stage {stage}" for stage in asked.stage or () if kind == "kills")
            print(
                f"    again: python tests/fuzz.py --seed {seed} --kind {kind}{stages} --case {numbers[0]}", flush=True
            )
        count += len(found.findings)
    print(f"{count} findings" if count else "Nothing was found.")
    return 1 if count else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        name, text, begin, until, most, place, more = sys.argv[2:]
        work(name, text, int(begin), float(until), int(most), Path(place), json.loads(more))
    else:
        sys.exit(main())
