"""The picture of the house is that of the house: it names what there is, in the order that holds."""

from __future__ import annotations

import re

import yaml
from projects import REPOSITORY
from test_architecture import ORDER, SOURCE

PICTURE = (REPOSITORY / "docs/architecture.svg").read_text(encoding="utf-8")


def named(kind: str) -> list[str]:
    """What the picture names of a kind (a class of its texts), from top to bottom."""
    found = re.findall(rf'<text class="{kind}" x="\d+" y="(\d+)"[^>]*>([^<]+)</text>', PICTURE)
    words = [
        text.replace("&lt;", "<").replace("&gt;", ">").split() for _, text in sorted(found, key=lambda at: int(at[0]))
    ]
    return [word for line in words for word in line]


def stages() -> set[str]:
    """The stages of dvc.yaml, with ``<task>`` and ``<view>`` for the names that a project gives."""
    names = {"${tasks}": "@<task>", "${views}": "@<view>"}
    found = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name + names.get(stage.get("foreach"), "") for name, stage in found.items()} - {"look"}


def test_the_picture_names_the_stages_and_no_others() -> None:
    assert set(named("name step")) == stages()


def test_the_picture_names_the_packages_in_the_order_in_which_they_may_import() -> None:
    parts = {file.stem for file in SOURCE.iterdir() if file.suffix == ".py" or (file / "__init__.py").exists()}
    drawn = list(dict.fromkeys(named("name package")))
    assert drawn == [name for name in ORDER if name in parts]
    assert set(drawn) == parts - {"__init__"}


def test_the_folders_in_the_picture_are_there() -> None:
    edited = [name for name in named("name") if name.endswith("/")]
    assert {"sources/", "labeling_functions/", "feature_repo/", "validation/"} <= set(edited)
    assert all((REPOSITORY / name).is_dir() for name in edited)


def test_the_picture_loads_nothing_and_runs_nothing() -> None:
    assert "<script" not in PICTURE
    assert "href" not in PICTURE
    assert set(re.findall(r"url\(([^)]*)\)", PICTURE)) == {"#tip"}
