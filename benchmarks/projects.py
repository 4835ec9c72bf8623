"""Projects to measure on: this repository's settings and labeling functions, and amplified events."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.process import REPOSITORY

TASK = "spam"

TWELVE = (
    *("asks_to_click", "offers_removal", "promises_without_risk", "gives_toll_free_number", "lures_with_money"),
    *("talks_shop", "hedges_an_opinion", "quotes_someone", "subject_sells", "subject_ends_in_digits"),
    *("came_over_a_list", "is_html_only"),
)
"""Labeling functions of the repository, the first ten of which search text: eight the body, two the subject."""

TEN = tuple(name for name in TWELVE if name not in ("hedges_an_opinion", "subject_ends_in_digits"))

TWENTY = (
    *TWELVE,
    *("sells_health_or_sex", "sells_loans_or_insurance", "subject_offers_money", "subject_is_reply", "names_a_price"),
    *("is_plain_ascii", "hides_or_crowds_recipients", "was_sent_by_bulk_software"),
)


def make(root: Path, partitions: Sequence[Path], functions: Sequence[str], epochs: int) -> Path:
    """A project in the new folder ``root``: its task has ``functions``, its events are links to ``partitions``."""
    events = root / "data/events"
    events.mkdir(parents=True)
    for file in partitions:
        os.link(file, events / file.name)
    folder = root / "labeling_functions"
    shutil.copytree(REPOSITORY / "labeling_functions", folder, ignore=shutil.ignore_patterns("__pycache__"))
    for module in ("plain", "patterns"):
        shutil.copy(REPOSITORY / f"benchmarks/functions/{module}.py", folder / f"bench_{module}.py")
    shutil.copy(REPOSITORY / "dvc.yaml", root)
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    task = params["tasks"][TASK]
    task["functions"] = list(functions)
    params["tasks"] = {TASK: task}
    model = params["label_models"][TASK] | {"n_epochs": epochs, "method": "snorkel", "reader": "off", "refit": "always"}
    params["label_models"] = {TASK: model}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    return root


def edit(root: Path, module: str, old: str, new: str) -> None:
    """Replace what stands once in a module of the project's labeling functions."""
    file = root / f"labeling_functions/{module}.py"
    text = file.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{old!r} stands {text.count(old)} times in {file}, not once; correct the benchmark.")
    file.write_text(text.replace(old, new), encoding="utf-8")
