"""A rule is one thing in three shapes: the function that it makes, the source that it writes, its sentence."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from weakfish.rules.columnar import ColumnarLabelingFunction
from weakfish.rules.rule import Form, Rule, module_source

ROWS: list[dict[str, Any]] = [
    {"text": text, "number": number, "flag": flag, "time": time}
    for text, number, flag, time in [
        ("gift card", 5.0, True, datetime(2024, 1, 6, 23, tzinfo=UTC)),
        ("a book", 1.0, False, datetime(2024, 1, 8, 1, tzinfo=UTC)),
        ("", float("nan"), None, datetime(2024, 1, 9, 12, tzinfo=UTC)),
        (None, None, None, None),
    ]
]

SCHEMA = pa.schema({"text": pa.string(), "number": pa.float64(), "flag": pa.bool_(), "time": pa.timestamp("us", "UTC")})

RULES: dict[Form, tuple[dict[str, Any], list[int]]] = {
    "keywords": ({"column": "text", "words": ("card", 'it\'s "odd"')}, [1, -1, -1, -1]),
    "lookup": ({"column": "text", "words": ("a book", "back\\slash")}, [-1, 1, -1, -1]),
    "at_least": ({"column": "number", "value": 5}, [1, -1, -1, -1]),
    "at_most": ({"column": "number", "value": 1.5}, [-1, 1, -1, -1]),
    "equals": ({"column": "text", "value": "gift card"}, [1, -1, -1, -1]),
    "holds": ({"column": "flag"}, [1, -1, -1, -1]),
    "holds_not": ({"column": "flag"}, [-1, 1, -1, -1]),
    "from_hour": ({"column": "time", "value": 12}, [1, -1, 1, -1]),
    "until_hour": ({"column": "time", "value": 12}, [-1, 1, 1, -1]),
    "weekend": ({"column": "time"}, [1, -1, -1, -1]),
    "longer": ({"column": "text", "value": 7}, [1, -1, -1, -1]),
    "shorter": ({"column": "text", "value": 6}, [-1, 1, 1, -1]),
    "missing": ({"column": "text"}, [-1, -1, -1, 1]),
    "present": ({"column": "text"}, [1, 1, 1, -1]),
    "sorts_last": ({"column": "text", "value": "b"}, [1, -1, -1, -1]),
}


def rule(form: Form, **more: Any) -> Rule:
    return Rule(name=f"by_{form}", label=1, form=form, **(RULES[form][0] | more))


def run(source: str) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "pasted", "__file__": __file__}
    exec(compile(source, "pasted", "exec"), space)  # noqa: S102
    return space


@pytest.mark.parametrize("form", RULES)
def test_the_function_and_its_source_vote_alike(form: Form) -> None:
    made = rule(form)
    written = run(module_source([made], ["fine", "fraud"]))[made.name]
    assert isinstance(written, ColumnarLabelingFunction)
    for function in (made.function(), written):
        function.schema = SCHEMA
        assert [function(row) for row in ROWS] == RULES[form][1]
    assert made.sentence() in str(written.__doc__)


@pytest.mark.parametrize("about", ["", "Functions that vote."])
def test_the_source_is_as_a_formatter_leaves_it(about: str, tmp_path: Path) -> None:
    whole = module_source(
        [rule(form) for form in RULES], ["fine", "fraud"], about=about, comments={"by_holds": ["why"]}
    )
    (tmp_path / "rules.py").write_text(whole, encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["format", "--diff"], ["check", "--isolated", "--select", "E,F,I"]):
        done = subprocess.run(
            [*ruff, *command, "--line-length=120", "rules.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("word", ['say "yes"', "back\\slash", "Straße", "new\nline", "it's", "'\"", "\x00\u2028"])
def test_any_value_is_written_so_that_python_reads_it_back(word: str) -> None:
    for form in ("lookup", "equals"):
        made = rule(form, words=(word,), value=word, why="")  # type: ignore[arg-type]
        function = run(module_source([made], ["fine", "fraud"]))[made.name]
        assert function({"text": word}) == made.function()({"text": word}) == 1


def test_classes_that_cannot_be_constants_are_numbered() -> None:
    source = module_source([rule("holds")], ["a", "A", "naïve"], about="About.")
    assert "CLASS_0 = 0\nCLASS_1 = 1\nCLASS_2 = 2\n" in source
    assert "@votes(CLASS_1)" in source
