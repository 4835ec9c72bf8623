"""Finds facts of all partitions: from the cache where a partition did not change, else in one pass over its columns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from weakfish.checks.expectations.facts import Fact, Spec
from weakfish.checks.expectations.kept import Kept
from weakfish.checks.expectations.kinds import Unsure
from weakfish.checks.expectations.source import Source
from weakfish.files import sha256
from weakfish.project.runs import Progress

Found = dict[str, dict[str, Fact]]
"""Facts by the identity of their spec, then by partition, in order."""


@dataclass
class Scan:
    """A table with its cache and the threads that work on it."""

    source: Source
    kept: Kept
    pool: ThreadPoolExecutor = field(repr=False)
    hashes: Mapping[str, str]
    """The SHA-256 of each partition's file."""

    @classmethod
    @contextmanager
    def over(cls, source: Source, kept: Kept) -> Iterator[Scan]:
        """A scan of ``source``, at whose end the cache is rid of what was not asked for."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = dict(zip(source.files, pool.map(sha256, source.files.values()), strict=True))
            yield cls(source, kept, pool, found)
        kept.drop_unused()

    def facts(self, specs: Sequence[Spec]) -> Found:
        """The facts of each partition."""
        unique = {spec.identity: spec for spec in specs}
        found: Found = {identity: {} for identity in unique}
        wanted: dict[str, list[Spec]] = {}
        for part in self.source.files:
            for identity, spec in unique.items():
                fact = self.kept.get(self.hashes[part], self._asked(spec))
                if fact is None:
                    wanted.setdefault(part, []).append(spec)
                else:
                    found[identity][part] = fact
        for part, facts in self._computed(wanted):
            for identity, fact in facts.items():
                found[identity][part] = fact
        return {identity: {part: of[part] for part in self.source.files} for identity, of in found.items()}

    def _asked(self, spec: Spec) -> str:
        types = [str(self.source.schema.field(name).type) for name in spec.columns]
        return f"{spec.identity} of {types}"

    def _computed(self, wanted: Mapping[str, Sequence[Spec]]) -> Iterator[tuple[str, dict[str, Fact]]]:
        progress = Progress("Rows checked", sum(self.source.sizes[part] for part in wanted))
        at_work: dict[str, list[Future[dict[str, Fact]]]] = {
            part: [self.pool.submit(self._group, part, group, specs) for group in self.source.groups(part)]
            for part, specs in wanted.items()
        }
        for part, specs in wanted.items():
            groups = [future.result() for future in at_work.pop(part)]
            facts = {}
            for spec in specs:
                fact = _added(spec, [group[spec.identity] for group in groups])
                self.kept.put(self.hashes[part], self._asked(spec), fact)
                again = self.kept.get(self.hashes[part], self._asked(spec)) if fact.array is not None else None
                facts[spec.identity] = again or fact  # the file's bytes instead of memory
            progress.add(self.source.sizes[part])
            yield part, facts

    def _group(self, part: str, group: int, specs: Sequence[Spec]) -> dict[str, Fact]:
        columns = sorted({name for spec in specs for name in spec.columns})
        found: dict[str, list[Fact]] = {spec.identity: [] for spec in specs}
        for batch in self.source.batches(part, group, columns):
            for spec in specs:
                try:
                    found[spec.identity].append(spec.find(batch))
                except (Unsure, pa.ArrowException) as why:
                    found[spec.identity].append(Fact({"unsure": str(why)}))
        return {spec.identity: _added(spec, found[spec.identity]) for spec in specs}


def _added(spec: Spec, facts: Sequence[Fact]) -> Fact:
    unsure = [fact for fact in facts if "unsure" in fact.numbers]
    return unsure[0] if unsure else spec.add(facts)


def total(spec: Spec, facts: Mapping[str, Fact]) -> Fact:
    """The fact of the whole table; raises `Unsure`."""
    return _added(spec, list(facts.values())).sure()
