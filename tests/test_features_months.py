"""Months of feature rows: what a later run computes again, and that nothing else decides what a row states."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import ibis.expr.types as ir
import pytest
from projects import contents
from test_features_rows import START, months_of, part_of

from weakfish.engine.duckdb import Engine
from weakfish.features.history import Limits
from weakfish.features.months import Part

NAMES = ["2024-03", "2024-04", "2024-05", "2024-06", "2024-07"]
AMPLE, TINY = Limits(), Limits(batch=30, cells=2000, values=3, rows=20, history=0)
GOES_ON = Limits(history=0)


def made(folder: Path, changed: str | None = None) -> list[Part]:
    """Five months of events and labels below ``folder``; ``changed`` names one in which an event is different."""
    chance, parts, number = random.Random(7), [], 0  # noqa: S311
    for name in NAMES:
        begins = datetime.strptime(name, "%Y-%m").replace(tzinfo=START.tzinfo)
        events: list[dict[str, Any]] = []
        for _ in range(25):
            at = begins + timedelta(hours=chance.randrange(24 * 30 - 1), minutes=chance.choice([0, 30]))
            who, n = chance.choice(["ann", "bob", "cyd", "dan", None]), chance.choice([1, 2, 3, None])
            events.append({"id": number, "at": at, "who": who, "n": n, "ok": n == 1, "x": chance.random()})
            number += 1
        if name == changed:
            events[0] |= {"who": "ann", "n": 9}
        events[-1]["at"] = begins + timedelta(days=29, hours=23, minutes=59)
        labels = [
            {"id": each["id"], "known_at": each["at"] + timedelta(hours=24), "p_no": 0.25, "p_yes": each["x"]}
            for each in events[::2]
        ]
        parts.append(part_of(folder / name, events, labels))
    return parts


def run(root: Path, parts: list[Part], limits: Limits) -> tuple[dict[str, bytes], list[str]]:
    """Write the rows that are known at the end of these parts; returns them and the months that were computed."""
    months = months_of(root, parts, parts[-1].begins + timedelta(days=30, minutes=-1), 1, limits=limits)
    out = Path(mkdtemp(dir=root))
    months.write(out)
    return contents(out), months.computed


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Part]:
    return made(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def whole(parts: list[Part], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The rows of all months, computed at once."""
    return run(tmp_path_factory.mktemp("whole"), parts, AMPLE)[0]


def test_batches_buckets_slices_and_stretches_change_no_byte(
    parts: list[Part], whole: dict[str, bytes], tmp_path: Path
) -> None:
    assert sorted(whole) == [f"{name}.parquet" for name in NAMES]
    assert run(tmp_path, parts, TINY) == (whole, NAMES)


def test_a_new_month_leaves_those_before_it_uncomputed_and_gives_the_same_bytes(
    parts: list[Part], whole: dict[str, bytes], tmp_path: Path
) -> None:
    run(tmp_path, parts[:3], GOES_ON)
    assert run(tmp_path, parts[:4], GOES_ON)[1] == NAMES[2:4]  # May has rows after the last boundary known before
    assert run(tmp_path, parts, GOES_ON) == (whole, NAMES[4:])
    assert run(tmp_path, parts, GOES_ON) == (whole, [])


def test_month_by_month_with_ever_other_limits_gives_the_bytes_of_one_run(
    parts: list[Part], whole: dict[str, bytes], tmp_path: Path
) -> None:
    for number, cells in ((1, 10**6), (2, 1500), (4, 10**5)):
        run(tmp_path, parts[:number], Limits(cells=cells, history=0))
    assert run(tmp_path, parts, Limits(cells=4000, history=0))[0] == whole


def test_a_change_in_a_month_computes_it_and_later_ones_and_no_more_than_a_stretch_before(
    parts: list[Part], tmp_path: Path
) -> None:
    run(tmp_path / "a", parts, GOES_ON)
    changed = made(tmp_path / "changed", changed="2024-07")
    found, computed = run(tmp_path / "a", changed, GOES_ON)
    assert (found, computed) == (run(tmp_path / "b", changed, AMPLE)[0], ["2024-07"])


@pytest.mark.parametrize("damage", [b"", b"PAR1 and no more"])
def test_a_damaged_piece_of_the_cache_is_computed_again(
    parts: list[Part], whole: dict[str, bytes], tmp_path: Path, damage: bytes
) -> None:
    run(tmp_path, parts, GOES_ON)
    pieces = sorted((tmp_path / ".weakfish/cache/features/activity").glob("??/*"))
    for piece in pieces[::3]:
        piece.unlink()
        piece.write_bytes(damage)
    assert run(tmp_path, parts, GOES_ON)[0] == whole


class Dying(Engine):
    """An engine that kills its process at the n-th file that it writes."""

    left = 0

    def write(self, expression: ir.Table, file: Path, group_rows: int) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        super().write(expression, file, group_rows)


def _die(root: Path, parts: list[Part], writes: int) -> None:
    months = months_of(root, parts, parts[-1].begins + timedelta(days=30, minutes=-1), 1, limits=GOES_ON)
    months.engine = Dying()
    months.engine.left = writes
    months.write(root / "out")


@pytest.mark.parametrize("writes", [3, 9, 14])
def test_a_run_that_was_killed_is_gone_on_with_and_gives_the_same_bytes(
    parts: list[Part], whole: dict[str, bytes], tmp_path: Path, writes: int
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_die, args=(tmp_path, parts, writes))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert run(tmp_path, parts, GOES_ON)[0] == whole
