"""`weakfish quarantine`: which rows are set aside, why, and the patches that let them in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from projects import contents, git, replace, tiny, weakfish
from quarantined import DEBT, NO_TIME, check_again, forget, keys, patch, read_again, spoil

from weakfish.cli.quarantine import quarantine
from weakfish.errors import CheckFailed, WeakfishError

SECRET = "a private remark \x1b[31m" + "and more of it " * 40
"""622 characters, of which one would steer the terminal and is shown as four."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny(tmp_path_factory.mktemp("built") / "orders")
    spoil(root)
    replace(root / "sources/orders.py", '"gift card" if', f'{SECRET!r} if number == 7 else "gift card" if')
    read_again(root)
    check_again(root)
    git(root, "init", "--quiet")
    git(root, "config", "user.name", "Ann")
    git(root, "config", "user.email", "ann@example.org")
    return root


@pytest.fixture
def project(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = Path(shutil.copytree(built, tmp_path / "orders"))
    forget(root)
    monkeypatch.chdir(root)
    return root


def run(*arguments: str) -> Result:
    """Run the command, and raise what it raises."""
    return CliRunner().invoke(quarantine, arguments, catch_exceptions=False)


def printed(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(root: Path, *arguments: str) -> str:
    """The sentence with which a command is refused, which leaves no file."""
    before = contents(root / "validation")
    with pytest.raises(WeakfishError) as error:
        run(*arguments)
    assert contents(root / "validation") == before
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


def written(root: Path, *arguments: str) -> dict[str, Any]:
    """The one patch that a release writes."""
    before = set(root.glob("validation/patches/*.yaml"))
    output = printed("release", *arguments)
    (file,) = set(root.glob("validation/patches/*.yaml")) - before
    assert output.splitlines()[0] == str(file.relative_to(root))
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content


def test_the_list_counts_rows_by_check_and_names_the_newest_first(project: Path) -> None:
    found = json.loads(printed("list", "--json"))
    assert {name: found[name] for name in ("rows", "quarantined", "released", "repaired", "gate")} == {
        "rows": 30,
        "quarantined": 3,
        "released": 0,
        "repaired": 0,
        "gate": "open",
    }
    assert [(rule["rule"], rule["rows"], rule["share"], rule["since"]) for rule in found["rules"]] == [
        (DEBT, 3, 0.1, "2024-01"),
        (NO_TIME, 1, 1 / 30, "undated"),
    ]
    assert found["newest"] == [
        {"key": "o20", "name": "o20", "partition": "2024-02", "rules": [DEBT]},
        {"key": "o07", "name": "o07", "partition": "2024-01", "rules": [DEBT]},
        {"key": "o00", "name": "o00", "partition": "undated", "rules": [DEBT, NO_TIME]},
    ]
    output = printed("list")
    assert "30 rows read = 27 kept + 3 quarantined + 0 rejected (10.0 % bad; at most 25.0 % may be)" in output
    assert output.index("o20") < output.index("o07") < output.index("o00")


def test_the_list_can_be_cut_down_to_a_check_a_partition_and_a_number_of_rows(project: Path) -> None:
    def named(*arguments: str) -> list[str]:
        return [row["key"] for row in json.loads(printed("list", "--json", *arguments))["newest"]]

    assert named("--rule", NO_TIME) == ["o00"]
    assert named("--partition", "2024-01") == ["o07"]
    assert named("--limit", "2") == ["o20", "o07"]
    assert named("--limit", "0") == []
    assert f"did you mean '{NO_TIME}'?" in refused(project, "list", "--rule", NO_TIME[:-2])
    assert "'2024-03'" in refused(project, "list", "--partition", "2024-03")


def test_a_shut_gate_shows_its_rows_too(project: Path) -> None:
    replace(project / "params.yaml", "max_quarantined_share: 0.25", "max_quarantined_share: 0.05")
    with pytest.raises(CheckFailed):
        check_again(project)
    assert "the gate is shut" in printed("list")
    assert json.loads(printed("list", "--json"))["gate"] == "shut"
    assert "Debts are no orders." in printed("show", "o07")


def test_show_prints_every_reason_and_the_values_cut_and_without_control_characters(project: Path) -> None:
    output = printed("show", "o07")
    assert f"{DEBT}: Debts are no orders." in output
    assert "-7" in output
    assert "a private remark \\x1b[31mand more of it" in output
    assert "\x1b" not in output
    assert "(625 characters)" in " ".join(output.split())
    (row,) = json.loads(printed("show", "o00", "--json"))["rows"]
    assert [reason["rule"] for reason in row["reasons"]] == [DEBT, NO_TIME]
    assert row["columns"] == {"order_id": "o00", "placed_at": None, "amount": -1, "note": "gift card"}
    assert json.loads(printed("show", "o07", "--json"))["rows"][0]["columns"]["note"] == SECRET


def test_values_are_printed_by_show_alone(project: Path) -> None:
    patch(project, "waiver", keys=["o07"], release=[DEBT])
    for arguments in (["list"], ["list", "--json"], ["patches"], ["release", "o20", "--why", "x"]):
        assert "private" not in printed(*arguments)


def test_a_row_that_is_not_set_aside_is_refused_with_near_names(project: Path) -> None:
    assert "There is no row 'o0' in the quarantine of events; did you mean 'o" in refused(project, "show", "o0")
    assert "There is no row 'o0'" in refused(project, "release", "o0", "--why", "x")


def test_a_row_can_be_released_as_it_is(project: Path) -> None:
    assert written(project, "o07", "--why", "They will pay.") == {
        "table": "events",
        "who": "Ann <ann@example.org>",
        "why": "They will pay.",
        "keys": ["o07"],
        "release": [DEBT],
    }
    check_again(project)
    assert keys(project, "quarantine/events") == ["o20", "o00"]


def test_all_rows_of_a_check_can_be_released_in_the_partitions_that_they_stand_in_now(project: Path) -> None:
    content = written(project, "--rule", DEBT, "--who", "Bob", "--why", "They will pay.")
    assert (content["who"], content["rule"]) == ("Bob", DEBT)
    assert content["partitions"] == ["2024-01", "2024-02", "undated"]
    check_again(project)
    assert keys(project, "quarantine/events") == ["o00"]


def test_a_repaired_value_has_the_type_of_its_column(project: Path) -> None:
    arguments = ["--set", "placed_at=2024-01-04T02:00:00+02:00", "--set", "amount=5", "--set", "note=007"]
    content = written(project, "o00", "--why", "The paper copy.", *arguments)
    assert content["set"] == {"placed_at": "2024-01-04T00:00:00Z", "amount": 5, "note": "007"}
    check_again(project)
    assert keys(project, "events")[:2] == ["o01", "o00"]


def test_a_value_can_be_set_in_all_rows_of_a_check(project: Path) -> None:
    content = written(project, "--rule", DEBT, "--set", "amount=null", "--why", "Nobody knows.")
    assert (content["keys"], content["set"]) == (["o07", "o20", "o00"], {"amount": None})


def test_a_release_says_what_the_next_run_will_do(project: Path) -> None:
    assert "lets 3 rows past" in printed("release", "--rule", DEBT, "--why", "x")
    assert "1 of them stays in quarantine for other reasons" in printed("release", "--rule", DEBT, "--why", "x")
    repair = ["release", "o00", "--set", "placed_at=2024-02-04T00:00:00Z", "--why", "x"]
    assert "sets placed_at of 1 row (partition 2024-02), checks again" in printed(*repair)
    assert "Patches have changed since; the next `dvc repro` applies them." in printed("list")


def test_no_patch_is_ever_written_over(project: Path) -> None:
    files = [printed("release", "o07", "--why", why).splitlines()[0] for why in ("one", "two", "three")]
    assert files == [f"validation/patches/release-o07{suffix}.yaml" for suffix in ("", "-2", "-3")]
    texts = [yaml.safe_load((project / file).read_text())["why"] for file in files]
    assert texts == ["one", "two", "three"]


REFUSED = {
    ("--why", "x"): "Say what to release",
    ("o07", "--why", " "): "Give the reason",
    ("o07", "--why", "x", "--who", ""): "Say who decides",
    ("o07", "--why", "x", "--rule", NO_TIME): f"{NO_TIME} did not quarantine o07; {DEBT} did",
    ("--why", "x", "--rule", "column_values_to_be_betwen(amount)"): f"did you mean '{DEBT}'?",
    ("o07", "--why", "x", "--set", "amount"): "does not have the form column=value",
    ("o07", "--why", "x", "--set", "amont=1"): "did you mean 'amount'?",
    ("o07", "--why", "x", "--set", "amount=many"): "--set amount must be a whole number",
    ("o07", "--why", "x", "--set", "amount=[1"): "--set amount must be a whole number",
    ("o07", "--why", "x", "--set", "placed_at=2024-01-01"): "--set placed_at must be a time with its zone",
    ("o07", "--why", "x", "--set", "amount=1", "--set", "amount=2"): "--set names amount twice",
    ("o07", "--why", "x", "--set", "order_id=o08"): "which more than one row of events would then have",
    ("o07", "o20", "--why", "x", "--set", "order_id=new"): "which more than one row of events would then have",
}


@pytest.mark.parametrize(("arguments", "expected"), REFUSED.items())
def test_a_release_that_cannot_be_is_refused_and_writes_nothing(
    project: Path, arguments: tuple[str, ...], expected: str
) -> None:
    assert expected in refused(project, "release", *arguments)


def test_a_decision_has_a_name_even_where_git_knows_none(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    git(project, "config", "--unset", "user.name")
    assert "Say who decides" in refused(project, "release", "o07", "--why", "x")


def test_one_of_two_rows_with_the_same_key_can_be_let_in(project: Path) -> None:
    replace(project / "sources/orders.py", 'f"o{number:02}"', 'f"o{8 if number == 9 else number:02}"')
    replace(
        project / "validation/events.py",
        "EXPECTATIONS = [",
        'EXPECTATIONS = [\n    gxe.ExpectColumnValuesToBeUnique(column="order_id", severity="critical"),',
    )
    read_again(project)
    check_again(project)
    assert keys(project, "quarantine/events") == ["o07", "o08", "o08", "o20", "o00"]
    newest = [row["key"] for row in json.loads(printed("list", "--json"))["newest"]]
    assert newest == ["o20", "o08", "o08", "o07", "o00"]
    output = printed("show", "o08")
    assert output.count("2 rows bear this name") == 2
    second = json.loads(printed("show", "o08", "--json"))["rows"][1]
    assert second["columns"]["amount"] == 90
    assert second["hash"] in output
    content = written(project, second["hash"], "--why", "It is the later one.")
    assert content["release"] == ["column_values_to_be_unique(order_id)"]
    check_again(project)
    assert keys(project, "quarantine/events") == ["o07", "o08", "o20", "o00"]


def test_patches_are_listed_with_their_owners_and_the_rows_that_they_touch(project: Path) -> None:
    patch(project, "waiver", rule=DEBT)
    check_again(project)
    patch(project, "new", keys=["o20"], set={"amount": 1})
    found = {entry["patch"]: entry for entry in json.loads(printed("patches", "--json"))}
    assert found["validation/patches/waiver.yaml"]["rows"] == 3
    assert found["validation/patches/waiver.yaml"]["who"] == "Ann <ann@example.org>"
    assert found["validation/patches/waiver.yaml"]["does"] == f"lets past {DEBT}"
    assert found["validation/patches/new.yaml"]["rows"] is None
    assert "not applied yet" in printed("patches")


def test_the_commands_stand_in_the_command_line(project: Path) -> None:
    result = weakfish(project, "quarantine", "show", "o7")
    assert result.returncode == 2
    assert result.stderr == "weakfish: There is no row 'o7' in the quarantine of events; did you mean 'o07'?\n"
    assert "o20" in weakfish(project, "quarantine", "list").stdout


def test_each_of_several_rows_that_are_set_aside_has_a_name_of_its_own(project: Path) -> None:
    replace(project / "sources/orders.py", 'f"o{number:02}"', 'f"o{8 if number == 9 else number:02}"')
    replace(project / "sources/orders.py", "for number in range(30)]", "for number in [*range(30), 7, 7]]")
    replace(
        project / "validation/events.py",
        "EXPECTATIONS = [",
        'EXPECTATIONS = [\n    gxe.ExpectColumnValuesToBeUnique(column="order_id", severity="critical"),',
    )
    read_again(project)
    check_again(project)
    newest = {row["name"]: row["key"] for row in json.loads(printed("list", "--json"))["newest"]}
    assert sorted(newest.values()) == ["o00", "o07", "o07", "o07", "o08", "o08", "o20"]
    (first, second, third) = (name for name, key in newest.items() if key == "o07")
    assert {name.rpartition("-")[2] for name in (first, second, third)} == {"1", "2", "3"}
    assert all(name in printed("list") for name in newest)
    of_three = second.rpartition("-")[0]
    for name, count in ((second, 1), (of_three, 3), ("o07", 3)):
        assert len(json.loads(printed("show", name, "--json"))["rows"]) == count
    written(project, second, "--why", "It happened.")
    check_again(project)
    left = [row["name"] for row in json.loads(printed("list", "--json"))["newest"] if row["key"] == "o07"]
    assert sorted(left) == sorted({first, third}), "the others keep their names"
    written(project, of_three, "--why", "They all happened.")
    check_again(project)
    assert keys(project, "quarantine/events") == ["o08", "o08", "o20", "o00"]


def test_before_anything_was_validated_the_list_says_what_to_run(project: Path) -> None:
    (project / "data/masks/events.parquet").unlink()
    said = "The events have not been validated yet, so no row is quarantined; run `weakfish run`."
    assert refused(project, "list") == said
