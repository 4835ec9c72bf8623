"""Seeded edits of the project of `benchmarks.diff_project`, each with the cause that a report should name first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks import diff_project
from benchmarks.diff_project import COLUMNS, MONTHS, read_rows, write_rows
from weakfish.reviews.answers import Answer, Purpose
from weakfish.reviews.sides import is_dev

FUNCTIONS, TRANSFORMS = "labeling_functions/payments.py", "feature_repo/transforms.py"

Draw = np.random.Generator


@dataclass(frozen=True)
class Truth:
    """The true cause: the part of the project that was edited, and what a sentence about it names."""

    area: str
    named: str


Kind = Callable[[Path, Draw], Truth]


def pick(draw: Draw, *of: str) -> str:
    """One of some texts."""
    return of[int(draw.integers(len(of)))]


def replace(root: Path, path: str, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = (root / path).read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {path}"  # noqa: S101
    (root / path).write_text(text.replace(old, new), encoding="utf-8")


def raw(root: Path, draw: Draw) -> Path:
    """One of the raw files."""
    return root / f"raw/{pick(draw, *MONTHS)}.csv"


def rule_bound(root: Path, draw: Draw) -> Truth:
    name, old = (("is_large", "above=400"), ("is_small", "below=100"), ("has_many_items", "items > 7"))[
        draw.integers(3)
    ]
    number = int(re.findall(r"\d+", old)[0])
    other = number + int(draw.integers(1, 3)) if number < 10 else int(number * draw.uniform(1.2, 1.9))
    replace(root, FUNCTIONS, old, old.replace(str(number), str(other)))
    return Truth("functions", name)


def rule_words(root: Path, draw: Draw) -> Truth:
    name, old = (("says_gift", '["gift"]'), ("says_invoice", '["invoice"]'))[draw.integers(2)]
    replace(root, FUNCTIONS, old, pick(draw, '["urgent"]', '["books", "thanks"]', '["thanks"]'))
    return Truth("functions", name)


def rule_removed(root: Path, draw: Draw) -> Truth:
    name = pick(draw, "is_large", "is_small", "says_gift", "says_invoice")
    text = (root / FUNCTIONS).read_text(encoding="utf-8")
    (root / FUNCTIONS).write_text(re.sub(rf"^{name} = .*\n", "", text, flags=re.MULTILINE), encoding="utf-8")
    return Truth("functions", name)


def rule_added(root: Path, draw: Draw) -> Truth:
    word = pick(draw, "books", "thanks", "urgent", "transfer")
    with (root / FUNCTIONS).open("a", encoding="utf-8") as file:
        file.write(f'says_{word} = keywords("says_{word}", {draw.integers(2)}, "note", ["{word}"], why="It tells.")\n')
    return Truth("functions", f"says_{word}")


def rule_class(root: Path, draw: Draw) -> Truth:
    name = pick(draw, "is_at_night", "has_many_items")
    replace(root, FUNCTIONS, f"@votes(FRAUD)\ndef {name}", f"@votes(FINE)\ndef {name}")
    return Truth("functions", name)


def rule_in_python(root: Path, draw: Draw) -> Truth:
    replace(root, FUNCTIONS, '"rent" in words', f'"{pick(draw, "books", "May", "invoice")}" in words')
    return Truth("functions", "says_rent")


def helper(root: Path, draw: Draw) -> Truth:
    replace(root, FUNCTIONS, "NIGHT = 5", f"NIGHT = {pick(draw, '2', '3', '8', '9')}")
    return Truth("functions", "NIGHT")


def label_setting(root: Path, draw: Draw) -> Truth:
    old, new = (
        ("n_epochs: 100", "n_epochs: 20"),
        ("method: snorkel", "method: majority"),
        ("method: snorkel", "method: dawid-skene"),
        ("    seed: 1\n", "    seed: 1\n    l2: 5.0\n"),
    )[draw.integers(4)]
    replace(root, "params.yaml", old, new)
    return Truth("labels", "label_models.fraud")


def class_balance(root: Path, draw: Draw) -> Truth:
    fraud = round(float(draw.uniform(0.3, 0.6)), 2)
    replace(root, "params.yaml", "[0.8, 0.2]", f"[{round(1 - fraud, 2)}, {fraud}]")
    return Truth("labels", "class_balance")


def labeling_delay(root: Path, draw: Draw) -> Truth:
    replace(root, "params.yaml", "labeling_delay_hours: 24", f"labeling_delay_hours: {draw.integers(48, 300)}")
    return Truth("features", "labeling_delay_hours")


def boundary(root: Path, draw: Draw) -> Truth:
    replace(root, "params.yaml", "boundary_hours: 1", f"boundary_hours: {pick(draw, '2', '4', '6')}")
    return Truth("features", "boundary_hours")


def window(root: Path, draw: Draw) -> Truth:
    if draw.integers(2):
        replace(root, TRANSFORMS, "DAYS = 30", f"DAYS = {draw.integers(10, 25)}")
        return Truth("features", "DAYS")
    replace(root, TRANSFORMS, "past.last(days=7)", f"past.last(days={draw.integers(2, 6)})")
    return Truth("features", "customer_activity")


def transform(root: Path, draw: Draw) -> Truth:
    old, new, view = (
        ("month.mean(past.events.amount)", "month.sum(past.events.amount)", "customer_activity"),
        ("month.distinct(past.events.merchant)", "month.distinct(past.events.channel)", "customer_activity"),
        ("month.sum(past.events.items)", "month.mean(past.events.items)", "merchant_activity"),
    )[draw.integers(3)]
    replace(root, TRANSFORMS, old, new)
    return Truth("features", view)


def feature_added(root: Path, draw: Draw) -> Truth:
    name = pick(draw, "active_days", "channels")
    code = {"active_days": "month.active_days()", "channels": "month.distinct(past.events.channel)"}[name]
    replace(root, TRANSFORMS, '        "fraud_share"', f'        "{name}": {code},\n        "fraud_share"')
    return Truth("features", "customer_activity")


def feature_removed(root: Path, draw: Draw) -> Truth:
    name = pick(draw, "payments_7d", "merchants_30d", "amount_mean_30d")
    text = (root / TRANSFORMS).read_text(encoding="utf-8")
    (root / TRANSFORMS).write_text(re.sub(rf'^ +"{name}".*\n', "", text, flags=re.MULTILINE), encoding="utf-8")
    return Truth("features", "customer_activity")


def entity_key(root: Path, draw: Draw) -> Truth:
    replace(root, TRANSFORMS, '@transform(entity="merchant")', '@transform(entity="channel")')
    replace(root, "feature_repo/definitions.py", "def view(entity: str):", 'def view(entity: str, of: str = ""):')
    replace(root, "feature_repo/definitions.py", 'f"{entity}_activity"', 'f"{of or entity}_activity"')
    replace(root, "feature_repo/definitions.py", 'view("merchant")', 'view("channel", "merchant")')
    replace(root, "validation/features/merchant_activity.py", 'column="merchant"', 'column="channel"')
    return Truth("features", "merchant_activity")


def column_renamed(root: Path, draw: Draw) -> Truth:
    name = pick(draw, "channel", "note", "amount", "items")
    file = raw(root, draw)
    header, _, rest = file.read_text(encoding="utf-8").partition("\n")
    other = {"channel": "channels", "note": "notes", "amount": "amounts", "items": "item_s"}[name]
    file.write_text("\n".join([header.replace(name, other), rest]), encoding="utf-8")
    return Truth("data", name)


def duplicated_file(root: Path, draw: Draw) -> Truth:
    file = raw(root, draw)
    file.with_name(f"{file.stem}-again.csv").write_bytes(file.read_bytes())
    return Truth("data", "repeat the key of another")


def dropped_month(root: Path, draw: Draw) -> Truth:
    file = raw(root, draw)
    file.unlink()
    return Truth("data", file.stem)


def dropped_rows(root: Path, draw: Draw) -> Truth:
    file = raw(root, draw)
    rows = read_rows(file)
    gone = int(draw.integers(5, 30))
    write_rows(file, rows[:-gone], COLUMNS)
    return Truth("data", f"{gone} rows went")


def shifted_clock(root: Path, draw: Draw) -> Truth:
    file, hours = raw(root, draw), int(draw.integers(1, 12)) * int(draw.choice([-1, 1]))
    rows = read_rows(file)
    for row in rows:
        time = datetime.fromisoformat(row["paid_at"]) + timedelta(hours=hours)
        row["paid_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ")
    write_rows(file, rows)
    return Truth("data", f"clock of `paid_at` is {abs(hours)} hours")


def new_category(root: Path, draw: Draw) -> Truth:
    file, new = raw(root, draw), pick(draw, "app", "kiosk", "agent")
    rows = read_rows(file)
    for row in rows:
        if row["channel"] == "web":
            row["channel"] = new
    write_rows(file, rows)
    return Truth("data", f"`{new}`")


def other_unit(root: Path, draw: Draw) -> Truth:
    file, times = raw(root, draw), int(pick(draw, "10", "100"))
    rows = read_rows(file)
    for row in rows:
        if not row["amount"].startswith("-"):
            row["amount"] = f"{float(row['amount']) * times:.2f}"
    write_rows(file, rows)
    return Truth("data", f"`amount` is {times} times")


def emptied(root: Path, draw: Draw) -> Truth:
    file, name = raw(root, draw), pick(draw, "note", "channel", "items")
    rows = read_rows(file)
    for row in rows[:: int(draw.integers(1, 4))]:
        row[name] = ""
    write_rows(file, rows)
    return Truth("data", f"`{name}` is missing")


def edited_values(root: Path, draw: Draw) -> Truth:
    file = raw(root, draw)
    rows = read_rows(file)
    for row in rows[:: int(draw.integers(2, 9))]:
        row["items"] = str(int(row["items"]) + int(draw.integers(1, 5)))
    write_rows(file, rows)
    return Truth("data", "`items` has other values")


def new_month(root: Path, draw: Draw) -> Truth:
    rows = diff_project.payments(pick(draw, *MONTHS))
    for number, row in enumerate(rows):
        row["payment_id"], row["paid_at"] = f"q{number:04}", f"2024-05{row['paid_at'][7:]}"
        row["customer"] = f"c{int(draw.integers(12)):02}"
    write_rows(root / "raw/2024-05.csv", rows)
    return Truth("data", "2024-05")


def gold_changed(root: Path, draw: Draw) -> Truth:
    file = root / f"raw/{pick(draw, *MONTHS[:3])}.csv"
    rows = read_rows(file)
    judged = [row for row in rows if row["judged"]]
    for row in judged[:: int(draw.integers(2, 5))]:
        row["judged"] = "fine" if row["judged"] == "fraud" else "fraud"
    write_rows(file, rows)
    return Truth("gold", "gold labels changed")


def reviewed(root: Path, draw: Draw) -> Truth:
    """A reviewer's answers about rows without gold: what is quiet so far is fraud."""
    rows = [row for month in MONTHS[:3] for row in read_rows(root / f"raw/{month}.csv") if not row["judged"]]
    asked = [row for row in rows if is_dev([row["payment_id"]])[0]][: int(draw.integers(10, 30))]
    time = datetime(2024, 4, 1, tzinfo=UTC)
    purpose: Purpose = "learn"
    answers = [Answer(row["payment_id"], "class", purpose, time, pick(draw, "fraud", "fine")) for row in asked]
    file = root / f"reviews/fraud/ada-learn-20240401T000000-{draw.integers(1 << 16):04x}.jsonl"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"".join(answer.line() for answer in answers))
    return Truth("reviews", "answers of reviewers came")


