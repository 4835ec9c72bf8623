"""Suites on the engine: what they say equals what Great Expectations says over pandas, of the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from suites import PARTS, SCHEMA, WHEN, Case, cache, differences, made, over_pandas, table, written

from weakfish.checks import expectations
from weakfish.contracts.verdicts import Check


def column(kind: str, name: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return f"ExpectColumn{kind}", {"column": name, **arguments}


def pair(kind: str, left: str, right: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return f"ExpectColumnPairValues{kind}", {"column_A": left, "column_B": right, **arguments}


EVERY = SCHEMA.names
NUMBERS = ["whole", "count", "gaps", "share", "hollow"]

ON_THE_ENGINE = [
    *(column("ValuesToNotBeNull", name) for name in EVERY),
    *(column("ValuesToBeNull", name) for name in EVERY),
    column("ValuesToNotBeNull", "share", mostly=0.5),
    column("ValuesToNotBeNull", "text", mostly=0.999),
    *(column("ValuesToBeUnique", name) for name in EVERY if name not in ("price", "tags", "label")),
    *(
        column("ValuesToBeBetween", name, min_value=low, max_value=high, strict_min=strict_min, strict_max=strict_max)
        for name in ["whole", "count", "gaps", "share", "ratio", "flag", "maybe"]
        for low, high, strict_min, strict_max in [
            (0, 1, False, False),
            (0, 1, True, False),
            (0, 1, False, True),
            (0.1, 0.5, True, True),
            (None, 2, False, True),
            (1, None, True, False),
        ]
    ),
    column("ValuesToBeBetween", "at", min_value="2002-03-01T00:00:00+00:00", max_value="2002-06-01T00:00:00+00:00"),
    column("ValuesToBeBetween", "at", min_value=WHEN[2], strict_min=True),
    column("ValuesToBeBetween", "at", max_value="2002-06-01T02:00:00+02:00", strict_max=True),
    column("ValuesToBeBetween", "local", min_value=datetime(2002, 3, 1)),
    column("ValuesToBeBetween", "hollow", min_value=1),
    column("ValuesToBeInSet", "code", value_set=["a", "b"]),
    column("ValuesToBeInSet", "long", value_set=["a", ""]),
    column("ValuesToBeInSet", "tiny", value_set=[1, 300]),
    column("ValuesToBeBetween", "tiny", min_value=-1, max_value=254.5),
    column("ValueLengthsToBeBetween", "long", min_value=2),
    column("ValuesToMatchRegex", "long", regex="b$"),
    column("SumToBeBetween", "tiny", min_value=1),
    column("ValuesToBeInSet", "text", value_set=["", "abc", "12", "\U0001f600"]),
    column("ValuesToBeInSet", "whole", value_set=[0, 1, 2.0]),
    column("ValuesToBeInSet", "gaps", value_set=[0, 1]),
    column("ValuesToBeInSet", "share", value_set=[0, 0.1, 0.25]),
    column("ValuesToBeInSet", "ratio", value_set=[0.1, 0.5]),
    column("ValuesToBeInSet", "flag", value_set=[True]),
    column("ValuesToBeInSet", "maybe", value_set=[False]),
    column("ValuesToBeInSet", "count", value_set=[70_000, 0]),
    column("ValuesToNotBeInSet", "code", value_set=["a"]),
    column("ValuesToNotBeInSet", "text", value_set=["", "abc"], mostly=0.9),
    column("ValuesToNotBeInSet", "share", value_set=[-0.0, 1.5]),
    column("ValueLengthsToBeBetween", "text", min_value=1, max_value=3),
    column("ValueLengthsToBeBetween", "text", min_value=1, strict_min=True),
    column("ValueLengthsToBeBetween", "text", max_value=5, strict_max=True),
    column("ValueLengthsToBeBetween", "void", max_value=5),
    column("ValueLengthsToEqual", "text", value=2),
    *(
        column(f"ValuesTo{kind}MatchRegex", "text", regex=regex)
        for kind in ("", "Not")
        for regex in [r"^a", r"ab$", r"^\w+$", r"\d", r"(?i)STRASSE|ſ", r"[^\x00-\x7f]", r"(?=a)a", r"^.$", r"\s", ""]
    ),
    column("ValuesToMatchRegexList", "text", regex_list=["^a", r"\d"]),
    column("ValuesToMatchRegexList", "text", regex_list=["a", "b"], match_on="all"),
    column("ValuesToNotMatchRegexList", "text", regex_list=["^a", r"\d"]),
    *(
        column("ValuesToBeOfType", name, type_=kind)
        for name in EVERY[:13]
        for kind in ("str", "int64", "float", "bool")
    ),
    column("ValuesToBeOfType", "void", type_="str"),
    column("ValuesToBeOfType", "text", type_="object"),
    column("ValuesToBeOfType", "at", type_="datetime64"),
    column("ValuesToBeInTypeList", "text", type_list=["str", "int"]),
    column("ValuesToBeInTypeList", "text", type_list=["int", "float"]),
    column("ValuesToBeInTypeList", "gaps", type_list=["int64", "float64"]),
    column("ValuesToBeInTypeList", "whole", type_list=["float64"]),
    pair("AToBeGreaterThanB", "whole", "count"),
    pair("AToBeGreaterThanB", "whole", "gaps", or_equal=True),
    pair("AToBeGreaterThanB", "gaps", "share", ignore_row_if="either_value_is_missing"),
    pair("AToBeGreaterThanB", "share", "gaps", ignore_row_if="both_values_are_missing"),
    pair("AToBeGreaterThanB", "share", "gaps", ignore_row_if="neither"),
    pair("AToBeGreaterThanB", "key", "code"),
    pair("ToBeEqual", "whole", "count"),
    pair("ToBeEqual", "gaps", "share", ignore_row_if="neither"),
    pair("ToBeEqual", "text", "code"),
    pair("ToBeEqual", "text", "void", ignore_row_if="neither"),
    pair("ToBeEqual", "flag", "maybe"),
    pair("ToBeInSet", "code", "text", value_pairs_set=[("a", "abc"), ("b", None), ("c", "")]),
    pair("ToBeInSet", "whole", "code", value_pairs_set=[(0, "a"), (1, "b")]),
    pair("ToBeInSet", "gaps", "count", value_pairs_set=[(0, 0), (None, 1)], ignore_row_if="neither"),
    ("ExpectCompoundColumnsToBeUnique", {"column_list": ["key", "code"]}),
    ("ExpectCompoundColumnsToBeUnique", {"column_list": ["text", "share", "gaps"]}),
    ("ExpectCompoundColumnsToBeUnique", {"column_list": ["text", "gaps"], "ignore_row_if": "any_value_is_missing"}),
    ("ExpectCompoundColumnsToBeUnique", {"column_list": ["void", "hollow", "at"], "ignore_row_if": "never"}),
    ("ExpectSelectColumnValuesToBeUniqueWithinRecord", {"column_list": ["whole", "count", "gaps"]}),
    ("ExpectSelectColumnValuesToBeUniqueWithinRecord", {"column_list": ["text", "code", "void"]}),
    (
        "ExpectSelectColumnValuesToBeUniqueWithinRecord",
        {"column_list": ["share", "gaps", "hollow"], "ignore_row_if": "never"},
    ),
    ("ExpectMulticolumnSumToEqual", {"column_list": ["whole", "count"], "sum_total": 3}),
    ("ExpectMulticolumnSumToEqual", {"column_list": ["whole", "gaps", "share"], "sum_total": 1.25}),
    (
        "ExpectMulticolumnSumToEqual",
        {"column_list": ["gaps", "share"], "sum_total": 2, "ignore_row_if": "any_value_is_missing"},
    ),
    *(
        column(f"{metric}ToBeBetween", name, min_value=0, max_value=5)
        for metric in ("Mean", "Sum", "Stdev", "Min", "Max")
        for name in NUMBERS
    ),
    column("MeanToBeBetween", "flag", min_value=0.5),
    column("SumToBeBetween", "flag", max_value=10),
    column("MinToBeBetween", "at", min_value="2002-01-01T00:00:00+00:00"),
    column("MaxToBeBetween", "code", max_value=1),
    column("MaxToBeBetween", "flag", min_value=0),
    *(column("UniqueValueCountToBeBetween", name, min_value=3, max_value=9) for name in [*EVERY[:13], "void"]),
    *(column("ProportionOfUniqueValuesToBeBetween", name, min_value=0.1) for name in ["text", "share", "at", "void"]),
    *(column("ProportionOfNonNullValuesToBeBetween", name, min_value=0.9) for name in EVERY),
    column("DistinctValuesToBeInSet", "code", value_set=["a", "b"]),
    column("DistinctValuesToBeInSet", "code", value_set=["a", "b", "c"]),
    column("DistinctValuesToContainSet", "whole", value_set=[0, 1, 99]),
    column("DistinctValuesToEqualSet", "flag", value_set=[True, False]),
    column("DistinctValuesToEqualSet", "gaps", value_set=[0, 1, 2, 3]),
    column("MostCommonValueToBeInSet", "code", value_set=["a", "b"]),
    column("MostCommonValueToBeInSet", "gaps", value_set=[0], ties_okay=True),
    column("ToExist", "text"),
    column("ToExist", "nowhere"),
    ("ExpectTableRowCountToEqual", {"value": 150}),
    ("ExpectTableRowCountToBeBetween", {"min_value": 151}),
    ("ExpectTableColumnCountToEqual", {"value": len(EVERY)}),
    ("ExpectTableColumnCountToBeBetween", {"max_value": 3}),
    ("ExpectTableColumnsToMatchSet", {"column_set": EVERY[1:], "exact_match": False}),
    ("ExpectTableColumnsToMatchSet", {"column_set": EVERY[1:]}),
    ("ExpectTableColumnsToMatchOrderedList", {"column_list": EVERY}),
    ("ExpectTableColumnsToMatchOrderedList", {"column_list": EVERY[::-1]}),
]

BY_PANDAS = [
    *(column("MedianToBeBetween", name, min_value=0, max_value=5) for name in NUMBERS),
    *(
        column(
            "QuantileValuesToBeBetween",
            name,
            quantile_ranges={"quantiles": [0, 0.05, 0.333, 0.5, 0.95, 1], "value_ranges": [[None, 5]] * 6},
            **more,
        )
        for name in ("whole", "gaps", "share")
        for more in ({}, {"allow_relative_error": "linear"}, {"allow_relative_error": "midpoint"})
    ),
    column("ValuesToBeUnique", "label"),
    column("ValuesToBeInSet", "label", value_set=["a"]),
    column("ValuesToBeBetween", "at", min_value="2002-03-01", max_value="2002-06-01"),
    column("ValuesToBeBetween", "void", min_value=1),
    column("ValuesToBeUnique", "price"),
    column("ValuesToBeBetween", "price", min_value=2, max_value=3),
    column("ValuesToBeBetween", "day", min_value=date(2002, 1, 15)),
    column("ValuesToBeBetween", "text", min_value=1),
    column("ValuesToBeBetween", "at", min_value=datetime(2002, 3, 1)),
    column("ValuesToBeBetween", "with 'a \"name", min_value=2, row_condition='code == "a"', condition_parser="pandas"),
    column("ValuesToNotBeNull", "text", row_condition="whole > 1", condition_parser="pandas"),
    column("ValuesToBeInSet", "whole", value_set=["1", 2]),
    column("ValuesToBeInSet", "at", value_set=["2002-03-01"]),
    column("ValueLengthsToBeBetween", "whole", max_value=1),
    column("ValuesToMatchRegex", "text", regex="("),
    column("ValuesToMatchRegex", "whole", regex="^1"),
    column("ValuesToBeOfType", "price", type_="Decimal"),
    column("MeanToBeBetween", "ratio", min_value=0),
    column("MeanToBeBetween", "text", min_value=0),
    column("MeanToBeBetween", "maybe", min_value=0),
    column("ValuesToNotBeNull", "nowhere"),
    column("MeanToBeBetween", "nowhere", min_value=0),
    pair("ToBeEqual", "whole", "nowhere"),
    ("ExpectCompoundColumnsToBeUnique", {"column_list": ["key", "nowhere"]}),
    ("ExpectMulticolumnValuesToBeEqual", {"column_list": ["whole", "count"]}),
    column("ValueZScoresToBeLessThan", "whole", threshold=2, double_sided=True),
]


CASES = ON_THE_ENGINE + BY_PANDAS


@dataclass
class Compared:
    """All cases, run on both sides."""

    parts: dict[str, pa.Table]
    checks: list[Check]
    results: list[Any]
    theirs: list[Any]
    by_pandas: list[str]


def compare(cases: list[Case], parts: dict[str, pa.Table], folder: Path) -> Compared:
    outcome = expectations.run("suite", made(cases), written(folder / "table", parts), cache(folder / "cache"))
    place = {result.expectation_config.meta["place"]: n for n, result in enumerate(outcome.results)}
    order = [place[case] for case in range(len(cases))]
    theirs = over_pandas(made(cases), pa.concat_tables(parts.values()))
    results = [outcome.results[n] for n in order]
    return Compared(parts, [outcome.checks[n] for n in order], results, theirs, outcome.by_pandas)


def differing(found: Compared, place: int) -> dict[str, Any]:
    return differences(found.checks[place], found.results[place], found.theirs[place], found.parts)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return compare(CASES, PARTS, tmp_path_factory.mktemp("table"))


@pytest.mark.parametrize("place", range(len(CASES)), ids=[f"{place}-{kind}" for place, (kind, _) in enumerate(CASES)])
def test_the_engine_says_what_the_library_says_over_pandas(place: int, compared: Compared) -> None:
    assert differing(compared, place) == {}, CASES[place]


def test_only_what_the_engine_does_not_know_is_left_to_pandas(compared: Compared) -> None:
    left = [compared.checks[place].check in compared.by_pandas for place in range(len(CASES))]
    assert left == [place >= len(ON_THE_ENGINE) for place in range(len(CASES))]


ONE_OF_EACH = list(dict(ON_THE_ENGINE).items())
"""The last case of each kind."""


@pytest.mark.parametrize("rows", ["no rows", "no nulls", "one row"])
def test_the_engine_agrees_with_the_library_on_tables_with(rows: str, tmp_path: Path) -> None:
    tables = {"no rows": [table(0, 1), table(0, 1)], "no nulls": [table(40, 5, nulls=False)], "one row": [table(1, 2)]}
    parts = {str(number): part for number, part in enumerate(tables[rows])}
    found = compare(ONE_OF_EACH, parts, tmp_path)
    wrong = {place: differing(found, place) for place in range(len(ONE_OF_EACH))}
    assert {ONE_OF_EACH[place][0]: what for place, what in wrong.items() if what} == {}


def test_the_engine_agrees_with_the_library_on_types_and_names_that_are_rare(tmp_path: Path) -> None:
    moment = datetime(2002, 1, 1, 12, 0, 0, 1)
    columns = {
        "nothing": pa.nulls(3),
        "exact": pa.array([1, None, 2], pa.timestamp("ns", "UTC")),
        "a": pa.array([5, None, 6]),
        "coarse": pa.array([moment, None, moment], pa.timestamp("ms")),
        "took": pa.array([1, None, 3], pa.duration("us")),
        "raw": pa.array([b"a", None, b"\x00"], pa.binary()),
        "clock": pa.array([1, None, 3], pa.time64("us")),
        "place": pa.array([{"x": 1}, None, {"x": 2}]),
        "pairs": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
        "huge": pa.array([2**64 - 1, None, 0], pa.uint64()),
    }
    names = list(columns)
    cases = [
        *(column("ValuesToNotBeNull", name) for name in names),
        *(column("ProportionOfNonNullValuesToBeBetween", name, min_value=0.9) for name in names),
        *(column("MaxToBeBetween", name, min_value=0) for name in ("huge", "exact")),
        *(column("ValuesToBeUnique", name) for name in ("exact", "coarse", "huge", "a")),
        column("ValuesToBeBetween", "huge", max_value=7),
    ]
    found = compare(cases, {"a": pa.table(columns), "b": pa.table(columns)}, tmp_path / "a=1" / "[b]*c")
    wrong = {place: differing(found, place) for place in range(len(cases))}
    assert {place: (cases[place], what) for place, what in wrong.items() if what} == {}


def test_an_expectation_on_a_column_that_is_gone_fails(tmp_path: Path) -> None:
    rows = pa.table({"code": ["a", None]})
    cases = [
        column("ValuesToNotBeNull", "gone"),
        column("ValuesToBeInTypeList", "gone", type_list=["str"]),
        column("ValuesToBeOfType", "gone", type_="str"),
        column("MeanToBeBetween", "gone", min_value=0),
    ]
    outcome = expectations.run(
        "suite", made(cases), written(tmp_path / "table", {"a": rows}), cache(tmp_path / "cache")
    )
    assert [(check.status, bool(check.error)) for check in outcome.checks] == [("failed", True)] * len(cases)


def test_columns_whose_names_differ_in_case_alone_are_told_apart(tmp_path: Path) -> None:
    rows = pa.table({"code": ["a", None, "A"], "Code": [None, "b", "b"]})
    cases = [*(column("ValuesToNotBeNull", name) for name in rows.column_names), column("ToExist", "CODE")]
    outcome = expectations.run(
        "suite", made(cases), written(tmp_path / "table", {"a": rows}), cache(tmp_path / "cache")
    )
    found = {str(check.arguments["column"]): check for check in outcome.checks}
    bad = {name: check.rows["a"].tolist() for name, check in found.items() if check.rows}
    assert bad == {"code": [1], "Code": [0]}
    assert found["CODE"].status == "failed"
