"""`weakfish validate`: a table to its verdict, mask and profile."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from weakfish.checks.bad_rows import names_of, write_mask
from weakfish.checks.baseline import Baseline, Entry
from weakfish.checks.change import change_checks
from weakfish.checks.gates import first_rows, named, verdict_of
from weakfish.checks.gold_checks import checks_on_dev
from weakfish.checks.gx import import_gx
from weakfish.checks.label_checks import label_checks
from weakfish.checks.label_totals import rules_of
from weakfish.checks.repairs import staged_files, waive
from weakfish.checks.reported import feature_checks, serving_checks, validate_evaluation
from weakfish.checks.source_checks import clock_checks, source_checks
from weakfish.contracts.ledgers import Ledger, ingested
from weakfish.contracts.manifests import TrainingManifest, read_manifest
from weakfish.contracts.verdicts import Check, Verdict, write_verdict
from weakfish.engine import fleet
from weakfish.engine.profile import profile_of, write_profile
from weakfish.errors import UnknownName, UserError, require
from weakfish.files import sha256
from weakfish.project.cache import Cache
from weakfish.project.paths import Project

if TYPE_CHECKING:
    from weakfish.checks.expectations.table import CheckedTable


def validate(project: Project, table: str) -> Verdict:
    """Check ``table`` and write its verdict and mask; succeeds whatever the checks find.

    Raises
    ------
    UnknownName
        When no module in ``validation/`` is named after the table, or no task after ``evaluation/<task>``.
    UserError
        When that module's list ``EXPECTATIONS`` is missing or empty; when a patch is malformed, or fits neither table
        nor checks.
    TableError
        When the table is missing or cut off.
    """
    require("ibis")
    if table.startswith("evaluation/"):
        return validate_evaluation(project, table.removeprefix("evaluation/"))
    expectations = suite(project, table)
    kind, _, name = table.partition("/")
    with staged_files(project, table) as files:
        found: list[Check] = []
        if expectations:
            from weakfish.checks import expectations as gx  # imports the library, seconds

            cache, ahead = Cache(project, f"facts/{table}"), partial(_find_ahead, project, table)
            found = gx.run(table.replace("/", "_"), expectations, files, cache, ahead).checks
        if table == "events":
            found = [*clock_checks(project, files), *found]
        waived = waive(project, found, files)
        profile = profile_of(project, table, files)
        rules, code = rules_of(project, name) if kind == "labels" else None, code_of(project, table)
        remembered = {"rules": rules, "code": code}
        write_profile(project, table, files.version, profile, **{of: it for of, it in remembered.items() if it})
        accepted, limits = Baseline.read(project).table(table), project.params.validation
        edited = _edited(accepted, rules["hashes"] if rules else code)
        raw = ingested(project) if table == "events" else Ledger()
        checks = [*source_checks(project, raw, accepted), *waived.checks]
        checks += change_checks(table, profile, accepted, limits.change, files, edited)
        if kind == "labels":
            checks += label_checks(project, name, accepted.rules if accepted else None)
            checks += checks_on_dev(project, name)
        elif kind == "features":
            checks += feature_checks(project, name, files)
        elif kind == "training":
            checks += serving_checks(project, name)
        # Only events have an `accept` step, which sets bad rows aside.
        max_share = limits.max_quarantined_share if table == "events" else None
        verdict = verdict_of(table, files.version, sum(profile.rows.values()), checks, max_share, raw)
        write_mask(project, table, verdict.checks, files, waived.notes)
        write_verdict(project, named(verdict, _first_names(project, files, verdict.checks)))
    for patch in waived.notes["patches"]:
        if not patch["rows"]:
            print(f"{patch['patch']} touches no row any more; delete it, git keeps the record.", file=sys.stderr)
    return verdict


def _find_ahead(project: Project, table: str, checked: CheckedTable, parts: Sequence[str]) -> None:
    """Let the executors of a cluster find facts; here one process of DuckDB has all processors at work."""
    if fleet.is_elsewhere(project):
        schema = checked.schema.serialize().to_pybytes().hex()
        items = [
            {"table": table, "part": part, "file": fleet.relative(project, checked.files[part]), "schema": schema}
            for part in parts
        ]
        fleet.receipts(project, f"{__name__}:facts", items, f"{table}: facts of partitions")


def facts(project: Project, item: fleet.Item) -> fleet.Receipt:
    """Put the facts of a partition that a table's suite asks for into the cache."""
    from weakfish.checks import expectations as gx

    files, table = {item["part"]: project.root / item["file"]}, item["table"]
    schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(item["schema"])))
    gx.find_facts(suite(project, table), files, Cache(project, f"facts/{table}"), schema)
    return {}


def code_of(project: Project, table: str) -> dict[str, str]:
    """The hashes of the team's code that makes a table's columns, by file or labeling function; none of the events.

    Those of labels are in `rules_of`.
    """
    kind = table.partition("/")[0]
    files = {"features": ("transforms.py",), "training": ("transforms.py", "definitions.py")}.get(kind, ())
    there = [file for name in files if (file := project.root / "feature_repo" / name).is_file()]
    found = {file.relative_to(project.root).as_posix(): sha256(file) for file in there}
    if kind == "training":
        found |= read_manifest(project, TrainingManifest, table).functions
    return found


def _edited(accepted: Entry | None, now: Mapping[str, str]) -> list[str]:
    """What was edited, came or went since the baseline of a table; nothing where the baseline does not know."""
    before = accepted and (accepted.rules["hashes"] if accepted.rules else accepted.code)
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name)) if before else []


def suite(project: Project, table: str) -> list[Any]:
    """The expectations of a table, from its module in ``validation/``; none of a table without one.

    Such a table is compared with the baseline only.
    """
    suites = project.suites()
    if table not in suites:
        if table in project.params.tables:
            return []
        raise UnknownName("table with a suite", table, suites, "validation/")
    import_gx()  # before the team's module does: for half of the time
    module = project.import_module(suites[table])
    found = getattr(module, "EXPECTATIONS", None)
    if not isinstance(found, list) or not found:
        what = "an empty list" if found == [] else "no list"
        raise UserError(f"Module {suites[table]} has {what} EXPECTATIONS; add one to it, see docs/validation.md.")
    return found


def _first_names(project: Project, files: Mapping[str, Path], checks: Sequence[Check]) -> dict[tuple[str, int], str]:
    """The names of the rows that the verdict shows, by partition and position."""
    names: dict[tuple[str, int], str] = {}
    for partition, of in groupby(sorted({place for check in checks for place in first_rows(check)}), itemgetter(0)):
        rows = np.array([row for _, row in of], np.int64)
        found = names_of(project, files[partition], rows).to_pylist()
        names |= {(partition, row): name for row, name in zip(rows.tolist(), found, strict=True)}
    return names