def gold_split(root: Path, draw: Draw) -> Truth:
    replace(root, "params.yaml", '"2024-04-01"', f'"2024-0{draw.integers(2, 4)}-1{draw.integers(10)}"')
    return Truth("gold", "gold.split")


def expectation(root: Path, draw: Draw) -> Truth:
    if draw.integers(2):
        replace(root, "validation/events.py", "MOST = 100000", f"MOST = {draw.integers(300, 600)}")
        return Truth("checks", "MOST")
    replace(root, "validation/events.py", 'column="payment_id", severity', 'column="merchant", severity')
    return Truth("checks", "EXPECTATIONS")


def patched(root: Path, draw: Draw) -> Truth:
    diff_project.run(
        root, [["quarantine", "release", diff_project.BAD, "--why", f"It is a refund, see {draw.integers(99)}."]]
    )
    return Truth("patches", "validation/patches")


def dependency(root: Path, draw: Draw) -> Truth:
    old, name = (("1.4.0", "duckdb"), ("0.10.0", "snorkel"))[draw.integers(2)]
    replace(root, "requirements.txt", old, f"{old[:-1]}{draw.integers(1, 9)}")
    return Truth("dependencies", name)


def functions_of_task(root: Path, draw: Draw) -> Truth:
    names = [
        "is_at_night",
        "has_many_items",
        "is_at_noon",
        "says_rent",
        "is_large",
        "is_small",
        "says_gift",
        "says_invoice",
    ]
    names.remove(pick(draw, *names))
    replace(root, "params.yaml", "functions: all", f"functions: [{', '.join(names)}]")
    return Truth("functions", "tasks.fraud.functions")


