"""Is what is served what the feature tables say? Every entity and feature, raw bytes and, for some, Feast's own reader.

A publication, by its marker and its contents, goes in; counts per view and feature go out, with the first keys of each
kind of difference. Nothing is changed.

A row is ``equal``; ``missing``; ``stale``, of an older event time; ``newer``, of an event later than the tables know,
which a service pushed and which is no error; ``different``; or ``unexpected``, of an entity that the tables lack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import redis
from feast import FeatureStore, FeatureView

from weakfish.runs import Progress
from weakfish.store.publishing.account import entity
from weakfish.store.publishing.comparing import Difference, Layout, Online, differences
from weakfish.store.publishing.contents import Contents, batches
from weakfish.store.publishing.findings import BAD, TIMES, Findings
from weakfish.store.publishing.leftovers import Known, leftovers
from weakfish.store.publishing.patience import patiently
from weakfish.store.publishing.plain import differing
from weakfish.store.publishing.probe import Marker
from weakfish.store.publishing.receipt import Receipt
from weakfish.store.publishing.times import event_time
from weakfish.store.registry import views


def audit(contents: Contents, client: redis.Redis, store: FeatureStore, marker: Marker, name: str) -> Receipt:
    """Compare all that is online with the tables as of the publication.

    The result, `Receipt.audit`, is ``{"passed": bool, "views": {view: {"rows": counts, "features": {feature: counts},
    "first": {kind: [entity]}, "sample": {"rows": int, "different": int, "first": [entity]}}}}``: counts by kind, an
    entity being its join keys. A feature that is not all equal names its ``first`` too.

    Raises
    ------
    StoreError, redis.RedisError
        When the store cannot be read.
    TableError
        When a feature table cannot.
    """
    served = [view for view in views(store) if view.name in marker.views]
    layouts = {str(view.name): Layout.of(view.name, marker.views[view.name]) for view in served}
    online, known, found = Online(client), Known(layouts, layouts), {}
    for view in served:
        found[str(view.name)] = _view(contents, online, store, marker, view, known)
    for left in leftovers(online, name, known, thorough=False):
        for view in left.rows:
            until = marker.until(view)
            ((stamp,),) = online.rows([left.key], layouts[view].fields[:1])
            time = event_time(stamp) if stamp is not None else None
            kind = "newer" if time is not None and until is not None and time > until else "unexpected"
            found[view].count_row(kind, left.key)
    result = {view: each.result() for view, each in found.items()}
    passed = all(not each.is_bad() for each in found.values())
    return Receipt(
        marker.version,
        marker.digest(),
        {"passed": passed, "views": result},
        {v: each.kept() for v, each in found.items()},
    )


def failure(receipt: Receipt) -> str | None:
    """What an audit found, in a sentence; None when it passed."""
    if receipt.passed:
        return None
    said = []
    for view, found in receipt.audit["views"].items():
        counts = [f"{found['rows'][kind]:,} {kind}" for kind in BAD if found["rows"].get(kind)]
        if found["sample"]["different"]:
            counts.append(f"{found['sample']['different']:,} read otherwise by plain Feast")
        first = next((keys[0] for kind in BAD if (keys := found["first"].get(kind))), None)
        first = first or next(iter(found["sample"]["first"]), None)
        if counts:
            said.append(f"{view} has {', '.join(counts)} (first: {entity(first or {})})")
    return (
        f"The online store does not hold what the feature tables say: {'; '.join(said)}; run `weakfish publish`, which "
        "writes these rows again, and see reports/publish.json."
    )


def _view(
    contents: Contents, online: Online, store: FeatureStore, marker: Marker, view: FeatureView, known: Known
) -> Findings:
    content = marker.views[view.name]
    features = [feature.name for feature in view.features]
    found, until = Findings(store.project, features), marker.until(view.name)
    progress = Progress(f"audit {view.name}, rows", content.get("entities"))
    for batch, encoded in batches(contents, store, view):
        keys = encoded.keys.to_pylist()
        different, others = differences(online, encoded, known.times_of_others(view.name))
        known.add(view.name, keys, others)
        for difference in different:
            key = keys[difference.position]
            kind, kinds = _kinds(difference, int(encoded.event_us[difference.position]), until)
            found.count_row(kind, key)
            for feature, one in zip((TIMES, *features), kinds, strict=True):
                found.count_feature(feature, one, key)
        wrong = {difference.position for difference in different}
        same = [position for position in range(len(encoded)) if position not in wrong]
        found.rows["equal"] += len(same)
        sampled = [same[place] for place in found.sample(keys[position] for position in same)]
        _read_by_feast(
            found, online.client, store, view, batch.take(pa.array(sampled, pa.int64())), [keys[p] for p in sampled]
        )
        progress.add(len(encoded))
    return found


def _read_by_feast(
    found: Findings, client: redis.Redis, store: FeatureStore, view: FeatureView, batch: Any, keys: Sequence[bytes]
) -> None:
    """Let plain Feast read rows of the sample."""
    if keys:
        otherwise = patiently(lambda: differing(client, store.config, view, batch))
        found.read_otherwise(keys, (keys[position] for position in otherwise))


def _kinds(difference: Difference, expected: int, until: int | None) -> tuple[str, Iterator[str]]:
    """The kind of a row that is not equal, and those of its times and features."""
    time = difference.event_us
    if difference.is_missing:
        whole = "missing"
    elif time is None or time == expected:
        return _by_value(difference)
    elif until is not None and time > until:
        whole = "newer"
    else:
        whole = "stale" if time < expected else "different"
    return whole, iter([whole] * (len(difference.online) - 1))


def _by_value(difference: Difference) -> tuple[str, Iterator[str]]:
    online, offline = difference.online, difference.offline
    kinds = ["equal" if tuple(online[:2]) == tuple(offline[:2]) else "different"]
    pairs = zip(online[2:], offline[2:], strict=True)
    kinds += ["equal" if there == here else "missing" if there is None else "different" for there, here in pairs]
    return ("different" if "different" in kinds else "missing"), iter(kinds)
