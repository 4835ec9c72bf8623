"""Publishing and auditing look at entity keys some ranges at a time: what is found and written is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import dump, shop

from weakfish.feast import key_ranges
from weakfish.feast import layout as keys
from weakfish.feast.key_ranges import EntityKeys, hashed, range_of
from weakfish.feast.publish import audit, publish
from weakfish.project.paths import Project

LIMITS = (0, 60, key_ranges.LIMIT)


@pytest.mark.parametrize("limit", LIMITS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(st.binary(max_size=20), max_size=60))
def test_each_key_comes_once_with_the_number_of_its_range(
    limit: int, found: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ranges, "LIMIT", limit)
    groups = list(EntityKeys(found).groups())
    assert sorted(key for _, some in groups for key in some) == sorted(set(found))
    assert all(range_of(hashed(key)) in ranges for ranges, some in groups for key in some)
    assert [number for ranges, _ in groups for number in ranges] == list(range(key_ranges.RANGES))


def test_no_more_is_in_memory_than_the_limit_or_one_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ranges, "LIMIT", 300)
    groups = list(EntityKeys(b"%020d" % number for number in range(2_000)).groups())
    sizes = [24 * len(some) for _, some in groups]
    assert sum(sizes) == 48_000
    assert all(size <= 300 for size, (ranges, _) in zip(sizes, groups, strict=True) if len(ranges) > 1)
    assert len(groups) > 100


def test_a_key_has_the_same_hash_in_every_process() -> None:
    assert [hashed(key) for key in (b"", b"buyer", b"b1shop")] == [0, 569269383931222838, 13192119409219618664]


def strange(store: redis.Redis) -> None:
    """Rows of entities that no table has, a row that is gone, and fields of no view."""
    found = {key[-6:]: key for key in keys.of_project(store, "shop")}
    for number in range(9):
        stranger = found[b"b4shop"].replace(b"b4shop", b"z%dshop" % number)
        store.hset(stranger, mapping=store.hgetall(found[b"b4shop"]))
    store.hset(found[b"b2shop"], "nobody's", "value")
    store.delete(found[b"b3shop"])


def test_many_ranges_are_audited_and_repaired_as_one_is(
    tmp_path: Path, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shop(tmp_path / "shop")
    found = []
    for limit in LIMITS:
        monkeypatch.setattr(key_ranges, "LIMIT", limit)
        publish(project)
        held = dump(store)
        strange(store)
        told = audit(project).audit
        assert told["views"]["buyer_orders"]["rows"]["unexpected"] == 9
        outcome = publish(Project(project.root))
        assert outcome
        assert dump(store) == held
        found.append((told, outcome.as_json(), held))
    assert found[0] == found[1] == found[2]