def type_changed(root: Path, draw: Draw) -> Truth:
    name, old, new = (("items", "integer", "number"), ("channel", "string", "category"))[0]
    replace(root, "params.yaml", f"    {name}: {old}", f"    {name}: {new}")
    return Truth("source", f"source.columns.{name}")


def publication(root: Path, draw: Draw) -> Truth:
    replace(root, "params.yaml", "as_of: last", f'as_of: "2024-03-{draw.integers(10, 29)}T00:00:00Z"')
    return Truth("publish", "publish.as_of")


EDITS: Mapping[str, Kind] = {
    of.__name__: of
    for of in (
        *(rule_bound, rule_words, rule_removed, rule_added, rule_class, rule_in_python, helper, label_setting),
        *(class_balance, labeling_delay, boundary, window, transform, feature_added, feature_removed, entity_key),
        *(column_renamed, duplicated_file, dropped_month, dropped_rows, shifted_clock, new_category, other_unit),
        *(emptied, edited_values, new_month, gold_changed, gold_split, reviewed, expectation, patched, dependency),
        *(functions_of_task, type_changed, publication),
    )
}
"""Kinds of edits that change something."""


def comment(root: Path, draw: Draw) -> None:
    path = pick(draw, FUNCTIONS, TRANSFORMS, "validation/events.py", "sources/events.py")
    text = (root / path).read_text(encoding="utf-8")
    (root / path).write_text(f"{text}# Seen {draw.integers(999)} times.\n", encoding="utf-8")


