"""Only what changed is computed: votes are cached by function and partition, and the cache is never trusted too far."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from in_process import run_here
from projects import contents, replace, tiny, weakfish, write

from weakfish.labeling import vote
from weakfish.labeling.vote import code_that_votes, engine_version

FUNCTIONS = "labeling_functions/orders.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project with accepted events and votes."""
    root = tiny(tmp_path_factory.mktemp("votes") / "orders")
    run_here(root, ["ingest"], ["validate", "events"], ["accept"], ["vote"])
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "orders"))


def computed(project: Path) -> str:
    """What the vote stage says it computed; tests change events behind the back of whoever judged them."""
    result = weakfish(project, "vote", "--despite-gate", "a test changed them")
    assert result.returncode == 0, result.stderr
    found = re.search(r"fraud: (.*) computed\.", result.stdout)
    assert found, result.stdout
    return found[1]


def partitions(project: Path) -> int:
    return len(list((project / "data/events").glob("*.parquet")))


def nothing(project: Path) -> str:
    months = partitions(project)
    return f"0 of 4 labeling functions, 0 of {months} partitions: 0 of {4 * months} pieces"


def one(project: Path) -> str:
    months = partitions(project)
    return f"1 of 4 labeling functions, {months} of {months} partitions: {months} of {4 * months} pieces"


def test_a_copy_of_a_project_elsewhere_trusts_its_cache(project: Path) -> None:
    before = contents(project / "data/votes")
    shutil.rmtree(project / "data/votes")
    assert computed(project) == nothing(project)
    assert contents(project / "data/votes") == before


def test_an_edited_function_costs_one_column(project: Path) -> None:
    replace(project / FUNCTIONS, "order.amount > 200", "order.amount > 150")
    assert computed(project) == one(project)
    replace(project / FUNCTIONS, "order.amount > 150", "order.amount > 200")
    assert computed(project) == nothing(project), "the votes from before are still there"


def test_the_votes_of_all_functions_on_a_partition_are_one_file_and_an_edit_changes_one_column(project: Path) -> None:
    months = sorted(file.name for file in (project / "data/events").glob("*.parquet"))
    files = [path for path in (project / "data/votes").rglob("*") if path.is_file()]
    expected = [project / "data/votes/fraud" / name for name in months]
    assert sorted(files) == sorted([*expected, project / "data/votes/fraud.manifest.json"])
    before = [pq.read_table(file) for file in expected]
    assert before[0].column_names == ["buys_gift_cards", "is_a_book", "is_large", "is_small"]
    replace(project / FUNCTIONS, "order.amount > 200", "order.amount > 150")
    computed(project)
    changed = [
        {name for name in old.column_names if not old[name].equals(new[name])}
        for old, new in zip(before, map(pq.read_table, expected), strict=True)
    ]
    assert set.union(*changed) == {"is_large"}


def test_what_does_not_change_a_columnar_function_costs_nothing(project: Path) -> None:
    replace(project / FUNCTIONS, "Large orders are worth the trouble.", "Thieves buy big.")
    replace(project / FUNCTIONS, "return order.amount > 200", "limit = 200\n    return order.amount > limit")
    assert computed(project) == nothing(project)


def test_a_row_function_depends_on_the_code_and_values_that_it_uses(project: Path) -> None:
    write(project / "helpers/__init__.py", "")
    write(project / "helpers/words.py", "WORDS = ['book']\n\ndef known(text):\n    return text in WORDS\n")
    replace(project / FUNCTIONS, "from typing import Any", "from typing import Any\n\nfrom helpers.words import known")
    replace(project / FUNCTIONS, 'order.note == "book"', "known(order.note)")
    assert computed(project) == one(project)
    assert computed(project) == nothing(project)
    write(project / "helpers/words.py", "WORDS = ['book', 'gift']\n\ndef known(text):\n    return text in WORDS\n")
    assert computed(project) == one(project), "a value that its helper names"
    replace(project / "helpers/words.py", "return text in", "return str(text) in")
    assert computed(project) == one(project), "its helper"
    write(project / "labeling_functions/words.txt", "book\n")
    assert computed(project) == one(project), "a file that it may read"


def test_a_row_function_with_something_that_cannot_be_examined_is_computed_each_time(project: Path) -> None:
    replace(
        project / FUNCTIONS,
        "from typing import Any",
        "import threading\nfrom typing import Any\n\nLOCK = threading.Lock()",
    )
    replace(project / FUNCTIONS, "return 0 if", "LOCK.locked()\n    return 0 if")
    assert computed(project) == one(project)
    assert computed(project) == one(project)


def test_a_changed_column_costs_the_functions_that_read_it_in_that_partition(project: Path) -> None:
    file = sorted((project / "data/events").glob("*.parquet"))[0]
    rows = pq.read_table(file)
    amounts = pc.add(rows["amount"], pa.scalar(1, rows["amount"].type))
    position = rows.column_names.index("amount")
    pq.write_table(rows.set_column(position, rows.field("amount"), amounts), file, compression="zstd")
    months = partitions(project)
    assert computed(project) == f"2 of 4 labeling functions, 1 of {months} partitions: 2 of {4 * months} pieces"


def test_votes_are_the_same_without_the_cache_and_with_a_damaged_one(project: Path) -> None:
    before = contents(project / "data/votes")
    assert computed(project) == nothing(project)  # from now on the pieces are known by the hashes of their bytes
    pieces = sorted((project / ".weakfish/cache/votes").glob("*/*"))
    pieces[0].write_bytes(b"PAR1 not Parquet PAR1")
    damaged = bytearray(pieces[1].read_bytes())
    damaged[4 + 20] ^= 0xFF  # inside of the only column
    pieces[1].write_bytes(damaged)
    pieces[2].write_bytes(pieces[2].read_bytes()[:-9])
    assert computed(project).endswith(f"3 of {4 * partitions(project)} pieces")
    assert contents(project / "data/votes") == before
    shutil.rmtree(project / ".weakfish")
    assert "0 of" not in computed(project)
    assert contents(project / "data/votes") == before


def test_the_cache_is_bounded(project: Path) -> None:
    with (project / "params.yaml").open("a") as stream:
        stream.write("\nvotes:\n  max_cache_megabytes: 0\n")
    assert computed(project) == nothing(project)
    assert not list((project / ".weakfish/cache/votes").glob("*/*"))


def test_a_function_that_answers_otherwise_each_time_is_refused(project: Path) -> None:
    replace(project / FUNCTIONS, "return order.amount > 200", "import ibis\n\n    return ibis.random() > 0.5")
    result = weakfish(project, "vote")
    assert result.returncode == 2
    assert "'is_large' (labeling_functions.orders) uses the clock or chance" in result.stderr


def test_the_engines_version_covers_all_modules_that_decide_votes_and_no_label_model() -> None:
    code = set(code_that_votes())
    assert code >= {f"labeling/{name}.py" for name in ("workers", "plan", "regex")}
    assert code >= {f"rules/{name}.py" for name in ("columnar", "identity", "loading", "snorkel_functions")}
    assert code >= {"engine/duckdb.py", "contracts/votes_file.py"}
    assert not code & {"labeling/label.py", "labeling/label_model.py", "labeling/suggest.py"}


def test_another_version_of_the_engine_trusts_no_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = engine_version()
    code = code_that_votes()
    monkeypatch.setattr(vote, "code_that_votes", lambda: code | {"labeling/regex.py": b"# another"})
    engine_version.cache_clear()
    assert engine_version() != before
    engine_version.cache_clear()