def comment_inside(root: Path, draw: Draw) -> None:
    replace(root, FUNCTIONS, "    words = (", f"    # Number {draw.integers(999)}\n    words = (")


def order(root: Path, draw: Draw) -> None:
    text = (root / FUNCTIONS).read_text(encoding="utf-8")
    lines = text.splitlines()
    last = [line for line in lines if re.match(r"(is|says)_\w+ = ", line)]
    rest = [line for line in lines if line not in last]
    draw.shuffle(last)
    (root / FUNCTIONS).write_text("\n".join([*rest, *last, ""]), encoding="utf-8")


def order_of_functions(root: Path, draw: Draw) -> None:
    path = pick(draw, FUNCTIONS, TRANSFORMS)
    head, *blocks = (root / path).read_text(encoding="utf-8").split("\n\n\n")
    tail = [blocks.pop()] if path == FUNCTIONS else []
    blocks = [block.strip() for block in blocks]
    (root / path).write_text("\n\n\n".join([head, *blocks[::-1], *tail]) + "\n", encoding="utf-8")


def renamed_local(root: Path, draw: Draw) -> None:
    if draw.integers(2):
        path, old = FUNCTIONS, pick(draw, "hour", "words")
        text = (root / path).read_text(encoding="utf-8")
        (root / path).write_text(re.sub(rf"(?<![.\w]){old}\b(?!\()", f"the_{old}", text), encoding="utf-8")
        return
    text = (root / TRANSFORMS).read_text(encoding="utf-8")
    (root / TRANSFORMS).write_text(re.sub(r"\bmonth\b", "recently", text), encoding="utf-8")


def yaml_layout(root: Path, draw: Draw) -> None:
    new = pick(draw, "gold:\n  split: '2024-04-01'", 'gold:\n    split: "2024-04-01"  # by time')
    replace(root, "params.yaml", 'gold: {split: "2024-04-01"}', new)


def yaml_order(root: Path, draw: Draw) -> None:
    text = (root / "params.yaml").read_text(encoding="utf-8")
    replace(root, "params.yaml", "views: [customer_activity, merchant_activity]\n", "")
    text = (root / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(f"views: [customer_activity, merchant_activity]\n{text}", encoding="utf-8")


def python_layout(root: Path, draw: Draw) -> None:
    replace(
        root,
        FUNCTIONS,
        'keywords("says_gift", FRAUD, "note", ["gift"],',
        "keywords(\n    'says_gift',\n    FRAUD, 'note', ['gift'],",
    )


def docstring(root: Path, draw: Draw) -> None:
    path, old = ((FUNCTIONS, "Thieves buy in bulk."), (TRANSFORMS, "How busy a merchant is."))[draw.integers(2)]
    replace(root, path, old, f"{old[:-1]}, said {draw.integers(99)} people.")


def moved_function(root: Path, draw: Draw) -> None:
    name = pick(draw, "is_large", "is_small")
    text = (root / FUNCTIONS).read_text(encoding="utf-8")
    line = re.findall(rf"^{name} = .*$", text, flags=re.MULTILINE)[0]
    (root / FUNCTIONS).write_text(text.replace(f"{line}\n", ""), encoding="utf-8")
    head = '"""Sums."""\n\nfrom weakfish.rules import threshold\n\nFINE = 0\nFRAUD = 1\n\n'
    (root / "labeling_functions/sums.py").write_text(f"{head}{line}\n", encoding="utf-8")


def read_me(root: Path, draw: Draw) -> None:
    (root / "README.md").write_text(f"Payments, edition {draw.integers(99)}.\n", encoding="utf-8")


NOTHING: Mapping[str, Callable[[Path, Draw], None]] = {
    of.__name__: of
    for of in (
        *(comment, comment_inside, order, order_of_functions, renamed_local, yaml_layout, yaml_order, python_layout),
        *(docstring, moved_function, read_me),
    )
}
"""Kinds of edits that change nothing."""
